//! The cluster source against the stand-in: what each fault of a server or network leads to.
//!
//! Every test holds the same three things in the end: the world the changes describe is the one the
//! server has, the faults were told, and the number of requests stayed small.

use crate::standin::{Asks, Fault, Matches, Standin, object};
use crate::table::recovered;
use kube::Client;
use rbac_exporter::ledger::{Change, FaultReason, ObjectRef, WatchEvent};
use rbac_exporter::object::{self as model, Meta, Object, Resource};
use rbac_exporter::source::DecodeError;
use rbac_exporter::source::cluster::{Access, Cluster, Decode, Options, connect_with};
use rbac_exporter::source::slim;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

const PODS: Resource = Resource::Pods;

fn any_list(asks: Asks) -> bool {
    matches!(asks, Asks::List(_) | Asks::Continue(_))
}
fn first_page(asks: Asks) -> bool {
    matches!(asks, Asks::List(_))
}
fn next_page(asks: Asks) -> bool {
    matches!(asks, Asks::Continue(_))
}
fn any_watch(asks: Asks) -> bool {
    matches!(asks, Asks::Watch(_))
}
fn version(asks: Asks) -> bool {
    matches!(asks, Asks::Version)
}
fn anything(_: Asks) -> bool {
    true
}

/// A decoder that knows metadata, and takes `spec.odd` for an object it cannot read.
fn decode(resource: Resource, text: &str) -> Result<Object, DecodeError> {
    let value: Value = serde_json::from_str(text).map_err(|error| DecodeError {
        message: format!("it is no JSON: {error}"),
        namespace: None,
        name: None,
        resource_version: None,
    })?;
    let metadata = &value["metadata"];
    let field = |name: &str| metadata[name].as_str().map(str::to_owned);
    if !value["spec"]["odd"].is_null() {
        return Err(DecodeError {
            message: "spec.odd is not understood".to_owned(),
            namespace: field("namespace"),
            name: field("name"),
            resource_version: field("resourceVersion"),
        });
    }
    let meta = Meta {
        namespace: field("namespace").unwrap_or_default(),
        name: field("name").unwrap_or_default(),
        uid: field("uid").unwrap_or_default(),
        ..Meta::default()
    };
    Ok(match resource {
        Resource::ClusterRoles | Resource::Roles => Object::Role(model::Role {
            meta,
            ..Default::default()
        }),
        Resource::ClusterRoleBindings | Resource::RoleBindings => Object::Binding(model::Binding {
            meta,
            ..Default::default()
        }),
        Resource::ServiceAccounts => Object::ServiceAccount(model::ServiceAccount {
            meta,
            ..Default::default()
        }),
        Resource::Pods => Object::Pod(Box::new(model::Pod {
            meta,
            ..Default::default()
        })),
        Resource::Namespaces => Object::Namespace(model::Namespace {
            meta,
            ..Default::default()
        }),
    })
}

/// The defaults in milliseconds, pods only.
fn brisk() -> Options {
    Options {
        resources: vec![PODS],
        page_size: 3,
        list_deadline: Duration::from_millis(300),
        open_deadline: Duration::from_millis(300),
        watch_shortest: Duration::from_secs(30),
        watch_longest: Duration::from_secs(30),
        watch_grace: Duration::from_millis(100),
        bookmark_silence: Duration::from_millis(300),
        longest_gap: Duration::from_secs(30),
        healthy_after: Duration::from_millis(200),
        backoff_shortest: Duration::from_millis(20),
        backoff_longest: Duration::from_millis(200),
        forbidden_shortest: Duration::from_millis(60),
        forbidden_longest: Duration::from_millis(400),
        retry_after_longest: Duration::from_millis(500),
        activity_every: Duration::from_millis(20),
        start_within: Duration::from_millis(5),
        version_every: Duration::from_millis(20),
        ..Options::default()
    }
}

/// What a ledger would make of the changes.
#[derive(Default)]
struct World {
    objects: BTreeMap<ObjectRef, Option<Object>>,
    marked: BTreeMap<Resource, BTreeSet<ObjectRef>>,
    synced: BTreeSet<Resource>,
    bad: BTreeMap<ObjectRef, String>,
    faults: Vec<(FaultReason, String)>,
    forbidden: BTreeSet<Resource>,
    versions: Vec<Option<String>>,
    restarts: usize,
    events: usize,
    activity: usize,
    polled: usize,
    begins: usize,
    ends: usize,
}

impl World {
    fn mark(&mut self, object: &ObjectRef) {
        if let Some(marked) = self.marked.get_mut(&object.resource) {
            marked.insert(object.clone());
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Upsert(object) => {
                let key = ObjectRef {
                    resource: object.resource(),
                    namespace: object.meta().namespace.clone(),
                    name: object.meta().name.clone(),
                };
                self.mark(&key);
                self.bad.remove(&key);
                self.objects.insert(key, Some(object));
            }
            Change::Delete(key) => {
                self.bad.remove(&key);
                self.objects.remove(&key);
            }
            Change::Bad { object, message } => {
                self.mark(&object);
                self.objects.entry(object.clone()).or_insert(None);
                self.bad.insert(object, message);
            }
            Change::RelistBegin(resource) => {
                self.begins += 1;
                self.marked.insert(resource, BTreeSet::new());
            }
            Change::RelistEnd(resource) => {
                self.ends += 1;
                self.synced.insert(resource);
                let marked = self
                    .marked
                    .remove(&resource)
                    .expect("an end has a beginning");
                self.objects
                    .retain(|k, _| k.resource != resource || marked.contains(k));
            }
            Change::Watch {
                resource,
                event,
                at,
            } => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                assert!((at - now.cast_signed()).abs() < 60);
                match event {
                    WatchEvent::Activity => {
                        self.activity += 1;
                        self.forbidden.remove(&resource);
                    }
                    WatchEvent::Polled => self.polled += 1,
                    WatchEvent::Event => self.events += 1,
                    WatchEvent::Restart => self.restarts += 1,
                    WatchEvent::Fault { reason, message } => {
                        assert!(!message.is_empty() && !message.contains('\n'));
                        self.faults.push((reason, message));
                    }
                    WatchEvent::Forbidden { message } => {
                        assert!(message.contains("forbidden"), "{message}");
                        self.forbidden.insert(resource);
                    }
                }
            }
            Change::Version(version) => self.versions.push(version),
            Change::Problems(_) | Change::Skipped(_) => panic!("not from a cluster"),
        }
    }

    fn names(&self, resource: Resource) -> Vec<(String, String)> {
        let keys = self.objects.keys().filter(|k| k.resource == resource);
        keys.map(|k| (k.namespace.clone(), k.name.clone()))
            .collect()
    }

    fn faults_of(&self, reason: FaultReason) -> usize {
        self.faults.iter().filter(|(r, _)| *r == reason).count()
    }
}

/// A source that runs against a stand-in.
struct Rig {
    api: Standin,
    world: World,
    changes: mpsc::Receiver<Change>,
    stop: watch::Sender<bool>,
    cluster: Cluster,
}

impl Rig {
    fn start(api: Standin, options: Options) -> Rig {
        let client = api.client();
        Rig::start_with(api, client, decode, options)
    }

    fn start_with(api: Standin, client: Client, decode: Decode, options: Options) -> Rig {
        let (sender, changes) = mpsc::channel(64);
        let (stop, shutdown) = watch::channel(false);
        let access = Access::fixed(client);
        let cluster = Cluster::start(&access, decode, &sender, &shutdown, options);
        Rig {
            api,
            world: World::default(),
            changes,
            stop,
            cluster,
        }
    }

