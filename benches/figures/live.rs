//! Figures of the exporter on a cluster that is served by the stand-in.

use crate::cluster::standin::{Churn, Standin};
use crate::cluster::{Cluster, Size};
use crate::measure::{Client, PATIENCE, Served, line, loopback, median, quantile, timed, watch};
use crate::offline::decode_one;
use crate::peers::{self, Peer};
use crate::table::{Row, Unit, thousands};
use rbac_exporter::object::Resource;
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// 10,000 pods and 6,800 RBAC objects, as the peer was first measured with.
const MIDDLE: Size = Size {
    pods: 10_000,
    bindings: 4_100,
    roles: 1_900,
    namespaces: 200,
};
/// What follows the metadata of a pod that runs.
const POD: &str = r#","spec":{"containers":[{"name":"main"}],"serviceAccountName":"default","nodeName":"n"},"status":{"phase":"Running"}"#;
const SYNCED: Duration = Duration::from_millis(50);

/// A stand-in and the exporter on it.
pub(crate) struct Live {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) standin: Standin,
    pub(crate) served: Served,
    pub(crate) client: Client,
    /// Start to the first answer with metrics, and CPU until then, in seconds.
    synced: f64,
    cpu: f64,
    partial: usize,
}

impl Live {
    /// Starts both and waits until everything is there.
    pub(crate) fn start(size: Size) -> Live {
        Live::slowly(size, Duration::ZERO)
    }

    fn slowly(size: Size, slow: Duration) -> Live {
        let cluster = Arc::new(Cluster::new(size));
        let standin = Standin::start(cluster.clone(), 0);
        standin.slow_lists(slow);
        let mut served = watch(&standin.kubeconfig());
        let mut client = Client::default();
        let mut partial = 0;
        let synced = served.until(&mut client, "/metrics", |client, scrape| {
            let whole = scrape.status == 200 && whole(client, size);
            partial += usize::from(scrape.status == 200 && !whole);
            whole
        });
        let cpu = served.cpu();
        Live {
            cluster,
            standin,
            served,
            client,
            synced,
            cpu,
            partial,
        }
    }

    fn scrape(&mut self, gzip: bool) -> f64 {
        let scrape = self.client.get(self.served.port, "/metrics", gzip).unwrap();
        assert_eq!(scrape.status, 200);
        scrape.seconds
    }

    /// Everything is listed anew, and scraped meanwhile: how many of the answers were partial.
    fn relist(&mut self) -> usize {
        let pages = self.standin.pages();
        let least = Resource::ALL
            .iter()
            .map(|&r| self.cluster.count(r).div_ceil(500).max(1) as u64);
        let least: u64 = least.sum();
        self.standin.expire();
        let mut partial = 0;
        let begun = Instant::now();
        while self.standin.pages() < pages + least && begun.elapsed() < Duration::from_secs(120) {
            self.client.get(self.served.port, "/metrics", true).unwrap();
            partial += usize::from(!whole(&self.client, self.cluster.size));
        }
        // The last page was served; it has yet to be judged.
        sleep(Duration::from_secs(1));
        self.scrape(true);
        partial + usize::from(!whole(&self.client, self.cluster.size))
    }

    /// Waits for the self-check that follows the first sync, as changes do.
    fn checked(&mut self) {
        let family = "rbac_exporter_selfcheck_last_run_timestamp_seconds";
        self.scrape(true);
        while self.client.sum(family, "") == 0.0 {
            sleep(SYNCED);
            self.scrape(true);
        }
    }

    /// Makes changes one by one, and says how long each took to be judged.
    fn judged(&mut self, changes: usize, change: impl Fn(&Standin, usize)) -> Vec<f64> {
        let mut before = self.evaluation();
        let begun = Instant::now();
        let mut times = Vec::new();
        // As many as wanted, or as many as there is patience for.
        while times.len() < changes
            && (times.len() < 3 || begun.elapsed() < Duration::from_secs(15))
        {
            change(&self.standin, times.len());
            let mut after = before;
            let made = Instant::now();
            while after.1 == before.1 && made.elapsed() < Duration::from_secs(15) {
                sleep(Duration::from_millis(20));
                after = self.evaluation();
            }
            times.push((after.0 - before.0) / (after.1 - before.1));
            before = after;
        }
        times
    }

