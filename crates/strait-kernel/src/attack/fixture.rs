//! What attacks are made on: made by the parent, so that the attacked child finds it there.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mm::{MapFlags, ProtFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Pid;
use rustix::pty::OpenptFlags;

use super::script;

/// A program that ends by an illegal instruction at once, without a call: ELF64 for x86_64, its one
/// segment the file itself.
pub(super) const PROGRAM: &[u8] = &[
    0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // ident
    2, 0, 0x3e, 0, 1, 0, 0, 0, // an executable of x86_64, version 1
    0x78, 0, 0x40, 0, 0, 0, 0, 0, // entry
    0x40, 0, 0, 0, 0, 0, 0, 0, // program headers
    0, 0, 0, 0, 0, 0, 0, 0, // no section headers
    0, 0, 0, 0, 0x40, 0, 0x38, 0, 1, 0, 0, 0, 0, 0, 0,
    0, // flags and sizes: one program header
    1, 0, 0, 0, 5, 0, 0, 0, // load, readable and executable
    0, 0, 0, 0, 0, 0, 0, 0, // from the start of the file
    0, 0, 0x40, 0, 0, 0, 0, 0, // to this address
    0, 0, 0x40, 0, 0, 0, 0, 0, //
    0x7a, 0, 0, 0, 0, 0, 0, 0, // that many bytes of the file
    0x7a, 0, 0, 0, 0, 0, 0, 0, // and of memory
    0, 0x10, 0, 0, 0, 0, 0, 0, // aligned to a page
    0x0f, 0x0b, // ud2
];

/// What attacks are made on. Gone when it is dropped.
#[derive(Debug)]
pub(super) struct Fixture {
    /// A file that holds [`PROGRAM`].
    pub(super) program: File,
    /// The directory `/`.
    pub(super) root: Option<File>,
    /// A handle of `/` for open_by_handle_at(2), empty where the file system has none.
    pub(super) handle: Vec<u8>,
    /// A terminal that the child makes its own.
    pub(super) terminal: Option<OwnedFd>,
    /// Sockets that a child has from the start, for TCP and for UDP.
    pub(super) stream: OwnedFd,
    pub(super) datagram: OwnedFd,
    /// The number that the child's next descriptor gets.
    pub(super) next_descriptor: RawFd,
    _controller: Option<OwnedFd>,
    tcp: TcpListener,
    _unix: UnixDatagram,
    abstract_name: Vec<u8>,
    _abstract: UnixListener,
    directory: Directory,
    bystander: Bystander,
    page: Page,
}

impl Fixture {
    /// Makes all of it. What listens, listens at `address`; the child has so many `more` descriptors than
    /// its parent.
    pub(super) fn new(address: Ipv4Addr, more: RawFd) -> io::Result<Fixture> {
        let memfd = rustix::fs::memfd_create("strait", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut writable = File::from(memfd);
        writable.write_all(PROGRAM)?;
        // What stands for a file on disk is not open for writing.
        let program = File::open(format!("/proc/self/fd/{}", writable.as_raw_fd()))?;
        drop(writable);
        let directory = Directory::new()?;
        let unix = UnixDatagram::bind(directory.path.join(SOCKET))?;
        directory.write_program()?;
        let abstract_name = directory.path.as_os_str().as_bytes().to_vec();
        let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&abstract_name)?)?;
        let root = File::open("/").ok();
        let handle = root.as_ref().map_or(Vec::new(), handle_of);
        let (controller, terminal) = terminal().map_or((None, None), |(a, b)| (Some(a), Some(b)));
        let tcp = TcpListener::bind((address, 0))?;
        let socket = |kind| {
            let flags = SocketFlags::CLOEXEC;
            rustix::net::socket_with(AddressFamily::INET, kind, flags, None)
        };
        let (stream, datagram) = (socket(SocketType::STREAM)?, socket(SocketType::DGRAM)?);
        let page = Page::new()?;
        let bystander = Bystander::start()?;
        let next_descriptor = File::open("/dev/null")?.as_raw_fd() + more;
        Ok(Fixture {
            program,
            root,
            handle,
            terminal,
            stream,
            datagram,
            next_descriptor,
            _controller: controller,
            tcp,
            _unix: unix,
            abstract_name,
            _abstract: listener,
            directory,
            bystander,
            page,
        })
    }

    /// A process of the same user outside of the confined one.
    pub(super) fn bystander(&self) -> i32 {
        self.bystander.0.as_raw_pid()
    }

    /// The path of a file that is not there yet, in a directory of ours.
    pub(super) fn new_file(&self) -> Vec<u8> {
        self.directory.path.join(NEW_FILE).into_os_string().as_bytes().to_vec()
    }

    /// The path of a file that holds [`PROGRAM`] and may be executed.
    pub(super) fn program_path(&self) -> Vec<u8> {
        self.directory.path.join(PROGRAM_FILE).into_os_string().as_bytes().to_vec()
    }

    /// Where somebody listens without a file: `struct sockaddr_un` with an abstract name.
    pub(super) fn abstract_address(&self) -> Vec<u8> {
        let mut address = 1_u16.to_ne_bytes().to_vec();
        address.push(0);
        address.extend(&self.abstract_name);
        address
    }

    /// The address of a page that may be executed and not written.
    pub(super) fn page(&self) -> u64 {
        self.page.0 as u64
    }

    /// Where something listens: `struct sockaddr_in`.
    pub(super) fn tcp_address(&self) -> [u8; 16] {
        match self.tcp.local_addr() {
            Ok(SocketAddr::V4(address)) => internet_address(address),
            // It was bound to one of these.
            _ => [0; 16],
        }
    }

    /// Where something receives datagrams: `struct sockaddr_un`.
    pub(super) fn unix_address(&self) -> Vec<u8> {
        let mut address = 1_u16.to_ne_bytes().to_vec();
        address.extend(self.directory.path.join(SOCKET).into_os_string().as_bytes());
        address.push(0);
        address
    }
}

