//! The body of `/metrics`.
//!
//! RBAC changes rarely and is scraped often, so what is written of the judgement, and what is compressed of it,
//! is kept until what it is made of moves: of most families the text of a stretch of namespaces at a time, as of
//! thousands of namespaces one has moved between two scrapes. It is kept in the form that was asked for alone:
//! whoever scrapes compressed, as Prometheus does, has no text of megabytes lie about. The exporter's own
//! families change with every scrape; they are small, and follow as a last part. The compressed parts are
//! blocks of one gzip member: several members would be a gzip stream too (RFC 1952 §2.2), of which curl and
//! others read the first alone, without a word.
//!
//! An answer is the parts themselves, and a copy of the small ones alone: however slow a client, what is large is
//! there once. And a thousand clients that ask in the same moment get the same answer, own families and all.

use super::metrics::judgement::{self, JUDGEMENT, Whence};
use super::metrics::{self, About, Work};
use super::negotiate::{Format, open_metrics_to_text};
use crate::ledger::{Judged, Shelf, Snapshot};
use bytes::Bytes;
use flate2::{Compression, Crc, write::DeflateEncoder};
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends an OpenMetrics exposition.
const END: &str = "# EOF\n";

/// A gzip header without a name or a time, of the quickest compression, on no system in particular.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];
/// The last block of a deflate stream, empty.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// How long an answer is given again while its snapshot stands. Nobody scrapes as often; a crowd does.
const MOMENT: Duration = Duration::from_millis(10);

/// A piece below this size is copied beside its neighbours: a write to the kernel costs more.
const SMALL: usize = 16 << 10;

/// A part of the answer: its text, or deflate blocks that end on a whole byte, with the checksum of the
/// text.
#[derive(Clone, Debug)]
struct Part {
    pieces: Vec<Bytes>,
    sum: Arc<Crc>,
}

impl Part {
    fn plain(text: String) -> Part {
        Part {
            pieces: vec![text.into_boxed_str().into_boxed_bytes().into()],
            sum: Arc::default(),
        }
    }

    /// Of parts that follow each other.
    fn of(parts: &[Part]) -> Part {
        let mut sum = Crc::new();
        parts.iter().for_each(|part| sum.combine(&part.sum));
        let pieces = parts.iter().flat_map(|part| part.pieces.iter().cloned());
        Part {
            pieces: in_pieces(pieces),
            sum: Arc::new(sum),
        }
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
    if !small.is_empty() {
        pieces.push(small.into_boxed_slice().into());
    }
    pieces
}

/// Compresses part by part; to begin with one is dear.
struct Packer(DeflateEncoder<Vec<u8>>);

impl Default for Packer {
    fn default() -> Packer {
        Packer(DeflateEncoder::new(Vec::new(), Compression::fast()))
    }
}

impl Packer {
    fn pack(&mut self, text: &[&[u8]]) -> Part {
        let mut sum = Crc::new();
        for piece in text {
            sum.update(piece);
            self.0.write_all(piece).expect("a Vec takes every write");
        }
        self.0.flush().expect("a Vec takes every write");
        let packed = std::mem::take(self.0.get_mut());
        // what would end the stream goes with what was there
        self.0.reset(Vec::new()).expect("a Vec takes every write");
        Part {
            pieces: vec![packed.into_boxed_slice().into()],
            sum: Arc::new(sum),
        }
    }
}

/// The forms of an answer: two formats, plain and compressed.
const FORMS: usize = 4;

/// The place of a form.
fn form(format: Format, compressed: bool) -> usize {
    2 * usize::from(format == Format::Text) + usize::from(compressed)
}

/// A piece, plain and compressed.
type Written = [Option<Part>; 2];

/// A shelf of namespaces.
#[derive(Debug)]
struct Stretch {
    of: Shelf,
    /// By family and piece; plain and compressed, as far as they were asked for. Both formats read the same.
    written: Vec<Vec<Written>>,
}

impl Stretch {
    fn new(of: Shelf) -> Stretch {
        Stretch {
            of,
            written: vec![Vec::new(); JUDGEMENT],
        }
    }
}

/// Keeps of a family what reads the same now; is that all of it?
fn follow(written: &mut Vec<Written>, part: usize, before: Whence<'_>, now: Whence<'_>) -> bool {
    let stays = judgement::stays(part, before, now);
    let same =
        written.len() == stays.len() && stays.iter().enumerate().all(|(at, was)| *was == Some(at));
    if !same {
        let mut before = std::mem::take(written);
        let stays = stays.into_iter();
        let stays = stays.map(|was| was.and_then(|at| before.get_mut(at)).map(std::mem::take));
        *written = stays.map(Option::unwrap_or_default).collect();
    }
    same
}

/// Writes what is not there, and says what there is.
fn pieces(
    written: &mut Vec<Written>,
    snapshot: &Arc<Snapshot>,
    part: usize,
    whence: Whence<'_>,
    packer: &mut Option<&mut Packer>,
) -> impl Iterator<Item = Part> {
    let form = usize::from(packer.is_some());
    if written.is_empty() || written.iter().any(|piece| piece[form].is_none()) {
        let pieces = judgement::pieces(part, whence);
        written.resize(pieces.len(), [None, None]);
        for (piece, [plain, packed]) in pieces.iter().zip(&mut *written) {
            let anew = || judgement::piece(snapshot, part, piece);
            match (&mut *packer, &plain) {
                (None, _) => plain.get_or_insert_with(|| Part::plain(anew())),
                (Some(packer), plain) => packed.get_or_insert_with(|| match plain {
                    Some(plain) => packer.pack(&[&plain.pieces[0]]),
                    None => packer.pack(&[anew().as_bytes()]),
                }),
            };
        }
    }
    written.iter().filter_map(move |piece| piece[form].clone())
}

/// What is kept of the answers.
#[derive(Debug, Default)]
struct Kept {
    of: Option<Arc<Judged>>,
    /// The families of that judgement in the forms that were asked for.
    families: [[Option<Part>; FORMS]; JUDGEMENT],
    /// Which of them are written by namespaces.
    by_namespaces: [bool; JUDGEMENT],
    stretches: Vec<Stretch>,
    /// Families of details of which the limit leaves some out.
    limited: [Vec<Written>; JUDGEMENT],
    answers: Answers,
}

/// The answers of one moment.
#[derive(Debug, Default)]
struct Answers {
    of: Option<(Arc<Snapshot>, Instant)>,
    forms: [Option<Vec<Bytes>>; FORMS],
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
        let mut packer = compressed.then(Packer::default);
        let mut parts = kept.judgement(snapshot, format, &mut packer);
        let mut own = metrics::health(snapshot, &self.about, &self.work);
        own = match format {
            Format::OpenMetrics => own + END,
            Format::Text => open_metrics_to_text(&own),
        };
        parts.push(match &mut packer {
            Some(packer) => packer.pack(&[own.as_bytes()]),
            None => Part::plain(own),
        });
        let whole = Part::of(&parts);
        let answer = match compressed {
            true => in_pieces(member(whole)),
            false => whole.pieces,
        };
        kept.answers.form(snapshot, form).insert(answer).clone()
    }
}

