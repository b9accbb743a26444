//! The evaluator against the real authoriser: the same questions to SubjectAccessReview and to
//! `can-i --reviews`, which must agree on every one.

mod generate;
mod who_can;

use std::env;
use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt, stream};
use hyper::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::harness::exporter::run_binary;
use crate::harness::world::World;
use generate::{NAMESPACES, Questioner, Random};

const SEED: &str = "RBAC_EXPORTER_SEED";
const QUESTIONS: &str = "RBAC_EXPORTER_SAR_QUESTIONS";

/// Questions to one set of roles and bindings; more of them find less than a new set does.
const QUESTIONS_A_ROUND: usize = 2500;

/// Requests under way at once, well below where the server starts to refuse some.
const AT_ONCE: usize = 64;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

#[test]
fn can_i_agrees_with_subject_access_review() {
    let seed = number(SEED).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() ^ u64::from(now.subsec_nanos())
    });
    let total = number(QUESTIONS).map_or(6000, |n| usize::try_from(n).unwrap());
    println!("{SEED}={seed} {QUESTIONS}={total}");

    // The controllers fill admin, edit and view, which the evaluator reads as they are.
    let world = World::with_controllers();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = Server {
        client: runtime.block_on(connect(&world)),
    };
    let mut random = Random::new(seed);
    let (mut asked, mut yes, mut refused) = (0, 0, 0);
    let mut differences = Vec::new();
    let start = Instant::now();
    for namespace in NAMESPACES {
        world.kubectl(&["create", "namespace", namespace], "");
    }
    // It grants system:masters everything, and would hide that nothing needs to.
    world.kubectl(&["delete", "clusterrolebinding", "cluster-admin"], "");
    for round in 0.. {
        if asked == total {
            break;
        }
        let count = QUESTIONS_A_ROUND.min(total - asked);
        refused += runtime.block_on(server.replace_objects(round, &mut random));

        let exported = world.kubectl(&["get", KINDS, "--all-namespaces", "--output=json"], "");
        let questions = Questioner::new(&exported).questions(&mut random, count);
        let answers = runtime.block_on(server.ask(&questions));
        let ours = can_i(&world, &exported, &questions);
        for ((question, theirs), ours) in questions.iter().zip(answers).zip(&ours) {
            asked += 1;
            yes += usize::from(theirs);
            let agrees =
                ours["status"]["allowed"] == theirs && ours["status"]["evaluationError"].is_null();
            if !agrees {
                differences.push(format!(
                    "round {round}: the server says {theirs}, we say {}: {}",
                    ours["status"], question["spec"]
                ));
            }
        }
    }
    let share = yes * 100 / asked.max(1);
    println!(
        "{asked} reviews of {} sets of roles, {share} % yes, {refused} objects refused by the \
         server, {} differences, {:.1?}",
        asked.div_ceil(QUESTIONS_A_ROUND),
        differences.len(),
        start.elapsed()
    );
    assert!(
        differences.is_empty(),
        "{} differences at {SEED}={seed}:\n{}",
        differences.len(),
        differences[..differences.len().min(10)].join("\n")
    );
    assert!(
        share >= 30,
        "questions that all get no for an answer prove little"
    );
}

/// What the authoriser and the evaluator judge by.
const KINDS: &str = "clusterroles,roles,clusterrolebindings,rolebindings,serviceaccounts";

fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {value}")),
    )
}

/// Asks the binary, and gives its reviews in the order of the questions.
fn can_i(world: &World, exported: &str, questions: &[Value]) -> Vec<Value> {
    let manifests = world.path().join("exported.json");
    let reviews = world.path().join("reviews.jsonl");
    let lines: Vec<_> = questions
        .iter()
        .map(|question| format!("{question}\n"))
        .collect();
    fs::write(&manifests, exported).unwrap();
    fs::write(&reviews, lines.concat()).unwrap();
    let finished = run_binary(
        &[
            "can-i".as_ref(),
            "--source.manifests".as_ref(),
            manifests.as_os_str(),
            "--reviews".as_ref(),
            reviews.as_os_str(),
        ],
        "",
    );
    assert_eq!(finished.code, 0, "can-i: {}", finished.stderr);
    let answers: Vec<Value> = finished
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("can-i writes JSON Lines"))
        .collect();
    assert_eq!(
        answers.len(),
        questions.len(),
        "one answer to each question"
    );
    answers
}

