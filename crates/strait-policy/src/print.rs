//! Writing the policy document: the one canonical YAML text of a [`Policy`].
//!
//! Short values stand on one line in flow style; what does not fit is wrapped. The text reads
//! back to the same policy, and equal policies have equal texts.

use std::collections::BTreeMap;
use std::fmt;

use crate::action::action_text;
use crate::policy::{API_VERSION, FileDigest, KIND, Necessity, Policy, Rule};
use crate::text::{is_plain, read_yaml};

/// The length that lines are kept to where they can be.
const WIDTH: usize = 100;

impl fmt::Display for Policy {
    /// The canonical YAML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&document(self))
    }
}

impl Policy {
    /// The same document as JSON, its fields in the same order.
    pub fn to_json(&self) -> String {
        let node = read_yaml(&document(self)).expect("what is printed reads back");
        let mut text = serde_json::to_string_pretty(&node).expect("its keys are texts");
        text.push('\n');
        text
    }
}

fn document(policy: &Policy) -> String {
    let mut out = Lines::default();
    out.line(0, &format!("apiVersion: {API_VERSION}"));
    out.line(0, &format!("kind: {KIND}"));
    let mut metadata = Map::default();
    metadata.text("name", policy.metadata.name.as_deref());
    metadata.texts_by_key("labels", &policy.metadata.labels);
    metadata.texts_by_key("annotations", &policy.metadata.annotations);
    out.map(0, "metadata", &metadata);
    out.line(0, "spec:");
    if let Some(identity) = &policy.identity {
        let mut map = Map::default();
        map.text("name", Some(&identity.name));
        map.text("kind", identity.kind.as_deref());
        map.text("owner", identity.owner.as_deref());
        map.list("secrets", identity.secrets.iter().map(String::as_str));
        out.map(1, "identity", &map);
    }
    out.list(1, "architectures", policy.architectures.iter().map(|arch| arch.name()));
    if policy.foreign != Policy::FOREIGN {
        out.line(1, &format!("foreign: {}", action_text(policy.foreign)));
    }
    out.line(1, &format!("default: {}", action_text(policy.default)));
    if let Some(unknown) = &policy.unknown {
        let action = action_text(unknown.action);
        out.line(1, &format!("unknown: {{after: \"{}\", action: {action}}}", unknown.after));
    }
    if let Some(exec) = &policy.exec {
        let mut map = Map::default();
        let digests = exec.digests.iter().map(FileDigest::to_string);
        let allow = exec.allow.iter().map(|path| scalar(path)).chain(digests).collect();
        map.0.push(("allow".to_owned(), Part::List(allow)));
        for (name, allowed) in [("shells", exec.shells), ("interpreters", exec.interpreters)] {
            if !allowed {
                map.raw(name, "deny".to_owned());
            }
        }
        if exec.strict {
            map.raw("strict", "true".to_owned());
        }
        out.map(1, "exec", &map);
    }
    if policy.isolation.other_processes {
        out.line(1, "isolation: {other-processes: deny}");
    }
    if let Some(network) = &policy.network {
        let mut map = Map::default();
        for (name, list) in [("connect", &network.connect), ("listen", &network.listen)] {
            if !list.is_empty() {
                let list = list.iter().map(|entry| scalar(&entry.to_string())).collect();
                map.0.push((name.to_owned(), Part::List(list)));
            }
        }
        if !network.unix.is_empty() {
            let list = network.unix.iter().map(|name| scalar(&name.to_string())).collect();
            map.0.push(("unix".to_owned(), Part::List(list)));
        }
        match map.0.is_empty() {
            true => out.line(1, "network: {}"),
            false => out.map(1, "network", &map),
        }
    }
    if !policy.include.is_empty() {
        out.list(1, "include", policy.include.iter().map(String::as_str));
    }
    if !policy.rules.is_empty() {
        out.line(1, "rules:");
        policy.rules.iter().for_each(|rule| out.item(2, &rule_map(rule)));
    }
    if !policy.steps.is_empty() {
        out.line(1, "steps:");
        for (index, step) in policy.steps.iter().enumerate() {
            out.line(2, &format!("{}:", scalar(&step.name)));
            if let Some(before) = index.checked_sub(1) {
                out.line(3, &format!("after: {}", scalar(&policy.steps[before].name)));
            }
            if !step.ready.is_empty() {
                out.list(3, "ready", step.ready.iter().map(|call| call.name()));
            }
            if step.rules.is_empty() {
                out.line(3, "rules: []");
                continue;
            }
            out.line(3, "rules:");
            step.rules.iter().for_each(|rule| out.item(4, &rule_map(rule)));
        }
    }
    if !policy.recordings.is_empty() {
        out.line(1, "recordings:");
        for source in &policy.recordings {
            let mut map = Map::default();
            map.text("digest", Some(&source.digest));
            map.text("engine", Some(&source.engine));
            map.text("kernel", Some(&source.kernel));
            map.list("gaps", source.gaps.iter().map(String::as_str));
            out.item(2, &map);
        }
    }
    if !policy.necessity.is_empty() {
        out.line(1, "necessity:");
        for (call, reasons) in &policy.necessity {
            let reasons: Vec<Map> = reasons.iter().map(necessity_map).collect();
            out.maps(2, call.name(), &reasons);
        }
    }
    out.0
}

