//! The families of the judgement: what their series are, and what they are made of.
//!
//! Most of them are a matter of each namespace by itself. They are written, and kept by whoever serves them, a
//! stretch of namespaces at a time: of thousands of namespaces one has moved between two scrapes. Details, where
//! they are many, are cut into [pieces](Piece): users and groups are all in one namespace, and where the limit leaves
//! some out it decides over all.

use super::{
    ACCEPTED_EXPIRY, AUTOMOUNT_PODS, BINDING_KINDS, DANGLING_BINDINGS, DETAIL_DROPPED, ESCALATIONS,
    Family, HOT_PODS, HOT_WORKLOADS, IDLE_ACCOUNTS, NEEDLESS_TOKEN_PODS, NODE_ESCAPE_PODS, PODS,
    RISKY_BINDINGS, RISKY_ROLES, RISKY_SUBJECTS, ROLE_KINDS, RULE_SUBJECTS, Result, SECRET_PODS,
    SINCE, SUBJECT_KINDS, SUBJECTS, Series, WILDCARD_RULES, Zero, encode, family, zero,
};
use crate::ledger::{
    Detailed, Judged, NamespaceBlock, Shelf, Snapshot, SubjectDetail, WorkloadDetail,
};
use crate::risk::{Priority, Status};
use foldhash::fast::RandomState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::{Arc, LazyLock};

/// A family of the judgement; by namespaces, as a whole, or either.
struct Part {
    family: &'static Family,
    by_namespace: Option<ByNamespace>,
    /// Where it is not written by namespaces.
    whole: Option<Whole>,
}

/// The series of a family that a namespace has.
struct ByNamespace {
    write: fn(&str, &NamespaceBlock, &mut Series<'_, '_>) -> Result,
    /// They are the same of both blocks.
    same: fn(&NamespaceBlock, &NamespaceBlock) -> bool,
    /// It is a family of details.
    details: Option<Of>,
}

/// What details are of.
#[derive(Clone, Copy)]
enum Of {
    Subjects,
    Workloads,
}

/// The series of a family.
struct Whole {
    write: fn(&Judged, &mut Series<'_, '_>) -> Result,
    /// They are the same of both.
    same: fn(&Judged, &Judged) -> bool,
}

const fn by_namespace(
    family: &'static Family,
    write: fn(&str, &NamespaceBlock, &mut Series<'_, '_>) -> Result,
    same: fn(&NamespaceBlock, &NamespaceBlock) -> bool,
) -> Part {
    Part {
        family,
        by_namespace: Some(ByNamespace {
            write,
            same,
            details: None,
        }),
        whole: None,
    }
}

const fn as_a_whole(
    family: &'static Family,
    write: fn(&Judged, &mut Series<'_, '_>) -> Result,
    same: fn(&Judged, &Judged) -> bool,
) -> Part {
    Part {
        family,
        by_namespace: None,
        whole: Some(Whole { write, same }),
    }
}

/// Users and groups have no namespace, accounts have one.
fn kind_can_be_in(kind: usize, namespace: &str) -> bool {
    (kind == 1) != namespace.is_empty()
}

/// Of a kind that lies in namespaces and the one that does not, the one that this can have.
fn kind_in<'a>(namespace: &str, kinds: [&'a str; 2]) -> &'a str {
    kinds[usize::from(namespace.is_empty())]
}

/// The families that a judgement without pods has nothing to say of.
const OF_PODS: [&Family; 8] = [
    &PODS,
    &HOT_PODS,
    &HOT_WORKLOADS,
    &AUTOMOUNT_PODS,
    &NEEDLESS_TOKEN_PODS,
    &NODE_ESCAPE_PODS,
    &SECRET_PODS,
    &IDLE_ACCOUNTS,
];

fn subject(ns: &str, d: &SubjectDetail, s: &mut Series<'_, '_>) -> Result {
    let kind = SUBJECT_KINDS[d.kind];
    let values = [ns, kind, &*d.name, d.priority.as_str(), d.status.as_str()];
    s.put(&values, u64::from(d.since))
}

