//! `/pods`: what runs with which power. By owner, or pod by pod.

use super::{
    LIMIT, MOST, Page, Text, badge, choice, covered, faults, field, link, name, namespace, pager,
    sent, table, who,
};
use crate::export::api::{self, ORDERS, POD_HAS};
use crate::export::params::Params;
use crate::ledger::{Ledger, Order, PodView, Slice, TokenSource};
use crate::object::{Resource, Subject};
use crate::risk::{Priority, Status};
use maud::{Markup, html};

pub(super) fn page(ledger: &Ledger, query: &str) -> Page {
    let mut params = Params::of_form(query);
    let mut filter = api::pod_filter(&mut params);
    filter.all.namespace = namespace(filter.all.namespace);
    // what has ended carries nothing any more
    filter.live = filter.live.or(Some(true));
    let single = params.word("by", &[("pod", true)]).unwrap_or(false);
    let slice = Slice {
        order: params.word("sort", &ORDERS[..2]).unwrap_or(Order::Priority),
        offset: params.number("offset", 0..=usize::MAX).unwrap_or(0),
        limit: params.number("limit", 1..=MOST).unwrap_or(LIMIT),
    };
    let wrong = params.finish().err().unwrap_or_default();
    let list = if single {
        let listed = ledger.list_pods(&filter, &slice);
        html! { (pods(&listed.items)) (pager("pods", query, slice, &listed)) }
    } else {
        let listed = ledger.list_workloads(&filter, &slice);
        let head = html! {
            th scope="col" { "Priority" } th scope="col" { "Workload" } th.num scope="col" { "Pods" }
            th scope="col" { "Token of" } th scope="col" { "Can take its node by" } th.wide scope="col" { "Secrets" }
        };
        let body = html! {
            @for line in &listed.items {
                @let pod = &line.worst;
                tr {
                    td.nowrap { (badge(pod.priority)) (covered(pod.status)) }
                    th scope="row" {
                        span.soft { (Text(&line.kind)) " " }
                        a.n href=(link("pods", &[("by", "pod"), ("namespace", &pod.namespace), ("workload_kind", &line.kind), ("workload", &line.name)])) {
                            (Text(&format!("{}/{}", pod.namespace, line.name))) }
                        @if pod.predicted { " " span.soft { "predicted" } }
                    }
                    td.num { (line.pods) }
                    td { (tokens(pod)) }
                    td {
                        (line.escapes.join(", "))
                        @if let Some((priority, status)) = line.node {
                            @if priority > Priority::None { br; span.soft { "worst token there " } (badge(priority)) (covered(status)) }
                        }
                    }
                    td.wide { (secrets(pod)) }
                }
            }
        };
        html! {
            (table("list", "Live pods by owner: the worst token, node escape, Secrets", &head, &body))
            (pager("pods", query, slice, &listed))
        }
    };
    let words = POD_HAS.iter().map(|(word, _)| *word);
    let levels = Priority::ALL.iter().rev().map(|p| p.as_str());
    let body = html! {
        h1 { "Pods and workloads" }
        (faults(&wrong))
        form method="get" action="pods" role="search" aria-label="Filter pods" {
            (field("text", "Name contains", &sent(query, "text"), ""))
            (field("namespace", "Namespace", &sent(query, "namespace"), ""))
            (choice("priority", "Priority", &sent(query, "priority"), "any", levels))
            (choice("status", "Status", &sent(query, "status"), "any", Status::ALL.iter().map(|s| s.as_str())))
            (choice("has", "Has", &sent(query, "has"), "anything", words))
            (choice("by", "Shown by", &sent(query, "by"), "workload", ["pod"].into_iter()))
            (choice("sort", "Sorted by", &sent(query, "sort"), "worst first", ["name"].into_iter()))
            div { button type="submit" { "Filter" } }
            @if !query.is_empty() { div { a href="pods" { "Show all" } } }
        }
        @if ledger.watched().all(|r| r != Resource::Pods) {
            p.warning { "Pods are left out (--allow-partial pods): none is known." }
        }
        (list)
        p.soft { "The priority is that of the strongest account whose API token a pod carries: whoever breaks into the pod has it." }
    };
    let json: Vec<(&str, String)> = [
        "text",
        "priority",
        "status",
        "has",
        "workload",
        "workload_kind",
    ]
    .into_iter()
    .map(|key| (key, sent(query, key)))
    .collect();
    let json: Vec<(&str, &str)> = json.iter().map(|(k, v)| (*k, v.as_str())).collect();
    Page {
        status: if wrong.is_empty() { 200 } else { 400 },
        title: "Pods".into(),
        body,
        json: link("api/v1/pods", &json),
    }
}

fn pods(items: &[PodView]) -> Markup {
    let head = html! {
        th scope="col" { "Priority" } th scope="col" { "Pod" } th scope="col" { "Token of" }
        th scope="col" { "Can take its node by" } th.wide scope="col" { "Node" } th.wide scope="col" { "Secrets" }
    };
    let body = html! {
        @for pod in items {
            tr {
                td.nowrap { (badge(pod.priority)) (covered(pod.status)) }
                th scope="row" {
                    (name(&format!("{}/{}", pod.namespace, pod.name)))
                    @if pod.predicted { " " span.soft { "predicted" } } @else { " " span.soft { (pod.phase.as_str()) } }
                }
                td { (tokens(pod)) }
                td { (pod.escapes.join(", ")) }
                td.wide { (name(&pod.node)) }
                td.wide { (secrets(pod)) }
            }
        }
    };
    table("list", "Pods: token, node escape, Secrets", &head, &body)
}

fn tokens(pod: &PodView) -> Markup {
    html! {
        ul.plain {
            @for token in &pod.tokens {
                @let account = Subject::ServiceAccount { namespace: pod.namespace.clone(), name: token.account.clone() };
                li {
                    (who(&account))
                    @match token.source {
                        TokenSource::Projected => {},
                        TokenSource::SecretVolume => { " " span.soft { "Secret as volume" } },
                        TokenSource::SecretEnv => { " " span.soft { "Secret in the environment" } },
                    }
                }
            }
        }
    }
}

/// Names beyond the first few are counted.
fn secrets(pod: &PodView) -> Markup {
    html! {
        @for (i, secret) in pod.secrets.iter().take(4).enumerate() { @if i > 0 { ", " } (name(&secret.name)) }
        @if pod.secrets.len() > 4 { span.soft { " and " (pod.secrets.len() - 4) " more" } }
    }
}
