//! Rules whose condition no list of atoms can say (catalogue B.3, B.4), and the edges of all rules (C.3).

use super::assess::{
    Context, Edge, Held, Hit, Outcome, Reaches, Scope, To, View, alternative, level,
};
use super::catalogue::{Catalogue, RuleId, Special};
use super::priority::Priority;
use crate::object::Subject;
use crate::rbac::{MASTERS, Names, PermId, Permission, Vocabulary};
use std::sync::Arc;

macro_rules! perms {
    ($($name:ident: $verb:literal $group:literal $resource:literal,)*) => {
        /// The permissions that code asks about, beside those of the atoms.
        #[derive(Debug)]
        pub(in crate::risk) struct Perms {
            $(pub(in crate::risk) $name: PermId,)*
            pub(in crate::risk) any_url: PermId,
        }

        impl Perms {
            pub(in crate::risk) fn new(v: &Vocabulary) -> Perms {
                let id = |p: Permission| v.id(&p).expect("permissions() put it there");
                Perms {
                    $($name: id(Permission::resource($verb, $group, $resource)),)*
                    any_url: id(Permission::url("get", ANY_URL)),
                }
            }
        }

        /// All of them.
        pub(in crate::risk) fn permissions() -> Vec<Permission> {
            vec![
                $(Permission::resource($verb, $group, $resource),)*
                Permission::url("get", ANY_URL),
            ]
        }
    };
}

/// A path that nobody serves: only a rule for every path matches it.
const ANY_URL: &str = "/zz-any-path/zz";

perms! {
    escalate_cr: "escalate" "rbac.authorization.k8s.io" "clusterroles",
    update_cr: "update" "rbac.authorization.k8s.io" "clusterroles",
    patch_cr: "patch" "rbac.authorization.k8s.io" "clusterroles",
    create_cr: "create" "rbac.authorization.k8s.io" "clusterroles",
    escalate_r: "escalate" "rbac.authorization.k8s.io" "roles",
    update_r: "update" "rbac.authorization.k8s.io" "roles",
    patch_r: "patch" "rbac.authorization.k8s.io" "roles",
    create_r: "create" "rbac.authorization.k8s.io" "roles",
    bind_cr: "bind" "rbac.authorization.k8s.io" "clusterroles",
    bind_r: "bind" "rbac.authorization.k8s.io" "roles",
    create_crb: "create" "rbac.authorization.k8s.io" "clusterrolebindings",
    update_crb: "update" "rbac.authorization.k8s.io" "clusterrolebindings",
    patch_crb: "patch" "rbac.authorization.k8s.io" "clusterrolebindings",
    create_rb: "create" "rbac.authorization.k8s.io" "rolebindings",
    update_rb: "update" "rbac.authorization.k8s.io" "rolebindings",
    patch_rb: "patch" "rbac.authorization.k8s.io" "rolebindings",
    impersonate_users: "impersonate" "" "users",
    impersonate_groups: "impersonate" "" "groups",
    impersonate_sa: "impersonate" "" "serviceaccounts",
    as_users: "impersonate:user-info" "authentication.k8s.io" "users",
    as_groups: "impersonate:user-info" "authentication.k8s.io" "groups",
    as_sa: "impersonate:serviceaccount" "authentication.k8s.io" "serviceaccounts",
    as_node: "impersonate:arbitrary-node" "authentication.k8s.io" "nodes",
    as_own_node: "impersonate:associated-node" "authentication.k8s.io" "nodes",
    create_secret: "create" "" "secrets",
    get_secret: "get" "" "secrets",
    list_secret: "list" "" "secrets",
    watch_secret: "watch" "" "secrets",
    patch_secret: "patch" "" "secrets",
    update_secret: "update" "" "secrets",
    delete_secret: "delete" "" "secrets",
    delete_secrets: "deletecollection" "" "secrets",
    create_account: "create" "" "serviceaccounts",
    create_token: "create" "" "serviceaccounts/token",
    create_pv: "create" "" "persistentvolumes",
    patch_pv: "patch" "" "persistentvolumes",
    delete_pod: "delete" "" "pods",
    update_pod_status: "update" "" "pods/status",
    patch_pod_status: "patch" "" "pods/status",
    update_ns: "update" "" "namespaces",
    patch_ns: "patch" "" "namespaces",
    update_ns_status: "update" "" "namespaces/status",
    patch_ns_status: "patch" "" "namespaces/status",
    finalize_ns: "update" "" "namespaces/finalize",
    delete_ns: "delete" "" "namespaces",
    create_exec: "create" "" "pods/exec",
    get_exec: "get" "" "pods/exec",
    update_ephemeral: "update" "" "pods/ephemeralcontainers",
    patch_ephemeral: "patch" "" "pods/ephemeralcontainers",
    update_pod: "update" "" "pods",
    patch_pod: "patch" "" "pods",
    get_node_proxy: "get" "" "nodes/proxy",
    create_node_proxy: "create" "" "nodes/proxy",
}