fn workload(ns: &str, d: &WorkloadDetail, s: &mut Series<'_, '_>) -> Result {
    let (priority, status) = (d.priority.as_str(), d.status.as_str());
    let values = [ns, &*d.kind, &*d.name, &*d.account, priority, status];
    s.put(&values, u64::from(d.pods))
}

/// The judgement, in the order of the output.
const PARTS: &[Part] = &[
    by_namespace(
        &SUBJECTS,
        |ns, b, s| {
            for (kind, name) in SUBJECT_KINDS.iter().enumerate() {
                if b.subjects[kind] > 0 || kind_can_be_in(kind, ns) {
                    s.put(&[ns, name], u64::from(b.subjects[kind]))?;
                }
            }
            Ok(())
        },
        |a, b| a.subjects == b.subjects,
    ),
    by_namespace(
        &RISKY_SUBJECTS,
        |ns, b, s| {
            for (kind, name) in SUBJECT_KINDS.iter().enumerate() {
                let zero = zero(kind_can_be_in(kind, ns));
                s.levels(&[ns, name], &b.risky_subjects[kind], zero, false)?;
            }
            Ok(())
        },
        |a, b| a.risky_subjects == b.risky_subjects,
    ),
    Part {
        family: &SINCE,
        by_namespace: Some(ByNamespace {
            write: |ns, b, s| b.subject_details.iter().try_for_each(|d| subject(ns, d, s)),
            same: |a, b| a.subject_details == b.subject_details,
            details: Some(Of::Subjects),
        }),
        whole: Some(Whole {
            write: |judged, s| {
                judged
                    .subjects()
                    .iter()
                    .try_for_each(|(ns, d)| subject(ns, d, s))
            },
            same: |a, b| a.subjects() == b.subjects(),
        }),
    },
    by_namespace(
        &PODS,
        |ns, b, s| s.put(&[ns], u64::from(b.pods)),
        |a, b| a.pods == b.pods,
    ),
    by_namespace(
        &HOT_PODS,
        |ns, b, s| s.levels(&[ns], &b.hot_pods, Zero::Open, false),
        |a, b| a.hot_pods == b.hot_pods,
    ),
    Part {
        family: &HOT_WORKLOADS,
        by_namespace: Some(ByNamespace {
            write: |ns, b, s| {
                b.workload_details
                    .iter()
                    .try_for_each(|d| workload(ns, d, s))
            },
            same: |a, b| a.workload_details == b.workload_details,
            details: Some(Of::Workloads),
        }),
        whole: Some(Whole {
            write: |judged, s| {
                judged
                    .workloads()
                    .iter()
                    .try_for_each(|(ns, d)| workload(ns, d, s))
            },
            same: |a, b| a.workloads() == b.workloads(),
        }),
    },
    by_namespace(
        &AUTOMOUNT_PODS,
        |ns, b, s| {
            for p in Priority::ALL {
                s.put(&[ns, p.as_str()], u64::from(b.automount_pods[p as usize]))?;
            }
            Ok(())
        },
        |a, b| a.automount_pods == b.automount_pods,
    ),
    by_namespace(
        &NEEDLESS_TOKEN_PODS,
        |ns, b, s| s.put(&[ns], u64::from(b.needless_token_pods)),
        |a, b| a.needless_token_pods == b.needless_token_pods,
    ),
    by_namespace(
        &NODE_ESCAPE_PODS,
        |ns, b, s| s.levels(&[ns], &b.node_escape_pods, zero(ns.is_empty()), true),
        |a, b| a.node_escape_pods == b.node_escape_pods,
    ),
    by_namespace(
        &SECRET_PODS,
        |ns, b, s| {
            for (i, source) in ["volume", "env"].into_iter().enumerate() {
                if b.secret_pods[i] > 0 {
                    s.put(&[ns, source], u64::from(b.secret_pods[i]))?;
                }
            }
            Ok(())
        },
        |a, b| a.secret_pods == b.secret_pods,
    ),
    by_namespace(
        &IDLE_ACCOUNTS,
        |ns, b, s| s.levels(&[ns], &b.idle_accounts, zero(ns.is_empty()), false),
        |a, b| a.idle_accounts == b.idle_accounts,
    ),
    by_namespace(
        &WILDCARD_RULES,
        |ns, b, s| {
            let kind = kind_in(ns, ROLE_KINDS);
            s.levels(&[ns, kind], &b.wildcard_rules, Zero::Open, true)
        },
        |a, b| a.wildcard_rules == b.wildcard_rules,
    ),
    by_namespace(
        &RISKY_ROLES,
        |ns, b, s| {
            let kind = kind_in(ns, ROLE_KINDS);
            for (bound, word) in ["false", "true"].into_iter().enumerate() {
                for p in Priority::RISKY {
                    for status in Status::ALL {
                        let n = b.roles[bound][p as usize][status as usize];
                        if n > 0 || (ns.is_empty() && status == Status::Open) {
                            let values = [ns, kind, p.as_str(), word, status.as_str()];
                            s.put(&values, u64::from(n))?;
                        }
                    }
                }
            }
            Ok(())
        },
        |a, b| a.roles == b.roles,
    ),
    by_namespace(
        &RISKY_BINDINGS,
        |ns, b, s| {
            let kind = kind_in(ns, BINDING_KINDS);
            s.levels(&[ns, kind], &b.bindings, zero(ns.is_empty()), false)
        },
        |a, b| a.bindings == b.bindings,
    ),
    by_namespace(
        &DANGLING_BINDINGS,
        |ns, b, s| {
            let kind = kind_in(ns, BINDING_KINDS);
            let reasons = ["role-missing", "serviceaccount-missing"];
            for (n, reason) in b.dangling.into_iter().zip(reasons) {
                if n > 0 || ns.is_empty() {
                    s.put(&[ns, kind, reason], u64::from(n))?;
                }
            }
            Ok(())
        },
        |a, b| a.dangling == b.dangling,
    ),
    as_a_whole(
        &RULE_SUBJECTS,
        |judged, s| {
            judged.rules.iter().try_for_each(|r| {
                let values = [r.rule.as_str(), r.priority.as_str(), r.status.as_str()];
                s.put(&values, u64::from(r.subjects))
            })
        },
        |a, b| a.rules == b.rules,
    ),
    as_a_whole(
        &ACCEPTED_EXPIRY,
        |judged, s| {
            judged.accepted.iter().try_for_each(|a| {
                let at = u64::try_from(a.expires).unwrap_or_default();
                s.put(&[a.id.as_str(), a.owner.as_str()], at)
            })
        },
        |a, b| a.accepted == b.accepted,
    ),
    as_a_whole(
        &ESCALATIONS,
        |judged, s| {
            let seen = &judged.escalations;
            for p in Priority::RISKY {
                if !seen.iter().any(|(ns, q, _)| ns.is_empty() && *q == p) {
                    s.put(&["", p.as_str()], 0)?;
                }
            }
            let mut seen = seen.iter();
            seen.try_for_each(|(ns, p, n)| s.put(&[ns, p.as_str()], *n))
        },
        |a, b| a.escalations == b.escalations,
    ),
    as_a_whole(
        &DETAIL_DROPPED,
        |judged, s| {
            let families = [SINCE.name, HOT_WORKLOADS.name];
            let mut dropped = families.into_iter().zip(judged.dropped());
            dropped.try_for_each(|(f, n)| s.put(&[f], n))
        },
        |a, b| a.dropped() == b.dropped(),
    ),
];