    fn evaluation(&mut self) -> (f64, f64) {
        self.scrape(true);
        let family = "rbac_exporter_evaluation_duration_seconds";
        let of = |what: &str| self.client.sum(&format!("{family}_{what}"), "");
        (of("sum"), of("count"))
    }
}

/// Are all pods and all bindings' subjects of a cluster in the last scrape? Jobs that are done are not counted there.
pub(crate) fn whole(client: &Client, size: Size) -> bool {
    let objects = client.sum("rbac_exporter_objects", "resource=\"pods\"");
    objects >= size.pods as f64 && client.sum("rbac_pods", "") >= size.pods as f64 * 0.8
}

/// What a sync cannot be faster or smaller than.
#[derive(Default)]
struct Bounds {
    /// Seconds to fetch the lists.
    wire: f64,
    /// Seconds to skip their JSON.
    json: f64,
    /// Bytes of the objects' names.
    names: f64,
}

/// The same lists fetched one after the other by a client that does nothing with
/// them, and the JSON of them skipped.
fn sync_bounds(cluster: &Arc<Cluster>) -> Bounds {
    let standin = Standin::start(cluster.clone(), 0);
    let port: u16 = standin.address().port();
    let mut client = Client::default();
    let mut bounds = Bounds::default();
    for resource in Resource::ALL {
        let mut next = String::new();
        loop {
            let path = format!("{}?limit=500{next}", Standin::path(resource));
            let (scrape, seconds) = timed(|| client.get(port, &path, false).unwrap());
            bounds.wire += seconds;
            assert_eq!(scrape.status, 200);
            let (_, seconds) = timed(|| serde_json::from_str::<IgnoredAny>(client.text()).unwrap());
            bounds.json += seconds;
            let items = client.text().split("{\"metadata\":{\"name\":\"").skip(1);
            let names = items.filter_map(|item| item.find('"'));
            bounds.names += names.sum::<usize>() as f64;
            let head = &client.text()[..400.min(client.text().len())];
            let Some((_, rest)) = head.split_once("\"continue\":\"") else {
                break;
            };
            next = format!("&continue={}", rest.split('"').next().unwrap_or_default());
        }
    }
    bounds
}

