//! Checking: what a policy allows that its author may not have meant, or cannot have wanted.
//!
//! Each kind of finding has a [`Code`] that never changes its meaning. What can be decided is
//! decided over all arguments and not guessed from how rules look.

mod code;
mod danger;
mod document;
mod effect;
mod ledger;
mod name;
mod place;
mod rules;
mod twins;

use std::collections::{BTreeMap, BTreeSet};

use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Undecided};

pub use code::{Code, Severity, UnknownCode};
pub use document::{Located, Report, check_document};
pub use place::Places;

use crate::lower::{Because, LowerError, Step};
use crate::policy::{Date, Policy};
use crate::rules::{Arm, Chain};
use crate::satisfy::can_give;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The kind.
    pub code: Code,
    /// How much it matters: as the code says, or less where somebody has taken care of it.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// The call that it is about, if it is about one.
    pub call: Option<Syscall>,
    /// What it is.
    pub message: String,
    /// What to do, where that is not the same for all findings of the kind.
    pub help: Option<String>,
    /// Known holes that it is about.
    pub cves: Vec<&'static str>,
}

impl Finding {
    fn new(code: Code, subject: Subject, message: impl Into<String>) -> Finding {
        Finding {
            code,
            severity: code.severity(),
            subject,
            call: match subject {
                Subject::Call(_, call) | Subject::Necessity(call) => Some(call),
                _ => None,
            },
            message: message.into(),
            help: None,
            cves: Vec::new(),
        }
    }

    fn about(mut self, call: Syscall) -> Finding {
        self.call = Some(call);
        self
    }

    fn help(mut self, help: impl Into<String>) -> Finding {
        self.help = Some(help.into());
        self
    }

    fn at_most(mut self, severity: Severity) -> Finding {
        self.severity = self.severity.min(severity);
        self
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// The policy as a whole.
    Policy,
    /// `architectures`.
    Architectures,
    /// `default`.
    Default,
    /// `foreign`.
    Foreign,
    /// `unknown`.
    Unknown,
    /// A set of `include`, by its index from 0.
    Include(usize),
    /// A rule, by its index from 0.
    Rule(usize),
    /// A call within a rule.
    Call(usize, Syscall),
    /// The ledger's reasons for a call.
    Necessity(Syscall),
    /// A recording, by its index from 0.
    Recording(usize),
}

/// What there is to say of a policy; `today` tells which reasons have expired.
///
/// # Errors
/// If the policy has no meaning.
pub fn check(policy: &Policy, today: Option<Date>) -> Result<Vec<Finding>, LowerError> {
    check_as(policy, today, Nature::Policy)
}

/// What kind of document a policy was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    /// A `SyscallPolicy`, which has a ledger.
    Policy,
    /// A container's profile: the runtime loads the filter and then starts the workload by exec.
    Container,
    /// Any other: no ledger, and nothing is known of who loads it.
    Filter,
}

fn check_as(
    policy: &Policy,
    today: Option<Date>,
    nature: Nature,
) -> Result<Vec<Finding>, LowerError> {
    let bare = Policy { rules: Vec::new(), ..policy.clone() };
    let mut checker = Checker {
        policy,
        today,
        nature,
        view: View::new(policy)?,
        without_rules: View::new(&bare)?,
        findings: BTreeSet::new(),
    };
    checker.danger();
    checker.twins();
    checker.rules();
    checker.ledger();
    Ok(checker.findings.into_iter().collect())
}

struct Checker<'a> {
    policy: &'a Policy,
    today: Option<Date>,
    nature: Nature,
    view: View,
    /// What calls would get if there were no rules.
    without_rules: View,
    findings: BTreeSet<Finding>,
}

impl Checker<'_> {
    fn find(&mut self, finding: Finding) {
        self.findings.insert(finding);
    }

    /// The part of the policy that gives a call an action that is wanted.
    fn subject(&self, call: Syscall, arch: Arch, wanted: impl Fn(Action) -> bool) -> Subject {
        let because = self.view.answer(call, arch).and_then(|answer| answer.because(wanted));
        match because {
            Some(Because::Rule(index)) => Subject::Call(index, call),
            Some(Because::Include(index)) => Subject::Include(index),
            Some(Because::Default) => Subject::Default,
            Some(Because::Unknown) => Subject::Unknown,
            Some(Because::Exec | Because::Isolation | Because::Network | Because::Foreign)
            | None => Subject::Policy,
        }
    }

    /// Whether a rule that is for `arch` names the call.
    fn is_named(&self, call: Syscall, arch: Arch) -> bool {
        self.policy.rules.iter().any(|rule| rule.applies_to(call, arch))
    }
}