    /// Applies changes until the world is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&World, &Standin) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !wanted(&self.world, &self.api) {
            match tokio::time::timeout(Duration::from_millis(5), self.changes.recv()).await {
                Ok(change) => self.world.apply(change.expect("the source goes on")),
                Err(_) => assert!(
                    tokio::time::Instant::now() < deadline,
                    "waited in vain until {what}; faults: {:?}; objects: {:?}; requests: {:#?}",
                    self.world.faults,
                    self.world.objects.keys(),
                    self.api.seen().iter().rev().take(10).collect::<Vec<_>>(),
                ),
            }
        }
    }

    /// Until the world is the server's and a watch is open.
    async fn settled(&mut self) {
        self.until("the world is the server's and watched", |world, api| {
            world.ends > 0 && world.names(PODS) == api.names(PODS) && api.watches(PODS) == 1
        })
        .await;
    }

    /// Applies what comes during a time.
    async fn during(&mut self, time: Duration) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(change) = tokio::time::timeout_at(end, self.changes.recv()).await {
            self.world.apply(change.expect("the source goes on"));
        }
    }
}

/// A stand-in with pods `p0`.. in namespace `app`.
async fn with_pods(count: usize) -> Standin {
    let api = Standin::start().await;
    for index in 0..count {
        api.put(PODS, object(PODS, "app", &format!("p{index}")));
    }
    api
}

fn pod(name: &str) -> ObjectRef {
    ObjectRef {
        resource: PODS,
        namespace: "app".to_owned(),
        name: name.to_owned(),
    }
}

fn odd_pod(name: &str) -> Value {
    let mut odd = object(PODS, "app", name);
    odd["spec"]["odd"] = json!(true);
    odd
}

// === The ordinary course ===

#[tokio::test]
async fn only_list_and_watch_of_the_seven_and_the_version_are_asked_for() {
    let api = Standin::start().await;
    for resource in Resource::ALL {
        let namespace = match resource {
            Resource::ClusterRoles | Resource::ClusterRoleBindings | Resource::Namespaces => "",
            _ => "app",
        };
        for name in ["a", "b", "c", "d", "e"] {
            api.put(resource, object(resource, namespace, name));
        }
    }
    api.fail(1, next_page, Fault::Status(410));
    api.fail(1, any_watch, Fault::Status(403));
    api.fail(1, any_watch, Fault::Status(500));
    let options = Options {
        resources: Resource::ALL.to_vec(),
        ..brisk()
    };
    let all_watched = |world: &World, api: &Standin| {
        Resource::ALL.iter().all(|&r| {
            world.names(r) == api.names(r) && world.synced.contains(&r) && api.watches(r) == 1
        })
    };
    let mut rig = Rig::start(api, options);
    rig.until("everything is watched", all_watched).await;
    rig.api.stop().await;
    rig.during(Duration::from_millis(100)).await;
    rig.api.resume().await;
    rig.until("everything is watched again", all_watched).await;
    rig.until("the version was re-read", |w, _| w.versions.len() >= 2)
        .await;
    assert_eq!(rig.world.versions[0].as_deref(), Some("1.37.2"));

    let agent = format!("rbac-exporter/{}", env!("CARGO_PKG_VERSION"));
    let paths: BTreeSet<String> = rig.api.seen().into_iter().map(|s| s.path).collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    for seen in rig.api.seen() {
        let Some(asks) = seen.asks else {
            panic!("asked for something else: {seen:?}");
        };
        assert_eq!(seen.method, "GET");
        assert_eq!(seen.agent, agent);
        let keys: Vec<&str> = seen.query.keys().map(String::as_str).collect();
        match asks {
            Asks::Version => assert!(keys.is_empty()),
            // Without a resource version: from the cache the server would ignore the limit.
            Asks::List(_) => assert_eq!(keys, ["limit"]),
            Asks::Continue(_) => assert_eq!(keys, ["continue", "limit"]),
            Asks::Watch(_) => assert_eq!(
                keys,
                [
                    "allowWatchBookmarks",
                    "resourceVersion",
                    "timeoutSeconds",
                    "watch"
                ]
            ),
        }
    }
}

#[tokio::test]
async fn a_list_is_paged_and_the_watch_goes_on_from_it() {
    let mut rig = Rig::start(with_pods(8).await, brisk());
    rig.settled().await;
    assert_eq!((rig.world.begins, rig.world.ends), (1, 1));
    assert_eq!(
        (rig.api.count(first_page), rig.api.count(next_page)),
        (1, 2)
    );

    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.api.put(PODS, object(PODS, "app", "p3"));
    rig.api.remove(PODS, "app", "p0");
    rig.until("three events came", |w, _| w.events == 3).await;
    rig.settled().await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    assert_eq!(rig.api.count(any_list), 3);
    assert_eq!(rig.world.restarts, 0);
}

#[tokio::test]
async fn an_ended_watch_resumes_from_the_last_version_it_saw() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.settled().await;
    let seen = rig.api.version();
    // What happens to other resources moves the version too, and a bookmark tells.
    rig.api.advance(10);
    rig.api.bookmark(PODS);
    rig.during(Duration::from_millis(250)).await;
    rig.api.close(PODS);
    rig.until("the watch is open again", |w, _| w.restarts == 1)
        .await;
    let watches = rig.api.seen();
    let watches = watches
        .iter()
        .filter(|s| matches!(s.asks, Some(Asks::Watch(_))));
    let versions: Vec<u64> = watches
        .map(|s| s.query["resourceVersion"].parse().unwrap())
        .collect();
    assert_eq!(versions, [seen - 1, seen + 10]);
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    assert_eq!(rig.world.begins, 1);
}

#[tokio::test]
async fn what_went_or_came_again_during_a_gap_is_right_after_the_relist() {
    let mut rig = Rig::start(with_pods(5).await, brisk());
    rig.settled().await;
    rig.api.break_down(any_watch, Fault::Drop);
    rig.api.cut(PODS);
    rig.until("the gap has begun", |w, _| !w.faults.is_empty())
        .await;
    rig.api.remove(PODS, "app", "p0");
    rig.api.remove(PODS, "app", "p1");
    let mut again = object(PODS, "app", "p1");
    again["metadata"]["uid"] = "another".into();
    rig.api.put(PODS, again);
    rig.api.compact();
    rig.api.heal();
    rig.settled().await;
    let object = rig.world.objects[&pod("p1")].as_ref().unwrap();
    assert_eq!(object.meta().uid, "another");
    assert!(!rig.world.objects.contains_key(&pod("p0")));
}

