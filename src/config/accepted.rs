//! `accepted:`, known risks (contract §4).

use super::Accepted;
use crate::located::{Faults, Field, Word, unknown, words};
use crate::object::Subject;
use crate::risk::{Acceptance, AcceptedFinding, Place, Rules, is_id, namespace_fault, priority};
use jiff::civil::{Date, date};

/// The words of an acceptance.
pub const REFERENCE: [Word; 7] = [
    Word {
        word: "id",
        value: "letters, digits, `-` `.` `_` `:`",
        meaning: "Label of `rbac_accepted_risk_expiry_timestamp_seconds`.",
    },
    Word {
        word: "subject",
        value: "`sa:NAMESPACE/NAME`, `user:NAME` or `group:NAME`",
        meaning: "Whose risk it is, exactly.",
    },
    Word {
        word: "findings",
        value: "a list of `RULE@NAMESPACE`, or `RULE@*` for cluster-wide ones",
        meaning: "What is accepted, and with it every escalation that starts there.",
    },
    Word {
        word: "priority",
        value: "`critical`, `high`, `medium` or `low`",
        meaning: "Up to here.",
    },
    Word {
        word: "reason",
        value: "text",
        meaning: "Why.",
    },
    Word {
        word: "owner",
        value: "text",
        meaning: "Who answers for it: label `risk_owner`, and whom the alerts name.",
    },
    Word {
        word: "expires",
        value: "a date, as `2027-03-31`",
        meaning: "The last day, until 24:00 UTC.",
    },
];

pub(super) const KEYS: [&str; 7] = words(&REFERENCE);

const EPOCH: Date = date(1970, 1, 1);

/// Reads the list. All keys are required: an acceptance that nobody owns or that never ends is a
/// suppression.
pub(super) fn read(list: &Field<'_>, rules: &Rules, faults: &mut Faults) -> Vec<Accepted> {
    let mut ids: Vec<(String, u32)> = Vec::new();
    let mut out = Vec::new();
    for entry in faults.list(list).unwrap_or_default() {
        let Some(fields) = faults.map(&entry, &KEYS) else {
            continue;
        };
        fields.need_all(&KEYS, faults);
        let [id, subject, findings, level, reason, owner, expires] =
            KEYS.map(|word| fields.get(word).cloned());
        let id = id.and_then(|field| {
            let text = faults.text(&field)?;
            if !is_id(text) {
                faults.at(
                    &field,
                    format!("{text:?} is no id: write letters, digits, - . _ and :"),
                );
                return None;
            }
            if let Some((_, line)) = ids.iter().find(|(known, _)| known == text) {
                faults.at(
                    &field,
                    format!("{text:?} is the id of the entry on line {line} too"),
                );
                return None;
            }
            ids.push((text.to_owned(), entry.node.line));
            Some(text.to_owned())
        });
        let subject = subject.and_then(|field| self::subject(&field, faults));
        let findings = findings.and_then(|field| self::findings(&field, rules, faults));
        let level = level.and_then(|field| priority(&field, faults));
        let mut text = |field: Option<Field<'_>>| faults.text(&field?).map(str::to_owned);
        let (reason, owner) = (text(reason), text(owner));
        let expires = expires.and_then(|field| self::expires(&field, faults));
        if let (
            Some(id),
            Some(subject),
            Some(findings),
            Some(priority),
            Some(reason),
            Some(owner),
            Some(expires),
        ) = (id, subject, findings, level, reason, owner, expires)
        {
            out.push(Accepted {
                entry: Acceptance {
                    id,
                    subject,
                    findings,
                    priority,
                    reason,
                    owner,
                    expires,
                },
                place: Place {
                    file: faults.file().clone(),
                    line: entry.node.line,
                },
                path: entry.path.clone(),
            });
        }
    }
    out
}

