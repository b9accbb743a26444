//! `scan`: judge once, print, and say by the exit code how bad it is.

use super::{Exit, Failure, look, note, print, world};
use crate::cli::{ScanArgs, ScanOutput, ShowArg, SourceArgs, VERSION};
use crate::clock;
use crate::export::listing::{Listing, Show};
use crate::export::metrics;
use crate::export::report::{Filter, Report};
use crate::export::sarif;
use crate::ledger::Ledger;
use std::mem::ManuallyDrop;
use std::sync::Arc;

pub(super) fn run(source: &SourceArgs, args: &ScanArgs) -> Result<Exit, Failure> {
    let filter = Filter {
        namespaces: args.namespaces.clone(),
        priority: args.priority,
        subjects: args.subjects.clone(),
    };
    check(source, args, &filter)?;
    // the process ends with them: nobody need wait until they are taken apart
    let ledger = ManuallyDrop::new(world::gather(source)?);
    let mut report = ManuallyDrop::new(Report::of(&ledger));
    let (worst, empty) = (report.worst_open(), report.is_empty());
    report.narrow(&filter);
    for subject in &args.subjects {
        if ledger.explain(subject).is_none() {
            note(&format!("nothing names {}", subject.written()));
        }
    }
    let json = |text: serde_json::Result<String>| {
        text.map(|text| text + "\n")
            .map_err(|e| Failure::World(format!("the report cannot be written: {e}")))
    };
    let text = match args.output {
        ScanOutput::Table => report.table(&Listing {
            show: match args.show {
                None | Some(ShowArg::Subjects) => Show::Subjects,
                Some(ShowArg::Pods) => Show::Pods,
                Some(ShowArg::Roles) => Show::Roles,
                Some(ShowArg::Bindings) => Show::Bindings,
            },
            look: look(),
            all: !args.subjects.is_empty(),
            filtered: filter.any(),
        }),
        ScanOutput::Json => json(serde_json::to_string_pretty(&*report))?,
        ScanOutput::Prometheus => prometheus(&ledger),
        ScanOutput::Sarif => {
            let root = std::env::current_dir().unwrap_or_default();
            let log = sarif::log(&report, ledger.catalogue(), VERSION, &root);
            if log.dropped > 0 {
                note(&format!(
                    "{} findings beyond the {} that code scanning takes were left out, the least of all; \
                     --namespace or --priority make runs of their own",
                    log.dropped,
                    sarif::MOST_RESULTS
                ));
            }
            json(serde_json::to_string_pretty(&log.document))?
        }
    };
    print(&text)?;
    if empty {
        // an empty pipe from a chart that failed to render must not pass for a clean one
        note("nothing to judge: the input holds no object; check what was to write it");
        if !args.allow_incomplete {
            return Ok(Exit::Incomplete);
        }
    }
    if args.fail_on.threshold().is_some_and(|t| worst >= t) {
        if report.worst_open() < worst {
            note("--fail-on looks at every subject, also at those that the filters leave out");
        }
        return Ok(Exit::Found);
    }
    if !report.complete && !args.allow_incomplete {
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Done)
}

/// What does not go together, before a cluster is listed for it.
fn check(source: &SourceArgs, args: &ScanArgs, filter: &Filter) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    if args.show.is_some() && args.output != ScanOutput::Table {
        return usage("--show is for the table; the other outputs have everything");
    }
    match args.output {
        ScanOutput::Prometheus if filter.any() => {
            usage("metrics are always those of the whole; leave the filters out")
        }
        ScanOutput::Sarif if source.manifests.is_none() => {
            usage("SARIF points into files, and a cluster has none; give --source.manifests")
        }
        _ => Ok(()),
    }
}

/// The body of /metrics, without what is told of a running process.
fn prometheus(ledger: &Ledger) -> String {
    let snapshot = Arc::new(ledger.snapshot());
    let about = Arc::new(super::about(String::new()));
    let work = Arc::new(metrics::Work::default());
    // it was read for this very look
    work.reconfigured(clock::now());
    metrics::once(&snapshot, &about, &work)
}
