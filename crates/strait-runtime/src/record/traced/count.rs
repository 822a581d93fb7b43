//! What traced tasks do, counted.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use strait_abi::{Arch, Syscall};
use strait_bpf::{Action, Program, SeccompData};
use strait_kernel::ebpf::{Call, Counts, Image, Outcomes};
use strait_kernel::ptrace;

/// Errors are from -4095 to -1 (include/linux/err.h, MAX_ERRNO).
const MAX_ERRNO: u16 = 4095;

/// Counts the calls of traced tasks.
#[derive(Debug)]
pub(super) struct Counter {
    tasks: HashMap<Pid, Task>,
    /// Images of tasks that have been announced and have not stopped yet.
    announced: HashMap<Pid, u32>,
    /// The command, until it has exec'd.
    waiting: Option<Pid>,
    /// The filter that the workload runs under.
    filter: Option<Program>,
    images: BTreeMap<Image, u32>,
    /// A set-user-ID or set-group-ID program was run.
    ran_set_id: bool,
    counts: Counts,
}

/// A task that has been seen to stop.
#[derive(Clone, Copy, Debug)]
struct Task {
    image: u32,
    /// The call that it is in, of which the return counts.
    call: Option<Call>,
    /// That call puts a filter on it if it succeeds.
    filters: bool,
}

impl Counter {
    pub(super) fn new(command: Option<Pid>, filter: Option<Program>) -> Counter {
        Counter {
            tasks: HashMap::new(),
            announced: HashMap::new(),
            waiting: command,
            filter,
            images: BTreeMap::new(),
            ran_set_id: false,
            counts: Counts::default(),
        }
    }

    /// Whether the calls of a task are to be seen: not of the command before its exec.
    pub(super) fn counts_calls_of(&self, task: Pid) -> bool {
        self.waiting != Some(task)
    }

    /// A task has started another.
    pub(super) fn started(&mut self, task: Pid, new: Pid) {
        if !self.tasks.contains_key(&new) {
            let image = self.task(task).image;
            self.announced.insert(new, image);
        }
    }

    /// A task has exec'd, that was `before` before.
    pub(super) fn exec(&mut self, task: Pid, before: Pid) {
        let image = self.image_of(task);
        let begun = match self.waiting == Some(task) {
            true => None,
            false => Some(self.task(before)),
        };
        if self.waiting == Some(task) {
            self.waiting = None;
            self.counts.statistics.tasks += 1;
        }
        self.tasks.remove(&before);
        let (call, filters) = begun.map_or((None, false), |task| (task.call, task.filters));
        self.tasks.insert(task, Task { image, call, filters });
        self.counts.statistics.execs += 1;
        let mode = fs::metadata(proc_file(task, "exe")).map_or(0, |file| file.mode());
        self.ran_set_id |= mode & 0o6000 != 0;
    }

    /// A task is at the begin or the end of a call.
    pub(super) fn call(&mut self, task: Pid, at: ptrace::Call) {
        let state = self.task(task);
        let state = match at {
            ptrace::Call::Entered(data) => self.entered(state, &data),
            ptrace::Call::Returned(result) => self.returned(state, result),
            ptrace::Call::Outside => state,
        };
        self.tasks.insert(task, state);
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, task: Pid) {
        self.tasks.remove(&task);
        self.announced.remove(&task);
    }

    /// What was counted, and whether a set-user-ID program was run.
    pub(super) fn finish(self) -> (Counts, bool) {
        let mut counts = self.counts;
        counts.images = self.images.into_iter().map(|(image, number)| (number, image)).collect();
        (counts, self.ran_set_id)
    }

    fn entered(&mut self, task: Task, data: &SeccompData) -> Task {
        let Some(arch) = arch_of(data) else {
            // No table for it; counted as what it is not would be worse.
            self.counts.statistics.lost_calls += 1;
            return Task { call: None, filters: false, ..task };
        };
        let call = Call { image: task.image, phase: None, arch, nr: data.nr };
        let denied = match self.filter.as_ref().map(|filter| filter.run(data)) {
            None | Some(Action::Allow | Action::Log) => false,
            Some(_) => true,
        };
        let outcomes = self.counts.calls.entry(call).or_default();
        if denied {
            outcomes.denied += 1;
            return Task { call: None, filters: false, ..task };
        }
        outcomes.entered += 1;
        Task { call: Some(call), filters: loads_filter(call, data), ..task }
    }

    fn returned(&mut self, task: Task, result: i64) -> Task {
        if let Some(call) = task.call {
            let outcomes: &mut Outcomes = self.counts.calls.entry(call).or_default();
            match u16::try_from(result.wrapping_neg()) {
                Ok(errno @ 1..=MAX_ERRNO) => *outcomes.errnos.entry(errno).or_default() += 1,
                _ => {
                    outcomes.succeeded += 1;
                    self.counts.statistics.filtered_tasks += u64::from(task.filters);
                }
            }
        }
        Task { call: None, filters: false, ..task }
    }

