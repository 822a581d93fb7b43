//! Records a command into a file: `record auto|ebpf|notify|ptrace|audit FILE CMD…`.

use std::error::Error;
use std::{env, fs};

use strait_kernel::command::Command;
use strait_runtime::record::{Choice, Ready, Request, Target, start};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args_os().skip(1);
    let usage = "usage: record auto|ebpf|notify|ptrace|audit FILE CMD…";
    let engine = match words.next().ok_or(usage)?.to_str() {
        Some("auto") => Choice::Auto,
        Some("ebpf") => Choice::Ebpf,
        Some("notify") => Choice::Notify,
        Some("audit") => Choice::Audit,
        Some("ptrace") => Choice::Ptrace,
        _ => return Err(usage.into()),
    };
    let file = words.next().ok_or(usage)?;
    let command = Command::new(&words.next().ok_or(usage)?, words)?;
    let target = Target::Command { command: &command, enforcement: None };
    let recording =
        start(&Request { target, engine, duration: None, ready: Ready::default() })?.wait()?;
    fs::write(file, recording.to_json())?;
    Ok(())
}
