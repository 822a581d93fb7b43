//! Who holds the listener of a notifying filter: what `/proc` can tell of it.
//!
//! A listener is a descriptor that `/proc/PID/fd` shows as `anon_inode:seccomp notify`. Nothing
//! tells which filter it belongs to, so the only certain answer is the good one: no process of
//! this machine has any, and every notified call fails with ENOSYS. What this cannot see: a
//! descriptor on its way in a socket's queue or kept by io_uring, and processes outside of this
//! pid namespace. Descriptors of processes that may not be read are counted.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

/// Which processes hold listeners of seccomp filters, as far as can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listeners {
    /// Processes that have one or more, by id.
    pub holders: Vec<Holder>,
    /// How many processes did not let their descriptors be read.
    pub unreadable: u32,
}

/// A process that holds a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, escaped as the kernel does it in `/proc/PID/comm`.
    pub name: String,
}

impl Listeners {
    /// Looks through the descriptors of every process.
    pub fn look() -> Listeners {
        let mut listeners = Listeners::default();
        let Ok(processes) = fs::read_dir("/proc") else {
            // Without /proc nothing is known of anybody.
            return Listeners { unreadable: u32::MAX, ..listeners };
        };
        for process in processes.flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match holds_listener(&process.path()) {
                Ok(false) => {}
                Ok(true) => {
                    let name = fs::read(process.path().join("comm")).unwrap_or_default();
                    let name = String::from_utf8_lossy(&name).trim_end().to_owned();
                    listeners.holders.push(Holder { pid, name });
                }
                // Gone meanwhile: it holds nothing.
                Err(error) if gone(&error) => {}
                Err(_) => listeners.unreadable += 1,
            }
        }
        listeners.holders.sort_by_key(|holder| holder.pid);
        listeners
    }

    /// This process alone holds one.
    pub(crate) fn here() -> Listeners {
        let holder = Holder { pid: std::process::id(), name: "strait".to_owned() };
        Listeners { holders: vec![holder], unreadable: 0 }
    }

    /// Whether it is certain, within what `/proc` shows, that nobody holds any listener.
    pub fn none_is_open(&self) -> bool {
        self.holders.is_empty() && self.unreadable == 0
    }
}

/// Whether a process has a listener among its descriptors.
fn holds_listener(process: &Path) -> io::Result<bool> {
    for descriptor in fs::read_dir(process.join("fd"))? {
        match descriptor.and_then(|descriptor| fs::read_link(descriptor.path())) {
            Ok(target) if target.as_os_str().as_bytes() == b"anon_inode:seccomp notify" => {
                return Ok(true);
            }
            Ok(_) => {}
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn gone(error: &io::Error) -> bool {
    // ESRCH: the process ended while it was read.
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3)
}
