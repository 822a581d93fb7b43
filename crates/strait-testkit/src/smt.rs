//! z3 as an oracle for how programs relate: the question as SMT-LIB 2 text.
//!
//! The encoding shares nothing with symbolic execution: for each instruction, whether it is reached
//! and with which registers, as terms over the calls that lead there (bit vectors of 32 bits).

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use strait_bpf::{Alu, Jump, Op, Operand, Program, Relation};

/// Whether there is a z3 here.
pub fn available() -> bool {
    Command::new("z3").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// How the first program of each pair relates to the second, by the order of actions; `None` where
/// z3 does not come to an answer in `milliseconds`.
///
/// # Panics
/// If z3 cannot be run or says something else.
pub fn relations(pairs: &[(Program, Program)], milliseconds: u32) -> Vec<Option<Relation>> {
    let mut script = format!("(set-option :timeout {milliseconds})\n");
    for (first, second) in pairs {
        script += "(push)\n";
        question(first, second, &mut script);
        script += "(pop)\n";
    }
    let answers = z3(&script);
    let words: Vec<&str> = answers.split_whitespace().collect();
    assert_eq!(words.len(), 3 * pairs.len(), "z3 said: {answers}");
    words
        .chunks(3)
        .map(|answers| {
            let known: Option<Vec<bool>> = answers
                .iter()
                .map(|&answer| match answer {
                    "sat" => Some(true),
                    "unsat" => Some(false),
                    "unknown" | "timeout" => None,
                    other => panic!("z3 said `{other}`"),
                })
                .collect();
            match known?.as_slice() {
                [false, ..] => Some(Relation::Equal),
                [true, true, false] => Some(Relation::Tighter),
                [true, false, true] => Some(Relation::Looser),
                _ => Some(Relation::Incomparable),
            }
        })
        .collect()
}

fn z3(script: &str) -> String {
    let mut z3 = Command::new("z3")
        .arg("-in")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("z3: {error}"));
    let stdin = z3.stdin.take();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(script.as_bytes())));
        z3.wait_with_output()
    });
    let output = output.unwrap_or_else(|error| panic!("z3: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks whether the actions can differ, whether the first can be more restrictive, and whether it
/// can be less.
fn question(first: &Program, second: &Program, script: &mut String) {
    for offset in (0..64).step_by(4) {
        let _ = writeln!(script, "(declare-const w{offset} (_ BitVec 32))");
    }
    answer(first, "p", script);
    answer(second, "q", script);
    for query in ["(distinct p q)", "(bvslt (rank p) (rank q))", "(bvslt (rank q) (rank p))"] {
        let query = query
            .replace("(rank p)", "(bvand p #xffff0000)")
            .replace("(rank q)", "(bvand q #xffff0000)");
        let _ = writeln!(script, "(push)\n(assert {query})\n(check-sat)\n(pop)");
    }
}

/// Registers on the way into an instruction, as names of terms.
#[derive(Clone)]
struct Registers {
    a: String,
    x: String,
    mem: Vec<String>,
}

/// Defines `name`: what the kernel makes of the program's answer.
fn answer(program: &Program, name: &str, script: &mut String) {
    let ops = program.ops();
    let zero = bits(0);
    // For each instruction, the edges that lead there: a condition and registers.
    let mut edges: Vec<Vec<(String, Registers)>> = vec![Vec::new(); ops.len() + 1];
    let start = Registers { a: zero.clone(), x: zero.clone(), mem: vec![zero.clone(); 16] };
    edges[0].push(("true".to_owned(), start));
    let mut result = zero.clone();
    for (index, &op) in ops.iter().enumerate() {
        let leading = std::mem::take(&mut edges[index]);
        let Some((_, base)) = leading.last().cloned() else { continue };
        let mut define = |what: &str, sort: &str, term: String| {
            let full = format!("{name}{index}{what}");
            let _ = writeln!(script, "(define-fun {full} () {sort} {term})");
            full
        };
        let any: Vec<&str> = leading.iter().map(|(condition, _)| condition.as_str()).collect();
        let reached = define("r", "Bool", format!("(or false {})", any.join(" ")));
        // The last edge's value, unless one of those before it was taken.
        let mut merge = |what: &str, pick: &dyn Fn(&Registers) -> String| {
            let last = pick(&base);
            if leading.iter().all(|(_, registers)| pick(registers) == last) {
                return last;
            }
            let term = leading.iter().rev().skip(1).fold(last, |rest, (condition, registers)| {
                format!("(ite {condition} {} {rest})", pick(registers))
            });
            define(what, "(_ BitVec 32)", term)
        };
        let mut now = Registers {
            a: merge("a", &|registers| registers.a.clone()),
            x: merge("x", &|registers| registers.x.clone()),
            mem: (0..16)
                .map(|cell| merge(&format!("m{cell}"), &|registers| registers.mem[cell].clone()))
                .collect(),
        };
        let operand = |operand, now: &Registers| match operand {
            Operand::K(k) => bits(k),
            Operand::X => now.x.clone(),
        };
        let next = index + 1;
        match op {
            Op::Load(offset) => now.a = format!("w{offset}"),
            Op::LoadImm(k) => now.a = bits(k),
            Op::LoadLen => now.a = bits(64),
            Op::LoadMem(cell) => now.a = now.mem[cell.index()].clone(),
            Op::LoadXImm(k) => now.x = bits(k),
            Op::LoadXLen => now.x = bits(64),
            Op::LoadXMem(cell) => now.x = now.mem[cell.index()].clone(),
            Op::Store(cell) => now.mem[cell.index()] = now.a.clone(),
            Op::StoreX(cell) => now.mem[cell.index()] = now.x.clone(),
            Op::Neg => now.a = define("v", "(_ BitVec 32)", format!("(bvneg {})", now.a)),
            Op::Tax => now.x = now.a.clone(),
            Op::Txa => now.a = now.x.clone(),
            Op::Alu(alu, by) => {
                let by = operand(by, &now);
                let alive = if alu == Alu::Div {
                    // A division by 0 answers 0, which is what `result` is without any return.
                    define("n", "Bool", format!("(and {reached} (distinct {by} {zero}))"))
                } else {
                    reached.clone()
                };
                let term = match alu {
                    Alu::Add => format!("(bvadd {} {by})", now.a),
                    Alu::Sub => format!("(bvsub {} {by})", now.a),
                    Alu::Mul => format!("(bvmul {} {by})", now.a),
                    Alu::Div => format!("(bvudiv {} {by})", now.a),
                    Alu::And => format!("(bvand {} {by})", now.a),
                    Alu::Or => format!("(bvor {} {by})", now.a),
                    Alu::Xor => format!("(bvxor {} {by})", now.a),
                    Alu::Lsh => format!("(bvshl {} (bvand {by} {}))", now.a, bits(31)),
                    Alu::Rsh => format!("(bvlshr {} (bvand {by} {}))", now.a, bits(31)),
                };
                now.a = define("v", "(_ BitVec 32)", term);
                edges[next].push((alive, now));
                continue;
            }
            Op::Jump(skip) => {
                let target = next + usize::try_from(skip).unwrap_or(0);
                edges[target].push((reached, now));
                continue;
            }
            Op::Branch { test, operand: by, jt, jf } => {
                let by = operand(by, &now);
                let test = match test {
                    Jump::Eq => format!("(= {} {by})", now.a),
                    Jump::Gt => format!("(bvugt {} {by})", now.a),
                    Jump::Ge => format!("(bvuge {} {by})", now.a),
                    Jump::Set => format!("(distinct (bvand {} {by}) {zero})", now.a),
                };
                let yes = define("t", "Bool", format!("(and {reached} {test})"));
                let no = define("f", "Bool", format!("(and {reached} (not {test}))"));
                edges[next + usize::from(jt)].push((yes, now.clone()));
                edges[next + usize::from(jf)].push((no, now));
                continue;
            }
            Op::Ret(_) | Op::RetA => {
                let value = if let Op::Ret(raw) = op { bits(raw) } else { now.a };
                let term = format!("(ite {reached} {value} {result})");
                result = define("s", "(_ BitVec 32)", term);
                continue;
            }
        }
        edges[next].push((reached, now));
    }
    let _ = writeln!(script, "(define-fun {name} () (_ BitVec 32) {})", canonical(&result));
}

/// One value for each behaviour: data that means nothing is 0, an errno above 4095 is 4095, an
/// unknown action is kill-process.
fn canonical(raw: &str) -> String {
    let action = format!("(bvand {raw} {})", bits(0xffff_0000));
    let data = format!("(bvand {raw} {})", bits(0xffff));
    let is = |value: u32| format!("(= {action} {})", bits(value));
    let plain = [0x0000_0000, 0x7fc0_0000, 0x7ffc_0000, 0x7fff_0000].map(is).join(" ");
    let with_data = [0x0003_0000, 0x7ff0_0000].map(is).join(" ");
    format!(
        "(ite (or {plain}) {action} (ite (or {with_data}) {raw} (ite {errno} \
         (ite (bvugt {data} {max}) {most} {raw}) {kill})))",
        errno = is(0x0005_0000),
        max = bits(4095),
        most = bits(0x0005_0fff),
        kill = bits(0x8000_0000),
    )
}

fn bits(value: u32) -> String {
    format!("#x{value:08x}")
}
