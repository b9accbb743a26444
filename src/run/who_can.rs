//! `who-can`: everybody who may do something.

use super::can_i::{attributes, doubts};
use super::{Exit, Failure, note, print, world};
use crate::cli::{Output, SourceArgs, WhoCanArgs};
use crate::export::who_can::WhoCan;
use crate::ledger::Attributes;

pub(super) fn run(source: &SourceArgs, args: &WhoCanArgs) -> Result<Exit, Failure> {
    let asked = attributes(
        &args.verb,
        &args.resource,
        args.subresource.as_deref(),
        args.namespace.as_deref(),
    );
    let place = args.namespace.is_some() || args.subresource.is_some() || args.all_namespaces;
    if matches!(asked, Attributes::Url { .. }) && place {
        return Err(Failure::Usage(format!(
            "{:?} is a path, which lies in no namespace and has no subresource; leave -n, -A and --subresource out",
            args.resource
        )));
    }
    let ledger = world::gather(source)?;
    let who = WhoCan::of(
        &ledger.who_can(&asked, args.all_namespaces),
        ledger.complete(),
    );
    let text = match args.output {
        Output::Table => who.table(),
        Output::Json => {
            serde_json::to_string_pretty(&who)
                .map_err(|e| Failure::World(format!("the answer cannot be written: {e}")))?
                + "\n"
        }
    };
    print(&text)?;
    doubts(&asked).iter().for_each(|doubt| note(doubt));
    if !who.complete {
        note(
            "not everything could be read, so somebody may be missing; scan lists what was not read",
        );
        if !args.allow_incomplete {
            return Ok(Exit::Incomplete);
        }
    }
    Ok(Exit::Done)
}
