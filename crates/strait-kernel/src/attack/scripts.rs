//! What each attack does, as a script of raw calls.
//!
//! Structures are those of the kernel's headers: `linux/io_uring.h`, `linux/sched.h` (`clone_args`),
//! `linux/openat2.h`, `linux/seccomp.h`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, RawFd};

use super::fixture::{self, Fixture};
use super::script::{Board, CODE, Expect, Operand, Script, Step};
use super::{Attack, Harmless};

const READ_WRITE: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const READ_EXECUTE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const PRIVATE: u64 = libc::MAP_PRIVATE as u64;
const ANONYMOUS: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
const PAGE: u64 = 4096;

/// The script of an attack.
pub(super) fn script(attack: &Attack, fixture: &Fixture, board: &Board) -> Script {
    let mut script = Script::new(board);
    match attack {
        Attack::IoUringOpen => io_uring_open(&mut script),
        Attack::IoUringSocket => io_uring_socket(&mut script),
        Attack::I386Entry => {
            script.step(Step::Int80 { name: "int $0x80 getpid", nr: 20 });
        }
        Attack::X32Entry => {
            script.call("x32 getpid", libc::SYS_getpid | 0x4000_0000, &[]);
        }
        Attack::HighBitsSocket { domain, kind } => {
            let domain = u64::from(*domain) | 1 << 32;
            script.call("socket", libc::SYS_socket, &[domain.into(), u64::from(*kind).into()]);
        }
        Attack::HighBitsIoctl => tiocsti(&mut script, fixture, 1 << 32),
        Attack::Tiocsti => tiocsti(&mut script, fixture, 0),
        Attack::Clone3Namespace => {
            // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
            let args = [NEW_USER, 0, 0, 0, SIGCHLD, 0, 0, 0];
            let args = script.words(&args);
            let arguments = [args.into(), Operand::Value(64)];
            script.call_expecting("clone3", libc::SYS_clone3, &arguments, Expect::ShortTask);
        }
        Attack::CloneNamespace => {
            let arguments = [(NEW_USER | SIGCHLD).into()];
            script.call_expecting("clone", libc::SYS_clone, &arguments, Expect::ShortTask);
        }
        Attack::Openat2 { write } => {
            let (path, flags) = opened(&mut script, fixture, *write);
            // flags, mode, resolve
            let how = script.words(&[flags, if *write { 0o600 } else { 0 }, 0]);
            let arguments = [libc::AT_FDCWD.into(), path.into(), how.into(), 24.into()];
            script.call("openat2", libc::SYS_openat2, &arguments);
        }
        Attack::OpenTwin { write } => {
            let (path, flags) = opened(&mut script, fixture, *write);
            script.call("open", libc::SYS_open, &[path.into(), flags.into(), 0o600.into()]);
        }
        Attack::CreateReadOnly => {
            let path = script.text(&fixture.new_file());
            open(&mut script, path, libc::O_RDONLY | libc::O_CREAT);
        }
        Attack::EmptyReadOnly => {
            let path = script.text(&fixture.program_path());
            open(&mut script, path, libc::O_RDONLY | libc::O_TRUNC);
        }
        Attack::OpenByHandle => {
            let handle = script.bytes(&fixture.handle);
            let mount = descriptor(fixture.root.as_ref());
            let arguments = [mount, handle.into(), libc::O_RDONLY.into()];
            script.call("open_by_handle_at", libc::SYS_open_by_handle_at, &arguments);
        }
        Attack::Execveat => {
            execute(&mut script, descriptor(Some(&fixture.program)));
        }
        Attack::MemfdExec => memfd_exec(&mut script, fixture),
        Attack::MapExecutable => {
            let all = READ_WRITE | READ_EXECUTE;
            let mapped = map(&mut script, all, ANONYMOUS, (-1).into());
            write_code(&mut script, mapped);
            script.step(Step::Enter { name: "new code", at: Operand::Result(mapped) });
        }
        Attack::ProtectExecutable => {
            let mapped = map(&mut script, READ_WRITE, ANONYMOUS, (-1).into());
            write_code(&mut script, mapped);
            let arguments = [Operand::Result(mapped), PAGE.into(), READ_EXECUTE.into()];
            script.call("mprotect", libc::SYS_mprotect, &arguments);
            script.step(Step::Enter { name: "new code", at: Operand::Result(mapped) });
        }
        Attack::MapFileExecutable => {
            let path = script.text(&fixture.new_file());
            let flags = libc::O_RDWR | libc::O_CREAT;
            let arguments = [libc::AT_FDCWD.into(), path.into(), flags.into(), 0o600.into()];
            let file = script.call("openat", libc::SYS_openat, &arguments);
            let code = script.bytes(&CODE);
            let arguments = [Operand::Result(file), code.into(), (CODE.len() as u64).into()];
            script.call("write", libc::SYS_write, &arguments);
            let mapped = map(&mut script, READ_EXECUTE, PRIVATE, Operand::Result(file));
            script.step(Step::Enter { name: "new code", at: Operand::Result(mapped) });
        }
        Attack::ProcSelfMem => {
            let path = script.text(b"/proc/self/mem");
            let file = open(&mut script, path, libc::O_RDWR);
            let code = script.bytes(&CODE);
            let length = CODE.len() as u64;
            let arguments =
                [Operand::Result(file), code.into(), length.into(), fixture.page().into()];
            script.call("pwrite64", libc::SYS_pwrite64, &arguments);
            script.step(Step::Enter { name: "new code", at: fixture.page().into() });
        }
        Attack::Ptrace => {
            let arguments = [PTRACE_SEIZE.into(), bystander(fixture)];
            script.call("ptrace", libc::SYS_ptrace, &arguments);
        }
        Attack::ProcessVmRead => {
            let buffer = script.space(8);
            // Both have the page at the same address.
            let (ours, theirs) = (script.words(&[buffer, 8]), script.words(&[fixture.page(), 8]));
            let one = Operand::Value(1);
            let arguments = [bystander(fixture), ours.into(), one, theirs.into(), one];
            script.call("process_vm_readv", libc::SYS_process_vm_readv, &arguments);
        }
        Attack::ProcMem => {
            let path = script.text(&of_bystander(fixture, "mem"));
            let file = open(&mut script, path, libc::O_RDONLY);
            let buffer = script.space(8);
            let arguments = [Operand::Result(file), buffer.into(), 8.into(), fixture.page().into()];
            script.call("pread64", libc::SYS_pread64, &arguments);
        }
        Attack::ProcEnviron => {
            let path = script.text(&of_bystander(fixture, "environ"));
            let file = open(&mut script, path, libc::O_RDONLY);
            let buffer = script.space(8);
            let arguments = [Operand::Result(file), buffer.into(), 8.into()];
            script.call("read", libc::SYS_read, &arguments);
        }
        Attack::ProcRoot => {
            let path = script.text(&of_bystander(fixture, "root"));
            open(&mut script, path, libc::O_RDONLY | libc::O_DIRECTORY);
        }
        Attack::Setns => {
            let path = script.text(&of_bystander(fixture, "ns/uts"));
            let file = open(&mut script, path, libc::O_RDONLY);
            script.call("setns", libc::SYS_setns, &[Operand::Result(file), 0.into()]);
        }
        Attack::PidfdGetfd => {
            let arguments = [bystander(fixture), 0.into()];
            let pidfd = script.call("pidfd_open", libc::SYS_pidfd_open, &arguments);
            let wanted = descriptor(Some(&fixture.program));
            let arguments = [Operand::Result(pidfd), wanted, 0.into()];
            script.call("pidfd_getfd", libc::SYS_pidfd_getfd, &arguments);
        }
        Attack::Kcmp => {
            let other = bystander(fixture);
            script.call("kcmp", libc::SYS_kcmp, &[other, other, KCMP_VM.into()]);
        }
        Attack::SignalOutside => {
            let arguments = [bystander(fixture), libc::SIGCONT.into()];
            script.call("kill", libc::SYS_kill, &arguments);
        }
        Attack::Connect(_) => {
            let tcp = socket(&mut script, libc::AF_INET, libc::SOCK_STREAM);
            connect(&mut script, fixture, Operand::Result(tcp));
        }
        Attack::ConnectMultipath(_) => {
            let arguments =
                [libc::AF_INET.into(), libc::SOCK_STREAM.into(), libc::IPPROTO_MPTCP.into()];
            let multipath = script.call("socket", libc::SYS_socket, &arguments);
            connect(&mut script, fixture, Operand::Result(multipath));
        }
        Attack::RewriteAddress { to, shown } => rewrite_address(&mut script, fixture, *to, *shown),
        Attack::ConnectInherited(_) => {
            connect(&mut script, fixture, descriptor(Some(&fixture.stream)));
        }
        Attack::SendInherited { message, .. } => send_inherited(&mut script, fixture, *message),
        Attack::FastOpen(_) => {
            let tcp = socket(&mut script, libc::AF_INET, libc::SOCK_STREAM);
            let address = script.bytes(&fixture.tcp_address());
            let data = script.bytes(b"x");
            let arguments = [
                Operand::Result(tcp),
                data.into(),
                1.into(),
                libc::MSG_FASTOPEN.into(),
                address.into(),
                16.into(),
            ];
            script.call("sendto", libc::SYS_sendto, &arguments);
        }
        Attack::UnixDatagram => {
            let datagram = socket(&mut script, libc::AF_UNIX, libc::SOCK_DGRAM);
            let address = fixture.unix_address();
            let length = address.len() as u64;
            let address = script.bytes(&address);
            let data = script.bytes(b"x");
            let arguments = [
                Operand::Result(datagram),
                data.into(),
                1.into(),
                0.into(),
                address.into(),
                length.into(),
            ];
            script.call("sendto", libc::SYS_sendto, &arguments);
        }
        Attack::AbstractSocket => {
            let stream = socket(&mut script, libc::AF_UNIX, libc::SOCK_STREAM);
            let address = fixture.abstract_address();
            let length = address.len() as u64;
            let address = script.bytes(&address);
            let arguments = [Operand::Result(stream), address.into(), length.into()];
            script.call("connect", libc::SYS_connect, &arguments);
        }
        Attack::ExecOutside => {
            let path = script.text(&fixture.program_path());
            let arguments = [path.into(), 0.into(), 0.into()];
            script.call_expecting("execve", libc::SYS_execve, &arguments, Expect::Exec);
        }
        Attack::Loader => {
            let loader = script.text(LOADER);
            let program = script.text(DYNAMIC_PROGRAM);
            let words = script.words(&[loader, program, 0]);
            let arguments = [loader.into(), words.into(), 0.into()];
            script.call_expecting("execve", libc::SYS_execve, &arguments, Expect::ExecWell);
        }
        Attack::NestedListener(call) => nested_listener(&mut script, *call),
        Attack::EarlyThread(call) | Attack::Unanswered(call) => {
            call.add_to(&mut script);
        }
    }
    script
}

