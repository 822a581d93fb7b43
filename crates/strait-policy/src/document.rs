//! Reading the policy document: YAML or JSON text to a [`Policy`].

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use strait_abi::{Arch, Syscall};
use strait_bpf::Action;

use crate::action::parse_action;
use crate::network::Network;
use crate::policy::{
    API_VERSION, Architectures, Declared, Exec, FileDigest, Identity, Isolation, KIND, Metadata,
    Necessity, Numbers, Observed, Policy, Reachable, RecordingSource, Rule, Step, Unknown,
};
use crate::sets::Set;
use crate::text::{
    self, Entry, Fault, Fields, Node, ParseError, Problem, Span, Value, nearest, whole_number,
};
use crate::when::When;

impl Policy {
    /// Reads a policy from YAML or JSON.
    ///
    /// # Errors
    /// The first thing that is wrong: where it stands, what it is and what would be right.
    pub fn parse(text: &str) -> Result<Policy, ParseError> {
        text::read_yaml(text)
            .and_then(|root| document(&root, text))
            .map_err(|fault| fault.in_text(text))
    }
}

/// `text` is what `root` was read from.
fn document(root: &Node, text: &str) -> Result<Policy, Fault> {
    let mut fields = Fields::new(root, "the document")?;
    let kind = fields.need("kind")?;
    if kind.text("kind")? != KIND {
        let found = kind.text("kind")?.to_owned();
        return Err(kind.span.fault(Problem::Kind { found, expected: KIND }));
    }
    let version = fields.need("apiVersion")?;
    if version.text("apiVersion")? != API_VERSION {
        return Err(version.span.fault(Problem::Invalid {
            what: "apiVersion",
            value: version.text("apiVersion")?.to_owned(),
            right: format!("this version of Strait reads `{API_VERSION}`"),
        }));
    }
    let metadata = fields.take("metadata").map_or(Ok(Metadata::default()), metadata)?;
    let spec = fields.need("spec")?;
    fields.finish()?;

    let mut fields = Fields::new(spec, "spec")?;
    let identity = fields.take("identity").map(identity).transpose()?;
    let architectures = architectures(fields.need("architectures")?)?;
    let default = action(fields.need("default")?, "default")?;
    let mut policy = Policy::new(architectures, default);
    if let Some(node) = fields.take("foreign") {
        policy.foreign = action(node, "foreign")?;
    }
    policy.metadata = metadata;
    policy.identity = identity;
    policy.unknown = fields.take("unknown").map(unknown).transpose()?;
    policy.exec = fields.take("exec").map(exec).transpose()?;
    if let Some(node) = fields.take("isolation") {
        policy.isolation = isolation(node)?;
    }
    policy.network = fields.take("network").map(network).transpose()?;
    if let Some(list) = fields.take("include") {
        policy.include = list.list("include")?.iter().map(set).collect::<Result<_, _>>()?;
    }
    if let Some(node) = fields.take("rules") {
        let rules = node.list("rules")?.iter();
        policy.rules =
            rules.map(|node| rule(node, text, &policy.architectures)).collect::<Result<_, _>>()?;
    }
    if let Some(node) = fields.take("steps") {
        policy.steps = steps(node, text, &policy.architectures)?;
    }
    if let Some(node) = fields.take("recordings") {
        policy.recordings =
            node.list("recordings")?.iter().map(recording_source).collect::<Result<_, _>>()?;
    }
    if let Some(node) = fields.take("necessity") {
        policy.necessity = ledger(node)?;
    }
    fields.finish()?;
    Ok(policy)
}

/// The name of a set.
fn set(node: &Node) -> Result<String, Fault> {
    let name = node.text("include")?;
    if Set::from_name(name).is_none() {
        return Err(node.span.fault(Problem::unknown_name(
            "set",
            name,
            Set::ALL.iter().map(Set::name),
        )));
    }
    Ok(name.to_owned())
}

fn metadata(node: &Node) -> Result<Metadata, Fault> {
    let mut fields = Fields::new(node, "metadata")?;
    let metadata = Metadata {
        name: fields.text("name")?,
        labels: text_map(fields.take("labels"), "labels")?,
        annotations: text_map(fields.take("annotations"), "annotations")?,
    };
    fields.finish()?;
    Ok(metadata)
}

