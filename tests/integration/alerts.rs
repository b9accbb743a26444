//! The rules, their promtool tests and their runbooks ask for nothing that the exporter does not write. That they are
//! right is promtool's to say, in the end-to-end tests; it cannot know that a series is made up.

use crate::promql::{self, Known};
use clap::CommandFactory;
use rbac_exporter::cli::Cli;
use rbac_exporter::export::metrics::TABLE;
use rbac_exporter::object::Resource;
use rbac_exporter::risk::Catalogue;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    input_series: Vec<Input>,
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExpressionTest>,
}

#[derive(Deserialize)]
struct Input {
    series: String,
}

#[derive(Deserialize)]
struct AlertTest {
    alertname: String,
    #[serde(default)]
    exp_alerts: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    #[serde(default)]
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ExpressionTest {
    expr: String,
    exp_samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    labels: String,
}

/// The one alert whose promtool tests are a file of their own, in expressions.
const AGAINST_TIME: &str = "RBACNewCriticalSubject";

/// Files of a directory of the repository that end so, with their texts. None, if there is no such directory.
fn files(directory: &str, end: &str) -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let Ok(entries) = fs::read_dir(directory) else {
        return vec![];
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(end));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

fn rules() -> Vec<Rule> {
    let files = files("alerts/rules", ".yaml");
    assert!(files.len() >= 3, "{} files of rules", files.len());
    let groups = files.iter().flat_map(|(path, text)| {
        let file: RuleFile =
            serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        file.groups
    });
    groups.flat_map(|group| group.rules).collect()
}

fn alerts() -> BTreeSet<String> {
    rules().into_iter().filter_map(|rule| rule.alert).collect()
}

fn cases() -> Vec<Case> {
    let files = files("alerts/tests", ".yaml");
    let read = |text: &String| serde_yaml::from_str::<TestFile>(text).unwrap().tests;
    files.iter().flat_map(|(_, text)| read(text)).collect()
}

/// Expressions inside a template: what is piped to `query`, with something in place of what `printf` puts in.
fn queried(template: &str) -> Vec<String> {
    let mut found = vec![];
    for action in template
        .split("{{")
        .skip(1)
        .filter_map(|s| s.split("}}").next())
    {
        if action.split_whitespace().any(|word| word == "query") {
            let inside = action.split('"').nth(1).expect("a quoted expression");
            let inside = if action.contains("printf") {
                // an expression with a label in double quotes goes on behind an escaped one; ours have none
                inside.replace("%q", "'x'")
            } else {
                inside.to_owned()
            };
            found.push(inside);
        }
    }
    found
}

/// The PromQL of a document: fenced blocks, one expression a line.
fn documented(text: &str) -> Vec<String> {
    let mut found = vec![];
    for block in text.split("```promql").skip(1) {
        let block = block.split("```").next().unwrap();
        found.extend(block.lines().map(|line| line.trim().to_owned()));
    }
    // in a list item blocks are indented
    found.retain(|line| !line.is_empty());
    found
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut all = files("docs/runbooks", ".md");
    all.extend(files("docs", ".md"));
    all
}

/// Label values that depend on more than the label.
fn unknown_values(expression: &str) -> Vec<String> {
    let catalogue = Catalogue::shipped();
    let mut wrong = vec![];
    for selector in promql::selectors(expression) {
        for (label, _, value) in &selector.matchers {
            for one in value.split('|') {
                let known = match label.as_str() {
                    "resource" => Resource::ALL.iter().any(|r| r.plural() == one),
                    "rule" => catalogue.find(one).is_some(),
                    "family" => TABLE.iter().any(|f| f.name == one),
                    _ => true,
                };
                if !known {
                    wrong.push(format!("{}: {label} is never {one}", selector.metric));
                }
            }
        }
    }
    wrong
}

#[test]
fn rules_ask_for_what_there_is_and_keep_clusters_apart() {
    let known = Known::new();
    for rule in rules() {
        let templates = rule.annotations.values().flat_map(|text| queried(text));
        for expression in templates.chain([rule.expr.clone()]) {
            let mut wrong = known.complaints(&expression);
            wrong.extend(unknown_values(&expression));
            assert!(wrong.is_empty(), "{expression}\n{wrong:?}");
            assert!(promql::variables(&expression).is_empty(), "{expression}");
        }
        // A sum over clusters would page for none of them; only what is to be joined on something else groups otherwise.
        for (at, _) in rule.expr.match_indices("by (") {
            let list = rule.expr[at + 4..].split(')').next().unwrap();
            assert!(list.starts_with("cluster"), "by ({list}) in {}", rule.expr);
        }
        // A window that a scrape interval of a minute leaves empty says nothing, and looks like silence.
        for (range, function) in promql::ranges(&rule.expr) {
            let minutes = range.split(':').next().unwrap();
            assert!(
                !minutes.ends_with('s') && !["1m", "2m", "3m", "4m"].contains(&minutes),
                "{function}: {range}"
            );
        }
    }
}

#[test]
fn every_alert_says_how_urgent_it_is_what_is_wrong_and_where_to_read_on() {
    for rule in rules() {
        let Some(alert) = &rule.alert else {
            continue;
        };
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("page" | "ticket")), "{alert}");
        for annotation in ["summary", "description"] {
            assert!(rule.annotations.contains_key(annotation), "{alert}");
        }
        let runbook = rule.annotations.get("runbook_url").expect(alert);
        // the base is a series of settings.yaml, in one place
        let end = format!("label \"base\" }}}}/{{{{ end }}}}{alert}.md");
        assert!(runbook.ends_with(&end), "{alert}: {runbook}");
        assert!(!runbook.contains("http"), "{alert}: {runbook}");
        // Names are hostile: in a text they are quoted, in a link they are encoded.
        for (annotation, template) in &rule.annotations {
            for name in ["name", "workload", "serviceaccount", "id", "risk_owner"] {
                let raw = format!("{{{{ $labels.{name} }}}}");
                // the subjects of this alert are listed in its expression
                let harmless = alert == "RBACEveryoneAccess" && name == "name";
                assert!(
                    harmless || !template.contains(&raw),
                    "{alert}: {annotation} shows {name} as it is"
                );
            }
        }
    }
}

