//! What a subject's bindings let it do: findings, scope by scope, and edges to whom it can become.
//!
//! The bindings that apply to a subject are merged into one [`View`] a scope: the cluster
//! (ClusterRoleBindings alone) and each namespace with a RoleBinding (both together). A rule is asked
//! of a view, so pieces from several roles and groups join, and pieces of two namespaces do not
//! (catalogue A.6).

use super::catalogue::{Atom, Catalogue, Levels, NameMode, Rule, RuleId};
use super::priority::Priority;
use super::special;
use crate::object::{PolicyRule, Subject};
use crate::rbac::{Bits, Mode, Names, PermId, Reach, ServerVersion, Vocabulary};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Where a grant holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Cluster,
    /// In one namespace.
    Namespace(Arc<str>),
}

impl Scope {
    /// `*` or the namespace.
    pub fn as_str(&self) -> &str {
        match self {
            Scope::Cluster => "*",
            Scope::Namespace(ns) => ns,
        }
    }
}

/// What one role answers to the vocabulary: its rules as they are, and seen through each mode of
/// constrained impersonation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reaches {
    /// As they are.
    pub plain: Reach,
    /// By [`Mode`], in the order of [`Mode::ALL`]; absent when no verb could matter.
    pub on: Option<Box<[Reach; 4]>>,
}

impl Reaches {
    /// Compiles the rules of one role.
    pub fn of(vocabulary: &Vocabulary, rules: &[PolicyRule]) -> Reaches {
        let matters = rules
            .iter()
            .flat_map(|r| &r.verbs)
            .any(|v| v == "*" || v.starts_with("impersonate-on:"));
        Reaches {
            plain: vocabulary.reach(rules, None),
            on: matters.then(|| Box::new(Mode::ALL.map(|m| vocabulary.reach(rules, Some(m))))),
        }
    }

    /// Nothing in the vocabulary is granted.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
            && self
                .on
                .as_ref()
                .is_none_or(|on| on.iter().all(Reach::is_empty))
    }
}

/// A binding that applies to the subject.
#[derive(Clone, Debug)]
pub struct Held<'a> {
    /// Namespace of a RoleBinding; `None` for a ClusterRoleBinding.
    pub namespace: Option<Arc<str>>,
    /// The roleRef's kind is ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: &'a str,
    /// The role's answers; `None` when there is no such role.
    pub reaches: Option<&'a Reaches>,
    /// It has an aggregationRule (or is admin, edit or view, which always have one).
    pub aggregated: bool,
    /// Names the subject itself, not a group that it implicitly has.
    pub direct: bool,
    /// One of the baseline pairs that the "everyone" rules leave out, with no more power than recorded.
    pub baseline: bool,
}

/// The bindings of a subject.
pub type Holdings<'a> = Vec<Held<'a>>;

/// What the judgement of one subject needs to know of others.
pub trait Context {
    /// The highest finding of the role's rules alone at this scope; `None` when there is no such role.
    fn role_priority(&self, cluster_role: bool, name: &str, scope: &Scope) -> Option<Priority>;
    /// The same for the strongest Role of a namespace.
    fn strongest_role(&self, namespace: &str) -> Priority;
    /// Namespaces that have a Role of this name.
    fn namespaces_with_role(&self, name: &str) -> Vec<Arc<str>>;
    /// Whom the role's rules alone let their holder become at this scope, roles that it may bind
    /// by name left out.
    fn role_reaches(&self, cluster_role: bool, name: &str, scope: &Scope) -> Vec<To>;
    /// Whom the rules of any one Role of a namespace let their holder become there, each once.
    fn roles_reach(&self, namespace: &str) -> Arc<[To]>;
    /// Is there a ClusterRole of this name?
    fn cluster_role_exists(&self, name: &str) -> bool {
        self.role_priority(true, name, &Scope::Cluster).is_some()
    }
}

/// A rule that holds for a subject at a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which rule.
    pub rule: RuleId,
    /// Where.
    pub scope: Scope,
    /// How bad.
    pub priority: Priority,
    /// The permissions it rests on (only filled by [`assess`] with `explain`).
    pub witness: Option<Bits>,
    /// Indexes of the holdings it rests on, for rules about a binding itself.
    pub bindings: Vec<usize>,
}

