//! `/`: who is dangerous, where, through what, and whether all of it was seen.

use super::{
    LIMIT, MOST, Page, Site, Text, age, badge, faults, link, moment, name, namespace_name,
    namespace_value, pager, rule, subjects, table, who,
};
use crate::export::params::Params;
use crate::export::report::{problem_line, problems};
use crate::ledger::{
    ByLevel, Filter, Ledger, Listed, NamespaceBlock, Order, Problem, Slice, SubjectFilter,
};
use crate::risk::{Acceptance, Priority, Status};
use maud::{Markup, html};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows of a table of the overview; each has a page of its own for the rest.
const TOP: usize = 12;

/// Falling.
fn risky() -> impl Iterator<Item = Priority> {
    Priority::RISKY.into_iter().rev()
}

/// Subjects of a priority: open ones, and the others.
fn counts(levels: &[ByLevel; 3], priority: Priority) -> (u32, u32) {
    let of = |status: Status| {
        let kinds = levels.iter();
        kinds
            .map(|l| l[priority as usize][status as usize])
            .sum::<u32>()
    };
    (of(Status::Open), of(Status::Accepted) + of(Status::Builtin))
}

pub(super) fn page(site: &Site<'_>, ledger: &Ledger, query: &str) -> Page {
    let wrong = Params::of_form(query).finish().err().unwrap_or_default();
    let blocks = &site.snapshot.judged.namespaces;
    let total = |priority: Priority| {
        let counted = blocks
            .iter()
            .map(|(_, b)| counts(&b.risky_subjects, priority));
        counted.fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
    };
    let filter = SubjectFilter {
        all: Filter {
            priorities: vec![Priority::Critical, Priority::High],
            statuses: vec![Status::Open],
            ..Filter::default()
        },
        rule: None,
    };
    let slice = Slice {
        order: Order::Priority,
        offset: 0,
        limit: TOP,
    };
    let worst = ledger.list_subject_lines(&filter, &slice);
    let unread = problems(ledger);
    let body = html! {
        (faults(&wrong))
        h1 { "Who could take this cluster over?" }
        ul.tiles aria-label="Open subjects by priority" {
            @for priority in risky() {
                @let (open, others) = total(priority);
                li class={ "t-" (priority.as_str()) } {
                    a href=(link("subjects", &[("priority", priority.as_str()), ("status", "open")])) {
                        span.count { (open) }
                        (badge(priority)) " open"
                        @if others > 0 { span.soft { ", " (others) " covered" } }
                    }
                }
            }
        }
        p.soft { "Subjects are users, groups and service accounts. Covered ones are accepted by somebody, or come with every cluster." }
        @if !site.snapshot.complete { (unread_list(site, &unread)) }
        h2 { "The worst, newest first" }
        @if worst.items.is_empty() {
            p { @if site.snapshot.complete { "No open subject is critical or high." } @else { "None of those that could be seen is critical or high." } }
        } @else {
            (subjects::lines(ledger, "worst", "Open critical and high subjects", &worst.items, site.now))
            @if worst.total > worst.items.len() {
                p { a href="subjects?priority=critical%2Chigh&status=open&sort=priority" { "All " (worst.total) } }
            }
        }
        @if site.snapshot.complete && !unread.is_empty() { (unread_list(site, &unread)) }
        div.columns {
            section {
                h2 { "By namespace" }
                @let all = ranked(site);
                (namespace_table(site, all.iter().take(TOP)))
                @if all.len() > TOP { p { a href="namespaces" { "All " (all.len()) " namespaces" } } }
            }
            section {
                h2 { "What drives the risk" }
                (drivers(site, ledger))
            }
        }
        div.columns {
            section {
                h2 { "What is watched" }
                (watches(site))
            }
            section {
                h2 { "Configuration in force" }
                (configuration(site, ledger))
            }
        }
        @if !ledger.acceptances().is_empty() {
            h2 #accepted { "Accepted risks" }
            (acceptances(ledger, site.now))
        }
    };
    Page {
        status: if wrong.is_empty() { 200 } else { 400 },
        title: "Overview".into(),
        body,
        json: "api/v1/summary".into(),
    }
}

/// What could not be read, and what deserves a look.
fn unread_list(site: &Site<'_>, unread: &[Problem]) -> Markup {
    html! {
        section.warning #unread aria-labelledby="unread-title" {
                h2 #unread-title {
                    @if site.snapshot.complete { "Worth a look" } @else { "What could not be read" }
                }
                ul {
                    @for problem in unread.iter().take(TOP) { li { (Text(&problem_line(problem))) } }
                    @if unread.len() > TOP { li { (unread.len() - TOP) " more in " a href="api/v1/report" { "the report" } } }
                }
            }
    }
}

