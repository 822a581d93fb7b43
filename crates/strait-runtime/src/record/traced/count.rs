//! What traced tasks do, counted.

use std::collections::{HashMap, HashSet};

use rustix::process::Pid;
use strait_bpf::{Action, Program, SeccompData};
use strait_kernel::ebpf::Counts;
use strait_kernel::ptrace;

use crate::record::life::{Life, Lineage};
use crate::record::program;
use crate::record::status::Status;
use crate::record::tally::{Site, Tally, loads_filter};

/// Counts the calls of traced tasks.
#[derive(Debug)]
pub(super) struct Counter {
    tasks: HashMap<Pid, Task>,
    /// What tasks begin with that have been announced and have not stopped yet.
    announced: HashMap<Pid, Task>,
    /// First processes: a signal that ends one ends the workload.
    roots: HashSet<Pid>,
    /// Counts the filters that were loaded: each task looks again after it whether it has one.
    epoch: u64,
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
    lineage: Lineage,
    /// How many filters it, or what it comes of, had at the begin; where the kernel says so.
    filters: Option<u32>,
    /// When it was looked last whether it has more.
    epoch: u64,
    /// The call that it is in, of which the return counts.
    call: Option<Site>,
    /// That call puts a filter on it if it succeeds.
    loads: bool,
}

impl Task {
    /// A task that this one starts.
    fn child(self) -> Task {
        Task { call: None, loads: false, ..self }
    }
}

impl Counter {
    /// Nothing is counted yet, of what begins with these processes, or with the exec of a command.
    pub(super) fn new(
        command: Option<Pid>,
        filter: Option<Program>,
        roots: HashSet<Pid>,
        life: Life,
    ) -> Counter {
        Counter {
            tasks: HashMap::new(),
            announced: HashMap::new(),
            roots,
            epoch: 0,
            waiting: command,
            filter,
            ran_set_id: false,
            tally: Tally::new(life),
        }
    }

    /// Whether the calls of a task are to be seen: not of the command before its exec.
    pub(super) fn counts_calls_of(&self, task: Pid) -> bool {
        self.waiting != Some(task)
    }

    /// A task has started another.
    pub(super) fn started(&mut self, task: Pid, new: Pid) {
        if !self.tasks.contains_key(&new) {
            let child = self.task(task).child();
            self.announced.insert(new, child);
        }
    }

    /// A task has exec'd, that was `before` before.
    pub(super) fn exec(&mut self, task: Pid, before: Pid) {
        let image = self.tally.image(program::of(task));
        let state = match self.waiting == Some(task) {
            true => {
                self.waiting = None;
                self.tally.task();
                self.beginning(task, image)
            }
            false => {
                let state = self.task(before);
                let state = self.look_again(task, state);
                let lineage = match state.lineage {
                    // The filter's own exec: what follows is what the filter is for.
                    Lineage::Filtered => {
                        self.tally.exec_under_filter(state.image);
                        self.roots.insert(task);
                        Lineage::Inner
                    }
                    lineage => lineage,
                };
                Task { image, lineage, ..state }
            }
        };
        self.tasks.remove(&before);
        self.tasks.insert(task, state);
        self.tally.exec();
        self.ran_set_id |= program::is_set_id(task);
    }

    /// A task is at the begin or the end of a call.
    pub(super) fn call(&mut self, task: Pid, at: ptrace::Call) {
        let state = self.task(task);
        let state = match at {
            ptrace::Call::Entered(data) => {
                let state = self.look_again(task, state);
                self.entered(state, &data)
            }
            ptrace::Call::Returned(result) => self.returned(state, result),
            ptrace::Call::Outside => state,
        };
        self.tasks.insert(task, state);
    }

    /// A signal is about to be delivered to a task.
    pub(super) fn signal(&mut self, task: Pid, signal: i32) {
        let Some(status) = Status::of(task) else { return };
        let is_first = status.process().is_some_and(|process| self.roots.contains(&process));
        if self.counts_calls_of(task) && is_first && status.is_ended_by(signal) {
            let lineage = self.task(task).lineage;
            self.tally.life().end(lineage);
        }
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, task: Pid) {
        self.tasks.remove(&task);
        self.announced.remove(&task);
        self.roots.remove(&task);
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
            self.tally.denied(task.image, task.lineage, data);
            return Task { call: None, loads: false, ..task };
        }
        let call = self.tally.entered(task.image, task.lineage, data);
        Task { call, loads: call.is_some_and(|call| loads_filter(call, data)), ..task }
    }

    fn returned(&mut self, task: Task, result: i64) -> Task {
        if let Some(call) = task.call
            && self.tally.returned(call, result)
            && task.loads
        {
            self.tally.filtered();
            // It may have been loaded for other threads too.
            self.epoch += 1;
        }
        Task { call: None, loads: false, ..task }
    }

    /// Whether a stopped task has got a filter since it was looked last.
    fn look_again(&self, task: Pid, state: Task) -> Task {
        if state.epoch == self.epoch {
            return state;
        }
        let now = Status::of(task).and_then(|status| status.filters());
        let lineage = match state.lineage {
            Lineage::Workload if now > state.filters => Lineage::Filtered,
            lineage => lineage,
        };
        Task { lineage, epoch: self.epoch, ..state }
    }

    /// The state of a task with which it begins.
    fn beginning(&self, task: Pid, image: u32) -> Task {
        Task {
            image,
            lineage: Lineage::Workload,
            filters: Status::of(task).and_then(|status| status.filters()),
            epoch: self.epoch,
            call: None,
            loads: false,
        }
    }

    /// The state of a task, which may be seen for the first time.
    fn task(&mut self, task: Pid) -> Task {
        if let Some(&known) = self.tasks.get(&task) {
            return known;
        }
        let state = match self.announced.remove(&task).or_else(|| self.of_its_origin(task)) {
            Some(state) => state,
            None => {
                let image = self.tally.image(program::of(task));
                self.beginning(task, image)
            }
        };
        self.tally.task();
        self.tasks.insert(task, state);
        state
    }

    /// What a task begins with that has stopped before it was announced.
    fn of_its_origin(&self, task: Pid) -> Option<Task> {
        let origin = Status::of(task)?.origin(task)?;
        self.tasks.get(&origin).map(|state| state.child())
    }
}