/// The loader of x86_64's psABI, and a program that it can load.
const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2";
const DYNAMIC_PROGRAM: &[u8] = b"/bin/true";

const NEW_USER: u64 = libc::CLONE_NEWUSER as u64;
const SIGCHLD: u64 = libc::SIGCHLD as u64;
const PTRACE_SEIZE: u64 = 0x4206;
const KCMP_VM: u64 = 1;

impl Harmless {
    /// The call with its arguments and what the kernel itself answers.
    fn add_to(self, script: &mut Script) -> usize {
        let path = script.text(b"/");
        let mut args = self.args();
        if self == Harmless::Open {
            args[1] = path;
        }
        let args = args.map(Operand::Value);
        let expect = match self.answer() {
            None => Expect::Success,
            Some(errno) => Expect::Result(-i64::from(errno)),
        };
        script.call_expecting(self.name(), self.number(), &args, expect)
    }
}

fn descriptor(fd: Option<&impl AsRawFd>) -> Operand {
    let none: RawFd = -1;
    fd.map_or(none, AsRawFd::as_raw_fd).into()
}

fn bystander(fixture: &Fixture) -> Operand {
    fixture.bystander().into()
}

fn of_bystander(fixture: &Fixture, file: &str) -> Vec<u8> {
    format!("/proc/{}/{file}", fixture.bystander()).into_bytes()
}

