//! What to remove, so that a subject falls below its priority.

use super::super::Ledger;
use super::super::rows::SubjectKey;
use super::super::table::RowId;
use super::{Asked, Grant};
use crate::object::Subject;
use crate::rbac::implicit_groups;
use crate::risk::Priority;

/// Up to this many bindings the smallest cut is looked for exactly.
const EXACT_CUT: usize = 12;

impl Ledger {
    /// The smallest set of bindings whose removal brings the subject below its priority: exact for up
    /// to [`EXACT_CUT`] candidates, greedy beyond.
    pub(super) fn cut(
        &self,
        id: RowId,
        subject: &Subject,
        bindings: &[(RowId, bool)],
        asked: &Asked,
    ) -> Vec<(Grant, Subject)> {
        let Some(row) = self.subjects.get(id) else {
            return Vec::new();
        };
        let priority = row.effective;
        if priority == Priority::None {
            return Vec::new();
        }
        let reaches = |keep: &[(RowId, bool)]| {
            let (judged, _) = self.judgement_with(subject, keep, false);
            self.level_with(id, &judged, asked) >= priority
        };
        if reaches(&[]) {
            return Vec::new(); // nothing that RBAC holds makes it what it is
        }
        let mut matters: Vec<(RowId, bool)> = bindings
            .iter()
            .filter(|(b, _)| {
                self.role_of(*b)
                    .and_then(|r| self.roles.get(r))
                    .is_some_and(|r| !r.reaches.is_empty())
                    || self.listed_pair(*b, subject).is_none()
            })
            .copied()
            .collect();
        // of several smallest sets, always the same one
        matters.sort_by(|a, b| {
            let at = |id: RowId| {
                let (namespace, name) = self.bindings.key(id);
                (self.names.text(namespace), self.names.text(name))
            };
            at(a.0).cmp(&at(b.0))
        });
        // what reaches the priority alone must go in any case
        let (mut gone, mut rest): (Vec<_>, Vec<_>) = matters
            .iter()
            .partition(|b| reaches(std::slice::from_ref(b)));
        if reaches(&rest) {
            if rest.len() <= EXACT_CUT {
                let smallest = (1u32..1 << rest.len())
                    .filter(|mask| {
                        let keep: Vec<_> = (0..rest.len())
                            .filter(|i| mask & (1 << i) == 0)
                            .map(|i| rest[i])
                            .collect();
                        !reaches(&keep)
                    })
                    .min_by_key(|mask| mask.count_ones());
                if let Some(mask) = smallest {
                    gone.extend(
                        (0..rest.len())
                            .filter(|i| mask & (1 << i) != 0)
                            .map(|i| rest[i]),
                    );
                }
            } else {
                while reaches(&rest) && !rest.is_empty() {
                    let at = (0..rest.len())
                        .min_by_key(|i| {
                            let mut keep = rest.clone();
                            keep.remove(*i);
                            let (judged, _) = self.judgement_with(subject, &keep, false);
                            let level = self.level_with(id, &judged, asked);
                            (level, judged.findings.len() + judged.edges.len())
                        })
                        .unwrap_or(0);
                    gone.push(rest.remove(at));
                }
            }
        }
        let mut out: Vec<(Grant, Subject)> = gone
            .iter()
            .filter_map(|(b, direct)| {
                let named = if *direct {
                    subject.clone()
                } else {
                    self.named_group(*b, subject)?
                };
                Some((self.grant(*b)?, named))
            })
            .collect();
        out.sort();
        out
    }

    /// The implicit group of the subject that the binding names.
    fn named_group(&self, binding: RowId, subject: &Subject) -> Option<Subject> {
        let row = self.bindings.get(binding)?;
        implicit_groups(subject).into_iter().find_map(|name| {
            let key = SubjectKey::Group(self.names.get(&name)?);
            row.subjects
                .contains(&key)
                .then_some(Subject::Group { name })
        })
    }
}