/// What each call gets on each ABI of the policy.
struct View(BTreeMap<(Arch, Syscall), Answer>);

/// What one call gets, and which part of the policy says so.
struct Answer {
    chain: Chain,
    /// For each arm, and for what is otherwise.
    because: Vec<Because>,
}

impl Answer {
    fn new(steps: Vec<Step>) -> Answer {
        let because = steps.iter().map(|step| step.because).collect();
        let mut chain = Chain::from(Action::KillProcess);
        for Step { when, action, .. } in steps {
            match when {
                Some(when) => chain.arms.push(Arm { when, action }),
                None => chain.otherwise = action,
            }
        }
        Answer { chain, because }
    }

    fn because(&self, wanted: impl Fn(Action) -> bool) -> Option<Because> {
        let actions = self.chain.arms.iter().map(|arm| arm.action).chain([self.chain.otherwise]);
        let mut both = actions.zip(&self.because);
        both.find(|(action, _)| wanted(*action)).map(|(_, because)| *because)
    }
}

impl View {
    fn new(policy: &Policy) -> Result<View, LowerError> {
        let mut answers = BTreeMap::new();
        for arch in policy.architectures.iter() {
            let numbered = |call: Syscall| Some((call, call.number(arch)?));
            let calls: Vec<(Syscall, u32)> = Syscall::all().filter_map(numbered).collect();
            let numbers = calls.iter().map(|(_, nr)| *nr);
            for (&(call, _), steps) in calls.iter().zip(policy.steps(arch.audit_arch(), numbers)?) {
                answers.insert((arch, call), Answer::new(steps));
            }
        }
        Ok(View(answers))
    }

    fn answer(&self, call: Syscall, arch: Arch) -> Option<&Answer> {
        self.0.get(&(arch, call))
    }

    fn chain(&self, call: Syscall, arch: Arch) -> Option<&Chain> {
        self.answer(call, arch).map(|answer| &answer.chain)
    }

    /// Whether the call passes with some arguments.
    fn passes(&self, call: Syscall, arch: Arch) -> bool {
        self.gives(call, arch, Action::lets_pass)
    }

    /// Whether the call does not pass with some arguments.
    fn is_filtered(&self, call: Syscall, arch: Arch) -> bool {
        self.gives(call, arch, |action| !action.lets_pass())
    }

    fn gives(&self, call: Syscall, arch: Arch, wanted: impl Fn(Action) -> bool + Copy) -> bool {
        self.chain(call, arch)
            .is_some_and(|chain| or_by_looks(can_give(chain, wanted), chain, wanted))
    }
}

