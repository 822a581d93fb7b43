//! What the kernel says of a traced task that has stopped: why it has, and where in a call it is. It
//! is decoded here and nowhere else.

use strait_abi::AuditArch;
use strait_bpf::SeccompData;

// PTRACE_EVENT_* and PTRACE_SYSCALL_INFO_* (include/uapi/linux/ptrace.h).
const EVENT_FORK: i32 = 1;
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_STOP: i32 = 128;
const INFO_ENTRY: u8 = 1;
const INFO_EXIT: u8 = 2;

/// Why a task stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It begins or ends a call.
    Call,
    /// It has started another task.
    Started,
    /// It has exec'ed and not run an instruction of the new program.
    Exec,
    /// Its process was stopped by a signal, and stays so until SIGCONT.
    Group,
    /// This signal is about to be delivered; it must be passed on.
    Signal(i32),
    /// Anything else: it is traced from now on, or was interrupted.
    Other,
}

impl Stop {
    /// From the status of waitid(2), which is that of waitpid(2) without its lowest 8 bits: the signal,
    /// and the event above it.
    pub(crate) fn from_status(status: i32) -> Stop {
        let (signal, event) = (status & 0xff, status >> 8);
        match event {
            // With PTRACE_O_TRACESYSGOOD no signal has this bit.
            0 if signal == libc::SIGTRAP | 0x80 => Stop::Call,
            0 => Stop::Signal(signal),
            EVENT_FORK | EVENT_VFORK | EVENT_CLONE => Stop::Started,
            EVENT_EXEC => Stop::Exec,
            EVENT_STOP if signal != libc::SIGTRAP => Stop::Group,
            _ => Stop::Other,
        }
    }
}

/// Where in a call a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// At its begin, before any filter.
    Entered(SeccompData),
    /// At its end, with what the kernel returns: from -4095 to -1 it is an errno.
    Returned(i64),
    /// In none.
    Outside,
}

/// `struct ptrace_syscall_info` (include/uapi/linux/ptrace.h): for an entry the words are the
/// number and six arguments, for an exit the first is the result.
#[repr(C)]
pub(crate) struct CallInfo {
    op: u8,
    reserved: u8,
    flags: u16,
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    words: [u64; 7],
}

impl From<CallInfo> for Call {
    fn from(info: CallInfo) -> Call {
        let [first, args @ ..] = info.words;
        match info.op {
            INFO_ENTRY => {
                let [b0, b1, b2, b3, ..] = first.to_le_bytes();
                Call::Entered(SeccompData {
                    // The kernel itself looks at no more of it.
                    nr: u32::from_le_bytes([b0, b1, b2, b3]),
                    arch: AuditArch::from_raw(info.arch),
                    instruction_pointer: info.instruction_pointer,
                    args,
                })
            }
            INFO_EXIT => Call::Returned(first.cast_signed()),
            _ => Call::Outside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stop_is_told_from_the_others() {
        let trap = libc::SIGTRAP;
        let cases = [
            (trap | 0x80, Stop::Call),
            (trap | 1 << 8, Stop::Started),
            (trap | 2 << 8, Stop::Started),
            (trap | 3 << 8, Stop::Started),
            (trap | 4 << 8, Stop::Exec),
            (trap | 128 << 8, Stop::Other),
            (libc::SIGSTOP | 128 << 8, Stop::Group),
            (libc::SIGTSTP | 128 << 8, Stop::Group),
            (libc::SIGTTIN | 128 << 8, Stop::Group),
            (libc::SIGTTOU | 128 << 8, Stop::Group),
            // A signal is passed on, also one that is like a stop by its number.
            (trap, Stop::Signal(trap)),
            (libc::SIGSTOP, Stop::Signal(libc::SIGSTOP)),
            (64, Stop::Signal(64)),
            // An event that nobody asked for (PTRACE_EVENT_EXIT) delivers nothing.
            (trap | 6 << 8, Stop::Other),
        ];
        for (status, stop) in cases {
            assert_eq!(Stop::from_status(status), stop, "{status:#x}");
        }
    }

    #[test]
    fn a_call_is_read_whole() {
        let info = |op, first| CallInfo {
            op,
            reserved: 0,
            flags: 0,
            arch: 0xc000_003e,
            instruction_pointer: 7,
            stack_pointer: 8,
            words: [first, 1, 2, 3, 4, 5, u64::MAX],
        };
        let entered = SeccompData {
            nr: 0x4000_0001,
            arch: strait_abi::Arch::X86_64.audit_arch(),
            instruction_pointer: 7,
            args: [1, 2, 3, 4, 5, u64::MAX],
        };
        // The kernel extends the number, which is 32 bits, by its sign.
        assert_eq!(Call::from(info(1, 0x4000_0001)), Call::Entered(entered));
        assert_eq!(
            Call::from(info(1, u64::MAX)),
            Call::Entered(SeccompData { nr: u32::MAX, ..entered })
        );
        assert_eq!(Call::from(info(2, u64::MAX - 37)), Call::Returned(-38));
        assert_eq!(Call::from(info(0, 1)), Call::Outside);
        // A stop by a filter (PTRACE_SYSCALL_INFO_SECCOMP) is neither end of a call.
        assert_eq!(Call::from(info(3, 1)), Call::Outside);
    }
}
