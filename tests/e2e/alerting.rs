//! From a grant to the page: API server, exporter, Prometheus with the rules as they are, Alertmanager, webhook.
//!
//! Five scenarios always run; `RBAC_EXPORTER_ALERT_SCENARIOS=all`, or some of their names with semicolons between them, runs
//! others. Each starts with an account that has been critical for a year, for which nobody may be woken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::alertmanager::{Alertmanager, Notified};
use crate::harness::eventually;
use crate::harness::exporter::Exporter;
use crate::harness::old::{a_year_ago, now};
use crate::harness::prometheus::{Prometheus, Setup};
use crate::harness::world::World;

const EVERYTHING: &str = r#"[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#;
const EXEC: &str = r#"[{"verbs":["create"],"apiGroups":[""],"resources":["pods/exec"]}]"#;
const DEPLOY: &str = r#"[{"verbs":["create"],"apiGroups":[""],"resources":["pods"]}]"#;
const READ: &str = r#"[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]"#;
const SINCE: &str = "rbac_risky_subject_since_timestamp_seconds";

/// Everything lies here.
const HERE: &str = "live";

/// The exporter that history is about.
const BEFORE: &str = "192.0.2.7:7222";

/// From a grant to the webhook: a scrape, an evaluation, the waiting time of the group.
const ARRIVES: Duration = Duration::from_secs(30);

/// How long nothing may come after the last page: several scrapes, evaluations and intervals of groups.
const QUIET: Duration = Duration::from_secs(7);

/// What is on one scenario's stage.
struct Bench<'a> {
    world: &'a mut World,
    exporter: Option<Exporter>,
    prometheus: Prometheus,
    alertmanager: Alertmanager,
}

impl<'a> Bench<'a> {
    fn new(world: &'a mut World, history: String) -> Self {
        world.put_account(HERE, "old");
        world.put_role("live-old", EVERYTHING, a_year_ago());
        world.put_binding(("", "live-old"), "live-old", (HERE, "old"), a_year_ago());
        fs::write(config(world), "{}").unwrap();
        let exporter = watch(world);
        let alertmanager = Alertmanager::start();
        let prometheus = Prometheus::with(Setup {
            jobs: vec![("rbac-exporter", vec![exporter.port()])],
            rules: Some(alertmanager.port()),
            history,
            ..Setup::default()
        });
        let bench = Self {
            world,
            exporter: Some(exporter),
            prometheus,
            alertmanager,
        };
        bench.await_series("old");
        bench
    }

    fn kubectl(&self, args: &[&str]) {
        self.world.kubectl(args, "");
    }

    /// Binds to cluster-admin.
    fn grant(&self, to: &str) {
        let role = "--clusterrole=cluster-admin";
        self.kubectl(&["create", "clusterrolebinding", "live-new", role, to]);
    }

    fn revoke(&self) {
        self.kubectl(&["delete", "clusterrolebinding", "live-new"]);
    }

    /// Prometheus has seen that the subject is critical and open.
    fn await_series(&self, name: &str) {
        self.await_status(name, "open");
    }

    fn await_status(&self, name: &str, status: &str) {
        let asked = format!(
            "{SINCE}{{name=\"{name}\",priority=\"critical\",status=\"{status}\",instance!=\"{BEFORE}\"}}"
        );
        eventually("prometheus has the series", ARRIVES, || {
            let found = self.prometheus.query(&asked);
            (!found.is_empty())
                .then_some(())
                .ok_or_else(|| asked.clone())
        });
    }

    fn pages(&self) -> Vec<Notified> {
        let all = self.alertmanager.received().into_iter();
        all.filter(|n| n.receiver == "/pages" && n.status == "firing")
            .collect()
    }

    fn await_pages(&self, count: usize) {
        eventually("the page comes", ARRIVES, || {
            let pages = self.pages();
            (pages.len() >= count)
                .then_some(())
                .ok_or_else(|| format!("{pages:?}"))
        });
    }

