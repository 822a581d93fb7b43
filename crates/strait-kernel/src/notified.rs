//! A child of which every call is notified, from its exec on.

use strait_bpf::{Action, Insn, Op, Program};

use crate::child::{Child, ExecError, PendingChild, TICK, again};
use crate::seccomp::{self, LoadError, Notification, Privileges, Threads};
use crate::supervision::Supervision;

/// A child that has its filter and waits in execve for the answer. When this is dropped the child
/// ends without having run anything.
#[derive(Debug)]
pub struct NotifiedChild {
    child: PendingChild,
    supervision: Supervision,
}

/// A child that runs its program, every call of which waits for its supervisor.
#[derive(Debug)]
pub struct Supervised {
    /// The child.
    pub child: Child,
    /// Where its calls are answered.
    pub supervision: Supervision,
    /// A call of the program that was read on the way and has to be answered.
    pub first: Option<Notification>,
}

impl PendingChild {
    /// Lets the child load a filter that notifies of every call of every ABI. It then waits in its
    /// execve.
    ///
    /// # Errors
    /// Why it has no filter; the child has ended then.
    pub fn notify(mut self, privileges: Privileges) -> Result<NotifiedChild, ExecError> {
        let notify = Insn::from(Op::Ret(Action::Notify.raw()));
        let program = Program::new(vec![notify]).map_err(|_| ExecError::FilterNotLoaded {
            source: LoadError::from_errno(libc::EINVAL),
        })?;
        self.order(&program, privileges, seccomp::patient_listener_flags(Threads::This), None)?;
        self.go_on()?;
        // Others may fork from now on: a copy of the listener in a child that waits for its exec
        // is closed by that, and nobody else answers.
        let Some(listener) = self.take_listener(&mut || Ok(()))?.map(|held| held.listener) else {
            return Err(self.died());
        };
        let supervision =
            Supervision::new(listener).map_err(|source| ExecError::Channel { source })?;
        Ok(NotifiedChild { child: self, supervision })
    }
}

impl NotifiedChild {
    /// Where the child's calls are answered.
    pub fn supervision(&self) -> &Supervision {
        &self.supervision
    }

    /// Lets the child exec and returns once it has.
    ///
    /// A notification that is read before exec has hung the channel up is of the child's own exec;
    /// one that is read afterwards is the program's (see [`crate::child`] on the gate).
    ///
    /// # Errors
    /// Why the program was not started; the child has ended then.
    pub fn exec(self) -> Result<Supervised, ExecError> {
        let NotifiedChild { mut child, mut supervision } = self;
        let mut first = None;
        loop {
            let ready = child.wait_ready(Some(supervision.listener()), TICK)?;
            if let Some(error) = child.failure() {
                return Err(error);
            }
            if !ready.notified {
                if ready.hung_up {
                    break;
                }
                continue;
            }
            let notification = match supervision.receive() {
                Ok(notification) => notification,
                Err(error) if again(&error) => continue,
                Err(source) => return Err(ExecError::Gate { source }),
            };
            if child.wait_ready(None, std::time::Duration::ZERO)?.hung_up {
                first = Some(notification);
                break;
            }
            if let Some(error) = child.failure() {
                // It was about to exit.
                return Err(error);
            }
            match supervision.pass(notification.id) {
                Ok(()) => {}
                Err(error) if again(&error) => {}
                Err(source) => return Err(ExecError::Gate { source }),
            }
        }
        Ok(Supervised { child: child.into_child()?, supervision, first })
    }
}
