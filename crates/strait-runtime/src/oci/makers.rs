//! Whether a container is still being made: by the processes that have its id among their arguments, as
//! runtimes and those who watch over them have (conmon(8)).
//!
//! An engine that serves others lives on where a container could not be made, and tells nobody. Whoever waits for
//! that container looks whether anybody makes it.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(100);
/// Makers that have not been seen in this time have come and gone in between. An engine begins as soon as it knows what
/// the container is to have.
const UNSEEN: Duration = Duration::from_secs(10);
/// No command line is read further, in bytes.
const LIMIT: u64 = 64 << 10;
/// Strait's own, which have the id because they wait.
const WAITING: [&[u8]; 2] = [b"oci-recorder", b"oci-supervisor"];

/// Those who make a container.
#[derive(Debug)]
pub struct Makers {
    id: String,
    begin: Instant,
    next: Instant,
    /// How often they were looked for in vain since they were there; `None` if they never were.
    missed: Option<u8>,
}

impl Makers {
    /// Of the container with this id, which nobody need make yet.
    pub fn new(id: &str) -> Makers {
        let now = Instant::now();
        Makers { id: id.to_owned(), begin: now, next: now + EVERY, missed: None }
    }

    /// How long not to look. Nothing is to be seen where no id is known.
    pub(super) fn rest(&self) -> Option<Duration> {
        (!self.id.is_empty()).then(|| self.next.saturating_duration_since(Instant::now()))
    }

    /// Whether they are gone, if it is time to look.
    pub(super) fn are_gone(&mut self) -> bool {
        if self.rest().is_none_or(|rest| !rest.is_zero()) {
            return false;
        }
        self.next = Instant::now() + EVERY;
        self.missed = match (is_made(&self.id), self.missed) {
            (true, _) => Some(0),
            (false, missed) => missed.map(|times| times.saturating_add(1)),
        };
        // One may come after the other.
        self.missed.map_or(self.begin.elapsed() > UNSEEN, |times| times > 1)
    }
}

/// Whether some process has this among its arguments.
fn is_made(id: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    processes.filter(|entry| entry.file_name().to_str().is_some_and(is_number)).any(|process| {
        let mut line = Vec::new();
        let Ok(file) = File::open(process.path().join("cmdline")) else { return false };
        let read = file.take(LIMIT).read_to_end(&mut line);
        let has = |word: &[u8]| line.split(|&byte| byte == 0).any(|it| it == word);
        read.is_ok() && has(id.as_bytes()) && !WAITING.iter().any(|word| has(word))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn makers_are_gone_when_they_were_there() {
        let id = format!("strait-makers-{}", std::process::id());
        let mut makers = Makers::new(&id);
        let mut look = || {
            makers.next = Instant::now();
            makers.are_gone()
        };
        assert!(!look() && !look() && !look(), "nobody has begun");
        let (mut late, long) = (Makers::new(&id), UNSEEN + EVERY);
        late.next = Instant::now();
        if let Some(begin) = Instant::now().checked_sub(long) {
            late.begin = begin;
            assert!(late.are_gone(), "nobody will begin");
        }
        // One that waits has it too, and makes nothing.
        let start = |word: &str| -> Child {
            let script = ["-c", "read wait", "sh", word, id.as_str()];
            Command::new("sh").args(script).stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let mut waits = start("oci-recorder");
        assert!(!look());
        let mut makes = start("create");
        // Its arguments are there when it is executed.
        while !is_made(&id) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!look() && !look() && !look(), "it goes on");
        makes.kill().unwrap();
        makes.wait().unwrap();
        assert!(!look(), "another may follow");
        assert!(look());
        waits.kill().unwrap();
        waits.wait().unwrap();
        assert_eq!(Makers::new("").rest(), None);
    }
}
