//! Which processes a question is about: one, those of a cgroup, of a unit of systemd, or of a container.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::process::Pid;

use crate::containers::Members;

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This one alone.
    Process(Pid),
    /// This one and all that come of it.
    Tree(Pid),
    /// Those of the cgroup in this folder, and of those below it.
    Cgroup(PathBuf),
    /// Those of a unit of systemd, as the names of cgroups tell.
    Unit(Unit),
    /// Those of a container that an engine has.
    Members(Box<Members>),
    /// Those of the container whose id this is, or begins so, as the names of cgroups tell.
    Container(String),
}

impl Scope {
    /// The processes that there are now, in ascending order.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn processes(&self) -> io::Result<Vec<Pid>> {
        let mut found: BTreeSet<i32> = BTreeSet::new();
        match self {
            Scope::Process(pid) => drop(found.insert(pid.as_raw_pid())),
            Scope::Tree(root) => {
                let mut todo = vec![root.as_raw_pid()];
                while let Some(pid) = todo.pop() {
                    if Path::new(&format!("/proc/{pid}")).exists() && found.insert(pid) {
                        todo.extend(children(pid));
                    }
                }
            }
            Scope::Cgroup(folder) => of_cgroup(folder, &mut found)?,
            Scope::Members(members) => {
                found.extend(members.processes()?.iter().map(|member| member.pid.as_raw_pid()));
            }
            Scope::Unit(unit) => in_groups(&|groups| unit.names_one_of(groups), &mut found)?,
            Scope::Container(id) => in_groups(&|groups| names_container(groups, id), &mut found)?,
        }
        Ok(found.into_iter().filter_map(Pid::from_raw).collect())
    }
}

/// The name of a unit of systemd, such as `nginx.service` (systemd.unit(5)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit(String);

/// Why a text names no unit.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no unit that has processes: write NAME.service, NAME.scope or NAME.slice")]
pub struct UnitError(String);

impl FromStr for Unit {
    type Err = UnitError;

    /// A name without a suffix is a service's, as for systemctl(1).
    fn from_str(text: &str) -> Result<Unit, UnitError> {
        // Of the kinds of unit those that are cgroups for good; a socket's and a mount's are not.
        let kinds = [".service", ".scope", ".slice"];
        let is_whole = kinds.iter().any(|kind| text.ends_with(kind) && text.len() > kind.len());
        let is_char = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let name = if is_whole { text.to_owned() } else { format!("{text}.service") };
        let other = [".socket", ".mount", ".timer", ".target", ".device", ".path", ".swap"];
        let is_other = other.iter().any(|kind| text.ends_with(kind));
        if text.is_empty() || is_other || name.len() > 255 || !name.chars().all(is_char) {
            return Err(UnitError(text.to_owned()));
        }
        Ok(Unit(name))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Unit {
    /// Whether some path in `/proc/PID/cgroup` has it as a component.
    fn names_one_of(&self, groups: &str) -> bool {
        components(groups).any(|component| component == self.0)
    }
}

/// Those whose `/proc/PID/cgroup` is such.
fn in_groups(wanted: &dyn Fn(&str) -> bool, found: &mut BTreeSet<i32>) -> io::Result<()> {
    for pid in all()? {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
        if groups.is_ok_and(|groups| wanted(&groups)) {
            found.insert(pid);
        }
    }
    Ok(())
}

/// The components of every path in `/proc/PID/cgroup` (cgroups(7)).
pub(crate) fn components(groups: &str) -> impl Iterator<Item = &str> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.flat_map(|path| path.split('/'))
}

/// Every process that `/proc` shows.
fn all() -> io::Result<Vec<i32>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The children of every thread of a process.
fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|child| child.parse().ok())
        .collect()
}

fn of_cgroup(folder: &Path, found: &mut BTreeSet<i32>) -> io::Result<()> {
    let list = fs::read_to_string(folder.join("cgroup.procs"))?;
    found.extend(list.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // A group that is removed meanwhile has no processes.
            match of_cgroup(&entry.path(), found) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether a component of some path in `/proc/PID/cgroup` is a container's with this id: engines
/// name it `ID`, `docker-ID.scope`, `libpod-ID`, `cri-containerd-ID.scope` and the like.
fn names_container(groups: &str, id: &str) -> bool {
    components(groups).any(|component| {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        let name = name.rsplit(['-', ':']).next().unwrap_or(name);
        !id.is_empty() && (name.starts_with(id) || component == id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_by_the_names_that_engines_give_to_groups() {
        let id = "0123456789abcdef";
        for group in [
            "0::/docker/0123456789abcdef0123",
            "12:pids:/libpod_parent/libpod-0123456789abcdef0123/ctr\n1:name=systemd:/",
            "0::/system.slice/docker-0123456789abcdef0123.scope",
            "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-0123456789abcdef0123.scope",
            "0::/default/0123456789abcdef",
        ] {
            assert!(names_container(group, id), "{group}");
            assert!(!names_container(group, "1123"), "{group}");
            assert!(!names_container(group, ""), "{group}");
        }
        assert!(names_container("0::/k8s.io/web-1", "web-1"));
    }

    #[test]
    fn a_units_name_is_whole_and_so_is_the_component() {
        let nginx: Unit = "nginx".parse().unwrap();
        assert_eq!(nginx, "nginx.service".parse().unwrap());
        for group in ["0::/system.slice/nginx.service", "1:name=systemd:/a/nginx.service/sub\n0::/"]
        {
            assert!(nginx.names_one_of(group), "{group}");
        }
        assert!(!nginx.names_one_of("0::/system.slice/my-nginx.service"));
        assert!(!nginx.names_one_of("0::/system.slice/nginx.service.d"));
        let user: Unit = "user-1000.slice".parse().unwrap();
        assert!(user.names_one_of("0::/user.slice/user-1000.slice/session-1.scope"));
        for text in ["", "a/b", "x.socket", "a b", &"x".repeat(256)] {
            assert!(text.parse::<Unit>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_tree_has_its_root_and_what_comes_of_it() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let own = rustix::process::getpid();
        let tree = Scope::Tree(own).processes().unwrap();
        assert!(tree.contains(&own) && tree.contains(&Pid::from_child(&child)), "{tree:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Scope::Process(own).processes().unwrap(), [own]);
    }
}