/// Whom a subject can become.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum To {
    /// Every account of the scope that exists.
    Accounts(Scope),
    /// The accounts of this name in the scope that exist.
    Account(Scope, Arc<str>),
    /// Every account of the scope that exists or is named by a binding.
    Identities(Scope),
    /// The accounts of this name, existing or named by a binding.
    Identity(Scope, Arc<str>),
    /// A user.
    User(Arc<str>),
    /// A group.
    Group(Arc<str>),
    /// Accounts whose API token a live pod of the scope carries.
    PodTokens(Scope),
    /// The same for pods of this name.
    PodTokensOf(Scope, Arc<str>),
    /// The same for pods of the scope on this node.
    NodeTokens(Scope, Arc<str>),
    /// The same for pods on the nodes where the subject's own pods run.
    OwnNodeTokens(Scope),
    /// Accounts of the scope that list a Secret.
    SecretOwners(Scope),
    /// Accounts of the scope that list this Secret.
    SecretOwnersOf(Scope, Arc<str>),
    /// Every account of a namespace of the scope in which an account lists a Secret.
    Reaim(Scope),
    /// The same for this Secret.
    ReaimOf(Scope, Arc<str>),
}

/// A step to another identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The rule behind it.
    pub rule: RuleId,
    /// Where that rule holds.
    pub scope: Scope,
    /// To whom.
    pub to: To,
    /// It raises no further than this.
    pub cap: Priority,
    /// It takes this identity too, and raises no further than that one: what may be done as somebody
    /// is worth what that somebody may do.
    pub gate: Option<Box<To>>,
}

impl Edge {
    /// The same edge of a grant that holds everywhere: it leads wherever this one leads.
    pub fn everywhere(&self) -> Edge {
        let all = Scope::Cluster;
        let to = match self.to.clone() {
            To::Accounts(_) => To::Accounts(all),
            To::Account(_, name) => To::Account(all, name),
            To::Identities(_) => To::Identities(all),
            To::Identity(_, name) => To::Identity(all, name),
            To::PodTokens(_) => To::PodTokens(all),
            To::PodTokensOf(_, name) => To::PodTokensOf(all, name),
            To::NodeTokens(_, name) => To::NodeTokens(all, name),
            To::OwnNodeTokens(_) => To::OwnNodeTokens(all),
            To::SecretOwners(_) => To::SecretOwners(all),
            To::SecretOwnersOf(_, name) => To::SecretOwnersOf(all, name),
            To::Reaim(_) => To::Reaim(all),
            To::ReaimOf(_, name) => To::ReaimOf(all, name),
            to @ (To::User(_) | To::Group(_)) => to,
        };
        Edge {
            scope: Scope::Cluster,
            to,
            ..self.clone()
        }
    }
}

/// The judgement of one subject on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assessment {
    /// By rule, then scope, the cluster first.
    pub findings: Vec<Finding>,
    /// Sorted, without duplicates; left out by [`assess`] with `explain`.
    pub edges: Vec<Edge>,
}

impl Assessment {
    /// The highest finding.
    pub fn own(&self) -> Priority {
        self.findings
            .iter()
            .map(|f| f.priority)
            .max()
            .unwrap_or_default()
    }

    /// The findings to count and to show in tables: where `wildcard-admin` holds, what it implies there
    /// is left out (catalogue C.7).
    pub fn folded<'a>(&'a self, catalogue: &'a Catalogue) -> impl Iterator<Item = &'a Finding> {
        // a rule of that name with another condition implies nothing
        let admin = catalogue
            .find("wildcard-admin")
            .filter(|id| catalogue.rule(*id).is_shipped());
        let mut admin_at: BTreeMap<&Scope, Priority> = BTreeMap::new();
        for f in self.findings.iter().filter(|f| Some(f.rule) == admin) {
            let here = admin_at.entry(&f.scope).or_default();
            *here = (*here).max(f.priority);
        }
        // what weighs more than it does is not hidden behind it: rules can be given other priorities
        let behind_admin = move |f: &Finding| {
            let around = [&f.scope, &Scope::Cluster].into_iter();
            let mut around = around.filter_map(|scope| admin_at.get(scope));
            around.any(|priority| *priority >= f.priority)
        };
        self.findings.iter().filter(move |f| {
            Some(f.rule) == admin || !catalogue.implied_by_admin(f.rule) || !behind_admin(f)
        })
    }

