//! What people ask of the ledger: reports, explanations, `can-i`. Everything here is worked out from the
//! rows when asked; nothing of it is kept.

use super::Ledger;
use super::graph::{self, Effective};
use super::names::Sym;
use super::rows::{SubjectKey, ToKey};
use super::settle;
use super::table::{Map, RowId};
use crate::object::{Origin, Pod, SecretSource, Subject, Workload};
use crate::rbac::{MASTERS, Names, Permission, Reach, Target, Vocabulary, implicit_groups};
use crate::risk::{Assessment, Finding, Priority, Special, Status, To};
use std::cell::{OnceCell, RefCell};

/// A binding and the role it refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Namespace of the binding, empty for a ClusterRoleBinding.
    pub binding_namespace: String,
    /// Name of the binding.
    pub binding: String,
    /// The role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role; a Role lies in the binding's namespace.
    pub role: String,
}

/// A finding with what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingView {
    /// Id of the rule.
    pub rule: String,
    /// `*` or a namespace.
    pub scope: String,
    /// Priority.
    pub priority: Priority,
    /// Whether somebody answers for it.
    pub status: Status,
    /// The bindings that grant it.
    pub grants: Vec<Grant>,
}

/// A step to another identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// Id of the rule behind it.
    pub edge: String,
    /// Where that rule holds.
    pub scope: String,
    /// Who is reached.
    pub to: Subject,
}

/// A subject, judged and explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectView {
    /// Who.
    pub subject: Subject,
    /// The account exists; true for users and groups.
    pub exists: bool,
    /// By its own findings.
    pub own: Priority,
    /// Effective.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// Since when it holds its effective priority, Unix seconds.
    pub since: Option<i64>,
    /// Findings by rule and scope.
    pub findings: Vec<FindingView>,
    /// From the subject, left out, to the identity whose own priority it takes.
    pub path: Vec<PathStep>,
    /// Entries of bindings whose removal brings it below its priority.
    pub cut: Vec<(Grant, Subject)>,
}

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

/// A role, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleView {
    /// It is a ClusterRole.
    pub cluster: bool,
    /// Namespace of a Role.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Shipped in the binary, not in the input.
    pub shipped: bool,
    /// Highest over its bindings.
    pub priority: Priority,
    /// What it would give cluster-wide, or a Role in its namespace.
    pub potential: Priority,
    /// Some binding refers to it.
    pub bound: bool,
    /// Status.
    pub status: Status,
    /// Rules with a wildcard.
    pub wildcard_rules: usize,
    /// What its rules give in the places where it is bound; unbound: what they would give.
    pub findings: Vec<(String, String, Priority)>,
    /// Comes and goes with a chart run.
    pub transient: bool,
    /// Where it stands.
    pub origin: Option<Origin>,
}

/// A binding, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingView {
    /// Namespace, empty for a ClusterRoleBinding.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: String,
    /// Subjects.
    pub subjects: Vec<Subject>,
    /// What the role gives there.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// The role is missing.
    pub role_missing: bool,
    /// An account is missing.
    pub account_missing: bool,
    /// Comes and goes with a chart run.
    pub transient: bool,
    /// Where it stands.
    pub origin: Option<Origin>,
}

/// What a request is about, as in a SubjectAccessReview.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// `resourceAttributes`
    Resource {
        /// Verb.
        verb: String,
        /// API group.
        group: String,
        /// Resource.
        resource: String,
        /// Subresource.
        subresource: String,
        /// Name, empty for none.
        name: String,
        /// Namespace, empty for none.
        namespace: String,
    },
    /// `nonResourceAttributes`
    Url {
        /// Verb.
        verb: String,
        /// Path.
        path: String,
    },
}

/// A question of `can-i`: user and groups exactly as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// User name, may be empty.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
    /// The request.
    pub attributes: Attributes,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Allowed by RBAC.
    pub allowed: bool,
    /// By which grant, or that there is none, in the API server's words.
    pub reason: String,
}

