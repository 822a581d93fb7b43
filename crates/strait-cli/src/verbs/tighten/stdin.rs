//! Standard input for a command that is run several times: every run is to read the same.
//!
//! A file is set back to where the first run began. Of a pipe, what one run takes is kept in a file
//! that has no name, and the next run gets that first. The command has a pipe for its standard
//! input all the same, and gets what comes as it comes, so that it can be talked with.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use strait_kernel::command::{Command, Stream};

/// So much of a pipe is kept, in bytes.
const LIMIT: u64 = 1 << 30;

/// What every run of the command reads.
pub(super) enum Stdin {
    /// A file: each run reads it from where the first began.
    File(File, u64),
    /// A terminal or another device, which every run can read by itself.
    Shared,
    /// A pipe.
    Pipe(Kept),
    /// A socket, with which a program can do more than read, or a pipe of which nothing can be kept:
    /// what one run has read, the next does not get.
    ReadOnce,
}

/// A pipe, and what has been taken from it.
pub(super) struct Kept {
    source: File,
    spool: File,
    /// So many bytes are in the spool.
    length: u64,
    /// The pipe has nothing more.
    ended: bool,
    /// Something was taken that is not in the spool.
    cut: bool,
}

/// The pipe of one run of the command, not filled yet.
pub(super) struct Feed {
    kept: Kept,
    pipe: OwnedFd,
}

/// The pipe of one run, being filled.
pub(super) struct Feeding {
    stop: OwnedFd,
    thread: JoinHandle<Kept>,
}

impl Stdin {
    /// This process's, for a command that is run once or more often.
    pub(super) fn of_this_process(runs: u16) -> Stdin {
        let stdin = io::stdin();
        if stdin.is_terminal() || runs == 1 {
            return Stdin::Shared;
        }
        let Ok(mut file) = stdin.as_fd().try_clone_to_owned().map(File::from) else {
            return Stdin::Shared; // closed: there is nothing to read
        };
        match file.metadata().map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_file() => match file.stream_position() {
                Ok(start) => Stdin::File(file, start),
                Err(_) => Stdin::ReadOnce,
            },
            Ok(kind) if kind.is_char_device() => Stdin::Shared,
            Ok(kind) if kind.is_fifo() => match unnamed() {
                Ok(spool) => {
                    Stdin::Pipe(Kept { source: file, spool, length: 0, ended: false, cut: false })
                }
                Err(_) => Stdin::ReadOnce,
            },
            _ => Stdin::ReadOnce,
        }
    }

    /// Gives a run of the command what the first had. What is fed is to be started once the command
    /// is, and given back to [`Stdin::take_back`].
    pub(super) fn connect(&mut self, command: Command) -> io::Result<(Command, Option<Feed>)> {
        match std::mem::replace(self, Stdin::ReadOnce) {
            Stdin::Pipe(kept) => {
                let (theirs, pipe) = pipe_with(PipeFlags::CLOEXEC)?;
                // Ours alone: the command's end blocks, as what it replaces does.
                rustix::fs::fcntl_setfl(&pipe, OFlags::NONBLOCK)?;
                Ok((command.redirect(Stream::Stdin, theirs), Some(Feed { kept, pipe })))
            }
            other => {
                if let Stdin::File(file, start) = &other {
                    // A file that told its position can be set back to it.
                    let mut file = file;
                    let _ = file.seek(SeekFrom::Start(*start));
                }
                *self = other;
                Ok((command, None))
            }
        }
    }

    /// Stops what was fed, for the next run.
    pub(super) fn take_back(&mut self, feeding: Option<Feeding>) {
        if let Some(kept) = feeding.and_then(Feeding::finish) {
            *self = Stdin::Pipe(kept);
        }
    }

    /// What a later run was not given of what the first had, if anything, for a person to read.
    pub(super) fn gap(&self) -> Option<String> {
        match self {
            Stdin::ReadOnce => Some(
                "the confined run got of standard input only what the first had left of it".into(),
            ),
            Stdin::Pipe(kept) if kept.cut => Some(format!(
                "of standard input only the first {} bytes could be kept for the confined run",
                kept.length
            )),
            _ => None,
        }
    }
}