fn open(script: &mut Script, path: u64, flags: i32) -> usize {
    let arguments = [libc::AT_FDCWD.into(), path.into(), flags.into()];
    script.call("openat", libc::SYS_openat, &arguments)
}

fn socket(script: &mut Script, domain: i32, kind: i32) -> usize {
    script.call("socket", libc::SYS_socket, &[domain.into(), kind.into()])
}

/// Connects to what listens.
fn connect(script: &mut Script, fixture: &Fixture, socket: Operand) {
    let address = script.bytes(&fixture.tcp_address());
    script.call("connect", libc::SYS_connect, &[socket, address.into(), 16.into()]);
}

/// Connects a datagram socket, which sends nothing, to an address that is exchanged meanwhile, until
/// the kernel says that its peer is the one that is aimed at.
fn rewrite_address(script: &mut Script, fixture: &Fixture, to: Ipv4Addr, shown: SocketAddrV4) {
    let datagram = socket(script, libc::AF_INET, libc::SOCK_DGRAM);
    let aimed_at = fixture.tcp_address();
    let (showing, aiming) = (first_word(fixture::internet_address(shown)), first_word(aimed_at));
    let address = script.bytes(&fixture::internet_address(shown));
    script.rewritten = Some((address, [showing, aiming]));
    let (peer, length) = (script.space(16), script.words(&[16]));
    let arguments = [Operand::Result(datagram), address.into(), 16.into()];
    let again = script.call_expecting("connect", libc::SYS_connect, &arguments, Expect::Any);
    script.step(Step::Store { at: length.into(), value: 16.into() });
    let arguments = [Operand::Result(datagram), peer.into(), length.into()];
    script.call_expecting("getpeername", libc::SYS_getpeername, &arguments, Expect::Any);
    // struct sockaddr_in: sin_addr
    let (at, is) = ((peer + 4).into(), u32::from_ne_bytes(to.octets()));
    script.step(Step::Until {
        name: "connecting to an address that is exchanged",
        at,
        is,
        again,
        times: TIMES,
    });
}

