//! What a runtime makes of a profile: libseccomp's filter, and runc's stub before it.

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::profile::Profile;
use super::{Runtime, Target};
use crate::format::libseccomp::{Filter, FilterRule, Why, number};
use crate::rules::Rules;
use crate::text::{Fault, Problem, Span};

/// What libseccomp gives to other audit arches and ABIs (`SCMP_FLTATR_ACT_BADARCH`).
const BAD_ARCH: Action = Action::KillThread;
const ENOSYS: Action = Action::Errno(38);

/// The rules that the target's runtime would install.
pub(super) fn install(profile: &Profile, target: &Target) -> Result<Rules, Fault> {
    let (rules, spans) = added(profile);
    let native = std::iter::once(target.arch);
    let listed = profile.listed.iter().copied().filter(|arch| *arch != target.arch);
    let filter = Filter::new(profile.default, BAD_ARCH).adapting(target.library);
    let filter =
        native.chain(listed).fold(filter, |filter, arch| filter.with_arch(arch, rules.as_slice()));
    let rules = filter.rules().map_err(|refusal| {
        let (what, right) = match refusal.why {
            Why::Contradicts => (
                "a rule that contradicts an earlier one of the same call",
                "libseccomp refuses it, and no container would start",
            ),
            Why::Intricate => {
                ("a call with conditions as intricate as these", "say the same with fewer rules")
            }
        };
        spans[refusal.rule].fault(Problem::Unsupported { what, right })
    })?;
    Ok(match target.runtime {
        Runtime::Runc => prepend_enosys_stub(profile, rules, target),
        Runtime::Crun => rules,
    })
}

/// What the numbers get that are greater than those of all calls known here.
pub(super) fn beyond_all_names(rules: &Rules, arch: Arch) -> Option<Action> {
    let last = arch.last_number(Arch::tables_as_of());
    Some(rules.table(arch.audit_arch())?.chain(last + 1).otherwise)
}

/// The rules as the runtimes add them, and where they stand: one with two conditions on one
/// argument is a rule for each condition.
fn added(profile: &Profile) -> (Vec<FilterRule>, Vec<Span>) {
    let (mut rules, mut spans) = (Vec::new(), Vec::new());
    for rule in &profile.rules {
        let twice = |index| rule.args.iter().filter(|arg| arg.index == index).count() > 1;
        let each = if rule.args.iter().any(|arg| twice(arg.index)) { 1 } else { 6 };
        let mut parts: Vec<_> = rule.args.chunks(each).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        for args in parts {
            let (name, args) = (rule.name.clone(), args.to_vec());
            rules.push(FilterRule { name, action: rule.action, args });
            spans.push(rule.span);
        }
    }
    (rules, spans)
}

/// runc's stub: numbers greater than the greatest that the profile names get ENOSYS, on each ABI
/// that it lists.
fn prepend_enosys_stub(profile: &Profile, mut rules: Rules, target: &Target) -> Rules {
    if matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_)) {
        return rules;
    }
    for &arch in &profile.listed {
        let calls = profile.rules.iter().filter_map(|rule| Syscall::from_name(&rule.name));
        let numbers = calls.filter_map(|call| number(call, arch, target.library));
        let Some(last) = numbers.max().filter(|last| *last != 0) else { continue };
        let Some(mut table) = rules.table(arch.audit_arch()).cloned() else { continue };
        // x86_64 and x32 are told apart by the bit alone.
        let ranges: &[(u32, u32)] = match arch {
            Arch::X86_64 => &[(0, 0x3fff_ffff), (0x8000_0000, 0xbfff_ffff)],
            Arch::X32 => &[(0x4000_0000, 0x7fff_ffff), (0xc000_0000, 0xffff_ffff)],
            _ => &[(0, u32::MAX)],
        };
        for &(first, end) in ranges {
            table.set(first.max(last.saturating_add(1)), end, ENOSYS);
        }
        if arch == Arch::S390x {
            // `setup`, by which large numbers come in.
            table.set(0, 0, ENOSYS);
        }
        rules = rules.with_table(arch.audit_arch(), table);
    }
    rules
}
