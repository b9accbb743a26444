//! Pods: whose tokens they carry.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::table::RowId;
use crate::object::{Pod, SecretSource, Workload};
use crate::risk::{Priority, Status};

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A projected volume.
    Projected,
    /// A token Secret by volume.
    SecretVolume,
    /// A token Secret by environment.
    SecretEnv,
}

/// An API token that a pod carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    /// Whose; the account lies in the pod's namespace.
    pub account: String,
    /// How.
    pub source: TokenSource,
    /// Containers that can read it.
    pub containers: Vec<String>,
}

/// A Secret that a pod receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretView {
    /// Name.
    pub name: String,
    /// By volume or environment.
    pub source: SecretSource,
}

/// A pod, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Phase.
    pub phase: crate::object::Phase,
    /// Not an object but what a template would become.
    pub predicted: bool,
    /// Of the strongest account whose token it carries.
    pub priority: Priority,
    /// Of that account.
    pub status: Status,
    /// API tokens.
    pub tokens: Vec<TokenView>,
    /// Owner.
    pub workload: Option<Workload>,
    /// Node, empty for none.
    pub node: String,
    /// Ways to take the node.
    pub escapes: Vec<&'static str>,
    /// Secrets.
    pub secrets: Vec<SecretView>,
}

impl Ledger {
    /// Every pod, by namespace and name; each is worked out when the iterator comes to it.
    pub fn pod_views(&self) -> impl Iterator<Item = PodView> {
        let mut ids: Vec<RowId> = self.pods.iter().map(|(id, ..)| id).collect();
        ids.sort_unstable_by(|a, b| self.by_pod_name(*a, *b));
        ids.into_iter().filter_map(|id| self.pod_view(id))
    }

    pub(super) fn pod_view(&self, id: RowId) -> Option<PodView> {
        let row = self.pods.get(id)?;
        let (ns, name) = self.pods.key(id);
        let text = |sym: Sym| self.names.text(sym).to_string();
        let texts = |list: &[Sym]| list.iter().map(|s| text(*s)).collect::<Vec<_>>();
        let (priority, status) = self.pod_level(ns, row);
        let mut tokens: Vec<TokenView> = Vec::new();
        let mut containers: Vec<String> = row
            .shape
            .tokens
            .iter()
            .filter(|t| t.accepted && row.shape.account != Sym::EMPTY)
            .flat_map(|t| texts(&t.containers))
            .collect();
        if !containers.is_empty() {
            containers.sort();
            containers.dedup();
            tokens.push(TokenView {
                account: text(row.shape.account),
                source: TokenSource::Projected,
                containers,
            });
        }
        for secret in &row.shape.secrets {
            for owner in self.secret_owners_of(ns, secret.name) {
                tokens.push(TokenView {
                    account: text(owner),
                    source: match secret.source {
                        SecretSource::Volume => TokenSource::SecretVolume,
                        SecretSource::Env => TokenSource::SecretEnv,
                    },
                    containers: texts(&secret.containers),
                });
            }
        }
        // a Secret's owners come in no order
        tokens.sort_by(|a, b| (&a.account, a.source as u8).cmp(&(&b.account, b.source as u8)));
        Some(PodView {
            namespace: text(ns),
            name: name.text(&self.names).to_string(),
            phase: row.phase,
            predicted: row.shape.predicted,
            priority,
            status,
            tokens,
            workload: row.shape.workload.map(|(kind, name)| Workload {
                kind: text(kind),
                name: text(name),
            }),
            node: text(row.node),
            escapes: Pod::escape_words(row.shape.escape).collect(),
            secrets: row
                .shape
                .secrets
                .iter()
                .map(|s| SecretView {
                    name: text(s.name),
                    source: s.source,
                })
                .collect(),
        })
    }
}
