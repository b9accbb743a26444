//! Escalation is real: each attack that we rate is carried out on a real server with the
//! credentials of the subject and nothing else, and beside it stands a twin that lacks one piece,
//! which the server refuses and we do not rate.

/// Client certificates.
mod certificates;
/// Other people's names.
mod impersonation;
/// Nodes and namespaces, the objects that fence others.
mod objects;
/// Code that runs as others.
mod pods;
/// Roles and bindings.
mod roles;
/// Reads that do not look like reads.
mod secrets;
/// Tokens of accounts.
mod tokens;

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::harness::caller::{Caller, Refusal};
use crate::harness::eventually;
use crate::harness::exporter::{find, scan};
use crate::harness::world::World;

/// The home of all attackers. It lies apart from what they attack, as an account is itself among
/// those that one with rights in its namespace can become.
const HOME: &str = "attackers";

/// The account that whoever becomes it has won, in each namespace of [`Stage::namespace`].
const STRONG: &str = "strong";

/// How long a controller, or the authoriser's watch, may take to notice something.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cluster on which all attacks take place, in namespaces of their own.
struct Stage {
    world: World,
    admin: Caller,
    judge: PathBuf,
}

/// What a subject is granted, with where: [`EVERYWHERE`] or a namespace.
enum Grant<'a> {
    /// A rule, `VERBS | GROUP | RESOURCES [| NAMES]`, the core group written `core`.
    Rule(&'a str, &'a str),
    /// A ClusterRole that exists.
    Role(&'a str, &'a str),
}

/// By ClusterRoleBinding.
const EVERYWHERE: &str = "*";

/// A subject with its credentials.
struct Actor {
    name: String,
    caller: Caller,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let world = World::installed();
        let admin = world.admin();
        let judge = world.exporter_kubeconfig(world.port());
        let stage = Stage {
            world,
            admin,
            judge,
        };
        stage.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}));
        stage
    })
}

impl Stage {
    /// Creates an object as the administrator.
    #[track_caller]
    fn create(&self, object: &Value) -> Value {
        self.admin
            .post(&collection(object), object)
            .unwrap_or_else(|refusal| panic!("{object}: {refusal}"))
    }

    /// Creates a namespace with the account [`STRONG`], which may do everything everywhere.
    fn namespace(&self, name: &str) {
        self.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        self.account(name, STRONG);
        self.bind(
            EVERYWHERE,
            &format!("{name}-{STRONG}"),
            "ClusterRole",
            "cluster-admin",
            &json!({"kind": "ServiceAccount", "name": STRONG, "namespace": name}),
        );
    }

    /// Creates an account without rights.
    fn account(&self, namespace: &str, name: &str) {
        self.create(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        }));
    }

    /// Creates the Secret `name` with one entry.
    fn secret(&self, namespace: &str, name: &str) {
        self.create(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": {"password": PASSWORD},
        }));
    }

    /// Creates a binding of that name.
    fn bind(&self, place: &str, name: &str, role_kind: &str, role: &str, subject: &Value) {
        let (kind, metadata) = if place == EVERYWHERE {
            ("ClusterRoleBinding", json!({"name": name}))
        } else {
            ("RoleBinding", json!({"name": name, "namespace": place}))
        };
        self.create(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
            "subjects": [subject],
        }));
    }

    /// Creates an account that holds exactly these grants, and waits until they are in force, so
    /// that what is refused it later is refused for good. The role of its Nth rule is `NAME-N`.
    fn actor(&self, name: &str, grants: &[Grant<'_>]) -> Actor {
        self.account(HOME, name);
        let subject = json!({"kind": "ServiceAccount", "name": name, "namespace": HOME});
        for (index, grant) in grants.iter().enumerate() {
            let object = format!("{name}-{index}");
            match grant {
                Grant::Role(place, role) => {
                    self.bind(place, &object, "ClusterRole", role, &subject);
                }
                Grant::Rule(place, rule) => {
                    let (kind, metadata) = if *place == EVERYWHERE {
                        ("ClusterRole", json!({"name": object}))
                    } else {
                        ("Role", json!({"name": object, "namespace": place}))
                    };
                    self.create(&json!({
                        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
                        "metadata": metadata, "rules": [parse(rule)],
                    }));
                    self.bind(place, &object, kind, &object, &subject);
                }
            }
        }
        let path = format!("/api/v1/namespaces/{HOME}/serviceaccounts/{name}/token");
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"});
        let answer = self.admin.post(&path, &request).expect("tokens are given");
        let actor = Actor {
            name: name.to_owned(),
            caller: self
                .world
                .caller(&json!({"token": answer["status"]["token"]})),
        };
        for grant in grants {
            // The watch that brings the bindings of rules brings those of roles with them.
            if let Grant::Rule(place, rule) = grant {
                actor.await_rule(place, rule);
            }
        }
        actor
    }

    /// Lets the twins and then the thief carry the attack out. The server must refuse each twin
    /// and not the thief, and of each we must have said what stands beside it, in the words of
    /// [`verdict`].
    fn contest(
        &self,
        attack: &str,
        thief: (&Actor, &str),
        twins: &[(&Actor, &str)],
        carry_out: impl Fn(&Actor) -> Result<(), Refusal>,
    ) {
        let report = scan(&self.judge);
        let mut mistakes = Vec::new();
        let to_do = twins.iter().map(|twin| (*twin, false));
        for ((actor, expected), works) in to_do.chain([(thief, true)]) {
            let said = verdict(&report, actor);
            let outcome = carry_out(actor);
            let what = match &outcome {
                Ok(()) => "worked".to_owned(),
                Err(refusal) => format!("refused with {refusal}"),
            };
            let line = format!("{attack}, by {actor}: {what}; we said {said}");
            println!("{line}");
            let as_expected = match outcome {
                Ok(()) => works,
                Err(refusal) => !works && refusal.status == 403,
            };
            if !as_expected || said != expected {
                mistakes.push(format!("{line}, not {expected}"));
            }
        }
        assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    }
}

