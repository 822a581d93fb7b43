//! Recorder, launcher, supervisor and inspector: what the command line does, as a library.
#![forbid(unsafe_code)]

pub mod attack;
pub mod confine;
pub mod containers;
pub mod domain;
pub mod exec_check;
pub mod gate;
pub mod inspect;
pub mod launch;
pub mod listeners;
pub mod mode;
pub mod network;
pub mod nri;
pub mod oci;
pub mod record;
pub mod rendering;
pub mod report;
pub mod scope;
pub mod steps;
pub mod supervise;
pub mod verdict;
pub mod verify;
pub mod wait;
pub mod watch;
