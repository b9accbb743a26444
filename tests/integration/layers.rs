//! The layers hold: `object ← rbac ← risk ← ledger ← compare` and `ledger ← {source, export}`, the first
//! five free of I/O, the last two strangers to each other. The sources themselves are read, so no crate boundary is needed.

use std::fs;
use std::path::Path;

/// The pure layers, each with those that it may name.
const PURE: [(&str, &[&str]); 8] = [
    ("spelling", &[]),
    ("located", &["spelling"]),
    ("object", &[]),
    ("rbac", &["object"]),
    ("risk", &["located", "object", "rbac", "spelling"]),
    ("config", &["located", "object", "rbac", "risk", "spelling"]),
    ("ledger", &["object", "rbac", "risk"]),
    ("compare", &["object", "rbac", "risk", "ledger"]),
];

/// A crate on the list below that a pure layer may use after all: dates are calendar, not clock.
const ALLOWED: [(&str, &str); 1] = [("config", "jiff")];

/// Layers with I/O, each with those that it may not name.
const OUTER: [(&str, &[&str]); 2] = [
    (
        "source",
        &["compare", "config", "export", "rbac", "risk", "run", "cli"],
    ),
    ("export", &["config", "source", "run", "cli"]),
];

/// Crates that pure layers do not know.
const CRATES: [&str; 13] = [
    "jiff",
    "rustls",
    "bytes",
    "futures_util",
    "tokio",
    "kube",
    "k8s_openapi",
    "hyper",
    "hyper_util",
    "http_body_util",
    "socket2",
    "tracing",
    "arc_swap",
];

/// Paths of the standard library that pure layers do not know: files, sockets, processes, the clock.
const STD: [&str; 8] = [
    "std::thread",
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::io",
    "std::time::SystemTime",
    "std::time::Instant",
];

/// A word or a sign, with its line.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    line: usize,
    text: String,
}

/// Rust in words and signs, less comments and the insides of strings.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                while i < chars.len() && !(at(i) == '*' && at(i + 1) == '/') {
                    i += 1;
                }
                i += 2;
            }
            'r' if at(i + 1) == '"' || (at(i + 1) == '#' && "#\"".contains(at(i + 2))) => {
                let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
                let end: String = std::iter::once('"')
                    .chain("#".repeat(hashes).chars())
                    .collect();
                let rest: String = chars[i + hashes + 2..].iter().collect();
                let length = rest
                    .find(&end)
                    .map_or(rest.chars().count(), |b| rest[..b].chars().count());
                i += hashes + 2 + length + end.len();
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                let text = chars[start..i].iter().collect();
                out.push(Token { line, text });
            }
            ':' if at(i + 1) == ':' => {
                out.push(Token {
                    line,
                    text: "::".into(),
                });
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    out.push(Token {
                        line,
                        text: c.into(),
                    });
                }
                i += 1;
            }
        }
        let end = i.min(chars.len());
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    out
}

/// Every path, those of braces spelt out, with the line of its last word.
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    fn read(
        tokens: &[Token],
        i: &mut usize,
        before: &[String],
        out: &mut Vec<(usize, Vec<String>)>,
    ) {
        let mut path = before.to_vec();
        let mut line = tokens[*i].line;
        while let Some(token) = tokens.get(*i) {
            if token.text == "{" && !path.is_empty() {
                *i += 1;
                while tokens.get(*i).is_some_and(|t| t.text != "}") {
                    if tokens[*i].text == "," {
                        *i += 1;
                    } else {
                        read(tokens, i, &path, out);
                    }
                }
                *i += 1;
                return;
            }
            line = token.line;
            path.push(token.text.clone());
            *i += 1;
            if tokens.get(*i).is_none_or(|t| t.text != "::") {
                break;
            }
            *i += 1;
        }
        out.push((line, path));
    }
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if tokens[i]
            .text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
        {
            read(tokens, &mut i, &[], &mut out);
        } else {
            i += 1;
        }
    }
    out
}

/// What breaks the layers in one file, by line. `file` is relative to src/.
fn breaches(file: &str, text: &str) -> Vec<String> {
    let modules: Vec<&str> = file
        .trim_end_matches(".rs")
        .split('/')
        .filter(|m| *m != "mod")
        .collect();
    let layer = modules[0];
    let pure = PURE.iter().find(|(name, _)| *name == layer);
    let outer = OUTER.iter().find(|(name, _)| *name == layer);
    let is_layer =
        |name: &str| PURE.iter().any(|(n, _)| *n == name) || OUTER.iter().any(|(n, _)| *n == name);
    let mut out = Vec::new();
    for (line, path) in paths(&tokens(text)) {
        let mut say = |what: String| out.push(format!("src/{file}:{line}: {layer} {what}"));
        let supers = path.iter().take_while(|p| *p == "super").count();
        // in an inline module the first `super` is the file's own module: then what follows is no layer
        let top = match path[0].as_str() {
            "crate" | "rbac_exporter" => path.get(1),
            "super" if supers >= modules.len() => path.get(supers).filter(|p| is_layer(p)),
            _ => None,
        };
        if let Some(named) = top.filter(|n| *n != layer) {
            if pure.is_some_and(|(_, may)| !may.contains(&named.as_str())) {
                say(format!("may not name {named}"));
            }
            if outer.is_some_and(|(_, not)| not.contains(&named.as_str())) {
                say(format!("may not name {named}"));
            }
        }
        if pure.is_none() {
            continue;
        }
        let allowed = ALLOWED.contains(&(layer, path[0].as_str()));
        if CRATES.contains(&path[0].as_str()) && path.len() > 1 && !allowed {
            say(format!("may not use {}", path[0]));
        }
        let whole = path.join("::");
        if let Some(what) = STD.iter().find(|p| {
            let below = format!("{p}::");
            whole == **p || whole.starts_with(&below)
        }) {
            say(format!("may not use {what}"));
        }
    }
    out
}

