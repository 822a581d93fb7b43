//! The report as one page that needs nothing else: no network, no font, no file beside it.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use strait_runtime::report::baseline::Change;
use strait_runtime::report::controls::{Outcome, catalogue};
use strait_runtime::report::{Check, Evidence, ExcessState, Report, Workload};

use super::rfc3339;

/// The page. Without scripts it shows all, unsorted by anything but risk.
pub(super) fn page(report: &Report, changes: Option<&[Change]>) -> String {
    let title = format!("Workloads of {}", report.machine.host);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Nothing is fetched, whatever is in the data.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    p {
                        (report.workloads.len()) " workloads, Linux " (report.machine.kernel) ", "
                        time datetime=(rfc3339(report.time)) { (rfc3339(report.time)) }
                        ", Strait " (report.machine.strait) ". "
                        (report.stops.threads) " threads were stopped to read their filters, "
                        (report.stops.median_microseconds) " µs at the median and "
                        (report.stops.longest_microseconds) " µs at most."
                        @for (why, count) in &report.missed {
                            " Not in the report: " (count) " processes " (why) "."
                        }
                    }
                }
                main {
                    @if let Some(changes) = changes { (changed(changes)) }
                    label for="search" { "Search" }
                    input id="search" type="search" autocomplete="off"
                        placeholder="name, user, secret, status, call";
                    p id="shown" role="status" aria-live="polite" {}
                    (workloads(report))
                    h2 { "Checks" }
                    (checks(report))
                    h2 { "Frameworks" }
                    (frameworks())
                }
                script { (PreEscaped(include_str!("page.js"))) }
            }
        }
    };
    page.into_string()
}

const HEADINGS: &[(&str, bool)] = &[
    ("Risk", true),
    ("Workload", false),
    ("Kind", false),
    ("Processes", true),
    ("Acts as", false),
    ("Secrets", true),
    ("Confined", false),
    ("Calls", true),
    ("Score", true),
    ("Excess", true),
    ("Drift", false),
    ("Owner", false),
];

fn workloads(report: &Report) -> Markup {
    html! {
        table id="workloads" {
            caption { "Every workload, that of the highest risk first" }
            thead {
                tr {
                    @for (heading, number) in HEADINGS {
                        th scope="col" data-number=(number) {
                            button type="button" { (heading) }
                        }
                    }
                }
            }
            tbody {
                @for workload in &report.workloads { (row(workload)) }
            }
        }
    }
}

fn row(workload: &Workload) -> Markup {
    let Workload { identity, confinement, exposure, excess, drift, .. } = workload;
    let level = match workload.risk {
        0..=24 => "low",
        25..=59 => "middle",
        _ => "high",
    };
    html! {
        tr {
            td.number.(level) { (workload.risk) }
            th scope="row" {
                details {
                    summary { (workload.name) }
                    (detail(workload))
                }
            }
            td { (workload.kind.name()) }
            td.number { (workload.processes.len()) }
            td { (identity.account.clone().unwrap_or_else(|| identity.users.join(", "))) }
            td.number { (identity.evidence.len()) }
            td { (confinement.status) }
            td.number { (exposure.allowed) }
            td.number { (exposure.score) }
            td.number {
                @match excess.state {
                    ExcessState::Known => (excess.calls.len()),
                    ExcessState::NeverRecorded => "never recorded",
                    ExcessState::Unknown => "unknown",
                }
            }
            td { (drift.state.name()) }
            td { (workload.owner.as_deref().unwrap_or_default()) }
        }
    }
}

