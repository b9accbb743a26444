//! `rules`: the catalogue as people and programs read it.

use super::{Exit, Failure, print};
use crate::cli::Output;
use crate::export::report::columns;
use crate::export::rules::RuleEntry;
use crate::risk::{Catalogue, Priority};

pub(super) fn list(output: Output) -> Result<Exit, Failure> {
    let catalogue = Catalogue::shipped();
    let entries: Vec<RuleEntry<'_>> = catalogue.rules.iter().map(RuleEntry::of).collect();
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
