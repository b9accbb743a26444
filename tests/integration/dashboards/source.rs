//! The short source of the dashboards, and what Grafana imports written from it.
//!
//! The model is that of Grafana 10 (schema 38), which later versions migrate as they load it.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the words of an expression stand for; a word may stand for others below it.
const WORDS: [(&str, &str); 6] = [
    (
        "NEWEST",
        r#"on (cluster, namespace, kind, name) topk(25, max by (cluster, namespace, kind, name) (rbac_risky_subject_since_timestamp_seconds{HERE,PRIORITY,status=~"$status"} @ end()))"#,
    ),
    ("ZERO", "0 * count(rbac_subjects{HERE})"),
    ("HERE", r#"cluster=~"$cluster",namespace=~"$namespace""#),
    ("CLUSTER", r#"cluster=~"$cluster""#),
    ("PRIORITY", r#"priority=~"$priority""#),
    ("JOB", r#"job="rbac-exporter""#),
];

/// The same colour for a priority everywhere.
const PRIORITIES: [(&str, &str); 5] = [
    ("critical", "dark-red"),
    ("high", "orange"),
    ("medium", "yellow"),
    ("low", "blue"),
    ("none", "#808080"),
];

/// The tag by which the dashboards link to each other.
const TAG: &str = "rbac-exporter";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    title: String,
    about: String,
    variables: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    height: u64,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    about: String,
    kind: Kind,
    w: u64,
    unit: Option<String>,
    limits: Option<Vec<(f64, String)>>,
    below: Option<String>,
    zero: Option<String>,
    #[serde(default)]
    words: BTreeMap<String, String>,
    empty: Option<String>,
    goto: Option<(String, String, String)>,
    sort: Option<(String, bool)>,
    queries: Vec<Query>,
    #[serde(default)]
    columns: Vec<(String, String, Style)>,
    #[serde(default)]
    hidden: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One number.
    Stat,
    /// Lines over time.
    Lines,
    /// Stacked areas over time.
    Area,
    /// Stacked bars over time.
    Bars,
    /// Horizontal bars, one a series.
    Ranking,
    /// A row a series, coloured over time.
    Timeline,
    /// Rows and columns.
    Table,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Query {
    Plain(String),
    /// Legend and expression, one pair.
    Named(BTreeMap<String, String>),
}

/// How a column of a table looks and where it leads.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Style {
    Text,
    /// A narrow text.
    Short,
    /// Of an object.
    Kind,
    Count,
    Share,
    Ago,
    Yes,
    No,
    Bad,
    Priority,
    Critical,
    High,
    Severity,
    Reporting,
    Complete,
    /// Of which `""` is the cluster itself; leads to its subjects.
    Place,
    /// Leads to the same dashboard for that cluster alone.
    Cluster,
    /// Leads to the exporter's page.
    Subject,
    /// Leads to the runbook.
    Runbook,
    /// Not shown, but links use it.
    Secret,
}

/// Reads the source: dashboards by uid.
pub(super) fn read(source: &str) -> BTreeMap<String, Dashboard> {
    serde_yaml::from_str(source).unwrap_or_else(|e| panic!("dashboards/source.yaml: {e}"))
}

fn expression(short: &str) -> String {
    let mut long = short.to_owned();
    for (word, matcher) in WORDS {
        long = long.replace(word, matcher);
    }
    long
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

fn word(value: &str, text: &str, color: &str) -> Value {
    json!({"type": "value", "options": {value: {"text": text, "color": color, "index": 0}}})
}

fn thresholds(limits: &[(f64, String)], below: &str) -> Value {
    let mut steps = vec![json!({"color": below, "value": null})];
    steps.extend(
        limits
            .iter()
            .map(|(from, color)| json!({"color": color, "value": from})),
    );
    json!({"mode": "absolute", "steps": steps})
}

fn fixed(color: &str) -> Value {
    json!({"mode": "fixed", "fixedColor": color})
}

fn properties(column: &str, properties: &[(&str, Value)]) -> Value {
    let properties: Vec<Value> = properties
        .iter()
        .map(|(id, value)| json!({"id": id, "value": value}))
        .collect();
    json!({"matcher": {"id": "byName", "options": column}, "properties": properties})
}

fn link(title: &str, url: &str, new_tab: bool) -> Value {
    json!([{"title": title, "url": url, "targetBlank": new_tab}])
}

impl Style {
    fn properties(self) -> Vec<(&'static str, Value)> {
        let coloured = || ("custom.cellOptions", json!({"type": "color-text"}));
        let some = |color: &str| {
            let limit = [(1.0, color.to_owned())];
            vec![("thresholds", thresholds(&limit, "text")), coloured()]
        };
        let words = |words: &[(&str, &str, &str)]| {
            let words: Vec<Value> = words.iter().map(|(v, t, c)| word(v, t, c)).collect();
            vec![("mappings", words.into()), coloured()]
        };
        match self {
            Style::Text | Style::Short | Style::Kind => vec![],
            Style::Count => vec![("unit", json!("short"))],
            Style::Share => vec![("unit", json!("percentunit")), ("decimals", json!(0))],
            Style::Ago => vec![("unit", json!("dateTimeFromNow"))],
            Style::Yes => words(&[("0", "not yet", "orange"), ("1", "yes", "green")]),
            Style::No => words(&[("0", "no", "green"), ("1", "refused", "dark-red")]),
            Style::Bad | Style::High => some("orange"),
            Style::Critical => some("dark-red"),
            Style::Priority => {
                let all = PRIORITIES.map(|(name, color)| (name, name, color));
                words(&all)
            }
            Style::Severity => {
                words(&[("page", "page", "dark-red"), ("ticket", "ticket", "orange")])
            }
            Style::Reporting => words(&[("0", "gone", "dark-red"), ("1", "reporting", "green")]),
            Style::Complete => words(&[("0", "incomplete", "orange"), ("1", "complete", "green")]),
            Style::Place => {
                let cluster = json!({"text": "(cluster-wide)", "index": 0});
                let special = |what| json!({"type": "special", "options": {"match": what, "result": cluster}});
                let url = "/d/rbac-subjects?${cluster:queryparam}&${datasource:queryparam}&${__url_time_range}&var-namespace=${__value.raw:percentencode}";
                vec![
                    ("mappings", json!([special("empty"), special("null")])),
                    ("links", link("Subjects of ${__value.text}", url, false)),
                ]
            }
            Style::Cluster => {
                let url = "/d/rbac-overview?${datasource:queryparam}&${__url_time_range}&var-cluster=${__value.raw:percentencode}";
                vec![("links", link("This cluster alone", url, false))]
            }
            Style::Subject => {
                let url = "${__data.fields.external_url}/subject?kind=${__data.fields.kind:percentencode}&namespace=${__data.fields.namespace:percentencode}&name=${__data.fields.name:percentencode}";
                vec![("links", link("Why, and what to cut", url, true))]
            }
            Style::Runbook => {
                let url = "${runbooks}/${__value.raw}.md";
                vec![("links", link("Runbook", url, true))]
            }
            Style::Secret => vec![("custom.hidden", json!(true))],
        }
    }
}

impl Style {
    /// Pixels; names get what is left.
    fn width(self, title: &str) -> Option<usize> {
        let least = match self {
            Style::Text | Style::Place | Style::Cluster | Style::Subject | Style::Runbook => {
                return None;
            }
            Style::Secret => 0,
            Style::Severity | Style::Yes | Style::No | Style::Bad => 70,
            Style::Count | Style::Share | Style::Critical | Style::High => 70,
            Style::Short | Style::Priority | Style::Reporting => 90,
            Style::Complete => 105,
            Style::Kind => 130,
            Style::Ago => 130,
        };
        Some(least.max(title.len() * 8 + 26))
    }

    /// What an empty cell shows.
    fn nothing(self) -> &'static str {
        match self {
            Style::Count
            | Style::Share
            | Style::Ago
            | Style::Critical
            | Style::High
            | Style::Bad
            | Style::Complete => "–",
            _ => "",
        }
    }
}

impl Panel {
    fn over_time(&self) -> bool {
        matches!(
            self.kind,
            Kind::Lines | Kind::Area | Kind::Bars | Kind::Timeline
        )
    }

    fn targets(&self) -> Vec<Value> {
        let letters = 'A'..='Z';
        self.queries
            .iter()
            .zip(letters)
            .map(|(query, letter)| {
                let (expr, legend) = match query {
                    Query::Plain(expr) => (expr, "__auto"),
                    Query::Named(pair) => {
                        let (legend, expr) =
                            pair.first_key_value().expect("a legend and its expression");
                        (expr, legend.as_str())
                    }
                };
                json!({
                    "refId": letter.to_string(),
                    "datasource": datasource(),
                    "expr": expression(expr),
                    "legendFormat": legend,
                    "instant": !self.over_time(),
                    "range": self.over_time(),
                    "format": if self.kind == Kind::Table { "table" } else { "time_series" },
                    "editorMode": "code",
                })
            })
            .collect()
    }

    fn mappings(&self) -> Vec<Value> {
        if self.kind == Kind::Timeline {
            let of = |(i, (name, color)): (usize, &(&str, &str))| {
                word(&(4 - i).to_string(), name, color)
            };
            return PRIORITIES[..4].iter().enumerate().map(of).collect();
        }
        let zero = self.zero.iter().map(|text| word("0", text, "green"));
        let colour_of = |value: &str| {
            let value: f64 = value.parse().expect("words stand for numbers");
            let mut limits = self.limits.iter().flatten();
            let reached = limits.rfind(|(from, _)| *from <= value);
            reached.map_or("green", |(_, color)| color.as_str())
        };
        let words = self
            .words
            .iter()
            .map(|(value, text)| word(value, text, colour_of(value)));
        zero.chain(words).collect()
    }

    fn overrides(&self) -> Vec<Value> {
        let over_priorities = self.over_time() && self.kind != Kind::Timeline;
        let priorities = PRIORITIES
            .iter()
            .filter(|_| over_priorities)
            .map(|(name, color)| properties(name, &[("color", fixed(color))]));
        let columns = self.columns.iter().map(|(_, name, style)| {
            let mut all = style.properties();
            all.extend(style.width(name).map(|w| ("custom.width", json!(w))));
            // What is said of an empty table is wrong for a cell.
            all.push(("noValue", json!(style.nothing())));
            properties(name, &all)
        });
        priorities.chain(columns).collect()
    }

    fn custom(&self) -> Value {
        let limits = if self.limits.is_some() { "line" } else { "off" };
        match self.kind {
            Kind::Lines => {
                json!({"thresholdsStyle": {"mode": limits}, "drawStyle": "line", "lineWidth": 2, "fillOpacity": 0, "showPoints": "never", "spanNulls": false, "axisSoftMin": 0})
            }
            Kind::Area => {
                json!({"drawStyle": "line", "lineWidth": 1, "fillOpacity": 40, "showPoints": "never", "spanNulls": false, "axisSoftMin": 0, "stacking": {"mode": "normal", "group": "A"}})
            }
            Kind::Bars => {
                json!({"drawStyle": "bars", "lineWidth": 0, "fillOpacity": 80, "showPoints": "never", "axisSoftMin": 0, "stacking": {"mode": "normal", "group": "A"}})
            }
            Kind::Timeline => json!({"lineWidth": 0, "fillOpacity": 80}),
            Kind::Table => {
                json!({"align": "auto", "cellOptions": {"type": "auto"}, "inspect": false, "filterable": true, "minWidth": 60})
            }
            Kind::Stat | Kind::Ranking => json!({}),
        }
    }

    fn options(&self) -> Value {
        let named = matches!(self.queries[0], Query::Named(..));
        let last = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.kind {
            Kind::Stat => {
                json!({"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": if named { "value_and_name" } else { "value" }, "reduceOptions": last})
            }
            Kind::Ranking => {
                json!({"displayMode": "basic", "orientation": "horizontal", "showUnfilled": true, "valueMode": "color", "minVizHeight": 16, "minVizWidth": 8, "reduceOptions": last})
            }
            Kind::Timeline => {
                json!({"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.85, "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true}, "tooltip": {"mode": "single", "sort": "none"}})
            }
            Kind::Table => {
                let sort: Vec<Value> = self
                    .sort
                    .iter()
                    .map(|(column, desc)| json!({"displayName": column, "desc": desc}))
                    .collect();
                json!({"showHeader": true, "cellHeight": "sm", "sortBy": sort, "footer": {"show": false, "reducer": ["sum"], "countRows": false, "fields": ""}})
            }
            Kind::Lines | Kind::Area | Kind::Bars => {
                json!({"legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []}, "tooltip": {"mode": "multi", "sort": "desc"}})
            }
        }
    }

    fn transformations(&self) -> Vec<Value> {
        if self.kind != Kind::Table {
            return vec![];
        }
        let indexes: Map<String, Value> = (0..)
            .zip(&self.columns)
            .map(|(i, (field, ..))| (field.clone(), Value::from(i)))
            .collect();
        let names: Map<String, Value> = self
            .columns
            .iter()
            .filter(|(.., style)| *style != Style::Secret)
            .map(|(field, name, _)| (field.clone(), name.as_str().into()))
            .collect();
        let excluded: Map<String, Value> = self
            .hidden
            .iter()
            .map(String::as_str)
            .chain(["Time"])
            .map(|field| (field.to_owned(), true.into()))
            .collect();
        vec![
            json!({"id": "merge", "options": {}}),
            json!({"id": "organize", "options": {"excludeByName": excluded, "indexByName": indexes, "renameByName": names}}),
        ]
    }

    fn model(&self, id: u64, (x, y, h): (u64, u64, u64)) -> Value {
        let kind = match self.kind {
            Kind::Stat => "stat",
            Kind::Lines | Kind::Area | Kind::Bars => "timeseries",
            Kind::Ranking => "bargauge",
            Kind::Timeline => "state-timeline",
            Kind::Table => "table",
        };
        let limits = self.limits.as_deref().unwrap_or_default();
        let (below, colour) = match self.kind {
            Kind::Stat if self.limits.as_ref().is_some_and(Vec::is_empty) => ("text", "thresholds"),
            Kind::Stat => ("green", "thresholds"),
            Kind::Ranking => ("blue", "thresholds"),
            Kind::Table | Kind::Timeline => ("text", "thresholds"),
            Kind::Lines | Kind::Area | Kind::Bars => ("green", "palette-classic"),
        };
        let links: Vec<Value> = self
            .goto
            .iter()
            .map(|(title, uid, more)| {
                let url =
                    format!("/d/{uid}?${{datasource:queryparam}}&${{__url_time_range}}{more}");
                json!({"title": title, "url": url, "targetBlank": false})
            })
            .collect();
        let mut model = json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.about,
            "datasource": datasource(),
            "gridPos": {"x": x, "y": y, "w": self.w, "h": h},
            "targets": self.targets(),
            "transformations": self.transformations(),
            "links": links,
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit.as_deref().unwrap_or("short"),
                    "noValue": self.empty.as_deref().unwrap_or(if self.kind == Kind::Table { "–" } else { "no data" }),
                    "color": {"mode": colour},
                    "thresholds": thresholds(limits, self.below.as_deref().unwrap_or(below)),
                    "mappings": self.mappings(),
                    "custom": self.custom(),
                },
                "overrides": self.overrides(),
            },
            "options": self.options(),
        });
        if self.over_time() {
            // A screen shows no more, and 2,000 namespaces cost each of them 10,000 samples.
            model["maxDataPoints"] = 120.into();
            model["interval"] = "1m".into();
        }
        model
    }
}

