//! Scripts of raw calls, and the throw-away child that runs them.
//!
//! An attack is data: calls by number with their arguments, words to load and store, code to
//! enter. The child that runs it has been forked for it and makes no call of its own once its
//! filter is loaded: what it finds out it writes into memory that it shares with its parent. So a
//! filter that denies everything but the attacked call still shows what becomes of that call.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::hint;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering};

use crate::shared::Shareable;

/// How many steps a script may have.
pub(super) const MAX_STEPS: usize = 32;

/// How many bytes a script has for what its calls point to.
pub(super) const MEMORY: usize = 16 << 10;

/// One raw call, or what stands between two of them. Its result is kept under its index.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A call of x86_64 by number.
    Call { name: &'static str, nr: u64, args: [Operand; 6], expect: Expect },
    /// A call of i386 without arguments, by `int $0x80`.
    Int80 { name: &'static str, nr: u32 },
    /// Reads 32 bits.
    Load { at: Operand },
    /// Reads 32 bits as a call's result, which must be no error.
    Completion { name: &'static str, at: Operand },
    /// Writes the low 32 bits of a value.
    Store { at: Operand, value: Operand },
    /// Calls what stands at an address as a function, which is to return [`ENTERED`].
    Enter { name: &'static str, at: Operand },
    /// Goes on if the 32 bits at an address are these; or else back to the step `again`, so many times at
    /// most. Only times count in which the thread that exchanges a word got to run: on a busy machine it
    /// may have to wait for a processor until all others are over.
    Until { name: &'static str, at: Operand, is: u32, again: usize, times: u32 },
    /// Waits until another task has ended the script; without a call, so it takes the processor
    /// for a while.
    Await,
}

/// How many tries tell that further ones are in vain too: a supervisor that has one address read and another
/// connected to is caught within some tens.
pub(super) const TRIES: u32 = 200;

/// How often a step is gone back to for each time that counts, at most.
const VAIN: u32 = 300;

/// What the code returns that [`Step::Enter`] calls.
pub(super) const ENTERED: u64 = 0x5742_4954;

/// `mov eax, ENTERED; ret`.
pub(super) const CODE: [u8; 6] = [0xb8, 0x54, 0x49, 0x42, 0x57, 0xc3];

/// What a step's result must be for the script to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// No error.
    Success,
    /// Whatever.
    Any,
    /// This.
    Result(i64),
    /// The call makes a task: in the new one the script goes on at this step, in the old one at the
    /// next.
    Task(usize),
    /// The call makes a task that ends at once.
    ShortTask,
    /// The call does not return: it executes a program that ends itself by an illegal instruction.
    Exec,
    /// The call does not return: it executes a program that exits with status 0.
    ExecWell,
}

/// A word of a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// This value.
    Value(u64),
    /// The result of an earlier step.
    Result(usize),
    /// The result of an earlier step and a constant.
    Past(usize, u64),
    /// The sum of the results of two earlier steps and a constant.
    Sum(usize, usize, u64),
}

impl From<u64> for Operand {
    fn from(value: u64) -> Operand {
        Operand::Value(value)
    }
}

impl From<i32> for Operand {
    /// As C passes an `int` to a raw call.
    fn from(value: i32) -> Operand {
        Operand::Value(i64::from(value).cast_unsigned())
    }
}

/// A script: the steps, and what its memory begins with.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
    pub(super) memory: Vec<u8>,
    /// A word of the memory, by its address, that another thread gives these values in turn.
    pub(super) rewritten: Option<(u64, [u64; 2])>,
    /// Where the memory will be in the child.
    base: u64,
}

impl Script {
    /// A script without steps, whose memory will be that of this board.
    pub(super) fn new(board: &Board) -> Script {
        Script {
            steps: Vec::new(),
            memory: Vec::new(),
            rewritten: None,
            base: board.memory.get() as u64,
        }
    }

    /// Puts bytes into the memory, at a multiple of 16; gives their address.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let at = self.memory.len().next_multiple_of(16);
        self.memory.resize(at, 0);
        self.memory.extend_from_slice(bytes);
        self.base + at as u64
    }

    /// Puts a path or another text into the memory, closed by a NUL byte; gives its address.
    pub(super) fn text(&mut self, text: &[u8]) -> u64 {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.bytes(&bytes)
    }

    /// Keeps this many bytes of the memory, all zero; gives their address.
    pub(super) fn space(&mut self, length: usize) -> u64 {
        self.bytes(&vec![0; length])
    }

    /// Puts 64-bit words into the memory; gives their address.
    pub(super) fn words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }

    /// Adds a step; gives its index.
    pub(super) fn step(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    /// Adds a call that must succeed; gives the index of its result.
    pub(super) fn call(&mut self, name: &'static str, nr: i64, args: &[Operand]) -> usize {
        self.call_expecting(name, nr, args, Expect::Success)
    }

    /// Adds a call; gives the index of its result.
    pub(super) fn call_expecting(
        &mut self,
        name: &'static str,
        nr: i64,
        args: &[Operand],
        expect: Expect,
    ) -> usize {
        let mut all = [Operand::Value(0); 6];
        for (slot, arg) in all.iter_mut().zip(args) {
            *slot = *arg;
        }
        self.step(Step::Call { name, nr: nr.cast_unsigned(), args: all, expect })
    }

    /// The name of the step that has this one repeated; `None` if none does.
    pub(super) fn repeated(&self, step: usize) -> Option<&'static str> {
        self.steps.iter().enumerate().find_map(|(index, until)| match until {
            Step::Until { name, again, .. } if (*again..=index).contains(&step) => Some(*name),
            _ => None,
        })
    }
}