    /// It has the edge, or the same everywhere: that one shows in each namespace with other grants too.
    pub fn leads(&self, edge: &Edge) -> bool {
        let has = |edge: &Edge| self.edges.binary_search(edge).is_ok();
        has(edge) || has(&edge.everywhere())
    }

    /// It adds nothing to the other, which has every finding and every edge.
    pub fn within(&self, other: &Assessment) -> bool {
        let known = |f: &Finding| {
            let same = |o: &Finding| (o.rule, &o.scope) == (f.rule, &f.scope);
            other
                .findings
                .iter()
                .any(|o| same(o) && o.priority >= f.priority)
        };
        self.findings.iter().all(known) && self.edges.iter().all(|e| other.leads(e))
    }

    /// What of it is at some scopes.
    #[must_use]
    pub fn at(mut self, scopes: &dyn Fn(&Scope) -> bool) -> Assessment {
        self.findings.retain(|f| scopes(&f.scope));
        self.edges.retain(|e| scopes(&e.scope));
        self
    }

    /// What each scope has of it.
    pub fn by_scope(&self) -> BTreeMap<Scope, Assessment> {
        let mut parts: BTreeMap<Scope, Assessment> = BTreeMap::new();
        for finding in &self.findings {
            let part = parts.entry(finding.scope.clone()).or_default();
            part.findings.push(finding.clone());
        }
        for edge in &self.edges {
            let part = parts.entry(edge.scope.clone()).or_default();
            part.edges.push(edge.clone());
        }
        parts
    }

    /// The same findings and edges, whatever they rest on.
    pub fn same_power(&self, other: &Assessment) -> bool {
        self.edges == other.edges
            && self.findings.len() == other.findings.len()
            && self
                .findings
                .iter()
                .zip(&other.findings)
                .all(|(a, b)| (a.rule, &a.scope, a.priority) == (b.rule, &b.scope, b.priority))
    }
}

/// What holds at one scope.
pub(super) struct View {
    pub(super) scope: Scope,
    pub(super) plain: Arc<Reach>,
    pub(super) on: Option<Arc<[Reach; 4]>>,
}

impl View {
    pub(super) fn names(&self, perm: PermId) -> Names<'_> {
        self.plain.names(perm)
    }

    /// What the view holds through one mode of constrained impersonation. `bind`, `escalate`, `approve`,
    /// `sign` and `attest` count as granted: those checks look at the identity that is taken.
    pub(super) fn through(&self, mode: Mode, catalogue: &Catalogue) -> Option<Reach> {
        let at = Mode::ALL.iter().position(|m| *m == mode)?;
        let mut plain = self.on.as_ref()?[at].clone();
        if plain.is_empty() {
            return None;
        }
        for perm in catalogue.vocabulary.ids() {
            let verb = &catalogue.vocabulary.permission(perm).verb;
            if matches!(
                verb.as_str(),
                "bind" | "escalate" | "approve" | "sign" | "attest"
            ) {
                plain.grant(perm);
            }
        }
        let nothing = catalogue.vocabulary.nothing();
        plain.merge(&nothing);
        Some(plain)
    }
}