/// What is worked out once and used for every subject of one report.
#[derive(Default)]
struct Asked {
    /// Members of sets, strongest first.
    strongest: RefCell<Map<ToKey, Vec<RowId>>>,
    /// The fixpoint from scratch: which of several supports a path shows does not depend on the order
    /// in which things were seen, so that replicas and restarts show the same.
    supports: OnceCell<Vec<Effective>>,
}

/// Up to this many bindings the smallest cut is looked for exactly.
const EXACT_CUT: usize = 12;

impl Ledger {
    /// Every subject, by kind, namespace and name.
    pub fn subject_views(&self) -> Vec<SubjectView> {
        let asked = Asked::default();
        let mut keys: Vec<(SubjectKey, Subject)> = self
            .subjects
            .iter()
            .map(|(_, r)| (r.key, self.subject(r.key)))
            .collect();
        keys.sort_by(|a, b| a.1.cmp(&b.1));
        keys.into_iter()
            .filter_map(|(key, _)| self.subject_view(key, &asked))
            .collect()
    }

    /// One subject, if there is such a one.
    pub fn explain(&self, subject: &Subject) -> Option<SubjectView> {
        self.subject_view(self.key_of(subject)?, &Asked::default())
    }

    fn key_of(&self, subject: &Subject) -> Option<SubjectKey> {
        Some(match subject {
            Subject::Group { name } => SubjectKey::Group(self.names.get(name)?),
            Subject::User { name } => SubjectKey::User(self.names.get(name)?),
            Subject::ServiceAccount { namespace, name } => {
                SubjectKey::Account(self.names.get(namespace)?, self.names.get(name)?)
            }
        })
    }

    fn subject_view(&self, key: SubjectKey, asked: &Asked) -> Option<SubjectView> {
        let id = self.subjects.find(key)?;
        let row = self.subjects.get(id)?;
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        let (judged, _) = self.judgement_with(&subject, &bindings, true);
        let findings = judged
            .findings
            .iter()
            .map(|f| self.finding_view(f, &subject, &bindings))
            .collect();
        Some(SubjectView {
            exists: row.exists,
            own: row.own,
            priority: row.effective,
            status: row.status,
            since: (row.since > 0).then_some(i64::from(row.since)),
            findings,
            path: self.path(id, asked),
            cut: self.cut(id, &subject, &bindings, asked),
            subject,
        })
    }

    fn grant(&self, binding: RowId) -> Option<Grant> {
        let row = self.bindings.get(binding)?;
        let (namespace, name) = self.bindings.key(binding);
        Some(Grant {
            binding_namespace: self.names.text(namespace).to_string(),
            binding: self.names.text(name).to_string(),
            cluster_role: row.cluster_role,
            role: self.names.text(row.role).to_string(),
        })
    }

    fn finding_view(
        &self,
        finding: &Finding,
        subject: &Subject,
        bindings: &[(RowId, bool)],
    ) -> FindingView {
        let rests_on = self.rests_on(finding, bindings);
        let builtin = !rests_on.is_empty()
            && rests_on.iter().all(|b| {
                self.listed_pair(*b, subject)
                    .is_some_and(|recorded| finding.priority <= recorded)
                    || implicit_groups(subject).into_iter().any(|g| {
                        self.listed_pair(*b, &Subject::Group { name: g })
                            .is_some_and(|recorded| finding.priority <= recorded)
                    })
            });
        let covered = self
            .key_of(subject)
            .and_then(|k| self.subjects.find(k))
            .and_then(|id| self.subjects.get(id))
            .and_then(|r| r.covered)
            .is_some_and(|up_to| finding.priority <= up_to);
        let mut grants: Vec<Grant> = rests_on.iter().filter_map(|b| self.grant(*b)).collect();
        grants.sort();
        FindingView {
            rule: self.catalogue.rule(finding.rule).id.clone(),
            scope: finding.scope.as_str().to_owned(),
            priority: finding.priority,
            status: if builtin || covered {
                Status::Builtin
            } else {
                Status::Open
            },
            grants,
        }
    }

