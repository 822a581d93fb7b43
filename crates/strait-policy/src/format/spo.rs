//! `SeccompProfile` of the Security Profiles Operator: an OCI profile as a Kubernetes object.

use serde_json::Value;

use super::{Codec, Exported, FormatError, Imported, Target, as_text, oci};
use crate::policy::Policy;
use crate::text::{self, Fields, Node, Problem};

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

/// What the runtime would install on the target, as a policy.
///
/// # Errors
/// If the text is no profile, or one that stands on another that is not in it.
pub fn import(text: &str, target: &Target) -> Result<Imported, FormatError> {
    let root = text::read_yaml(text).map_err(|fault| fault.in_text(text))?;
    let (name, spec) = spec(&root).map_err(|fault| fault.in_text(text))?;
    let mut imported = oci::import_profile(spec, text, target)?;
    imported.policy.metadata.name = name;
    Ok(imported)
}

/// The policy as a profile for the machine's runtime, with the losses of [`oci::export`].
///
/// # Errors
/// If the policy has no meaning.
pub fn export(policy: &Policy, target: &Target) -> Result<Exported, FormatError> {
    let Exported { text: json, losses, notes } = oci::export(policy, target)?;
    let profile: Value = serde_json::from_str(&json).map_err(|_| FormatError::Inexpressible {
        what: "the profile".to_owned(),
        right: "this is a defect of Strait".to_owned(),
    })?;
    let name = policy.metadata.name.as_deref().unwrap_or("profile");
    let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata:\n");
    text.push_str(&format!("  name: {}\nspec:\n", Value::from(name)));
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
        let args = rule.get("args").and_then(Value::as_array).into_iter().flatten();
        for (index, arg) in args.enumerate() {
            text.push_str(if index == 0 { "      args:\n" } else { "" });
            text.push_str(&format!("        - {arg}\n"));
        }
    }
    Ok(Exported { text, losses, notes })
}

/// The object's name, and the profile in it.
fn spec(root: &Node) -> Result<(Option<String>, &Node), text::Fault> {
    let mut fields = Fields::new(root, "the profile")?;
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
    let spec = fields.need("spec")?;
    if let Some(base) = Fields::new(spec, "spec")?.take("baseProfileName") {
        return Err(base.span.fault(Problem::Unsupported {
            what: "`baseProfileName`",
            right: "the profile stands on another: import both and merge the policies",
        }));
    }
    Ok((name, spec))
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
            (format!("{head}kind: SeccompProfile\nspec: {{baseProfileName: x}}\n"), "merge"),
            (format!("{head}kind: SeccompProfile\n"), "`spec` is missing"),
        ] {
            let error = import(&text, &target).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