/// The views of a subject: the cluster first, then each namespace with a RoleBinding, by name.
pub(super) fn views(catalogue: &Catalogue, held: &[Held<'_>]) -> Vec<View> {
    let vocabulary = &catalogue.vocabulary;
    let merge = |into: &mut (Reach, Option<Box<[Reach; 4]>>), from: &Reaches, ns: Option<&str>| {
        let cut = |reach: &Reach| match ns {
            None => reach.clone(),
            Some(ns) => vocabulary.through_role_binding(reach, ns),
        };
        into.0.merge(&cut(&from.plain));
        if let Some(on) = &from.on {
            let sum = into
                .1
                .get_or_insert_with(|| Box::new(std::array::from_fn(|_| vocabulary.nothing())));
            for (sum, one) in sum.iter_mut().zip(on.iter()) {
                sum.merge(&cut(one));
            }
        }
    };
    let effect = |scope: Scope, literal: &(Reach, Option<Box<[Reach; 4]>>)| View {
        scope,
        plain: Arc::new(vocabulary.in_effect(&literal.0)),
        on: literal
            .1
            .as_ref()
            .map(|on| Arc::new(std::array::from_fn(|i| vocabulary.in_effect(&on[i])))),
    };
    let mut cluster = (vocabulary.nothing(), None);
    let mut namespaces: BTreeMap<&Arc<str>, Vec<&Reaches>> = BTreeMap::new();
    for h in held {
        let Some(reaches) = h.reaches else { continue };
        match &h.namespace {
            None => merge(&mut cluster, reaches, None),
            Some(ns) => namespaces.entry(ns).or_default().push(reaches),
        }
    }
    let mut out = vec![effect(Scope::Cluster, &cluster)];
    // whoever holds all of it everywhere may have hundreds of bindings that add nothing, and mostly the same
    // few roles are bound in hundreds of namespaces
    let mut known: HashSet<Arc<Reach>> = HashSet::new();
    let mut same_roles: HashMap<Vec<*const Reaches>, usize> = HashMap::new();
    let fixed = |r: &Reaches| {
        let mut all =
            r.on.iter()
                .flat_map(|on| on.iter())
                .chain(std::iter::once(&r.plain));
        !all.any(|reach| vocabulary.depends_on_namespace(reach))
    };
    let several = namespaces.len() > 1;
    for (ns, roles) in namespaces {
        if roles.iter().all(|r| r.is_empty()) {
            continue;
        }
        if several && roles.iter().all(|r| fixed(r)) {
            let of = roles.iter().map(|r| std::ptr::from_ref(*r)).collect();
            match same_roles.entry(of) {
                Entry::Occupied(before) => {
                    let before: &View = &out[*before.get()];
                    let view = View {
                        scope: Scope::Namespace(ns.clone()),
                        plain: before.plain.clone(),
                        on: before.on.clone(),
                    };
                    out.push(view);
                    continue;
                }
                Entry::Vacant(new) => drop(new.insert(out.len())),
            }
        }
        let mut sum = cluster.clone();
        for role in roles {
            merge(&mut sum, role, Some(ns));
        }
        let mut view = effect(Scope::Namespace(ns.clone()), &sum);
        if view.plain == out[0].plain {
            view.plain = out[0].plain.clone();
        } else if let Some(same) = known.get(&view.plain) {
            view.plain = same.clone();
        } else if several {
            known.insert(view.plain.clone());
        }
        if view.on == out[0].on {
            view.on.clone_from(&out[0].on);
        }
        out.push(view);
    }
    out
}

/// How an alternative holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// Only for names.
    Named,
    /// In full.
    Full,
}

/// The names of an atom: of all its permissions together.
struct AtomNames {
    all: bool,
    names: Vec<Arc<str>>,
}

fn atom_names(atom: &Atom, view: &View) -> AtomNames {
    if view.plain.unlimited().meets(&atom.bits) {
        return AtomNames {
            all: true,
            names: Vec::new(),
        };
    }
    let mut names: Vec<Arc<str>> = Vec::new();
    for (perm, some) in view.plain.named() {
        if atom.bits.contains(perm.index()) {
            names.extend(some.iter().cloned());
        }
    }
    names.retain(|n| match &atom.names {
        NameMode::Any | NameMode::Named => true,
        NameMode::List(list) => list.iter().any(|l| **l == **n),
        NameMode::Match(pattern) => pattern.is_match(n),
    });
    names.sort();
    names.dedup();
    AtomNames { all: false, names }
}

