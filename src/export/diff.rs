//! What `diff` prints: text for people, JSON for programs, Markdown for a comment on a pull request.

use super::listing::number;
use super::markdown::{code, cut_to};
use super::report::{
    GrantEntry, Levels, Reference, StepEntry, grant_entry, object, printable, problem_line, step,
    step_entry, subject_reference,
};
use crate::compare::{Comparison, Difference, Edit, FindingChange, Move, ObjectChange, Side};
use crate::ledger::{FindingView, Ledger, Problem, SubjectView};
use crate::object::Origin;
use crate::risk::{Priority, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Findings of one subject that are spelt out for people; the JSON has all.
const MOST_FINDINGS: usize = 6;
/// Subjects named beside the one whose change they share.
const MOST_NAMES: usize = 5;
/// Objects listed that move nobody.
const MOST_OBJECTS: usize = 20;
/// Bytes of a comment on GitHub, less what a workflow may add (`body is too long (maximum is 65536
/// characters)`).
const LONGEST_COMMENT: usize = 60_000;

/// Both worlds and what is different.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// The old world.
    pub old: Input,
    /// The new one.
    pub new: Input,
    /// Subjects that are not judged the same, the most alarming first.
    pub subjects: Vec<SubjectDiff>,
    /// Objects that differ in what the judgement reads, by kind, namespace, name.
    pub objects: Vec<ObjectDiff>,
    /// The old world is a cluster.
    #[serde(skip)]
    pub live: bool,
}

/// A world.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// As given on the command line: a path, `-`, or `live`.
    pub source: String,
    /// Everything was read and decoded.
    pub complete: bool,
    /// Version of the server, as assumed by the judgement.
    pub kubernetes_version: String,
    /// Subjects by effective priority and status.
    pub subjects: Levels,
    /// What could not be read, and what deserves a look.
    pub problems: Vec<Problem>,
}

impl Input {
    /// Of a world and its ledger.
    pub fn of(source: &str, ledger: &Ledger, side: &Side) -> Input {
        let by_status = |p: Priority| {
            let all = Status::ALL.iter();
            all.map(|s| (s.as_str(), side.count(p, *s) as u64))
                .collect()
        };
        Input {
            source: source.to_owned(),
            complete: ledger.complete(),
            kubernetes_version: ledger.version().to_string(),
            subjects: Priority::ALL
                .into_iter()
                .map(|p| (p, by_status(p)))
                .collect(),
            problems: ledger.problems(),
        }
    }
}

/// A subject.
#[derive(Clone, Debug, Serialize)]
pub struct SubjectDiff {
    /// `rises`, `appears`, `changes`, `falls` or `vanishes`.
    pub change: &'static str,
    /// `Group`, `ServiceAccount` or `User`.
    pub kind: &'static str,
    /// Namespace of an account.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// As it was.
    pub old: Option<LevelEntry>,
    /// As it is.
    pub new: Option<LevelEntry>,
    /// Findings added, removed, or of another priority or status.
    pub findings: Vec<FindingDiff>,
    /// Objects behind it.
    pub because: Vec<ObjectDiff>,
}

/// How a subject is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelEntry {
    /// Effective priority.
    pub priority: Priority,
    /// By its own findings.
    pub own: Priority,
    /// Status.
    pub status: Status,
    /// To the identity whose own priority it takes.
    pub path: Vec<StepEntry>,
}

/// A finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingDiff {
    /// `added`, `changed` or `removed`.
    pub change: &'static str,
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// As it was.
    pub old: Option<FindingSide>,
    /// As it is.
    pub new: Option<FindingSide>,
}

/// A finding on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingSide {
    /// Priority.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// What it rests on.
    pub grants: Vec<GrantEntry>,
}

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectDiff {
    /// `added`, `changed` or `removed`.
    pub change: &'static str,
    /// Kind; pods go under the workload that owns them.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Fields that differ, of an object that is on both sides.
    pub fields: Vec<FieldDiff>,
    /// Where it stood; null in a cluster.
    pub old: Option<Place>,
    /// Where it stands.
    pub new: Option<Place>,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDiff {
    /// Name of the field.
    pub name: &'static str,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// Only in the new one.
    pub added: Vec<String>,
}

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File.
    pub file: String,
    /// Line in it.
    pub line: u32,
}

