//! Podman's containers of users without privileges, of which root's Podman does not know: by the processes
//! that watch over them, conmon(8), and what these are told on their command lines.
//!
//! A name and an id are that user's word. Which process is a container's first is the kernel's: it is
//! a child of its monitor's, apart from that. The user's own files are not read.

use std::fs::{self, File};
use std::io::{self, Read};

use rustix::process::{Pid, geteuid};
use strait_kernel::task::Task;

use super::members::is_apart_from;
use super::{Engine, Reported, State, runtime_of};

/// The command line of a monitor is no longer, in bytes.
const LIMIT: u64 = 64 << 10;
/// The name of a container is no longer, in bytes.
const LONGEST_NAME: usize = 255;

/// The containers of all users but root, each with the user's id unless that is our own.
pub(super) fn containers() -> Result<Vec<Reported>, String> {
    let processes = fs::read_dir("/proc").map_err(|error| error.to_string())?.flatten();
    let numbers = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    Ok(numbers.filter_map(watched).collect())
}

/// The container that this process watches over, if it is a monitor of another user than root.
fn watched(monitor: Pid) -> Option<Reported> {
    let told = Told::of(&command_line(monitor).ok()?)?;
    let user = Task::read(monitor, monitor).ok()?.user;
    if user == 0 {
        return None;
    }
    let number = monitor.as_raw_pid();
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let first = children
        .find_map(|child| Pid::from_raw(child).filter(|&child| is_apart_from(child, monitor)))?;
    let mut report = Reported::new(Engine::Podman, &told.id, State::Running(first));
    report.names.extend(told.name);
    report.runtime = told.runtime.as_deref().and_then(runtime_of);
    report.user = Some(user).filter(|&user| user != geteuid().as_raw());
    Some(report)
}

fn command_line(process: Pid) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let file = File::open(format!("/proc/{}/cmdline", process.as_raw_pid()))?;
    file.take(LIMIT).read_to_end(&mut line)?;
    Ok(line)
}

/// What a monitor is told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    id: String,
    name: Option<String>,
    runtime: Option<String>,
}

impl Told {
    /// What this command line says; `None` if it is no monitor's of a container.
    fn of(line: &[u8]) -> Option<Told> {
        let words: Vec<&str> =
            line.split(|&byte| byte == 0).map(str::from_utf8).collect::<Result<_, _>>().ok()?;
        let (program, words) = words.split_first()?;
        if program.rsplit('/').next() != Some("conmon") {
            return None;
        }
        // What comes after this is another program's.
        let own = words.split(|&word| word == "--exit-command").next()?;
        let value = |short: &str, long: &str| {
            let at = own.iter().position(|&word| word == short || word == long)?;
            own.get(at + 1).map(|&value| value.to_owned())
        };
        let id = value("-c", "--cid")?;
        // One that watches over what is exec'd into a container is called otherwise.
        let is_its_own = value("-u", "--cuuid").is_some_and(|called| called == id)
            && !own.iter().any(|word| matches!(*word, "-e" | "--exec"));
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let name = value("-n", "--name");
        let is_name = name.as_ref().is_none_or(|name| name.len() <= LONGEST_NAME);
        let runtime = value("-r", "--runtime");
        (is_its_own && is_id && is_name).then_some(Told { id, name, runtime })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_of_a_container_is_told_from_others() {
        let id = "0123456789abcdef".repeat(4);
        let told = |line: &str| Told::of(line.replace(' ', "\0").as_bytes());
        let monitor = format!(
            "/usr/bin/conmon --api-version 1 -c {id} -u {id} -r /usr/bin/crun -b /b -n web"
        );
        let web = |name: Option<&str>| Told {
            id: id.clone(),
            name: name.map(str::to_owned),
            runtime: Some("/usr/bin/crun".to_owned()),
        };
        assert_eq!(told(&monitor), Some(web(Some("web"))));
        let unnamed = monitor.replace(" -n web", " --exit-command /x --exit-command-arg -n no");
        assert_eq!(told(&unnamed), Some(web(None)));
        for other in [
            monitor.replace("conmon", "conmon2"),
            monitor.replace(&id, "0123"),
            monitor.replace(&id, &"x".repeat(64)),
            monitor.replace(" -u 0", " -u 1"),
            format!("{monitor} -e"),
            format!("{monitor}{}", "b".repeat(300)),
            "conmon -c".to_owned(),
            String::new(),
        ] {
            assert_eq!(told(&other), None, "{other}");
        }
        assert_eq!(Told::of(b"conmon\0-c\0\xff\0"), None);
    }
}
