//! The references in docs/ are what the code says.

use rbac_exporter::config;
use rbac_exporter::export::metrics::{Kind, TABLE};
use rbac_exporter::located::Word;
use rbac_exporter::risk::{ATOM_REFERENCE, Catalogue, LEVEL_REFERENCE, Priority, RULE_REFERENCE};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Writes the references instead of comparing them.
const WRITE: &str = "RBAC_EXPORTER_WRITE_MANIFESTS";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default()
}

fn is_current(path: &str, wanted: &str) {
    if std::env::var_os(WRITE).is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), wanted).unwrap();
    }
    assert!(
        read(path) == wanted,
        "{path} is not what the code says: run `make references`"
    );
}

/// A cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
        .replace('\n', " ")
        .replace('<', "&lt;")
}

#[test]
fn metrics() {
    let mut text = "# Metrics\n\nGenerated from the table in `src/export/metrics.rs` by `make references`. What each label \
        and value means in full is in [the contract](contract.md), section 6; `process_*` is the standard set beside these.\n\n\
        | family | type | labels | help |\n| --- | --- | --- | --- |\n"
        .to_owned();
    for family in TABLE {
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let _ = writeln!(
            text,
            "| `{}` | {kind} | {} | {} |",
            family.name,
            labels.join(", "),
            cell(family.help)
        );
    }
    is_current("docs/metrics.md", &text);
}

#[test]
fn rules() {
    let catalogue = Catalogue::shipped();
    let mut text = format!(
        "# Rules\n\nGenerated from the catalogue in `src/risk/data` by `make references`; `rbac-exporter rules list -o json` \
         prints the rules in force with those of your configuration. {} rules; why each has its priority is in \
         [the risk catalogue](catalogue.md). A priority stands for a grant cluster-wide, in a privileged namespace, \
         in any other namespace; – means no finding there.\n",
        catalogue.rules.len()
    );
    for rule in &catalogue.rules {
        let levels = match &rule.named {
            Some(named) if rule.named_only => named,
            _ => &rule.levels,
        };
        let word = |priority: Option<Priority>| {
            priority.map_or("–".to_owned(), |p| p.as_str().to_owned())
        };
        let _ = write!(
            text,
            "\n## {}\n\n{}. {} / {} / {}{}\n\n- **Attack:** {}\n- **Remediation:** {}\n",
            rule.id,
            rule.title.trim_end_matches('.'),
            word(levels.cluster),
            word(levels.privileged),
            word(levels.namespace),
            if rule.finding {
                ""
            } else {
                "; no finding of subjects, it feeds a family of its own"
            },
            rule.attack.replace('<', "&lt;"),
            rule.remediation.replace('<', "&lt;"),
        );
        if !rule.references.is_empty() {
            let _ = writeln!(text, "- **References:** {}", rule.references);
        }
    }
    is_current("docs/rules.md", &text);
}

/// The families of the contract's table with their labels.
fn contract() -> BTreeMap<String, Vec<String>> {
    let contract = read("docs/contract.md");
    let start = contract.find("## 6. Metrics").expect("section 6");
    let ticked = |text: &str| -> Vec<String> {
        let words = text.split('`').skip(1).step_by(2);
        words.map(str::to_owned).collect()
    };
    let mut out = BTreeMap::new();
    for line in contract[start..]
        .lines()
        .filter(|l| l.starts_with("| `rbac_"))
    {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // values of a label stand in parentheses behind it
        let mut labels = String::new();
        let mut depth = 0;
        for c in cells[3].chars() {
            depth += i32::from(c == '(');
            if depth == 0 {
                labels.push(c);
            }
            depth -= i32::from(c == ')');
        }
        let labels: Vec<String> = labels
            .split(',')
            .map(|label| label.trim().to_owned())
            .filter(|label| !label.is_empty())
            .collect();
        for name in ticked(cells[1]) {
            let mut labels = labels.clone();
            if name == "_watch_errors_total" {
                labels.push("reason".to_owned());
            }
            let name = if name.starts_with('_') {
                format!("rbac_exporter{name}")
            } else {
                name
            };
            out.insert(name, labels);
        }
    }
    out
}

#[test]
fn the_contract_and_the_table_have_the_same_families() {
    let code: BTreeMap<String, Vec<String>> = TABLE
        .iter()
        .map(|f| {
            let labels = f.labels.iter().map(|l| (*l).to_owned()).collect();
            (f.name.to_owned(), labels)
        })
        .collect();
    assert_eq!(code, contract());
}

/// The tables of docs/configuration.md, each between its markers; the prose around them is written.
#[test]
fn configuration() {
    let path = "docs/configuration.md";
    let mut text = read(path);
    let tables: [(&str, &[Word]); 6] = [
        ("keys", &config::REFERENCE),
        ("metrics", &config::METRICS_REFERENCE),
        ("rules", &RULE_REFERENCE),
        ("levels", &LEVEL_REFERENCE),
        ("atoms", &ATOM_REFERENCE),
        ("accepted", &config::ACCEPTED_REFERENCE),
    ];
    let mut words = Vec::new();
    for (name, keys) in tables {
        let (start, end) = (format!("<!-- {name} -->\n"), "<!-- end -->");
        let (before, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{start}"));
        let (_, after) = rest
            .split_once(end)
            .unwrap_or_else(|| panic!("{name}: {end}"));
        let mut table = "| key | takes | |\n| --- | --- | --- |\n".to_owned();
        for key in keys {
            let (long, short) = key.word.split_once('|').unwrap_or((key.word, ""));
            words.push(long);
            let short = match short {
                "" => String::new(),
                short => format!(" (`{short}`)"),
            };
            let (value, meaning) = (cell(key.value), cell(key.meaning));
            let _ = writeln!(table, "| `{long}`{short} | {value} | {meaning} |");
        }
        text = format!("{before}{start}{table}{end}{after}");
    }
    is_current(path, &text);
    // the parser knows these and no others
    let (mut parsed, mut told): (Vec<_>, Vec<_>) = (config::all_words().collect(), words);
    parsed.sort_unstable();
    told.sort_unstable();
    assert_eq!(parsed, told);
}