impl Feed {
    /// Starts to fill the pipe, until the command has closed it.
    pub(super) fn start(self) -> io::Result<Feeding> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let theirs = stop.try_clone()?;
        let Feed { kept, pipe } = self;
        let thread = thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || kept.feed(&pipe, &theirs))?;
        Ok(Feeding { stop, thread })
    }
}

impl Feeding {
    /// Stops, and gives what was kept.
    fn finish(self) -> Option<Kept> {
        // It cannot block: one write does not fill the counter.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        self.thread.join().ok()
    }
}

impl Kept {
    /// Fills a pipe with what was kept and then with what comes, until one of the two ends or it is
    /// told to stop.
    fn feed(mut self, pipe: &OwnedFd, stop: &OwnedFd) -> Kept {
        let mut buffer = vec![0; 1 << 16];
        let (mut at, mut pending) = (0, 0..0);
        // What comes after something that is lost is no sequel to what was kept.
        let was_cut = self.cut;
        loop {
            if pending.is_empty() && at == self.length && (self.ended || was_cut) {
                return self; // with the pipe, which tells the command of the end
            }
            let reads = pending.is_empty() && at == self.length;
            let wanted = if pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = vec![PollFd::new(pipe, wanted), PollFd::new(stop, PollFlags::IN)];
            if reads {
                fds.push(PollFd::new(&self.source, PollFlags::IN));
            }
            if pending.is_empty() && !reads {
                // What was kept is there at once.
                let rest = usize::try_from(self.length - at).unwrap_or(usize::MAX);
                let most = rest.min(buffer.len());
                match self.spool.read_at(&mut buffer[..most], at) {
                    Ok(read @ 1..) => {
                        pending = 0..read;
                        at += read as u64;
                    }
                    _ => self.lose(at),
                }
                continue;
            }
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return self,
            }
            let [to, stopped] = [fds[0].revents(), fds[1].revents()];
            if !stopped.is_empty() || to.contains(PollFlags::ERR) {
                return self; // nobody reads any more
            }
            if reads && fds.get(2).is_some_and(|from| !from.revents().is_empty()) {
                match self.source.read(&mut buffer) {
                    Ok(0) => self.ended = true,
                    Ok(read) => {
                        self.keep(&buffer[..read]);
                        pending = 0..read;
                        at = self.length;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => self.ended = true,
                }
            } else if to.contains(PollFlags::OUT) {
                match rustix::io::write(pipe, &buffer[pending.clone()]) {
                    Ok(written) => pending.start += written,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => return self,
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let end = self.length.saturating_add(bytes.len() as u64);
        if self.cut || end > LIMIT || self.spool.write_all_at(bytes, self.length).is_err() {
            self.cut = true;
        } else {
            self.length = end;
        }
    }

    /// The spool cannot be read beyond this.
    fn lose(&mut self, length: u64) {
        self.length = length;
        self.cut = true;
    }
}

/// A file without a name: in the folder for temporary files, or else in memory.
fn unnamed() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(std::env::temp_dir(), flags, Mode::RUSR | Mode::WUSR)
        .or_else(|_| memfd_create("strait-stdin", MemfdFlags::CLOEXEC))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_limit_is_not_kept() {
        let (source, spool) = (unnamed().unwrap(), unnamed().unwrap());
        // Sparse: nothing was written up to here.
        let mut kept = Kept { source, spool, length: LIMIT - 2, ended: false, cut: false };
        kept.keep(b"ab");
        assert!(kept.length == LIMIT && !kept.cut);
        kept.keep(b"c");
        assert!(kept.length == LIMIT && kept.cut);
        // Nothing after a gap, either.
        kept.length = 0;
        kept.keep(b"d");
        assert!(kept.length == 0 && kept.cut);
    }
}
