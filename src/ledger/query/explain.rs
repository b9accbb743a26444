//! One subject, with everything that makes it what it is.

use super::super::names::Sym;
use super::super::rows::{EdgeRow, SubjectKey};
use super::super::table::{Map, RowId};
use super::super::{Ledger, Proposal};
use super::case::{Case, Granting};
use super::proof::{Less, MANY, Part};
use super::{Asked, Cut, FindingView, Grant, SubjectView};
use crate::object::{Origin, PolicyRule, Subject};
use crate::risk::{Finding, Priority, Reaches, Special};
use std::collections::HashSet;

/// A binding, its role, and the rules of it that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Binding and role.
    pub grant: Grant,
    /// Whom the binding names: the subject, or a group that it implicitly has.
    pub named: Subject,
    /// Where the binding stands.
    pub binding_origin: Option<Origin>,
    /// Where the role stands.
    pub role_origin: Option<Origin>,
    /// The role is shipped in the binary, not part of the input.
    pub shipped: bool,
    /// Rules, as the role has them.
    pub rules: Vec<PolicyRule>,
}

/// A finding with the rules it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedFinding {
    /// The finding.
    pub finding: FindingView,
    /// What the rule of the catalogue is called.
    pub title: String,
    /// What it is good for.
    pub attack: String,
    /// What to do about it.
    pub remediation: String,
    /// By what.
    pub by: Vec<Evidence>,
    /// `wildcard-admin` beside it says as much.
    pub implied: bool,
}

/// A step of the path, with the rules that make it possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Who takes it.
    pub from: Subject,
    /// Id of the rule behind it.
    pub edge: String,
    /// What that rule is called.
    pub title: String,
    /// Where it holds.
    pub scope: String,
    /// Who is reached.
    pub to: Subject,
    /// By what.
    pub by: Vec<Evidence>,
}

/// Who can become the subject in one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReachedBy {
    /// Who.
    pub subject: Subject,
    /// Id of the rule that leads here.
    pub edge: String,
    /// Where it holds.
    pub scope: String,
}

/// A subject with everything that makes it what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// As in the report.
    pub view: SubjectView,
    /// Its findings, worst first.
    pub findings: Vec<ExplainedFinding>,
    /// Its path.
    pub path: Vec<ExplainedStep>,
    /// What decides at the end of the path, worst first; empty without a path.
    pub end: Vec<ExplainedFinding>,
    /// Who can become it.
    pub reached_by: Vec<ReachedBy>,
    /// What an acceptance of it would have to list; nothing when nothing of it is open.
    pub proposal: Option<Proposal>,
}

/// What each rule of a role gives by itself. Findings are hundreds where bindings are, mostly to the same
/// few roles.
type Compiled = Map<RowId, Vec<(Reaches, PolicyRule)>>;

impl Ledger {
    /// One subject with everything that makes it what it is, if there is such a one.
    pub fn explanation(&self, subject: &Subject) -> Option<Explanation> {
        let mut told = self.told(subject)?;
        told.view.cut = self.cut_of(subject);
        Some(told)
    }

    /// The subject is bound so often that what to cut takes as long to find as all else that is told of it.
    pub fn is_bound_often(&self, subject: &Subject) -> bool {
        let row = self.key_of(subject).and_then(|key| self.subjects.find(key));
        let row = row.and_then(|id| self.subjects.get(id));
        row.is_some_and(|row| row.bindings.len() > MANY)
    }

    /// What to remove from bindings, so that the subject falls below its priority.
    pub fn cut_of(&self, subject: &Subject) -> Cut {
        let id = self.key_of(subject).and_then(|key| self.subjects.find(key));
        id.map_or(Cut::NOTHING, |id| self.cut(id, &Asked::default()))
    }

    /// Its explanation but for what to cut.
    pub fn told(&self, subject: &Subject) -> Option<Explanation> {
        let id = self.subjects.find(self.key_of(subject)?)?;
        let row = self.subjects.get(id)?;
        let case = self.case(row.key);
        let asked = Asked::default();
        let view = self.view_of(&case, Cut::NOTHING)?;
        let steps = self.steps(id);
        let end = steps.last().map(|(_, _, to)| *to);
        let less = Less::nothing(self, &asked, view.priority);
        Some(Explanation {
            proposal: self.proposal_in(&case),
            findings: self.explained_findings(&case, Priority::Low),
            path: steps
                .iter()
                .filter_map(|step| self.explained_step(step, &less))
                .collect(),
            end: end
                .and_then(|id| self.subjects.get(id))
                .map(|row| self.explained_findings(&self.case(row.key), row.own))
                .unwrap_or_default(),
            reached_by: self.reached_by(id),
            view,
        })
    }