fn level(view: &SubjectView) -> LevelEntry {
    LevelEntry {
        priority: view.priority,
        own: view.own,
        status: view.status,
        path: view.path.iter().map(step_entry).collect(),
    }
}

fn finding(change: &FindingChange) -> FindingDiff {
    let side = |f: &FindingView| FindingSide {
        priority: f.priority,
        status: f.status,
        grants: f.grants.iter().map(grant_entry).collect(),
    };
    FindingDiff {
        change: match (&change.old, &change.new) {
            (None, _) => Edit::Added.as_str(),
            (_, None) => Edit::Removed.as_str(),
            _ => Edit::Changed.as_str(),
        },
        rule: change.rule.clone(),
        scope: change.scope.clone(),
        old: change.old.as_ref().map(side),
        new: change.new.as_ref().map(side),
    }
}

fn object_diff(change: &ObjectChange) -> ObjectDiff {
    let place = |origin: &Origin| Place {
        file: origin.file.to_string(),
        line: origin.line,
    };
    ObjectDiff {
        change: change.edit.as_str(),
        kind: change.name.kind.clone(),
        namespace: change.name.namespace.clone(),
        name: change.name.name.clone(),
        fields: change
            .fields
            .iter()
            .map(|f| FieldDiff {
                name: f.name,
                removed: f.removed.clone(),
                added: f.added.clone(),
            })
            .collect(),
        old: change.old.as_ref().map(place),
        new: change.new.as_ref().map(place),
    }
}

fn subject(difference: &Difference, objects: &[ObjectDiff]) -> SubjectDiff {
    let Reference {
        kind,
        namespace,
        name,
    } = subject_reference(&difference.subject);
    SubjectDiff {
        change: difference.what.as_str(),
        kind,
        namespace,
        name,
        old: difference.old.as_ref().map(level),
        new: difference.new.as_ref().map(level),
        findings: difference.findings.iter().map(finding).collect(),
        because: difference
            .because
            .iter()
            .filter_map(|i| objects.get(*i).cloned())
            .collect(),
    }
}

/// Subjects that share a change, down to its reasons.
struct Shared<'a> {
    first: &'a SubjectDiff,
    others: Vec<&'a SubjectDiff>,
}

impl Diff {
    /// Of two worlds and their comparison.
    pub fn of(old: Input, new: Input, comparison: &Comparison, live: bool) -> Diff {
        let objects: Vec<ObjectDiff> = comparison.objects.iter().map(object_diff).collect();
        let subjects = comparison.subjects.iter();
        Diff {
            old,
            new,
            subjects: subjects.map(|d| subject(d, &objects)).collect(),
            objects,
            live,
        }
    }

    fn count(&self, what: Move) -> usize {
        let subjects = self.subjects.iter();
        subjects.filter(|s| s.change == what.as_str()).count()
    }

    /// `1 rises, 0 appear, …`, in the order of alarm.
    fn counts(&self) -> String {
        let all = Move::ALL.map(|m| {
            let n = self.count(m);
            let word = m.as_str();
            match n {
                1 => format!("1 {word}"),
                _ => format!("{n} {}", plural(word)),
            }
        });
        all.join(", ")
    }

    /// What is worth a paragraph, those with the same one together. Subjects of priority none that
    /// come or go are only counted.
    fn shared(&self) -> (Vec<Shared<'_>>, usize) {
        let mut out: Vec<Shared<'_>> = Vec::new();
        let mut at: BTreeMap<String, usize> = BTreeMap::new();
        let mut harmless = 0;
        for s in &self.subjects {
            let worth = |l: &Option<LevelEntry>| {
                l.as_ref().map(|l| l.priority).unwrap_or_default() > Priority::None
            };
            if !worth(&s.old) && !worth(&s.new) && s.findings.is_empty() {
                harmless += 1;
                continue;
            }
            let key = serde_json::to_string(&(s.change, &s.old, &s.new, &s.findings, &s.because))
                .unwrap_or_default();
            match at.get(&key) {
                Some(i) => out[*i].others.push(s),
                None => {
                    at.insert(key, out.len());
                    out.push(Shared {
                        first: s,
                        others: Vec::new(),
                    });
                }
            }
        }
        (out, harmless)
    }

