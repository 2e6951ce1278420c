//! As much of JSON Schema as the schemas of this command use.

use serde_json::Value;

use super::{Scratch, sardonyx};

/// Checks a document against the schema that the command itself prints.
pub fn fits(command: &str, document: &Value) {
    let schema = sardonyx(&Scratch::new(&format!("schema-{command}")), &["schema", command]).json();
    check(&schema, document, command);
}

fn check(schema: &Value, value: &Value, at: &str) {
    if let Some(wanted) = schema.get("const") {
        assert_eq!(value, wanted, "{at}");
    }
    if let Some(all) = schema["enum"].as_array() {
        assert!(all.contains(value), "{at}: {value} is none of {all:?}");
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => Vec::new(),
    };
    let has = |kind: &&str| match *kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{at}: the schema has a type {other}"),
    };
    assert!(types.is_empty() || types.iter().any(has), "{at}: {value} is no {types:?}");
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(object.contains_key(name.as_str().unwrap()), "{at}: no {name}");
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) | (None, Some(schema)) => check(schema, value, &at),
                (None, None) => {}
            }
        }
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], value, &format!("{at}[{index}]"));
    }
}

#[test]
fn every_schema_is_there() {
    let scratch = Scratch::new("schemas");
    for command in [
        "bench",
        "bench-kernel",
        "check",
        "compare",
        "conformance",
        "devices",
        "doctor",
        "eval",
        "explain",
        "inspect",
        "profile",
        "quantize",
        "run",
    ] {
        let ended = sardonyx(&scratch, &["schema", command]);
        assert_eq!(ended.json()["title"], format!("sardonyx.{command}/1"));
    }
    assert_eq!(sardonyx(&scratch, &["schema", "dance"]).code, 2);
    let gates = sardonyx(&scratch, &["schema", "bench", "--gates"]).out;
    assert!(gates.lines().any(|line| line == "p95_ms"), "{gates}");
}