/// What we say of an actor: `PRIORITY (RULE@SCOPE PRIORITY, …)`, and where it escalates to.
fn verdict(report: &Value, actor: &Actor) -> String {
    let entry = find(&report["subjects"], "ServiceAccount", HOME, &actor.name)
        .unwrap_or_else(|| panic!("{actor} is not in the report"));
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let list = |value: &Value| value.as_array().expect("an array").clone();
    let mut findings: Vec<_> = list(&entry["findings"])
        .iter()
        .map(|finding| {
            let [rule, scope, priority] =
                ["rule", "scope", "priority"].map(|key| text(&finding[key]));
            format!("{rule}@{scope} {priority}")
        })
        .collect();
    findings.sort();
    let mut verdict = format!("{} ({})", text(&entry["priority"]), findings.join(", "));
    for step in list(&entry["path"]) {
        let [kind, namespace, name] =
            ["kind", "namespace", "name"].map(|key| text(&step["to"][key]));
        let edge = text(&step["edge"]);
        verdict.push_str(&format!(", by {edge} {kind} {namespace}/{name}"));
    }
    verdict
}

impl Actor {
    /// Waits until each request that a rule allows is allowed.
    fn await_rule(&self, place: &str, rule: &str) {
        let rule = parse(rule);
        let list = |key: &str| -> Vec<String> {
            serde_json::from_value(rule[key].clone()).expect("a list of strings")
        };
        let names = match rule.get("resourceNames") {
            Some(_) => list("resourceNames"),
            None => vec![String::new()],
        };
        for verb in list("verbs") {
            for resource in list("resources") {
                let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
                for name in &names {
                    let request = json!({
                        "verb": verb, "group": rule["apiGroups"][0], "resource": resource,
                        "subresource": subresource, "name": name,
                        "namespace": if place == EVERYWHERE { "" } else { place },
                    });
                    self.await_permission(&request);
                }
            }
        }
    }

    fn await_permission(&self, request: &Value) {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": request},
        });
        eventually("a grant is in force", PATIENCE, || {
            let answer = self
                .caller
                .post(
                    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                    &review,
                )
                .map_err(|refusal| refusal.to_string())?;
            if answer["status"]["allowed"] == true {
                Ok(())
            } else {
                Err(answer["status"].to_string())
            }
        });
    }
}

/// A rule of its short form.
fn parse(rule: &str) -> Value {
    let mut parts = rule
        .split('|')
        .map(|part| part.trim().split(',').collect::<Vec<_>>());
    let mut part = || parts.next();
    let (verbs, groups, resources) = (part(), part(), part());
    let groups: Vec<_> = groups
        .expect("a rule has a group")
        .into_iter()
        .map(|group| if group == "core" { "" } else { group })
        .collect();
    let mut object = json!({"verbs": verbs, "apiGroups": groups, "resources": resources});
    if let Some(names) = part() {
        object["resourceNames"] = json!(names);
    }
    object
}

/// Where objects of that kind are created.
fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("a version");
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = object["kind"].as_str().expect("a kind").to_lowercase();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{kind}s"),
        None => format!("/{root}/{version}/{kind}s"),
    }
}

/// Repeats what others have yet to make possible until it works or it is too late.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let start = Instant::now();
    loop {
        let outcome = attempt();
        if outcome.is_ok() || start.elapsed() > PATIENCE {
            return outcome;
        }
        sleep(Duration::from_millis(20));
    }
}

/// A good answer that lacks what it was asked for.
fn nothing(what: &str) -> Refusal {
    Refusal {
        status: 200,
        message: format!("no {what}"),
    }
}

/// Whoever may do this may do everything; of the actors' own grants none allows it.
fn reign(caller: &Caller) -> Result<(), Refusal> {
    caller.get("/api/v1/namespaces/kube-system/secrets")?;
    caller.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings")?;
    Ok(())
}

/// What [`Stage::secret`] hides.
const PASSWORD: &str = "correct horse";

/// Does an object show what a Secret hides?
fn shows_password(secret: &Value) -> Result<(), Refusal> {
    if decode(&secret["data"]["password"]).is_some_and(|password| password == PASSWORD) {
        Ok(())
    } else {
        Err(nothing("password"))
    }
}

/// Text that is written in base64.
fn decode(value: &Value) -> Option<String> {
    let bytes = BASE64.decode(value.as_str()?).expect("base64");
    Some(String::from_utf8(bytes).expect("text"))
}