    /// The state of a task, which may be seen for the first time.
    fn task(&mut self, task: Pid) -> Task {
        if let Some(&known) = self.tasks.get(&task) {
            return known;
        }
        let image = match self.announced.remove(&task).or_else(|| self.parents_image(task)) {
            Some(image) => image,
            None => self.image_of(task),
        };
        self.counts.statistics.tasks += 1;
        let state = Task { image, call: None, filters: false };
        self.tasks.insert(task, state);
        state
    }

    /// The image of what has started a task that has stopped before it was announced.
    fn parents_image(&self, task: Pid) -> Option<u32> {
        let status = fs::read_to_string(proc_file(task, "status")).ok()?;
        let pid = |key: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(key))?;
            Pid::from_raw(value.trim().parse().ok()?)
        };
        let process = pid("Tgid:")?;
        let by = if process == task { pid("PPid:")? } else { process };
        self.tasks.get(&by).map(|state| state.image)
    }

    /// The image that a stopped task runs now.
    fn image_of(&mut self, task: Pid) -> u32 {
        let path = fs::read_link(proc_file(task, "exe")).unwrap_or_default().into_os_string();
        let mut path = path.into_vec();
        if path.ends_with(b" (deleted)") {
            path.truncate(path.len() - b" (deleted)".len());
        }
        let image = Image { path, script: script_of(task) };
        let next = u32::try_from(self.images.len()).unwrap_or(u32::MAX);
        *self.images.entry(image).or_insert(next)
    }
}

fn proc_file(task: Pid, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{}/{name}", task.as_raw_nonzero()))
}

/// The ABI of a call, as `seccomp_data` shows it.
fn arch_of(data: &SeccompData) -> Option<Arch> {
    match data.arch.arch()? {
        Arch::X86_64 if data.nr & Arch::X32_BIT != 0 => Some(Arch::X32),
        arch => Some(arch),
    }
}

/// Whether a call puts a filter on its task: seccomp(SECCOMP_SET_MODE_FILTER) or
/// prctl(PR_SET_SECCOMP).
fn loads_filter(call: Call, data: &SeccompData) -> bool {
    const SECCOMP_SET_MODE_FILTER: u64 = 1;
    const PR_SET_SECCOMP: u64 = 22;
    let is = |name| Syscall::from_name(name).and_then(|it| it.number(call.arch)) == Some(call.nr);
    (data.args[0] == SECCOMP_SET_MODE_FILTER && is("seccomp"))
        || (data.args[0] == PR_SET_SECCOMP && is("prctl"))
}

/// The script for which a task's program was run: the file that exec was given, if it is not a
/// program itself.
fn script_of(task: Pid) -> Option<Vec<u8>> {
    let name = exec_name(task)?;
    let path = Path::new(std::ffi::OsStr::from_bytes(&name));
    let file = match path.strip_prefix("/") {
        Ok(relative) => proc_file(task, "root").join(relative),
        Err(_) => proc_file(task, "cwd").join(path),
    };
    let mut start = [0; 2];
    File::open(file).ok()?.read_exact(&mut start).ok()?;
    (&start == b"#!").then_some(name)
}

/// What exec was given as the file's name: AT_EXECFN of the auxiliary vector (getauxval(3)).
fn exec_name(task: Pid) -> Option<Vec<u8>> {
    const AT_EXECFN: u64 = 31;
    let vector = fs::read(proc_file(task, "auxv")).ok()?;
    let native = vector.chunks_exact(16).find_map(|pair| {
        let (key, value) = pair.split_at(8);
        let word = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
        if word(key)? == AT_EXECFN { word(value) } else { None }
    });
    // A 32-bit program's has half the words.
    let at = native.or_else(|| {
        vector.chunks_exact(8).find_map(|pair| {
            let (key, value) = pair.split_at(4);
            let word = |bytes: &[u8]| Some(u64::from(u32::from_ne_bytes(bytes.try_into().ok()?)));
            if word(key)? == AT_EXECFN { word(value) } else { None }
        })
    })?;
    let memory = File::open(proc_file(task, "mem")).ok()?;
    let mut name = Vec::new();
    // Read by pieces that do not reach into the next page, which may not be there.
    while name.len() < 4096 {
        let mut piece = [0; 64];
        let position = at.checked_add(u64::try_from(name.len()).ok()?)?;
        let until_boundary = usize::try_from(64 - position % 64).ok()?;
        let read = memory.read_at(&mut piece[..until_boundary], position).ok()?;
        let piece = &piece[..read];
        match piece.iter().position(|&byte| byte == 0) {
            Some(end) => {
                name.extend_from_slice(&piece[..end]);
                return Some(name);
            }
            None if read == 0 => return None,
            None => name.extend_from_slice(piece),
        }
    }
    None
}