/// `struct sockaddr_in`.
pub(super) fn internet_address(address: SocketAddrV4) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

const SOCKET: &str = "socket";
const NEW_FILE: &str = "new";
const PROGRAM_FILE: &str = "program";

/// A directory that nobody else may enter, removed with what attacks may have left in it.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> io::Result<Directory> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let mut name = OsString::from("strait-attack-");
            name.push(std::process::id().to_string());
            name.push("-");
            name.push(COUNT.fetch_add(1, Ordering::Relaxed).to_string());
            let path = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory { path }),
                // One that was killed, and had the same process id, may have left it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_program(&self) -> io::Result<()> {
        let path = self.path.join(PROGRAM_FILE);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o700).open(path)?.write_all(PROGRAM)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for name in [SOCKET, NEW_FILE, PROGRAM_FILE] {
            let _ = fs::remove_file(self.path.join(name));
        }
        let _ = fs::remove_dir(&self.path);
    }
}

/// A process that does nothing.
#[derive(Debug)]
struct Bystander(Pid);

impl Bystander {
    fn start() -> io::Result<Bystander> {
        // SAFETY: the child makes raw calls alone, which are allowed between fork and exec in a
        // process that had several threads.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                super::child::end_with_parent();
                loop {
                    // SAFETY: pause(2) takes nothing and touches no memory.
                    unsafe { script::syscall(libc::SYS_pause.cast_unsigned(), [0; 6]) };
                }
            }
            pid => Pid::from_raw(pid).map(Bystander).ok_or_else(io::Error::last_os_error),
        }
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), rustix::process::WaitOptions::empty());
    }
}

/// A page that may be executed and not written.
#[derive(Debug)]
struct Page(*mut std::ffi::c_void);

const PAGE: usize = 4096;

impl Page {
    fn new() -> io::Result<Page> {
        let protection = ProtFlags::READ | ProtFlags::EXEC;
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let page = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE)
        }?;
        Ok(Page(page))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new` with this length, and nobody has a reference to it.
        let _ = unsafe { rustix::mm::munmap(self.0, PAGE) };
    }
}

/// The two ends of a terminal: the controller's and the one that programs have.
fn terminal() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&controller)?;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags)?;
    Ok((controller, terminal))
}

/// The handle of an open directory as open_by_handle_at(2) takes it; empty where there is none.
fn handle_of(directory: &File) -> Vec<u8> {
    // struct file_handle: handle_bytes, handle_type, f_handle[MAX_HANDLE_SZ]
    let mut handle = vec![0_u8; 8 + 128];
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let mut mount = 0_i32;
    // SAFETY: the handle has room for as many bytes as it says, the path is a NUL-terminated
    // string, and the mount's number is written to an int.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            directory.as_raw_fd(),
            c"".as_ptr(),
            handle.as_mut_ptr(),
            &raw mut mount,
            libc::AT_EMPTY_PATH,
        )
    };
    if done == 0 { handle } else { Vec::new() }
}
