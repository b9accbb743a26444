//! `/subject`: one subject, and which binding to remove.

use super::{
    Page, Text, badge, covered, faults, link, moment, name, parts, rule, scope, table, who,
};
use crate::export::api::SUBJECT_KINDS;
use crate::export::params::Params;
use crate::export::report::subject_of;
use crate::ledger::{Grant, Ledger, SubjectView};
use crate::risk::Priority;
use maud::{Markup, html};

pub(super) fn page(ledger: &Ledger, now: i64, query: &str) -> Page {
    let mut params = Params::of_form(query);
    let kind = params.word("kind", &SUBJECT_KINDS.map(|k| (k, k)));
    let namespace = params.text("namespace").unwrap_or_default();
    let called = params.text("name");
    let wrong = params.finish().err().unwrap_or_default();
    let subject = kind
        .zip(called.as_ref())
        .and_then(|(kind, called)| subject_of(kind, &namespace, called));
    let view = subject.as_ref().and_then(|s| ledger.explain(s));
    let Some(view) = view else {
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
    let (kind, namespace, called) = parts(&view.subject);
    let body = html! {
        h1 { (Text(&view.subject.written())) }
        p {
            (badge(view.priority)) (covered(view.status))
            @if view.priority > Priority::None { " since " (moment(view.since, now)) }
            @if view.own != view.priority { ", " (badge(view.own)) " on its own" }
        }
        @if !view.exists { p.warning { "This service account does not exist: what is bound to it waits for whoever may create it." } }
        (cut(&view))
        @if !view.path.is_empty() {
            h2 { "The path" }
            p { "It has the priority of whom it can become." }
            (path(&view))
        }
        h2 { "Findings" }
        @if view.findings.is_empty() { p { "The catalogue has nothing against what it may do." } }
        @else { (findings(&view)) }
    };
    let path = match namespace {
        "" => format!("{kind}/{}", segment(called)),
        namespace => format!("{kind}/{}/{}", segment(namespace), segment(called)),
    };
    Page {
        status: 200,
        title: view.subject.written(),
        body,
        json: format!("api/v1/subjects/{path}"),
    }
}

/// A segment of a path.
fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What to remove.
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
                    }
                    ", and it falls below " (view.priority.as_str()) "."
                    @if !view.cut.exact { " There may be a smaller set." }
                }
            }
        }
    }
}

/// Who becomes whom, and by what.
fn path(view: &SubjectView) -> Markup {
    html! {
        ol.path {
            li { span.who { strong.n { (Text(&view.subject.written())) } } }
            @for (i, step) in view.path.iter().enumerate() {
                li {
                    span.by { (rule(&step.edge)) br; (scope(&step.scope)) }
                    span class={ "who" @if i + 1 == view.path.len() { " t-" (view.priority.as_str()) } } { (who(&step.to)) }
                }
            }
        }
    }
}

fn findings(view: &SubjectView) -> Markup {
    let head = html! {
        th scope="col" { "Priority" } th scope="col" { "Rule" } th scope="col" { "Where" } th scope="col" { "By binding" } th scope="col" { "To role" }
    };
    let mut sorted: Vec<_> = view.findings.iter().collect();
    sorted.sort_by_key(|f| std::cmp::Reverse(f.priority));
    let body = html! {
        @for finding in sorted {
            tr {
                td.nowrap { (badge(finding.priority)) (covered(finding.status)) }
                th scope="row" { (rule(&finding.rule)) }
                td { (scope(&finding.scope)) }
                td { ul.plain { @for grant in &finding.grants { li { (binding(grant)) } } } }
                td { ul.plain { @for grant in &finding.grants { li { (role(grant)) } } } }
            }
        }
    };
    table(
        "findings",
        "What it may do itself, the worst first",
        &head,
        &body,
    )
}

fn object(kind: &str, namespace: &str, called: &str) -> Markup {
    html! {
        span.soft { (kind) " " }
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