/// Does the conjunction hold, and in full or for names only?
pub(super) fn alternative(
    rule: &Rule,
    all: &[Atom],
    view: &View,
    cluster: &View,
) -> Option<Outcome> {
    let mut outcome = Outcome::Full;
    let mut objects: BTreeMap<&str, AtomNames> = BTreeMap::new();
    for atom in all {
        let from = if atom.at_cluster { cluster } else { view };
        let got = atom_names(atom, from);
        if !got.all && got.names.is_empty() {
            return None;
        }
        if rule.named_only {
            if got.all {
                return None;
            }
            outcome = Outcome::Named;
        } else if !got.all && matches!(atom.names, NameMode::Any) {
            outcome = Outcome::Named;
        }
        if let Some(word) = &atom.same_object {
            match objects.remove(word.as_str()) {
                None => {
                    objects.insert(word, got);
                }
                Some(before) => {
                    let both = match (before.all, got.all) {
                        (true, _) => got,
                        (_, true) => before,
                        _ => AtomNames {
                            all: false,
                            names: before
                                .names
                                .into_iter()
                                .filter(|n| got.names.contains(n))
                                .collect(),
                        },
                    };
                    if !both.all && both.names.is_empty() {
                        return None;
                    }
                    objects.insert(word, both);
                }
            }
        }
    }
    Some(outcome)
}

/// The column of the levels that the scope falls in.
pub(super) fn level(catalogue: &Catalogue, levels: &Levels, scope: &Scope) -> Option<Priority> {
    match scope {
        Scope::Cluster => levels.cluster,
        Scope::Namespace(ns) if catalogue.privileged(ns) => levels.privileged,
        Scope::Namespace(_) => levels.namespace,
    }
}

/// A rule that holds at a view, before anything is dropped.
#[derive(Clone)]
pub(super) struct Hit {
    pub(super) rule: RuleId,
    pub(super) scope: Scope,
    pub(super) priority: Priority,
    pub(super) outcome: Outcome,
    pub(super) witness: Vec<PermId>,
    pub(super) bindings: Vec<usize>,
}

/// The plain rules, asked of one view after the other. Views of one subject often share what they hold; then
/// one answer is theirs, but for where it holds.
pub(super) struct PlainRules<'a> {
    catalogue: &'a Catalogue,
    version: ServerVersion,
    /// Hits say what they rest on; asked for only where it is shown: whoever is bound in a thousand namespaces
    /// has fifty thousand of them.
    explain: bool,
    /// By what is held, and whether the namespace is privileged.
    shared: HashMap<(*const Reach, bool), Shared>,
}

/// Hits of views that hold the same. That it is kept keeps its address from another one.
struct Shared {
    hits: Vec<Hit>,
    _of: Arc<Reach>,
}

impl<'a> PlainRules<'a> {
    pub(super) fn new(catalogue: &'a Catalogue, version: ServerVersion, explain: bool) -> Self {
        PlainRules {
            catalogue,
            version,
            explain,
            shared: HashMap::new(),
        }
    }

    /// The hits of a view; `cluster` must be the same for all views that hold the same.
    pub(super) fn hits(&mut self, view: &View, cluster: &View, out: &mut Vec<Hit>) {
        let catalogue = self.catalogue;
        let alone = Arc::strong_count(&view.plain) == 1;
        let (true, Scope::Namespace(ns)) = (!alone, &view.scope) else {
            return plain_hits(catalogue, self.version, view, cluster, self.explain, out);
        };
        if catalogue.singles_out(ns) {
            return plain_hits(catalogue, self.version, view, cluster, self.explain, out);
        }
        let key = (Arc::as_ptr(&view.plain), catalogue.privileged(ns));
        let shared = self.shared.entry(key).or_insert_with(|| {
            let mut hits = Vec::new();
            plain_hits(
                catalogue,
                self.version,
                view,
                cluster,
                self.explain,
                &mut hits,
            );
            Shared {
                hits,
                _of: view.plain.clone(),
            }
        });
        out.extend(shared.hits.iter().map(|hit| Hit {
            scope: view.scope.clone(),
            ..hit.clone()
        }));
    }
}

