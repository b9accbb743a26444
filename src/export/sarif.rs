//! Findings as SARIF 2.1.0, as code scanning services take it (GitHub: "SARIF support for code scanning").
//!
//! One result is one open finding of one subject, at the binding that grants it. A finding that every
//! subject has through a group is the group's alone, and `wildcard-admin` stands for all that it
//! implies: else one line of a chart would be a thousand alerts.

use super::report::{
    BindingEntry, FindingEntry, Reference, Report, SubjectEntry, object, printable, problem_line,
    step, written,
};
use crate::ledger::Severity;
use crate::risk::{Catalogue, Priority, Rule, Status};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Where the format is defined.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What every rule is about, for people who do not know it.
const HELP: &str = "https://kubernetes.io/docs/concepts/security/rbac-good-practices/";

/// GitHub refuses a run with more results; the worst are kept.
pub const MOST_RESULTS: usize = 25_000;

/// A log, and how many findings it leaves out.
#[derive(Debug)]
pub struct Log {
    /// The document.
    pub document: Value,
    /// Findings beyond [`MOST_RESULTS`].
    pub dropped: usize,
}

/// A finding with all that a result needs.
struct Found<'a> {
    subject: &'a SubjectEntry,
    finding: &'a FindingEntry,
    /// Its own, or that of the subject when it is the first step of its path.
    priority: Priority,
}

type Places<'a> = BTreeMap<&'a Reference, (&'a str, u32)>;

/// The report as a log. Paths below `root` are written relative to it.
pub fn log(report: &Report, catalogue: &Catalogue, version: &str, root: &Path) -> Log {
    let mut found: Vec<Found<'_>> = Vec::new();
    let named = named(&report.bindings);
    for subject in &report.subjects {
        let everything: BTreeSet<&str> = subject
            .findings
            .iter()
            .filter(|f| f.rule == "wildcard-admin")
            .map(|f| f.scope.as_str())
            .collect();
        for finding in &subject.findings {
            let implied =
                finding.rule != "wildcard-admin" && everything.contains(finding.scope.as_str());
            let own = finding.grants.iter().any(|g| {
                let bindings = named.get(&(subject.kind, &subject.namespace, &subject.name));
                bindings.is_some_and(|b| b.contains(&g.binding))
            });
            if finding.status == Status::Open
                && subject.status == Status::Open
                && finding.priority > Priority::None
                && !implied
                && own
            {
                let first = subject.path.first();
                let leads =
                    first.is_some_and(|s| (&s.edge, &s.scope) == (&finding.rule, &finding.scope));
                found.push(Found {
                    subject,
                    finding,
                    priority: if leads {
                        finding.priority.max(subject.priority)
                    } else {
                        finding.priority
                    },
                });
            }
        }
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.priority));
    let dropped = found.len().saturating_sub(MOST_RESULTS);
    found.truncate(MOST_RESULTS);
    let ids: BTreeSet<(&str, Priority)> = found
        .iter()
        .map(|f| (f.finding.rule.as_str(), f.priority))
        .collect();
    let index: BTreeMap<(&str, Priority), usize> =
        ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let by_id: BTreeMap<&str, &Rule> = catalogue.rules.iter().map(|r| (r.id.as_str(), r)).collect();
    let bindings: Vec<(Reference, &BindingEntry)> = report
        .bindings
        .iter()
        .map(|b| (reference(b.kind, &b.namespace, &b.name), b))
        .collect();
    let roles: Vec<(Reference, &super::report::RoleEntry)> = report
        .roles
        .iter()
        .map(|r| (reference(r.kind, &r.namespace, &r.name), r))
        .collect();
    let mut places: Places<'_> = BTreeMap::new();
    let of_bindings = bindings.iter().map(|(r, b)| (r, &b.file, b.line));
    let of_roles = roles.iter().map(|(r, e)| (r, &e.file, e.line));
    for (reference, file, line) in of_bindings.chain(of_roles) {
        if let (Some(file), Some(line)) = (file, line) {
            places.insert(reference, (file, line));
        }
    }
    let rules: Vec<Value> = ids
        .iter()
        .map(|(id, p)| descriptor(id, *p, by_id.get(id).copied()))
        .collect();
    let results: Vec<Value> = found
        .iter()
        .map(|f| {
            let index = index[&(f.finding.rule.as_str(), f.priority)];
            let rule = by_id.get(f.finding.rule.as_str()).copied();
            result(f, index, rule, &places, root)
        })
        .collect();
    let notifications: Vec<Value> = report
        .problems
        .iter()
        .map(|p| {
            let mut out = json!({
                "level": match p.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "message": {"text": message(&problem_line(p))},
            });
            if let Some(file) = &p.file {
                out["locations"] = json!([location(file, p.line.unwrap_or(1), root)]);
            }
            out
        })
        .collect();
    let document = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "rbac-exporter",
                "version": version,
                "semanticVersion": version.split(' ').next().unwrap_or_default(),
                "rules": rules,
            }},
            "invocations": [{
                "executionSuccessful": report.complete,
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    });
    Log { document, dropped }
}

