//! What somebody answers for of a subject: acceptances in force (contract §4), and shipped pairs beside
//! other grants (contract §3).
//!
//! An acceptance lists findings as `RULE@SCOPE`. It is looked up by subject when that subject is judged,
//! and for whoever implicitly belongs to a group when the group is accepted: then it answers for what the
//! group's own grants give by themselves. What an accepted `wildcard-admin` implies is accepted with it.

use super::Ledger;
use super::query::Case;
use super::rows::{SubjectKey, SubjectRow, ToKey};
use super::since::OwnSince;
use super::table::{Map, RowId};
use crate::object::Subject;
use crate::rbac::implicit_groups;
use crate::risk::{
    Acceptance, AcceptedFinding, Assessment, Catalogue, Edge, Priority, RuleId, Scope, Status,
};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The acceptances of a policy, by subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted {
    by_subject: HashMap<Subject, Vec<Entry>>,
    /// Ends that are still to come, the next one last.
    ends: Vec<(i64, Subject)>,
    /// A group is among the subjects.
    groups: bool,
}

/// One acceptance, by the numbers of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    lines: Vec<Line>,
    expires: i64,
}

/// A listed finding, and up to where it is answered for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    rule: RuleId,
    scope: Box<str>,
    up_to: Priority,
}

impl Accepted {
    pub(crate) fn new(catalogue: &Catalogue, entries: &[Acceptance]) -> Accepted {
        let mut accepted = Accepted::default();
        for entry in entries {
            // a rule that is not in force has no findings
            let line = |f: &AcceptedFinding| {
                Some(Line {
                    rule: catalogue.find(&f.rule)?,
                    scope: f.scope.as_str().into(),
                    up_to: entry.priority,
                })
            };
            let of = accepted
                .by_subject
                .entry(entry.subject.clone())
                .or_default();
            of.push(Entry {
                lines: entry.findings.iter().filter_map(line).collect(),
                expires: entry.expires,
            });
            accepted.ends.push((entry.expires, entry.subject.clone()));
            accepted.groups |= matches!(entry.subject, Subject::Group { .. });
        }
        accepted.ends.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        accepted
    }

    /// Subjects whose acceptances differ.
    pub(crate) fn changed(&self, other: &Accepted) -> Vec<Subject> {
        let all: BTreeSet<&Subject> = self
            .by_subject
            .keys()
            .chain(other.by_subject.keys())
            .collect();
        all.into_iter()
            .filter(|s| self.by_subject.get(s) != other.by_subject.get(s))
            .cloned()
            .collect()
    }

    /// Subjects with an acceptance that has ended by now, each told once.
    pub(crate) fn ended(&mut self, now: i64) -> Vec<Subject> {
        let from = self.ends.partition_point(|(at, _)| *at > now);
        self.ends
            .drain(from..)
            .map(|(_, subject)| subject)
            .collect()
    }

    pub(crate) fn name(&self, subject: &Subject) -> bool {
        self.by_subject.contains_key(subject)
    }

    /// The lines of a subject that are in force.
    fn in_force(&self, subject: &Subject, now: i64) -> Vec<Line> {
        let entries = self.by_subject.get(subject).into_iter().flatten();
        entries
            .filter(|e| e.expires > now)
            .flat_map(|e| e.lines.iter().cloned())
            .collect()
    }
}

/// Up to where lines answer for a finding; with `contained`, a line of the cluster's answers for the same
/// rule in a namespace.
fn up_to(
    lines: &[Line],
    catalogue: &Catalogue,
    rule: RuleId,
    scope: &str,
    contained: bool,
) -> Priority {
    if lines.is_empty() {
        return Priority::None;
    }
    let admin = catalogue.find("wildcard-admin");
    let answers = |line: &&Line| {
        let here = *line.scope == *scope;
        let around = here || &*line.scope == "*";
        (line.rule == rule && (here || (contained && around)))
            || (Some(line.rule) == admin && around && catalogue.implied_by_admin(rule))
    };
    let lines = lines.iter().filter(answers);
    lines.map(|line| line.up_to).max().unwrap_or_default()
}

fn has(whole: &Assessment, rule: RuleId, scope: &str) -> bool {
    let everywhere = Scope::Cluster.as_str();
    // the cluster first, as findings are sorted
    let at = |scope: &str| scope != everywhere;
    let found = whole.findings.binary_search_by(|f| {
        let here = f.scope.as_str();
        (f.rule, at(here), here).cmp(&(rule, at(scope), scope))
    });
    found.is_ok()
}

/// The scope of the finding that a path over this edge starts with: a finding that holds everywhere
/// stands for the same in a namespace.
fn start<'a>(whole: &Assessment, edge: &'a Edge) -> &'a str {
    start_of(whole, edge.rule, edge.scope.as_str())
}

fn start_of<'a>(whole: &Assessment, rule: RuleId, here: &'a str) -> &'a str {
    let everywhere = Scope::Cluster.as_str();
    if !has(whole, rule, here) && has(whole, rule, everywhere) {
        return "*";
    }
    here
}

/// What an acceptance of a finding, or of paths over an edge, lists: what `admin` implies is accepted with it.
fn line_of<'s>(
    whole: &Assessment,
    admin: Option<RuleId>,
    rule: RuleId,
    scope: &'s str,
) -> (RuleId, &'s str) {
    let mut around = ["*", scope].into_iter();
    let implied =
        admin.and_then(|admin| Some((admin, around.find(|scope| has(whole, admin, scope))?)));
    implied.unwrap_or((rule, scope))
}

