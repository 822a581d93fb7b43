//! The arches as the C preprocessor and compiler see them, by the host's gcc: the macros that
//! the kernel's headers ask for, and an ABI of the host that lays types out as the arch does.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result};
use strait_abi::Arch;

use super::sources::{Sources, output};

/// One arch for gcc.
pub(super) struct Target {
    pub(super) arch: Arch,
    /// Debian's name of the arch, which names the folder of its `asm` headers.
    triplet: &'static str,
    /// Predefined macros, and options that choose the layout.
    options: &'static [&'static str],
}

const LP64: &str = "-D__SIZEOF_LONG__=8";
const LP64_POINTER: &str = "-D__SIZEOF_POINTER__=8";
const ILP32: &str = "-D__SIZEOF_LONG__=4";
const ILP32_POINTER: &str = "-D__SIZEOF_POINTER__=4";

/// Every arch of [`Arch::ALL`], in that order.
///
/// The 32-bit Arm ABI aligns 64-bit integers to 8 bytes, which `-malign-double` makes i386 do.
pub(super) const TARGETS: &[Target] = &[
    Target { arch: Arch::X86_64, triplet: "x86_64-linux-gnu", options: &[LP64, "-D__x86_64__"] },
    Target {
        arch: Arch::X32,
        triplet: "x86_64-linux-gnux32",
        options: &[ILP32, "-mx32", "-D__x86_64__", "-D__ILP32__"],
    },
    Target { arch: Arch::I386, triplet: "i386-linux-gnu", options: &[ILP32, "-m32", "-D__i386__"] },
    Target {
        arch: Arch::Aarch64,
        triplet: "aarch64-linux-gnu",
        options: &[LP64, "-D__aarch64__", "-D__AARCH64EL__", "-D__SIZEOF_INT128__=16"],
    },
    Target {
        arch: Arch::Arm,
        triplet: "arm-linux-gnueabihf",
        options: &[ILP32, "-m32", "-malign-double", "-D__arm__", "-D__ARM_EABI__", "-D__ARMEL__"],
    },
    Target {
        arch: Arch::Riscv64,
        triplet: "riscv64-linux-gnu",
        options: &[LP64, "-D__riscv", "-D__riscv_xlen=64"],
    },
    Target {
        arch: Arch::Ppc64le,
        triplet: "powerpc64le-linux-gnu",
        options: &[LP64, "-D__powerpc__", "-D__powerpc64__", "-D__LITTLE_ENDIAN__"],
    },
    Target {
        arch: Arch::S390x,
        triplet: "s390x-linux-gnu",
        options: &[LP64, "-D__s390__", "-D__s390x__"],
    },
    Target {
        arch: Arch::Loongarch64,
        triplet: "loongarch64-linux-gnu",
        options: &[LP64, "-D__loongarch__", "-D__loongarch64", "-D__loongarch_lp64"],
    },
];

impl Target {
    /// gcc with this arch's headers and nothing of the host's.
    pub(super) fn gcc(&self, sources: &Sources) -> Command {
        let headers = sources.headers();
        let mut gcc = Command::new("gcc");
        gcc.args(["-nostdinc", "-undef", "-D__linux__", "-D__CHAR_BIT__=8", "-w"]);
        gcc.args(self.options);
        gcc.arg(if self.options.contains(&LP64) { LP64_POINTER } else { ILP32_POINTER });
        gcc.arg("-isystem").arg(headers.join(self.triplet)).arg("-isystem").arg(headers);
        gcc
    }

    /// Every object-like macro after including `headers`, unexpanded.
    pub(super) fn macros(
        &self,
        sources: &Sources,
        headers: &[&str],
    ) -> Result<BTreeMap<String, String>> {
        let file = sources.scratch()?.join(format!("{}-macros.c", self.arch));
        let text: String = headers.iter().map(|header| format!("#include <{header}>\n")).collect();
        std::fs::write(&file, text)?;
        let printed = output(self.gcc(sources).args(["-E", "-dM"]).arg(&file))
            .with_context(|| format!("the macros of {} for {}", headers.join(", "), self.arch))?;
        let mut macros = BTreeMap::new();
        for line in printed.lines() {
            let Some((name, body)) =
                line.strip_prefix("#define ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            if !name.contains('(') {
                macros.insert(name.to_owned(), body.trim().to_owned());
            }
        }
        Ok(macros)
    }

    /// The values of integer expressions, as this arch's compiler sees them after including
    /// `headers`. An expression that does not compile is an error.
    pub(super) fn evaluate(
        &self,
        sources: &Sources,
        headers: &[&str],
        expressions: &[String],
    ) -> Result<Vec<i64>> {
        let file = sources.scratch()?.join(format!("{}-values.c", self.arch));
        let mut text: String =
            headers.iter().map(|header| format!("#include <{header}>\n")).collect();
        // Some values depend on the sizes of types that only a C library defines.
        text.push_str(
            "typedef unsigned long size_t;\ntypedef long time_t;\ntypedef long long loff_t;\n",
        );
        text.push_str("const long long values[] = {\n");
        for expression in expressions {
            text.push_str(&format!("(long long)({expression}),\n"));
        }
        text.push_str("};\n");
        std::fs::write(&file, text)?;
        let assembly = output(self.gcc(sources).args(["-S", "-O0", "-o", "-"]).arg(&file))
            .with_context(|| format!("the constants for {}", self.arch))?;
        let values = read_array(&assembly).context("gcc's assembly is not as expected")?;
        anyhow::ensure!(
            values.len() == expressions.len(),
            "gcc gave {} values for {} constants on {}",
            values.len(),
            expressions.len(),
            self.arch
        );
        Ok(values)
    }
}

/// The 64-bit values of the one array in an assembly listing. 32-bit targets write each as two
/// `.long`, low half first.
fn read_array(assembly: &str) -> Option<Vec<i64>> {
    let mut values = Vec::new();
    let mut low: Option<u32> = None;
    for line in assembly.lines().map(str::trim) {
        if let Some(value) = line.strip_prefix(".quad") {
            values.push(value.trim().parse::<i64>().ok()?);
        } else if let Some(value) = line.strip_prefix(".long") {
            let value = value.trim().parse::<i64>().ok()?;
            let half = u32::try_from(value & 0xffff_ffff).ok()?;
            low = match low {
                None => Some(half),
                Some(low) => {
                    let value = u64::from(half) << 32 | u64::from(low);
                    values.push(value.cast_signed());
                    None
                }
            };
        } else if let Some(bytes) = line.strip_prefix(".zero") {
            let bytes: usize = bytes.trim().parse().ok()?;
            values.resize(values.len() + bytes / 8, 0);
        }
    }
    low.is_none().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_word_sizes_are_read() {
        let wide = "values:\n\t.quad\t5\n\t.quad\t-1\n\t.zero\t8\n";
        assert_eq!(read_array(wide), Some(vec![5, -1, 0]));
        let narrow = "values:\n\t.long\t5\n\t.long\t0\n\t.long\t-1\n\t.long\t-1\n";
        assert_eq!(read_array(narrow), Some(vec![5, -1]));
        assert_eq!(read_array("\t.long\t5\n"), None);
    }

    #[test]
    fn every_arch_has_a_target() {
        let targets: Vec<Arch> = TARGETS.iter().map(|target| target.arch).collect();
        assert_eq!(targets, Arch::ALL);
    }
}
