//! Pods come and go: what each carries, where it runs, and how many are alike.

use super::names::{Names, Sym};
use super::pod_name::PodName;
use super::rows::{PodRow, PodShape, SecretRow, SubjectKey, TokenRow};
use super::table::{RowId, make_room};
use super::{Ledger, Passed, count};
use crate::object::Pod;
use crate::risk::{audience_accepted, secret_may_be_token_of};
use std::sync::Arc;

impl Ledger {
    pub(super) fn put_pod(&mut self, namespace: Sym, name: PodName, pod: &Pod) {
        let names = &mut self.names;
        let alike = &mut *self.alike;
        let containers = &mut alike.containers;
        let mut syms = |names: &mut Names, list: &[String]| {
            let list: Vec<Sym> = list.iter().map(|c| names.intern(c)).collect();
            containers.share(list)
        };
        let tokens: Vec<TokenRow> = pod
            .tokens
            .iter()
            .map(|t| TokenRow {
                accepted: audience_accepted(t.audience.as_deref(), &self.settings.audiences),
                at_default_path: t.at_default_path,
                containers: syms(names, &t.containers),
            })
            .collect();
        let shape = PodShape {
            account: names.intern(&pod.service_account),
            workload: pod
                .workload
                .as_ref()
                .map(|w| (names.intern(&w.kind), names.intern(&w.name))),
            automount: pod.automount,
            mirror: pod.mirror,
            predicted: pod.predicted,
            escape: pod.escape,
            tokens: alike.tokens.share(tokens),
            secrets: pod
                .secrets
                .iter()
                .map(|s| SecretRow {
                    name: names.intern(&s.name),
                    source: s.source,
                    containers: syms(names, &s.containers),
                })
                .collect(),
        };
        let shape = match self.shapes.get_key_value(&shape) {
            Some((known, _)) => known.clone(),
            None => Arc::new(shape),
        };
        let row = PodRow {
            shape,
            node: self.names.intern(&pod.node),
            phase: pod.phase,
        };
        if let Some(old) = self
            .pods
            .find(namespace, name)
            .and_then(|id| self.pods.get(id))
            && old.node == row.node
            && old.phase == row.phase
            && Arc::ptr_eq(&old.shape, &row.shape)
        {
            self.pods.touch(namespace, name);
            return;
        }
        let linked = row.clone();
        let (id, old) = self.pods.put(namespace, name, row);
        if let Some(old) = old {
            self.unlink_pod(id, namespace, name, &old);
        }
        self.pod_moved(name, linked.node);
        self.replica(namespace, &linked, true);
        if linked.node != Sym::EMPTY {
            let node = self.nodes.entry(linked.node).or_default();
            make_room(&mut node.pods);
            node.pods.push(id);
            if linked.takes_node() {
                node.escapes += 1;
                let (priority, status) = node.worst;
                self.escapes.entry(namespace).or_default()[priority as usize][status as usize] += 1;
            }
            self.passed(namespace, &linked, true);
        }
        if linked.live() {
            self.carry(namespace, &linked.shape, true);
        }
        self.own_nodes_passed(id, namespace, &linked, true);
    }

    /// Edges that look at single pods or nodes may lead elsewhere.
    fn pod_moved(&mut self, name: PodName, node: Sym) {
        let names = &self.names;
        let whole = || names.get(&name.text(names).to_string());
        self.live.pod_moved(whole, node);
    }

    pub(super) fn unlink_pod(&mut self, id: RowId, namespace: Sym, name: PodName, row: &PodRow) {
        self.pod_moved(name, row.node);
        self.own_nodes_passed(id, namespace, row, false);
        self.replica(namespace, row, false);
        if let Some(node) = self.nodes.get_mut(&row.node) {
            if let Some(at) = node.pods.iter().position(|p| *p == id) {
                node.pods.swap_remove(at);
            }
            if row.takes_node() {
                node.escapes -= 1;
                let (priority, status) = node.worst;
                if let Some(here) = self.escapes.get_mut(&namespace) {
                    here[priority as usize][status as usize] -= 1;
                }
            }
            if node.pods.is_empty() {
                self.nodes.remove(&row.node);
            }
            self.passed(namespace, row, false);
        }
        if row.live() {
            self.carry(namespace, &row.shape, false);
        }
    }