/// A gzip member of these blocks.
fn member(blocks: Part) -> impl Iterator<Item = Bytes> {
    let head = Bytes::from_static(&HEADER);
    let mut end = LAST_BLOCK.to_vec();
    end.extend(blocks.sum.sum().to_le_bytes());
    end.extend(blocks.sum.amount().to_le_bytes());
    let blocks = blocks.pieces.into_iter();
    std::iter::once(head).chain(blocks).chain([end.into()])
}

impl Kept {
    /// Forgets what has moved since.
    fn follow(&mut self, now: &Arc<Judged>) {
        let before = match self.of.replace(now.clone()) {
            Some(before) if Arc::ptr_eq(&before, now) => return,
            before => before,
        };
        let by_namespaces = judgement::by_namespaces(now);
        let mut same = by_namespaces;
        let known = std::mem::take(&mut self.stretches);
        let mut same_places = known.len() == now.namespaces.shelves().len();
        // by their first names; one that begins with another is written anew
        let known = known.into_iter().enumerate();
        let mut known: HashMap<Arc<str>, (usize, Stretch)> = known
            .map(|(place, stretch)| (stretch.of[0].0.clone(), (place, stretch)))
            .collect();
        for (place, shelf) in now.namespaces.shelves().iter().enumerate() {
            let Some((was, mut stretch)) = known.remove(&shelf[0].0) else {
                same_places = false;
                self.stretches.push(Stretch::new(shelf.clone()));
                continue;
            };
            same_places &= was == place;
            if !Arc::ptr_eq(&stretch.of, shelf) {
                let (was, is) = (Whence::Stretch(&stretch.of), Whence::Stretch(shelf));
                for (part, same) in same.iter_mut().enumerate() {
                    *same &= follow(&mut stretch.written[part], part, was, is);
                }
                stretch.of = shelf.clone();
            }
            self.stretches.push(stretch);
        }
        for (part, family) in self.families.iter_mut().enumerate() {
            let stays = match by_namespaces[part] {
                true => {
                    self.limited[part].clear();
                    self.by_namespaces[part] && same_places && same[part]
                }
                false => {
                    let before = before.as_ref().filter(|_| !self.by_namespaces[part]);
                    let stays = before.is_some_and(|b| judgement::same(part, b, now));
                    let limited = &mut self.limited[part];
                    match before {
                        Some(before) if !stays => {
                            let (was, is) = (Whence::Limited(before), Whence::Limited(now));
                            follow(limited, part, was, is);
                        }
                        Some(_) => {}
                        None => limited.clear(),
                    }
                    stays
                }
            };
            if !stays {
                *family = Default::default();
            }
        }
        self.by_namespaces = by_namespaces;
    }