/// The names of several permissions together.
pub(super) struct Union {
    pub(super) all: bool,
    pub(super) names: Vec<Arc<str>>,
}

impl Union {
    pub(super) fn of(view: &View, perms: &[PermId]) -> Union {
        let mut out = Union {
            all: false,
            names: Vec::new(),
        };
        for perm in perms {
            match view.names(*perm) {
                Names::None => {}
                Names::All => out.all = true,
                Names::Some(names) => out.names.extend(names.iter().cloned()),
            }
        }
        if out.all {
            out.names.clear();
        }
        out.names.sort();
        out.names.dedup();
        out
    }

    pub(super) fn any(&self) -> bool {
        self.all || !self.names.is_empty()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all || self.names.iter().any(|n| **n == *name)
    }

    /// Names in both.
    fn and(&self, other: &Union) -> Union {
        if self.all {
            return Union {
                all: other.all,
                names: other.names.clone(),
            };
        }
        Union {
            all: false,
            names: self
                .names
                .iter()
                .filter(|n| other.has(n))
                .cloned()
                .collect(),
        }
    }

    fn or(&self, other: &Union) -> Union {
        let all = self.all || other.all;
        let mut names = Vec::new();
        if !all {
            names.extend(self.names.iter().chain(&other.names).cloned());
            names.sort();
            names.dedup();
        }
        Union { all, names }
    }
}

/// A name that is authorised as an account, not as a user (catalogue A.8).
fn account_form(name: &str) -> bool {
    matches!(Subject::user(name), Subject::ServiceAccount { .. })
}

/// The node behind a user name.
fn node_of(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|n| !n.is_empty())
}

struct Out<'a> {
    catalogue: &'a Catalogue,
    view: &'a View,
    hits: &'a mut Vec<Hit>,
    edges: &'a mut Vec<Edge>,
}

impl Out<'_> {
    fn hit(&mut self, special: Special, priority: Priority, outcome: Outcome, witness: &[PermId]) {
        let Some(rule) = self.catalogue.special(special) else {
            return;
        };
        if priority == Priority::None {
            return;
        }
        self.hits.push(Hit {
            rule,
            scope: self.view.scope.clone(),
            priority,
            outcome,
            witness: witness.to_vec(),
            bindings: Vec::new(),
        });
    }

    /// The subject can become any of these.
    fn becomes(&mut self, special: Special, to: impl IntoIterator<Item = To>) {
        if let Some(rule) = self.catalogue.special(special) {
            let scope = &self.view.scope;
            let to = to.into_iter().map(|to| edge(rule, scope, to));
            self.edges.extend(to);
        }
    }

    /// The rule's priority in the place of the view, `None` where it cannot happen.
    fn level(&self, special: Special) -> Option<Priority> {
        self.level_at(special, &self.view.scope)
    }

    fn level_at(&self, special: Special, scope: &Scope) -> Option<Priority> {
        let rule = self.catalogue.special(special)?;
        level(self.catalogue, &self.catalogue.rule(rule).levels, scope)
    }
}

