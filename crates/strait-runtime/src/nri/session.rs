//! What a runtime asks of its plugin, and what it is answered.
//!
//! A runtime passes over a plugin that does not answer in time, and one whose connection breaks: the
//! container is made or started without it. So every call is answered, and what is not decided in time is
//! refused.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use prost::Message;

use super::admission::{Admission, AdmissionError};
use super::message::{
    ConfigureRequest, ConfigureResponse, Container, ContainerAdjustment, CreateContainerRequest,
    CreateContainerResponse, Empty, PodSandbox, Request, StartContainerRequest, StateChangeEvent,
    Status, SynchronizeRequest, SynchronizeResponse,
};
use super::{Event, Tell, standing, wire};
use crate::launch::reason;

const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
/// The number of the event that a container is started.
const START_CONTAINER: i32 = 6;
/// The events that the plugin is to be told, a bit for each, the lowest for the event 1: that a container
/// is made (4), and that it is started.
const EVENTS: i32 = 1 << 3 | 1 << (START_CONTAINER - 1);
/// What a runtime waits for an answer unless it says otherwise. One that has waited for longer goes on
/// without the plugin.
const ITS_PATIENCE: Duration = Duration::from_secs(2);
/// So many containers are looked at at one time. A runtime asks for one after the other, so the others are
/// those that nobody waits for any more, as the folder of policies does not answer.
const AT_ONCE: usize = 8;
/// What there is already is not more, in bytes of messages.
const THERE: usize = 64 << 20;
/// Calls that are answered and nothing else. Up to NRI 0.10 these are `StateChange`.
const NOTED: &[&str] = &[
    "Shutdown",
    "RunPodSandbox",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "PostCreateContainer",
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

/// What there was before the plugin, as far as it is told.
#[derive(Debug, Default)]
struct There {
    pods: BTreeMap<String, PodSandbox>,
    containers: Vec<Container>,
    bytes: usize,
}

/// A plugin, and what is known of the runtime that it is connected to.
pub(super) struct Session {
    admission: Arc<Admission>,
    tell: Tell,
    /// One for each container that is looked at, and this one.
    looking: Arc<()>,
    patience: Duration,
    there: There,
}

impl Session {
    pub(super) fn new(admission: &Arc<Admission>, tell: &Tell) -> Session {
        Session {
            admission: Arc::clone(admission),
            tell: Arc::clone(tell),
            looking: Arc::new(()),
            patience: ITS_PATIENCE,
            there: There::default(),
        }
    }

    /// Begins with another connection.
    pub(super) fn begin(&mut self) {
        self.patience = ITS_PATIENCE;
        self.there = There::default();
    }

    /// The answer to a call: its message, or why there is none.
    pub(super) fn answer(&mut self, call: &[u8]) -> Result<Vec<u8>, Status> {
        let request: Request = decode("a call", call)?;
        if request.service != PLUGIN {
            let service = shortened(&request.service);
            return Err(status(UNIMPLEMENTED, format!("strait: there is no service `{service}`")));
        }
        let empty = || Empty {}.encode_to_vec();
        match request.method.as_str() {
            "Configure" => self.configure(&decode("Configure", &request.payload)?),
            "Synchronize" => {
                self.synchronize(decode("Synchronize", &request.payload)?, request.payload.len())
            }
            "CreateContainer" => self.create(&request),
            "StartContainer" => {
                let StartContainerRequest { pod, container } =
                    decode("StartContainer", &request.payload)?;
                self.start(pod, container, request.timeout_nano).map(|()| empty())
            }
            "StateChange" => {
                let StateChangeEvent { event, pod, container } =
                    decode("StateChange", &request.payload)?;
                if event == START_CONTAINER {
                    self.start(pod, container, request.timeout_nano)?;
                }
                Ok(empty())
            }
            noted if NOTED.contains(&noted) => Ok(empty()),
            other => {
                let other = shortened(other);
                Err(status(UNIMPLEMENTED, format!("strait: there is no method `{other}`")))
            }
        }
    }

    fn configure(&mut self, configure: &ConfigureRequest) -> Result<Vec<u8>, Status> {
        if !configure.config.trim().is_empty() {
            // Passed over it would not do what it says.
            let text = "strait: a plugin's configuration file is not read: give what is in it as arguments of \
                        `strait nri`, in a script where the runtime starts the plugin";
            return Err(status(INVALID_ARGUMENT, text.to_owned()));
        }
        if let Ok(timeout @ 1..) = u64::try_from(configure.request_timeout) {
            self.patience = Duration::from_millis(timeout);
        }
        (self.tell)(Event::Registered {
            name: shortened(&configure.runtime_name),
            version: shortened(&configure.runtime_version),
        });
        Ok(ConfigureResponse { events: EVENTS }.encode_to_vec())
    }

    fn synchronize(&mut self, part: SynchronizeRequest, bytes: usize) -> Result<Vec<u8>, Status> {
        self.there.bytes = self.there.bytes.saturating_add(bytes);
        if self.there.bytes > THERE {
            self.there = There::default();
            let text = format!("strait: what there is is more than {} MiB", THERE >> 20);
            return Err(status(FAILED_PRECONDITION, text));
        }
        self.there.pods.extend(part.pods.into_iter().map(|pod| (pod.id.clone(), pod)));
        self.there.containers.extend(part.containers);
        if !part.more {
            let There { pods, containers, .. } = mem::take(&mut self.there);
            let (admission, tell) = (Arc::clone(&self.admission), Arc::clone(&self.tell));
            let looking = Arc::clone(&self.looking);
            // It may take longer than the runtime waits.
            let looked = thread::Builder::new().spawn(move || {
                standing::look(&admission, &pods, &containers, &tell);
                drop(looking);
            });
            if let Err(error) = looked {
                let why = format!("no thread can be started: {error}");
                (self.tell)(Event::NotLooked { why });
            }
        }
        Ok(SynchronizeResponse { more: part.more }.encode_to_vec())
    }

    fn create(&self, request: &Request) -> Result<Vec<u8>, Status> {
        let CreateContainerRequest { pod, container } =
            decode("CreateContainer", &request.payload)?;
        let id = container.as_ref().map(|container| shortened(&container.id)).unwrap_or_default();
        let adjusted = self.decided(request.timeout_nano, move |admission| {
            admission.adjust(pod.as_ref(), container.as_ref())
        });
        match adjusted.and_then(|adjust| Ok((adjust.is_some(), encoded(adjust)?))) {
            Ok((is_adjusted, message)) => {
                if is_adjusted {
                    (self.tell)(Event::Adjusted { container: id });
                }
                Ok(message)
            }
            Err(reason) => {
                let (said, reason) = refusal(&reason);
                (self.tell)(Event::Stopped { container: id, reason });
                Err(said)
            }
        }
    }

    /// Whether a container may be started: one that was made without the plugin has not got what it is to
    /// have.
    fn start(
        &self,
        pod: Option<PodSandbox>,
        container: Option<Container>,
        timeout_nano: i64,
    ) -> Result<(), Status> {
        let id = container.as_ref().map(|container| shortened(&container.id)).unwrap_or_default();
        let decided = self.decided(timeout_nano, move |admission| {
            admission.may_start(pod.as_ref(), container.as_ref())
        });
        decided.map_err(|reason| {
            let (said, reason) = refusal(&reason);
            (self.tell)(Event::NotStarted { container: id, reason });
            said
        })
    }

    /// What is decided while the runtime waits. Who says nothing is passed over, so in the end an error
    /// is said.
    fn decided<T: Send + 'static>(
        &self,
        timeout_nano: i64,
        decide: impl FnOnce(&Admission) -> Result<T, AdmissionError> + Send + 'static,
    ) -> Result<T, String> {
        if Arc::strong_count(&self.looking) > AT_ONCE {
            return Err(format!(
                "{AT_ONCE} containers from before are still looked at: does the folder of policies hang?"
            ));
        }
        let told = u64::try_from(timeout_nano).ok().filter(|&nanos| nanos > 0);
        let patience =
            told.map_or(self.patience, |nanos| Duration::from_nanos(nanos).min(self.patience));
        let (sender, receiver) = mpsc::channel();
        let (admission, looking) = (Arc::clone(&self.admission), Arc::clone(&self.looking));
        let decides = thread::Builder::new().spawn(move || {
            let decided = decide(&admission).map_err(|error| reason(&error));
            drop(looking);
            // Nobody waits any more where it has taken too long.
            let _ = sender.send(decided);
        });
        decides.map_err(|error| format!("no thread can be started: {error}"))?;
        // The answer has to be written too.
        receiver.recv_timeout(patience * 3 / 4).unwrap_or_else(|_| {
            Err(format!(
                "what the container is to get could not be told within the {} ms that the runtime \
                 waits",
                patience.as_millis()
            ))
        })
    }
}