    /// The bindings that a finding rests on.
    fn rests_on(&self, finding: &Finding, bindings: &[(RowId, bool)]) -> Vec<RowId> {
        if !finding.bindings.is_empty() {
            return finding
                .bindings
                .iter()
                .filter_map(|i| bindings.get(*i))
                .map(|b| b.0)
                .collect();
        }
        let Some(witness) = &finding.witness else {
            return Vec::new();
        };
        let special = self.catalogue.rule(finding.rule).special;
        // these join pieces of several scopes
        let anywhere = matches!(
            special,
            Some(
                Special::VolumeHostPath
                    | Special::ImpersonateGroups
                    | Special::ImpersonateConstrained
            )
        );
        let constrained = special == Some(Special::ImpersonateConstrained);
        let vocabulary = &self.catalogue.vocabulary;
        let mut reaches: Vec<(RowId, Reach, bool)> = Vec::new();
        for (binding, _) in bindings {
            let (namespace, _) = self.bindings.key(*binding);
            let here =
                namespace == Sym::EMPTY || **self.names.text(namespace) == *finding.scope.as_str();
            let Some(role) = self.role_of(*binding).and_then(|id| self.roles.get(id)) else {
                continue;
            };
            if !here && !anywhere {
                continue;
            }
            let cut = |reach: &Reach| match namespace {
                Sym::EMPTY => reach.clone(),
                ns => vocabulary.through_role_binding(reach, self.names.text(ns)),
            };
            let on = constrained
                && here
                && role
                    .reaches
                    .on
                    .as_ref()
                    .is_some_and(|on| on.iter().any(|r| !cut(r).is_empty()));
            reaches.push((*binding, cut(&role.reaches.plain), on));
        }
        let unlimited: Vec<bool> = vocabulary
            .ids()
            .map(|perm| {
                witness.contains(perm.index())
                    && reaches.iter().any(|(_, r, _)| r.names(perm).all())
            })
            .collect();
        reaches
            .iter()
            .filter(|(_, reach, on)| {
                *on || vocabulary.ids().any(|perm| {
                    witness.contains(perm.index())
                        && match reach.names(perm) {
                            Names::All => true,
                            Names::Some(_) => !unlimited[perm.index()],
                            Names::None => false,
                        }
                })
            })
            .map(|(b, ..)| *b)
            .collect()
    }

    fn support(&self, id: RowId, asked: &Asked) -> Option<(u32, RowId)> {
        let all = asked.supports.get_or_init(|| graph::fixpoint(self).0);
        all.get(id as usize).and_then(|e| e.support)
    }

    fn path(&self, from: RowId, asked: &Asked) -> Vec<PathStep> {
        let mut out = Vec::new();
        let mut at = from;
        while let Some(row) = self.subjects.get(at)
            && let Some((edge, next)) = self.support(at, asked)
            && let Some(edge) = row.edges.get(edge as usize)
            && let Some(target) = self.subjects.get(next)
            && out.len() < self.subjects.bound()
        {
            out.push(PathStep {
                edge: self.catalogue.rule(edge.rule).id.clone(),
                scope: self.names.text(edge.scope).to_string(),
                to: self.subject(target.key),
            });
            at = next;
        }
        out
    }

    /// Does the subject owe its effective priority to `source`?
    fn leans_on(&self, id: RowId, source: RowId, asked: &Asked) -> bool {
        let mut at = id;
        for _ in 0..self.subjects.bound() {
            if at == source {
                return true;
            }
            match self.support(at, asked) {
                Some((_, next)) => at = next,
                None => return false,
            }
        }
        false
    }

    fn key_to(&self, to: &To) -> Option<ToKey> {
        settle::target(to, &mut |name| self.names.get(name))
    }