fn query_variable(name: &str, label: &str, about: &str, query: &str) -> Value {
    json!({
        "type": "query", "name": name, "label": label, "description": about,
        "datasource": datasource(),         "query": {"query": query, "refId": "variable"},
        "refresh": 2, "sort": 1, "multi": true, "includeAll": true,
        // An absent label is matched by this alone: clusters need not have a name.
        "allValue": ".*", "current": {"selected": true, "text": ["All"], "value": ["$__all"]},
        "hide": 0, "regex": "", "options": [], "skipUrlSync": false,
    })
}

fn custom_variable(name: &str, label: &str, values: &[&str], chosen: &str) -> Value {
    let (text, value) = match chosen {
        "All" => ("All", "$__all"),
        one => (one, one),
    };
    let options: Vec<Value> = [("All", "$__all")]
        .into_iter()
        .chain(values.iter().map(|v| (*v, *v)))
        .map(|(t, v)| json!({"selected": v == value, "text": t, "value": v}))
        .collect();
    json!({
        "type": "custom", "name": name, "label": label, "query": values.join(","),
        "options": options, "multi": true, "includeAll": true, "allValue": values.join("|"),
        "current": {"selected": true, "text": [text], "value": [value]},
        "hide": 0, "skipUrlSync": false,
    })
}

