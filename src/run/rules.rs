//! `rules`: the catalogue as people and programs read it.

use super::{Exit, Failure, config, print};
use crate::cli::{ConfigArgs, Output};
use crate::export::report::{columns, printable};
use crate::export::rules::RuleEntry;
use crate::risk::{Catalogue, Priority};

pub(super) fn list(args: &ConfigArgs, output: Output) -> Result<Exit, Failure> {
    let catalogue = Catalogue::of(&config::required(args)?.rules);
    let entries: Vec<RuleEntry<'_>> = catalogue.rules.iter().map(RuleEntry::of).collect();
    let text = match output {
        Output::Json => {
            serde_json::to_string_pretty(&entries)
                .map_err(|e| Failure::World(format!("the rules cannot be written: {e}")))?
                + "\n"
        }
        Output::Table => {
            let level = |p: Option<Priority>| p.map_or("-", Priority::as_str).to_owned();
            let rows: Vec<[String; 6]> = entries
                .iter()
                .map(|e| {
                    [
                        e.id.to_owned(),
                        level(e.cluster),
                        level(e.privileged),
                        level(e.namespace),
                        e.origin.clone(),
                        printable(e.title),
                    ]
                })
                .collect();
            let mut text = String::new();
            columns(
                &mut text,
                [
                    "RULE",
                    "CLUSTER",
                    "PRIVILEGED",
                    "NAMESPACE",
                    "ORIGIN",
                    "TITLE",
                ],
                &rows,
            );
            text
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}
