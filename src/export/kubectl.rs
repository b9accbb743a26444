//! Commands that take entries out of bindings. They are printed, never run.

use crate::ledger::CutEntry;
use crate::object::{SERVICE_ACCOUNT_USER_PREFIX, Spelling, Subject};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One command a binding: it is deleted when none of its entries is left, and else patched. A patch first
/// tests that the entries stand where they stood, so that it changes nothing when somebody was faster.
pub(super) fn commands(cut: &[CutEntry], context: Option<&str>) -> Vec<String> {
    let mut bindings: BTreeMap<(&str, &str), Vec<&CutEntry>> = BTreeMap::new();
    for entry in cut {
        let grant = &entry.grant;
        let at = (grant.binding_namespace.as_str(), grant.binding.as_str());
        bindings.entry(at).or_default().push(entry);
    }
    bindings
        .into_iter()
        .map(|((namespace, name), mut entries)| {
            // from the end, so that no place moves before its turn
            entries.sort_by_key(|e| std::cmp::Reverse(e.index));
            command(namespace, name, &entries, context)
        })
        .collect()
}

fn command(namespace: &str, name: &str, entries: &[&CutEntry], context: Option<&str>) -> String {
    let whole = entries
        .first()
        .is_some_and(|e| e.entries as usize == entries.len());
    let mut out = "kubectl".to_owned();
    if let Some(context) = context {
        let _ = write!(out, " --context={}", quoted(context));
    }
    out.push_str(if whole { " delete" } else { " patch" });
    if namespace.is_empty() {
        out.push_str(" clusterrolebinding");
    } else {
        let _ = write!(out, " rolebinding --namespace={}", quoted(namespace));
    }
    if !whole {
        let operations: Vec<Value> = entries.iter().flat_map(|e| operations(e)).collect();
        let patch = harmless_json(&Value::Array(operations).to_string());
        let _ = write!(out, " --type=json --patch={}", quoted(&patch));
    }
    // behind -- a name that begins with a dash is no flag
    let dash = if name.starts_with('-') { " --" } else { "" };
    let _ = write!(out, "{dash} {}", quoted(name));
    out
}

fn operations(entry: &CutEntry) -> Vec<Value> {
    let at = format!("/subjects/{}", entry.index);
    let test = |field: &str, value: &str| json!({"op": "test", "path": format!("{at}/{field}"), "value": value});
    let mut out = match (&entry.subject, entry.spelling) {
        (Subject::Group { name }, _) => vec![test("kind", "Group"), test("name", name)],
        (Subject::User { name }, _) => vec![test("kind", "User"), test("name", name)],
        (Subject::ServiceAccount { namespace, name }, Spelling::UserName) => {
            let user = format!("{SERVICE_ACCOUNT_USER_PREFIX}{namespace}:{name}");
            vec![test("kind", "User"), test("name", &user)]
        }
        (Subject::ServiceAccount { namespace, name }, spelling) => {
            let mut tests = vec![test("kind", "ServiceAccount"), test("name", name)];
            if spelling == Spelling::Plain {
                tests.push(test("namespace", namespace));
            }
            tests
        }
    };
    out.push(json!({"op": "remove", "path": at}));
    out
}

fn odd(c: char) -> bool {
    crate::export::report::printable(c.encode_utf8(&mut [0; 4])).starts_with('\\') && c != '\\'
}

/// JSON may write any character as an escape, and so none turns the direction of a terminal's text.
fn harmless_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if odd(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// One word of a shell. Characters that a terminal would act on are written as bytes, in the quotes
/// that bash, zsh, ksh and POSIX.1-2024 have for them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    if !text.chars().any(odd) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let mut out = "$'".to_owned();
    for c in text.chars() {
        if odd(c) {
            // three octal digits, so that no digit behind them belongs to them
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "\\{byte:03o}");
            }
        } else if matches!(c, '\'' | '\\') {
            out.extend(['\\', c]);
        } else {
            out.push(c);
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Grant;
    use std::process::Command;

    fn entry(at: (&str, &str), who: &str, index: u32, entries: u32) -> CutEntry {
        CutEntry {
            grant: Grant {
                binding_namespace: at.0.into(),
                binding: at.1.into(),
                cluster_role: true,
                role: "r".into(),
            },
            subject: Subject::parse(who).unwrap(),
            spelling: Spelling::Plain,
            index,
            entries,
            origin: None,
        }
    }

    #[test]
    fn a_binding_is_deleted_or_patched() {
        let cut = [
            entry(("", "all"), "user:a", 0, 1),
            entry(("app", "b"), "sa:app/x", 0, 3),
            entry(("app", "b"), "group:g", 2, 3),
        ];
        let patch = r#"[{"op":"test","path":"/subjects/2/kind","value":"Group"},{"op":"test","path":"/subjects/2/name","value":"g"},{"op":"remove","path":"/subjects/2"},{"op":"test","path":"/subjects/0/kind","value":"ServiceAccount"},{"op":"test","path":"/subjects/0/name","value":"x"},{"op":"test","path":"/subjects/0/namespace","value":"app"},{"op":"remove","path":"/subjects/0"}]"#;
        assert_eq!(
            commands(&cut, Some("prod eu")),
            [
                "kubectl --context='prod eu' delete clusterrolebinding all".to_owned(),
                format!(
                    "kubectl --context='prod eu' patch rolebinding --namespace=app --type=json --patch='{patch}' b"
                ),
            ]
        );
    }

    #[test]
    fn an_entry_is_tested_as_it_is_written() {
        let mut user = entry(("app", "b"), "sa:app/x", 1, 2);
        user.spelling = Spelling::UserName;
        let text = commands(&[user.clone()], None).remove(0);
        assert!(
            text.contains(r#""value":"system:serviceaccount:app:x""#),
            "{text}"
        );
        user.spelling = Spelling::NoNamespace;
        let text = commands(&[user], None).remove(0);
        assert!(
            text.contains("ServiceAccount") && !text.contains("/namespace"),
            "{text}"
        );
    }

    #[test]
    fn no_name_leaves_its_word() {
        for hostile in [
            "a b",
            "it's",
            "$(touch x)`id`;&|<>*?~!#\"",
            "-rf",
            "",
            "back\\slash",
            "new\nline",
            "\u{1b}[31m0red'\\",
            "\u{202e}evil\u{0007}7",
        ] {
            let word = quoted(hostile);
            let bare = format!("printf %s {word}; printf .");
            let ran = Command::new("bash").args(["-c", &bare]).output().unwrap();
            let got = String::from_utf8(ran.stdout).unwrap();
            assert_eq!(got, format!("{hostile}."), "{word}");
            assert_eq!(crate::export::report::printable(&word), word);
            let json = harmless_json(&Value::from(hostile).to_string());
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
            assert_eq!(crate::export::report::printable(&json), json);
        }
        assert!(commands(&[entry(("", "-x"), "user:a", 0, 1)], None)[0].ends_with(" -- -x"));
    }
}
