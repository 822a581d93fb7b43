//! The messages of NRI and of ttrpc, as far as they are looked at or answered: what a message has
//! besides is skipped, as protobuf means it to be.
//!
//! From `pkg/api/api.proto` of <https://github.com/containerd/nri> (`nri.pkg.api.v1alpha1`, NRI 0.2 to
//! 0.12) and `request.proto` of <https://github.com/containerd/ttrpc>.

use std::collections::BTreeMap;

use prost::Message;

/// A call, of ttrpc.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The message that it is given.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the caller waits, in nanoseconds; 0 where it does not say.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
}

/// The answer to a call, of ttrpc.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// What went wrong; nothing where nothing did.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// What went wrong (`google.rpc.Status`).
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The code of gRPC; 0 is none.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A message without anything in it.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}

/// What a plugin says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct RegisterPluginRequest {
    /// Its name.
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    /// Two digits: plugins are called in their order.
    #[prost(string, tag = "2")]
    pub plugin_idx: String,
}

/// What a runtime says of itself.
#[derive(Clone, PartialEq, Message)]
pub struct ConfigureRequest {
    /// What it has read for the plugin, where it starts that itself: a file of `/etc/nri/conf.d`.
    #[prost(string, tag = "1")]
    pub config: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
    /// How long it waits for an answer, in milliseconds; 0 where it does not say.
    #[prost(int64, tag = "5")]
    pub request_timeout: i64,
    /// The version of NRI, where it says so (0.12).
    #[prost(string, tag = "6")]
    pub nri_version: String,
}

/// What a plugin is to be told.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct ConfigureResponse {
    /// A bit for each event, the lowest for the event 1.
    #[prost(int32, tag = "2")]
    pub events: i32,
}

/// What there is already.
#[derive(Clone, PartialEq, Message)]
pub struct SynchronizeRequest {
    /// The pods.
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<PodSandbox>,
    /// The containers.
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    /// Whether there is more to come.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// The answer to that.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct SynchronizeResponse {
    /// Whether the plugin takes more.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// A container that is to be made.
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerRequest {
    /// Its pod.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    /// It.
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
}

/// A container that is to be started (a call of its own since NRI 0.12).
#[derive(Clone, PartialEq, Message)]
pub struct StartContainerRequest {
    /// Its pod.
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    /// It.
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
}

/// What happens to a pod or container (up to NRI 0.10).
#[derive(Clone, PartialEq, Message)]
pub struct StateChangeEvent {
    /// 6 is that a container is to be started.
    #[prost(int32, tag = "1")]
    pub event: i32,
    /// The pod.
    #[prost(message, optional, tag = "2")]
    pub pod: Option<PodSandbox>,
    /// The container, where it is about one.
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

/// The answer to [`CreateContainerRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerResponse {
    /// What is to be otherwise.
    #[prost(message, optional, tag = "1")]
    pub adjust: Option<ContainerAdjustment>,
}

/// A pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Its annotations.
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
}

/// A container.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The id of its pod.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// Its name in the pod.
    #[prost(string, tag = "3")]
    pub name: String,
    /// 1 is created, 3 running and 4 stopped.
    #[prost(int32, tag = "4")]
    pub state: i32,
    /// Its annotations: those of its configuration, not the pod's.
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
    /// The command.
    #[prost(string, repeated, tag = "7")]
    pub args: Vec<String>,
    /// The hooks that it has.
    #[prost(message, optional, tag = "10")]
    pub hooks: Option<Hooks>,
    /// What of it is Linux's.
    #[prost(message, optional, tag = "11")]
    pub linux: Option<LinuxContainer>,
    /// Its first process; 0 where there is none.
    #[prost(uint32, tag = "12")]
    pub pid: u32,
}

/// What of a container is Linux's.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    /// Which profile is asked for (NRI 0.10).
    #[prost(message, optional, tag = "7")]
    pub seccomp_profile: Option<SecurityProfile>,
}

/// Which profile is asked for.
#[derive(Clone, PartialEq, Message)]
pub struct SecurityProfile {
    /// 0 the engine's own, 1 none, 2 a file's.
    #[prost(int32, tag = "1")]
    pub profile_type: i32,
}

/// What of a container is to be otherwise.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerAdjustment {
    /// Annotations that it gets.
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    /// Hooks that it gets.
    #[prost(message, optional, tag = "5")]
    pub hooks: Option<Hooks>,
    /// What of it is Linux's.
    #[prost(message, optional, tag = "6")]
    pub linux: Option<LinuxContainerAdjustment>,
}

/// The hooks of a container.
#[derive(Clone, PartialEq, Message)]
pub struct Hooks {
    /// Those that run when its namespaces are there and its own program is not started yet.
    #[prost(message, repeated, tag = "2")]
    pub create_runtime: Vec<Hook>,
}

/// A hook.
#[derive(Clone, PartialEq, Message)]
pub struct Hook {
    /// The program.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Its arguments, its name first.
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
}

/// What of it is Linux's.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerAdjustment {
    /// The profile (NRI 0.10; older ones do not look at it).
    #[prost(message, optional, tag = "6")]
    pub seccomp_policy: Option<LinuxSeccomp>,
}

/// A profile, as in the OCI runtime specification.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSeccomp {
    /// `defaultAction`.
    #[prost(string, tag = "1")]
    pub default_action: String,
    /// `defaultErrnoRet`.
    #[prost(message, optional, tag = "2")]
    pub default_errno: Option<OptionalUInt32>,
    /// `architectures`.
    #[prost(string, repeated, tag = "3")]
    pub architectures: Vec<String>,
    /// `flags`.
    #[prost(string, repeated, tag = "4")]
    pub flags: Vec<String>,
    /// `syscalls`.
    #[prost(message, repeated, tag = "7")]
    pub syscalls: Vec<LinuxSyscall>,
}

/// A rule of a profile.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSyscall {
    /// `names`.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    /// `action`.
    #[prost(string, tag = "2")]
    pub action: String,
    /// `errnoRet`.
    #[prost(message, optional, tag = "3")]
    pub errno_ret: Option<OptionalUInt32>,
    /// `args`.
    #[prost(message, repeated, tag = "4")]
    pub args: Vec<LinuxSeccompArg>,
}

/// A condition of a rule.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSeccompArg {
    /// `index`.
    #[prost(uint32, tag = "1")]
    pub index: u32,
    /// `value`.
    #[prost(uint64, tag = "2")]
    pub value: u64,
    /// `valueTwo`.
    #[prost(uint64, tag = "3")]
    pub value_two: u64,
    /// `op`.
    #[prost(string, tag = "4")]
    pub op: String,
}

/// A number that may be absent.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct OptionalUInt32 {
    /// It.
    #[prost(uint32, tag = "1")]
    pub value: u32,
}
