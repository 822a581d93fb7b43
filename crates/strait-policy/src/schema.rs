//! The JSON Schema of the policy document, for editors and validators.
//!
//! It is made of the same tables that the reader has: names of calls, ABIs, actions and errnos.
//! What no schema can say (that a condition's arguments exist) only the reader checks.

use serde_json::{Value, json};
use strait_abi::{Arch, Syscall};

use crate::errno::errno_names;
use crate::policy::{API_VERSION, KIND};
use crate::sets::Set;

/// The schema (draft 2020-12) as JSON text.
pub fn schema() -> String {
    let mut text =
        serde_json::to_string_pretty(&document()).expect("a value of serde_json always serializes");
    text.push('\n');
    text
}

fn document() -> Value {
    let syscalls: Vec<&str> = Syscall::all().map(Syscall::name).collect();
    let arches: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
    let mut actions: Vec<String> =
        ["allow", "log", "notify", "kill-thread", "kill-process"].map(String::from).to_vec();
    actions.extend(errno_names().map(|name| format!("errno({name})")));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        "type": "object",
        "required": ["apiVersion", "kind", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": KIND},
            "metadata": object(&[], json!({
                "name": text("What the policy is called."),
                "labels": text_map(),
                "annotations": text_map(),
            })),
            "spec": spec(),
        },
        "$defs": {
            "syscall": {"enum": syscalls},
            "arch": {"enum": arches},
            "action": {"anyOf": [
                {"enum": actions},
                {"type": "string", "pattern": "^(errno|trap|trace)\\([0-9]{1,5}\\)$"},
            ]},
            "rule": rule(),
            "necessity": necessity(),
        },
    })
}

fn allow_or_deny(description: &str) -> Value {
    json!({"description": description, "enum": ["allow", "deny"]})
}

/// Parts of an absolute path, none of them `.` or `..`; or an abstract name.
const UNIX_NAME: &str = "^((/([^/.]|[.][^/.]|[.][.][^/])[^/]*)+/?|@.{1,107})$";

fn endpoints(description: &str) -> Value {
    let v4 = "[0-9]{1,3}([.][0-9]{1,3}){3}(/[0-9]{1,2})?";
    let v6 = "\\[[0-9a-fA-F:.]+(/[0-9]{1,3})?\\]";
    let ports = "[*]|[0-9]{1,5}(-[0-9]{1,5})?";
    json!({
        "description": description,
        "type": "array", "items": {
            "type": "string",
            "pattern": format!("^([*]|localhost|{v4}|{v6}):({ports})$"),
        },
    })
}

fn spec() -> Value {
    let sets: Vec<&str> = Set::ALL.iter().map(Set::name).collect();
    object(
        &["architectures", "default"],
        json!({
            "exec": object(&["allow"], json!({
                "allow": {
                    "description": "Files, and folders with all that is in them, that may be executed; with `strict`, files by their digest too.",
                    "type": "array", "items": {"type": "string", "pattern": "^(/|sha256:[0-9a-f]{64}$)"},
                },
                "strict": {
                    "description": "Whether a program that may not be executed is killed at exec, before its first instruction.",
                    "type": "boolean",
                },
                "shells": allow_or_deny("Whether shells in these folders may be executed."),
                "interpreters": allow_or_deny("Whether interpreters in these folders may be executed."),
            })),
            "isolation": object(&[], json!({
                "other-processes": allow_or_deny("Whether processes outside are in reach."),
            })),
            "network": object(&[], json!({
                "connect": endpoints("What the workload may connect and send to."),
                "listen": endpoints("What it may bind to and listen on."),
                "unix": {
                    "description": "The unix sockets that it may use, by path, by folder (with / at the end) or by abstract name (with @ before it).",
                    "type": "array", "items": {"type": "string", "pattern": UNIX_NAME},
                },
            })),
            "identity": object(&["name"], json!({
                "name": text("The account, token or key that the workload acts as."),
                "kind": text("What it is, such as kubernetes-service-account."),
                "owner": text("Who answers for it."),
                "secrets": {"type": "array", "items": text("The name of a secret that it can read.")},
            })),
            "architectures": {
                "description": "The ABIs that the rules are for; a call of any other is foreign.",
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"$ref": "#/$defs/arch"},
            },
            "default": {"$ref": "#/$defs/action"},
            "foreign": {"$ref": "#/$defs/action"},
            "unknown": object(&["after", "action"], json!({
                "after": {"type": "string", "pattern": "^[0-9]{1,3}\\.[0-9]{1,3}$"},
                "action": {"$ref": "#/$defs/action"},
            })),
            "include": {
            "description": "Sets of calls that are allowed where no rule decides.",
            "type": "array", "items": {"enum": sets},
        },
            "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
            "steps": {
                "description": "Phases that only ever tighten, in the order in which they come.",
                "type": "object",
                "additionalProperties": object(&["rules"], json!({
                    "after": text("The step before this one; the first has none."),
                    "ready": {
                        "description": "Calls of which the first begins the step, under a supervisor.",
                        "type": "array", "items": {"$ref": "#/$defs/syscall"},
                    },
                    "rules": {"type": "array", "items": {"$ref": "#/$defs/rule"}},
                })),
            },
            "recordings": {"type": "array", "items": object(&["digest", "engine", "kernel"], json!({
                "digest": text("The recording's sha256."),
                "engine": text("Who observed."),
                "kernel": text("The kernel's release."),
                "gaps": {"type": "array", "items": text("What was lost or could not be seen.")},
            }))},
            "necessity": {
                "type": "object",
                "propertyNames": {"$ref": "#/$defs/syscall"},
                "additionalProperties": {"type": "array", "items": {"$ref": "#/$defs/necessity"}},
            },
        }),
    )
}