    fn await_ticket(&self, alert: &str, name: &str) {
        eventually("the ticket comes", ARRIVES, || {
            let all = self.alertmanager.received();
            let found = all.iter().any(|n| {
                n.receiver == "/tickets" && n.label("alertname") == alert && n.label("name") == name
            });
            found.then_some(()).ok_or_else(|| format!("{all:?}"))
        });
    }

    fn kill_exporter(&mut self) {
        self.exporter = None;
    }

    /// Another exporter, as a new pod would be: on another port.
    fn replace_exporter(&mut self) {
        self.exporter = None;
        let exporter = watch(self.world);
        self.prometheus.retarget(&[exporter.port()]);
        self.exporter = Some(exporter);
    }
}

fn config(world: &World) -> PathBuf {
    world.path().join("live-config.yaml")
}

fn watch(world: &World) -> Exporter {
    let kubeconfig = world.exporter_kubeconfig(world.port());
    let config = config(world);
    let config = config.to_str().unwrap();
    let url = "https://rbac.example";
    let flags = ["--web.external-url", url, "--config.file", config];
    Exporter::start(&flags, Some(&kubeconfig))
}

/// Accepts all that is critical about `old`, up to the end of a day.
fn accept_old(bench: &Bench<'_>, expires: &str) {
    let exporter = bench.exporter.as_ref().expect("it runs");
    let subject = exporter.subject("ServiceAccount", HERE, "old");
    let findings = subject["findings"].as_array().unwrap().iter();
    let findings: Vec<String> = findings
        .filter(|f| f["priority"] == "critical")
        .map(|f| {
            let word = |key: &str| f[key].as_str().unwrap();
            format!("{}@{}", word("rule"), word("scope"))
        })
        .collect();
    assert!(!findings.is_empty(), "{subject}");
    // JSON is YAML.
    let config_text = json!({"accepted": [{
        "id": "live-old", "subject": "sa:live/old", "findings": findings, "priority": "critical",
        "reason": "the tests' own", "owner": "tests", "expires": expires,
    }]});
    fs::write(config(bench.world), config_text.to_string()).unwrap();
}

/// What Prometheus remembers of an earlier exporter: that it was there, and who was critical, once a minute.
fn history(from: i64, to: i64, critical: &[&str]) -> String {
    let mut text = "# TYPE rbac_exporter_build_info gauge\n".to_owned();
    let target = format!("instance=\"{BEFORE}\",job=\"rbac-exporter\"");
    let mut series = |name: &str, labels: &str, value: i64| {
        for at in (from..=to).step_by(60) {
            writeln!(text, "{name}{{{labels}{target}}} {value} {at}").unwrap();
        }
    };
    series(
        "rbac_exporter_build_info",
        "version=\"0.1.0\",revision=\"r\",ruleset=\"s\",",
        1,
    );
    for name in critical {
        let labels = format!(
            "namespace=\"{HERE}\",kind=\"ServiceAccount\",name=\"{name}\",priority=\"critical\",status=\"open\","
        );
        series(SINCE, &labels, a_year_ago());
    }
    text.replacen(
        &format!("{SINCE}{{"),
        &format!("# TYPE {SINCE} gauge\n{SINCE}{{"),
        1,
    )
}

/// A scenario: what it is called, what is remembered, what happens, and who is paged for.
struct Scenario {
    name: &'static str,
    history: fn() -> String,
    happens: fn(&mut Bench<'_>),
    pages: &'static [&'static str],
    /// Runs without being asked for.
    always: bool,
}

fn none() -> String {
    String::new()
}