    fn set_members(&self, to: ToKey, source: SubjectKey) -> Vec<RowId> {
        let account = |scope: Sym, test: &dyn Fn(RowId, Sym, Sym, bool) -> bool| -> Vec<RowId> {
            let all: Vec<RowId> = match scope {
                Sym::STAR => self.subjects.iter().map(|(id, _)| id).collect(),
                ns => self.subjects.in_namespace(ns).map(|(id, _)| id).collect(),
            };
            all.into_iter()
                .filter(|id| match self.subjects.get(*id) {
                    Some(r) => match r.key {
                        SubjectKey::Account(ns, name) => test(*id, ns, name, r.exists),
                        _ => false,
                    },
                    None => false,
                })
                .collect()
        };
        match to {
            ToKey::Accounts(s) => account(s, &|_, _, _, exists| exists),
            ToKey::Identities(s) => account(s, &|_, _, _, _| true),
            ToKey::Account(s, n) => account(s, &|_, _, name, exists| exists && name == n),
            ToKey::Identity(s, n) => account(s, &|_, _, name, _| name == n),
            ToKey::PodTokens(s) => {
                let lending = self.lending_accounts();
                account(s, &|_, ns, name, _| lending.contains(&(ns, name)))
            }
            ToKey::User(n) => self
                .subjects
                .find(SubjectKey::User(n))
                .into_iter()
                .collect(),
            ToKey::Group(n) => self
                .subjects
                .find(SubjectKey::Group(n))
                .into_iter()
                .collect(),
            listed => self.members(listed, source),
        }
    }

    /// The level of a subject with only these findings and edges, everybody else as they are; who owes
    /// the level to the subject itself does not count.
    fn level_with(&self, id: RowId, judged: &Assessment, asked: &Asked) -> Priority {
        let own = judged.own();
        let Some(source) = self.subjects.get(id).map(|r| r.key) else {
            return own;
        };
        let mut best = own;
        for edge in &judged.edges {
            let mut cap = edge.cap;
            if let Some(gate) = &edge.gate {
                cap = cap.min(self.reached(id, source, gate, Priority::Critical, best, asked));
            }
            best = best.max(self.reached(id, source, &edge.to, cap, best, asked));
        }
        best
    }

    /// The strongest identity of a set, up to `cap`, that owes nothing to `id`; `None` if it is no more
    /// than `best`.
    fn reached(
        &self,
        id: RowId,
        source: SubjectKey,
        to: &To,
        cap: Priority,
        best: Priority,
        asked: &Asked,
    ) -> Priority {
        let Some(key) = self.key_to(to).filter(|_| cap > best) else {
            return Priority::None;
        };
        let level = |r: &RowId| {
            self.subjects
                .get(*r)
                .map(|s| s.effective)
                .unwrap_or_default()
        };
        let fresh = || {
            let mut members = self.set_members(key, source);
            members.sort_by_key(|m| std::cmp::Reverse(level(m)));
            members
        };
        let mut known = asked.strongest.borrow_mut();
        let members = if matches!(key, ToKey::OwnNodeTokens(_)) {
            &fresh()
        } else {
            &*known.entry(key).or_insert_with(fresh)
        };
        for member in members {
            let reached = level(member).min(cap);
            if reached <= best {
                break;
            }
            if !self.leans_on(*member, id, asked) {
                return reached;
            }
        }
        Priority::None
    }

