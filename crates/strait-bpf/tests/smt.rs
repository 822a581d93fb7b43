//! How programs relate, against z3. `STRAIT_EFFORT=50` asks about ten thousand pairs.

use strait_bpf::{Budget, Decision, Insn, Program, Relation};
use strait_testkit::generate::{self, Rng};
use strait_testkit::{effort, skip, smt};

const BUDGET: Budget = Budget { nodes: 1 << 17, steps: 1 << 20 };

#[test]
fn generated_pairs_relate_as_z3_says() {
    if !smt::available() {
        return skip("generated_pairs_relate_as_z3_says", "there is no z3 (Debian package z3)");
    }
    let mut rng = Rng::new(0x23);
    let (mut asked, mut equal, mut undecided, mut unknown) = (0, 0, 0, 0);
    for _ in 0..effort(10) {
        let pairs: Vec<(Program, Program)> = (0..20).map(|_| pair(&mut rng)).collect();
        for ((first, second), relation) in pairs.iter().zip(smt::relations(&pairs, 10_000)) {
            asked += 1;
            let decide = |program: &Program| {
                Decision::of_stack_within(std::slice::from_ref(program), BUDGET)
            };
            let (Ok(a), Ok(b)) = (decide(first), decide(second)) else {
                undecided += 1;
                continue;
            };
            let Some(relation) = relation else {
                unknown += 1;
                continue;
            };
            equal += usize::from(relation == Relation::Equal);
            assert_eq!(a == b, relation == Relation::Equal);
            assert_eq!(
                a.compare(&b).unwrap().order,
                relation,
                "{}\nagainst\n{}",
                first.listing(None),
                second.listing(None)
            );
        }
    }
    println!(
        "{asked} pairs, {equal} equal; {undecided} not decided here, {unknown} not decided by z3"
    );
    assert!(equal * 20 > asked, "too few equal pairs");
    assert!(undecided * 10 < asked && unknown * 20 < asked, "too much was not decided");
}

/// A program and another one that is mostly close to it.
fn pair(rng: &mut Rng) -> (Program, Program) {
    let first = generate::any_program(rng);
    if rng.one_in(10) {
        return (first, generate::any_program(rng));
    }
    loop {
        let mut insns: Vec<Insn> = first.insns().to_vec();
        generate::mutate(rng, &mut insns);
        if let Ok(second) = Program::new(insns) {
            return (first, second);
        }
    }
}

#[test]
fn real_filters_relate_as_z3_says() {
    if !smt::available() {
        return skip("real_filters_relate_as_z3_says", "there is no z3 (Debian package z3)");
    }
    let names = ["docker-x86_64", "nginx-arguments", "firecracker-vmm", "deny-list"];
    let read = |name: &str, form| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/filters");
        let text = std::fs::read_to_string(format!("{folder}/{name}.{form}.hex")).unwrap();
        Program::from_hex(&text).unwrap()
    };
    let mut pairs: Vec<(Program, Program)> = Vec::new();
    for name in names {
        let (chain, tree) = (read(name, "chain"), read(name, "tree"));
        // The same, and with one return changed.
        let mut insns = tree.insns().to_vec();
        let at = insns.iter().rposition(|insn| insn.code == 0x06).unwrap();
        insns[at].k ^= 0x8000_0000;
        pairs.push((chain.clone(), tree));
        pairs.push((chain, Program::new(insns).unwrap()));
    }
    pairs.push((read("docker-x86_64", "chain"), read("nginx-arguments", "tree")));
    for ((first, second), relation) in pairs.iter().zip(smt::relations(&pairs, 60_000)) {
        let (a, b) = (Decision::of(first).unwrap(), Decision::of(second).unwrap());
        assert_eq!(Some(a.compare(&b).unwrap().order), relation);
    }
}
