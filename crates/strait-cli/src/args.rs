//! The command line: one definition gives the parser, `help`, the man pages and the completions.

mod container;
mod limit;
mod oci;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::verbs::report::FailOn;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use rustix::process::Pid;
use strait_abi::{Arch, KernelVersion};
use strait_policy::check::Code;
use strait_policy::format::{Format, Runtime};
use strait_policy::recording::Phase;
use strait_runtime::record::Ready;
use strait_runtime::scope::Unit;

pub use container::{Containers, Engines};
pub use limit::Limit;
pub use oci::{
    Folders, Install, Installed, Nri, OciHook, OciRecorder, OciRuntime, OciSupervisor, PodmanHook,
};
pub use values::{
    Arguments, Deny, Engine, FindingFormat, Library, ProgramFormat, Subject, TightenEngine,
};
use values::{duration, format, named_file, phase, pid, ready, runtime};

/// Give a Linux workload the narrowest system call passage that it can live with.
///
/// Strait records what a program calls, writes the least-privilege policy with a reason for each
/// allow, compiles it to seccomp-BPF, proves that the program means the policy, runs the command
/// under it, and reads back from the kernel that what is enforced is what was meant.
#[derive(Debug, Parser)]
#[command(name = "strait", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "\
Exit status: 0 it holds; 1 it was checked and does not hold; 2 bad usage or bad input; 3 the system \
refused. `run` and `record` pass on the program's own status and use 125 when Strait itself failed; \
every verb that starts a command uses 126 if it cannot be executed and 127 if it is not found.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record a command, write the least policy for it, prove it, and run the command under it
    Tighten(Tighten),
    /// Record which system calls a command or a running process makes
    Record(Record),
    /// Write the least policy that permits what recordings saw, with the reason for each allow
    Generate(Generate),
    /// Find what a policy allows that its author may not have meant, and what else is wrong with it
    Check(Check),
    /// Tell what a code of `check` means, why it matters and what to do about it
    ExplainCode(ExplainCode),
    /// Tell what a policy does with one call, by which rule, and why the call is in it
    Explain(Explain),
    /// Compare two policies, profiles, programs or processes: equal, tighter, looser, or neither
    Diff(Diff),
    /// Write the policy that lets pass what any of several do, with the reasons of all
    Merge(Merge),
    /// Tell what a policy would have denied of what was recorded
    Replay(Replay),
    /// Say how much attack surface a policy leaves, in hundredths of Docker's default profile
    Score(Score),
    /// List the named sets of calls, or show one with why each call is in it
    Sets(Sets),
    /// Print the JSON Schema of policies, for editors
    Schema,
    /// Write a policy or profile in another format, and say what that cannot express
    Convert(Convert),
    /// Compile a policy to a seccomp-BPF program, proved to mean the policy
    Compile(Compile),
    /// Print the instructions of a program with the names of what they test
    Disasm(Disasm),
    /// Prove that a program or a running process decides as a policy does, for all inputs
    Prove(Prove),
    /// Run a command confined by a policy
    Run(Run),
    /// From inside of `strait run`: move on to a later step of its policy, with all that runs there
    Step(Step),
    /// Show what the kernel enforces on a process, or on all of them, thread by thread
    Inspect(Inspect),
    /// Check that what the kernel enforces on a process decides as a policy does
    Verify(Verify),
    /// List the running containers of all engines, with how each is confined
    Containers(Containers),
    /// Report every workload of this machine: its identity, confinement, excess and drift
    Report(Report),
    /// Try for real, on this kernel, which ways around a policy are open
    Attack(Attack),
    /// Be an OCI runtime that binds policies and starts recordings, then hands over to a real one
    OciRuntime(OciRuntime),
    /// Be an OCI hook that starts recordings (and, for precreate, binds policies)
    OciHook(OciHook),
    /// Be an NRI plugin that binds policies and starts recordings for containerd and CRI-O
    Nri(Nri),
    /// Record a container until it ends, as its hook asks for it
    #[command(hide = true)]
    OciRecorder(OciRecorder),
    /// Answer what a container's filters ask, as its wrapper or hook asks for it
    #[command(hide = true)]
    OciSupervisor(OciSupervisor),
    /// Make Strait known to a container engine
    Install(Install),
    /// Print the completions for a shell
    Completions(Completions),
    /// Write the man pages and all completions into a folder
    #[command(hide = true)]
    Man(Man),
}