    /// Its priority rests on what implicit groups hold, and on nothing that names it: then the group's
    /// own series is the page (contract §5).
    pub(super) fn rests_on_groups(&self, id: RowId) -> bool {
        let Some(row) = self.subjects.get(id) else {
            return false;
        };
        if row.bindings.is_empty() {
            return !matches!(row.key, SubjectKey::Group(_)) || row.effective > row.own;
        }
        let subject = self.subject(row.key);
        let bindings = self.bindings_of(&subject, row.key);
        let (direct, groups): (Vec<_>, Vec<_>) = bindings.iter().partition(|(_, direct)| *direct);
        let strong = |b: &(RowId, bool)| {
            let role = self.role_of(b.0).and_then(|r| self.roles.get(r));
            role.is_some_and(|r| !r.reaches.is_empty())
        };
        if !groups.iter().any(strong) {
            return false;
        }
        let asked = Asked::default();
        let level = |keep: &[(RowId, bool)]| {
            let (judged, _) = self.judgement_with(&subject, keep, false);
            self.level_with(id, &judged, &asked)
        };
        level(&groups) >= row.effective && level(&direct) < row.effective
    }

    /// The smallest set of bindings whose removal brings the subject below its priority: exact for up
    /// to [`EXACT_CUT`] candidates, greedy beyond.
    fn cut(
        &self,
        id: RowId,
        subject: &Subject,
        bindings: &[(RowId, bool)],
        asked: &Asked,
    ) -> Vec<(Grant, Subject)> {
        let Some(row) = self.subjects.get(id) else {
            return Vec::new();
        };
        let priority = row.effective;
        if priority == Priority::None {
            return Vec::new();
        }
        let reaches = |keep: &[(RowId, bool)]| {
            let (judged, _) = self.judgement_with(subject, keep, false);
            self.level_with(id, &judged, asked) >= priority
        };
        if reaches(&[]) {
            return Vec::new(); // nothing that RBAC holds makes it what it is
        }
        let mut matters: Vec<(RowId, bool)> = bindings
            .iter()
            .filter(|(b, _)| {
                self.role_of(*b)
                    .and_then(|r| self.roles.get(r))
                    .is_some_and(|r| !r.reaches.is_empty())
                    || self.listed_pair(*b, subject).is_none()
            })
            .copied()
            .collect();
        // of several smallest sets, always the same one
        matters.sort_by(|a, b| {
            let at = |id: RowId| {
                let (namespace, name) = self.bindings.key(id);
                (self.names.text(namespace), self.names.text(name))
            };
            at(a.0).cmp(&at(b.0))
        });
        // what reaches the priority alone must go in any case
        let (mut gone, mut rest): (Vec<_>, Vec<_>) = matters
            .iter()
            .partition(|b| reaches(std::slice::from_ref(b)));
        if reaches(&rest) {
            if rest.len() <= EXACT_CUT {
                let smallest = (1u32..1 << rest.len())
                    .filter(|mask| {
                        let keep: Vec<_> = (0..rest.len())
                            .filter(|i| mask & (1 << i) == 0)
                            .map(|i| rest[i])
                            .collect();
                        !reaches(&keep)
                    })
                    .min_by_key(|mask| mask.count_ones());
                if let Some(mask) = smallest {
                    gone.extend(
                        (0..rest.len())
                            .filter(|i| mask & (1 << i) != 0)
                            .map(|i| rest[i]),
                    );
                }
            } else {
                while reaches(&rest) && !rest.is_empty() {
                    let at = (0..rest.len())
                        .min_by_key(|i| {
                            let mut keep = rest.clone();
                            keep.remove(*i);
                            let (judged, _) = self.judgement_with(subject, &keep, false);
                            let level = self.level_with(id, &judged, asked);
                            (level, judged.findings.len() + judged.edges.len())
                        })
                        .unwrap_or(0);
                    gone.push(rest.remove(at));
                }
            }
        }
        let mut out: Vec<(Grant, Subject)> = gone
            .iter()
            .filter_map(|(b, direct)| {
                let named = if *direct {
                    subject.clone()
                } else {
                    self.named_group(*b, subject)?
                };
                Some((self.grant(*b)?, named))
            })
            .collect();
        out.sort();
        out
    }