fn text_map(node: Option<&Node>, field: &str) -> Result<BTreeMap<String, String>, Fault> {
    let entries = node.map_or(Ok(&[][..]), |node| node.map(field))?;
    entries
        .iter()
        .map(|entry| Ok((entry.key.to_string(), entry.node.text(&entry.key)?.to_owned())))
        .collect()
}

fn identity(node: &Node) -> Result<Identity, Fault> {
    let mut fields = Fields::new(node, "identity")?;
    let identity = Identity {
        name: fields.need("name")?.text("name")?.to_owned(),
        kind: fields.text("kind")?,
        owner: fields.text("owner")?,
        secrets: fields.texts("secrets")?,
    };
    fields.finish()?;
    Ok(identity)
}

fn architectures(node: &Node) -> Result<Architectures, Fault> {
    let arches = names(node, "architectures", arch)?;
    Architectures::new(arches).ok_or_else(|| {
        let field = "architectures".to_owned();
        let right = "name at least one, such as x86_64";
        node.span.fault(Problem::EmptyList { field, right })
    })
}

fn action(node: &Node, field: &str) -> Result<Action, Fault> {
    parse_action(node.text(field)?).map_err(|problem| node.span.fault(problem))
}

fn unknown(node: &Node) -> Result<Unknown, Fault> {
    let mut fields = Fields::new(node, "unknown")?;
    let unknown = Unknown {
        after: parsed(
            fields.need("after")?,
            "after",
            "kernel version",
            "write MAJOR.MINOR, such as \"6.18\"",
        )?,
        action: action(fields.need("action")?, "action")?,
    };
    fields.finish()?;
    Ok(unknown)
}

