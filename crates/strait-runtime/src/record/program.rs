//! Which program a task runs now, as `/proc` tells.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use strait_kernel::ebpf::Image;

use super::program_file::open_regular;

/// The program of a task that cannot exec meanwhile. The path is empty where it may not be read.
pub(super) fn of(task: Pid) -> Image {
    let path = fs::read_link(proc_file(task, "exe")).unwrap_or_default().into_os_string();
    let mut path = path.into_vec();
    if path.ends_with(b" (deleted)") {
        path.truncate(path.len() - b" (deleted)".len());
    }
    Image { path, script: script_of(task) }
}

/// Whether the program's file would give its user or group.
pub(super) fn is_set_id(task: Pid) -> bool {
    fs::metadata(proc_file(task, "exe")).is_ok_and(|file| file.mode() & 0o6000 != 0)
}

pub(super) fn proc_file(task: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", task.as_raw_nonzero()))
}

/// The script for which a task's program was run: the file that exec was given, if it is not a
/// program itself. The name is in the program's own memory, so by now it may be any.
fn script_of(task: Pid) -> Option<Vec<u8>> {
    let name = exec_name(task)?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&name));
    let file = match path.strip_prefix("/") {
        Ok(relative) => proc_file(task, "root").join(relative),
        Err(_) => proc_file(task, "cwd").join(path),
    };
    let mut start = [0; 2];
    open_regular(&file)?.read_exact(&mut start).ok()?;
    (&start == b"#!").then_some(name)
}

/// The random bytes that the kernel gave the program when it was executed: AT_RANDOM (getauxval(3)).
pub(super) fn random(task: Pid) -> Option<[u8; 16]> {
    const AT_RANDOM: u64 = 25;
    let mut bytes = [0; 16];
    let memory = File::open(proc_file(task, "mem")).ok()?;
    memory.read_exact_at(&mut bytes, auxiliary(task, AT_RANDOM)?).ok()?;
    Some(bytes)
}

/// What exec was given as the file's name: AT_EXECFN.
fn exec_name(task: Pid) -> Option<Vec<u8>> {
    const AT_EXECFN: u64 = 31;
    let at = auxiliary(task, AT_EXECFN)?;
    let memory = File::open(proc_file(task, "mem")).ok()?;
    let mut name = Vec::new();
    // Read by pieces that do not reach into the next page, which may not be there.
    while name.len() < 4096 {
        let mut piece = [0; 64];
        let position = at.checked_add(u64::try_from(name.len()).ok()?)?;
        let until_boundary = usize::try_from(64 - position % 64).ok()?;
        let read = memory.read_at(&mut piece[..until_boundary], position).ok()?;
        let piece = &piece[..read];
        match piece.iter().position(|&byte| byte == 0) {
            Some(end) => {
                name.extend_from_slice(&piece[..end]);
                return Some(name);
            }
            None if read == 0 => return None,
            None => name.extend_from_slice(piece),
        }
    }
    None
}

/// An entry of the auxiliary vector of a task.
fn auxiliary(task: Pid, wanted: u64) -> Option<u64> {
    let vector = fs::read(proc_file(task, "auxv")).ok()?;
    let native = vector.chunks_exact(16).find_map(|pair| {
        let (key, value) = pair.split_at(8);
        let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
        if word(key)? == wanted { word(value) } else { None }
    });
    // A 32-bit program's has half the words.
    native.or_else(|| {
        vector.chunks_exact(8).find_map(|pair| {
            let (key, value) = pair.split_at(4);
            let word = |bytes: &[u8]| Some(u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)));
            if word(key)? == wanted { word(value) } else { None }
        })
    })
}
