//! The page for people: rendered here, whole, without scripts. Every state is a URL; links are relative,
//! so that it works below any prefix. Whatever comes from a cluster goes through [`Text`].

mod overview;
mod pods;
mod rules;
mod subject;
mod subjects;

use super::http::{Ask, Reply};
use super::metrics::Work;
use super::negotiate::{accepts_gzip, gzip};
use super::params::Fault;
use super::report::printable;
use crate::ledger::{Ledger, Listed, Slice, Snapshot};
use crate::object::Subject;
use crate::risk::{Catalogue, Priority, Status};
use base64::Engine as _;
use maud::{DOCTYPE, Markup, Render, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Rows of a list when none is asked for, and at most: a page stays below 100 kB.
const LIMIT: usize = 50;
const MOST: usize = 100;

static STYLE: &str = include_str!("style.css");

/// Nothing is loaded and nothing runs; the one style sheet is known by its hash, the icon is in the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
});

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath d='M8 1l6 2v5c0 4-3 6-6 7-3-1-6-3-6-7V3z' fill='%23b3122a'/%3E%3C/svg%3E";

/// What a page is made of beside the ledger.
pub(super) struct Site<'a> {
    /// Package version and commit.
    pub(super) version: &'a str,
    /// Where the metrics are.
    pub(super) telemetry_path: &'a str,
    /// What is exported.
    pub(super) snapshot: &'a Snapshot,
    /// What it observes of its own work.
    pub(super) work: &'a Work,
    /// Unix seconds.
    pub(super) now: i64,
}

/// Answers a path of the page; `None` for every other one.
pub(super) fn answer(site: &Site<'_>, ledger: &Ledger, ask: &Ask<'_>) -> Option<Reply> {
    let page = match ask.path {
        "/" => overview::page(site, ledger, ask.query),
        "/namespaces" => overview::namespaces(site, ask.query),
        "/subjects" => subjects::page(ledger, site.now, ask.query),
        "/subject" => subject::page(ledger, site.now, ask.query),
        "/pods" => pods::page(ledger, ask.query),
        "/rules" => rules::page(site, ledger, ask.query),
        _ => return None,
    };
    let body = page.whole(site).into_string().into_bytes();
    let compressed = accepts_gzip(ask.accept_encoding);
    let body = if compressed { gzip(&body) } else { body.into() };
    let mut reply = Reply::new(page.status, "text/html; charset=utf-8", body)
        .negotiated()
        .with_header("content-security-policy", POLICY.as_str())
        .with_header("x-frame-options", "DENY")
        .with_header("referrer-policy", "no-referrer")
        .with_header("cross-origin-opener-policy", "same-origin")
        .with_header("cross-origin-resource-policy", "same-origin");
    reply.encoding = compressed.then_some("gzip");
    Some(reply)
}

/// One page, less what all have in common.
struct Page {
    status: u16,
    title: String,
    body: Markup,
    /// Where the same stands as JSON, relative.
    json: String,
}

impl Page {
    fn whole(&self, site: &Site<'_>) -> Markup {
        let places = [
            ("./", "Overview"),
            ("subjects", "Subjects"),
            ("pods", "Pods"),
            ("rules", "Rules"),
        ];
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (Text(&self.title)) " · rbac-exporter" }
                    link rel="icon" href=(ICON);
                    style { (maud::PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#main" { "Skip to the content" }
                    header {
                        a.brand href="./" { "rbac-exporter" }
                        nav aria-label="Main" {
                            ul {
                                @for (href, name) in places {
                                    li { a href=(href) aria-current=[(self.title == name).then_some("page")] { (name) } }
                                }
                            }
                        }
                    }
                    main #main {
                        @if !site.snapshot.complete {
                            p.warning role="status" {
                                strong { "Not everything could be read, so the true picture may be worse. " }
                                a href="./#unread" { "What is missing" }
                            }
                        }
                        (self.body)
                    }
                    footer {
                        a href=(self.json) { "This as JSON" }
                        a href=(site.telemetry_path.trim_start_matches('/')) { "Metrics" }
                        a href="-/ready?verbose" { "Readiness" }
                        span { "rbac-exporter " (site.version) ", rules " (site.snapshot.ruleset) }
                    }
                }
            }
        }
    }
}