#[test]
fn promtool_tests_are_made_of_series_that_the_exporter_writes() {
    let known = Known::new();
    let of_targets = ["cluster", "instance", "job"];
    let mut count = 0;
    for case in cases() {
        for Input { series } in &case.input_series {
            let mut wrong = known.complaints(series);
            wrong.extend(unknown_values(series));
            assert!(wrong.is_empty(), "{}: {series}\n{wrong:?}", case.name);
            let selectors = promql::selectors(series);
            let [selector] = &selectors[..] else {
                panic!("{series} is not one series");
            };
            // all the labels of its family, not only right ones
            let family = TABLE.iter().find(|f| f.name == selector.metric);
            let expected: BTreeSet<&str> = family
                .map_or(&[][..], |f| f.labels)
                .iter()
                .copied()
                .collect();
            let own = selector.matchers.iter().map(|(label, ..)| label.as_str());
            let own: BTreeSet<&str> = own.filter(|label| !of_targets.contains(label)).collect();
            assert_eq!(own, expected, "{}: {series}", case.name);
            assert!(
                family.is_some() || selector.metric == "up",
                "{}: {series} is none of the table",
                case.name
            );
            count += 1;
        }
        for test in &case.promql_expr_test {
            let wrong = known.complaints(&test.expr);
            assert!(wrong.is_empty(), "{}: {}\n{wrong:?}", case.name, test.expr);
        }
    }
    assert!(count > 100, "{count} series");
}

#[test]
fn every_alert_is_tested_firing_and_silent_with_its_text() {
    let mut firing = BTreeSet::new();
    let mut silent = BTreeSet::new();
    let mut texts = BTreeSet::new();
    for case in cases() {
        for test in case.alert_rule_test {
            let fires = !test.exp_alerts.is_empty();
            if test
                .exp_alerts
                .iter()
                .any(|e| !e.exp_annotations.is_empty())
            {
                texts.insert(test.alertname.clone());
            }
            if fires { &mut firing } else { &mut silent }.insert(test.alertname);
        }
        let of_it = case.promql_expr_test.iter();
        for test in of_it.filter(|test| test.expr.contains(AGAINST_TIME)) {
            let named = |name: &str| {
                let label = format!("name=\"{name}\"");
                test.exp_samples.iter().any(|s| s.labels.contains(&label))
            };
            if named("new") && !named("old2") {
                firing.insert(AGAINST_TIME.to_owned());
                silent.insert(AGAINST_TIME.to_owned());
            }
        }
    }
    let alerts = alerts();
    assert_eq!(firing, alerts);
    assert_eq!(silent, alerts);
    assert_eq!(texts, alerts);
}

