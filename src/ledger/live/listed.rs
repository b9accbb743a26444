//! The sets whose members no key of a subject leads to: they are listed, and listed anew when what their members
//! hang on moves. Which sets that is does not depend on how many others there are.

use super::{Live, SetKey};
use crate::ledger::names::Sym;
use crate::ledger::rows::{SubjectKey, ToKey};
use crate::ledger::table::{Map, RowId};
use crate::ledger::{Dirty, Ledger};
use crate::risk::Priority;

/// What the members of a set hang on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Cause {
    /// Pods of a name.
    Pod(Sym),
    /// Pods on a node.
    Node(Sym),
    /// Pods on the nodes of this subject's pods.
    OwnNodes(RowId),
    /// Secrets that are listed, and accounts, in a namespace or in all.
    SecretsIn(Sym),
}

impl Cause {
    fn of(key: SetKey) -> Option<Cause> {
        Some(match key.to {
            ToKey::PodTokensOf(_, pod) => Cause::Pod(pod),
            ToKey::NodeTokens(_, node) => Cause::Node(node),
            ToKey::OwnNodeTokens(_) => Cause::OwnNodes(key.source?),
            ToKey::SecretOwners(scope)
            | ToKey::SecretOwnersOf(scope, _)
            | ToKey::Reaim(scope)
            | ToKey::ReaimOf(scope, _) => Cause::SecretsIn(scope),
            _ => return None,
        })
    }

    fn is_of_pods(self) -> bool {
        !matches!(self, Cause::SecretsIn(_))
    }
}

/// Sets that somebody waits for, by what their members hang on.
#[derive(Clone, Debug, Default)]
pub(super) struct Awaited {
    sets: Map<Cause, Vec<SetKey>>,
    /// How many hang on pods, and on pods of a name.
    of_pods: usize,
    of_names: usize,
}

impl Awaited {
    /// Somebody waits for the set, which nobody did.
    pub(super) fn insert(&mut self, key: SetKey) {
        if let Some(cause) = Cause::of(key) {
            self.sets.entry(cause).or_default().push(key);
            self.of_pods += usize::from(cause.is_of_pods());
            self.of_names += usize::from(matches!(cause, Cause::Pod(_)));
        }
    }

    /// Nobody waits for the set any more. Is it the last one that hangs on the same?
    pub(super) fn remove(&mut self, key: SetKey) -> bool {
        let Some(cause) = Cause::of(key) else {
            return false;
        };
        let Some(here) = self.sets.get_mut(&cause) else {
            return false;
        };
        here.retain(|other| *other != key);
        self.of_pods -= usize::from(cause.is_of_pods());
        self.of_names -= usize::from(matches!(cause, Cause::Pod(_)));
        let last = here.is_empty();
        if last {
            self.sets.remove(&cause);
        }
        last
    }

    fn hang_on(&self, cause: Cause) -> impl Iterator<Item = SetKey> {
        self.sets.get(&cause).into_iter().flatten().copied()
    }
}

/// What moved since sets were listed, of what some hang on.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved {
    causes: std::collections::HashSet<Cause, foldhash::fast::RandomState>,
    /// Whom tokens on pods belong to.
    tokens: bool,
    /// Whom Secrets on pods are the token of.
    owners: bool,
}

impl Moved {
    pub(super) fn nothing(&self) -> bool {
        self.causes.is_empty() && !self.tokens
    }
}

impl Live {
    /// A pod came or went, of this name if anything else has it, on a node.
    pub(crate) fn pod_moved(&mut self, name: impl FnOnce() -> Option<Sym>, node: Sym) {
        if self.awaited.of_pods == 0 {
            return;
        }
        let name = (self.awaited.of_names > 0).then(name).flatten();
        for cause in [Some(Cause::Node(node)), name.map(Cause::Pod)] {
            if let Some(cause) = cause.filter(|cause| self.awaited.sets.contains_key(cause)) {
                self.moved.causes.insert(cause);
            }
        }
    }

    /// Subjects came or went whose tokens pods carry.
    pub(crate) fn tokens_moved(&mut self) {
        self.moved.tokens |= self.awaited.of_pods > 0;
    }

    /// Secrets that pods carry are the tokens of others.
    pub(crate) fn owners_moved(&mut self) {
        self.tokens_moved();
        self.moved.owners |= self.moved.tokens;
    }

