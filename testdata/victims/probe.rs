//! Makes one system call by number and exits with the errno that it gave, or 0: `probe NR [ARG…]`.
//!
//! Freestanding, so that it runs under the narrowest policy: besides the call that it is asked for
//! it makes `exit_group` alone.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

// The stack at entry holds argc, then argv (System V ABI, x86-64 supplement, 3.4.1).
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {main}", main = sym main);

/// SAFETY: called once, by `_start`, with the address of argc as the kernel laid it out.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    let mut words = [0_usize; 7];
    // SAFETY: argc is the first word at the stack pointer that the kernel handed over.
    let argc = unsafe { *stack };
    for (i, word) in words.iter_mut().enumerate().take(argc.saturating_sub(1)) {
        // SAFETY: argv follows argc, with argc strings that end in NUL; argv[0] is passed over.
        *word = number(unsafe { *stack.add(2 + i) as *const u8 });
    }
    let [nr, args @ ..] = words;
    let result = syscall(nr, args);
    let errno = if (-4095..0).contains(&result) { -result } else { 0 };
    loop {
        syscall(231, [errno as usize, 0, 0, 0, 0, 0]);
    }
}

/// The decimal number at `text`, with an optional minus sign.
fn number(mut text: *const u8) -> usize {
    let mut value = 0_usize;
    let mut negative = false;
    loop {
        // SAFETY: `text` is inside a string of argv and has not passed its NUL.
        let byte = unsafe { *text };
        match byte {
            b'-' => negative = true,
            b'0'..=b'9' => value = value.wrapping_mul(10).wrapping_add(usize::from(byte - b'0')),
            _ => return if negative { value.wrapping_neg() } else { value },
        }
        // SAFETY: the byte was not the NUL, so the next one is still inside the string.
        text = unsafe { text.add(1) };
    }
}

fn syscall(nr: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the x86_64 system call convention; the caller chose a call that harms nothing here.
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

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