fn reference(kind: &'static str, namespace: &str, name: &str) -> Reference {
    Reference {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

/// The bindings that name a subject itself, by kind, namespace and name.
fn named(bindings: &[BindingEntry]) -> BTreeMap<(&str, &str, &str), BTreeSet<Reference>> {
    let mut out: BTreeMap<(&str, &str, &str), BTreeSet<Reference>> = BTreeMap::new();
    for binding in bindings {
        for s in &binding.subjects {
            out.entry((s.kind, &s.namespace, &s.name))
                .or_default()
                .insert(reference(binding.kind, &binding.namespace, &binding.name));
        }
    }
    out
}

/// `error`, `warning`, `note`.
fn level(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical | Priority::High => "error",
        Priority::Medium => "warning",
        Priority::Low | Priority::None => "note",
    }
}

/// GitHub takes a severity from the rule alone and calls over 9.0 critical, from 7.0 high, from 4.0
/// medium; so a rule is described once for each priority that it has in this run.
fn descriptor(id: &str, priority: Priority, rule: Option<&Rule>) -> Value {
    let score = match priority {
        Priority::Critical => "9.5",
        Priority::High => "8.0",
        Priority::Medium => "5.5",
        Priority::Low => "2.0",
        Priority::None => "0.0",
    };
    let text = |of: fn(&Rule) -> &String| rule.map(of).map(String::as_str).unwrap_or_default();
    let (title, attack) = (text(|r| &r.title), text(|r| &r.attack));
    let (fix, references) = (text(|r| &r.remediation), text(|r| &r.references));
    let known = if references.is_empty() {
        String::new()
    } else {
        format!("\n\nKnown elsewhere as: {references}")
    };
    json!({
        "id": rule_id(id, priority),
        "name": id,
        "shortDescription": {"text": message(title)},
        "fullDescription": {"text": message(attack)},
        "help": {
            "text": message_lines(&format!("Attack: {attack}\n\nRemediation: {fix}{known}")),
            "markdown": format!(
                "**Attack.** {}\n\n**Remediation.** {}{}\n",
                prose(attack), prose(fix), known_markdown(references)
            ),
        },
        "helpUri": HELP,
        "defaultConfiguration": {"level": level(priority)},
        "properties": {
            "tags": ["security", "kubernetes", "rbac"],
            "precision": "very-high",
            "problem.severity": match level(priority) {
                "note" => "recommendation",
                other => other,
            },
            "security-severity": score,
        },
    })
}

fn known_markdown(references: &str) -> String {
    match references {
        "" => String::new(),
        _ => format!("\n\n**Known elsewhere as.** {}", prose(references)),
    }
}

fn rule_id(id: &str, priority: Priority) -> String {
    format!("{id}/{}", priority.as_str())
}

fn result(
    found: &Found<'_>,
    index: usize,
    rule: Option<&Rule>,
    places: &Places<'_>,
    root: &Path,
) -> Value {
    let Found {
        subject,
        finding,
        priority,
    } = found;
    let who = written(subject);
    let title = rule.map(|r| r.title.as_str()).unwrap_or_default();
    let where_ = match finding.scope.as_str() {
        "*" => "cluster-wide".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    let mut text = format!("{who} ({}): {title}, {where_}.", priority.as_str());
    if *priority > finding.priority {
        let steps: Vec<String> = subject.path.iter().map(step).collect();
        let _ = write!(text, " It becomes {}.", steps.join(" → "));
    }
    let grants = finding.grants.iter();
    let by: Vec<String> = grants
        .map(|g| format!("{} to {}", object(&g.binding), object(&g.role)))
        .collect();
    let _ = write!(text, " By {}.", by.join(" and "));
    if let Some(fix) = rule.map(|r| &r.remediation) {
        let _ = write!(text, " {fix}");
    }
    let id = rule_id(&finding.rule, *priority);
    let mut out = json!({
        "ruleId": id,
        "ruleIndex": index,
        "level": level(*priority),
        "message": {"text": message(&text)},
        "partialFingerprints": fingerprints(&who, finding),
    });
    // the binding is what one cuts; where it is not in a file, the role
    let objects = finding.grants.iter().map(|g| &g.binding);
    let mut objects = objects.chain(finding.grants.iter().map(|g| &g.role));
    let of = |r: &Reference, place: (&str, u32)| {
        let mut out = location(place.0, place.1, root);
        out["logicalLocations"] = json!([{
            "name": message(&r.name),
            "fullyQualifiedName": message(&object(r)),
            "kind": "resource",
        }]);
        out
    };
    let at = |r| places.get(r).map(|place| of(r, *place));
    out["locations"] = objects.find_map(at).into_iter().collect();
    let mut seen = BTreeSet::new();
    let related: Vec<Value> = objects
        .filter(|r| seen.insert(*r))
        .filter_map(|r| {
            let mut out = at(r)?;
            out["message"] = json!({"text": message(&object(r))});
            Some(out)
        })
        .collect();
    if !related.is_empty() {
        out["relatedLocations"] = related.into();
    }
    out
}

/// What makes it the same finding tomorrow: who, what and where it holds; no line and no binding.
fn fingerprints(who: &str, finding: &FindingEntry) -> Value {
    let mut hash = Sha256::new();
    for part in [who, &finding.rule, &finding.scope] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let hex: String = digest[..8].iter().map(|b| format!("{b:02x}")).collect();
    // GitHub looks at this name alone, and computes it from the text of the line when it is missing:
    // then two subjects of one binding were one alert
    json!({"primaryLocationLineHash": format!("{hex}:1"), "rbacExporterFinding/v1": hex})
}

fn location(file: &str, line: u32, root: &Path) -> Value {
    let path = Path::new(file);
    let relative = path.strip_prefix(root).unwrap_or(path);
    let relative = relative.strip_prefix(".").unwrap_or(relative);
    let encoded = uri(&relative.to_string_lossy());
    let artifact = if relative.is_absolute() {
        json!({"uri": format!("file://{encoded}")})
    } else {
        json!({"uri": encoded, "uriBaseId": "%SRCROOT%"})
    };
    json!({
        "physicalLocation": {
            "artifactLocation": artifact,
            "region": {"startLine": line.max(1)},
        },
    })
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and the slash.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// Text of a message. Brackets would begin a link (SARIF §3.11.6), braces a placeholder (§3.11.5).
fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '[' | ']' => out.extend(['\\', c]),
            '{' | '}' => out.extend([c, c]),
            _ => out.push(c),
        }
    }
    out
}