impl Step {
    /// What a person calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Step::Call { name, .. }
            | Step::Int80 { name, .. }
            | Step::Enter { name, .. }
            | Step::Until { name, .. }
            | Step::Completion { name, .. } => name,
            Step::Load { .. } | Step::Store { .. } => "memory",
            Step::Await => "the answer",
        }
    }
}

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not.
    Running,
    /// All steps went as they were to go.
    Done,
    /// The step that it is at did not.
    Refused,
    /// The filter could not be loaded.
    NotLoaded,
    /// The Landlock domain could not be put on.
    NotRestricted,
}

/// What the child and its parent share. All zero is the beginning.
pub(super) struct Board {
    /// One more than the state's index; see [`Board::state`].
    state: AtomicU32,
    /// The step that the script is at.
    at: AtomicU32,
    /// The step that did not go as it was to go.
    refused: AtomicU32,
    /// The result of each step.
    results: [AtomicI64; MAX_STEPS],
    /// Set when a thread that waits is to begin.
    go: AtomicU32,
    /// Once the child waits to be attended to: two more than its descriptor of its filter's listener, -1
    /// being none.
    waits: AtomicI32,
    /// Set when it is.
    attended: AtomicU32,
    /// How often the word that is exchanged has had all its values.
    exchanged: AtomicU32,
    /// How often a step was gone back to, of the times that count.
    tries: AtomicU32,
    /// What the script's calls point to.
    memory: UnsafeCell<[u8; MEMORY]>,
}

// SAFETY: all fields are integers, atomic or, for the memory, in an UnsafeCell.
unsafe impl Shareable for Board {}

