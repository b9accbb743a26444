//! Two worlds side by side: who rises, falls, appears and vanishes, by which findings, and because of
//! which objects (pure).
//!
//! The difference is taken between judgements, not between texts: a role that was split in two, or a
//! binding under another name, is no difference as long as everybody can do what they could. What
//! explains a difference are the objects that it rests on on either side and that are not the same on
//! both.

mod content;
mod overlay;

pub use content::{Edit, Field, ObjectChange, ObjectName};
pub use overlay::{Overlaid, Refused, lay_over};

use crate::ledger::{FindingView, Grant, Ledger, PathStep, SubjectView};
use crate::object::{Object, Resource, Role, Subject};
use crate::rbac::{ServerVersion, implicit_groups, selects, shipped_roles};
use crate::risk::{Priority, Status};
use content::{Contents, changes};
use std::collections::{BTreeMap, BTreeSet};

/// A judged world.
#[derive(Debug)]
pub struct Side {
    version: ServerVersion,
    subjects: BTreeMap<Subject, SubjectView>,
    contents: Contents,
}

impl Side {
    /// Of a settled ledger and the objects that it was given.
    pub fn of(ledger: &Ledger, objects: Vec<Object>) -> Side {
        Side {
            version: ledger.version(),
            subjects: ledger
                .subject_views()
                .map(|view| (view.subject.clone(), view))
                .collect(),
            contents: Contents::of(objects),
        }
    }

    /// How many subjects have the priority and status.
    pub fn count(&self, priority: Priority, status: Status) -> usize {
        let views = self.subjects.values();
        views
            .filter(|v| (v.priority, v.status) == (priority, status))
            .count()
    }

    /// There is no object on this side.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Everything that names the subject comes and goes with a chart run, as `scan` has it.
    fn transient(&self, subject: &Subject) -> bool {
        let mut naming = self.contents.bindings_of(subject).peekable();
        naming.peek().is_some() && naming.all(|b| b.meta.transient)
    }
}

/// What became of a subject, the most alarming first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Move {
    /// Its effective priority is higher.
    Rises,
    /// It was not there.
    Appears,
    /// The same priority, but other findings, another status or another own priority.
    Changes,
    /// Its effective priority is lower.
    Falls,
    /// It is no longer there.
    Vanishes,
}

impl Move {
    /// All of them, in their order.
    pub const ALL: [Move; 5] = [
        Move::Rises,
        Move::Appears,
        Move::Changes,
        Move::Falls,
        Move::Vanishes,
    ];

    /// As it stands in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Move::Rises => "rises",
            Move::Appears => "appears",
            Move::Changes => "changes",
            Move::Falls => "falls",
            Move::Vanishes => "vanishes",
        }
    }
}

/// A finding that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingChange {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// As it was; `None` when it is new.
    pub old: Option<FindingView>,
    /// As it is; `None` when it is gone.
    pub new: Option<FindingView>,
}

/// A subject that is not judged the same on both sides.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Who.
    pub subject: Subject,
    /// What became of it.
    pub what: Move,
    /// As it was.
    pub old: Option<SubjectView>,
    /// As it is.
    pub new: Option<SubjectView>,
    /// Findings added, removed, or of another priority or status.
    pub findings: Vec<FindingChange>,
    /// Why: places in [`Comparison::objects`].
    pub because: Vec<usize>,
}

/// What is different.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Subjects: by what became of them, the strongest first, then by name.
    pub subjects: Vec<Difference>,
    /// Objects that differ in what the judgement reads, by kind, namespace and name.
    pub objects: Vec<ObjectChange>,
    /// Highest priority that an open subject has now and did not reach before; those that come and go
    /// with a chart run do not count.
    pub worst_rise: Priority,
}

impl Comparison {
    /// Nothing that is judged differs.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty() && self.objects.is_empty()
    }
}

