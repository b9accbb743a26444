//! The configuration: text in, rules and acceptances out, or every fault with its line (pure).
//!
//! Nothing is taken from a configuration that has a fault. Files are opened by the caller.

mod accepted;
mod kubiscan;

use crate::located::{Fault, Faults, Field, Word, parse, words};
use crate::risk::{Acceptance, Edits, Place, Priority, Rules, namespaces, priority, rule_words};
pub use accepted::REFERENCE as ACCEPTED_REFERENCE;
use std::sync::Arc;

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name, as messages give it.
    pub name: Arc<str>,
    /// What it holds.
    pub text: String,
}

/// An acceptance and where it stands.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The entry.
    pub entry: Acceptance,
    /// Its first line.
    pub place: Place,
    /// Path of the entry, such as `accepted[2]`.
    pub path: String,
}

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The shipped rules, those of the templates, and what the configuration does to them.
    pub rules: Rules,
    /// What was done to the shipped ones.
    pub edits: Edits,
    /// Known risks.
    pub accepted: Vec<Accepted>,
    /// Priorities that get a series a subject and workload, if it says so.
    pub detail: Option<Vec<Priority>>,
    /// Most series of one detail family, if it says so.
    pub detail_limit: Option<usize>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            rules: Rules::shipped(),
            edits: Edits::default(),
            accepted: Vec::new(),
            detail: None,
            detail_limit: None,
        }
    }
}

/// The words of a configuration.
pub const REFERENCE: [Word; 5] = [
    Word {
        word: "privilegedNamespaces",
        value: "names",
        meaning: "Added to `kube-system`: namespaces whose takeover is the cluster's.",
    },
    Word {
        word: "rules",
        value: "entries, below",
        meaning: "Rules added, replaced, changed, disabled.",
    },
    Word {
        word: "kubiscanTemplates",
        value: "paths, relative to the file",
        meaning: "KubiScan's `risky_roles.yaml` or an edited copy, below.",
    },
    Word {
        word: "metrics",
        value: "a mapping, below",
        meaning: "What has a series of its own.",
    },
    Word {
        word: "accepted",
        value: "entries, below",
        meaning: "Known risks.",
    },
];

/// The words of `metrics`.
pub const METRICS_REFERENCE: [Word; 2] = [
    Word {
        word: "detail",
        value: "a list of priorities",
        meaning: "Which get a series a subject and workload. `--metrics.detail critical,high` wins. Default: critical, high.",
    },
    Word {
        word: "detailLimit",
        value: "0 to 1000000",
        meaning: "Most series of one such family. `--metrics.detail-limit` wins. Default: 5000.",
    },
];

const KEYS: [&str; 5] = words(&REFERENCE);
const METRICS: [&str; 2] = words(&METRICS_REFERENCE);

/// Most series of a detail family that may be asked for.
const MOST_SERIES: i64 = 1_000_000;

/// Reads a configuration, the templates that it names, and before those the ones given beside it.
/// Templates come first, so that the configuration can change their rules too.
///
/// `open` reads a template that the configuration names.
///
/// # Errors
/// All faults: of the configuration by line, then of each template.
pub fn read(
    config: Option<&Text>,
    beside: Vec<Text>,
    open: &mut dyn FnMut(&str) -> Result<Text, String>,
) -> Result<Config, Vec<Fault>> {
    let mut out = Config::default();
    let mut templates = beside;
    let Some(config) = config else {
        let faults = take_templates(&templates, &mut out);
        return if faults.is_empty() {
            Ok(out)
        } else {
            Err(faults)
        };
    };
    let tree = match parse(&config.text, &config.name) {
        Ok(tree) => tree,
        Err(fault) => {
            let mut faults = vec![hint_at_empty(fault)];
            faults.extend(take_templates(&templates, &mut out));
            return Err(faults);
        }
    };
    let mut faults = Faults::new(config.name.clone());
    let root = Field::root(&tree);
    let mut of_templates = Vec::new();
    if let Some(fields) = faults.map(&root, &KEYS) {
        if let Some(list) = fields.get("kubiscanTemplates") {
            for (entry, path) in faults.texts(list) {
                match open(path) {
                    Ok(text) if templates.iter().any(|t| t.name == text.name) => {
                        faults.at(&entry, format!("{path:?} is given twice"));
                    }
                    Ok(text) => templates.push(text),
                    Err(why) => faults.at(&entry, format!("{path:?} cannot be read: {why}")),
                }
            }
        }
        of_templates = take_templates(&templates, &mut out);
        if let Some(list) = fields.get("rules") {
            out.rules.edit(list, &mut out.edits, &mut faults);
        }
        if let Some(list) = fields.get("privilegedNamespaces") {
            out.rules.privileged.extend(namespaces(list, &mut faults));
        }
        if let Some(field) = fields.get("metrics") {
            metrics(field, &mut out, &mut faults);
        }
        if let Some(list) = fields.get("accepted") {
            out.accepted = accepted::read(list, &out.rules, &mut faults);
        }
    }
    let mut all = faults.sorted();
    all.extend(of_templates);
    if all.is_empty() { Ok(out) } else { Err(all) }
}

/// An empty file is refused, because that is what a file looks like while it is being written.
fn hint_at_empty(mut fault: Fault) -> Fault {
    if fault.message == "holds nothing" {
        fault
            .message
            .push_str("; write {} for a configuration that changes nothing");
    }
    fault
}

fn take_templates(templates: &[Text], out: &mut Config) -> Vec<Fault> {
    templates
        .iter()
        .flat_map(|text| kubiscan::read(text, &mut out.rules, &mut out.edits))
        .collect()
}

/// Every word that may stand in a configuration, the long spelling of each.
pub fn all_words() -> impl Iterator<Item = &'static str> {
    let own = KEYS.iter().chain(&METRICS).chain(&accepted::KEYS).copied();
    own.chain(rule_words())
}

/// Does the text look like a template rather than a configuration?
pub fn is_template(text: &Text) -> bool {
    parse(&text.text, &text.name).is_ok_and(|tree| kubiscan::is_template(&tree))
}

fn metrics(field: &Field<'_>, out: &mut Config, faults: &mut Faults) {
    let Some(fields) = faults.map(field, &METRICS) else {
        return;
    };
    if let Some(list) = fields.get("detail") {
        let entries = faults.list(list).unwrap_or_default();
        let mut detail: Vec<Priority> = Vec::with_capacity(entries.len());
        for entry in entries {
            match priority(&entry, faults) {
                Some(p) if detail.contains(&p) => {
                    faults.at(&entry, format!("{:?} is given twice", p.as_str()));
                }
                Some(p) => detail.push(p),
                None => {}
            }
        }
        out.detail = Some(detail);
    }
    if let Some(field) = fields.get("detailLimit") {
        let limit = faults.number(field, 0..=MOST_SERIES);
        out.detail_limit = limit.and_then(|n| usize::try_from(n).ok());
    }
}
