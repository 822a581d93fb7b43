//! JSON of seccompiler, which Firecracker and other rust-vmm programs take: filters for several
//! threads in one file, each for one ABI.
//!
//! What seccompiler builds is the reference (0.5): another audit arch gets kill-process; a call gets
//! `match_action` if one of its rules holds, or if none of them has conditions, and
//! `mismatch_action` otherwise; x32 numbers are no calls; a name that is no call is an error.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use super::product::{Product, chain_products};
use super::{Codec, Exported, FormatError, Imported, Note, Sample, Target, as_text};
use crate::policy::Policy;
use crate::raise::raise;
use crate::rules::{Arm, Chain, Condition, Op, Rules, Table, Test, Width};
use crate::text::{self, Fault, Fields, Node, Problem, Span, Value};

pub(super) const CODEC: Codec = Codec {
    name: "seccompiler",
    recognises,
    import: |bytes, target| import_thread(as_text(bytes)?, target),
    export: |policy, target| {
        let thread = target.thread.as_deref().or(policy.metadata.name.as_deref());
        export(policy, thread.unwrap_or("main"), target.arch)
    },
};

/// A file whose every field looks like a filter.
fn recognises(sample: &Sample<'_>) -> bool {
    const ACTIONS: [&str; 4] =
        ["match_action", "filter_action", "mismatch_action", "default_action"];
    let has_action = |node: &Node| match &node.value {
        Value::Map(fields) => fields.iter().any(|field| ACTIONS.contains(&&*field.key)),
        _ => false,
    };
    match &sample.tree {
        Some(Node { value: Value::Map(filters), .. }) => {
            !filters.is_empty() && filters.iter().all(|filter| has_action(&filter.node))
        }
        Some(_) => false,
        None => ACTIONS.iter().any(|name| sample.text.contains(name)),
    }
}

/// What a file says of the target's thread, or of the only one that it has.
fn import_thread(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let mut threads = import(text, target.arch)?;
    let names = threads.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let found = match &target.thread {
        Some(thread) => threads.remove(thread),
        None if threads.len() == 1 => threads.pop_first().map(|(_, imported)| imported),
        None => None,
    };
    found.ok_or_else(|| FormatError::Thread { names, wanted: target.thread.clone() })
}

/// What a file says of each thread, for one ABI.
///
/// # Errors
/// If the text is no such file, or seccompiler would refuse it.
pub fn import(text: &str, arch: Arch) -> Result<BTreeMap<String, Imported>, FormatError> {
    let root = text::read_json(text).map_err(|fault| fault.in_text(text))?;
    let mut threads = BTreeMap::new();
    for entry in root.map("the file").map_err(|fault| fault.in_text(text))? {
        let mut notes = Vec::new();
        let filter = filter(&entry.node, arch, &mut notes).map_err(|fault| fault.in_text(text))?;
        let mut policy = raise(&filter.rules(arch), arch.into(), filter.mismatch, None)?;
        policy.metadata.name = Some(entry.key.to_string());
        let notes =
            text::located(text, notes).map(|(message, place)| Note { place: Some(place), message });
        threads.insert(entry.key.to_string(), Imported { policy, notes: notes.collect() });
    }
    Ok(threads)
}

