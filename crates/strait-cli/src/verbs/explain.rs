//! `strait explain POLICY CALL`.

use std::fmt::Write as _;
use std::process::ExitCode;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anyhow::Context;
use serde_json::{Value, json};
use strait_abi::Arch;
use strait_policy::check::{Places, Subject};
use strait_policy::explain::Outcome;
use strait_policy::format::Format;
use strait_policy::policy::Necessity;
use strait_policy::{Because, Place, Policy, Query, action_text};

use crate::args::Explain;
use crate::documents::{self, Document};
use crate::failure::Failure;
use crate::{input, output};

/// Tells what a policy does with one call, by which rule, and why the call is in it.
pub fn run(args: &Explain) -> Result<ExitCode, Failure> {
    let document = documents::document(&args.policy, &args.profile)?;
    let Document { policy, format, .. } = &document;
    let name = input::name(&args.policy);
    let arch = arch(args.profile.arch, policy);
    let query = Query::parse(&args.call, arch).map_err(|error| {
        Failure::bad_input_report(documents::report("the call", &args.call, &error))
    })?;
    let explanation =
        policy.explain(&query).with_context(|| name.clone()).map_err(Failure::bad_input)?;
    let places = Places::in_format(document.text(), *format);
    let has_ledger = *format == Format::Strait;
    let text = document.text();
    let shown = Shown { policy, query: &query, name: &name, text, places, has_ledger };
    if args.json {
        let value = shown.data(&explanation.outcomes, &explanation.necessity);
        output::print(format!("{value:#}\n").as_bytes())
    } else {
        output::print_styled(&shown.text(&explanation.outcomes, &explanation.necessity))
    }
    .map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

/// The ABI that was asked for; the machine's if the policy has it, else the policy's first.
fn arch(asked: Option<Arch>, policy: &Policy) -> Arch {
    let native = Arch::NATIVE.filter(|arch| policy.architectures.contains(*arch));
    asked.or(native).or(policy.architectures.iter().next()).unwrap_or(Arch::X86_64)
}

struct Shown<'a> {
    policy: &'a Policy,
    query: &'a Query,
    name: &'a str,
    text: &'a str,
    places: Places,
    has_ledger: bool,
}

