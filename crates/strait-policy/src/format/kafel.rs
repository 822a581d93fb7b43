//! Kafel, the language of nsjail's policies.
//!
//! What Kafel makes of a policy is the reference (`kafel_compile`, as nsjail calls it): the filter is
//! for the machine's own ABI, and another audit arch gets kill-thread; of what is said of a call the
//! first that holds counts, in the order in which policies are used, each once; x32 numbers are
//! numbers like others. A name that Kafel does not know is an error.
//!
//! Files that are included are those of [`Target::files`].

mod calls;
mod export;
mod lexer;
mod operand;
mod parser;

pub use export::export;
use strait_abi::Arch;
use strait_bpf::Action;

use super::{Codec, FormatError, Imported, Target, as_text};
use crate::raise::raise;
use crate::rules::{Arm, Chain, Rules, Table};
use crate::text::Value;

pub(super) const CODEC: Codec = Codec {
    name: "kafel",
    recognises: |sample| {
        let mut words = sample.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        const FIRST: &[&str] = &["POLICY", "USE", "DEFAULT"];
        let is_document =
            sample.tree.as_ref().is_some_and(|tree| matches!(tree.value, Value::Map(_)));
        !is_document && words.any(|word| FIRST.contains(&word))
    },
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What nsjail would install on the target, as a policy.
///
/// # Errors
/// If Kafel would refuse the text, or it compares one argument with another.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let (rules, default) = install(text, target)?;
    let policy = raise(&rules, target.arch.into(), default, None)?;
    Ok(Imported { policy, notes: Vec::new() })
}

/// The rules that Kafel makes of a policy, and its default.
fn install(text: &str, target: &Target) -> Result<(Rules, Action), FormatError> {
    let arch = supported(target)?;
    let (files, tokens) = lexer::tokens(text, target)?;
    let said = parser::parse(&files, &tokens, arch)?;
    let mut table = Table::new(said.default);
    let mut chains = std::collections::BTreeMap::new();
    for (nr, when, action) in said.filters {
        let arms: &mut Vec<Arm> = chains.entry(nr).or_default();
        arms.push(Arm { when, action });
    }
    for (nr, arms) in chains {
        table.set(nr, nr, Chain { arms, otherwise: said.default });
    }
    let rules = Rules::new(Action::KillThread).with_table(arch.audit_arch(), table);
    Ok((rules, said.default))
}

fn supported(target: &Target) -> Result<Arch, FormatError> {
    if calls::is_supported(target.arch) {
        return Ok(target.arch);
    }
    Err(FormatError::Inexpressible {
        what: format!("a filter for {}", target.arch),
        right: "which calls Kafel knows is known here for x86_64, i386, aarch64, arm and riscv64"
            .to_owned(),
    })
}

/// What Kafel calls the arguments of a call, in order; none if it does not know the call.
pub fn argument_names(call: &str, target: &Target) -> Vec<&'static str> {
    let call = calls::call(target.arch, call);
    call.map(|call| call.arg_names().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use strait_abi::KernelVersion;

    use super::*;
    use crate::Policy;

    fn target() -> Target {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        for (name, text) in [
            ("one.inc", "#define ONE 1\n"),
            ("two.inc", "#include \"one.inc\"\nPOLICY two { ALLOW { read { fd == ONE } } }"),
            ("bad.inc", "\n POLICY p { ALLOW { raed } }"),
            ("self.inc", "#include \"self.inc\"\n"),
            ("twice.inc", "#include \"one.inc\" \"one.inc\"\n"),
        ] {
            target.files.insert(name.to_owned(), text.to_owned());
        }
        target
    }

    fn decide(policy: &Policy, call: &str, args: [u64; 6]) -> Action {
        crate::format::decide(policy, Arch::X86_64, call, args)
    }

    #[test]
    fn files_are_included() {
        let text = "#include \"two.inc\" \"twice.inc\";\nUSE two, ERRNO(13) { write { fd == ONE } } DEFAULT LOG";
        let policy = import(text, &target()).unwrap().policy;
        assert_eq!(decide(&policy, "read", [1, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(&policy, "read", [2, 0, 0, 0, 0, 0]), Action::Log);
        assert_eq!(decide(&policy, "write", [1, 0, 0, 0, 0, 0]), Action::Errno(13));
        for (text, message) in [
            ("#include \"bad.inc\"\n", "in `bad.inc`, line 2, column 21: `raed`"),
            ("#include \"self.inc\"\n", "more than 16 deep"),
            ("#include \"none.inc\"\n", "`none.inc`, which is not beside it"),
            ("#include one.inc\n", "names in quotes"),
        ] {
            let error = import(text, &target()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn faults_are_pointed_at() {
        for (text, message) in [
            (
                "ALLOW { stat }",
                "line 1, column 9: `stat` is no known system call to Kafel; did you mean `newstat`?",
            ),
            (
                "ALLOW {\n read { df == 1 } }",
                "line 2, column 9: `df` is no known argument or constant here; did you mean `fd`?",
            ),
            ("ALLOW { read { fd = 1 } }", "'=' has no meaning"),
            ("ALLOW { read { fd < count } }", "comparison of two arguments"),
            ("ALLOW { read { fd == 08 } }", "`08` is no valid number"),
            ("ALOW { read }", "where an action"),
            ("ERRNO(65536) { read }", "at most 65535"),
            ("USE a", "no known policy above"),
            ("ALLOW { read", "the policy ends where `}` was expected"),
            ("/* x", "does not end"),
        ] {
            let error = import(text, &target()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn policies_are_written_and_read_back() {
        for text in [
            "DEFAULT ALLOW",
            "ALLOW { newstat, read, SYSCALL[900] }, ERRNO(38) { clone3 } DEFAULT ERRNO(1)",
            "ALLOW { socket { family == 1 || family == 2 && type & 0xf == 1 } } DEFAULT KILL_PROCESS",
            "ALLOW { mmap(a, b, c) { c & 4 == 0, (c & 0xffffffff) > 5 } }, LOG { mmap } DEFAULT TRAP(7)",
            "LOG { read { !(fd > 2) } }, USER_NOTIF { read { fd < 5 } }, ALLOW { read } DEFAULT TRACE(9)",
        ] {
            let policy = import(text, &target()).unwrap().policy;
            let exported = export(&policy, &target()).unwrap();
            let again = import(&exported.text, &target()).unwrap().policy;
            let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
            let compared = decision(&policy).compare(&decision(&again)).unwrap();
            assert_eq!(compared.differences, [], "{}", exported.text);
            assert_eq!(exported.losses, []);
        }
        // More values than operators may stand side by side.
        let values: Vec<String> = (0..300).map(|value| format!("{}", value * 2)).collect();
        let policy = Policy::parse(&format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
             default: errno(EPERM)\n  rules:\n  - {{syscalls: [ioctl], when: \"cmd in {{{}}}\", action: allow}}\n",
            values.join(", ")
        ))
        .unwrap();
        assert_eq!(export(&policy, &target()).unwrap().losses, []);
    }
}