/// Free text: escaped as everything in a template is, and without characters that act.
struct Text<'a>(&'a str);

impl Render for Text<'_> {
    fn render_to(&self, out: &mut String) {
        printable(self.0).render_to(out);
    }
}

/// A name.
fn name(text: &str) -> Markup {
    html! { span.n { (Text(text)) } }
}

fn badge(priority: Priority) -> Markup {
    html! { span class={ "p " (priority.as_str()) } { (priority.as_str()) } }
}

/// The status, where it is not the usual one.
fn covered(status: Status) -> Markup {
    html! { @if status != Status::Open { " " span.p { (status.as_str()) } } }
}

/// A moment and how long ago that is.
fn moment(at: Option<i64>, now: i64) -> Markup {
    let Some(time) = at.and_then(|at| jiff::Timestamp::from_second(at).ok()) else {
        return html! { span.soft { "unknown" } };
    };
    let text = time.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let age = age(now.saturating_sub(time.as_second()));
    html! { time datetime=(time.to_string()) { (text) } " " span.soft.nowrap { "(" (age) ")" } }
}

/// Seconds in the one unit that says enough.
fn age(seconds: i64) -> String {
    match seconds {
        ..90 => format!("{} s", seconds.max(0)),
        90..5400 => format!("{} min", seconds / 60),
        5400..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A relative link with its parameters encoded; empty ones are left out.
fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
    let link = query.finish();
    link.strip_suffix('?').unwrap_or(&link).to_owned()
}

/// Where a subject is explained.
fn subject_link(subject: &Subject) -> String {
    let (kind, namespace, name) = parts(subject);
    link(
        "subject",
        &[("kind", kind), ("namespace", namespace), ("name", name)],
    )
}

/// Kind, namespace and name as labels have them.
fn parts(subject: &Subject) -> (&'static str, &str, &str) {
    match subject {
        Subject::Group { name } => ("Group", "", name),
        Subject::User { name } => ("User", "", name),
        Subject::ServiceAccount { namespace, name } => ("ServiceAccount", namespace, name),
    }
}

/// A subject as a link.
fn who(subject: &Subject) -> Markup {
    html! { a.n href=(subject_link(subject)) { (Text(&subject.written())) } }
}

/// Where a rule is explained. Ids of users' own rules are free text too.
fn rule_link(id: &str) -> String {
    let id = printable(id);
    let id = utf8_percent_encode(&id, NON_ALPHANUMERIC).to_string();
    // what every id has, for links that can be read
    format!("rules#{}", id.replace("%2D", "-"))
}

/// A rule as a link.
fn rule(id: &str) -> Markup {
    html! { a.n href=(rule_link(id)) { (Text(id)) } }
}

/// A rule by its title.
fn titled(catalogue: &Catalogue, id: &str) -> Markup {
    let rule = catalogue.rules.iter().find(|r| r.id == id);
    let title = rule.map_or(id, |r| r.title.as_str());
    html! { a href=(rule_link(id)) { (Text(title)) } }
}

/// `@namespace`, `@*` said in words.
fn scope(scope: &str) -> Markup {
    html! { @if scope == "*" { "cluster-wide" } @else { "in " (name(scope)) } }
}

/// What `namespace` means in a form: an empty field is none, so `-` stands for what lies in none. No
/// namespace is called that: names of namespaces begin and end with a letter or a digit.
fn namespace(text: Option<String>) -> Option<String> {
    text.map(|text| if text == "-" { String::new() } else { text })
}

/// `namespace` for a link.
fn namespace_value(namespace: &str) -> &str {
    if namespace.is_empty() { "-" } else { namespace }
}

/// Name of a namespace, or what lies in none.
fn namespace_name(namespace: &str) -> Markup {
    html! { @if namespace.is_empty() { "users, groups, cluster-wide" } @else { (name(namespace)) } }
}

/// What was wrong with the parameters.
fn faults(faults: &[Fault]) -> Markup {
    html! {
        @if !faults.is_empty() {
            div.warning role="alert" {
                h2 { "This could not be asked" }
                ul { @for fault in faults { li { code { (Text(&fault.parameter)) } " " (Text(&fault.detail)) } } }
            }
        }
    }
}

/// A table that scrolls on its own where it is too wide, also by keyboard.
fn table(id: &str, caption: &str, head: &Markup, body: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-labelledby=(id) tabindex="0" {
            table {
                caption id=(id) { (caption) }
                thead { tr { (head) } }
                tbody { (body) }
            }
        }
    }
}