fn walk(dir: &Path, each: &mut dyn FnMut(&Path)) {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, each);
        } else if path.extension().is_some_and(|e| e == "rs") {
            each(&path);
        }
    }
}

#[test]
fn every_source_file_keeps_to_its_layer() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    walk(&src, &mut |path| {
        let file = path
            .strip_prefix(&src)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        wrong.extend(breaches(&file, &fs::read_to_string(path).unwrap()));
        seen.push(file);
    });
    for (layer, _) in PURE {
        let inside =
            |f: &String| *f == format!("{layer}.rs") || f.starts_with(&format!("{layer}/"));
        assert!(seen.iter().any(inside), "no file of {layer}: has it moved?");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Calls that reach a file, the clock or a stream without naming it.
#[test]
fn pure_layers_call_nothing_that_reaches_outside() {
    const CALLS: [&str; 8] = [
        "::now(",
        ".exists()",
        ".is_file()",
        ".is_dir()",
        ".canonicalize(",
        "println!(",
        "print!(",
        "thread::",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = ["object.rs", "located.rs", "spelling.rs"]
        .map(|file| src.join(file))
        .to_vec();
    open.extend(["compare", "config", "rbac", "risk", "ledger"].map(|layer| src.join(layer)));
    let mut looked_at = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        looked_at += 1;
        for (i, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let call = CALLS.iter().find(|call| code.contains(**call));
            assert!(call.is_none(), "{}:{}: {code}", path.display(), i + 1);
        }
    }
    assert!(looked_at > 20, "{looked_at} files");
}

#[test]
fn breaches_are_found_with_file_and_line() {
    for (file, text, expected) in [
        (
            "rbac/mod.rs",
            "\nuse crate::risk::Priority;",
            "src/rbac/mod.rs:2: rbac may not name risk",
        ),
        (
            "risk/a.rs",
            "use crate::{object::Subject,\n ledger::Ledger};",
            "src/risk/a.rs:2: risk may not name ledger",
        ),
        (
            "risk/a.rs",
            "fn f() { super::super::ledger::f() }",
            "src/risk/a.rs:1: risk may not name ledger",
        ),
        (
            "object.rs",
            "fn f() { std::fs::read(\"x\"); }",
            "src/object.rs:1: object may not use std::fs",
        ),
        (
            "ledger/a.rs",
            "use std::{collections::BTreeMap, time::{Duration, SystemTime}};",
            "src/ledger/a.rs:1: ledger may not use std::time::SystemTime",
        ),
        (
            "ledger/a/b.rs",
            "// x\n/* y\n */ async fn f() { tokio::spawn(g()); }",
            "src/ledger/a/b.rs:3: ledger may not use tokio",
        ),
        (
            "ledger/a.rs",
            "const C: char = '\"'; use kube::Api;",
            "src/ledger/a.rs:1: ledger may not use kube",
        ),
        (
            "export/a.rs",
            "use crate::source::Source;",
            "src/export/a.rs:1: export may not name source",
        ),
        (
            "source/a.rs",
            "\n\nuse crate::{export, ledger};",
            "src/source/a.rs:3: source may not name export",
        ),
        (
            "rbac/a.rs",
            "use crate::settings::X;",
            "src/rbac/a.rs:1: rbac may not name settings",
        ),
    ] {
        assert_eq!(breaches(file, text), [expected], "{text}");
    }
    for (file, text) in [
        (
            "risk/a.rs",
            "use crate::rbac::Bits; use crate::risk::Priority; use super::x;",
        ),
        (
            "ledger/a.rs",
            "// std::fs, tokio::spawn, crate::export\nconst X: &str = \"crate::source\";",
        ),
        (
            "ledger/a.rs",
            "const X: &str = r#\"use \"kube::Api\"#; fn f<'a>(x: &'a str) -> &'a str { x }",
        ),
        (
            "ledger/table.rs",
            "mod tests { use super::super::names::Names; }",
        ),
        (
            "ledger/a.rs",
            "use std::{collections::BTreeMap, time::Duration};",
        ),
        (
            "export/a.rs",
            "use crate::{ledger::Ledger, log}; use tokio::net::TcpListener;",
        ),
        ("main.rs", "use rbac_exporter::{export, source};"),
    ] {
        assert!(
            breaches(file, text).is_empty(),
            "{text}: {:?}",
            breaches(file, text)
        );
    }
}
