//! `SeccompProfile` of the Security Profiles Operator: an OCI profile as a Kubernetes object.

use super::{Codec, Exported, FormatError, Imported, Target, as_text, oci};
use crate::policy::Policy;
use crate::text::{self, Fault, Fields, Node, Problem, Span, Value, check_size};

/// `apiVersion` of the profiles that are written; older versions are read too.
pub const API_VERSION: &str = "security-profiles-operator.x-k8s.io/v1beta1";
/// `kind` of a profile.
pub const KIND: &str = "SeccompProfile";

pub(super) const CODEC: Codec = Codec {
    name: "spo",
    recognises: |sample| match &sample.tree {
        Some(_) => sample.kind() == Some(KIND),
        None => sample.text.contains(KIND),
    },
    import: |bytes, target| import(as_text(bytes)?, target),
    export,
};

/// What the runtime would install on the target, as a policy. Of a file with several profiles it is
/// the one that [`Target::thread`] names. A profile that stands on another allows what that does
/// too; the other one is in the same file, or among [`Target::files`].
///
/// # Errors
/// If the text is no profile, or one that stands on another that is nowhere.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    check_size(text).map_err(|fault| fault.in_text(text))?;
    let documents = documents(text)?;
    let names = || {
        let names = documents.iter().filter_map(|document| document.name.as_deref());
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let chosen = match (&target.thread, documents.as_slice()) {
        (_, [only]) => Some(only),
        (Some(name), several) => several.iter().find(|it| it.name.as_deref() == Some(name)),
        (None, _) => None,
    };
    let Some(chosen) = chosen else {
        return Err(FormatError::Thread { names: names(), wanted: target.thread.clone() });
    };
    let mut rules = Vec::new();
    let mut above = vec![chosen.name.clone()];
    let mut base = chosen.base.clone();
    while let Some((name, span)) = base.take() {
        if above.len() > MAX_BASES || above.contains(&Some(name.clone())) {
            let problem = Problem::Unsupported {
                what: "a profile that stands on itself, or on too many others",
                right: "let it stand on one that is whole",
            };
            return Err(span.fault(problem).in_text(text).into());
        }
        let here = documents.iter().find(|document| document.name.as_deref() == Some(&name));
        let elsewhere = match (here, target.files.get(&name)) {
            (Some(_), _) => Vec::new(),
            (None, Some(file)) => self::documents(file)?,
            (None, None) => {
                return Err(FormatError::MissingFile { name, place: span.place(text) });
            }
        };
        let found = here
            .or(elsewhere.first())
            .ok_or_else(|| span.fault(Problem::Empty { expected: "profile" }).in_text(text))?;
        let resolved = oci::resolve_rules(&found.spec, span, target);
        rules.splice(0..0, resolved.map_err(|fault| fault.in_text(text))?);
        above.push(Some(name));
        base = found.base.clone().map(|(name, _)| (name, span));
    }
    let mut imported = oci::import_profile(&chosen.spec, text, target, rules)?;
    imported.policy.metadata.name.clone_from(&chosen.name);
    Ok(imported)
}

/// How many profiles one may stand on, each on the next.
const MAX_BASES: usize = 8;

/// The policy as a profile for the machine's runtime, with the losses of [`oci::export`].
///
/// # Errors
/// If the policy has no meaning.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let Exported { text: json, losses, demands, notes } = oci::export(policy, target)?;
    let profile: serde_json::Value =
        serde_json::from_str(&json).map_err(|_| FormatError::Inexpressible {
            what: "the profile".to_owned(),
            right: "this is a defect of Strait".to_owned(),
        })?;
    let name = policy.metadata.name.as_deref().unwrap_or("profile");
    let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n");
    text.push_str(&format!("  name: {}\nspec:\n", serde_json::Value::from(name)));
    for field in ["defaultAction", "defaultErrnoRet", "architectures"] {
        if let Some(value) = profile.get(field) {
            text.push_str(&format!("  {field}: {value}\n"));
        }
    }
    text.push_str("  syscalls:\n");
    for rule in profile["syscalls"].as_array().into_iter().flatten() {
        text.push_str(&format!("    - action: {}\n", rule["action"]));
        if let Some(errno) = rule.get("errnoRet") {
            text.push_str(&format!("      errnoRet: {errno}\n"));
        }
        text.push_str("      names:\n");
        for name in rule["names"].as_array().into_iter().flatten() {
            text.push_str(&format!("        - {name}\n"));
        }
        let args = rule.get("args").and_then(serde_json::Value::as_array).into_iter().flatten();
        for (index, arg) in args.enumerate() {
            text.push_str(if index == 0 { "      args:\n" } else { "" });
            text.push_str(&format!("        - {arg}\n"));
        }
    }
    Ok(Exported { text, losses, demands, notes })
}

