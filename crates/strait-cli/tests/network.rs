//! `strait run` under a policy with `network`: where the command gets to, what is told of where it does
//! not, and what happens to calls in the middle of which something else does.
//!
//! Everything is on the loopback device. Ports are the kernel's to choose, so that tests run beside
//! each other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use strait_testkit::script::{PYTHON, Talk, events, has_python};
use strait_testkit::skip;
use tempfile::TempDir;

/// What scripts begin with: `t(NAME, FUNCTION)` prints how it went.
const PRELUDE: &str = "\
import ctypes, errno, os, signal, socket as s, struct, sys, threading, time
def t(name, f):
  try: r = f(); print(name, 'ok' if r is None or not isinstance(r, (int, bytes, str)) else r, flush=True)
  except OSError as e: print(name, errno.errorcode.get(e.errno, e.errno), flush=True)
def con(address, family=s.AF_INET, kind=s.SOCK_STREAM, protocol=0):
  x = s.socket(family, kind, protocol); x.connect(address); return x
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
  r = libc.syscall(*args)
  if r < 0: raise OSError(ctypes.get_errno(), '')
  return r
";

struct Bench {
    dir: TempDir,
}

impl Bench {
    fn new(test: &str) -> Option<Bench> {
        if !has_python(test) {
            return None;
        }
        Some(Bench { dir: TempDir::new().unwrap() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command under a policy that allows every call and has this `network`.
    fn command(&self, network: &str, options: &[&str]) -> Command {
        let policy = format!(
            "apiVersion: strait.dev/v1alpha1\nkind: SyscallPolicy\nspec:\n  architectures: [x86_64]\n  \
             default: allow\n  network: {network}\n"
        );
        fs::write(self.file("p.yaml"), policy).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_strait"));
        command.arg("run").arg("--policy").arg(self.file("p.yaml"));
        if !options.contains(&"--denials") {
            command.args(["--denials", "json"]);
        }
        command.args(options).arg("--");
        command
    }

    fn python(&self, network: &str, options: &[&str], script: &str) -> Command {
        let mut command = self.command(network, options);
        command.args([PYTHON, "-c", &format!("{PRELUDE}{script}")]);
        command
    }

    fn run(&self, network: &str, script: &str) -> Output {
        self.python(network, &[], script).output().unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned()
}

/// Waits until something holds; the test fails if it never does.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_command_gets_where_its_policy_lets_it_and_nowhere_else() {
    let Some(bench) = Bench::new("a_command_gets_where_its_policy_lets_it") else { return };
    let (good, bad) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (good_udp, bad_udp) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports: Vec<u16> = [&good, &bad]
        .map(|socket| socket.local_addr().unwrap().port())
        .into_iter()
        .chain([&good_udp, &bad_udp].map(|socket| socket.local_addr().unwrap().port()))
        .collect();
    let [g, b, gu, bu] = ports[..] else { unreachable!() };
    let network = format!("{{connect: [\"127.0.0.1:{g}\", \"127.0.0.1:{gu}\", \"[::1]:{g}\"]}}");
    let script = format!(
        "
g, b, gu, bu = {g}, {b}, {gu}, {bu}
t('tcp', lambda: con(('127.0.0.1', g)))
t('tcp denied', lambda: con(('127.0.0.1', b)))
t('any', lambda: con(('0.0.0.0', g)))
t('mapped', lambda: con(('::ffff:127.0.0.1', g), s.AF_INET6))
t('mapped denied', lambda: con(('::ffff:127.0.0.1', b), s.AF_INET6))
t('v6 denied', lambda: con(('::1', b), s.AF_INET6))
t('v6 permitted', lambda: con(('::1', g), s.AF_INET6))
u = s.socket(s.AF_INET, s.SOCK_DGRAM)
t('sendto', lambda: u.sendto(b'to', ('127.0.0.1', gu)))
t('sendto denied', lambda: u.sendto(b'no', ('127.0.0.1', bu)))
t('sendmsg', lambda: u.sendmsg([b'm', b'sg'], [], 0, ('127.0.0.1', gu)))
t('sendmsg denied', lambda: u.sendmsg([b'no'], [], 0, ('127.0.0.1', bu)))
u6 = s.socket(s.AF_INET6, s.SOCK_DGRAM)
t('sendto mapped', lambda: u6.sendto(b'mapped', ('::ffff:127.0.0.1', gu)))
t('sendto mapped denied', lambda: u6.sendto(b'no', ('::ffff:127.0.0.1', bu)))
v4 = lambda port, family=s.AF_INET: struct.pack('=H', family) + struct.pack('>H4s8x', port, bytes([127, 0, 0, 1]))
t('sendto v4 by v6', lambda: call(44, u6.fileno(), b'v4v6', 4, 0, v4(gu), 16))
t('sendto v4 by v6 denied', lambda: call(44, u6.fileno(), b'no', 2, 0, v4(bu), 16))
t('sendto unspec', lambda: call(44, u.fileno(), b'unspec', 6, 0, v4(gu, 0), 16))
t('sendto unspec denied', lambda: call(44, u.fileno(), b'no', 2, 0, v4(bu, 0), 16))
t('bad pointer', lambda: call(42, u.fileno(), 1, 16))
t('short', lambda: call(42, u.fileno(), v4(gu), 8))
t('long', lambda: call(42, u.fileno(), v4(gu) * 20, 320))
t('no socket', lambda: call(42, 0, v4(gu), 16))
t('not open', lambda: call(42, 77, v4(gu), 16))
class iovec(ctypes.Structure): _fields_ = [('base', ctypes.c_char_p), ('len', ctypes.c_size_t)]
class msghdr(ctypes.Structure): _fields_ = [('name', ctypes.c_char_p), ('namelen', ctypes.c_uint), ('iov', ctypes.POINTER(iovec)), ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int), ('sent', ctypes.c_uint)]
class mmsghdr(ctypes.Structure): _fields_ = [('name', ctypes.c_char_p), ('namelen', ctypes.c_uint), ('iov', ctypes.POINTER(iovec)), ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int), ('pad', ctypes.c_int), ('sent', ctypes.c_uint), ('pad2', ctypes.c_int)]
def mm(*ports):
  m = (mmsghdr * len(ports))()
  for i, port in enumerate(ports):
    m[i].name, m[i].namelen, m[i].iovlen = v4(port), 16, 1
    m[i].iov = ctypes.pointer(iovec(b'many' + b'!' * i, 4 + i))
  r = call(307, u.fileno(), m, len(ports), 0)
  return str((r, [x.sent for x in m]))
t('sendmmsg', lambda: mm(gu, gu))
t('sendmmsg denied', lambda: mm(bu, gu))
t('sendmmsg half', lambda: mm(gu, bu))
t('connect', lambda: u.connect(('127.0.0.1', gu)))
t('send', lambda: u.send(b'send'))
t('sendmsg connected', lambda: u.sendmsg([b'connected']))
t('dissolve', lambda: call(42, u.fileno(), b'\\0' * 16, 16))
t('send dissolved', lambda: u.send(b'no'))
t('fast open denied', lambda: s.socket().sendto(b'no', s.MSG_FASTOPEN, ('127.0.0.1', b)))
t('fast open', lambda: s.socket().sendto(b'ok', s.MSG_FASTOPEN, ('127.0.0.1', g)))
t('mptcp', lambda: con(('127.0.0.1', g), protocol=262))
t('sctp', lambda: con(('127.0.0.1', g), protocol=132))
t('raw', lambda: s.socket(s.AF_INET, s.SOCK_RAW, 1))
t('netlink', lambda: s.socket(s.AF_NETLINK, s.SOCK_RAW, 0))
t('packet', lambda: s.socket(s.AF_PACKET, s.SOCK_RAW, 0))
t('vsock', lambda: s.socket(40, s.SOCK_STREAM, 0))
t('io_uring', lambda: call(425, 8, ctypes.create_string_buffer(120)))
t('source route', lambda: u.setsockopt(0, 4, bytes([0x89, 7, 4, 127, 0, 0, 1, 0])))
"
    );
    let output = bench.run(&network, &script);
    let expected = "\
tcp ok
tcp denied EACCES
any EACCES
mapped ok
mapped denied EACCES
v6 denied EACCES
v6 permitted ECONNREFUSED
sendto 2
sendto denied EACCES
sendmsg 3
sendmsg denied EACCES
sendto mapped 6
sendto mapped denied EACCES
sendto v4 by v6 4
sendto v4 by v6 denied EACCES
sendto unspec 6
sendto unspec denied EACCES
bad pointer EFAULT
short EINVAL
long EINVAL
no socket ENOTSOCK
not open EBADF
sendmmsg (2, [4, 5])
sendmmsg denied EACCES
sendmmsg half (1, [4, 0])
connect ok
send 4
sendmsg connected 9
dissolve 0
send dissolved EDESTADDRREQ
fast open denied EACCES
fast open 2
mptcp EPROTONOSUPPORT
sctp EPROTONOSUPPORT
raw EPROTONOSUPPORT
netlink EAFNOSUPPORT
packet EAFNOSUPPORT
vsock EAFNOSUPPORT
io_uring ENOSYS
source route EPERM";
    assert_eq!(text(&output), expected, "{output:?}");
    good_udp.set_nonblocking(true).unwrap();
    let mut buffer = [0; 64];
    let mut came = Vec::new();
    while let Ok(length) = good_udp.recv(&mut buffer) {
        came.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    assert_eq!(
        came,
        ["to", "msg", "mapped", "v4v6", "unspec", "many", "many!", "many", "send", "connected"]
    );
    // Nothing has come to where nothing was to come.
    bad_udp.set_nonblocking(true).unwrap();
    assert!(bad_udp.recv(&mut buffer).is_err());
    bad.set_nonblocking(true).unwrap();
    assert!(bad.accept().is_err());
}

#[test]
fn a_command_listens_where_its_policy_lets_it() {
    let Some(bench) = Bench::new("a_command_listens_where_its_policy_lets_it") else { return };
    let script = "
def bound(address, family=s.AF_INET, kind=s.SOCK_STREAM):
  x = s.socket(family, kind); x.bind(address); return x
t('bind', lambda: bound(('127.0.0.1', 0)).listen())
t('bind denied', lambda: bound(('127.0.0.1', 40001)))
t('wildcard denied', lambda: bound(('0.0.0.0', 40001)))
t('other denied', lambda: bound(('127.0.0.2', 0)))
t('v6 denied', lambda: bound(('::1', 0), s.AF_INET6))
t('mapped', lambda: bound(('::ffff:127.0.0.1', 0), s.AF_INET6))
t('udp denied', lambda: bound(('127.0.0.1', 40001), kind=s.SOCK_DGRAM))
# What sending does by itself.
t('chosen', lambda: bound(('0.0.0.0', 0), kind=s.SOCK_DGRAM))
t('chosen listens', lambda: bound(('0.0.0.0', 0)).listen())
t('unbound listens', lambda: s.socket().listen())
";
    let output = bench.run("{listen: [\"127.0.0.1:0\"]}", script);
    let expected = "\
bind ok
bind denied EACCES
wildcard denied EACCES
other denied EACCES
v6 denied EACCES
mapped ok
udp denied EACCES
chosen ok
chosen listens EACCES
unbound listens EACCES";
    assert_eq!(text(&output), expected, "{output:?}");
}

#[test]
fn unix_sockets_are_told_by_what_their_names_lead_to() {
    let Some(bench) = Bench::new("unix_sockets_are_told_by_what_their_names_lead_to") else {
        return;
    };
    let dir = bench.dir.path().display().to_string();
    fs::create_dir(bench.file("folder")).unwrap();
    let _good = UnixListener::bind(bench.file("good")).unwrap();
    let _bad = UnixListener::bind(bench.file("bad")).unwrap();
    let log = UnixDatagram::bind(bench.file("folder/log")).unwrap();
    let bad_log = UnixDatagram::bind(bench.file("badlog")).unwrap();
    std::os::unix::fs::symlink("../bad", bench.file("folder/link")).unwrap();
    std::os::unix::fs::symlink("good", bench.file("other")).unwrap();
    let name = format!("strait-test-{}", std::process::id());
    let network = format!("{{unix: [{dir}/good, {dir}/folder/, \"@{name}\"]}}");
    let script = format!(
        "
os.chdir('{dir}')
unix = lambda path, kind=s.SOCK_STREAM: con(path, s.AF_UNIX, kind)
t('good', lambda: unix('{dir}/good'))
t('relative', lambda: unix('folder/../good'))
t('link to good', lambda: unix('other'))
t('bad', lambda: unix('{dir}/bad'))
t('link to bad', lambda: unix('folder/link'))
t('missing', lambda: unix('folder/missing'))
d = s.socket(s.AF_UNIX, s.SOCK_DGRAM)
t('datagram', lambda: d.sendto(b'log', 'folder/log'))
t('datagram denied', lambda: d.sendto(b'log', 'badlog'))
t('datagram connected', lambda: (d.connect('folder/log'), d.sendmsg([b'msg']))[1])
def bound(path):
  x = s.socket(s.AF_UNIX); x.bind(path); x.listen(); return x
os.umask(0o077)
t('bind', lambda: bound('folder/new').getsockname())
t('mode', lambda: oct(os.stat('folder/new').st_mode))
t('bind denied', lambda: bound('new'))
t('bind parent', lambda: bound('folder/../new'))
keep = []
t('abstract', lambda: keep.append(bound('\\0{name}')))
t('abstract connect', lambda: unix('\\0{name}'))
t('abstract other', lambda: bound('\\0{name}x'))
t('autobind', lambda: call(49, d.fileno(), struct.pack('=H', 1), 2))
a, b = s.socketpair()
r, w = os.pipe()
t('descriptors', lambda: s.send_fds(a, [b'x'], [w]))
t('received', lambda: os.write(s.recv_fds(b, 9, 9)[1][0], b'through'))
t('read', lambda: os.read(r, 9).decode())
t('credentials', lambda: a.sendmsg([b'x'], [(s.SOL_SOCKET, 2, struct.pack('3i', os.getpid(), 0, 0))]))
b.close()
signal.signal(signal.SIGPIPE, lambda *_: print('SIGPIPE'))
t('broken', lambda: a.sendmsg([b'x']))
t('broken quietly', lambda: a.sendmsg([b'x'], [], s.MSG_NOSIGNAL))
d.shutdown(s.SHUT_WR)
t('datagram broken', lambda: d.sendmsg([b'x']))
"
    );
    let output = bench.run(&network, &script);
    let expected = "\
good ok
relative ok
link to good ok
bad EACCES
link to bad EACCES
missing ENOENT
datagram 3
datagram denied EACCES
datagram connected 3
bind folder/new
mode 0o140700
bind denied EACCES
bind parent EACCES
abstract ok
abstract connect ok
abstract other EACCES
autobind 0
descriptors 1
received 7
read through
credentials EACCES
SIGPIPE
broken EPIPE
broken quietly EPIPE
datagram broken EPIPE";
    assert_eq!(text(&output), expected, "{output:?}");
    let mut buffer = [0; 8];
    assert_eq!(log.recv(&mut buffer).unwrap(), 3);
    bad_log.set_nonblocking(true).unwrap();
    assert!(bad_log.recv(&mut buffer).is_err());
}

#[test]
fn a_denial_says_where_it_led_and_what_would_permit_it() {
    let Some(bench) = Bench::new("a_denial_says_where_it_led") else { return };
    let script = "
for _ in range(3): t('metadata', lambda: con(('169.254.169.254', 80)))
t('v6', lambda: s.socket(s.AF_INET6, s.SOCK_DGRAM).sendto(b'x', ('2001:db8::1', 53)))
";
    let output = bench.run("{}", script);
    assert_eq!(text(&output).matches("EACCES").count(), 4, "{output:?}");
    let events = events(&output);
    let [first, second, summary] = &events[..] else { panic!("{events:?}") };
    assert_eq!(first["reach"], "connect 169.254.169.254:80");
    assert_eq!(first["why"], "no entry of network.connect");
    assert_eq!(first["permit"], "network.connect: [\"169.254.169.254:80\"]");
    assert_eq!(first["action"], "errno(EACCES)");
    assert_eq!(second["reach"], "send to [2001:db8::1]:53");
    assert_eq!(summary["count"], 4);
    assert_eq!(summary["calls"][0]["reach"], "connect 169.254.169.254:80");
    assert_eq!(summary["calls"][0]["count"], 3);

    // A person is told the same in words; and what is offered does permit it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("t('tcp', lambda: con(('127.0.0.1', {port})))");
    let output = bench.python("{}", &["--denials", "text"], &script).output().unwrap();
    assert_eq!(text(&output), "tcp EACCES");
    let told = String::from_utf8(output.stderr).unwrap();
    let line = told.lines().find(|line| line.contains("denied: ")).unwrap();
    assert!(line.contains(&format!("connect 127.0.0.1:{port} -> errno(EACCES)")), "{line}");
    let (_, permit) = line.split_once("to permit it: network.").unwrap();
    let output = bench.run(&format!("{{{permit}}}"), &script);
    assert_eq!(text(&output), "tcp ok", "{output:?}");
}

#[test]
fn a_canary_makes_nothing_fail_and_tells_where_it_would() {
    let Some(bench) = Bench::new("a_canary_makes_nothing_fail_and_tells") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "t('tcp', lambda: con(('127.0.0.1', {port})))\nt('netlink', lambda: s.socket(16, 3, 0))\n\
         p = s.socketpair()\nt('pair', lambda: p[0].sendmsg([b'x']))\nt('closed', lambda: con(('127.0.0.1', 1)))"
    );
    let output = bench
        .python("{connect: [\"127.0.0.1:1\"]}", &["--mode", "canary"], &script)
        .output()
        .unwrap();
    assert_eq!(text(&output), "tcp ok\nnetlink ok\npair 1\nclosed ECONNREFUSED", "{output:?}");
    let events = events(&output);
    let told: Vec<_> = events.iter().filter(|event| event["event"] == "would-be-denied").collect();
    assert_eq!(told.len(), 2, "{events:?}");
    assert_eq!(told[0]["reach"], format!("connect 127.0.0.1:{port}"));
}

/// A thread that changes the address while the call waits, thousands of times.
#[test]
fn an_address_that_changes_while_it_is_looked_at_gets_nowhere() {
    let Some(bench) = Bench::new("an_address_that_changes_while_it_is_looked_at") else { return };
    let (good, bad) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let port = |socket: &UdpSocket| socket.local_addr().unwrap().port().to_string();
    let network = format!("{{connect: [\"127.0.0.1:{}\"]}}", port(&good));
    let victim = strait_testkit::victim::program();
    for (race, times) in [("race-connect", "20000"), ("race-send", "10000")] {
        let mut command = bench.command(&network, &[]);
        let output =
            command.arg(&victim).args([race, &port(&good), &port(&bad), times]).output().unwrap();
        let line = text(&output);
        let counts: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        match (race, &counts[..]) {
            // Both were tried, and only one was reached.
            ("race-connect", [reached, 0, failed]) => {
                assert!(*reached > 0 && *failed > 0, "{line}")
            }
            ("race-send", [sent, failed]) => assert!(*sent > 0 && *failed > 0, "{line}"),
            _ => panic!("{output:?}"),
        }
    }
    bad.set_nonblocking(true).unwrap();
    assert!(bad.recv(&mut [0; 8]).is_err(), "something was sent to where nothing may be sent");
}

#[test]
fn descriptors_that_a_command_is_given_lead_where_they_lead_and_no_further() {
    let Some(bench) = Bench::new("descriptors_that_a_command_is_given") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let script = format!(
        "c, u = s.socket(fileno=8), s.socket(fileno=9)\n\
         t('write', lambda: os.write(8, b'x'))\nt('sendmsg', lambda: c.sendmsg([b'yy']))\n\
         t('connect', lambda: u.connect(('127.0.0.1', {port})))\n\
         t('send', lambda: u.sendto(b'x', ('127.0.0.1', {port})))\n\
         t('other family', lambda: s.socket(fileno=7).sendto(b'x' * 16, (0, 0)))\n\
         t('mptcp', lambda: s.socket(fileno=6).connect(('127.0.0.1', 1)))"
    );
    let strait = bench.python(
        "{connect: [\"127.0.0.1:1\"]}",
        &["--keep-fd", "6", "--keep-fd", "7", "--keep-fd", "8", "--keep-fd", "9"],
        &script,
    );
    // Python hands descriptors on by their number alone.
    let hand_on = "import os, socket as s, sys\n\
                   n = s.socket(16, 3, 0)\n\
                   try: m = s.socket(2, 1, 262)\n\
                   except OSError: m = s.socket(2, 1, 0)\n\
                   fds = [m.fileno(), n.fileno(), int(sys.argv[1]), int(sys.argv[2])]\n\
                   for i, fd in enumerate(fds): os.dup2(fd, 50 + i)\n\
                   for i in range(4): os.dup2(50 + i, 6 + i)\n\
                   os.execv(sys.argv[3], sys.argv[3:])";
    // Copies that exec does not close.
    let (one, two) = (rustix::io::dup(&connected).unwrap(), rustix::io::dup(&unconnected).unwrap());
    let output = Command::new(PYTHON)
        .args(["-c", hand_on])
        .args([&one, &two].map(|fd| fd.as_raw_fd().to_string()))
        .arg(strait.get_program())
        .args(strait.get_args())
        .output()
        .unwrap();
    let told = text(&output);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 6, "{output:?}");
    assert_eq!(
        lines[..5],
        ["write 1", "sendmsg 2", "connect EACCES", "send EACCES", "other family EACCES"],
        "{output:?}"
    );
    // Where the kernel has no MPTCP it is a TCP socket, that nobody listens for.
    assert!(["mptcp EACCES", "mptcp ECONNREFUSED"].contains(&lines[5]), "{output:?}");
}