/// The same for text of our own lines.
fn message_lines(text: &str) -> String {
    text.lines().map(message).collect::<Vec<_>>().join("\n")
}

/// A sentence of the catalogue as Markdown: its code spans stay, links, mentions and HTML do not.
fn prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut span = false;
    for c in printable(text).chars() {
        span ^= c == '`';
        match c {
            '<' if !span => out.push_str("&lt;"),
            '&' if !span => out.push_str("&amp;"),
            '[' | ']' | '*' | '_' | '@' | '#' | '|' | '!' if !span => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    // one that does not end would take the rest of the text along
    if span {
        out = out.replace('`', "'");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("a b/ü:%#?.yaml"), "a%20b/%C3%BC%3A%25%23%3F.yaml");
        let at = |file: &str| {
            let place = location(file, 0, Path::new("/repo"));
            let artifact = &place["physicalLocation"]["artifactLocation"];
            artifact["uri"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(at("./deploy/a.yaml"), "deploy/a.yaml");
        assert_eq!(at("/repo/a.yaml"), "a.yaml");
        assert_eq!(at("/other/a b.yaml"), "file:///other/a%20b.yaml");
    }

    #[test]
    fn names_are_no_links_and_no_placeholders() {
        assert_eq!(
            message("[x](http://y) {0}\u{1b}"),
            "\\[x\\](http://y) {{0}}\\u{{1b}}"
        );
        assert_eq!(prose("a `b*` <i> @c"), "a `b*` &lt;i> \\@c");
        assert_eq!(prose("a `b"), "a 'b");
    }
}
