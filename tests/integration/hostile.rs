//! Names, labels, paths and reasons that would like to be more than text change neither a terminal nor
//! SARIF nor Markdown.

use crate::command::run;
use crate::sarif;
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// What a name may try; each also with what is harmless around it.
const TRICKS: [&str; 12] = [
    "\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}",
    "line\nbreak\r\n- item\n\n# heading",
    "pipe | in | a | table |\n|---|",
    "`tick` ``` fence ``` end`",
    "[link](https://evil.example) ![image](https://evil.example/x.png)",
    "<img src=x onerror=alert(1)><script>alert(1)</script><!-- ",
    "@admin @org/team #1 GH-1",
    "right\u{202e}tfel\u{2066}x\u{2069}\u{200f}",
    "{0} {{1}} {x}",
    "*bold* _em_ ~~gone~~ **",
    "zero\u{200b}width\u{feff}",
    "tab\tnull\u{0}bell\u{7}",
];

struct World {
    dir: TempDir,
}

impl World {
    /// Names and labels of every kind, in a file whose name is no better. `extra` is what NEW has more.
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&new).unwrap();
        fs::write(old.join("empty.yaml"), "").unwrap();
        for (i, trick) in TRICKS.iter().enumerate() {
            let quoted = |text: &str| serde_json::to_string(text).unwrap();
            let name = quoted(&format!("{i} {trick}"));
            let text = format!(
                "{{\"apiVersion\": \"rbac.authorization.k8s.io/v1\", \"kind\": \"ClusterRole\",
                  \"metadata\": {{\"name\": {name}, \"labels\": {{{name}: {name}}}}},
                  \"aggregationRule\": {{\"clusterRoleSelectors\": [{{\"matchLabels\": {{{name}: {name}}}}}]}},
                  \"rules\": [{{\"apiGroups\": [\"\", {name}], \"resources\": [\"secrets\", {name}],
                               \"verbs\": [\"list\", {name}]}}]}}
                 {{\"apiVersion\": \"rbac.authorization.k8s.io/v1\", \"kind\": \"ClusterRoleBinding\",
                  \"metadata\": {{\"name\": {name}}},
                  \"roleRef\": {{\"apiGroup\": \"rbac.authorization.k8s.io\", \"kind\": \"ClusterRole\", \"name\": {name}}},
                  \"subjects\": [{{\"kind\": \"User\", \"name\": {name}}}, {{\"kind\": \"Group\", \"name\": {name}}}]}}
                 {{\"apiVersion\": \"rbac.authorization.k8s.io/v1\", \"kind\": \"RoleBinding\",
                  \"metadata\": {{\"name\": {name}, \"namespace\": {name}}},
                  \"roleRef\": {{\"apiGroup\": \"rbac.authorization.k8s.io\", \"kind\": \"ClusterRole\", \"name\": \"missing\"}},
                  \"subjects\": [{{\"kind\": \"ServiceAccount\", \"name\": {name}, \"namespace\": {name}}}]}}
                 {{\"apiVersion\": {name}, \"kind\": {name}, \"metadata\": {{\"name\": {name}}}}}
                 {{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {{\"name\": 1}}}}\n"
            );
            let file: String = trick.chars().filter(|c| *c != '/' && *c != '\0').collect();
            fs::write(new.join(format!("{i} {file}.json")), text).unwrap();
        }
        World { dir }
    }

    fn run(&self, args: &[&str]) -> String {
        let path = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        let (old, new) = (path("old"), path("new"));
        let args: Vec<&str> = args
            .iter()
            .map(|a| match *a {
                "OLD" => old.as_str(),
                "NEW" => new.as_str(),
                other => other,
            })
            .collect();
        let ran = run(&args);
        assert!(ran.code == 0 || ran.code == 3, "{}", ran.err);
        for text in [&ran.out, &ran.err] {
            harmless(text);
        }
        ran.out
    }
}

/// No character that a terminal obeys, or that turns or hides text.
fn harmless(text: &str) {
    for c in text.chars() {
        let odd = (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        assert!(!odd, "{c:?} in {text}");
    }
}

#[test]
fn no_terminal_is_changed() {
    let world = World::new();
    for show in ["subjects", "pods", "roles", "bindings"] {
        let out = world.run(&["scan", "--source.manifests", "NEW", "--show", show]);
        let rows = out.lines().filter(|l| {
            ["critical", "high", "medium", "low"]
                .iter()
                .any(|p| l.starts_with(p))
        });
        let expected = match show {
            "subjects" => 2 * TRICKS.len(),
            "pods" => 0,
            _ => TRICKS.len(),
        };
        assert_eq!(rows.count(), expected, "{show}: a row an entry\n{out}");
    }
    world.run(&["diff", "OLD", "NEW"]);
    world.run(&["diff", "NEW", "OLD"]);
}

#[test]
fn sarif_stays_sarif() {
    let world = World::new();
    let new = world.dir.path().join("new");
    let log = sarif::log(new.to_str().unwrap());
    // every trick has its result, and none has two
    for (i, trick) in TRICKS.iter().enumerate() {
        let mine = sarif::results(&log).iter().filter(|r| {
            r["message"]["text"]
                .as_str()
                .unwrap()
                .starts_with(&format!("user:{i} "))
        });
        assert_eq!(mine.count(), 1, "{trick:?}");
    }
    let mut strings = Vec::new();
    texts(&log, &mut strings);
    assert!(strings.len() > 100);
    for text in strings {
        harmless(text);
    }
    for result in sarif::results(&log) {
        let text = result["message"]["text"].as_str().unwrap();
        // a bracket that begins a link is one without a backslash (§3.11.6); placeholders are single braces
        let link = regex_lite::Regex::new(r"(^|[^\\])\[[^\]]*\]\(").unwrap();
        assert!(!link.is_match(text), "{text}");
        let placeholder = regex_lite::Regex::new(r"(^|[^{])\{[0-9]+\}([^}]|$)").unwrap();
        assert!(!placeholder.is_match(text), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

/// Every text of a value that people are shown.
fn texts<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        // our own line breaks in the help of a rule
        Value::Object(fields) => fields.iter().for_each(|(_, v)| texts(v, out)),
        Value::Array(items) => items.iter().for_each(|v| texts(v, out)),
        _ => {}
    }
}

#[test]
fn markdown_keeps_its_structure() {
    let world = World::new();
    for sides in [["OLD", "NEW"], ["NEW", "OLD"]] {
        let out = world.run(&["diff", sides[0], sides[1], "-o", "markdown"]);
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("<!-- rbac-exporter diff -->"));
        assert!(out.len() < 65_536);
        let mut items = 0;
        for line in lines {
            let bare = without_spans(line);
            items += usize::from(bare.starts_with("- "));
            // what is left is ours: no link, no image, no mention, no HTML, no table, no fence
            for sign in ["[", "]", "<", "@", "|", "#1", "evil", "`", "~~", "_", "\\"] {
                assert!(!bare.contains(sign), "{sign} outside of code: {line}");
            }
            let starts = [
                "- ",
                "  - ",
                "### RBAC: ",
                "From ",
                "Objects ",
                "**Not ",
                "… ",
            ];
            let ours = bare.is_empty()
                || bare.starts_with(|c: char| c.is_ascii_digit())
                || starts.iter().any(|s| bare.starts_with(s));
            assert!(ours, "{line}");
        }
        assert!(items >= TRICKS.len(), "{items}");
    }
}

/// The line without its code spans, read as CommonMark reads them: a run of backticks up to the next
/// run of the same length.
fn without_spans(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('`') {
        out.push_str(&rest[..at]);
        let run = rest[at..].chars().take_while(|c| *c == '`').count();
        let body = &rest[at + run..];
        let mut end = None;
        let mut from = 0;
        while let Some(next) = body[from..].find('`') {
            let start = from + next;
            let length = body[start..].chars().take_while(|c| *c == '`').count();
            if length == run {
                end = Some(start + length);
                break;
            }
            from = start + length;
        }
        match end {
            Some(end) => rest = &body[end..],
            None => {
                out.push_str(&rest[at..]);
                return out;
            }
        }
    }
    out + rest
}