/// A listener whose queue is full: who connects to it waits.
struct Full {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Full {
    fn new() -> Full {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A queue of 0 takes one connection.
        rustix::net::listen(&listener, 0).unwrap();
        let queued = vec![TcpStream::connect(listener.local_addr().unwrap()).unwrap()];
        Full { listener, _queued: queued }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }
}

/// How many descriptors `strait` has open.
fn descriptors(strait: u32) -> usize {
    fs::read_dir(format!("/proc/{strait}/fd")).unwrap().count()
}

/// Has a child connect to where it must wait, and says its pid.
fn waiting_child(port: u16) -> String {
    format!(
        "def wait():\n  pid = os.fork()\n  if pid == 0:\n    t('child', lambda: con(('127.0.0.1', {port})))\n    \
         os._exit(0)\n  print(pid, flush=True)\n  return pid\n"
    )
}

/// Waits until a process is in a call that its supervisor makes for it.
fn until_notified(pid: &str) {
    eventually("the call is notified", || {
        fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("42 "))
            && fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|text| text.contains(") S ") || text.contains(") D "))
    });
}

#[test]
fn a_call_that_waits_keeps_no_other_waiting_and_its_end_leaves_nothing_behind() {
    let Some(bench) = Bench::new("a_call_that_waits_keeps_no_other_waiting") else { return };
    let full = Full::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().port();
    let network = format!("{{connect: [\"127.0.0.1:{}\", \"127.0.0.1:{other}\"]}}", full.port());
    let script = format!(
        "{}\nt('first', lambda: con(('127.0.0.1', {other})))\ninput()\npid = wait()\ninput()\n\
         t('meanwhile', lambda: con(('127.0.0.1', {other})))\nos.kill(pid, 9)\n\
         print(os.waitpid(pid, 0)[1], flush=True)\ninput()",
        waiting_child(full.port())
    );
    let mut running = Talk::start(bench.python(&network, &[], &script).stderr(Stdio::null()));
    assert_eq!(running.line(), "first ok");
    let before = descriptors(running.id());
    running.say("");
    let pid = running.line();
    until_notified(&pid);
    running.say("");
    assert_eq!(running.line(), "meanwhile ok");
    // SIGKILL in the middle.
    assert_eq!(running.line(), "9");
    eventually("the socket is given back", || descriptors(running.id()) <= before);
    running.say("");
}

