//! What traced tasks do, counted.

use std::collections::HashMap;
use std::fs;

use rustix::process::Pid;
use strait_bpf::{Action, Program, SeccompData};
use strait_kernel::ebpf::{Call, Counts};
use strait_kernel::ptrace;

use crate::record::program::{self, proc_file};
use crate::record::tally::{Tally, loads_filter};

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
    /// A set-user-ID or set-group-ID program was run.
    ran_set_id: bool,
    tally: Tally,
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
            ran_set_id: false,
            tally: Tally::default(),
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
        let image = self.tally.image(program::of(task));
        let begun = match self.waiting == Some(task) {
            true => None,
            false => Some(self.task(before)),
        };
        if self.waiting == Some(task) {
            self.waiting = None;
            self.tally.task();
        }
        self.tasks.remove(&before);
        let (call, filters) = begun.map_or((None, false), |task| (task.call, task.filters));
        self.tasks.insert(task, Task { image, call, filters });
        self.tally.exec();
        self.ran_set_id |= program::is_set_id(task);
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
        (self.tally.counts(), self.ran_set_id)
    }

    fn entered(&mut self, task: Task, data: &SeccompData) -> Task {
        let denied = match self.filter.as_ref().map(|filter| filter.run(data)) {
            None | Some(Action::Allow | Action::Log) => false,
            Some(_) => true,
        };
        if denied {
            self.tally.denied(task.image, data);
            return Task { call: None, filters: false, ..task };
        }
        let call = self.tally.entered(task.image, data);
        Task { call, filters: call.is_some_and(|call| loads_filter(call, data)), ..task }
    }

    fn returned(&mut self, task: Task, result: i64) -> Task {
        if let Some(call) = task.call
            && self.tally.returned(call, result)
            && task.filters
        {
            self.tally.filtered();
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
            None => self.tally.image(program::of(task)),
        };
        self.tally.task();
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
}