/// The policy as the filter of one thread, for `arch` if it is for several ABIs. What matches gets one
/// action: of those besides the default that which the most calls have, and an allow before others.
///
/// # Errors
/// If the policy has no meaning, or its default is an action that seccompiler does not know.
pub fn export(policy: &Policy, thread: &str, arch: Arch) -> Result<Exported, FormatError> {
    let only = match policy.architectures.iter().collect::<Vec<_>>().as_slice() {
        &[only] => Some(only),
        _ => policy.architectures.iter().find(|one| *one == arch),
    };
    let Some(arch) = only else {
        return Err(FormatError::Inexpressible {
            what: format!("a policy that is not for {arch}"),
            right: "a filter of seccompiler is for one architecture: choose it by --arch"
                .to_owned(),
        });
    };
    let rules = policy.lower()?;
    let mut products: Vec<(Syscall, Product)> = Vec::new();
    for call in Syscall::all() {
        let chain =
            call.number(arch).and_then(|nr| Some(rules.table(arch.audit_arch())?.chain(nr)));
        let sum =
            chain.and_then(|chain| chain_products(chain, policy.default, None)).unwrap_or_default();
        products.extend(sum.into_iter().map(|product| (call, product)));
    }
    let mut counts: BTreeMap<Action, usize> = BTreeMap::new();
    for (_, product) in products.iter().filter(|(_, product)| name_of(product.action).is_some()) {
        *counts.entry(product.action).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(action, count)| (*action == Action::Allow, *count));
    let unused = if policy.default == Action::Allow { Action::Errno(1) } else { Action::Allow };
    let matched = most.map_or(unused, |(action, _)| action);
    let mut list = Vec::new();
    for (call, product) in products.iter().filter(|(_, product)| product.action == matched) {
        let args: Option<Vec<Json>> = product.tests.iter().map(arg).collect();
        match args {
            Some(args) if args.is_empty() => list.push(json!({"syscall": call.name()})),
            Some(args) => list.push(json!({"syscall": call.name(), "args": args})),
            None => {}
        }
    }
    let (Some(mismatch), Some(matches)) = (name_of(policy.default), name_of(matched)) else {
        return Err(FormatError::Inexpressible {
            what: format!("the default {}", crate::action_text(policy.default)),
            right: "seccompiler knows allow, kill, log, errno, trace and trap".to_owned(),
        });
    };
    let file = json!({thread:
        {"mismatch_action": mismatch, "match_action": matches, "filter": list}});
    let mut text =
        serde_json::to_string_pretty(&file).expect("a value of serde_json always serializes");
    text.push('\n');
    let again = import(&text, arch)?;
    let installed = match again.get(thread) {
        Some(imported) => imported.policy.lower()?,
        None => Rules::new(Action::KillProcess),
    };
    Exported::new(text, &rules, &installed, &policy.architectures)
}

/// An action in seccompiler's words.
fn name_of(action: Action) -> Option<Json> {
    Some(match action {
        Action::Allow => json!("allow"),
        Action::KillProcess => json!("kill_process"),
        Action::KillThread => json!("kill_thread"),
        Action::Log => json!("log"),
        Action::Errno(errno) => json!({"errno": errno}),
        Action::Trace(data) => json!({"trace": data}),
        Action::Trap(0) => json!("trap"),
        Action::Trap(_) | Action::Notify => return None,
    })
}

fn arg(test: &Test) -> Option<Json> {
    let whole = test.mask() == test.width().mask();
    let op = match test.op() {
        Op::Eq if !whole => json!({"masked_eq": test.mask()}),
        _ if !whole => return None,
        Op::Eq => json!("eq"),
        Op::Ne => json!("ne"),
        Op::Lt => json!("lt"),
        Op::Le => json!("le"),
        Op::Gt => json!("gt"),
        Op::Ge => json!("ge"),
    };
    let width = if test.width() == Width::W32 { "dword" } else { "qword" };
    Some(json!({"index": test.arg(), "type": width, "op": op, "val": test.value()}))
}

/// The filter of one thread.
struct Filter {
    mismatch: Action,
    matched: Action,
    /// For each call its rules that have conditions; none are no rules at all.
    calls: BTreeMap<Syscall, Vec<Vec<Test>>>,
}

impl Filter {
    fn rules(&self, arch: Arch) -> Rules {
        let mut table = Table::new(self.mismatch);
        for (call, rules) in &self.calls {
            let Some(nr) = call.number(arch) else { continue };
            let chain = if rules.is_empty() {
                Chain::from(self.matched)
            } else {
                let arm = |tests: &Vec<Test>| Arm {
                    when: Condition::All(tests.iter().copied().map(Condition::Test).collect()),
                    action: self.matched,
                };
                Chain { arms: rules.iter().map(arm).collect(), otherwise: self.mismatch }
            };
            table.set(nr, nr, chain);
        }
        Rules::new(Action::KillProcess).with_table(arch.audit_arch(), table)
    }
}

