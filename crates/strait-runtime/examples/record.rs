//! Records a command and prints what it called: `cargo run --example record -- [ebpf|ptrace] CMD…`.
use std::error::Error;
use std::ffi::OsString;

use strait_kernel::command::Command;
use strait_runtime::record::{Choice, Request, Target, start};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let engine = match args.first().and_then(|arg| arg.to_str()) {
        Some("ebpf") => Choice::Ebpf,
        Some("ptrace") => Choice::Ptrace,
        _ => Choice::Auto,
    };
    if engine != Choice::Auto {
        args.remove(0);
    }
    let program = args.remove(0);
    let command = Command::new(&program, args)?;
    let target = Target::Command { command: &command, enforcement: None };
    let running = start(&Request { target, engine, duration: None })?;
    let recording = running.wait()?;
    eprintln!("{:?} {:?} {:?}", recording.engine(), recording.completeness(), recording.exit());
    for call in recording.calls() {
        let image = &recording.images()[call.image];
        let name = call.syscall().map_or(call.nr.to_string(), |call| call.name().to_owned());
        eprintln!("{image:?} {} {name} {:?}", call.arch, call.outcomes);
    }
    Ok(())
}