/// Number of the families of the judgement.
pub const JUDGEMENT: usize = PARTS.len();

/// Which families are written by namespaces: their series of each do not depend on what others have. Details do
/// where some of them are left out.
pub fn by_namespaces(judged: &Judged) -> [bool; JUDGEMENT] {
    let all_shown = judged.dropped() == [0, 0];
    std::array::from_fn(|part| {
        let part = &PARTS[part];
        part.by_namespace.is_some() && (part.whole.is_none() || all_shown)
    })
}

/// What is to be written of a family.
#[derive(Clone, Debug)]
enum What {
    /// Its header and all series.
    All,
    /// Its header.
    Header,
    /// The header, and these.
    Some(Arc<Content>),
}

/// A family of the judgement, as prometheus-client asks for it.
#[derive(Debug)]
struct JudgementCollector {
    snapshot: Arc<Snapshot>,
    part: usize,
    what: What,
}

impl Collector for JudgementCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        let part = &PARTS[self.part];
        let left_out = self.snapshot.without_pods && OF_PODS.contains(&part.family);
        if left_out {
            return Ok(());
        }
        let judged = &self.snapshot.judged;
        family(&mut encoder, part.family, |s| match &self.what {
            What::Header => Ok(()),
            What::Some(some) => match &**some {
                Content::Namespaces(shelf) => {
                    let of = part.by_namespace.as_ref();
                    let mut blocks = of
                        .into_iter()
                        .flat_map(|of| shelf.iter().map(move |b| (of, b)));
                    blocks.try_for_each(|(of, (ns, block))| (of.write)(ns, block, s))
                }
                Content::Subjects(some) => some.iter().try_for_each(|(ns, d)| subject(ns, d, s)),
                Content::Workloads(some) => some.iter().try_for_each(|(ns, d)| workload(ns, d, s)),
            },
            What::All => match (&part.by_namespace, &part.whole) {
                (_, Some(whole)) => (whole.write)(judged, s),
                (Some(of), None) => {
                    let mut blocks = judged.namespaces.iter();
                    blocks.try_for_each(|(ns, block)| (of.write)(ns, block, s))
                }
                (None, None) => Ok(()),
            },
        })
    }
}