fn subject(field: &Field<'_>, faults: &mut Faults) -> Option<Subject> {
    let text = faults.text(field)?;
    let parsed = Subject::parse(text);
    match &parsed {
        None => {
            let message =
                format!("{text:?} is no subject: write sa:NAMESPACE/NAME, user:NAME or group:NAME");
            faults.at(field, message);
        }
        Some(Subject::ServiceAccount { namespace, name }) => {
            if let Some(why) = namespace_fault(namespace) {
                faults.at(field, why);
                return None;
            }
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            if name.contains(['*', '?']) {
                faults.at(field, format!("{name:?} is a pattern; names are exact"));
                return None;
            }
            if !name.chars().all(inner) {
                faults.at(field, format!("{name:?} is no name of a service account"));
                return None;
            }
        }
        Some(_) => {}
    }
    parsed
}

fn findings(field: &Field<'_>, rules: &Rules, faults: &mut Faults) -> Option<Vec<AcceptedFinding>> {
    let before = faults.len();
    let mut out: Vec<AcceptedFinding> = Vec::new();
    for (entry, text) in faults.some_texts(field) {
        match finding(text, rules) {
            Err(why) => faults.at(&entry, why),
            Ok(finding) if out.contains(&finding) => {
                faults.at(&entry, format!("{text:?} is given twice"));
            }
            Ok(finding) => out.push(finding),
        }
    }
    (faults.len() == before).then_some(out)
}

fn finding(text: &str, rules: &Rules) -> Result<AcceptedFinding, String> {
    let Some(finding) = AcceptedFinding::parse(text) else {
        return Err(format!(
            "{text:?} is no finding: write RULE@NAMESPACE, or RULE@* cluster-wide"
        ));
    };
    match rules.find(&finding.rule) {
        None => {
            let ids = rules.specs.iter().filter(|s| s.finding);
            return Err(unknown("rule", &finding.rule, ids.map(|s| s.id.as_str())));
        }
        Some(spec) if !spec.finding => {
            return Err(format!(
                "rule {:?} is never a finding of a subject",
                spec.id
            ));
        }
        Some(_) => {}
    }
    match namespace_fault(&finding.scope).filter(|_| finding.scope != "*") {
        Some(why) => Err(why),
        None => Ok(finding),
    }
}

/// The last day; it ends at 24:00 UTC.
fn expires(field: &Field<'_>, faults: &mut Faults) -> Option<i64> {
    let text = faults.text(field)?;
    let Some([year, month, day]) = parts(text) else {
        faults.at(field, format!("{text:?} is no date such as 2027-03-31"));
        return None;
    };
    let in_range = |n: u16| i8::try_from(n).ok();
    let date = match (i16::try_from(year), in_range(month), in_range(day)) {
        (Ok(year), Some(month), Some(day)) => Date::new(year, month, day).ok(),
        _ => None,
    };
    let Some(date) = date else {
        faults.at(field, format!("{text:?} is no day of the calendar"));
        return None;
    };
    Some(date.duration_since(EPOCH).as_secs() + 86_400)
}

fn parts(text: &str) -> Option<[u16; 3]> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let good = part.len() == digits && part.chars().all(|c| c.is_ascii_digit());
        if good { part.parse().ok() } else { None }
    };
    let out = [part(4)?, part(2)?, part(2)?];
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::located::{Node, Value};

    #[test]
    fn the_last_day_ends_at_24_utc() {
        let of = |text: &str| {
            let mut faults = Faults::new("t".into());
            let node = Node {
                line: 1,
                value: Value::Text(text.into()),
            };
            expires(&Field::root(&node), &mut faults)
        };
        assert_eq!(of("1970-01-01"), Some(86_400));
        // 2027-04-01T00:00:00Z
        assert_eq!(of("2027-03-31"), Some(1_806_537_600));
        assert_eq!(of("9999-12-31"), Some(253_402_300_800));
        for wrong in [
            "2027-02-29",
            "2027-13-01",
            "2027-3-31",
            "31.03.2027",
            "2027-03-31T00:00:00Z",
            "",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }
}