/// Asks the plain rules of one view.
fn plain_hits(
    catalogue: &Catalogue,
    version: ServerVersion,
    view: &View,
    cluster: &View,
    explain: bool,
    out: &mut Vec<Hit>,
) {
    if view.plain.is_empty() {
        return;
    }
    // most subjects hold few of the permissions that rules ask for
    let mut may_hold = Bits::new(catalogue.rules.len());
    let mut begin = |reach: &Reach| {
        let named = reach.named().iter().map(|(perm, _)| perm.index());
        for perm in reach.unlimited().iter().chain(named) {
            may_hold.union(&catalogue.begun_by[perm]);
        }
    };
    begin(&view.plain);
    if !Arc::ptr_eq(&view.plain, &cluster.plain) {
        begin(&cluster.plain);
    }
    for i in may_hold.iter() {
        let rule = &catalogue.rules[i];
        if rule.before.is_some_and(|b| version >= b) {
            continue;
        }
        if let Scope::Namespace(ns) = &view.scope
            && !rule.only_namespaces.is_empty()
            && !rule.only_namespaces.iter().any(|n| **n == **ns)
        {
            continue;
        }
        let mut best: Option<Hit> = None;
        for all in &rule.any {
            let Some(outcome) = alternative(rule, all, view, cluster) else {
                continue;
            };
            let levels = match outcome {
                Outcome::Full => Some(&rule.levels),
                Outcome::Named => rule.named.as_ref(),
            };
            let Some(priority) = levels.and_then(|l| level(catalogue, l, &view.scope)) else {
                continue;
            };
            let perms = all.iter().flat_map(|a| a.perms.iter().copied());
            let witness = perms.filter(|_| explain);
            match &mut best {
                Some(hit) if hit.priority == priority => hit.witness.extend(witness),
                Some(hit) if hit.priority > priority => {}
                _ => {
                    best = Some(Hit {
                        rule: RuleId(i as u16),
                        scope: view.scope.clone(),
                        priority,
                        outcome,
                        witness: witness.collect(),
                        bindings: Vec::new(),
                    });
                }
            }
            if let Some(hit) = &mut best {
                hit.outcome = hit.outcome.max(outcome);
            }
        }
        out.extend(best);
    }
}

