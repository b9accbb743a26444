//! The requests worth asking, and what roles answer to them.
//!
//! The four predicates at the top are the API server's; nothing else in the project decides whether a
//! rule matches. A [`Vocabulary`] applies them to many requests at once: it finds candidates by
//! lookup (a text without `*` can match nothing but itself) and lets the predicates decide.

use super::bits::Bits;
use crate::object::PolicyRule;
use std::collections::HashMap;
use std::sync::Arc;

/// `VerbMatches`: `*` or the equal string, case-sensitive.
pub fn verb_matches(rule: &str, asked: &str) -> bool {
    rule == "*" || rule == asked
}

/// `APIGroupMatches`: `*` or the equal string; no globs.
pub fn group_matches(rule: &str, asked: &str) -> bool {
    rule == "*" || rule == asked
}

/// `ResourceMatches`: `*` covers everything, subresources too; else the whole `resource` or
/// `resource/subresource`; else `*/subresource` for a request that has one. `pods/*` and `*/*` match
/// nothing.
pub fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    rule.strip_prefix(resource)
        .and_then(|r| r.strip_prefix('/'))
        == Some(subresource)
        || rule.strip_prefix("*/") == Some(subresource)
}

/// `NonResourceURLMatches`: `*`, equal, or a prefix less its trailing stars. `/metrics/*` does not
/// match `/metrics`.
pub fn url_matches(rule: &str, path: &str) -> bool {
    rule == "*"
        || rule == path
        || (rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*')))
}

/// Number of a [`Permission`] in its [`Vocabulary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PermId(u32);

impl PermId {
    /// As an index into [`Bits`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// An API resource.
    Resource {
        /// API group, empty for core.
        group: String,
        /// Resource, plural.
        resource: String,
        /// Subresource, empty for none.
        subresource: String,
    },
    /// A non-resource URL path.
    Url(String),
}

/// A request less its name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    /// Verb.
    pub verb: String,
    /// Object of the verb.
    pub target: Target,
}

impl Permission {
    /// On `resource` or `resource/subresource` of a group.
    pub fn resource(verb: &str, group: &str, resource: &str) -> Permission {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Permission {
            verb: verb.into(),
            target: Target::Resource {
                group: group.into(),
                resource: resource.into(),
                subresource: subresource.into(),
            },
        }
    }

    /// On a path.
    pub fn url(verb: &str, path: &str) -> Permission {
        Permission {
            verb: verb.into(),
            target: Target::Url(path.into()),
        }
    }

    /// The request carries no object name: `list`, `watch` and `deletecollection`, and `create` of
    /// an object itself (a POST to a collection), but not of a subresource (catalogue A.2).
    fn carries_no_name(&self) -> bool {
        match (self.verb.as_str(), &self.target) {
            ("list" | "watch" | "deletecollection", Target::Resource { .. }) => true,
            ("create", Target::Resource { subresource, .. }) => subresource.is_empty(),
            _ => false,
        }
    }

    /// Names on it grant nothing, not even through a field selector.
    fn names_are_dead(&self) -> bool {
        self.carries_no_name() && !matches!(self.verb.as_str(), "list" | "watch")
    }

