//! What the configuration decides, and how a new one takes effect.

use super::Ledger;
use super::accepted::Accepted;
use super::names::Sym;
use super::table::RowId;
use super::tally::{AcceptedRisk, RuleCounts};
use crate::object::Subject;
use crate::risk::{Acceptance, Catalogue, Priority};
use std::sync::Arc;

/// What the configuration decides about the judgement and its export.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules in force.
    pub catalogue: Arc<Catalogue>,
    /// What somebody answers for, expired entries too.
    pub accepted: Vec<Acceptance>,
    /// Priorities that get a series a subject and workload.
    pub detail: Vec<Priority>,
    /// Most series of one detail family.
    pub detail_limit: usize,
}

impl From<Arc<Catalogue>> for Policy {
    /// As without a configuration.
    fn from(catalogue: Arc<Catalogue>) -> Policy {
        Policy {
            catalogue,
            accepted: Vec::new(),
            detail: vec![Priority::Critical, Priority::High],
            detail_limit: 5000,
        }
    }
}

impl Ledger {
    /// What somebody answers for, as configured, expired entries too.
    pub fn acceptances(&self) -> &[Acceptance] {
        &self.policy.accepted
    }

    /// Another configuration. The next [`Ledger::settle`] judges by it; rows, watches, counters and
    /// times stay, and what rises by it is no escalation (contract §5). Roles are compiled again only
    /// when the rules differ.
    pub fn reconfigure(&mut self, policy: Policy) {
        let before = std::mem::replace(&mut self.policy, policy);
        let accepted = Accepted::new(&self.policy.catalogue, &self.policy.accepted);
        let accepted = std::mem::replace(&mut self.accepted, accepted.into());
        self.accepted_risks = AcceptedRisk::of(&self.policy.accepted);
        let (old, new) = (&before.catalogue, &self.policy.catalogue);
        let same_rules =
            old.ruleset == new.ruleset && old.privileged_namespaces == new.privileged_namespaces;
        if !same_rules {
            self.forget_rules();
        }
        for subject in accepted.changed(&self.accepted) {
            self.acceptances_moved(&subject);
        }
        (self.dirty.subject_details, self.dirty.workload_details) = (true, true);
        self.dirty.policy = true;
        // details are part of the blocks; the limit and the rest of the new configuration are published
        // with the cluster's own
        self.dirty.namespaces.insert(Sym::EMPTY);
        if before.detail != self.policy.detail {
            let names = self
                .blocks
                .iter()
                .filter_map(|(name, _)| self.names.get(name));
            self.dirty.pods_in.extend(names);
            let all: Vec<RowId> = self.subjects.iter().map(|(id, _)| id).collect();
            self.dirty.rests.extend(&all);
            all.into_iter().for_each(|id| self.subject_stirred(id));
        }
    }

    /// Who is concerned by other acceptances of this subject: itself, and of a group its members.
    pub(super) fn acceptances_moved(&mut self, subject: &Subject) {
        self.dirty.policy = true;
        if let Some(key) = self.key_of(subject) {
            self.subject_and_members_moved(key);
        }
    }

