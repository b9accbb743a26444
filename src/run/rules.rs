//! `rules`: the catalogue as people and programs read it.

use super::{Exit, Failure, print};
use crate::cli::Output;
use crate::export::report::columns;
use crate::risk::{Catalogue, Priority, Rule};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    id: &'a str,
    title: &'a str,
    cluster: Option<Priority>,
    privileged: Option<Priority>,
    namespace: Option<Priority>,
    finding: bool,
    attack: &'a str,
    remediation: &'a str,
    references: &'a str,
    origin: &'static str,
}

fn entry(rule: &Rule) -> Entry<'_> {
    let levels = if rule.named_only {
        rule.named.as_ref().unwrap_or(&rule.levels)
    } else {
        &rule.levels
    };
    Entry {
        id: &rule.id,
        title: &rule.title,
        cluster: levels.cluster,
        privileged: levels.privileged,
        namespace: levels.namespace,
        finding: rule.finding,
        attack: &rule.attack,
        remediation: &rule.remediation,
        references: &rule.references,
        origin: "shipped",
    }
}

pub(super) fn list(output: Output) -> Result<Exit, Failure> {
    let catalogue = Catalogue::shipped();
    let entries: Vec<Entry<'_>> = catalogue.rules.iter().map(entry).collect();
    let text = match output {
        Output::Json => {
            serde_json::to_string_pretty(&entries)
                .map_err(|e| Failure::World(format!("the rules cannot be written: {e}")))?
                + "\n"
        }
        Output::Table => {
            let level = |p: Option<Priority>| p.map_or("-", Priority::as_str).to_owned();
            let rows: Vec<[String; 5]> = entries
                .iter()
                .map(|e| {
                    [
                        e.id.to_owned(),
                        level(e.cluster),
                        level(e.privileged),
                        level(e.namespace),
                        e.title.to_owned(),
                    ]
                })
                .collect();
            let mut text = String::new();
            columns(
                &mut text,
                ["RULE", "CLUSTER", "PRIVILEGED", "NAMESPACE", "TITLE"],
                &rows,
            );
            text
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}
