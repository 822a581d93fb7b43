//! `strait containers`: what runs in containers here, and how it is confined.

use std::fmt::Write as _;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::json;
use strait_runtime::containers::{Found, Origin, Surveyed, find, survey};
use strait_runtime::inspect::{Depth, Inspector, Status};

use crate::args::Containers;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, printable};
use crate::progress::Progress;

/// Lists the running containers of all engines. The status is 3 if an engine could not be asked.
pub fn run(args: &Containers) -> Result<ExitCode, Failure> {
    let progress = Progress::of("asking the container engines");
    let found = find(&args.engines.sources());
    let mut inspector = Inspector::new(Depth::Filters).with_profiles();
    let now = Timestamp::now().as_second();
    let all = survey(&mut inspector, &found, now).map_err(Failure::refused)?;
    drop(progress);
    if args.json {
        let data = json!({ "containers": all, "unreachable": found.unreachable });
        output::print(format!("{data:#}\n").as_bytes()).map_err(Failure::refused)?;
    } else {
        output::print_styled(&text(&all)).map_err(Failure::refused)?;
    }
    Ok(ExitCode::from(told(&found)))
}

/// Says which engines could not be asked, and gives the status for that.
fn told(found: &Found) -> u8 {
    for unreachable in &found.unreachable {
        output::say(&format!("strait: not asked: {unreachable}"));
    }
    if found.unreachable.is_empty() { 0 } else { REFUSED }
}

/// The table, then the processes that are not confined.
fn text(all: &[Surveyed]) -> String {
    let headings = [
        "CONTAINER",
        "ID",
        "IMAGE",
        "RUNTIME",
        "PID",
        "PROCESSES",
        "CONFINED",
        "CALLS",
        "NNP",
        "CAPS",
        "ACTS AS",
        "SECRETS",
    ];
    let rows = all.iter().map(row);
    let mut out = format!("{}\n", output::table(&headings, rows));
    for one in all {
        let partly = one.confinement.filtered > 0;
        let bare = one.processes.iter().filter(|process| process.status == Status::Unconfined);
        for process in bare.filter(|process| partly || process.member.origin != Origin::Started) {
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "{}: process {} ({}) is not confined; it {}",
                printable(&one.container.full_name()),
                process.member.pid,
                printable(&process.name),
                process.member.origin.text()
            );
        }
    }
    out
}

fn row(one: &Surveyed) -> Vec<String> {
    let Surveyed { container, confined, known, processes, confinement, exposure, identity } = one;
    let confined = match known.as_slice() {
        [] => confined.name().to_owned(),
        known => format!("{}: {}", confined.name(), known.join(", ")),
    };
    let acts_as = identity.account.clone().unwrap_or_else(|| identity.users.join(", "));
    let short = container.id.get(..12).unwrap_or(&container.id);
    // An id in place of a name is shortened too: its beginning names the container as well.
    let name = if container.names.is_empty() && container.id.len() == 64 {
        container.full_name().replace(&container.id, short)
    } else {
        container.full_name()
    };
    vec![
        name,
        short.to_owned(),
        container.image.clone().unwrap_or_default(),
        container.runtime.map_or("", |runtime| runtime.name()).to_owned(),
        container.pid.to_string(),
        processes.len().to_string(),
        confined,
        exposure.allowed.to_string(),
        if confinement.no_new_privs { "yes" } else { "no" }.to_owned(),
        confinement.capabilities.len().to_string(),
        acts_as,
        identity.evidence.len().to_string(),
    ]
}
