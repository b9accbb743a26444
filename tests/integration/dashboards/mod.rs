//! The dashboards are what their source says, ask for what the exporter gives, and can be read.

mod source;

use crate::promql::{self, Known};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Every dashboard as it lies in the folder, by uid.
fn all() -> Vec<(String, Value)> {
    let mut found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| {
            let uid = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (uid, serde_json::from_str(&text).unwrap())
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert!(!found.is_empty());
    found
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no list {pointer} in {value}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text {pointer} in {value}"))
}

/// Every expression with where it stands: panels, variables and annotations.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = list(dashboard, "/panels").iter().flat_map(|panel| {
        let title = text(panel, "/title");
        let targets = list(panel, "/targets").iter();
        targets.map(move |t| (title.to_owned(), text(t, "/expr").to_owned()))
    });
    let annotations = list(dashboard, "/annotations/list")
        .iter()
        .map(|a| (text(a, "/name").to_owned(), text(a, "/expr").to_owned()));
    let variables = list(dashboard, "/templating/list").iter();
    let variables = variables.filter(|v| v["type"] == "query").map(|v| {
        let query = text(v, "/query/query");
        // label_values(SELECTOR, LABEL) is a selection by that label.
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|q| q.strip_suffix(')'));
        let (selector, label) = inner.and_then(|q| q.rsplit_once(", ")).expect(query);
        let name = text(v, "/name").to_owned();
        (name, format!("group by ({label}) ({selector})"))
    });
    panels.chain(annotations).chain(variables).collect()
}

#[test]
fn dashboards_are_what_their_source_says() {
    let source = fs::read_to_string(folder().join("source.yaml")).unwrap();
    let bless = std::env::var_os("BLESS").is_some();
    let mut written = vec![];
    for (uid, dashboard) in source::read(&source) {
        let path = folder().join(format!("{uid}.json"));
        let wanted = format!("{:#}\n", dashboard.model(&uid));
        if bless {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == wanted,
            "dashboards/{uid}.json is not what source.yaml says: BLESS=1 cargo test --test integration dashboards"
        );
        written.push(uid);
    }
    let found: Vec<String> = all().into_iter().map(|(uid, _)| uid).collect();
    assert_eq!(found, written);
}

/// People's bookmarks and other dashboards' links know them.
#[test]
fn uids_and_titles_stay() {
    let found: Vec<_> = all()
        .iter()
        .map(|(file, d)| {
            assert_eq!(file, text(d, "/uid"));
            (file.clone(), text(d, "/title").to_owned())
        })
        .collect();
    let known = [
        ("rbac-overview", "RBAC / Overview"),
        ("rbac-slo", "RBAC / SLO and exporter health"),
        ("rbac-subjects", "RBAC / Subjects and hot pods"),
    ];
    assert_eq!(found, known.map(|(u, t)| (u.to_owned(), t.to_owned())));
}