/// Memory and sync at four sizes, and what grows with what.
pub(crate) fn growth(rows: &mut Vec<Row>) -> String {
    let mut points = Vec::new();
    let mut text = String::from(
        "| pods | bindings | roles | namespaces | VmHWM | settled | sync | CPU to sync | first evaluation | a pod judged | an account judged | a role judged |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut sizes: Vec<Size> = [1_000, 10_000, 50_000, 150_000].map(Size::of_pods).into();
    sizes.push(Size {
        namespaces: 5_000,
        ..Size::FULL
    });
    for size in sizes {
        eprintln!("# {size:?}");
        let mut live = Live::start(size);
        let (evaluation, _) = live.evaluation();
        live.scrape(true);
        live.relist();
        live.scrape(true);
        let peak = live.served.peak();
        sleep(Duration::from_secs(3));
        let settled = live.served.resident();
        live.checked();
        let pod = live.judged(21, |standin, k| {
            standin.extra(Resource::Pods, "default", &format!("new-{k}"), POD, true);
        });
        let pod = median(pod);
        let account = median(live.judged(21, |standin, k| {
            let account = format!("new-{k}");
            standin.extra(Resource::ServiceAccounts, "default", &account, "", true);
        }));
        let cluster = live.cluster.clone();
        let role = median(live.judged(21, |standin, k| {
            standin.edit(Resource::Roles, cluster.role_to_edit(k));
        }));
        let bytes = |value| Unit::Bytes.text(value);
        let seconds = |value| Unit::Seconds.text(value);
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            thousands(size.pods),
            thousands(size.bindings),
            thousands(size.roles),
            thousands(size.namespaces),
            bytes(peak),
            bytes(settled),
            seconds(live.synced),
            seconds(live.cpu),
            seconds(evaluation),
            seconds(pod),
            seconds(account),
            seconds(role)
        ));
        if size.namespaces == 5_000 {
            rows.push(Row::new(
                "VmHWM at full size with 5,000 namespaces",
                Unit::Bytes,
                peak,
            ));
            continue;
        }
        points.push((size.pods as f64, peak, settled, live.synced, live.cpu));
        if size == Size::FULL {
            let Bounds { wire, json, names } = sync_bounds(&live.cluster);
            rows.push(
                Row::new("VmHWM at 150k pods, 20k bindings, 10k roles, 2,000 namespaces, with a relist and gzip scrapes", Unit::Bytes, peak)
                    .goal(60e6)
                    .bound("the names of its objects", names)
                    .in_readme(),
            );
            rows.push(Row::new(
                "settled memory at full size",
                Unit::Bytes,
                settled,
            ));
            rows.push(
                Row::new("sync at full size", Unit::Seconds, live.synced)
                    .bound("its lists read and dropped", wire),
            );
            rows.push(
                Row::new("CPU to sync at full size", Unit::Seconds, live.cpu)
                    .bound("its JSON skipped", json),
            );
            rows.push(Row::new(
                "first evaluation at full size",
                Unit::Seconds,
                evaluation,
            ));
        }
    }
    for (what, unit, of) in [
        (
            "VmHWM per pod, with the bindings, roles and namespaces in proportion",
            Unit::Bytes,
            (|p| p.1) as fn(&(f64, f64, f64, f64, f64)) -> f64,
        ),
        ("settled memory per pod, likewise", Unit::Bytes, |p| p.2),
        ("sync per 1,000 pods, likewise", Unit::Seconds, |p| {
            p.3 * 1e3
        }),
        ("CPU to sync per 1,000 pods, likewise", Unit::Seconds, |p| {
            p.4 * 1e3
        }),
    ] {
        let (slope, _) = line(&points.iter().map(|p| (p.0, of(p))).collect::<Vec<_>>());
        rows.push(Row::new(
            format!("{what} (fitted slope over four sizes)"),
            unit,
            slope,
        ));
    }
    text
}

/// What one more pod, binding and role costs, everything else being equal.
pub(crate) fn marginal(rows: &mut Vec<Row>, peer: Option<&Peer>) {
    let base = Size {
        pods: 10_000,
        bindings: 2_000,
        roles: 1_000,
        namespaces: 200,
    };
    let settled = |size: Size| {
        eprintln!("# {size:?}");
        let mut live = Live::start(size);
        live.scrape(true);
        sleep(Duration::from_secs(2));
        (live.served.peak(), live.served.resident())
    };
    let low = settled(base);
    let peer_low = peer.map(|peer| peers::memory(peer, base));
    let more = 20_000;
    for (what, size, goal) in [
        (
            "pod",
            Size {
                pods: base.pods + more,
                ..base
            },
            Some(200.0),
        ),
        (
            "binding",
            Size {
                bindings: base.bindings + more,
                ..base
            },
            None,
        ),
        (
            "role",
            Size {
                roles: base.roles + more,
                ..base
            },
            None,
        ),
    ] {
        let high = settled(size);
        let each = |of: fn(&(f64, f64)) -> f64| (of(&high) - of(&low)) / more as f64;
        let mut row = Row::new(
            format!("memory per {what}, settled"),
            Unit::Bytes,
            each(|m| m.1),
        );
        if let Some(goal) = goal {
            row = row.goal(goal).in_readme();
            let peer_high = peer.map(|peer| peers::memory(peer, size));
            if let (Some(low), Some(high)) = (peer_low, peer_high) {
                row = row.peer("kube-state-metrics", Some((high - low) / more as f64));
            }
        }
        rows.push(row);
        rows.push(Row::new(
            format!("VmHWM per {what}"),
            Unit::Bytes,
            each(|m| m.0),
        ));
    }
}

