//! `diff`: what is different between two worlds, or what applying manifests would change in a cluster.

use super::world::{self, Objects};
use super::{Exit, Failure, note, print};
use crate::cli::{DiffArgs, DiffOutput, LIVE, SourceArgs};
use crate::compare::{Refused, Side, compare, lay_over};
use crate::export::diff::{Diff, Input};
use crate::ledger::{Change, Ledger};
use crate::object::{Object, Resource};
use crate::source::manifests::{Accounts, Manifests};

pub(super) fn run(source: &SourceArgs, args: &DiffArgs) -> Result<Exit, Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    if source.manifests.is_some() {
        return usage("diff takes its inputs as OLD and NEW; leave --source.manifests out");
    }
    if args.new == LIVE {
        return usage("only OLD can be live; write ./live for a path of that name");
    }
    if args.old == "-" && args.new == "-" {
        return usage("standard input can hold OLD or NEW, not both");
    }
    let live = args.old == LIVE;
    if !live && source.context.is_some() {
        return usage("--kube.context is for a live OLD; leave it out, or write live for OLD");
    }
    // opened first: a path that is not there must not cost the listing of a cluster
    let new = world::manifests(&args.new)?.in_namespace(&args.namespace);
    let ((old, before), (new, after)) = if live {
        over_the_cluster(source, new)?
    } else {
        let old = world::manifests(&args.old)?.in_namespace(&args.namespace);
        (
            whole(source, &args.old, old)?,
            whole(source, &args.new, new)?,
        )
    };
    let comparison = compare(&before, &after);
    let diff = Diff::of(
        Input::of(&args.old, &old, &before),
        Input::of(&args.new, &new, &after),
        &comparison,
        live,
    );
    let text = match args.output {
        DiffOutput::Text => diff.text(),
        DiffOutput::Markdown => diff.markdown(),
        DiffOutput::Json => {
            serde_json::to_string_pretty(&diff)
                .map_err(|e| Failure::World(format!("the difference cannot be written: {e}")))?
                + "\n"
        }
    };
    print(&text)?;
    let reached = |threshold| comparison.worst_rise >= threshold;
    if args.fail_on.threshold().is_some_and(reached) {
        return Ok(Exit::Found);
    }
    if args.allow_incomplete {
        return Ok(Exit::Done);
    }
    if after.is_empty() && new.skipped().is_empty() {
        // an empty pipe from a chart that failed to render must not pass for everybody's fall
        note("NEW holds no object; check what was to write it");
        return Ok(Exit::Incomplete);
    }
    if !old.complete() || !new.complete() {
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Done)
}

type Judged = (Ledger, Side);

/// Manifests as a world of their own.
fn whole(source: &SourceArgs, path: &str, manifests: Manifests) -> Result<Judged, Failure> {
    let source = SourceArgs {
        manifests: Some(path.to_owned()),
        ..source.clone()
    };
    let changes = world::read(manifests)?;
    let mut objects = Objects::default();
    changes.iter().for_each(|c| objects.see(c));
    let ledger = world::judge(world::ledger(&source)?, changes);
    let side = Side::of(&ledger, objects.into_vec());
    Ok((ledger, side))
}

/// The cluster as it is, and as it were with the manifests applied.
fn over_the_cluster(
    source: &SourceArgs,
    manifests: Manifests,
) -> Result<(Judged, Judged), Failure> {
    let mut objects = Objects::default();
    let old = world::gather_with(source, &mut |change| objects.see(change))?;
    let objects = objects.into_vec();
    let accounts: Accounts = objects
        .iter()
        .filter_map(|object| match object {
            Object::ServiceAccount(a) => {
                let name = (a.meta.namespace.clone(), a.meta.name.clone());
                Some((name, a.automount))
            }
            _ => None,
        })
        .collect();
    let mut manifests = manifests.beside(accounts);
    let reading = manifests.read().map_err(|e| world::read_failure(&e))?;
    let overlaid = lay_over(&objects, reading.objects)
        .map_err(|refused| Failure::Usage(refusals(&refused)))?;
    let mut changes: Vec<Change> = Resource::ALL.map(Change::RelistBegin).into();
    changes.extend(overlaid.filled.into_iter().map(Change::Upsert));
    changes.extend(Resource::ALL.map(Change::RelistEnd));
    changes.push(Change::Version(Some(old.version().to_string())));
    changes.push(Change::Problems(reading.problems));
    changes.push(Change::Skipped(reading.skipped));
    let new = world::judge(world::ledger(source)?, changes);
    let (before, after) = (Side::of(&old, objects), Side::of(&new, overlaid.written));
    Ok(((old, before), (new, after)))
}

/// All of them, one a line.
fn refusals(refused: &[Refused]) -> String {
    let line = |r: &Refused| {
        let meta = &r.binding.meta;
        let place = r.origin().map(|o| format!("{}:{}: ", o.file, o.line));
        let (kind, name) = match meta.namespace.as_str() {
            "" => ("ClusterRoleBinding", meta.name.clone()),
            namespace => ("RoleBinding", format!("{namespace}/{}", meta.name)),
        };
        let role = |cluster: bool, name: &str| {
            let kind = if cluster { "ClusterRole" } else { "Role" };
            format!("{kind} {name:?}")
        };
        format!(
            "{}{kind} {name}: roleRef is {} in the cluster and {} here, and the API server refuses to change it; \
             delete the binding first, or give it another name",
            place.unwrap_or_default(),
            role(r.role.0, &r.role.1),
            role(r.binding.role.cluster, &r.binding.role.name),
        )
    };
    refused.iter().map(line).collect::<Vec<_>>().join("\n")
}