/// Compares two worlds.
pub fn compare(old: &Side, new: &Side) -> Comparison {
    let objects = changes(&old.contents, &new.contents, &selector_keys(old, new));
    let causes = Causes {
        sides: [old, new],
        at: objects
            .iter()
            .enumerate()
            .map(|(i, o)| (o.name.clone(), i))
            .collect(),
    };
    let everybody: BTreeSet<&Subject> = old.subjects.keys().chain(new.subjects.keys()).collect();
    let mut worst_rise = Priority::None;
    let mut subjects = Vec::new();
    for subject in everybody {
        let (before, after) = (old.subjects.get(subject), new.subjects.get(subject));
        let level = before.map(|v| v.priority).unwrap_or_default();
        if let Some(now) = after
            && now.status == Status::Open
            && now.priority > level
            && !new.transient(subject)
        {
            worst_rise = worst_rise.max(now.priority);
        }
        let findings = findings(before, after);
        let what = match (before, after) {
            (None, _) => Move::Appears,
            (_, None) => Move::Vanishes,
            (Some(b), Some(a)) if a.priority > b.priority => Move::Rises,
            (Some(b), Some(a)) if a.priority < b.priority => Move::Falls,
            (Some(b), Some(a)) if findings.is_empty() && (a.status, a.own) == (b.status, b.own) => {
                continue;
            }
            _ => Move::Changes,
        };
        subjects.push(Difference {
            because: causes.of(subject, &findings).into_iter().collect(),
            subject: subject.clone(),
            what,
            old: before.cloned(),
            new: after.cloned(),
            findings,
        });
    }
    subjects.sort_by_key(|d| {
        let level = |v: &Option<SubjectView>| v.as_ref().map(|v| v.priority).unwrap_or_default();
        let strength = std::cmp::Reverse((level(&d.new), level(&d.old)));
        (d.what, strength, d.subject.clone())
    });
    Comparison {
        subjects,
        objects,
        worst_rise,
    }
}

/// Findings that differ in priority or status, or are on one side alone. By which grants is not asked:
/// whoever can do the same through another binding can do the same.
fn findings(old: Option<&SubjectView>, new: Option<&SubjectView>) -> Vec<FindingChange> {
    let by_name = |view: Option<&SubjectView>| {
        let mut out: BTreeMap<(String, String), FindingView> = BTreeMap::new();
        for f in view.map(|v| v.findings.as_slice()).unwrap_or_default() {
            let kept = out
                .entry((f.rule.clone(), f.scope.clone()))
                .or_insert_with(|| f.clone());
            if kept.priority < f.priority {
                *kept = f.clone();
            }
        }
        out
    };
    let (mut old, mut new) = (by_name(old), by_name(new));
    let names: BTreeSet<(String, String)> = old.keys().chain(new.keys()).cloned().collect();
    let mut out: Vec<FindingChange> = names
        .into_iter()
        .filter_map(|name| {
            let (before, after) = (old.remove(&name), new.remove(&name));
            let worth = |f: &FindingView| (f.priority, f.status);
            let same = before.as_ref().map(worth) == after.as_ref().map(worth);
            (!same).then_some(FindingChange {
                rule: name.0,
                scope: name.1,
                old: before,
                new: after,
            })
        })
        .collect();
    out.sort_by_key(|f| {
        let level = |f: &Option<FindingView>| f.as_ref().map(|f| f.priority).unwrap_or_default();
        std::cmp::Reverse(level(&f.old).max(level(&f.new)))
    });
    out
}

/// Labels that some aggregated role looks at. All others come and go with every version of a chart.
fn selector_keys(old: &Side, new: &Side) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for side in [old, new] {
        let written = side.contents.cluster_roles();
        for role in written.chain(shipped_roles(side.version)) {
            for selector in role.aggregation.iter().flatten() {
                out.extend(selector.match_labels.iter().map(|(key, _)| key.clone()));
                out.extend(selector.match_expressions.iter().map(|e| e.key.clone()));
            }
        }
    }
    out
}

/// Looks for the objects behind a difference.
struct Causes<'a> {
    sides: [&'a Side; 2],
    at: BTreeMap<ObjectName, usize>,
}

