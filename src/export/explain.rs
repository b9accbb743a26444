//! What `explain` prints: one subject, as text for people and as JSON.

use super::acceptance::acceptance_entry;
use super::kubectl;
use super::report::{
    GrantEntry, Reference, SubjectEntry, grant_entry, object, printable, subject_entry,
    subject_reference, written_reference,
};
use super::sentence::sentence;
use crate::ledger::{CutEntry, Evidence, ExplainedFinding, ExplainedStep, Explanation, ReachedBy};
use crate::object::{Origin, PolicyRule};
use crate::risk::{Priority, Status};
use serde::Serialize;
use std::fmt::Write as _;

/// Who can become the subject, spelt out for people; the JSON has all.
const MOST_NAMES: usize = 8;
/// Findings spelt out for people.
const MOST_FINDINGS: usize = 12;
/// Rules of one role spelt out for people.
const MOST_RULES: usize = 6;

/// Everything about one subject: what the report has, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// What it can do in the end.
    pub sentence: String,
    /// Everything was read and decoded.
    pub complete: bool,
    /// As in the report.
    pub subject: SubjectEntry,
    /// Its findings with the rules they rest on, worst first.
    pub findings: Vec<FindingWhy>,
    /// The steps of its path.
    pub path: Vec<StepWhy>,
    /// What decides at the end of the path.
    pub end: Vec<FindingWhy>,
    /// What to remove, with the place of each entry.
    pub cut: Vec<CutWhy>,
    /// No smaller set does.
    pub cut_exact: bool,
    /// Commands that remove it; none of them was run.
    pub commands: Vec<String>,
    /// Who can become it in one step.
    pub reached_by: Vec<ReachedByEntry>,
    /// The item of `accepted:` that would answer for it, with reason, owner and last day to be filled in;
    /// null when nothing of it is open.
    pub acceptance: Option<String>,
}

/// A finding and why.
#[derive(Clone, Debug, Serialize)]
pub struct FindingWhy {
    /// Id of the rule.
    pub rule: String,
    /// What it is called.
    pub title: String,
    /// `*` or a namespace.
    pub scope: String,
    /// Priority.
    pub priority: Priority,
    /// Status.
    pub status: Status,
    /// What it is good for.
    pub attack: String,
    /// What to do about it.
    pub remediation: String,
    /// By what.
    pub by: Vec<EvidenceEntry>,
    /// `wildcard-admin` beside it says as much.
    pub implied: bool,
}

/// A step and why.
#[derive(Clone, Debug, Serialize)]
pub struct StepWhy {
    /// Who takes it.
    pub from: Reference,
    /// Id of the rule behind it.
    pub edge: String,
    /// What that rule is called.
    pub title: String,
    /// Where it holds.
    pub scope: String,
    /// Who is reached.
    pub to: Reference,
    /// By what.
    pub by: Vec<EvidenceEntry>,
}

/// A binding, its role, and the rules that matter.
#[derive(Clone, Debug, Serialize)]
pub struct EvidenceEntry {
    /// Binding and role.
    #[serde(flatten)]
    pub grant: GrantEntry,
    /// Whom the binding names.
    pub subject: Reference,
    /// Where the binding stands.
    #[serde(rename = "bindingAt")]
    pub binding_at: Option<Place>,
    /// Where the role stands.
    #[serde(rename = "roleAt")]
    pub role_at: Option<Place>,
    /// The role is a default one that the input lacks.
    pub shipped: bool,
    /// Rules of the role.
    pub rules: Vec<RuleEntry>,
}

/// A place in a manifest.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// File.
    pub file: String,
    /// Line.
    pub line: u32,
}

/// A rule of a role.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleEntry {
    /// `verbs`
    pub verbs: Vec<String>,
    /// `apiGroups`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `resources`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// `resourceNames`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// `nonResourceURLs`
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

/// An entry to remove.
#[derive(Clone, Debug, Serialize)]
pub struct CutWhy {
    /// The binding.
    pub binding: Reference,
    /// The subject as the binding writes it.
    pub subject: Reference,
    /// Its place in `subjects`, from 0.
    pub index: u32,
    /// Entries of the binding.
    pub entries: u32,
    /// Where the binding stands.
    pub at: Option<Place>,
}

