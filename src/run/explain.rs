//! `explain`: one subject, why it is what it is, and what to cut.

use super::{Exit, Failure, look, note, print, world};
use crate::cli::{ExplainArgs, Output, SourceArgs};
use crate::export::explain::Explained;
use crate::ledger::Ledger;
use crate::object::Subject;
use crate::spelling::nearest;

/// Columns when nothing says how many there are.
const WIDTH: usize = 100;
/// Subjects of the same name that are listed.
const MOST: usize = 5;

pub(super) fn run(source: &SourceArgs, args: &ExplainArgs) -> Result<Exit, Failure> {
    let ledger = world::gather(source)?;
    let known = Subject::parse(&args.subject).and_then(|s| ledger.explanation(&s));
    let Some(explanation) = known else {
        if !ledger.complete() {
            note(
                "not everything could be read, so there may be more subjects; scan lists what is missing",
            );
        }
        return Err(Failure::Usage(unknown(&ledger, &args.subject)));
    };
    let context = source.context.as_deref();
    let explained = Explained::of(&explanation, ledger.complete(), context);
    let text = match args.output {
        Output::Table => explained.text(look().width.map_or(WIDTH, |columns| columns.max(40))),
        Output::Json => {
            serde_json::to_string_pretty(&explained)
                .map_err(|e| Failure::World(format!("the explanation cannot be written: {e}")))?
                + "\n"
        }
    };
    print(&text)?;
    if !explained.complete {
        note(
            "not everything could be read: the true picture may be worse; scan lists what is missing",
        );
        if !args.allow_incomplete {
            return Ok(Exit::Incomplete);
        }
    }
    Ok(Exit::Done)
}

/// There is no such subject; probably another one is meant.
fn unknown(ledger: &Ledger, asked: &str) -> String {
    let subjects: Vec<String> = ledger.subjects().iter().map(Subject::written).collect();
    let bare = |written: &String| {
        let name = written.split_once(':').map_or("", |(_, name)| name);
        name == asked || name.rsplit_once('/').is_some_and(|(_, name)| name == asked)
    };
    let same: Vec<&str> = subjects
        .iter()
        .filter(|s| bare(s))
        .map(String::as_str)
        .collect();
    let meant = match same.as_slice() {
        [] => nearest(asked, subjects.iter().map(String::as_str)).map(str::to_owned),
        some => Some(
            some.iter()
                .take(MOST)
                .copied()
                .collect::<Vec<_>>()
                .join(" or "),
        ),
    };
    let what = match Subject::parse(asked) {
        None => {
            format!("{asked:?} is no subject: write sa:NAMESPACE/NAME, user:NAME or group:NAME")
        }
        Some(_) => format!("there is no {asked:?}: no binding names it and no such account exists"),
    };
    match meant {
        Some(meant) => format!("{what}; did you mean {meant}?"),
        None => format!("{what}; scan lists all with --output json"),
    }
}
