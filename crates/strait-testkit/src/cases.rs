//! The shared table of cases: `testdata/cases/*.toml`, which every engine runs.
//!
//! ```toml
//! [[case]]
//! name = "only standard input is read"      # unique; says what must hold
//! program = """..."""                       # text for the assembler; or
//! policy = """..."""                        # a policy document in YAML; or
//! rules = { foreign = "kill-process", tables = [{ arch = "x86_64", otherwise = "errno(1)", spans = [
//!   { first = 0, otherwise = "allow" },     # `last` is `first` if not given
//!   { first = 1, otherwise = "errno(1)", arms = [
//!     { action = "allow", when = { arg = 0, bits = 32, mask = 3, op = "==", value = 1 } },
//!     { action = "log", when = { all = [] } },                # `any`, and `not` of one
//!   ] },
//! ] }] }
//! byte-order = "big"                        # of a program; little if not given
//! calls = [                                 # arch x86_64, arguments and ip 0 if not given
//!   { nr = 0, action = "allow" },
//!   { arch = "i386", nr = 3, args = [1, "0xffffffff00000000"], action = "errno(1)" },
//!   { audit = 0, nr = 0, action = "kill-process" },       # an audit arch by its value
//!   { nr = 1, action = "allow", const-allow = true },     # whether the kernel caches it
//! ]
//! against = """..."""                       # another program, and how the first relates to it
//! relation = "tighter"                      # equal, tighter, looser or incomparable
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use strait_abi::{Arch, AuditArch};
use strait_bpf::{Action, ByteOrder, Program, Relation, SeccompData};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file and the name.
    pub name: String,
    /// What decides.
    pub subject: Subject,
    /// Calls and what each must get.
    pub calls: Vec<Call>,
    /// Another program, and how the subject relates to it.
    pub against: Option<(Program, Relation)>,
}

/// What a case is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A program.
    Program(Program),
    /// The text of a policy document.
    Policy(String),
    /// Rules.
    Rules(Rules),
}