/// Judges one subject by the bindings that apply to it.
///
/// With `explain`, findings say which permissions they rest on, and edges are left out: whoever holds everything
/// has ten thousand of them.
pub fn assess(
    catalogue: &Catalogue,
    version: ServerVersion,
    subject: &Subject,
    held: &[Held<'_>],
    context: &dyn Context,
    explain: bool,
) -> Assessment {
    let views = views(catalogue, held);
    let mut hits = Vec::new();
    let mut edges = Vec::new();
    let mut tidied = 0;
    let mut everywhere = BTreeMap::new();
    let cluster = &views[0];
    let mut plain = PlainRules::new(catalogue, version, explain);
    for view in &views {
        let from = hits.len();
        plain.hits(view, cluster, &mut hits);
        special::hits(
            catalogue, view, cluster, held, context, &mut hits, &mut edges,
        );
        if explain {
            edges.clear();
        } else {
            for hit in &hits[from..] {
                special::edges_of(catalogue, hit, view, cluster, &mut edges);
            }
            tidy(&mut edges, &mut tidied);
        }
        // of thousands in hundreds of namespaces most are no news to whoever has them everywhere
        match view.scope {
            Scope::Cluster => everywhere = at_cluster(catalogue, &hits),
            Scope::Namespace(_) => {
                let mut at = 0;
                hits.retain(|hit| {
                    at += 1;
                    at <= from || !covered(catalogue, hit, everywhere.get(&hit.rule))
                });
            }
        }
    }
    special::across_scopes(catalogue, subject, held, &views, &mut hits, &mut edges);
    super::constrained::hits(
        catalogue, version, subject, &views, context, !explain, &mut hits, &mut edges,
    );
    if explain {
        edges.clear();
    }
    special::everyone(catalogue, subject, held, context, &mut hits);
    finish(catalogue, hits, edges, explain)
}

/// The namespaces that hang together with others in what a subject holds; `None` when all may. What it holds in
/// each other one is settled by the bindings there and the cluster-wide ones, so that it may be judged there by
/// itself; also with fewer bindings, as less never joins what more leaves apart.
pub fn joined(
    catalogue: &Catalogue,
    subject: &Subject,
    held: &[Held<'_>],
) -> Option<BTreeSet<Arc<str>>> {
    let p = &catalogue.perms;
    let views = views(catalogue, held);
    let (cluster, namespaces) = views.split_first()?;
    // what `across_scopes` joins, and the halves of `escalate` that look at bindings elsewhere
    let joins = [
        p.impersonate_groups,
        p.create_pv,
        p.escalate_cr,
        p.escalate_r,
    ];
    let masters = matches!(subject, Subject::Group { name } if name == crate::rbac::MASTERS);
    if masters || joins.iter().any(|perm| cluster.names(*perm).any()) {
        return None;
    }
    // constrained impersonation: the identity may lie in one namespace, what is done with it in another; but a
    // `*` among verbs is half of it alone, and joins nothing where the other half is nowhere
    let grants = |v: &View| v.on.iter().flat_map(|on| on.iter()).any(|r| !r.is_empty());
    let takes = |v: &View| super::constrained::takes_identities(catalogue, v);
    let whole = views.iter().any(grants) && views.iter().any(takes);
    let half = |v: &View| whole && (grants(v) || takes(v));
    if half(cluster) {
        return None;
    }
    let joined = namespaces.iter().filter(|v| half(v));
    Some(
        joined
            .filter_map(|v| match &v.scope {
                Scope::Namespace(ns) => Some(ns.clone()),
                Scope::Cluster => None,
            })
            .collect(),
    )
}

/// Takes out edges that are there twice, once they are twice as many as when that was done last: several rules
/// lead to the same identities, in each of hundreds of namespaces.
pub(super) fn tidy(edges: &mut Vec<Edge>, tidied: &mut usize) {
    if edges.len() > 2 * *tidied + 1024 {
        edges.sort_unstable();
        edges.dedup();
        *tidied = edges.len();
    }
}

/// The priority of a hit, no higher than its rule ever is there; `None` where it is nothing.
fn below_ceiling(catalogue: &Catalogue, hit: &Hit) -> Option<Priority> {
    match &catalogue.rule(hit.rule).ceiling {
        Some(most) => Some(hit.priority.min(level(catalogue, most, &hit.scope)?)),
        None => Some(hit.priority),
    }
}

/// The priority of each rule that holds everywhere.
fn at_cluster(catalogue: &Catalogue, hits: &[Hit]) -> BTreeMap<RuleId, Priority> {
    let mut out: BTreeMap<RuleId, Priority> = BTreeMap::new();
    for hit in hits {
        if let Some(priority) = below_ceiling(catalogue, hit) {
            let most = out.entry(hit.rule).or_default();
            *most = (*most).max(priority);
        }
    }
    out
}

/// A hit in a namespace says no more than the same rule everywhere.
fn covered(catalogue: &Catalogue, hit: &Hit, everywhere: Option<&Priority>) -> bool {
    let here = below_ceiling(catalogue, hit);
    here.is_none() || everywhere.copied() >= here
}

fn finish(
    catalogue: &Catalogue,
    mut hits: Vec<Hit>,
    mut edges: Vec<Edge>,
    explain: bool,
) -> Assessment {
    hits.sort_by(|a, b| {
        (a.rule, &a.scope, std::cmp::Reverse(a.priority)).cmp(&(
            b.rule,
            &b.scope,
            std::cmp::Reverse(b.priority),
        ))
    });
    hits.dedup_by(|later, first| {
        let same = (later.rule, &later.scope) == (first.rule, &first.scope);
        if same && later.priority == first.priority {
            first.witness.append(&mut later.witness);
            first.bindings.append(&mut later.bindings);
        }
        same
    });
    let mut findings: Vec<Finding> = Vec::new();
    let mut everywhere: Option<(RuleId, Priority)> = None;
    for mut hit in hits {
        let Some(priority) = below_ceiling(catalogue, &hit) else {
            continue;
        };
        hit.priority = priority;
        if hit.scope == Scope::Cluster {
            everywhere = Some((hit.rule, hit.priority));
        } else if everywhere.is_some_and(|(rule, p)| rule == hit.rule && p >= hit.priority) {
            continue;
        }
        let witness = explain.then(|| {
            let mut bits = Bits::new(catalogue.vocabulary.len());
            hit.witness.iter().for_each(|p| bits.insert(p.index()));
            bits
        });
        let mut bindings = hit.bindings;
        bindings.sort_unstable();
        bindings.dedup();
        findings.push(Finding {
            rule: hit.rule,
            scope: hit.scope,
            priority: hit.priority,
            witness,
            bindings,
        });
    }
    edges.sort_unstable();
    edges.dedup();
    edges.shrink_to_fit();
    Assessment { findings, edges }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every namespace has Roles of its own: what is said of one must not be told of another.
    struct Places;

    impl Context for Places {
        fn role_priority(&self, _: bool, _: &str, scope: &Scope) -> Option<Priority> {
            Some(self.strongest_role(scope.as_str()))
        }

        fn strongest_role(&self, namespace: &str) -> Priority {
            Priority::ALL[namespace.len() % Priority::ALL.len()]
        }

        fn namespaces_with_role(&self, _: &str) -> Vec<Arc<str>> {
            Vec::new()
        }

        fn role_reaches(&self, _: bool, name: &str, scope: &Scope) -> Vec<To> {
            vec![To::Account(scope.clone(), Arc::from(name))]
        }

        fn roles_reach(&self, namespace: &str) -> Arc<[To]> {
            let scope = Scope::Namespace(Arc::from(namespace));
            Arc::new([To::Account(scope, Arc::from("of-a-role"))])
        }
    }

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        PolicyRule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: vec![],
        }
    }

    /// Namespaces in which the same is held share one answer; each must be what it is when it is judged
    /// by itself, with all that holds everywhere.
    #[test]
    fn a_namespace_among_many_is_judged_as_one_alone() {
        let catalogue = Catalogue::shipped();
        let version = ServerVersion::parse("1.34").expect("a version");
        let (any, rbac) = (&["*"][..], "rbac.authorization.k8s.io");
        let takes = rule(
            &["impersonate:user-info"],
            &["authentication.k8s.io"],
            &["users"],
            &[],
        );
        let roles = [
            vec![rule(any, any, any, &[])],
            vec![rule(&["get", "patch"], &[""], &["secrets"], &["one"])],
            vec![rule(&["update"], &[""], &["namespaces"], &[])],
            vec![rule(&["update"], &[""], &["namespaces"], &["app"])],
            vec![rule(
                &["bind", "create", "update"],
                &[rbac],
                &["roles", "rolebindings", "clusterroles"],
                &[],
            )],
            vec![rule(&["create"], &[""], &["pods", "pods/exec"], &[])],
            vec![rule(
                &["impersonate-on:user-info:create"],
                &[""],
                &["pods", "serviceaccounts/token"],
                &[],
            )],
            vec![takes],
        ];
        let roles = roles.map(|rules| Reaches::of(&catalogue.vocabulary, &rules));
        let held = |namespace: Option<&str>, role: usize| Held {
            namespace: namespace.map(Arc::from),
            cluster_role: true,
            role: "of-a-role",
            reaches: Some(&roles[role]),
            aggregated: false,
            direct: true,
            baseline: false,
        };
        let namespaces = ["app", "b", "kube-public", "kube-system", "other", "web"];
        let subject = Subject::User { name: "u".into() };
        let judge = |held: &[Held<'_>], explain| {
            assess(&catalogue, version, &subject, held, &Places, explain)
        };
        for everywhere in [&[][..], &[7], &[0], &[7, 5], &[2]] {
            for bound in [
                &[0][..],
                &[1],
                &[2],
                &[3],
                &[4],
                &[5, 1],
                &[6],
                &[1, 2, 4, 5, 6],
            ] {
                let everywhere = || everywhere.iter().map(|role| held(None, *role));
                let here = |ns| bound.iter().map(move |role| held(Some(ns), *role));
                let mut all: Vec<Held<'_>> = everywhere().collect();
                all.extend(namespaces.into_iter().flat_map(here));
                // one more, so that not all hold the same
                all.push(held(Some("web"), 5));
                let whole = judge(&all, false);
                for ns in &namespaces[..5] {
                    let alone: Vec<Held<'_>> = everywhere().chain(here(ns)).collect();
                    let there = |scope: &Scope| scope.as_str() == *ns;
                    let alone = judge(&alone, false).at(&there);
                    assert!(
                        whole.clone().at(&there).same_power(&alone),
                        "{bound:?} in {ns}"
                    );
                }
                let explained = judge(&all, true);
                let edges = whole.edges.clone();
                assert!(Assessment { edges, ..explained }.same_power(&whole));
            }
        }
    }
}
