//! Strait as a plugin of NRI, by which containerd and CRI-O tell what containers they are about to make
//! and let it be changed (<https://github.com/containerd/nri>).
//!
//! One socket, one loop: the plugin registers, and then answers what the runtime asks, one thing after
//! the other, as the runtime waits for each. What a container gets is [`admission`]'s; the bytes are
//! [`wire`]'s.

pub mod admission;
pub mod message;
pub mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use prost::Message;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use admission::Admission;
use message::{
    ConfigureRequest, ConfigureResponse, Container, ContainerAdjustment, CreateContainerRequest,
    CreateContainerResponse, Empty, PodSandbox, RegisterPluginRequest, Request, Response, Status,
    SynchronizeRequest, SynchronizeResponse,
};
use wire::{Frame, REQUEST, RESPONSE, Reader, TO_PLUGIN, TO_RUNTIME, WireError};

/// Where runtimes listen for plugins, unless told otherwise.
pub const SOCKET: &str = "/var/run/nri/nri.sock";
/// The name that the plugin registers by.
pub const NAME: &str = "strait";
/// How long a runtime may take to register the plugin, and to send the rest of a message.
pub const PATIENCE: Duration = Duration::from_secs(5);

const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The bit of the event CREATE_CONTAINER, which is the fourth: all that the plugin is to be told.
const EVENTS: i32 = 1 << 3;
/// What a runtime waits for an answer unless it says otherwise. One that has waited for longer goes on
/// without the plugin, and the container would be made as it is.
const ITS_PATIENCE: Duration = Duration::from_secs(2);
/// Calls that are answered and nothing else. Up to NRI 0.10 these are `StateChange`.
const NOTED: &[&str] = &[
    "Shutdown",
    "StateChange",
    "RunPodSandbox",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
    "UpdateContainer",
    "PostUpdateContainer",
    "StopContainer",
    "RemoveContainer",
    "ValidateContainerAdjustment",
];

// Codes of gRPC.
const INVALID_ARGUMENT: i32 = 3;
const FAILED_PRECONDITION: i32 = 9;
const UNIMPLEMENTED: i32 = 12;

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
    /// A container that is to be confined was made before the plugin was there. Whether it is has to be
    /// verified.
    Missed {
        /// The container.
        container: String,
        /// The policy, or why that cannot be told.
        policy: String,
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
}

/// A plugin that is connected to its runtime and registered.
#[derive(Debug)]
pub struct Plugin {
    path: PathBuf,
    socket: UnixStream,
    reader: Reader,
    /// What came before the plugin was registered.
    waiting: Vec<Frame>,
}

impl Plugin {
    /// Connects to the runtime that listens there, and registers.
    ///
    /// # Errors
    /// If that cannot be, or takes the runtime too long.
    pub fn register(path: &Path, index: &Index) -> Result<Plugin, NriError> {
        let socket =
            open(path).map_err(|source| NriError::Connect { path: path.to_owned(), source })?;
        let mut plugin = Plugin {
            path: path.to_owned(),
            socket,
            reader: Reader::default(),
            waiting: Vec::new(),
        };
        let request =
            RegisterPluginRequest { plugin_name: NAME.to_owned(), plugin_idx: index.to_string() };
        let request = Request {
            service: RUNTIME.to_owned(),
            method: "RegisterPlugin".to_owned(),
            payload: request.encode_to_vec(),
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(0),
        };
        let payload = request.encode_to_vec();
        plugin.send(&Frame { connection: TO_RUNTIME, stream: 1, kind: REQUEST, payload })?;
        loop {
            let frame = plugin.read()?;
            if frame.connection == TO_RUNTIME {
                let response = Response::decode(frame.payload.as_slice());
                let response = response.map_err(|error| plugin.protocol(&error))?;
                let status = response.status.unwrap_or_default();
                if status.code != 0 {
                    let message = shortened(&status.message);
                    return Err(NriError::Refused { path: plugin.path, message });
                }
                return Ok(plugin);
            }
            // It may configure the plugin before it says that it has it.
            if plugin.waiting.len() >= 16 {
                return Err(plugin.protocol(&"it goes on without having taken the plugin"));
            }
            plugin.waiting.push(frame);
        }
    }

