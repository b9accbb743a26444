//! `/subject`: one subject, and which binding to remove.

use super::{
    Page, Text, badge, covered, faults, link, moment, name, parts, rule, rule_link, scope, table,
    who,
};
use crate::export::acceptance::acceptance_entry;
use crate::export::api::SUBJECT_KINDS;
use crate::export::kubectl::commands;
use crate::export::metrics::bounded;
use crate::export::params::Params;
use crate::export::report::subject_of;
use crate::export::sentence::sentence;
use crate::ledger::{Evidence, ExplainedFinding, Explanation, Grant, Ledger, SubjectView};
use crate::object::{PolicyRule, Subject};
use crate::risk::Priority;
use crate::side_by_side::both;
use maud::{Markup, html};

/// Of a subject that is bound hundreds of times somebody would wait for either half.
fn explanation(ledger: &Ledger, subject: &Subject) -> Option<Explanation> {
    if !ledger.is_bound_often(subject) {
        return ledger.explanation(subject);
    }
    let (cut, told) = both(|| ledger.cut_of(subject), || ledger.told(subject));
    let mut told = told?;
    told.view.cut = cut;
    Some(told)
}

pub(super) fn page(ledger: &Ledger, now: i64, query: &str) -> Page {
    let mut params = Params::of_form(query);
    let kind = params.word("kind", &SUBJECT_KINDS.map(|k| (k, k)));
    let namespace = params.text("namespace").unwrap_or_default();
    let called = params.text("name");
    let wrong = params.finish().err().unwrap_or_default();
    let subject = kind
        .zip(called.as_ref())
        .and_then(|(kind, called)| subject_of(kind, &namespace, called));
    let explanation = subject.and_then(|subject| {
        let found = explanation(ledger, &subject);
        found.or_else(|| explanation(ledger, &behind_label(ledger, &subject)?))
    });
    let Some(explanation) = explanation else {
        return Page {
            status: if wrong.is_empty() { 404 } else { 400 },
            title: "No such subject".into(),
            body: html! {
                h1 { "No such subject" }
                (faults(&wrong))
                p { "Nothing binds it, and it is no service account that exists: it may be gone since the alert fired. Names are exact." }
                p { a href=(link("subjects", &[("text", called.as_deref().unwrap_or_default())])) { "Subjects whose name contains " (name(called.as_deref().unwrap_or_default())) } }
            },
            json: "api/v1/subjects".into(),
        };
    };
    let view = &explanation.view;
    let (kind, namespace, called) = parts(&view.subject);
    let title = view.subject.written();
    let body = html! {
        h1 { (Text(&title)) }
        p {
            (badge(view.priority)) (covered(view.status))
            @if view.priority > Priority::None { " since " (moment(view.since, now)) }
            @if view.own != view.priority { ", " (badge(view.own)) " on its own" }
        }
        p.say { (Text(&sentence(&explanation))) }
        @if !view.exists { p.warning { "This service account does not exist: what is bound to it waits for whoever may create it." } }
        (cut(view))
        @if !explanation.path.is_empty() {
            h2 { "The path" }
            (path(&explanation))
        }
        h2 { "Findings" }
        @if explanation.findings.is_empty() { p { "The catalogue has nothing against what it may do itself." } }
        @else { (findings("findings", "What it may do itself, the worst first", &explanation.findings)) }
        @if let Some(last) = explanation.path.last() {
            h2 { "At the end of the path" }
            p { (who(&last.to)) " decides:" }
            (findings("end", "What it may do at the end of its path", &explanation.end))
        }
        @if !explanation.reached_by.is_empty() {
            h2 { "Who can become it" }
            ul {
                @for by in explanation.reached_by.iter().take(MOST_NAMES) {
                    li { (who(&by.subject)) " by " (rule(&by.edge)) " " (scope(&by.scope)) }
                }
                @if explanation.reached_by.len() > MOST_NAMES { li { (explanation.reached_by.len() - MOST_NAMES) " more" } }
            }
        }
        @if let Some(proposal) = &explanation.proposal {
            h2 { "If it may stay" }
            p { "An item of " code { "accepted:" } " in the configuration, once reason, owner and last day are filled in:" }
            pre { code { @for line in acceptance_entry(proposal).lines() { (Text(line)) "\n" } } }
        }
    };
    let path = match namespace {
        "" => format!("{kind}/{}", segment(called)),
        namespace => format!("{kind}/{}/{}", segment(namespace), segment(called)),
    };
    Page {
        status: 200,
        title,
        body,
        json: format!("api/v1/subjects/{path}"),
    }
}

/// The subject whose name is too long for a label, and is in an alert's link as the label has it.
fn behind_label(ledger: &Ledger, label: &Subject) -> Option<Subject> {
    let (kind, namespace, cut) = parts(label);
    // what is cut ends in a tilde and eight digits of a hash
    let (beginning, hash) = cut.rsplit_once('~')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hash {
        return None;
    }
    ledger.subjects().into_iter().find(|subject| {
        let (k, n, called) = parts(subject);
        (k, n) == (kind, namespace) && called.starts_with(beginning) && bounded(called) == cut
    })
}

/// A segment of a path.
fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Names and rules that are spelt out; the rest is counted, as a page stays small.
const MOST_NAMES: usize = 20;
const MOST_RULES: usize = 4;
const MOST_FINDINGS: usize = 40;