/// One profile of a file.
struct Document {
    name: Option<String>,
    spec: Node,
    /// The profile that it stands on, and where it says so.
    base: Option<(String, Span)>,
}

/// The profiles of a file, whose documents are apart by lines of `---`.
fn documents(text: &str) -> Result<Vec<Document>, FormatError> {
    let mut documents = Vec::new();
    let mut start = 0;
    let mut ends: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            ends.push(at);
        }
        at += line.len();
    }
    ends.push(text.len());
    let whole = ends.len() == 1;
    for end in ends {
        let document = &text[start..end];
        let is_empty = document.lines().all(|line| matches!(line.trim(), "" | "---"));
        if !is_empty || whole {
            let root = text::read_yaml(document).map_err(|fault| fault.in_text(text));
            // Places are counted in the file.
            let root = root.map_err(|mut error| {
                let moved = Span::new(error.place.start + start, error.place.end + start);
                error.place = moved.place(text);
                error
            })?;
            let mut found = self::document(root).map_err(|fault| {
                Fault { span: fault.span.shifted_by(start), ..fault }.in_text(text)
            })?;
            shift(&mut found.spec, start);
            found.base = found.base.map(|(name, span)| (name, span.shifted_by(start)));
            documents.push(found);
        }
        start = end;
    }
    Ok(documents)
}

/// Moves the places of a node `by` bytes.
fn shift(node: &mut Node, by: usize) {
    node.span = node.span.shifted_by(by);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Map(entries) => {
            for entry in entries {
                entry.key_span = entry.key_span.shifted_by(by);
                shift(&mut entry.node, by);
            }
        }
        _ => {}
    }
}

/// The object of one document.
fn document(root: Node) -> Result<Document, Fault> {
    let mut fields = Fields::new(&root, "the profile")?;
    let kind = fields.need("kind")?;
    if kind.text("kind")? != KIND {
        let found = kind.text("kind")?.to_owned();
        return Err(kind.span.fault(Problem::Kind { found, expected: KIND }));
    }
    let version = fields.need("apiVersion")?;
    if !version.text("apiVersion")?.starts_with("security-profiles-operator.x-k8s.io/") {
        return Err(version.span.fault(Problem::Invalid {
            what: "apiVersion",
            value: version.text("apiVersion")?.to_owned(),
            right: format!("write `{API_VERSION}`"),
        }));
    }
    let name = match fields.take("metadata") {
        Some(metadata) => Fields::new(metadata, "metadata")?.text("name")?,
        None => None,
    };
    let spec = fields.need("spec")?.clone();
    let base = Fields::new(&spec, "spec")?.take("baseProfileName");
    let base =
        base.filter(|node| node.value != Value::Null && node.value != Value::Text("".into()));
    let base = match base {
        Some(node) => Some((node.text("baseProfileName")?.to_owned(), node.span)),
        None => None,
    };
    Ok(Document { name, spec, base })
}

#[cfg(test)]
mod tests {
    use strait_abi::{Arch, KernelVersion};
    use strait_bpf::Action;

    use super::*;

