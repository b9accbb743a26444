//! As much PromQL as it takes to check what expressions ask for: selectors, label lists, ranges.

use rbac_exporter::export::metrics::{Kind, TABLE};
use rbac_exporter::ledger::FaultReason;
use rbac_exporter::risk::{Priority, Status};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A metric and what is asked of its labels.
#[derive(Debug, PartialEq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// Words (metric names with colons and Grafana's variables among them), quoted texts, signs.
fn tokens(expression: &str) -> Vec<Token> {
    let mut found = vec![];
    let mut rest = expression.chars().peekable();
    while let Some(&c) = rest.peek() {
        if c == '"' || c == '\'' {
            rest.next();
            let mut inside = String::new();
            for c2 in rest.by_ref() {
                if c2 == c {
                    break;
                }
                inside.push(c2);
            }
            found.push(Token::Text(inside));
        } else if c == '#' {
            while rest.next_if(|c| *c != '\n').is_some() {}
        } else if c.is_alphanumeric() || "_:$.".contains(c) {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || "_:$.".contains(*c)) {
                word.push(c);
            }
            found.push(Token::Word(word));
        } else {
            if !c.is_whitespace() {
                found.push(Token::Sign(c));
            }
            rest.next();
        }
    }
    found
}

const KEYWORDS: [&str; 13] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "inf",
    "nan",
];

fn is_name(word: &str) -> bool {
    let first = word.chars().next();
    first.is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// Label lists, `by (a, b)` and the like: positions of the words in them.
fn listed(tokens: &[Token]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for (i, token) in tokens.iter().enumerate() {
        let list =
            matches!(token, Token::Word(w) if KEYWORDS[..6].contains(&w.to_lowercase().as_str()));
        if list && tokens.get(i + 1) == Some(&Token::Sign('(')) {
            let end = tokens[i..].iter().position(|t| *t == Token::Sign(')'));
            found.extend(i + 2..i + end.expect("a list ends"));
        }
    }
    found
}

/// Labels that an expression groups, joins or carries over by.
pub(crate) fn labels(expression: &str) -> BTreeSet<String> {
    let tokens = tokens(expression);
    let words = listed(&tokens)
        .into_iter()
        .filter_map(|i| match &tokens[i] {
            Token::Word(word) => Some(word.clone()),
            _ => None,
        });
    words.collect()
}

/// The metrics of an expression.
pub(crate) fn selectors(expression: &str) -> Vec<Selector> {
    let tokens = tokens(expression);
    let listed = listed(&tokens);
    let mut found = vec![];
    let mut i = 0;
    while i < tokens.len() {
        let next = tokens.get(i + 1);
        let metric = match &tokens[i] {
            Token::Word(w)
                if is_name(w)
                    && !listed.contains(&i)
                    && !KEYWORDS.contains(&w.to_lowercase().as_str())
                    && next != Some(&Token::Sign('('))
                    // sum by (…) (…)
                    && !matches!(next, Some(Token::Word(w)) if w == "by" || w == "without") =>
            {
                w.clone()
            }
            _ => {
                // A duration in brackets is no metric.
                if tokens[i] == Token::Sign('[') {
                    while tokens[i] != Token::Sign(']') {
                        i += 1;
                    }
                }
                i += 1;
                continue;
            }
        };
        let mut matchers = vec![];
        i += 1;
        if tokens.get(i) == Some(&Token::Sign('{')) {
            while tokens[i] != Token::Sign('}') {
                i += 1;
                let Token::Word(label) = &tokens[i] else {
                    continue;
                };
                let mut operator = String::new();
                while let Token::Sign(sign) = &tokens[i + 1] {
                    operator.push(*sign);
                    i += 1;
                }
                let Token::Text(value) = &tokens[i + 1] else {
                    panic!("{expression}: no value of {label}")
                };
                matchers.push((label.clone(), operator, value.clone()));
                i += 1;
            }
            i += 1;
        }
        found.push(Selector { metric, matchers });
    }
    found
}

/// What stands in brackets (before the colon of a subquery), and the function around it.
pub(crate) fn ranges(expression: &str) -> Vec<(String, String)> {
    let mut found = vec![];
    for (at, _) in expression.match_indices('[') {
        let end = at + expression[at..].find(']').expect("a bracket closes");
        let mut depth = 0;
        let open = expression[..at].rfind(|c| match c {
            ')' => {
                depth += 1;
                false
            }
            '(' if depth == 0 => true,
            '(' => {
                depth -= 1;
                false
            }
            _ => false,
        });
        let before = &expression[..open.unwrap_or(0)];
        let name = before
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        let range = expression[at + 1..end].trim_end_matches(':');
        found.push((range.to_owned(), name.unwrap_or_default().to_owned()));
    }
    found
}

/// Grafana's variables in an expression; `$1` is a part of a label, for `label_replace`.
pub(crate) fn variables(expression: &str) -> BTreeSet<String> {
    let names = expression.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    let named = names.filter(|name| !name.starts_with(|c: char| c.is_ascii_digit()));
    named.collect()
}

/// Labels of every target, and those that other things than the exporter give.
const OF_TARGETS: [&str; 3] = ["cluster", "instance", "job"];
const OF_OTHERS: [&str; 6] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_post_metric_relabeling",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];
/// The labels of the alerts that our rules raise.
const OF_ALERTS: [&str; 6] = [
    "alertname",
    "alertstate",
    "severity",
    "kind",
    "namespace",
    "name",
];

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<RuleGroup>,
}