type Row<'a> = (&'a Arc<str>, &'a NamespaceBlock);

/// Namespaces with something in them, the worst first.
fn ranked<'a>(site: &Site<'a>) -> Vec<Row<'a>> {
    let blocks = site.snapshot.judged.namespaces.iter();
    let mut all: Vec<Row<'a>> = blocks.map(|(n, b)| (n, &**b)).collect();
    let worth = |b: &NamespaceBlock| {
        let open = risky().map(|p| counts(&b.risky_subjects, p).0);
        open.collect::<Vec<u32>>()
    };
    all.sort_by_cached_key(|(name, b)| (Reverse(worth(b)), (*name).clone()));
    all
}

fn namespace_table<'a>(site: &Site<'_>, rows: impl Iterator<Item = &'a Row<'a>>) -> Markup {
    let pods = !site.snapshot.without_pods;
    let number = |namespace: &str, path: &str, priority: Priority, n: u32| {
        let href = link(
            path,
            &[
                ("namespace", namespace_value(namespace)),
                ("priority", priority.as_str()),
                ("status", "open"),
            ],
        );
        html! { td.num { @if n > 0 { a href=(href) { (n) } } @else { span.soft { "0" } } } }
    };
    let head = html! {
        th scope="col" { "Namespace" }
        @for p in risky() { th.num scope="col" { (p.as_str()) } }
        @if pods {
            th.num scope="col" { "critical pods" }
            th.num.wide scope="col" { "high pods" }
        }
    };
    let body = html! {
        @for (namespace, block) in rows {
            tr {
                th scope="row" { a href=(link("subjects", &[("namespace", namespace_value(namespace))])) { (namespace_name(namespace)) } }
                @for p in risky() { (number(namespace, "subjects", p, counts(&block.risky_subjects, p).0)) }
                @if pods {
                    (number(namespace, "pods", Priority::Critical, block.hot_pods[Priority::Critical as usize][0]))
                    @let high = block.hot_pods[Priority::High as usize][0];
                    td.num.wide { (high) }
                }
            }
        }
    };
    table(
        "namespaces",
        "Open subjects by priority, and live pods that carry an open token",
        &head,
        &body,
    )
}

pub(super) fn namespaces(site: &Site<'_>, query: &str) -> Page {
    let mut params = Params::of_form(query);
    let slice = Slice {
        order: Order::Name,
        offset: params.number("offset", 0..=usize::MAX).unwrap_or(0),
        limit: params.number("limit", 1..=MOST).unwrap_or(LIMIT),
    };
    let wrong = params.finish().err().unwrap_or_default();
    let all = ranked(site);
    let listed = Listed {
        total: all.len(),
        items: all
            .into_iter()
            .skip(slice.offset)
            .take(slice.limit)
            .collect(),
    };
    Page {
        status: if wrong.is_empty() { 200 } else { 400 },
        title: "Namespaces".into(),
        body: html! {
            h1 { "Namespaces, the worst first" }
            (faults(&wrong))
            (namespace_table(site, listed.items.iter()))
            (pager("namespaces", query, slice, &listed))
        },
        json: "api/v1/summary".into(),
    }
}

/// Rules by the subjects that they match.
fn drivers(site: &Site<'_>, ledger: &Ledger) -> Markup {
    let mut by_rule: BTreeMap<&str, [u32; 5]> = BTreeMap::new();
    let open = site.snapshot.judged.rules.iter();
    for count in open.filter(|c| c.status == Status::Open) {
        by_rule.entry(&count.rule).or_default()[count.priority as usize] += count.subjects;
    }
    let mut rows: Vec<(&str, [u32; 5])> = by_rule.into_iter().collect();
    rows.sort_by_key(|(id, n)| (Reverse([n[4], n[3], n[2], n[1]]), *id));
    let titles = &ledger.catalogue().rules;
    let title = |id: &str| {
        let rule = titles.iter().find(|r| r.id == id);
        rule.map(|r| r.title.as_str()).unwrap_or_default()
    };
    let head = html! {
        th scope="col" { "Rule" }
        @for p in risky() { th.num scope="col" { (p.as_str()) } }
    };
    let body = html! {
        @for (id, n) in rows.iter().take(TOP) {
            tr {
                th scope="row" { a href=(link("subjects", &[("rule", id), ("status", "open")])) { (Text(title(id))) } " " span.wide { (rule(id)) } }
                @for p in risky() {
                    td.num { @if n[p as usize] > 0 { (n[p as usize]) } @else { span.soft { "0" } } }
                }
            }
        }
    };
    table(
        "drivers",
        "Open subjects that each rule matches, by the priority that it gives them",
        &head,
        &body,
    )
}