    /// The families in a form; `packer` where it is a compressed one.
    fn judgement(
        &mut self,
        snapshot: &Arc<Snapshot>,
        format: Format,
        packer: &mut Option<Packer>,
    ) -> Vec<Part> {
        self.follow(&snapshot.judged);
        let form = form(format, packer.is_some());
        let in_format = |text: String| match format {
            Format::OpenMetrics => text,
            Format::Text => open_metrics_to_text(&text),
        };
        let plain = form & !1;
        (0..JUDGEMENT)
            .map(|part| {
                if let Some(written) = &self.families[part][form] {
                    return written.clone();
                }
                let in_pieces = self.by_namespaces[part] || judgement::of_details(part);
                let written = match (packer.as_mut(), in_pieces) {
                    (packer, true) => {
                        let header = in_format(judgement::header(snapshot, part));
                        self.in_pieces(snapshot, part, header, packer)
                    }
                    (None, false) => Part::plain(in_format(judgement::all(snapshot, part))),
                    (Some(packer), false) => match &self.families[part][plain] {
                        Some(Part { pieces, .. }) => {
                            let pieces: Vec<&[u8]> = pieces.iter().map(|p| &**p).collect();
                            packer.pack(&pieces)
                        }
                        None => {
                            let text = in_format(judgement::all(snapshot, part));
                            packer.pack(&[text.as_bytes()])
                        }
                    },
                };
                self.families[part][form].insert(written).clone()
            })
            .collect()
    }