#[tokio::test]
async fn it_ends_when_told_and_when_nobody_listens() {
    let mut rig = Rig::start(with_pods(5).await, brisk());
    rig.settled().await;
    rig.stop.send(true).unwrap();
    timeout(Duration::from_secs(5), rig.cluster.stopped())
        .await
        .unwrap();
    // All senders but ours are gone with the tasks.
    while timeout(Duration::from_secs(5), rig.changes.recv())
        .await
        .unwrap()
        .is_some()
    {}

    let rig = Rig::start(with_pods(5).await, brisk());
    drop(rig.changes);
    timeout(Duration::from_secs(5), rig.cluster.stopped())
        .await
        .unwrap();

    // Also while a task waits for room in the channel.
    let rig = Rig::start(with_pods(500).await, brisk());
    sleep(Duration::from_millis(200)).await;
    drop(rig.stop);
    timeout(Duration::from_secs(5), rig.cluster.stopped())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_channel_is_not_the_servers_silence() {
    let options = Options {
        bookmark_silence: Duration::from_millis(150),
        ..brisk()
    };
    let mut rig = Rig::start(with_pods(1).await, options);
    rig.settled().await;
    rig.api.bookmark(PODS);
    for index in 0..400 {
        rig.api.put(PODS, object(PODS, "app", &format!("n{index}")));
    }
    sleep(Duration::from_millis(500)).await;
    rig.settled().await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
}

#[tokio::test]
async fn activity_is_told_at_most_so_often_and_events_each() {
    let options = Options {
        activity_every: Duration::from_secs(60),
        ..brisk()
    };
    let mut rig = Rig::start(with_pods(9).await, options);
    rig.settled().await;
    for _ in 0..50 {
        rig.api.put(PODS, object(PODS, "app", "p0"));
    }
    rig.until("fifty events came", |w, _| w.events == 50).await;
    assert_eq!(rig.world.activity, 1);
}

// === The gaps of other watchers, G1 to G9 ===

/// G1
#[tokio::test]
async fn a_watch_that_closes_at_once_is_a_fault_and_backed_off_from() {
    let api = with_pods(2).await;
    api.break_down(any_watch, Fault::Text(String::new()));
    let mut rig = Rig::start(api, brisk());
    rig.during(Duration::from_millis(1500)).await;
    let watches = rig.api.count(any_watch);
    assert!((4..30).contains(&watches), "{watches} watches in 1.5 s");
    assert!(rig.world.faults_of(FaultReason::Short) >= watches - 1);
    assert_eq!(rig.world.begins, 1);
    rig.api.heal();
    rig.settled().await;
}

/// G1, with a server that says something each time and so is no fault.
#[tokio::test]
async fn a_watch_that_closes_after_a_word_does_not_spin_either() {
    let api = with_pods(2).await;
    let word = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1002"}}}"#;
    api.break_down(any_watch, Fault::Text(format!("{word}\n")));
    let mut rig = Rig::start(api, brisk());
    rig.during(Duration::from_millis(1500)).await;
    let watches = rig.api.count(any_watch);
    assert!((4..30).contains(&watches), "{watches} watches in 1.5 s");
    assert!(rig.world.restarts >= watches - 2);
}

/// G2
#[tokio::test]
async fn status_410_when_a_watch_opens_leads_to_a_relist() {
    let mut rig = Rig::start(with_pods(4).await, brisk());
    rig.settled().await;
    rig.api.fail(1, any_watch, Fault::Status(410));
    rig.api.close(PODS);
    rig.until("it was listed again", |w, _| w.ends == 2).await;
    rig.settled().await;
    assert_eq!(rig.world.faults_of(FaultReason::Expired), 1);
}

#[tokio::test]
async fn a_410_event_leads_to_a_relist() {
    let mut rig = Rig::start(with_pods(4).await, brisk());
    rig.settled().await;
    let status =
        r#"{"kind":"Status","status":"Failure","reason":"Expired","message":"too old","code":410}"#;
    rig.api.send(
        PODS,
        &format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n"),
    );
    rig.until("it was listed again", |w, _| w.ends == 2).await;
    rig.settled().await;
    assert_eq!(rig.world.faults_of(FaultReason::Expired), 1);
}

/// G3
#[tokio::test]
async fn an_odd_object_in_a_list_is_named_and_costs_no_other() {
    let api = with_pods(4).await;
    api.put(PODS, odd_pod("p2"));
    let mut rig = Rig::start(api, brisk());
    rig.settled().await;
    assert_eq!(rig.world.bad[&pod("p2")], "spec.odd is not understood");
    assert_eq!(rig.world.faults_of(FaultReason::Decode), 1);
    assert_eq!(rig.world.ends, 1);
    assert!(rig.world.objects[&pod("p3")].is_some());
    rig.api.put(PODS, object(PODS, "app", "p2"));
    rig.until("it is good", |w, _| w.bad.is_empty()).await;
}

/// G4
#[tokio::test]
async fn an_odd_object_in_a_watch_is_named_and_the_stream_goes_on() {
    let mut rig = Rig::start(with_pods(2).await, brisk());
    rig.settled().await;
    rig.api.put(PODS, odd_pod("p1"));
    rig.api.put(PODS, object(PODS, "app", "after"));
    rig.settled().await;
    assert_eq!(rig.world.bad[&pod("p1")], "spec.odd is not understood");
    assert!(
        rig.world.objects[&pod("p1")].is_some(),
        "its last good state stays"
    );
    assert_eq!(rig.world.restarts, 0);
    // The odd one moved the version on: the watch does not repeat it.
    rig.during(Duration::from_millis(250)).await;
    rig.api.close(PODS);
    rig.until("the watch is open again", |w, _| w.restarts == 1)
        .await;
    rig.during(Duration::from_millis(50)).await;
    assert_eq!(rig.world.faults_of(FaultReason::Decode), 1);
}

#[tokio::test]
async fn an_object_whose_metadata_is_odd_is_bad_without_a_name() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    let odd = r#"{"type":"ADDED","object":{"metadata":7,"spec":{"odd":1}}}"#;
    rig.api.send(PODS, &format!("{odd}\n"));
    rig.until("it is bad", |w, _| !w.bad.is_empty()).await;
    assert!(rig.world.bad.contains_key(&ObjectRef {
        resource: PODS,
        namespace: String::new(),
        name: String::new()
    }));
}

#[tokio::test]
async fn a_deleted_object_without_a_name_leads_to_a_relist() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    rig.api.send(
        PODS,
        "{\"type\":\"DELETED\",\"object\":{\"metadata\":{}}}\n",
    );
    rig.until("it was listed again", |w, _| w.ends == 2).await;
}

#[tokio::test]
async fn an_object_of_another_resource_is_bad() {
    let api = Standin::start().await;
    // Namespaced, yet without a namespace: the decoder takes it for a ClusterRole.
    api.put(Resource::Roles, object(Resource::Roles, "", "lost"));
    let options = Options {
        resources: vec![Resource::Roles],
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.until("it is listed", |w, _| w.ends == 1).await;
    assert_eq!(
        rig.world.bad.values().collect::<Vec<_>>(),
        ["an object of clusterroles came among roles"]
    );
}

/// G5
#[tokio::test]
async fn waits_grow_while_lists_fail() {
    let api = with_pods(1).await;
    api.break_down(any_list, Fault::Status(500));
    let mut rig = Rig::start(api, brisk());
    rig.during(Duration::from_millis(2000)).await;
    let lists = rig.api.count(any_list);
    // Waits of 20 ms that did not grow would be some 70 lists, growing ones about 20.
    assert!((8..45).contains(&lists), "{lists} lists in 2 s");
    assert_eq!(rig.world.begins, 0, "a list that never came begins nothing");
    assert!(rig.world.synced.is_empty());
    rig.api.heal();
    rig.settled().await;
}

// G6 and G7 are faults of streamed lists, which are not asked for: the test of the requests holds that.

/// G8
#[tokio::test]
async fn nothing_is_waited_for_for_ever() {
    let api = with_pods(1).await;
    api.fail(1, any_list, Fault::Hang);
    api.fail(1, any_list, Fault::Stall("{\"items\":[".to_owned()));
    api.fail(1, any_watch, Fault::Hang);
    api.fail(1, version, Fault::Hang);
    let mut rig = Rig::start(api, brisk());
    rig.settled().await;
    assert_eq!(rig.world.faults_of(FaultReason::Timeout), 3);
    rig.until("the version came", |w, _| !w.versions.is_empty())
        .await;
}

/// G9
#[tokio::test]
async fn bookmarks_are_activity_and_their_absence_is_a_dead_connection() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    // Without bookmarks silence says nothing.
    rig.during(Duration::from_millis(500)).await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    let before = rig.world.activity;
    for _ in 0..4 {
        rig.api.bookmark(PODS);
        rig.during(Duration::from_millis(100)).await;
    }
    assert!(rig.world.activity >= before + 3);
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    rig.until("the silence was noticed", |w, _| {
        w.faults_of(FaultReason::Timeout) == 1
    })
    .await;
    rig.settled().await;
    assert_eq!(rig.world.begins, 1, "the version stays good");
}

#[tokio::test]
async fn a_silent_watch_is_given_up_after_its_time() {
    let options = Options {
        watch_shortest: Duration::from_millis(400),
        watch_longest: Duration::from_millis(400),
        ..brisk()
    };
    let mut rig = Rig::start(with_pods(1).await, options);
    rig.settled().await;
    rig.until("the silence was noticed", |w, _| {
        w.faults_of(FaultReason::Timeout) == 1 && w.restarts == 1
    })
    .await;
}