    /// Answers the runtime for as long as it is there. Containers that it makes get what `admission`
    /// says; what is learnt and done is told to `tell`.
    ///
    /// # Errors
    /// Always in the end: when the runtime has gone, or speaks otherwise. Containers are made without the
    /// plugin from then on, by a runtime that is there.
    pub fn serve(
        mut self,
        admission: &Arc<Admission>,
        mut tell: impl FnMut(Event),
    ) -> Result<std::convert::Infallible, NriError> {
        let mut session = Session {
            admission,
            patience: ITS_PATIENCE,
            pods: BTreeMap::new(),
            containers: Vec::new(),
            tell: &mut tell,
        };
        let mut waiting = mem::take(&mut self.waiting).into_iter();
        loop {
            let frame = match waiting.next() {
                Some(frame) => frame,
                None => match self.read() {
                    // Between messages nothing has to come.
                    Err(NriError::Wire { source: WireError::Silent, .. })
                        if !self.reader.is_amid() =>
                    {
                        continue;
                    }
                    frame => frame?,
                },
            };
            if (frame.connection, frame.kind) != (TO_PLUGIN, REQUEST) {
                continue;
            }
            let request = Request::decode(frame.payload.as_slice());
            let request = request.map_err(|error| self.protocol(&error))?;
            let response = match session.answer(&request) {
                Ok(payload) => Response { status: None, payload },
                Err(status) => Response { status: Some(status), payload: Vec::new() },
            };
            let answer = |response: &Response| Frame {
                connection: TO_PLUGIN,
                stream: frame.stream,
                kind: RESPONSE,
                payload: response.encode_to_vec(),
            };
            self.send(&answer(&response))?;
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

/// What is known of the runtime.
struct Session<'a> {
    admission: &'a Arc<Admission>,
    patience: Duration,
    /// The pods and containers that were there, until all are told.
    pods: BTreeMap<String, PodSandbox>,
    containers: Vec<Container>,
    tell: &'a mut dyn FnMut(Event),
}

impl Session<'_> {
    fn answer(&mut self, request: &Request) -> Result<Vec<u8>, Status> {
        if request.service != PLUGIN {
            let service = shortened(&request.service);
            return Err(status(UNIMPLEMENTED, format!("strait: there is no service `{service}`")));
        }
        match request.method.as_str() {
            "Configure" => {
                let configure: ConfigureRequest = decode(request)?;
                if let Ok(timeout @ 1..) = u64::try_from(configure.request_timeout) {
                    self.patience = Duration::from_millis(timeout);
                }
                (self.tell)(Event::Registered {
                    name: shortened(&configure.runtime_name),
                    version: shortened(&configure.runtime_version),
                });
                Ok(ConfigureResponse { events: EVENTS }.encode_to_vec())
            }
            "Synchronize" => {
                let there: SynchronizeRequest = decode(request)?;
                self.pods.extend(there.pods.into_iter().map(|pod| (pod.id.clone(), pod)));
                self.containers.extend(there.containers);
                if !there.more {
                    self.look_at_missed();
                }
                Ok(SynchronizeResponse { more: there.more }.encode_to_vec())
            }
            "CreateContainer" => self.create(request),
            noted if NOTED.contains(&noted) => Ok(Empty {}.encode_to_vec()),
            other => {
                let other = shortened(other);
                Err(status(UNIMPLEMENTED, format!("strait: there is no method `{other}`")))
            }
        }
    }

    fn create(&mut self, request: &Request) -> Result<Vec<u8>, Status> {
        let create: CreateContainerRequest = decode(request)?;
        let container = shortened(create.container.as_ref().map_or("", |container| &container.id));
        let adjusted = self.adjusted(create, request.timeout_nano);
        match adjusted {
            Ok(adjust) => {
                if adjust.is_some() {
                    (self.tell)(Event::Adjusted { container });
                }
                Ok(CreateContainerResponse { adjust }.encode_to_vec())
            }
            Err(reason) => {
                let reason = shortened(&reason);
                let said = status(FAILED_PRECONDITION, format!("strait: {reason}"));
                (self.tell)(Event::Stopped { container, reason });
                Err(said)
            }
        }
    }

    /// What the container gets, while the runtime waits. Who says nothing is passed over, so in the end
    /// an error is said.
    fn adjusted(
        &self,
        create: CreateContainerRequest,
        timeout_nano: i64,
    ) -> Result<Option<ContainerAdjustment>, String> {
        let told = u64::try_from(timeout_nano).ok().filter(|&nanos| nanos > 0);
        let patience =
            told.map_or(self.patience, |nanos| Duration::from_nanos(nanos).min(self.patience));
        let (sender, receiver) = mpsc::channel();
        let admission = Arc::clone(self.admission);
        thread::spawn(move || {
            let adjusted = admission.adjust(create.pod.as_ref(), create.container.as_ref());
            // Nobody waits any more where it has taken too long.
            let _ = sender.send(adjusted.map_err(|error| chain(&error)));
        });
        // The answer has to be written too.
        receiver.recv_timeout(patience * 3 / 4).unwrap_or_else(|_| {
            Err(format!(
                "what the container is to get could not be told within the {} ms that the runtime \
                 waits",
                patience.as_millis()
            ))
        })
    }

    fn look_at_missed(&mut self) {
        const RUNNING: i32 = 3;
        let pods = mem::take(&mut self.pods);
        for container in mem::take(&mut self.containers) {
            if container.state != RUNNING {
                continue;
            }
            let pod = pods.get(&container.pod_sandbox_id);
            let policy = match self.admission.policy(pod, &container) {
                Ok(None) => continue,
                Ok(Some(policy)) => policy.to_string(),
                Err(error) => chain(&error),
            };
            let (container, policy) = (shortened(&container.id), shortened(&policy));
            (self.tell)(Event::Missed { container, policy });
        }
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connecting waits too, where the runtime accepts nobody: for as long as sending may.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::AGAIN) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nobody has accepted within {} s", PATIENCE.as_secs()),
        )),
        Err(errno) => Err(errno.into()),
        Ok(()) => Ok(UnixStream::from(socket)),
    }
}

fn decode<M: Message + Default>(request: &Request) -> Result<M, Status> {
    M::decode(request.payload.as_slice()).map_err(|error| {
        let text = format!("strait: {} is not understood: {error}", request.method);
        status(INVALID_ARGUMENT, text)
    })
}

fn status(code: i32, message: String) -> Status {
    Status { code, message }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// As much of a text as is worth telling.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(2000).collect()
}