    /// Numbers of rules and permissions mean something else from now on.
    fn forget_rules(&mut self) {
        self.rule_counts = RuleCounts::new(self.policy.catalogue.rules.len());
        for id in 0..self.subjects.bound() {
            if let Some(row) = self.subjects.get_mut(id as u32) {
                row.rules = Arc::default();
            }
        }
        let roles: Vec<_> = self.roles.iter().map(|(id, ..)| id).collect();
        for id in roles {
            if let Some(row) = self.roles.get_mut(id) {
                row.reaches = Arc::default();
                row.gives = Default::default();
                row.wildcards = Box::default();
            }
        }
        self.dirty.everything = true;
        self.dirty.others = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{DAY, NOW, Stage};
    use super::*;
    use crate::object::Resource;

    use crate::risk::{Levels, RuleSpec, Rules};

    /// The shipped rules with one of them edited.
    fn with_rule(id: &str, edit: impl Fn(&mut RuleSpec)) -> Arc<Catalogue> {
        let mut rules = Rules::shipped();
        let spec = rules.specs.iter_mut().find(|s| s.id == id);
        edit(spec.expect("a shipped rule"));
        Arc::new(Catalogue::of(&rules))
    }

    /// A ledger under the shipped rules with every priority in detail.
    fn stage() -> Stage {
        let mut s = Stage::new();
        s.role("list", &["list | core | secrets"], &[NOW - 9 * DAY]);
        s.role("admin", &["* | * | *"], &[NOW - 9 * DAY]);
        s.role(
            "tokens",
            &["create | core | serviceaccounts/token"],
            &[NOW - 9 * DAY],
        );
        s.account("a/strong", NOW - 9 * DAY);
        s.account("a/weak", NOW - 9 * DAY);
        s.bind("strong", "admin", &["sa:a/strong"], &[NOW - 9 * DAY]);
        s.bind("l", "list", &["user:l"], &[NOW - 8 * DAY]);
        s.bind("a/t", "tokens", &["sa:a/weak"], &[NOW - 7 * DAY]);
        s.pod("a/p", "weak");
        s.settle();
        // a rise that was watched, with its stamp
        s.bind("w", "list", &["user:w"], &[NOW - 5 * DAY]);
        s.settle();
        assert_eq!(s.since("user:w", Priority::Critical), NOW);
        assert_eq!(s.escalations(), 1);
        s.ledger.advance(NOW + DAY);
        s
    }

    fn shipped() -> Policy {
        Policy::from(Arc::new(Catalogue::shipped()))
    }

    #[test]
    fn other_rules_take_effect_without_losing_anything() {
        let mut s = stage();
        let lower = with_rule("secrets-list", |rule| {
            rule.levels = Levels::everywhere(Priority::Medium);
        });
        for rules in [lower, Arc::new(Catalogue::shipped())] {
            s.ledger.reconfigure(Policy::from(rules));
            assert!(s.ledger.settle());
            let now = s.priority("user:l");
            assert_eq!(s.since("user:l", now), NOW - 8 * DAY);
            assert_eq!(s.since("sa:a/weak", Priority::Critical), NOW - 7 * DAY);
            assert_eq!(s.escalations(), 1, "no rise of these was one of RBAC");
            assert_eq!(s.ledger.selfcheck(), 0);
            assert!(s.ledger.synced() && s.ledger.watch(Resource::Pods).synced);
            assert!(!s.ledger.settle(), "nothing is left to do");
        }
        assert_eq!(s.priority("user:l"), Priority::Critical);
        // what is watched afterwards counts as ever
        s.bind("x", "list", &["user:x"], &[NOW]);
        s.settle();
        assert_eq!(
            (s.since("user:x", Priority::Critical), s.escalations()),
            (NOW + DAY, 2)
        );
    }

    #[test]
    fn rules_that_ask_for_other_permissions() {
        let mut s = stage();
        let before = s.ledger.snapshot().judged;
        // the permissions are numbered anew, and one rule is not there any more
        let fewer = with_rule("secrets-list", |rule| rule.disabled = true);
        assert_eq!(fewer.rules.len() + 1, s.ledger.catalogue().rules.len());
        s.ledger.reconfigure(Policy::from(fewer));
        s.settle();
        assert_eq!(s.ledger.selfcheck(), 0);
        assert!(s.priority("user:l") < Priority::Critical);
        assert_eq!(s.priority("sa:a/weak"), Priority::Critical);
        s.ledger.reconfigure(shipped());
        s.settle();
        assert_eq!(s.ledger.selfcheck(), 0);
        let after = s.ledger.snapshot().judged;
        assert_eq!(before.namespaces.len(), after.namespaces.len());
        assert_eq!(before.rules, after.rules);
        assert_eq!(before.escalations, after.escalations);
    }

    #[test]
    fn details_alone_compile_nothing() {
        let mut s = stage();
        let role = {
            let name = s.ledger.names.get("list").expect("a name");
            s.ledger.roles.find(Sym::EMPTY, name).expect("a role")
        };
        let compiled = s.ledger.roles.get(role).expect("a role").reaches.clone();
        let details = |s: &Stage| s.ledger.snapshot().judged.subjects().len();
        let all = details(&s);
        assert_eq!(all, 4);
        for (detail, limit, expected) in [
            (vec![], 5000, 0),
            (vec![Priority::Critical], 5000, all),
            (vec![Priority::Critical], 1, 1),
            (vec![Priority::High], 5000, 0),
        ] {
            let policy = Policy {
                detail,
                detail_limit: limit,
                ..shipped()
            };
            s.ledger.reconfigure(policy);
            s.settle();
            assert_eq!(details(&s), expected);
            let now = &s.ledger.roles.get(role).expect("a role").reaches;
            assert!(Arc::ptr_eq(now, &compiled));
            assert_eq!(s.ledger.selfcheck(), 0);
        }
    }
}