/// One call of a case.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The call.
    pub data: SeccompData,
    /// What it gets.
    pub action: Action,
    /// Whether the kernel answers it from its cache, where the case says that.
    pub const_allow: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<RawCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCase {
    name: String,
    program: Option<String>,
    policy: Option<String>,
    rules: Option<RawRules>,
    byte_order: Option<String>,
    #[serde(default)]
    calls: Vec<RawCall>,
    against: Option<String>,
    relation: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRules {
    foreign: String,
    tables: Vec<RawTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    arch: String,
    otherwise: String,
    spans: Vec<RawSpan>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpan {
    first: u32,
    last: Option<u32>,
    #[serde(default)]
    arms: Vec<RawArm>,
    otherwise: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArm {
    when: RawCondition,
    action: String,
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum RawCondition {
    All { all: Vec<RawCondition> },
    Any { any: Vec<RawCondition> },
    Not { not: Box<RawCondition> },
    Test { arg: u8, bits: u8, mask: Option<Word>, op: String, value: Word },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCall {
    arch: Option<String>,
    audit: Option<u32>,
    nr: u32,
    #[serde(default)]
    args: Vec<Word>,
    ip: Option<Word>,
    action: String,
    const_allow: Option<bool>,
}

/// TOML's integers are signed: what does not fit is a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Number(u64),
    Text(String),
}

/// Every case, by file and in the order of the file.
///
/// # Panics
/// If a file is not as described, or two cases have one name.
pub fn all() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/cases");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = files
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let mut names = BTreeSet::new();
    let mut cases = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for raw in file.case {
            let name = format!("{stem}: {}", raw.name);
            assert!(names.insert(name.clone()), "{name}: there are two");
            cases.push(case(name, raw));
        }
    }
    cases
}

fn case(name: String, raw: RawCase) -> Case {
    let order = match raw.byte_order.as_deref() {
        None | Some("little") => ByteOrder::Little,
        Some("big") => ByteOrder::Big,
        Some(other) => panic!("{name}: byte order `{other}`"),
    };
    let assemble = |text: &str| {
        Program::assemble_for(text, order).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let subject = match (&raw.program, raw.policy, &raw.rules) {
        (Some(text), None, None) => Subject::Program(assemble(text)),
        (None, Some(text), None) => Subject::Policy(text),
        (None, None, Some(raw)) => Subject::Rules(rules(&name, raw)),
        _ => panic!("{name}: a case has a program, a policy or rules"),
    };
    let against = match (raw.against.as_deref(), raw.relation.as_deref()) {
        (None, None) => None,
        (Some(text), Some(relation)) => {
            let relation = match relation {
                "equal" => Relation::Equal,
                "tighter" => Relation::Tighter,
                "looser" => Relation::Looser,
                "incomparable" => Relation::Incomparable,
                other => panic!("{name}: relation `{other}`"),
            };
            Some((assemble(text), relation))
        }
        _ => panic!("{name}: `against` and `relation` go together"),
    };
    assert!(!raw.calls.is_empty() || against.is_some(), "{name}: nothing is expected");
    let calls = raw.calls.into_iter().map(|raw| call(&name, raw)).collect();
    Case { name, subject, calls, against }
}

fn rules(name: &str, raw: &RawRules) -> Rules {
    raw.tables.iter().fold(Rules::new(action(name, &raw.foreign)), |rules, raw| {
        let mut table = Table::new(action(name, &raw.otherwise));
        for span in &raw.spans {
            let arms = span.arms.iter().map(|arm| Arm {
                when: condition(name, &arm.when),
                action: action(name, &arm.action),
            });
            let chain = Chain { arms: arms.collect(), otherwise: action(name, &span.otherwise) };
            table.set(span.first, span.last.unwrap_or(span.first), chain);
        }
        rules.with_table(arch(name, &raw.arch), table)
    })
}

fn condition(name: &str, raw: &RawCondition) -> Condition {
    let list = |all: &[RawCondition]| all.iter().map(|one| condition(name, one)).collect();
    match raw {
        RawCondition::All { all } => Condition::All(list(all)),
        RawCondition::Any { any } => Condition::Any(list(any)),
        RawCondition::Not { not } => Condition::Not(Box::new(condition(name, not))),
        RawCondition::Test { arg, bits, mask, op, value: against } => {
            let width = match bits {
                32 => Width::W32,
                64 => Width::W64,
                other => panic!("{name}: {other} bits"),
            };
            let op = match op.as_str() {
                "==" => Op::Eq,
                "!=" => Op::Ne,
                "<" => Op::Lt,
                "<=" => Op::Le,
                ">" => Op::Gt,
                ">=" => Op::Ge,
                other => panic!("{name}: operator `{other}`"),
            };
            let mask = mask.as_ref().map_or(width.mask(), |mask| value(name, mask));
            let test = Test::new(*arg, width, mask, op, value(name, against));
            Condition::Test(test.unwrap_or_else(|error| panic!("{name}: {error}")))
        }
    }
}

fn action(name: &str, text: &str) -> Action {
    text.parse().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn arch(name: &str, text: &str) -> AuditArch {
    text.parse::<Arch>().unwrap_or_else(|error| panic!("{name}: {error}")).audit_arch()
}

fn call(name: &str, raw: RawCall) -> Call {
    let arch = match (raw.arch, raw.audit) {
        (None, None) => Arch::X86_64.audit_arch(),
        (None, Some(audit)) => AuditArch::from_raw(audit),
        (Some(text), None) => arch(name, &text),
        _ => panic!("{name}: a call has an arch or an audit arch"),
    };
    assert!(raw.args.len() <= 6, "{name}: a call has six arguments");
    let mut args = [0; 6];
    for (arg, word) in args.iter_mut().zip(&raw.args) {
        *arg = value(name, word);
    }
    let instruction_pointer = raw.ip.map_or(0, |word| value(name, &word));
    let action = action(name, &raw.action);
    let data = SeccompData { nr: raw.nr, arch, instruction_pointer, args };
    Call { data, action, const_allow: raw.const_allow }
}

fn value(name: &str, word: &Word) -> u64 {
    match word {
        Word::Number(value) => *value,
        Word::Text(text) => text
            .strip_prefix("0x")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or_else(|| panic!("{name}: `{text}` is no hexadecimal number")),
    }
}
