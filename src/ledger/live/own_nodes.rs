//! Whose tokens lie on the nodes that an account's own pods run on, kept up and down as pods come and go: a
//! DaemonSet is on every node, and its namespace may have thousands of pods. [`Ledger::tokens_on`] and
//! [`Ledger::own_nodes`] say the same from scratch.

use crate::ledger::names::Sym;
use crate::ledger::rows::{PodRow, SubjectKey};
use crate::ledger::table::{Map, RowId};
use crate::ledger::{Dirty, Ledger, count};

/// An account by namespace and name.
type Account = (Sym, Sym);

/// The accounts of which it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnNodes {
    /// By the number of their subject.
    of: Map<RowId, Own>,
    by_account: Map<Account, RowId>,
    /// On which nodes they have pods.
    on: Map<Sym, Vec<RowId>>,
    /// Tokens have come to their nodes or left all of them.
    moved: Dirty<RowId>,
}

/// One of these accounts.
#[derive(Clone, Debug)]
struct Own {
    account: Account,
    /// Live pods with its token by node.
    pods: Map<Sym, u32>,
    /// Live pods on these nodes by each account whose token they carry.
    tokens: Map<Account, u32>,
}

impl OwnNodes {
    pub(super) fn is_open(&self, source: RowId) -> bool {
        self.of.contains_key(&source)
    }

    /// Looks at all pods of the account's namespace once, and at all on its nodes.
    pub(super) fn open(&mut self, ledger: &Ledger, source: RowId) {
        let key = ledger.subjects.get(source).map(|row| row.key);
        let Some(SubjectKey::Account(namespace, name)) = key else {
            return;
        };
        let mut own = Own {
            account: (namespace, name),
            pods: Map::default(),
            tokens: Map::default(),
        };
        for (_, _, pod) in ledger.pods.in_namespace(namespace) {
            if pod.live()
                && pod.node != Sym::EMPTY
                && ledger
                    .named_tokens(namespace, &pod.shape)
                    .contains(&own.account)
            {
                count(&mut own.pods, pod.node, true);
            }
        }
        for node in own.pods.keys() {
            self.on.entry(*node).or_default().push(source);
            for token in ledger.tokens_beside(*node, None) {
                count(&mut own.tokens, token, true);
            }
        }
        self.by_account.insert(own.account, source);
        self.of.insert(source, own);
        self.moved.insert(source);
    }

    /// Nobody asks any more.
    pub(super) fn close(&mut self, source: RowId) {
        self.moved.remove(&source);
        let Some(own) = self.of.remove(&source) else {
            return;
        };
        self.by_account.remove(&own.account);
        for node in own.pods.keys() {
            self.leave(*node, source);
        }
    }

    /// Looks at everything anew.
    pub(super) fn open_anew(&mut self, ledger: &Ledger) {
        let sources: Vec<RowId> = self.of.keys().copied().collect();
        for source in sources {
            self.close(source);
            self.open(ledger, source);
        }
    }

    fn leave(&mut self, node: Sym, source: RowId) {
        if let Some(here) = self.on.get_mut(&node) {
            here.retain(|other| *other != source);
            if here.is_empty() {
                self.on.remove(&node);
            }
        }
    }

    /// A live pod with these tokens came to a node or left it. Returns for whom the node is one of its own from now
    /// on, or no longer: what else is there is to be counted in or out.
    pub(crate) fn passed(&mut self, node: Sym, tokens: &[Account], came: bool) -> Vec<RowId> {
        for source in self.on.get(&node).cloned().unwrap_or_default() {
            self.lend(source, tokens, came);
        }
        let mut turned = Vec::new();
        for account in tokens {
            let Some(source) = self.by_account.get(account).copied() else {
                continue;
            };
            let own = self.of.get_mut(&source);
            if !own.is_some_and(|own| count(&mut own.pods, node, came)) {
                continue;
            }
            turned.push(source);
            if came {
                self.on.entry(node).or_default().push(source);
                self.lend(source, tokens, true);
            } else {
                self.leave(node, source);
            }
        }
        turned
    }

    /// Tokens that are on the account's nodes, or are no longer.
    pub(crate) fn lend(&mut self, source: RowId, tokens: &[Account], more: bool) {
        let Some(own) = self.of.get_mut(&source) else {
            return;
        };
        for token in tokens {
            if count(&mut own.tokens, *token, more) {
                self.moved.insert(source);
            }
        }
    }

    /// Nobody's nodes are looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn have_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Those with other tokens than when this was asked for last.
    pub(super) fn take_moved(&mut self) -> Dirty<RowId> {
        std::mem::take(&mut self.moved)
    }

    /// Subjects whose tokens are on its nodes, of one namespace or of all.
    pub(super) fn members(&self, ledger: &Ledger, source: RowId, scope: Sym) -> Vec<RowId> {
        let tokens = self
            .of
            .get(&source)
            .into_iter()
            .flat_map(|own| own.tokens.keys());
        let within = tokens.filter(|(namespace, _)| scope == Sym::STAR || scope == *namespace);
        let key = |(namespace, name): &Account| SubjectKey::Account(*namespace, *name);
        let mut members: Vec<RowId> = within
            .filter_map(|account| ledger.subjects.find(key(account)))
            .collect();
        members.sort_unstable();
        members
    }
}

impl Ledger {
    /// A pod came to a node or left it.
    pub(in crate::ledger) fn own_nodes_passed(
        &mut self,
        id: RowId,
        namespace: Sym,
        pod: &PodRow,
        came: bool,
    ) {
        if self.live.own_nodes.is_empty() || !pod.live() || pod.node == Sym::EMPTY {
            return;
        }
        let tokens = self.named_tokens(namespace, &pod.shape);
        for source in self.live.own_nodes.passed(pod.node, &tokens, came) {
            let others = self.tokens_beside(pod.node, Some(id));
            self.live.own_nodes.lend(source, &others, came);
        }
    }

    /// Accounts whose tokens live pods of a node carry, once for each; one pod is left out.
    fn tokens_beside(&self, node: Sym, but: Option<RowId>) -> Vec<Account> {
        let on = self.nodes.get(&node).into_iter().flat_map(|on| &on.pods);
        let others = on.filter(|id| but != Some(**id));
        let rows = others.filter_map(|id| Some((self.pods.key(*id).0, self.pods.get(*id)?)));
        let live = rows.filter(|(_, pod)| pod.live());
        live.flat_map(|(namespace, pod)| self.named_tokens(namespace, &pod.shape))
            .collect()
    }
}