/// Somebody who can become the subject.
#[derive(Clone, Debug, Serialize)]
pub struct ReachedByEntry {
    /// Who.
    pub subject: Reference,
    /// Id of the rule that leads here.
    pub edge: String,
    /// Where it holds.
    pub scope: String,
}

fn place(origin: Option<&Origin>) -> Option<Place> {
    origin.map(|o| Place {
        file: o.file.to_string(),
        line: o.line,
    })
}

fn rule_entry(rule: &PolicyRule) -> RuleEntry {
    RuleEntry {
        verbs: rule.verbs.clone(),
        api_groups: rule.api_groups.clone(),
        resources: rule.resources.clone(),
        resource_names: rule.resource_names.clone(),
        non_resource_urls: rule.non_resource_urls.clone(),
    }
}

fn evidence_entry(evidence: &Evidence) -> EvidenceEntry {
    EvidenceEntry {
        grant: grant_entry(&evidence.grant),
        subject: subject_reference(&evidence.named),
        binding_at: place(evidence.binding_origin.as_ref()),
        role_at: place(evidence.role_origin.as_ref()),
        shipped: evidence.shipped,
        rules: evidence.rules.iter().map(rule_entry).collect(),
    }
}

fn finding_why(f: &ExplainedFinding) -> FindingWhy {
    FindingWhy {
        rule: f.finding.rule.clone(),
        title: f.title.clone(),
        scope: f.finding.scope.clone(),
        priority: f.finding.priority,
        status: f.finding.status,
        attack: f.attack.clone(),
        remediation: f.remediation.clone(),
        by: f.by.iter().map(evidence_entry).collect(),
        implied: f.implied,
    }
}

fn step_why(step: &ExplainedStep) -> StepWhy {
    StepWhy {
        from: subject_reference(&step.from),
        edge: step.edge.clone(),
        title: step.title.clone(),
        scope: step.scope.clone(),
        to: subject_reference(&step.to),
        by: step.by.iter().map(evidence_entry).collect(),
    }
}

impl Explained {
    /// Of an explanation; `context` is the kubeconfig's, for the commands.
    pub fn of(explanation: &Explanation, complete: bool, context: Option<&str>) -> Explained {
        let cut = &explanation.view.cut;
        Explained {
            sentence: sentence(explanation),
            complete,
            subject: subject_entry(&explanation.view),
            findings: explanation.findings.iter().map(finding_why).collect(),
            path: explanation.path.iter().map(step_why).collect(),
            end: explanation.end.iter().map(finding_why).collect(),
            cut: cut.entries.iter().map(cut_why).collect(),
            cut_exact: cut.exact,
            commands: kubectl::commands(&cut.entries, context),
            reached_by: explanation.reached_by.iter().map(reached_by).collect(),
            acceptance: explanation.proposal.as_ref().map(acceptance_entry),
        }
    }