/// The specials that look at one scope.
pub(super) fn hits(
    catalogue: &Catalogue,
    view: &View,
    cluster: &View,
    held: &[Held<'_>],
    context: &dyn Context,
    hits: &mut Vec<Hit>,
    edges: &mut Vec<Edge>,
) {
    let mut out = Out {
        catalogue,
        view,
        hits,
        edges,
    };
    escalate(&mut out, held, context);
    bind(&mut out, context);
    impersonate_accounts(&mut out);
    token_mint(&mut out);
    token_create(&mut out);
    namespaces(&mut out);
    if view.scope == Scope::Cluster {
        impersonate_users(&mut out);
        let p = &catalogue.perms;
        if cluster.names(p.any_url).any()
            && let Some(priority) = out.level(Special::NonResourceWildcard)
        {
            out.hit(
                Special::NonResourceWildcard,
                priority,
                Outcome::Full,
                &[p.any_url],
            );
        }
    }
}

/// `rbac-escalate`. What matters is not the verb but where a role that can be rewritten, or made,
/// reaches the subject itself: the binding's place decides; with none, it raises others (medium).
/// Whoever gives itself everything in a place can become the accounts there.
fn escalate(out: &mut Out<'_>, held: &[Held<'_>], context: &dyn Context) {
    let p = &out.catalogue.perms;
    let place = |out: &mut Out<'_>, h: &Held<'_>| {
        let scope = h.namespace.clone().map_or(Scope::Cluster, Scope::Namespace);
        let priority = out.level_at(Special::Escalate, &scope);
        out.becomes(Special::Escalate, [To::Identities(scope)]);
        priority
    };
    let mut best = None;
    let mut witness = Vec::new();
    if out.view.scope == Scope::Cluster {
        let escalate = Union::of(out.view, &[p.escalate_cr]);
        let rewrite = escalate.and(&Union::of(out.view, &[p.update_cr, p.patch_cr]));
        let create = Union::of(out.view, &[p.create_cr]);
        // a POST carries no name, so both halves must be unlimited
        let make_any = escalate.all && create.all;
        if rewrite.any() || make_any {
            witness.extend([p.escalate_cr, p.update_cr, p.patch_cr, p.create_cr]);
            best = Some(Priority::Medium);
            if rewrite.all {
                best = out.level(Special::Escalate);
            } else {
                // a role that aggregation takes up: any new one, or an existing one, rewritten and labelled
                let feeds = make_any
                    || rewrite
                        .names
                        .iter()
                        .any(|n| create.has(n) || context.cluster_role_exists(n));
                for h in held.iter().filter(|h| h.cluster_role) {
                    let own = match h.reaches {
                        Some(_) => rewrite.has(h.role) || (h.aggregated && feeds),
                        None => make_any || (rewrite.has(h.role) && create.has(h.role)),
                    };
                    if own {
                        best = best.max(place(out, h));
                    }
                }
            }
        }
    }
    let escalate = Union::of(out.view, &[p.escalate_r]);
    let rewrite = escalate.and(&Union::of(out.view, &[p.update_r, p.patch_r]));
    let create = Union::of(out.view, &[p.create_r]);
    let make_any = escalate.all && create.all;
    if rewrite.any() || make_any {
        witness.extend([p.escalate_r, p.update_r, p.patch_r, p.create_r]);
        best = best.max(Some(Priority::Medium));
        for h in held.iter().filter(|h| !h.cluster_role) {
            let here = match (&out.view.scope, &h.namespace) {
                (Scope::Cluster, Some(_)) => true,
                (Scope::Namespace(ns), Some(of)) => ns == of,
                (_, None) => false,
            };
            let own = match h.reaches {
                Some(_) => rewrite.has(h.role),
                None => make_any || (rewrite.has(h.role) && create.has(h.role)),
            };
            if here && own {
                best = best.max(place(out, h));
            }
        }
    }
    if let Some(priority) = best {
        out.hit(Special::Escalate, priority, Outcome::Full, &witness);
    }
}

