//! Generators: programs, mutations of them, and the calls on which they are interesting.
//!
//! All randomness comes from a [`Rng`] with a seed, so that a failure can be repeated.

use strait_abi::{Arch, AuditArch};
use strait_bpf::{Alu, Cell, Insn, Jump, Op, Operand, Program, SeccompData};

/// A small deterministic generator (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator with this seed.
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        u32::try_from(self.bits() >> 32).unwrap_or(0)
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.bits() % bound).unwrap_or(0)
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of the items.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Numbers of calls that do nothing but return something positive, whatever their arguments:
/// what a test can make of any filter without harm. In order: getpid, getuid, getppid, gettid on
/// x86_64.
pub const HARMLESS: [u32; 4] = [39, 102, 110, 186];

/// The same on i386 (the 32-bit getuid, which the others' numbers do not collide with).
pub const HARMLESS_I386: [u32; 4] = [20, 199, 64, 224];

/// Return values: every action, their data in and out of range, and values that the kernel does
/// not know.
const RETURNS: [u32; 24] = [
    0x8000_0000,
    0x8000_0007,
    0x9000_0000,
    0,
    0x0000_0009,
    0x0001_0000,
    0x0003_0000,
    0x0003_1234,
    0x0003_ffff,
    0x0005_0000,
    0x0005_0001,
    0x0005_0026,
    0x0005_0fff,
    0x0005_1000,
    0x0005_ffff,
    0x0006_0000,
    0x7fc0_0000,
    0x7ff0_0000,
    0x7ff0_0102,
    0x7ffc_0000,
    0x7ffd_0000,
    0x7fff_0000,
    0x7fff_0000,
    0x7fff_0001,
];

/// A value for a filter to return.
pub fn answer(rng: &mut Rng) -> u32 {
    rng.pick(&RETURNS)
}

