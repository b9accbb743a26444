//! A small world for the ledger's own tests, in the short notation of the truth tables.

use super::rows::SubjectKey;
use super::{Change, Ledger, ObjectRef, Settings, World};
use crate::object::{
    Binding, Meta, Object, Phase, Pod, PolicyRule, ProjectedToken, Resource, Role, RoleRef,
    ServiceAccount, Subject,
};
use crate::rbac::NEWEST;
use crate::risk::{Catalogue, Priority, Status};
use std::sync::{Arc, LazyLock};

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| Arc::new(Catalogue::shipped()));

/// A day, in seconds.
pub(super) const DAY: i64 = 86_400;
/// The time of day on which the stage opens.
pub(super) const NOW: i64 = 20_000 * DAY;

/// A ledger that has seen its first, empty lists.
pub(super) struct Stage {
    pub(super) ledger: Ledger,
}

impl Stage {
    pub(super) fn new() -> Stage {
        Stage::with(|_| {})
    }

    pub(super) fn with(set: impl FnOnce(&mut Settings)) -> Stage {
        let mut settings = Settings::new(World::Cluster, NEWEST);
        set(&mut settings);
        let mut ledger = Ledger::new(CATALOGUE.clone(), settings);
        ledger.advance(NOW);
        for resource in Resource::ALL {
            ledger.apply(Change::RelistBegin(resource));
            ledger.apply(Change::RelistEnd(resource));
        }
        Stage { ledger }
    }

    pub(super) fn put(&mut self, object: Object) {
        self.ledger.apply(Change::Upsert(object));
    }

    /// `NAME` or `NS/NAME`; rules are `verbs | groups | resources [| names]`.
    pub(super) fn role(&mut self, name: &str, rules: &[&str], times: &[i64]) {
        let rules = rules.iter().map(|r| rule(r)).collect();
        self.put(Object::Role(Role {
            meta: meta(name, times),
            rules,
            ..Default::default()
        }));
    }

    /// A binding to a ClusterRole, or with `./` before the name to a Role beside it.
    pub(super) fn bind(&mut self, name: &str, role: &str, to: &[&str], times: &[i64]) {
        let local = role.strip_prefix("./");
        self.put(Object::Binding(Binding {
            meta: meta(name, times),
            role: RoleRef {
                cluster: local.is_none(),
                name: local.unwrap_or(role).to_owned(),
            },
            subjects: to.iter().map(|s| subject(s)).collect(),
            ..Default::default()
        }));
    }

    pub(super) fn account(&mut self, name: &str, created: i64) {
        self.put(Object::ServiceAccount(ServiceAccount {
            meta: meta(name, &[created]),
            ..Default::default()
        }));
    }

    pub(super) fn pod(&mut self, name: &str, account: &str) {
        self.pod_for(name, account, None, Phase::Running);
    }

    pub(super) fn finished_pod(&mut self, name: &str, account: &str) {
        self.pod_for(name, account, None, Phase::Succeeded);
    }

    /// A pod that carries its account's token for an audience.
    pub(super) fn pod_for(
        &mut self,
        name: &str,
        account: &str,
        audience: Option<&str>,
        phase: Phase,
    ) {
        self.put(Object::Pod(Box::new(Pod {
            meta: meta(name, &[NOW]),
            service_account: account.into(),
            phase,
            tokens: vec![ProjectedToken {
                audience: audience.map(str::to_owned),
                containers: vec!["main".into()],
                at_default_path: true,
            }],
            ..Default::default()
        })));
    }

    pub(super) fn delete(&mut self, resource: Resource, name: &str) {
        let Meta {
            namespace, name, ..
        } = meta(name, &[]);
        self.ledger.apply(Change::Delete(ObjectRef {
            resource,
            namespace,
            name,
        }));
    }

    pub(super) fn settle(&mut self) {
        self.ledger.settle();
    }

    /// `sa:NS/NAME`, `group:NAME`, `user:NAME`: effective priority, status and since.
    #[track_caller]
    pub(super) fn level(&self, who: &str) -> (Priority, Status, i64) {
        let sym = |text: &str| self.ledger.names.get(text).expect("a known name");
        let key = match subject(who) {
            Subject::User { name } => SubjectKey::User(sym(&name)),
            Subject::Group { name } => SubjectKey::Group(sym(&name)),
            Subject::ServiceAccount { namespace, name } => {
                SubjectKey::Account(sym(&namespace), sym(&name))
            }
        };
        let row = self
            .ledger
            .subjects
            .find(key)
            .and_then(|id| self.ledger.subjects.get(id))
            .expect("a known subject");
        (row.effective, row.status, i64::from(row.since))
    }

    #[track_caller]
    pub(super) fn priority(&self, who: &str) -> Priority {
        self.level(who).0
    }

    /// Since when it holds its priority, which must be this one.
    #[track_caller]
    pub(super) fn since(&self, who: &str, priority: Priority) -> i64 {
        let level = self.level(who);
        assert_eq!(level.0, priority, "{who}");
        level.2
    }

    /// All rises that were counted.
    pub(super) fn escalations(&self) -> u64 {
        self.ledger.escalations.values().sum()
    }
}

/// Of an object created at the first time and changed in what matters at the others.
fn meta(name: &str, times: &[i64]) -> Meta {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Meta {
        namespace: namespace.into(),
        name: name.into(),
        created: times.first().copied(),
        history: times.into(),
        ..Default::default()
    }
}

fn rule(text: &str) -> PolicyRule {
    let parts: Vec<Vec<String>> = text
        .split('|')
        .map(|part| part.split(',').map(|word| word.trim().to_owned()).collect())
        .collect();
    let group = |g: &String| {
        if g == "core" {
            String::new()
        } else {
            g.clone()
        }
    };
    PolicyRule {
        verbs: parts[0].clone(),
        api_groups: parts[1].iter().map(group).collect(),
        resources: parts[2].clone(),
        resource_names: parts.get(3).cloned().unwrap_or_default(),
        non_resource_urls: vec![],
    }
}

fn subject(text: &str) -> Subject {
    if let Some((namespace, name)) = text.strip_prefix("sa:").and_then(|t| t.split_once('/')) {
        return Subject::ServiceAccount {
            namespace: namespace.into(),
            name: name.into(),
        };
    }
    match text.strip_prefix("group:") {
        Some(name) => Subject::Group { name: name.into() },
        None => Subject::user(text.strip_prefix("user:").unwrap_or(text)),
    }
}
