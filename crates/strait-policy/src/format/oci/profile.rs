//! A profile resolved for a target, as Docker and Podman do it before a runtime sees it.

use strait_abi::{Arch, KernelVersion, Syscall};
use strait_bpf::Action;

use super::Target;
use crate::format::libseccomp::{Arg, CompareOp};
use crate::text::{Fault, MAX_HINTS, Node, Problem, Span, Value, nearest};

/// What a runtime is given.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) default: Action,
    /// The ABIs that the profile lists; the machine's own need not be among them.
    pub(super) listed: Vec<Arch>,
    pub(super) rules: Vec<OciRule>,
}

/// One call, one action.
#[derive(Debug)]
pub(in crate::format) struct OciRule {
    /// Where it stands.
    pub(in crate::format) span: Span,
    /// A name that is known here, or not.
    pub(super) name: String,
    pub(super) action: Action,
    pub(super) args: Vec<Arg>,
}

/// The profile that `root` is on this target.
pub(super) fn resolve(
    root: &Node,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
) -> Result<Profile, Fault> {
    let object = seccomp_object(root)?;
    let default = object.field("defaultAction").ok_or_else(|| {
        let of = "the profile".to_owned();
        object.node.span.fault(Problem::MissingField { field: "defaultAction", of })
    })?;
    let default = action(default, errno_ret(&object, "defaultErrnoRet")?)?;
    let listed = architectures(&object, target, notes)?;
    let mut rules = Vec::new();
    for node in object.list("syscalls")? {
        rule(&Object::new(node, "a rule")?, target, notes, &mut rules)?;
    }
    for (field, what) in [
        ("flags", "flags are not part of a decision; set them where the filter is loaded"),
        ("listenerPath", "who answers notifications is not part of a decision"),
    ] {
        let given = object.field(field).filter(|node| node.value != Value::List(Vec::new()));
        if let Some(node) = given.filter(|node| node.value != Value::Null) {
            notes.push((node.span, format!("`{field}` is left out: {what}")));
        }
    }
    let notifies = |rule: &&OciRule| rule.action == Action::Notify;
    let listens = object.field("listenerPath").is_some_and(|node| node.value != Value::Null);
    if let Some(rule) = rules.iter().find(notifies).filter(|_| !listens) {
        let message = "this rule notifies and there is no `listenerPath`: the runtimes refuse it";
        notes.push((rule.span, message.to_owned()));
    }
    Ok(Profile { default, listed, rules })
}

/// The profile itself, or the one within a container's `config.json`.
fn seccomp_object(root: &Node) -> Result<Object<'_>, Fault> {
    let object = Object::new(root, "the profile")?;
    let Some(linux) = object.field("linux") else { return Ok(object) };
    let linux = Object::new(linux, "linux")?;
    match linux.field("seccomp") {
        Some(node) => Object::new(node, "seccomp"),
        None => {
            let of = "linux".to_owned();
            Err(linux.node.span.fault(Problem::MissingField { field: "seccomp", of }))
        }
    }
}

fn architectures(
    object: &Object<'_>,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
) -> Result<Vec<Arch>, Fault> {
    let mut nodes: Vec<&Node> = object.list("architectures")?.iter().collect();
    let map = object.list("archMap")?;
    if let (Some(first), false) = (map.first(), nodes.is_empty()) {
        return Err(first.span.fault(Problem::Unsupported {
            what: "`archMap` beside `architectures`",
            right: "Docker refuses a profile with both: keep one",
        }));
    }
    for node in map {
        let entry = Object::new(node, "archMap")?;
        let Some(native) = entry.field("architecture") else { continue };
        if native.text("architecture")? == target.arch.oci_name() {
            nodes.push(native);
            nodes.extend(entry.list("subArchitectures")?);
        }
    }
    let mut listed = Vec::new();
    for node in nodes {
        let name = node.text("architectures")?;
        match Arch::ALL.iter().find(|arch| arch.oci_name() == name) {
            Some(&arch) if !listed.contains(&arch) => listed.push(arch),
            Some(_) => {}
            None if FOREIGN_ARCHES.contains(&name) => {
                let message = format!("`{name}` is left out: no kernel of {} has it", target.arch);
                notes.push((node.span, message));
            }
            None => {
                let known = Arch::ALL.iter().map(|arch| arch.oci_name());
                return Err(node.span.fault(Problem::unknown_name("architecture", name, known)));
            }
        }
    }
    Ok(listed)
}

