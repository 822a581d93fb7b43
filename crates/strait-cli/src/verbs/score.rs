//! `strait score POLICY`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};
use strait_policy::score::{Part, Score, Surface};

use crate::args::Score as Arguments;
use crate::documents;
use crate::failure::Failure;
use crate::{input, output};

/// How many parts a person is shown.
const SHOWN: usize = 12;

/// Says how much attack surface a policy leaves, and what it is made of.
pub fn run(args: &Arguments) -> Result<ExitCode, Failure> {
    let (_, rules) = documents::policy(&args.policy, &args.profile)?;
    let name = input::name(&args.policy);
    let score = Score::new(&rules).with_context(|| name.clone()).map_err(Failure::refused)?;
    if args.json {
        output::print(format!("{:#}\n", data(&name, &score)).as_bytes())
    } else {
        output::print_styled(&text(&name, &score))
    }
    .map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn text(name: &str, score: &Score) -> String {
    let bold = anstyle::Style::new().bold();
    let mut out = format!(
        "{bold}{:.1}{bold:#} {name}: less is better, 0 is nothing, 100 is Docker's default profile \
         on x86_64\n",
        score.score()
    );
    let percent = |points: f64| 100.0 * points / score.baseline;
    let sum = |wanted: fn(&Surface) -> bool| -> (usize, f64) {
        let parts = score.parts.iter().filter(|part| wanted(&part.what));
        let points: Vec<f64> = parts.map(Part::points).collect();
        (points.len(), percent(points.iter().sum()))
    };
    for (what, (count, points)) in [
        ("calls", sum(|what| matches!(what, Surface::Call(..)))),
        ("dangerous arguments", sum(|what| matches!(what, Surface::Value(..)))),
        ("architectures", sum(|what| matches!(what, Surface::Abi(_)))),
        ("calls that newer kernels bring", sum(|what| matches!(what, Surface::NewerCalls(_)))),
    ] {
        if count > 0 {
            // Writing to a string does not fail.
            let _ = writeln!(out, "  {points:>5.1}  {count} {what}");
        }
    }
    if !score.parts.is_empty() {
        let _ = writeln!(out, "{bold}most of it{bold:#}");
    }
    for part in score.parts.iter().take(SHOWN) {
        let open = if part.open < 1.0 {
            format!(", {:.0} % open", 100.0 * part.open)
        } else {
            String::new()
        };
        let beyond = if part.beyond_default { ", closed by default" } else { "" };
        let danger = part.what.danger().map_or(String::new(), |danger| format!(": {danger}"));
        let _ = writeln!(
            out,
            "  {:>5.1}  {}{open}{beyond}{danger}",
            percent(part.points()),
            part.what.name()
        );
    }
    if let Some(more) = score.parts.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} more (--json lists them)");
    }
    out
}

fn data(name: &str, score: &Score) -> Value {
    let parts: Vec<Value> = score
        .parts
        .iter()
        .map(|part| {
            json!({
                "kind": match part.what {
                    Surface::Call(..) => "call",
                    Surface::Value(..) => "argument",
                    Surface::Abi(_) => "architecture",
                    _ => "newer-calls",
                },
                "name": part.what.name(),
                "arch": part.what.arch().name(),
                "weight": part.weight,
                "open": part.open,
                "points": part.points(),
                "beyondDefault": part.beyond_default,
                "danger": part.what.danger(),
            })
        })
        .collect();
    json!({
        "policy": name,
        "score": score.score(),
        "points": score.points(),
        "baseline": score.baseline,
        "parts": parts,
    })
}
