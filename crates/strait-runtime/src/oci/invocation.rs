//! What an engine asks of an OCI runtime: the arguments that runc, crun and their like take.
//!
//! `[GLOBAL OPTION…] COMMAND [OPTION…] ID`. Only what is needed to find the bundle is looked at; the
//! runtime gets all arguments as they are.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// An invocation of an OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The file that the engine reads errors from, if it names one (`--log`).
    pub log: Option<PathBuf>,
    /// Whether that takes a JSON object a line (`--log-format json`).
    pub log_is_json: bool,
    /// The container that is to be made, if one is.
    pub create: Option<Create>,
}

/// A container that is to be made: by `create` or `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The bundle.
    pub bundle: PathBuf,
    /// Its configuration: `config.json` in the bundle, but for crun's `--config`.
    pub config: PathBuf,
    /// The container's id; empty where none is given.
    pub id: OsString,
}

/// Global options that take a value, of runc 1.1 to 1.3 and crun 1.8 to 1.28.
const GLOBAL: &[&str] = &[
    "--root",
    "--log",
    "--log-format",
    "--log-level",
    "--criu",
    "--rootless",
    "--cgroup-manager",
    "--systemd-cgroup-manager",
];

/// Options of `create` and `run` that take a value, of the same.
const OF_CREATE: &[&str] =
    &["--bundle", "-b", "--config", "-f", "--console-socket", "--pid-file", "--preserve-fds"];

impl Invocation {
    /// What these arguments, without the runtime's own name, ask for in this folder.
    pub fn parse(arguments: &[OsString], folder: &Path) -> Invocation {
        let mut invocation = Invocation::default();
        let mut rest = Options { arguments, known: GLOBAL };
        let command = loop {
            match rest.next() {
                None => return invocation,
                Some(Word::Plain(word)) => break word,
                Some(Word::Option { name: "--log", value }) => {
                    invocation.log = value.map(|file| folder.join(file));
                }
                Some(Word::Option { name: "--log-format", value }) => {
                    invocation.log_is_json = value.is_some_and(|format| format == "json");
                }
                Some(Word::Option { .. }) => {}
            }
        };
        if command != "create" && command != "run" {
            return invocation;
        }
        let (mut bundle, mut config, mut id) = (folder.to_owned(), None, OsString::new());
        rest.known = OF_CREATE;
        while let Some(word) = rest.next() {
            match word {
                Word::Plain(word) => id = word,
                Word::Option { name: "--bundle" | "-b", value: Some(value) } => {
                    bundle = folder.join(value);
                }
                Word::Option { name: "--config" | "-f", value: Some(value) } => {
                    config = Some(PathBuf::from(value));
                }
                Word::Option { .. } => {}
            }
        }
        // crun changes into the bundle before it reads the file.
        let config = bundle.join(config.unwrap_or_else(|| "config.json".into()));
        invocation.create = Some(Create { bundle, config, id });
        invocation
    }
}

/// Arguments, one after the other.
struct Options<'a> {
    arguments: &'a [OsString],
    /// Those that take a value.
    known: &'static [&'static str],
}

enum Word {
    Plain(OsString),
    /// An option; `name` is empty for one that is none of ours.
    Option {
        name: &'static str,
        value: Option<OsString>,
    },
}

impl Options<'_> {
    fn next(&mut self) -> Option<Word> {
        let (first, rest) = self.arguments.split_first()?;
        self.arguments = rest;
        let bytes = first.as_bytes();
        if bytes.len() < 2 || bytes[0] != b'-' {
            return Some(Word::Plain(first.clone()));
        }
        let split = bytes.iter().position(|&byte| byte == b'=').filter(|_| bytes[1] == b'-');
        let (name, mut value) = match split {
            Some(at) => (&bytes[..at], Some(OsString::from_vec(bytes[at + 1..].to_vec()))),
            None => (bytes, None),
        };
        // Go's option parser takes one dash for two.
        let is_it = |known: &&&str| {
            known.as_bytes() == name
                || known.len() > 2
                    && OsStr::from_bytes(&known.as_bytes()[1..]) == OsStr::from_bytes(name)
        };
        let mut known = self.known.iter().find(is_it).copied();
        if known.is_none() && bytes[1] != b'-' {
            // A short option with its value in the same word.
            let glued = |known: &&&str| known.len() == 2 && bytes.starts_with(known.as_bytes());
            known = self.known.iter().find(glued).copied();
            value = known.map(|_| OsString::from_vec(bytes[2..].to_vec()));
        }
        if known.is_some()
            && value.is_none()
            && let Some((next, rest)) = self.arguments.split_first()
        {
            value = Some(next.clone());
            self.arguments = rest;
        }
        Some(Word::Option { name: known.unwrap_or(""), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Invocation {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        Invocation::parse(&arguments, Path::new("/here"))
    }

    #[test]
    fn the_bundle_is_found_in_what_engines_write() {
        let of = |line: &str| parse(line).create.map(|create| create.config);
        for (line, config) in [
            // containerd's shim.
            (
                "--root /run/x --log /run/b/log.json --log-format json create --bundle /run/b \
                 --pid-file /run/b/init.pid id",
                "/run/b/config.json",
            ),
            // conmon.
            ("--systemd-cgroup create --bundle /b --pid-file /p --exit-dir id", "/b/config.json"),
            ("--root=/create run -b /b id", "/b/config.json"),
            ("run -b/b id", "/b/config.json"),
            ("run -bundle /b id", "/b/config.json"),
            ("create id", "/here/config.json"),
            ("create --bundle=b --config other.json id", "/here/b/other.json"),
            ("--debug create --console-socket --bundle --bundle /b id", "/b/config.json"),
        ] {
            assert_eq!(of(line), Some(PathBuf::from(config)), "{line}");
        }
        for line in ["", "--version", "state id", "--root create delete id", "--log"] {
            assert_eq!(of(line), None, "{line}");
        }
    }

    #[test]
    fn the_log_and_the_id_are_found() {
        let invocation = parse("--log /l --log-format=json create --bundle /b some-id");
        assert_eq!(invocation.log, Some("/l".into()));
        assert!(invocation.log_is_json);
        assert_eq!(invocation.create.unwrap().id, "some-id");
        let invocation = parse("--log l create id");
        assert_eq!((invocation.log, invocation.log_is_json), (Some("/here/l".into()), false));
    }
}
