//! Judges what changes touched, and what follows from it, in the order of the module's picture.

use super::accepted::Answered;
use super::live;
use super::names::Sym;
use super::rows::{Depends, EdgeRow, InPlaces, RoleRow, SubjectKey, SubjectRow, ToKey};
use super::since::{self, Moment, SinceOwn, moment};
use super::subjects::{Places, namespace_of};
use super::table::{Map, RowId};
use super::{AnyRole, Dirty, Ledger, World};
use crate::object::Subject;
use crate::rbac::{
    MASTERS, Members, PackedRules, aggregated_rules, implicit_groups, members_of, selects,
};
use crate::risk::{
    Assessment, Context, Edge, Held, Pair, Priority, Reaches, RuleId, Scope, Status, To, assess,
    builtin_pairs, in_builtin_pairs,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The judgement of one subject, before it meets that of others.
#[derive(Clone)]
struct Judgement {
    whole: Assessment,
    depends: Depends,
    covered: Option<Priority>,
    since: SinceOwn,
    answered: Option<Box<Answered>>,
}

/// What the rules of a role give by themselves.
pub(super) struct Given {
    pub(super) levels: InPlaces,
    /// It looked at other roles.
    depends: bool,
    /// See [`RoleRow::leads`].
    leads: bool,
}

/// What other roles are worth, for the judgement of one subject or role; remembers whether it was asked.
struct Others<'a> {
    ledger: &'a Ledger,
    asked: RefCell<LookedAt>,
    /// The question is part of a larger one: what it leads to is noted here and looked at there.
    on_the_way: Option<&'a OnTheWay>,
    /// The same for all roles at once, with the one that asks.
    worths: Option<(&'a RefCell<Worths>, &'a Worth)>,
    /// A role is judged, not a subject: what it may bind by name reaches no further, and what it would
    /// reach is nobody's yet.
    of_role: bool,
}

/// Which other roles were asked about so far.
#[derive(Debug, Default)]
struct LookedAt {
    /// In these namespaces; ClusterRoles have the empty one.
    roles_in: BTreeSet<Sym>,
    /// About a Role by its name.
    by_name: bool,
    /// In an ordinary namespace, of which there are none.
    ordinary: bool,
    /// In any.
    all: bool,
}

impl LookedAt {
    fn add(&mut self, other: LookedAt) {
        self.roles_in.extend(other.roles_in);
        self.by_name |= other.by_name;
        self.ordinary |= other.ordinary;
        self.all |= other.all;
    }

    fn depends(self) -> Depends {
        if self.all {
            return Depends::OnAll;
        }
        if self.roles_in.is_empty() && !self.ordinary {
            return Depends::Not;
        }
        Depends::OnRolesIn {
            namespaces: self.roles_in.into_iter().collect(),
            by_name: self.by_name,
        }
    }
}

/// Roles may name each other (`bind` on a name), in long chains and in circles. What a role is worth is
/// the most that any role it leads to is worth by itself, so each is looked at once, and none within
/// another.
#[derive(Default)]
struct OnTheWay {
    found: RefCell<Vec<(RowId, Arc<str>)>>,
    known: RefCell<BTreeSet<(RowId, Arc<str>)>>,
}

impl OnTheWay {
    fn note(&self, id: RowId, namespace: &Arc<str>) {
        let new = self.known.borrow_mut().insert((id, namespace.clone()));
        if new {
            self.found.borrow_mut().push((id, namespace.clone()));
        }
    }

    fn nth(&self, n: usize) -> Option<(RowId, Arc<str>)> {
        self.found.borrow().get(n).cloned()
    }
}

/// Where a role is worth something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// One of the three of [`InPlaces`]; the first is a Role's own namespace.
    Kept(usize),
    /// A namespace in which a ClusterRole may be worth something else.
    In(Arc<str>),
}

/// Something whose worth hangs on that of roles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Worth {
    Role(RowId, Place),
    /// The strongest Role of a namespace.
    Strongest(Sym),
}

/// The worth of roles that look at each other, found from nothing upwards: each is worked out when first
/// asked for, and again when one that it asked for has risen. As there are five levels to rise through, work
/// is linear in what is asked, however long the chain.
#[derive(Debug, Default)]
pub(super) struct Worths {
    known: Map<Worth, Priority>,
    /// By all of them together.
    looked_at: LookedAt,
    asked_by: Map<Worth, std::collections::HashSet<Worth, foldhash::fast::RandomState>>,
    open: Vec<Worth>,
    /// How many were worked out, for tests of its growth.
    pub(super) work: u64,
}

impl Worths {
    fn ask(&mut self, what: Worth, who: &Worth) -> Priority {
        let asked_by = self.asked_by.entry(what.clone()).or_default();
        if what != *who {
            asked_by.insert(who.clone());
        }
        self.open(what)
    }

    /// What it is worth as far as is known; to be worked out if nothing is.
    fn open(&mut self, what: Worth) -> Priority {
        *self.known.entry(what).or_insert_with_key(|what| {
            self.open.push(what.clone());
            Priority::None
        })
    }

    fn found(&mut self, what: &Worth, worth: Priority) {
        self.work += 1;
        let known = self.known.entry(what.clone()).or_default();
        if worth <= *known {
            return;
        }
        *known = worth;
        let rises = |who: &&Worth| self.known.get(*who) < Some(&Priority::Critical);
        let again = self.asked_by.get(what).into_iter().flatten();
        self.open.extend(again.filter(rises).cloned());
    }
}

