//! The body of `/metrics`.
//!
//! RBAC changes rarely and is scraped often, so each family of the judgement is written, and compressed, when
//! it is first asked for after what it is made of has moved, and kept in the form that was asked for alone:
//! whoever scrapes compressed, as Prometheus does, has no text of megabytes lie about. The exporter's own
//! families change with every scrape; they are small, and follow as a last part. The compressed parts are
//! blocks of one gzip member: several members would be a gzip stream too (RFC 1952 §2.2), of which curl and
//! others read the first alone, without a word.
//!
//! An answer is the parts themselves, not a copy of them: it costs a client, however slow, nothing but its own
//! last part. And a thousand clients that ask in the same moment get the same answer, own families and all.

use super::metrics::{self, About, JUDGEMENT, Work, unchanged_parts};
use super::negotiate::{Format, open_metrics_to_text, pieces_of_text};
use crate::ledger::{Judged, Snapshot};
use bytes::Bytes;
use flate2::{Compression, Crc, write::DeflateEncoder};
use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends an OpenMetrics exposition.
const END: &str = "# EOF\n";

/// A gzip header without a name or a time, of the quickest compression, on no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// The last block of a deflate stream, empty.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// A part of the answer: its text, or deflate blocks that end on a whole byte, with the checksum of the
/// text.
#[derive(Clone, Debug)]
struct Part {
    bytes: Bytes,
    sum: Arc<Crc>,
}

impl Part {
    fn plain(text: String) -> Part {
        Part {
            bytes: text.into(),
            sum: Arc::default(),
        }
    }

    fn packed(text: &[u8]) -> Part {
        let mut packer = Packer::default();
        packer.pack(text);
        packer.finish()
    }

    /// What is written as OpenMetrics, in this format; the text of it is never there whole.
    fn packed_anew(format: Format, write: impl FnOnce(&mut Lines<'_>)) -> Part {
        let mut packer = Packer::default();
        let mut some = String::with_capacity(AT_ONCE);
        let mut pack = |lines: &str| match format {
            Format::OpenMetrics => packer.pack(lines.as_bytes()),
            Format::Text => {
                some.clear();
                pieces_of_text(lines, &mut |piece| some.push_str(piece));
                packer.pack(some.as_bytes());
            }
        };
        let mut lines = Lines {
            some: String::with_capacity(AT_ONCE),
            put: &mut pack,
        };
        write(&mut lines);
        lines.finish();
        packer.finish()
    }
}

/// Hands on what is written to it, whole lines at a time. The first lines, a family's header, stay together.
struct Lines<'a> {
    some: String,
    put: &'a mut dyn FnMut(&str),
}

impl Lines<'_> {
    fn finish(self) {
        (self.put)(&self.some);
    }
}

impl fmt::Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.some.len() + text.len() > AT_ONCE
            && let Some(end) = self.some.rfind('\n')
        {
            (self.put)(&self.some[..=end]);
            self.some.drain(..=end);
        }
        self.some.push_str(text);
        Ok(())
    }
}

/// Bytes that are compressed at a time.
const AT_ONCE: usize = 64 << 10;

/// A part on its way.
struct Packer {
    sum: Crc,
    encoder: DeflateEncoder<Vec<u8>>,
}

impl Default for Packer {
    fn default() -> Packer {
        Packer {
            sum: Crc::new(),
            encoder: DeflateEncoder::new(Vec::new(), Compression::fast()),
        }
    }
}

impl Packer {
    fn pack(&mut self, text: &[u8]) {
        self.sum.update(text);
        let written = self.encoder.write_all(text);
        written.expect("a Vec takes every write");
    }

    fn finish(mut self) -> Part {
        self.encoder.flush().expect("a Vec takes every write");
        Part {
            bytes: std::mem::take(self.encoder.get_mut()).into(),
            sum: Arc::new(self.sum),
        }
    }
}

/// A family in the forms that were asked for.
#[derive(Clone, Debug, Default)]
struct Written([Option<Part>; 4]);

