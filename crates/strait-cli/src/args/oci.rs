//! What engines, their runtimes and hooks call, and how they are made to.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use rustix::process::Pid;
use strait_policy::format::Runtime;
use strait_runtime::nri::Index;
use strait_runtime::oci::bind::POLICIES;
use strait_runtime::oci::recordings::RECORDINGS;
use strait_runtime::oci::socket::SocketName;

use super::values::{pid, runtime};

/// Where containers find what the administrator has for them.
#[derive(Debug, Args)]
pub struct Folders {
    /// The folder with the policies that containers may name, and the file `bindings`
    #[arg(long, value_name = "DIR", default_value = POLICIES, value_hint = ValueHint::DirPath)]
    pub policies: PathBuf,
    /// The folder that containers may be recorded into
    #[arg(long, value_name = "DIR", default_value = RECORDINGS, value_hint = ValueHint::DirPath)]
    pub recordings: PathBuf,
}

/// `strait oci-runtime`.
#[derive(Debug, Args)]
pub struct OciRuntime {
    /// The real runtime: runc, crun, or a path
    #[arg(long, value_name = "RUNTIME", default_value = "runc", value_hint = ValueHint::CommandName)]
    pub runtime: OsString,
    #[command(flatten)]
    pub folders: Folders,
    /// What the engine asks of the runtime
    #[arg(last = true, value_name = "ARGS")]
    pub arguments: Vec<OsString>,
}

/// `strait oci-hook`.
#[derive(Debug, Args)]
pub struct OciHook {
    /// The runtime that policies are bound for (default: each that is known)
    #[arg(long, value_name = "RUNTIME", value_parser = runtime())]
    pub runtime: Option<Runtime>,
    /// Start no container unless its runtime has been told of the policy that it is to be confined by
    #[arg(long, hide = true)]
    pub confirm: bool,
    /// The socket of a recorder that waits for the container
    #[arg(long, value_name = "NAME", hide = true)]
    pub recorder: Option<SocketName>,
    /// Start no container, and say this
    #[arg(long, value_name = "REASON", hide = true)]
    pub refuse: Option<String>,
    #[command(flatten)]
    pub folders: Folders,
}

/// `strait nri`.
#[derive(Debug, Args)]
pub struct Nri {
    /// The socket that the runtime listens on for plugins [default: /var/run/nri/nri.sock, or the one that a
    /// runtime gives a plugin that it starts itself]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// When the plugin is called, among others: two digits, the lowest first
    #[arg(long, value_name = "NN", default_value = "90")]
    pub index: Index,
    /// The OCI runtime that policies are bound for (default: each that is known)
    #[arg(long, value_name = "RUNTIME", value_parser = runtime())]
    pub runtime: Option<Runtime>,
    #[command(flatten)]
    pub folders: Folders,
}

/// `strait oci-recorder`.
#[derive(Debug, Args)]
pub struct OciRecorder {
    /// The container's first process
    #[arg(long, value_name = "N", value_parser = pid, required_unless_present = "socket")]
    pub pid: Option<Pid>,
    /// The container's id
    #[arg(long, value_name = "ID", default_value = "")]
    pub id: String,
    /// The container's bundle
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "/")]
    pub bundle: PathBuf,
    /// The folder for recordings
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub recordings: PathBuf,
    /// The file in it
    #[arg(long, value_name = "FILE", default_value = "", required_unless_present = "socket")]
    pub file: String,
    /// The runtime that has created the container
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub runtime: Option<PathBuf>,
    /// Wait to be told of the container: the name of the socket that is standard input
    #[arg(long, value_name = "NAME", conflicts_with = "pid", requires = "starter")]
    pub socket: Option<SocketName>,
    /// Wait as long as this process lives, which is about to make the container
    #[arg(long, value_name = "N", value_parser = pid)]
    pub starter: Option<Pid>,
}

/// `strait oci-supervisor`.
#[derive(Debug, Args)]
pub struct OciSupervisor {
    /// The folder for recordings, where denials are told
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub recordings: PathBuf,
    /// The name of the socket that is standard input
    #[arg(long, value_name = "NAME")]
    pub socket: SocketName,
    /// Wait for the container as long as this process lives, which is about to make it
    #[arg(long, value_name = "N", value_parser = pid)]
    pub starter: Pid,
    /// The container's id, if it is known
    #[arg(long, value_name = "ID", default_value = "")]
    pub id: String,
    /// Answer, and leave the socket to the process that has started this one
    #[arg(long)]
    pub answer: bool,
}

/// `strait install`.
#[derive(Debug, Args)]
pub struct Install {
    /// What is to know Strait
    #[command(subcommand)]
    pub what: Installed,
}

/// What Strait can be made known to.
#[derive(Debug, Subcommand)]
pub enum Installed {
    /// Write the hook that has Podman and CRI-O record containers with the annotation
    /// io.strait.record=FILE, and bind those with io.strait.policy=NAME or of images with a policy
    PodmanHook(PodmanHook),
}

/// `strait install podman-hook`.
#[derive(Debug, Args)]
pub struct PodmanHook {
    /// The folder that the engine reads hooks from
    #[arg(
        long, value_name = "DIR", value_hint = ValueHint::DirPath,
        default_value = "/etc/containers/oci/hooks.d"
    )]
    pub hooks_dir: PathBuf,
    /// Have it run for every container, as policies that are bound to images need it
    #[arg(long)]
    pub always: bool,
    /// Take the hook away again
    #[arg(long)]
    pub remove: bool,
    #[command(flatten)]
    pub hook: OciHook,
}