impl<'a> Others<'a> {
    fn new(ledger: &'a Ledger) -> Others<'a> {
        Others {
            ledger,
            asked: RefCell::default(),
            on_the_way: None,
            worths: None,
            of_role: false,
        }
    }

    /// Asks about the Roles of a namespace; `None` where no name of one is known yet, so that any may come.
    fn ask_in(&self, namespace: &str) -> Option<Sym> {
        let known = self.ledger.names.get(namespace);
        let mut asked = self.asked.borrow_mut();
        match known {
            Some(ns) => {
                asked.roles_in.insert(ns);
            }
            None if namespace == ORDINARY => asked.ordinary = true,
            None => asked.all = true,
        }
        known
    }

    fn ask_for(&self, cluster_role: bool, scope: &Scope) {
        match scope {
            Scope::Namespace(ns) if !cluster_role => {
                self.ask_in(ns);
                self.asked.borrow_mut().by_name = true;
            }
            // whatever Roles there are, none is a ClusterRole
            _ => {
                self.asked.borrow_mut().roles_in.insert(Sym::EMPTY);
            }
        }
    }

    fn of_role(ledger: &'a Ledger) -> Others<'a> {
        Others {
            of_role: true,
            ..Others::new(ledger)
        }
    }
}

impl Context for Others<'_> {
    fn role_priority(&self, cluster_role: bool, name: &str, scope: &Scope) -> Option<Priority> {
        self.ask_for(cluster_role, scope);
        let Some((worths, who)) = self.worths else {
            return self
                .ledger
                .role_gives(cluster_role, name, scope, self.on_the_way);
        };
        let id = self.ledger.role(cluster_role, name, scope)?;
        Some(self.ledger.ask(id, scope, worths, who))
    }

    fn strongest_role(&self, namespace: &str) -> Priority {
        let Some(ns) = self.ask_in(namespace) else {
            return Priority::None;
        };
        match self.worths {
            Some((worths, who)) => worths.borrow_mut().ask(Worth::Strongest(ns), who),
            None => self.ledger.strongest_in(ns, |_, row| row.gives[0]),
        }
    }

    fn namespaces_with_role(&self, name: &str) -> Vec<Arc<str>> {
        self.asked.borrow_mut().all = true;
        let Some(name) = self.ledger.names.get(name) else {
            return Vec::new();
        };
        self.ledger
            .roles
            .namespaces()
            .filter(|ns| *ns != Sym::EMPTY && self.ledger.roles.find(*ns, name).is_some())
            .map(|ns| self.ledger.names.shared(ns))
            .collect()
    }

    fn role_reaches(&self, cluster_role: bool, name: &str, scope: &Scope) -> Vec<To> {
        self.ask_for(cluster_role, scope);
        let ledger = self.ledger;
        if self.of_role {
            return Vec::new();
        }
        let Some(id) = ledger.role(cluster_role, name, scope) else {
            return Vec::new();
        };
        let place = match scope {
            Scope::Cluster => None,
            Scope::Namespace(ns) => Some(&**ns),
        };
        let (home, role) = ledger.roles.key(id);
        let Some(row) = ledger.roles.get(id).filter(|row| row.leads) else {
            return Vec::new();
        };
        let of_role = Others::of_role(ledger);
        let alone = ledger.alone(home == Sym::EMPTY, role, &row.reaches, place, &of_role);
        alone.edges.into_iter().map(|edge| edge.to).collect()
    }

    fn roles_reach(&self, namespace: &str) -> Arc<[To]> {
        let ledger = self.ledger;
        let Some(ns) = self.ask_in(namespace).filter(|_| !self.of_role) else {
            return Arc::default();
        };
        // every subject that may bind any Role there asks, and again for every time that it may have done so
        if let Some(known) = ledger.roles_reached.known().get(&ns) {
            return known.reached.clone();
        }
        let any_role = ledger.any_role(ns);
        let reached = any_role.reached.clone();
        ledger.roles_reached.known().insert(ns, any_role);
        reached
    }
}

/// The namespace that stands for the privileged ones, and one that stands for all others.
const PRIVILEGED: &str = "kube-system";
const ORDINARY: &str = "zz-any-namespace";

impl Ledger {
    /// Judges anew what was touched. Returns whether anything that is exported may differ.
    pub fn settle(&mut self) -> bool {
        let dirty = &self.dirty;
        let quiet = !dirty.everything
            && self.live.quiet()
            && !dirty.times
            && dirty.dependents.is_empty()
            && !dirty.aggregation
            && !dirty.health
            && dirty.roles.is_empty()
            && dirty.bindings.is_empty()
            && dirty.subjects.is_empty()
            && !dirty.counts();
        if quiet {
            // what moved nothing raises nobody later on either
            (self.dirty.rbac, self.dirty.others, self.dirty.policy) = (false, false, false);
            return false;
        }
        let everything = std::mem::take(&mut self.dirty.everything);
        if everything {
            self.dirty
                .roles
                .extend(self.roles.iter().map(|(id, ..)| id));
            self.dirty
                .subjects
                .extend(self.subjects.iter().map(|(id, _)| id));
            self.dirty
                .bindings
                .extend(self.bindings.iter().map(|(id, ..)| id));
        }
        if std::mem::take(&mut self.dirty.aggregation) {
            self.aggregate();
        }
        self.compile_roles();
        self.settle_dependents();
        for binding in std::mem::take(&mut self.dirty.bindings) {
            let Some(row) = self.bindings.get(binding).cloned() else {
                continue;
            };
            self.grant_stirred(binding);
            for key in row.subjects {
                self.subject_and_members_moved(key);
            }
        }
        self.judge_subjects();
        let moved = !self.live.quiet();
        if moved {
            self.settle_graph();
        }
        self.settle_statuses(moved);
        if std::mem::take(&mut self.dirty.times) || moved {
            self.settle_since();
        }
        self.settle_rests();
        self.watching |= self.synced();
        let pods_alone = !everything && !self.dirty.rbac && !self.dirty.policy;
        (self.dirty.rbac, self.dirty.others, self.dirty.policy) = (false, false, false);
        if self.dirty.counts() || self.rule_counts.have_moved() {
            self.count_namespaces(pods_alone);
            self.publish();
        }
        self.dirty.health = false;
        self.collect_names();
        true
    }

    // === roles