fn filter(node: &Node, arch: Arch, notes: &mut Vec<(Span, String)>) -> Result<Filter, Fault> {
    let mut fields = Fields::new(node, "a filter")?;
    let mut either = |new: &'static str, old: &'static str| {
        fields.take(new).or_else(|| fields.take(old)).ok_or_else(|| {
            let of = "a filter".to_owned();
            node.span.fault(Problem::MissingField { field: new, of })
        })
    };
    let mismatch = action(either("mismatch_action", "default_action")?)?;
    let matched_node = either("match_action", "filter_action")?;
    let matched = action(matched_node)?;
    if mismatch == matched {
        return Err(matched_node.span.fault(Problem::Unsupported {
            what: "one action for what matches and what does not",
            right: "seccompiler refuses it: make them differ",
        }));
    }
    let mut calls: BTreeMap<Syscall, Vec<Vec<Test>>> = BTreeMap::new();
    let mut always: BTreeSet<Syscall> = BTreeSet::new();
    for node in fields.need("filter")?.list("filter")? {
        let mut rule = Fields::new(node, "a rule")?;
        let name_node = rule.need("syscall")?;
        let name = name_node.text("syscall")?;
        let call = Syscall::from_name(name).filter(|call| call.number(arch).is_some());
        let call = call.ok_or_else(|| {
            let known = Syscall::all().filter(|call| call.number(arch).is_some());
            name_node.span.fault(Problem::unknown_name(
                "system call",
                name,
                known.map(Syscall::name),
            ))
        })?;
        let conditions = calls.entry(call).or_default();
        match rule.take("args").filter(|args| args.value != Value::Null) {
            Some(args) => {
                let tests: Result<Vec<Test>, Fault> = args.list("args")?.iter().map(test).collect();
                conditions.push(tests?);
            }
            None => drop(always.insert(call)),
        }
        if always.contains(&call) && !conditions.is_empty() {
            let message = format!(
                "`{name}` stands with conditions and without: seccompiler then asks for the conditions"
            );
            notes.push((name_node.span, message));
        }
        rule.take("comment");
        rule.finish()?;
    }
    fields.finish()?;
    Ok(Filter { mismatch, matched, calls })
}

fn test(node: &Node) -> Result<Test, Fault> {
    let mut fields = Fields::new(node, "args")?;
    let index = fields.need("index")?.u64("index")?;
    let width = match fields.need("type")?.text("type")? {
        "dword" => Width::W32,
        "qword" => Width::W64,
        other => {
            return Err(node.span.fault(Problem::unknown_name("type", other, ["dword", "qword"])));
        }
    };
    let value = fields.need("val")?.u64("val")? & width.mask();
    let op_node = fields.need("op")?;
    let (op, mask) = match &op_node.value {
        Value::Map(_) => {
            let mut masked = Fields::new(op_node, "op")?;
            let mask = masked.need("masked_eq")?.u64("masked_eq")?;
            masked.finish()?;
            (Op::Eq, mask & width.mask())
        }
        _ => {
            const OPS: &[(&str, Op)] = &[
                ("eq", Op::Eq),
                ("ne", Op::Ne),
                ("lt", Op::Lt),
                ("le", Op::Le),
                ("gt", Op::Gt),
                ("ge", Op::Ge),
            ];
            let name = op_node.text("op")?;
            let op = OPS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
                op_node.span.fault(Problem::unknown_name(
                    "operator",
                    name,
                    OPS.iter().map(|(name, _)| *name),
                ))
            })?;
            (op.1, width.mask())
        }
    };
    fields.take("comment");
    fields.finish()?;
    let index = u8::try_from(index).unwrap_or(u8::MAX);
    Test::new(index, width, mask, op, value & mask).map_err(|error| {
        node.span.fault(Problem::Invalid {
            what: "argument index",
            value: index.to_string(),
            right: error.to_string(),
        })
    })
}

