//! Which calls the libseccomp on this machine knows. A runtime skips names that it does not know, so
//! what it installs of a profile depends on the library's age.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use strait_abi::{KernelVersion, Syscall};

use crate::failure::Failure;

/// Where distributions keep the library; a folder of these may have one for each architecture.
const FOLDERS: &[&str] = &["/usr/lib", "/lib", "/usr/lib64", "/lib64", "/usr/local/lib"];

/// The newest kernel of which the installed library knows a call.
pub fn newest_known() -> Result<KernelVersion, Failure> {
    let libraries = libraries();
    let newest = libraries.iter().filter_map(|path| newest_in(&fs::read(path).ok()?)).max();
    newest.ok_or_else(|| {
        let error = match libraries.first() {
            None => anyhow!("no libseccomp.so.2 is installed: give --library a kernel version"),
            Some(path) => {
                anyhow!("{} has no names of calls: give --library a kernel version", path.display())
            }
        };
        Failure::refused(error)
    })
}

fn libraries() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS.iter().map(Path::new) {
        let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let below = below.filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        for folder in std::iter::once(folder.to_owned()).chain(below) {
            let library = folder.join("libseccomp.so.2");
            if library.exists() {
                found.push(library);
            }
        }
    }
    found
}

/// The newest kernel of which the bytes of a library have a call's name as a string.
fn newest_in(bytes: &[u8]) -> Option<KernelVersion> {
    let strings: BTreeSet<&[u8]> = bytes.split(|&byte| byte == 0).collect();
    // Programs have some names for other reasons; a table has nearly all.
    let known: Vec<Syscall> =
        Syscall::all().filter(|call| strings.contains(call.name().as_bytes())).collect();
    if known.len() < 300 {
        return None;
    }
    known.iter().filter_map(|call| call.since()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_names_shows_its_age() {
        let old =
            |call: &Syscall| call.since().is_none_or(|since| since <= KernelVersion::new(5, 17));
        let names: Vec<&str> = Syscall::all().filter(old).map(Syscall::name).collect();
        let table = format!("\u{7f}ELF\0{}\0", names.join("\0"));
        assert_eq!(newest_in(table.as_bytes()), Some(KernelVersion::new(5, 17)));
        assert_eq!(newest_in(b"read\0write\0mseal\0"), None);
    }
}
