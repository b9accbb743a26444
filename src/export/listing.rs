//! What `scan` prints for people: the numbers first, then what is risky, the worst first.

use super::report::{
    BindingEntry, Levels, PodEntry, Reference, Report, RoleEntry, SubjectEntry, object, printable,
    problem_line, reason, written,
};
use super::terminal::{Look, table};
use crate::risk::{Priority, Status};
use std::cmp::Reverse;
use std::fmt::Write as _;

/// Findings of a role that are named in its line.
const MOST_FINDINGS: usize = 3;
/// Subjects of a binding that are named in its line.
const MOST_SUBJECTS: usize = 5;

/// Which list follows the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// Who is dangerous, and what to cut.
    #[default]
    Subjects,
    /// Pods that carry a risky token.
    Pods,
    /// Roles by what they give where they are bound.
    Roles,
    /// Bindings by what they give.
    Bindings,
}

/// How to list.
#[derive(Clone, Copy, Debug, Default)]
pub struct Listing {
    /// What.
    pub show: Show,
    /// On what.
    pub look: Look,
    /// Somebody asked for exactly these: covered and harmless ones are listed too.
    pub all: bool,
    /// A filter left something out.
    pub filtered: bool,
}

/// A row, with what it is sorted by.
type Row = (Option<Priority>, [String; 3]);

impl Report {
    /// As a table.
    pub fn table(&self, listing: &Listing) -> String {
        let look = listing.look;
        let [subjects, pods, roles, bindings] = self.totals;
        let mut out = format!(
            "Judged as Kubernetes {}: {}, {}, {}, {}\n",
            self.kubernetes_version,
            number(subjects, "subject"),
            if self.without_pods {
                "pods left out".to_owned()
            } else {
                number(pods, "pod")
            },
            number(roles, "role"),
            number(bindings, "binding"),
        );
        if !self.summary.skipped.is_empty() {
            let skipped = self.summary.skipped.iter();
            let skipped: Vec<String> = skipped.map(|(kind, n)| format!("{n} {kind}")).collect();
            let _ = writeln!(out, "Not judged: {}", printable(&skipped.join(", ")));
        }
        levels(&mut out, look, "Subjects", &self.summary.subjects);
        if !self.without_pods {
            levels(&mut out, look, "Pods", &self.summary.pods);
        }
        out.push_str("Numbers are open; (+n) are accepted or come with every cluster.\n");
        let (noun, of, rows) = self.rows(listing);
        if listing.filtered {
            let _ = writeln!(
                out,
                "Listed by the filters given: {} of {}.",
                rows.len(),
                number(of, noun)
            );
        }
        if !rows.is_empty() {
            out.push_str(legend(listing.show));
            let noun = noun.to_uppercase();
            table(&mut out, look, ["PRIORITY", &noun, "WHY"], &rows);
        } else if self.complete && !self.is_empty() {
            let among = if listing.filtered { " among these" } else { "" };
            let _ = writeln!(out, "\nNo open {noun} is risky{among}.");
        }
        if !self.problems.is_empty() {
            out.push('\n');
            for p in &self.problems {
                let _ = writeln!(out, "{}", problem_line(p));
            }
        }
        if !self.complete {
            out.push_str("\nNot everything could be read: the true picture may be worse.\n");
        }
        out
    }

    /// The rows of a list, worst first; what they are, and how many there are in all.
    fn rows(&self, listing: &Listing) -> (&'static str, usize, Vec<Row>) {
        let wanted =
            |p: Priority, s: Status| listing.all || (p > Priority::None && s == Status::Open);
        let row = |p: Priority, s: Status, name: String, why: String| {
            let level = match s {
                Status::Open => p.as_str().to_owned(),
                covered => format!("{} ({})", p.as_str(), covered.as_str()),
            };
            (Some(p), [level, printable(&name), printable(&why)])
        };
        let [subjects, pods, roles, bindings] = self.totals;
        let (noun, of, mut rows): (_, _, Vec<Row>) = match listing.show {
            Show::Subjects => {
                let all = self.subjects.iter();
                let these = all.filter(|s| wanted(s.priority, s.status));
                let rows = these.map(|s| row(s.priority, s.status, written(s), why(s)));
                ("subject", subjects, rows.collect())
            }
            Show::Pods => {
                let all = self.pods.iter();
                let these = all.filter(|p| wanted(p.priority, p.status));
                let rows = these.map(|p| {
                    let name = format!("{}/{}", p.namespace, p.name);
                    row(p.priority, p.status, name, of_pod(p))
                });
                ("pod", pods, rows.collect())
            }
            Show::Roles => {
                let worth = |r: &RoleEntry| if r.bound { r.priority } else { r.potential };
                let all = self.roles.iter();
                let these = all.filter(|r| wanted(worth(r), r.status));
                let rows = these.map(|r| {
                    let name = named(r.kind, &r.namespace, &r.name);
                    row(worth(r), r.status, name, of_role(r))
                });
                ("role", roles, rows.collect())
            }
            Show::Bindings => {
                let all = self.bindings.iter();
                let these = all.filter(|b| wanted(b.priority, b.status));
                let rows = these.map(|b| {
                    let name = named(b.kind, &b.namespace, &b.name);
                    row(b.priority, b.status, name, of_binding(b))
                });
                ("binding", bindings, rows.collect())
            }
        };
        // the arrays are sorted by name
        rows.sort_by_key(|(p, _)| Reverse(*p));
        (noun, of, rows)
    }
}

