//! The metric table and what fills it.
//!
//! [`TABLE`] is the one source of names, types, labels and helps (contract §6); docs, alerts and
//! dashboards are checked against it.

pub mod judgement;

use super::negotiate::open_metrics_to_text;
use super::process::ProcessCollector;
use crate::ledger::{ByLevel, FaultReason, Snapshot};
use crate::risk::{Priority, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder, text::encode_registry,
};
use prometheus_client::metrics::{
    MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram,
};
use prometheus_client::registry::Registry;
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only rises; the name ends in `_total`.
    Counter,
    /// Observations in buckets.
    Histogram,
}

/// One family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// As it stands in the text format, `_total` included.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Label names, in their order.
    pub labels: &'static [&'static str],
    /// HELP: what one series says, in a sentence.
    pub help: &'static str,
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const NAMESPACE: &[&str] = &["namespace"];
const LEVEL: &[&str] = &["namespace", "priority", "status"];
const KIND_LEVEL: &[&str] = &["namespace", "kind", "priority", "status"];
const RESOURCE: &[&str] = &["resource"];

const SUBJECTS: Family = gauge(
    "rbac_subjects",
    &["namespace", "kind"],
    "Users, groups and service accounts that a binding names, and service accounts that exist, by their own namespace.",
);
const RISKY_SUBJECTS: Family = gauge(
    "rbac_risky_subjects",
    KIND_LEVEL,
    "Subjects by effective priority, what they can become through others included.",
);
const SINCE: Family = gauge(
    "rbac_risky_subject_since_timestamp_seconds",
    &["namespace", "kind", "name", "priority", "status"],
    "Since when a subject holds its priority, from the times of bindings, roles and service accounts.",
);
const PODS: Family = gauge(
    "rbac_pods",
    NAMESPACE,
    "Live pods (not Succeeded or Failed).",
);
const HOT_PODS: Family = gauge(
    "rbac_hot_pods",
    LEVEL,
    "Live pods that carry an API token of a risky service account, by the strongest one.",
);
const HOT_WORKLOADS: Family = gauge(
    "rbac_hot_workload_pods",
    &[
        "namespace",
        "workload_kind",
        "workload",
        "serviceaccount",
        "priority",
        "status",
    ],
    "Live pods of a workload that carry an API token of a risky service account; the strongest account is named.",
);
const AUTOMOUNT_PODS: Family = gauge(
    "rbac_automount_pods",
    &["namespace", "priority"],
    "Live pods with an API token mounted where client libraries look for it, by the priority of their service account.",
);
const NEEDLESS_TOKEN_PODS: Family = gauge(
    "rbac_needless_token_pods",
    NAMESPACE,
    "Live pods with an API token of a service account that has no rule beyond what every account has.",
);
const NODE_ESCAPE_PODS: Family = gauge(
    "rbac_node_escape_pods",
    LEVEL,
    "Live pods that can take their node, by the strongest token on that node.",
);
const SECRET_PODS: Family = gauge(
    "rbac_secret_pods",
    &["namespace", "source"],
    "Live pods that receive Secrets, by volume or by environment.",
);
const WILDCARD_RULES: Family = gauge(
    "rbac_wildcard_rules",
    KIND_LEVEL,
    "Rules of roles with a wildcard in verbs, groups, resources or URLs, by what the rule gives where it is bound.",
);
const RISKY_ROLES: Family = gauge(
    "rbac_risky_roles",
    &["namespace", "kind", "priority", "bound", "status"],
    "Roles by what they give where they are bound, or would give if they were.",
);
const RISKY_BINDINGS: Family = gauge(
    "rbac_risky_bindings",
    KIND_LEVEL,
    "Bindings by what their role gives in their own namespace, or everywhere.",
);
const DANGLING_BINDINGS: Family = gauge(
    "rbac_dangling_bindings",
    &["namespace", "kind", "reason"],
    "Bindings that name a role or a service account that does not exist.",
);
const IDLE_ACCOUNTS: Family = gauge(
    "rbac_idle_risky_serviceaccounts",
    LEVEL,
    "Risky service accounts that no live pod uses.",
);
const RULE_SUBJECTS: Family = gauge(
    "rbac_rule_subjects",
    &["rule", "priority", "status"],
    "Subjects that a rule of the catalogue matches, at the priority of their highest scope.",
);
const ACCEPTED_EXPIRY: Family = gauge(
    "rbac_accepted_risk_expiry_timestamp_seconds",
    &["id", "risk_owner"],
    "When an accepted risk expires or expired.",
);
const ESCALATIONS: Family = counter(
    "rbac_subject_escalations_total",
    &["namespace", "priority"],
    "Rises to a priority seen while watching, from changes of roles, bindings and service accounts.",
);
const BUILD_INFO: Family = gauge(
    "rbac_exporter_build_info",
    &["version", "revision", "ruleset"],
    "Always 1; version and revision of the exporter, and the hash of the rules in force.",
);
const INFO: Family = gauge(
    "rbac_exporter_info",
    &["external_url"],
    "Always 1; the URL under which people reach the exporter.",
);
const COMPLETE: Family = gauge(
    "rbac_exporter_complete",
    &[],
    "1 while everything could be read and decoded, else 0.",
);
const WATCH_SYNCED: Family = gauge(
    "rbac_exporter_watch_synced",
    RESOURCE,
    "1 once the resource was listed completely.",
);
const WATCH_ACTIVITY: Family = gauge(
    "rbac_exporter_watch_last_activity_timestamp_seconds",
    RESOURCE,
    "When the server was last heard from about the resource, bookmarks included.",
);
const WATCH_EVENTS: Family = counter(
    "rbac_exporter_watch_events_total",
    RESOURCE,
    "Objects added, modified and deleted, as the watch reported them.",
);
const WATCH_ERRORS: Family = counter(
    "rbac_exporter_watch_errors_total",
    &["resource", "reason"],
    "Requests and streams that failed.",
);
const WATCH_RESTARTS: Family = counter(
    "rbac_exporter_watch_restarts_total",
    RESOURCE,
    "Times the watch was opened anew.",
);
const WATCH_FORBIDDEN: Family = gauge(
    "rbac_exporter_watch_forbidden",
    RESOURCE,
    "1 while the API server refuses to list or watch the resource.",
);
const OBJECTS: Family = gauge("rbac_exporter_objects", RESOURCE, "Objects known.");
const BAD_OBJECTS: Family = gauge(
    "rbac_exporter_bad_objects",
    RESOURCE,
    "Objects that exist but do not decode; their last good state counts.",
);
const WITHOUT_HISTORY: Family = gauge(
    "rbac_exporter_objects_without_history",
    RESOURCE,
    "Objects whose managedFields do not tell when they changed.",
);

