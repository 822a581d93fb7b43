//! What the fuzz targets do with their input; they are glue over this, and so is the test that
//! replays their corpora.

mod text;

pub use text::{convert, document, policy, recording, when};

use strait_bpf::{Budget, ByteOrder, Decision, FileError, Insn, Op, Program};

use crate::generate::{Calls, Rng};

/// Small enough for thousands of programs a second.
const BUDGET: Budget = Budget { nodes: 1 << 14, steps: 1 << 16 };

/// Bytes that should be a program file: they are one that is written back as it was read, or an
/// error.
///
/// # Panics
/// If something is wrong.
pub fn file(input: &[u8]) {
    let program = Program::from_bytes(input);
    for order in [ByteOrder::Little, ByteOrder::Big] {
        match (&program, Program::from_bytes_in(input, order)) {
            (Ok(one), Ok(other)) => assert_eq!(one, &other),
            (Ok(one), Err(FileError::ByteOrder { expected, found })) => {
                assert_eq!((expected, found), (order, one.byte_order()));
                assert_ne!(expected, found);
            }
            (Ok(_), Err(error)) => panic!("{error}"),
            (Err(_), Ok(other)) => panic!("only when asked for is it {other:?}"),
            (Err(_), Err(_)) => {}
        }
    }
    if let Ok(program) = program {
        assert_eq!(program.to_bytes(), input);
        assert_eq!(Program::from_hex(&program.to_hex()).as_ref(), Ok(&program));
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let read = [Program::from_hex(text), Program::from_array(text, ByteOrder::Little)];
        for program in read.into_iter().flatten() {
            let array = program.to_c("filter");
            assert_eq!(Program::from_array(&array, program.byte_order()), Ok(program));
        }
    }
}

/// Bytes that should be a program's text: what is read is what its listing is read as.
///
/// # Panics
/// If something is wrong.
pub fn assembler(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for order in [ByteOrder::Little, ByteOrder::Big] {
        if let Ok(program) = Program::assemble_for(text, order) {
            let listing = program.listing(None).to_string();
            assert_eq!(Program::assemble_for(&listing, order), Ok(program));
        }
    }
}

/// Bytes that choose two programs: symbolic execution and the interpreter agree on each and on
/// the two as a stack, and witnesses of their difference hold.
///
/// # Panics
/// If something is wrong.
pub fn symbolic(input: &[u8]) {
    let (half, seed) = input.split_at(input.len() / 9 * 8);
    let mut rng = Rng::new(seed.iter().fold(0, |seed, &byte| seed << 8 | u64::from(byte)));
    let (first, second) = half.split_at(half.len() / 16 * 8);
    let programs: Vec<Program> = [first, second].iter().filter_map(|one| chosen(one)).collect();
    let decisions: Vec<Decision> = programs.iter().filter_map(decide).collect();
    for (program, decision) in programs.iter().zip(&decisions) {
        if decisions.len() < programs.len() {
            break;
        }
        let calls = Calls::of(program);
        for _ in 0..32 {
            let data = calls.any(&mut rng);
            assert_eq!(decision.decide(&data), program.run(&data), "{}", program.listing(None));
        }
    }
    if let ([first, second], [a, b]) = (programs.as_slice(), decisions.as_slice())
        && let Ok(comparison) = a.compare(b)
    {
        assert_eq!(comparison.differences.is_empty(), a == b);
        for difference in comparison.differences {
            assert_eq!(first.run(&difference.witness), difference.first);
            assert_eq!(second.run(&difference.witness), difference.second);
            assert_ne!(difference.first, difference.second);
        }
    }
}

fn decide(program: &Program) -> Option<Decision> {
    Decision::of_stack_within(std::slice::from_ref(program), BUDGET).ok()
}

/// A program that the bytes choose: eight for each instruction, whose code is taken for one of the
/// legal ones and whose jumps are kept short.
fn chosen(bytes: &[u8]) -> Option<Program> {
    let codes: Vec<u16> =
        (0..=0xff).filter(|&code| Insn { code, jt: 0, jf: 0, k: 4 }.op().is_ok()).collect();
    let (insns, _) = bytes.as_chunks::<8>();
    let len = insns.len();
    let mut chosen: Vec<Insn> = insns
        .iter()
        .enumerate()
        .map(|(index, &[code, jt, jf, k @ .., _])| {
            let code = codes[usize::from(code) % codes.len()];
            let left = u8::try_from(len - index).unwrap_or(u8::MAX);
            let k = u32::from_le_bytes(k);
            let insn = Insn { code, jt: jt % left, jf: jf % left, k };
            match (code & 7, code & 0xf0) {
                // Words that exist, cells that exist, jumps that stay inside.
                (0, 0x20) => Insn { k: k % 16 * 4, ..insn },
                (0..=3, 0x60) | (2 | 3, _) => Insn { k: k % 16, ..insn },
                (5, 0x00) => Insn { k: k % u32::from(left), ..insn },
                _ => insn,
            }
        })
        .collect();
    chosen.push(Insn::from(Op::RetA));
    Program::new(chosen).ok()
}