    /// A pod came to its node or left it.
    fn passed(&mut self, namespace: Sym, pod: &PodRow, came: bool) {
        let on = self.nodes.get(&pod.node);
        let first = came && pod.takes_node() && on.is_some_and(|on| on.escapes == 1);
        if !self.watching || first {
            // nobody has asked what is there
            self.dirty.nodes.insert(pod.node);
        } else if pod.live() {
            let (node, shape) = (pod.node, pod.shape.clone());
            self.dirty.passed.push(Passed {
                node,
                namespace,
                shape,
                came,
            });
        }
    }

    /// One pod of its shape more or less.
    fn replica(&mut self, namespace: Sym, pod: &PodRow, up: bool) {
        count(&mut self.shapes, pod.shape.clone(), up);
        if self.watching {
            // a namespace may begin or end with a pod that is done
            self.dirty.replicas.entry(namespace).or_default();
        } else {
            self.dirty.pods_in.insert(namespace);
        }
        if !pod.live() {
            return;
        }
        let here = self.replicas.entry(namespace).or_default();
        count(here, pod.shape.clone(), up);
        if here.is_empty() {
            self.replicas.remove(&namespace);
            self.escapes.remove(&namespace);
        }
        if pod.node == Sym::EMPTY && pod.shape.escape != 0 {
            let here = self.unplaced.entry(namespace).or_default();
            count(here, pod.shape.clone(), up);
            if here.is_empty() {
                self.unplaced.remove(&namespace);
            }
        }
        if let Some(here) = self.dirty.replicas.get_mut(&namespace) {
            *here.entry(pod.shape.clone()).or_default() += if up { 1 } else { -1 };
        }
    }

    /// Counts what a live pod carries, up or down. Who carries a token at all is what edges look at.
    fn carry(&mut self, namespace: Sym, shape: &PodShape, up: bool) {
        let key = (namespace, shape.account);
        if shape.runs_bare() && count(&mut self.running_bare, key, up) {
            self.account_stirred(namespace, shape.account);
        }
        let token = shape.account != Sym::EMPTY && shape.tokens.iter().any(|t| t.accepted);
        if token && count(&mut self.carried, key, up) {
            if up {
                self.lingering.remove(&key);
            } else if self.settings.pod_grace > 0 {
                self.lingering
                    .insert(key, self.now + self.settings.pod_grace);
            }
            self.touch_account(namespace, shape.account);
        }
        for secret in &shape.secrets {
            let secrets = self.carried_secrets.entry(namespace).or_default();
            let turned = count(secrets, secret.name, up);
            if secrets.is_empty() {
                self.carried_secrets.remove(&namespace);
            }
            if turned {
                let guess = secret_may_be_token_of(self.names.text(secret.name)).map(str::to_owned);
                if let Some(guess) = guess {
                    let key = (namespace, self.names.intern(&guess));
                    let list = self.carried_by_name.entry(key).or_default();
                    list.retain(|s| *s != secret.name);
                    if up {
                        list.push(secret.name);
                    } else if list.is_empty() {
                        self.carried_by_name.remove(&key);
                    }
                }
                for owner in self.secret_owners_of(namespace, secret.name) {
                    self.touch_account(namespace, owner);
                }
            }
        }
    }

    /// The sets that an account belongs to may have changed, and whether a pod uses it.
    pub(super) fn touch_account(&mut self, namespace: Sym, account: Sym) {
        if let Some(id) = self.subjects.find(SubjectKey::Account(namespace, account)) {
            self.live.touch(id);
            self.subject_stirred(id);
        }
    }

    /// A pod may use the account from now on, or none any more.
    fn account_stirred(&mut self, namespace: Sym, account: Sym) {
        if let Some(id) = self.subjects.find(SubjectKey::Account(namespace, account)) {
            self.subject_stirred(id);
        }
    }

