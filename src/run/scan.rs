//! `scan`: judge once, print, and say by the exit code how bad it is.

use super::{Exit, Failure, note, print, world};
use crate::cli::{Output, ScanArgs, SourceArgs};
use crate::export::report::Report;

pub(super) fn run(source: &SourceArgs, args: &ScanArgs) -> Result<Exit, Failure> {
    let ledger = world::gather(source)?;
    let report = Report::of(&ledger);
    let text = match args.output {
        Output::Table => report.table(),
        Output::Json => {
            let text = serde_json::to_string_pretty(&report)
                .map_err(|e| Failure::World(format!("the report cannot be written: {e}")))?;
            text + "\n"
        }
    };
    print(&text)?;
    if report.is_empty() {
        // an empty pipe from a chart that failed to render must not pass for a clean one
        note("nothing to judge: the input holds no object; check what was to write it");
        if !args.allow_incomplete {
            return Ok(Exit::Incomplete);
        }
    }
    if args
        .fail_on
        .threshold()
        .is_some_and(|t| report.worst_open() >= t)
    {
        return Ok(Exit::Found);
    }
    if !report.complete && !args.allow_incomplete {
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Done)
}
