//! Runs a command while an eBPF program is attached to the raw tracepoint `sys_enter`: what the
//! recorder is measured beside. `bitmap OBJECT CMD…`

use std::env;
use std::error::Error;
use std::process::Command;

use aya::Ebpf;
use aya::programs::RawTracePoint;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = env::args_os().skip(1);
    let usage = "usage: bitmap OBJECT CMD…";
    let object = words.next().ok_or(usage)?;
    let command = words.next().ok_or(usage)?;
    let mut ebpf = Ebpf::load_file(object)?;
    let program: &mut RawTracePoint =
        ebpf.program_mut("sys_enter").ok_or("the object has no program sys_enter")?.try_into()?;
    program.load()?;
    program.attach("sys_enter")?;
    let status = Command::new(command).args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("{status}").into()) }
}
