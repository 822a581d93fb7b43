//! Recordings of other releases are read, and merging is an algebra.
#![allow(clippy::unwrap_used, reason = "the functions of a test fail as it does")]

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use strait_abi::Arch;
use strait_policy::recording::{
    Engine, Exit, Image, Observation, Outcomes, Phase, RecordingError, Saturation, Site, Times,
    Values,
};
use strait_policy::{GenerateOptions, Recording, generate};

/// What Strait 0.1 wrote before there were phases, times and arguments.
const OF_0_1: &str = include_str!("recordings/0.1.json");

#[test]
fn what_an_earlier_release_wrote_is_read() {
    let recording = Recording::from_json(OF_0_1).unwrap();
    assert_eq!(recording.images().len(), 3);
    assert_eq!(recording.images()[1].script.as_deref(), Some("/opt/fx/start"));
    assert_eq!(recording.calls().iter().map(|call| call.outcomes.count).sum::<u64>(), 366);
    assert!(recording.calls().iter().all(|call| call.phase.is_none() && call.times.is_none()));
    assert!(recording.completeness().is_complete());
    assert_eq!(recording.exit(), Some(Exit::Status(0)));
    let again = Recording::from_json(&recording.to_json()).unwrap();
    assert_eq!(again.digest(), recording.digest());
}