const EVALUATION: Family = Family {
    name: "rbac_exporter_evaluation_duration_seconds",
    kind: Kind::Histogram,
    labels: &[],
    help: "Time to settle one batch of changes.",
};
const SELFCHECK_DIFFERENCES: Family = gauge(
    "rbac_exporter_selfcheck_differences",
    &[],
    "Subjects, roles and namespaces whose incremental state differed from an evaluation from scratch; must stay 0.",
);
const SELFCHECK_LAST_RUN: Family = gauge(
    "rbac_exporter_selfcheck_last_run_timestamp_seconds",
    &[],
    "When the evaluation from scratch last ran.",
);
const DETAIL_DROPPED: Family = gauge(
    "rbac_exporter_detail_series_dropped",
    &["family"],
    "Series that a detail family leaves out for its limit.",
);
const CONFIG_SUCCESSFUL: Family = gauge(
    "rbac_exporter_config_last_reload_successful",
    &[],
    "1 while the configuration in force is the newest there is.",
);
const CONFIG_SUCCESS_TIME: Family = gauge(
    "rbac_exporter_config_last_reload_success_timestamp_seconds",
    &[],
    "When the configuration in force was loaded.",
);

/// Every family but `process_*`, in the order of the output.
pub const TABLE: &[Family] = &[
    SUBJECTS,
    RISKY_SUBJECTS,
    SINCE,
    PODS,
    HOT_PODS,
    HOT_WORKLOADS,
    AUTOMOUNT_PODS,
    NEEDLESS_TOKEN_PODS,
    NODE_ESCAPE_PODS,
    SECRET_PODS,
    WILDCARD_RULES,
    RISKY_ROLES,
    RISKY_BINDINGS,
    DANGLING_BINDINGS,
    IDLE_ACCOUNTS,
    RULE_SUBJECTS,
    ACCEPTED_EXPIRY,
    ESCALATIONS,
    DETAIL_DROPPED,
    BUILD_INFO,
    INFO,
    COMPLETE,
    WATCH_SYNCED,
    WATCH_ACTIVITY,
    WATCH_EVENTS,
    WATCH_ERRORS,
    WATCH_RESTARTS,
    WATCH_FORBIDDEN,
    OBJECTS,
    BAD_OBJECTS,
    WITHOUT_HISTORY,
    EVALUATION,
    SELFCHECK_DIFFERENCES,
    SELFCHECK_LAST_RUN,
    CONFIG_SUCCESSFUL,
    CONFIG_SUCCESS_TIME,
];