/// It has the finding, or a path that starts with it.
fn holds(whole: &Assessment, rule: RuleId, scope: &str) -> bool {
    let path = |e: &Edge| e.rule == rule && start(whole, e) == scope;
    has(whole, rule, scope) || whole.edges.iter().any(path)
}

/// Who answers for what of one subject.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By its own acceptances: the lines that it holds.
    own: Vec<Line>,
    /// By those of its implicit groups, each with what the group's grants give by themselves.
    groups: Vec<(Vec<Line>, Assessment)>,
    /// By shipped pairs beside other grants, and up to where.
    pairs: Option<(Assessment, Priority)>,
}

impl Answers {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.groups.is_empty() && self.pairs.is_none()
    }

    /// Up to where acceptances answer for a finding.
    pub(super) fn accept(&self, catalogue: &Catalogue, rule: RuleId, scope: &str) -> Priority {
        let own = up_to(&self.own, catalogue, rule, scope, false);
        let groups = self.groups.iter().map(|(lines, alone)| {
            let given = alone.findings.iter();
            let given = given.filter(|f| f.rule == rule && f.scope.as_str() == scope);
            let given = given.map(|f| f.priority).max().unwrap_or_default();
            given.min(up_to(lines, catalogue, rule, scope, false))
        });
        groups.fold(own, Priority::max)
    }

    /// Up to where anybody answers for a finding.
    pub(super) fn finding(&self, catalogue: &Catalogue, rule: RuleId, scope: &str) -> Priority {
        let paired = self.pairs.iter().flat_map(|(base, _)| &base.findings);
        let paired = paired.filter(|f| f.rule == rule && f.scope.as_str() == scope);
        let paired = paired.map(|f| f.priority).max().unwrap_or_default();
        paired.max(self.accept(catalogue, rule, scope))
    }

    /// Up to where acceptances answer for paths over an edge.
    fn accept_edge(&self, catalogue: &Catalogue, whole: &Assessment, edge: &Edge) -> Priority {
        let scope = start(whole, edge);
        let own = up_to(&self.own, catalogue, edge.rule, scope, false);
        let groups = self.groups.iter();
        let groups = groups.filter(|(_, alone)| alone.leads(edge));
        let groups = groups
            .map(|(lines, alone)| up_to(lines, catalogue, edge.rule, start(alone, edge), false));
        groups.fold(own, Priority::max)
    }

    /// Up to where anybody answers for paths over an edge.
    pub(super) fn edge(&self, catalogue: &Catalogue, whole: &Assessment, edge: &Edge) -> Priority {
        let paired = self.pairs.as_ref();
        let paired = paired.filter(|(base, _)| base.leads(edge));
        let paired = paired.map(|(_, recorded)| *recorded).unwrap_or_default();
        paired.max(self.accept_edge(catalogue, whole, edge))
    }

    /// What is kept of it; `own` tells since when the subject has findings that nobody answers for.
    pub(super) fn kept(
        self,
        catalogue: &Catalogue,
        whole: &Assessment,
        own: OwnSince,
    ) -> Option<Box<Answered>> {
        if self.is_empty() {
            return None;
        }
        let open = whole
            .findings
            .iter()
            .filter(|f| self.finding(catalogue, f.rule, f.scope.as_str()) < f.priority)
            .map(|f| f.priority);
        let none = Priority::None;
        let accepts =
            |f: &crate::risk::Finding| self.accept(catalogue, f.rule, f.scope.as_str()) > none;
        Some(Box::new(Answered {
            accepted: whole.findings.iter().any(accepts)
                || whole
                    .edges
                    .iter()
                    .any(|e| self.accept_edge(catalogue, whole, e) > none),
            open: open.max().unwrap_or_default(),
            edges: whole
                .edges
                .iter()
                .map(|e| self.edge(catalogue, whole, e))
                .collect(),
            own,
            lines: self.own.into(),
        }))
    }
}

/// What somebody answers for of a subject, as long as that is something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// Acceptances do, for some of it.
    pub(crate) accepted: bool,
    /// The highest finding that nobody answers for.
    pub(crate) open: Priority,
    /// Up to where somebody answers for paths over each edge.
    pub(crate) edges: Box<[Priority]>,
    /// Since when there are findings that nobody answers for.
    pub(crate) own: OwnSince,
    /// Its own acceptances in force, as far as it has the findings.
    lines: Box<[Line]>,
}

/// An acceptance that does not fit any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmatched {
    /// Its place in [`super::Policy::accepted`].
    pub index: usize,
    /// Listed findings that the subject does not have.
    pub findings: Vec<AcceptedFinding>,
    /// It has none of the listed ones.
    pub nothing: bool,
}

/// Longest id before a hash and a number, so that [`crate::risk::is_id`] takes it.
const LONGEST_ID: usize = 80;

/// What is open of a subject now, as an acceptance would have to list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// An id that says whose entry it is and that no other entry has.
    pub id: String,
    /// Who.
    pub subject: Subject,
    /// What nobody answers for at its effective priority: its findings, and those that paths start with.
    pub findings: Vec<AcceptedFinding>,
    /// Its effective priority.
    pub priority: Priority,
}

impl Ledger {
    /// [`Self::answers`] may find somebody, for whom it looks at edges.
    pub(super) fn may_be_answered(&self, subject: &Subject, bindings: &[(RowId, bool)]) -> bool {
        let mut direct = bindings.iter().filter(|(_, direct)| *direct);
        !self.accepted.by_subject.is_empty()
            || direct.any(|(b, _)| self.listed_pair(*b, subject).is_some())
    }

