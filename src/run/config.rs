//! The configuration: where its files are, what they hold now, and `config check`, `rules check`.

use super::{Exit, Failure, note, print, world};
use crate::cli::{ConfigArgs, SourceArgs};
use crate::clock;
use crate::config::{self, Config, Text};
use crate::export::report::printable;
use crate::ledger::{Ledger, Policy, Unmatched};
use crate::risk::{Acceptance, AcceptedFinding, Catalogue, Edits, RuleSpec};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of one file. A configuration has kilobytes; a larger file is not one.
const MOST: u64 = 4 << 20;

/// What a file held, or why it could not be read.
type Content = Result<String, String>;

/// The files as they were read, in their order: the templates of the flags, the configuration, the
/// templates that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading(Vec<(PathBuf, Content)>);

impl Reading {
    /// The same files, read anew. Contents are compared, not times: a ConfigMap is swapped by a
    /// symlink to files that may be older.
    pub(super) fn again(&self) -> Reading {
        let read = |path: &PathBuf| (path.clone(), read(path));
        Reading(self.0.iter().map(|(path, _)| read(path)).collect())
    }

    fn open(&mut self, path: &Path) -> Result<Text, String> {
        let content = read(path);
        self.0.push((path.to_owned(), content.clone()));
        content.map(|text| Text {
            name: Arc::from(printable(&path.to_string_lossy())),
            text,
        })
    }
}

fn read(path: &Path) -> Content {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("it is larger than {} MiB", MOST >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// Reads the files of the flags: what they held, and the configuration, or every fault, a line each.
pub(super) fn load(args: &ConfigArgs) -> (Reading, Result<Config, Vec<String>>) {
    let mut reading = Reading::default();
    let mut faults = Vec::new();
    let mut open = |path: &Path, what: &str| match reading.open(path) {
        Ok(text) => Some(text),
        Err(why) => {
            faults.push(format!("{what} {path:?} cannot be read: {why}"));
            None
        }
    };
    let templates = args.templates.iter();
    let beside = templates
        .filter_map(|path| open(path, "template"))
        .collect();
    let file = args.file.as_deref();
    let text = file.and_then(|path| open(path, "configuration"));
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let read = config::read(text.as_ref(), beside, &mut |path| {
        reading.open(&folder.join(path))
    });
    let read = match read {
        Ok(config) if faults.is_empty() => Ok(config),
        Ok(_) => Err(faults),
        Err(found) => {
            faults.extend(found.iter().map(ToString::to_string));
            Err(faults)
        }
    };
    (reading, read)
}

/// The configuration of the flags.
pub(super) fn required(args: &ConfigArgs) -> Result<Config, Failure> {
    load(args).1.map_err(Failure::Configuration)
}

/// What the ledger takes from it.
pub(super) fn policy(config: Config) -> Policy {
    let mut policy = Policy::from(Arc::new(Catalogue::of(&config.rules)));
    policy.accepted = config.accepted.into_iter().map(|a| a.entry).collect();
    policy.detail = config.detail.unwrap_or(policy.detail);
    policy.detail_limit = config.detail_limit.unwrap_or(policy.detail_limit);
    policy
}

/// Prints the faults, each as `FILE:LINE: FIELD: MESSAGE`, for editors to jump to.
pub(super) fn complain(faults: &[String]) {
    let mut stderr = std::io::stderr();
    for fault in faults {
        let _ = writeln!(stderr, "{}", printable(fault));
    }
    let many = match faults.len() {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    };
    note(&format!(
        "{many} in the configuration; nothing of it is used"
    ));
}

/// `rules check`.
pub(super) fn check_rules(args: &ConfigArgs, file: Option<PathBuf>) -> Result<Exit, Failure> {
    let args = match file {
        None => args.clone(),
        Some(path) => {
            let template = Reading::default()
                .open(&path)
                .is_ok_and(|text| config::is_template(&text));
            if template {
                ConfigArgs {
                    file: args.file.clone(),
                    templates: args.templates.iter().cloned().chain([path]).collect(),
                }
            } else {
                ConfigArgs {
                    file: Some(path),
                    templates: args.templates.clone(),
                }
            }
        }
    };
    let config = required(&args)?;
    print(&format!("{}\n", summary(&config)))?;
    Ok(Exit::Done)
}

/// `config check`.
pub(super) fn check(source: &SourceArgs, file: Option<PathBuf>) -> Result<Exit, Failure> {
    let mut args = source.config.clone();
    args.file = file.or(args.file);
    let Some(path) = args.file.clone() else {
        return Err(Failure::Usage(
            "nothing to check: name a file, or give --config.file".into(),
        ));
    };
    let config = required(&args)?;
    let now = clock::now();
    let mut warnings = Vec::new();
    let mut warn = |accepted: &config::Accepted, message: String| {
        let config::Accepted { entry, place, path } = accepted;
        warnings.push(format!(
            "{place}: {path}: warning: {:?} {message}",
            entry.id
        ));
    };
    for accepted in &config.accepted {
        if accepted.entry.expires <= now {
            let message = "has expired, so that it covers nothing; renew it, or take it out";
            warn(accepted, message.into());
        }
        for finding in &accepted.entry.findings {
            if config.rules.find(&finding.rule).is_some_and(|r| r.disabled) {
                let message = format!("accepts a finding of {:?}, which is disabled", finding.rule);
                warn(accepted, message);
            }
        }
    }
    if source.manifests.is_some() || source.context.is_some() {
        let source = SourceArgs {
            config: args,
            ..source.clone()
        };
        let ledger = world::gather(&source)?;
        for found in ledger.unmatched_acceptances() {
            let Some(accepted) = config.accepted.get(found.index) else {
                continue;
            };
            for message in unmatched(&ledger, &accepted.entry, &found) {
                warn(accepted, message);
            }
        }
        if !ledger.complete() {
            note("not everything could be read, so an accepted risk may be there all the same");
        }
    }
    let mut stderr = std::io::stderr();
    for warning in warnings {
        let _ = writeln!(stderr, "{}", printable(&warning));
    }
    let risks = match config.accepted.len() {
        1 => "1 accepted risk".to_owned(),
        n => format!("{n} accepted risks"),
    };
    let name = printable(&path.to_string_lossy());
    print(&format!("{name}: good: {}, {risks}\n", summary(&config)))?;
    Ok(Exit::Done)
}

/// What an acceptance speaks of and the world does not have.
fn unmatched(ledger: &Ledger, entry: &Acceptance, found: &Unmatched) -> Vec<String> {
    let who = entry.subject.written();
    if found.nothing {
        let why = match ledger.explain(&entry.subject) {
            None => "is not there",
            Some(_) => "has none of its findings",
        };
        return vec![format!("matches nothing: {who} {why}")];
    }
    let say = |f: &AcceptedFinding| format!("lists {}, which {who} has not", f.written());
    found.findings.iter().map(say).collect()
}

/// `88 rules in force (2 added, 1 disabled)`.
fn summary(config: &Config) -> String {
    let in_force = |spec: &&RuleSpec| !spec.disabled;
    let rules = config.rules.specs.iter().filter(in_force).count();
    let Edits {
        added,
        replaced,
        changed,
        disabled,
    } = config.edits;
    let parts: Vec<String> = [
        (added, "added"),
        (replaced, "replaced"),
        (changed, "changed"),
        (disabled, "disabled"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
    .map(|(n, what)| format!("{n} {what}"))
    .collect();
    match parts.is_empty() {
        true => format!("{rules} rules in force"),
        false => format!("{rules} rules in force ({})", parts.join(", ")),
    }
}
