//! The worst programs that are known: whatever a program of the greatest length computes, working out
//! what it decides ends within the budget, in bounded memory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;

use strait_bpf::{Decision, Program};
use strait_testkit::allocation::{Counting, allocated};
use strait_testkit::generate::Rng;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A program of 4096 instructions: pieces as text, which leave a word in `A`, each with a constant that
/// this is compared with and a refusal where it is equal.
fn of(mut piece: impl FnMut(usize) -> (String, u32)) -> Program {
    let (mut text, mut length) = (String::new(), 0);
    for number in 0.. {
        let (instructions, constant) = piece(number);
        let more = instructions.lines().count() + 2;
        if length + more >= Program::MAX_LEN {
            break;
        }
        length += more;
        let errno = number % 4095 + 1;
        let _ = writeln!(text, "n{number}: {instructions}jeq #{constant}, next, n{}", number + 1);
        let _ = writeln!(text, "ret errno({errno})");
    }
    let last = text.matches("ret errno").count();
    let fill = "ld #0\n".repeat(Program::MAX_LEN - 1 - length);
    Program::assemble(&format!("{text}n{last}: {fill}ret allow\n")).unwrap()
}

/// Whether words are equal, of which all bits of the one are tested before any of the other.
fn words_against_words() -> Program {
    of(|number| {
        let (one, other) = (number % 6, (number + 1 + number / 6 % 5) % 6);
        let text = format!("ld [arg{one}.lo]\ntax\nld [arg{other}.lo]\nsub x\n");
        (text, u32::try_from(number).unwrap())
    })
}

/// Products and shifts of unknown words, kept in memory.
fn arithmetic(rng: &mut Rng) -> Program {
    of(|number| {
        let (cell, bits, factor) = (number % 16, rng.below(31), rng.word() | 1);
        let (one, other) = (number % 6, (number + 1) % 6);
        let text = format!(
            "ld [arg{one}.lo]\nmul #{factor}\nst M[{cell}]\nldx M[{cell}]\nld [arg{other}.hi]\nxor x\n\
             rsh #{bits}\nadd x\n"
        );
        (text, rng.word())
    })
}

/// Masks that overlap, over every word.
fn masks(rng: &mut Rng) -> Program {
    of(|_| {
        let (word, half) = (rng.below(6), rng.pick(&["lo", "hi"]));
        let mask = rng.word();
        (format!("ld [arg{word}.{half}]\nand #{mask}\n"), rng.word() & mask)
    })
}

#[test]
fn the_worst_programs_end_within_the_budget() {
    let mut rng = Rng::new(7);
    let mut undecided = 0;
    for (what, program) in [
        ("words against words", words_against_words()),
        ("arithmetic", arithmetic(&mut rng)),
        ("masks", masks(&mut rng)),
    ] {
        assert_eq!(program.insns().len(), Program::MAX_LEN, "{what}");
        let (bytes, decision) = allocated(|| Decision::of(&program));
        // What `Budget::DEFAULT` says; what was given back on the way counts here too.
        assert!(bytes <= 100_000_000, "{what}: {bytes} bytes");
        undecided += usize::from(decision.is_err());
    }
    assert!(undecided > 0, "none of them is hard any more: find worse ones");
}