/// What does not come from the ledger.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Package version.
    pub version: String,
    /// Commit it was built from, or `unknown`.
    pub revision: String,
    /// `--web.external-url`
    pub external_url: String,
}

/// What the exporter observes of its own work.
#[derive(Debug)]
pub struct Work {
    /// Durations of settled batches, seconds.
    pub evaluation: Histogram,
    /// What the last self-check found.
    pub selfcheck_differences: AtomicU64,
    /// When it ran, Unix seconds; 0 before the first.
    pub selfcheck_last_run: AtomicU64,
    /// When the configuration in force was loaded, Unix seconds.
    pub configured_at: AtomicU64,
    /// The newest configuration, where it could not be used: then an older one is in force.
    refused: Mutex<Option<Refused>>,
    /// Files that the flags name, for people to find them; set once.
    pub config_files: OnceLock<Vec<String>>,
}

/// A configuration that could not be used.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When it was read, Unix seconds.
    pub at: i64,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

impl Default for Work {
    fn default() -> Self {
        // from a quiet cluster's batch to a catalogue reload at full size
        let buckets = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];
        Work {
            evaluation: Histogram::new(buckets),
            selfcheck_differences: AtomicU64::new(0),
            selfcheck_last_run: AtomicU64::new(0),
            configured_at: AtomicU64::new(0),
            refused: Mutex::default(),
            config_files: OnceLock::new(),
        }
    }
}

impl Work {
    /// A configuration has come into force.
    pub fn reconfigured(&self, now: i64) {
        self.refuse(None);
        let now = u64::try_from(now).unwrap_or_default();
        self.configured_at.store(now, Ordering::Relaxed);
    }

