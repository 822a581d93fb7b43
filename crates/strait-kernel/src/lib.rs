//! Safe wrappers of the kernel interfaces that Strait uses.
//!
//! This is the only crate of the workspace that contains `unsafe`. Each module wraps one
//! interface, is small, and states what the kernel promises and what it asks for.

pub mod attack;
pub mod audit;
mod before_exec;
pub mod caller;
pub mod child;
pub mod command;
pub mod dump;
pub mod ebpf;
pub mod exec_stop;
pub mod interrupts;
mod keeper;
pub mod landlock;
pub mod notified;
pub mod ptrace;
pub mod seccomp;
mod shared;
pub mod signal;
pub mod step;
mod stop;
pub mod streams;
pub mod supervision;
pub mod task;
mod tracee;
pub mod waker;
pub mod watch;