/// The size at which the peer was first measured.
pub(crate) fn middle(rows: &mut Vec<Row>, peer: Option<&Peer>) {
    eprintln!("# {MIDDLE:?}");
    let runs: Vec<Live> = (0..3).map(|_| Live::start(MIDDLE)).collect();
    let sync = median(runs.iter().map(|run| run.synced));
    let cpu = median(runs.iter().map(|run| run.cpu));
    let mut live = runs.into_iter().next_back().unwrap();
    live.scrape(true);
    live.relist();
    live.scrape(true);
    let peak = live.served.peak();
    let Bounds { wire, json, .. } = sync_bounds(&live.cluster);
    drop(live);
    let other = peer.map(|peer| peers::sync(peer, MIDDLE));
    let of = |figure: fn(&peers::Synced) -> f64| other.as_ref().map(figure);
    const KSM: &str = "kube-state-metrics";
    rows.push(
        Row::new("VmHWM at 10k pods and 6.8k RBAC objects", Unit::Bytes, peak)
            .goal(20e6)
            .peer(KSM, of(|o| o.peak))
            .in_readme(),
    );
    rows.push(
        Row::new(
            "sync of 10k pods and 6.8k RBAC objects",
            Unit::Seconds,
            sync,
        )
        .goal(1.0)
        .peer(KSM, of(|o| o.seconds))
        .in_readme()
        .bound("its lists read and dropped", wire),
    );
    rows.push(
        Row::new(
            "CPU to sync 10k pods and 6.8k RBAC objects",
            Unit::Seconds,
            cpu,
        )
        .goal(0.5)
        .peer(KSM, of(|o| o.cpu))
        .bound("its JSON skipped", json),
    );

    let slow = Duration::from_millis(100);
    let mut live = Live::slowly(MIDDLE, slow);
    let partial = live.partial;
    let again = live.relist();
    drop(live);
    let other = peer.map(|peer| peers::partial(peer, MIDDLE, slow));
    rows.push(
        Row::new(
            "partial scrapes at start, lists of 100 ms a page",
            Unit::Count,
            partial as f64,
        )
        .goal(0.0)
        .peer(KSM, other.map(|o| o.0 as f64)),
    );
    rows.push(
        Row::new(
            "partial scrapes at a relist after 410, likewise",
            Unit::Count,
            again as f64,
        )
        .goal(0.0)
        .peer(KSM, other.map(|o| o.1 as f64)),
    );
}

/// Scrapes by number of series, which namespaces bring.
pub(crate) fn scrapes(rows: &mut Vec<Row>, peer: Option<&Peer>) {
    for (namespaces, about) in [(26, 1_000), (395, 10_000), (4_600, 100_000)] {
        let size = Size {
            pods: 2_000,
            bindings: 1_000,
            roles: 500,
            namespaces,
        };
        eprintln!("# scrapes, {size:?}");
        let mut live = Live::start(size);
        live.scrape(true);
        let series = live.client.series();
        let full = about == 100_000;
        let other = peer.filter(|_| full).map(peers::scrapes);
        live.checked();
        let mut churn = Churn::new(&live.cluster);
        for gzip in [false, true] {
            let encoding = if gzip { "gzip" } else { "plain" };
            live.scrape(gzip);
            let body = live
                .client
                .get(live.served.port, "/metrics", gzip)
                .unwrap()
                .size;
            let bound = loopback(body);
            let unchanged = median((0..41).map(|_| live.scrape(gzip)));
            let changed = median((0..21).map(|_| {
                churn.step(&live.standin);
                sleep(SYNCED);
                live.scrape(gzip)
            }));
            let goal = match gzip {
                false => 8e-3,
                true => 2e-3,
            };
            for (state, seconds, goal) in [
                ("unchanged", unchanged, Some(goal)),
                ("after a change", changed, (!gzip).then_some(goal)),
            ] {
                let mut row = Row::new(
                    format!(
                        "scrape of {} series, {encoding}, {state}",
                        thousands(series)
                    ),
                    Unit::Seconds,
                    seconds,
                )
                .bound(
                    format!("{} over loopback", Unit::Bytes.text(body as f64)),
                    bound,
                );
                if full {
                    row.goal = goal;
                    row.readme = goal.is_some();
                    // To the same number of series; the peer writes its text anew each time.
                    let other = other
                        .as_ref()
                        .map(|o| if gzip { o.gzip } else { o.plain } / o.series * series as f64);
                    row = row.peer("kube-state-metrics", other);
                }
                rows.push(row);
            }
        }
    }
}