/// The place of a form.
fn form(format: Format, compressed: bool) -> usize {
    2 * usize::from(format == Format::Text) + usize::from(compressed)
}

impl Written {
    fn form(&mut self, format: Format, compressed: bool) -> &mut Option<Part> {
        &mut self.0[form(format, compressed)]
    }
}

/// How long an answer is given again while its snapshot stands. Nobody scrapes as often; a crowd does.
const MOMENT: Duration = Duration::from_millis(10);

/// A part below this size is copied beside its neighbours: a write to the kernel costs more.
const SMALL: usize = 16 << 10;

/// What is kept of the answers.
#[derive(Debug, Default)]
struct Kept {
    of: Option<Arc<Judged>>,
    /// The families of that judgement.
    parts: [Written; JUDGEMENT],
    answers: Answers,
}

/// The answers of one moment.
#[derive(Debug, Default)]
struct Answers {
    of: Option<(Arc<Snapshot>, Instant)>,
    forms: [Option<Vec<Bytes>>; 4],
}

impl Answers {
    /// The answer in a form, of this snapshot and moment alone.
    fn form(&mut self, snapshot: &Arc<Snapshot>, form: usize) -> &mut Option<Vec<Bytes>> {
        let same = |(of, at): &(Arc<Snapshot>, Instant)| {
            Arc::ptr_eq(of, snapshot) && at.elapsed() < MOMENT
        };
        if !self.of.as_ref().is_some_and(same) {
            *self = Answers {
                of: Some((snapshot.clone(), Instant::now())),
                ..Answers::default()
            };
        }
        &mut self.forms[form]
    }
}

/// The same bytes in fewer pieces.
fn in_pieces(parts: impl Iterator<Item = Bytes>) -> Vec<Bytes> {
    let (mut pieces, mut small) = (Vec::new(), Vec::new());
    for part in parts {
        if part.len() < SMALL {
            small.extend_from_slice(&part);
            continue;
        }
        if !small.is_empty() {
            pieces.push(std::mem::take(&mut small).into());
        }
        pieces.push(part);
    }
    pieces.push(small.into());
    pieces
}

/// Writes `/metrics` and keeps what did not change.
#[derive(Debug)]
pub struct Renderer {
    about: Arc<About>,
    work: Arc<Work>,
    kept: Mutex<Kept>,
}

impl Renderer {
    /// With what does not come from the ledger.
    pub fn new(about: About, work: Arc<Work>) -> Renderer {
        Renderer {
            about: Arc::new(about),
            work,
            kept: Mutex::default(),
        }
    }

    /// What `/metrics` answers, in pieces that follow each other.
    pub fn metrics(
        &self,
        snapshot: &Arc<Snapshot>,
        format: Format,
        compressed: bool,
    ) -> Vec<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let form = form(format, compressed);
        if let Some(answer) = kept.answers.form(snapshot, form) {
            return answer.clone();
        }
        let mut parts = kept.judgement(snapshot, format, compressed);
        let mut own = metrics::health(snapshot, &self.about, &self.work);
        own = match format {
            Format::OpenMetrics => own + END,
            Format::Text => open_metrics_to_text(&own),
        };
        parts.push(match compressed {
            true => Part::packed(own.as_bytes()),
            false => Part::plain(own),
        });
        let answer = match compressed {
            true => in_pieces(member(parts)),
            false => in_pieces(parts.into_iter().map(|part| part.bytes)),
        };
        kept.answers.form(snapshot, form).insert(answer).clone()
    }
}

/// A gzip member of these parts.
fn member(parts: Vec<Part>) -> impl Iterator<Item = Bytes> {
    let mut sum = Crc::new();
    for part in &parts {
        sum.combine(&part.sum);
    }
    let head = Bytes::from_static(&HEADER);
    let blocks = parts.into_iter().map(|part| part.bytes);
    let mut end = LAST_BLOCK.to_vec();
    end.extend(sum.sum().to_le_bytes());
    end.extend(sum.amount().to_le_bytes());
    std::iter::once(head).chain(blocks).chain([end.into()])
}

