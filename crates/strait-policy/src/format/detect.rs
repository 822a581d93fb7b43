//! Which format a file is in.

use super::Format;
use crate::text::{self, Node, Value};

impl Format {
    /// The format that the bytes look like: what a person who wrote them meant, mistakes and all.
    /// A text that looks like none is taken for a policy, whose reader says what is wrong with it.
    pub fn detect(bytes: &[u8]) -> Format {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => text,
            _ => return Format::Bpf,
        };
        let sample = Sample { text, tree: text::read_yaml(text).ok() };
        let recognised = Format::ALL.iter().find(|format| (format.codec().recognises)(&sample));
        recognised.copied().unwrap_or(Format::Strait)
    }
}

/// A text whose format is looked for.
pub(crate) struct Sample<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// What it is as YAML or JSON, if it is that.
    pub(crate) tree: Option<Node>,
}

impl Sample<'_> {
    /// The value of the field `kind` of the document.
    pub(crate) fn kind(&self) -> Option<&str> {
        match &self.field("kind")?.value {
            Value::Text(kind) => Some(kind),
            _ => None,
        }
    }

    /// A field of the document.
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.tree.as_ref()?.value else { return None };
        entries.iter().find(|entry| &*entry.key == name).map(|entry| &entry.node)
    }

    /// Whether the document has one of these fields, or, if mistakes keep it from being read, the
    /// text has one of the words.
    pub(crate) fn has_any(&self, names: &[&str]) -> bool {
        match &self.tree {
            Some(_) => names.iter().any(|name| self.field(name).is_some()),
            None => names.iter().any(|name| self.text.contains(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use strait_abi::{Arch, KernelVersion};

    use super::super::{Target, loss::compare};
    use super::*;
    use crate::Policy;

    const POLICY: &str = "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  \
        architectures: [x86_64]\n  foreign: kill-thread\n  default: errno(EPERM)\n  rules:\n  \
        - {syscalls: [exit_group, read], action: allow}\n  \
        - {syscalls: [socket], when: domain == AF_UNIX, action: allow}\n";

    #[test]
    fn what_is_written_is_recognised_and_means_the_same() {
        let policy = Policy::parse(POLICY).unwrap();
        let target = Target::new(Arch::X86_64, KernelVersion::new(6, 18));
        let meaning = policy.lower().unwrap();
        for &format in Format::ALL.iter().filter(|format| **format != Format::Bpf) {
            let exported = format.export(&policy, &target).unwrap();
            let bytes = exported.text.as_bytes();
            assert_eq!(Format::detect(bytes), format, "{}", exported.text);
            let again = format.import(bytes, &target).unwrap().policy.lower().unwrap();
            let differences = compare(&meaning, &again, &policy.architectures);
            // LXC makes its filter for i386 and x32 too, whose calls the policy refuses.
            let elsewhere = if format == Format::Lxc { exported.losses.len() } else { 0 };
            assert_eq!(differences.unwrap().len() + elsewhere, exported.losses.len(), "{format}");
            assert_eq!(format.name().parse(), Ok(format));
        }
    }

    #[test]
    fn a_file_with_mistakes_is_still_what_it_was_meant_to_be() {
        for (bytes, format) in [
            (&b"{\"defaultAction\": 1 # x\n}"[..], Format::Oci),
            (b"kind: SyscallPolicy\nspec: [", Format::Strait),
            (b"", Format::Strait),
            (b"\x20\x00\x00\x00\x04\x00\x00\x00", Format::Bpf),
            (b"\xff\xfe", Format::Bpf),
            (b"{\"vmm\": {\"match_action\": ", Format::Seccompiler),
        ] {
            assert_eq!(Format::detect(bytes), format);
        }
    }
}