/// What libseccomp knows and no table here has.
const FOREIGN_ARCHES: &[&str] = &[
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

fn rule(
    rule: &Object<'_>,
    target: &Target,
    notes: &mut Vec<(Span, String)>,
    rules: &mut Vec<OciRule>,
) -> Result<(), Fault> {
    let mut names: Vec<&Node> = rule.list("names")?.iter().collect();
    match (rule.field("name").filter(|node| node.value != Value::Text("".into())), names.len()) {
        (Some(name), 0) => names.push(name),
        (Some(name), _) => {
            return Err(name.span.fault(Problem::Unsupported {
                what: "`name` beside `names`",
                right: "Docker refuses a rule with both: keep `names`",
            }));
        }
        (None, 0) => {
            notes.push((rule.node.span, "this rule names no call and does nothing".to_owned()));
        }
        (None, _) => {}
    }
    let Some(act) = rule.field("action") else {
        let of = "a rule".to_owned();
        return Err(rule.node.span.fault(Problem::MissingField { field: "action", of }));
    };
    let errno = errno_ret(rule, "errnoRet")?;
    let action = action(act, errno)?;
    if errno.is_some() && !matches!(action, Action::Errno(_) | Action::Trace(_)) {
        let message = "`errnoRet` says nothing for this action; crun refuses it".to_owned();
        notes.push((act.span, message));
    }
    let args: Vec<Arg> = rule.list("args")?.iter().map(arg).collect::<Result<_, _>>()?;
    if let Some(node) = rule.field("excludes")
        && Conditions::new(node)?.excludes(target)
    {
        return Ok(());
    }
    if let Some(node) = rule.field("includes")
        && !Conditions::new(node)?.includes(target)
    {
        return Ok(());
    }
    for node in names {
        let name = node.text("names")?.to_owned();
        let since = Syscall::from_name(&name).and_then(Syscall::since);
        if target.library.is_some_and(|library| since.is_some_and(|since| since > library)) {
            let message =
                format!("`{name}` is newer than the runtime's libseccomp, which skips it");
            notes.push((node.span, message));
            continue;
        }
        if Syscall::from_name(&name).is_none() {
            let known = Syscall::all().map(Syscall::name);
            let hint = if notes.len() < MAX_HINTS { nearest(&name, known) } else { None };
            let hint = hint.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            notes.push((
                node.span,
                format!("`{name}` is no system call that is known here: runtimes skip it{hint}"),
            ));
        }
        rules.push(OciRule { span: node.span, name, action, args: args.clone() });
    }
    Ok(())
}

fn arg(node: &Node) -> Result<Arg, Fault> {
    let object = Object::new(node, "args")?;
    let number = |field: &'static str| object.field(field).map_or(Ok(0), |node| node.u64(field));
    let index = number("index")?;
    let index = u8::try_from(index).ok().filter(|index| *index < 6).ok_or_else(|| {
        object.node.span.fault(Problem::Invalid {
            what: "argument index",
            value: index.to_string(),
            right: "a call has arguments 0 to 5".to_owned(),
        })
    })?;
    let Some(op) = object.field("op") else {
        let of = "args".to_owned();
        return Err(node.span.fault(Problem::MissingField { field: "op", of }));
    };
    let name = op.text("op")?;
    let (_, op) = OPS.iter().find(|(known, _)| *known == name).ok_or_else(|| {
        op.span.fault(Problem::unknown_name("operator", name, OPS.iter().map(|(name, _)| *name)))
    })?;
    Ok(Arg { index, op: *op, value: number("value")?, value_two: number("valueTwo")? })
}

const OPS: &[(&str, CompareOp)] = &[
    ("SCMP_CMP_NE", CompareOp::Ne),
    ("SCMP_CMP_LT", CompareOp::Lt),
    ("SCMP_CMP_LE", CompareOp::Le),
    ("SCMP_CMP_EQ", CompareOp::Eq),
    ("SCMP_CMP_GE", CompareOp::Ge),
    ("SCMP_CMP_GT", CompareOp::Gt),
    ("SCMP_CMP_MASKED_EQ", CompareOp::MaskedEq),
];

/// `includes` or `excludes`.
struct Conditions {
    arches: Vec<String>,
    capabilities: Vec<String>,
    min_kernel: Option<KernelVersion>,
}

impl Conditions {
    fn new(node: &Node) -> Result<Conditions, Fault> {
        let object = Object::new(node, "includes")?;
        let texts = |field: &'static str| -> Result<Vec<String>, Fault> {
            object.list(field)?.iter().map(|node| Ok(node.text(field)?.to_owned())).collect()
        };
        let min_kernel = match object.field("minKernel").filter(|node| node.value != Value::Null) {
            None => None,
            Some(node) => {
                let text = node.text("minKernel")?;
                Some(KernelVersion::from_release(text).map_err(|error| {
                    node.span.fault(Problem::Invalid {
                        what: "kernel version",
                        value: text.to_owned(),
                        right: error.to_string(),
                    })
                })?)
            }
        };
        Ok(Conditions { arches: texts("arches")?, capabilities: texts("caps")?, min_kernel })
    }

    /// Every condition holds.
    fn includes(&self, target: &Target) -> bool {
        let arch = go_arch(target.arch);
        (self.arches.is_empty() || self.arches.iter().any(|name| name == arch))
            && self.capabilities.iter().all(|name| target.capabilities.contains(name))
            && self.min_kernel.is_none_or(|kernel| target.kernel >= kernel)
    }

    /// Any condition holds.
    fn excludes(&self, target: &Target) -> bool {
        let arch = go_arch(target.arch);
        self.arches.iter().any(|name| name == arch)
            || self.capabilities.iter().any(|name| target.capabilities.contains(name))
            || self.min_kernel.is_some_and(|kernel| target.kernel >= kernel)
    }
}