#[test]
fn every_metric_label_and_value_exists() {
    let known = Known::new();
    let mut wrong = vec![];
    for (uid, dashboard) in all() {
        for (place, expression) in expressions(&dashboard) {
            for complaint in known.complaints(&expression) {
                wrong.push(format!("{uid}, {place}: {complaint}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn panels_lie_side_by_side() {
    for (uid, dashboard) in all() {
        let mut taken = BTreeSet::new();
        let mut ids = BTreeSet::new();
        let mut bottom = 0;
        for panel in list(&dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(panel["id"].as_u64()), "{uid}, {title}: id");
            let of = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            let (x, y, w, h) = (of("x"), of("y"), of("w"), of("h"));
            assert!(w >= 4 && h >= 3, "{uid}, {title} is too small to read");
            assert!(x + w <= 24, "{uid}, {title} ends right of the grid");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{uid}, {title} lies on another panel");
            }
            bottom = bottom.max(y + h);
        }
        assert_eq!(taken.len() as u64, 24 * bottom, "{uid} has holes");
    }
}

/// Units of Grafana that are in use here; a new one belongs here once it was looked up.
const UNITS: [&str; 7] = [
    "short",
    "none",
    "percentunit",
    "s",
    "dateTimeFromNow",
    "ops",
    "bytes",
];

#[test]
fn panels_have_titles_descriptions_units_words_and_the_datasource_that_was_chosen() {
    for (uid, dashboard) in all() {
        for panel in list(&dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(!title.is_empty() && text(panel, "/description").ends_with(['.', ':']));
            // At 1280 pixels no more can be read.
            let wide = panel["gridPos"]["w"].as_u64().expect("a number");
            assert!(title.len() as u64 <= 5 * wide, "{uid}, {title} is too long");
            let unit = text(panel, "/fieldConfig/defaults/unit");
            assert!(UNITS.contains(&unit), "{uid}, {title}: unit {unit}");
            assert_ne!(text(panel, "/fieldConfig/defaults/noValue"), "");
            assert!(!list(panel, "/targets").is_empty(), "{uid}, {title}");
            for override_ in list(panel, "/fieldConfig/overrides") {
                for property in list(override_, "/properties") {
                    let unit = property["value"].as_str().unwrap_or_default();
                    let known = property["id"] != "unit" || UNITS.contains(&unit);
                    assert!(known, "{uid}, {title}: unit {unit}");
                }
            }
        }
        // Wherever it stands.
        let mut seen = 0;
        each_datasource(&dashboard, &mut |datasource| {
            seen += 1;
            let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
            assert_eq!(datasource, &chosen, "{uid}");
        });
        assert!(seen > list(&dashboard, "/panels").len());
    }
}

fn each_datasource(value: &Value, see: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "datasource" {
                    see(value);
                } else {
                    each_datasource(value, see);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|v| each_datasource(v, see)),
        _ => {}
    }
}

#[test]
fn counters_stand_under_a_rate_over_the_rate_interval() {
    for (uid, dashboard) in all() {
        for (place, expression) in expressions(&dashboard) {
            let at = format!("{uid}, {place}: {expression}");
            for (range, function) in promql::ranges(&expression) {
                let rate = ["rate", "increase", "irate"].contains(&function.as_str());
                assert_eq!(rate, range == "$__rate_interval", "{at}");
            }
            let rates = ["rate(", "increase("].map(|f| expression.matches(f).count());
            let counters = promql::selectors(&expression)
                .into_iter()
                .filter(|s| s.metric.ends_with("_total") || s.metric.ends_with("_bucket"))
                .count();
            assert_eq!(counters, rates.iter().sum::<usize>(), "{at}");
        }
    }
}

#[test]
fn every_variable_is_there_and_used() {
    for (uid, dashboard) in all() {
        let text_of_all = dashboard.to_string();
        let names: BTreeSet<&str> = list(&dashboard, "/templating/list")
            .iter()
            .map(|v| text(v, "/name"))
            .collect();
        for name in ["datasource", "cluster", "namespace", "priority"] {
            assert!(names.contains(name), "{uid} lacks the variable {name}");
        }
        for name in &names {
            let used = [format!("${name}"), format!("${{{name}")]
                .iter()
                .any(|form| text_of_all.contains(form));
            assert!(used, "{uid}: nothing uses the variable {name}");
        }
        for variable in list(&dashboard, "/templating/list") {
            let name = text(variable, "/name");
            if ["cluster", "namespace", "priority", "status"].contains(&name) {
                assert_eq!(variable["multi"], true, "{uid}, {name}");
                assert_eq!(variable["includeAll"], true, "{uid}, {name}");
                assert!(!text(variable, "/allValue").is_empty(), "{uid}, {name}");
            }
        }
        for (place, expression) in expressions(&dashboard) {
            for used in promql::variables(&expression) {
                let builtin = used.starts_with("__");
                assert!(
                    builtin || names.contains(used.as_str()),
                    "{uid}, {place}: {used}"
                );
            }
        }
    }
}

/// One priority, one colour, wherever it is drawn.
#[test]
fn priorities_have_the_same_colour_everywhere() {
    let colours = [
        ("critical", "dark-red"),
        ("high", "orange"),
        ("medium", "yellow"),
        ("low", "blue"),
    ];
    for (uid, dashboard) in all() {
        for panel in list(&dashboard, "/panels") {
            for override_ in list(panel, "/fieldConfig/overrides") {
                let name = text(override_, "/matcher/options");
                let Some((_, colour)) = colours.iter().find(|(p, _)| *p == name) else {
                    continue;
                };
                let found = text(override_, "/properties/0/value/fixedColor");
                assert_eq!(found, *colour, "{uid}, {}", panel["title"]);
            }
            let mapped = panel.to_string();
            for (priority, colour) in colours {
                let mut rest = mapped.as_str();
                let key = format!("\"text\":\"{priority}\"");
                while let Some(at) = rest.find(&key) {
                    let open = rest[..at].rfind('{').unwrap();
                    let close = at + rest[at..].find('}').unwrap();
                    assert!(rest[open..close].contains(&format!("\"color\":\"{colour}\"")));
                    rest = &rest[close..];
                }
            }
        }
    }
}

/// Links between dashboards name uids that exist.
#[test]
fn links_lead_somewhere() {
    let found = all();
    for (uid, dashboard) in &found {
        let text_of_all = dashboard.to_string();
        for part in text_of_all.split("\"/d/").skip(1) {
            let target = part.split('?').next().unwrap();
            assert!(
                found.iter().any(|(known, _)| known == target),
                "{uid}: {target}"
            );
        }
        assert_eq!(list(dashboard, "/links")[0]["tags"], dashboard["tags"]);
    }
}