impl Shown<'_> {
    fn place(&self, because: Because) -> Option<Place> {
        self.places.get(match because {
            Because::Rule(index) => Subject::Call(index, self.query.syscall),
            Because::Include(index) => Subject::Include(index),
            Because::Unknown => Subject::Unknown,
            Because::Default => Subject::Default,
            _ => Subject::Foreign,
        })
    }

    /// Which part of the policy decides.
    fn part(&self, because: Because) -> String {
        match because {
            Because::Rule(index) => format!("rule {}", index + 1),
            Because::Include(index) => {
                self.policy.include.get(index).map_or("a set".to_owned(), Clone::clone)
            }
            Because::Unknown => match self.policy.unknown {
                Some(unknown) => format!("newer than Linux {}, so `unknown`", unknown.after),
                None => "`unknown`".to_owned(),
            },
            Because::Default => "no rule decides, so `default`".to_owned(),
            Because::Exec => "`exec`".to_owned(),
            Because::Isolation => "`isolation`".to_owned(),
            Because::Network => "`network`".to_owned(),
            _ => format!("{} is no architecture of the policy, so `foreign`", self.query.arch),
        }
    }

    fn text(&self, outcomes: &[Outcome], necessity: &[Necessity]) -> String {
        let bold = anstyle::Style::new().bold();
        let Query { arch, .. } = self.query;
        let mut out = String::new();
        if let [one] = outcomes {
            // Writing to a string does not fail.
            let _ = writeln!(
                out,
                "{bold}{}{bold:#}: {} on {arch}",
                action_text(one.action),
                self.query
            );
        } else {
            let _ = writeln!(out, "{bold}it depends{bold:#}: {} on {arch}", self.query);
        }
        for (index, outcome) in outcomes.iter().enumerate() {
            self.outcome(outcome, index, outcomes.len(), &mut out);
        }
        let pointers = self.query.syscall.args(*arch).unwrap_or_default();
        let named: Vec<&str> =
            pointers.iter().filter(|arg| arg.is_pointer()).map(|arg| arg.name()).collect();
        if !named.is_empty() && outcomes.len() == 1 && self.query.args != [None; 6] {
            let _ = writeln!(
                out,
                "  whatever stands at {}: a filter sees addresses only",
                named.join(", ")
            );
        }
        if necessity.is_empty() {
            let why = match self.has_ledger {
                true => format!("the ledger says nothing of `{}`", self.query.syscall),
                false => "a profile in this format has no ledger".to_owned(),
            };
            let _ = writeln!(out, "  why: {why}");
        }
        for reason in necessity {
            let _ = writeln!(out, "  why: {}", why(reason));
        }
        out
    }

    fn outcome(&self, outcome: &Outcome, index: usize, count: usize, out: &mut String) {
        let Outcome { action, because, when, example } = outcome;
        let part = self.part(*because);
        if count > 1 {
            let when = match when {
                Some(when) if index == 0 => format!(" when {when}"),
                Some(when) => format!(" else when {when}"),
                None => " otherwise".to_owned(),
            };
            let _ = writeln!(out, "  {}{when}, such as {example}", action_text(*action));
        }
        match self.place(*because) {
            None => {
                let _ = writeln!(out, "  {part}");
            }
            Some(place) => {
                let line = self.text[..place.start].rfind('\n').map_or(0, |newline| newline + 1);
                let end = self.text[place.start..].find('\n');
                let end = end.map_or(self.text.len(), |at| place.start + at);
                let mark = place.start - line..place.end.clamp(place.start, end) - line;
                let snippet = Snippet::source(&self.text[line..end])
                    .path(self.name)
                    .line_start(place.line)
                    .annotation(AnnotationKind::Primary.span(mark).label(part));
                let report = annotate_snippets::Group::with_level(Level::NOTE).element(snippet);
                let _ = writeln!(out, "{}", Renderer::styled().render(&[report]));
            }
        }
    }

    fn data(&self, outcomes: &[Outcome], necessity: &[Necessity]) -> Value {
        let outcomes: Vec<Value> = outcomes
            .iter()
            .map(|Outcome { action, because, when, example }| {
                let place = self.place(*because);
                json!({
                    "action": action_text(*action),
                    "because": self.part(*because),
                    "when": when,
                    "example": example.to_string(),
                    "file": self.name,
                    "line": place.map(|place| place.line),
                    "column": place.map(|place| place.column),
                })
            })
            .collect();
        json!({
            "call": self.query.to_string(),
            "arch": self.query.arch.name(),
            "outcomes": outcomes,
            "necessity": necessity.iter().map(why).collect::<Vec<_>>(),
        })
    }
}

/// A reason as a sentence.
fn why(reason: &Necessity) -> String {
    match reason {
        Necessity::Observed(seen) => {
            let times = seen.count.map_or(String::new(), |count| format!(" {count} times"));
            let images = match seen.images.as_slice() {
                [] => String::new(),
                images => format!(" of {}", images.join(", ")),
            };
            let args: Vec<String> = seen
                .args
                .iter()
                .map(|(name, values)| format!("{name} {}", values.join(", ")))
                .collect();
            let args = match args.as_slice() {
                [] => String::new(),
                args => format!(", with {}", args.join("; ")),
            };
            format!("seen{times}{images}{args}, in the recording {}", seen.recording)
        }
        Necessity::Reachable(reach) => {
            let library =
                reach.library.as_ref().map_or(String::new(), |name| format!(" of {name}"));
            format!("reachable in {}{library}", reach.function)
        }
        Necessity::NeededBy { runtime } => format!("needed by {runtime}"),
        Necessity::Declared(declared) => {
            let until = declared.expires.map_or(String::new(), |day| format!(", until {day}"));
            format!("{} says: {}{until}", declared.by, declared.reason)
        }
        _ => "a reason of a kind that is not known here".to_owned(),
    }
}
