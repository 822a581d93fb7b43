//! The published schema, by a validator that others wrote, on every policy in this repository and on what
//! is a little wrong.

use serde_json::{Map, Value as Json};

use super::document;
use crate::text::{Node, Value, read_yaml};

/// Whether the schema takes the text; none if it is neither YAML nor JSON.
pub(crate) fn accepts(text: &str) -> Option<bool> {
    Some(validator().is_valid(&json(&read_yaml(text).ok()?)))
}

fn validator() -> jsonschema::Validator {
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&document()).unwrap()
}

/// A document as JSON has it.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Number(text) => match serde_json::from_str::<serde_json::Number>(text) {
            Ok(number) => Json::Number(number),
            // Octal and hexadecimal numbers of YAML.
            Err(_) => crate::text::whole_number(text).map_or(Json::Null, Json::from),
        },
        Value::Text(text) => Json::String(text.to_string()),
        Value::List(nodes) => Json::Array(nodes.iter().map(json).collect()),
        Value::Map(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.to_string(), json(&entry.node)));
            Json::Object(pairs.collect::<Map<_, _>>())
        }
    }
}

/// What only the reader finds: parts of its messages.
pub(crate) const BEYOND: &[&str] = &[
    // Conditions, whose arguments and constants depend on the calls of their rule.
    "has no argument",
    "is no value of",
    "takes 32 bits as",
    "no filter can read",
    "without sign",
    "a comparison was expected",
    // Which step comes after which.
    "is no valid order of steps",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::super::{KIND, tests::WHOLE};
    use super::*;
    use crate::Policy;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// The files below a folder of the repository with this ending.
    fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![repository().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(ending) {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// Every policy that the repository shows: the examples of its pages, those to start from, the cases
    /// that every engine is tested with, and what fuzzing begins with.
    fn shown() -> Vec<(PathBuf, String)> {
        let mut shown = Vec::new();
        let mut pages = files("docs", ".md");
        pages.extend(
            ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|page| repository().join(page)),
        );
        let is_policy = |text: &str| text.contains(KIND) && text.contains("apiVersion");
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            for block in text.split("```").skip(1).step_by(2) {
                let (_, block) = block.split_once('\n').unwrap_or_default();
                // The page of another tool's profiles, and commands, have other blocks.
                if is_policy(block) && !block.trim_start().starts_with("$ ") {
                    shown.push((page.clone(), block.to_owned()));
                }
            }
        }
        for file in files("policies", ".yaml").into_iter().chain(files("fuzz/corpus/policy", "")) {
            let text = std::fs::read_to_string(&file).unwrap();
            shown.push((file, text));
        }
        for file in files("testdata/cases", ".toml") {
            let text = std::fs::read_to_string(&file).unwrap();
            let policies = text.split("\npolicy = \"\"\"").skip(1);
            let policies = policies.map(|rest| rest.split("\"\"\"").next().unwrap().to_owned());
            shown.extend(policies.map(|policy| (file.clone(), policy)));
        }
        shown
    }

    #[test]
    fn every_policy_that_is_shown_is_valid_by_the_schema() {
        let validator = validator();
        let mut of_pages = 0;
        for (file, text) in shown() {
            let read = Policy::parse(&text);
            let node = read_yaml(&text).unwrap();
            match (&read, validator.validate(&json(&node))) {
                (Ok(_), Ok(())) => {
                    of_pages += usize::from(file.extension().is_some_and(|end| end == "md"))
                }
                (Ok(_), Err(error)) => panic!("{}: {error}\n{text}", file.display()),
                // What fuzzing begins with has mistakes too.
                (Err(error), valid) => {
                    let is_corpus = file.components().any(|part| part.as_os_str() == "corpus");
                    assert!(is_corpus, "{}: {error}\n{text}", file.display());
                    assert!(valid.is_err(), "{}: {error}\n{text}", file.display());
                }
            }
        }
        assert!(of_pages >= 7, "{of_pages}");
    }

    /// Every document that has another value in one place.
    fn variants(whole: &Json) -> Vec<Json> {
        let others = [
            Json::Null,
            Json::Bool(true),
            Json::from(3),
            Json::from(-3),
            Json::from(6.5),
            Json::from(""),
            Json::from("x"),
            Json::from("allow"),
            Json::from("x86_64"),
            Json::Array(Vec::new()),
            Json::from(vec!["read"]),
            Json::from(vec![3]),
            Json::Object(Map::new()),
        ];
        fn replaced(value: &Json, by: &Json, all: &mut Vec<Json>) {
            all.push(by.clone());
            match value {
                Json::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let mut inner = Vec::new();
                        replaced(item, by, &mut inner);
                        all.extend(inner.into_iter().map(|inner| {
                            let mut items = items.clone();
                            items[index] = inner;
                            Json::Array(items)
                        }));
                    }
                }
                Json::Object(fields) => {
                    for (name, field) in fields {
                        let mut inner = Vec::new();
                        replaced(field, by, &mut inner);
                        all.extend(inner.into_iter().map(|inner| {
                            let mut fields = fields.clone();
                            fields.insert(name.clone(), inner);
                            Json::Object(fields)
                        }));
                        // Without the field, and with one that nobody knows.
                        let mut fields = fields.clone();
                        fields.remove(name);
                        all.push(Json::Object(fields.clone()));
                        fields.insert(format!("{name}x"), by.clone());
                        all.push(Json::Object(fields));
                    }
                }
                _ => {}
            }
        }
        let mut all = Vec::new();
        for by in &others {
            replaced(whole, by, &mut all);
        }
        all
    }

    /// What the reader takes the schema takes; what it does not take is refused by the schema too, but for
    /// what is said in texts that no schema reads.
    #[test]
    fn what_is_a_little_wrong_is_refused_by_both() {
        let validator = validator();
        let (mut refused, mut wrong) = (0, BTreeSet::new());
        let documents = shown().into_iter().map(|(_, text)| text).chain([WHOLE.to_owned()]);
        let documents = documents.filter(|text| Policy::parse(text).is_ok() && text.len() < 1_500);
        for document in documents {
            for variant in variants(&json(&read_yaml(&document).unwrap())) {
                match (Policy::parse(&variant.to_string()), validator.validate(&variant)) {
                    (Ok(_), Ok(())) => {}
                    (Err(_), Err(_)) => refused += 1,
                    (Ok(_), Err(error)) => {
                        wrong.insert(format!("only the schema: {} {error}", error.instance_path()));
                    }
                    (Err(error), Ok(())) => {
                        let problem = error.problem.to_string();
                        if !BEYOND.iter().any(|beyond| problem.contains(beyond)) {
                            wrong.insert(format!("only the reader: {problem}"));
                        }
                    }
                }
            }
        }
        let wrong: Vec<String> = wrong.into_iter().collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(refused > 1_000, "{refused}");
    }
}
