//! Which part may know which. The picture is in `src/lib.rs`, the reasons are in CONTRIBUTING.

use std::fs;
use std::path::{Path, PathBuf};

/// A part, the modules of the crate that it may name, and whether it is pure.
const PARTS: &[(&str, &[&str], bool)] = &[
    ("object.rs", &[], true),
    ("rbac", &["object"], true),
    ("risk", &["object", "rbac"], true),
    ("ledger", &["object", "rbac", "risk"], true),
    ("source", &["object", "ledger"], false),
    (
        "export",
        &["object", "rbac", "risk", "ledger", "clock"],
        false,
    ),
];

/// What touches the world; a pure part names none of it.
const WORLD: &[&str] = &[
    "tokio",
    "kube::",
    "k8s_openapi",
    "hyper",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "SystemTime",
    "Instant",
    "Timestamp::now",
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
    entries
        .filter(|p| p.is_dir() || p.extension().is_some_and(|e| e == "rs"))
        .flat_map(|p| files(&p))
        .collect()
}

/// The code of a file: no comments, and no tests, which may use what they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|l| !l.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The words that follow `crate::` in a text, also in `crate::{a, b::c}`.
fn named(code: &str) -> Vec<String> {
    let mut out = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let list = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default(),
            None => rest,
        };
        let limit = if rest.starts_with('{') { usize::MAX } else { 1 };
        for item in list.split(',').take(limit) {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let item = item.trim_start();
            let end = item.find(|c| !word(c)).unwrap_or(item.len());
            out.push(item[..end].to_owned());
        }
    }
    out
}

#[test]
fn arrows_point_one_way() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (part, may, pure) in PARTS {
        let own = part.trim_end_matches(".rs");
        let found = files(&source.join(part));
        assert!(!found.is_empty(), "{part}");
        for path in found {
            let code = code(&path);
            for module in named(&code) {
                if module != own && !may.contains(&module.as_str()) {
                    wrong.push(format!("{} names crate::{module}", path.display()));
                }
            }
            for word in WORLD.iter().filter(|w| *pure && code.contains(**w)) {
                wrong.push(format!("{} is pure, but names {word}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_words_after_crate_are_found() {
    let code = "use crate::object::{A, B};\nuse crate::{rbac, risk::Priority};\nlet x = crate::run::y(a, b);";
    assert_eq!(named(code), ["object", "rbac", "risk", "run"]);
}