    /// Objects that differ and are behind no difference.
    fn idle(&self) -> Vec<&ObjectDiff> {
        let behind = |o: &ObjectDiff| self.subjects.iter().any(|s| s.because.contains(o));
        self.objects.iter().filter(|o| !behind(o)).collect()
    }

    fn new_problems(&self) -> impl Iterator<Item = &Problem> {
        let old = self.old.problems.iter();
        let known: Vec<_> = old
            .map(|p| (&p.kind, &p.namespace, &p.name, &p.message))
            .collect();
        let new = self.new.problems.iter();
        new.filter(move |p| !known.contains(&(&p.kind, &p.namespace, &p.name, &p.message)))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (label, side) in [("Old", &self.old), ("New", &self.new)] {
            let _ = writeln!(
                out,
                "{label} {}, judged as Kubernetes {}: {}",
                printable(&side.source),
                side.kubernetes_version,
                open(&side.subjects)
            );
        }
        let _ = writeln!(out, "Subjects {}", self.counts());
        let (shared, harmless) = self.shared();
        for group in &shared {
            out.push('\n');
            paragraph(&mut out, group, self.live);
        }
        if shared.is_empty() {
            out.push_str("\nNobody can do more or less.\n");
        }
        if harmless > 0 {
            let _ = writeln!(
                out,
                "\n{} of priority none, without findings, not shown.",
                number(harmless, "subject")
            );
        }
        let idle = self.idle();
        if !idle.is_empty() {
            let _ = writeln!(out, "\nDiffers, and moves nobody:");
            for o in idle.iter().take(MOST_OBJECTS) {
                let _ = writeln!(out, "  {}", object_line(o, self.live, &plain));
            }
            more(&mut out, "  ", idle.len(), MOST_OBJECTS);
        }
        let mut problems = self
            .old
            .problems
            .iter()
            .chain(self.new_problems())
            .peekable();
        if problems.peek().is_some() {
            out.push('\n');
        }
        for p in problems {
            let _ = writeln!(out, "{}", problem_line(p));
        }
        if !self.old.complete || !self.new.complete {
            out.push_str("\nNot everything could be read: the true picture may be worse.\n");
        }
        out
    }

    /// For a comment on a pull request. Whatever comes from the input stands in code spans: they are
    /// the one place where Markdown knows no links, no mentions and no HTML.
    pub fn markdown(&self) -> String {
        let (shared, harmless) = self.shared();
        let mut head = String::from("<!-- rbac-exporter diff -->\n### RBAC: ");
        let worst = self
            .subjects
            .iter()
            .filter(|s| [Move::Rises.as_str(), Move::Appears.as_str()].contains(&s.change))
            .filter_map(|s| s.new.as_ref())
            .filter(|l| l.status == Status::Open)
            .map(|l| l.priority)
            .max()
            .unwrap_or_default();
        match (shared.is_empty(), worst) {
            (true, _) => head.push_str("nobody can do more or less"),
            (false, Priority::None) => head.push_str("nobody rises"),
            (false, p) => {
                let _ = write!(head, "somebody becomes **{}**", p.as_str());
            }
        }
        let _ = writeln!(
            head,
            "\n\nFrom {} to {}: {}.\n",
            code(&self.old.source),
            code(&self.new.source),
            self.counts()
        );
        let mut foot = String::new();
        if harmless > 0 {
            let _ = writeln!(
                foot,
                "\n{} of priority none, without findings, not shown.",
                number(harmless, "subject")
            );
        }
        let idle = self.idle();
        if !idle.is_empty() {
            let _ = writeln!(
                foot,
                "\nObjects that differ and move nobody: {}.",
                idle.len()
            );
        }
        let problems: Vec<&Problem> = self
            .old
            .problems
            .iter()
            .chain(self.new_problems())
            .collect();
        if !problems.is_empty() {
            let _ = writeln!(foot, "\n{}:\n", number(problems.len(), "problem"));
            for p in problems.iter().take(MOST_FINDINGS) {
                let _ = writeln!(foot, "- {}", code(&problem_line(p)));
            }
            more(&mut foot, "- ", problems.len(), MOST_FINDINGS);
        }
        if !self.old.complete || !self.new.complete {
            foot.push_str("\n**Not everything could be read: the true picture may be worse.**\n");
        }
        let paragraphs: Vec<String> = shared.iter().map(|g| item(g, self.live)).collect();
        let room = LONGEST_COMMENT.saturating_sub(head.len() + foot.len());
        head + &cut_to(&paragraphs, room) + &foot
    }
}