// === Lists ===

#[tokio::test]
async fn a_list_that_fails_on_its_way_starts_over_and_sweeps_nothing() {
    for fault in [
        Fault::Status(410),
        Fault::Status(500),
        Fault::Text("<html>".to_owned()),
        Fault::Text("{}".to_owned()),
        Fault::Cut("{\"metadata\":{".to_owned()),
        Fault::Drop,
    ] {
        let mut rig = Rig::start(with_pods(8).await, brisk());
        rig.settled().await;
        rig.api.put(PODS, object(PODS, "app", "p9"));
        rig.api.compact();
        rig.api.fail(1, next_page, fault.clone());
        rig.api.fail(1, any_watch, Fault::Status(410));
        rig.api.close(PODS);
        rig.until("the first try was given up", |w, _| w.faults.len() >= 2)
            .await;
        assert_eq!((rig.world.begins, rig.world.ends), (2, 1), "{fault:?}");
        assert_eq!(rig.world.names(PODS).len(), 9, "{fault:?}");
        rig.until("it was listed", |w, _| w.ends == 2).await;
        assert_eq!(rig.world.begins, 3, "{fault:?}");
        rig.settled().await;
    }
}

#[tokio::test]
async fn what_is_no_list_empties_nothing() {
    for text in [
        "{}",
        "null",
        "",
        "<html>",
        r#"{"metadata":{"resourceVersion":""},"items":[]}"#,
    ] {
        let mut rig = Rig::start(with_pods(2).await, brisk());
        rig.settled().await;
        rig.api.fail(1, any_watch, Fault::Status(410));
        rig.api.fail(2, first_page, Fault::Text(text.to_owned()));
        rig.api.close(PODS);
        rig.until("it was listed", |w, _| w.ends == 2).await;
        assert_eq!(rig.world.faults_of(FaultReason::Decode), 2, "{text}");
        assert_eq!(rig.world.begins, 2, "{text}");
        assert_eq!(rig.world.names(PODS).len(), 2);
    }
}

#[tokio::test]
async fn a_list_that_does_not_advance_is_given_up() {
    let mut rig = Rig::start(with_pods(2).await, brisk());
    rig.settled().await;
    let page = r#"{"metadata":{"resourceVersion":"1002","continue":"x"},"items":[]}"#;
    rig.api.fail(1, any_watch, Fault::Status(410));
    rig.api.fail(3, any_list, Fault::Text(page.to_owned()));
    rig.api.close(PODS);
    rig.until("it was listed", |w, _| w.ends == 2).await;
    let faults = &rig.world.faults;
    let told = faults
        .iter()
        .any(|(_, message)| message.contains("does not advance"));
    assert!(told, "{faults:?}");
    assert_eq!(rig.world.names(PODS).len(), 2);
}