    /// For people, in lines of this many columns where they can be broken.
    pub fn text(&self, width: usize) -> String {
        let mut out = String::new();
        let s = &self.subject;
        let subject = Reference {
            kind: s.kind,
            namespace: s.namespace.clone(),
            name: s.name.clone(),
        };
        let mut head = format!("{}  {}", written(&subject), s.priority.as_str());
        if s.priority > Priority::None {
            let _ = write!(head, ", {}", s.status.as_str());
            if s.own < s.priority {
                let _ = write!(head, ", {} by itself", s.own.as_str());
            }
            if let Some(since) = &s.since {
                let _ = write!(head, ", since {since}");
            }
        }
        if !s.exists {
            head.push_str(", does not exist");
        }
        wrapped(&mut out, "", &head, width);
        out.push('\n');
        wrapped(&mut out, "", &self.sentence, width);
        if !self.path.is_empty() {
            out.push_str("\nPath\n");
            for (n, step) in self.path.iter().enumerate() {
                let (to, edge) = (written(&step.to), &step.edge);
                let number = format!("  {}. ", n + 1);
                let line = format!("{edge}@{} → {to}: {}", step.scope, step.title);
                wrapped(&mut out, &number, &line, width);
                self.evidence(&mut out, &step.by, width);
            }
            if let Some(last) = self.path.last() {
                let _ = writeln!(out, "\nFindings of {}", printable(&written(&last.to)));
            }
            findings(self, &mut out, &self.end, width);
        }
        if !self.findings.is_empty() {
            out.push_str(if self.path.is_empty() {
                "\nFindings\n"
            } else {
                "\nFindings of its own\n"
            });
            findings(self, &mut out, &self.findings, width);
        }
        self.cut_text(&mut out, width);
        if !self.reached_by.is_empty() {
            let names = self.reached_by.iter().take(MOST_NAMES);
            let mut names: Vec<String> = names
                .map(|r| format!("{} ({}@{})", written(&r.subject), r.edge, r.scope))
                .collect();
            let more = self.reached_by.len() - names.len();
            if more > 0 {
                names.push(format!("{more} more"));
            }
            out.push_str("\nCan be taken by\n");
            wrapped(&mut out, "  ", &names.join(", "), width);
        }
        if let Some(entry) = &self.acceptance {
            let what = "If it may stay, an item of accepted: in the configuration, once reason, owner and last day are filled in:";
            out.push_str("\nAccept\n");
            wrapped(&mut out, "  ", what, width);
            out.push_str(entry);
        }
        out
    }

    fn cut_text(&self, out: &mut String, width: usize) {
        if self.subject.priority == Priority::None {
            return;
        }
        out.push_str("\nCut\n");
        if self.cut.is_empty() {
            let text =
                "Nothing that RBAC holds makes it what it is, so no binding that is removed helps.";
            wrapped(out, "  ", text, width);
            return;
        }
        let below = self.subject.priority.as_str();
        let what = match (self.cut.len(), self.cut_exact) {
            (1, _) => format!("Without this entry it falls below {below}:"),
            (_, true) => {
                format!("Without these entries it falls below {below}; no smaller set does it:")
            }
            (_, false) => format!(
                "Without these entries it falls below {below}; there were too many to tell whether a smaller set does it:"
            ),
        };
        wrapped(out, "  ", &what, width);
        for c in &self.cut {
            let others = match c.entries {
                1 => ", its only subject",
                _ => "",
            };
            let at = at(c.at.as_ref());
            let line = format!(
                "{} of {}{at}{others}",
                as_written(&c.subject),
                object(&c.binding)
            );
            wrapped(out, "  - ", &line, width);
        }
        out.push_str("  Not run, to be read first:\n");
        for command in &self.commands {
            // broken lines would be another command
            let _ = writeln!(out, "    {}", printable(command));
        }
    }

    fn evidence(&self, out: &mut String, by: &[EvidenceEntry], width: usize) {
        for e in by {
            let GrantEntry { binding, role } = &e.grant;
            let own = written(&e.subject)
                == written(&Reference {
                    kind: self.subject.kind,
                    namespace: self.subject.namespace.clone(),
                    name: self.subject.name.clone(),
                });
            let through = match own || e.subject.kind != "Group" {
                true => String::new(),
                false => format!(" to {}", written(&e.subject)),
            };
            let line = format!(
                "by {}{}{through}, {}{}{}",
                object(binding),
                at(e.binding_at.as_ref()),
                object(role),
                at(e.role_at.as_ref()),
                if e.shipped { " (default)" } else { "" }
            );
            wrapped(out, "     ", &line, width);
            for rule in e.rules.iter().take(MOST_RULES) {
                wrapped(out, "       - ", &flow(rule), width);
            }
            match e.rules.len().saturating_sub(MOST_RULES) {
                0 => {}
                more => {
                    let _ = writeln!(out, "       - {more} more rules");
                }
            }
        }
    }
}

