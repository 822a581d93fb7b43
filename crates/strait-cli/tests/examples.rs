//! The examples: an agent whose model has been taken over, and a pipeline that releases with a secret. Each is
//! run under its policy, and without, where what it tries succeeds.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{fs, thread};

use serde_json::Value;
use strait_testkit::skip;
use tempfile::TempDir;

const STRAIT: &str = env!("CARGO_BIN_EXE_strait");
const PYTHON: &str = "/usr/bin/python3";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A service on loopback that answers each connection with `42`; its port, and what it was sent.
fn service(connections: usize) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answers = (0..connections).map(move |_| {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.write_all(b"42");
        // Who has not read the answer ends by a reset.
        let mut sent = Vec::new();
        let _ = connection.read_to_end(&mut sent);
        String::from_utf8(sent).unwrap()
    });
    (port, thread::spawn(|| answers.collect()))
}

/// A process of the same user that is none of the agent's business.
struct Other(Child);

impl Other {
    fn new() -> Other {
        Other(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the agent says of each thing that its model asks for.
fn said(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_agent_whose_model_is_an_attacker() {
    if !Path::new(PYTHON).exists() {
        return skip("an_agent_whose_model_is_an_attacker", "python3 is not installed");
    }
    let (dir, other) = (TempDir::new().unwrap(), Other::new());
    let (port, service) = service(2);
    let agent = |wrapper: &[&str]| {
        let words = [wrapper, &[PYTHON, "examples/agent/agent.py", "examples/agent/attacks.jsonl"]];
        let words = words.concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(root()).stdin(Stdio::null());
        command.env("AGENT_WORK", dir.path()).env("AGENT_PORT", &port);
        command.env("AGENT_OTHER", other.0.id().to_string()).output().unwrap()
    };
    let confined = agent(&[STRAIT, "run", "--policy", "policies/agent.yaml", "--"]);
    let lines = said(&confined);
    let stderr = String::from_utf8_lossy(&confined.stderr);
    assert_eq!(confined.status.code(), Some(0), "{lines:#?}\n{stderr}");
    let script = fs::read_to_string(root().join("examples/agent/attacks.jsonl")).unwrap();
    assert_eq!(lines.len(), script.lines().count());
    let attacks = |lines: &[Value], outcome: &str| {
        let attacks = script.lines().filter(|line| line.contains("\"expect\": \"refused\""));
        attacks
            .filter(|attack| {
                lines.iter().any(|line| {
                    line["outcome"] == outcome && attack.contains(line["what"].as_str().unwrap())
                })
            })
            .count()
    };
    let all = attacks(&lines, "refused");
    assert_eq!(attacks(&lines, "done"), 0);
    // It is the policy that refuses: without it most of them work for any user, and nearly all for root.
    let open = agent(&[]);
    let lines = said(&open);
    assert_eq!(open.status.code(), Some(1), "{lines:#?}");
    assert!(attacks(&lines, "done") > all / 2, "{lines:#?}");
    assert_eq!(service.join().unwrap(), vec!["what is six times seven?".to_owned(); 2]);
}

#[test]
fn a_pipeline_that_builds_and_releases() {
    let test = "a_pipeline_that_builds_and_releases";
    if ["/usr/bin/make", "/usr/bin/cc", "/bin/bash"].iter().any(|path| !Path::new(path).exists()) {
        return skip(test, "make, cc or bash is not installed");
    }
    let dir = TempDir::new().unwrap();
    let (port, service) = service(2);
    let secret = "planted-secret-9173";
    let pipeline = |script: &str| {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", script]).current_dir(root()).stdin(Stdio::null());
        command.env("STRAIT", STRAIT).env("OUT", dir.path()).env("SECRET", secret);
        command.env("RELEASE_TO", format!("127.0.0.1/{port}")).output().unwrap()
    };
    let output = pipeline("examples/ci/pipeline.sh");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    // Three of the check, which `strait step` comes before, and seven of the release.
    assert!(!out.contains("OPEN") && out.matches("refused: ").count() == 10, "{out}");
    assert!(!out.contains(secret) && !err.contains(secret));
    // The check without its step.
    let stays = pipeline(
        "env -u SECRET $STRAIT run --policy examples/ci/pipeline.yaml -- \"$OUT/release\" --check",
    );
    let out = String::from_utf8_lossy(&stays.stdout);
    assert!(stays.status.code() == Some(1) && out.matches("OPEN: ").count() == 3, "{out}");
    // The same program without the policy.
    let open = pipeline("exec 3<>/dev/tcp/$RELEASE_TO; \"$OUT/release\"");
    let out = String::from_utf8_lossy(&open.stdout);
    // It became a shell.
    assert_eq!(open.status.code(), Some(0), "{out}");
    assert!(!out.contains("refused: become a shell"), "{out}");
    let sent = service.join().unwrap();
    assert!(sent.iter().all(|line| line.starts_with("release ")), "{sent:?}");
}
