//! The kinds of findings, with their pages.

use std::fmt;
use std::str::FromStr;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not meant.
    Warning,
    /// The policy does not do what a policy is for.
    Error,
}

impl Severity {
    /// The word in output.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $severity:ident, $title:literal, $page:literal;)*) => {
        /// A kind of finding.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// The code itself, such as `S001`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }

            /// How much its findings matter.
            pub const fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }

            /// What it is about, in a few words.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// Why it matters and what to do about it.
            pub const fn page(self) -> &'static str {
                match self { $(Code::$name => $page,)* }
            }
        }
    };
}

codes! {
    /// A dangerous call passes.
    Dangerous = "S001", Warning, "dangerous call allowed",
        "The call lets a workload do more than its work: reach other processes, the machine or its \
         neighbours, slip past the filter, or reach kernel code with a record of holes. Remove it, \
         or narrow it by its arguments; if the workload needs it, declare that in the ledger, so \
         that the next reader knows. A call that is narrowed, or that somebody declares to be \
         needed, is a note and no warning.";
    /// A call is filtered and another that does the same is not.
    TwinLeftOpen = "S002", Warning, "a call that does the same is left open",
        "The kernel has several calls for many things (openat and openat2, execve and execveat, \
         clone and clone3). A rule for one of them keeps nobody out who can use the other. Give both \
         the same rule; where libc tries the newer first, errno(ENOSYS) makes it use the older.";
    /// A condition looks at more bits than the kernel.
    WiderThanTaken = "S003", Warning, "more bits compared than the kernel takes",
        "The kernel takes many arguments as 32 bits and ignores the upper half of the register. A \
         condition on all 64 bits is passed by setting one that the kernel ignores: a denied value \
         gets through, and an allowed one can be refused. Use the argument's name, which is compared \
         as wide as the kernel takes it.";
    /// A rule never decides.
    DeadRule = "S004", Warning, "a rule that never decides",
        "Of the rules for a call the first whose condition holds decides, and one without a \
         condition always holds. A rule is dead if it stands after such a one, if the earlier rules \
         together leave no arguments to it, or if no arguments satisfy its condition. Remove it, or \
         move it up if it was meant to be an exception.";
    /// A call gets another errno than ENOSYS, the only one on which libraries do without it.
    NeedsEnosys = "S005", Warning, "libraries fall back on ENOSYS only",
        "Libraries try newer calls and do without them if the kernel answers ENOSYS. EPERM tells \
         them that the call exists and is forbidden, and programs fail. Answer errno(ENOSYS).";
    /// A call passes and has no necessity.
    Excess = "S006", Note, "allowed without a reason",
        "Nothing in the ledger says why the call is in the policy: no recording, no analysis, no \
         person. Remove it, or declare who needs it and why.";
    /// A declared reason is past its last day.
    Expired = "S007", Warning, "an expired reason",
        "Somebody said that the call is needed until a day that has passed. Ask them, and either \
         remove the call or give the reason a new day.";
    /// A call is denied on an ABI and passes on its compat ABI.
    LooserCompat = "S008", Warning, "allowed by way of another architecture",
        "Every program can make calls by the compat ABI of its kernel (int $0x80 on x86_64). What is \
         denied on one and allowed on the other is allowed. Remove the architecture if nothing needs \
         it, or give the call the same rule.";
    /// io_uring passes where calls are filtered whose work it does.
    IoUring = "S009", Warning, "io_uring passes filters by",
        "io_uring opens files, connects and sends without making the calls that a filter sees. A \
         policy that filters those and allows io_uring_setup filters nothing. Answer io_uring_setup \
         with errno(ENOSYS); programs use epoll then.";
    /// A condition on an address.
    ComparesPointer = "S010", Warning, "an address is compared",
        "A filter sees the address that a program passes and not what stands there, and another \
         thread can change that after the filter has looked. A test for 0 can make sense; any other \
         does not.";
    /// No program can live under the policy.
    CannotRun = "S011", Error, "no program can run under this policy",
        "A program that can call neither exit_group nor exit cannot end as it wants to; and a \
         container whose profile denies execve does not start, since the runtime loads the filter \
         before it starts the workload by execve. The policy is not whole: record the workload, or \
         start from what `strait generate` always allows.";
    /// The default lets calls pass.
    PermissiveDefault = "S012", Warning, "everything is allowed that is not denied",
        "Each new kernel brings new calls, and a list of what is denied knows none of them. Make the \
         default errno(EPERM) or errno(ENOSYS) and list what is needed.";
    /// A rule names a call that its ABIs have not.
    NoSuchCall = "S013", Note, "a call that these architectures have not",
        "The call exists on other architectures only, and here the rule does nothing. That is fine \
         in a policy that is used on several; else remove the name.";
    /// Reasons for a call that no rule names.
    StaleNecessity = "S014", Note, "reasons for a call that is not in the policy",
        "The ledger has reasons for a call that no rule names. Remove them, or add the rule.";
    /// A recording that the ledger stands on was not whole.
    IncompleteRecording = "S015", Warning, "a recording that was not whole",
        "The policy was made from a recording that lost something or could not see everything. It \
         may deny what the workload does. Record again without losses, or merge further recordings.";
    /// A name that is no system call.
    UnknownCall = "S016", Error, "a name that is no system call",
        "No kernel has a call of this name: it is misspelt, a function of a library, two names that \
         ran together, or a number as a tracer prints it. Container runtimes skip such names without \
         a word, so the workload is denied what the author meant to allow, or the other way round. \
         Policies of Strait that have one are not used. Write the call's name as syscalls(2) has it.";
    /// One call with two answers.
    Contradiction = "S017", Error, "a call is listed twice with different actions",
        "Two rules answer all arguments of one call, and differently. The first one decides, here as \
         with libseccomp; other tools take the last, or refuse the file. One of the two is not \
         meant: remove it.";
    /// The document cannot be read.
    Unreadable = "S018", Error, "this is no document of its format",
        "The document is not well formed, or has a field or value that its format does not know: a \
         comment in JSON, a field that is misspelt, an action that does not exist. The tools that \
         load it refuse it too, or, worse, read something else. The message says where and what \
         would be right.";
    /// A profile lacks ABIs that its machines run too.
    MissingArch = "S019", Note, "an architecture is missing",
        "Machines of this architecture run programs of another ABI as well (i386 and x32 on x86_64, \
         arm on aarch64), and the profile does not list it: such programs are killed at their first \
         call. If the workload has none, this is as it should be, and tighter. Otherwise list the \
         ABI.";
    /// Calls of other ABIs pass.
    ForeignPasses = "S020", Error, "calls of other architectures pass",
        "Every program can make calls by another ABI of its kernel (int $0x80 on x86_64). Where those \
         pass, all rules are gone around. Leave `foreign` out, which is kill-process.";
    /// A rule that changes nothing.
    Redundant = "S021", Note, "a rule that changes nothing",
        "What the rule says would be the answer without it too, of the default or of the rules after \
         it. Keep it if it tells the reader something; else remove it.";
    /// A dangerous argument passes.
    OpenArgument = "S022", Note, "a dangerous argument is allowed",
        "Nearly every program needs the call, and nearly none with this argument: namespaces by \
         clone, typing into a terminal by ioctl, sockets of rare families. A condition on the \
         argument keeps the call and closes the danger.";
    /// The workload can answer for the supervisor.
    SupervisorReplaceable = "S023", Warning, "the workload can answer in the supervisor's place",
        "A notified call waits for who holds the listener, a traced one for the tracer. A workload \
         that may load filters can bring a listener of its own, and among equal answers the newest \
         filter's is asked; one that may trace can be the tracer. Deny seccomp(2) where calls are \
         notified, and ptrace(2) where they are traced.";
    /// Something that the format's own tools pass over.
    PassedOver = "S024", Note, "the format's own tools pass this over",
        "The document has something that the tools which load it ignore, or that is no part of what \
         a filter decides (flags, the path of a listener). What remains is what was checked.";
    /// JSON that is none, which YAML's readers take.
    LooseJson = "S025", Warning, "this looks like JSON and is none",
        "The document begins as JSON does and has what JSON has not: a comment, a comma too many, \
         texts without quotes. Strait reads it as YAML, of which JSON is a part; tools that read JSON \
         refuse it. Remove what is no JSON, or write YAML in its usual form.";
    /// A number is compared together with the flags in the same argument.
    FlagsCompared = "S026", Note, "flags are compared with the number beside them",
        "Some arguments are a number and flags in one: SOCK_CLOEXEC beside a socket's type, O_CLOEXEC \
         beside how a file is opened. `type == SOCK_STREAM` does not hold for SOCK_STREAM|SOCK_CLOEXEC, \
         which libraries pass. Compare the bits of the number alone, as in `type & 0xf == SOCK_STREAM`, \
         or name the flags that may be there.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("codes are S001 to S{:03}", Code::ALL.len())]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Code, UnknownCode> {
        let code = Code::ALL.iter().find(|code| code.name().eq_ignore_ascii_case(text));
        code.copied().ok_or(UnknownCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_counted_through_and_read_back() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.name(), format!("S{:03}", index + 1));
            assert_eq!(code.name().to_lowercase().parse(), Ok(*code));
        }
        assert_eq!("S999".parse::<Code>(), Err(UnknownCode));
    }
}