#[tokio::test]
async fn pages_shrink_until_they_come() {
    let api = with_pods(200).await;
    let options = Options {
        page_size: 160,
        page_limit: 16 << 10,
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.settled().await;
    let seen = rig.api.seen();
    let limits: Vec<&str> = seen
        .iter()
        .filter_map(|s| Some(s.query.get("limit")?.as_str()))
        .collect();
    assert_eq!(limits[..3], ["160", "80", "40"]);
    assert!(
        rig.world
            .faults
            .iter()
            .all(|(_, m)| m.contains("is longer than 16 KiB"))
    );
}

#[tokio::test]
async fn a_slow_list_is_waited_for() {
    let api = with_pods(4).await;
    api.break_down(any_list, Fault::Slow(Duration::from_millis(150)));
    let mut rig = Rig::start(api, brisk());
    rig.settled().await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
}

// === Refusals ===

#[tokio::test]
async fn forbidden_is_told_retried_slowly_and_cleared() {
    let api = with_pods(1).await;
    api.break_down(any_list, Fault::Status(403));
    // Activity is due seldom, but the first word after a fault is told at once.
    let options = Options {
        activity_every: Duration::from_secs(60),
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.during(Duration::from_millis(1000)).await;
    assert!(rig.world.forbidden.contains(&PODS));
    let faults = rig.world.faults_of(FaultReason::Forbidden);
    assert!((2..16).contains(&faults), "{faults} tries in a second");
    rig.api.heal();
    rig.settled().await;
    rig.until("it is allowed", |w, _| w.forbidden.is_empty())
        .await;

    // Refused later, it keeps what it has.
    rig.api.break_down(any_watch, Fault::Status(403));
    rig.api.cut(PODS);
    rig.until("it is forbidden", |w, _| w.forbidden.contains(&PODS))
        .await;
    assert_eq!(rig.world.names(PODS).len(), 1);
    rig.api.heal();
    rig.until("it is allowed", |w, _| w.forbidden.is_empty())
        .await;
    assert_eq!(rig.world.begins, 1);
}

#[tokio::test]
async fn every_status_has_its_reason_and_is_survived() {
    for (code, reason) in [
        (401, FaultReason::Unauthorized),
        (403, FaultReason::Forbidden),
        (404, FaultReason::Server),
        (410, FaultReason::Expired),
        (422, FaultReason::Server),
        (429, FaultReason::Throttled),
        (500, FaultReason::Server),
        (503, FaultReason::Server),
    ] {
        let api = with_pods(4).await;
        api.fail(1, first_page, Fault::Status(code));
        api.fail(1, any_watch, Fault::Status(code));
        let mut rig = Rig::start(api, brisk());
        rig.settled().await;
        assert_eq!(
            rig.world.faults_of(reason),
            2,
            "{code}: {:?}",
            rig.world.faults
        );
        let (_, message) = &rig.world.faults[0];
        assert!(
            message.starts_with(&format!("the server answered {code}: ")),
            "{message}"
        );
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_up_to_a_bound() {
    // A second is asked for, half a second is the bound.
    for code in [429, 503] {
        let api = with_pods(1).await;
        api.fail(1, first_page, Fault::RetryAfter(code, 1));
        let start = Instant::now();
        let mut rig = Rig::start(api, brisk());
        rig.settled().await;
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(took < Duration::from_millis(1500), "{took:?}");
    }
}

#[tokio::test]
async fn the_version_may_be_refused_or_odd() {
    for fault in [Fault::Status(403), Fault::Text("<html>".to_owned())] {
        let api = with_pods(1).await;
        api.fail(1, version, fault);
        let mut rig = Rig::start(api, brisk());
        rig.until("it said so", |w, _| !w.versions.is_empty()).await;
        assert_eq!(rig.world.versions, [None]);
        assert_eq!(rig.api.count(version), 1);
    }
    let api = with_pods(1).await;
    api.fail(2, version, Fault::Status(503));
    api.set_git_version("v1.33.1+k3s1");
    let mut rig = Rig::start(api, brisk());
    rig.until("it came", |w, _| !w.versions.is_empty()).await;
    assert_eq!(rig.world.versions, [Some("1.33.1".to_owned())]);
}

// === Streams ===

#[tokio::test]
async fn garbage_is_skipped_by_resuming_and_by_a_relist_when_it_stays() {
    let mut rig = Rig::start(with_pods(2).await, brisk());
    rig.settled().await;
    rig.api
        .fail(1, any_watch, Fault::Stall("<html>\n".to_owned()));
    rig.api.close(PODS);
    rig.until("it was noticed", |w, _| {
        w.faults_of(FaultReason::Decode) == 1
    })
    .await;
    rig.settled().await;
    assert_eq!(rig.world.begins, 1, "once is resumed from");

    for text in [
        "<html>\n",
        "{\"type\":\"ADDED\"}\n",
        "{\"type\":\"ERROR\",\"object\":{\"code\":500,\"message\":\"etcd\"}}\n",
    ] {
        let before = rig.world.begins;
        rig.api.put(PODS, object(PODS, "app", "p0"));
        rig.settled().await;
        rig.api.fail(2, any_watch, Fault::Stall(text.to_owned()));
        rig.api.close(PODS);
        rig.until("it was listed", |w, _| w.ends == before + 1)
            .await;
        rig.settled().await;
    }
}

#[tokio::test]
async fn a_frame_without_end_is_bounded() {
    let options = Options {
        frame_limit: 100 << 10,
        ..brisk()
    };
    let mut rig = Rig::start(with_pods(1).await, options);
    rig.settled().await;
    let large = object(PODS, "app", &"x".repeat(40 << 10));
    rig.api.put(PODS, large);
    rig.settled().await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    rig.api.send(PODS, &"x".repeat(300 << 10));
    rig.until("it was given up", |w, _| {
        w.faults_of(FaultReason::Decode) == 1
    })
    .await;
    rig.settled().await;
}

#[tokio::test]
async fn a_frame_that_is_cut_is_not_half_applied_and_comes_again() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    // The server has it, the stream breaks inside it.
    rig.api.send(
        PODS,
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"ne",
    );
    rig.during(Duration::from_millis(50)).await;
    rig.api.cut(PODS);
    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.settled().await;
    assert_eq!(rig.world.faults_of(FaultReason::Transport), 1);
    assert_eq!(rig.world.begins, 1);

    // The same with an orderly end.
    rig.api.send(PODS, "{\"type\":");
    rig.during(Duration::from_millis(50)).await;
    rig.api.close(PODS);
    rig.until("it was noticed", |w, _| {
        w.faults_of(FaultReason::Transport) == 2
    })
    .await;
    rig.settled().await;
}

#[tokio::test]
async fn frames_are_read_however_they_are_cut_into_packets() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    let frame = |name: &str| {
        let mut pod = object(PODS, "app", name);
        pod["metadata"]["resourceVersion"] = "2000".into();
        json!({"type": "ADDED", "object": pod}).to_string()
    };
    let text = format!(
        "{}\r\n\n{}\n{}\n",
        frame("a"),
        frame("b"),
        r#"{"type":"NEW","object":{}}"#
    );
    for bytes in text.as_bytes().chunks(7) {
        rig.api.send_bytes(PODS, bytes);
        tokio::task::yield_now().await;
    }
    rig.api
        .send(PODS, &(frame("c") + "\n" + &frame("d") + "\n"));
    // A byte that is no UTF-8 spoils one name and nothing else.
    let mut odd = frame("e").replace("\"e\"", "\"e?\"").into_bytes();
    let at = odd.iter().position(|&b| b == b'?').unwrap();
    odd[at] = 0xff;
    odd.push(b'\n');
    rig.api.send_bytes(PODS, &odd);
    rig.until("all five came", |w, _| w.events == 5).await;
    let names = rig.world.names(PODS);
    let names: Vec<&str> = names.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e\u{fffd}", "p0"]);
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
}

#[tokio::test]
async fn a_frame_may_be_split_at_any_byte() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    let frame = |name: &str| {
        let mut pod = object(PODS, "app", name);
        pod["metadata"]["resourceVersion"] = "2000".into();
        json!({"type": "ADDED", "object": pod}).to_string() + "\n"
    };
    let places = frame("q").len();
    for at in 0..places {
        let text = frame(&format!("{}", char::from(b'a' + (at % 26) as u8)));
        rig.api.send(PODS, &text[..at]);
        // lets the first half arrive alone
        tokio::task::yield_now().await;
        rig.api.send(PODS, &text[at..]);
        rig.until("it came", |w, _| w.events == at + 1).await;
    }
    // and all at once, byte by byte
    for byte in frame("z").as_bytes() {
        rig.api.send_bytes(PODS, &[*byte]);
        tokio::task::yield_now().await;
    }
    rig.until("it came", |w, _| w.events == places + 1).await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
}

#[tokio::test]
async fn an_error_event_of_any_code_loses_nothing() {
    for code in [
        0, 400, 401, 403, 404, 408, 409, 410, 413, 422, 429, 500, 503, 504,
    ] {
        let mut rig = Rig::start(with_pods(3).await, brisk());
        rig.settled().await;
        let status = json!({"kind": "Status", "status": "Failure", "code": code,
                            "message": "it is forbidden or worse"});
        let frame = json!({"type": "ERROR", "object": status}).to_string() + "\n";
        rig.api.send(PODS, &frame);
        rig.until("it was told", |w, _| w.faults.len() == 1).await;
        // the stream itself goes on, and so do we, on another one
        rig.api.remove(PODS, "app", "p0");
        rig.until("it is watched again", |w, _| w.restarts == 1)
            .await;
        rig.until("all is there", |w, api| w.names(PODS) == api.names(PODS))
            .await;
        assert_eq!(rig.world.faults.len(), 1, "{code}: {:?}", rig.world.faults);
    }
}

/// As no server should and some proxy might: the world is right again when the stream has ended, since
/// the next one begins where the last event says.
#[tokio::test]
async fn events_that_come_twice_late_or_in_another_order_are_outlived() {
    let mut rig = Rig::start(with_pods(2).await, brisk());
    rig.settled().await;
    let frame = |event: &str, name: &str, version: u64| {
        let mut pod = object(PODS, "app", name);
        pod["metadata"]["resourceVersion"] = version.to_string().into();
        json!({"type": event, "object": pod}).to_string() + "\n"
    };
    let start = rig.api.version();
    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.api.remove(PODS, "app", "new");
    rig.api.remove(PODS, "app", "p0");
    rig.until("three events came", |w, _| w.events == 3).await;
    for text in [
        frame("DELETED", "p0", start + 3),
        frame("DELETED", "p0", start + 3),
        frame("ADDED", "p1", start),
        frame("MODIFIED", "p1", start),
        // what is long gone
        frame("ADDED", "new", start + 1),
    ] {
        rig.api.send(PODS, &text);
    }
    rig.until("eight events came", |w, _| w.events == 8).await;
    assert!(rig.world.objects.contains_key(&pod("new")));
    rig.during(Duration::from_millis(250)).await;
    rig.api.close(PODS);
    rig.settled().await;
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
    assert_eq!(rig.world.begins, 1);
}

#[tokio::test]
async fn a_large_object_is_read_and_a_deep_one_bounded() {
    let api = with_pods(1).await;
    let mut large = object(PODS, "app", "large");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(5 << 20)});
    api.put(PODS, large.clone());
    let client = api.client();
    let mut rig = Rig::start_with(api, client, slim::decode, brisk());
    rig.settled().await;
    rig.api.put(PODS, large);
    rig.until("it came again", |w, _| w.events == 1).await;
    // as deep as the largest object of the API server is long
    let depth = 1_500_000;
    let deep = format!(
        "{{\"type\":\"ADDED\",\"object\":{{\"kind\":\"Pod\",\"metadata\":{{\"name\":\"deep\",\"namespace\":\"app\"}},\
         \"spec\":{{\"x\":{}{}}}}}}}\n",
        "[".repeat(depth),
        "]".repeat(depth)
    );
    rig.api.send(PODS, &deep);
    rig.until("it was taken in", |w, _| w.events == 2).await;
    assert!(rig.world.objects.contains_key(&pod("deep")));
    // deep where we look: it is unreadable, and nothing else happens
    let odd = deep.replace("\"spec\":{\"x\":", "\"spec\":{\"containers\":");
    rig.api.send(PODS, &odd);
    rig.until("it was taken in", |w, _| w.events == 3).await;
    assert_eq!(rig.world.bad.keys().collect::<Vec<_>>(), [&pod("deep")]);
    assert_eq!(rig.world.restarts, 0);
}