fn variable(name: &str) -> Value {
    match name {
        "cluster" => query_variable(
            name,
            "Cluster",
            "The external label `cluster`; All where there is none.",
            "label_values(rbac_subjects, cluster)",
        ),
        "namespace" => query_variable(
            name,
            "Namespace",
            "All includes users and groups, which have none.",
            "label_values(rbac_subjects{cluster=~\"$cluster\"}, namespace)",
        ),
        "priority" => custom_variable(
            name,
            "Priority",
            &["critical", "high", "medium", "low"],
            "All",
        ),
        "status" => custom_variable(name, "Status", &["open", "accepted", "builtin"], "open"),
        other => panic!("there is no variable {other}"),
    }
}

fn variables(names: &[String]) -> Vec<Value> {
    let source = json!({
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
        "current": {}, "hide": 0, "refresh": 1, "regex": "", "options": [], "multi": false,
        "includeAll": false, "skipUrlSync": false,
    });
    // Where they are is said in one place, which the alerts read too.
    let base = "label_values(rbac:runbooks:info, base)";
    let mut runbooks = query_variable("runbooks", "Runbooks", "", base);
    runbooks["hide"] = 2.into();
    runbooks["multi"] = false.into();
    runbooks["includeAll"] = false.into();
    runbooks["current"] = json!({});
    let chosen = names.iter().map(|name| variable(name));
    [source]
        .into_iter()
        .chain(chosen)
        .chain([runbooks])
        .collect()
}

