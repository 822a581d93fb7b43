//! The published schema of SARIF 2.1.0, as the crate `serde-sarif` carries it in its sources.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The schema's text: beside the crate's manifest, which cargo knows.
fn schema() -> Option<Value> {
    // Of what other platforms need there may be nothing here.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(["--filter-platform", &platform, "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .ok()?;
    let metadata: Value = serde_json::from_slice(&output.stdout).ok()?;
    let mut packages = metadata["packages"].as_array()?.iter();
    let package = packages.find(|package| package["name"] == "serde-sarif")?;
    let folder = Path::new(package["manifest_path"].as_str()?).parent()?;
    let text = std::fs::read(folder.join("src/schema.json")).ok()?;
    let mut schema: Value = serde_json::from_slice(&text).ok()?;
    // An expression with a bracket too many, of a field that is not written here.
    for of in ["run", "toolComponent"] {
        let language = schema["definitions"][of]["properties"]["language"].as_object_mut();
        language.and_then(|language| language.remove("pattern"));
    }
    Some(schema)
}

/// Demands that a log is valid.
#[track_caller]
pub fn is_valid(log: &Value) {
    let Some(schema) = schema() else {
        strait_testkit::skip("the schema of SARIF", "cargo does not find serde-sarif's sources");
        return;
    };
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(log).map(|one| format!("{}: {one}", one.instance_path())).collect();
    assert_eq!(errors, [""; 0]);
    // The schema is one that refuses.
    let mut wrong = log.clone();
    wrong["runs"][0]["results"][0]["levle"] = "error".into();
    assert!(!validator.is_valid(&wrong));
}
