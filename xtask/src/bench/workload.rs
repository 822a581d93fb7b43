//! Policies and syscall distributions to compile, as JSON files beside the checkout.
//!
//! A policy: `arches`, `default` (a `SECCOMP_RET_*` value) and `rules`, each with `act`, `name`,
//! `nr` and `conds`: a conjunction of `[argument, operator, value, second value, bits]`; the rules
//! of one call are alternatives. A distribution: name of a call to its share.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use strait_abi::{Arch, AuditArch, Syscall};
use strait_bpf::{Action, SeccompData};
use strait_policy::Rules;
use strait_policy::rules::{Arm, Chain, Condition, Op, Table, Test, Width};

/// One policy.
pub(crate) struct Workload {
    pub(crate) name: String,
    pub(crate) arches: Vec<Arch>,
    pub(crate) default: Action,
    pub(crate) rules: Vec<Rule>,
}

/// One rule of a policy: a call, conditions that all must hold, and what is done then.
pub(crate) struct Rule {
    pub(crate) action: Action,
    pub(crate) call: String,
    /// Its native number, where the file gives one.
    pub(crate) nr: Option<u32>,
    pub(crate) conditions: Vec<Compare>,
}

/// `(argument & mask) OP value` over so many bits.
pub(crate) struct Compare {
    pub(crate) arg: u8,
    pub(crate) op: Op,
    pub(crate) value: u64,
    pub(crate) mask: Option<u64>,
    pub(crate) width: Width,
}

/// A call that a policy allows, with arguments for each way in which it does.
pub(crate) struct Allowed {
    pub(crate) nr: u32,
    pub(crate) ways: Vec<[u64; 6]>,
    /// Whether the arguments matter.
    pub(crate) conditional: bool,
}

/// What calls of an ABI or audit arch that the policy does not name get.
const ELSEWHERE: Action = Action::KillProcess;

impl Workload {
    pub(crate) fn read(path: &Path) -> Result<Workload> {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let json = json(path)?;
        let arches = list(&json, "arches")?
            .iter()
            .map(|arch| match arch.as_str() {
                Some("x86_64") => Ok(Arch::X86_64),
                Some("x86") => Ok(Arch::I386),
                Some("x32") => Ok(Arch::X32),
                other => bail!("{}: there is no arch {other:?}", path.display()),
            })
            .collect::<Result<_>>()?;
        let rules = list(&json, "rules")?
            .iter()
            .map(|rule| self::rule(rule).with_context(|| format!("{}: {rule}", path.display())))
            .collect::<Result<_>>()?;
        let default = Action::from_raw(number(json.get("default").unwrap_or(&Value::Null))?);
        Ok(Workload { name, arches, default, rules })
    }

    /// The rules resolved to numbers.
    pub(crate) fn resolve(&self) -> Result<Rules> {
        let mut tables: BTreeMap<AuditArch, Table> = BTreeMap::new();
        for &arch in &self.arches {
            let table = tables.entry(arch.audit_arch()).or_insert_with(|| {
                let mut table = Table::new(self.default);
                if arch.audit_arch() == Arch::X86_64.audit_arch() {
                    table.set(Arch::X32_BIT, u32::MAX, ELSEWHERE);
                }
                table
            });
            if arch == Arch::X32 {
                table.set(Arch::X32_BIT, 2 * Arch::X32_BIT - 1, self.default);
            }
            let mut chains: BTreeMap<u32, Chain> = BTreeMap::new();
            for rule in &self.rules {
                let Some(nr) = self.number(rule, arch) else { continue };
                let chain = chains.entry(nr).or_insert_with(|| Chain::from(self.default));
                chain.arms.push(Arm { when: rule.condition()?, action: rule.action });
            }
            for (nr, mut chain) in chains {
                if let [Arm { when: Condition::All(all), action }] = &chain.arms[..]
                    && all.is_empty()
                {
                    chain = Chain::from(*action);
                }
                table.set(nr, nr, chain);
            }
        }
        Ok(tables
            .into_iter()
            .fold(Rules::new(ELSEWHERE), |rules, (arch, table)| rules.with_table(arch, table)))
    }