    /// Fills aggregated ClusterRoles of manifests (catalogue A.5, contract §3). What the input gives
    /// rules is left alone; shipped ones hold their own already and take up the input's.
    fn aggregate(&mut self) {
        if self.settings.world != World::Manifests {
            return;
        }
        let selectors = |row: &RoleRow| {
            row.aggregation
                .as_ref()
                .and_then(|a| a.selectors.clone())
                .unwrap_or_default()
        };
        // an empty selector, or one that asks for a label's absence, picks roles without labels too
        self.takes_unlabelled = self
            .roles
            .in_namespace(Sym::EMPTY)
            .flat_map(|(_, _, row)| selectors(row))
            .any(|s| selects(&s, &[]));
        let role_of = |ledger: &Ledger, id: RowId, name: Sym, row: &RoleRow| {
            let (labels, aggregation, rules) = match &row.aggregation {
                Some(a) => (a.labels.clone(), a.selectors.clone(), a.written.clone()),
                None if ledger.takes_unlabelled => (Vec::new(), None, row.rules.unpack()),
                None => return None,
            };
            let object = crate::object::Role {
                meta: crate::object::Meta {
                    name: ledger.names.text(name).to_string(),
                    ..Default::default()
                },
                labels,
                aggregation,
                rules,
            };
            Some((id, object, row.shipped))
        };
        let roles: Vec<(RowId, crate::object::Role, bool)> = self
            .roles
            .in_namespace(Sym::EMPTY)
            .filter_map(|(id, name, row)| role_of(self, id, name, row))
            .collect();
        let mut rules: Map<RowId, Vec<crate::object::PolicyRule>> = roles
            .iter()
            .map(|(id, role, _)| (*id, role.rules.clone()))
            .collect();
        // aggregated roles feed one another (view → edit → admin): as many rounds as it takes
        for _ in 0..roles.len() {
            let mut moved = false;
            for (id, role, shipped) in &roles {
                if role.aggregation.is_none() || (!shipped && !role.rules.is_empty()) {
                    continue;
                }
                let others = roles
                    .iter()
                    .filter(|(_, other, other_shipped)| {
                        !shipped || !other_shipped || other.aggregation.is_some()
                    })
                    .map(|(other, role, _)| (role, rules[other].clone()));
                let sum = aggregated_rules(role, others);
                if rules[id].len() != sum.len() {
                    rules.insert(*id, sum);
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for (id, _, _) in &roles {
            let packed = PackedRules::pack(&rules[id]);
            let Some(row) = self.roles.get_mut(*id) else {
                continue;
            };
            if *row.rules != packed {
                row.rules = self.alike.packed.share(packed);
                self.dirty.roles.insert(*id);
            }
        }
    }

    /// Compiles the touched roles; those whose power moved touch their bindings.
    fn compile_roles(&mut self) {
        for id in std::mem::take(&mut self.dirty.roles) {
            let Some(row) = self.roles.get(id) else {
                continue;
            };
            let (namespace, name) = self.roles.key(id);
            let rules = row.rules.unpack();
            let reaches = Reaches::of(&self.policy.catalogue.vocabulary, &rules);
            let given = self.gives(namespace, name, &reaches);
            let wildcards = self.wildcards(namespace, name, &rules);
            let Some(row) = self.roles.get_mut(id) else {
                continue;
            };
            // of a Role others know what it gives and whom it leads to, of a ClusterRole also what it is worth
            // in single namespaces
            let harmless = |reaches: &Reaches, leads: bool, depends: bool| {
                !depends && (reaches.is_empty() || (namespace != Sym::EMPTY && !leads))
            };
            let alike = row.compiled
                && row.gives == given.levels
                && harmless(&row.reaches, row.leads, row.depends)
                && harmless(&reaches, given.leads, given.depends);
            if !alike {
                self.dirty.dependents.insert(namespace);
            }
            row.compiled = true;
            row.reaches = self.alike.reaches.share(reaches);
            row.gives = given.levels;
            row.wildcards = wildcards;
            let depended = std::mem::replace(&mut row.depends, given.depends);
            row.leads = given.leads;
            match (depended, given.depends) {
                (false, true) => drop(self.dependents.roles.insert(id)),
                (true, false) => drop(self.dependents.roles.remove(&id)),
                _ => {}
            }
            self.role_moved(namespace, name);
        }
    }

    /// What each rule with a wildcard gives alone.
    fn wildcards(
        &self,
        namespace: Sym,
        name: Sym,
        rules: &[crate::object::PolicyRule],
    ) -> Box<[InPlaces]> {
        rules
            .iter()
            .filter(|r| is_wildcard(r))
            .map(|r| {
                let one = Reaches::of(&self.policy.catalogue.vocabulary, std::slice::from_ref(r));
                self.gives(namespace, name, &one).levels
            })
            .collect()
    }

    /// What rules alone give in the three places; a Role lies in one.
    pub(super) fn gives(&self, namespace: Sym, name: Sym, reaches: &Reaches) -> Given {
        let others = Others::of_role(self);
        let cluster = namespace == Sym::EMPTY;
        let leads = Cell::new(cluster);
        let one = |place: Option<&str>| {
            let alone = self.alone(cluster, name, reaches, place, &others);
            leads.set(leads.get() || !alone.edges.is_empty());
            alone.own()
        };
        let levels = if cluster {
            [one(None), one(Some(PRIVILEGED)), one(Some(ORDINARY))]
        } else {
            [one(Some(self.names.text(namespace))); 3]
        };
        Given {
            levels,
            depends: others.asked.take().depends() != Depends::Not,
            leads: leads.get(),
        }
    }

    fn alone(
        &self,
        cluster_role: bool,
        name: Sym,
        reaches: &Reaches,
        place: Option<&str>,
        others: &dyn Context,
    ) -> Assessment {
        let held = [Held {
            namespace: place.map(Arc::from),
            cluster_role,
            role: self.names.text(name),
            reaches: Some(reaches),
            aggregated: false,
            direct: false,
            baseline: false,
        }];
        let nobody = Subject::User {
            name: String::new(),
        };
        assess(
            &self.policy.catalogue,
            self.settings.version,
            &nobody,
            &held,
            others,
            false,
        )
    }

    /// The findings of a role's rules alone at a scope.
    pub(super) fn alone_at(&self, id: RowId, scope: Option<Sym>) -> Assessment {
        let Some(row) = self.roles.get(id) else {
            return Assessment::default();
        };
        let (namespace, name) = self.roles.key(id);
        let others = Others::of_role(self);
        let place = scope.map(|s| self.names.text(s));
        self.alone(namespace == Sym::EMPTY, name, &row.reaches, place, &others)
    }

    /// The highest finding of a role at a scope; `None` when there is no such role.
    fn role_gives(
        &self,
        cluster_role: bool,
        name: &str,
        scope: &Scope,
        on_the_way: Option<&OnTheWay>,
    ) -> Option<Priority> {
        let id = self.role(cluster_role, name, scope)?;
        Some(self.row_gives(id, scope, on_the_way))
    }

    /// The row of a role that is referred to at a scope.
    fn role(&self, cluster_role: bool, name: &str, scope: &Scope) -> Option<RowId> {
        let name = self.names.get(name)?;
        let namespace = match (cluster_role, scope) {
            (true, _) => Sym::EMPTY,
            (false, Scope::Namespace(ns)) => self.names.get(ns)?,
            (false, Scope::Cluster) => return None,
        };
        self.roles.find(namespace, name)
    }

    /// What the Roles of a namespace are to whoever may bind any of them.
    fn any_role(&self, ns: Sym) -> AnyRole {
        let of_role = Others::of_role(self);
        let place = self.names.text(ns);
        let roles = self.roles.in_namespace(ns).filter(|(.., row)| row.leads);
        let to: BTreeSet<To> = roles
            .flat_map(|(_, role, row)| {
                let alone = self.alone(false, role, &row.reaches, Some(place), &of_role);
                alone.edges.into_iter().map(|edge| edge.to)
            })
            .collect();
        AnyRole {
            strongest: self.strongest_in(ns, |_, row| row.gives[0]),
            reached: to.into_iter().collect(),
        }
    }

    fn strongest_in(&self, ns: Sym, gives: impl Fn(RowId, &RoleRow) -> Priority) -> Priority {
        let roles = self.roles.in_namespace(ns);
        roles
            .map(|(id, _, row)| gives(id, row))
            .max()
            .unwrap_or_default()
    }

    /// What a role is worth at a scope, to something whose worth hangs on it.
    fn ask(&self, id: RowId, scope: &Scope, worths: &RefCell<Worths>, who: &Worth) -> Priority {
        let Some(row) = self.roles.get(id) else {
            return Priority::None;
        };
        let place = match scope {
            Scope::Cluster => Place::Kept(0),
            Scope::Namespace(_) if self.roles.key(id).0 != Sym::EMPTY => Place::Kept(0),
            Scope::Namespace(ns) if &**ns == PRIVILEGED => Place::Kept(1),
            Scope::Namespace(ns) if self.may_differ_in(row, ns) => Place::In(ns.clone()),
            Scope::Namespace(_) => Place::Kept(2),
        };
        match place {
            Place::Kept(at) if !row.depends => row.gives[at],
            place => worths.borrow_mut().ask(Worth::Role(id, place), who),
        }
    }

    /// Works out what roles that look at others are worth, all of them together.
    pub(super) fn worths(&self, roles: &[RowId]) -> Worths {
        let worths = RefCell::new(Worths::default());
        for id in roles {
            let places = match self.roles.key(*id).0 {
                Sym::EMPTY => 3,
                _ => 1,
            };
            for at in 0..places {
                worths.borrow_mut().open(Worth::Role(*id, Place::Kept(at)));
            }
        }
        loop {
            let next = worths.borrow_mut().open.pop();
            let Some(what) = next else {
                return worths.into_inner();
            };
            let found = match &what {
                Worth::Strongest(ns) => self.strongest_in(*ns, |id, row| match row.depends {
                    true => worths
                        .borrow_mut()
                        .ask(Worth::Role(id, Place::Kept(0)), &what),
                    false => row.gives[0],
                }),
                Worth::Role(id, place) => self.worth(*id, place, &worths, &what),
            };
            worths.borrow_mut().found(&what, found);
        }
    }

    fn worth(&self, id: RowId, at: &Place, worths: &RefCell<Worths>, who: &Worth) -> Priority {
        let Some(row) = self.roles.get(id) else {
            return Priority::None;
        };
        let (namespace, name) = self.roles.key(id);
        let cluster = namespace == Sym::EMPTY;
        let place = match at {
            Place::Kept(_) if !cluster => Some(self.names.text(namespace)),
            Place::Kept(0) => None,
            Place::Kept(1) => Some(PRIVILEGED),
            Place::Kept(_) => Some(ORDINARY),
            Place::In(ns) => Some(&**ns),
        };
        let others = Others {
            worths: Some((worths, who)),
            ..Others::of_role(self)
        };
        let alone = self.alone(cluster, name, &row.reaches, place, &others);
        let asked = others.asked.take();
        worths.borrow_mut().looked_at.add(asked);
        alone.own()
    }

    fn row_gives(&self, id: RowId, scope: &Scope, on_the_way: Option<&OnTheWay>) -> Priority {
        let Some(row) = self.roles.get(id) else {
            return Priority::None;
        };
        let at = |place: usize| row.gives[place];
        match scope {
            Scope::Cluster => at(0),
            Scope::Namespace(_) if self.roles.key(id).0 != Sym::EMPTY => at(0),
            Scope::Namespace(ns) if &**ns == PRIVILEGED => at(1),
            Scope::Namespace(ns) if self.place_matters(row, at(2), ns) => {
                if let Some(worth) = self.worth_in.get(&(id, ns.clone())) {
                    return *worth;
                }
                if let Some(on_the_way) = on_the_way {
                    on_the_way.note(id, ns);
                    return Priority::None;
                }
                self.gives_in(id, ns)
            }
            Scope::Namespace(_) => at(2),
        }
    }

    /// What a ClusterRole gives in one namespace, worked out for it.
    fn gives_in(&self, id: RowId, namespace: &Arc<str>) -> Priority {
        let on_the_way = OnTheWay::default();
        on_the_way.note(id, namespace);
        let mut best = Priority::None;
        let mut next = 0;
        while let Some((id, namespace)) = on_the_way.nth(next) {
            next += 1;
            let Some(row) = self.roles.get(id) else {
                continue;
            };
            let others = Others {
                on_the_way: Some(&on_the_way),
                ..Others::of_role(self)
            };
            let name = self.roles.key(id).1;
            let alone = self.alone(true, name, &row.reaches, Some(&namespace), &others);
            best = best.max(alone.own());
        }
        best
    }

    /// Could a ClusterRole that gives so much in an ordinary namespace give something else in this one?
    fn place_matters(&self, row: &RoleRow, ordinary: Priority, namespace: &str) -> bool {
        // one that gives the most there is in an ordinary namespace gives that in all
        self.may_differ_in(row, namespace)
            && (self.policy.catalogue.privileged(namespace)
                || ordinary < self.most_in_a_namespace())
    }

    fn may_differ_in(&self, row: &RoleRow, namespace: &str) -> bool {
        namespace != ORDINARY
            && (self.policy.catalogue.privileged(namespace)
                || row.depends
                || self.names_a_namespace(&row.reaches))
    }

    /// The highest level that rules of a role alone can have in an ordinary namespace.
    fn most_in_a_namespace(&self) -> Priority {
        let rules = self.policy.catalogue.rules.iter();
        rules
            .filter(|r| r.special.is_none_or(|s| s.is_about_grants()))
            .flat_map(|r| [r.levels.namespace, r.named.and_then(|n| n.namespace)])
            .flatten()
            .max()
            .unwrap_or_default()
    }

    /// What one rule with a wildcard gives alone in a namespace where its role is bound.
    pub(super) fn wildcard_gives(&self, id: RowId, number: usize, namespace: Sym) -> Priority {
        let Some(row) = self.roles.get(id) else {
            return Priority::None;
        };
        let Some(gives) = row.wildcards.get(number) else {
            return Priority::None;
        };
        let (home, name) = self.roles.key(id);
        let place = self.names.text(namespace);
        if namespace == Sym::EMPTY || home != Sym::EMPTY {
            return gives[0];
        }
        if place == PRIVILEGED {
            return gives[1];
        }
        if !self.place_matters(row, gives[2], place) {
            return gives[2];
        }
        let rules = row.rules.unpack();
        match rules.iter().filter(|r| is_wildcard(r)).nth(number) {
            Some(rule) => {
                let one = Reaches::of(
                    &self.policy.catalogue.vocabulary,
                    std::slice::from_ref(rule),
                );
                self.alone(true, name, &one, Some(place), &Others::of_role(self))
                    .own()
            }
            None => gives[2],
        }
    }

    /// The rules are limited to names of Namespaces: then what they give depends on which it is.
    fn names_a_namespace(&self, reaches: &Reaches) -> bool {
        reaches.plain.named().iter().any(|(perm, _)| {
            matches!(
                &self.policy.catalogue.vocabulary.permission(*perm).target,
                crate::rbac::Target::Resource { group, resource, .. }
                    if group.is_empty() && resource == "namespaces"
            )
        })
    }

    /// What a binding's role gives where the binding lies.
    pub(super) fn binding_gives(&self, id: RowId) -> Option<Priority> {
        let row = self.bindings.get(id)?;
        let (namespace, _) = self.bindings.key(id);
        let (_, home, name) = self.reference(namespace, row.cluster_role, row.role);
        let role = self.roles.find(home, name)?;
        Some(self.row_gives(role, &self.scope(namespace), None))
    }

    pub(super) fn scope(&self, namespace: Sym) -> Scope {
        match namespace {
            Sym::EMPTY => Scope::Cluster,
            ns => Scope::Namespace(self.names.shared(ns)),
        }
    }

    /// Roles and subjects whose judgement looks at other roles (named `bind`): all of them anew, from
    /// nothing upwards, so that two roles that only hold each other up fall.
    fn settle_dependents(&mut self) {
        let moved = std::mem::take(&mut self.dirty.dependents);
        if moved.is_empty() {
            return;
        }
        let mut to_all = moved.clone();
        let mut any_roles: Vec<(Sym, AnyRole)> = Vec::new();
        {
            let mut known = self.roles_reached.known();
            match moved.contains(&Sym::EMPTY) {
                true => known.clear(),
                false => any_roles.extend(moved.iter().filter_map(|ns| known.remove_entry(ns))),
            }
        }
        if self.roles_may_be_worth_else(&moved) {
            self.settle_worths();
        } else {
            // but where Roles have moved a ClusterRole may give something else
            let here = moved.iter().flat_map(|ns| self.bindings.in_namespace(*ns));
            let depends = |id: &RowId| {
                let role = self.role_of(*id);
                role.is_some_and(|role| self.dependents.roles.contains(&role))
            };
            let here: Vec<RowId> = here.map(|(id, ..)| id).filter(depends).collect();
            here.into_iter()
                .for_each(|binding| self.grant_stirred(binding));
        }
        for (ns, before) in any_roles {
            let now = self.any_role(ns);
            if now == before {
                to_all.remove(&ns);
            }
            self.roles_reached.known().insert(ns, now);
        }
        let hangs = |id: &RowId| {
            let row = self.subjects.get(*id);
            let depends = row.and_then(|row| row.depends.get());
            depends.is_some_and(|depends| depends.on_any(&moved, &to_all))
        };
        let hang: Vec<RowId> = match moved.contains(&Sym::EMPTY) {
            true => self
                .subjects
                .iter()
                .map(|(id, _)| id)
                .filter(hangs)
                .collect(),
            false => self.dependents.subjects(&moved).filter(hangs).collect(),
        };
        self.dirty.subjects.extend(hang);
    }

    /// When roles of these namespaces have moved, some that look at others may be worth something else.
    fn roles_may_be_worth_else(&self, moved: &Dirty<Sym>) -> bool {
        let dependents = &self.dependents;
        let looked_at = dependents.looked_at.as_ref();
        // they were asked what they give in any ordinary one, and this one is called so
        let ordinary = moved.iter().any(|ns| self.names.text(*ns) == ORDINARY);
        let mut roles = dependents.roles.iter();
        ordinary
            || looked_at.is_none_or(|looked_at| looked_at.on_any(moved, moved))
            || roles.any(|id| moved.contains(&self.roles.key(*id).0))
    }

    /// The worth of all roles that look at others.
    fn settle_worths(&mut self) {
        let mut roles: Vec<RowId> = self.dependents.roles.iter().copied().collect();
        roles.sort_unstable();
        let before: Vec<InPlaces> = roles
            .iter()
            .filter_map(|id| self.roles.get(*id))
            .map(|r| r.gives)
            .collect();
        let worths = self.worths(&roles);
        self.dependents.looked_at = Some(worths.looked_at.depends());
        let mut known = worths.known;
        for id in &roles {
            if let Some(row) = self.roles.get_mut(*id) {
                let mut at = |place| known.remove(&Worth::Role(*id, Place::Kept(place)));
                let first = at(0).unwrap_or_default();
                row.gives = [first, at(1).unwrap_or(first), at(2).unwrap_or(first)];
            }
        }
        *self.worth_in = known
            .into_iter()
            .filter_map(|(what, worth)| match what {
                Worth::Role(id, Place::In(namespace)) => Some(((id, namespace), worth)),
                _ => None,
            })
            .collect();
        for (id, before) in roles.iter().zip(before) {
            let (namespace, name) = self.roles.key(*id);
            let Some(row) = self.roles.get(*id) else {
                continue;
            };
            // one rule alone may look at other roles as well
            let wildcards = self.wildcards(namespace, name, &row.rules.unpack());
            let rises = row.gives != before || row.wildcards != wildcards;
            // what it gives in a single namespace is not kept: where that may be something else than in any
            // other, it is counted anew where it is bound
            let ordinary = || wildcards.iter().map(|w| w[2]).chain([row.gives[2]]);
            let matters = |ns: &Sym| {
                let text = self.names.text(*ns);
                *ns != Sym::EMPTY && ordinary().any(|level| self.place_matters(row, level, text))
            };
            let bound = self.bindings_to(*id).iter();
            let elsewhere: Vec<RowId> = match namespace {
                Sym::EMPTY => bound
                    .copied()
                    .filter(|b| matters(&self.bindings.key(*b).0))
                    .collect(),
                _ => Vec::new(),
            };
            if rises {
                self.role_moved(namespace, name);
            }
            elsewhere.into_iter().for_each(|b| self.grant_stirred(b));
            if let Some(row) = self.roles.get_mut(*id) {
                row.wildcards = wildcards;
            }
        }
    }

    // === subjects

    /// The subject and, for a group that others implicitly have, all of those.
    pub(super) fn subject_and_members_moved(&mut self, key: SubjectKey) {
        if let Some(id) = self.subjects.find(key) {
            self.dirty.subjects.insert(id);
        }
        let SubjectKey::Group(name) = key else { return };
        let account_group = |ledger: &Ledger, key: SubjectKey| match key {
            SubjectKey::Group(g) => ledger.names.text(g).starts_with("system:serviceaccounts:"),
            _ => false,
        };
        let members: Vec<RowId> = match members_of(self.names.text(name)) {
            Members::None => return,
            Members::Authenticated => self.subjects.iter().map(|(id, _)| id).collect(),
            Members::Anonymous => {
                let anonymous = self.names.get("system:anonymous").map(SubjectKey::User);
                anonymous
                    .and_then(|k| self.subjects.find(k))
                    .into_iter()
                    .collect()
            }
            Members::Accounts => self
                .subjects
                .iter()
                .filter(|(_, r)| {
                    matches!(r.key, SubjectKey::Account(..)) || account_group(self, r.key)
                })
                .map(|(id, _)| id)
                .collect(),
            Members::AccountsOf(namespace) => match self.names.get(&namespace) {
                Some(ns) => self.subjects.in_namespace(ns).map(|(id, _)| id).collect(),
                None => return,
            },
        };
        self.dirty.subjects.extend(members);
    }

    /// By kind, namespace and name, as reports have it.
    pub(super) fn order(&self, a: SubjectKey, b: SubjectKey) -> std::cmp::Ordering {
        let parts = |key: SubjectKey| match key {
            SubjectKey::Group(name) => (0, Sym::EMPTY, name),
            SubjectKey::Account(namespace, name) => (1, namespace, name),
            SubjectKey::User(name) => (2, Sym::EMPTY, name),
        };
        let text = |sym: Sym| self.names.text(sym);
        let (a, b) = (parts(a), parts(b));
        a.0.cmp(&b.0)
            .then_with(|| text(a.1).cmp(text(b.1)))
            .then_with(|| text(a.2).cmp(text(b.2)))
    }

    /// Namespaces as numbers that have the order of the names. Names lie anywhere in memory, and to sort
    /// thousands of rows by them would be most of what a page takes.
    pub(super) fn places(&self, namespaces: impl Iterator<Item = Sym>) -> Places {
        let mut namespaces: Vec<Sym> = namespaces.collect();
        namespaces.sort_unstable_by_key(|ns| self.names.text(*ns));
        namespaces.into_iter().zip(0..).collect()
    }

    /// The subject a key stands for.
    pub(super) fn subject(&self, key: SubjectKey) -> Subject {
        let text = |sym: Sym| self.names.text(sym).to_string();
        match key {
            SubjectKey::Group(name) => Subject::Group { name: text(name) },
            SubjectKey::User(name) => Subject::User { name: text(name) },
            SubjectKey::Account(namespace, name) => Subject::ServiceAccount {
                namespace: text(namespace),
                name: text(name),
            },
        }
    }

    /// The bindings that apply to a subject: those that name it, then those of its implicit groups.
    pub(super) fn bindings_of(&self, subject: &Subject, key: SubjectKey) -> Vec<(RowId, bool)> {
        let named = |key: SubjectKey| {
            let row = self.subjects.find(key).and_then(|id| self.subjects.get(id));
            row.map(|r| r.bindings.as_slice()).unwrap_or_default()
        };
        let mut out: Vec<(RowId, bool)> = named(key).iter().map(|b| (*b, true)).collect();
        for group in implicit_groups(subject) {
            let Some(group) = self.names.get(&group) else {
                continue;
            };
            for binding in named(SubjectKey::Group(group)) {
                if !out.iter().any(|(b, _)| b == binding) {
                    out.push((*binding, false));
                }
            }
        }
        out
    }

    pub(super) fn role_of(&self, binding: RowId) -> Option<RowId> {
        let row = self.bindings.get(binding)?;
        let (namespace, _) = self.bindings.key(binding);
        let (_, home, name) = self.reference(namespace, row.cluster_role, row.role);
        self.roles.find(home, name)
    }

    /// The table's pair of a binding and a subject, with the recorded priority.
    pub(super) fn listed_pair(&self, binding: RowId, subject: &Subject) -> Option<Priority> {
        let row = self.bindings.get(binding)?;
        // asked of every subject of every binding, and few refer to a role that is in the table
        if !in_builtin_pairs(self.names.text(row.role)) {
            return None;
        }
        let pair = Pair {
            namespace: self.names.text(self.bindings.key(binding).0).to_string(),
            cluster_role: row.cluster_role,
            role: self.names.text(row.role).to_string(),
            subject: subject.clone(),
        };
        builtin_pairs().get(&pair).copied()
    }

    pub(super) fn held(&self, subject: &Subject, bindings: &[(RowId, bool)]) -> Vec<Held<'_>> {
        // bindings of one namespace come one after the other
        let mut last: Option<(Sym, Arc<str>)> = None;
        let mut shared = |namespace: Sym| match &last {
            Some((of, text)) if *of == namespace => text.clone(),
            _ => {
                let text = self.names.shared(namespace);
                last = Some((namespace, text.clone()));
                text
            }
        };
        bindings
            .iter()
            .filter_map(|(binding, direct)| {
                let row = self.bindings.get(*binding)?;
                let (namespace, _) = self.bindings.key(*binding);
                let role = self.role_of(*binding).and_then(|id| self.roles.get(id));
                let everyone =
                    *direct && matches!(subject, Subject::Group { .. } | Subject::User { .. });
                let baseline = everyone
                    && self.listed_pair(*binding, subject).is_some_and(|recorded| {
                        self.binding_gives(*binding).unwrap_or_default() <= recorded
                    });
                Some(Held {
                    namespace: (namespace != Sym::EMPTY).then(|| shared(namespace)),
                    cluster_role: row.cluster_role,
                    role: self.names.text(row.role),
                    reaches: role.map(|r| &*r.reaches),
                    aggregated: role.is_some_and(|r| r.aggregated),
                    direct: *direct,
                    baseline,
                })
            })
            .collect()
    }

    /// The judgement of one subject; the second value tells which other roles it looked at.
    pub(super) fn judgement(&self, key: SubjectKey, explain: bool) -> (Assessment, Depends) {
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        self.judgement_with(&subject, &bindings, explain)
    }

    pub(super) fn judgement_with(
        &self,
        subject: &Subject,
        bindings: &[(RowId, bool)],
        explain: bool,
    ) -> (Assessment, Depends) {
        self.judgement_of(subject, &self.held(subject, bindings), explain)
    }

    /// The same of holdings that need not be those of the rows.
    pub(super) fn judgement_of(
        &self,
        subject: &Subject,
        held: &[Held<'_>],
        explain: bool,
    ) -> (Assessment, Depends) {
        let others = Others::new(self);
        let version = self.settings.version;
        let got = assess(
            &self.policy.catalogue,
            version,
            subject,
            held,
            &others,
            explain,
        );
        (got, others.asked.take().depends())
    }

    /// The priority up to which the shipped pairs answer for a subject (contract §3).
    fn covered(&self, key: SubjectKey, whole: &Assessment) -> Option<Priority> {
        let subject = self.subject(key);
        let bindings = self.bindings_of(&subject, key);
        let recorded = bindings
            .iter()
            .filter(|(_, direct)| *direct)
            .filter_map(|(b, _)| self.listed_pair(*b, &subject))
            .max()?;
        let listed: Vec<(RowId, bool)> = bindings
            .iter()
            .filter(|(b, direct)| {
                if *direct {
                    return self.listed_pair(*b, &subject).is_some();
                }
                implicit_groups(&subject)
                    .into_iter()
                    .any(|g| self.listed_pair(*b, &Subject::Group { name: g }).is_some())
            })
            .copied()
            .collect();
        if listed.len() != bindings.len()
            && !whole.within(&self.judgement_with(&subject, &listed, false).0)
        {
            return None;
        }
        (whole.own() <= recorded).then_some(recorded)
    }

    fn judge_subjects(&mut self) {
        let touched = std::mem::take(&mut self.dirty.subjects);
        // accounts that nothing names hold what their namespace's groups hold: judged once each
        let mut plain: BTreeMap<Sym, Judgement> = BTreeMap::new();
        for id in touched {
            let Some(row) = self.subjects.get(id) else {
                continue;
            };
            let key = row.key;
            let judgement = match key {
                SubjectKey::Account(namespace, _)
                    if row.bindings.is_empty() && !self.accepted.name(&self.subject(key)) =>
                {
                    let plain = plain.entry(namespace);
                    plain.or_insert_with(|| self.judge(key)).clone()
                }
                _ => self.judge(key),
            };
            self.set_judgement(id, key, judgement);
        }
    }

    fn judge(&self, key: SubjectKey) -> Judgement {
        let (whole, depends) = self.judgement(key, false);
        let (since, answered) = self.since_own(key, &whole);
        Judgement {
            covered: self.covered(key, &whole),
            whole,
            depends,
            since,
            answered,
        }
    }

    fn set_judgement(&mut self, id: RowId, key: SubjectKey, judgement: Judgement) {
        let Judgement {
            whole: judged,
            covered,
            depends,
            since,
            answered,
        } = judgement;
        let mut rules: BTreeMap<RuleId, Priority> = BTreeMap::new();
        for f in judged.folded(&self.policy.catalogue) {
            let best = rules.entry(f.rule).or_default();
            *best = (*best).max(f.priority);
        }
        let rules: Vec<(RuleId, Priority)> = rules.into_iter().collect();
        let rules = self.alike.matched.share(rules);
        let without_pods = self.settings.without_pods;
        let edges: Box<[EdgeRow]> = judged
            .edges
            .iter()
            .filter_map(|e| edge_row(e, without_pods, |name| Some(self.names.intern(name))))
            .collect();
        self.judged_subjects += 1;
        // up before down, so that a subject that goes on naming Group system:masters never lets it go
        self.name_masters(&edges, true);
        self.forget_judgement(id);
        let Some(row) = self.subjects.get_mut(id) else {
            return;
        };
        let own = judged.own();
        if row.edges != edges {
            self.live.edges_changed(id, &row.edges, &edges);
        } else if row.own != own {
            self.live.touch(id);
        }
        let since = since.into();
        self.dirty.times |= row.since_own != since || row.answered != answered;
        row.since_own = since;
        row.own = own;
        row.edges = edges;
        // what is answered for decides the status of the bindings and their roles
        let elsewhere = if row.covered == covered && row.answered == answered {
            Vec::new()
        } else {
            row.bindings.clone()
        };
        row.covered = covered;
        if answered.as_ref().is_some_and(|a| a.accepted) {
            self.answered.insert(id);
        } else {
            self.answered.remove(&id);
        }
        row.answered = answered;
        let depends = depends.into();
        let depended = std::mem::replace(&mut row.depends, depends);
        if depended != row.depends {
            self.dependents
                .subject(id, depended.get(), row.depends.get());
        }
        row.rules = rules;
        self.rule_counts.add(&row.rules, row.status);
        // what it comes to depends on others too
        self.dirty.statuses.insert(id);
        self.dirty.rests.insert(id);
        let has_rules = self.has_rules(id);
        if let Some(row) = self.subjects.get_mut(id)
            && std::mem::replace(&mut row.has_rules, has_rules) != has_rules
        {
            // pods with its token are counted by that
            self.worth_moved(key);
        }
        for binding in elsewhere {
            self.grant_stirred(binding);
        }
    }

    /// Takes a subject's judgement out of the counts.
    pub(super) fn forget_judgement(&mut self, id: RowId) {
        let Some(row) = self.subjects.get_mut(id) else {
            return;
        };
        let edges = std::mem::take(&mut row.edges);
        let rules = std::mem::take(&mut row.rules);
        let status = row.status;
        self.rule_counts.remove(&rules, status);
        self.name_masters(&edges, false);
        if let Some(row) = self.subjects.get_mut(id) {
            row.edges = edges;
        }
    }

    /// Group system:masters is a subject while an edge names it.
    fn name_masters(&mut self, edges: &[EdgeRow], up: bool) {
        for edge in edges {
            let ToKey::Group(name) = edge.to else {
                continue;
            };
            if *self.names.text(name) != *MASTERS {
                continue;
            }
            if up {
                self.masters_named += 1;
                let (id, new) = self.subjects.ensure(SubjectKey::Group(name));
                if new {
                    self.subject_stirred(id);
                    let key = SubjectKey::Group(name);
                    self.set_judgement(id, key, self.judge(key));
                }
            } else {
                self.masters_named = self.masters_named.saturating_sub(1);
                if self.masters_named == 0
                    && let Some(id) = self.subjects.find(SubjectKey::Group(name))
                    && self.subjects.get(id).is_some_and(|r| r.bindings.is_empty())
                {
                    self.forget_judgement(id);
                    self.remove_subject(id);
                }
            }
        }
    }

    // === the fixpoint

    fn settle_graph(&mut self) {
        let looked_at = live::settle(self);
        // a rise that a pod, the rules or the version may have brought is no event of RBAC
        let watched = self.watching && self.dirty.rbac && !self.dirty.others;
        // nobody is in detail who is less
        let least = self
            .policy
            .detail
            .iter()
            .min()
            .copied()
            .unwrap_or(Priority::Critical);
        for (id, before) in looked_at {
            let Some(row) = self.subjects.get_mut(id) else {
                continue;
            };
            let now = row.effective;
            self.dirty.statuses.insert(id);
            self.dirty.rests.insert(id);
            let key = row.key;
            // what is beyond both holds nobody up who is
            let up_to = now.max(before);
            if up_to >= least {
                for waits in self.live.who_waits_for(id, key) {
                    self.may_rest(waits, up_to);
                }
            }
            if now > before && watched {
                let namespace = self.names.shared(namespace_of(key));
                *self.escalations.entry((namespace, now)).or_default() += 1;
                self.dirty.escalations = true;
            }
            if now == before {
                continue;
            }
            self.undated.insert(id);
            if let Some(row) = self.subjects.get_mut(id) {
                (row.since, row.stamp) = (0, 0);
                row.risen = watched && now > before;
            }
            self.worth_moved(key);
            self.subject_stirred(id);
        }
        // and whose edges lead to whoever is there no more, or newly listed
        for (waits, up_to) in self.live.sets_moved(least) {
            self.may_rest(waits, up_to);
        }
    }

    /// Whether a subject owes what it is to groups alone may be another, if it is no more than this.
    fn may_rest(&mut self, id: RowId, up_to: Priority) {
        let row = self.subjects.get(id);
        if row.is_some_and(|row| row.effective <= up_to) {
            self.dirty.rests.insert(id);
        }
    }

    /// Who owes what it is in detail to groups alone is told of with the groups.
    fn settle_rests(&mut self) {
        for id in std::mem::take(&mut self.dirty.rests) {
            let Some(row) = self.subjects.get(id) else {
                continue;
            };
            let before = row.rests;
            let in_detail = self.policy.detail.contains(&row.effective);
            let rests = in_detail && self.rests_on_groups(id);
            if rests != before {
                if let Some(row) = self.subjects.get_mut(id) {
                    row.rests = rests;
                }
                self.subject_stirred(id);
            }
        }
    }

    /// Status of those that were judged, and, when priorities moved, of whoever acceptances answer for.
    fn settle_statuses(&mut self, moved: bool) {
        let mut ids = std::mem::take(&mut self.dirty.statuses);
        if moved {
            ids.extend(self.answered.iter());
        }
        // opened by an event of RBAC, not by the end of what answered for it
        let watched = self.watching && self.dirty.rbac && !self.dirty.others && !self.dirty.policy;
        let by_rbac = self.dirty.rbac;
        for id in ids {
            let status = self.status_of(id);
            let Some(row) = self.subjects.get_mut(id) else {
                continue;
            };
            if row.status == status {
                continue;
            }
            let before = std::mem::replace(&mut row.status, status);
            // other ways count now; but when nobody answers for any of them any more, they are all that
            // counted before
            row.kept = match (before, status) {
                (Status::Open, Status::Accepted) => row.since,
                (Status::Accepted, Status::Open) if !by_rbac && row.answered.is_none() => row.since,
                _ => 0,
            };
            row.since = 0;
            self.undated.insert(id);
            row.risen |= watched && (before, status) == (Status::Accepted, Status::Open);
            let (key, rules) = (row.key, row.rules.clone());
            self.rule_counts.remove(&rules, before);
            self.rule_counts.add(&rules, status);
            self.dirty.times = true;
            self.worth_moved(key);
            self.subject_stirred(id);
        }
    }

    /// Builtin while the priority is no higher than the shipped pairs answer for; accepted when somebody
    /// answers for every finding and path at that priority (contract §3, §4).
    pub(super) fn status_of(&self, id: RowId) -> Status {
        let Some(row) = self.subjects.get(id) else {
            return Status::Open;
        };
        let priority = row.effective;
        if row.covered.is_some_and(|up_to| priority <= up_to) {
            return Status::Builtin;
        }
        let Some(answered) = row.answered.as_deref().filter(|a| a.accepted) else {
            return Status::Open;
        };
        let open = |(edge, up_to): (&EdgeRow, &Priority)| {
            *up_to < priority && self.live.leads_to(self, id, edge, priority)
        };
        if priority == Priority::None
            || answered.open >= priority
            || row.edges.iter().zip(&answered.edges).any(open)
        {
            return Status::Open;
        }
        Status::Accepted
    }

    /// Since when the subjects whose moment is not known hold their priority, after the fixpoint. All others
    /// keep theirs.
    fn settle_since(&mut self) {
        let now = moment(self.now);
        let mut undated: [Vec<RowId>; 5] = Default::default();
        for id in std::mem::take(&mut *self.undated) {
            if let Some(row) = self.subjects.get(id) {
                undated[row.effective as usize].push(id);
            }
        }
        for priority in Priority::RISKY {
            let ids = std::mem::take(&mut undated[priority as usize]);
            if ids.is_empty() {
                continue;
            }
            let derived = since::since(self, priority, &ids);
            for id in ids {
                let derived = derived.get(&id).copied().unwrap_or_default();
                let Some(row) = self.subjects.get_mut(id) else {
                    continue;
                };
                let since = next_since(row, derived, now);
                if since == now && row.since == 0 && row.risen {
                    row.stamp = now;
                }
                (row.risen, row.kept) = (false, 0);
                if since == 0 {
                    // the objects may come to tell it
                    self.undated.insert(id);
                }
                if row.since != since {
                    row.since = since;
                    self.subject_stirred(id);
                }
            }
        }
        for id in undated.into_iter().flatten() {
            if let Some(row) = self.subjects.get_mut(id) {
                (row.since, row.risen, row.kept) = (0, false, 0);
            }
        }
    }

    /// The nodes that live pods with an account's token run on.
    pub(super) fn own_nodes(&self, account: SubjectKey) -> Vec<Sym> {
        let SubjectKey::Account(home, name) = account else {
            return Vec::new();
        };
        // replicas carry the same
        let mut known: Map<_, bool> = Map::default();
        let pods = self.pods.in_namespace(home);
        let mut nodes: Vec<Sym> = pods
            .filter(|(.., p)| p.live() && p.node != Sym::EMPTY)
            .filter(|(.., p)| {
                let carries = || self.tokens_of(home, &p.shape).contains(&name);
                *known.entry(Arc::as_ptr(&p.shape)).or_insert_with(carries)
            })
            .map(|(.., p)| p.node)
            .collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// Accounts whose tokens pods of the scope carry on these nodes.
    pub(super) fn tokens_on(&self, scope: Sym, nodes: &[Sym]) -> Vec<RowId> {
        // replicas carry the same
        let mut seen: std::collections::HashSet<_, foldhash::fast::RandomState> =
            Default::default();
        let mut out: Vec<RowId> = Vec::new();
        for node in nodes {
            let pods = self.nodes.get(node).map(|n| n.pods.as_slice());
            for id in pods.unwrap_or_default() {
                let ns = self.pods.key(*id).0;
                if scope != Sym::STAR && scope != ns {
                    continue;
                }
                let Some(row) = self.pods.get(*id).filter(|row| row.live()) else {
                    continue;
                };
                if seen.insert((ns, Arc::as_ptr(&row.shape))) {
                    let accounts = self.tokens_of(ns, &row.shape).into_iter();
                    let key = |name| SubjectKey::Account(ns, name);
                    out.extend(accounts.filter_map(|name| self.subjects.find(key(name))));
                }
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Subjects in a set whose members do not follow from their keys. `source` is whose edge it is.
    pub(super) fn members(&self, to: ToKey, source: SubjectKey) -> Vec<RowId> {
        let within = |scope: Sym, namespace: Sym| scope == Sym::STAR || scope == namespace;
        let account = |ns: Sym, name: Sym| self.subjects.find(SubjectKey::Account(ns, name));
        let mut out: Vec<RowId> = Vec::new();
        let mut pod_tokens = |ns: Sym, pod: &super::rows::PodRow| {
            if pod.live() {
                out.extend(
                    self.tokens_of(ns, &pod.shape)
                        .into_iter()
                        .filter_map(|a| account(ns, a)),
                );
            }
        };
        match to {
            ToKey::PodTokensOf(scope, pod) => {
                let spaces: Vec<Sym> = match scope {
                    Sym::STAR => self.pods.namespaces().collect(),
                    ns => vec![ns],
                };
                let name = self.names.pod(self.names.text(pod));
                for (ns, name) in spaces.into_iter().zip(std::iter::repeat(name)) {
                    let found = name.and_then(|name| self.pods.find(ns, name));
                    if let Some(row) = found.and_then(|id| self.pods.get(id)) {
                        pod_tokens(ns, row);
                    }
                }
            }
            ToKey::NodeTokens(scope, node) => {
                for id in self
                    .nodes
                    .get(&node)
                    .map(|n| n.pods.as_slice())
                    .unwrap_or_default()
                {
                    let ns = self.pods.key(*id).0;
                    if let Some(row) = self.pods.get(*id).filter(|_| within(scope, ns)) {
                        pod_tokens(ns, row);
                    }
                }
            }
            ToKey::OwnNodeTokens(scope) => {
                return self.tokens_on(scope, &self.own_nodes(source));
            }
            ToKey::SecretOwners(_)
            | ToKey::SecretOwnersOf(..)
            | ToKey::Reaim(_)
            | ToKey::ReaimOf(..) => {
                let (scope, only) = match to {
                    ToKey::SecretOwners(s) | ToKey::Reaim(s) => (s, None),
                    ToKey::SecretOwnersOf(s, n) | ToKey::ReaimOf(s, n) => (s, Some(n)),
                    _ => return out,
                };
                let reaim = matches!(to, ToKey::Reaim(_) | ToKey::ReaimOf(..));
                let spaces: Vec<Sym> = match scope {
                    Sym::STAR => self.secret_owners.keys().copied().collect(),
                    ns => vec![ns],
                };
                for ns in spaces {
                    let Some(secrets) = self.secret_owners.get(&ns) else {
                        continue;
                    };
                    let owners: Vec<Sym> = match only {
                        Some(secret) => secrets.get(&secret).cloned().unwrap_or_default(),
                        None => secrets.values().flatten().copied().collect(),
                    };
                    if !reaim {
                        out.extend(owners.into_iter().filter_map(|o| account(ns, o)));
                    } else if !owners.is_empty() {
                        let here = self.subjects.in_namespace(ns);
                        let there = |exists: bool| exists || self.settings.without_pods;
                        out.extend(here.filter(|(_, r)| there(r.exists)).map(|(id, _)| id));
                    }
                }
            }
            _ => {}
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// The row of an edge; `None` when `sym` does not know one of its names.
pub(super) fn edge_row(
    edge: &Edge,
    without_pods: bool,
    mut sym: impl FnMut(&str) -> Option<Sym>,
) -> Option<EdgeRow> {
    let gate = match &edge.gate {
        Some(gate) => Some(target(gate, without_pods, &mut sym)?),
        None => None,
    };
    Some(EdgeRow {
        rule: edge.rule,
        cap: edge.cap,
        scope: scope_sym(&edge.scope, &mut sym)?,
        to: target(&edge.to, without_pods, &mut sym)?,
        gate,
    })
}

/// Whom an edge leads to; `None` when `sym` does not know one of the names.
pub(super) fn target(
    to: &To,
    without_pods: bool,
    sym: &mut impl FnMut(&str) -> Option<Sym>,
) -> Option<ToKey> {
    let mut scope = |s: &Scope| scope_sym(s, sym);
    let to = match to {
        To::Accounts(s) => ToKey::Accounts(scope(s)?),
        To::PodTokens(s) => ToKey::PodTokens(scope(s)?),
        To::Identities(s) => ToKey::Identities(scope(s)?),
        To::OwnNodeTokens(s) => ToKey::OwnNodeTokens(scope(s)?),
        To::SecretOwners(s) => ToKey::SecretOwners(scope(s)?),
        To::Reaim(s) => ToKey::Reaim(scope(s)?),
        To::Account(s, n) => ToKey::Account(scope(s)?, sym(n)?),
        To::Identity(s, n) => ToKey::Identity(scope(s)?, sym(n)?),
        To::PodTokensOf(s, n) => ToKey::PodTokensOf(scope(s)?, sym(n)?),
        To::NodeTokens(s, n) => ToKey::NodeTokens(scope(s)?, sym(n)?),
        To::SecretOwnersOf(s, n) => ToKey::SecretOwnersOf(scope(s)?, sym(n)?),
        To::ReaimOf(s, n) => ToKey::ReaimOf(scope(s)?, sym(n)?),
        To::User(n) => ToKey::User(sym(n)?),
        To::Group(n) => ToKey::Group(sym(n)?),
    };
    Some(if without_pods { to.without_pods() } else { to })
}

fn scope_sym(scope: &Scope, sym: &mut impl FnMut(&str) -> Option<Sym>) -> Option<Sym> {
    match scope {
        Scope::Cluster => Some(Sym::STAR),
        Scope::Namespace(ns) => sym(ns),
    }
}

/// A rise that an event brought is stamped with the time it was seen when the objects tell a time more
/// than this older: somebody kept the old time, or the pieces are old and only now came together.
const STAMP_AFTER: Moment = 600;

/// The moment to show. It is 0 right after a rise; from then on it stays while the priority holds. A change
/// of status alone has other ways count, but makes no rise that was seen any older, and what was shown no
/// newer. An upgrade that touches labels moves the derived time forward, a pod that lends an older way moves it
/// back, and so does whoever empties the history to make a new grant look old: none of them is seen.
fn next_since(row: &SubjectRow, derived: Moment, now: Moment) -> Moment {
    match row.since {
        0 if row.risen && derived != 0 && derived.saturating_add(STAMP_AFTER) < now => now,
        0 => {
            let since = clamped(derived.max(row.stamp), now);
            if row.kept == 0 {
                since
            } else {
                since.min(row.kept)
            }
        }
        before => before,
    }
}

/// Not in the future; without a clock there is none.
fn clamped(derived: Moment, now: Moment) -> Moment {
    if now == 0 { derived } else { derived.min(now) }
}

/// A literal `*` in verbs or groups, `*` or `*/SUB` in resources, `*` or `/*` in URLs (contract §4).
fn is_wildcard(rule: &crate::object::PolicyRule) -> bool {
    rule.verbs.iter().any(|v| v == "*")
        || rule.api_groups.iter().any(|g| g == "*")
        || rule
            .resources
            .iter()
            .any(|r| r == "*" || r.starts_with("*/"))
        || rule.non_resource_urls.iter().any(|u| u == "*" || u == "/*")
}