impl Kept {
    fn judgement(
        &mut self,
        snapshot: &Arc<Snapshot>,
        format: Format,
        compressed: bool,
    ) -> Vec<Part> {
        let now = &snapshot.judged;
        match &self.of {
            Some(before) if Arc::ptr_eq(before, now) => {}
            before => {
                let same = before
                    .as_ref()
                    .map_or([false; JUDGEMENT], |before| unchanged_parts(before, now));
                for (part, same) in self.parts.iter_mut().zip(same) {
                    if !same {
                        *part = Written::default();
                    }
                }
                self.of = Some(now.clone());
            }
        }
        let parts = self.parts.iter_mut().enumerate();
        parts
            .map(|(i, part)| {
                if let Some(written) = part.form(format, compressed) {
                    return written.clone();
                }
                let anew = || {
                    let mut text = String::new();
                    metrics::judgement_part(snapshot, i, &mut text);
                    text
                };
                let written = match (compressed, part.form(format, false), format) {
                    (true, Some(plain), _) => Part::packed(&plain.bytes),
                    (true, None, _) => Part::packed_anew(format, |lines| {
                        metrics::judgement_part(snapshot, i, lines);
                    }),
                    (false, _, Format::OpenMetrics) => Part::plain(anew()),
                    (false, _, Format::Text) => Part::plain(open_metrics_to_text(&anew())),
                };
                part.form(format, compressed).insert(written).clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{AcceptedRisk, NamespaceBlock, RuleCount, SubjectDetail, WorkloadDetail};
    use crate::risk::{Priority, Status};
    use flate2::read::GzDecoder;
    use std::io::Read as _;

    fn subject(since: u32) -> SubjectDetail {
        SubjectDetail {
            kind: 1,
            name: Arc::from("one"),
            priority: Priority::High,
            status: Status::Open,
            since,
        }
    }

    fn workload(name: &str) -> WorkloadDetail {
        WorkloadDetail {
            kind: Arc::from("Deployment"),
            name: Arc::from(name),
            account: Arc::from("default"),
            priority: Priority::High,
            status: Status::Open,
            pods: 3,
        }
    }

    /// A namespace with these in detail.
    fn detailed(since: u32, workloads: &[&str]) -> Arc<NamespaceBlock> {
        Arc::new(NamespaceBlock {
            subject_details: vec![subject(since)],
            workload_details: workloads.iter().map(|name| workload(name)).collect(),
            ..NamespaceBlock::default()
        })
    }

    fn world() -> Judged {
        let blocks = [
            ("", Arc::default()),
            ("a", detailed(7, &["one"])),
            ("b", Arc::default()),
        ];
        let blocks = blocks.map(|(name, block)| (Arc::from(name), block));
        Judged {
            namespaces: blocks.into_iter().collect(),
            detail_limit: 9,
            ..Judged::default()
        }
    }

    fn snapshot(generation: u64, judged: Judged) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            generation,
            judged: Arc::new(judged),
            synced: true,
            ..Snapshot::default()
        })
    }

    fn renderer() -> Renderer {
        Renderer::new(About::default(), Arc::default())
    }

    /// The judgement's part of what is answered, in every form.
    fn texts(renderer: &Renderer, snapshot: &Arc<Snapshot>) -> [String; 4] {
        let forms = [
            (Format::Text, false),
            (Format::Text, true),
            (Format::OpenMetrics, false),
            (Format::OpenMetrics, true),
        ];
        forms.map(|(format, compressed)| {
            let body = renderer.metrics(snapshot, format, compressed).concat();
            let mut text = String::new();
            if compressed {
                // one member: the first is all that some clients read
                let mut unpacked = GzDecoder::new(&body[..]);
                unpacked
                    .read_to_string(&mut text)
                    .expect("a gzip member of text");
            } else {
                text = String::from_utf8(body).expect("text");
            }
            let end = text
                .find("# HELP rbac_exporter_build")
                .expect("the own families");
            text.truncate(end);
            text
        })
    }

