//! The page as a browser reads it: every page that links lead to, on the demo and on a cluster of hostile
//! names.

use crate::command::{Answer, Input, Server, demo};
use html5gum::{Token, Tokenizer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// Every element there is, so that an injected one is another.
const ELEMENTS: &[&str] = &[
    "a", "body", "br", "button", "caption", "code", "dd", "div", "dl", "dt", "footer", "form",
    "h1", "h2", "h3", "head", "header", "html", "input", "label", "li", "link", "main", "meta",
    "nav", "ol", "option", "p", "pre", "section", "select", "span", "strong", "style", "table",
    "tbody", "td", "th", "thead", "time", "title", "tr", "ul",
];

/// Every attribute there is.
const ATTRIBUTES: &[&str] = &[
    "action",
    "aria-current",
    "aria-label",
    "aria-labelledby",
    "charset",
    "class",
    "content",
    "datetime",
    "for",
    "href",
    "id",
    "lang",
    "method",
    "name",
    "placeholder",
    "rel",
    "role",
    "scope",
    "selected",
    "tabindex",
    "type",
    "value",
];

/// Elements without an end.
const VOID: &[&str] = &["br", "input", "link", "meta"];

/// A page that has been read.
#[derive(Default)]
struct Read {
    links: Vec<String>,
    ids: BTreeSet<String>,
    text: String,
    elements: BTreeMap<String, usize>,
}

/// Reads a page by the tokenizer of the HTML standard and holds it to what pages here are made of.
fn read(path: &str, page: &str) -> Read {
    let odd = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(!page.contains(odd), "{path} has a character that acts");
    let mut out = Read::default();
    let mut open: Vec<String> = Vec::new();
    for token in Tokenizer::new(page).map(Result::unwrap) {
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                assert!(ELEMENTS.contains(&name.as_str()), "{path}: <{name}>");
                for (attribute, value) in &tag.attributes {
                    let attribute = std::str::from_utf8(attribute).unwrap();
                    let value = String::from_utf8(value.to_vec()).unwrap();
                    assert!(
                        ATTRIBUTES.contains(&attribute),
                        "{path}: {name} {attribute}={value}"
                    );
                    match attribute {
                        "id" => assert!(out.ids.insert(value.clone()), "{path}: two {value}"),
                        "href" if name == "a" => out.links.push(value),
                        _ => {}
                    }
                }
                *out.elements.entry(name.clone()).or_default() += 1;
                if !VOID.contains(&name.as_str()) {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8(tag.name.to_vec()).unwrap();
                assert_eq!(open.pop(), Some(name), "{path}: the end of another element");
            }
            Token::String(text) => out.text += std::str::from_utf8(&text).unwrap(),
            Token::Comment(_) => panic!("{path} has a comment"),
            Token::Error(error) => panic!("{path}: {error:?}"),
            Token::Doctype(_) => {}
        }
    }
    assert!(open.is_empty(), "{path}: {open:?} are not closed");
    for once in ["main", "h1", "header", "footer", "title"] {
        assert_eq!(out.elements.get(once), Some(&1), "{path}: {once}");
    }
    out
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

/// Follows every link from `/`; each must lead somewhere, and each page must be small and well-formed.
/// Gives how many pages there were.
fn crawl(server: &Server, most: usize) -> usize {
    let mut seen: BTreeSet<String> = BTreeSet::from(["/".to_owned()]);
    let mut todo: VecDeque<String> = VecDeque::from(["/".to_owned()]);
    let mut pages = 0;
    while let Some(path) = todo.pop_front().filter(|_| pages < most) {
        let answer = server.ask("GET", &path, "");
        assert_eq!(answer.status, 200, "{path}");
        if answer.header("content-type") != Some("text/html; charset=utf-8") {
            continue;
        }
        pages += 1;
        assert!(
            answer.body.len() <= 100_000,
            "{path}: {}",
            answer.body.len()
        );
        for (name, part) in [
            (
                "content-security-policy",
                "default-src 'none'; style-src 'sha256-",
            ),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert!(
                answer.header(name).unwrap().starts_with(part),
                "{path}: {name}"
            );
        }
        let page = read(&path, text(&answer));
        for link in page.links {
            if let Some(id) = link.strip_prefix('#') {
                assert!(page.ids.contains(id), "{path}#{id}");
                continue;
            }
            assert!(
                !link.starts_with('/') && !link.contains("//"),
                "{path} → {link}"
            );
            let target = link.split('#').next().unwrap();
            let target = format!("/{}", target.trim_start_matches("./"));
            if seen.insert(target.clone()) {
                todo.push_back(target);
            }
        }
    }
    pages
}

#[test]
fn every_link_of_the_demo_leads_to_a_small_page() {
    let server = Server::start(Path::new(demo()));
    let pages = crawl(&server, usize::MAX);
    assert!(pages > 100, "{pages}");
}

#[test]
fn hostile_names_break_no_page() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = format!("{}/tests/fixtures/hostile.yaml", env!("CARGO_MANIFEST_DIR"));
    let named = directory.path().join("\"><b onclick='x'>&\u{202e}.yaml");
    std::fs::copy(fixture, named).unwrap();
    let server = Server::start(directory.path());
    let pages = crawl(&server, 400);
    assert!(pages > 100, "{pages}");
    let overview = server.ask("GET", "/", "");
    let overview = read("/", text(&overview)).text;
    assert!(
        overview.contains("Not everything could be read"),
        "{overview}"
    );
    assert!(
        overview.contains("\"><b onclick='x'>&\\u{202e}.yaml"),
        "{overview}"
    );
    // what is asked is as hostile as what is shown
    let evil = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%AE%00%0A";
    for (status, path) in [
        (200, format!("/subjects?text={evil}")),
        (
            400,
            format!("/subjects?priority={evil}&sort={evil}&limit={evil}"),
        ),
        (400, format!("/subjects?{evil}={evil}")),
        (404, format!("/subject?kind=User&name={evil}")),
        (400, format!("/subject?kind={evil}&name={evil}")),
        (200, format!("/pods?text={evil}&namespace={evil}")),
        (400, format!("/pods?has={evil}")),
        (400, format!("/?{evil}=1")),
        (400, format!("/rules?{evil}=1")),
        (400, format!("/namespaces?offset={evil}")),
    ] {
        let answer = server.ask("GET", &path, "");
        assert_eq!(answer.status, status, "{path}");
        read(&path, text(&answer));
    }
}