    /// The findings of a subject from a priority on, worst first.
    fn explained_findings(&self, case: &Case<'_>, least: Priority) -> Vec<ExplainedFinding> {
        let judged = &case.judged;
        let told = judged.folded(self.catalogue()).map(std::ptr::from_ref);
        let told: HashSet<*const Finding> = told.collect();
        let names = self.names_of(case.key);
        let mut compiled = Compiled::default();
        let mut out: Vec<(&Finding, ExplainedFinding)> = judged
            .findings
            .iter()
            .enumerate()
            .filter(|(_, f)| f.priority >= least)
            .map(|(place, f)| {
                let (finding, rests_on) = case.finding(place);
                let rule = self.catalogue().rule(f.rule);
                let behind = rests_on.iter();
                let mut by: Vec<Evidence> = behind
                    .filter_map(|b| {
                        let rules = self.rules_behind(*b, f, &mut compiled);
                        self.evidence(*b, &names, rules)
                    })
                    .collect();
                by.sort_by(|a, b| a.grant.cmp(&b.grant));
                let explained = ExplainedFinding {
                    implied: !told.contains(&std::ptr::from_ref(f)),
                    finding: finding.clone(),
                    title: rule.title.clone(),
                    attack: rule.attack.clone(),
                    remediation: rule.remediation.clone(),
                    by,
                };
                (f, explained)
            })
            .collect();
        // the catalogue begins with what implies most of the rest
        out.sort_by_key(|(f, _)| (std::cmp::Reverse(f.priority), f.rule));
        out.into_iter().map(|(_, explained)| explained).collect()
    }

    /// The rules of a binding's role that a finding rests on; all of them where it is about the binding.
    fn rules_behind(
        &self,
        binding: RowId,
        finding: &Finding,
        compiled: &mut Compiled,
    ) -> Vec<PolicyRule> {
        let Some(role) = self.role_of(binding) else {
            return Vec::new();
        };
        let Some(witness) = finding
            .witness
            .as_ref()
            .filter(|_| finding.bindings.is_empty())
        else {
            return self.rules_of(binding);
        };
        let vocabulary = &self.catalogue().vocabulary;
        let special = self.catalogue().rule(finding.rule).special;
        let constrained = special == Some(Special::ImpersonateConstrained);
        let (namespace, _) = self.bindings.key(binding);
        let through = (namespace != Sym::EMPTY).then(|| self.names.shared(namespace));
        let grants = |one: &Reaches| {
            let here = Granting {
                binding,
                namespace,
                through: through.clone(),
                reaches: one,
            };
            let mut asked = vocabulary.ids_in(witness);
            asked.any(|perm| here.names(vocabulary, perm).any())
                || (constrained && here.any_on(vocabulary))
        };
        let rules = compiled.entry(role).or_insert_with(|| {
            let rules = self.rules_of(binding).into_iter();
            let alone = |rule| (Reaches::of(vocabulary, std::slice::from_ref(&rule)), rule);
            rules.map(alone).collect()
        });
        let granting = rules.iter().filter(|(one, _)| grants(one));
        granting.map(|(_, rule)| rule.clone()).collect()
    }

    fn rules_of(&self, binding: RowId) -> Vec<PolicyRule> {
        let role = self.role_of(binding).and_then(|id| self.roles.get(id));
        role.map(|r| r.rules.unpack()).unwrap_or_default()
    }

    fn evidence(
        &self,
        binding: RowId,
        names: &[SubjectKey],
        rules: Vec<PolicyRule>,
    ) -> Option<Evidence> {
        let row = self.bindings.get(binding)?;
        let role = self.role_of(binding).and_then(|id| self.roles.get(id));
        let mut names = names.iter();
        let named = *names.find(|name| row.subjects.contains(name))?;
        Some(Evidence {
            grant: self.grant(binding)?,
            named: self.subject(named),
            binding_origin: Self::origin_of(&row.origin).cloned(),
            role_origin: role.and_then(|r| Self::origin_of(&r.origin).cloned()),
            shipped: role.is_some_and(|r| r.shipped),
            rules,
        })
    }

    fn explained_step(
        &self,
        (from, edge, to): &(RowId, EdgeRow, RowId),
        less: &Less<'_>,
    ) -> Option<ExplainedStep> {
        let key = self.subjects.get(*from)?.key;
        let part = Part::Edge(*edge, *to);
        let needed = less.needed(*from, part);
        let names = self.names_of(key);
        let rule = self.catalogue().rule(edge.rule);
        Some(ExplainedStep {
            from: self.subject(key),
            edge: rule.id.clone(),
            title: rule.title.clone(),
            scope: self.names.text(edge.scope).to_string(),
            to: self.subject(self.subjects.get(*to)?.key),
            by: needed
                .iter()
                .filter_map(|(b, _)| {
                    let rules = less.rules_needed(key, &needed, *b, part, self.rules_of(*b));
                    self.evidence(*b, &names, rules)
                })
                .collect(),
        })
    }

    /// Who has an edge that leads to the subject.
    fn reached_by(&self, id: RowId) -> Vec<ReachedBy> {
        let leading = self.live.leading_to(self, id).into_iter();
        let mut out: Vec<ReachedBy> = leading
            .filter_map(|(from, edge)| {
                Some(ReachedBy {
                    subject: self.subject(self.subjects.get(from)?.key),
                    edge: self.catalogue().rule(edge.rule).id.clone(),
                    scope: self.names.text(edge.scope).to_string(),
                })
            })
            .collect();
        out.sort();
        out
    }
}