/// Constants that matter: the edges of words, masks, arches, numbers.
fn constant(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0 => rng.word(),
        1 => rng.pick(&[0, 1, 2, 31, 32, 63, 64, 255, 256, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        2 => 1 << rng.below(32),
        3 => rng.pick(&HARMLESS) + u32::from(rng.one_in(4)),
        4 => rng.pick(&HARMLESS_I386),
        5 => rng.pick(Arch::ALL).audit_arch().raw(),
        6 => rng.pick(&RETURNS),
        _ => u32::try_from(rng.below(600)).unwrap_or(0),
    }
}

fn cell(rng: &mut Rng) -> Cell {
    let index = if rng.one_in(4) { rng.below(Cell::COUNT) } else { rng.below(3) };
    match u32::try_from(index).ok().and_then(Cell::new) {
        Some(cell) => cell,
        None => unreachable!("the index is below the count"),
    }
}

/// A program with any instructions in any order, up to about `len` of them, that the kernel
/// accepts. Hard arithmetic (products and quotients of two inputs) is rare, so that most can be
/// decided.
pub fn program(rng: &mut Rng, len: usize) -> Program {
    loop {
        if let Ok(program) = Program::new(straight(rng, len)) {
            return program;
        }
    }
}

/// Instructions, nearly always legal each on its own.
fn straight(rng: &mut Rng, len: usize) -> Vec<Insn> {
    let len = 2 + rng.below(len.max(1));
    // Some cells are written first, so that most programs may read.
    let mut ops: Vec<Op> = (0..rng.below(4))
        .filter_map(|index| u32::try_from(index).ok().and_then(Cell::new).map(Op::Store))
        .collect();
    let start = ops.len();
    while ops.len() < start + len {
        let left = start + len - ops.len();
        ops.push(op(rng, left));
        // A load is mostly followed by what looks at it.
        if matches!(ops.last(), Some(Op::Load(_))) && rng.one_in(2) && left > 2 {
            ops.push(branch(rng, left - 1));
        }
    }
    ops.push(Op::Ret(rng.pick(&RETURNS)));
    ops.into_iter().map(Insn::from).collect()
}

/// One instruction with `left` more behind it.
fn op(rng: &mut Rng, left: usize) -> Op {
    match rng.below(32) {
        0..8 => Op::Load(4 * rng.pick(&[0, 0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7, 8, 14, 15])),
        8 => Op::LoadImm(constant(rng)),
        9 => rng.pick(&[Op::LoadLen, Op::LoadXLen]),
        10 => Op::LoadMem(cell(rng)),
        11 => Op::LoadXMem(cell(rng)),
        12 => Op::LoadXImm(constant(rng)),
        13 => Op::Store(cell(rng)),
        14 => Op::StoreX(cell(rng)),
        15..19 => alu(rng),
        19 => rng.pick(&[Op::Neg, Op::Tax, Op::Txa]),
        20 => Op::Jump(u32::try_from(rng.below(left.min(5))).unwrap_or(0)),
        21..29 => branch(rng, left),
        29 if rng.one_in(4) => Op::RetA,
        _ => Op::Ret(rng.pick(&RETURNS)),
    }
}

fn branch(rng: &mut Rng, left: usize) -> Op {
    let mut skip = || u8::try_from(rng.below(left.min(9))).unwrap_or(0);
    let (jt, jf) = (skip(), skip());
    let operand = if rng.one_in(12) { Operand::X } else { Operand::K(constant(rng)) };
    let (jt, jf) = match rng.below(4) {
        0 => (jt, 0),
        1 => (0, jf),
        _ => (jt, jf),
    };
    Op::Branch { test: rng.pick(&Jump::ALL), operand, jt, jf }
}

fn alu(rng: &mut Rng) -> Op {
    let alu = rng.pick(&Alu::ALL);
    match alu {
        Alu::Lsh | Alu::Rsh if rng.one_in(4) => Op::Alu(alu, Operand::X),
        Alu::Lsh | Alu::Rsh => Op::Alu(alu, Operand::K(u32::try_from(rng.below(32)).unwrap_or(0))),
        Alu::Mul | Alu::Div => match rng.below(8) {
            0 => Op::Alu(alu, Operand::X),
            1..4 => Op::Alu(alu, Operand::K(rng.pick(&[3, 5, 7, 10, 100]))),
            _ => Op::Alu(alu, Operand::K(1 << rng.below(32))),
        },
        _ if rng.one_in(4) => Op::Alu(alu, Operand::X),
        _ => Op::Alu(alu, Operand::K(constant(rng))),
    }
}

/// A program as filters are written: it checks the arch, finds the number by a chain or a tree,
/// and compares some arguments, 32 or 64 bits of them, plain or masked.
pub fn filter(rng: &mut Rng) -> Program {
    let default = rng.pick(&RETURNS);
    let mut text = String::from("ld [arch]\njeq #0xc000003e, native, next\n");
    if rng.one_in(2) {
        text += "ja foreign\n";
    } else {
        text += "jeq #0x40000003, compat, next\nja foreign\ncompat: ld [nr]\n";
        text += &format!("jeq #{}, next, foreign\n", rng.pick(&HARMLESS_I386));
        text += &format!("ret #{:#x}\n", rng.pick(&RETURNS));
    }
    text += "native: ld [nr]\n";
    if rng.one_in(2) {
        text += "jge #0x40000000, next, table\nja foreign\ntable: tax\n";
    }
    for call in 0..1 + rng.below(6) {
        let nr = rng.pick(&HARMLESS) + u32::from(rng.one_in(6));
        text += &format!("jeq #{nr}, next, after{call}\n");
        for test in 0..rng.below(3) {
            text += &argument_test(rng, &format!("{call}_{test}"), &format!("no{call}"));
        }
        text += &format!("ret #{:#x}\n", rng.pick(&RETURNS));
        text += &format!("no{call}: ret #{:#x}\n", rng.pick(&RETURNS));
        text += &format!("after{call}:\n");
    }
    text += &format!("ret #{default:#x}\nforeign: ret #{:#x}\n", rng.pick(&RETURNS));
    match Program::assemble(&text) {
        Ok(program) => program,
        Err(error) => unreachable!("the template is a program: {error}\n{text}"),
    }
}

/// A test of one argument that goes to `no` if it does not hold.
fn argument_test(rng: &mut Rng, id: &str, no: &str) -> String {
    let arg = rng.below(6);
    let (high, low) = (rng.pick(&[0, 0, 1, u32::MAX]), constant(rng));
    let mask = rng.pick(&[u32::MAX, 0xff, 0xf0f0, 1 << 31, 0x7fff_ffff]);
    match rng.below(5) {
        // The low half equals.
        0 => format!("ld [arg{arg}.lo]\njeq #{low}, next, {no}\n"),
        // All 64 bits equal.
        1 => format!(
            "ld [arg{arg}.hi]\njeq #{high}, next, {no}\nld [arg{arg}.lo]\njeq #{low}, next, {no}\n"
        ),
        // All 64 bits are greater.
        2 => format!(
            "ld [arg{arg}.hi]\njgt #{high}, yes{id}, next\njeq #{high}, next, {no}\n\
             ld [arg{arg}.lo]\njgt #{low}, next, {no}\nyes{id}:\n"
        ),
        // Some bits equal.
        3 => format!(
            "ld [arg{arg}.lo]\nand #{mask}\njeq #{}, next, {no}\n",
            if rng.one_in(4) { low } else { low & mask }
        ),
        // In a range, by subtraction.
        _ => format!("ld [arg{arg}.lo]\nsub #{low}\njge #{}, {no}, next\n", 1 + rng.below(300)),
    }
}

/// A program of either kind.
pub fn any_program(rng: &mut Rng) -> Program {
    if rng.one_in(2) { filter(rng) } else { program(rng, 24) }
}

/// Instructions that may be legal or not: a program, mutated a few times, or plain noise.
pub fn any_insns(rng: &mut Rng) -> Vec<Insn> {
    if rng.one_in(16) {
        let len = rng.below(6);
        return (0..len)
            .map(|_| {
                let any = rng.bits().to_le_bytes();
                let code = if rng.one_in(2) { u16::from(any[0]) } else { u16::from(any[0]) << 8 };
                let k = if rng.one_in(2) { constant(rng) } else { u32::from(any[3]) };
                Insn { code, jt: any[1] & 3, jf: any[2] & 3, k }
            })
            .collect();
    }
    let mut insns = if rng.one_in(3) {
        filter(rng).insns().to_vec()
    } else {
        let len = rng.pick(&[3, 8, 24]);
        straight(rng, len)
    };
    for _ in 0..rng.below(4) {
        mutate(rng, &mut insns);
    }
    insns
}

/// Changes one thing.
pub fn mutate(rng: &mut Rng, insns: &mut Vec<Insn>) {
    if insns.is_empty() {
        return;
    }
    let at = rng.below(insns.len());
    match rng.below(12) {
        0 => insns[at].code ^= 1 << rng.below(8),
        1 => insns[at].code = u16::from(rng.bits().to_le_bytes()[0]),
        2 => insns[at].k ^= 1 << rng.below(32),
        3 => insns[at].k = constant(rng),
        4 => insns[at].k = insns[at].k.wrapping_add(1),
        5 => insns[at].k = insns[at].k.wrapping_sub(1),
        6 => insns[at].jt = rng.bits().to_le_bytes()[0] & rng.pick(&[3, 15, 255]),
        7 => insns[at].jf = rng.bits().to_le_bytes()[0] & rng.pick(&[3, 15, 255]),
        8 => {
            insns.remove(at);
        }
        9 => {
            let left = insns.len() - at;
            insns.insert(at, Insn::from(op(rng, left)));
        }
        10 => {
            let other = rng.below(insns.len());
            insns.swap(at, other);
        }
        _ => {
            let Insn { jt, jf, .. } = insns[at];
            (insns[at].jt, insns[at].jf) = (jf, jt);
        }
    }
}

/// Calls on which a program is interesting: its own constants, give or take one, in every word.
#[derive(Clone, Debug)]
pub struct Calls {
    constants: Vec<u32>,
}

impl Calls {
    /// The calls for this program.
    pub fn of(program: &Program) -> Calls {
        let mut constants: Vec<u32> = program.insns().iter().map(|insn| insn.k).collect();
        constants.extend([0, 1, u32::MAX]);
        constants.sort_unstable();
        constants.dedup();
        Calls { constants }
    }

    fn value(&self, rng: &mut Rng) -> u32 {
        let value = rng.pick(&self.constants);
        match rng.below(6) {
            0 => value.wrapping_add(1),
            1 => value.wrapping_sub(1),
            2 => value ^ 1 << rng.below(32),
            3 => rng.word(),
            _ => value,
        }
    }

    fn wide(&self, rng: &mut Rng) -> u64 {
        let high = if rng.one_in(3) { self.value(rng) } else { rng.pick(&[0, 0, 1, u32::MAX]) };
        u64::from(high) << 32 | u64::from(self.value(rng))
    }

    /// Any call.
    pub fn any(&self, rng: &mut Rng) -> SeccompData {
        let arch = match rng.below(4) {
            0 => AuditArch::from_raw(self.value(rng)),
            1 => Arch::I386.audit_arch(),
            _ => Arch::X86_64.audit_arch(),
        };
        SeccompData {
            nr: self.value(rng),
            arch,
            instruction_pointer: self.wide(rng),
            args: std::array::from_fn(|_| self.wide(rng)),
        }
    }

    /// A call that can be made on x86_64 without harm; the instruction pointer is left 0.
    pub fn harmless(&self, rng: &mut Rng) -> SeccompData {
        if rng.one_in(4) {
            SeccompData::new(Arch::I386.audit_arch(), rng.pick(&HARMLESS_I386))
                .with_args(std::array::from_fn(|_| u64::from(self.value(rng))))
        } else {
            SeccompData::new(Arch::X86_64.audit_arch(), rng.pick(&HARMLESS))
                .with_args(std::array::from_fn(|_| self.wide(rng)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same() {
        let run = |seed| {
            let mut rng = Rng::new(seed);
            (any_program(&mut rng), any_insns(&mut rng))
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn illegal_and_legal_instructions_both_come_often() {
        let mut rng = Rng::new(1);
        let legal = (0..1000).filter(|_| Program::new(any_insns(&mut rng)).is_ok()).count();
        assert!((200..800).contains(&legal), "{legal} of 1000 are programs");
    }
}
