//! The families of the judgement: what their series are, and what they are made of.
//!
//! Most of them are a matter of each namespace by itself. They are written, and kept by whoever serves them, a
//! stretch of namespaces at a time: of thousands of namespaces one has moved between two scrapes. Details of a
//! namespace that has many, as users and groups are all in `""`, are cut into pieces of the same size.

use super::{
    ACCEPTED_EXPIRY, AUTOMOUNT_PODS, BINDING_KINDS, DANGLING_BINDINGS, DETAIL_DROPPED, ESCALATIONS,
    Family, HOT_PODS, HOT_WORKLOADS, IDLE_ACCOUNTS, NEEDLESS_TOKEN_PODS, NODE_ESCAPE_PODS, PODS,
    RISKY_BINDINGS, RISKY_ROLES, RISKY_SUBJECTS, ROLE_KINDS, RULE_SUBJECTS, Result, SECRET_PODS,
    SINCE, SUBJECT_KINDS, SUBJECTS, Series, WILDCARD_RULES, Zero, encode, family, zero,
};
use crate::ledger::{Judged, NamespaceBlock, Shelf, Snapshot, SubjectDetail, WorkloadDetail};
use crate::risk::{Priority, Status};
use foldhash::fast::RandomState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

type Block = (Arc<str>, Arc<NamespaceBlock>);

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
    /// Of families of details.
    cut: Option<Cut>,
}

