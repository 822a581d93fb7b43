//! The kernel's types, as many of them as the recorder's programs name.
//!
//! The kernel describes over a hundred thousand types in 5 MB. The loader reads all of them, and looks
//! through all of them for each structure of the programs, which took most of the time until a recording
//! began. Here they are looked through once, and what is needed becomes descriptions of its own.
//!
//! The format is that of Documentation/bpf/btf.rst of the kernel.

use std::collections::BTreeMap;

/// The kernel's structures of which the programs read members: what is `RELOCATED` in `bpf/kernel.h`. In
/// order.
const RELOCATED: [&str; 26] = [
    "atomic_t",
    "css_set",
    "dentry",
    "file",
    "fs_struct",
    "inode",
    "io_kiocb",
    "k_sigaction",
    "linux_binprm",
    "mm_struct",
    "mnt_namespace",
    "mount",
    "net",
    "ns_common",
    "nsproxy",
    "path",
    "pid",
    "pid_namespace",
    "pt_regs",
    "qstr",
    "seccomp",
    "sigaction",
    "task_struct",
    "thread_info",
    "upid",
    "vfsmount",
];

/// What the name of a tracepoint's type begins with.
const TRACEPOINT: &str = "btf_trace_";

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER: u32 = 24;

// Kinds, in bits 24 to 28 of a type's second word (include/uapi/linux/btf.h).
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Descriptions of types, in the kernel's format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needed {
    /// The structures that the programs read, and what these are made of, numbered anew.
    pub(super) structures: Vec<u8>,
    /// The tracepoints, with the kernel's numbers: what else is before them has no name.
    pub(super) tracepoints: Vec<u8>,
}

/// What is needed of the kernel's description to attach programs to these tracepoints; `None` if the
/// description is not in the known format.
pub(super) fn needed(description: &[u8], tracepoints: &[&str]) -> Option<Needed> {
    let all = Types::read(description)?;
    let mut structures = Kept::default();
    let mut attached = Description::default();
    for id in 1..=all.last() {
        let [name, info, _] = all.head(id)?;
        let kind = kind(info);
        if !matches!(kind, STRUCT | UNION | TYPEDEF) {
            continue;
        }
        let name = all.name(name)?;
        if RELOCATED.binary_search_by(|relocated| relocated.as_bytes().cmp(name)).is_ok() {
            structures.keep(&all, id)?;
        }
        if kind == TYPEDEF
            && let Some(point) = name.strip_prefix(TRACEPOINT.as_bytes())
            && tracepoints.iter().any(|tracepoint| tracepoint.as_bytes() == point)
        {
            while attached.count + 1 < id {
                attached.add([0, FWD << 24, 0], b"", &[]);
            }
            attached.add([0, info, 0], name, &[]);
        }
    }
    Some(Needed { structures: structures.described(&all)?, tracepoints: attached.bytes()? })
}

/// All types of a description.
struct Types<'a> {
    types: &'a [u8],
    names: &'a [u8],
    /// Where each type begins; the one with the number 0 is none.
    starts: Vec<usize>,
}

impl<'a> Types<'a> {
    fn read(description: &'a [u8]) -> Option<Types<'a>> {
        let header = |at| word(description, at).and_then(|word| usize::try_from(word).ok());
        let (length, types, names) =
            (header(4)?, (header(8)?, header(12)?), (header(16)?, header(20)?));
        let part = |(from, length_of): (usize, usize)| {
            let from = length.checked_add(from)?;
            description.get(from..from.checked_add(length_of)?)
        };
        if description.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let (types, names) = (part(types)?, part(names)?);
        let mut starts = vec![0];
        let mut at = 0;
        while at < types.len() {
            starts.push(at);
            at += 12 + rest(word(types, at + 4)?)?;
        }
        Some(Types { types, names, starts })
    }

    fn last(&self) -> u32 {
        u32::try_from(self.starts.len() - 1).unwrap_or(0)
    }

    /// A type's first three words: where its name is, what it is, and its size or what it is made of.
    fn head(&self, id: u32) -> Option<[u32; 3]> {
        let at = *self.starts.get(usize::try_from(id).ok()?)?;
        Some([word(self.types, at)?, word(self.types, at + 4)?, word(self.types, at + 8)?])
    }

    /// The words behind these.
    fn body(&self, id: u32) -> Option<Vec<u32>> {
        let at = *self.starts.get(usize::try_from(id).ok()?)? + 12;
        let words = rest(word(self.types, at - 8)?)? / 4;
        (0..words).map(|index| word(self.types, at + 4 * index)).collect()
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        let name = self.names.get(usize::try_from(at).ok()?..)?;
        name.split(|&byte| byte == 0).next()
    }
}

/// Types that are kept, with all that they are made of.
#[derive(Default)]
struct Kept {
    /// By the kernel's number, what each is numbered now.
    numbers: BTreeMap<u32, u32>,
    order: Vec<u32>,
}

impl Kept {
    fn keep(&mut self, all: &Types<'_>, id: u32) -> Option<()> {
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if id == 0 || self.numbers.contains_key(&id) {
                continue;
            }
            self.order.push(id);
            self.numbers.insert(id, u32::try_from(self.order.len()).ok()?);
            let [_, info, made_of] = all.head(id)?;
            match kind(info) {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => left.push(made_of),
                ARRAY => left.extend(&all.body(id)?[..2]),
                STRUCT | UNION => left.extend(all.body(id)?.chunks(3).map(|member| member[1])),
                // What a pointer leads to is another structure, with names of its own.
                _ => {}
            }
        }
        Some(())
    }