    /// A new configuration is not used.
    pub fn refuse(&self, refused: Option<Refused>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Why the newest configuration is not in force, if it is not.
    pub fn refused(&self) -> Option<Refused> {
        let refused = self.refused.lock();
        refused.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === writing families

type Result = std::result::Result<(), fmt::Error>;

/// Label values in the order of a family's labels.
struct Labels<'a>(&'a [&'static str], &'a [&'a str]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result {
        use prometheus_client::encoding::EncodeLabel;
        for (name, value) in self.0.iter().zip(self.1) {
            (*name, bounded(value).as_ref()).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// Longest label value, in bytes.
const LONGEST: usize = 256;

/// A longer value is cut and ends in `~` and eight hex digits of its SHA-256: names of users and groups
/// are free text.
pub(super) fn bounded(value: &str) -> std::borrow::Cow<'_, str> {
    if value.len() <= LONGEST {
        return value.into();
    }
    let hash = Sha256::digest(value.as_bytes());
    let hex: String = hash.iter().take(4).map(|b| format!("{b:02x}")).collect();
    let mut end = LONGEST - 9;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}~{hex}", &value[..end]).into()
}

/// Writes the series of one family.
struct Series<'a, 'b> {
    family: &'a Family,
    encoder: prometheus_client::encoding::MetricEncoder<'b>,
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    family: &Family,
    fill: impl FnOnce(&mut Series<'_, '_>) -> Result,
) -> Result {
    let (name, kind) = match family.kind {
        Kind::Gauge => (family.name, MetricType::Gauge),
        Kind::Histogram => (family.name, MetricType::Histogram),
        Kind::Counter => (
            family.name.strip_suffix("_total").unwrap_or(family.name),
            MetricType::Counter,
        ),
    };
    let encoder = encoder.encode_descriptor(name, family.help, None, kind)?;
    fill(&mut Series { family, encoder })
}

impl Series<'_, '_> {
    fn put(&mut self, values: &[&str], value: u64) -> Result {
        debug_assert_eq!(self.family.labels.len(), values.len());
        let labels = Labels(self.family.labels, values);
        match self.family.kind {
            Kind::Gauge => {
                let value = i64::try_from(value).unwrap_or(i64::MAX);
                if values.is_empty() {
                    return self.encoder.encode_gauge(&value);
                }
                ConstGauge::new(value).encode(self.encoder.encode_family(&labels)?)
            }
            Kind::Counter => ConstCounter::new(value).encode(self.encoder.encode_family(&labels)?),
            // it has buckets, not a value
            Kind::Histogram => Err(fmt::Error),
        }
    }

    fn histogram(&mut self, histogram: &Histogram) -> Result {
        let labels = Labels(&[], &[]);
        histogram.encode(self.encoder.encode_family(&labels)?)
    }

    /// Levels of one label prefix: the zero-initialised ones always, others where there is something.
    fn levels(&mut self, prefix: &[&str], levels: &ByLevel, zero: Zero, none: bool) -> Result {
        let from = if none { 0 } else { 1 };
        for priority in &Priority::ALL[from..] {
            for status in Status::ALL {
                let n = levels[*priority as usize][status as usize];
                let known = zero == Zero::Open && status == Status::Open;
                if n > 0 || known {
                    let mut values = prefix.to_vec();
                    values.extend([priority.as_str(), status.as_str()]);
                    self.put(&values, u64::from(n))?;
                }
            }
        }
        Ok(())
    }
}

/// Which series are there although their value is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Zero {
    /// Those of status open.
    Open,
    /// None.
    Not,
}

fn zero(when: bool) -> Zero {
    if when { Zero::Open } else { Zero::Not }
}

const SUBJECT_KINDS: [&str; 3] = ["Group", "ServiceAccount", "User"];
const ROLE_KINDS: [&str; 2] = ["Role", "ClusterRole"];
const BINDING_KINDS: [&str; 2] = ["RoleBinding", "ClusterRoleBinding"];

/// A number of a watch.
type OfWatch = fn(&crate::ledger::WatchState) -> u64;

/// The exporter itself: small, written anew for every scrape.
#[derive(Debug)]
struct HealthCollector {
    snapshot: Arc<Snapshot>,
    about: Arc<About>,
    work: Arc<Work>,
}

impl Collector for HealthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        let e = &mut encoder;
        let (about, snapshot) = (&self.about, &self.snapshot);
        let watches = &snapshot.watches;
        family(e, &BUILD_INFO, |s| {
            s.put(&[&about.version, &about.revision, &snapshot.ruleset], 1)
        })?;
        family(e, &INFO, |s| s.put(&[&about.external_url], 1))?;
        family(e, &COMPLETE, |s| s.put(&[], u64::from(snapshot.complete)))?;
        let resources: [(&Family, OfWatch); 5] = [
            (&WATCH_SYNCED, |w| u64::from(w.synced)),
            (&WATCH_ACTIVITY, |w| {
                u64::try_from(w.last_activity).unwrap_or_default()
            }),
            (&WATCH_EVENTS, |w| w.events),
            (&WATCH_RESTARTS, |w| w.restarts),
            (&WATCH_FORBIDDEN, |w| u64::from(w.forbidden)),
        ];
        for (of, value) in resources {
            family(e, of, |s| {
                watches
                    .iter()
                    .try_for_each(|(r, w, ..)| s.put(&[r.plural()], value(w)))
            })?;
        }
        family(e, &WATCH_ERRORS, |s| {
            watches.iter().try_for_each(|(r, w, ..)| {
                FaultReason::ALL.iter().try_for_each(|reason| {
                    s.put(&[r.plural(), reason.as_str()], w.errors[*reason as usize])
                })
            })
        })?;
        family(e, &OBJECTS, |s| {
            watches
                .iter()
                .try_for_each(|(r, _, n, _)| s.put(&[r.plural()], *n))
        })?;
        family(e, &BAD_OBJECTS, |s| {
            watches
                .iter()
                .try_for_each(|(r, w, ..)| s.put(&[r.plural()], w.bad.len() as u64))
        })?;
        family(e, &WITHOUT_HISTORY, |s| {
            watches
                .iter()
                .try_for_each(|(r, _, _, n)| s.put(&[r.plural()], *n))
        })?;
        family(e, &EVALUATION, |s| s.histogram(&self.work.evaluation))?;
        let of = |value: &AtomicU64| value.load(Ordering::Relaxed);
        family(e, &SELFCHECK_DIFFERENCES, |s| {
            s.put(&[], of(&self.work.selfcheck_differences))
        })?;
        family(e, &SELFCHECK_LAST_RUN, |s| {
            s.put(&[], of(&self.work.selfcheck_last_run))
        })?;
        let configured = self.work.refused().is_none();
        family(e, &CONFIG_SUCCESSFUL, |s| s.put(&[], u64::from(configured)))?;
        family(e, &CONFIG_SUCCESS_TIME, |s| {
            s.put(&[], of(&self.work.configured_at))
        })
    }
}

// === text

fn encode(collector: Box<dyn Collector>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(collector);
    let mut text = String::new();
    // writing to a String cannot fail; a family that could would spoil the whole exposition
    encode_registry(&mut text, &registry).expect("a String takes every write");
    text
}

/// Everything but `process_*` in the text format, for whoever looks once: beside a text file collector
/// those would be taken for that of the collector.
pub fn once(snapshot: &Arc<Snapshot>, about: &Arc<About>, work: &Arc<Work>) -> String {
    let own = HealthCollector {
        snapshot: snapshot.clone(),
        about: about.clone(),
        work: work.clone(),
    };
    open_metrics_to_text(&(judgement::whole(snapshot) + &encode(Box::new(own))))
}

/// The exporter's own families and `process_*` as OpenMetrics, without the end marker.
pub fn health(snapshot: &Arc<Snapshot>, about: &Arc<About>, work: &Arc<Work>) -> String {
    let own = HealthCollector {
        snapshot: snapshot.clone(),
        about: about.clone(),
        work: work.clone(),
    };
    let mut text = encode(Box::new(own));
    text.push_str(&encode(Box::new(ProcessCollector)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_stay_apart() {
        let a = format!("{}a", "ä".repeat(200));
        let b = format!("{}b", "ä".repeat(200));
        let (x, y) = (bounded(&a), bounded(&b));
        assert!(x.len() <= LONGEST && x.as_bytes()[x.len() - 9] == b'~' && x != y);
        assert_eq!(bounded("short"), "short");
    }

    #[test]
    fn every_family_of_the_table_is_written_once_with_its_type_and_labels() {
        let snapshot = Arc::new(Snapshot {
            judged: Arc::new(crate::ledger::Judged {
                namespaces: ["", "a"]
                    .map(|name| (Arc::from(name), Arc::default()))
                    .into_iter()
                    .collect(),
                ..crate::ledger::Judged::default()
            }),
            ..Snapshot::default()
        });
        let text =
            judgement::whole(&snapshot) + &health(&snapshot, &Arc::default(), &Arc::default());
        for family in TABLE {
            let name = match family.kind {
                Kind::Gauge | Kind::Histogram => family.name,
                Kind::Counter => family.name.strip_suffix("_total").expect("counters end so"),
            };
            let kind = match family.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
                Kind::Histogram => "histogram",
            };
            let header = format!("# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
            assert_eq!(text.matches(&header).count(), 1, "{name}");
        }
        let types = text
            .lines()
            .filter(|l| l.starts_with("# TYPE rbac_"))
            .count();
        assert_eq!(types, TABLE.len());
    }
}