/// `rises` → `rise`, `vanishes` → `vanish`.
fn plural(word: &str) -> &str {
    match word {
        "vanishes" => "vanish",
        _ => word.strip_suffix('s').unwrap_or(word),
    }
}

fn more(out: &mut String, indent: &str, all: usize, shown: usize) {
    if all > shown {
        let _ = writeln!(out, "{indent}… and {} more", all - shown);
    }
}

/// `1 critical, 0 high, …`, open ones.
fn open(levels: &Levels) -> String {
    let parts = Priority::RISKY.into_iter().rev().map(|p| {
        let by = levels.get(&p).and_then(|by| by.get(Status::Open.as_str()));
        format!("{} {}", by.copied().unwrap_or_default(), p.as_str())
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn plain(text: &str) -> String {
    printable(text)
}

fn written(s: &SubjectDiff) -> String {
    match s.kind {
        "ServiceAccount" => format!("sa:{}/{}", s.namespace, s.name),
        "Group" => format!("group:{}", s.name),
        _ => format!("user:{}", s.name),
    }
}

/// `low → critical`, `critical`; a status that is not open is said.
fn levels(s: &SubjectDiff) -> String {
    let one = |l: &LevelEntry| match l.status {
        Status::Open => l.priority.as_str().to_owned(),
        status => format!("{} ({})", l.priority.as_str(), status.as_str()),
    };
    match (s.old.as_ref().map(one), s.new.as_ref().map(one)) {
        (Some(old), Some(new)) if old == new => new,
        (Some(old), Some(new)) => format!("{old} → {new}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => String::new(),
    }
}

/// The findings in lines: a sign, the rule, what it is worth and by what.
fn finding_lines(s: &SubjectDiff, quote: &dyn Fn(&str) -> String) -> Vec<String> {
    let line = |f: &FindingDiff| {
        let name = quote(&format!("{}@{}", f.rule, f.scope));
        let word = |side: &FindingSide| match side.status {
            Status::Open => side.priority.as_str().to_owned(),
            status => format!("{} {}", side.priority.as_str(), status.as_str()),
        };
        let by = |side: &FindingSide| {
            let grants = side.grants.iter().map(|g| {
                format!(
                    "{} to {}",
                    quote(&object(&g.binding)),
                    quote(&object(&g.role))
                )
            });
            let grants: Vec<String> = grants.collect();
            match grants.as_slice() {
                [] => String::new(),
                grants => format!(" by {}", grants.join(" and ")),
            }
        };
        match (&f.old, &f.new) {
            (Some(old), Some(new)) => {
                format!("± {name} {} → {}{}", word(old), word(new), by(new))
            }
            (None, Some(new)) => format!("+ {name} {}{}", word(new), by(new)),
            (Some(old), None) => format!("- {name} {}{}", word(old), by(old)),
            (None, None) => String::new(),
        }
    };
    let changes = [Edit::Added, Edit::Changed, Edit::Removed].map(Edit::as_str);
    let mut out = Vec::new();
    for change in changes {
        let these = s.findings.iter().filter(|f| f.change == change);
        let all: Vec<&FindingDiff> = these.collect();
        // where it holds it implies the others, as in the table of `scan`
        match all.iter().find(|f| f.rule == "wildcard-admin") {
            Some(whole) => {
                let (same, others): (Vec<&FindingDiff>, Vec<&FindingDiff>) =
                    all.iter().copied().partition(|f| f.scope == whole.scope);
                out.push(format!(
                    "{}, and {} with it",
                    line(whole),
                    number(same.len() - 1, "other")
                ));
                out.extend(others.into_iter().map(line));
            }
            None => out.extend(all.into_iter().map(line)),
        }
    }
    out
}

/// The path, where it is another one.
fn path_line(s: &SubjectDiff, quote: &dyn Fn(&str) -> String) -> Option<String> {
    let path = |l: &Option<LevelEntry>| {
        let steps = l.iter().flat_map(|l| &l.path).map(step);
        steps.collect::<Vec<_>>().join(" → ")
    };
    let (old, new) = (path(&s.old), path(&s.new));
    match (old.as_str(), new.as_str()) {
        (old, new) if old == new => None,
        ("", new) => Some(format!("reaches {}", quote(new))),
        (old, "") => Some(format!("no longer reaches {}", quote(old))),
        (old, new) => Some(format!("reaches {}, and before {}", quote(new), quote(old))),
    }
}

/// A roleRef cannot be changed in place.
fn changes_role(o: &ObjectDiff) -> bool {
    o.fields.iter().any(|f| f.name == "roleRef")
}

/// An object with what became of it and where: `ClusterRole x changed: rules + …, a.yaml:3 → b.yaml:4`.
fn object_line(o: &ObjectDiff, live: bool, quote: &dyn Fn(&str) -> String) -> String {
    let name = match o.namespace.as_str() {
        "" => format!("{} {}", o.kind, o.name),
        namespace => format!("{} {namespace}/{}", o.kind, o.name),
    };
    let mut out = format!("{} {}", quote(&name), o.change);
    for (i, field) in o.fields.iter().enumerate() {
        let _ = write!(out, "{} {}", if i == 0 { ":" } else { ";" }, field.name);
        for (sign, words) in [("-", &field.removed), ("+", &field.added)] {
            for word in words {
                let _ = write!(out, " {sign} {}", quote(word));
            }
        }
    }
    if changes_role(o) {
        out.push_str("; the API server refuses that, so the old one must be deleted first");
    }
    let place = |p: &Place| quote(&format!("{}:{}", p.file, p.line));
    let places = match (&o.old, &o.new) {
        (Some(old), Some(new)) => format!("{} → {}", place(old), place(new)),
        (Some(old), None) => place(old),
        (None, Some(new)) if live && o.change != Edit::Added.as_str() => {
            format!("cluster → {}", place(new))
        }
        (None, Some(new)) => place(new),
        (None, None) if live => "cluster".to_owned(),
        (None, None) => return out,
    };
    let _ = write!(out, " ({places})");
    out
}

fn names(others: &[&SubjectDiff], quote: &dyn Fn(&str) -> String) -> String {
    let shown = others.iter().take(MOST_NAMES).map(|s| quote(&written(s)));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if others.len() > MOST_NAMES {
        let _ = write!(text, " and {} more", others.len() - MOST_NAMES);
    }
    text
}

fn paragraph(out: &mut String, group: &Shared<'_>, live: bool) {
    let s = group.first;
    let _ = writeln!(
        out,
        "{} {}: {}",
        printable(&written(s)),
        s.change,
        levels(s)
    );
    let findings = finding_lines(s, &plain);
    for line in findings.iter().take(MOST_FINDINGS) {
        let _ = writeln!(out, "  {line}");
    }
    more(out, "  ", findings.len(), MOST_FINDINGS);
    if let Some(line) = path_line(s, &plain) {
        let _ = writeln!(out, "  {line}");
    }
    for o in &s.because {
        let _ = writeln!(out, "  because of {}", object_line(o, live, &plain));
    }
    if !group.others.is_empty() {
        let _ = writeln!(out, "  the same for {}", names(&group.others, &plain));
    }
}

/// The same as a list item of Markdown.
fn item(group: &Shared<'_>, live: bool) -> String {
    let s = group.first;
    let mut out = format!("- {} {}: **{}**\n", code(&written(s)), s.change, levels(s));
    let findings = finding_lines(s, &code);
    for line in findings.iter().take(MOST_FINDINGS) {
        // a sign at the start of an item would begin a list of its own
        let line = match line.split_at_checked(1) {
            Some(("+", rest)) => format!("added{rest}"),
            Some(("-", rest)) => format!("removed{rest}"),
            _ => line.replacen('±', "changed", 1),
        };
        let _ = writeln!(out, "  - {line}");
    }
    more(&mut out, "  - ", findings.len(), MOST_FINDINGS);
    if let Some(line) = path_line(s, &code) {
        let _ = writeln!(out, "  - {line}");
    }
    for o in &s.because {
        let _ = writeln!(out, "  - because of {}", object_line(o, live, &code));
    }
    if !group.others.is_empty() {
        let _ = writeln!(out, "  - the same for {}", names(&group.others, &code));
    }
    out
}
