//! The figures of the benchmark's policies, pinned: what compiled programs cost, in counted
//! instructions, so that nothing gets worse unnoticed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use strait_compiler::{Effort, Level, Options, compile};

use super::measure::{self, Cost};
use super::workload::{self, Workload};
use super::{POLICIES, frequencies, policies};

/// At most so long, and so much executed.
struct Most {
    policy: &'static str,
    /// The default program: its length, and the mean over its calls.
    default: (usize, f64),
    /// The shortest.
    size: usize,
    /// By its distribution: its length, and the mean over that.
    profile: (usize, f64),
}

/// What is reached. The best that was known of any compiler: 78, 8.75 and 6.75; 310, 8.8 and 6.8;
/// 45, 8.77 and 7.7; 116, 10.1 and 7.9; 40, 8.0 and 6.4; 140, 10.4 and 8.7; 80 and 9.8.
const REACHED: &[Most] = &[
    Most { policy: "a1_docker_x64", default: (72, 8.746), size: 63, profile: (76, 6.755) },
    Most { policy: "a3_docker_multi", default: (243, 8.746), size: 214, profile: (234, 6.755) },
    Most { policy: "b_nginx60", default: (47, 8.755), size: 45, profile: (50, 7.665) },
    Most { policy: "c_firecracker_vmm", default: (112, 10.045), size: 102, profile: (119, 7.845) },
    Most { policy: "d_deny50", default: (45, 8.015), size: 39, profile: (47, 6.375) },
    Most { policy: "e_nginx_args", default: (128, 10.405), size: 120, profile: (128, 8.709) },
    Most { policy: "f_fc_vcpu", default: (78, 9.505), size: 70, profile: (88, 8.007) },
];

/// The program of a policy, and its costs by the distribution that goes with it. Every allow that
/// is unconditional is const-allow: the compiler says so of what it hands out, and it is counted here.
fn cost(policy: &str, level: Level, effort: Effort, profiled: bool) -> Cost {
    let folder = policies();
    let workload = Workload::read(&folder.join(policy).with_extension("json")).unwrap();
    let (_, distribution) = POLICIES.iter().find(|(name, _)| *name == policy).unwrap();
    let mix = workload::distribution(&folder.join(distribution).with_extension("json")).unwrap();
    let frequencies = profiled.then(|| frequencies(&workload, &mix));
    let options = Options { level, effort, frequencies };
    let program = compile(&workload.resolve().unwrap(), &options).unwrap().program;
    let arch = workload.arches[0].audit_arch();
    let allowed = workload.allowed();
    let unconditional: Vec<u32> =
        allowed.iter().filter(|call| !call.conditional).map(|call| call.nr).collect();
    assert!(!unconditional.is_empty(), "{policy}");
    for nr in unconditional {
        assert!(program.const_allows(arch, nr), "{policy}: {nr} runs the program");
    }
    measure::cost(&workload, &program, &mix)
}

#[test]
fn no_policy_costs_more_than_it_did() {
    for Most { policy, default, size, profile } in REACHED {
        let speed = cost(policy, Level::Speed, Effort::Quick, false);
        let reached = (speed.length, speed.uniform);
        assert!(reached.0 <= default.0 && reached.1 <= default.1, "{policy}: {reached:?}");
        let short = cost(policy, Level::Size, Effort::Quick, false).length;
        assert!(short <= *size, "{policy}: {short}");
        let by_mix = cost(policy, Level::Speed, Effort::Quick, true);
        let reached = (by_mix.length, by_mix.mix);
        assert!(reached.0 <= profile.0 && reached.1 <= profile.1, "{policy}: {reached:?}");
    }
}

#[test]
fn a_longer_search_reaches_the_rest() {
    // What the quick search misses of the best that was known.
    let a = cost("a1_docker_x64", Level::Speed, Effort::Thorough, true).mix;
    assert!(a <= 6.675, "{a}");
    let c = cost("c_firecracker_vmm", Level::Speed, Effort::Thorough, true);
    assert!(c.length <= 118 && c.mix <= 7.666, "{c:?}");
    let f = cost("f_fc_vcpu", Level::Speed, Effort::Thorough, true);
    assert!(f.length <= 83 && f.mix <= 7.725, "{f:?}");
    let d = cost("d_deny50", Level::Speed, Effort::Thorough, false);
    let e = cost("e_nginx_args", Level::Speed, Effort::Thorough, true).mix;
    assert!(e <= 8.585, "{e}");
    assert!(d.length <= 44 && d.uniform <= 7.895, "{d:?}");
}
