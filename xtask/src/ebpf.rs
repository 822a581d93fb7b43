//! The recorder's eBPF object: `cargo xtask ebpf [--check]`.
//!
//! The object is committed, so that nobody needs clang to build Strait. It has to be what this
//! compiler makes of the source, byte for byte: that is what `--check` is for.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The compiler: the newest of Debian 12, whose first does not write the marks of pointers that maps keep.
/// Another version makes other bytes.
const CLANG: &str = "clang-16";
const STRIP: &str = "llvm-strip-16";

const SOURCE: &str = "crates/strait-kernel/bpf/recorder.bpf.c";
const OBJECT: &str = "crates/strait-kernel/bpf/recorder.bpf.o";

/// Builds the object, or with `--check` compares the committed one with what would be built.
pub fn run(args: &[String]) -> Result<()> {
    let root = crate::root();
    let committed = root.join(OBJECT);
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => build(&root, SOURCE, &committed),
        ["--check"] => {
            let built = root.join("target").join("recorder.bpf.o");
            build(&root, SOURCE, &built)?;
            let read = |path: &Path| {
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            };
            if read(&committed)? != read(&built)? {
                bail!("{OBJECT} is not what {CLANG} makes of {SOURCE}: run `cargo xtask ebpf`");
            }
            Ok(())
        }
        _ => bail!("usage: cargo xtask ebpf [--check]"),
    }
}

/// Compiles a program: both paths are below `root` or absolute.
pub(crate) fn build(root: &Path, source: &str, object: &Path) -> Result<()> {
    let mut clang = Command::new(CLANG);
    // Relative names and no -fdebug-compilation-dir of this machine: the same bytes everywhere.
    clang.current_dir(root).args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"]);
    clang.args(["-fdebug-compilation-dir=.", "-Wall", "-Wextra", "-Werror"]);
    clang.args(["-Wno-unused-parameter", "-c", source, "-o"]).arg(object);
    crate::succeed(&mut clang).context("apt-get install clang-16 llvm-16")?;
    // The type information that the loader needs (.BTF, .BTF.ext) stays; DWARF goes.
    crate::succeed(Command::new(STRIP).arg("--strip-debug").arg(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_is_what_the_compiler_makes_of_its_source() {
        if !Path::new("/usr/bin").join(CLANG).exists() {
            return strait_testkit::skip(
                "the_object_is_what_the_compiler_makes_of_its_source",
                &format!("{CLANG} is not installed"),
            );
        }
        run(&["--check".to_owned()]).unwrap();
    }
}