/// A mark on every graph. Grafana's own model knows no title and no text, so the name must do.
fn annotation(name: &str, color: &str, expr: &str) -> Value {
    json!({
        "name": name, "enable": true, "hide": false, "iconColor": color, "datasource": datasource(),
        "expr": expression(expr),
    })
}

impl Dashboard {
    /// What Grafana imports.
    pub(super) fn model(&self, uid: &str) -> Value {
        let mut panels = vec![];
        let mut y = 0;
        for row in &self.rows {
            let mut x = 0;
            for panel in &row.panels {
                panels.push(panel.model(panels.len() as u64 + 1, (x, y, row.height)));
                x += panel.w;
            }
            assert_eq!(
                x, 24,
                "{uid}: the row of {} is {x} wide",
                row.panels[0].title
            );
            y += row.height;
        }
        // A jump after an upgrade or a change of configuration explains itself.
        let rules = annotation(
            "Rules in force changed",
            "blue",
            "group by (cluster, ruleset) (rbac_exporter_build_info{CLUSTER}) unless group by (cluster, ruleset) (last_over_time(rbac_exporter_build_info{CLUSTER}[1h] offset 5m))",
        );
        json!({
            "uid": uid,
            "title": self.title,
            "description": self.about,
            "tags": [TAG],
            "schemaVersion": 38,
            "version": 1,
            "editable": false,
            "graphTooltip": 1,
            "timezone": "browser",
            "time": {"from": "now-24h", "to": "now"},
            "refresh": "1m",
            "links": [{
                "type": "dashboards", "title": "RBAC", "tags": [TAG], "asDropdown": false,
                "includeVars": true, "keepTime": true, "targetBlank": false, "icon": "dashboard",
                "tooltip": "", "url": "",
            }, {
                "type": "link", "title": "Runbooks", "url": "${runbooks}", "tags": [],
                "asDropdown": false, "includeVars": false, "keepTime": false, "targetBlank": true,
                "icon": "doc", "tooltip": "What to do about each alert",
            }],
            "templating": {"list": variables(&self.variables)},
            "annotations": {"list": [rules]},
            "panels": panels,
        })
    }
}