/// What changes cost at full size.
pub(crate) fn events(rows: &mut Vec<Row>) {
    eprintln!("# events at full size");
    let mut live = Live::start(Size::FULL);
    live.checked();

    // One role after the other, each judged alone.
    let own = live.cluster.shipped(Resource::Roles);
    let cluster = live.cluster.clone();
    let times = live.judged(31, |standin, k| {
        standin.edit(Resource::Roles, cluster.role_to_edit(k));
    });
    rows.push(
        Row::new(
            "one role edited at 20k bindings, judged",
            Unit::Seconds,
            median(times.iter().copied()),
        )
        .goal(1e-3)
        .in_readme()
        .bound("its event decoded", decode_one(Resource::Roles)),
    );
    rows.push(Row::new(
        format!("the slowest of {} such roles", times.len()),
        Unit::Seconds,
        quantile(times, 1.0),
    ));

    let port = live.served.port;
    let mut pages = Vec::new();
    let mut size = 0;
    for k in 0..3 {
        live.standin.edit(Resource::Roles, own + 7 + k * 13);
        sleep(SYNCED);
        // What takes longer than a client waits counts as that long.
        let answer = live.client.get(port, "/", false).ok();
        size = answer.as_ref().map_or(size, |answer| answer.size);
        pages.push(answer.map_or(PATIENCE.as_secs_f64(), |answer| answer.first_byte));
    }
    rows.push(
        Row::new(
            "first byte of the web page at full size, after a change",
            Unit::Seconds,
            median(pages),
        )
        .goal(20e-3)
        .bound(
            format!("{} over loopback", Unit::Bytes.text(size as f64)),
            loopback(size),
        ),
    );

    // Visible: from the event's write to the end of the first scrape that has it, scrapes back to back.
    let mut churn = Churn::new(&live.cluster);
    let begun = Instant::now();
    let (mut delays, mut number) = (Vec::new(), 0_u32);
    let mut waiting: Option<(Instant, f64)> = None;
    while begun.elapsed() < Duration::from_secs(60) {
        churn.keep_up(&live.standin, 50.0);
        if waiting.is_none() {
            number += 1;
            live.standin.extra(
                Resource::Pods,
                "probe",
                &format!("probe-{number}"),
                POD,
                true,
            );
            waiting = Some((Instant::now(), f64::from(number)));
        }
        live.scrape(true);
        if let Some((since, wanted)) = waiting
            && live.client.sum("rbac_pods", "namespace=\"probe\"") >= wanted
        {
            delays.push(since.elapsed().as_secs_f64());
            waiting = None;
            sleep(Duration::from_millis(100));
        }
    }
    let seen = delays.len();
    rows.push(Row::new(
        format!("event to visible in /metrics at full size, 50 pod changes/s, p50 of {seen}"),
        Unit::Seconds,
        median(delays.iter().copied()),
    ));
    rows.push(
        Row::new(
            "event to visible at full size, p99",
            Unit::Seconds,
            quantile(delays, 0.99),
        )
        .goal(0.1)
        .in_readme(),
    );

    // The share of a core, as Prometheus would scrape.
    let (minute, scrape) = (Duration::from_secs(60), Duration::from_secs(15));
    churn.pods_alone = true;
    let outcome = churned(&mut live, &mut churn, minute, scrape);
    rows.push(
        Row::new(
            "CPU at full size, 50 pod changes/s, gzip scrape every 15 s",
            Unit::Share,
            outcome.share,
        )
        .goal(0.01)
        .in_readme(),
    );
    churn.pods_alone = false;
    let outcome = churned(&mut live, &mut churn, minute, scrape);
    rows.push(Row::new(
        "and a RoleBinding deleted or made anew every two seconds",
        Unit::Share,
        outcome.share,
    ));
    rows.push(Row::new(
        "VmHWM after all of that",
        Unit::Bytes,
        live.served.peak(),
    ));
}