impl Causes<'_> {
    fn of(&self, subject: &Subject, findings: &[FindingChange]) -> BTreeSet<usize> {
        let mut out = BTreeSet::new();
        self.findings(findings, &mut out);
        let views = self.sides.map(|side| side.subjects.get(subject));
        let (paths, levels) = (
            views.map(|v| v.map(|v| v.path.as_slice()).unwrap_or_default()),
            views.map(|v| v.map(|v| (v.priority, v.status))),
        );
        if levels[0] != levels[1] {
            for (side, path) in self.sides.into_iter().zip(paths) {
                self.path(side, subject, path, &mut out);
            }
            // what names it decides whether it is there at all, and whether it comes with every cluster
            if out.is_empty() || levels.contains(&None) {
                self.naming(subject, &mut out);
            }
        }
        if out.is_empty() {
            self.surroundings(findings, paths, &mut out);
        }
        out
    }

    fn add(&self, kind: &str, namespace: &str, name: &str, out: &mut BTreeSet<usize>) {
        out.extend(self.at.get(&ObjectName::new(kind, namespace, name)));
    }

    fn findings(&self, findings: &[FindingChange], out: &mut BTreeSet<usize>) {
        let both = findings.iter().flat_map(|f| [&f.old, &f.new]);
        for finding in both.flatten() {
            for grant in &finding.grants {
                self.grant(grant, out);
            }
        }
    }

    fn grant(&self, grant: &Grant, out: &mut BTreeSet<usize>) {
        let namespace = grant.binding_namespace.as_str();
        let binding = if namespace.is_empty() {
            Resource::ClusterRoleBindings
        } else {
            Resource::RoleBindings
        };
        self.add(binding.kind(), namespace, &grant.binding, out);
        if grant.cluster_role {
            self.cluster_role(&grant.role, &mut BTreeSet::new(), out);
        } else {
            self.add(Resource::Roles.kind(), namespace, &grant.role, out);
        }
    }

    /// The role, and those that it takes up or took up.
    fn cluster_role(&self, name: &str, met: &mut BTreeSet<String>, out: &mut BTreeSet<usize>) {
        if !met.insert(name.to_owned()) {
            return;
        }
        self.add(Resource::ClusterRoles.kind(), "", name, out);
        for side in self.sides {
            // manifests rarely hold `edit`, and a cluster always does
            let written = side.contents.cluster_role(name);
            let shipped = || {
                let mut all = shipped_roles(side.version).iter();
                all.find(|r| r.meta.namespace.is_empty() && r.meta.name == name)
            };
            let Some(selectors) = written
                .or_else(shipped)
                .and_then(|r| r.aggregation.as_ref())
            else {
                continue;
            };
            let shipped = shipped_roles(side.version).iter();
            let taken: Vec<&Role> = side
                .contents
                .cluster_roles()
                .chain(shipped.filter(|r| r.meta.namespace.is_empty()))
                .filter(|r| selectors.iter().any(|s| selects(s, &r.labels)))
                .collect();
            for role in taken {
                self.cluster_role(&role.meta.name, met, out);
            }
        }
    }

    /// What makes the steps of a path possible, and its end as strong as it is.
    fn path(&self, side: &Side, from: &Subject, path: &[PathStep], out: &mut BTreeSet<usize>) {
        let mut at = from;
        for step in path {
            let views = side.subjects.get(at).into_iter();
            for finding in views.flat_map(|v| &v.findings) {
                if finding.rule == step.edge && finding.scope == step.scope {
                    finding.grants.iter().for_each(|g| self.grant(g, out));
                }
            }
            if let Subject::ServiceAccount { namespace, name } = &step.to {
                self.add(Resource::ServiceAccounts.kind(), namespace, name, out);
                for pod in side.contents.carriers(namespace, name) {
                    out.extend(self.at.get(pod));
                }
            }
            at = &step.to;
        }
        if !path.is_empty() {
            let [old, new] = self.sides.map(|side| side.subjects.get(at));
            self.findings(&findings(old, new), out);
        }
    }

    /// The object of an account, and bindings that name the subject or a group that it has for sure.
    fn naming(&self, subject: &Subject, out: &mut BTreeSet<usize>) {
        if let Subject::ServiceAccount { namespace, name } = subject {
            self.add(Resource::ServiceAccounts.kind(), namespace, name, out);
        }
        let groups = implicit_groups(subject)
            .into_iter()
            .map(|name| Subject::Group { name });
        for named in std::iter::once(subject.clone()).chain(groups) {
            for side in self.sides {
                for binding in side.contents.bindings_of(&named) {
                    self.grant(&content::grant_of(binding), out);
                }
            }
        }
    }

    /// Nothing that grants is different: then it is what lies in the namespaces concerned, a pod that
    /// lends its token or a namespace that lets pods do more.
    fn surroundings(
        &self,
        findings: &[FindingChange],
        paths: [&[PathStep]; 2],
        out: &mut BTreeSet<usize>,
    ) {
        let mut scopes: BTreeSet<&str> = findings.iter().map(|f| f.scope.as_str()).collect();
        for step in paths.into_iter().flatten() {
            scopes.insert(&step.scope);
            if let Subject::ServiceAccount { namespace, .. } = &step.to {
                scopes.insert(namespace);
            }
        }
        let rbac = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];
        for (name, at) in &self.at {
            let place = if name.kind == "Namespace" {
                &name.name
            } else {
                &name.namespace
            };
            let near = scopes.contains("*") || scopes.contains(place.as_str());
            if near && !rbac.contains(&name.kind.as_str()) {
                out.insert(*at);
            }
        }
    }
}