    /// Verbs of the request that, with `create`, brings an object of a given name into being:
    /// `patch` (server-side apply), and PUT for kinds that allow it
    /// (`AllowCreateOnUpdate` in their registry strategies).
    fn creating_verbs(&self) -> &'static [&'static str] {
        match (self.verb.as_str(), &self.target) {
            (
                "create",
                Target::Resource {
                    group,
                    resource,
                    subresource,
                },
            ) if subresource.is_empty() => match (group.as_str(), resource.as_str()) {
                (
                    "rbac.authorization.k8s.io",
                    "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings",
                )
                | ("", "services" | "endpoints" | "limitranges" | "events")
                | ("events.k8s.io", "events")
                | ("coordination.k8s.io", "leases" | "leasecandidates")
                | ("node.k8s.io", "runtimeclasses") => &["patch", "update"],
                _ => &["patch"],
            },
            _ => &[],
        }
    }

    /// Which bindings can grant it (catalogue A.3).
    fn place(&self) -> Place {
        let Target::Resource {
            group, resource, ..
        } = &self.target
        else {
            return Place::Cluster;
        };
        match (group.as_str(), resource.as_str(), self.verb.as_str()) {
            // a request for /namespaces/app has the namespace app
            ("", "namespaces", verb)
                if !matches!(verb, "list" | "watch" | "create" | "deletecollection") =>
            {
                Place::OwnNamespace
            }
            // asked with the namespace of the RoleBinding that is written
            ("rbac.authorization.k8s.io", "clusterroles", "bind") => Place::Namespace,
            ("", "nodes" | "persistentvolumes" | "namespaces" | "users" | "groups", _)
            | ("rbac.authorization.k8s.io", "clusterroles" | "clusterrolebindings", _)
            | ("authentication.k8s.io", "users" | "groups" | "uids" | "userextras" | "nodes", _)
            | (
                "certificates.k8s.io",
                "certificatesigningrequests" | "signers" | "clustertrustbundles",
                _,
            )
            | (
                "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "apiregistration.k8s.io"
                | "flowcontrol.apiserver.k8s.io"
                | "scheduling.k8s.io"
                | "node.k8s.io",
                _,
                _,
            )
            | (
                "storage.k8s.io",
                "csidrivers"
                | "csinodes"
                | "storageclasses"
                | "volumeattachments"
                | "volumeattributesclasses",
                _,
            )
            | ("snapshot.storage.k8s.io", "volumesnapshotcontents" | "volumesnapshotclasses", _)
            | ("resource.k8s.io", "deviceclasses" | "resourceslices" | "devicetaintrules", _)
            | ("networking.k8s.io", "ingressclasses" | "ipaddresses" | "servicecidrs", _)
            | ("gateway.networking.k8s.io", "gatewayclasses", _) => Place::Cluster,
            _ => Place::Namespace,
        }
    }
}

/// Which bindings can grant a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// RoleBindings in their namespace, ClusterRoleBindings everywhere.
    Namespace,
    /// ClusterRoleBindings alone: the request has no namespace.
    Cluster,
    /// As [`Place::Cluster`], and a RoleBinding for the Namespace object it lies in.
    OwnNamespace,
}

/// A mode of constrained impersonation (KEP-5284): the prefix `impersonate-on:MODE:` of verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// `user-info`
    UserInfo,
    /// `serviceaccount`
    ServiceAccount,
    /// `arbitrary-node`
    ArbitraryNode,
    /// `associated-node`
    AssociatedNode,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 4] = [
        Mode::UserInfo,
        Mode::ServiceAccount,
        Mode::ArbitraryNode,
        Mode::AssociatedNode,
    ];

    /// The word in the verbs.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::UserInfo => "user-info",
            Mode::ServiceAccount => "serviceaccount",
            Mode::ArbitraryNode => "arbitrary-node",
            Mode::AssociatedNode => "associated-node",
        }
    }
}

/// Names that a permission is granted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names<'a> {
    /// None: not granted.
    None,
    /// These, sorted, not empty.
    Some(&'a [Arc<str>]),
    /// Every name.
    All,
}

impl Names<'_> {
    /// Granted for this name?
    pub fn has(&self, name: &str) -> bool {
        match self {
            Names::None => false,
            Names::Some(names) => names.iter().any(|n| **n == *name),
            Names::All => true,
        }
    }

    /// Granted for every name?
    pub fn all(&self) -> bool {
        matches!(self, Names::All)
    }

    /// Granted for any name?
    pub fn any(&self) -> bool {
        !matches!(self, Names::None)
    }
}

/// What one role, or several merged, answer to a [`Vocabulary`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    all: Bits,
    named: Vec<(PermId, Vec<Arc<str>>)>,
}