impl Board {
    /// Parent, before the fork: fills the memory. What does not fit is cut, which no script of
    /// ours comes near.
    pub(super) fn fill(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(MEMORY)];
        // SAFETY: at most MEMORY bytes are copied into an array of as many; the areas do not
        // overlap, one being a mapping of ours; nobody else has the mapping before the fork.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.get().cast(), bytes.len());
        }
    }

    /// How the script ended.
    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Running,
            1 => State::Done,
            2 => State::Refused,
            3 => State::NotLoaded,
            _ => State::NotRestricted,
        }
    }

    fn set(&self, state: State) {
        let number = match state {
            State::Running => 0,
            State::Done => 1,
            State::Refused => 2,
            State::NotLoaded => 3,
            State::NotRestricted => 4,
        };
        self.state.store(number, Ordering::Release);
    }

    /// Says that a step did not go as it was to go.
    fn refuse(&self, step: usize, result: i64) {
        self.results[step].store(result, Ordering::Release);
        self.refused.store(u32::try_from(step).unwrap_or(u32::MAX), Ordering::Release);
        self.set(State::Refused);
    }

    /// Says that the filter could not be loaded, and why.
    pub(super) fn not_loaded(&self, errno: i32) {
        self.results[0].store(errno.into(), Ordering::Release);
        self.set(State::NotLoaded);
    }

    /// Says that the Landlock domain could not be put on, and why.
    pub(super) fn not_restricted(&self, errno: i32) {
        self.results[0].store(errno.into(), Ordering::Release);
        self.set(State::NotRestricted);
    }

    /// The step that the script is at, or that did not go as it was to go.
    pub(super) fn at(&self) -> usize {
        let at = if self.state() == State::Refused { &self.refused } else { &self.at };
        usize::try_from(at.load(Ordering::Acquire)).unwrap_or(usize::MAX)
    }

    /// How often a step of the script was gone back to, of the times that count.
    pub(super) fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }

    /// The result of a step.
    pub(super) fn result(&self, step: usize) -> i64 {
        self.results.get(step).map_or(0, |result| result.load(Ordering::Acquire))
    }

    /// Child: says that it has this listener, or none (-1), and waits for whoever attends to it.
    pub(super) fn wait_to_be_attended(&self, listener: i32) {
        self.waits.store(listener.saturating_add(2), Ordering::Release);
        while self.attended.load(Ordering::Acquire) == 0 {
            hint::spin_loop();
        }
    }

    /// Parent: the child's descriptor of the listener or -1, once it waits.
    pub(super) fn waits_with(&self) -> Option<i32> {
        let waits = self.waits.load(Ordering::Acquire);
        (waits != 0).then_some(waits - 2)
    }

    /// Parent: lets the child go on.
    pub(super) fn attend(&self) {
        self.attended.store(1, Ordering::Release);
    }

    /// Gives a word these values in turn until the script has ended.
    ///
    /// # Safety
    /// As for [`Board::run`], and the word is one of the board's memory.
    pub(super) unsafe fn rewrite(&self, at: u64, values: [u64; 2]) {
        let at: *mut u64 = std::ptr::with_exposed_provenance_mut(address(at));
        while self.state() == State::Running {
            for value in values {
                // SAFETY: as promised to this function.
                unsafe { at.write_volatile(value) };
            }
            self.exchanged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets the waiting thread begin, and waits until it is through.
    pub(super) fn go_and_wait(&self) {
        self.go.store(1, Ordering::Release);
        self.wait();
    }

    /// Waits until the script has ended.
    fn wait(&self) {
        while self.state() == State::Running {
            hint::spin_loop();
        }
    }

    /// Waits to be let go.
    pub(super) fn wait_for_go(&self) {
        while self.go.load(Ordering::Acquire) == 0 {
            hint::spin_loop();
        }
    }

    fn word(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Value(value) => value,
            Operand::Result(step) => self.result(step).cast_unsigned(),
            Operand::Past(step, more) => self.result(step).cast_unsigned().wrapping_add(more),
            Operand::Sum(a, b, more) => {
                self.result(a).wrapping_add(self.result(b)).cast_unsigned().wrapping_add(more)
            }
        }
    }

    /// Goes through the steps from `first` on. Makes no call but the script's, allocates nothing.
    ///
    /// # Safety
    /// To be called in a process that was forked for this and ends after it: what the calls and
    /// stores do to its memory is nobody's loss.
    pub(super) unsafe fn run(&self, steps: &[Step]) {
        let mut index = 0;
        let (mut gone_back, mut in_vain, mut exchanged_before) = (0, 0, 0);
        while let Some(step) = steps.get(index) {
            self.at.store(u32::try_from(index).unwrap_or(u32::MAX), Ordering::Release);
            let mut next = index + 1;
            let result = match *step {
                Step::Call { nr, args, expect, .. } => {
                    let args = args.map(|arg| self.word(arg));
                    // SAFETY: as promised to this function.
                    let result = unsafe { syscall(nr, args) };
                    match expect {
                        Expect::Task(step) if result == 0 => next = step,
                        Expect::ShortTask if result == 0 => end(),
                        _ => {}
                    }
                    let failed = match expect {
                        Expect::Result(wanted) => result != wanted,
                        Expect::Exec | Expect::ExecWell => true,
                        Expect::Any => false,
                        _ => is_error(result),
                    };
                    if failed {
                        return self.refuse(index, result);
                    }
                    // The task that was made must not write over what its maker found.
                    if next != index + 1 {
                        index = next;
                        continue;
                    }
                    result
                }
                Step::Int80 { nr, .. } => {
                    // SAFETY: as promised to this function; the call has no arguments.
                    let result = unsafe { int80(nr) };
                    if is_error(result) {
                        return self.refuse(index, result);
                    }
                    result
                }
                Step::Load { at } => {
                    let at: *const u32 = std::ptr::with_exposed_provenance(address(self.word(at)));
                    // SAFETY: as promised to this function; a fault ends the child.
                    i64::from(unsafe { at.read_volatile() })
                }
                Step::Completion { at, .. } => {
                    let at: *const i32 = std::ptr::with_exposed_provenance(address(self.word(at)));
                    // SAFETY: as promised to this function; a fault ends the child.
                    let result = i64::from(unsafe { at.read_volatile() });
                    if is_error(result) {
                        return self.refuse(index, result);
                    }
                    result
                }
                Step::Store { at, value } => {
                    let at: *mut u32 =
                        std::ptr::with_exposed_provenance_mut(address(self.word(at)));
                    let value = self.word(value);
                    // The low half is what is stored.
                    let low = u32::try_from(value & 0xffff_ffff).unwrap_or(u32::MAX);
                    // SAFETY: as promised to this function; a fault ends the child.
                    unsafe { at.write_volatile(low) };
                    0
                }
                Step::Enter { at, .. } => {
                    // SAFETY: as promised to this function; a fault ends the child.
                    let returned = unsafe { enter(self.word(at)) };
                    if returned != ENTERED {
                        return self.refuse(index, 0);
                    }
                    0
                }
                Step::Until { at, is, again, times, .. } => {
                    let at: *const u32 = std::ptr::with_exposed_provenance(address(self.word(at)));
                    // SAFETY: as promised to this function; a fault ends the child.
                    if unsafe { at.read_volatile() } != is {
                        let exchanged = self.exchanged.load(Ordering::Relaxed);
                        gone_back += u32::from(exchanged != exchanged_before);
                        in_vain += u32::from(exchanged == exchanged_before);
                        exchanged_before = exchanged;
                        self.tries.store(gone_back, Ordering::Relaxed);
                        if gone_back > times || in_vain > times.saturating_mul(VAIN) {
                            return self.refuse(index, 0);
                        }
                        next = again;
                    }
                    0
                }
                Step::Await => return self.wait(),
            };
            self.results[index].store(result, Ordering::Release);
            index = next;
        }
        self.set(State::Done);
    }
}