    /// The implicit group of the subject that the binding names.
    fn named_group(&self, binding: RowId, subject: &Subject) -> Option<Subject> {
        let row = self.bindings.get(binding)?;
        implicit_groups(subject).into_iter().find_map(|name| {
            let key = SubjectKey::Group(self.names.get(&name)?);
            row.subjects
                .contains(&key)
                .then_some(Subject::Group { name })
        })
    }

    /// Every pod, by namespace and name.
    pub fn pod_views(&self) -> Vec<PodView> {
        let mut out = Vec::with_capacity(self.pods.iter().count());
        for (_, ns, name, row) in self.pods.iter() {
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
            out.push(PodView {
                namespace: text(ns),
                name: text(name),
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
            });
        }
        out.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        out
    }

    /// Every role of the input, and the shipped ones that something refers to, by kind, namespace, name.
    pub fn role_views(&self) -> Vec<RoleView> {
        let mut out = Vec::new();
        for (id, ns, name, row) in self.roles.iter() {
            let bound = self.role_is_bound(ns, name);
            if row.shipped && !bound {
                continue;
            }
            let (priority, status) = self.role_level(id);
            let mut places: Vec<Option<Sym>> = self
                .bindings_to(id)
                .iter()
                .map(|b| Some(self.bindings.key(*b).0).filter(|ns| *ns != Sym::EMPTY))
                .collect();
            if places.is_empty() {
                places.push(Some(ns).filter(|ns| *ns != Sym::EMPTY));
            }
            places.sort_unstable();
            places.dedup();
            let mut findings: Vec<(String, String, Priority)> = places
                .into_iter()
                .flat_map(|place| self.alone_at(id, place).findings)
                .map(|f| {
                    let rule = self.catalogue.rule(f.rule).id.clone();
                    (rule, f.scope.as_str().to_owned(), f.priority)
                })
                .collect();
            findings.sort();
            findings.dedup();
            out.push(RoleView {
                cluster: ns == Sym::EMPTY,
                namespace: self.names.text(ns).to_string(),
                name: self.names.text(name).to_string(),
                shipped: row.shipped,
                priority,
                potential: row.gives[0],
                bound,
                status,
                wildcard_rules: row.wildcards.len(),
                findings,
                transient: row.transient,
                origin: Self::origin_of(&row.origin).cloned(),
            });
        }
        out.sort_by(|a, b| {
            (!a.cluster, &a.namespace, &a.name).cmp(&(!b.cluster, &b.namespace, &b.name))
        });
        out
    }

    /// Every binding, by kind, namespace, name.
    pub fn binding_views(&self) -> Vec<BindingView> {
        let mut out = Vec::new();
        for (id, ns, name, row) in self.bindings.iter() {
            let (priority, status) = self.binding_level(id);
            let (role_missing, account_missing) = self.dangling(id);
            out.push(BindingView {
                namespace: self.names.text(ns).to_string(),
                name: self.names.text(name).to_string(),
                cluster_role: row.cluster_role,
                role: self.names.text(row.role).to_string(),
                subjects: row.subjects.iter().map(|k| self.subject(*k)).collect(),
                priority,
                status,
                role_missing,
                account_missing,
                transient: row.transient,
                origin: Self::origin_of(&row.origin).cloned(),
            });
        }
        out.sort_by(|a, b| {
            (!a.namespace.is_empty(), &a.namespace, &a.name).cmp(&(
                !b.namespace.is_empty(),
                &b.namespace,
                &b.name,
            ))
        });
        out
    }

    /// Namespaces as contract §1 counts them, `""` included.
    pub fn namespace_count(&self) -> usize {
        self.blocks.len()
    }