    /// Secrets that are listed in a namespace changed, or accounts where some are.
    pub(crate) fn secrets_moved(&mut self, namespace: Sym) {
        let scopes = [namespace, Sym::STAR].map(Cause::SecretsIn);
        if scopes
            .iter()
            .any(|scope| self.awaited.sets.contains_key(scope))
        {
            self.moved.causes.insert(Cause::SecretsIn(namespace));
        }
    }

    /// Brings the listed sets up to date. Whoever leaned on a member that left is touched; members that
    /// came are returned, as they may raise who waits.
    pub(super) fn list(&mut self, ledger: &Ledger) -> Vec<RowId> {
        let moved = std::mem::take(&mut self.moved);
        if moved.owners {
            self.own_nodes.open_anew(ledger);
        }
        let fresh = std::mem::take(&mut self.fresh);
        for key in &fresh {
            if let (ToKey::OwnNodeTokens(_), Some(source)) = (key.to, key.source)
                && !self.own_nodes.is_open(source)
            {
                self.own_nodes.open(ledger, source);
            }
        }
        let mut keys: Vec<SetKey> = fresh.iter().copied().collect();
        let own = self.own_nodes.take_moved().into_iter().map(Cause::OwnNodes);
        if moved.tokens {
            let of_pods = self
                .awaited
                .sets
                .iter()
                .filter(|(cause, _)| cause.is_of_pods());
            keys.extend(of_pods.flat_map(|(_, sets)| sets).copied());
        } else {
            keys.extend(own.flat_map(|cause| self.awaited.hang_on(cause)));
        }
        let mut namespaces = Vec::new();
        for cause in &moved.causes {
            match cause {
                Cause::SecretsIn(namespace) => namespaces.push(*namespace),
                _ if moved.tokens => continue,
                _ => {}
            }
            keys.extend(self.awaited.hang_on(*cause));
        }
        let mut came = Vec::new();
        let mut seen = super::Sets::default();
        for key in keys.into_iter().filter(|key| seen.insert(*key)) {
            let members = match (key.source, key.to) {
                (Some(source), ToKey::OwnNodeTokens(scope)) => {
                    self.own_nodes.members(ledger, source, scope)
                }
                _ => ledger.members(key.to, SubjectKey::User(Sym::EMPTY)),
            };
            self.relist(key, |_| true, &members, &mut came);
        }
        // of a set that has members everywhere, those in these namespaces
        let everywhere: Vec<SetKey> = match namespaces.is_empty() {
            true => Vec::new(),
            false => self.awaited.hang_on(Cause::SecretsIn(Sym::STAR)).collect(),
        };
        for key in everywhere.into_iter().filter(|key| !seen.contains(key)) {
            for namespace in &namespaces {
                let here: Dirty<RowId> = ledger
                    .subjects
                    .in_namespace(*namespace)
                    .map(|(id, _)| id)
                    .collect();
                let Some(to) = key.to.moved(Sym::STAR, *namespace) else {
                    continue;
                };
                let members = ledger.members(to, SubjectKey::User(Sym::EMPTY));
                self.relist(key, |id| here.contains(&id), &members, &mut came);
            }
        }
        came
    }

    /// Among those for which `part` holds, a set has these members now. Both lists are sorted.
    fn relist(
        &mut self,
        key: SetKey,
        part: impl Fn(RowId) -> bool,
        now: &[RowId],
        came: &mut Vec<RowId>,
    ) {
        let listed = self.listed.entry(key).or_default();
        let of_part = listed.iter().copied().filter(|id| part(*id));
        let left: Vec<RowId> = of_part
            .filter(|id| now.binary_search(id).is_err())
            .collect();
        let new = now
            .iter()
            .copied()
            .filter(|id| listed.binary_search(id).is_err());
        let new: Vec<RowId> = new.collect();
        if left.is_empty() && new.is_empty() {
            return;
        }
        listed.retain(|id| left.binary_search(id).is_err());
        listed.extend(&new);
        listed.sort_unstable();
        self.ways.take();
        self.moved_sets.push((key, Priority::Critical));
        for left in left {
            if let Some(of) = self.member_of.get_mut(&left) {
                of.retain(|k| *k != key);
            }
            // by this set or by another
            let leaning: Vec<RowId> = self.who_leans_on(left).collect();
            self.touched.extend(leaning);
        }
        for new in new {
            self.member_of.entry(new).or_default().push(key);
            came.push(new);
        }
    }
}
