//! Pages of long lists. What matches a filter is found by the rows; only what is shown is worked out.

use super::super::Ledger;
use super::super::names::Sym;
use super::super::pod_name::PodName;
use super::super::rows::{PodRow, PodShape, SubjectKey};
use super::super::subjects::{namespace_of, place_of};
use super::super::table::{Map, Part, RowId};
use super::super::tally::{ByLevel, worse};
use super::{Asked, BindingView, PathStep, PodView, RoleView, SubjectView};
use crate::object::{Pod, Subject};
use crate::risk::{Priority, Status};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::sync::Arc;

/// What every list can be narrowed by. Empty and `None`: whatever there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// The namespace, `""` for what lies in none.
    pub namespace: Option<String>,
    /// The kind, as reports write it.
    pub kind: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// A part of `namespace/name`, whatever the case.
    pub text: Option<String>,
    /// One of these priorities; for subjects the effective one.
    pub priorities: Vec<Priority>,
    /// One of these statuses.
    pub statuses: Vec<Status>,
}

/// Which subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectFilter {
    /// See there.
    pub all: Filter,
    /// Id of a rule that matches them.
    pub rule: Option<String>,
}

/// What a pod has that an attacker would like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodHas {
    /// An API token.
    Token,
    /// A way to take its node.
    NodeEscape,
    /// A Secret.
    Secret,
}

/// Which pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFilter {
    /// See there; pods are all of one kind.
    pub all: Filter,
    /// The account that they run as.
    pub account: Option<String>,
    /// Kind of the owner; `Pod` for pods that stand alone.
    pub workload_kind: Option<String>,
    /// Name of the owner, or of a pod that stands alone.
    pub workload: Option<String>,
    /// Their node.
    pub node: Option<String>,
    /// What they have.
    pub has: Option<PodHas>,
    /// Neither Succeeded nor Failed, or one of the two.
    pub live: Option<bool>,
}

/// Which roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleFilter {
    /// See there.
    pub all: Filter,
    /// Some binding refers to it.
    pub bound: Option<bool>,
    /// It has rules with a wildcard.
    pub wildcard: Option<bool>,
}

/// Which bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingFilter {
    /// See there.
    pub all: Filter,
    /// Name of the role.
    pub role: Option<String>,
    /// A subject that they name.
    pub subject: Option<Subject>,
    /// The role or an account is missing.
    pub dangling: Option<bool>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By kind, namespace and name, as the report has it.
    #[default]
    Name,
    /// The worst first: by priority, open ones before the others, the newest first.
    Priority,
    /// The newest first; for subjects alone.
    Since,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// What comes first.
    pub order: Order,
    /// How many to leave out at the beginning.
    pub offset: usize,
    /// How many to show at most.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// How many the whole list has.
    pub total: usize,
    /// Those asked for.
    pub items: Vec<T>,
}

/// A subject in a line: what needs no look at its bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectLine {
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
    /// Ids of the rules that make its own priority; empty when that is none.
    pub rules: Vec<String>,
    /// See [`SubjectView::path`].
    pub path: Vec<PathStep>,
}

/// Pods of one owner in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadLine {
    /// Kind of the owner; `Pod` for a pod that stands alone.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Pods that match.
    pub pods: usize,
    /// The worst of them: of the others only numbers are told, as they are made from one template.
    pub worst: PodView,
    /// Ways in which any of them can take its node.
    pub escapes: Vec<&'static str>,
    /// The worst token on the node of the worst one, when it can take it.
    pub node: Option<(Priority, Status)>,
}

/// What sorts before the name: what the order asks for, then the place of kind and namespace. Nearly all
/// rows differ in that, so that few names need be looked up to compare them.
type Rank = [u32; 4];

/// Is `part` in `text`? It is lower-case.
fn holds(text: &str, part: &str) -> bool {
    if text.is_ascii() {
        let Some((first, rest)) = part.as_bytes().split_first() else {
            return true;
        };
        let mut windows = text.as_bytes().windows(part.len());
        return windows
            .any(|w| w[0].to_ascii_lowercase() == *first && w[1..].eq_ignore_ascii_case(rest));
    }
    text.to_lowercase().contains(part)
}