fn rule_map(rule: &Rule) -> Map {
    let mut map = Map::default();
    map.list("syscalls", rule.syscalls.iter().map(|call| call.name()));
    if !rule.numbers.is_empty() {
        let range = |(first, last)| match first == last {
            true => number(first),
            false => quoted(&format!("{}-{}", number(first), number(last))),
        };
        map.0.push(("numbers".to_owned(), Part::List(rule.numbers.ranges().map(range).collect())));
    }
    map.list("arch", rule.arch.iter().map(|arch| arch.name()));
    if let Some(when) = &rule.when {
        map.raw("when", quoted(&when.to_string()));
    }
    map.raw("action", action_text(rule.action));
    map
}

fn necessity_map(necessity: &Necessity) -> Map {
    let mut map = Map::default();
    let kind = match necessity {
        Necessity::Observed(observed) => {
            map.text("recording", Some(&observed.recording));
            map.list("arch", observed.arch.iter().map(|arch| arch.name()));
            if let Some(count) = observed.count {
                map.raw("count", count.to_string());
            }
            if !observed.args.is_empty() {
                let mut args = Map::default();
                for (arg, values) in &observed.args {
                    args.0
                        .push((scalar(arg), Part::List(values.iter().map(|v| value(v)).collect())));
                }
                map.raw("args", args.flow());
            }
            map.list("images", observed.images.iter().map(String::as_str));
            "observed"
        }
        Necessity::Reachable(reachable) => {
            map.text("function", Some(&reachable.function));
            map.text("library", reachable.library.as_deref());
            "reachable"
        }
        Necessity::NeededBy { runtime } => {
            map.text("runtime", Some(runtime));
            "neededBy"
        }
        Necessity::Declared(declared) => {
            map.text("by", Some(&declared.by));
            map.text("reason", Some(&declared.reason));
            if let Some(day) = declared.expires {
                map.raw("expires", day.to_string());
            }
            "declared"
        }
    };
    Map(vec![(kind.to_owned(), Part::Raw(map.flow()))])
}

/// A system call's number; large ones are patterns of bits.
fn number(nr: u32) -> String {
    if nr < 0x1_0000 { nr.to_string() } else { format!("{nr:#x}") }
}

/// A scalar: plain where that reads back as the same text, else in double quotes.
fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// A scalar in double quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            // What YAML does not print (5.1), or what a reader might take for a line break.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            '\u{fffe}' | '\u{ffff}' => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of an observed argument: a number stays one.
fn value(text: &str) -> String {
    let number = text.parse::<u64>().is_ok_and(|number| number.to_string() == text);
    if number { text.to_owned() } else { scalar(text) }
}

/// A mapping, in the order of its fields; a field with nothing in it is left out.
#[derive(Default)]
struct Map(Vec<(String, Part)>);

enum Part {
    /// Text as it stands in the document.
    Raw(String),
    /// Items as they stand in the document.
    List(Vec<String>),
}