/// What Go, and so Docker's profiles, call an arch.
fn go_arch(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::X32 => "x32",
        Arch::I386 => "x86",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
        Arch::Ppc64le => "ppc64le",
        Arch::S390x => "s390x",
        Arch::Loongarch64 => "loong64",
        other => other.name(),
    }
}

fn errno_ret(object: &Object<'_>, field: &'static str) -> Result<Option<u64>, Fault> {
    object
        .field(field)
        .filter(|node| node.value != Value::Null)
        .map(|node| node.u64(field))
        .transpose()
}

/// An action as the runtimes read it: EPERM unless another errno is given, and of that the low 16
/// bits, of which the kernel takes at most 4095.
fn action(node: &Node, errno: Option<u64>) -> Result<Action, Fault> {
    const EPERM: u64 = 1;
    let data = u32::try_from(errno.unwrap_or(EPERM) & 0xffff).unwrap_or(0);
    let name = node.text("action")?;
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::from_raw(Action::Errno(0).raw() | data),
        "SCMP_ACT_TRACE" => Action::from_raw(Action::Trace(0).raw() | data),
        "SCMP_ACT_TRAP" => Action::Trap(0),
        "SCMP_ACT_NOTIFY" => Action::Notify,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        _ => {
            const KNOWN: &[&str] = &[
                "SCMP_ACT_ALLOW",
                "SCMP_ACT_ERRNO",
                "SCMP_ACT_KILL",
                "SCMP_ACT_KILL_PROCESS",
                "SCMP_ACT_KILL_THREAD",
                "SCMP_ACT_LOG",
                "SCMP_ACT_NOTIFY",
                "SCMP_ACT_TRACE",
                "SCMP_ACT_TRAP",
            ];
            return Err(node.span.fault(Problem::unknown_name(
                "action",
                name,
                KNOWN.iter().copied(),
            )));
        }
    })
}

/// A JSON object of a format that grows: fields that are not asked for are nobody's business.
struct Object<'a> {
    node: &'a Node,
}

impl<'a> Object<'a> {
    fn new(node: &'a Node, of: &str) -> Result<Object<'a>, Fault> {
        node.map(of)?;
        Ok(Object { node })
    }

    fn field(&self, name: &str) -> Option<&'a Node> {
        let entries = self.node.map(name).ok()?;
        entries.iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
    }

    /// A list, which is empty where it is not there or null, as Go's are.
    fn list(&self, name: &str) -> Result<&'a [Node], Fault> {
        match self.field(name) {
            None | Some(Node { value: Value::Null, .. }) => Ok(&[]),
            Some(node) => node.list(name),
        }
    }
}