    #[test]
    fn what_goes_out_comes_back() {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let text = "
apiVersion: security-profiles-operator.x-k8s.io/v1beta1
kind: SeccompProfile
metadata: {name: web, namespace: prod}
spec:
  defaultAction: SCMP_ACT_ERRNO
  architectures: [SCMP_ARCH_X86_64]
  syscalls:
  - action: SCMP_ACT_ALLOW
    names: [read, exit_group]
  - action: SCMP_ACT_ALLOW
    names: [socket]
    args: [{index: 0, value: 1, op: SCMP_CMP_EQ}]
";
        let policy = import(text, &target).unwrap().policy;
        assert_eq!(policy.metadata.name.as_deref(), Some("web"));
        assert_eq!(policy.default, Action::Errno(1));
        let exported = export(&policy, &target).unwrap();
        assert_eq!(exported.losses, []);
        let again = import(&exported.text, &target).unwrap().policy;
        assert_eq!(again, policy, "{}", exported.text);
    }

    #[test]
    fn other_objects_are_refused() {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let head = "apiVersion: security-profiles-operator.x-k8s.io/v1beta1\n";
        for (text, message) in [
            ("kind: SelinuxProfile\n".to_owned(), "a `SelinuxProfile`"),
            ("kind: SeccompProfile\napiVersion: v1\n".to_owned(), "apiVersion"),
            (
                format!(
                    "{head}kind: SeccompProfile\nspec: {{baseProfileName: x, defaultAction: SCMP_ACT_ERRNO}}\n"
                ),
                "line 3, column 25: it refers to `x`",
            ),
            (format!("{head}kind: SeccompProfile\n"), "`spec` is missing"),
        ] {
            let error = import(&text, &target).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    const SEVERAL: &str = "---
apiVersion: security-profiles-operator.x-k8s.io/v1beta1
kind: SeccompProfile
metadata: {name: web}
spec:
  baseProfileName: runc
  defaultAction: SCMP_ACT_ERRNO
  architectures: [SCMP_ARCH_X86_64]
  syscalls: [{action: SCMP_ACT_ALLOW, names: [socket]}]
---
apiVersion: security-profiles-operator.x-k8s.io/v1beta1
kind: SeccompProfile
metadata: {name: runc}
spec:
  defaultAction: SCMP_ACT_ERRNO
  syscalls: [{action: SCMP_ACT_ALLOW, names: [read, execve]}]
";

    #[test]
    fn one_of_several_is_chosen_and_stands_on_another() {
        let mut target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let error = import(SEVERAL, &target).unwrap_err().to_string();
        assert!(error.contains("`web`, `runc`"), "{error}");
        target.thread = Some("web".into());
        let policy = import(SEVERAL, &target).unwrap().policy;
        let allows = |policy: &Policy, name: &str| {
            let rules = policy.lower().unwrap();
            let nr = strait_abi::Syscall::from_name(name).unwrap().number(Arch::X86_64).unwrap();
            let call = strait_bpf::SeccompData::new(Arch::X86_64.audit_arch(), nr);
            rules.decide(&call) == Action::Allow
        };
        assert!(["socket", "read", "execve"].iter().all(|name| allows(&policy, name)));
        target.thread = Some("runc".into());
        assert!(!allows(&import(SEVERAL, &target).unwrap().policy, "socket"));
        // The other may be a file of its own.
        let (web, runc) = SEVERAL.rsplit_once("---\n").unwrap();
        let missing = import(web, &target).unwrap_err();
        assert!(matches!(missing, FormatError::MissingFile { ref name, .. } if name == "runc"));
        target.files.insert("runc".into(), runc.into());
        assert_eq!(import(web, &target).unwrap().policy.rules, policy.rules);
        // And not stand on the first.
        target.files.insert("runc".into(), web.replace("name: web", "name: runc"));
        let error = import(web, &target).unwrap_err().to_string();
        assert!(error.contains("line 6, column 20") && error.contains("on itself"), "{error}");
    }

    #[test]
    fn mistakes_in_a_later_document_are_pointed_at() {
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let wrong = SEVERAL.replace("names: [read, execve]", "names: 7");
        let target = Target { thread: Some("runc".into()), ..target };
        let error = import(&wrong, &target).unwrap_err().to_string();
        assert!(error.contains("line 16, column"), "{error}");
        let wrong = SEVERAL.replace("metadata: {name: runc}", "metadata: {name: [");
        let error = import(&wrong, &target).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
