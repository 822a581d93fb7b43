//! Watching: what changes about how processes are confined.
//!
//! Nobody is stopped while nothing changes. A filter can be added to a thread, never taken off, so a
//! thread whose mode and number of filters are as before has the filters that it had; only threads
//! that are new or differ in these are read again, with the others of their process.

use std::collections::BTreeMap;
use std::io;

use rustix::process::Pid;
use serde::Serialize;
use strait_kernel::task::{self, Mode, Task};

use crate::inspect::{InspectError, Inspector, Status, as_number, as_numbers};
use crate::rendering::Original;
use crate::scope::Scope;
use crate::verdict::Intent;
use crate::verify::{Outcome, Verification, verify_rendered};

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Event {
    /// A process is there that was not before.
    Started {
        /// What was found of it.
        verification: Box<Verification>,
    },
    /// Threads of a process are confined otherwise than before, or are new.
    Changed {
        /// What was found before.
        from: Outcome,
        /// Threads that were not there before.
        #[serde(serialize_with = "as_numbers")]
        new_threads: Vec<Pid>,
        /// Threads that have fewer filters than before: something took them off, as only a
        /// checkpoint's restorer can.
        #[serde(serialize_with = "as_numbers")]
        lost_filters: Vec<Pid>,
        /// What was found of it.
        verification: Box<Verification>,
    },
    /// A process could not be looked at.
    Unknown {
        /// Its id.
        #[serde(serialize_with = "as_number")]
        pid: Pid,
        /// Why.
        reason: String,
    },
    /// A process has ended.
    Ended {
        /// Its id.
        #[serde(serialize_with = "as_number")]
        pid: Pid,
    },
}

/// What is known of a process that is watched.
#[derive(Debug)]
struct Seen {
    started: u64,
    threads: BTreeMap<i32, ThreadState>,
    outcome: Outcome,
}

/// What tells that a thread has to be read again.
type ThreadState = (u64, Mode, Option<u32>);

/// Watches processes.
#[derive(Debug)]
pub struct Watch<'w> {
    scope: Scope,
    intent: &'w Intent,
    original: Option<&'w Original>,
    inspector: Inspector,
    seen: BTreeMap<i32, Seen>,
}

impl<'w> Watch<'w> {
    /// Watches these processes; the first look finds all of them started.
    pub fn new(scope: Scope, intent: &'w Intent, original: Option<&'w Original>) -> Watch<'w> {
        Watch { scope, intent, original, inspector: Inspector::default(), seen: BTreeMap::new() }
    }

    /// What has changed since the last look.
    ///
    /// # Errors
    /// If the processes cannot be listed.
    pub fn look(&mut self) -> io::Result<Vec<Event>> {
        let pids = match self.scope.processes() {
            Ok(pids) => pids,
            // The cgroup is gone, and so are all of its processes.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.seen.is_empty() => {
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let mut events = Vec::new();
        let mut now: BTreeMap<i32, Seen> = BTreeMap::new();
        for pid in pids {
            let Some((started, threads)) = state(pid) else { continue };
            let before = self.seen.remove(&pid.as_raw_pid());
            let before = match before {
                Some(seen) if seen.started == started => Some(seen),
                Some(_) => {
                    events.push(Event::Ended { pid });
                    None
                }
                None => None,
            };
            if let Some(seen) = before.as_ref().filter(|seen| !differ(&seen.threads, &threads)) {
                let seen = Seen { started, threads, outcome: seen.outcome };
                now.insert(pid.as_raw_pid(), seen);
                continue;
            }
            let verified = verify_rendered(&mut self.inspector, pid, self.intent, self.original);
            let verification = match verified {
                Ok(verification) if verification.process.status != Status::Zombie => {
                    Box::new(verification)
                }
                // A zombie calls nothing any more.
                Ok(_) | Err(InspectError::Gone { .. } | InspectError::Reused { .. }) => {
                    if before.is_some() {
                        events.push(Event::Ended { pid });
                    }
                    continue;
                }
                Err(error) => {
                    let reason = crate::launch::reason(&error);
                    events.push(Event::Unknown { pid, reason });
                    continue;
                }
            };
            let outcome = verification.outcome;
            match before {
                None => events.push(Event::Started { verification }),
                Some(seen) => {
                    let id = |raw: &i32| Pid::from_raw(*raw);
                    let is_new = |tid: &&i32| !seen.threads.contains_key(*tid);
                    let new_threads = threads.keys().filter(is_new).filter_map(id).collect();
                    let lost = threads.iter().filter(|(tid, state)| {
                        seen.threads.get(*tid).is_some_and(|before| has_lost(before, state))
                    });
                    let lost_filters: Vec<Pid> = lost.filter_map(|(tid, _)| id(tid)).collect();
                    // Threads that are as confined as the others are no news.
                    if outcome != seen.outcome || !lost_filters.is_empty() {
                        let from = seen.outcome;
                        events.push(Event::Changed {
                            from,
                            new_threads,
                            lost_filters,
                            verification,
                        });
                    }
                }
            }
            now.insert(pid.as_raw_pid(), Seen { started, threads, outcome });
        }
        let ended = std::mem::replace(&mut self.seen, now);
        events.extend(ended.into_keys().filter_map(Pid::from_raw).map(|pid| Event::Ended { pid }));
        Ok(events)
    }

    /// The worst that is so now; `None` if no process is left.
    pub fn outcome(&self) -> Option<Outcome> {
        self.seen.values().map(|seen| seen.outcome).max()
    }
}

/// When a process was started, and the state of its threads; `None` if it is gone.
fn state(pid: Pid) -> Option<(u64, BTreeMap<i32, ThreadState>)> {
    let started = Task::read(pid, pid).ok()?.started;
    let threads = task::threads(pid).ok()?.into_iter().filter_map(|tid| {
        let task = Task::read(pid, tid).ok()?;
        Some((tid.as_raw_pid(), (task.started, task.mode, task.filters)))
    });
    Some((started, threads.collect()))
}

/// Whether a thread is new or has another state. That some have ended changes nothing.
fn differ(before: &BTreeMap<i32, ThreadState>, now: &BTreeMap<i32, ThreadState>) -> bool {
    now.iter().any(|(tid, state)| before.get(tid) != Some(state))
}

/// Whether a thread has less filters than it had.
fn has_lost(before: &ThreadState, now: &ThreadState) -> bool {
    before.0 == now.0
        && (before.1 != Mode::Disabled && now.1 == Mode::Disabled
            || matches!((before.2, now.2), (Some(before), Some(now)) if now < before))
}