/// Which part of a list is shown, and the way to the others.
fn pager<T>(path: &str, query: &str, slice: Slice, listed: &Listed<T>) -> Markup {
    let (from, shown) = (slice.offset, listed.items.len());
    let at = |offset: usize| {
        let mut out = form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
        let others = form_urlencoded::parse(query.as_bytes());
        out.extend_pairs(others.filter(|(n, v)| n != "offset" && !v.is_empty()));
        out.append_pair("offset", &offset.to_string());
        out.finish()
    };
    let next = from.saturating_add(slice.limit);
    html! {
        nav.pager aria-label="Pages" {
            span.soft {
                @if shown == 0 { (listed.total) " in all" }
                @else { (from + 1) "–" (from + shown) " of " (listed.total) }
            }
            ul {
                @if from > 0 { li { a rel="prev" href=(at(from.saturating_sub(slice.limit))) { "Previous" } } }
                @if next < listed.total { li { a rel="next" href=(at(next)) { "Next" } } }
            }
        }
    }
}

/// A field of a form to type into.
fn field(key: &str, label: &str, value: &str, hint: &str) -> Markup {
    html! {
        div {
            label for=(key) { (label) }
            input id=(key) name=(key) value=(Text(value)) placeholder=[(!hint.is_empty()).then_some(hint)];
        }
    }
}

/// A field of a form to choose from; the first word is what holds when nothing is chosen.
fn choice<'w>(
    key: &str,
    label: &str,
    value: &str,
    any: &str,
    words: impl Iterator<Item = &'w str>,
) -> Markup {
    html! {
        div {
            label for=(key) { (label) }
            select id=(key) name=(key) {
                option value="" { (any) }
                @for word in words { option value=(word) selected[word == value] { (Text(word)) } }
            }
        }
    }
}

/// The value of a parameter as it was sent, to show a form as it was filled in.
fn sent(query: &str, key: &str) -> String {
    form_urlencoded::parse(query.as_bytes())
        .find(|(n, _)| n == key)
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let shown = [-5, 0, 89, 90, 5399, 5400, 172_799, 172_800].map(age);
        let expected = [
            "0 s", "0 s", "89 s", "1 min", "89 min", "1 h", "47 h", "2 d",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn links_hold_any_name() {
        let subject = Subject::User {
            name: "a&b=\"<ü>#\u{202e}".into(),
        };
        assert_eq!(
            subject_link(&subject),
            "subject?kind=User&name=a%26b%3D%22%3C%C3%BC%3E%23%E2%80%AE"
        );
        assert_eq!(link("pods", &[("a", "")]), "pods");
    }

    #[test]
    fn free_text_neither_marks_up_nor_acts() {
        let shown = html! { p title=(Text("\"<\u{1b}")) { (Text("<i>\u{202e}\n")) } }.into_string();
        assert_eq!(
            shown,
            "<p title=\"&quot;&lt;\\u{1b}\">&lt;i&gt;\\u{202e}\\n</p>"
        );
    }
}