    /// Whatever moves is written anew, in the forms that were asked for before and in those that were not.
    #[test]
    fn what_is_kept_reads_as_if_it_were_written_anew() {
        let level = |levels: &mut crate::ledger::ByLevel| levels[4][0] += 1;
        type Change<'a> = (&'a str, &'a dyn Fn(&mut NamespaceBlock));
        let in_a_block: [Change<'_>; 13] = [
            ("subjects", &|b| b.subjects[1] += 1),
            ("risky", &|b| level(&mut b.risky_subjects[1])),
            ("idle", &|b| level(&mut b.idle_accounts)),
            ("pods", &|b| b.pods += 1),
            ("hot", &|b| level(&mut b.hot_pods)),
            ("automount", &|b| b.automount_pods[3] += 1),
            ("needless", &|b| b.needless_token_pods += 1),
            ("escape", &|b| level(&mut b.node_escape_pods)),
            ("secrets", &|b| b.secret_pods[1] += 1),
            ("wildcards", &|b| level(&mut b.wildcard_rules[0])),
            ("roles", &|b| level(&mut b.roles[0][1])),
            ("bindings", &|b| level(&mut b.bindings[1])),
            ("dangling", &|b| b.dangling[0][1] += 1),
        ];
        let mut worlds: Vec<(&str, Judged)> = in_a_block
            .iter()
            .map(|(what, change)| {
                let mut judged = world();
                let mut block = NamespaceBlock::default();
                change(&mut block);
                judged.namespaces.insert(Arc::from("a"), Arc::new(block));
                (*what, judged)
            })
            .collect();
        let with = |what, change: &dyn Fn(&mut Judged)| {
            let mut judged = world();
            change(&mut judged);
            (what, judged)
        };
        worlds.extend([
            with("a namespace more", &|j| {
                j.namespaces.insert(Arc::from("c"), Arc::default());
            }),
            with("another namespace", &|j| {
                j.namespaces.remove("b");
                j.namespaces.insert(Arc::from("x"), Arc::default());
            }),
            with("since", &|j| {
                j.namespaces.insert(Arc::from("a"), detailed(8, &["one"]));
            }),
            with("workload", &|j| {
                j.namespaces
                    .insert(Arc::from("a"), detailed(7, &["one", "two"]));
            }),
            with("dropped", &|j| j.detail_limit = 0),
            with("rules", &|j| {
                j.rules.push(RuleCount {
                    rule: "secrets-get".into(),
                    priority: Priority::High,
                    status: Status::Open,
                    subjects: 2,
                });
            }),
            with("accepted", &|j| {
                j.accepted.push(AcceptedRisk {
                    id: "x".into(),
                    owner: "y".into(),
                    expires: 9,
                });
            }),
            with("escalations", &|j| {
                j.escalations.push((Arc::from("a"), Priority::High, 4));
            }),
        ]);
        let keeping = renderer();
        let still = snapshot(1, world());
        let before = texts(&keeping, &still);
        for (generation, (what, judged)) in (2..).step_by(2).zip(worlds) {
            let changed = snapshot(generation, judged);
            let new = texts(&renderer(), &changed);
            assert_ne!(new, before, "{what}: it shows");
            assert_eq!(texts(&keeping, &changed), new, "{what}");
            // and back, by another snapshot that says the same
            assert_eq!(
                texts(&keeping, &snapshot(generation + 1, world())),
                before,
                "{what}"
            );
        }
    }

    #[test]
    fn only_what_moved_is_written_anew() {
        let before = world();
        let mut now = world();
        let mut block = NamespaceBlock::default();
        block.pods += 1;
        now.namespaces.insert(Arc::from("b"), Arc::new(block));
        let anew = unchanged_parts(&before, &now)
            .iter()
            .filter(|same| !**same)
            .count();
        assert_eq!(anew, 1, "the family of pods alone");
    }
}