/// Its default Roles read its Secrets.
pub(super) const KUBE_SYSTEM: &str = "kube-system";

/// The rules that look at one scope may ask what roles are there.
pub(super) fn asks_of_roles(catalogue: &Catalogue, view: &View) -> bool {
    let p = &catalogue.perms;
    let writes = [p.create_rb, p.update_rb, p.patch_rb];
    writes.iter().any(|perm| view.names(*perm).any())
}

/// `rbac-bind`: `bind` on a role and a write on the bindings that can refer to it.
fn bind(out: &mut Out<'_>, context: &dyn Context) {
    let p = &out.catalogue.perms;
    let view = out.view;
    let write_rb = [p.create_rb, p.update_rb, p.patch_rb];
    let write_crb = [p.create_crb, p.update_crb, p.patch_crb];
    let namespaced = Union::of(view, &write_rb).any();
    let clusterwide = view.scope == Scope::Cluster && Union::of(view, &write_crb).any();
    let bind_cr = Union::of(view, &[p.bind_cr]);
    let bind_r = Union::of(view, &[p.bind_r]);
    let mut best = None;
    let mut witness = Vec::new();
    if bind_cr.any() && (namespaced || clusterwide) {
        witness.extend([p.bind_cr]);
        witness.extend(write_rb);
        witness.extend(write_crb);
        best = best.max(Some(Priority::Low));
        if bind_cr.all {
            best = best.max(out.level(Special::Bind));
            out.becomes(Special::Bind, [To::Identities(view.scope.clone())]);
        }
        for name in &bind_cr.names {
            let mut scopes = vec![view.scope.clone()];
            if view.scope == Scope::Cluster && !clusterwide {
                // only RoleBindings can be written, but in every namespace, privileged ones too
                scopes = out
                    .catalogue
                    .privileged_namespaces
                    .iter()
                    .map(|ns| Scope::Namespace(Arc::from(ns.as_str())))
                    .collect();
                scopes.push(Scope::Namespace(Arc::from("zz-any-namespace")));
            }
            for scope in scopes {
                best = best.max(context.role_priority(true, name, &scope));
                out.becomes(Special::Bind, context.role_reaches(true, name, &scope));
            }
        }
    }
    if bind_r.any() && namespaced {
        witness.extend([p.bind_r]);
        witness.extend(write_rb);
        best = best.max(Some(Priority::Low));
        match &view.scope {
            // the default Roles of kube-system read its Secrets, whether they can be seen or not
            Scope::Cluster if bind_r.all => best = best.max(out.level(Special::Bind)),
            Scope::Namespace(ns) if bind_r.all && &**ns == KUBE_SYSTEM => {
                best = best.max(out.level(Special::Bind));
            }
            Scope::Namespace(ns) if bind_r.all => {
                best = best.max(Some(context.strongest_role(ns)));
                let reached = context.roles_reach(ns);
                out.becomes(Special::Bind, reached.iter().cloned());
            }
            scope => {
                for name in &bind_r.names {
                    let places = match scope {
                        Scope::Namespace(ns) => vec![ns.clone()],
                        Scope::Cluster => context.namespaces_with_role(name),
                    };
                    for ns in places {
                        let scope = Scope::Namespace(ns);
                        best = best.max(context.role_priority(false, name, &scope));
                        out.becomes(Special::Bind, context.role_reaches(false, name, &scope));
                    }
                }
            }
        }
    }
    if let Some(priority) = best {
        out.hit(Special::Bind, priority, Outcome::Full, &witness);
    }
}

