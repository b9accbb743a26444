//! `accept`: prints what a configuration would have to say for what is open now to be accepted.

use super::{Exit, Failure, note, print, world};
use crate::cli::{AcceptArgs, SourceArgs};
use crate::export::acceptance::acceptance_entry;
use crate::ledger::Proposal;

pub(super) fn run(source: &SourceArgs, args: &AcceptArgs) -> Result<Exit, Failure> {
    let ledger = world::gather(source)?;
    let mut proposals: Vec<Proposal> = Vec::new();
    if args.subjects.is_empty() {
        proposals = ledger.proposals(args.priority);
    }
    for subject in &args.subjects {
        if ledger.explain(subject).is_none() {
            let message = format!("{} is not there", subject.written());
            return Err(Failure::Usage(message));
        }
        let proposal = ledger.proposal(subject);
        match proposal.filter(|p| p.priority >= args.priority) {
            Some(proposal) if !proposals.contains(&proposal) => proposals.push(proposal),
            Some(_) => {}
            None => {
                let least = args.priority.as_str();
                note(&format!(
                    "{}: nothing is open at {least} or above",
                    subject.written()
                ));
            }
        }
    }
    if proposals.is_empty() {
        note("nothing to accept");
    } else {
        let entries: String = proposals.iter().map(acceptance_entry).collect();
        print(&format!("accepted:\n{entries}"))?;
    }
    if !ledger.complete() && !args.allow_incomplete {
        note("not everything could be read, so there may be more");
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Done)
}