/// Six hours, up to a moment ago.
fn known() -> String {
    history(now() - 6 * 3600, now() - 60, &["old"])
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a new binding",
        history: known,
        happens: |bench| {
            bench.kubectl(&["create", "serviceaccount", "new", "-n", HERE]);
            bench.grant("--serviceaccount=live:new");
            bench.await_pages(1);
            let page = bench.pages().remove(0);
            let summary = "ServiceAccount \"live/new\" can now take over the cluster";
            assert_eq!(page.annotation("summary"), summary);
            let link = "https://rbac.example/subject?kind=ServiceAccount&namespace=live&name=new";
            assert_eq!(page.annotation("subject_url"), link);
            let runbook = page.annotation("runbook_url");
            assert!(runbook.ends_with("/RBACNewCriticalSubject.md"), "{runbook}");
        },
        pages: &["new"],
        always: true,
    },
    Scenario {
        name: "a year-old role is edited",
        history: known,
        happens: |bench| {
            bench.world.put_account(HERE, "edited");
            bench.world.put_role("live-edited", READ, a_year_ago());
            let account = (HERE, "edited");
            bench
                .world
                .put_binding(("", "live-edited"), "live-edited", account, a_year_ago());
            let patch = format!(r#"{{"rules":{EVERYTHING}}}"#);
            bench.kubectl(&[
                "patch",
                "clusterrole",
                "live-edited",
                "--type=merge",
                "-p",
                &patch,
            ]);
        },
        pages: &["edited"],
        always: false,
    },
    Scenario {
        name: "an aggregation label",
        history: known,
        happens: |bench| {
            bench.world.put_account(HERE, "aggregated");
            bench
                .world
                .put_aggregate("live-aggregate", "live-aggregates");
            let account = (HERE, "aggregated");
            bench.world.put_binding(
                ("", "live-aggregate"),
                "live-aggregate",
                account,
                a_year_ago(),
            );
            let rules: Value = serde_json::from_str(EVERYTHING).unwrap();
            bench.world.apply(&json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": "live-part", "labels": {"live-aggregates": "true"}},
                "rules": rules,
            }));
        },
        pages: &["aggregated"],
        always: false,
    },
    Scenario {
        name: "to a group",
        history: known,
        happens: |bench| bench.grant("--group=live-admins"),
        pages: &["live-admins"],
        always: false,
    },
    Scenario {
        // the controllers, which could make pods for any account, would be many
        name: "to everyone: one page for all that it raises",
        history: known,
        happens: |bench| {
            bench.grant("--group=system:authenticated");
            bench.await_series("system:authenticated");
            let new = "count(rbac:new_critical_subject:since_timestamp_seconds) > 6";
            eventually("a crowd is new", ARRIVES, || {
                let found = bench.prometheus.query(new);
                (!found.is_empty()).then_some(()).ok_or(new.to_owned())
            });
        },
        pages: &["system:authenticated (critical)"],
        always: false,
    },
    Scenario {
        name: "to everyone, of whom a page for high is out",
        history: known,
        happens: |bench| {
            let group = "--group=system:unauthenticated";
            // a status page
            let pages = ["--verb=get", "--resource=configmaps"];
            bench.kubectl(&[&["create", "clusterrole", "live-page"][..], &pages].concat());
            let role = "--clusterrole=live-page";
            bench.kubectl(&[
                "create",
                "rolebinding",
                "live-page",
                role,
                group,
                "-n",
                HERE,
            ]);
            bench.await_pages(1);
            bench.grant(group);
        },
        pages: &[
            "system:unauthenticated (critical)",
            "system:unauthenticated (high)",
        ],
        always: false,
    },
    Scenario {
        name: "an account beside an old deployer is bound",
        history: known,
        happens: |bench| {
            for account in ["deployer", "strong"] {
                bench.world.put_account(HERE, account);
            }
            bench.world.put_role("live-deploy", DEPLOY, a_year_ago());
            let account = (HERE, "deployer");
            bench
                .world
                .put_binding((HERE, "live-deploy"), "live-deploy", account, a_year_ago());
            bench.grant("--serviceaccount=live:strong");
        },
        pages: &["deployer", "strong"],
        always: true,
    },
    Scenario {
        name: "a pod of a critical account beside an old exec right",
        history: known,
        happens: |bench| {
            bench.world.put_account(HERE, "holder");
            bench.world.put_role("live-exec", EXEC, a_year_ago());
            let account = (HERE, "holder");
            bench
                .world
                .put_binding((HERE, "live-exec"), "live-exec", account, a_year_ago());
            bench.world.apply(&json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "live-pod", "namespace": HERE},
                "spec": {
                    "serviceAccountName": "old",
                    "containers": [{"name": "main", "image": "example.invalid/web:1"}],
                },
            }));
            bench.await_series("holder");
            bench.await_ticket("RBACCriticalSubjectOpen", "holder");
        },
        pages: &[],
        always: true,
    },
    Scenario {
        name: "revoked within a minute",
        history: known,
        happens: |bench| {
            bench.grant("--user=guest");
            bench.await_series("guest");
            sleep(Duration::from_secs(2));
            bench.revoke();
        },
        pages: &["guest"],
        always: false,
    },
    Scenario {
        name: "the exporter is killed and replaced",
        history: known,
        happens: |bench| {
            bench.grant("--user=new");
            bench.await_pages(1);
            bench.replace_exporter();
            bench.await_series("new");
        },
        pages: &["new"],
        always: false,
    },
    Scenario {
        name: "Prometheus is restarted",
        history: known,
        happens: |bench| {
            bench.grant("--user=new");
            bench.await_pages(1);
            bench.prometheus.restart();
            bench.await_series("new");
        },
        pages: &["new"],
        always: false,
    },
    Scenario {
        name: "the API server is down",
        history: known,
        happens: |bench| {
            bench.world.kill_api_server();
            sleep(Duration::from_secs(10));
            bench.world.start_api_server();
            bench.grant("--user=after");
        },
        pages: &["after"],
        always: false,
    },
    Scenario {
        name: "granted while the exporter is down",
        history: known,
        happens: |bench| {
            bench.kill_exporter();
            bench.grant("--user=unseen");
            sleep(Duration::from_secs(5));
            bench.replace_exporter();
        },
        pages: &["unseen"],
        always: false,
    },
    Scenario {
        name: "granted while it is down for longer than the window",
        // away for the last two and a half hours, in which the grant is made
        history: || history(now() - 6 * 3600, now() - 9000, &["old"]),
        happens: |bench| {
            bench.kill_exporter();
            bench.world.put_account(HERE, "unseen");
            let at = now() - 7200;
            let account = (HERE, "unseen");
            bench
                .world
                .put_binding(("", "live-new"), "cluster-admin", account, at);
            bench.replace_exporter();
        },
        pages: &["unseen"],
        always: true,
    },
    Scenario {
        name: "first install with old critical subjects",
        history: none,
        happens: |bench| bench.await_ticket("RBACCriticalSubjectOpen", "old"),
        pages: &[],
        always: false,
    },
    Scenario {
        name: "an acceptance is added, and ends",
        history: known,
        happens: |bench| {
            accept_old(bench, "2999-12-31");
            bench.await_status("old", "accepted");
            let open = format!("{SINCE}{{name=\"old\",status=\"open\",instance!=\"{BEFORE}\"}}");
            assert!(bench.prometheus.query(&open).is_empty());
            accept_old(bench, "2020-12-31");
            bench.await_series("old");
            eventually("the ticket for its end comes", ARRIVES, || {
                let all = bench.alertmanager.received();
                let mut found = all.iter().filter(|n| n.label("id") == "live-old");
                let named = found.any(|n| n.label("alertname") == "RBACAcceptanceExpired");
                named.then_some(()).ok_or_else(|| format!("{all:?}"))
            });
        },
        pages: &[],
        always: false,
    },
    Scenario {
        name: "a chart upgrade touches labels, the exporter restarts",
        history: || history(now() - 6 * 3600, now() - 60, &["old", "charted"]),
        happens: |bench| {
            bench.world.put_account(HERE, "charted");
            let chart = |version: &str| {
                let rules: Value = serde_json::from_str(EVERYTHING).unwrap();
                let role = json!({
                    "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                    "metadata": {"name": "live-chart", "labels": {"helm.sh/chart": version}},
                    "rules": rules,
                });
                let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
                bench.world.kubectl(&apply, &role.to_string());
            };
            bench.world.put_role("live-chart", EVERYTHING, a_year_ago());
            chart("web-1");
            let account = (HERE, "charted");
            bench
                .world
                .put_binding(("", "live-chart"), "live-chart", account, a_year_ago());
            chart("web-2");
            bench.replace_exporter();
            bench.await_series("charted");
            // without what Prometheus remembers, this would be a page
            let found = bench.prometheus.query(&format!(
                "time() - {SINCE}{{name=\"charted\",instance!=\"{BEFORE}\"}}"
            ));
            assert!(
                !found.is_empty() && found.iter().all(|(_, age)| *age < 600.0),
                "{found:?}"
            );
        },
        pages: &[],
        always: true,
    },
];