/// What to remove, and the commands that do it.
fn cut(view: &SubjectView) -> Markup {
    let entries = &view.cut.entries;
    html! {
        @if !entries.is_empty() {
            section.cut aria-labelledby="cut" {
                h2 #cut { "What to cut" }
                p {
                    "Remove "
                    @for (i, entry) in entries.iter().enumerate() {
                        @if i > 0 { ", and " }
                        strong { (Text(&entry.subject.written())) } " from " (binding(&entry.grant))
                        @if let Some(origin) = &entry.origin { " " span.soft { "(" (Text(&format!("{}:{}", origin.file, origin.line))) ")" } }
                        @if entry.entries == 1 { ", its only subject" }
                    }
                    ", and it falls below " (view.priority.as_str()) "."
                    @if !view.cut.exact { " There may be a smaller set." }
                }
                p.soft { "Nothing is run here. Read it first:" }
                @for command in commands(entries, None) {
                    // a line breaks between the arguments, as within -- it would be another command
                    pre { code { @for (i, word) in command.split(' ').enumerate() { @if i > 0 { " " } span.word { (Text(word)) } } } }
                }
            }
        }
    }
}

/// Who becomes whom, and by what.
fn path(explanation: &Explanation) -> Markup {
    let view = &explanation.view;
    html! {
        ol.path {
            li { span.who { strong.n { (Text(&view.subject.written())) } } }
            @for (i, step) in explanation.path.iter().enumerate() {
                li {
                    span.by { a href=(rule_link(&step.edge)) { (Text(&step.title)) } br; (scope(&step.scope)) }
                    span class={ "who" @if i + 1 == explanation.path.len() { " t-" (view.priority.as_str()) } } { (who(&step.to)) }
                }
            }
        }
        @let head = html! { th scope="col" { "Step" } th scope="col" { "By binding" } th scope="col" { "To role" } th.wide scope="col" { "Its rules" } };
        @let body = html! {
            @for step in &explanation.path {
                tr {
                    th scope="row" { (who(&step.from)) " → " (who(&step.to)) }
                    (evidence(&step.by))
                }
            }
        };
        (table("steps", "What makes each step possible", &head, &body))
    }
}

fn findings(id: &str, caption: &str, all: &[ExplainedFinding]) -> Markup {
    let told: Vec<&ExplainedFinding> = all.iter().filter(|f| !f.implied).collect();
    let implied = all.len() - told.len();
    let head = html! {
        th scope="col" { "Priority" } th scope="col" { "Finding" } th scope="col" { "By binding" } th scope="col" { "To role" } th.wide scope="col" { "Its rules" }
    };
    let body = html! {
        @for explained in told.iter().take(MOST_FINDINGS) {
            @let finding = &explained.finding;
            tr {
                td.nowrap { (badge(finding.priority)) (covered(finding.status)) }
                th scope="row" {
                    a href=(rule_link(&finding.rule)) { (Text(&explained.title)) } " " span.soft { (scope(&finding.scope)) }
                }
                (evidence(&explained.by))
            }
        }
    };
    html! {
        (table(id, caption, &head, &body))
        @if told.len() > MOST_FINDINGS { p.soft { (told.len() - MOST_FINDINGS) " more in the JSON" } }
        @if implied > 0 { p.soft { (implied) " more that " (rule("wildcard-admin")) " implies" } }
    }
}

/// Bindings, roles and rules, a cell each.
fn evidence(by: &[Evidence]) -> Markup {
    let some = || by.iter().take(MOST_RULES);
    html! {
        td { ul.plain { @for e in some() { li { (binding(&e.grant)) } } @if by.len() > MOST_RULES { li.soft { (by.len() - MOST_RULES) " more" } } } }
        td { ul.plain { @for e in some() { li { (role(&e.grant)) } } } }
        td.wide {
            ul.plain {
                @for e in some() {
                    @for rule in e.rules.iter().take(MOST_RULES) { li { (policy_rule(rule)) } }
                    @if e.rules.len() > MOST_RULES { li.soft { (e.rules.len() - MOST_RULES) " more" } }
                }
            }
        }
    }
}

/// A rule of a role: verbs, then what they are for.
fn policy_rule(rule: &PolicyRule) -> Markup {
    let list = |words: &[String]| {
        let shown = words
            .iter()
            .take(12)
            .map(|w| if w.is_empty() { "core" } else { w });
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if words.len() > 12 {
            text.push_str(", …");
        }
        text
    };
    html! {
        code {
            (Text(&list(&rule.verbs))) ": "
            @if rule.resources.is_empty() { (Text(&list(&rule.non_resource_urls))) } @else {
                (Text(&list(&rule.resources)))
                @if rule.api_groups.iter().any(|g| !g.is_empty()) { " in " (Text(&list(&rule.api_groups))) }
                @if !rule.resource_names.is_empty() { " named " (Text(&list(&rule.resource_names))) }
            }
        }
    }
}

fn object(kind: &str, namespace: &str, called: &str) -> Markup {
    html! {
        span.soft.nowrap { (kind) } " "
        @if namespace.is_empty() { (name(called)) } @else { (name(&format!("{namespace}/{called}"))) }
    }
}

fn binding(grant: &Grant) -> Markup {
    let kind = match grant.binding_namespace.as_str() {
        "" => "ClusterRoleBinding",
        _ => "RoleBinding",
    };
    object(kind, &grant.binding_namespace, &grant.binding)
}

fn role(grant: &Grant) -> Markup {
    if grant.cluster_role {
        object("ClusterRole", "", &grant.role)
    } else {
        object("Role", &grant.binding_namespace, &grant.role)
    }
}
