//! `/rules`: what is judged, why, and whom it matches.

use super::{Page, Site, Text, badge, faults, link};
use crate::export::params::Params;
use crate::export::rules::RuleEntry;
use crate::ledger::Ledger;
use crate::risk::{Priority, Status};
use maud::{Markup, html};

pub(super) fn page(site: &Site<'_>, ledger: &Ledger, query: &str) -> Page {
    let wrong = Params::of_form(query).finish().err().unwrap_or_default();
    let body = html! {
        h1 { "Rules" }
        (faults(&wrong))
        p {
            "What makes somebody dangerous, and how much: cluster-wide, in a privileged namespace such as "
            code { "kube-system" } ", in any other namespace."
        }
        @for rule in ledger.catalogue().rules.iter().map(RuleEntry::of) {
            section.rule id=(Text(rule.id)) {
                h2 { (Text(rule.title)) " " code { (Text(rule.id)) } }
                p {
                    (level(rule.cluster)) " cluster-wide, " (level(rule.privileged)) " privileged, "
                    (level(rule.namespace)) " namespace. "
                    (matches(site, &rule))
                }
                p { (Text(rule.attack)) }
                p { strong { "Remedy: " } (Text(rule.remediation)) }
                @if rule.origin != "shipped" { p.soft { "From " (Text(&rule.origin)) } }
                @if !rule.references.is_empty() { p.soft { "References: " (Text(rule.references)) } }
            }
        }
    };
    Page {
        status: if wrong.is_empty() { 200 } else { 400 },
        title: "Rules".into(),
        body,
        json: "api/v1/rules?limit=1000".into(),
    }
}

fn level(priority: Option<Priority>) -> Markup {
    match priority {
        Some(priority) => badge(priority),
        None => html! { span.p { "–" } },
    }
}

fn matches(site: &Site<'_>, rule: &RuleEntry<'_>) -> Markup {
    let of = |status: Option<Status>| {
        let counts = site.snapshot.judged.rules.iter();
        let counts = counts.filter(|c| c.rule == rule.id);
        let counts = counts.filter(|c| status.is_none_or(|s| c.status == s));
        counts.map(|c| c.subjects).sum::<u32>()
    };
    let (all, open) = (of(None), of(Some(Status::Open)));
    html! {
        @if !rule.finding { span.soft { "Shown for roles, bindings and pods alone." } }
        @else if all == 0 { span.soft { "Matches nobody." } }
        @else { a href=(link("subjects", &[("rule", rule.id)])) { "Matches " (all) } ", " (open) " open." }
    }
}
