//! The cgroups that a process is in, and moving there (cgroups(7)).
//!
//! Whoever ends a service ends what is in its cgroups. A recorder that the hook at `precreate` has started is
//! in those of the engine's command, which may end long before the container; it goes to where the
//! runtime was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, getpid};

/// The cgroups of a process, one for each hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups(Vec<Cgroup>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cgroup {
    /// What tells the hierarchy: controllers or a name; empty for that of version 2.
    hierarchy: String,
    /// Where it is there.
    path: String,
}

impl Cgroups {
    /// Those of a process.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of(process: Pid) -> io::Result<Cgroups> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", process.as_raw_pid()))?;
        Ok(Cgroups::parse(&text))
    }

    fn parse(text: &str) -> Cgroups {
        let cgroups = text.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (hierarchy, path) = rest.split_once(':')?;
            Some(Cgroup { hierarchy: hierarchy.to_owned(), path: path.to_owned() })
        });
        Cgroups(cgroups.collect())
    }

    /// Moves this process there, as far as that can be: where a hierarchy is not mounted or does not let it
    /// in, it stays.
    pub fn join(&self) {
        let Ok(own) = Cgroups::of(getpid()) else { return };
        let others = self.0.iter().filter(|cgroup| !own.0.contains(cgroup));
        let mut others = others.peekable();
        if others.peek().is_none() {
            return;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for folder in others.filter_map(|cgroup| cgroup.folder(&mounts)) {
            // It goes on where it is, then.
            let _ = fs::write(folder.join("cgroup.procs"), "0");
        }
    }
}

impl Cgroup {
    /// Its folder, by what is mounted (proc_pid_mountinfo(5)).
    fn folder(&self, mounts: &str) -> Option<PathBuf> {
        mounts.lines().find_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            let mut source = source.split(' ');
            let (kind, options) = (source.next()?, source.nth(1)?);
            let is_it = match kind {
                "cgroup2" => self.hierarchy.is_empty(),
                // All controllers of a hierarchy are among its options, or its name.
                "cgroup" => {
                    let mut wanted = self.hierarchy.split(',');
                    !self.hierarchy.is_empty()
                        && wanted.all(|one| options.split(',').any(|option| option == one))
                }
                _ => false,
            };
            let below = self.path.strip_prefix(root.trim_end_matches('/'))?;
            // Otherwise it is not in what is mounted there.
            let is_inside = (below.is_empty() || below.starts_with('/'))
                && !below.split('/').any(|part| part == "..");
            let below = below.trim_start_matches('/');
            (is_it && is_inside).then(|| Path::new(point).join(below))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n\
        32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        33 30 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn a_cgroup_is_a_folder_where_its_hierarchy_is_mounted() {
        let folders = |text: &str| -> Vec<Option<PathBuf>> {
            Cgroups::parse(text).0.iter().map(|cgroup| cgroup.folder(MOUNTS)).collect()
        };
        let systemd = Some("/sys/fs/cgroup/systemd/a/b".into());
        let cpu = Some("/sys/fs/cgroup/cpu,cpuacct/y".into());
        let unified = Some("/sys/fs/cgroup/unified/".into());
        assert_eq!(
            folders("3:name=systemd:/a/b\n2:cpu,cpuacct:/docker/x/y\n0::/\n"),
            [systemd, cpu, unified]
        );
        // Not mounted, outside of what is, and no lines.
        assert_eq!(folders("4:pids:/a\n2:cpu,cpuacct:/other\n0::/../x\n"), [None, None, None]);
        assert_eq!(folders("2:cpu,cpuacct:/docker/xy\n"), [None]);
        assert_eq!(folders("\nx\n1:y\n"), []);
    }

    #[test]
    fn who_is_there_already_stays() {
        let own = Cgroups::of(getpid()).unwrap();
        own.join();
        assert_eq!(Cgroups::of(getpid()).unwrap(), own);
    }
}