/// A label holds 256 bytes of a name; the link of an alert has no more.
#[test]
fn the_link_of_an_alert_finds_a_subject_whose_name_was_cut() {
    let bind = |i: usize, user: &str| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("admin-{i}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        })
        .to_string()
    };
    let long = "oidc:https://issuer.example/straße/".repeat(20);
    let users = [
        format!("{long}one"),
        format!("{long}two"),
        "short~0123abcd".to_owned(),
    ];
    let documents = users.iter().enumerate().map(|(i, user)| bind(i, user));
    let input = Input::new(&documents.collect::<Vec<_>>().join("\n---\n"));
    let server = Server::start(&input.path);
    let (_, metrics) = server.get("/metrics");
    let family = "rbac_risky_subject_since_timestamp_seconds{";
    let labels: Vec<&str> = metrics
        .lines()
        .filter(|line| line.starts_with(family))
        .filter_map(|line| line.split("name=\"").nth(1)?.split('"').next())
        .filter(|name| name.contains('~'))
        .collect();
    assert_eq!(labels.len(), 3, "{metrics}");
    let mut found = BTreeSet::new();
    for label in labels {
        assert!(label.len() <= 256);
        let encoded: String = label.bytes().map(|b| format!("%{b:02X}")).collect();
        let path = format!("/subject?kind=User&namespace=&name={encoded}");
        let answer = server.ask("GET", &path, "");
        assert_eq!(answer.status, 200, "{label}");
        let page = read(&path, text(&answer)).text;
        let user = users.iter().find(|u| page.contains(&format!("user:{u}")));
        found.insert(user.unwrap());
        assert!(page.contains("kubectl delete clusterrolebinding admin-"));
    }
    assert_eq!(found.len(), 3);
    let other = "/subject?kind=User&namespace=&name=oidc%3Ahttps~0123abcd";
    assert_eq!(server.ask("GET", other, "").status, 404);
}