#[test]
fn what_a_newer_release_adds_is_said() {
    let with = |place: &str, field: &str| {
        let text = OF_0_1.replacen(place, &format!("{place} {field},"), 1);
        assert_ne!(text, OF_0_1);
        Recording::from_json(&text).unwrap().completeness().clone()
    };
    let call = with("{\n      \"image\": 0,", r#""colour": {"of": [1]}"#);
    assert_eq!(
        call.blind_spots,
        ["a newer Strait wrote the field calls[].colour, which was not read"]
    );
    assert!(!call.is_lossy() && !call.is_complete());
    let loss = with("\"completeness\": {", "\"asleep\": 7");
    assert!(loss.is_lossy());
    assert_eq!(
        loss.gaps(),
        ["lost in completeness.asleep, which only a newer Strait understands: 1"]
    );
    let coverage = with("\"completeness\": {", r#""coverage": {"moons": 2}"#);
    assert!(!coverage.is_lossy() && !coverage.is_complete());
}

#[test]
fn what_must_not_be_ignored_is_refused() {
    let phase = OF_0_1.replacen("\"image\": 0,", "\"image\": 0, \"phase\": \"afterlife\",", 1);
    assert!(matches!(Recording::from_json(&phase), Err(RecordingError::Json(_))));
    let version = OF_0_1.replacen("v1alpha1", "v1", 1);
    assert!(matches!(Recording::from_json(&version), Err(RecordingError::ApiVersion { .. })));
}

/// Whoever writes a recording says what is missing, and nothing by the way.
#[test]
fn what_a_recording_says_of_itself_stays_in_its_line() {
    let gaps = r#""blindSpots": ["a\u001b[2J\nall is well"], "lost": {"b\nall is well": 1},"#;
    let mut document: serde_json::Value = serde_json::from_str(OF_0_1).unwrap();
    let forged: serde_json::Value = serde_json::from_str(&format!("{{{gaps} \"x\": 0}}")).unwrap();
    for key in ["blindSpots", "lost"] {
        document["completeness"][key] = forged[key].clone();
    }
    let recording = Recording::from_json(&document.to_string()).unwrap();
    let gaps = recording.completeness().gaps();
    assert_eq!(gaps, [r"lost in b\nall is well: 1", r"a\u{1b}[2J\nall is well"]);
    let refused = generate(std::slice::from_ref(&recording), &GenerateOptions::default());
    assert!(!refused.unwrap_err().to_string().contains('\n'));
    let options = GenerateOptions { accept_loss: true, ..GenerateOptions::default() };
    let policy = generate(&[recording], &options).unwrap().to_string();
    assert!(policy.contains("all is well") && !policy.contains("\nall"), "{policy}");
    assert!(!policy.contains('\u{1b}'), "{policy}");
}

fn observation() -> impl Strategy<Value = Observation> {
    let outcomes = (0..3_u64, 0..3_u64, btree_map(1..4_u16, 0..3_u64, 0..3), 0..3_u64).prop_map(
        |(count, succeeded, errnos, denied)| Outcomes { count, succeeded, errnos, denied },
    );
    let times = proptest::option::of(
        (0..50_u64, 0..50_u64)
            .prop_map(|(first, more)| Times { first_us: first, last_us: first + more }),
    );
    // Few arguments with few or, all in all, too many values.
    let values =
        prop_oneof![vec(0..3_u64, 0..3), vec(0..90_u64, 40..70)].prop_map(Values::from_iter);
    let name = proptest::sample::select(vec!["cmd".to_owned(), "flags".to_owned()]);
    let arguments = btree_map(name, values, 0..3);
    (outcomes, times, arguments).prop_map(|(outcomes, times, arguments)| Observation {
        outcomes,
        times,
        arguments,
    })
}

fn recording() -> impl Strategy<Value = Recording> {
    let image = proptest::sample::select(vec!["/bin/a", "/bin/b"]);
    let phase = proptest::sample::select(vec![None, Some(Phase::Runtime), Some(Phase::Steady)]);
    let arch = proptest::sample::select(vec![Arch::X86_64, Arch::I386]);
    let site = (image, phase, arch, 0..4_u32).prop_map(|(image, phase, arch, nr)| {
        let image = Image { arch: Some(Arch::X86_64), ..Image::from(image) };
        Site { image, phase, arch, nr }
    });
    let engine = proptest::sample::select(vec!["ebpf", "ptrace"]);
    let kernel = proptest::sample::select(vec!["6.18.1", "6.1.0-49", "unknown"]);
    let gaps = (btree_map("[ab]", 0..3_u64, 0..3), any::<bool>(), btree_set("[xy]", 0..3));
    let calls = vec((site, observation()), 0..5);
    let exit = proptest::option::of((0..2).prop_map(Exit::Status));
    (engine, kernel, gaps, calls, exit, proptest::option::of(0..99_u64)).prop_map(
        |(engine, kernel, (lost, interrupted, blind), calls, exit, time_us)| {
            let engine = Engine { name: engine.into(), reason: "test".into() };
            let mut builder = Recording::builder(engine, kernel);
            for (site, observation) in calls {
                builder.observe(site, &observation);
            }
            for (place, count) in lost {
                builder.lost(place, count);
            }
            exit.map(|exit| builder.exit(exit));
            builder.completeness().interrupted = interrupted;
            builder.completeness().blind_spots.extend(blind);
            builder.completeness().coverage.time_us = time_us;
            builder.build()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn in_whichever_order_recordings_are_merged_the_result_is_one(
        a in recording(), b in recording(), c in recording(),
    ) {
        prop_assert_eq!(a.merge(&b), b.merge(&a));
        let (left, right) = (a.merge(&b).merge(&c), a.merge(&b.merge(&c)));
        prop_assert_eq!(left.to_json(), right.to_json());
        prop_assert_eq!(Recording::from_json(&left.to_json()).unwrap(), left);
    }

    #[test]
    fn a_merged_recording_has_the_sums(a in recording(), b in recording()) {
        let count = |recording: &Recording| {
            let mut counts: BTreeMap<(Arch, u32), u64> = BTreeMap::new();
            for call in recording.calls() {
                *counts.entry((call.arch, call.nr)).or_default() += call.outcomes.count;
            }
            counts
        };
        let merged = a.merge(&b);
        let mut sum = count(&a);
        for (call, more) in count(&b) {
            *sum.entry(call).or_default() += more;
        }
        prop_assert_eq!(count(&merged), sum);
        prop_assert_eq!(merged.runs().len(), 2);
        prop_assert_eq!(
            merged.completeness().is_lossy(),
            a.completeness().is_lossy() || b.completeness().is_lossy()
        );
        prop_assert_eq!(Saturation::of(&merged.runs()), Saturation::of(&[a.runs(), b.runs()].concat()));
    }
}

#[test]
fn calls_of_the_last_tenth_and_by_another_abi_are_counted() {
    let mut builder =
        Recording::builder(Engine { name: "ebpf".into(), reason: "test".into() }, "6.18.1");
    let image = Image { arch: Some(Arch::X86_64), ..Image::from("/bin/a") };
    for (nr, arch, first_us) in [(0, Arch::X86_64, 5), (1, Arch::X86_64, 95), (1, Arch::I386, 90)] {
        let outcomes = Outcomes { count: 2, ..Outcomes::default() };
        let times = Some(Times { first_us, last_us: 99 });
        let site = Site { image: image.clone(), phase: Some(Phase::Steady), arch, nr };
        builder.observe(site, &Observation { outcomes, times, arguments: BTreeMap::new() });
    }
    builder.completeness().coverage.time_us = Some(100);
    let coverage = builder.build().completeness().coverage;
    assert_eq!((coverage.new_in_last_tenth, coverage.foreign_calls), (Some(2), 2));
}