fn impersonate_users(out: &mut Out<'_>) {
    let p = &out.catalogue.perms;
    let users = Union::of(out.view, &[p.impersonate_users]);
    if !users.any() {
        return;
    }
    if users.all {
        if let Some(priority) = out.level(Special::ImpersonateUsers) {
            out.hit(
                Special::ImpersonateUsers,
                priority,
                Outcome::Full,
                &[p.impersonate_users],
            );
        }
        return;
    }
    let groups = Union::of(out.view, &[p.impersonate_groups]);
    let node = groups.has("system:nodes") && users.names.iter().any(|n| node_of(n).is_some());
    let (priority, witness) = if node {
        (
            Priority::High,
            vec![p.impersonate_users, p.impersonate_groups],
        )
    } else {
        (Priority::Low, vec![p.impersonate_users])
    };
    out.hit(
        Special::ImpersonateUsers,
        priority,
        Outcome::Named,
        &witness,
    );
}

fn impersonate_accounts(out: &mut Out<'_>) {
    let p = &out.catalogue.perms;
    match out.view.names(p.impersonate_sa) {
        Names::None => {}
        Names::All => {
            if let Some(priority) = out.level(Special::ImpersonateServiceAccounts) {
                let special = Special::ImpersonateServiceAccounts;
                out.hit(special, priority, Outcome::Full, &[p.impersonate_sa]);
            }
        }
        Names::Some(_) => out.hit(
            Special::ImpersonateServiceAccounts,
            Priority::Low,
            Outcome::Named,
            &[p.impersonate_sa],
        ),
    }
}

/// `secrets-token-mint`. A read by names mints only under a name that is free: cluster-wide one is
/// free in some namespace; in one namespace the subject must be able to clear it away.
fn token_mint(out: &mut Out<'_>) {
    let p = &out.catalogue.perms;
    let view = out.view;
    let reads = [
        p.get_secret,
        p.list_secret,
        p.watch_secret,
        p.patch_secret,
        p.delete_secret,
        p.delete_secrets,
    ];
    let create = Union::of(view, &[p.create_secret]);
    let read = Union::of(view, &reads);
    if !create.any() || !read.any() {
        return;
    }
    let mut witness = vec![p.create_secret, p.patch_secret];
    let full = if create.all {
        witness.extend(reads);
        witness.push(p.update_secret);
        let remove = Union::of(
            view,
            &[
                p.delete_secret,
                p.update_secret,
                p.patch_secret,
                p.delete_secrets,
            ],
        );
        read.all || view.scope == Scope::Cluster || read.names.iter().any(|n| remove.has(n))
    } else {
        // in effect a named create implies patch of the same name, which reads
        Union::of(view, &[p.patch_secret]).and(&create).any()
    };
    if !full && !create.all {
        return;
    }
    let priority = if full {
        out.level(Special::TokenMint)
    } else {
        Some(Priority::Low)
    };
    let outcome = if full { Outcome::Full } else { Outcome::Named };
    if let Some(priority) = priority {
        out.hit(Special::TokenMint, priority, outcome, &witness);
    }
}

fn token_create(out: &mut Out<'_>) {
    let p = &out.catalogue.perms;
    let (priority, outcome) = match out.view.names(p.create_token) {
        Names::None => return,
        Names::All => (out.level(Special::TokenCreate), Outcome::Full),
        Names::Some(_) => (Some(Priority::Low), Outcome::Named),
    };
    if let Some(priority) = priority {
        out.hit(Special::TokenCreate, priority, outcome, &[p.create_token]);
    }
}