    /// Who answers for what of a subject with these bindings.
    pub(super) fn answers(
        &self,
        subject: &Subject,
        bindings: &[(RowId, bool)],
        whole: &Assessment,
    ) -> Answers {
        let mut out = Answers {
            pairs: self.covered_base(subject, bindings, whole),
            ..Answers::default()
        };
        if self.accepted.by_subject.is_empty() {
            return out;
        }
        out.own = self.accepted.in_force(subject, self.now);
        out.own.retain(|l| holds(whole, l.rule, &l.scope));
        if !self.accepted.groups {
            return out;
        }
        for name in implicit_groups(subject) {
            let group = Subject::Group { name };
            let mut lines = self.accepted.in_force(&group, self.now);
            // of a group that nothing names, nothing is accepted
            let key = self.key_of(&group).filter(|_| !lines.is_empty());
            let Some(key) = key.filter(|k| self.subjects.find(*k).is_some()) else {
                continue;
            };
            let of_group: Vec<(RowId, bool)> = self
                .bindings_of(&group, key)
                .into_iter()
                .map(|(b, _)| (b, false))
                .collect();
            let alone = self.judgement_with(subject, &of_group, false).0;
            lines.retain(|l| holds(&alone, l.rule, &l.scope));
            if !lines.is_empty() {
                out.groups.push((lines, alone));
            }
        }
        out
    }

    /// Its acceptances answer for all that the role of a binding gives there (contract §4).
    pub(super) fn accepted_for(&self, key: SubjectKey, binding: RowId, priority: Priority) -> bool {
        if self.accepted.by_subject.is_empty() {
            return false;
        }
        let row = self.subjects.find(key).and_then(|id| self.subjects.get(id));
        let Some(answered) = row.and_then(|r| r.answered.as_deref()) else {
            return false;
        };
        let Some(role) = self.role_of(binding).filter(|_| !answered.lines.is_empty()) else {
            return false;
        };
        let namespace = self.bindings.key(binding).0;
        let place = Some(namespace).filter(|ns| *ns != super::Sym::EMPTY);
        let catalogue = &self.policy.catalogue;
        let given = self.alone_at(role, place);
        let at_priority = |f: &&crate::risk::Finding| f.priority == priority;
        priority > Priority::None
            && given.findings.iter().filter(at_priority).all(|f| {
                up_to(&answered.lines, catalogue, f.rule, f.scope.as_str(), true) >= priority
            })
    }

    /// Acceptances that list what their subject does not have, in the order of the policy.
    pub fn unmatched_acceptances(&self) -> Vec<Unmatched> {
        let unmatched = |(index, entry): (usize, &Acceptance)| {
            let whole = self
                .key_of(&entry.subject)
                .filter(|k| self.subjects.find(*k).is_some())
                .map(|k| self.judgement(k, false).0)
                .unwrap_or_default();
            let missing = |f: &&AcceptedFinding| {
                let Some(rule) = self.policy.catalogue.find(&f.rule) else {
                    return true;
                };
                !holds(&whole, rule, &f.scope)
            };
            let findings: Vec<AcceptedFinding> =
                entry.findings.iter().filter(missing).cloned().collect();
            (!findings.is_empty()).then_some(Unmatched {
                index,
                nothing: findings.len() == entry.findings.len(),
                findings,
            })
        };
        let entries = self.policy.accepted.iter().enumerate();
        entries.filter_map(unmatched).collect()
    }

    /// What an acceptance of a subject would have to list; `None` when nothing of it is open.
    pub fn proposal(&self, subject: &Subject) -> Option<Proposal> {
        let key = self.key_of(subject)?;
        self.open(key)?;
        self.proposal_in(&self.case(key))
    }

    /// The row of a subject that nobody answers for.
    fn open(&self, key: SubjectKey) -> Option<(RowId, &SubjectRow)> {
        let id = self.subjects.find(key)?;
        let row = self.subjects.get(id)?;
        let open = row.effective > Priority::None && row.status == Status::Open;
        open.then_some((id, row))
    }

    pub(super) fn proposal_in(&self, case: &Case<'_>) -> Option<Proposal> {
        let (id, row) = self.open(case.key)?;
        let priority = row.effective;
        let catalogue = &self.policy.catalogue;
        let (subject, whole, answers) = (&case.subject, &case.judged, &case.answers);
        let admin = catalogue.find("wildcard-admin");
        let line = |rule, scope| {
            let admin = admin.filter(|_| catalogue.implied_by_admin(rule));
            line_of(whole, admin, rule, scope)
        };
        let open_at = |at: Priority| -> BTreeSet<AcceptedFinding> {
            let findings = whole.findings.iter().filter(|f| {
                f.priority >= at
                    && answers.finding(catalogue, f.rule, f.scope.as_str()) < f.priority
            });
            let mut lines: HashSet<(RuleId, &str)> =
                findings.map(|f| line(f.rule, f.scope.as_str())).collect();
            // many rules lead to the same identities
            let mut leads: Map<(ToKey, Option<ToKey>, bool), bool> = Map::default();
            for (place, to) in row.edges.iter().enumerate() {
                let line = line(to.rule, start_of(whole, to.rule, self.names.text(to.scope)));
                let answered = || {
                    let edge = whole.edges.get(place);
                    edge.is_none_or(|edge| answers.edge(catalogue, whole, edge) >= priority)
                };
                // one reason to list it is enough, of thousands
                let open = !lines.contains(&line)
                    && (answers.is_empty() || !answered())
                    && *leads
                        .entry((to.to, to.gate, to.cap >= at))
                        .or_insert_with(|| self.live.leads_to(self, id, to, at));
                if open {
                    lines.insert(line);
                }
            }
            let lines = lines.into_iter();
            lines
                .map(|(rule, scope)| AcceptedFinding {
                    rule: catalogue.rule(rule).id.clone(),
                    scope: scope.to_owned(),
                })
                .collect()
        };
        let mut findings = open_at(priority);
        if findings.is_empty() {
            // shipped pairs answer for all at this priority, but something smaller was added to them
            findings = open_at(Priority::Low);
        }
        if findings.is_empty() {
            // an edge that leads to nobody was added to them: no entry of a configuration could name it
            return None;
        }
        Some(Proposal {
            id: self.free_id(subject),
            subject: subject.clone(),
            findings: findings.into_iter().collect(),
            priority,
        })
    }