impl Map {
    fn raw(&mut self, key: &str, text: String) {
        self.0.push((key.to_owned(), Part::Raw(text)));
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.raw(key, scalar(text));
        }
    }

    fn list<'a>(&mut self, key: &str, items: impl IntoIterator<Item = &'a str>) {
        let items: Vec<String> = items.into_iter().map(scalar).collect();
        if !items.is_empty() {
            self.0.push((key.to_owned(), Part::List(items)));
        }
    }

    fn texts_by_key(&mut self, key: &str, texts: &BTreeMap<String, String>) {
        if !texts.is_empty() {
            let parts = texts.iter().map(|(key, text)| (scalar(key), Part::Raw(scalar(text))));
            self.raw(key, Map(parts.collect()).flow());
        }
    }

    /// On one line.
    fn flow(&self) -> String {
        let parts = self.0.iter().map(|(key, part)| match part {
            Part::Raw(text) => format!("{key}: {text}"),
            Part::List(items) => format!("{key}: [{}]", items.join(", ")),
        });
        format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
    }
}

/// The document so far; an indent is two spaces.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, indent: usize, text: &str) {
        self.0.push_str(&"  ".repeat(indent));
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// `key: {…}`, if there is anything in it.
    fn map(&mut self, indent: usize, key: &str, map: &Map) {
        if map.0.is_empty() {
            return;
        }
        let flow = format!("{key}: {}", map.flow());
        if fits(indent, &flow) {
            return self.line(indent, &flow);
        }
        self.line(indent, &format!("{key}:"));
        self.parts(indent + 1, map, "");
    }

    /// `- {…}`, or its fields below one another.
    fn item(&mut self, indent: usize, map: &Map) {
        let flow = format!("- {}", map.flow());
        if fits(indent, &flow) {
            return self.line(indent, &flow);
        }
        self.parts(indent + 1, map, "- ");
    }

    /// The fields below one another; `mark` stands before the first, in the indent.
    fn parts(&mut self, indent: usize, map: &Map, mark: &str) {
        for (index, (key, part)) in map.0.iter().enumerate() {
            let (outer, mark) =
                if index == 0 && !mark.is_empty() { (indent - 1, mark) } else { (indent, "") };
            match part {
                Part::Raw(text) => self.line(outer, &format!("{mark}{key}: {text}")),
                Part::List(items) => {
                    let flow = format!("{mark}{key}: [{}]", items.join(", "));
                    if fits(outer, &flow) {
                        self.line(outer, &flow);
                    } else {
                        self.line(outer, &format!("{mark}{key}:"));
                        self.wrapped(indent + 1, items);
                    }
                }
            }
        }
    }

    /// `key: [a, b]`.
    fn list<'a>(&mut self, indent: usize, key: &str, items: impl IntoIterator<Item = &'a str>) {
        let mut map = Map::default();
        map.list(key, items);
        self.parts(indent, &map, "");
    }

    /// `key: [{…}]`, or the items below one another.
    fn maps(&mut self, indent: usize, key: &str, maps: &[Map]) {
        let flows: Vec<String> = maps.iter().map(Map::flow).collect();
        let flow = format!("{key}: [{}]", flows.join(", "));
        if fits(indent, &flow) || maps.is_empty() {
            return self.line(indent, &flow);
        }
        self.line(indent, &format!("{key}:"));
        flows.iter().for_each(|flow| self.line(indent + 1, &format!("- {flow}")));
    }

    /// `[a, b, …]` over as many lines as it takes.
    fn wrapped(&mut self, indent: usize, items: &[String]) {
        let mut line = String::from("[");
        for (index, item) in items.iter().enumerate() {
            let end = if index + 1 == items.len() { "]" } else { "," };
            if line.trim().len() > 1 && !fits(indent, &format!("{line}{item}{end}")) {
                self.line(indent, line.trim_end());
                line = String::from(" ");
            }
            line.push_str(item);
            line.push_str(end);
            line.push(' ');
        }
        self.line(indent, line.trim_end());
    }
}

fn fits(indent: usize, text: &str) -> bool {
    2 * indent + text.chars().count() <= WIDTH
}