/// `strait tighten`.
#[derive(Debug, Args)]
pub struct Tighten {
    /// Write the policy to this file (`-`: standard output)
    #[arg(short, long, value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Keep the recording in this file too
    #[arg(long, value_name = "REC", value_hint = ValueHint::FilePath)]
    pub recording: Option<PathBuf>,
    /// Stop before the second, confined run: for commands that must not run twice
    #[arg(long)]
    pub once: bool,
    /// Record the command this often, and permit what any of these runs did
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub runs: u8,
    /// Who observes the runs
    #[arg(long, value_enum, default_value_t = TightenEngine::Auto)]
    pub engine: TightenEngine,
    /// Write a policy even if a recording lost something, or was interrupted and there is a policy
    #[arg(long)]
    pub accept_loss: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `strait record`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("running").multiple(true).args(["pid", "cgroup", "container", "namespaces_of"])))]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["command", "pid", "cgroup", "container", "namespaces_of"])))]
pub struct Record {
    /// Write the recording to this file (default: standard output); of several workloads, the
    /// recording of each to a file of its own in this folder
    #[arg(short, long, value_name = "REC", value_hint = ValueHint::AnyPath)]
    pub output: Option<PathBuf>,
    /// Who observes
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    pub engine: Engine,
    /// Record a process that runs already, and what it starts; repeatable, and together with the
    /// other ways to name what runs
    #[arg(long, value_name = "N", value_parser = pid)]
    pub pid: Vec<Pid>,
    /// Record every process of this cgroup; repeatable
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub cgroup: Vec<PathBuf>,
    /// Record a running container: its name, its id or the beginning of that, if need be with the
    /// engine, as in docker:NAME or containerd:NAMESPACE/ID; repeatable
    #[arg(long, value_name = "NAME|ID")]
    pub container: Vec<String>,
    #[command(flatten)]
    pub engines: Engines,
    /// Record every process in the pid, mount and network namespaces of this one: a container;
    /// repeatable
    #[arg(long, value_name = "N", value_parser = pid)]
    pub namespaces_of: Vec<Pid>,
    /// The workload is ready when it first makes one of these calls (default: listen, accept,
    /// epoll_wait and their kind), or after this time
    #[arg(long, value_name = "CALL,…|T", value_parser = ready)]
    pub ready: Option<Ready>,
    /// Stop after this time, such as 90s, 5m or 1h; a command is ended
    #[arg(long, value_name = "T", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Print nothing but the recording
    #[arg(short, long)]
    pub quiet: bool,
    /// The command and its arguments
    #[arg(last = true, conflicts_with = "running", value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `strait generate`.
#[derive(Debug, Args)]
pub struct Generate {
    /// The recordings, or logs of strace, perf trace or the audit (`-`: standard input)
    #[arg(required = true, value_name = "REC", value_hint = ValueHint::FilePath)]
    pub recordings: Vec<PathBuf>,
    /// Write the policy to this file (default: standard output)
    #[arg(short, long, value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// The name of the policy (default: that of the recorded program)
    #[arg(long)]
    pub name: Option<String>,
    /// Accept recordings that lost something; the policy will say so
    #[arg(long)]
    pub accept_loss: bool,
    /// Which arguments are narrowed to the values that were seen
    #[arg(long, value_enum, default_value_t = Arguments::Safe)]
    pub arguments: Arguments,
    /// Allow no call that libraries put in the place of one that was seen, and answer none that
    /// they probe by ENOSYS
    #[arg(long)]
    pub exact: bool,
    /// Only what was done in these phases (default: all but before-filter)
    #[arg(long, value_name = "PHASE,…", value_delimiter = ',', value_parser = phase)]
    pub phases: Option<Vec<Phase>>,
    /// Write the profile for this container engine instead, with what its runtimes need to start a
    /// container
    #[arg(long = "for", value_name = "ENGINE", value_parser = container::engine(), conflicts_with = "json")]
    pub engine: Option<strait_policy::format::oci::Engine>,
    /// The runtime that the engine takes; repeatable (default: those that it takes unless told
    /// otherwise)
    #[arg(long = "runtime", value_name = "RUNTIME", value_parser = runtime(), requires = "engine")]
    pub runtimes: Vec<Runtime>,
    /// Print the policy as JSON
    #[arg(long)]
    pub json: bool,
}

/// `strait check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The policy (`-`: standard input)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// The form of the findings
    #[arg(long, value_enum, default_value_t = FindingFormat::Text)]
    pub format: FindingFormat,
    /// Print the findings as JSON: the same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Fail on findings of this severity and above
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = Deny::Error)]
    pub deny: Deny,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait explain-code`.
#[derive(Debug, Args)]
pub struct ExplainCode {
    /// A code, such as S001 (default: list them all)
    #[arg(value_name = "CODE")]
    pub code: Option<Code>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `strait explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The policy (`-`: standard input)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// The call, such as 'openat(AT_FDCWD, "/etc/passwd", O_RDONLY)', or its name alone
    #[arg(value_name = "CALL")]
    pub call: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A policy, profile or program, or `pid:N` for what the kernel holds for a process
    #[arg(value_name = "A")]
    pub first: Subject,
    /// What it is compared with
    #[arg(value_name = "B")]
    pub second: Subject,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// The policies or profiles
    #[arg(required = true, num_args = 2.., value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policies: Vec<PathBuf>,
    /// Write the policy to this file (default: standard output)
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Print the policy as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The policy
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// Recordings, or output of strace, whose calls have arguments (`-`: standard input)
    #[arg(required = true, value_name = "REC", value_hint = ValueHint::FilePath)]
    pub recordings: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait score`.
#[derive(Debug, Args)]
pub struct Score {
    /// The policy (`-`: standard input)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// Print it as JSON, with every part
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait sets`.
#[derive(Debug, Args)]
pub struct Sets {
    /// One set, such as `set:io`
    pub name: Option<String>,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// `strait convert`.
#[derive(Debug, Args)]
pub struct Convert {
    /// The policy or profile (`-`: standard input)
    #[arg(value_name = "IN", value_hint = ValueHint::FilePath)]
    pub input: PathBuf,
    /// The format to write
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub to: Format,
    /// Write it to this file (default: standard output)
    #[arg(short, long, value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Write it even if the format cannot express all of it; what is lost is listed all the same
    #[arg(long)]
    pub lossy: bool,
    /// Print what is lost as JSON on standard output; needs -o
    #[arg(long, requires = "output")]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait compile`.
#[derive(Debug, Args)]
pub struct Compile {
    /// The policy (`-`: standard input)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// The form of the program
    #[arg(long, value_enum, default_value_t = ProgramFormat::Bpf)]
    pub format: ProgramFormat,
    /// Prefer the shortest program to the fastest
    #[arg(long)]
    pub size: bool,
    /// Make the calls of this recording fast, as often as each was made; repeatable
    #[arg(long = "profile", value_name = "REC", value_hint = ValueHint::FilePath)]
    pub recordings: Vec<PathBuf>,
    /// Take some seconds to look for a better program
    #[arg(long)]
    pub thorough: bool,
    /// Make several programs, to be loaded all of them, if one would be too long; the files are F.1,
    /// F.2, and so on
    #[arg(long)]
    pub split: bool,
    /// Write the program to this file (default: standard output)
    #[arg(short, long, value_name = "F", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait disasm`.
#[derive(Debug, Args)]
pub struct Disasm {
    /// The program: an array of `struct sock_filter` (`-`: standard input)
    #[arg(value_name = "F", value_hint = ValueHint::FilePath)]
    pub program: PathBuf,
}

/// `strait prove`.
#[derive(Debug, Args)]
pub struct Prove {
    /// The policy (`-`: standard input)
    #[arg(value_name = "POLICY", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// A program file, or several that are loaded together, or `pid:N` for what the kernel holds for
    /// a process
    #[arg(value_name = "PROGRAM", required = true)]
    pub subjects: Vec<Subject>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The policy
    #[arg(short, long, value_name = "P", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// Start at this step of the policy
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Stay at that step: what runs cannot move on to a later one, and the kernel alone answers
    #[arg(long)]
    pub stay: bool,
    /// What becomes of calls that the policy does not let pass
    #[arg(long, value_enum, default_value_t = RunMode::Enforce)]
    pub mode: RunMode,
    /// How denials are told, in the modes that see them
    #[arg(long, value_enum, default_value_t = Denials::Text)]
    pub denials: Denials,
    /// Write them to this descriptor instead of standard error; the command does not get it
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub denials_fd: Option<i32>,
    /// Let the command inherit this descriptor; all but the standard streams are closed otherwise
    #[arg(long, value_name = "FD", value_parser = clap::value_parser!(i32).range(0..))]
    pub keep_fd: Vec<i32>,
    /// Kill the command if Strait is killed
    #[arg(long)]
    pub die_with_parent: bool,
    /// Limit a resource, as in `nofile=256`, `as=512M` or `core=0:0` (soft and hard); repeatable
    #[arg(long, value_name = "RESOURCE=SOFT[:HARD]")]
    pub limit: Vec<Limit>,
    #[command(flatten)]
    pub profile: Profile,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `strait step`.
#[derive(Debug, Args)]
pub struct Step {
    /// The step
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// What becomes of calls that a policy does not let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunMode {
    /// The kernel answers them as the policy says, with nobody in between
    Enforce,
    /// A supervisor gives the policy's errnos, and tells of each denial at once
    Notify,
    /// They pass; the kernel logs them, and what was logged is counted by recording the run
    Log,
    /// They pass; a supervisor counts them, exactly, and tells what enforcing would have broken
    Canary,
}

/// How denials are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Denials {
    /// Lines for a person
    Text,
    /// A JSON object on each line
    Json,
    /// Entries of the systemd journal
    Journald,
}

/// `strait inspect`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub struct Inspect {
    /// The process
    #[arg(long, group = "whom", value_name = "N", value_parser = pid)]
    pub pid: Option<Pid>,
    /// The processes of this container: its name, its id or the beginning of that, if need be with
    /// the engine, as in docker:NAME or containerd:NAMESPACE/ID
    #[arg(long, group = "whom", value_name = "NAME|ID")]
    pub container: Option<String>,
    #[command(flatten)]
    pub engines: Engines,
    /// The processes of the cgroup in this folder, and of those below it
    #[arg(long, group = "whom", value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub cgroup: Option<PathBuf>,
    /// The processes of this unit of systemd, such as nginx or nginx.service
    #[arg(long, group = "whom", value_name = "NAME")]
    pub unit: Option<Unit>,
    /// Every process of the machine
    #[arg(long, group = "whom")]
    pub all: bool,
    /// Print the instructions of each filter
    #[arg(long)]
    pub disasm: bool,
    /// Name the calls that pass, with their conditions, and those that do not
    #[arg(long)]
    pub calls: bool,
    /// Stop no thread: only what /proc tells, without the filters themselves
    #[arg(long)]
    pub no_stop: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// `strait verify`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub struct Verify {
    /// The policy
    #[arg(short, long, value_name = "P", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// The process; with --watch, what comes of it too
    #[arg(long, group = "whom", value_name = "N", value_parser = pid)]
    pub pid: Option<Pid>,
    /// The processes of this container: its name, its id or the beginning of that, if need be with
    /// the engine, as in docker:NAME or containerd:NAMESPACE/ID
    #[arg(long, group = "whom", value_name = "NAME|ID")]
    pub container: Option<String>,
    #[command(flatten)]
    pub engines: Engines,
    /// The processes of the cgroup in this folder, and of those below it
    #[arg(long, group = "whom", value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub cgroup: Option<PathBuf>,
    /// The processes of this unit of systemd, such as nginx or nginx.service
    #[arg(long, group = "whom", value_name = "NAME")]
    pub unit: Option<Unit>,
    /// The step of the policy that they are meant to be at, as by `run --step`
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Go on, and say what changes, until all of them have ended
    #[arg(long)]
    pub watch: bool,
    /// How often to look with --watch
    #[arg(long, value_name = "T", default_value = "1s", value_parser = duration, requires = "watch")]
    pub interval: Duration,
    /// A supervisor is asked about what the policy answers with an errno: as by `run --mode notify`, or for a
    /// container in the mode `notify`
    #[arg(long)]
    pub supervised: bool,
    /// Judge by the policy alone, not by what a container runtime makes of it
    #[arg(long)]
    pub strict: bool,
    /// Print the result as JSON; with --watch, an event a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The form of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Write the report to this file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// The folder with the policies, profiles and recordings of workloads
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub policies: Option<PathBuf>,
    #[command(flatten)]
    pub engines: Engines,
    /// Say what got better or worse since this report, which `--json` wrote
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub baseline: Option<PathBuf>,
    /// Exit with 1 at drift, unconfined, or score>N; repeatable, or separated by commas
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub fail_on: Vec<FailOn>,
    #[command(flatten)]
    pub profile: Profile,
}

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A table
    Text,
    /// Everything, as data
    Json,
    /// A page that opens from disk
    Html,
    /// SARIF 2.1.0, for dashboards of code scanning
    Sarif,
    /// Assessment results of OSCAL 1.1.2
    Oscal,
    /// Prometheus's text format, for node_exporter's textfile collector
    Prometheus,
}

/// `strait attack`.
#[derive(Debug, Args)]
pub struct Attack {
    /// The policy (`-`: standard input)
    #[arg(short, long, value_name = "P", value_hint = ValueHint::FilePath)]
    pub policy: PathBuf,
    /// As it is at this step
    #[arg(long, value_name = "NAME")]
    pub step: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub profile: Profile,
}

/// `strait completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `strait man`.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// What a foreign profile is resolved for; a policy of Strait's own asks for none of it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Foreign profiles")]
pub struct Profile {
    /// Read the policy in this format (default: what it looks like)
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    pub from: Option<Format>,
    /// The machine's architecture (default: this one); `compile` keeps only this one
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// The machine's kernel, as MAJOR.MINOR (default: the running one)
    #[arg(long, value_name = "VERSION")]
    pub kernel: Option<KernelVersion>,
    /// The capabilities that the container has: names such as NET_ADMIN, and ALL, NONE and DOCKER
    /// for sets of them; repeatable, or separated by commas (default: DOCKER)
    #[arg(long = "cap", value_name = "CAP", value_delimiter = ',')]
    pub capabilities: Vec<String>,
    /// The container runtime that loads the profile (default: runc)
    #[arg(long, value_name = "RUNTIME", value_parser = runtime())]
    pub runtime: Option<Runtime>,
    /// The newest kernel whose calls the runtime's libseccomp knows, or `installed`: what the one
    /// on this machine knows (default: all that are known here)
    #[arg(long, value_name = "VERSION")]
    pub library: Option<Library>,
    /// Which thread's filter, or which profile, of a file with several
    #[arg(long, value_name = "NAME")]
    pub thread: Option<String>,
    /// What the profile refers to as NAME is in this file; names of files beside it are found
    #[arg(long = "file", value_name = "NAME=PATH", value_parser = named_file)]
    pub files: Vec<(String, PathBuf)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