fn exec(node: &Node) -> Result<Exec, Fault> {
    let mut fields = Fields::new(node, "exec")?;
    let list = fields.need("allow")?;
    let (mut allow, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let strict = fields.take("strict").map(|node| node.boolean("strict")).transpose()?;
    let strict = strict.unwrap_or(false);
    for entry in list.list("allow")? {
        let path = entry.text("allow")?;
        if path.starts_with(FileDigest::PREFIX) {
            let invalid = |right: &str| {
                entry.span.fault(Problem::Invalid {
                    what: "digest",
                    value: path.to_owned(),
                    right: right.to_owned(),
                })
            };
            let digest = FileDigest::parse(path).ok_or_else(|| {
                invalid("write `sha256:` and 64 digits of 0-9a-f, as sha256sum prints")
            })?;
            if !strict {
                return Err(invalid("a file is told by its digest only with `strict: true`"));
            }
            digests.insert(digest);
            continue;
        }
        let plain = path.split('/').skip(1).all(|part| part != ".." && part != ".");
        if !path.starts_with('/') || !plain || path.contains('\0') {
            return Err(entry.span.fault(Problem::Invalid {
                what: "path",
                value: path.to_owned(),
                right: "write an absolute path without `.` and `..`".to_owned(),
            }));
        }
        allow.insert(path.to_owned());
    }
    let exec = Exec {
        allow,
        digests,
        shells: allowed(fields.take("shells"), "shells")?,
        interpreters: allowed(fields.take("interpreters"), "interpreters")?,
        strict,
    };
    fields.finish()?;
    Ok(exec)
}

fn isolation(node: &Node) -> Result<Isolation, Fault> {
    let mut fields = Fields::new(node, "isolation")?;
    let other_processes = !allowed(fields.take("other-processes"), "other-processes")?;
    fields.finish()?;
    Ok(Isolation { other_processes })
}

fn network(node: &Node) -> Result<Network, Fault> {
    let mut fields = Fields::new(node, "network")?;
    let network = Network {
        connect: entries(fields.take("connect"), "connect", "address")?,
        listen: entries(fields.take("listen"), "listen", "address")?,
        unix: entries(fields.take("unix"), "unix", "name of a socket")?,
    };
    fields.finish()?;
    Ok(network)
}

/// A list of texts that their type can read, and which says itself what would be right; none is an
/// empty list.
fn entries<T>(list: Option<&Node>, field: &str, what: &'static str) -> Result<BTreeSet<T>, Fault>
where
    T: FromStr<Err: std::fmt::Display> + Ord,
{
    let Some(list) = list else { return Ok(BTreeSet::new()) };
    let read = |node: &Node| {
        let text = node.text(field)?;
        text.parse().map_err(|error: T::Err| {
            let (value, right) = (text.to_owned(), error.to_string());
            node.span.fault(Problem::Invalid { what, value, right })
        })
    };
    list.list(field)?.iter().map(read).collect()
}

/// `allow` or `deny`; what is not mentioned is allowed.
fn allowed(node: Option<&Node>, what: &'static str) -> Result<bool, Fault> {
    let Some(node) = node else { return Ok(true) };
    match node.text(what)? {
        "allow" => Ok(true),
        "deny" => Ok(false),
        other => Err(node.span.fault(Problem::Invalid {
            what,
            value: other.to_owned(),
            right: "write `allow` or `deny`".to_owned(),
        })),
    }
}

fn rule(node: &Node, text: &str, architectures: &Architectures) -> Result<Rule, Fault> {
    let mut fields = Fields::new(node, "a rule")?;
    let mut rule = Rule::new([], Action::KillProcess);
    let (calls, numbered) = (fields.take("syscalls"), fields.take("numbers"));
    if let Some(list) = calls {
        rule.syscalls = names(list, "syscalls", known_syscall)?;
    }
    if let Some(list) = numbered {
        rule.numbers = numbers(list)?;
    }
    if rule.syscalls.is_empty() && rule.numbers.is_empty() {
        let field = "syscalls".to_owned();
        let right = "name at least one system call, or remove the rule";
        return Err(calls.unwrap_or(node).span.fault(Problem::EmptyList { field, right }));
    }
    match (fields.take("arch"), numbered) {
        (Some(list), _) => rule.arch = names(list, "arch", arch)?,
        (None, None) => {}
        (None, Some(numbers)) => {
            return Err(numbers.span.fault(Problem::Unsupported {
                what: "`numbers` without `arch`",
                right: "a number is another call on each architecture: say which it is for",
            }));
        }
    }
    if let Some(node) = fields.take("when") {
        rule.when = Some(when(node, text, &rule, architectures)?);
    }
    rule.action = action(fields.need("action")?, "action")?;
    fields.finish()?;
    Ok(rule)
}

/// The steps in the order that their `after` gives them, whatever the order of the mapping: JSON and
/// what is stored as JSON keep none.
fn steps(node: &Node, text: &str, architectures: &Architectures) -> Result<Vec<Step>, Fault> {
    let mut read = Vec::new();
    let mut followers: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for entry in node.map("steps")? {
        let mut fields = Fields::new(&entry.node, &entry.key)?;
        let after = fields.take("after");
        let ready = fields.take("ready");
        let ready = ready.map(|list| names(list, "ready", known_syscall)).transpose()?;
        let rules = fields.need("rules")?.list("rules")?.iter();
        let rules = rules.map(|node| rule(node, text, architectures)).collect::<Result<_, _>>()?;
        fields.finish()?;
        let after = after.map(|node| Ok((node, node.text("after")?))).transpose()?;
        followers.entry(after.map(|(_, name)| name)).or_insert(read.len());
        let (name, ready) = (entry.key.to_string(), ready.unwrap_or_default());
        read.push((entry, after, Some(Step { name, ready, rules })));
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut last = None;
    while let Some(next) = followers.remove(&last) {
        let (entry, _, step) = &mut read[next];
        last = Some(&*entry.key);
        steps.extend(step.take());
    }
    // What is left hangs on nothing, or on a step that another has come after already.
    if let Some((entry, after, _)) = read.iter().find(|(.., step)| step.is_some()) {
        let (span, value) = match after {
            Some((node, name)) => (node.span, (*name).to_owned()),
            None => (entry.key_span, entry.key.to_string()),
        };
        return Err(span.fault(Problem::Invalid {
            what: "order of steps",
            value,
            right:
                "steps are a chain: one is without `after`, and each other has `after` with the \
                    name of the one before it"
                    .to_owned(),
        }));
    }
    Ok(steps)
}

/// The condition of a rule, which must have a meaning for each of its calls on each of its ABIs.
fn when(
    node: &Node,
    text: &str,
    rule: &Rule,
    architectures: &Architectures,
) -> Result<When, Fault> {
    let condition = node.text("when")?;
    // The scalar may be quoted; one with escapes is pointed at as a whole.
    let source = &text[node.span.range(text)];
    let inner = source.find(condition).map(|at| node.span.start_at(at));
    let locate = |span: Span| inner.map_or(node.span, |start| span.shifted(start));
    let when = When::read(condition).map_err(|fault| locate(fault.span).fault(*fault.problem))?;
    if !rule.numbers.is_empty() && !when.uses_registers_only() {
        return Err(node.span.fault(Problem::Unsupported {
            what: "a named argument in a rule with `numbers`",
            right: "a number has no names for its arguments: use `arg0` to `arg5`",
        }));
    }
    for arch in architectures.iter() {
        for &call in rule.syscalls.iter().filter(|&&call| rule.applies_to(call, arch)) {
            if call.number(arch).is_some() {
                let resolved = when.condition(call, arch);
                resolved.map_err(|error| locate(error.span).fault(error.problem))?;
            }
        }
    }
    Ok(when)
}

fn recording_source(node: &Node) -> Result<RecordingSource, Fault> {
    let mut fields = Fields::new(node, "a recording")?;
    let source = RecordingSource {
        digest: fields.need("digest")?.text("digest")?.to_owned(),
        engine: fields.need("engine")?.text("engine")?.to_owned(),
        kernel: fields.need("kernel")?.text("kernel")?.to_owned(),
        gaps: fields.texts("gaps")?,
    };
    fields.finish()?;
    Ok(source)
}

fn ledger(node: &Node) -> Result<BTreeMap<Syscall, Vec<Necessity>>, Fault> {
    let entries = node.map("necessity")?.iter().map(|entry| {
        let call = known_syscall(&entry.key).map_err(|problem| entry.key_span.fault(problem))?;
        let list = entry.node.list(&entry.key)?;
        Ok((call, list.iter().map(necessity).collect::<Result<_, _>>()?))
    });
    entries.collect()
}

fn necessity(node: &Node) -> Result<Necessity, Fault> {
    const KINDS: &[&str] = &["observed", "reachable", "neededBy", "declared"];
    let [Entry { key, key_span, node: body }] = node.map("a necessity")? else {
        return Err(node.span.fault(Problem::Invalid {
            what: "necessity",
            value: "a mapping".to_owned(),
            right: "each entry of the list has one key: observed, reachable, neededBy or declared"
                .to_owned(),
        }));
    };
    let mut fields = Fields::new(body, key)?;
    let necessity = match &**key {
        "observed" => Necessity::Observed(Observed {
            recording: fields.need("recording")?.text("recording")?.to_owned(),
            arch: match fields.take("arch") {
                Some(list) => names(list, "arch", arch)?,
                None => BTreeSet::new(),
            },
            count: fields.take("count").map(|node| node.u64("count")).transpose()?,
            args: observed_args(fields.take("args"))?,
            images: fields.texts("images")?,
        }),
        "reachable" => Necessity::Reachable(Reachable {
            function: fields.need("function")?.text("function")?.to_owned(),
            library: fields.text("library")?,
        }),
        "neededBy" => {
            Necessity::NeededBy { runtime: fields.need("runtime")?.text("runtime")?.to_owned() }
        }
        "declared" => Necessity::Declared(Declared {
            by: fields.need("by")?.text("by")?.to_owned(),
            reason: fields.need("reason")?.text("reason")?.to_owned(),
            expires: fields
                .take("expires")
                .map(|node| parsed(node, "expires", "day", "write YYYY-MM-DD, such as 2027-01-31"))
                .transpose()?,
        }),
        other => {
            return Err(key_span.fault(Problem::unknown_name(
                "kind of necessity",
                other,
                KINDS.iter().copied(),
            )));
        }
    };
    fields.finish()?;
    Ok(necessity)
}

fn observed_args(node: Option<&Node>) -> Result<BTreeMap<String, Vec<String>>, Fault> {
    let entries = node.map_or(Ok(&[][..]), |node| node.map("args"))?;
    let value = |node: &Node| match &node.value {
        // A value without a name is a number, and read as it was written.
        Value::Number(text) if whole_number(text.trim_start_matches('-')).is_some() => {
            Ok(text.to_string())
        }
        Value::Number(_) => Err(node.wrong("args", "a whole number or a text")),
        _ => node.text("args").map(str::to_owned),
    };
    entries
        .iter()
        .map(|entry| {
            let values =
                entry.node.list(&entry.key)?.iter().map(value).collect::<Result<_, _>>()?;
            Ok((entry.key.to_string(), values))
        })
        .collect()
}

/// A list of names, each once.
fn names<T: Ord>(
    list: &Node,
    field: &str,
    read: impl Fn(&str) -> Result<T, Problem>,
) -> Result<BTreeSet<T>, Fault> {
    let mut names = BTreeSet::new();
    for node in list.list(field)? {
        let name = node.text(field)?;
        if !names.insert(read(name).map_err(|problem| node.span.fault(problem))?) {
            let (name, field) = (name.to_owned(), field.to_owned());
            return Err(node.span.fault(Problem::DuplicateName { name, field }));
        }
    }
    Ok(names)
}

/// A list of numbers and ranges of numbers.
fn numbers(list: &Node) -> Result<Numbers, Fault> {
    let mut numbers = Numbers::default();
    for node in list.list("numbers")? {
        let text = match &node.value {
            Value::Number(text) => text,
            _ => node.text("numbers")?,
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| u32::try_from(whole_number(text.trim())?).ok();
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => numbers.insert(first, last),
            _ => {
                let right = "write a number such as 336, or a range such as \"336-386\"";
                return Err(node.span.fault(Problem::Invalid {
                    what: "range of numbers",
                    value: text.to_string(),
                    right: right.to_owned(),
                }));
            }
        }
    }
    Ok(numbers)
}

/// The system call of that name.
pub(crate) fn known_syscall(name: &str) -> Result<Syscall, Problem> {
    Syscall::from_name(name).ok_or_else(|| {
        Problem::unknown_name("system call", name, Syscall::all().map(Syscall::name))
    })
}

/// The ABI of that name.
pub(crate) fn arch(name: &str) -> Result<Arch, Problem> {
    name.parse().map_err(|_| Problem::UnknownName {
        what: "architecture",
        name: name.to_owned(),
        nearest: foreign_arch(name)
            .map(str::to_owned)
            .or_else(|| nearest(name, Arch::ALL.iter().map(|arch| arch.name()))),
        known: Vec::new(),
    })
}

/// What other tools call the same ABI, for the suggestion only.
fn foreign_arch(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "amd64" | "x86-64" | "x64" => "x86_64",
        "x86" | "i686" | "i586" | "ia32" => "i386",
        "arm64" => "aarch64",
        "armv7l" | "armhf" => "arm",
        "ppc64el" => "ppc64le",
        oci => Arch::ALL.iter().find(|arch| arch.oci_name().eq_ignore_ascii_case(oci))?.name(),
    })
}

/// A text that its type can read.
fn parsed<T: FromStr>(
    node: &Node,
    field: &str,
    what: &'static str,
    right: &str,
) -> Result<T, Fault> {
    let text = node.text(field)?;
    text.parse().map_err(|_| {
        let (value, right) = (text.to_owned(), right.to_owned());
        node.span.fault(Problem::Invalid { what, value, right })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::documents::{BEYOND, accepts};

    const EXAMPLE: &str = r#"
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: payments-api}
spec:
  identity: {name: payments-sa, kind: kubernetes-service-account, owner: team-payments, secrets: [stripe-key]}
  architectures: [x86_64]
  default: errno(EPERM)
  unknown: {after: "6.18", action: errno(ENOSYS)}
  include: [set:io]
  rules:
    - {syscalls: [read, write, close], action: allow}
    - {syscalls: [socket], when: "domain in {AF_UNIX, AF_INET, AF_INET6}", action: allow}
    - {syscalls: [clone3], action: errno(ENOSYS)}
  steps: {}
  necessity:
    read: [{observed: {recording: "sha256:00", count: 1822, images: [/bin/x]}}]
    socket: [{observed: {recording: "sha256:00", args: {domain: [AF_INET, 10]}}}]
    clone3: [{declared: {by: platform-team, reason: "glibc falls back to clone", expires: 2027-01-31}}]
"#;

    #[test]
    fn a_file_is_told_by_its_digest_where_programs_are_looked_at() {
        let of = |exec: &str| {
            Policy::parse(&format!(
                "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                 architectures: [x86_64]\n  default: allow\n  exec: {exec}\n"
            ))
        };
        let digest = format!("sha256:{}", "0f".repeat(32));
        let policy = of(&format!("{{allow: [/bin/sh, \"{digest}\"], strict: true}}")).unwrap();
        let exec = policy.exec.as_ref().unwrap();
        assert!(exec.strict && exec.allow.len() == 1);
        assert_eq!(exec.digests.iter().map(ToString::to_string).collect::<Vec<_>>(), [&*digest]);
        assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
        for (exec, expected) in [
            (format!("{{allow: [\"{digest}\"]}}"), "only with `strict: true`"),
            (format!("{{allow: [\"{}\"], strict: true}}", digest.to_uppercase()), "absolute path"),
            (format!("{{allow: [\"{}\"], strict: true}}", &digest[..70]), "64 digits"),
            (format!("{{allow: [\"{digest}0\"], strict: true}}"), "64 digits"),
            (format!("{{allow: [\"{}g\"], strict: true}}", &digest[..70]), "64 digits"),
            ("{allow: [], strict: yes}".to_owned(), "true or false"),
        ] {
            let error = of(&exec).unwrap_err().to_string();
            assert!(error.contains(expected), "{exec}: {error}");
        }
    }

    #[test]
    fn where_a_workload_may_get_to_is_read_and_printed_back() {
        let of = |network: &str| {
            Policy::parse(&format!(
                "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
                 architectures: [x86_64]\n  default: allow\n  network: {network}\n"
            ))
        };
        for network in [
            "{}",
            "{connect: ['10.0.0.0/8:443', '*:53'], listen: ['[::1]:0'], unix: [/run/x, /run/y/, '@z']}",
        ] {
            let policy = of(network).unwrap();
            assert!(policy.network.is_some());
            assert_eq!(Policy::parse(&policy.to_string()).unwrap(), policy);
            assert_eq!(Policy::parse(&policy.to_json()).unwrap(), policy);
        }
        for (network, expected) in [
            ("{connect: ['example.com:443']}", "names are not resolved"),
            ("{connect: ['10.0.0.1/8:443']}", "bits after those of its block"),
            ("{listen: ['[::ffff:1.2.3.4]:1']}", "an IPv4 address"),
            ("{connect: [443]}", "must be a text"),
            ("{unix: [run/x]}", "an absolute path"),
            ("{conect: []}", "did you mean `connect`?"),
        ] {
            let error = of(network).unwrap_err().to_string();
            assert!(error.contains(expected), "{network}: {error}");
        }
    }

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let policy = Policy::parse(EXAMPLE).unwrap();
        assert_eq!(policy.metadata.name.as_deref(), Some("payments-api"));
        assert_eq!(policy.rules.len(), 3);
        assert_eq!(policy.rules[2].action, Action::Errno(38));
        assert_eq!(policy.necessity.len(), 3);
        let socket = &policy.necessity[&Syscall::from_name("socket").unwrap()];
        let Necessity::Observed(observed) = &socket[0] else { panic!("{socket:?}") };
        assert_eq!(observed.args["domain"], ["AF_INET", "10"]);
    }

    /// Replaces `from` in the example and gives the message and the text that it points at.
    fn error(from: &str, to: &str) -> (String, String) {
        assert!(EXAMPLE.contains(from));
        let text = EXAMPLE.replacen(from, to, 1);
        let error = Policy::parse(&text).unwrap_err();
        (error.to_string(), text[error.place.start..error.place.end].to_owned())
    }

    #[test]
    fn what_is_wrong_is_pointed_at_with_what_would_be_right() {
        for (from, to, message, place) in [
            (
                "write,",
                "wriet,",
                "line 12, column 25: `wriet` is no known system call; did you mean `write`?",
                "wriet",
            ),
            ("[x86_64]", "[amd64]", "no known architecture; did you mean `x86_64`?", "amd64"),
            ("[x86_64]", "[SCMP_ARCH_X86_64]", "did you mean `x86_64`?", "SCMP_ARCH_X86_64"),
            ("[x86_64]", "x86_64", "`architectures` must be a list, not a text", "x86_64"),
            ("[x86_64]", "[]", "`architectures` is empty", "[]"),
            (
                "default: errno(EPERM)",
                "default: errno(EPREM)",
                "did you mean `EPERM`?",
                "errno(EPREM)",
            ),
            (
                "default: errno(EPERM)",
                "default: 1",
                "`default` must be a text (put it in quotes), not a number",
                "1",
            ),
            (
                "action: allow",
                "actoin: allow",
                "`actoin` is no field of a rule; did you mean `action`?",
                "actoin",
            ),
            (", action: allow}", "}", "`action` is missing from a rule", ""),
            ("  rules:", "  ruls:", "`ruls` is no field of spec; did you mean `rules`?", "ruls"),
            ("\"6.18\"", "6.18", "put it in quotes", "6.18"),
            ("\"6.18\"", "\"6\"", "MAJOR.MINOR", "\"6\""),
            ("[read, write, close]", "[]", "name at least one system call", "[]"),
            ("write,", "read,", "`read` stands twice in `syscalls`", "read"),
            (
                "observed:",
                "observd:",
                "no known kind of necessity; did you mean `observed`?",
                "observd",
            ),
            ("2027-01-31", "2027-02-31", "YYYY-MM-DD", "2027-02-31"),
            ("steps: {}", "steps: {serve: {}}", "`rules` is missing from serve", ""),
            ("steps: {}", "steps: {a: {rules: []}, b: {rules: []}}", "steps are a chain", "b"),
            ("steps: {}", "steps: {a: {after: b, rules: []}}", "steps are a chain", "b"),
            (
                "steps: {}",
                "steps: {a: {ready: [lisen], rules: []}}",
                "did you mean `listen`",
                "lisen",
            ),
            (
                "kind: SyscallPolicy",
                "kind: SeccompProfile",
                "a `SeccompProfile`, not a `SyscallPolicy`",
                "SeccompProfile",
            ),
            ("v1alpha1", "v2", "reads `strait.dev/v1alpha1`", "strait.dev/v2"),
            (
                "AF_INET6",
                "AF_INTE6",
                "line 13, column 64: `AF_INTE6` is no value of `domain` of `socket` on x86_64; did you mean `AF_INET6`?",
                "AF_INTE6",
            ),
            (
                "domain in",
                "domian in",
                "`socket` has no argument `domian`; did you mean `domain`?",
                "domian",
            ),
            ("domain in", "domain on", "a comparison was expected", "on"),
            ("AF_INET6", "0x100000001", "takes 32 bits as `domain` on x86_64", "domain"),
            ("[socket]", "[socket, bind]", "`bind` has no argument `domain`", "domain"),
            (
                "[socket], when: \"domain in {AF_UNIX, AF_INET, AF_INET6}\"",
                "[clone3], when: flags == 0",
                "no filter can read",
                "flags",
            ),
            (
                "[socket], when: \"domain in {AF_UNIX, AF_INET, AF_INET6}\"",
                "[kill], when: sig < -1",
                "without sign",
                "sig",
            ),
            ("count: 1822", "count: -3", "must be a whole number", "-3"),
        ] {
            let (found, at) = error(from, to);
            assert!(found.contains(message), "{found:?} does not say {message:?}");
            let beyond = BEYOND.iter().any(|beyond| found.contains(beyond));
            let schema = accepts(&EXAMPLE.replacen(from, to, 1));
            assert_eq!(schema, Some(beyond), "what the schema says where the reader says: {found}");
            assert!(place.is_empty() || at == place, "{found:?} points at {at:?}");
        }
    }

    #[test]
    fn documents_that_are_no_policy_are_refused() {
        for (text, message) in [
            ("", "empty"),
            ("- a\n", "must be a mapping, not a list"),
            ("just text", "must be a mapping, not a text"),
            ("{\"kind\": \"SyscallPolicy\"", "`,` or `}` was expected"),
            ("a: [\n", "line 1, column 4"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert_ne!(accepts(text), Some(true), "{text}");
        }
        let large = "#".repeat(crate::text::MAX_BYTES + 1);
        assert!(matches!(*Policy::parse(&large).unwrap_err().problem, Problem::TooLarge { .. }));
    }

    #[test]
    fn json_is_read_too() {
        let text = r#"{"apiVersion": "strait.dev/v1alpha1", "kind": "SyscallPolicy",
            "spec": {"architectures": ["x86_64", "i386"], "default": "kill-process",
                     "rules": [{"syscalls": ["read"], "arch": ["i386"], "action": "log"}]}}"#;
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.rules[0].arch, BTreeSet::from([Arch::I386]));
        assert_eq!(policy.default, Action::KillProcess);
    }
}