/// How the details of a namespace are cut.
struct Cut {
    /// By what each of them is called.
    names: fn(&NamespaceBlock) -> Vec<(usize, &str)>,
    /// A block with some of them, and nothing else.
    some: fn(&NamespaceBlock, Range<usize>) -> NamespaceBlock,
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
            cut: None,
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
            cut: Some(Cut {
                names: |b| {
                    let details = b.subject_details.iter();
                    details.map(|d| (d.kind, &*d.name)).collect()
                },
                some: |b, range| NamespaceBlock {
                    subject_details: b.subject_details[range].to_vec(),
                    ..NamespaceBlock::default()
                },
            }),
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
            cut: Some(Cut {
                names: |b| {
                    let details = b.workload_details.iter();
                    details.map(|d| (0, &*d.name)).collect()
                },
                some: |b, range| NamespaceBlock {
                    workload_details: b.workload_details[range].to_vec(),
                    ..NamespaceBlock::default()
                },
            }),
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
            for (kind, name) in ROLE_KINDS.iter().enumerate() {
                let zero = zero((kind == 1) == ns.is_empty());
                s.levels(&[ns, name], &b.wildcard_rules[kind], zero, true)?;
            }
            Ok(())
        },
        |a, b| a.wildcard_rules == b.wildcard_rules,
    ),
    by_namespace(
        &RISKY_ROLES,
        |ns, b, s| {
            for (kind, name) in ROLE_KINDS.iter().enumerate() {
                for (bound, word) in ["false", "true"].into_iter().enumerate() {
                    for p in Priority::RISKY {
                        for status in Status::ALL {
                            let n = b.roles[kind][bound][p as usize][status as usize];
                            let known = ns.is_empty() && kind == 1 && status == Status::Open;
                            if n > 0 || known {
                                let values = [ns, name, p.as_str(), word, status.as_str()];
                                s.put(&values, u64::from(n))?;
                            }
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
            for (kind, name) in BINDING_KINDS.iter().enumerate() {
                let zero = zero(ns.is_empty() && kind == 1);
                s.levels(&[ns, name], &b.bindings[kind], zero, false)?;
            }
            Ok(())
        },
        |a, b| a.bindings == b.bindings,
    ),
    by_namespace(
        &DANGLING_BINDINGS,
        |ns, b, s| {
            for (kind, name) in BINDING_KINDS.iter().enumerate() {
                let reasons = ["role-missing", "serviceaccount-missing"];
                for (i, reason) in reasons.into_iter().enumerate() {
                    let n = b.dangling[kind][i];
                    if n > 0 || (ns.is_empty() && kind == 1) {
                        s.put(&[ns, name, reason], u64::from(n))?;
                    }
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
    /// The header, and the series of some namespaces.
    Some(Arc<Shelf>),
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
            What::Some(shelf) => {
                let of = part.by_namespace.as_ref();
                let mut blocks = of
                    .into_iter()
                    .flat_map(|of| shelf.iter().map(move |b| (of, b)));
                blocks.try_for_each(|(of, (ns, block))| (of.write)(ns, block, s))
            }
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

/// The series of a piece; they read the same in both formats.
pub fn piece(snapshot: &Arc<Snapshot>, part: usize, piece: &Piece) -> String {
    let mut text = written(snapshot, part, What::Some(piece.of.clone()));
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

/// Details that are kept together, about: a piece ends before a name that looks like one that begins one, whatever
/// comes before it, so that one that comes or goes leaves all other pieces as they were.
const PIECE: usize = 64;

/// Where details of these names are cut; nowhere, as long as there are few.
fn cuts(names: &[(usize, &str)]) -> Vec<usize> {
    // nobody can choose names that make one piece of all, or a piece of each
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    let begins = |name: &str| HASHER.hash_one(name).is_multiple_of(PIECE as u64);
    match names.len() > 2 * PIECE {
        true => (1..names.len()).filter(|at| begins(names[*at].1)).collect(),
        false => Vec::new(),
    }
}

/// A stretch, or the part of it that is written and kept by itself.
pub struct Piece {
    of: Arc<Shelf>,
    /// The namespace and the name with which it begins.
    begins: (Arc<str>, (usize, String)),
}

/// The pieces of a stretch in a family, one at least.
pub fn pieces(part: usize, shelf: &Arc<Shelf>) -> Vec<Piece> {
    let whole = |shelf: Arc<Shelf>| {
        let begins = (shelf[0].0.clone(), (0, String::new()));
        Piece { of: shelf, begins }
    };
    let of = PARTS[part].by_namespace.as_ref();
    let Some(cut) = of.and_then(|of| of.cut.as_ref()) else {
        return vec![whole(shelf.clone())];
    };
    let (mut pieces, mut short) = (Vec::new(), Vec::new());
    for (ns, block) in &**shelf {
        let names = (cut.names)(block);
        let cuts = cuts(&names);
        if cuts.is_empty() {
            short.push((ns.clone(), block.clone()));
            continue;
        }
        if !short.is_empty() {
            pieces.push(whole(Arc::new(std::mem::take(&mut short))));
        }
        let mut from = 0;
        for to in cuts.into_iter().chain([names.len()]) {
            let (kind, name) = names[from];
            let some = (cut.some)(block, from..to);
            pieces.push(Piece {
                of: Arc::new(vec![(ns.clone(), Arc::new(some))]),
                begins: (ns.clone(), (kind, name.to_owned())),
            });
            from = to;
        }
    }
    if !short.is_empty() {
        pieces.push(whole(Arc::new(short)));
    }
    pieces
}

/// Of each piece of a stretch as it is now: the piece with the same series that it had before, by its place there.
pub fn stays(part: usize, before: &Arc<Shelf>, now: &Arc<Shelf>) -> Vec<Option<usize>> {
    let Some(of) = &PARTS[part].by_namespace else {
        return Vec::new();
    };
    let moved = |(a, b): (&Block, &Block)| !Arc::ptr_eq(&a.1, &b.1) && !(of.same)(&a.1, &b.1);
    let same = |a: &Shelf, b: &Shelf| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| a.0 == b.0)
            && !a.iter().zip(b).any(moved)
    };
    let now = pieces(part, now);
    let before = pieces(part, before).into_iter().enumerate();
    let before: HashMap<_, _> = before
        .map(|(at, piece)| (piece.begins, (at, piece.of)))
        .collect();
    let stays = now.iter().map(|piece| {
        let (at, was) = before.get(&piece.begins)?;
        same(was, &piece.of).then_some(*at)
    });
    stays.collect()
}

/// The judgement as OpenMetrics, without the end marker.
pub fn whole(snapshot: &Arc<Snapshot>) -> String {
    (0..JUDGEMENT).map(|part| all(snapshot, part)).collect()
}