/// An address as a pointer's width.
fn address(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

/// Whether a raw result is an errno (1 to 4095, negative).
fn is_error(result: i64) -> bool {
    (-4095..0).contains(&result)
}

/// Ends this task, also where a filter denies every way to say so.
pub(super) fn end() -> ! {
    // SAFETY: exit_group takes a status and nothing of this process is needed any more.
    unsafe { syscall(libc::SYS_exit_group.cast_unsigned(), [0; 6]) };
    // SAFETY: as above, for a filter that lets only threads end.
    unsafe { syscall(libc::SYS_exit.cast_unsigned(), [0; 6]) };
    loop {
        // SAFETY: the instruction has no effect but the fault, which ends the process.
        unsafe { asm!("ud2") }
    }
}

/// One call. The errno is in the result; nothing of the C library is touched, so it may be called
/// on a thread that has no storage of its own.
///
/// # Safety
/// What the call does to memory must be nobody's loss.
pub(super) unsafe fn syscall(nr: u64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the instruction writes the named registers and what the call itself writes, for
    // which the caller answers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// One call of i386 without arguments.
///
/// # Safety
/// What the call does to memory must be nobody's loss.
unsafe fn int80(nr: u32) -> i64 {
    let result: i32;
    // SAFETY: the instruction writes rax, and r8 to r11 on older kernels.
    unsafe {
        asm!(
            "int 0x80",
            inlateout("eax") nr => result,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result.into()
}

/// Calls what stands at an address.
///
/// # Safety
/// It returns by the C calling convention, or what it does is nobody's loss.
unsafe fn enter(at: u64) -> u64 {
    let returned: u64;
    // SAFETY: the caller answers for the code; what the C convention lets it write is declared.
    unsafe {
        asm!("call {at}", at = in(reg) at, lateout("rax") returned, clobber_abi("C"));
    }
    returned
}

/// Starts a thread of this process by a raw call, which runs `entry(argument)` on `stack_top` and
/// never returns. It shares the storage of the calling thread, so it may use nothing of the C
/// library.
///
/// # Safety
/// The stack is writable below its top and nobody else's; `entry` does not unwind.
pub(super) unsafe fn thread(
    stack_top: *mut u8,
    entry: extern "C" fn(*const ()) -> !,
    argument: *const (),
) -> i64 {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let result: i64;
    // SAFETY: the kernel starts the thread at the instruction after the call, with these registers
    // and its own stack; it jumps to `entry` and never comes back here. In the caller nothing but
    // the named registers is written.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone => result,
            in("rdi") i64::from(flags),
            in("rsi") stack_top,
            in("rdx") 0, in("r10") 0, in("r8") 0,
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}
