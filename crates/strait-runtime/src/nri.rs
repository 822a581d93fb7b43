//! Strait as a plugin of NRI, by which containerd and CRI-O tell what containers they are about to make
//! and let it be changed (<https://github.com/containerd/nri>).
//!
//! One socket, one loop: the plugin registers, and then answers what the runtime asks, one thing after
//! the other, as the runtime waits for each. When the runtime goes, the plugin waits for it to come back.
//! What a container gets is [`admission`]'s; what is answered is `session`'s, and the bytes are [`wire`]'s.

pub mod admission;
pub mod message;
mod session;
mod standing;
pub mod wire;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use prost::Message;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::launch::reason;
use admission::Admission;
use message::{RegisterPluginRequest, Request, Response};
use session::{Session, shortened};
use wire::{Frame, REQUEST, RESPONSE, Reader, TO_PLUGIN, TO_RUNTIME, WireError};

/// Where runtimes listen for plugins, unless told otherwise.
pub const SOCKET: &str = "/var/run/nri/nri.sock";
/// The name that the plugin registers by.
pub const NAME: &str = "strait";
/// How long a runtime may take to register the plugin, and to send the rest of a message.
pub const PATIENCE: Duration = Duration::from_secs(5);

const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The number of the plugin's one call.
const REGISTERING: u32 = 1;
/// How long the plugin waits before it connects again: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// When the plugin is called, among others: two digits, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index(String);

/// A text that is no index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no index of a plugin: write two digits, 00 to 99")]
pub struct InvalidIndex(String);

impl FromStr for Index {
    type Err = InvalidIndex;

    fn from_str(text: &str) -> Result<Index, InvalidIndex> {
        match text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => Ok(Index(text.to_owned())),
            false => Err(InvalidIndex(text.to_owned())),
        }
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why the plugin does not run, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NriError {
    /// Nobody listens there.
    #[error(
        "cannot connect to {}: is NRI enabled in the runtime, and is this its socket?", path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The runtime does not take the plugin.
    #[error("the runtime at {} does not take the plugin: {message}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What it said.
        message: String,
    },
    /// What comes from the runtime, or does not.
    #[error("{}", path.display())]
    Wire {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: WireError,
    },
}

/// What the plugin has learnt or done, for who watches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A runtime has taken the plugin.
    Registered {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// The runtime is gone, or does not want the plugin. It is tried again.
    Lost {
        /// Why.
        why: String,
    },
    /// What ran before the plugin was there has been looked at.
    Looked {
        /// So many containers.
        running: usize,
        /// So many of them are to be confined.
        bound: usize,
        /// So many of those are not confined as they are to be.
        unconfined: usize,
    },
    /// What ran before the plugin was there cannot be looked at.
    NotLooked {
        /// Why.
        why: String,
    },
    /// A container that ran before the plugin was there is not confined as it is to be.
    Unconfined {
        /// The container.
        container: String,
        /// The policy that it is to be confined by.
        policy: String,
        /// What is otherwise.
        why: String,
    },
    /// Whether a container is confined as it is to be that ran before the plugin was there, cannot be told.
    Unknown {
        /// The container.
        container: String,
        /// The policy that it is to be confined by, if that can be told.
        policy: Option<String>,
        /// Why.
        why: String,
    },
    /// A container is made otherwise than the runtime would have made it.
    Adjusted {
        /// The container.
        container: String,
    },
    /// A container is not made.
    Stopped {
        /// The container.
        container: String,
        /// Why.
        reason: String,
    },
    /// A container that was made without the plugin is not started.
    NotStarted {
        /// The container.
        container: String,
        /// Why.
        reason: String,
    },
}

/// Who watches. It must not hold up who tells: the runtime waits meanwhile.
pub type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// Is the plugin of the runtime that listens there, for good: where that goes, or breaks off, it is
/// connected to again, as soon as somebody listens there. What `admission` says containers get; what is
/// learnt and done is told to `tell`.
///
/// # Errors
/// If the plugin cannot be registered at first.
pub fn serve_at(
    path: &Path,
    index: &Index,
    admission: &Arc<Admission>,
    tell: &Tell,
) -> Result<Infallible, NriError> {
    let mut session = Session::new(admission, tell);
    let mut plugin = Connection::at(path).and_then(|plugin| plugin.register(NAME, index))?;
    let mut last = String::new();
    let mut wait = BACK_OFF.0;
    loop {
        let since = Instant::now();
        let mut lost = plugin.serve(&mut session);
        // Who takes the plugin and breaks off at once is not asked at once again.
        if since.elapsed() > BACK_OFF.1 {
            (wait, last) = (BACK_OFF.0, String::new());
        }
        plugin = loop {
            let why = shortened(&reason(&lost));
            // The same is told once.
            if why != last {
                tell(Event::Lost { why: why.clone() });
                last = why;
            }
            thread::sleep(wait);
            wait = (wait * 2).min(BACK_OFF.1);
            match Connection::at(path).and_then(|plugin| plugin.register(NAME, index)) {
                Ok(plugin) => break plugin,
                Err(error) => lost = error,
            }
        };
    }
}

