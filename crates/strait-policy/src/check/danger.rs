//! What must not pass, or not so: dangerous calls and arguments, defaults, answers that break
//! libraries, filters under which nothing runs.

use strait_abi::{Arch, DangerousValue, Syscall};
use strait_bpf::Action;

use super::{Checker, Code, Finding, Nature, Severity, Subject};
use crate::action_text;
use crate::policy::Necessity;
use crate::principle::PROBED;
use crate::rules::{Chain, Condition, Op, Test, Width};
use crate::satisfy::{Claim, satisfy};
use crate::signature;

const ENOSYS: u16 = 38;

impl Checker<'_> {
    pub(super) fn danger(&mut self) {
        self.defaults();
        for arch in self.policy.architectures.iter() {
            self.can_run(arch);
            self.supervisor(arch);
            for call in Syscall::all().filter(|call| call.number(arch).is_some()) {
                self.dangerous(call, arch);
                self.probed(call, arch);
            }
            for value in DangerousValue::all() {
                self.dangerous_value(value, arch);
            }
            for call in ["openat", "open"].into_iter().filter_map(Syscall::from_name) {
                self.read_only(call, arch);
            }
        }
    }

    fn defaults(&mut self) {
        if self.policy.default.lets_pass() {
            let message = "the default lets every call pass that no rule names, new calls too";
            let help = "deny by default and allow what is needed";
            self.find(Finding::new(Code::PermissiveDefault, Subject::Default, message).help(help));
        }
        if self.policy.foreign.lets_pass() {
            let message = "calls of architectures that are not listed pass, whatever they are";
            let help = "make `foreign` kill-process, or list the architectures";
            self.find(Finding::new(Code::ForeignPasses, Subject::Foreign, message).help(help));
        }
        if let (None, Action::Errno(errno)) = (self.policy.unknown, self.policy.default)
            && errno != ENOSYS
            && self.nature == Nature::Policy
        {
            let message = format!(
                "calls that newer kernels bring get {}, on which libraries do not fall back",
                action_text(self.policy.default)
            );
            let help = format!(
                "add `unknown: {{after: \"{}\", action: errno(ENOSYS)}}`",
                Arch::tables_as_of()
            );
            self.find(Finding::new(Code::NeedsEnosys, Subject::Default, message).help(help));
        }
    }

    /// Whether any program can live under the policy.
    fn can_run(&mut self, arch: Arch) {
        let none_of = |names: &[&str]| {
            names.iter().all(|name| {
                Syscall::from_name(name).is_none_or(|call| !self.view.passes(call, arch))
            })
        };
        let what = if none_of(&["exit_group", "exit"]) {
            "no program can end, neither by exit_group nor by exit,"
        } else if self.nature == Nature::Container && none_of(&["execve", "execveat"]) {
            "no program can be started: the runtime loads the filter before its execve"
        } else {
            return;
        };
        // What is for another ABI than the machine's may leave it no program; one ABI must do.
        let first = self.policy.architectures.iter().next() == Some(arch);
        let severity = if first { Severity::Error } else { Severity::Note };
        let message = format!("{what} on {arch}");
        self.find(Finding::new(Code::CannotRun, Subject::Policy, message).at_most(severity));
    }

    /// A supervisor or tracer that the workload can put another in the place of.
    fn supervisor(&mut self, arch: Arch) {
        let gives = |wanted: fn(Action) -> bool| {
            let calls = Syscall::all().filter(|call| call.number(arch).is_some());
            calls.into_iter().find(|&call| self.view.gives(call, arch, wanted))
        };
        let notified = gives(|action| action == Action::Notify);
        let traced = gives(|action| matches!(action, Action::Trace(_)));
        let by_names: [(Option<Syscall>, &str, &str); 2] = [
            (notified, "seccomp", "a newer filter with a listener of its own is asked instead"),
            (traced, "ptrace", "a tracer that the workload brings answers instead"),
        ];
        for (waits, name, how) in by_names {
            if let (Some(waits), Some(way)) = (waits, Syscall::from_name(name))
                && self.view.passes(way, arch)
                && (name != "seccomp" || self.view.chain(way, arch).is_some_and(takes_listeners))
            {
                let message = format!("`{waits}` waits for an answer and `{way}` passes: {how}");
                let subject = self.subject(way, arch, Action::lets_pass);
                self.find(Finding::new(Code::SupervisorReplaceable, subject, message).about(way));
            }
        }
    }

    fn dangerous(&mut self, call: Syscall, arch: Arch) {
        let Some(danger) = call.danger().filter(|_| self.view.passes(call, arch)) else { return };
        let narrowed = self.view.is_filtered(call, arch);
        let how = if narrowed { "passes with some arguments" } else { "is allowed" };
        let subject = self.subject(call, arch, Action::lets_pass);
        let mut finding =
            Finding::new(Code::Dangerous, subject, format!("`{call}` {how}: {}", danger.reason()))
                .about(call);
        finding.cves = danger.cves().to_vec();
        if narrowed || self.is_declared(call) {
            finding = finding.at_most(Severity::Note);
        }
        self.find(finding);
    }

    /// Whether a person says that the call is needed, and that still holds.
    fn is_declared(&self, call: Syscall) -> bool {
        let reasons = self.policy.necessity.get(&call).map_or(&[][..], Vec::as_slice);
        reasons.iter().any(|reason| match reason {
            Necessity::Declared(declared) => {
                declared.expires.is_none_or(|last| self.today.is_none_or(|today| today <= last))
            }
            _ => false,
        })
    }

    fn dangerous_value(&mut self, value: &DangerousValue, arch: Arch) {
        let call = value.syscall();
        let Some(chain) = self.view.chain(call, arch) else { return };
        let Some(argument) = signature::argument(Some(call), arch, value.arg()) else { return };
        let tests = value.tests(arch).into_iter().filter_map(|(mask, wanted)| {
            Test::new(argument.index, argument.width(), mask, Op::Eq, wanted).ok()
        });
        let any = Condition::Any(tests.map(Condition::Test).collect());
        let claims = [Claim::Holds(&any), Claim::Gives(chain, &Action::lets_pass)];
        if !matches!(satisfy(&claims), Ok(Some(_))) {
            return;
        }
        let subject = self.subject(call, arch, Action::lets_pass);
        let danger = value.danger();
        let values = match value.values() {
            [one] => (*one).to_owned(),
            many => format!("{} or another of these", many[0]),
        };
        let message = format!("`{call}` passes with {} {values}: {}", value.arg(), danger.reason());
        let mut finding =
            Finding::new(Code::OpenArgument, subject, message).about(call).help(format!(
                "write `when` for its `{}` and leave out {}",
                value.arg(),
                value.values().join(", ")
            ));
        finding.cves = danger.cves().to_vec();
        self.find(finding);
    }

    /// Files that may not be opened to write, and are made or emptied by an open that is to read.
    fn read_only(&mut self, call: Syscall, arch: Arch) {
        let Some(chain) = self.view.chain(call, arch) else { return };
        let Some(flags) = signature::argument(Some(call), arch, "flags") else { return };
        let Some(set) = flags.constants else { return };
        let bits = |names: &[&str]| {
            let values: Option<Vec<u64>> = names.iter().map(|name| set.value(arch, name)).collect();
            values.map(|values| values.into_iter().fold(0, |all, value| all | value))
        };
        let (Some(writing), Some(changing)) =
            (bits(&["O_WRONLY", "O_RDWR"]), bits(&["O_CREAT", "O_TRUNC"]))
        else {
            return;
        };
        let test = |mask, op| {
            let test = Test::new(flags.index, flags.width(), mask, op, 0).ok();
            test.map(Condition::Test)
        };
        let (Some(reads), Some(writes), Some(changes)) =
            (test(writing, Op::Eq), test(writing, Op::Ne), test(changing, Op::Ne))
        else {
            return;
        };
        let may = |conditions: &[&Condition]| {
            let mut claims: Vec<Claim<'_>> =
                conditions.iter().map(|condition| Claim::Holds(condition)).collect();
            claims.push(Claim::Gives(chain, &Action::lets_pass));
            !matches!(satisfy(&claims), Ok(None))
        };
        if may(&[&writes]) || !may(&[&reads, &changes]) {
            return;
        }
        let message = format!(
            "`{call}` may not open files to write, and makes or empties them by \
             O_RDONLY with O_CREAT or O_TRUNC"
        );
        let subject = self.subject(call, arch, Action::lets_pass);
        let help = "deny O_CREAT and O_TRUNC beside O_WRONLY and O_RDWR";
        self.find(Finding::new(Code::OpenArgument, subject, message).about(call).help(help));
    }

    /// Calls that libraries do without on ENOSYS, and get another errno.
    fn probed(&mut self, call: Syscall, arch: Arch) {
        let Some((_, why)) = PROBED.iter().find(|(name, _)| *name == call.name()) else { return };
        let Some(chain) = self.view.chain(call, arch) else { return };
        if let ([], Action::Errno(errno)) = (chain.arms.as_slice(), chain.otherwise)
            && errno != ENOSYS
        {
            let text = action_text(chain.otherwise);
            let message = format!("`{call}` gets {text}: {why}, but only on ENOSYS");
            let subject = self.subject(call, arch, |_| true);
            let help = "answer errno(ENOSYS) to what libraries try first";
            self.find(Finding::new(Code::NeedsEnosys, subject, message).about(call).help(help));
        }
    }
}

/// Whether seccomp(2) may pass with SECCOMP_SET_MODE_FILTER and SECCOMP_FILTER_FLAG_NEW_LISTENER
/// (linux/seccomp.h).
fn takes_listeners(seccomp: &Chain) -> bool {
    let tests = [
        Test::new(0, Width::W32, u32::MAX.into(), Op::Eq, 1),
        Test::new(1, Width::W32, 8, Op::Eq, 8),
    ];
    let all = Condition::All(tests.into_iter().flatten().map(Condition::Test).collect());
    let claims = [Claim::Holds(&all), Claim::Gives(seccomp, &Action::lets_pass)];
    !matches!(satisfy(&claims), Ok(None))
}