#[derive(Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    record: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What there is to ask for: the metric table, and what `alerts/rules` records.
pub(crate) struct Known {
    metrics: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    pub(crate) fn new() -> Self {
        let mut metrics = BTreeMap::new();
        let set = |labels: &[&str]| -> BTreeSet<String> {
            let all = labels.iter().chain(&OF_TARGETS);
            all.map(|label| (*label).to_owned()).collect()
        };
        for family in TABLE {
            match family.kind {
                Kind::Gauge | Kind::Counter => {
                    metrics.insert(family.name.to_owned(), set(family.labels));
                }
                Kind::Histogram => {
                    for part in ["bucket", "sum", "count"] {
                        let labels = [family.labels, &["le"]].concat();
                        metrics.insert(format!("{}_{part}", family.name), set(&labels));
                    }
                }
            }
        }
        for name in OF_OTHERS {
            metrics.insert(name.to_owned(), set(&[]));
        }
        metrics.insert("ALERTS".to_owned(), set(&OF_ALERTS));
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts/rules");
        for file in std::fs::read_dir(rules).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let file: RuleFile = serde_yaml::from_str(&text).unwrap();
            for rule in file.groups.into_iter().flat_map(|group| group.rules) {
                let Some(name) = rule.record else { continue };
                let labels = rule.labels.into_keys().chain(labels(&rule.expr));
                let known: &mut BTreeSet<String> = metrics.entry(name).or_insert_with(|| set(&[]));
                known.extend(labels);
            }
        }
        Known { metrics }
    }

    /// What an expression asks for and nothing gives.
    pub(crate) fn complaints(&self, expression: &str) -> Vec<String> {
        let mut wrong = vec![];
        let mut there: BTreeSet<&str> = BTreeSet::new();
        for Selector { metric, matchers } in selectors(expression) {
            let Some(labels) = self.metrics.get(&metric) else {
                wrong.push(format!("{metric} does not exist"));
                continue;
            };
            there.extend(labels.iter().map(String::as_str));
            for (label, _, value) in matchers {
                if !labels.contains(&label) {
                    wrong.push(format!("{metric} has no label {label}"));
                }
                let Some(values) = values(&label, &metric) else {
                    continue;
                };
                let asked = value.split('|').filter(|v| !v.starts_with('$'));
                for one in asked.filter(|one| !values.contains(&(*one).to_owned())) {
                    wrong.push(format!("{metric}: {label} is never {one}"));
                }
            }
        }
        for label in labels(expression) {
            if !there.contains(label.as_str()) {
                wrong.push(format!("nothing in {expression} has the label {label}"));
            }
        }
        wrong
    }
}

/// The values of labels that take a few only.
fn values(label: &str, metric: &str) -> Option<Vec<String>> {
    let of = |values: &[&str]| Some(values.iter().map(|v| (*v).to_owned()).collect());
    match label {
        "priority" => {
            let all = Priority::RISKY.iter().chain([&Priority::None]);
            Some(all.map(|p| p.as_str().to_owned()).collect())
        }
        "status" => {
            let all = [Status::Open, Status::Accepted, Status::Builtin];
            Some(all.iter().map(|s| s.as_str().to_owned()).collect())
        }
        "reason" if metric == "rbac_dangling_bindings" => {
            of(&["role-missing", "serviceaccount-missing"])
        }
        "reason" => Some(
            FaultReason::ALL
                .iter()
                .map(|r| r.as_str().to_owned())
                .collect(),
        ),
        "bound" => of(&["true", "false"]),
        "source" => of(&["volume", "env"]),
        "kind" if metric.contains("roles") || metric == "rbac_wildcard_rules" => {
            of(&["ClusterRole", "Role"])
        }
        "kind" if metric.contains("bindings") => of(&["ClusterRoleBinding", "RoleBinding"]),
        "kind" => of(&["User", "Group", "ServiceAccount"]),
        "job" => of(&["rbac-exporter"]),
        "alertstate" => of(&["firing", "pending"]),
        _ => None,
    }
}

#[test]
fn expressions_are_taken_apart() {
    let expression = r#"sum by (a, b) (rate(x_total{c="1",d=~"$e|f"}[$__rate_interval])) / on (a) group_left () y:z > bool 0 or vector(1)"#;
    let names: Vec<_> = selectors(expression)
        .into_iter()
        .map(|s| s.metric)
        .collect();
    assert_eq!(names, ["x_total", "y:z"]);
    let of = |l: &str, o: &str, v: &str| (l.to_owned(), o.to_owned(), v.to_owned());
    let matchers = &selectors(expression)[0].matchers;
    assert_eq!(matchers, &[of("c", "=", "1"), of("d", "=~", "$e|f")]);
    assert!(labels(expression).iter().eq(["a", "b"]));
    let rate = ("$__rate_interval".to_owned(), "rate".to_owned());
    assert_eq!(ranges(expression), [rate]);
    assert!(variables(expression).iter().eq(["__rate_interval", "e"]));
}

#[test]
fn what_does_not_exist_is_complained_of() {
    let known = Known::new();
    let of = |expression: &str| known.complaints(expression).len();
    assert_eq!(of(r#"sum by (cluster) (rbac_pods{namespace="a"})"#), 0);
    assert_eq!(of("rbac_pod"), 1);
    assert_eq!(of(r#"rbac_pods{priority="high"}"#), 1);
    assert_eq!(of(r#"rbac_hot_pods{priority="hihg"}"#), 1);
    assert_eq!(of("sum by (prioritty) (rbac_hot_pods)"), 1);
}