#[tokio::test]
async fn an_object_or_a_list_of_another_kind_is_none_of_ours() {
    let mut rig = Rig::start(with_pods(2).await, brisk());
    rig.settled().await;
    let secret = json!({"kind": "Secret", "apiVersion": "v1",
                        "metadata": {"name": "s", "namespace": "app", "resourceVersion": "2000"}});
    let frame = json!({"type": "ADDED", "object": secret}).to_string() + "\n";
    rig.api.send(PODS, &frame);
    rig.until("it is bad", |w, _| w.bad.len() == 1).await;
    assert_eq!(
        rig.world.bad[&pod("s")],
        "an object of kind Secret came among pods"
    );

    let list = json!({"kind": "SecretList", "metadata": {"resourceVersion": "2000"}, "items": []});
    rig.api.fail(1, any_watch, Fault::Status(410));
    rig.api.fail(1, first_page, Fault::Text(list.to_string()));
    rig.api.close(PODS);
    rig.until("it was listed", |w, _| w.ends == 2).await;
    let told = "the answer is a SecretList where a PodList was asked for";
    assert!(
        rig.world.faults.iter().any(|(_, m)| m == told),
        "{:?}",
        rig.world.faults
    );
    assert_eq!(rig.world.begins, 2);
}

#[tokio::test]
async fn a_server_that_drips_is_given_up_and_a_slow_one_is_not() {
    let api = with_pods(2).await;
    let every = Duration::from_millis(20);
    let page = r#"{"kind":"PodList","metadata":{"resourceVersion":"1002"},"items":[]}"#;
    api.fail(1, first_page, Fault::Drip(page.to_owned(), every));
    let mut rig = Rig::start(api, brisk());
    rig.settled().await;
    assert_eq!(rig.world.faults_of(FaultReason::Timeout), 1);
    assert_eq!(rig.world.names(PODS).len(), 2);
    // bytes are no word: a frame that never ends is silence
    rig.api.bookmark(PODS);
    rig.during(every).await;
    for _ in 0..100 {
        rig.api.send(PODS, "x");
        rig.during(every).await;
        if rig.world.faults_of(FaultReason::Timeout) == 2 {
            break;
        }
    }
    assert_eq!(rig.world.faults_of(FaultReason::Timeout), 2);
    rig.settled().await;
}

#[tokio::test]
async fn a_list_that_changes_between_its_pages_ends_as_the_server_has_it() {
    let api = with_pods(9).await;
    api.fail(1, next_page, Fault::Slow(Duration::from_millis(100)));
    let mut rig = Rig::start(api, brisk());
    rig.until("the first page came", |w, _| w.begins == 1).await;
    // of the first page, of the last one, and one that sorts before both
    rig.api.remove(PODS, "app", "p0");
    rig.api.remove(PODS, "app", "p8");
    rig.api.put(PODS, object(PODS, "app", "a"));
    rig.settled().await;
    assert_eq!(rig.world.begins, 1);
    assert!(rig.world.faults.is_empty(), "{:?}", rig.world.faults);
}