fn written(snapshot: &Arc<Snapshot>, part: usize, what: What) -> String {
    let snapshot = snapshot.clone();
    encode(Box::new(JudgementCollector {
        snapshot,
        part,
        what,
    }))
}

/// A family as OpenMetrics, without the end marker.
pub fn all(snapshot: &Arc<Snapshot>, part: usize) -> String {
    written(snapshot, part, What::All)
}

/// The header of a family as OpenMetrics.
pub fn header(snapshot: &Arc<Snapshot>, part: usize) -> String {
    written(snapshot, part, What::Header)
}

/// Details that are kept together, about.
const PIECE: usize = 64;

/// Series of a family that are written and kept together.
pub struct Piece {
    content: Arc<Content>,
    /// Tells it from the others of its stretch.
    begins: (Arc<str>, usize, String),
}

#[derive(Debug)]
enum Content {
    Namespaces(Shelf),
    Subjects(Vec<Detailed<SubjectDetail>>),
    Workloads(Vec<Detailed<WorkloadDetail>>),
}

/// What pieces are cut from.
#[derive(Clone, Copy)]
pub enum Whence<'a> {
    /// A stretch of namespaces.
    Stretch(&'a Shelf),
    /// Details within the limit.
    Limited(&'a Judged),
}

/// Is the family one of details?
pub fn of_details(part: usize) -> bool {
    let of = PARTS[part].by_namespace.as_ref();
    of.is_some_and(|of| of.details.is_some())
}

/// Cuts details, if they are many, before names that look like one that begins a piece, whatever comes before: one
/// that comes or goes leaves all other pieces as they were.
fn cut<'a, T: Clone + 'a>(
    details: impl Iterator<Item = (&'a Arc<str>, &'a T)>,
    name: impl Fn(&T) -> (usize, &str),
    content: impl Fn(Vec<Detailed<T>>) -> Content,
) -> Vec<Piece> {
    // nobody can choose names that make one piece of all, or a piece of each
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    let begins = |d: &T| HASHER.hash_one(name(d)).is_multiple_of(PIECE as u64);
    let details: Vec<(&Arc<str>, &T)> = details.collect();
    let many = details.len() > 4 * PIECE;
    let pieces = details.chunk_by(|_, (_, next)| !(many && begins(next)));
    // where there is nothing, that is a piece too
    let nothing = details.is_empty().then_some(&[][..]);
    let piece = |some: &[(&Arc<str>, &T)]| {
        let first = some.first().filter(|_| many).map(|(ns, d)| {
            let (kind, name) = name(d);
            (Arc::clone(ns), kind, name.to_owned())
        });
        let some = some.iter().map(|(ns, d)| (Arc::clone(ns), T::clone(d)));
        Piece {
            begins: first.unwrap_or_default(),
            content: Arc::new(content(some.collect())),
        }
    };
    pieces.chain(nothing).map(piece).collect()
}

/// The pieces of a family, in the order of its series.
pub fn pieces(part: usize, whence: Whence<'_>) -> Vec<Piece> {
    fn subject(d: &SubjectDetail) -> (usize, &str) {
        (d.kind, &d.name)
    }
    fn workload(d: &WorkloadDetail) -> (usize, &str) {
        (0, &d.name)
    }
    let of = PARTS[part].by_namespace.as_ref();
    match (of.and_then(|of| of.details), whence) {
        (None, Whence::Stretch(shelf)) => vec![Piece {
            content: Arc::new(Content::Namespaces(shelf.clone())),
            begins: Default::default(),
        }],
        (None, Whence::Limited(_)) => Vec::new(),
        (Some(Of::Subjects), Whence::Stretch(shelf)) => {
            let all = shelf.iter();
            let all = all.flat_map(|(ns, b)| b.subject_details.iter().map(move |d| (ns, d)));
            cut(all, subject, Content::Subjects)
        }
        (Some(Of::Subjects), Whence::Limited(judged)) => {
            let all = judged.subjects().iter().map(|(ns, d)| (ns, d));
            cut(all, subject, Content::Subjects)
        }
        (Some(Of::Workloads), Whence::Stretch(shelf)) => {
            let all = shelf.iter();
            let all = all.flat_map(|(ns, b)| b.workload_details.iter().map(move |d| (ns, d)));
            cut(all, workload, Content::Workloads)
        }
        (Some(Of::Workloads), Whence::Limited(judged)) => {
            let all = judged.workloads().iter().map(|(ns, d)| (ns, d));
            cut(all, workload, Content::Workloads)
        }
    }
}

/// Of each piece as it is now: the one with the same series that there was before, by its place.
pub fn stays(part: usize, before: Whence<'_>, now: Whence<'_>) -> Vec<Option<usize>> {
    let before = pieces(part, before).into_iter().enumerate();
    let before = before.map(|(at, piece)| (piece.begins, (at, piece.content)));
    let before: HashMap<_, _> = before.collect();
    let now = pieces(part, now).into_iter();
    let stays = now.map(|piece| {
        let (at, was) = before.get(&piece.begins)?;
        reads_the_same(part, was, &piece.content).then_some(*at)
    });
    stays.collect()
}

fn reads_the_same(part: usize, a: &Content, b: &Content) -> bool {
    match (a, b) {
        (Content::Namespaces(a), Content::Namespaces(b)) => {
            let of = PARTS[part].by_namespace.as_ref();
            let same = |a, b| of.is_some_and(|of| Arc::ptr_eq(a, b) || (of.same)(a, b));
            let mut pairs = a.iter().zip(&**b);
            a.len() == b.len() && pairs.all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        (Content::Subjects(a), Content::Subjects(b)) => a == b,
        (Content::Workloads(a), Content::Workloads(b)) => a == b,
        _ => false,
    }
}

/// The series of a piece; they read the same in both formats.
pub fn piece(snapshot: &Arc<Snapshot>, part: usize, piece: &Piece) -> String {
    let mut text = written(snapshot, part, What::Some(piece.content.clone()));
    let header: usize = text
        .split_inclusive('\n')
        .take_while(|line| line.starts_with('#'))
        .map(str::len)
        .sum();
    text.drain(..header);
    text
}

/// The family reads the same in both as a whole.
pub fn same(part: usize, before: &Judged, now: &Judged) -> bool {
    let whole = PARTS[part].whole.as_ref();
    whole.is_some_and(|whole| (whole.same)(before, now))
}

/// The judgement as OpenMetrics, without the end marker.
pub fn whole(snapshot: &Arc<Snapshot>) -> String {
    (0..JUDGEMENT).map(|part| all(snapshot, part)).collect()
}