#[test]
fn a_stopped_task_gets_its_answer_when_it_goes_on() {
    let Some(bench) = Bench::new("a_stopped_task_gets_its_answer") else { return };
    let full = Full::new();
    let network = format!("{{connect: [\"127.0.0.1:{}\"]}}", full.port());
    let script = format!(
        "{}\npid = wait()\ninput()\nos.kill(pid, signal.SIGSTOP)\n\
         print(os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]), flush=True)\ninput()\n\
         os.kill(pid, signal.SIGCONT)\nprint(os.waitpid(pid, 0)[1], flush=True)",
        waiting_child(full.port())
    );
    let mut running = Talk::start(bench.python(&network, &[], &script).stderr(Stdio::null()));
    let pid = running.line();
    until_notified(&pid);
    running.say("");
    assert_eq!(running.line(), "True");
    // There is room in the queue now; the connection comes about by the kernel's next try.
    let accepted = thread::spawn(move || {
        let (one, _) = full.listener.accept().unwrap();
        let (two, _) = full.listener.accept().unwrap();
        (one, two)
    });
    running.say("");
    assert_eq!(running.line(), "child ok");
    assert_eq!(running.line(), "0");
    accepted.join().unwrap();
}

#[test]
fn a_signal_interrupts_a_call_that_waits_and_none_is_made_twice() {
    let Some(bench) = Bench::new("a_signal_interrupts_a_call_that_waits") else { return };
    let full = Full::new();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap();
    let network = format!("{{connect: [\"127.0.0.1:{}\", \"{address}\"]}}", full.port());
    // Python makes interrupted calls again by itself, so this goes around it. Then 2,000 datagrams, with
    // signals all the time, are counted by who gets them.
    let script = format!(
        "signal.signal(signal.SIGALRM, lambda *_: None)\nsignal.siginterrupt(signal.SIGALRM, True)\n\
         address = struct.pack('=H', 2) + struct.pack('>H4s8x', {}, bytes([127, 0, 0, 1]))\n\
         signal.setitimer(signal.ITIMER_REAL, 0.2)\n\
         x = s.socket()\nt('connect', lambda: call(42, x.fileno(), address, 16))\n\
         signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\nu = s.socket(2, 2)\nn = 0\n\
         for _ in range(2000): n += u.sendto(b'x', ('127.0.0.1', {}))\n\
         signal.setitimer(signal.ITIMER_REAL, 0)\nprint(n)\nu.sendto(b'end', ('127.0.0.1', {}))",
        full.port(),
        address.port(),
        address.port()
    );
    let counted = thread::spawn(move || {
        let mut buffer = [0; 8];
        let mut count = 0;
        while udp.recv(&mut buffer).unwrap() == 1 {
            count += 1;
        }
        count
    });
    let output = bench.run(&network, &script);
    assert_eq!(text(&output), "connect EINTR\n2000", "{output:?}");
    assert_eq!(counted.join().unwrap(), 2000);
}