/// Rights to list without rights to watch: it is said all the time, and what is known is not old.
#[tokio::test]
async fn what_may_be_listed_but_not_watched_is_polled() {
    let api = with_pods(2).await;
    api.break_down(any_watch, Fault::Status(403));
    let options = Options {
        poll_every: Duration::from_millis(100),
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.until("it was refused", |w, _| w.forbidden.contains(&PODS))
        .await;
    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.api.remove(PODS, "app", "p0");
    for _ in 0..3 {
        let lists = rig.world.ends;
        rig.until("it is listed again", |w, _| w.ends > lists).await;
        assert!(rig.world.forbidden.contains(&PODS), "and still forbidden");
    }
    assert_eq!(rig.world.names(PODS), rig.api.names(PODS));
    assert!(rig.world.polled > 0);
    rig.api.heal();
    rig.until("it is allowed", |w, _| w.forbidden.is_empty())
        .await;
    rig.settled().await;
}

#[tokio::test]
async fn without_watches_it_lists_once_and_ends() {
    let api = with_pods(5).await;
    api.fail(1, first_page, Fault::Status(500));
    api.break_down(any_watch, Fault::Status(403));
    let options = Options {
        watch: false,
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.until("it is listed", |w, _| w.ends == 1).await;
    rig.during(Duration::from_millis(100)).await;
    assert_eq!((rig.api.count(any_watch), rig.world.begins), (0, 1));
}

// === Outages ===

#[tokio::test]
async fn an_outage_is_survived_and_the_version_read_again() {
    let mut api = with_pods(3).await;
    api.stop().await;
    let mut rig = Rig::start(api, brisk());
    rig.during(Duration::from_millis(300)).await;
    let early = rig.world.faults_of(FaultReason::Transport);
    assert!((2..20).contains(&early), "{early}");
    assert!(
        rig.world.faults[0].1.contains("refused"),
        "{:?}",
        rig.world.faults[0]
    );
    rig.api.resume().await;
    rig.settled().await;
    rig.until("the version came", |w, _| !w.versions.is_empty())
        .await;

    rig.during(Duration::from_millis(250)).await;
    rig.api.stop().await;
    rig.during(Duration::from_millis(300)).await;
    assert_eq!(rig.world.names(PODS).len(), 3, "what is known stays");
    rig.api.set_git_version("v1.38.0");
    rig.api.remove(PODS, "app", "p1");
    rig.api.resume().await;
    rig.settled().await;
    rig.until("the new version came", |w, _| {
        w.versions.last() == Some(&Some("1.38.0".to_owned()))
    })
    .await;
    assert_eq!(rig.world.begins, 1, "the watch resumed without a list");
}

/// With the measures of a real cluster and a clock that skips what nobody waits for: some ninety minutes.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_for_an_hour_is_asked_seldom_and_found_again() {
    let api = Standin::start().await;
    let place = |resource: Resource| match resource {
        Resource::ClusterRoles | Resource::ClusterRoleBindings | Resource::Namespaces => "",
        _ => "app",
    };
    for resource in Resource::ALL {
        api.put(resource, object(resource, place(resource), "kept"));
        api.put(resource, object(resource, place(resource), "lost"));
    }
    let client = api.direct();
    let mut rig = Rig::start_with(api, client, decode, Options::default());
    let known = |world: &World, api: &Standin| {
        let same = |r: &Resource| world.names(*r) == api.names(*r) && api.watches(*r) == 1;
        Resource::ALL.iter().all(same)
    };
    rig.until("everything is watched", known).await;
    rig.during(Duration::from_secs(60)).await;
    let before: Vec<_> = rig.world.objects.keys().cloned().collect();

    let gone = tokio::time::Instant::now();
    rig.api.break_down(anything, Fault::Drop);
    for resource in Resource::ALL {
        rig.api.cut(resource);
    }
    rig.during(Duration::from_secs(3600)).await;
    let after: Vec<_> = rig.world.objects.keys().cloned().collect();
    assert_eq!(before, after, "nothing is lost or invented meanwhile");
    for resource in Resource::ALL {
        rig.api.remove(resource, place(resource), "lost");
        rig.api
            .put(resource, object(resource, place(resource), "new"));
    }
    let tries = rig.api.seen().iter().filter(|s| s.at > gone).count();
    // seven drivers at one try in 15 s on average
    assert!((1000..2600).contains(&tries), "{tries} requests in an hour");

    let back = tokio::time::Instant::now();
    rig.api.heal();
    rig.until("everything is as it is", known).await;
    let took = back.elapsed();
    recovered("API server gone for an hour", took);
    rig.during(Duration::from_secs(60)).await;
    let seen = rig.api.seen();
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for request in seen.iter().filter(|s| s.at > back) {
        *seconds.entry((request.at - back).as_secs()).or_default() += 1;
    }
    // for each a list and a watch
    let busiest = seconds.values().max().copied().unwrap_or_default();
    assert!(busiest <= 10, "a thundering herd: {seconds:?}");
    assert_eq!(rig.world.begins, 14, "each was listed once more");
    println!(
        "gone for an hour: {tries} requests meanwhile, everything right {:.1} s after its end, at most \
         {busiest} requests a second",
        took.as_secs_f64()
    );
}

/// One cause of faults: how it begins, with the watch open and at rest, and whether it goes on until it is
/// healed.
struct Cause {
    fault: &'static str,
    begin: Box<dyn Fn(&Standin)>,
    lasting: bool,
}

impl Cause {
    fn new(fault: &'static str, begin: impl Fn(&Standin) + 'static) -> Cause {
        Cause {
            fault,
            begin: Box::new(begin),
            lasting: false,
        }
    }

    /// Until it is healed these requests meet this, and the open watch ends.
    fn lasting(fault: &'static str, matches: Matches, met: Fault) -> Cause {
        let begin = move |api: &Standin| {
            api.break_down(matches, met.clone());
            api.compact();
            api.cut(PODS);
        };
        Cause {
            lasting: true,
            ..Cause::new(fault, begin)
        }
    }
}

/// Until the world is the server's and watched, with a clock that skips; the time it took.
async fn until_right(rig: &mut Rig, faults: usize) -> Duration {
    let start = tokio::time::Instant::now();
    let right = |rig: &Rig| {
        let same = rig.world.names(PODS) == rig.api.names(PODS);
        same && rig.api.watches(PODS) == 1 && rig.world.faults.len() >= faults
    };
    while !right(rig) {
        rig.during(Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_secs(3600));
    }
    start.elapsed()
}

/// With the measures of a real cluster and a clock that skips what nobody waits for. Each cause lasts long
/// enough for the waits to have grown to their longest, and much has happened when it is over.
#[tokio::test(start_paused = true)]
async fn recovery_takes_no_longer_than_the_table_says() {
    let page = r#"{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[]}"#;
    let second = Duration::from_secs(1);
    let error = |code: u16| {
        let status =
            json!({"kind": "Status", "status": "Failure", "code": code, "message": "forbidden"});
        json!({"type": "ERROR", "object": status}).to_string() + "\n"
    };
    let once = |fault: Fault| {
        move |api: &Standin| {
            api.fail(1, any_watch, fault.clone());
            api.close(PODS);
        }
    };
    let garbage = "<html>\n".to_owned();
    let cut = "{\"type\":\"ADDED\"".to_owned();
    let secrets = r#"{"kind":"SecretList","metadata":{"resourceVersion":"1"},"items":[]}"#;
    let mut causes = vec![
        Cause::new("G2 410 as a watch opens", once(Fault::Status(410))),
        Cause::new("410 as an event", {
            let gone = error(410);
            move |api| api.send(PODS, &gone)
        }),
        Cause::new("endless line", |api| api.send(PODS, &"x".repeat(300 << 10))),
        Cause::new("restarted with an older state", |api| {
            api.roll_back(api.version() - 1);
            api.cut(PODS);
        }),
        Cause::new("bookmarks missing", once(Fault::Stall(String::new()))),
    ];
    let mut add = |fault, matches, met| causes.push(Cause::lasting(fault, matches, met));
    add(
        "G1 watch closes at once",
        any_watch,
        Fault::Text(String::new()),
    );
    add("G5 lists keep failing", any_list, Fault::Status(500));
    add("G8 no answer", anything, Fault::Hang);
    add("401", anything, Fault::Status(401));
    add("403 on one resource", anything, Fault::Status(403));
    add(
        "403 on all, namespaced rights alone",
        anything,
        Fault::Status(403),
    );
    add("403 on watch alone", any_watch, Fault::Status(403));
    for code in [404, 422, 500, 503] {
        add("404, 422, 500, 503", anything, Fault::Status(code));
    }
    add("410 in the middle of a list", next_page, Fault::Status(410));
    add("429 without Retry-After", anything, Fault::Status(429));
    for code in [429, 503] {
        let met = Fault::RetryAfter(code, 3600);
        add("429 and 503 with Retry-After", anything, met);
    }
    add("200 with garbage", any_list, Fault::Text("{}".to_owned()));
    add("garbage in a watch", any_watch, Fault::Stall(garbage));
    add("truncated frame", any_watch, Fault::Cut(cut));
    add("wrong kind", any_list, Fault::Text(secrets.to_owned()));
    for code in [400, 401, 403, 404, 410, 429, 500, 503, 504] {
        let met = Fault::Stall(error(code));
        add("ERROR events of each code", any_watch, met);
    }
    add(
        "slow-drip server",
        any_list,
        Fault::Drip(page.to_owned(), second),
    );

    for cause in causes {
        let api = with_pods(8).await;
        let client = api.direct();
        let options = Options {
            resources: vec![PODS],
            page_size: 3,
            frame_limit: 100 << 10,
            ..Options::default()
        };
        let mut rig = Rig::start_with(api, client, decode, options);
        rig.settled().await;
        rig.during(15 * second).await;
        (cause.begin)(&rig.api);
        if cause.lasting {
            rig.during(400 * second).await;
            assert!(!rig.world.faults.is_empty(), "{}", cause.fault);
            assert_eq!(rig.world.names(PODS).len(), 8, "{}", cause.fault);
            rig.api.heal();
        }
        rig.api.remove(PODS, "app", "p0");
        rig.api.put(PODS, object(PODS, "app", "after"));
        let took = until_right(&mut rig, 1).await;
        recovered(cause.fault, took);
    }

    let api = with_pods(8).await;
    let client = api.direct();
    api.break_down(anything, Fault::Drop);
    let options = Options {
        resources: vec![PODS],
        ..Options::default()
    };
    let mut rig = Rig::start_with(api, client, decode, options);
    rig.during(400 * second).await;
    assert!(rig.world.synced.is_empty());
    rig.api.heal();
    let took = until_right(&mut rig, 1).await;
    recovered("API server absent at start", took);
}

/// What a connection that lost its peer without a word is noticed by, on a quiet watch too.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_are_probed_by_the_kernel() {
    let mut rig = Rig::start(with_pods(1).await, brisk());
    rig.settled().await;
    rig.during(Duration::from_millis(100)).await;
    let port: u16 = rig.api.url().rsplit(':').next().unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let established = table.lines().filter(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[2].ends_with(&format!(":{port:04X}")) && columns[3] == "01"
    });
    // "02:" is the keepalive timer, followed by what is left of it in hundredths of a second
    let timers: Vec<(String, u64)> = established
        .map(|line| {
            line.split_whitespace()
                .nth(5)
                .unwrap()
                .split_once(':')
                .unwrap()
        })
        .map(|(timer, left)| (timer.to_owned(), u64::from_str_radix(left, 16).unwrap()))
        .collect();
    assert!(!timers.is_empty());
    for (timer, left) in timers {
        assert_eq!(timer, "02");
        assert!(
            left <= 1500,
            "{left} hundredths of a second to the first probe"
        );
    }
}

#[tokio::test]
async fn a_server_restored_from_a_backup_is_listed_anew() {
    for orderly in [false, true] {
        let mut rig = Rig::start(with_pods(3).await, brisk());
        rig.settled().await;
        let backup = rig.api.version();
        rig.api.put(PODS, object(PODS, "app", "lost"));
        rig.api.advance(100);
        rig.api.bookmark(PODS);
        rig.until("it is there", |w, _| w.objects.contains_key(&pod("lost")))
            .await;
        rig.during(Duration::from_millis(250)).await;
        if orderly {
            rig.api.close(PODS);
        } else {
            rig.api.stop().await;
        }
        rig.api.remove(PODS, "app", "lost");
        rig.api.roll_back(backup);
        if !orderly {
            rig.api.resume().await;
        }
        rig.until("it is gone", |w, _| !w.objects.contains_key(&pod("lost")))
            .await;
        assert_eq!(rig.world.begins, 2);
        rig.api.put(PODS, object(PODS, "app", "after"));
        rig.settled().await;
    }
}