    /// The native calls that pass.
    pub(crate) fn allowed(&self) -> Vec<Allowed> {
        let native = self.arches[0];
        let mut ruled: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
        for rule in &self.rules {
            if let Some(nr) = self.number(rule, native) {
                ruled.entry(nr).or_default().push(rule);
            }
        }
        let mut allowed: Vec<Allowed> = ruled
            .iter()
            .map(|(&nr, rules)| {
                let passing = rules.iter().filter(|rule| rule.action == Action::Allow);
                let ways = passing.map(|rule| rule.arguments()).collect();
                let conditional = rules.iter().any(|rule| !rule.conditions.is_empty());
                Allowed { nr, ways, conditional }
            })
            .filter(|call| !call.ways.is_empty())
            .collect();
        if self.default == Action::Allow {
            let others = Syscall::all().filter_map(|call| call.number(native));
            let others = others.filter(|nr| !ruled.contains_key(nr));
            allowed.extend(others.map(|nr| Allowed { nr, ways: vec![[0; 6]], conditional: false }));
            allowed.sort_by_key(|call| call.nr);
        }
        allowed
    }

    fn number(&self, rule: &Rule, arch: Arch) -> Option<u32> {
        if arch == self.arches[0] { rule.nr } else { number_of(&rule.call, arch) }
    }

    /// A native call.
    pub(crate) fn call(&self, nr: u32, args: [u64; 6]) -> SeccompData {
        SeccompData::new(self.arches[0].audit_arch(), nr).with_args(args)
    }
}

impl Rule {
    fn condition(&self) -> Result<Condition> {
        let tests = self.conditions.iter().map(|compare| {
            let bits = compare.width.mask();
            let mask = compare.mask.unwrap_or(bits);
            let test = Test::new(compare.arg, compare.width, mask, compare.op, compare.value)?;
            Ok(Condition::Test(test))
        });
        Ok(Condition::All(tests.collect::<Result<_>>()?))
    }

    /// Arguments for which the rule holds.
    fn arguments(&self) -> [u64; 6] {
        let mut args = [0; 6];
        for compare in &self.conditions {
            args[usize::from(compare.arg)] = match compare.op {
                Op::Eq | Op::Le | Op::Ge => compare.value,
                Op::Ne | Op::Gt => compare.value.wrapping_add(1),
                Op::Lt => compare.value.wrapping_sub(1),
            };
        }
        args
    }
}

/// A distribution: shares of native calls by number, which sum to 1.
pub(crate) fn distribution(path: &Path) -> Result<BTreeMap<u32, f64>> {
    let json = json(path)?;
    let Some(shares) = json.as_object() else { bail!("{}: not an object", path.display()) };
    let mut distribution = BTreeMap::new();
    for (name, share) in shares {
        if let (Some(nr), Some(share)) = (number_of(name, Arch::X86_64), share.as_f64()) {
            distribution.insert(nr, share);
        }
    }
    let total: f64 = distribution.values().sum();
    distribution.values_mut().for_each(|share| *share /= total);
    Ok(distribution)
}

fn number_of(call: &str, arch: Arch) -> Option<u32> {
    Syscall::from_name(call)?.number(arch)
}

fn rule(json: &Value) -> Result<Rule> {
    Ok(Rule {
        action: Action::from_raw(number(json.get("act").unwrap_or(&Value::Null))?),
        call: json.get("name").and_then(Value::as_str).context("no `name`")?.to_owned(),
        nr: json.get("nr").filter(|nr| !nr.is_null()).map(number).transpose()?,
        conditions: list(json, "conds")?.iter().map(compare).collect::<Result<_>>()?,
    })
}

fn compare(json: &Value) -> Result<Compare> {
    let part = |index: usize| json.get(index).unwrap_or(&Value::Null);
    let op = match part(1).as_str() {
        Some("eq" | "meq") => Op::Eq,
        Some("ne") => Op::Ne,
        Some("lt") => Op::Lt,
        Some("le") => Op::Le,
        Some("gt") => Op::Gt,
        Some("ge") => Op::Ge,
        other => bail!("there is no operator {other:?}"),
    };
    Ok(Compare {
        arg: number(part(0))?,
        op,
        value: number(part(2))?,
        mask: if part(3).is_null() { None } else { Some(number(part(3))?) },
        width: if part(4).as_u64() == Some(32) { Width::W32 } else { Width::W64 },
    })
}

fn number<T: TryFrom<u64>>(json: &Value) -> Result<T> {
    json.as_u64().and_then(|value| T::try_from(value).ok()).context("a number is missing")
}

fn list<'a>(json: &'a Value, key: &str) -> Result<&'a [Value]> {
    let list = json.get(key).and_then(Value::as_array);
    Ok(list.with_context(|| format!("no list `{key}`"))?)
}

fn json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