fn action(node: &Node) -> Result<Action, Fault> {
    if let Value::Map(_) = node.value {
        let mut fields = Fields::new(node, "an action")?;
        let data = |node: &Node, field| Ok(u32::try_from(node.u64(field)? & 0xffff).unwrap_or(0));
        let action = match (fields.take("errno"), fields.take("trace")) {
            (Some(errno), None) => Action::Errno(0).raw() | data(errno, "errno")?,
            (None, Some(trace)) => Action::Trace(0).raw() | data(trace, "trace")?,
            _ => {
                return Err(node
                    .span
                    .fault(Problem::MissingField { field: "errno", of: "an action".into() }));
            }
        };
        fields.finish()?;
        return Ok(Action::from_raw(action));
    }
    const ACTIONS: &[(&str, Action)] = &[
        ("allow", Action::Allow),
        ("kill_process", Action::KillProcess),
        ("kill_thread", Action::KillThread),
        ("log", Action::Log),
        ("trap", Action::Trap(0)),
    ];
    let name = node.text("action")?;
    let action = ACTIONS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        node.span.fault(Problem::unknown_name(
            "action",
            name,
            ACTIONS.iter().map(|(name, _)| *name),
        ))
    })?;
    Ok(action.1)
}

#[cfg(test)]
mod tests {
    use strait_bpf::SeccompData;

    use super::*;

    const FILE: &str = r#"{
        "vmm": {"default_action": "trap", "filter_action": "allow", "filter": [
            {"syscall": "read", "comment": "always"},
            {"syscall": "socket", "args": [
                {"index": 0, "type": "dword", "op": "eq", "val": 1},
                {"index": 1, "type": "qword", "op": {"masked_eq": 255}, "val": 769}]},
            {"syscall": "socket", "args": [{"index": 0, "type": "dword", "op": "gt", "val": 40}]}]},
        "api": {"mismatch_action": {"errno": 5}, "match_action": "allow", "filter": []}
    }"#;

    #[test]
    fn threads_are_read_and_written() {
        let threads = import(FILE, Arch::X86_64).unwrap();
        assert_eq!(threads.keys().collect::<Vec<_>>(), ["api", "vmm"]);
        let policy = &threads["vmm"].policy;
        let rules = policy.lower().unwrap();
        let decide = |nr, args| {
            let arch = Arch::X86_64.audit_arch();
            rules.decide(&SeccompData { nr, arch, instruction_pointer: 0, args })
        };
        assert_eq!(decide(0, [0; 6]), Action::Allow);
        assert_eq!(decide(41, [1 | 1 << 32, 0x101, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(41, [1, 0x102, 0, 0, 0, 0]), Action::Trap(0));
        assert_eq!(decide(41, [41, 0, 0, 0, 0, 0]), Action::Allow);
        assert_eq!(decide(0x4000_0000, [0; 6]), Action::Trap(0));
        assert_eq!(threads["api"].policy.default, Action::Errno(5));
        let exported = export(policy, "vmm", Arch::X86_64).unwrap();
        assert_eq!(exported.losses, []);
        let again = import(&exported.text, Arch::X86_64).unwrap();
        let decision = |policy: &Policy| policy.lower().unwrap().decision().unwrap();
        assert_eq!(decision(&again["vmm"].policy), decision(policy));
    }

    #[test]
    fn what_seccompiler_refuses_is_refused() {
        for (from, to, message) in [
            ("\"read\"", "\"raed\"", "did you mean `read`?"),
            ("\"read\"", "\"socketcall\"", "no known system call"),
            ("\"trap\"", "\"allow\"", "make them differ"),
            ("\"dword\"", "\"word\"", "did you mean `dword`?"),
            ("\"index\": 0", "\"index\": 6", "no argument 6"),
            ("\"comment\"", "\"remark\"", "no field"),
        ] {
            let error = import(&FILE.replacen(from, to, 1), Arch::X86_64).unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