    /// Answers questions by the evaluator of the judgement: the questions are the vocabulary, the roles
    /// are compiled against it, and the bindings that apply are looked up as for a subject.
    pub fn can_i(&self, questions: &[Question]) -> Vec<Verdict> {
        let permission = |q: &Question| match &q.attributes {
            Attributes::Resource {
                verb,
                group,
                resource,
                subresource,
                ..
            } => Permission {
                verb: verb.clone(),
                target: Target::Resource {
                    group: group.clone(),
                    resource: resource.clone(),
                    subresource: subresource.clone(),
                },
            },
            Attributes::Url { verb, path } => Permission::url(verb, path),
        };
        let vocabulary = Vocabulary::new(questions.iter().map(permission));
        let mut compiled: Map<RowId, Reach> = Map::default();
        questions
            .iter()
            .map(|q| self.answer(q, &permission(q), &vocabulary, &mut compiled))
            .collect()
    }

    fn answer(
        &self,
        question: &Question,
        permission: &Permission,
        vocabulary: &Vocabulary,
        compiled: &mut Map<RowId, Reach>,
    ) -> Verdict {
        if question.groups.iter().any(|g| g == MASTERS) {
            let reason = "allowed before RBAC is asked: member of Group system:masters".to_owned();
            return Verdict {
                allowed: true,
                reason,
            };
        }
        let (namespace, name) = match &question.attributes {
            Attributes::Resource {
                namespace, name, ..
            } => (namespace.as_str(), name.as_str()),
            Attributes::Url { .. } => ("", ""),
        };
        let user = (!question.user.is_empty()).then(|| Subject::user(&question.user));
        let groups = question
            .groups
            .iter()
            .map(|g| Subject::Group { name: g.clone() });
        let mut missing = Vec::new();
        for subject in user.into_iter().chain(groups) {
            let row = self
                .key_of(&subject)
                .and_then(|k| self.subjects.find(k))
                .and_then(|id| self.subjects.get(id));
            for binding in row.map(|r| r.bindings.as_slice()).unwrap_or_default() {
                let home = self.names.text(self.bindings.key(*binding).0);
                if !home.is_empty() && **home != *namespace {
                    continue;
                }
                let Some(role) = self.role_of(*binding) else {
                    missing.extend(self.grant(*binding));
                    continue;
                };
                let reach = compiled.entry(role).or_insert_with(|| {
                    let rules = self
                        .roles
                        .get(role)
                        .map(|r| r.rules.unpack())
                        .unwrap_or_default();
                    vocabulary.reach(&rules, None)
                });
                let allowed = vocabulary
                    .id(permission)
                    .is_some_and(|p| reach.names(p).has(name));
                if let Some(grant) = self.grant(*binding).filter(|_| allowed) {
                    return Verdict {
                        allowed: true,
                        reason: allowed_by(&grant, &subject),
                    };
                }
            }
        }
        let reason = match missing.first() {
            None => "no grant allows it".to_owned(),
            Some(grant) => format!(
                "no grant allows it; {} refers to {} {:?}, which does not exist",
                written_binding(grant),
                role_kind(grant),
                grant.role
            ),
        };
        Verdict {
            allowed: false,
            reason,
        }
    }
}

fn role_kind(grant: &Grant) -> &'static str {
    if grant.cluster_role {
        "ClusterRole"
    } else {
        "Role"
    }
}

fn written_binding(grant: &Grant) -> String {
    match grant.binding_namespace.as_str() {
        "" => format!("ClusterRoleBinding {:?}", grant.binding),
        ns => format!("RoleBinding {:?}", format!("{}/{ns}", grant.binding)),
    }
}

/// In the words of the API server (`rbac.go`): `RBAC: allowed by …`.
fn allowed_by(grant: &Grant, subject: &Subject) -> String {
    let to = match subject {
        Subject::User { name } => format!("User {name:?}"),
        Subject::Group { name } => format!("Group {name:?}"),
        Subject::ServiceAccount { namespace, name } => {
            format!("ServiceAccount {:?}", format!("{name}/{namespace}"))
        }
    };
    format!(
        "RBAC: allowed by {} of {} {:?} to {to}",
        written_binding(grant),
        role_kind(grant),
        grant.role
    )
}