/// An exact answer, or, where that is too intricate, what the actions of the chain suggest.
fn or_by_looks(
    exact: Result<bool, Undecided>,
    chain: &Chain,
    wanted: impl Fn(Action) -> bool,
) -> bool {
    exact.unwrap_or_else(|_| {
        chain.arms.iter().map(|arm| arm.action).chain([chain.otherwise]).any(wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(spec: &str) -> Vec<(Code, String)> {
        let head = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: ";
        let policy = Policy::parse(&format!("{head}{spec}\n")).unwrap();
        let today = "2027-01-02".parse().ok();
        let all = check(&policy, today).unwrap();
        let said = |finding: Finding| match finding.help {
            Some(help) => format!("{}; {help}", finding.message),
            None => finding.message,
        };
        all.into_iter().map(|finding| (finding.code, said(finding))).collect()
    }

    #[track_caller]
    fn finds(spec: &str, code: Code, part: &str) {
        let all = findings(spec);
        assert!(
            all.iter().any(|(found, message)| *found == code && message.contains(part)),
            "{all:#?}"
        );
    }

    #[test]
    fn each_kind_of_finding_is_found() {
        let rules = |rules: &str| {
            format!("{{architectures: [x86_64], default: errno(EPERM), rules: [{rules}]}}")
        };
        finds(&rules("{syscalls: [mount], action: allow}"), Code::Dangerous, "`mount` is allowed");
        finds(&rules("{syscalls: [mount], action: allow}"), Code::CannotRun, "exit_group");
        finds(&rules("{syscalls: [openat2], action: allow}"), Code::TwinLeftOpen, "`openat2`");
        finds(&rules("{syscalls: [io_uring_setup], action: allow}"), Code::IoUring, "openat");
        finds(
            &rules("{syscalls: [socket], when: arg0 == 1, action: allow}"),
            Code::WiderThanTaken,
            "write `domain`",
        );
        finds(
            &rules("{syscalls: [openat], when: arg1 == 7, action: allow}"),
            Code::ComparesPointer,
            "address",
        );
        // Whether there is one is no question of what stands there.
        for said in ["addr == 0", "addr != 0 and flags == 0", "arg4 == 0"] {
            let all =
                findings(&rules(&format!("{{syscalls: [sendto], when: {said}, action: allow}}")));
            assert!(all.iter().all(|(code, _)| *code != Code::ComparesPointer), "{said}");
        }
        finds(
            &rules("{syscalls: [sendto], when: addr & 0xff == 0, action: allow}"),
            Code::ComparesPointer,
            "address",
        );
        finds(
            &rules("{syscalls: [read], action: allow}, {syscalls: [read], action: log}"),
            Code::Contradiction,
            "first with allow, here with log",
        );
        let dead = |rules_of_read: &str, part: &str| {
            finds(&rules(rules_of_read), Code::DeadRule, part);
        };
        dead("{syscalls: [read], action: log}, {syscalls: [read], action: log}", "alike");
        dead(
            "{syscalls: [read], action: log}, {syscalls: [read], when: fd == 1, action: allow}",
            "already decides",
        );
        dead(
            "{syscalls: [read], when: fd < 3, action: log}, {syscalls: [read], when: fd >= 3, \
             action: notify}, {syscalls: [read], when: fd == 7, action: allow}",
            "leave nothing",
        );
        dead("{syscalls: [read], when: fd & 1 == 2, action: allow}", "no `read` has arguments");
        finds(
            &rules("{syscalls: [read], arch: [i386], action: allow}"),
            Code::NoSuchCall,
            "for i386, which the policy is not for",
        );
        finds(
            &rules("{syscalls: [socketcall], action: allow}"),
            Code::NoSuchCall,
            "no `socketcall` on x86_64",
        );
        finds(
            &rules("{syscalls: [read], action: allow}"),
            Code::NeedsEnosys,
            "`clone3` gets errno(EPERM)",
        );
        finds(&rules("{syscalls: [read], action: allow}"), Code::Excess, "`read` is allowed");
        finds("{architectures: [x86_64], default: allow}", Code::PermissiveDefault, "default");
        finds(
            "{architectures: [x86_64], default: log, foreign: allow}",
            Code::ForeignPasses,
            "architectures",
        );
        finds(&rules("{syscalls: [clone], action: allow}"), Code::OpenArgument, "CLONE_NEW");
        let opens =
            |when: &str| rules(&format!("{{syscalls: [openat], when: {when}, action: allow}}"));
        let makes = "makes or empties";
        finds(&opens("'flags & (O_WRONLY | O_RDWR) == 0'"), Code::OpenArgument, makes);
        finds(&opens("'flags & (O_WRONLY | O_RDWR | O_CREAT) == 0'"), Code::OpenArgument, makes);
        for said in
            ["'flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC) == 0'", "'flags & O_APPEND == 0'"]
        {
            let all = findings(&opens(said));
            assert!(all.iter().all(|(_, text)| !text.contains(makes)), "{said}: {all:?}");
        }
        // To write to a descriptor without an address is not what sendmsg is denied for.
        let sends = |when: &str| {
            format!(
                "{{syscalls: [sendto], when: {when}, action: allow}}, {{syscalls: [sendmsg], action: errno(EACCES)}}"
            )
        };
        finds(&rules(&sends("flags == 0")), Code::TwinLeftOpen, "`sendto`, which does the same");
        let all = findings(&rules(&sends("addr == 0")));
        assert!(all.iter().all(|(code, _)| *code != Code::TwinLeftOpen), "{all:?}");
        let socket =
            |when: &str| rules(&format!("{{syscalls: [socket], when: {when}, action: allow}}"));
        finds(&socket("type == SOCK_STREAM"), Code::FlagsCompared, "write `type & 0xf`");
        for said in ["type & 0xf == SOCK_STREAM", "type == SOCK_STREAM|SOCK_CLOEXEC", "domain == 1"]
        {
            let all = findings(&socket(said));
            assert!(all.iter().all(|(code, _)| *code != Code::FlagsCompared), "{said}");
        }
        finds(
            &rules("{syscalls: [seccomp], action: allow}, {syscalls: [connect], action: notify}"),
            Code::SupervisorReplaceable,
            "`connect` waits",
        );
        // A filter without a listener takes nobody's place.
        let closed = rules(
            "{syscalls: [seccomp], when: flags & SECCOMP_FILTER_FLAG_NEW_LISTENER == 0, action: allow}, \
             {syscalls: [connect], action: notify}",
        );
        assert!(findings(&closed).iter().all(|(code, _)| *code != Code::SupervisorReplaceable));
        finds(&rules("{syscalls: [read], action: errno(EPERM)}"), Code::Redundant, "`read`");
        finds(
            "{architectures: [x86_64, i386], default: errno(EPERM), rules: [\
             {syscalls: [ptrace], arch: [i386], action: allow}]}",
            Code::LooserCompat,
            "denied on x86_64 and allowed on i386",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), necessity: {read: [\
             {declared: {by: me, reason: once, expires: 2027-01-01}}]}}",
            Code::Expired,
            "expired on 2027-01-01",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), necessity: {read: []}}",
            Code::StaleNecessity,
            "no rule names `read`",
        );
        finds(
            "{architectures: [x86_64], default: errno(EPERM), recordings: [\
             {digest: x, engine: ebpf, kernel: 6.18.1, gaps: [lost some]}]}",
            Code::IncompleteRecording,
            "lost some",
        );
    }

    /// The codes found of one rule list, over EPERM.
    fn codes(rules: &str) -> Vec<(Code, String)> {
        let mut all = findings(&format!(
            "{{architectures: [x86_64], default: errno(EPERM), rules: [{rules}]}}"
        ));
        all.retain(|(code, _)| *code == Code::TwinLeftOpen || *code == Code::WiderThanTaken);
        all
    }

    #[test]
    fn a_twin_is_open_only_if_a_call_passes_by_it_and_not_by_the_other() {
        let reads = "when: \"flags & (O_WRONLY | O_RDWR) == 0\"";
        let both = format!("{{syscalls: [open, openat], {reads}, action: allow}}");
        assert_eq!(codes(&both), []);
        let open = format!(
            "{{syscalls: [openat], {reads}, action: allow}}, {{syscalls: [open], action: allow}}"
        );
        let found = codes(&open);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.contains("open(NULL, O_WRONLY, 0) passes"), "{found:?}");
        // To have no opinion on the older call is none on the newer.
        assert_eq!(codes("{syscalls: [openat], action: allow}"), []);
        // How libraries are made to fall back.
        let fall_back = "{syscalls: [openat, clone], action: allow}, \
                         {syscalls: [openat2, clone3], action: errno(ENOSYS)}";
        assert_eq!(codes(fall_back), []);
        assert_eq!(codes("{syscalls: [execve, execveat], action: allow}"), []);
        assert!(
            codes("{syscalls: [execveat], action: allow}")[0].1.contains("`execve` is filtered")
        );
        let exec = "when: \"prot & PROT_EXEC == 0\"";
        let pkey = format!(
            "{{syscalls: [mprotect], {exec}, action: allow}}, \
             {{syscalls: [pkey_mprotect], action: allow}}"
        );
        let found = codes(&pkey);
        assert!(found[0].1.contains("pkey_mprotect(0, 0, PROT_EXEC, 0) passes"), "{found:?}");
    }

    #[test]
    fn ways_around_by_another_abi_are_found() {
        let found = |rules: &str| {
            let mut all = findings(&format!(
                "{{architectures: [x86_64, i386, x32], default: errno(ENOSYS), rules: [{rules}]}}"
            ));
            let codes = [Code::TwinLeftOpen, Code::LooserCompat];
            all.retain(|(code, _)| codes.contains(code));
            all.into_iter().map(|(_, message)| message).collect::<Vec<_>>()
        };
        let unix = "{syscalls: [socket], when: domain == AF_UNIX, action: allow}";
        assert_eq!(found(unix), [""; 0]);
        let all = found(&format!("{unix}, {{syscalls: [socketcall], action: allow}}"));
        assert!(
            all.len() == 1
                && all[0].contains(
                    "`socketcall` does, with arguments in memory, what is filtered of accept4"
                ),
            "{all:?}"
        );
        let all = found(
            "{syscalls: [socket], arch: [x86_64], when: domain == AF_UNIX, action: allow}, \
             {syscalls: [socket], arch: [i386], action: allow}, \
             {syscalls: [socket], arch: [x32], when: \"domain in {AF_UNIX, AF_INET}\", action: allow}",
        );
        assert!(
            all[0].contains("socket(AF_UNSPEC, 0x0, 0) is denied on x86_64 and allowed on i386"),
            "{all:?}"
        );
        assert!(
            all[1].contains("socket(AF_INET, 0x0, 0) is denied on x86_64 and allowed on x32"),
            "{all:?}"
        );
        let all = found(
            "{syscalls: [fcntl], when: \"cmd == F_GETFD\", action: allow}, \
             {syscalls: [fcntl64], action: allow}",
        );
        assert!(all[0].contains("`fcntl64`, which does the same, is not: fcntl64("), "{all:?}");
    }

    #[test]
    fn a_wide_compare_is_shown_to_be_passed() {
        let denied = codes("{syscalls: [socket], when: arg0 != 16, action: allow}");
        assert!(
            denied[0].1.contains("socket(0x100000010, 0x0, 0) passes, acts as socket(AF_NETLINK"),
            "{denied:?}"
        );
        let allowed = codes("{syscalls: [socket], when: arg0 == 1, action: allow}");
        assert!(allowed[0].1.contains("is refused"), "{allowed:?}");
        assert_eq!(codes("{syscalls: [ioctl], when: arg2 == 1, action: allow}"), []);
    }

    #[test]
    fn what_somebody_takes_care_of_is_a_note() {
        let severity = |rest: &str| {
            let text = format!(
                "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec: {{architectures: \
                 [x86_64], default: errno(EPERM), {rest}}}\n"
            );
            let policy = Policy::parse(&text).unwrap();
            let all = check(&policy, "2027-01-02".parse().ok()).unwrap();
            all.iter().find(|one| one.code == Code::Dangerous).unwrap().severity
        };
        let allow = "rules: [{syscalls: [mount], action: allow}]";
        let declared = |expires: &str| {
            format!(
                "{allow}, necessity: {{mount: [{{declared: {{by: me, reason: it mounts, expires: \
                 {expires}}}}}]}}"
            )
        };
        assert_eq!(severity(allow), Severity::Warning);
        assert_eq!(severity(&declared("2027-01-02")), Severity::Note);
        assert_eq!(severity(&declared("2027-01-01")), Severity::Warning);
        let narrowed = "rules: [{syscalls: [mount], when: flags == MS_BIND, action: allow}]";
        assert_eq!(severity(narrowed), Severity::Note);
    }

    #[test]
    fn what_is_as_it_should_be_is_not_found() {
        let spec = "{architectures: [x86_64], default: errno(ENOSYS), rules: [\
                    {syscalls: [exit_group, read], action: allow},\
                    {syscalls: [socket], when: domain == AF_UNIX, action: allow}],\
                    necessity: {read: [{neededBy: {runtime: runc}}],\
                    socket: [{neededBy: {runtime: runc}}],\
                    exit_group: [{declared: {by: me, reason: it ends, expires: 2027-01-02}}]}}";
        assert_eq!(findings(spec), []);
    }
}
