//! `strait nri`: a plugin of containerd and CRI-O.

use std::convert::Infallible;
use std::env;
use std::os::fd::RawFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use strait_kernel::command::inherited;
use strait_runtime::nri::admission::{Admission, CONFIRM};
use strait_runtime::nri::{self, Event, NAME, NriError, SOCKET, Tell};
use strait_runtime::oci::bind::{POLICIES, Policies};

use super::install::hook_arguments;
use super::oci_hook::runtimes;
use super::oci_runtime::{absolute, program};
use crate::args::Nri;
use crate::failure::Failure;
use crate::libseccomp;
use crate::output;

/// By which a runtime tells a plugin that it starts itself: the number of the descriptor of the socket,
/// and what it calls the plugin (`pkg/api/plugin.go` of NRI).
pub const GIVEN: &str = "NRI_PLUGIN_SOCKET";
const GIVEN_NAME: &str = "NRI_PLUGIN_NAME";
const GIVEN_INDEX: &str = "NRI_PLUGIN_IDX";

/// Serves the runtime that has started this process, or the one that listens at the socket.
pub fn run(args: &Nri) -> Result<ExitCode, Failure> {
    let policies = absolute(&args.folders.policies);
    if !policies.is_dir() {
        let text = format!("there is no folder {}", policies.display());
        // A name that is written wrong would let everything pass that is bound there.
        if policies != Path::new(POLICIES) {
            return Err(Failure::bad_input(anyhow!("{text}: no policy can be bound")));
        }
        output::say(&format!("strait: {text}: containers are recorded alone"));
    }
    let mut arguments = hook_arguments(args.runtime, &args.folders)?;
    arguments.push(CONFIRM.to_owned());
    let admission = Arc::new(Admission {
        policies: Policies::new(&policies),
        recordings: absolute(&args.folders.recordings),
        runtimes: runtimes(args.runtime),
        library: libseccomp::newest_known().ok(),
        program: program()?,
        arguments,
    });
    let (tell, teller) = teller()?;
    let served = serve(args, &admission, &tell);
    drop(tell);
    // What was told before the end is said before it. It may be that nobody has said anything.
    let _ = teller.join();
    served.map(|never| match never {})
}

fn serve(args: &Nri, admission: &Arc<Admission>, tell: &Tell) -> Result<Infallible, Failure> {
    let refused = |error: NriError| Failure::refused(error);
    match (&args.socket, env::var(GIVEN)) {
        (None, Ok(given)) => {
            let number: RawFd = given
                .parse()
                .with_context(|| format!("{GIVEN} is `{given}` and no descriptor"))
                .map_err(Failure::bad_input)?;
            let socket = inherited(number).with_context(|| format!("{GIVEN}={given}"));
            let name = env::var(GIVEN_NAME).unwrap_or_else(|_| NAME.to_owned());
            let index = env::var(GIVEN_INDEX).ok().and_then(|index| index.parse().ok());
            let index = index.as_ref().unwrap_or(&args.index);
            let socket = socket.map_err(Failure::bad_input)?;
            nri::serve_on(socket, &name, index, admission, tell).map_err(refused)
        }
        (socket, _) => {
            let socket = socket.as_deref().unwrap_or(Path::new(SOCKET));
            nri::serve_at(socket, &args.index, admission, tell).map_err(refused)
        }
    }
}

/// Says what is told. Who reads standard error may not do so for a while, and the runtime would go on
/// without a plugin that waits for that; so this is said by a thread, and what there is too much of is
/// counted.
fn teller() -> Result<(Tell, JoinHandle<()>), Failure> {
    const UNSAID: usize = 1024;
    let (sender, receiver): (SyncSender<Event>, _) = mpsc::sync_channel(UNSAID);
    let lost = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lost);
    let says = move || {
        for event in receiver {
            say(event);
            let lost = counted.swap(0, Ordering::Relaxed);
            if lost > 0 {
                output::say(&format!(
                    "strait: {lost} more were not said: nobody read them in time"
                ));
            }
        }
    };
    let thread = thread::Builder::new().spawn(says).map_err(Failure::refused)?;
    let tell = move |event| {
        if sender.try_send(event).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    };
    Ok((Arc::new(tell), thread))
}

fn say(event: Event) {
    output::say(&match event {
        Event::Registered { name, version } => {
            format!("strait: {name} {version} tells of its containers")
        }
        Event::Lost { why } => format!(
            "strait: containers are made without what they are to have, until the runtime is back: {why}"
        ),
        Event::Looked { running, bound, unconfined } => format!(
            "strait: {running} containers run already: {bound} are to be confined, and {unconfined} of \
             these are not as they are to be"
        ),
        Event::NotLooked { why } => {
            format!("strait: containers that run already are not looked at: {why}")
        }
        Event::Unconfined { container, policy, why } => format!(
            "strait: {container} runs already and is not confined by `{policy}`, as it is to be: {why}"
        ),
        Event::Unknown { container, policy, why } => {
            let policy = policy.map_or_else(
                || "whether it is to be confined".to_owned(),
                |policy| format!("whether it is confined by `{policy}`, as it is to be,"),
            );
            format!("strait: {container} runs already: {policy} cannot be told: {why}")
        }
        Event::Adjusted { container } => format!("strait: {container} gets what is asked for it"),
        Event::Stopped { container, reason } => {
            format!("strait: {container} is not made: {reason}")
        }
        Event::NotStarted { container, reason } => {
            format!("strait: {container} is not started: {reason}")
        }
        _ => return,
    });
}