    /// The account whose legacy token the Secret is, as far as names tell (catalogue D.2).
    pub(super) fn secret_owners_of(&self, namespace: Sym, secret: Sym) -> Vec<Sym> {
        let listed = self.listed_owners(namespace, secret).is_some();
        let mut owners = self.named_owners(namespace, secret);
        let there = |a: Sym| {
            self.subjects
                .find(SubjectKey::Account(namespace, a))
                .is_some()
        };
        owners.retain(|a| listed || there(*a));
        owners
    }

    /// The same, whether or not an account is there that is told by the Secret's name alone.
    pub(super) fn named_owners(&self, namespace: Sym, secret: Sym) -> Vec<Sym> {
        if let Some(owners) = self.listed_owners(namespace, secret) {
            return owners.clone();
        }
        let account = secret_may_be_token_of(self.names.text(secret));
        let account = account.and_then(|account| self.names.get(account));
        account.into_iter().collect()
    }

    fn listed_owners(&self, namespace: Sym, secret: Sym) -> Option<&Vec<Sym>> {
        self.secret_owners.get(&namespace)?.get(&secret)
    }

    /// Do edges through pods lead to the account? A live pod carries its API token, or carried it a little
    /// while ago.
    pub(super) fn lends_token(&self, namespace: Sym, account: Sym) -> bool {
        self.lingering.contains_key(&(namespace, account)) || self.is_carried(namespace, account)
    }

    /// A live pod carries the account's API token.
    pub(super) fn is_carried(&self, namespace: Sym, account: Sym) -> bool {
        self.carried.contains_key(&(namespace, account))
            || self.carries_listed(namespace, account)
            || self
                .carried_as_named(namespace, account)
                .any(|s| self.secret_owners_of(namespace, s).contains(&account))
    }

    /// The same, or would if it were an account and no other listed the Secret.
    pub(super) fn may_be_carried(&self, namespace: Sym, account: Sym) -> bool {
        self.carried.contains_key(&(namespace, account))
            || self.carries_listed(namespace, account)
            || self.carried_as_named(namespace, account).next().is_some()
    }

    // as [`Ledger::secret_owners_of`] has it, from the account's side: a namespace may have thousands

    /// A live pod receives a Secret that the account lists.
    fn carries_listed(&self, namespace: Sym, account: Sym) -> bool {
        let Some(carried) = self.carried_secrets.get(&namespace) else {
            return false;
        };
        let row = self.accounts.find(namespace, account);
        let row = row.and_then(|id| self.accounts.get(id));
        row.is_some_and(|row| row.secrets.iter().any(|s| carried.contains_key(s)))
    }

    /// The Secrets that live pods receive and that are the account's token by their name.
    fn carried_as_named(&self, namespace: Sym, account: Sym) -> impl Iterator<Item = Sym> {
        let secrets = self.carried_by_name.get(&(namespace, account));
        secrets.into_iter().flatten().copied()
    }

    /// A live pod runs as the account or carries its API token. A mirror of a static pod does not run as it.
    pub(super) fn is_used(&self, namespace: Sym, account: Sym) -> bool {
        self.is_carried(namespace, account) || self.running_bare.contains_key(&(namespace, account))
    }

    /// Accounts whose API token the pod carries, by name, without duplicates.
    pub(super) fn tokens_of(&self, namespace: Sym, shape: &PodShape) -> Vec<Sym> {
        let mut out = Vec::new();
        if shape.account != Sym::EMPTY && shape.tokens.iter().any(|t| t.accepted) {
            out.push(shape.account);
        }
        for secret in &shape.secrets {
            for owner in self.secret_owners_of(namespace, secret.name) {
                if !out.contains(&owner) {
                    out.push(owner);
                }
            }
        }
        out
    }

    /// Accounts whose API token a pod carries by what it names, whether they are there or not: other than
    /// [`Ledger::tokens_of`] it stays what it is when one comes or goes.
    pub(super) fn named_tokens(&self, namespace: Sym, shape: &PodShape) -> Vec<(Sym, Sym)> {
        let mut out = Vec::new();
        if shape.account != Sym::EMPTY && shape.tokens.iter().any(|t| t.accepted) {
            out.push((namespace, shape.account));
        }
        for secret in &shape.secrets {
            for owner in self.named_owners(namespace, secret.name) {
                if !out.contains(&(namespace, owner)) {
                    out.push((namespace, owner));
                }
            }
        }
        out
    }
}