/// A number within a text.
const NUMBER: &str = " *(0x[0-9a-fA-F]+|0o[0-7]+|[0-9]+) *";

fn rule() -> Value {
    let mut rule = object(
        &["action"],
        json!({
            "syscalls": {
                "type": "array", "minItems": 1, "uniqueItems": true,
                "items": {"$ref": "#/$defs/syscall"},
            },
            "numbers": {"type": "array", "minItems": 1, "items": {"anyOf": [
                {"type": "integer", "minimum": 0, "maximum": u32::MAX},
                {"type": "string", "pattern": format!("^{NUMBER}(-{NUMBER})?$")},
            ]}},
            "arch": {"type": "array", "uniqueItems": true, "items": {"$ref": "#/$defs/arch"}},
            "when": {
                "description": "For which arguments, such as `domain in {AF_UNIX, AF_INET}`.",
                "type": "string", "pattern": "[^ ]",
            },
            "action": {"$ref": "#/$defs/action"},
        }),
    );
    rule["anyOf"] = json!([{"required": ["syscalls"]}, {"required": ["numbers", "arch"]}]);
    rule
}

fn necessity() -> Value {
    let arches = json!({"type": "array", "uniqueItems": true, "items": {"$ref": "#/$defs/arch"}});
    let mut necessity = object(
        &[],
        json!({
            "observed": object(&["recording"], json!({
                "recording": text("The digest of the recording in which the call was seen."),
                "arch": arches,
                "count": {"type": "integer", "minimum": 0},
                "args": {"type": "object", "additionalProperties": {
                    "type": "array", "items": {"type": ["string", "integer"]},
                }},
                "images": {"type": "array", "items": text("A program file that made the call.")},
            })),
            "reachable": object(&["function"], json!({
                "function": text("The function that makes the call."),
                "library": text("The library or program that has it."),
            })),
            "neededBy": object(&["runtime"], json!({"runtime": text("A container runtime.")})),
            "declared": object(&["by", "reason"], json!({
                "by": text("Who says so."),
                "reason": text("Why."),
                "expires": {"type": "string", "format": "date"},
            })),
        }),
    );
    necessity["minProperties"] = json!(1);
    necessity["maxProperties"] = json!(1);
    necessity
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn text_map() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

#[cfg(test)]
pub(crate) mod documents;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Policy;
    use crate::text::asked;

    /// Every mapping that a policy can have, each once at least.
    pub(super) const WHOLE: &str = "
apiVersion: strait.dev/v1alpha1
kind: SyscallPolicy
metadata: {name: x}
spec:
  identity: {name: sa}
  architectures: [x86_64]
  default: allow
  unknown: {after: '6.18', action: allow}
  exec: {allow: [/bin]}
  isolation: {}
  network: {connect: ['10.0.0.0/8:443', '*:53'], listen: ['[::1]:8080'], unix: [/run/x, '@y']}
  rules: [{syscalls: [read], action: allow}]
  recordings: [{digest: x, engine: ebpf, kernel: 6.18.1}]
  necessity:
    read:
      - {observed: {recording: x}}
      - {reachable: {function: f}}
      - {neededBy: {runtime: runc}}
      - {declared: {by: me, reason: it reads}}
";

    #[test]
    fn the_schema_has_the_fields_that_the_reader_asks_for() {
        asked::take();
        Policy::parse(WHOLE).unwrap();
        let asked = asked::take();
        let schema = document();
        let spec = &schema["properties"]["spec"];
        let properties = &spec["properties"];
        let necessity = &schema["$defs"]["necessity"]["properties"];
        let published = [
            ("the document", &schema),
            ("metadata", &schema["properties"]["metadata"]),
            ("spec", spec),
            ("identity", &properties["identity"]),
            ("unknown", &properties["unknown"]),
            ("exec", &properties["exec"]),
            ("isolation", &properties["isolation"]),
            ("network", &properties["network"]),
            ("a rule", &schema["$defs"]["rule"]),
            ("a recording", &properties["recordings"]["items"]),
            ("observed", &necessity["observed"]),
            ("reachable", &necessity["reachable"]),
            ("neededBy", &necessity["neededBy"]),
            ("declared", &necessity["declared"]),
        ];
        assert_eq!(
            asked.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            published.iter().map(|(name, _)| *name).collect(),
            "every mapping is held to the reader"
        );
        for (name, object) in published {
            let fields: BTreeSet<&str> =
                object["properties"].as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(asked[name], fields, "{name}");
            assert_eq!(object["additionalProperties"], false, "{name}");
            // What must be there must be there, and nothing else.
            for field in object["required"].as_array().unwrap() {
                assert!(fields.contains(field.as_str().unwrap()), "{name}: {field}");
            }
        }
    }
}
