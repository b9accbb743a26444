//! `impersonate-constrained` (KEP-5284, catalogue A.8 and B.3): an identity that may be taken, and
//! what may be done with it. Each half is useless without the other; what counts is what the second
//! half would be worth as a grant of its own.

use super::assess::{Context, Edge, Hit, Outcome, PlainRules, Scope, To, View, tidy};
use super::catalogue::{Catalogue, Levels, RuleId, Special};
use super::priority::Priority;
use super::special::{self, Union};
use crate::object::Subject;
use crate::rbac::{MASTERS, Mode, Names, PermId, Reach, ServerVersion};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

struct Run<'a> {
    catalogue: &'a Catalogue,
    context: &'a dyn Context,
    rule: RuleId,
    /// Edges are asked for.
    edges: bool,
    plain: RefCell<PlainRules<'a>>,
    /// What views hold through a mode, by where it is kept: one answer for all that share it.
    through: RefCell<HashMap<(*const [Reach; 4], Mode), Through>>,
    /// What was found by the view and what it holds through a mode: `*` among verbs is every mode at once.
    worths: RefCell<HashMap<(*const View, *const Reach), Option<Worth>>>,
    /// See [`Run::alike`].
    priorities: RefCell<HashMap<(*const Reach, bool), Option<Priority>>>,
}

/// Some identity may be taken at this scope.
pub(super) fn takes_identities(catalogue: &Catalogue, view: &View) -> bool {
    let p = &catalogue.perms;
    let identities = [p.as_users, p.as_groups, p.as_sa, p.as_node, p.as_own_node];
    identities.iter().any(|i| view.names(*i).any())
}

/// The findings and edges of this rule.
pub(super) fn hits(
    catalogue: &Catalogue,
    version: ServerVersion,
    subject: &Subject,
    views: &[View],
    context: &dyn Context,
    want_edges: bool,
    hits: &mut Vec<Hit>,
    edges: &mut Vec<Edge>,
) {
    let p = &catalogue.perms;
    if !views.iter().any(|v| takes_identities(catalogue, v)) {
        return;
    }
    let Some(rule) = catalogue.special(Special::ImpersonateConstrained) else {
        return;
    };
    let run = Run {
        catalogue,
        context,
        rule,
        edges: want_edges,
        plain: RefCell::new(PlainRules::new(catalogue, version, false)),
        through: RefCell::default(),
        worths: RefCell::default(),
        priorities: RefCell::default(),
    };
    run.user_info(views, hits, edges);
    run.accounts(views, hits, edges);
    let node = Union::of(&views[0], &[p.as_node]);
    if node.any() {
        run.nodes(
            views,
            Mode::ArbitraryNode,
            p.as_node,
            Some(&node),
            hits,
            edges,
        );
    }
    // a real node name is never asked for, and only a token of a pod has a node
    let own = Union::of(&views[0], &[p.as_own_node]);
    if own.has("*") && matches!(subject, Subject::ServiceAccount { .. }) {
        run.nodes(
            views,
            Mode::AssociatedNode,
            p.as_own_node,
            None,
            hits,
            edges,
        );
    }
}

/// What is held through a mode, if anything is.
type Through = Option<Arc<Reach>>;

/// What is granted through a mode: how bad it is, and whom it lets the holder become.
type Worth = (Priority, Rc<[Edge]>);

