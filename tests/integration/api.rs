//! The JSON API on the demo: every path with good parameters and with bad ones, held against the report.

use crate::command::{Input, Server, demo};
use serde_json::Value;
use std::io::Read as _;
use std::path::Path;

fn json(server: &Server, path: &str) -> Value {
    let answer = server.ask("GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {:?}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// A list, whole: `next` is followed to the end.
fn walk(server: &Server, list: &str, query: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut next = Some(query.to_owned());
    while let Some(query) = next {
        let page = json(server, &format!("/api/v1/{list}{query}"));
        assert_eq!(page["offset"], all.len());
        all.extend(page[list].as_array().unwrap().iter().cloned());
        next = page["next"].as_str().map(str::to_owned);
        let ended = next.is_none();
        assert_eq!(ended, page["total"] == all.len(), "{page}");
        assert!(all.len() <= 1000);
    }
    all
}

fn array<'a>(report: &'a Value, list: &str) -> &'a [Value] {
    report[list].as_array().unwrap()
}

#[test]
fn pages_put_together_are_the_report() {
    let server = Server::start(Path::new(demo()));
    let report = json(&server, "/api/v1/report");
    assert_eq!(json(&server, "/api/v1/summary"), report["summary"]);
    for list in ["subjects", "pods", "roles", "bindings"] {
        for limit in [1, 7, 1000] {
            assert_eq!(
                walk(&server, list, &format!("?limit={limit}")),
                array(&report, list),
                "{list}"
            );
        }
        let ranked = walk(&server, list, "?sort=priority&limit=13");
        assert_eq!(ranked.len(), array(&report, list).len());
        let worth = |e: &Value| {
            let words = ["none", "low", "medium", "high", "critical"];
            words.iter().position(|w| e["priority"] == *w).unwrap()
        };
        assert!(ranked.is_sorted_by(|a, b| worth(a) >= worth(b)), "{list}");
    }
    let newest = walk(&server, "subjects", "?sort=since&limit=10");
    let since = |e: &Value| e["since"].as_str().unwrap_or_default().to_owned();
    assert!(newest.is_sorted_by(|a, b| since(a) >= since(b)));
}

