//! Every example in docs/policy.md is a policy, and says what the page says it does.

#![allow(clippy::unwrap_used, reason = "these are tests, and their helpers fail with them")]

use serde_json::Value;
use strait_abi::{Arch, Syscall};
use strait_bpf::SeccompData;
use strait_policy::{Policy, action_text, schema};

const PAGE: &str = include_str!("../../../docs/policy.md");

fn examples() -> Vec<&'static str> {
    let blocks: Vec<&str> = PAGE.split("```").collect();
    blocks.iter().filter_map(|block| block.strip_prefix("yaml\n")).collect()
}

#[test]
fn every_example_is_a_policy_that_prints_and_lowers() {
    assert!(examples().len() >= 4);
    for example in examples() {
        let policy = Policy::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let rules = policy.lower().unwrap();
        let text = policy.to_string();
        let again = Policy::parse(&text).unwrap();
        assert_eq!(again, policy, "{text}");
        assert_eq!(again.to_string(), text);
        assert_eq!(again.lower().unwrap(), rules);
    }
}

#[test]
fn the_table_of_answers_is_what_the_example_says() {
    let example = examples().into_iter().find(|text| text.contains("fd < 10")).unwrap();
    let rules = Policy::parse(example).unwrap().lower().unwrap();
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.contains("`read(")).collect();
    assert_eq!(rows.len(), 6);
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (arch, call) = cells[1].split_once(' ').unwrap();
        let fd = call.trim_matches('`').trim_start_matches("read(").trim_end_matches(')');
        let arch: Arch = arch.parse().unwrap();
        let data = SeccompData {
            nr: Syscall::from_name("read").unwrap().number(arch).unwrap(),
            arch: arch.audit_arch(),
            instruction_pointer: 0,
            args: [fd.parse().unwrap(), 0, 0, 0, 0, 0],
        };
        assert_eq!(action_text(rules.decide(&data)), cells[2], "{row}");
    }
}

/// What of JSON Schema the published schema uses, as a validator.
fn validate(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let fail = |what: &str| Err(format!("{value} is not {what}: {schema}"));
    for (keyword, rule) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                validate(root, &root["$defs"][name], value)?;
            }
            "const" if value != rule => return fail("the constant"),
            "enum" if !rule.as_array().unwrap().contains(value) => return fail("in the enum"),
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64(),
                    other => panic!("{other} is not used"),
                };
                if !types.iter().any(is) {
                    return fail("of the type");
                }
            }
            "required" => {
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                if !rule.as_array().unwrap().iter().all(has) {
                    return fail("whole");
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    value.get(name).map_or(Ok(()), |value| validate(root, rule, value))?;
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().unwrap() {
                    match rule {
                        _ if known.is_some_and(|known| known.contains_key(name)) => {}
                        Value::Bool(false) => return fail(&format!("without {name}")),
                        rule => validate(root, rule, value)?,
                    }
                }
            }
            "propertyNames" => {
                for name in value.as_object().unwrap().keys() {
                    validate(root, rule, &Value::String(name.clone()))?;
                }
            }
            "items" => {
                value.as_array().unwrap().iter().try_for_each(|item| validate(root, rule, item))?;
            }
            "anyOf" => {
                let mut any = rule.as_array().unwrap().iter();
                if !any.any(|rule| validate(root, rule, value).is_ok()) {
                    return fail("any of them");
                }
            }
            "minItems" if value.as_array().unwrap().is_empty() => return fail("long enough"),
            "minProperties" | "maxProperties" if value.as_object().unwrap().len() != 1 => {
                return fail("of one property");
            }
            // Of the two patterns, that of actions with a number is told by its parenthesis.
            "pattern" if rule.as_str().unwrap().starts_with("^(errno") => {
                if !value.as_str().is_some_and(|text| text.contains('(')) {
                    return fail("an action");
                }
            }
            "const" | "enum" | "minItems" | "minProperties" | "maxProperties" | "minimum"
            | "pattern" | "format" | "description" | "title" | "$schema" | "$defs" => {}
            other => panic!("the validator does not know {other}"),
        }
    }
    Ok(())
}

/// The document as JSON, by the shortest way: policies are read by their own reader, and this is
/// about the schema.
fn json(yaml: &str) -> Value {
    fn value(text: &str) -> (Value, &str) {
        let text = text.trim_start();
        match text.chars().next() {
            Some('[') => {
                let (mut list, mut rest) = (Vec::new(), text[1..].trim_start());
                while !rest.starts_with(']') {
                    let (item, after) = value(rest);
                    list.push(item);
                    rest = after.trim_start().trim_start_matches(',').trim_start();
                }
                (Value::Array(list), &rest[1..])
            }
            Some('{') => {
                let (mut map, mut rest) = (serde_json::Map::new(), text[1..].trim_start());
                while !rest.starts_with('}') {
                    let (key, after) = rest.split_once(':').unwrap();
                    let (item, after) = value(after);
                    map.insert(key.trim().to_owned(), item);
                    rest = after.trim_start().trim_start_matches(',').trim_start();
                }
                (Value::Object(map), &rest[1..])
            }
            Some('"') => {
                let end = text[1..].find('"').unwrap() + 1;
                (Value::String(text[1..end].to_owned()), &text[end + 1..])
            }
            _ => {
                let end = text.find([',', '}', ']']).unwrap_or(text.len());
                let plain = text[..end].trim();
                let value = plain.parse::<u64>().map_or_else(|_| plain.into(), Value::from);
                (value, &text[end..])
            }
        }
    }
    /// The block that begins at this indent.
    fn block(lines: &mut std::iter::Peekable<std::str::Lines<'_>>, indent: usize) -> Value {
        let mut map = serde_json::Map::new();
        let mut list = Vec::new();
        while let Some(line) = lines.peek().copied() {
            let own = line.len() - line.trim_start().len();
            if line.trim().is_empty() {
                lines.next();
            } else if own < indent {
                break;
            } else if let Some(item) = line.trim().strip_prefix("- ") {
                list.push(value(item).0);
                lines.next();
            } else {
                let (key, rest) = line.trim().split_once(':').unwrap();
                lines.next();
                let inner = if rest.is_empty() { block(lines, own + 1) } else { value(rest).0 };
                map.insert(key.to_owned(), inner);
            }
        }
        if list.is_empty() { Value::Object(map) } else { Value::Array(list) }
    }
    block(&mut yaml.lines().peekable(), 0)
}

#[test]
fn every_example_is_valid_by_the_schema_and_mistakes_are_not() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    for example in examples() {
        let json = json(example);
        assert_eq!(Policy::parse(&json.to_string()).unwrap(), Policy::parse(example).unwrap());
        validate(&schema, &schema, &json).unwrap_or_else(|error| panic!("{error}\n{example}"));
        for (from, to) in [("syscalls", "syscall"), ("x86_64", "amd64"), ("default", "defualt")] {
            let wrong: Value = serde_json::from_str(&json.to_string().replace(from, to)).unwrap();
            assert!(validate(&schema, &schema, &wrong).is_err(), "{from} as {to}");
            assert!(Policy::parse(&wrong.to_string()).is_err(), "{from} as {to}");
        }
    }
}