impl Run<'_> {
    fn hit(&self, scope: &Scope, priority: Priority, witness: &[PermId], hits: &mut Vec<Hit>) {
        hits.push(Hit {
            rule: self.rule,
            scope: scope.clone(),
            priority,
            outcome: Outcome::Full,
            witness: witness.to_vec(),
            bindings: Vec::new(),
        });
    }

    /// The view through one mode.
    fn through(&self, view: &View, mode: Mode) -> Option<View> {
        let of = Arc::as_ptr(view.on.as_ref()?);
        let mut known = self.through.borrow_mut();
        let plain = match known.get(&(of, mode)) {
            Some(plain) => plain.clone(),
            None => {
                let plain = view.through(mode, self.catalogue).map(Arc::new);
                let mut modes = Mode::ALL.iter().filter_map(|m| known.get(&(of, *m)));
                let same = modes.find(|other| **other == plain).cloned();
                let plain = same.unwrap_or(plain);
                known.insert((of, mode), plain.clone());
                plain
            }
        };
        Some(View {
            scope: view.scope.clone(),
            plain: plain?,
            on: None,
        })
    }

    /// What the `impersonate-on` grants of a mode would be worth at a view as plain grants, and whom
    /// they would let the holder become.
    fn worth(&self, view: &View, mode: Mode) -> Option<Worth> {
        let through = self.through(view, mode)?;
        let of = (std::ptr::from_ref(view), Arc::as_ptr(&through.plain));
        let mut known = self.worths.borrow_mut();
        let worth = known
            .entry(of)
            .or_insert_with(|| match self.alike(&through) {
                Some(alike) => {
                    let mut known = self.priorities.borrow_mut();
                    let anew = || self.worth_of(&through).map(|(priority, _)| priority);
                    let priority = *known.entry(alike).or_insert_with(anew);
                    Some((priority?, Rc::default()))
                }
                None => self.worth_of(&through),
            });
        worth.clone()
    }

    /// What is held, and whether in a privileged namespace: where edges are not asked for it is worth the same
    /// wherever that is alike.
    fn alike(&self, through: &View) -> Option<(*const Reach, bool)> {
        let Scope::Namespace(ns) = &through.scope else {
            return None;
        };
        let differs = self.edges
            || **ns == *special::KUBE_SYSTEM
            || self.catalogue.singles_out(ns)
            || special::asks_of_roles(self.catalogue, through);
        let alike = (Arc::as_ptr(&through.plain), self.catalogue.privileged(ns));
        (!differs).then_some(alike)
    }

    fn worth_of(&self, through: &View) -> Option<Worth> {
        let mut found = Vec::new();
        let mut edges = Vec::new();
        let mut plain = self.plain.borrow_mut();
        plain.hits(through, through, &mut found);
        special::hits(
            self.catalogue,
            through,
            through,
            &[],
            self.context,
            &mut found,
            &mut edges,
        );
        found.retain(|h| !self.catalogue.rule(h.rule).id.starts_with("impersonate-"));
        let priority = found.iter().map(|h| h.priority).max()?;
        if !self.edges {
            return Some((priority, Rc::default()));
        }
        for hit in &found {
            special::edges_of(self.catalogue, hit, through, through, &mut edges);
        }
        edges.iter_mut().for_each(|e| e.rule = self.rule);
        edges.sort_unstable();
        edges.dedup();
        Some((priority, edges.into()))
    }

    fn user_info(&self, views: &[View], hits: &mut Vec<Hit>, edges: &mut Vec<Edge>) {
        let p = &self.catalogue.perms;
        let users = Union::of(&views[0], &[p.as_users]);
        let groups = Union::of(&views[0], &[p.as_groups]);
        if !users.any() && !groups.any() {
            return;
        }
        let witness = [p.as_users, p.as_groups];
        self.hit(&Scope::Cluster, Priority::Low, &witness, hits);
        let names: Vec<_> = users
            .names
            .iter()
            .filter(|n| matches!(Subject::user(n), Subject::User { .. }))
            .collect();
        if !users.all && names.is_empty() {
            return;
        }
        // four and more groups are asked for with the name `*`
        let unlimited = users.all || groups.has("*");
        let mut tidied = edges.len();
        for view in views {
            tidy(edges, &mut tidied);
            let Some((worth, reached)) = self.worth(view, Mode::UserInfo) else {
                continue;
            };
            if unlimited {
                self.hit(&view.scope, worth, &witness, hits);
                edges.extend(reached.iter().cloned());
                continue;
            }
            let as_one: Vec<To> = names
                .iter()
                .map(|n| To::User((*n).clone()))
                .chain(
                    groups
                        .names
                        .iter()
                        .filter(|g| &***g != MASTERS)
                        .map(|g| To::Group(g.clone())),
                )
                .collect();
            edges.extend(as_one.iter().map(|to| self.capped(view, to.clone(), worth)));
            edges.extend(Self::gated(&reached, &as_one));
        }
    }

    fn accounts(&self, views: &[View], hits: &mut Vec<Hit>, edges: &mut Vec<Edge>) {
        let p = &self.catalogue.perms;
        let mut unlimited = false;
        let mut named = Vec::new();
        let mut any = false;
        for view in views {
            match view.names(p.as_sa) {
                Names::None => continue,
                Names::All => unlimited = true,
                Names::Some(names) => {
                    named.extend(
                        names
                            .iter()
                            .map(|n| To::Identity(view.scope.clone(), n.clone())),
                    );
                }
            }
            any = true;
            self.hit(&view.scope, Priority::Low, &[p.as_sa], hits);
        }
        if !any {
            return;
        }
        let mut tidied = edges.len();
        // the identity may lie in one namespace and what is done with it in another
        for view in views {
            tidy(edges, &mut tidied);
            let Some((worth, reached)) = self.worth(view, Mode::ServiceAccount) else {
                continue;
            };
            if unlimited {
                self.hit(&view.scope, worth, &[p.as_sa], hits);
                edges.extend(reached.iter().cloned());
            } else {
                edges.extend(named.iter().map(|to| self.capped(view, to.clone(), worth)));
                edges.extend(Self::gated(&reached, &named));
            }
        }
    }

    /// Node modes give what the Node authoriser gives. `names` are the nodes of arbitrary-node,
    /// `None` stands for the caller's own node.
    fn nodes(
        &self,
        views: &[View],
        mode: Mode,
        identity: PermId,
        names: Option<&Union>,
        hits: &mut Vec<Hit>,
        edges: &mut Vec<Edge>,
    ) {
        let p = &self.catalogue.perms;
        self.hit(&Scope::Cluster, Priority::Low, &[identity], hits);
        let any_node = names.is_some_and(|n| n.all);
        for view in views {
            let Some(through) = self.through(view, mode) else {
                continue;
            };
            let reads = Union::of(&through, &[p.get_secret, p.list_secret, p.watch_secret]).all;
            let token = through.names(p.create_token);
            let pods = Union::of(
                &through,
                &[p.delete_pod, p.update_pod_status, p.patch_pod_status],
            )
            .all;
            let strong = if any_node {
                Priority::Critical
            } else {
                Priority::High
            };
            let levels = if reads || token.all() {
                of_places(strong, strong, Priority::Medium)
            } else if pods {
                of_places(Priority::Medium, Priority::Medium, Priority::Low)
            } else {
                Levels::default()
            };
            if let Some(priority) = super::assess::level(self.catalogue, &levels, &view.scope) {
                self.hit(&view.scope, priority, &[identity], hits);
            }
            if !token.any() {
                continue;
            }
            let to: Vec<To> = match names {
                None => vec![To::OwnNodeTokens(view.scope.clone())],
                Some(n) if n.all => vec![To::PodTokens(view.scope.clone())],
                Some(n) => n
                    .names
                    .iter()
                    .map(|node| To::NodeTokens(view.scope.clone(), node.clone()))
                    .collect(),
            };
            edges.extend(
                to.into_iter()
                    .map(|to| self.capped(view, to, Priority::Critical)),
            );
        }
    }

    fn capped(&self, view: &View, to: To, cap: Priority) -> Edge {
        Edge {
            rule: self.rule,
            scope: view.scope.clone(),
            to,
            cap,
            gate: None,
        }
    }

    /// What the grants lead to as one of these identities: no further than that identity.
    fn gated<'a>(reached: &'a [Edge], as_one: &'a [To]) -> impl Iterator<Item = Edge> + 'a {
        as_one.iter().flat_map(|gate| {
            reached.iter().map(|edge| Edge {
                gate: Some(Box::new(gate.clone())),
                ..edge.clone()
            })
        })
    }
}

fn of_places(cluster: Priority, privileged: Priority, namespace: Priority) -> Levels {
    Levels {
        cluster: Some(cluster),
        privileged: Some(privileged),
        namespace: Some(namespace),
    }
}