/// Is `part`, which is lower-case, in `namespace/name` so that it has the slash between them?
fn holds_across(namespace: &str, name: &str, part: &str) -> bool {
    part.match_indices('/').any(|(at, _)| {
        let (end, beginning) = (&part[..at], &part[at + 1..]);
        if !namespace.is_ascii() || !name.is_ascii() {
            return namespace.to_lowercase().ends_with(end)
                && name.to_lowercase().starts_with(beginning);
        }
        let (namespace, name) = (namespace.as_bytes(), name.as_bytes());
        let from = namespace.len().checked_sub(end.len());
        from.is_some_and(|from| namespace[from..].eq_ignore_ascii_case(end.as_bytes()))
            && name
                .get(..beginning.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(beginning.as_bytes()))
    })
}

/// A [`Filter`] with its names looked up.
struct Wanted<'a> {
    filter: &'a Filter,
    namespace: Option<Sym>,
    name: Option<PodName>,
    text: Option<String>,
}

/// What pods of one shape and namespace have in common.
struct Replicas {
    /// What a filter asks of the shape holds.
    fits: bool,
    /// The name of what they belong to.
    owner: Option<PodName>,
    /// The level of live ones, once it was asked for.
    live: Option<(Priority, Status)>,
}

/// A pod that matches.
struct PodFound<'a> {
    id: RowId,
    namespace: Sym,
    name: PodName,
    row: &'a PodRow,
    /// The same number for pods of one shape and namespace.
    alike: u32,
}

impl Wanted<'_> {
    fn level(&self, priority: Priority, status: Status) -> bool {
        let Filter {
            priorities,
            statuses,
            ..
        } = self.filter;
        (priorities.is_empty() || priorities.contains(&priority))
            && (statuses.is_empty() || statuses.contains(&status))
    }

    /// Does it look at priority or status?
    fn asks_level(&self) -> bool {
        !self.filter.priorities.is_empty() || !self.filter.statuses.is_empty()
    }

    fn is(&self, namespace: Sym, name: PodName) -> bool {
        self.namespace.is_none_or(|n| n == namespace) && self.name.is_none_or(|n| n == name)
    }

    fn holds(&self, namespace: &str, name: &str) -> bool {
        self.text.as_ref().is_none_or(|part| {
            holds(name, part) || holds(namespace, part) || holds_across(namespace, name, part)
        })
    }

    fn kind(&self, kind: &str) -> bool {
        self.filter.kind.as_ref().is_none_or(|k| k == kind)
    }
}

impl Order {
    fn rank(self, priority: Priority, status: Status, since: u32, place: u32) -> Rank {
        let worst = Priority::Critical as u32 - priority as u32;
        let newest = u32::MAX - since;
        match self {
            Order::Name => [0, 0, 0, place],
            Order::Priority => [worst, status as u32, newest, place],
            Order::Since => [newest, worst, status as u32, place],
        }
    }
}

/// The part asked for. Sorts no more than has to be: what comes before and after it stays unsorted.
fn cut<T>(
    mut found: Vec<(Rank, T)>,
    slice: &Slice,
    by_name: impl Fn(&T, &T) -> Ordering,
) -> Listed<T> {
    let total = found.len();
    let order = |a: &(Rank, T), b: &(Rank, T)| a.0.cmp(&b.0).then_with(|| by_name(&a.1, &b.1));
    let from = slice.offset.min(total);
    let end = slice.offset.saturating_add(slice.limit).min(total);
    if end < total {
        found.select_nth_unstable_by(end, order);
        found.truncate(end);
    }
    if 0 < from && from < end {
        found.select_nth_unstable_by(from, order);
    }
    found.drain(..from);
    found.sort_unstable_by(order);
    Listed {
        total,
        items: found.into_iter().map(|(_, item)| item).collect(),
    }
}