fn detail(workload: &Workload) -> Markup {
    let Workload { identity, confinement, exposure, excess, drift, .. } = workload;
    html! {
        dl {
            dt { "Key" } dd { code { (workload.key) } }
            @if let Some(program) = &workload.program { dt { "Program" } dd { code { (program) } } }
            dt { "Users" } dd { (identity.users.join(", ")) }
            dt { "Filters" }
            dd {
                (confinement.filtered) " of " (confinement.threads) " threads have some"
                @for filter in &confinement.filters {
                    br;
                    code { (filter.sha256) } ", " (filter.instructions) " instructions"
                    @if let Some(known) = &filter.known { ", decides as " (known) }
                }
            }
            dt { "Capabilities" }
            dd {
                @if confinement.all_capabilities { "all" }
                @else if confinement.capabilities.is_empty() { "none" }
                @else { (confinement.capabilities.join(", ")) }
            }
            @if !identity.evidence.is_empty() {
                dt { "Can act with" }
                dd { ul { @for one in &identity.evidence { (evidence(one)) } } }
            }
            @if !exposure.dangerous.is_empty() {
                dt { "Dangerous calls that pass" }
                dd {
                    @for (index, dangerous) in exposure.dangerous.iter().enumerate() {
                        @if index > 0 { ", " }
                        span title=(dangerous.class) { (dangerous.call) }
                    }
                }
            }
            @if excess.state == ExcessState::Known {
                dt { "Excess" }
                dd {
                    @if excess.calls.is_empty() { "none" } @else { (excess.calls.join(", ")) }
                    " (against " (excess.against.join(", ")) ")"
                }
            }
            @if let Some(policy) = &drift.policy {
                dt { "Policy" }
                dd {
                    (policy) ": " (drift.state.name())
                    @if let Some(witness) = &drift.witness { ": " code { (witness) } }
                }
            }
            dt { "Checks" }
            dd { ul { @for check in &workload.checks { (told(check)) } } }
        }
    }
}

fn evidence(evidence: &Evidence) -> Markup {
    html! {
        li {
            (evidence.kind.name()) " " code { (evidence.what) } " (" (evidence.seen) ")"
            @if let Some(token) = &evidence.token {
                @if !token.audience.is_empty() { ", for " (token.audience.join(", ")) }
                @match (token.expires, token.expired) {
                    (Some(expires), Some(true)) => { ", expired " (rfc3339(expires)) }
                    (Some(expires), _) => { ", until " (rfc3339(expires)) }
                    (None, _) => { ", never expires" }
                }
            }
        }
    }
}

fn told(check: &Check) -> Markup {
    let title = catalogue().check(&check.id).map_or(check.id.as_str(), |kind| &kind.title);
    html! {
        li { b { (name(check.outcome)) } ": " (title) ". " (check.evidence) }
    }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Satisfied => "satisfied",
        Outcome::NotSatisfied => "not satisfied",
        Outcome::Unknown => "unknown",
    }
}

fn checks(report: &Report) -> Markup {
    let count = |id: &str, outcome: Outcome| {
        let checks = report.workloads.iter().flat_map(|workload| &workload.checks);
        checks.filter(|check| check.id == id && check.outcome == outcome).count()
    };
    html! {
        table {
            caption { "How many workloads satisfy each check, by what the kernel showed" }
            thead {
                tr {
                    @for heading in ["Check", "Satisfied", "Not satisfied", "Unknown", "Rows"] {
                        th scope="col" { (heading) }
                    }
                }
            }
            tbody {
                @for check in &catalogue().checks {
                    tr {
                        th scope="row" {
                            (check.title)
                            @if let Some(note) = &check.note { br; small { (note) } }
                        }
                        @for outcome in [Outcome::Satisfied, Outcome::NotSatisfied, Outcome::Unknown] {
                            td.number { (count(&check.id, outcome)) }
                        }
                        td { (check.controls.join(", ")) }
                    }
                }
            }
        }
    }
}

fn frameworks() -> Markup {
    html! {
        table {
            caption { "Mapping of " (catalogue().version) }
            thead { tr { th scope="col" { "Row" } th scope="col" { "Says" } th scope="col" { "From" } } }
            tbody {
                @for control in &catalogue().controls {
                    tr {
                        th scope="row" { (control.id) }
                        td {
                            (control.title)
                            @if let Some(note) = &control.note { br; small { (note) } }
                        }
                        td {
                            @if let Some(source) = catalogue().sources.get(&control.source) {
                                a href=(source.href) rel="noreferrer" { (source.title) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changed(changes: &[Change]) -> Markup {
    html! {
        h2 { "Since the baseline" }
        @if changes.is_empty() { p { "Nothing changed." } }
        ul {
            @for change in changes {
                li { b { (change.what.name()) } ": " (change.name) " " (change.details.join("; ")) }
            }
        }
    }
}