async fn connect(world: &World) -> Client {
    let kubeconfig = Kubeconfig::read_from(world.admin_kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// The API server, asked as a member of `system:masters`.
struct Server {
    client: Client,
}

impl Server {
    async fn send(&self, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(body.to_string().into_bytes())
            .expect("a valid request");
        self.client.request(request).await
    }

    /// Puts new random objects in the place of those of the round before, and gives the number of
    /// those that the server refused as invalid.
    async fn replace_objects(&self, round: u64, random: &mut Random) -> usize {
        let cluster = [
            format!("{RBAC}/clusterroles"),
            format!("{RBAC}/clusterrolebindings"),
        ];
        let namespaced = NAMESPACES.iter().flat_map(|namespace| {
            ["roles", "rolebindings"].map(|kind| format!("{RBAC}/namespaces/{namespace}/{kind}"))
        });
        for collection in cluster.into_iter().chain(namespaced) {
            let path = format!("{collection}?labelSelector=round");
            self.send("DELETE", &path, &Value::Null)
                .await
                .expect("old objects can be deleted");
        }

        let mut objects = generate::objects(random);
        objects.extend(canaries(round));
        let count = objects.len();
        let mut refused = 0;
        for object in objects {
            match self.create(object).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 422 => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            refused * 4 < count,
            "{refused} of {count} generated objects are invalid"
        );
        self.await_canaries(round).await;
        refused
    }

    async fn create(&self, mut object: Value) -> kube::Result<Value> {
        object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        object["metadata"]["labels"] = json!({"round": ""});
        let kind = object["kind"]
            .as_str()
            .expect("an object has a kind")
            .to_lowercase();
        let path = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{RBAC}/namespaces/{namespace}/{kind}s"),
            None => format!("{RBAC}/{kind}s"),
        };
        self.send("POST", &path, &object).await
    }

    /// Waits until the authoriser, which watches each of the four kinds on its own, has seen the
    /// last object of each.
    async fn await_canaries(&self, round: u64) {
        let seen = canary_questions(round);
        for _ in 0..1000 {
            if self.ask(&seen).await.iter().all(|yes| *yes) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the authoriser does not see the new objects");
    }

    async fn ask(&self, questions: &[Value]) -> Vec<bool> {
        stream::iter(questions)
            .map(|question| async move {
                let answer = self
                    .send("POST", REVIEWS, question)
                    .await
                    .unwrap_or_else(|e| panic!("{question}: {e}"));
                answer["status"]["allowed"]
                    .as_bool()
                    .expect("a review is answered")
            })
            .buffered(AT_ONCE)
            .collect()
            .await
    }
}

/// A role and a binding of each kind, made last; what they grant changes from round to round.
fn canaries(round: u64) -> [Value; 4] {
    let subjects = json!([{"kind": "User", "name": "canary"}]);
    let rules = json!([{
        "verbs": ["sing"], "apiGroups": [""], "resources": [format!("songs{round}")],
    }]);
    let namespace = NAMESPACES[0];
    [
        json!({"kind": "ClusterRole", "metadata": {"name": "canary"}, "rules": rules}),
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "canary"}, "subjects": subjects,
            "roleRef": {"kind": "ClusterRole", "name": "canary"}}),
        json!({"kind": "Role", "metadata": {"name": "canary", "namespace": namespace},
            "rules": rules}),
        json!({"kind": "RoleBinding", "metadata": {"name": "canary", "namespace": namespace},
            "subjects": [{"kind": "Group", "name": "canaries"}],
            "roleRef": {"kind": "Role", "name": "canary"}}),
    ]
}

fn canary_questions(round: u64) -> [Value; 2] {
    let resource = format!("songs{round}");
    [
        generate::review(&json!({"user": "canary",
            "resourceAttributes": {"verb": "sing", "resource": resource}})),
        generate::review(&json!({"groups": ["canaries"], "resourceAttributes":
            {"verb": "sing", "resource": resource, "namespace": NAMESPACES[0]}})),
    ]
}
