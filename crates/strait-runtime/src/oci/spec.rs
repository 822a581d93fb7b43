//! The configuration of a container, `config.json`: what is read of it and written into it. What is not
//! known here stays as it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use strait_policy::recording::Container;

/// No configuration is larger, in bytes: its arguments and variables have to fit a program's stack.
const LIMIT: u64 = 32 << 20;

/// The configuration of a container.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec(Map<String, Value>);

/// When a runtime runs a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// When the container's namespaces are there and its own program is not started yet.
    CreateRuntime,
    /// After that, in its mount namespace.
    CreateContainer,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Stage::CreateRuntime => "createRuntime",
            Stage::CreateContainer => "createContainer",
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// It cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is too large.
    #[error("the container's configuration is larger than {} MiB", LIMIT >> 20)]
    TooLarge,
    /// It is no JSON.
    #[error("the container's configuration is not JSON")]
    Json(#[from] serde_json::Error),
    /// It has not the form that the specification demands.
    #[error("in the container's configuration, `{field}` {wrong}")]
    Form {
        /// Which member.
        field: &'static str,
        /// What is wrong with it.
        wrong: &'static str,
    },
}

impl Spec {
    /// The configuration that a file holds; `None` where there is no such file.
    ///
    /// # Errors
    /// If it cannot be read, or is no configuration.
    pub fn read(path: &Path) -> Result<Option<Spec>, SpecError> {
        let failed = |source| SpecError::File { doing: "read", path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Spec::from_reader(file, failed).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// The configuration that comes by a stream, such as a hook's standard input.
    ///
    /// # Errors
    /// If it cannot be read, or is no configuration.
    pub fn from_stream(stream: impl Read) -> Result<Spec, SpecError> {
        let path = PathBuf::from("standard input");
        Spec::from_reader(stream, |source| SpecError::File { doing: "read", path, source })
    }

    fn from_reader(
        reader: impl Read,
        failed: impl FnOnce(io::Error) -> SpecError,
    ) -> Result<Spec, SpecError> {
        let mut bytes = Vec::new();
        reader.take(LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
        Spec::parse(&bytes)
    }

    /// The configuration that this text is.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(bytes: &[u8]) -> Result<Spec, SpecError> {
        if bytes.len() as u64 > LIMIT {
            return Err(SpecError::TooLarge);
        }
        Ok(Spec(serde_json::from_slice(bytes)?))
    }

    /// Whether it is the state of a container rather than its configuration: what hooks get.
    pub fn is_state(&self) -> bool {
        self.0.contains_key("id")
            && self.0.contains_key("bundle")
            && !self.0.contains_key("process")
    }

    /// An integer member, such as a state's `pid`.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }

    /// A text member, such as a state's `bundle`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// An annotation.
    ///
    /// # Errors
    /// If it is no text.
    pub fn annotation(&self, name: &str) -> Result<Option<&str>, SpecError> {
        let of = match self.0.get("annotations") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(of)) => of,
            Some(_) => return Err(form("annotations", "is no object")),
        };
        match of.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(form("annotations", "has one of Strait's that is no text")),
        }
    }

    /// What the engine calls the container: what containerd's CRI says in annotations
    /// (`internal/cri/annotations`). Nothing where nothing is said.
    pub fn called(&self) -> Option<Container> {
        let said = |name: &str| {
            let text = self.annotation(&format!("io.kubernetes.cri.{name}")).ok().flatten();
            text.map(str::to_owned)
        };
        let pod = said("sandbox-namespace").zip(said("sandbox-name"));
        let called = Container {
            pod: pod.map(|(namespace, name)| format!("{namespace}/{name}")),
            name: said("container-name"),
            image: said("image-name"),
        };
        (called != Container::default()).then_some(called)
    }

    /// Gives it an annotation.
    ///
    /// # Errors
    /// If `annotations` has another form.
    pub fn annotate(&mut self, name: &str, text: &str) -> Result<(), SpecError> {
        let of = self.0.entry("annotations").or_insert_with(|| json!({}));
        if of.is_null() {
            *of = json!({});
        }
        let of = of.as_object_mut().ok_or(form("annotations", "is no object"))?;
        of.insert(name.to_owned(), text.into());
        Ok(())
    }

    /// Takes an annotation from it.
    pub fn forget(&mut self, name: &str) {
        if let Some(Value::Object(of)) = self.0.get_mut("annotations") {
            of.remove(name);
        }
    }

    /// The capabilities that the container can have.
    pub fn capabilities(&self) -> Vec<&str> {
        let sets = self.0.get("process").and_then(|process| process.get("capabilities"));
        let bounding = sets.and_then(|sets| sets.get("bounding")).and_then(Value::as_array);
        bounding.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The command that it runs.
    pub fn command(&self) -> Vec<&str> {
        let args = self.0.get("process").and_then(|process| process.get("args"));
        args.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The profile that it is confined by.
    pub fn profile(&self) -> Option<&Value> {
        self.0.get("linux")?.get("seccomp").filter(|profile| !profile.is_null())
    }

    /// The folder of its root, as it is written.
    pub fn root(&self) -> Option<&str> {
        self.0.get("root")?.get("path")?.as_str()
    }

    /// Whether it is confined by a profile.
    ///
    /// # Errors
    /// If there is no `linux`.
    pub fn is_confined(&mut self) -> Result<bool, SpecError> {
        self.linux()?;
        Ok(self.profile().is_some())
    }

    /// Confines it by this profile, whatever it was confined by.
    ///
    /// # Errors
    /// If there is no `linux`.
    pub fn confine(&mut self, profile: Value) -> Result<(), SpecError> {
        self.linux()?.insert("seccomp".to_owned(), profile);
        Ok(())
    }

    /// Has the runtime run this program, before any others, at this stage. A hook that is there already
    /// is not added again.
    ///
    /// # Errors
    /// If `hooks` has another form.
    pub fn add_hook(
        &mut self,
        stage: Stage,
        program: &str,
        arguments: &[&str],
    ) -> Result<(), SpecError> {
        let hooks = self.0.entry("hooks").or_insert_with(|| json!({}));
        if hooks.is_null() {
            *hooks = json!({});
        }
        let hooks = hooks.as_object_mut().ok_or(form("hooks", "is no object"))?;
        let at = hooks.entry(stage.name()).or_insert_with(|| json!([]));
        if at.is_null() {
            *at = json!([]);
        }
        let at = at.as_array_mut().ok_or(form("hooks", "has a stage that is no array"))?;
        let hook = json!({"path": program, "args": arguments});
        if !at.contains(&hook) {
            at.insert(0, hook);
        }
        Ok(())
    }

    /// Takes away the hooks of this stage with this first argument after their names.
    pub fn remove_hook(&mut self, stage: Stage, verb: &str) {
        let at = self.0.get_mut("hooks").and_then(|hooks| hooks.get_mut(stage.name()));
        if let Some(at) = at.and_then(Value::as_array_mut) {
            at.retain(|hook| !is_of(hook, verb));
        }
    }

    /// Gives a hook of this stage, the one with this first argument after its name, an option with this
    /// value, in the place of the one that it has. Whether there is such a hook.
    pub fn tell_hook(&mut self, stage: Stage, verb: &str, option: &str, value: &str) -> bool {
        let Some(args) = self.hook_arguments(stage, verb) else { return false };
        if let Some(at) = args.iter().position(|word| word == option) {
            args.drain(at..args.len().min(at + 2));
        }
        args.extend([option.into(), value.into()]);
        true
    }

    /// What a hook has been told by [`Spec::tell_hook`].
    pub fn hook_option(&mut self, stage: Stage, verb: &str, option: &str) -> Option<&str> {
        let args = self.hook_arguments(stage, verb)?;
        args.get(args.iter().position(|word| word == option)? + 1)?.as_str()
    }

    fn hook_arguments(&mut self, stage: Stage, verb: &str) -> Option<&mut Vec<Value>> {
        let at = self.0.get_mut("hooks")?.get_mut(stage.name())?.as_array_mut()?;
        at.iter_mut().find(|hook| is_of(hook, verb))?.get_mut("args")?.as_array_mut()
    }

    /// Whether the runtime runs a program with this first argument, after its name, at this stage.
    pub fn has_hook(&self, stage: Stage, verb: &str) -> bool {
        let at = self.0.get("hooks").and_then(|hooks| hooks.get(stage.name()));
        at.and_then(Value::as_array).into_iter().flatten().any(|hook| is_of(hook, verb))
    }

    /// The text of it.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// Replaces the file as a whole: written beside it, synced, then renamed. Mode and owner stay.
    ///
    /// # Errors
    /// If it cannot be written; the file is as it was then.
    pub fn write(&self, path: &Path) -> Result<(), SpecError> {
        let failed = |source| SpecError::File { doing: "write", path: path.to_owned(), source };
        let old = fs::metadata(path).map_err(failed)?;
        let partial = path.with_extension(format!("json.strait.{}", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&partial).map_err(failed)?;
        let written = (|| {
            file.write_all(self.to_json().as_bytes())?;
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
            file.set_permissions(old.permissions())?;
            file.sync_all()?;
            fs::rename(&partial, path)
        })();
        written.map_err(|error| {
            // The first error is the one to report.
            let _ = fs::remove_file(&partial);
            failed(error)
        })
    }

    fn linux(&mut self) -> Result<&mut Map<String, Value>, SpecError> {
        match self.0.get_mut("linux") {
            None => Err(form("linux", "is missing: it is no Linux container")),
            Some(linux) => linux.as_object_mut().ok_or(form("linux", "is no object")),
        }
    }
}

/// Whether it is a hook with this first argument after its name.
fn is_of(hook: &Value, verb: &str) -> bool {
    hook.get("args").and_then(|args| args.get(1)).is_some_and(|word| word == verb)
}

const fn form(field: &'static str, wrong: &'static str) -> SpecError {
    SpecError::Form { field, wrong }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_unknown_and_the_mode_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"ociVersion":"1.0.2","linux":{"x":18446744073709551615},"y":[1.5,null]}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let mut spec = Spec::read(&path).unwrap().unwrap();
        assert!(!spec.is_confined().unwrap());
        spec.confine(json!({"defaultAction": "SCMP_ACT_ALLOW"})).unwrap();
        for _ in 0..2 {
            spec.add_hook(Stage::CreateRuntime, "/bin/strait", &["strait", "oci-hook"]).unwrap();
        }
        assert!(spec.has_hook(Stage::CreateRuntime, "oci-hook"));
        spec.write(&path).unwrap();
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let expected = json!({
            "ociVersion": "1.0.2",
            "linux": {"x": u64::MAX, "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}},
            "y": [1.5, null],
            "hooks": {"createRuntime": [{"path": "/bin/strait", "args": ["strait", "oci-hook"]}]},
        });
        assert_eq!(value, expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_hook_is_told_the_newest() {
        let hooks = json!({"createRuntime": [
            {"path": "/x"}, {"path": "/y", "args": ["y", "other", "--recorder", "no"]},
            {"path": "/z", "args": ["z", "oci-hook", "--recorder", "one", "--confirm"]}]});
        let mut spec = Spec::parse(json!({"hooks": hooks}).to_string().as_bytes()).unwrap();
        let (stage, option) = (Stage::CreateRuntime, "--recorder");
        assert_eq!(spec.hook_option(stage, "oci-hook", option), Some("one"));
        for value in ["two", "three"] {
            assert!(spec.tell_hook(stage, "oci-hook", option, value));
            assert_eq!(spec.hook_option(stage, "oci-hook", option), Some(value));
        }
        let value: Value = serde_json::from_str(&spec.to_json()).unwrap();
        let args = &value["hooks"]["createRuntime"][2]["args"];
        assert_eq!(*args, json!(["z", "oci-hook", "--confirm", "--recorder", "three"]));
        spec.remove_hook(stage, "oci-hook");
        assert!(spec.has_hook(stage, "other") && !spec.has_hook(stage, "oci-hook"));
        assert!(!spec.tell_hook(Stage::CreateContainer, "oci-hook", option, "x"));
        assert_eq!(Spec::parse(b"{}").unwrap().hook_option(stage, "oci-hook", option), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = |text: &str| {
            let mut spec = match Spec::parse(text.as_bytes()) {
                Err(error) => return error.to_string(),
                Ok(spec) => spec,
            };
            spec.annotation("io.strait.policy")
                .map(drop)
                .and_then(|()| spec.is_confined())
                .and_then(|_| spec.add_hook(Stage::CreateRuntime, "/x", &[]))
                .unwrap_err()
                .to_string()
        };
        assert!(error("{").contains("not JSON"));
        assert!(error("[]").contains("not JSON"));
        assert!(error("{}").contains("`linux` is missing"));
        assert!(error(r#"{"linux": 1}"#).contains("`linux` is no object"));
        assert!(error(r#"{"annotations": 1}"#).contains("`annotations`"));
        assert!(error(r#"{"annotations": {"io.strait.policy": 1}}"#).contains("no text"));
        assert!(error(r#"{"linux": {}, "hooks": 1}"#).contains("`hooks`"));
        let huge = vec![b' '; usize::try_from(LIMIT).unwrap() + 1];
        assert!(matches!(Spec::parse(&huge), Err(SpecError::TooLarge)));
    }
}