/// `1 subject`, `2 subjects`.
pub fn number(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        _ => format!("{n} {noun}s"),
    }
}

fn levels(out: &mut String, look: Look, label: &str, levels: &Levels) {
    let parts = Priority::RISKY.into_iter().rev().map(|p| {
        let n = |s: Status| {
            let by = levels.get(&p).and_then(|by| by.get(s.as_str()));
            by.copied().unwrap_or_default()
        };
        let (open, covered) = (n(Status::Open), n(Status::Accepted) + n(Status::Builtin));
        let text = format!("{open} {}", p.as_str());
        let text = if open > 0 { look.paint(p, &text) } else { text };
        match covered {
            0 => text,
            covered => format!("{text} (+{covered})"),
        }
    });
    let _ = writeln!(out, "{label:<9}{}", parts.collect::<Vec<_>>().join(", "));
}

fn legend(show: Show) -> &'static str {
    match show {
        Show::Subjects => {
            "WHY: rule@namespace (rule@* is cluster-wide) and the binding to remove, named after `cut` where it is\n\
             another one or not the only one; → leads to an identity that can be taken.\n\n"
        }
        Show::Pods => {
            "WHY: whose API tokens it carries, what owns it, and how it can take its node.\n\n"
        }
        Show::Roles => {
            "PRIORITY: where it is bound; of an unbound role what it would give. WHY: the worst it gives.\n\n"
        }
        Show::Bindings => "WHY: the role and to whom it gives it.\n\n",
    }
}

fn why(s: &SubjectEntry) -> String {
    match s.priority {
        Priority::None => String::new(),
        _ => reason(s),
    }
}

fn named(kind: &'static str, namespace: &str, name: &str) -> String {
    object(&Reference {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

/// ` (FILE:LINE)`, of manifests.
fn place(file: Option<&String>, line: Option<u32>) -> String {
    match (file, line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        _ => String::new(),
    }
}

fn of_pod(p: &PodEntry) -> String {
    let mut parts: Vec<String> = Vec::new();
    for token in &p.tokens {
        let account = &token.serviceaccount;
        parts.push(format!(
            "token of sa:{}/{} in {}",
            account.namespace,
            account.name,
            token.containers.join(", ")
        ));
    }
    if let Some(owner) = &p.workload {
        parts.push(format!("{} {}", owner.kind, owner.name));
    }
    if !p.node_escape.is_empty() {
        parts.push(format!("takes its node by {}", p.node_escape.join(", ")));
    }
    parts.join("; ")
}

fn of_role(r: &RoleEntry) -> String {
    let mut findings: Vec<_> = r.findings.iter().collect();
    findings.sort_by_key(|f| (Reverse(f.priority), f.rule != "wildcard-admin"));
    let shown = findings.iter().take(MOST_FINDINGS);
    let mut text = shown
        .map(|f| format!("{}@{}", f.rule, f.scope))
        .collect::<Vec<_>>()
        .join(", ");
    if findings.len() > MOST_FINDINGS {
        let _ = write!(text, " and {} more", findings.len() - MOST_FINDINGS);
    }
    if r.wildcard_rules > 0 {
        let _ = write!(text, "; {}", number(r.wildcard_rules, "wildcard rule"));
    }
    if !r.bound {
        text.push_str("; not bound");
    }
    text + &place(r.file.as_ref(), r.line)
}

fn of_binding(b: &BindingEntry) -> String {
    let mut text = format!("{} to ", object(&b.role));
    let shown = b.subjects.iter().take(MOST_SUBJECTS).map(|s| match s.kind {
        "ServiceAccount" => format!("sa:{}/{}", s.namespace, s.name),
        "Group" => format!("group:{}", s.name),
        _ => format!("user:{}", s.name),
    });
    text.push_str(&shown.collect::<Vec<_>>().join(", "));
    if b.subjects.is_empty() {
        text.push_str("nobody");
    }
    if b.subjects.len() > MOST_SUBJECTS {
        let _ = write!(text, " and {} more", b.subjects.len() - MOST_SUBJECTS);
    }
    for missing in &b.dangling {
        let _ = write!(text, "; {missing}");
    }
    text + &place(b.file.as_ref(), b.line)
}