/// `namespace-modify`, `namespace-delete`: a RoleBinding reaches the Namespace it lies in, and there
/// alone ([`Vocabulary::through_role_binding`] leaves just that name).
fn namespaces(out: &mut Out<'_>) {
    let p = &out.catalogue.perms;
    let modify = [
        p.update_ns,
        p.patch_ns,
        p.update_ns_status,
        p.patch_ns_status,
        p.finalize_ns,
    ];
    for (special, perms) in [
        (Special::NamespaceModify, &modify[..]),
        (Special::NamespaceDelete, &[p.delete_ns][..]),
    ] {
        let names = Union::of(out.view, perms);
        let priority = match &out.view.scope {
            Scope::Cluster if names.all => out.level(special),
            Scope::Cluster if names.any() => Some(Priority::Medium),
            Scope::Namespace(ns) if names.has(ns) => out.level(special),
            _ => None,
        };
        if let Some(priority) = priority {
            out.hit(special, priority, Outcome::Full, perms);
        }
    }
}

/// The specials that join pieces of several scopes, and their edges.
pub(super) fn across_scopes(
    catalogue: &Catalogue,
    subject: &Subject,
    held: &[Held<'_>],
    views: &[View],
    hits: &mut Vec<Hit>,
    edges: &mut Vec<Edge>,
) {
    let p = &catalogue.perms;
    let cluster = &views[0];
    let users = Union::of(cluster, &[p.impersonate_users]);
    let groups = Union::of(cluster, &[p.impersonate_groups]);
    if groups.any() {
        // a group header needs a user header: any user, or any account anywhere
        let usable = users.all
            || users.names.iter().any(|n| !account_form(n))
            || views.iter().any(|v| v.names(p.impersonate_sa).any());
        let mut out = Out {
            catalogue,
            view: cluster,
            hits,
            edges,
        };
        let (priority, outcome) = if groups.all && usable {
            (out.level(Special::ImpersonateGroups), Outcome::Full)
        } else {
            (Some(Priority::Low), Outcome::Named)
        };
        let mut witness = vec![p.impersonate_groups];
        if usable {
            witness.extend([p.impersonate_users, p.impersonate_sa]);
        }
        if let Some(priority) = priority {
            out.hit(Special::ImpersonateGroups, priority, outcome, &witness);
        }
        if usable && let Some(rule) = catalogue.special(Special::ImpersonateGroups) {
            for name in &groups.names {
                edges.push(edge(rule, &Scope::Cluster, To::Group(name.clone())));
            }
        }
    }
    let volumes = Union::of(cluster, &[p.create_pv]);
    if volumes.any()
        && let Some(rule) = catalogue.special(Special::VolumeHostPath)
        && let Some(priority) = catalogue.rule(rule).levels.cluster
    {
        let runs = ["pod-create", "workload-create", "workload-modify"].map(|r| catalogue.find(r));
        let from: Vec<&Hit> = hits
            .iter()
            .filter(|h| runs.contains(&Some(h.rule)))
            .collect();
        if !from.is_empty() {
            let mut witness: Vec<PermId> = from
                .iter()
                .flat_map(|h| h.witness.iter().copied())
                .collect();
            witness.extend([p.create_pv, p.patch_pv]);
            hits.push(Hit {
                rule,
                scope: Scope::Cluster,
                priority,
                outcome: Outcome::Full,
                witness,
                bindings: Vec::new(),
            });
        }
    }
    if matches!(subject, Subject::Group { name } if name == MASTERS)
        && let Some(rule) = catalogue.special(Special::Masters)
        && let Some(priority) = catalogue.rule(rule).levels.cluster
    {
        let bindings = (0..held.len()).filter(|i| held[*i].direct).collect();
        hits.push(Hit {
            rule,
            scope: Scope::Cluster,
            priority,
            outcome: Outcome::Full,
            witness: Vec::new(),
            bindings,
        });
    }
}

/// The rule about what a binding to the subject names.
fn of_everyone(subject: &Subject) -> Option<Special> {
    Some(match subject {
        Subject::User { name } if name == "system:anonymous" => Special::Anonymous,
        Subject::Group { name } if name == "system:unauthenticated" => Special::Anonymous,
        Subject::Group { name } if name == "system:authenticated" => Special::Authenticated,
        Subject::Group { name }
            if name == "system:serviceaccounts" || name.starts_with("system:serviceaccounts:") =>
        {
            Special::AllServiceAccounts
        }
        Subject::ServiceAccount { name, .. } if name == "default" => Special::DefaultServiceAccount,
        _ => return None,
    })
}

/// Some finding of the subject is about a binding itself, whatever its role grants.
pub fn about_bindings(subject: &Subject) -> bool {
    let masters = matches!(subject, Subject::Group { name } if name == MASTERS);
    masters || of_everyone(subject).is_some()
}

/// The same rules may give something else in this namespace than in most.
pub fn depends_on_place(catalogue: &Catalogue, reaches: &Reaches, namespace: &str) -> bool {
    let vocabulary = &catalogue.vocabulary;
    let on = reaches.on.iter().flat_map(|on| on.iter());
    namespace == KUBE_SYSTEM
        || catalogue.privileged(namespace)
        || catalogue.singles_out(namespace)
        || std::iter::once(&reaches.plain)
            .chain(on)
            .any(|reach| vocabulary.depends_on_namespace(reach))
}

/// What the rules come to may depend on which roles their holder is bound to.
pub fn may_rewrite_roles(catalogue: &Catalogue, reaches: &Reaches) -> bool {
    let perms = [catalogue.perms.escalate_cr, catalogue.perms.escalate_r];
    perms.iter().any(|perm| reaches.plain.names(*perm).any())
}

/// The rules about what a binding to everyone, or to a default account, names (catalogue B.4).
pub(super) fn everyone(
    catalogue: &Catalogue,
    subject: &Subject,
    held: &[Held<'_>],
    context: &dyn Context,
    hits: &mut Vec<Hit>,
) {
    let Some(special) = of_everyone(subject) else {
        return;
    };
    let Some(rule) = catalogue.special(special) else {
        return;
    };
    for (i, h) in held.iter().enumerate() {
        // a missing role grants nobody anything
        if !h.direct || h.baseline || h.reaches.is_none() {
            continue;
        }
        let scope = h.namespace.clone().map_or(Scope::Cluster, Scope::Namespace);
        let Some(base) = level(catalogue, &catalogue.rule(rule).levels, &scope) else {
            continue;
        };
        let role = context
            .role_priority(h.cluster_role, h.role, &scope)
            .unwrap_or_default();
        let priority = match special {
            Special::Anonymous | Special::Authenticated if role >= Priority::Medium => {
                Priority::Critical
            }
            Special::Anonymous | Special::Authenticated => base,
            _ => role.max(base),
        };
        hits.push(Hit {
            rule,
            scope,
            priority,
            outcome: Outcome::Full,
            witness: Vec::new(),
            bindings: vec![i],
        });
    }
}

pub(super) fn edge(rule: RuleId, scope: &Scope, to: To) -> Edge {
    Edge {
        rule,
        scope: scope.clone(),
        to,
        cap: Priority::Critical,
        gate: None,
    }
}

/// Whom a hit lets the subject become (catalogue C.3).
pub(super) fn edges_of(
    catalogue: &Catalogue,
    hit: &Hit,
    view: &View,
    cluster: &View,
    edges: &mut Vec<Edge>,
) {
    let rule = catalogue.rule(hit.rule);
    // a rule of one's own under a shipped id may ask for anything; whom one becomes follows from what
    // the shipped one asks for
    let holds = |all: &Vec<_>| alternative(rule, all, view, cluster).is_some();
    if !rule.becomes.is_empty() && !rule.becomes.iter().any(holds) {
        return;
    }
    let p = &catalogue.perms;
    let scope = &view.scope;
    let mut add = |to: To| edges.push(edge(hit.rule, scope, to));
    // an account that a binding waits for is there as soon as somebody makes it
    let make = Union::of(view, &[p.create_account]);
    let accounts = |add: &mut dyn FnMut(To)| {
        if make.all {
            add(To::Identities(scope.clone()));
            return;
        }
        add(To::Accounts(scope.clone()));
        for name in &make.names {
            add(To::Identity(scope.clone(), name.clone()));
        }
    };
    match rule.id.as_str() {
        "pod-create" | "workload-create" | "workload-modify" => accounts(&mut add),
        "serviceaccount-token-create" => match view.names(p.create_token) {
            Names::All => accounts(&mut add),
            Names::Some(names) => {
                for name in names {
                    add(if make.has(name) {
                        To::Identity(scope.clone(), name.clone())
                    } else {
                        To::Account(scope.clone(), name.clone())
                    });
                }
            }
            Names::None => {}
        },
        "secrets-token-mint" if hit.outcome == Outcome::Full => accounts(&mut add),
        "impersonate-serviceaccounts" => match view.names(p.impersonate_sa) {
            Names::All => add(To::Identities(scope.clone())),
            Names::Some(names) => {
                names
                    .iter()
                    .for_each(|n| add(To::Identity(scope.clone(), n.clone())));
            }
            Names::None => {}
        },
        "impersonate-users" => {
            let groups = Union::of(view, &[p.impersonate_groups]);
            for name in &Union::of(view, &[p.impersonate_users]).names {
                if !account_form(name) {
                    add(To::User(name.clone()));
                }
                if let Some(node) = node_of(name).filter(|_| groups.has("system:nodes")) {
                    add(To::NodeTokens(Scope::Cluster, Arc::from(node)));
                }
            }
        }
        "pod-exec" => pod_tokens(view, &[p.create_exec], &mut add),
        "pod-exec-legacy-get" => pod_tokens(view, &[p.get_exec], &mut add),
        "pod-modify" => pod_tokens(view, &[p.update_pod, p.patch_pod], &mut add),
        "pod-ephemeral-containers" => {
            pod_tokens(view, &[p.update_ephemeral, p.patch_ephemeral], &mut add);
            // env of the container may name any Secret, whatever pod it joins
            add(To::SecretOwners(scope.clone()));
        }
        "node-proxy" => {
            let nodes = Union::of(view, &[p.get_node_proxy, p.create_node_proxy]);
            if nodes.all {
                add(To::PodTokens(Scope::Cluster));
            }
            for node in nodes.names {
                add(To::NodeTokens(Scope::Cluster, node));
            }
        }
        "secrets-list" | "secrets-get" | "secrets-read-named" => {
            secret_owners(catalogue, view, &mut add);
        }
        _ => {}
    }
}

fn pod_tokens(view: &View, perms: &[PermId], add: &mut impl FnMut(To)) {
    let pods = Union::of(view, perms);
    if pods.all {
        add(To::PodTokens(view.scope.clone()));
    }
    for pod in pods.names {
        add(To::PodTokensOf(view.scope.clone(), pod));
    }
}

/// A read of a Secret that an account lists is that account's token; a write of its annotation with a
/// read of the same name is any account's (catalogue A.9).
fn secret_owners(catalogue: &Catalogue, view: &View, add: &mut impl FnMut(To)) {
    let p = &catalogue.perms;
    let read = Union::of(
        view,
        &[
            p.get_secret,
            p.list_secret,
            p.watch_secret,
            p.patch_secret,
            p.delete_secret,
            p.delete_secrets,
        ],
    );
    let patch = Union::of(view, &[p.patch_secret]);
    let update = Union::of(view, &[p.update_secret]);
    let reaim = patch.or(&update.and(&read));
    if read.all {
        add(To::SecretOwners(view.scope.clone()));
    }
    for name in &read.names {
        add(To::SecretOwnersOf(view.scope.clone(), name.clone()));
    }
    if reaim.all {
        add(To::Reaim(view.scope.clone()));
    }
    for name in &reaim.names {
        add(To::ReaimOf(view.scope.clone(), name.clone()));
    }
}