#[test]
fn filters_leave_what_fits() {
    let server = Server::start(Path::new(demo()));
    let report = json(&server, "/api/v1/report");
    let holds =
        |e: &Value, key: &str, part: &str| e[key].as_str().unwrap().to_lowercase().contains(part);
    type Fits<'a> = &'a dyn Fn(&Value) -> bool;
    let cases: &[(&str, &str, Fits<'_>)] = &[
        ("subjects", "namespace=ci", &|e| e["namespace"] == "ci"),
        ("subjects", "namespace=", &|e| e["namespace"] == ""),
        ("subjects", "kind=Group", &|e| e["kind"] == "Group"),
        ("subjects", "name=tiller", &|e| e["name"] == "tiller"),
        ("subjects", "priority=critical,high&status=open", &|e| {
            (e["priority"] == "critical" || e["priority"] == "high") && e["status"] == "open"
        }),
        ("subjects", "status=builtin", &|e| e["status"] == "builtin"),
        ("subjects", "text=Prom", &|e| {
            holds(e, "name", "prom") || holds(e, "namespace", "prom")
        }),
        ("subjects", "text=ci%2Frelease-bot", &|e| {
            e["namespace"] == "ci" && e["name"] == "release-bot"
        }),
        // as rbac_rule_subjects counts: whoever is admin there is counted as that alone
        ("subjects", "rule=secrets-list", &|e| {
            let has = |rule| array(e, "findings").iter().any(|f| f["rule"] == rule);
            has("secrets-list") && !has("wildcard-admin")
        }),
        ("pods", "namespace=shop", &|e| e["namespace"] == "shop"),
        ("pods", "has=node-escape", &|e| {
            !array(e, "nodeEscape").is_empty()
        }),
        ("pods", "has=token&priority=critical", &|e| {
            e["priority"] == "critical" && !array(e, "tokens").is_empty()
        }),
        ("pods", "has=secret", &|e| !array(e, "secrets").is_empty()),
        ("pods", "live=false", &|e| e["terminal"] == true),
        (
            "pods",
            "workload=storefront&workload_kind=Deployment",
            &|e| e["workload"]["name"] == "storefront",
        ),
        ("pods", "serviceaccount=edge-ingress", &|e| {
            let mut tokens = array(e, "tokens").iter();
            tokens.any(|t| t["serviceaccount"]["name"] == "edge-ingress")
        }),
        ("roles", "kind=ClusterRole&bound=false", &|e| {
            e["kind"] == "ClusterRole" && e["bound"] == false
        }),
        ("roles", "wildcard=true", &|e| e["wildcardRules"] != 0),
        ("roles", "priority=high&status=open", &|e| {
            e["priority"] == "high" && e["status"] == "open"
        }),
        ("bindings", "dangling=true", &|e| {
            !array(e, "dangling").is_empty()
        }),
        ("bindings", "role=cluster-admin", &|e| {
            e["role"]["name"] == "cluster-admin"
        }),
        ("bindings", "kind=RoleBinding&namespace=web", &|e| {
            e["kind"] == "RoleBinding" && e["namespace"] == "web"
        }),
        ("bindings", "subject=sa:ci/release-bot", &|e| {
            let mut subjects = array(e, "subjects").iter();
            subjects.any(|s| s["name"] == "release-bot" && s["namespace"] == "ci")
        }),
        ("bindings", "priority=critical&status=open,accepted", &|e| {
            e["priority"] == "critical" && e["status"] != "builtin"
        }),
    ];
    for (list, query, fits) in cases {
        let all = array(&report, list).iter();
        let expected: Vec<&Value> = all.filter(|e| fits(e)).collect();
        assert!(!expected.is_empty(), "{list}?{query} shows nothing");
        let found = walk(&server, list, &format!("?{query}&limit=3"));
        let names = |e: &Value| format!("{}/{}", e["namespace"], e["name"]);
        let found: Vec<String> = found.iter().map(names).collect();
        assert_eq!(
            found,
            expected.into_iter().map(names).collect::<Vec<_>>(),
            "{list}?{query}"
        );
    }
    for none in [
        "subjects?namespace=nowhere",
        "pods?node=none",
        "bindings?subject=user:nobody",
    ] {
        assert_eq!(
            json(&server, &format!("/api/v1/{none}"))["total"],
            0,
            "{none}"
        );
    }
    let rules = walk(&server, "rules", "?limit=40");
    assert_eq!(rules.len(), 86);
    assert_eq!(
        walk(&server, "rules", "?rule=rbac-bind")[0]["id"],
        "rbac-bind"
    );
}

#[test]
fn what_is_wrong_with_a_request_is_told_all_at_once() {
    let server = Server::start(Path::new(demo()));
    let cases = [
        (400, "subjects?priority=hihg", "did you mean high?"),
        (400, "subjects?namespce=a", "did you mean namespace?"),
        (400, "subjects?limit=0", "from 1 to 1000"),
        (400, "subjects?limit=1001", "from 1 to 1000"),
        (400, "subjects?offset=-1", "of 0 or more"),
        (400, "subjects?offset=99999999999999999999", "of 0 or more"),
        (400, "subjects?sort=age", "name, priority, since"),
        (
            400,
            "subjects?kind=serviceaccount",
            "did you mean ServiceAccount?",
        ),
        (
            400,
            "subjects?rule=secrets-lst",
            "did you mean secrets-list?",
        ),
        (400, "subjects?name=a&name=b", "more than once"),
        (400, "pods?kind=Pod", "unknown"),
        (400, "pods?sort=since", "name, priority"),
        (400, "pods?has=nodeescape", "did you mean node-escape?"),
        (400, "pods?live=1", "true, false"),
        (400, "roles?bound=maybe", "true, false"),
        (400, "bindings?subject=release-bot", "sa:NAMESPACE/NAME"),
        (400, "rules?rule=%00", "is no rule"),
        (400, "summary?x=%3Cscript%3E", "none is known here"),
        (400, "report?limit=3", "none is known here"),
        (400, "subjects/User/jane?namespace=a", "none is known here"),
        (400, "who-can", "verb is needed"),
        (400, "who-can?verb=get", "resource is needed"),
        (
            400,
            "who-can?verb=get&resource=pods&path=/metrics",
            "asked alone",
        ),
        (
            400,
            "who-can?verb=get&path=/metrics&namespace=a",
            "lies in no namespace",
        ),
        (
            400,
            "who-can?verb=get&resource=pods&namespce=a",
            "did you mean namespace?",
        ),
        (404, "subject", "did you mean subjects?"),
        (404, "", "subjects, summary"),
        (404, "subjects/User/nobody", "no subject user:nobody"),
        (404, "subjects/Usr/nobody", "User/NAME"),
        (
            404,
            "subjects/ServiceAccount/ci",
            "ServiceAccount/NAMESPACE/NAME",
        ),
        (404, "subjects/User/a/b/c", "User/NAME"),
        (404, "subjects/User/%ff", "UTF-8"),
    ];
    for (status, path, part) in cases {
        let answer = server.ask("GET", &format!("/api/v1/{path}"), "");
        assert_eq!(answer.status, status, "{path}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{path}");
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(problem["status"], status, "{path}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{path}: {detail}");
        assert_eq!(problem["errors"].is_array(), status == 400, "{path}");
    }
    let answer = server.ask("GET", "/api/v1/pods?live=1&limit=a&x=y", "");
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    let named = problem["errors"].as_array().unwrap().iter();
    let named: Vec<&str> = named.map(|e| e["parameter"].as_str().unwrap()).collect();
    assert_eq!(named, ["live", "limit", "x"]);
    assert_eq!(server.ask("POST", "/api/v1/subjects", "").status, 405);
}

#[test]
fn one_subject_is_found_whatever_its_name() {
    let hostile = "a/b?c&d%2F#\"<i>\u{202e}\n+ é";
    let bound = |name: &str| {
        serde_json::json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        })
        .to_string()
    };
    let input = Input::new(&bound(hostile));
    let server = Server::start(&input.path);
    let encoded: String = hostile.bytes().map(|b| format!("%{b:02X}")).collect();
    let one = json(&server, &format!("/api/v1/subjects/User/{encoded}"));
    assert_eq!(one["name"], hostile);
    let listed = json(
        &server,
        &format!("/api/v1/subjects?kind=User&name={encoded}"),
    );
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["subjects"][0], one);

    let server = Server::start(Path::new(demo()));
    let report = json(&server, "/api/v1/report");
    for subject in array(&report, "subjects") {
        let text = |key: &str| subject[key].as_str().unwrap().replace(':', "%3a");
        let namespace = match text("namespace").as_str() {
            "" => String::new(),
            namespace => format!("{namespace}/"),
        };
        let path = format!(
            "/api/v1/subjects/{}/{namespace}{}",
            text("kind"),
            text("name")
        );
        assert_eq!(json(&server, &path), *subject);
    }
}

