//! A line on a terminal that tells what is being done, where that takes more than a second.
//!
//! Not while a command of the user's runs: the terminal is the command's then.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What takes less is not told.
const PATIENCE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(120);

/// Tells what is being done for as long as this lives; the line is gone when it is dropped.
#[must_use]
pub struct Progress {
    telling: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    /// From now on this is being done. Nothing is told where standard error is no terminal.
    pub fn of(what: &'static str) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress { telling: None };
        }
        let (end, ended) = channel();
        let tell = move || {
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let bar = ProgressBar::new_spinner().with_message(what);
            if let Ok(style) = ProgressStyle::with_template("{spinner} strait: {msg}, {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            // Ends when the sender is dropped.
            let _ = ended.recv();
            bar.finish_and_clear();
        };
        // Without a thread nothing is told, which is no failure.
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(tell);
        Progress { telling: thread.ok().map(|thread| (end, thread)) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.telling.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}