impl Reach {
    /// For which names is it granted?
    pub fn names(&self, perm: PermId) -> Names<'_> {
        if self.all.contains(perm.index()) {
            return Names::All;
        }
        match self.named.binary_search_by_key(&perm, |(p, _)| *p) {
            Ok(i) => Names::Some(&self.named[i].1),
            Err(_) => Names::None,
        }
    }

    /// The permissions granted for every name.
    pub fn unlimited(&self) -> &Bits {
        &self.all
    }

    /// The permissions granted for some names only.
    pub fn named(&self) -> &[(PermId, Vec<Arc<str>>)] {
        &self.named
    }

    /// Nothing granted?
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.all.is_empty()
    }

    /// Adds what `other` grants.
    pub fn merge(&mut self, other: &Reach) {
        self.all.union(&other.all);
        for (perm, names) in &other.named {
            self.add_names(*perm, names);
        }
        self.drop_covered();
    }

    /// Grants a permission for every name.
    pub fn grant(&mut self, perm: PermId) {
        self.all.insert(perm.index());
    }

    fn add_names(&mut self, perm: PermId, names: &[Arc<str>]) {
        match self.named.binary_search_by_key(&perm, |(p, _)| *p) {
            Ok(i) => {
                let known = &mut self.named[i].1;
                for name in names {
                    if let Err(at) = known.binary_search(name) {
                        known.insert(at, name.clone());
                    }
                }
            }
            Err(i) => {
                let mut names = names.to_vec();
                names.sort();
                names.dedup();
                self.named.insert(i, (perm, names));
            }
        }
    }

    fn drop_covered(&mut self) {
        let all = &self.all;
        self.named.retain(|(p, _)| !all.contains(p.index()));
    }
}

/// A list of permissions, prepared for matching.
#[derive(Debug, Default)]
pub struct Vocabulary {
    perms: Vec<Permission>,
    index: HashMap<Permission, PermId>,
    verbs: Dimension,
    groups: Dimension,
    resources: Dimension,
    urls: Dimension,
    on_resources: Bits,
    on_urls: Bits,
    cluster: Bits,
    own_namespace: Bits,
    no_name: Bits,
    dead_names: Bits,
    /// `create` permissions with the verbs that create under a name.
    creates: Vec<(PermId, Vec<PermId>)>,
}

/// Distinct values of one part of the permissions, each with the permissions that have it.
#[derive(Debug, Default)]
struct Dimension {
    values: Vec<(String, String, Bits)>,
    exact: HashMap<String, usize>,
}

impl Dimension {
    fn new(perms: &[Permission], part: impl Fn(&Permission) -> Option<(String, String)>) -> Self {
        let mut this = Dimension::default();
        for (i, perm) in perms.iter().enumerate() {
            let Some((value, sub)) = part(perm) else {
                continue;
            };
            let whole = if sub.is_empty() {
                value.clone()
            } else {
                format!("{value}/{sub}")
            };
            // a value that itself has a slash must not be taken for a resource with a subresource
            let key = format!("{}{whole}", if sub.is_empty() { "" } else { "\u{0}" });
            let at = *this.exact.entry(key).or_insert_with(|| {
                this.values.push((value, sub, Bits::new(perms.len())));
                this.values.len() - 1
            });
            this.values[at].2.insert(i);
        }
        this
    }

    /// Permissions whose value the rule's text matches.
    fn matching(&self, text: &str, into: &mut Bits, matches: impl Fn(&str, &str) -> bool) {
        if text.contains('*') {
            for (value, sub, bits) in &self.values {
                if matches(value, sub) {
                    into.union(bits);
                }
            }
            return;
        }
        for key in [text.to_owned(), format!("\u{0}{text}")] {
            if let Some(at) = self.exact.get(&key) {
                let (value, sub, bits) = &self.values[*at];
                if matches(value, sub) {
                    into.union(bits);
                }
            }
        }
    }
}

