//! Recorder, launcher, supervisor and inspector.
#![forbid(unsafe_code)]

pub mod record;