#[test]
fn five_hundred_threads_get_each_its_own_answer() {
    let Some(bench) = Bench::new("five_hundred_threads_get_each_its_own_answer") else { return };
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = udp.local_addr().unwrap().port();
    let script = format!(
        "
good, bad = [], []
def one():
  u = s.socket(s.AF_INET, s.SOCK_DGRAM)
  for _ in range(10):
    u.connect(('127.0.0.1', {port})); good.append(u.getpeername()[1])
    try: u.connect(('127.0.0.1', {port} ^ 1))
    except OSError as e: bad.append(e.errno)
threads = [threading.Thread(target=one) for _ in range(500)]
[x.start() for x in threads]; [x.join() for x in threads]
print(len(good), set(good) == {{{port}}}, len(bad), set(bad))
"
    );
    let output = bench.run(&format!("{{connect: [\"127.0.0.1:{port}\"]}}"), &script);
    assert_eq!(text(&output), "5000 True 5000 {13}", "{output:?}");
    let events = events(&output);
    assert_eq!(events[events.len() - 1]["count"], 5000);
}

#[test]
fn a_dead_supervisor_connects_nobody() {
    let Some(bench) = Bench::new("a_dead_supervisor_connects_nobody") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "x = con(('127.0.0.1', {port}))\nprint('ready', flush=True)\ninput()\n\
         t('connect', lambda: con(('127.0.0.1', {port})))\nt('write', lambda: os.write(x.fileno(), b'x'))\n\
         f = struct.pack('HHQ', 0, 0, 0)\nt('listener', lambda: call(317, 1, 8, 0))"
    );
    let network = format!("{{connect: [\"127.0.0.1:{port}\"]}}");
    let mut running = Talk::start(bench.python(&network, &[], &script).stderr(Stdio::null()));
    assert_eq!(running.line(), "ready");
    running.kill();
    running.say("");
    assert_eq!(running.line(), "connect ENOSYS");
    // What was connected before stays so, and nobody can take the supervisor's place.
    assert_eq!(running.line(), "write 1");
    assert_eq!(running.line(), "listener EBUSY");
}

#[test]
fn a_supervisor_lends_nobody_its_privileges() {
    let test = "a_supervisor_lends_nobody_its_privileges";
    let Some(bench) = Bench::new(test) else { return };
    if !rustix::process::geteuid().is_root() {
        return skip(test, "only root can become another user");
    }
    let dir = bench.dir.path().display().to_string();
    let _private = UnixListener::bind(bench.file("private")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let network = format!(
        "{{connect: [\"127.0.0.1:{port}\"], listen: [\"127.0.0.1:1-2000\"], unix: [{dir}/]}}"
    );
    let script = format!(
        "os.chmod('{dir}', 0o777)\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n\
         call(157, 4, 1, 0, 0, 0)\n\
         t('private', lambda: con('{dir}/private', s.AF_UNIX))\n\
         t('make', lambda: s.socket(s.AF_UNIX).bind('{dir}/made'))\n\
         t('port', lambda: s.socket().bind(('127.0.0.1', 80)))\n\
         t('tcp', lambda: con(('127.0.0.1', {port})))"
    );
    let output = bench.run(&network, &script);
    // Connecting to another host is nobody's privilege.
    assert_eq!(text(&output), "private EACCES\nmake EACCES\nport EACCES\ntcp ok", "{output:?}");
}