impl Vocabulary {
    /// Prepares a list of permissions; repeated ones get one number. With every `create` come the
    /// verbs that create under a name.
    pub fn new(perms: impl IntoIterator<Item = Permission>) -> Vocabulary {
        let mut list: Vec<Permission> = Vec::new();
        let mut index: HashMap<Permission, PermId> = HashMap::new();
        let mut creates = Vec::new();
        let mut add = |list: &mut Vec<Permission>, perm: Permission| -> PermId {
            *index.entry(perm.clone()).or_insert_with(|| {
                list.push(perm);
                PermId(list.len() as u32 - 1)
            })
        };
        for perm in perms {
            let companions: Vec<Permission> = perm
                .creating_verbs()
                .iter()
                .map(|verb| Permission {
                    verb: (*verb).into(),
                    target: perm.target.clone(),
                })
                .collect();
            let id = add(&mut list, perm);
            if !companions.is_empty() {
                let with: Vec<PermId> = companions.into_iter().map(|c| add(&mut list, c)).collect();
                if !creates.iter().any(|(p, _)| *p == id) {
                    creates.push((id, with));
                }
            }
        }
        let bits = |test: &dyn Fn(&Permission) -> bool| {
            let mut bits = Bits::new(list.len());
            list.iter()
                .enumerate()
                .filter(|(_, p)| test(p))
                .for_each(|(i, _)| bits.insert(i));
            bits
        };
        Vocabulary {
            verbs: Dimension::new(&list, |p| Some((p.verb.clone(), String::new()))),
            groups: Dimension::new(&list, |p| match &p.target {
                Target::Resource { group, .. } => Some((group.clone(), String::new())),
                Target::Url(_) => None,
            }),
            resources: Dimension::new(&list, |p| match &p.target {
                Target::Resource {
                    resource,
                    subresource,
                    ..
                } => Some((resource.clone(), subresource.clone())),
                Target::Url(_) => None,
            }),
            urls: Dimension::new(&list, |p| match &p.target {
                Target::Url(path) => Some((path.clone(), String::new())),
                Target::Resource { .. } => None,
            }),
            on_resources: bits(&|p| matches!(p.target, Target::Resource { .. })),
            on_urls: bits(&|p| matches!(p.target, Target::Url(_))),
            cluster: bits(&|p| p.place() == Place::Cluster),
            own_namespace: bits(&|p| p.place() == Place::OwnNamespace),
            no_name: bits(&Permission::carries_no_name),
            dead_names: bits(&Permission::names_are_dead),
            creates,
            perms: list,
            index,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.perms.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.perms.is_empty()
    }

    /// The number of a permission.
    pub fn id(&self, perm: &Permission) -> Option<PermId> {
        self.index.get(perm).copied()
    }

    /// The permission of a number.
    pub fn permission(&self, id: PermId) -> &Permission {
        &self.perms[id.index()]
    }

    /// All numbers.
    pub fn ids(&self) -> impl Iterator<Item = PermId> + use<> {
        (0..self.perms.len() as u32).map(PermId)
    }

    /// The numbers in a set.
    pub fn ids_in(&self, set: &Bits) -> impl Iterator<Item = PermId> {
        set.iter().map(|i| PermId(i as u32))
    }

    /// Nothing granted.
    pub fn nothing(&self) -> Reach {
        Reach {
            all: Bits::new(self.len()),
            named: Vec::new(),
        }
    }

    /// What these rules grant: the literal answer, names as they stand. With a `mode`, the verbs are
    /// asked as `impersonate-on:MODE:VERB`, which `*` covers and a rule's `impersonate-on:MODE:*` does not.
    pub fn reach(&self, rules: &[PolicyRule], mode: Option<Mode>) -> Reach {
        let mut out = self.nothing();
        for rule in rules {
            let mut granted = self.verb_bits(&rule.verbs, mode);
            let mut of_resources = Bits::new(self.len());
            for resource in &rule.resources {
                self.resources
                    .matching(resource, &mut of_resources, |value, sub| {
                        resource_matches(resource, value, sub)
                    });
            }
            let mut of_groups = Bits::new(self.len());
            for group in &rule.api_groups {
                self.groups.matching(group, &mut of_groups, |value, _| {
                    group_matches(group, value)
                });
            }
            of_resources.intersect(&of_groups);
            of_resources.intersect(&self.on_resources);
            of_resources.intersect(&granted);
            if rule.resource_names.is_empty() {
                out.all.union(&of_resources);
            } else {
                let names: Vec<Arc<str>> = rule
                    .resource_names
                    .iter()
                    .map(|n| Arc::from(n.as_str()))
                    .collect();
                for perm in of_resources.iter() {
                    out.add_names(PermId(perm as u32), &names);
                }
            }
            if !rule.non_resource_urls.is_empty() {
                let mut of_urls = Bits::new(self.len());
                for url in &rule.non_resource_urls {
                    self.urls
                        .matching(url, &mut of_urls, |value, _| url_matches(url, value));
                }
                of_urls.intersect(&self.on_urls);
                granted.intersect(&of_urls);
                out.all.union(&granted);
            }
        }
        out.drop_covered();
        out
    }

    fn verb_bits(&self, verbs: &[String], mode: Option<Mode>) -> Bits {
        let mut bits = Bits::new(self.len());
        let Some(mode) = mode else {
            for verb in verbs {
                self.verbs
                    .matching(verb, &mut bits, |value, _| verb_matches(verb, value));
            }
            return bits;
        };
        let prefix = format!("impersonate-on:{}:", mode.as_str());
        for verb in verbs {
            if verb == "*" {
                return Bits::full(self.len());
            }
            let Some(rest) = verb.strip_prefix(&prefix).filter(|rest| *rest != "*") else {
                continue;
            };
            self.verbs.matching(rest, &mut bits, |value, _| {
                verb_matches(verb, &format!("{prefix}{value}"))
            });
        }
        bits
    }

    /// What of a reach counts when it comes through a RoleBinding in `namespace`.
    pub fn through_role_binding(&self, reach: &Reach, namespace: &str) -> Reach {
        let mut out = self.nothing();
        let own: Arc<str> = Arc::from(namespace);
        for i in reach.all.iter().filter(|i| !self.cluster.contains(*i)) {
            if self.own_namespace.contains(i) {
                out.add_names(PermId(i as u32), std::slice::from_ref(&own));
            } else {
                out.all.insert(i);
            }
        }
        for (perm, names) in &reach.named {
            let i = perm.index();
            if self.cluster.contains(i) {
                continue;
            }
            if !self.own_namespace.contains(i) {
                out.named.push((*perm, names.clone()));
            } else if names.contains(&own) {
                out.add_names(*perm, std::slice::from_ref(&own));
            }
        }
        out.named.sort_by_key(|(p, _)| *p);
        out
    }

    /// What [`Self::through_role_binding`] leaves of a reach depends on the namespace.
    pub fn depends_on_namespace(&self, reach: &Reach) -> bool {
        let mut named = reach.named.iter().map(|(perm, _)| perm.index());
        reach.all.meets(&self.own_namespace) || named.any(|i| self.own_namespace.contains(i))
    }

    /// For which names a permission is granted by what [`Self::through_role_binding`] leaves of a reach.
    pub fn names_through_role_binding<'a>(
        &self,
        reach: &'a Reach,
        perm: PermId,
        namespace: &'a Arc<str>,
    ) -> Names<'a> {
        if self.cluster.contains(perm.index()) {
            return Names::None;
        }
        let names = reach.names(perm);
        if !self.own_namespace.contains(perm.index()) {
            return names;
        }
        match names.has(namespace) {
            true => Names::Some(std::slice::from_ref(namespace)),
            false => Names::None,
        }
    }

    /// What a merged reach means once requests carry the names they carry (catalogue A.2):
    ///
    /// - a grant for the name `""` is unlimited for a request without a name, and nothing for others;
    /// - names on `create` (of an object) and `deletecollection` are dead,
    /// - except that `create` holds for a name that may also be patched (server-side apply), or
    ///   updated for kinds that PUT creates. One of the two halves may be unlimited.
    pub fn in_effect(&self, literal: &Reach) -> Reach {
        let mut out = Reach {
            all: literal.all.clone(),
            named: Vec::new(),
        };
        for (perm, names) in &literal.named {
            if self.no_name.contains(perm.index()) && names.iter().any(|n| n.is_empty()) {
                out.all.insert(perm.index());
                continue;
            }
            if !self.dead_names.contains(perm.index()) {
                let names: Vec<_> = names.iter().filter(|n| !n.is_empty()).cloned().collect();
                if !names.is_empty() {
                    out.named.push((*perm, names));
                }
            }
        }
        for (create, with) in &self.creates {
            let Names::Some(names) = literal.names(*create) else {
                continue;
            };
            if out.all.contains(create.index()) {
                continue;
            }
            let names: Vec<_> = names
                .iter()
                .filter(|n| !n.is_empty() && with.iter().any(|w| literal.names(*w).has(n)))
                .cloned()
                .collect();
            if !names.is_empty() {
                out.add_names(*create, &names);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn vocabulary(list: &[(&str, &str, &str)]) -> Vocabulary {
        Vocabulary::new(list.iter().map(|(v, g, r)| Permission::resource(v, g, r)))
    }

    fn names(v: &Vocabulary, r: &Reach, verb: &str, group: &str, res: &str) -> Option<Vec<String>> {
        match r.names(v.id(&Permission::resource(verb, group, res)).unwrap()) {
            Names::None => None,
            Names::All => Some(vec!["*all*".into()]),
            Names::Some(n) => Some(n.iter().map(|n| n.to_string()).collect()),
        }
    }

    #[test]
    fn resources_match_as_the_server_has_it() {
        for (rule, resource, sub, expected) in [
            ("*", "pods", "exec", true),
            ("pods", "pods", "", true),
            ("pods", "pods", "exec", false),
            ("pods/*", "pods", "exec", false),
            ("*/*", "pods", "exec", false),
            ("*/exec", "pods", "exec", true),
            ("*/exec", "pods", "", false),
            ("pods/exec", "pods", "exec", true),
            ("pods/exec", "pods/exec", "", true),
            ("*/x", "pods", "x", true),
            ("*/*", "pods", "*", true),
        ] {
            assert_eq!(
                resource_matches(rule, resource, sub),
                expected,
                "{rule} {resource} {sub}"
            );
        }
    }

    #[test]
    fn one_name_through_a_role_binding_is_what_the_whole_reach_has_of_it() {
        let v = vocabulary(&[
            ("get", "", "pods"),
            ("list", "", "nodes"),
            ("update", "", "namespaces"),
            ("create", "", "namespaces"),
        ]);
        let (all, own): (&[&str], &[&str]) = (&["*"], &["app", "b"]);
        let (here, elsewhere) = (Arc::from("app"), Arc::from("other"));
        for names in [&[], own, &["other"]] {
            let reach = v.reach(&[rule(all, all, all, names)], None);
            for ns in [&here, &elsewhere] {
                let through = v.through_role_binding(&reach, ns);
                for perm in v.ids() {
                    let one = v.names_through_role_binding(&reach, perm, ns);
                    assert_eq!(one, through.names(perm), "{names:?} {ns} {perm:?}");
                }
            }
        }
    }

    #[test]
    fn what_creates_under_a_name() {
        let rbac = "rbac.authorization.k8s.io";
        for (verb, group, resource, expected) in [
            ("create", "", "pods", &["patch"][..]),
            ("create", "", "pods/exec", &[]),
            ("create", "", "services", &["patch", "update"]),
            ("create", "", "services/proxy", &[]),
            ("create", "apps", "services", &["patch"]),
            ("create", rbac, "roles", &["patch", "update"]),
            ("create", rbac, "clusterrolebindings", &["patch", "update"]),
            ("create", rbac, "services", &["patch"]),
            ("create", "events.k8s.io", "events", &["patch", "update"]),
            (
                "create",
                "coordination.k8s.io",
                "leases",
                &["patch", "update"],
            ),
            (
                "create",
                "node.k8s.io",
                "runtimeclasses",
                &["patch", "update"],
            ),
            ("update", rbac, "roles", &[]),
        ] {
            let verbs = Permission::resource(verb, group, resource).creating_verbs();
            assert_eq!(verbs, expected, "{verb} {group} {resource}");
        }
        assert!(Permission::url("create", "/x").creating_verbs().is_empty());
    }

    #[test]
    fn urls_match_by_prefix_less_the_stars() {
        for (rule, path, expected) in [
            ("*", "/x", true),
            ("/*", "/x", true),
            ("/metrics/*", "/metrics", false),
            ("/metrics/*", "/metrics/cadvisor", true),
            ("/met**", "/metrics", true),
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/", false),
        ] {
            assert_eq!(url_matches(rule, path), expected, "{rule} {path}");
        }
    }

    #[test]
    fn the_lookup_agrees_with_the_predicates() {
        let asked = [
            ("get", "", "pods"),
            ("create", "", "pods/exec"),
            ("get", "apps", "deployments/scale"),
            ("*", "*", "*"),
            ("update", "x", "a/b"),
        ];
        let v = vocabulary(&asked);
        let texts = [
            "*",
            "get",
            "pods",
            "pods/exec",
            "*/exec",
            "*/scale",
            "pods/*",
            "",
            "apps",
            "a/b",
        ];
        for verb in texts {
            for group in texts {
                for resource in texts {
                    let r = v.reach(&[rule(&[verb], &[group], &[resource], &[])], None);
                    for (av, ag, ar) in asked {
                        let (res, sub) = ar.split_once('/').unwrap_or((ar, ""));
                        let expected = verb_matches(verb, av)
                            && group_matches(group, ag)
                            && resource_matches(resource, res, sub);
                        let got = names(&v, &r, av, ag, ar).is_some();
                        assert_eq!(
                            got, expected,
                            "{verb}|{group}|{resource} asked {av}|{ag}|{ar}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn verb_group_resource_and_name_match_within_one_rule() {
        let v = vocabulary(&[("get", "", "secrets")]);
        let split = v.reach(
            &[
                rule(&["get"], &[""], &["pods"], &[]),
                rule(&["list"], &[""], &["secrets"], &[]),
            ],
            None,
        );
        assert_eq!(names(&v, &split, "get", "", "secrets"), None);
        let mut both = v.reach(&[rule(&["get"], &[""], &["secrets"], &["b"])], None);
        both.merge(&v.reach(&[rule(&["get"], &[""], &["secrets"], &["a", "b"])], None));
        assert_eq!(
            names(&v, &both, "get", "", "secrets"),
            Some(vec!["a".into(), "b".into()])
        );
        both.merge(&v.reach(&[rule(&["*"], &["*"], &["*"], &[])], None));
        assert!(both.named().is_empty());
    }

    #[test]
    fn names_mean_what_the_request_carries() {
        let v = vocabulary(&[
            ("create", "", "pods"),
            ("create", "", "pods/exec"),
            ("list", "", "secrets"),
            ("deletecollection", "", "secrets"),
            ("get", "", "secrets"),
        ]);
        let on = |verbs: &[&str], res: &str, n: &[&str]| {
            v.in_effect(&v.reach(&[rule(verbs, &[""], &[res], n)], None))
        };
        assert_eq!(
            names(&v, &on(&["create"], "pods", &["x"]), "create", "", "pods"),
            None
        );
        let exec = on(&["create"], "pods/exec", &["x"]);
        assert_eq!(
            names(&v, &exec, "create", "", "pods/exec"),
            Some(vec!["x".into()])
        );
        let ssa = on(&["create", "patch"], "pods", &["x"]);
        assert_eq!(
            names(&v, &ssa, "create", "", "pods"),
            Some(vec!["x".into()])
        );
        let empty = on(&["list", "get", "deletecollection"], "secrets", &[""]);
        assert_eq!(
            names(&v, &empty, "list", "", "secrets"),
            Some(vec!["*all*".into()])
        );
        assert_eq!(
            names(&v, &empty, "deletecollection", "", "secrets"),
            Some(vec!["*all*".into()])
        );
        assert_eq!(names(&v, &empty, "get", "", "secrets"), None);
        let dead = on(&["deletecollection"], "secrets", &["x"]);
        assert_eq!(names(&v, &dead, "deletecollection", "", "secrets"), None);
    }

    #[test]
    fn a_role_binding_reaches_its_namespace_only() {
        let v = vocabulary(&[
            ("get", "", "nodes"),
            ("patch", "", "namespaces"),
            ("list", "", "namespaces"),
            ("get", "", "secrets"),
            ("bind", "rbac.authorization.k8s.io", "clusterroles"),
        ]);
        let all = v.reach(&[rule(&["*"], &["*"], &["*"], &[])], None);
        let here = v.through_role_binding(&all, "app");
        assert_eq!(names(&v, &here, "get", "", "nodes"), None);
        assert_eq!(
            names(&v, &here, "patch", "", "namespaces"),
            Some(vec!["app".into()])
        );
        assert_eq!(names(&v, &here, "list", "", "namespaces"), None);
        assert_eq!(
            names(&v, &here, "get", "", "secrets"),
            Some(vec!["*all*".into()])
        );
        assert!(
            names(
                &v,
                &here,
                "bind",
                "rbac.authorization.k8s.io",
                "clusterroles"
            )
            .is_some()
        );
        let named = v.reach(
            &[rule(&["patch"], &[""], &["namespaces"], &["other"])],
            None,
        );
        assert!(v.through_role_binding(&named, "app").is_empty());
    }

    #[test]
    fn impersonate_on_is_a_prefix_that_the_star_verb_covers() {
        let v = vocabulary(&[("list", "", "secrets"), ("*", "", "secrets")]);
        let on = |verb: &str| {
            v.reach(
                &[rule(&[verb], &[""], &["secrets"], &[])],
                Some(Mode::UserInfo),
            )
        };
        assert!(
            names(
                &v,
                &on("impersonate-on:user-info:list"),
                "list",
                "",
                "secrets"
            )
            .is_some()
        );
        assert!(names(&v, &on("*"), "list", "", "secrets").is_some());
        for dead in [
            "list",
            "impersonate-on:user-info:*",
            "impersonate-on:serviceaccount:list",
        ] {
            assert!(on(dead).is_empty(), "{dead}");
        }
    }
}