#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let runbooks = files("docs/runbooks", ".md");
    let stems = runbooks
        .iter()
        .map(|(path, _)| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let alerts = alerts();
    assert_eq!(stems.collect::<BTreeSet<_>>(), alerts);
    for (path, text) in runbooks {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(text.starts_with(&format!("# {name}\n")), "{name}");
        let titles: Vec<&str> = text.lines().filter(|l| l.starts_with("## ")).collect();
        let expected = [
            "Meaning",
            "Impact",
            "Diagnosis",
            "Mend",
            "Accept",
            "Silence",
        ];
        assert_eq!(titles, expected.map(|t| format!("## {t}")), "{name}");
        let silence = format!("alertname={name}");
        assert!(text.contains(&silence), "{name} silences another alert");
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            let there = target
                .strip_suffix(".md")
                .is_some_and(|t| alerts.contains(t));
            assert!(there, "{name}: {target}");
        }
    }
}

#[test]
fn documents_ask_for_what_there_is() {
    let known = Known::new();
    let mut queries = 0;
    for (path, text) in documents() {
        for expression in documented(&text) {
            let mut wrong = known.complaints(&expression);
            wrong.extend(unknown_values(&expression));
            assert!(
                wrong.is_empty(),
                "{}: {expression}\n{wrong:?}",
                path.display()
            );
            queries += 1;
        }
    }
    assert!(queries > 40, "{queries} queries");
}

/// The words behind `rbac-exporter` in code, up to the first that is none of a command.
fn commands(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code = text.split('`').skip(1).step_by(2).map(str::to_owned);
    let blocks = text.split("```sh").skip(1).flat_map(|block| {
        let block = block.split("```").next().unwrap();
        block.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    for line in code.chain(blocks) {
        let mut words = line.split_whitespace();
        if words.next() != Some("rbac-exporter") {
            continue;
        }
        let Some(word) = words.next().filter(|word| !word.starts_with('-')) else {
            continue;
        };
        found.insert(word.to_owned());
    }
    found
}

#[test]
fn runbooks_name_commands_that_there_are() {
    let cli = Cli::command();
    let known: BTreeSet<&str> = cli.get_subcommands().map(clap::Command::get_name).collect();
    for (path, text) in files("docs/runbooks", ".md") {
        for command in commands(&text) {
            assert!(
                known.contains(command.as_str()),
                "{}: rbac-exporter {command}",
                path.display()
            );
        }
    }
}

#[test]
fn every_family_is_used_by_an_alert_a_dashboard_or_a_documented_query() {
    let mut expressions: Vec<String> = rules()
        .into_iter()
        .flat_map(|rule| {
            let templates = rule.annotations.values().flat_map(|text| queried(text));
            templates.chain([rule.expr]).collect::<Vec<_>>()
        })
        .collect();
    for (_, text) in documents() {
        expressions.extend(documented(&text));
    }
    for (path, text) in files("dashboards", ".json") {
        let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
        let before = expressions.len();
        gather(&dashboard, &mut expressions);
        assert!(expressions.len() > before, "{}", path.display());
    }
    let used: BTreeSet<String> = expressions
        .iter()
        .flat_map(|expression| promql::selectors(expression))
        .map(|selector| selector.metric)
        .collect();
    for family in TABLE {
        let bucket = format!("{}_bucket", family.name);
        assert!(
            used.contains(family.name) || used.contains(&bucket),
            "{} is exported for nobody",
            family.name
        );
    }
}

/// The queries of a dashboard, wherever they stand.
fn gather(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Some(expression) = fields.get("expr").and_then(|e| e.as_str()) {
                into.push(expression.to_owned());
            }
            fields.values().for_each(|field| gather(field, into));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| gather(item, into)),
        _ => {}
    }
}

#[test]
fn queries_are_found_in_templates_and_documents() {
    let template = r#"{{ with printf "a{cluster=%q}" $labels.cluster | query }}{{ . }}{{ end }}{{ with query "b:c" }}{{ end }}"#;
    assert_eq!(queried(template), ["a{cluster='x'}", "b:c"]);
    let text = "1. x\n\n   ```promql\n   a > 1\n   b\n   ```\n`rbac-exporter explain x`\n```sh\nrbac-exporter scan\n```\n";
    assert_eq!(documented(text), ["a > 1", "b"]);
    assert!(commands(text).iter().eq(["explain", "scan"]));
}