    /// A family whose series are written piece by piece.
    fn in_pieces(
        &mut self,
        snapshot: &Arc<Snapshot>,
        part: usize,
        header: String,
        mut packer: Option<&mut Packer>,
    ) -> Part {
        let mut parts = vec![match &mut packer {
            Some(packer) => packer.pack(&[header.as_bytes()]),
            None => Part::plain(header),
        }];
        let packer = &mut packer;
        if self.by_namespaces[part] {
            for Stretch { of, written } in &mut self.stretches {
                let (written, of) = (&mut written[part], Whence::Stretch(of));
                parts.extend(pieces(written, snapshot, part, of, packer));
            }
        } else {
            let (written, of) = (&mut self.limited[part], Whence::Limited(&snapshot.judged));
            parts.extend(pieces(written, snapshot, part, of, packer));
        }
        Part::of(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{AcceptedRisk, NamespaceBlock, RuleCount, SubjectDetail, WorkloadDetail};
    use crate::risk::{Priority, Status};
    use flate2::read::GzDecoder;
    use std::collections::BTreeMap;
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
            subject_details: [subject(since)].into_iter().collect(),
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
            ("wildcards", &|b| level(&mut b.wildcard_rules)),
            ("roles", &|b| level(&mut b.roles[1])),
            ("bindings", &|b| level(&mut b.bindings)),
            ("dangling", &|b| b.dangling[1] += 1),
        ];
        let mut worlds: Vec<(&str, Judged)> = in_a_block
            .iter()
            .map(|(what, change)| {
                let mut judged = world();
                let mut block = NamespaceBlock::default();
                change(&mut block);
                judged.namespaces.put((Arc::from("a"), Arc::new(block)));
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
                j.namespaces.put((Arc::from("c"), Arc::default()));
            }),
            with("another namespace", &|j| {
                j.namespaces.remove("b");
                j.namespaces.put((Arc::from("x"), Arc::default()));
            }),
            with("since", &|j| {
                j.namespaces.put((Arc::from("a"), detailed(8, &["one"])));
            }),
            with("workload", &|j| {
                j.namespaces
                    .put((Arc::from("a"), detailed(7, &["one", "two"])));
            }),
            with("dropped", &|j| j.detail_limit = 0),
            with("rules", &|j| {
                Arc::make_mut(&mut j.rules).push(RuleCount {
                    rule: "secrets-get".into(),
                    priority: Priority::High,
                    status: Status::Open,
                    subjects: 2,
                });
            }),
            with("accepted", &|j| {
                Arc::make_mut(&mut j.accepted).push(AcceptedRisk {
                    id: "x".into(),
                    owner: "y".into(),
                    expires: 9,
                });
            }),
            with("escalations", &|j| {
                Arc::make_mut(&mut j.escalations).push((Arc::from("a"), Priority::High, 4));
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

    /// Whoever asks in the same moment gets the same bytes; with another snapshot, or later, others.
    #[test]
    fn a_crowd_gets_one_answer() {
        let renderer = renderer();
        let now = snapshot(1, world());
        let ask = |of| renderer.metrics(of, Format::Text, true)[0].as_ptr();
        let began = Instant::now();
        let (first, second) = (ask(&now), ask(&now));
        assert!(first == second || began.elapsed() >= MOMENT);
        let next = snapshot(2, world());
        assert_ne!(ask(&next), first, "its own families tell of the snapshot");
        std::thread::sleep(MOMENT);
        let before = renderer.metrics(&next, Format::Text, true);
        std::thread::sleep(MOMENT);
        let after = renderer.metrics(&next, Format::Text, true);
        assert_ne!(before[0].as_ptr(), after[0].as_ptr(), "time has passed");
    }

    /// The texts of stretches and families that are kept, by where they lie. While somebody holds them nothing else
    /// comes to lie there.
    fn kept(renderer: &Renderer) -> BTreeMap<*const u8, Bytes> {
        let kept = renderer.kept.lock().expect("nobody else");
        let stretches = kept
            .stretches
            .iter()
            .flat_map(|s| s.written.iter().flatten());
        let limited = kept.limited.iter().flatten();
        let families = kept.families.iter().flatten();
        let all = stretches.chain(limited).flatten().chain(families).flatten();
        let pieces = all.flat_map(|part| part.pieces.iter());
        let at = |piece: &Bytes| (piece.as_ptr(), piece.clone());
        pieces.map(at).collect()
    }

    fn written_anew(
        after: &BTreeMap<*const u8, Bytes>,
        before: &BTreeMap<*const u8, Bytes>,
    ) -> usize {
        after.keys().filter(|at| !before.contains_key(*at)).count()
    }

    #[test]
    fn only_what_moved_is_written_anew() {
        let mut judged = world();
        for n in 0..1000 {
            let name = format!("n{n:04}");
            judged.namespaces.put((Arc::from(name), Arc::default()));
        }
        let renderer = renderer();
        texts(&renderer, &snapshot(1, judged.clone()));
        let before = kept(&renderer);
        let block = NamespaceBlock {
            pods: 1,
            ..NamespaceBlock::default()
        };
        judged.namespaces.put((Arc::from("n0500"), Arc::new(block)));
        texts(&renderer, &snapshot(2, judged));
        let anew = written_anew(&kept(&renderer), &before);
        let shelves = before.len() / JUDGEMENT;
        assert!(shelves > 20, "{shelves}");
        // of the family of pods one stretch, plain and packed, and the whole in four forms
        assert!((2..=8).contains(&anew), "{anew} of {}", before.len());
    }

    /// Users and groups are all in one namespace: those that did not move are not written again, and what is sent
    /// is what somebody writes who has kept nothing; where the limit leaves some out, too.
    #[test]
    fn details_of_one_namespace_are_written_a_piece_at_a_time() {
        let named = |n: u32, since: u32| SubjectDetail {
            kind: 2,
            name: format!("user-{n:04}").into(),
            ..subject(since)
        };
        let changes: [fn(&mut Vec<SubjectDetail>); 4] = [
            |details| details[1000].since = 8,
            |details| drop(details.remove(500)),
            |details| details[700].name = Arc::from("user-0700a"),
            |details| details.insert(0, details[0].clone()),
        ];
        for limit in [9999, 1900] {
            let mut details: Vec<SubjectDetail> = (0..2000).map(|n| named(n, 7)).collect();
            let judged = |details: &[SubjectDetail]| {
                let mut judged = Judged {
                    detail_limit: limit,
                    ..world()
                };
                let block = NamespaceBlock {
                    subject_details: details.iter().cloned().collect(),
                    ..NamespaceBlock::default()
                };
                judged.namespaces.put((Arc::from(""), Arc::new(block)));
                judged
            };
            let followed = renderer();
            texts(&followed, &snapshot(1, judged(&details)));
            for (generation, change) in (2..).zip(changes) {
                change(&mut details);
                let before = kept(&followed);
                let now = snapshot(generation, judged(&details));
                assert_eq!(texts(&followed, &now), texts(&renderer(), &now));
                let after = kept(&followed);
                let anew = written_anew(&after, &before);
                // three pieces at most, as one that comes may push another beyond the limit, plain and packed; the
                // whole in four forms, of which the plain ones are some pieces each; how many are left out
                assert!((3..=24).contains(&anew), "{anew} of {}", after.len());
                assert!(after.len() > JUDGEMENT + 20, "{}", after.len());
            }
        }
    }
}
