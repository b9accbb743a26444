//! `/subjects`: the list, with its filters.

use super::{
    LIMIT, MOST, Page, badge, choice, covered, faults, field, link, moment, namespace, pager, sent,
    table, titled, who,
};
use crate::export::api::{self, ORDERS, SUBJECT_KINDS};
use crate::export::params::Params;
use crate::ledger::{Ledger, Order, Slice, SubjectFilter, SubjectLine};
use crate::risk::{Catalogue, Priority, Status};
use maud::{Markup, html};

pub(super) fn page(ledger: &Ledger, now: i64, query: &str) -> Page {
    let mut params = Params::of_form(query);
    let mut filter = SubjectFilter {
        all: api::filter(&mut params, &SUBJECT_KINDS),
        rule: api::rule(&mut params, ledger.catalogue()),
    };
    filter.all.namespace = namespace(filter.all.namespace);
    let slice = Slice {
        order: params.word("sort", &ORDERS).unwrap_or(Order::Priority),
        offset: params.number("offset", 0..=usize::MAX).unwrap_or(0),
        limit: params.number("limit", 1..=MOST).unwrap_or(LIMIT),
    };
    let wrong = params.finish().err().unwrap_or_default();
    let listed = ledger.list_subject_lines(&filter, &slice);
    let rules = ledger.catalogue().rules.iter().map(|r| r.id.as_str());
    let body = html! {
        h1 { "Subjects" }
        (faults(&wrong))
        form method="get" action="subjects" role="search" aria-label="Filter subjects" {
            (field("text", "Name contains", &sent(query, "text"), "ci/release"))
            (field("namespace", "Namespace", &sent(query, "namespace"), "- for users and groups"))
            (choice("kind", "Kind", &sent(query, "kind"), "any", SUBJECT_KINDS.into_iter()))
            (choice("priority", "Priority", &sent(query, "priority"), "any", Priority::ALL.iter().rev().map(|p| p.as_str())))
            (choice("status", "Status", &sent(query, "status"), "any", Status::ALL.iter().map(|s| s.as_str())))
            (choice("rule", "Rule", &sent(query, "rule"), "any", rules))
            (choice("sort", "Sorted by", &sent(query, "sort"), "worst first", ["name", "since"].into_iter()))
            div { button type="submit" { "Filter" } }
            @if !query.is_empty() { div { a href="subjects" { "Show all" } } }
        }
        @if listed.items.is_empty() {
            p { "No subject is like that." }
        } @else {
            (lines(ledger, "list", "Subjects: who, how dangerous, since when, and why", &listed.items, now))
        }
        (pager("subjects", query, slice, &listed))
    };
    let json = [
        ("text", sent(query, "text")),
        ("kind", sent(query, "kind")),
        ("priority", sent(query, "priority")),
        ("status", sent(query, "status")),
        ("rule", sent(query, "rule")),
        ("sort", "priority".to_owned()),
    ];
    let json: Vec<(&str, &str)> = json.iter().map(|(k, v)| (*k, v.as_str())).collect();
    Page {
        status: if wrong.is_empty() { 200 } else { 400 },
        title: "Subjects".into(),
        body,
        json: link("api/v1/subjects", &json),
    }
}

/// Subjects, a line each.
pub(super) fn lines(
    ledger: &Ledger,
    id: &str,
    caption: &str,
    items: &[SubjectLine],
    now: i64,
) -> Markup {
    let head = html! {
        th scope="col" { "Priority" } th scope="col" { "Subject" } th scope="col" { "Why" } th.wide scope="col" { "Since" }
    };
    let body = html! {
        @for line in items {
            tr {
                td.nowrap { (badge(line.priority)) (covered(line.status)) }
                th scope="row" {
                    (who(&line.subject))
                    @if !line.exists { " " span.soft { "does not exist" } }
                }
                td { (why(ledger.catalogue(), line)) }
                td.wide.since { @if line.priority > Priority::None { (moment(line.since, now)) } }
            }
        }
    };
    table(id, caption, &head, &body)
}

fn why(catalogue: &Catalogue, line: &SubjectLine) -> Markup {
    html! {
        @if let Some(first) = line.path.first() {
            (titled(catalogue, &first.edge))
            @for step in &line.path { " → " (who(&step.to)) }
        } @else if let Some(admin) = line.rules.iter().find(|r| *r == "wildcard-admin") {
            // it implies the others
            (titled(catalogue, admin))
        } @else {
            @for (i, id) in line.rules.iter().take(2).enumerate() { @if i > 0 { ", " } (titled(catalogue, id)) }
            @if line.rules.len() > 2 { span.soft { " and " (line.rules.len() - 2) " more" } }
        }
    }
}