/// How often an address is tried, if there is time.
const TIMES: u32 = 3000;

/// Family, port and address of a `struct sockaddr_in`.
fn first_word(address: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = address;
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn send_inherited(script: &mut Script, fixture: &Fixture, message: bool) {
    let socket = descriptor(Some(&fixture.datagram));
    let (address, data) = (script.bytes(&fixture.tcp_address()), script.bytes(b"x"));
    if message {
        let vector = script.words(&[data, 1]);
        // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags
        let header = script.words(&[address, 16, vector, 1, 0, 0, 0]);
        script.call("sendmsg", libc::SYS_sendmsg, &[socket, header.into(), 0.into()]);
    } else {
        let arguments = [socket, data.into(), 1.into(), 0.into(), address.into(), 16.into()];
        script.call("sendto", libc::SYS_sendto, &arguments);
    }
}

/// What an attack on the rules for opening files opens, and with which flags.
fn opened(script: &mut Script, fixture: &Fixture, write: bool) -> (u64, u64) {
    let (path, flags) = match write {
        false => (b"/".to_vec(), libc::O_RDONLY),
        true => (fixture.new_file(), libc::O_WRONLY | libc::O_CREAT),
    };
    (script.text(&path), i64::from(flags).cast_unsigned())
}

fn map(script: &mut Script, protection: u64, flags: u64, file: Operand) -> usize {
    let arguments = [0.into(), PAGE.into(), protection.into(), flags.into(), file, 0.into()];
    script.call("mmap", libc::SYS_mmap, &arguments)
}

/// Stores the code at the address that a step gave.
fn write_code(script: &mut Script, mapped: usize) {
    let mut words = [0_u8; 8];
    words[..CODE.len()].copy_from_slice(&CODE);
    for (index, word) in words.chunks(4).enumerate() {
        let value = word.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
        let at = Operand::Past(mapped, 4 * index as u64);
        script.step(Step::Store { at, value: value.into() });
    }
}

/// Executes the program of a descriptor.
fn execute(script: &mut Script, program: Operand) {
    let empty = script.text(b"");
    let arguments = [program, empty.into(), 0.into(), 0.into(), libc::AT_EMPTY_PATH.into()];
    script.call_expecting("execveat", libc::SYS_execveat, &arguments, Expect::Exec);
}

fn memfd_exec(script: &mut Script, fixture: &Fixture) {
    let name = script.text(b"strait");
    let arguments = [name.into(), 0.into()];
    let file = script.call("memfd_create", libc::SYS_memfd_create, &arguments);
    let program = script.bytes(super::fixture::PROGRAM);
    let length = super::fixture::PROGRAM.len() as u64;
    script.call("write", libc::SYS_write, &[Operand::Result(file), program.into(), length.into()]);
    // By path, which needs no execveat: the number that the next descriptor gets is known.
    let path = script.text(format!("/proc/self/fd/{}", fixture.next_descriptor).as_bytes());
    let arguments = [path.into(), 0.into(), 0.into()];
    script.call_expecting("execve", libc::SYS_execve, &arguments, Expect::Exec);
}

fn tiocsti(script: &mut Script, fixture: &Fixture, more: u64) {
    let terminal = descriptor(fixture.terminal.as_ref());
    let byte = script.bytes(b"x");
    let arguments = [terminal, (libc::TIOCSTI | more).into(), byte.into()];
    script.call("ioctl", libc::SYS_ioctl, &arguments);
}

/// A ring with one entry; gives the steps of its descriptor, its rings and its entries, and the
/// address of its parameters.
fn ring(script: &mut Script) -> (usize, usize, usize, u64) {
    let parameters = script.space(120);
    let arguments = [Operand::Value(1), parameters.into()];
    let ring = script.call("io_uring_setup", libc::SYS_io_uring_setup, &arguments);
    let shared = (libc::MAP_SHARED | libc::MAP_POPULATE) as u64;
    let mut map = |offset: u64| {
        let arguments = [
            0.into(),
            PAGE.into(),
            READ_WRITE.into(),
            shared.into(),
            Operand::Result(ring),
            offset.into(),
        ];
        script.call("mmap", libc::SYS_mmap, &arguments)
    };
    // IORING_OFF_SQ_RING (with IORING_FEAT_SINGLE_MMAP both rings) and IORING_OFF_SQES.
    let (rings, entries) = (map(0), map(0x1000_0000));
    (ring, rings, entries, parameters)
}

/// Fills the entry (offset and value of each of its words), submits it and looks at its result.
fn submit(
    script: &mut Script,
    (ring, rings, entries, parameters): (usize, usize, usize, u64),
    name: &'static str,
    words: &[(u64, u64)],
) {
    for &(offset, value) in words {
        let at = Operand::Past(entries, offset);
        script.step(Step::Store { at, value: value.into() });
    }
    // struct io_uring_params: sq_off.tail, sq_off.array, cq_off.cqes
    let mut offset = |at: u64| script.step(Step::Load { at: (parameters + at).into() });
    let (tail, array, completions) = (offset(44), offset(64), offset(100));
    let (first, one) = (Operand::Value(0), Operand::Value(1));
    script.step(Step::Store { at: Operand::Sum(rings, array, 0), value: first });
    script.step(Step::Store { at: Operand::Sum(rings, tail, 0), value: one });
    // Submit one, wait for one (IORING_ENTER_GETEVENTS).
    let arguments = [Operand::Result(ring), one, one, one];
    script.call("io_uring_enter", libc::SYS_io_uring_enter, &arguments);
    // struct io_uring_cqe: user_data, res
    script.step(Step::Completion { name, at: Operand::Sum(rings, completions, 8) });
}

fn io_uring_open(script: &mut Script) {
    let path = script.text(b"/");
    let at_cwd = i64::from(libc::AT_FDCWD).cast_unsigned();
    let ring = ring(script);
    // struct io_uring_sqe: opcode (IORING_OP_OPENAT), fd, addr, len (mode), open_flags
    let words = [(0, 18), (4, at_cwd), (16, path), (20, path >> 32), (24, 0), (28, 0)];
    submit(script, ring, "IORING_OP_OPENAT", &words);
}

fn io_uring_socket(script: &mut Script) {
    let ring = ring(script);
    // struct io_uring_sqe: opcode (IORING_OP_SOCKET), fd (domain), off (type), len (protocol)
    let (domain, kind) = (libc::AF_INET as u64, libc::SOCK_DGRAM as u64);
    submit(script, ring, "IORING_OP_SOCKET", &[(0, 45), (4, domain), (8, kind), (24, 0)]);
}

/// Loads a filter with a listener over the policy's, and lets a call pass itself that the policy
/// notifies.
fn nested_listener(script: &mut Script, call: Harmless) {
    // if (nr == CALL) notify, else allow; only numbers of this ABI are made here.
    let insns = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        libc::sock_filter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: u32::try_from(call.number()).unwrap_or(u32::MAX),
        },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_USER_NOTIF },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let words: Vec<u64> = insns
        .iter()
        .map(|insn| {
            u64::from(insn.code)
                | u64::from(insn.jt) << 16
                | u64::from(insn.jf) << 24
                | u64::from(insn.k) << 32
        })
        .collect();
    let program = script.words(&words);
    let fprog = script.words(&[words.len() as u64, program]);
    let load = u64::from(libc::SECCOMP_SET_MODE_FILTER);
    let arguments = [load.into(), libc::SECCOMP_FILTER_FLAG_NEW_LISTENER.into(), fprog.into()];
    let listener = script.call("seccomp", libc::SYS_seccomp, &arguments);
    let (notification, response) = (script.space(1024), script.space(24));
    // The new task makes the call; this one answers it.
    let in_new_task = script.steps.len() + 9;
    script.call_expecting("clone", libc::SYS_clone, &[SIGCHLD.into()], Expect::Task(in_new_task));
    let receive = libc::SECCOMP_IOCTL_NOTIF_RECV;
    let arguments = [Operand::Result(listener), receive.into(), notification.into()];
    script.call("SECCOMP_IOCTL_NOTIF_RECV", libc::SYS_ioctl, &arguments);
    // struct seccomp_notif_resp: id, val, error, flags
    for offset in [0, 4] {
        let half = script.step(Step::Load { at: (notification + offset).into() });
        script.step(Step::Store { at: (response + offset).into(), value: Operand::Result(half) });
    }
    let go_on = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    script.step(Step::Store { at: (response + 20).into(), value: go_on.into() });
    let send = libc::SECCOMP_IOCTL_NOTIF_SEND;
    let arguments = [Operand::Result(listener), send.into(), response.into()];
    script.call("SECCOMP_IOCTL_NOTIF_SEND", libc::SYS_ioctl, &arguments);
    script.step(Step::Await);
    debug_assert_eq!(script.steps.len(), in_new_task);
    call.add_to(script);
}