fn watches(site: &Site<'_>) -> Markup {
    let head = html! {
        th scope="col" { "Resource" } th scope="col" { "State" } th.num scope="col" { "Objects" }
        th.num scope="col" { "Heard" } th.num.wide scope="col" { "Restarts" }
    };
    let body = html! {
        @for (resource, watch, objects, _) in &site.snapshot.watches {
            tr {
                th scope="row" { (name(resource.plural())) }
                td {
                    @let word = watch.word(site.now);
                    @if word == "synced" { "synced" } @else { strong { (word) } }
                    @if let Some(fault) = &watch.fault { " " span.soft { (Text(fault)) } }
                }
                td.num { (objects) }
                td.num.nowrap { @if watch.last_activity > 0 { (age(site.now - watch.last_activity)) " ago" } @else { "never" } }
                td.num.wide { (watch.restarts) }
            }
        }
    };
    table(
        "watches",
        "The state of each resource and when it was last heard of",
        &head,
        &body,
    )
}

fn configuration(site: &Site<'_>, ledger: &Ledger) -> Markup {
    let privileged = &ledger.catalogue().privileged_namespaces;
    let files = site.work.config_files.get().map_or(&[][..], |f| f);
    let since = site.work.configured_at.load(Ordering::Relaxed);
    let accepted = ledger.acceptances();
    let ended = accepted.iter().filter(|a| a.expires <= site.now).count();
    html! {
        dl {
            dt { "Judged as" } dd { "Kubernetes " (ledger.version().to_string()) }
            dt { "Rules" } dd { a href="rules" { (ledger.catalogue().rules.len()) " rules" } ", hash " code { (site.snapshot.ruleset) } }
            dt { "Privileged namespaces" }
            dd { @for (i, ns) in privileged.iter().enumerate() { @if i > 0 { ", " } (name(ns)) } }
            dt { "Version" } dd { (site.version) }
            dt { "Configuration" }
            dd {
                @for (i, file) in files.iter().enumerate() { @if i > 0 { ", " } (name(file)) }
                @if files.is_empty() { "no file is given: the shipped rules, nothing accepted" }
            }
            dt { "In force since" } dd { (moment(i64::try_from(since).ok(), site.now)) }
            dt { "Accepted risks" }
            dd {
                @if accepted.is_empty() { "none" }
                @else {
                    a href="#accepted" { (accepted.len()) }
                    @if ended > 0 { ", " (ended) " of them ended" }
                }
            }
        }
        @if let Some(refused) = site.work.refused() {
            div.warning role="alert" {
                h3 { "The newest configuration is refused" }
                p { "Read " (moment(Some(refused.at), site.now)) "; the one above stays in force." }
                ul {
                    @for fault in refused.faults.iter().take(TOP) { li { (Text(fault)) } }
                    @if refused.faults.len() > TOP { li { (refused.faults.len() - TOP) " more in the log" } }
                }
            }
        }
    }
}

/// What somebody answers for, the next to end first.
fn acceptances(ledger: &Ledger, now: i64) -> Markup {
    let mut all: Vec<&Acceptance> = ledger.acceptances().iter().collect();
    all.sort_by_key(|entry| (entry.expires, &entry.id));
    let head = html! {
        th scope="col" { "Last day" } th scope="col" { "Entry" } th scope="col" { "Subject" } th scope="col" { "Up to" }
        th scope="col" { "Owner" } th.wide scope="col" { "Reason" }
    };
    let body = html! {
        @for entry in all.iter().take(LIMIT) {
            tr {
                td.nowrap {
                    // an entry ends with its last day
                    @if let Ok(last) = jiff::Timestamp::from_second(entry.expires - 1) { (last.strftime("%Y-%m-%d")) }
                    @if entry.expires <= now { " " strong { "ended" } }
                }
                th scope="row" { (name(&entry.id)) }
                td { (who(&entry.subject)) }
                td { (badge(entry.priority)) }
                td { (Text(&entry.owner)) }
                td.wide { (Text(&entry.reason)) }
            }
        }
    };
    html! {
        (table("acceptances", "What somebody answers for; what has ended covers nothing", &head, &body))
        @if all.len() > LIMIT { p.soft { (all.len() - LIMIT) " more in the configuration" } }
    }
}