struct Churned {
    share: f64,
    scrapes: Vec<f64>,
    scrape_cpu: Vec<f64>,
    /// Resident memory at every scrape.
    resident: Vec<f64>,
}

/// Changes at 50 pod events a second, scraped in between.
fn churned(live: &mut Live, churn: &mut Churn, time: Duration, every: Duration) -> Churned {
    let (begun, cpu) = (Instant::now(), live.served.cpu());
    let mut outcome = Churned {
        share: 0.0,
        scrapes: Vec::new(),
        scrape_cpu: Vec::new(),
        resident: Vec::new(),
    };
    let mut next = every;
    while begun.elapsed() < time {
        churn.keep_up(&live.standin, 50.0);
        if begun.elapsed() >= next {
            next += every;
            let before = live.served.fine_cpu();
            outcome.scrapes.push(live.scrape(true));
            outcome.scrape_cpu.push(live.served.fine_cpu() - before);
            outcome.resident.push(live.served.resident());
        }
        sleep(Duration::from_millis(5));
    }
    outcome.share = (live.served.cpu() - cpu) / begun.elapsed().as_secs_f64();
    outcome
}

/// Ten minutes of rollouts at full size.
pub(crate) fn churn(rows: &mut Vec<Row>, time: Duration) {
    eprintln!("# churn for {time:?}");
    let mut live = Live::start(Size::FULL);
    live.checked();
    // Both formats' texts are there before growth is counted.
    let mut churn = Churn::new(&live.cluster);
    let (first, every) = (Duration::from_secs(20), Duration::from_secs(2));
    churned(&mut live, &mut churn, first, Duration::from_secs(5));
    let outcome = churned(&mut live, &mut churn, time, every);
    let tenth = (outcome.resident.len() / 10).max(1);
    let (first, last) = (
        &outcome.resident[..tenth],
        &outcome.resident[outcome.resident.len() - tenth..],
    );
    let minutes = time.as_secs_f64() / 60.0;
    rows.push(Row::new(format!("growth of resident memory in {minutes:.0} minutes of rollouts at full size, last tenth over first"), Unit::Bytes, median(last.iter().copied()) - median(first.iter().copied())));
    rows.push(Row::new(
        "gzip scrape under rollouts at full size, p50",
        Unit::Seconds,
        median(outcome.scrapes.iter().copied()),
    ));
    rows.push(
        Row::new(
            "gzip scrape under rollouts at full size, p99",
            Unit::Seconds,
            quantile(outcome.scrapes, 0.99),
        )
        .goal(20e-3),
    );
    rows.push(Row::new(
        "CPU of the exporter during such a scrape",
        Unit::Seconds,
        median(outcome.scrape_cpu),
    ));
    rows.push(Row::new(
        "CPU meanwhile, a scrape every 2 s",
        Unit::Share,
        outcome.share,
    ));
    rows.push(Row::new("VmHWM at the end", Unit::Bytes, live.served.peak()).goal(60e6));
}
