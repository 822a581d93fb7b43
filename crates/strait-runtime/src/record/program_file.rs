//! What a program file tells of itself: its ABI, its build id, and which language runtime is linked
//! into it.

use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Architecture, Object, ObjectSection, ObjectSymbol};
use rustix::fs::{Mode, OFlags};
use strait_abi::Arch;
use strait_kernel::ebpf::FileId;
use strait_policy::recording::{Image, Runtime};

/// The section with the build id that Go's linker writes into every ELF file
/// (`cmd/link/internal/ld/elf.go`); it stays in stripped files.
const GO_BUILD_ID: &str = ".note.go.buildid";

/// The entry of CPython's interpreter, which a `python3` has in itself or takes from `libpython3`
/// (`Programs/python.c`); what embeds the interpreter otherwise is not told by it.
const PYTHON_MAIN: &str = "Py_BytesMain";

/// Adds what the file tells that was run as `path`; nothing where it is gone or no program.
///
/// The path is one below the root directory of the process that ran it, where another file than
/// here may have it. So where it is known which file was run, no other one is asked.
pub(super) fn look_into(path: &Path, id: Option<&FileId>, image: &mut Image) {
    let Some(file) = open(path, id) else { return };
    let cache = ReadCache::new(file);
    let Ok(file) = object::File::parse(&cache) else { return };
    image.arch = arch(&file);
    image.runtime = runtime(&file);
    image.build_id = file.build_id().ok().flatten().map(|id| {
        id.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    });
}

/// The file that was run: as seen from here or from a process that ran it.
fn open(path: &Path, id: Option<&FileId>) -> Option<File> {
    let Some(id) = id else { return open_regular(path) };
    let is_the_one = |file: &File| {
        file.metadata().is_ok_and(|file| (file.ino(), file.size()) == (id.inode, id.size))
    };
    let there = PathBuf::from(format!("/proc/{}/root", id.process));
    let seen_there = path.strip_prefix("/").map(|path| there.join(path));
    let seen_there = || open_regular(&seen_there.ok()?).filter(is_the_one);
    open_regular(path).filter(is_the_one).or_else(seen_there)
}

/// A regular file, to be read. Whoever runs there may have put anything in its place: to open a device
/// acts, and to open a pipe waits.
pub(super) fn open_regular(path: &Path) -> Option<File> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let place = File::from(place);
    let is_regular = place.metadata().is_ok_and(|metadata| metadata.is_file());
    is_regular.then(|| File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok())?
}

fn runtime<'a>(file: &object::File<'a, &'a ReadCache<File>>) -> Option<Runtime> {
    if file.sections().any(|section| section.name() == Ok(GO_BUILD_ID)) {
        return Some(Runtime::Go);
    }
    let python = file.dynamic_symbols().any(|symbol| symbol.name() == Ok(PYTHON_MAIN));
    python.then_some(Runtime::Python)
}

fn arch<'a>(file: &object::File<'a, &'a ReadCache<File>>) -> Option<Arch> {
    match (file.architecture(), file.is_64()) {
        (Architecture::X86_64, true) => Some(Arch::X86_64),
        (Architecture::X86_64_X32, _) | (Architecture::X86_64, false) => Some(Arch::X32),
        (Architecture::I386, _) => Some(Arch::I386),
        (Architecture::Aarch64, true) => Some(Arch::Aarch64),
        (Architecture::Arm, _) => Some(Arch::Arm),
        (Architecture::Riscv64, _) => Some(Arch::Riscv64),
        (Architecture::PowerPc64, _) => Some(Arch::Ppc64le),
        (Architecture::S390x, _) => Some(Arch::S390x),
        (Architecture::LoongArch64, _) => Some(Arch::Loongarch64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::FileType;

    use super::*;

    fn of(path: &str, id: Option<&FileId>) -> Image {
        let mut image = Image::from(path);
        look_into(Path::new(path), id, &mut image);
        image
    }

    #[test]
    fn a_program_tells_its_abi_and_build_id() {
        let image = of("/bin/true", None);
        assert_eq!(image.arch, Arch::NATIVE);
        assert!(image.build_id.is_some_and(|id| id.len() == 40), "Debian's have a SHA-1");
        assert_eq!(of("/nonexistent", None), Image::from("/nonexistent"));
        assert_eq!(of("/dev/null", None), Image::from("/dev/null"));
    }

    #[test]
    fn another_file_at_the_same_path_is_not_asked() {
        let file = File::open("/bin/true").unwrap().metadata().unwrap();
        let id = FileId { inode: file.ino(), size: file.size(), process: i32::MAX };
        assert!(of("/bin/true", Some(&id)).build_id.is_some());
        let other = FileId { inode: file.ino() + 1, ..id };
        assert_eq!(of("/bin/true", Some(&other)), Image::from("/bin/true"));
    }

    #[test]
    fn a_pipe_or_device_in_a_programs_place_is_not_opened() {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let folder = tempfile::tempdir().unwrap();
        let own = |name: &str, kind, device| {
            let path = folder.path().join(name);
            let made = rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), device);
            made.map(|()| path)
        };
        let mut places = vec![own("pipe", FileType::Fifo, 0).unwrap()];
        // Whose opening acts: /dev/null's numbers, by a name of ours.
        match own("device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)) {
            Ok(device) => places.push(device),
            Err(error) => strait_testkit::skip("a device in a program's place", &error.to_string()),
        }
        for place in places {
            let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
            inotify::add_watch(&watch, &place, WatchFlags::OPEN).unwrap();
            let opened = || {
                let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
                inotify::Reader::new(&watch, &mut buffer).next().is_ok()
            };
            let file = fs::symlink_metadata(&place).unwrap();
            let own = std::process::id().cast_signed();
            let id = FileId { inode: file.ino(), size: file.size(), process: own };
            let path = place.to_str().unwrap().to_owned();
            // To open a pipe that nobody writes to waits: another thread does that, and not this one.
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let nothing = Image::from(path.as_str());
                done.send(of(&path, None) == nothing && of(&path, Some(&id)) == nothing)
            });
            let patience = std::time::Duration::from_secs(60);
            assert_eq!(is_done.recv_timeout(patience), Ok(true), "{}", place.display());
            assert!(!opened(), "{}", place.display());
            // And that would have been seen.
            drop(File::options().read(true).write(true).open(&place).unwrap());
            assert!(opened(), "{}", place.display());
        }
    }

    #[test]
    fn a_runtime_is_told_from_others() {
        assert_eq!(of("/bin/true", None).runtime, None);
        let python = Path::new("/usr/bin/python3");
        if python.exists() {
            assert_eq!(of("/usr/bin/python3", None).runtime, Some(Runtime::Python));
        } else {
            strait_testkit::skip("a_runtime_is_told_from_others", "python3 is not installed");
        }
        let fzf = Path::new("/usr/bin/fzf");
        if fzf.exists() {
            assert_eq!(of("/usr/bin/fzf", None).runtime, Some(Runtime::Go));
        } else {
            strait_testkit::skip("a_runtime_is_told_from_others", "fzf is not installed");
        }
    }
}
