//! The tour: the demo with everything around it, a grant, its page, why, and the end of it.
//!
//! `make tour` runs it and waits for Enter between the steps where there is a terminal. As a test it does not wait, and
//! looks at what it shows.

use std::fs;
use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::time::Duration;

use crate::harness::alertmanager::Alertmanager;
use crate::harness::exporter::{Exporter, copy_of_demo, run_binary};
use crate::harness::old::{now, rfc3339};
use crate::harness::prometheus::{Prometheus, Setup};
use crate::harness::{eventually, free_port};

const SUBJECT: &str = "user:intern@kestrel.example";

fn say(text: &str) {
    println!("{text}");
}

/// Waits for a person, if one is there.
fn pause() {
    println!();
    if std::env::var_os("RBAC_EXPORTER_TOUR").is_some() && stdin().is_terminal() {
        println!("[Enter]");
        let mut line = String::new();
        stdin().read_line(&mut line).unwrap();
    }
}

/// The line of `scan` about the subject: priority, subject, why, and what to cut.
fn line_of_scan(manifests: &str) -> Option<String> {
    let scan = run_binary(&["scan", "--source.manifests", manifests], "");
    let mut lines = scan.stdout.lines();
    lines.find(|line| line.contains(SUBJECT)).map(str::to_owned)
}

#[test]
fn a_grant_its_page_why_and_the_end_of_it() {
    let dir = copy_of_demo();
    let manifests = dir.path().to_str().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let args = ["--source.manifests", manifests, "--web.external-url", &url];
    let mut exporter = Exporter::launch_on(port, &args, None);
    exporter.await_ready(Duration::from_secs(20));
    let alertmanager = Alertmanager::start();
    let prometheus = Prometheus::with(Setup {
        jobs: vec![("rbac-exporter", vec![port])],
        rules: Some(alertmanager.port()),
        ..Setup::default()
    });
    say("Kestrel Goods' cluster, as manifests; no API server runs.");
    say(&format!("  exporter      {url}/          {manifests}"));
    say(&format!(
        "  Prometheus    http://127.0.0.1:{}/alerts",
        prometheus.port()
    ));
    say(&format!(
        "  Alertmanager  http://127.0.0.1:{}/",
        alertmanager.port()
    ));

    let open = "RBACCriticalSubjectOpen";
    eventually("tickets for what is old", Duration::from_secs(60), || {
        let all = alertmanager.received();
        let tickets = all.iter().filter(|n| n.label("alertname") == open).count();
        (tickets >= 12)
            .then_some(())
            .ok_or_else(|| format!("{tickets} tickets"))
    });
    let paged = |name: &str| {
        let all = alertmanager.received().into_iter();
        let mut pages = all.filter(|n| n.receiver == "/pages" && n.label("name") == name);
        (pages.next(), pages.count())
    };
    say(
        "\nTwelve subjects have long been critical: a ticket each. One page is out, as a
status page is open to the world; for what is only old there is none.",
    );
    pause();

    say("1. The grant. Somebody merges this, to let an intern look at failed builds:\n");
    let grant = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\n\
         kind: RoleBinding\n\
         metadata: {{name: intern-builds, namespace: ci, creationTimestamp: \"{}\"}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}}\n\
         subjects:\n\
         - {{apiGroup: rbac.authorization.k8s.io, kind: User, name: intern@kestrel.example}}\n",
        rfc3339(now())
    );
    assert_eq!(line_of_scan(manifests), None);
    for line in grant.lines() {
        say(&format!("     {line}"));
    }
    let file = Path::new(manifests).join("99-intern.yaml");
    fs::write(&file, grant).unwrap();
    let ((page, _), after) = eventually("the page comes", Duration::from_secs(60), || {
        let found = paged("intern@kestrel.example");
        found
            .0
            .is_some()
            .then_some(found)
            .ok_or_else(|| "no page".to_owned())
    });
    let page = page.expect("it was just seen");
    pause();

    say(&format!(
        "2. The page, {} seconds later, as Alertmanager sent it:\n",
        after.as_secs()
    ));
    for name in ["summary", "description", "subject_url", "runbook_url"] {
        say(&format!("     {name}: {}", page.annotation(name)));
        assert!(!page.annotation(name).is_empty(), "{name}");
    }
    let link = page.annotation("subject_url");
    let path = link.strip_prefix(&url).expect("the link leads here");
    let subject = exporter.get(path, &[]);
    assert_eq!(subject.status, 200, "{link}");
    assert!(
        subject.text().contains("intern-builds"),
        "{}",
        subject.text()
    );
    say("\n     subject_url is the page of the subject: the steps, the binding, what to cut.");
    pause();

    say("3. Why: a role that looks small, in one namespace, and yet\n");
    let line = line_of_scan(manifests).expect("it is risky now");
    let explained = run_binary(&["explain", SUBJECT, "--source.manifests", manifests], "");
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    say(&format!(
        "     $ rbac-exporter explain {SUBJECT} --source.manifests {manifests}"
    ));
    for line in explained.stdout.lines() {
        say(&format!("     {line}"));
    }
    assert!(
        explained.stdout.contains("intern-builds"),
        "{}",
        explained.stdout
    );
    assert!(line.starts_with("critical"), "{line}");
    assert!(line.contains("sa:gitops/gitops-controller"), "{line}");
    assert!(line.contains("cut RoleBinding ci/intern-builds"), "{line}");
    pause();

    say("4. The fix: the binding it says to cut is taken out.\n");
    fs::remove_file(file).unwrap();
    let series = "rbac_risky_subject_since_timestamp_seconds{name=\"intern@kestrel.example\"}";
    eventually("it is no longer critical", Duration::from_secs(30), || {
        let left = prometheus.query(series);
        left.is_empty()
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    });
    assert_eq!(line_of_scan(manifests), None);
    let (first, more) = paged("intern@kestrel.example");
    assert!(first.is_some() && more == 0, "{more} pages more");
    say(
        "     Nobody new is critical. The alert goes on for half an hour, so that a grant that was\n     revoked at once is looked at all the same; nobody else was paged for it.",
    );
    let others = alertmanager.received();
    let others = others
        .iter()
        .filter(|n| n.receiver == "/pages" && n.label("name") != "intern@kestrel.example");
    let others: Vec<_> = others.map(|n| n.label("alertname").to_owned()).collect();
    // the demo's status page is open to the world, and has been all along
    assert!(
        others.iter().all(|alert| alert == "RBACEveryoneAccess"),
        "{others:?}"
    );
    say("\nLook around at the addresses above; Enter ends it all.");
    pause();
}