/// The answer of a container that gets this, if it can be sent. One that cannot be would end the
/// connection, and the container would be made without it.
fn encoded(adjust: Option<ContainerAdjustment>) -> Result<Vec<u8>, String> {
    /// What the message around it takes at most.
    const AROUND: usize = 64;
    let message = CreateContainerResponse { adjust }.encode_to_vec();
    if message.len() > wire::LIMIT - AROUND {
        let (is, may) = (message.len(), wire::LIMIT >> 20);
        return Err(format!(
            "what the container is to get is {is} bytes, more than the {may} MiB that NRI takes: have the \
             engine use `strait oci-runtime` as its runtime"
        ));
    }
    Ok(message)
}

/// What the runtime is told, and who watches.
fn refusal(reason: &str) -> (Status, String) {
    let reason = shortened(reason);
    (status(FAILED_PRECONDITION, format!("strait: {reason}")), reason)
}

fn decode<M: Message + Default>(what: &str, bytes: &[u8]) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| {
        status(INVALID_ARGUMENT, format!("strait: {what} is not understood: {error}"))
    })
}

fn status(code: i32, message: String) -> Status {
    Status { code, message }
}

/// As much of a text as is worth telling.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(2000).collect()
}

#[cfg(test)]
mod tests {
    use super::super::message::{LinuxContainerAdjustment, LinuxSeccomp};
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_an_error_and_no_silence() {
        let of = |length: usize| {
            let profile =
                LinuxSeccomp { default_action: "x".repeat(length), ..LinuxSeccomp::default() };
            let linux = LinuxContainerAdjustment { seccomp_policy: Some(profile) };
            encoded(Some(ContainerAdjustment { linux: Some(linux), ..Default::default() }))
        };
        assert!(of(wire::LIMIT).unwrap_err().contains("4 MiB"));
        // What is just not too large can be sent with what comes around it.
        let payload = of(wire::LIMIT - 100).unwrap();
        let response = super::super::message::Response { status: None, payload };
        let frame = wire::Frame {
            connection: wire::TO_PLUGIN,
            stream: 1,
            kind: wire::RESPONSE,
            payload: response.encode_to_vec(),
        };
        wire::send(&mut Vec::new(), &frame).unwrap();
    }
}