/// Is the plugin of the runtime that has started this process, by this socket. What `admission` says
/// containers get; what is learnt and done is told to `tell`.
///
/// # Errors
/// Always in the end: when the runtime goes, or speaks otherwise. It starts the plugin again when it is
/// started again.
pub fn serve_on(
    socket: OwnedFd,
    name: &str,
    index: &Index,
    admission: &Arc<Admission>,
    tell: &Tell,
) -> Result<Infallible, NriError> {
    let plugin = Connection::given(socket)?.register(name, index)?;
    Err(plugin.serve(&mut Session::new(admission, tell)))
}

/// A connection to a runtime.
#[derive(Debug)]
struct Connection {
    path: PathBuf,
    socket: UnixStream,
    reader: Reader,
    /// What came before the plugin was registered.
    waiting: Vec<Frame>,
}

impl Connection {
    fn at(path: &Path) -> Result<Connection, NriError> {
        let opened = open(path);
        let opened = opened.map_err(|source| NriError::Connect { path: path.to_owned(), source });
        Ok(Connection::new(path, opened?))
    }

    fn given(socket: OwnedFd) -> Result<Connection, NriError> {
        let path = PathBuf::from("the socket that the runtime gives its plugins");
        match set_patience(&socket) {
            Ok(()) => Ok(Connection::new(&path, UnixStream::from(socket))),
            Err(errno) => Err(NriError::Connect { path, source: errno.into() }),
        }
    }

    fn new(path: &Path, socket: UnixStream) -> Connection {
        let path = path.to_owned();
        Connection { path, socket, reader: Reader::default(), waiting: Vec::new() }
    }

    /// Registers the plugin by this name.
    fn register(mut self, name: &str, index: &Index) -> Result<Connection, NriError> {
        let request =
            RegisterPluginRequest { plugin_name: name.to_owned(), plugin_idx: index.to_string() };
        let request = Request {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(0),
        };
        let payload = request.encode_to_vec();
        let frame = Frame { connection: TO_RUNTIME, stream: REGISTERING, kind: REQUEST, payload };
        self.send(&frame)?;
        loop {
            let frame = self.read()?;
            if (frame.connection, frame.stream, frame.kind) == (TO_RUNTIME, REGISTERING, RESPONSE) {
                let response = Response::decode(frame.payload.as_slice());
                let response = response.map_err(|error| self.protocol(&error))?;
                let status = response.status.unwrap_or_default();
                if status.code != 0 {
                    let message = shortened(&status.message);
                    return Err(NriError::Refused { path: self.path, message });
                }
                return Ok(self);
            }
            // It may configure the plugin before it says that it has it.
            if self.waiting.len() >= 16 {
                return Err(self.protocol(&"it goes on without having taken the plugin"));
            }
            self.waiting.push(frame);
        }
    }

    /// Answers the runtime for as long as it is there, and returns why it is not any more.
    fn serve(mut self, session: &mut Session) -> NriError {
        session.begin();
        let mut waiting = mem::take(&mut self.waiting).into_iter();
        loop {
            let frame = match waiting.next().map_or_else(|| self.read(), Ok) {
                Ok(frame) => frame,
                // Between messages nothing has to come.
                Err(NriError::Wire { source: WireError::Silent, .. }) if !self.reader.is_amid() => {
                    continue;
                }
                Err(error) => return error,
            };
            if (frame.connection, frame.kind) != (TO_PLUGIN, REQUEST) {
                continue;
            }
            let response = match session.answer(&frame.payload) {
                Ok(payload) => Response { status: None, payload },
                Err(status) => Response { status: Some(status), payload: Vec::new() },
            };
            let answer = Frame {
                connection: TO_PLUGIN,
                stream: frame.stream,
                kind: RESPONSE,
                payload: response.encode_to_vec(),
            };
            if let Err(error) = self.send(&answer) {
                return error;
            }
        }
    }

    fn read(&mut self) -> Result<Frame, NriError> {
        let read = self.reader.read(&mut self.socket);
        read.map_err(|source| NriError::Wire { path: self.path.clone(), source })
    }

    fn send(&mut self, frame: &Frame) -> Result<(), NriError> {
        let sent = wire::send(&mut self.socket, frame);
        sent.map_err(|source| NriError::Wire { path: self.path.clone(), source })
    }

    fn protocol(&self, what: &dyn fmt::Display) -> NriError {
        let source = WireError::Protocol(what.to_string());
        NriError::Wire { path: self.path.clone(), source }
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits too, where the runtime accepts nobody: for as long as sending may.
    set_patience(&socket)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::AGAIN) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nobody has accepted within {} s", PATIENCE.as_secs()),
        )),
        Err(errno) => Err(errno.into()),
        Ok(()) => Ok(UnixStream::from(socket)),
    }
}

fn set_patience(socket: &OwnedFd) -> rustix::io::Result<()> {
    set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))
}