#[test]
fn plain_packed_and_head_are_one_answer() {
    let server = Server::start(Path::new(demo()));
    for path in [
        "summary",
        "report",
        "subjects?limit=3",
        "rules",
        "subjects/Group/oncall",
    ] {
        let path = format!("/api/v1/{path}");
        let plain = server.ask("GET", &path, "");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(plain.header("cache-control"), Some("no-store"));
        let length = plain.body.len().to_string();
        assert_eq!(plain.header("content-length"), Some(length.as_str()));
        let packed = server.ask("GET", &path, "Accept-Encoding: gzip\r\n");
        assert_eq!(packed.header("content-encoding"), Some("gzip"));
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&packed.body[..]);
        decoder.read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body, "{path}");
        let head = server.ask("HEAD", &path, "");
        assert!(head.body.is_empty());
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), Some(length.as_str()));
    }
}

/// Is everything that `part` says true of `whole`? Of a list, what is shown must be in it.
fn within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|w| within(value, w))),
        (Value::Array(part), Value::Array(whole)) => part
            .iter()
            .all(|value| whole.iter().any(|w| within(value, w))),
        _ => part == whole,
    }
}

#[test]
fn the_examples_of_the_documentation_are_answers() {
    let text = std::fs::read_to_string(format!("{}/docs/api.md", env!("CARGO_MANIFEST_DIR")));
    let text = text.unwrap();
    let server = Server::start(Path::new(demo()));
    let mut shown = std::collections::BTreeSet::new();
    for part in text.split("```http\nGET ").skip(1) {
        let (path, rest) = part.split_once('\n').unwrap();
        let example = rest.split("```json\n").nth(1).unwrap();
        let example: Value = serde_json::from_str(example.split("```").next().unwrap())
            .unwrap_or_else(|e| panic!("{path}: {e}"));
        let answer: Value = serde_json::from_str(&server.get(path).1).unwrap();
        assert!(within(&example, &answer), "{path} answers {answer:#}");
        let path = path.strip_prefix("/api/v1/").unwrap();
        shown.insert(path.split(['/', '?']).next().unwrap().to_owned());
    }
    let all = [
        "bindings", "pods", "report", "roles", "rules", "subjects", "summary", "who-can",
    ];
    assert!(shown.iter().eq(all), "{shown:?}");
}