/// The overview says which configuration is in force, and why a newer one is not.
#[test]
fn the_overview_tells_the_configuration_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    let entry = |id: &str, expires: &str| {
        format!(
            "- {{id: {id}, subject: 'sa:kube-system/tiller', findings: [wildcard-admin@*], priority: critical, \
             reason: 'Helm 2 <b>until</b> June', owner: platform@example, expires: {expires}}}\n"
        )
    };
    let accepted = entry("tiller", "2099-06-30") + &entry("before", "2020-01-31");
    std::fs::write(&config, format!("accepted:\n{accepted}")).unwrap();
    let name = config.to_str().unwrap();
    let server = Server::with(Path::new(demo()), &["--config.file", name]);
    let overview = || read("/", text(&server.ask("GET", "/", ""))).text;
    let page = overview();
    for part in [
        name,
        "2, 1 of them ended",
        "2099-06-30",
        "2020-01-31 ended",
        "platform@example",
        "Helm 2 <b>until</b> June",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (ended, next) = (page.find("2020-01-31"), page.find("2099-06-30"));
    assert!(ended < next, "{page}");
    assert!(!page.contains("refused"), "{page}");
    let most = std::time::Duration::from_secs(20);
    std::fs::write(&config, "acepted: []\nrules: 7\n").unwrap();
    server.until(most, |_| overview().contains("configuration is refused"));
    let page = overview();
    for part in ["config.yaml:1", "did you mean \"accepted\"?", "2099-06-30"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    std::fs::write(&config, "accepted: []\n").unwrap();
    server.until(most, |_| !overview().contains("refused"));
    assert!(!overview().contains("2099-06-30"));
}

/// From the alert's link to the binding to remove: none of the two clicks that are allowed is needed.
#[test]
fn the_link_of_an_alert_names_the_binding_to_remove() {
    let server = Server::start(Path::new(demo()));
    let answer = server.ask(
        "GET",
        "/subject?kind=ServiceAccount&namespace=web&name=preview-env",
        "",
    );
    let page = read("/subject", text(&answer)).text;
    for part in [
        "sa:web/preview-env",
        "critical",
        "2026-11-18 15:27 UTC",
        "What to cut",
        "ci/preview-env",
        "sa:ci/release-bot",
        "sa:gitops/gitops-controller",
        "If it may stay",
        "owner: \"\" # who answers for it\n",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let answer = server.ask(
        "GET",
        "/subject?kind=ServiceAccount&namespace=web&name=gone",
        "",
    );
    assert_eq!(answer.status, 404);
    assert!(read("/subject", text(&answer)).text.contains("may be gone"));
}

#[test]
fn filters_of_the_page_narrow_and_stay_filled_in() {
    let server = Server::start(Path::new(demo()));
    let rows = |path: &str| {
        let answer = server.ask("GET", path, "");
        assert_eq!(answer.status, 200, "{path}");
        let page = read(path, text(&answer));
        page.elements.get("tr").map_or(0, |n| n - 1)
    };
    assert_eq!(rows("/subjects?priority=critical&status=open"), 12);
    assert_eq!(
        rows("/subjects?priority=critical&status=open&kind=&text=&sort="),
        12
    );
    assert_eq!(
        rows("/subjects?namespace=-&priority=critical&status=builtin"),
        2
    );
    assert_eq!(rows("/subjects?text=no+such"), 0);
    assert_eq!(rows("/subjects?limit=20&offset=40"), 13);
    assert_eq!(rows("/pods?by=pod&priority=critical"), 14);
    assert_eq!(rows("/pods?by=pod&live=false"), 12);
    assert_eq!(rows("/rules"), rows("/rules?"));
    let answer = server.ask("GET", "/subjects?text=prom&priority=high&sort=since", "");
    let page = text(&answer);
    for part in [
        "name=\"text\" value=\"prom\"",
        "<option value=\"high\" selected>",
        "<option value=\"since\" selected>",
    ] {
        assert!(page.contains(part), "{part}");
    }
}