impl<T> Listed<T> {
    fn filter_map<U>(self, work_out: impl FnMut(T) -> Option<U>) -> Listed<U> {
        Listed {
            total: self.total,
            items: self.items.into_iter().filter_map(work_out).collect(),
        }
    }
}

impl Ledger {
    /// The names of a filter as numbers; `None` when nothing has such a name.
    fn wanted<'a>(&self, filter: &'a Filter) -> Option<Wanted<'a>> {
        self.wanted_of(filter, |name| self.names.get(name).map(PodName::whole))
    }

    fn wanted_of<'a>(
        &self,
        filter: &'a Filter,
        name_of: impl Fn(&str) -> Option<PodName>,
    ) -> Option<Wanted<'a>> {
        let namespace = filter.namespace.as_ref();
        let name = filter.name.as_ref();
        Some(Wanted {
            filter,
            namespace: namespace.map_or(Some(None), |n| self.names.get(n).map(Some))?,
            name: name.map_or(Some(None), |n| name_of(n).map(Some))?,
            text: filter.text.as_ref().map(|t| t.to_lowercase()),
        })
    }

    fn fits(&self, wanted: &Wanted<'_>, namespace: Sym, name: Sym) -> bool {
        wanted.is(namespace, PodName::whole(name))
            && wanted.holds(self.names.text(namespace), self.names.text(name))
    }

    fn pick_subjects(&self, filter: &SubjectFilter, slice: &Slice) -> Listed<RowId> {
        let wanted = self.wanted(&filter.all);
        let places = self.places(self.subjects.namespaces());
        let mut found = Vec::new();
        for (id, row) in self.subjects.iter() {
            let Some(wanted) = &wanted else { break };
            let (kind, name) = match row.key {
                SubjectKey::Group(name) => ("Group", name),
                SubjectKey::Account(_, name) => ("ServiceAccount", name),
                SubjectKey::User(name) => ("User", name),
            };
            let matched = |rule: &String| {
                let mut rules = row.rules.iter();
                rules.any(|(id, _)| self.catalogue().rule(*id).id == *rule)
            };
            if wanted.kind(kind)
                && wanted.level(row.effective, row.status)
                && filter.rule.as_ref().is_none_or(matched)
                && self.fits(wanted, namespace_of(row.key), name)
            {
                let place = place_of(row.key, &places);
                let rank = slice
                    .order
                    .rank(row.effective, row.status, row.since, place);
                found.push((rank, id));
            }
        }
        let key = |id: &RowId| self.subjects.get(*id).map(|r| r.key);
        cut(found, slice, |a, b| match (key(a), key(b)) {
            (Some(a), Some(b)) => self.order(a, b),
            _ => Ordering::Equal,
        })
    }

    /// A page of subjects.
    pub fn list_subjects(&self, filter: &SubjectFilter, slice: &Slice) -> Listed<SubjectView> {
        let asked = Asked::default();
        let key = |id: RowId| self.subjects.get(id).map(|r| r.key);
        self.pick_subjects(filter, slice)
            .filter_map(|id| self.subject_view(key(id)?, &asked))
    }

    /// A page of subjects, a line each.
    pub fn list_subject_lines(&self, filter: &SubjectFilter, slice: &Slice) -> Listed<SubjectLine> {
        self.pick_subjects(filter, slice).filter_map(|id| {
            let row = self.subjects.get(id)?;
            let top = row.rules.iter().filter(|(_, p)| *p == row.own);
            Some(SubjectLine {
                subject: self.subject(row.key),
                exists: row.exists,
                own: row.own,
                priority: row.effective,
                status: row.status,
                since: (row.since > 0).then_some(i64::from(row.since)),
                rules: top
                    .map(|(rule, _)| self.catalogue().rule(*rule).id.clone())
                    .collect(),
                path: self.path(id),
            })
        })
    }

    /// Goes through the pods that match, in the order of their numbers; returns what is known of those that
    /// are alike. Levels are looked up only where the filter asks for them.
    fn matching_pods<'a>(
        &'a self,
        filter: &PodFilter,
        mut found: impl FnMut(PodFound<'a>, &mut Replicas),
    ) -> Vec<Replicas> {
        let mut kinds: Vec<Replicas> = Vec::new();
        let Some(wanted) = self.wanted_of(&filter.all, |name| self.names.pod(name)) else {
            return kinds;
        };
        let mut written = String::new();
        // names lie anywhere in memory: to look up those that nobody asks for would be most of the work
        let is = |wanted: &Option<String>, sym: Sym| {
            let name = || self.names.text(sym);
            wanted.as_ref().is_none_or(|w| name() == w.as_str())
        };
        let owned_by = |shape: &PodShape| {
            let kind = || self.owner(shape, PodName::whole(Sym::EMPTY)).0;
            filter.workload_kind.as_ref().is_none_or(|w| w == kind())
        };
        let alike = |ns: Sym, shape: &PodShape| {
            let fits = is(&filter.account, shape.account)
                && owned_by(shape)
                && match filter.has {
                    None => true,
                    Some(PodHas::Token) => !self.tokens_of(ns, shape).is_empty(),
                    Some(PodHas::NodeEscape) => shape.escape != 0,
                    Some(PodHas::Secret) => !shape.secrets.is_empty(),
                };
            Replicas {
                fits,
                owner: shape
                    .workload
                    .map(|(kind, owner)| self.workload_name(kind, owner)),
                live: None,
            }
        };
        let mut known: Map<(Sym, *const PodShape), u32> = Map::default();
        // replicas nearly always lie side by side
        let mut last: Option<((Sym, *const PodShape), u32)> = None;
        self.pods.iter().for_each(|(id, ns, name, row)| {
            let of = (ns, Arc::as_ptr(&row.shape));
            let number = match last {
                Some((before, number)) if before == of => number,
                _ => *known.entry(of).or_insert_with(|| {
                    kinds.push(alike(ns, &row.shape));
                    kinds.len() as u32 - 1
                }),
            };
            last = Some((of, number));
            let kind = &mut kinds[number as usize];
            let owned = |w: &String| kind.owner.unwrap_or(name).text(&self.names) == **w;
            if !kind.fits
                || filter.live.is_some_and(|live| live != row.live())
                || !wanted.is(ns, name)
                || !filter.workload.as_ref().is_none_or(owned)
                || !is(&filter.node, row.node)
            {
                return;
            }
            if wanted.text.is_some() {
                written.clear();
                let _ = write!(written, "{}", name.text(&self.names));
                if !wanted.holds(self.names.text(ns), &written) {
                    return;
                }
            }
            if wanted.asks_level() {
                let (priority, status) = self.level_of(kind, ns, row);
                if !wanted.level(priority, status) {
                    return;
                }
            }
            let pod = PodFound {
                id,
                namespace: ns,
                name,
                row,
                alike: number,
            };
            found(pod, kind);
        });
        kinds
    }

    fn level_of(&self, kind: &mut Replicas, namespace: Sym, row: &PodRow) -> (Priority, Status) {
        match row.live() {
            true => *kind
                .live
                .get_or_insert_with(|| self.pod_level(namespace, row)),
            false => self.pod_level(namespace, row),
        }
    }

    /// The level that no pod of a namespace is above: that of its strongest account, as pods carry no other
    /// tokens.
    fn strongest_accounts(&self) -> Map<Sym, (Priority, Status)> {
        let mut out: Map<Sym, (Priority, Status)> = Map::default();
        for (_, row) in self.subjects.iter() {
            if let SubjectKey::Account(namespace, _) = row.key {
                let level = out.entry(namespace).or_default();
                *level = worse(*level, (row.effective, row.status));
            }
        }
        out
    }

    /// Kind and name of what a pod belongs to: itself, when it stands alone.
    fn owner(&self, shape: &PodShape, name: PodName) -> (&str, PodName) {
        match shape.workload {
            Some((kind, owner)) => (self.names.text(kind), self.workload_name(kind, owner)),
            None => ("Pod", name),
        }
    }

    /// A page of pods.
    pub fn list_pods(&self, filter: &PodFilter, slice: &Slice) -> Listed<PodView> {
        let places = self.places(self.pods.namespaces());
        let mut ranked = Vec::new();
        self.matching_pods(filter, |pod, kind| {
            let (priority, status) = self.level_of(kind, pod.namespace, pod.row);
            let place = places[&pod.namespace];
            ranked.push((slice.order.rank(priority, status, 0, place), pod.id));
        });
        cut(ranked, slice, |a, b| self.by_pod_name(*a, *b)).filter_map(|id| self.pod_view(id))
    }

    /// A page of the owners of pods, a line each.
    pub fn list_workloads(&self, filter: &PodFilter, slice: &Slice) -> Listed<WorkloadLine> {
        struct Group<'a> {
            namespace: Sym,
            kind: &'a str,
            name: PodName,
            pods: usize,
            escape: u8,
            /// One of each kind of its pods, live ones and others.
            some: Vec<(u32, &'a PodRow)>,
        }
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut numbers: Map<(Sym, &str, PodName), u32> = Map::default();
        let most = self.pods.len(Part::Namespaced);
        let mut members: Vec<(RowId, u32, u32)> = Vec::with_capacity(most);
        // pods that are alike have one owner, but for those that stand alone
        let mut last: Option<((u32, bool), u32)> = None;
        let mut kinds = self.matching_pods(filter, |pod, _| {
            let of = (pod.alike, pod.row.live());
            let number = match last {
                Some((before, number)) if before == of => number,
                _ => {
                    let (kind, name) = self.owner(&pod.row.shape, pod.name);
                    let owner = (pod.namespace, kind, name);
                    let number = *numbers.entry(owner).or_insert_with(|| {
                        groups.push(Group {
                            namespace: pod.namespace,
                            kind,
                            name,
                            pods: 0,
                            escape: 0,
                            some: Vec::new(),
                        });
                        groups.len() as u32 - 1
                    });
                    let group = &mut groups[number as usize];
                    group.escape |= pod.row.shape.escape;
                    let known = |(alike, row): &(u32, &PodRow)| (*alike, row.live()) == of;
                    if !group.some.iter().any(known) {
                        group.some.push((pod.alike, pod.row));
                    }
                    let owned = pod.row.shape.workload.is_some();
                    last = owned.then_some((of, number));
                    number
                }
            };
            groups[number as usize].pods += 1;
            members.push((pod.id, number, pod.alike));
        });
        let mut level = |group: &Group<'_>| {
            let some = group.some.iter().map(|(alike, row)| {
                let kind = &mut kinds[*alike as usize];
                self.level_of(kind, group.namespace, row)
            });
            some.reduce(worse).unwrap_or_default()
        };
        let places = self.places(self.pods.namespaces());
        let rank = |(priority, status): (Priority, Status), namespace: Sym| {
            slice.order.rank(priority, status, 0, places[&namespace])
        };
        // what is shown lies where the strongest accounts are: elsewhere no pod is looked at
        let bounds = self.strongest_accounts();
        let bound = |namespace: Sym| {
            let strongest = bounds.get(&namespace).copied().unwrap_or_default();
            rank(strongest, namespace)
        };
        let mut by_bound: Map<Sym, Vec<u32>> = Map::default();
        for (group, number) in groups.iter().zip(0u32..) {
            by_bound.entry(group.namespace).or_default().push(number);
        }
        let mut by_bound: Vec<(Rank, Vec<u32>)> = by_bound
            .into_iter()
            .map(|(namespace, groups)| (bound(namespace), groups))
            .collect();
        by_bound.sort_unstable();
        let enough = slice.offset.saturating_add(slice.limit);
        // the ranks of the first ones so far, the last of them on top
        let mut first: BinaryHeap<Rank> = BinaryHeap::new();
        let mut ranked: Vec<(Rank, u32)> = Vec::new();
        for (bound, numbers) in by_bound {
            if first.len() >= enough && first.peek().is_none_or(|last| *last < bound) {
                break;
            }
            for number in numbers {
                let group = &groups[number as usize];
                let rank = rank(level(group), group.namespace);
                ranked.push((rank, number));
                first.push(rank);
                if first.len() > enough {
                    first.pop();
                }
            }
        }
        let text = |sym: Sym| self.names.text(sym);
        let named = |number: u32| {
            let group = &groups[number as usize];
            (
                text(group.namespace),
                group.name.text(&self.names),
                group.kind,
            )
        };
        let mut listed = cut(ranked, slice, |a, b| named(*a).cmp(&named(*b)));
        listed.total = groups.len();
        let shown: Map<u32, usize> = listed.items.iter().copied().zip(0..).collect();
        let mut is_shown = vec![false; groups.len()];
        for number in shown.keys() {
            is_shown[*number as usize] = true;
        }
        // of equally bad ones always the same
        let mut worst: Vec<Option<RowId>> = vec![None; shown.len()];
        let levels: Vec<(Priority, Status)> = listed
            .items
            .iter()
            .map(|number| level(&groups[*number as usize]))
            .collect();
        for (id, number, alike) in members {
            if !is_shown[number as usize] {
                continue;
            }
            let at = shown[&number];
            let namespace = groups[number as usize].namespace;
            let kind = &mut kinds[alike as usize];
            let as_bad = |row| self.level_of(kind, namespace, row) == levels[at];
            if !self.pods.get(id).is_some_and(as_bad) {
                continue;
            }
            let first = |than| self.by_pod_name(id, than) == Ordering::Less;
            if worst[at].is_none_or(first) {
                worst[at] = Some(id);
            }
        }
        listed.filter_map(|number| {
            let group = &groups[number as usize];
            let id = worst[shown[&number]]?;
            let row = self.pods.get(id)?;
            Some(WorkloadLine {
                kind: group.kind.to_owned(),
                name: group.name.text(&self.names).to_string(),
                pods: group.pods,
                worst: self.pod_view(id)?,
                escapes: Pod::escape_words(group.escape).collect(),
                node: (row.live() && row.shape.escape != 0)
                    .then(|| self.node_level(group.namespace, row)),
            })
        })
    }

    /// A page of roles.
    pub fn list_roles(&self, filter: &RoleFilter, slice: &Slice) -> Listed<RoleView> {
        let wanted = self.wanted(&filter.all);
        let places = self.places(self.roles.namespaces());
        let mut found = Vec::new();
        for id in self.listed_roles() {
            let (Some(wanted), Some(row)) = (&wanted, self.roles.get(id)) else {
                break;
            };
            let (ns, name) = self.roles.key(id);
            let kind = match ns {
                Sym::EMPTY => "ClusterRole",
                _ => "Role",
            };
            let bound = |wanted| wanted == self.role_is_bound(ns, name);
            if !wanted.kind(kind)
                || !self.fits(wanted, ns, name)
                || !filter.bound.is_none_or(bound)
                || filter
                    .wildcard
                    .is_some_and(|w| w == row.wildcards.is_empty())
            {
                continue;
            }
            let mut level = Default::default();
            if wanted.asks_level() || slice.order != Order::Name {
                level = self.role_level(id);
                if !wanted.level(level.0, level.1) {
                    continue;
                }
            }
            found.push((slice.order.rank(level.0, level.1, 0, places[&ns]), id));
        }
        cut(found, slice, |a, b| self.by_name(&self.roles, *a, *b))
            .filter_map(|id| self.role_view(id))
    }

    /// A page of bindings.
    pub fn list_bindings(&self, filter: &BindingFilter, slice: &Slice) -> Listed<BindingView> {
        let wanted = self.wanted(&filter.all);
        let subject = filter.subject.as_ref().map(|s| self.key_of(s));
        let places = self.places(self.bindings.namespaces());
        let mut found = Vec::new();
        for (id, ns, name, row) in self.bindings.iter() {
            let Some(wanted) = &wanted else { break };
            let kind = match ns {
                Sym::EMPTY => "ClusterRoleBinding",
                _ => "RoleBinding",
            };
            let names = |key: Option<SubjectKey>| key.is_some_and(|k| row.subjects.contains(&k));
            let role = |wanted: &String| *self.names.text(row.role) == **wanted;
            let dangling = |wanted: bool| {
                let (role, account) = self.dangling(id);
                wanted == (role || account)
            };
            if !wanted.kind(kind)
                || !self.fits(wanted, ns, name)
                || !subject.is_none_or(names)
                || !filter.role.as_ref().is_none_or(role)
                || !filter.dangling.is_none_or(dangling)
            {
                continue;
            }
            let mut level = Default::default();
            if wanted.asks_level() || slice.order != Order::Name {
                level = self.binding_level(id);
                if !wanted.level(level.0, level.1) {
                    continue;
                }
            }
            found.push((slice.order.rank(level.0, level.1, 0, places[&ns]), id));
        }
        cut(found, slice, |a, b| self.by_name(&self.bindings, *a, *b))
            .filter_map(|id| self.binding_view(id))
    }

    /// Numbers of subjects and of pods by priority and status, from what is counted already. Pods that
    /// have ended are among those of priority `none`.
    pub fn levels(&self) -> [ByLevel; 2] {
        let mut out = [ByLevel::default(); 2];
        let mut live = 0;
        for (_, block) in self.blocks.iter() {
            live += block.pods as usize;
            let subjects = block.risky_subjects.iter().map(|levels| (0, levels));
            for (at, levels) in subjects.chain([(1, &block.hot_pods)]) {
                for (to, from) in out[at].iter_mut().flatten().zip(levels.iter().flatten()) {
                    *to += from;
                }
            }
        }
        let ended = self.pods.len(Part::Namespaced).saturating_sub(live);
        out[1][Priority::None as usize][Status::Open as usize] += ended as u32;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_whatever_the_case() {
        assert!(holds("Kube-System", "e-sys"));
        assert!(holds("abc", ""));
        assert!(!holds("ab", "abc"));
        assert!(holds("STRASSE-ÄÖ", "äö"));
    }

    #[test]
    fn a_part_may_lie_across_namespace_and_name() {
        for (namespace, name, part) in [
            ("Ci", "Release/x", "i/rel"),
            ("ci", "release/x", "/release/"),
            ("", "Ärger", "/ä"),
            ("ci", "a", "ci/a"),
        ] {
            assert!(holds_across(namespace, name, part), "{part}");
            let whole = format!("{namespace}/{name}");
            assert!(holds(&whole, part), "{part}");
        }
        assert!(!holds_across("ci", "release", "xci/r"));
        assert!(!holds_across("ci", "r", "ci/release"));
        assert!(!holds_across("ci", "release", "ci"));
    }

    #[test]
    fn a_page_is_what_sorting_everything_would_show() {
        let found: Vec<(Rank, u32)> = (0..100u32)
            .map(|i| ([i % 3, 0, 0, 0], i * 37 % 101))
            .collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        for (offset, limit) in [
            (0, 10),
            (5, 1),
            (95, 10),
            (100, 1),
            (0, 0),
            (0, 1000),
            (7, usize::MAX),
        ] {
            let slice = Slice {
                order: Order::Priority,
                offset,
                limit,
            };
            let page = cut(found.clone(), &slice, Ord::cmp);
            let expected = sorted.iter().skip(offset).take(limit).map(|(_, i)| *i);
            assert_eq!(page.items, expected.collect::<Vec<u32>>(), "{slice:?}");
            assert_eq!(page.total, 100);
        }
    }
}