fn clean(world: &World) {
    for kind in ["clusterrolebinding", "clusterrole"] {
        let names = world.kubectl(&["get", kind, "-o", "name"], "");
        let ours: Vec<&str> = names
            .lines()
            .filter(|name| name.contains("/live-"))
            .collect();
        if !ours.is_empty() {
            world.kubectl(&[&["delete"][..], &ours].concat(), "");
        }
    }
    let all = [
        "delete",
        "pods,rolebindings,serviceaccounts",
        "--all",
        "-n",
        HERE,
    ];
    world.kubectl(&[&all[..], &["--force", "--grace-period=0"]].concat(), "");
}

/// What `RBAC_EXPORTER_ALERT_SCENARIOS` says.
pub(crate) fn asked_for() -> String {
    std::env::var("RBAC_EXPORTER_ALERT_SCENARIOS").unwrap_or_default()
}

#[test]
fn one_page_for_each_new_critical_subject_and_none_else() {
    let asked = asked_for();
    let wanted = |scenario: &Scenario| match asked.as_str() {
        "" => scenario.always,
        "all" => true,
        names => names.split(';').any(|name| name == scenario.name),
    };
    let mut world = World::with_controllers();
    world.kubectl(&["create", "namespace", HERE], "");
    println!(
        "{:<58} {:<32} {:<32} seconds",
        "scenario", "pages for", "expected"
    );
    let mut wrong = vec![];
    let mut count = 0;
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario)) {
        let start = Instant::now();
        let mut bench = Bench::new(&mut world, (scenario.history)());
        (scenario.happens)(&mut bench);
        bench.await_pages(scenario.pages.len());
        sleep(QUIET);
        let mut pages: BTreeMap<String, usize> = BTreeMap::new();
        for page in bench.pages() {
            let (name, priority) = (page.label("name"), page.label("priority"));
            let who = match (name, priority) {
                // RBACManyNewCriticalSubjects is about nobody in particular
                ("", _) => page.label("alertname").to_owned(),
                (name, "") => name.to_owned(),
                (name, priority) => format!("{name} ({priority})"),
            };
            *pages.entry(who).or_default() += 1;
        }
        drop(bench);
        clean(&world);
        let expected: BTreeMap<String, usize> = scenario
            .pages
            .iter()
            .map(|name| ((*name).to_owned(), 1))
            .collect();
        let words = |pages: &BTreeMap<String, usize>| match pages.len() {
            0 => "nobody".to_owned(),
            _ => pages
                .iter()
                .map(|(name, n)| format!("{name} ×{n}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let mark = if pages == expected { "" } else { " WRONG" };
        let seconds = start.elapsed().as_secs();
        println!(
            "{:<58} {:<32} {:<32} {seconds}{mark}",
            scenario.name,
            words(&pages),
            words(&expected),
        );
        if pages != expected {
            wrong.push(scenario.name);
        }
        count += 1;
    }
    assert!(count > 0, "no scenario is called {asked:?}");
    assert!(wrong.is_empty(), "{wrong:?}");
}
