//! Checks values against JSON Schemas. A validator crate would bring dozens of packages for the twenty
//! keywords that our schemas and that of SARIF use; any other keyword fails.

use serde_json::Value;

/// What of the value is not as the schema says.
pub(crate) fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(schema, schema, value, "", &mut out);
    out
}

fn check(schema: &Value, root: &Value, value: &Value, place: &str, out: &mut Vec<String>) {
    if let Value::Bool(fits) = schema {
        if !fits {
            out.push(format!("{place}: not in the schema"));
        }
        return;
    }
    for (keyword, rule) in schema.as_object().unwrap() {
        let holds = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "definitions" | "title" | "description" | "default" => {
                true
            }
            "$ref" => {
                let target = rule.as_str().unwrap().strip_prefix('#').unwrap();
                check(root.pointer(target).unwrap(), root, value, place, out);
                true
            }
            "type" => {
                let named = |t: &Value| match t.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "null" => value.is_null(),
                    other => panic!("type {other}"),
                };
                match rule {
                    Value::Array(types) => types.iter().any(named),
                    one => named(one),
                }
            }
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|v| v >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|v| v <= rule.as_f64().unwrap()),
            "minItems" => value
                .as_array()
                .is_none_or(|a| a.len() as u64 >= rule.as_u64().unwrap()),
            "uniqueItems" => value.as_array().is_none_or(|a| {
                let mut seen = std::collections::BTreeSet::new();
                rule == false || a.iter().all(|item| seen.insert(item.to_string()))
            }),
            "pattern" => value.as_str().is_none_or(|text| {
                let pattern = regex_lite::Regex::new(rule.as_str().unwrap()).unwrap();
                pattern.is_match(text)
            }),
            "format" => value
                .as_str()
                .is_none_or(|text| match rule.as_str().unwrap() {
                    // RFC 3986: these characters and no others, a percent sign before two hex digits
                    "uri" | "uri-reference" => {
                        let pattern = "^([A-Za-z0-9._~:/?#\\[\\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*$";
                        let absolute = regex_lite::Regex::new("^[A-Za-z][A-Za-z0-9+.-]*:").unwrap();
                        regex_lite::Regex::new(pattern).unwrap().is_match(text)
                            && (rule == "uri-reference" || absolute.is_match(text))
                    }
                    "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
                    other => panic!("format {other}"),
                }),
            "anyOf" | "oneOf" => {
                let fits = |schema: &&Value| {
                    let mut wrong = Vec::new();
                    check(schema, root, value, place, &mut wrong);
                    wrong.is_empty()
                };
                let fitting = rule.as_array().unwrap().iter().filter(fits).count();
                fitting == 1 || (fitting > 1 && keyword == "anyOf")
            }
            "required" => value.as_object().is_none_or(|o| {
                let mut names = rule.as_array().unwrap().iter();
                names.all(|n| o.contains_key(n.as_str().unwrap()))
            }),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, root, item, &format!("{place}/{i}"), out);
                }
                true
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = rule.get(name) {
                        check(schema, root, value, &format!("{place}/{name}"), out);
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let place = format!("{place}/{name}");
                    let known = schema.get("properties").and_then(|p| p.get(name));
                    if known.is_some() {
                        continue;
                    }
                    check(rule, root, value, &place, out);
                }
                true
            }
            other => panic!("the schema uses {other}, which this check does not know"),
        };
        if !holds {
            out.push(format!("{place}: {keyword} {rule}: {value}"));
        }
    }
}

#[test]
fn what_breaks_a_schema_is_found() {
    let schema = serde_json::json!({
        "type": "object",
        "required": ["a"],
        "additionalProperties": false,
        "properties": {
            "a": {"type": "integer", "minimum": 1, "maximum": 2},
            "b": {"type": "array", "minItems": 1, "uniqueItems": true, "items": {"enum": ["x", "y"]}},
            "c": {"type": "string", "pattern": "^[0-9]+$"},
            "d": {"type": "string", "format": "uri-reference"},
            "e": {"type": "string", "format": "uri"},
            "f": {"oneOf": [{"required": ["x"]}, {"required": ["y"]}]},
            "g": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/one"}]},
            "h": {"type": "string", "format": "date-time"},
        },
        "definitions": {"one": {"type": "number", "maximum": 1}},
    });
    let sound = serde_json::json!({
        "a": 2, "b": ["x", "y"], "c": "17", "d": "a%20b/c", "e": "file:///a", "f": {"x": 1}, "g": 0.5,
        "h": "2026-01-01T00:00:00Z",
    });
    assert_eq!(violations(&schema, &sound), Vec::<String>::new());
    for (field, wrong) in [
        ("a", serde_json::json!(3)),
        ("a", serde_json::json!("1")),
        ("b", serde_json::json!([])),
        ("b", serde_json::json!(["x", "x"])),
        ("b", serde_json::json!(["z"])),
        ("c", serde_json::json!("a")),
        ("d", serde_json::json!("a b")),
        ("d", serde_json::json!("a%2")),
        ("e", serde_json::json!("a/b")),
        ("f", serde_json::json!({"x": 1, "y": 1})),
        ("g", serde_json::json!(2)),
        ("h", serde_json::json!("yesterday")),
        ("z", serde_json::json!(1)),
    ] {
        let mut value = sound.clone();
        value[field] = wrong;
        assert_ne!(violations(&schema, &value), Vec::<String>::new(), "{value}");
    }
    let mut without = sound;
    without.as_object_mut().unwrap().remove("a");
    assert_ne!(violations(&schema, &without), Vec::<String>::new());
}
