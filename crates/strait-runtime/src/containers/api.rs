//! Containers by the API that Docker has and Podman shares: HTTP over a socket of this machine
//! (Docker Engine API 1.24 and later, `GET /containers/json` and `GET /containers/ID/json`).
//!
//! An engine that hangs is waited for no longer than [`PATIENCE`].

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Pid;
use serde::Deserialize;

use super::{Engine, Reported, State, runtime_of};

/// How long one answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// No answer of an engine is larger, in bytes.
pub(super) const LIMIT: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: InspectedState,
    #[serde(default)]
    host_config: HostConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    #[serde(default)]
    pid: i32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    #[serde(default)]
    runtime: String,
}

/// The containers of the engine that listens there.
pub(super) fn containers(engine: Engine, socket: &Path) -> Result<Vec<Reported>, String> {
    let body = ask(socket, "/containers/json?all=1")?;
    let body = body.ok_or("it has no list of containers")?;
    let listed: Vec<Listed> = parse(&body)?;
    let mut reports = Vec::new();
    for one in listed {
        let mut report =
            Reported::new(engine, &one.id, State::Stopped(one.state.to_ascii_lowercase()));
        let names = one.names.into_iter().flatten();
        report.names = names.map(|name| name.trim_start_matches('/').to_owned()).collect();
        report.image = Some(one.image).filter(|image| !image.is_empty());
        if matches!(one.state.as_str(), "running" | "paused") && is_plain(&one.id) {
            // One that is removed meanwhile is none any more.
            let Some(body) = ask(socket, &format!("/containers/{}/json", one.id))? else {
                continue;
            };
            let inspected: Inspected = parse(&body)?;
            report.runtime = runtime_of(&inspected.host_config.runtime);
            if let Some(pid) = Pid::from_raw(inspected.state.pid).filter(|pid| pid.as_raw_pid() > 0)
            {
                report.state = State::Running(pid);
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// What an engine's answer says.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("its answer is not understood: {error}"))
}

/// Whether an id can stand in a path.
fn is_plain(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The body of what is there; `None` if nothing is.
fn ask(path: &Path, what: &str) -> Result<Option<Vec<u8>>, String> {
    let deadline = Instant::now() + PATIENCE;
    let answer = exchange(path, what, deadline).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    })?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("its answer is no HTTP")?;
    let (head, body) = answer.split_at(end + 4);
    let head = String::from_utf8_lossy(head).into_owned();
    let mut words = head.split_ascii_whitespace();
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().filter(|_| is_http) {
        Some("200") => Ok(Some(body.to_owned())),
        Some("404") => Ok(None),
        Some(status) => Err(format!("it answers {what} by {status}")),
        None => Err("its answer is no HTTP".to_owned()),
    }
}

/// Sends a request and reads all of the answer.
///
/// HTTP/1.0 has no chunks, and ends the answer with the connection.
fn exchange(path: &Path, what: &str, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits too, where the engine accepts nobody: for as long as sending may.
    set_socket_timeout(&socket, Timeout::Send, Some(left(deadline)?))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut stream = UnixStream::from(socket);
    let request = format!("GET {what} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: strait\r\n\r\n");
    // In one piece: who answers the first and closes would reset the connection.
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1 << 14];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(buffer.iter().take(count)),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if u64::try_from(answer.len()).unwrap_or(u64::MAX) > LIMIT {
            return Err(std::io::Error::other("its answer is too long"));
        }
    }
}

/// What is left of the time.
fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of an engine that answers so.
    fn answered(answer: &'static str) -> Result<Vec<Reported>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let engine = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /containers/json?all=1 HTTP/1.0\r\n"));
            let _ = stream.write_all(answer.as_bytes());
        });
        let result = containers(Engine::Docker, &path);
        engine.join().unwrap();
        result
    }

    #[test]
    fn what_does_not_run_is_told_and_what_is_no_answer_is_an_error() {
        let list =
            "HTTP/1.0 200 OK\r\n\r\n[{\"Id\":\"ab\",\"Names\":[\"/old\"],\"State\":\"exited\"}]";
        let [old] = &answered(list).unwrap()[..] else { panic!("one container") };
        assert_eq!(
            (&old.names[..], &old.state),
            (&["old".to_owned()][..], &State::Stopped("exited".to_owned()))
        );
        for (answer, said) in [
            ("HTTP/1.0 200 OK\r\n\r\n[{", "not understood"),
            ("HTTP/1.0 500 Oops\r\n\r\n", "500"),
            ("HTTP/1.0 404 No\r\n\r\n", "no list"),
            ("beer", "no HTTP"),
            ("", "no HTTP"),
        ] {
            let error = answered(answer).unwrap_err();
            assert!(error.contains(said), "{answer}: {error}");
        }
        assert!(containers(Engine::Docker, Path::new("/no/such/socket")).is_err());
    }
}