fn findings(whole: &Explained, out: &mut String, findings: &[FindingWhy], width: usize) {
    // every one that is implied by another says nothing new
    let shown: Vec<&FindingWhy> = findings.iter().filter(|f| !f.implied).collect();
    for f in shown.iter().take(MOST_FINDINGS) {
        let status = match f.status {
            Status::Open => String::new(),
            other => format!(" ({})", other.as_str()),
        };
        let line = format!(
            "{} {}@{}{status}: {}",
            f.priority.as_str(),
            f.rule,
            f.scope,
            f.title
        );
        wrapped(out, "  - ", &line, width);
        whole.evidence(out, &f.by, width);
    }
    match shown.len().saturating_sub(MOST_FINDINGS) {
        0 => {}
        more => {
            let _ = writeln!(out, "  - {more} more");
        }
    }
    if shown.len() < findings.len() {
        let implied = findings.len() - shown.len();
        let _ = writeln!(out, "  - {implied} more that wildcard-admin implies");
    }
}

fn cut_why(c: &CutEntry) -> CutWhy {
    CutWhy {
        binding: grant_entry(&c.grant).binding,
        subject: written_reference(c),
        index: c.index,
        entries: c.entries,
        at: place(c.origin.as_ref()),
    }
}

fn reached_by(r: &ReachedBy) -> ReachedByEntry {
    ReachedByEntry {
        subject: subject_reference(&r.subject),
        edge: r.edge.clone(),
        scope: r.scope.clone(),
    }
}

/// `sa:NS/NAME`, `user:NAME`, `group:NAME`.
pub(super) fn written(r: &Reference) -> String {
    match r.kind {
        "ServiceAccount" => format!("sa:{}/{}", r.namespace, r.name),
        "Group" => format!("group:{}", r.name),
        _ => format!("user:{}", r.name),
    }
}

/// With the kind that the binding has.
fn as_written(r: &Reference) -> String {
    match r.kind {
        "ServiceAccount" => format!("ServiceAccount {}/{}", r.namespace, r.name),
        kind => format!("{kind} {}", r.name),
    }
}

fn at(place: Option<&Place>) -> String {
    place
        .map(|p| format!(" ({}:{})", p.file, p.line))
        .unwrap_or_default()
}

/// As YAML would have it in one line.
fn flow(rule: &RuleEntry) -> String {
    let list = |name: &str, values: &[String]| {
        let words: Vec<String> = values.iter().map(|v| scalar(v)).collect();
        format!("{name}: [{}]", words.join(", "))
    };
    let parts = [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.api_groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.resource_names),
        ("nonResourceURLs", &rule.non_resource_urls),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(name, values)| !values.is_empty() || *name == "verbs")
        .map(|(name, values)| list(name, values))
        .collect();
    parts.join(", ")
}

fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("{text:?}"),
    }
}

/// Writes text made harmless, broken between words; further lines are indented like the first.
pub(super) fn wrapped(out: &mut String, first: &str, text: &str, width: usize) {
    let indent = " ".repeat(first.chars().count());
    let mut column = first.chars().count();
    out.push_str(first);
    let mut begun = false;
    for word in printable(text).split(' ') {
        let long = word.chars().count();
        if begun && column + 1 + long > width {
            out.push('\n');
            out.push_str(&indent);
            column = indent.len();
            begun = false;
        }
        if begun {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += long;
        begun = true;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let mut out = String::new();
        wrapped(&mut out, "  - ", "one two three four", 13);
        assert_eq!(out, "  - one two\n    three\n    four\n");
        let mut out = String::new();
        wrapped(&mut out, "", "a\nb \u{1b}[1m", 4);
        assert_eq!(out, "a\\nb\n\\u{1b}[1m\n");
    }

    #[test]
    fn a_rule_reads_as_yaml() {
        let rule = RuleEntry {
            verbs: vec!["get".into(), "*".into()],
            api_groups: vec![String::new()],
            resources: vec!["pods/exec".into()],
            resource_names: vec![],
            non_resource_urls: vec![],
        };
        assert_eq!(
            flow(&rule),
            r#"verbs: [get, "*"], apiGroups: [""], resources: [pods/exec]"#
        );
    }
}