/// What the version cannot tell: the restored server has had as many changes as were lost, and more.
#[tokio::test]
async fn a_restored_server_whose_versions_have_passed_ours_is_listed_anew() {
    for orderly in [false, true] {
        let options = Options {
            longest_gap: Duration::from_millis(100),
            ..brisk()
        };
        let mut rig = Rig::start(with_pods(3).await, options);
        rig.settled().await;
        let backup = rig.api.version();
        rig.api.put(PODS, object(PODS, "app", "lost"));
        rig.until("it is there", |w, _| w.objects.contains_key(&pod("lost")))
            .await;
        rig.during(Duration::from_millis(250)).await;
        rig.api.break_down(anything, Fault::Drop);
        if orderly {
            rig.api.close(PODS);
        } else {
            rig.api.cut(PODS);
        }
        rig.api.remove(PODS, "app", "lost");
        rig.api.roll_back(backup);
        rig.api.put(PODS, object(PODS, "app", "instead"));
        rig.api.advance(100);
        rig.during(Duration::from_millis(150)).await;
        rig.api.heal();
        rig.settled().await;
        assert_eq!(rig.world.begins, 2);
        assert_eq!(rig.world.faults_of(FaultReason::Expired), 0);
    }
}

/// A gap in which no server can have been restored is bridged: a proxy that cuts streams costs no list.
#[tokio::test]
async fn a_busy_watch_that_is_cut_is_resumed() {
    let options = Options {
        longest_gap: Duration::from_secs(2),
        ..brisk()
    };
    let mut rig = Rig::start(with_pods(3).await, options);
    rig.settled().await;
    for round in 0..5 {
        rig.during(Duration::from_millis(250)).await;
        let pods = format!("p{round}");
        rig.api.put(PODS, object(PODS, "app", &pods));
        rig.settled().await;
        rig.api.cut(PODS);
        rig.until("the watch is open again", |w, _| w.restarts == round + 1)
            .await;
    }
    assert_eq!(rig.world.begins, 1);
}

#[tokio::test]
async fn faults_of_one_resource_touch_no_other() {
    let api = with_pods(2).await;
    let secrets = |asks| matches!(asks, Asks::List(Resource::Namespaces));
    api.break_down(secrets, Fault::Hang);
    let options = Options {
        resources: vec![PODS, Resource::Namespaces],
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.settled().await;
    rig.api.put(PODS, object(PODS, "app", "new"));
    rig.settled().await;
    assert!(!rig.world.synced.contains(&Resource::Namespaces));
}

/// Whatever happens in whatever order, the world ends up as the server's, and the requests stay few.
#[tokio::test]
async fn any_run_of_faults_converges() {
    let faults = [
        Fault::Status(410),
        Fault::Status(500),
        Fault::Status(401),
        Fault::RetryAfter(429, 0),
        Fault::Text(String::new()),
        Fault::Text("{}".to_owned()),
        Fault::Cut("{\"type\":\"ADDED\"".to_owned()),
        Fault::Stall("<html>\n".to_owned()),
        Fault::Drop,
        Fault::Slow(Duration::from_millis(30)),
    ];
    let mut seed = 7_u64;
    let mut dice = |sides: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % sides
    };
    let mut rig = Rig::start(with_pods(10).await, brisk());
    let start = Instant::now();
    for step in 0..200 {
        let name = format!("p{}", dice(20));
        match dice(9) {
            0..=2 => rig.api.put(PODS, object(PODS, "app", &name)),
            3 => rig.api.remove(PODS, "app", &name),
            4 => rig.api.bookmark(PODS),
            5 => rig.api.close(PODS),
            6 => rig.api.cut(PODS),
            7 if dice(3) == 0 => rig.api.compact(),
            7 if dice(8) == 0 => {
                rig.api.stop().await;
                rig.api.resume().await;
            }
            _ => {
                let matches = [anything, any_list, any_watch, next_page][dice(4)];
                rig.api.fail(1, matches, faults[dice(faults.len())].clone());
            }
        }
        rig.during(Duration::from_millis(dice(20) as u64)).await;
        if step % 50 == 49 {
            rig.api.heal();
            rig.settled().await;
        }
    }
    rig.api.heal();
    rig.settled().await;
    let (requests, seconds) = (rig.api.seen().len(), start.elapsed().as_secs_f64());
    assert!(
        (requests as f64) < 60.0 * seconds + 100.0,
        "{requests} requests in {seconds} s"
    );
}

// === Logs and configuration ===

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is logged from here on by this thread, until the guard is dropped.
fn listen() -> (Log, impl Sized) {
    let log = Log::default();
    let writer = log.clone();
    let filter: Targets = "info,kube_client::client::builder=off".parse().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish()
        .with(filter);
    // While there is only one subscriber, tracing asks the current thread's whether an event matters
    // to anybody and remembers the answer: with other tests in other threads, often no.
    let second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let guard = tracing::subscriber::set_default(subscriber);
    (log, (second, guard))
}

impl Log {
    /// The fields of each line.
    fn lines(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let fields = |line: &str| serde_json::from_str::<Value>(line).unwrap()["fields"].take();
        text.lines().map(fields).collect()
    }
}

#[tokio::test]
async fn a_change_of_state_is_one_line_and_a_retry_none() {
    let (log, _guard) = listen();
    let api = with_pods(2).await;
    api.break_down(any_list, Fault::Status(500));
    let options = Options {
        stale_after: Duration::from_millis(350),
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.during(Duration::from_millis(300)).await;
    rig.api.heal();
    rig.api.break_down(any_list, Fault::Status(403));
    rig.during(Duration::from_millis(300)).await;
    rig.api.heal();
    rig.settled().await;
    rig.during(Duration::from_millis(300)).await;
    rig.api.stop().await;
    rig.during(Duration::from_millis(700)).await;
    rig.api.resume().await;
    rig.settled().await;
    rig.during(Duration::from_millis(300)).await;

    let lines = log.lines();
    let messages: Vec<&str> = lines
        .iter()
        .map(|l| l["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "interrupted, retrying",
            "forbidden; rights in single namespaces are not enough",
            "stale: what is known stays as it was",
            "synced",
            "recovered",
            "interrupted, retrying",
            "stale: what is known stays as it was",
            "recovered"
        ],
        "{lines:?}"
    );
    assert_eq!(lines[0]["resource"], "pods");
    assert_eq!(lines[0]["reason"], "server");
    assert_eq!(lines[3]["objects"], 2);
    assert!(lines[7]["seconds"].as_f64().unwrap() > 0.3);
}

#[tokio::test]
async fn unreadable_objects_are_named_now_and_then_and_counted_each() {
    let (log, _guard) = listen();
    let api = with_pods(3).await;
    for name in ["a", "b", "c", "d"] {
        api.put(PODS, odd_pod(name));
    }
    let options = Options {
        bad_every: Duration::from_millis(300),
        ..brisk()
    };
    let mut rig = Rig::start(api, options);
    rig.settled().await;
    rig.during(Duration::from_millis(350)).await;
    rig.api.put(PODS, odd_pod("e"));
    rig.until("each is counted", |w, _| {
        w.faults_of(FaultReason::Decode) == 5
    })
    .await;
    assert_eq!(rig.world.bad.len(), 5);
    let lines = log.lines();
    let named: Vec<(&Value, &Value)> = lines
        .iter()
        .filter(|l| l["message"] == "unreadable object")
        .map(|l| (&l["name"], &l["unnamed"]))
        .collect();
    assert_eq!(named, [(&json!("a"), &json!(0)), (&json!("e"), &json!(3))]);
}

#[tokio::test]
async fn a_kubeconfig_leads_to_its_server() {
    let api = with_pods(1).await;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&api.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
    let client = connect_with(config.unwrap()).unwrap();
    let (sender, mut changes) = mpsc::channel(64);
    let (_stop, shutdown) = watch::channel(false);
    let access = Access::fixed(client);
    let _cluster = Cluster::start(&access, decode, &sender, &shutdown, brisk());
    let synced = async { while !matches!(changes.recv().await, Some(Change::RelistEnd(_))) {} };
    timeout(Duration::from_secs(5), synced).await.unwrap();
}
