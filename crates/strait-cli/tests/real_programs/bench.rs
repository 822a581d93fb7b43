//! The bench that the tests stand on: a scratch folder, the binary, its JSON, and victims that are
//! built on the spot.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strait_testkit::skip;

/// A scratch folder with what one test makes.
pub struct Bench {
    dir: tempfile::TempDir,
}

/// What `strait tighten --json` said, and the policy that it wrote.
pub struct Tightened {
    pub json: Value,
    pub policy: PathBuf,
    pub stderr: String,
    pub status: Option<i32>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The text of the folder's path, for scripts.
    pub fn path(&self, name: &str) -> String {
        self.dir().join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `strait VERB ARGS…` with the scratch folder as working directory.
    pub fn strait(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.args(args).current_dir(self.dir()).stdin(Stdio::null());
        command
    }

    /// Tightens a command, which must be possible; whether it behaved the same is in the result.
    pub fn tighten(&self, command: &[&str]) -> Tightened {
        self.tighten_with(&[], command)
    }

    pub fn tighten_with(&self, options: &[&str], command: &[&str]) -> Tightened {
        let policy = self.dir().join("policy.yaml");
        let mut strait = self.strait(&["tighten", "--json", "-o", policy.to_str().unwrap()]);
        let output = strait.args(options).arg("--").args(command).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}), {}:\n{stderr}", output.status));
        Tightened { json, policy, stderr, status: output.status.code() }
    }

    /// Tightens a command and demands all that a well-behaved program must show.
    pub fn tighten_holds(&self, command: &[&str]) -> Tightened {
        let tightened = self.tighten(command);
        tightened.assert_holds();
        self.assert_denies_the_unrecorded(&tightened);
        tightened
    }

    /// Under the policy, a call that the policy does not allow is denied when made on purpose.
    pub fn assert_denies_the_unrecorded(&self, tightened: &Tightened) {
        let allowed = tightened.allowed();
        // All of them harmless with zero arguments, and none that a libc falls back from.
        let candidates =
            [("setsid", "112"), ("sethostname", "170"), ("sync", "162"), ("acct", "163")];
        let (name, nr) =
            candidates.into_iter().find(|(name, _)| !allowed.contains(&name.to_string())).unwrap();
        let probe = self.probe();
        let run = |command: &[&str]| {
            let policy = tightened.policy.to_str().unwrap();
            self.strait(&["run", "--policy", policy, "--"]).args(command).output().unwrap()
        };
        let output = run(&[&probe, nr]);
        assert_eq!(output.status.code(), Some(1), "{name} should be EPERM: {}", show(&output));
        // The same victim making only its exit is let pass: what denied was the policy.
        let output = run(&[&probe, "231"]);
        assert_eq!(output.status.code(), Some(0), "exit_group should pass: {}", show(&output));
    }

    /// A freestanding program that makes one call by number and exits with its errno.
    pub fn probe(&self) -> String {
        let path = self.path("probe");
        if !Path::new(&path).exists() {
            let flags = "-O -C panic=abort -C link-arg=-nostartfiles -C link-arg=-static \
                         -C link-arg=-no-pie -C relocation-model=static";
            self.rustc("probe.rs", &path, flags);
        }
        path
    }

    /// Builds one of `testdata/victims`.
    pub fn rustc(&self, source: &str, output: &str, flags: &str) {
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/victims").join(source);
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let status = Command::new(rustc)
            .args(["--edition", "2024"])
            .args(flags.split_whitespace())
            .arg("-o")
            .arg(output)
            .arg(source)
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Tightened {
    pub fn assert_holds(&self) {
        let Tightened { json, stderr, .. } = self;
        let shown = serde_json::to_string_pretty(json).unwrap();
        assert_eq!(json["confined"]["denials"], Value::Array(vec![]), "{shown}\n{stderr}");
        assert_eq!(json["confined"]["exit"], json["recording"]["exit"], "{shown}\n{stderr}");
        if is_root() {
            assert_eq!(json["confined"]["verification"]["verdict"], "holds", "{shown}\n{stderr}");
        }
        assert_eq!(json["behavedAsFirst"], true, "{shown}\n{stderr}");
        assert_eq!(self.status, Some(0), "{stderr}");
    }

    /// The names of the allowed calls.
    pub fn allowed(&self) -> Vec<String> {
        let names = self.json["allowed"]["names"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }
}

/// Whether the tests run as root: reading a filter back needs CAP_SYS_ADMIN.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Whether these programs are installed; if not, the test `name` skips, saying so.
pub fn have(name: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    for program in programs {
        if !folders.iter().any(|folder| folder.join(program).exists()) {
            skip(name, &format!("{program} is not installed"));
            return false;
        }
    }
    true
}

pub fn show(output: &Output) -> String {
    format!(
        "{}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