    /// `sa:NAMESPACE:NAME`; what an id cannot hold is replaced, and a hash keeps it apart from others. A
    /// number does where the configuration has an entry of that id.
    fn free_id(&self, subject: &Subject) -> String {
        let written = subject.written();
        let account = matches!(subject, Subject::ServiceAccount { .. });
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let mut id: String = written
            .chars()
            .map(|c| match c {
                '/' if account => ':',
                c if plain(c) => c,
                _ => '-',
            })
            .collect();
        let lost = written.chars().any(|c| !(plain(c) || account && c == '/'));
        if lost || id.len() > LONGEST_ID {
            let hash = Sha256::digest(written.as_bytes());
            id.truncate(LONGEST_ID);
            id.push('-');
            id.extend(hash[..4].iter().map(|byte| format!("{byte:02x}")));
        }
        let taken = |id: &str| self.policy.accepted.iter().any(|a| a.id == id);
        if !taken(&id) {
            return id;
        }
        let mut numbered = (2u32..).map(|n| format!("{id}.{n}"));
        numbered.find(|id| !taken(id)).unwrap_or(id)
    }

    /// What is open, at a priority or above, by kind, namespace and name. Who is as risky as that by its
    /// implicit groups alone is left out: the entry of the group is the one to write.
    pub fn proposals(&self, at_least: Priority) -> Vec<Proposal> {
        let mut open: Vec<SubjectKey> = self
            .subjects
            .iter()
            .filter(|(id, r)| r.effective >= at_least && !self.rests_on_groups(*id))
            .map(|(_, r)| r.key)
            .collect();
        open.sort_unstable_by(|a, b| self.order(*a, *b));
        open.into_iter()
            .filter_map(|key| self.proposal(&self.subject(key)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::super::stage::{DAY, NOW, Stage};
    use super::*;
    use crate::object::Resource;
    use crate::risk::Status::{Accepted as A, Builtin as B, Open as O};
    use std::sync::{Arc, LazyLock};

    static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::shipped()));
    const OLD: i64 = NOW - 365 * DAY;
    const ADMIN: &[&str] = &["* | * | *"];
    const LIST: &[&str] = &["list | core | secrets"];
    const PODS: &[&str] = &["create | core | pods"];
    const TOKENS: &[&str] = &["create | core | serviceaccounts/token"];

    /// `SUBJECT PRIORITY RULE@SCOPE,…`; ends with the year.
    fn entry(text: &str) -> Acceptance {
        let [subject, priority, findings] = text
            .split(' ')
            .collect::<Vec<_>>()
            .try_into()
            .expect("three words");
        Acceptance {
            id: text.to_owned(),
            subject: Subject::parse(subject).expect("a subject"),
            findings: findings
                .split(',')
                .map(|f| AcceptedFinding::parse(f).expect("a finding"))
                .collect(),
            priority: Priority::parse(priority).expect("a priority"),
            reason: "known".into(),
            owner: "team".into(),
            expires: NOW + 365 * DAY,
        }
    }

    fn accepts(s: &mut Stage, entries: &[&str]) {
        accepts_all(s, entries.iter().map(|e| entry(e)).collect());
    }

    fn accepts_all(s: &mut Stage, accepted: Vec<Acceptance>) {
        let policy = Policy {
            accepted,
            ..Policy::from(CATALOGUE.clone())
        };
        s.ledger.reconfigure(policy);
        settle(s);
    }

    fn settle(s: &mut Stage) {
        s.settle();
        assert_eq!(s.ledger.selfcheck(), 0);
        assert!(!s.ledger.settle(), "nothing is left to do");
    }

    #[track_caller]
    fn status(s: &Stage, who: &str) -> (Priority, Status) {
        let (priority, status, _) = s.level(who);
        (priority, status)
    }

    fn proposed(s: &Stage, who: &str) -> Vec<String> {
        let who = Subject::parse(who).expect("a subject");
        let proposal = s.ledger.proposal(&who);
        let findings = proposal.map(|p| p.findings).unwrap_or_default();
        findings.iter().map(AcceptedFinding::written).collect()
    }

    /// Strong accounts in `a` and `b`, of old.
    fn world() -> Stage {
        let mut s = Stage::new();
        for (name, rules) in [
            ("admin", ADMIN),
            ("list", LIST),
            ("pods", PODS),
            ("tokens", TOKENS),
        ] {
            s.role(name, rules, &[OLD]);
        }
        for ns in ["a", "b"] {
            s.account(&format!("{ns}/strong"), OLD);
            let to = format!("sa:{ns}/strong");
            s.bind(&format!("strong-{ns}"), "admin", &[&to], &[OLD]);
        }
        s
    }

    #[test]
    fn every_finding_at_the_priority_must_be_listed_and_no_lower_one() {
        let mut s = world();
        s.role(
            "more",
            &[
                "patch | core | nodes",
                "list | core | secrets",
                "create | core | pods/exec",
            ],
            &[OLD],
        );
        s.bind("x", "more", &["user:x"], &[OLD]);
        settle(&mut s);
        let wanted = proposed(&s, "user:x");
        assert!(wanted.len() > 1, "{wanted:?}");
        assert!(wanted.contains(&"secrets-list@*".to_owned()), "{wanted:?}");
        let all = wanted.join(",");
        accepts(&mut s, &[&format!("user:x critical {all}")]);
        assert_eq!(status(&s, "user:x"), (Priority::Critical, A));
        assert_eq!(proposed(&s, "user:x"), [""; 0]);
        for left_out in &wanted {
            let some: Vec<&str> = wanted
                .iter()
                .filter(|w| *w != left_out)
                .map(String::as_str)
                .collect();
            accepts(&mut s, &[&format!("user:x critical {}", some.join(","))]);
            assert_eq!(status(&s, "user:x"), (Priority::Critical, O), "{left_out}");
            assert_eq!(proposed(&s, "user:x"), std::slice::from_ref(left_out));
            // two entries together
            let two = [
                format!("user:x critical {}", some.join(",")),
                format!("user:x critical {left_out}"),
            ];
            accepts(&mut s, &[&two[0], &two[1]]);
            assert_eq!(status(&s, "user:x").1, A);
        }
        // names are exact, and so are scopes; up to the priority and no further
        for other in [
            format!("user:y critical {all}"),
            format!("group:x critical {all}"),
            format!("user:x critical {}", all.replace("@*", "@a")),
            format!("user:x high {all}"),
        ] {
            accepts(&mut s, &[&other]);
            assert_eq!(status(&s, "user:x").1, O, "{other}");
        }
        // findings of a lower priority leave it accepted, and are shown
        accepts(&mut s, &[&format!("user:x critical {all}")]);
        s.role("lower", &["delete | core | pods"], &[OLD]);
        s.bind("b/lower", "lower", &["user:x"], &[NOW]);
        settle(&mut s);
        assert_eq!(status(&s, "user:x"), (Priority::Critical, A));
        let view = s.ledger.explain(&Subject::user("x")).expect("user:x");
        let of = |scope: &str| -> Vec<(Priority, Status)> {
            let here = view.findings.iter().filter(|f| f.scope == scope);
            here.map(|f| (f.priority, f.status)).collect()
        };
        assert!(of("*").contains(&(Priority::Critical, A)));
        assert!(!of("b").is_empty() && of("b").iter().all(|f| f.1 == O));
    }

    #[test]
    fn growth_a_rise_and_an_end_open_it_again_and_a_new_exporter_says_the_same() {
        let entries = || vec![entry("sa:a/app high secrets-list@a")];
        let mut grown: Vec<fn(&mut Stage)> = Vec::new();
        let restarted = |grown: &[fn(&mut Stage)], now: i64| {
            let mut s = world();
            s.account("a/app", OLD);
            s.bind("a/list", "list", &["sa:a/app"], &[OLD]);
            grown.iter().for_each(|step| step(&mut s));
            s.ledger.advance(now);
            accepts_all(&mut s, entries());
            s
        };
        let mut s = restarted(&[], NOW);
        let same = |s: &Stage, grown: &[fn(&mut Stage)], now: i64, since: i64| {
            let got = status(s, "sa:a/app");
            assert_eq!(s.since("sa:a/app", got.0), since);
            let fresh = restarted(grown, now);
            assert_eq!(fresh.level("sa:a/app"), s.level("sa:a/app"));
            got
        };
        assert_eq!(same(&s, &grown, NOW, OLD), (Priority::High, A));
        // a finding of the same priority
        grown.push(|s| s.bind("c/pods", "pods", &["sa:a/app"], &[NOW - 60]));
        grown[0](&mut s);
        settle(&mut s);
        assert_eq!(same(&s, &grown, NOW, NOW - 60), (Priority::High, O));
        assert_eq!(proposed(&s, "sa:a/app"), ["pod-create@c"]);
        assert_eq!(s.escalations(), 0, "its priority is what it was");
        // gone again
        s.delete(Resource::RoleBindings, "c/pods");
        grown.clear();
        settle(&mut s);
        assert_eq!(same(&s, &grown, NOW, OLD), (Priority::High, A));
        // a rise by a new edge
        grown.push(|s| s.bind("b/tokens", "tokens", &["sa:a/app"], &[NOW - 30]));
        grown[0](&mut s);
        settle(&mut s);
        assert_eq!(same(&s, &grown, NOW, NOW - 30), (Priority::Critical, O));
        assert_eq!(s.escalations(), 1);
        s.delete(Resource::RoleBindings, "b/tokens");
        grown.clear();
        settle(&mut s);
        assert_eq!(same(&s, &grown, NOW, OLD), (Priority::High, A));
        // its last second, and the first one after
        let end = entries()[0].expires;
        s.ledger.advance(end - 1);
        assert!(!s.ledger.settle());
        assert_eq!(same(&s, &grown, end - 1, OLD), (Priority::High, A));
        s.ledger.advance(end);
        assert!(s.ledger.settle());
        assert_eq!(
            same(&s, &grown, end, OLD),
            (Priority::High, O),
            "no new time: nothing is new"
        );
        assert_eq!(s.escalations(), 1);
        assert_eq!(s.ledger.selfcheck(), 0);
        let shown = s.ledger.snapshot().judged.accepted.clone();
        assert_eq!(shown.len(), 1, "an expired one stays");
        assert_eq!((shown[0].owner.as_str(), shown[0].expires), ("team", end));
        accepts(&mut s, &[]);
        assert!(s.ledger.snapshot().judged.accepted.is_empty());
    }

    #[test]
    fn a_finding_that_opens_it_is_stamped_when_its_objects_tell_an_old_time() {
        let mut s = world();
        s.bind("a/list", "list", &["user:x"], &[OLD]);
        accepts(&mut s, &["user:x high secrets-list@a"]);
        s.bind("c/pods", "pods", &["user:x"], &[OLD + 1]);
        settle(&mut s);
        assert_eq!(s.level("user:x"), (Priority::High, O, NOW));
        // the configuration moves no time: neither to the older way, nor to now
        s.ledger.advance(NOW + DAY);
        accepts(&mut s, &["user:x high secrets-list@a,pod-create@c"]);
        assert_eq!(s.level("user:x"), (Priority::High, A, NOW));
        accepts(&mut s, &[]);
        assert_eq!(s.level("user:x"), (Priority::High, O, NOW));
        // what was granted today by a role that an upgrade touches is no newer for being accepted
        s.bind("a/z", "list", &["user:z"], &[NOW]);
        settle(&mut s);
        let since = s.since("user:z", Priority::High);
        s.ledger.advance(NOW + 9 * DAY);
        s.role("list", LIST, &[OLD, NOW + 9 * DAY]);
        settle(&mut s);
        accepts(&mut s, &["user:z high secrets-list@a"]);
        assert_eq!(s.level("user:z"), (Priority::High, A, since));
        accepts(&mut s, &[]);
        assert_eq!(s.level("user:z"), (Priority::High, O, since));
    }

    #[test]
    fn paths_are_accepted_with_the_finding_they_start_with_all_of_them() {
        let mut s = world();
        s.bind("a/pods", "pods", &["user:d"], &[OLD + 1]);
        s.bind("b/pods", "pods", &["user:d"], &[NOW - 9]);
        settle(&mut s);
        assert_eq!(status(&s, "user:d"), (Priority::Critical, O));
        let wanted = proposed(&s, "user:d");
        assert_eq!(wanted, ["pod-create@a", "pod-create@b"]);
        // the path that is shown is one of two
        for (one, since) in [(&wanted[0], NOW - 9), (&wanted[1], OLD + 1)] {
            let accepted = format!("user:d critical {one}");
            accepts(&mut s, &[&accepted]);
            let shown = (Priority::Critical, O, OLD + 1);
            assert_eq!(
                s.level("user:d"),
                shown,
                "{one}: the configuration moves no time"
            );
            let mut fresh = world();
            fresh.bind("a/pods", "pods", &["user:d"], &[OLD + 1]);
            fresh.bind("b/pods", "pods", &["user:d"], &[NOW - 9]);
            accepts(&mut fresh, &[&accepted]);
            assert_eq!(
                fresh.level("user:d"),
                (Priority::Critical, O, since),
                "{one}"
            );
        }
        // accepted as far as the finding itself goes, not as the path does
        accepts(&mut s, &["user:d high pod-create@a,pod-create@b"]);
        assert_eq!(status(&s, "user:d").1, O);
        accepts(&mut s, &["user:d critical pod-create@a,pod-create@b"]);
        assert_eq!(s.level("user:d"), (Priority::Critical, A, OLD + 1));
        // and when there is nothing to reach any more, the lower level is what counts
        for ns in ["a", "b"] {
            s.delete(Resource::ClusterRoleBindings, &format!("strong-{ns}"));
        }
        settle(&mut s);
        assert_eq!(status(&s, "user:d"), (Priority::High, A));
    }

    #[test]
    fn a_path_that_comes_back_to_the_subject_is_none() {
        let mut s = world();
        s.account("c/back", OLD);
        s.role("become", &["impersonate | core | users | x"], &[OLD]);
        s.bind("x", "list", &["user:x"], &[OLD]);
        s.bind("c/pods", "pods", &["user:x"], &[OLD]);
        s.bind("back", "become", &["sa:c/back"], &[OLD]);
        settle(&mut s);
        assert_eq!(status(&s, "sa:c/back"), (Priority::Critical, O));
        assert_eq!(proposed(&s, "user:x"), ["secrets-list@*"]);
        accepts(&mut s, &["user:x critical secrets-list@*"]);
        assert_eq!(status(&s, "user:x"), (Priority::Critical, A));
        assert_eq!(
            status(&s, "sa:c/back"),
            (Priority::Critical, O),
            "each by itself"
        );
        // a second way of the one in the middle
        s.bind("own", "list", &["sa:c/back"], &[NOW - 5]);
        settle(&mut s);
        assert_eq!(s.level("user:x"), (Priority::Critical, O, NOW - 5));
        s.delete(Resource::ClusterRoleBindings, "own");
        settle(&mut s);
        assert_eq!(status(&s, "user:x").1, A);
    }

    #[test]
    fn since_of_an_opened_subject_is_not_that_of_a_way_through_itself() {
        let mut s = world();
        s.account("c/back", OLD);
        s.account("c/new", OLD);
        s.role("become", &["impersonate | core | users | x"], &[OLD]);
        s.bind("x", "list", &["user:x"], &[OLD]);
        s.bind("c/pods", "pods", &["user:x"], &[OLD]);
        s.bind("back", "become", &["sa:c/back"], &[OLD]);
        accepts(&mut s, &["user:x critical secrets-list@*"]);
        // beside the account that is critical through user:x itself, one that is so since today
        s.bind("new", "list", &["sa:c/new"], &[NOW - 5]);
        settle(&mut s);
        assert_eq!(s.level("user:x"), (Priority::Critical, O, NOW - 5));
    }

    #[test]
    fn whoever_leans_on_an_accepted_subject_keeps_its_time() {
        let mut s = world();
        s.bind("a/pods", "pods", &["user:d"], &[OLD + 1]);
        accepts(&mut s, &["sa:a/strong critical wildcard-admin@*"]);
        assert_eq!(status(&s, "sa:a/strong"), (Priority::Critical, A));
        assert_eq!(s.level("user:d"), (Priority::Critical, O, OLD + 1));
        // something that wildcard-admin does not imply
        s.role("urls", &[], &[OLD]);
        s.bind(
            "system:masters",
            "admin",
            &["group:system:masters", "sa:a/strong"],
            &[NOW - 5],
        );
        settle(&mut s);
        assert_eq!(s.level("user:d"), (Priority::Critical, O, OLD + 1));
    }

    #[test]
    fn wildcard_admin_answers_for_what_it_implies_where_it_is_held() {
        let mut s = world();
        s.account("a/app", OLD);
        s.bind("a/admin", "admin", &["sa:a/app"], &[OLD]);
        settle(&mut s);
        assert_eq!(
            status(&s, "sa:a/app"),
            (Priority::Critical, O),
            "it reaches a/strong"
        );
        assert_eq!(proposed(&s, "sa:a/app"), ["wildcard-admin@a"]);
        accepts(&mut s, &["sa:a/app critical wildcard-admin@a"]);
        assert_eq!(status(&s, "sa:a/app").1, A);
        // listed, and not held any more: then it answers for nothing
        s.bind("a/admin", "list", &["sa:a/app"], &[OLD]);
        s.delete(Resource::RoleBindings, "a/admin");
        s.bind("a/lists", "list", &["sa:a/app"], &[OLD]);
        settle(&mut s);
        assert_eq!(status(&s, "sa:a/app"), (Priority::High, O));
        assert!(s.ledger.unmatched_acceptances()[0].nothing);
    }

    #[test]
    fn a_finding_everywhere_stands_for_the_paths_in_a_namespace() {
        let mut s = world();
        s.bind("all", "tokens", &["user:t"], &[OLD]);
        s.bind("a/tokens", "tokens", &["user:t"], &[OLD]);
        settle(&mut s);
        let wanted = proposed(&s, "user:t");
        assert_eq!(wanted, ["serviceaccount-token-create@*"]);
        accepts(&mut s, &["user:t critical serviceaccount-token-create@*"]);
        assert_eq!(status(&s, "user:t"), (Priority::Critical, A));
        assert!(s.ledger.unmatched_acceptances().is_empty());
    }

    #[test]
    fn an_accepted_group_answers_for_its_members_as_far_as_its_own_grants_go() {
        let mut s = world();
        s.account("a/app", OLD);
        s.account("a/plain", OLD);
        s.bind("all", "list", &["group:system:serviceaccounts"], &[OLD]);
        settle(&mut s);
        assert_eq!(status(&s, "sa:a/plain"), (Priority::Critical, O));
        let group = "group:system:serviceaccounts";
        let wanted = format!("{group} critical {}", proposed(&s, group).join(","));
        accepts(&mut s, &[&wanted]);
        for who in [group, "sa:a/plain", "sa:a/app"] {
            assert_eq!(status(&s, who), (Priority::Critical, A), "{who}");
        }
        // what is its own is not
        s.bind("a/pods", "pods", &["sa:a/app"], &[NOW - 9]);
        settle(&mut s);
        assert_eq!(s.level("sa:a/app"), (Priority::Critical, O, NOW - 9));
        assert_eq!(status(&s, "sa:a/plain").1, A);
        assert_eq!(proposed(&s, "sa:a/app"), ["pod-create@a"]);
        // an entry of the member's own beside it
        accepts(&mut s, &[&wanted, "sa:a/app critical pod-create@a"]);
        assert_eq!(status(&s, "sa:a/app").1, A);
        accepts(&mut s, &["sa:a/plain critical secrets-list@*"]);
        assert_eq!(status(&s, "sa:a/plain").1, A, "by its own entry");
        assert_eq!(status(&s, group).1, O);
        assert_eq!(status(&s, "sa:b/strong").1, O);
        // proposals name the group, not everybody
        let all = s.ledger.proposals(Priority::Critical);
        let named: Vec<String> = all.iter().map(|p| p.subject.written()).collect();
        assert_eq!(named, [group, "sa:a/app", "sa:a/strong", "sa:b/strong"]);
    }

    #[test]
    fn shipped_pairs_and_acceptances_together() {
        const KCM: &str = "system:kube-controller-manager";
        const WHO: &str = "user:system:kube-controller-manager";
        let mut s = world();
        s.role(KCM, &["create | core | serviceaccounts/token"], &[OLD]);
        s.bind(KCM, KCM, &[WHO], &[OLD]);
        settle(&mut s);
        assert_eq!(status(&s, WHO), (Priority::Critical, B));
        s.bind("list", "list", &[WHO], &[NOW - 9]);
        settle(&mut s);
        assert_eq!(s.level(WHO), (Priority::Critical, O, NOW - 9));
        assert_eq!(proposed(&s, WHO), ["secrets-list@*"]);
        accepts(&mut s, &[&format!("{WHO} critical secrets-list@*")]);
        assert_eq!(s.level(WHO), (Priority::Critical, A, OLD));
        // something smaller than the pair gives: there is a way to accept that as well
        s.bind("b/list", "list", &[WHO], &[NOW - 9]);
        s.delete(Resource::ClusterRoleBindings, "list");
        settle(&mut s);
        assert_eq!(status(&s, WHO), (Priority::Critical, O));
        assert_eq!(proposed(&s, WHO), ["secrets-list@b"]);
        accepts(&mut s, &[&format!("{WHO} critical secrets-list@b")]);
        assert_eq!(status(&s, WHO), (Priority::Critical, A));
    }

    #[test]
    fn pods_bindings_roles_and_rules_follow() {
        let mut s = world();
        s.account("a/app", OLD);
        s.role("a/all", &["* | core | secrets"], &[OLD]);
        s.bind("a/x", "./all", &["sa:a/app"], &[OLD]);
        s.pod("a/p", "app");
        settle(&mut s);
        let critical = status(&s, "sa:a/app").0;
        let view = s
            .ledger
            .explain(&Subject::parse("sa:a/app").expect("a subject"))
            .expect("a/app");
        let all: Vec<String> = view
            .findings
            .iter()
            .map(|f| format!("{}@{}", f.rule, f.scope))
            .collect();
        let wanted = format!("sa:a/app {} {}", critical.as_str(), all.join(","));
        let seen = |s: &Stage| {
            let judged = s.ledger.snapshot().judged;
            let block = judged.namespaces.get("a").expect("a");
            let one = |levels: &super::super::ByLevel, p: Priority| {
                let at = levels[p as usize];
                Status::ALL.into_iter().find(|s| at[*s as usize] == 1)
            };
            let high = Priority::High;
            [
                one(&block.hot_pods, critical),
                one(&block.bindings, high),
                one(&block.roles[1], high),
                one(&block.wildcard_rules, high),
                judged
                    .rules
                    .iter()
                    .find(|r| r.rule == "secrets-patch" || r.rule == "secrets-get")
                    .map(|r| r.status),
            ]
        };
        assert_eq!(seen(&s), [Some(O); 5]);
        accepts(&mut s, &[&wanted]);
        assert_eq!(seen(&s), [Some(A); 5]);
        // a second subject that nobody answers for
        s.bind("a/x", "./all", &["sa:a/app", "user:y"], &[OLD]);
        settle(&mut s);
        assert_eq!(seen(&s)[1..4], [Some(O); 3]);
        assert_eq!(seen(&s)[0], Some(A), "the pod is the account's");
        accepts(&mut s, &[&wanted, &wanted.replace("sa:a/app", "user:y")]);
        assert_eq!(seen(&s), [Some(A); 5]);
        accepts(&mut s, &[]);
        assert_eq!(seen(&s), [Some(O); 5]);
    }

    #[test]
    fn ids_of_proposals_are_ids_and_apart() {
        let mut s = world();
        let long = format!("user:{}", "x".repeat(200));
        let others = ["user:a b", "user:a-b", "user:a/b", "group:\u{202e}", &long];
        for (i, who) in others.iter().enumerate() {
            s.bind(&format!("o{i}"), "list", &[who], &[OLD]);
        }
        settle(&mut s);
        let ids = |s: &Stage| -> BTreeSet<String> {
            let all = s.ledger.proposals(Priority::Critical);
            all.into_iter().map(|p| p.id).collect()
        };
        let first = ids(&s);
        assert_eq!(first.len(), others.len() + 2, "{first:?}");
        assert!(first.iter().all(|id| crate::risk::is_id(id)), "{first:?}");
        assert!(first.contains("sa:a:strong") && first.contains("user:a-b"));
        let taken = |id: &str| Acceptance {
            id: id.into(),
            ..entry("user:nobody low secrets-list@*")
        };
        accepts_all(&mut s, vec![taken("sa:a:strong"), taken("sa:a:strong.2")]);
        assert!(ids(&s).contains("sa:a:strong.3"));
    }

    #[test]
    fn what_lists_nothing_that_is_there() {
        let mut s = world();
        s.bind("a/list", "list", &["user:x"], &[OLD]);
        accepts(
            &mut s,
            &[
                "user:x high secrets-list@a",
                "user:x high secrets-list@a,secrets-list@b",
                "user:x high no-such-rule@a",
                "user:nobody high secrets-list@a",
            ],
        );
        let found: Vec<(usize, bool, String)> = s
            .ledger
            .unmatched_acceptances()
            .into_iter()
            .map(|u| (u.index, u.nothing, u.findings[0].written()))
            .collect();
        assert_eq!(
            found,
            [
                (1, false, "secrets-list@b".to_owned()),
                (2, true, "no-such-rule@a".to_owned()),
                (3, true, "secrets-list@a".to_owned()),
            ]
        );
    }
}