    fn described(&self, all: &Types<'_>) -> Option<Vec<u8>> {
        let mut kept = Description::default();
        let now = |id: u32| self.numbers.get(&id).copied().unwrap_or(0);
        for &id in &self.order {
            let ([name, info, mut made_of], mut body) = (all.head(id)?, all.body(id)?);
            match kind(info) {
                PTR | TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => made_of = now(made_of),
                ARRAY => body[..2].iter_mut().for_each(|id| *id = now(*id)),
                STRUCT | UNION => {
                    for member in body.chunks_mut(3) {
                        member[0] = kept.name(all.name(member[0])?);
                        member[1] = now(member[1]);
                    }
                }
                // Nobody asks for the names of values.
                ENUM => body.chunks_mut(2).for_each(|value| value[0] = 0),
                ENUM64 => body.chunks_mut(3).for_each(|value| value[0] = 0),
                _ => {}
            }
            kept.add([0, info, made_of], all.name(name)?, &body);
        }
        kept.bytes()
    }
}

/// A description that is written.
struct Description {
    types: Vec<u8>,
    names: Vec<u8>,
    count: u32,
}

impl Default for Description {
    fn default() -> Description {
        // The name at 0 is none.
        Description { types: Vec::new(), names: vec![0], count: 0 }
    }
}

impl Description {
    fn name(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.names.len()).unwrap_or(0);
        self.names.extend(name);
        self.names.push(0);
        at
    }

    fn add(&mut self, [_, info, made_of]: [u32; 3], name: &[u8], body: &[u32]) {
        let name = self.name(name);
        for word in [name, info, made_of].iter().chain(body) {
            self.types.extend(word.to_ne_bytes());
        }
        self.count += 1;
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        let [types, names] = [&self.types, &self.names].map(|part| u32::try_from(part.len()));
        let (types, names) = (types.ok()?, names.ok()?);
        let mut bytes = Vec::from(MAGIC.to_ne_bytes());
        bytes.extend([VERSION, 0]);
        for word in [HEADER, 0, types, types, names] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.names);
        Some(bytes)
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

/// How many bytes there are behind a type's first three words.
fn rest(info: u32) -> Option<usize> {
    let count = usize::try_from(info & 0xffff).ok()?;
    match kind(info) {
        PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => Some(0),
        INT | VAR | DECL_TAG => Some(4),
        ARRAY => Some(12),
        ENUM | FUNC_PROTO => Some(8 * count),
        STRUCT | UNION | DATASEC | ENUM64 => Some(12 * count),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_programs_read_is_known() {
        let header = include_str!("../../bpf/kernel.h");
        let mut relocated = Vec::new();
        // `struct NAME {` to `} RELOCATED;`, or `typedef struct {` to `} RELOCATED NAME;`.
        let mut opened = None;
        for line in header.lines() {
            if let Some(name) = line.strip_suffix(" {") {
                opened =
                    Some(name.trim_start_matches("typedef ").trim_start_matches("struct").trim());
            } else if let Some(end) = line.strip_prefix("} RELOCATED") {
                let name = end.trim_matches([' ', ';']);
                relocated.push(if name.is_empty() { opened.unwrap() } else { name });
            }
        }
        relocated.sort_unstable();
        assert_eq!(relocated, RELOCATED);
    }

    /// `struct path { struct other *member; }`, and the other, and a tracepoint's type.
    fn description(pointer: u32) -> Description {
        let mut description = Description::default();
        let member = description.name(b"member");
        description.add([0, STRUCT << 24 | 1, 8], b"path", &[member, 2, 0]);
        description.add([0, PTR << 24, pointer], b"", &[]);
        description
    }

    #[test]
    fn what_is_needed_is_kept() {
        let mut all = description(3);
        all.add([0, STRUCT << 24, 8], b"other", &[]);
        all.add([0, TYPEDEF << 24, 2], b"btf_trace_other", &[]);
        all.add([0, TYPEDEF << 24, 2], b"btf_trace_sys_enter", &[]);
        let needed = needed(&all.bytes().unwrap(), &["sys_enter"]).unwrap();
        // What the pointer leads to is left out.
        let kept = Types::read(&needed.structures).unwrap();
        assert_eq!((kept.last(), kept.head(2).unwrap()[2]), (2, 0));
        assert_eq!(kept.name(kept.head(1).unwrap()[0]), Some(&b"path"[..]));
        assert_eq!(kept.name(kept.body(1).unwrap()[0]), Some(&b"member"[..]));
        // The fifth, as in the kernel's.
        let attached = Types::read(&needed.tracepoints).unwrap();
        let named = |id| attached.name(attached.head(id).unwrap()[0]).unwrap();
        assert_eq!(
            (attached.last(), named(4), named(5)),
            (5, &b""[..], &b"btf_trace_sys_enter"[..])
        );
    }

    #[test]
    fn a_description_that_is_none_is_refused() {
        let good = description(1).bytes().unwrap();
        assert!(needed(&good, &[]).is_some());
        for length in 0..good.len() {
            // However it is cut off, and whatever byte of it is wrong: no panic.
            assert_eq!(needed(&good[..length], &[]), None);
            let mut bad = good.clone();
            bad[length] ^= 0xff;
            let _ = needed(&bad, &[]);
        }
    }
}
