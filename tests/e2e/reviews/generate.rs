//! Random roles, bindings and questions from a small vocabulary, so that they meet often.

use serde_json::{Map, Value, json};

/// Namespaces that hold generated objects.
pub(super) const NAMESPACES: [&str; 3] = ["apps", "builds", "tools"];

const VERBS: &[&str] = &[
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "impersonate:user-info",
    "use",
    "sign",
    "*",
    "",
    "GET",
    "get*",
];
const GROUPS: &[&str] = &[
    "",
    "apps",
    "batch",
    "rbac.authorization.k8s.io",
    "example.com",
    "*",
    "*.k8s.io",
    "Apps",
];
const RESOURCES: &[&str] = &[
    "pods",
    "secrets",
    "serviceaccounts",
    "deployments",
    "nodes",
    "namespaces",
    "clusterroles",
    "users",
    "userextras",
    "Pods",
    "*",
    "",
];
const SUBRESOURCES: &[&str] = &[
    "exec", "log", "token", "scale", "proxy", "status", "*", "a/b",
];
const NAMES: &[&str] = &["", "web", "db", "*", "we*", "system:node:a", "q\"\\\n", "é"];
const PATHS: &[&str] = &[
    "*",
    "/*",
    "/**",
    "/",
    "",
    "/api",
    "/api/",
    "/api*",
    "/api/*",
    "/api/**",
    "/apis",
    "/metrics",
    "/metrics/*",
    "/metrics/cadvisor",
    "/healthz",
    "/healthz*",
    "/a*b",
    "/axb",
    "api*",
];
const ROLE_NAMES: &[&str] = &["one", "two", "three", "four", "Five:six", "seven eight"];
const DEFAULT_ROLES: &[&str] = &[
    "cluster-admin",
    "admin",
    "edit",
    "view",
    "system:discovery",
    "system:node-proxier",
];
const ACCOUNTS: &[&str] = &["default", "builder", "web.v1"];
const USERS: &[&str] = &[
    "alice",
    "Alice",
    "oidc:bob@example.com",
    "*",
    "system:anonymous",
    "q\"\\\n",
    "web.v1",
    "system:serviceaccount:apps:builder",
    "system:serviceaccount:builds:default",
    "system:serviceaccount:tools:",
    "system:serviceaccount::default",
];
const USER_GROUPS: &[&str] = &[
    "devs",
    "Devs",
    "ops team",
    "*",
    "system:authenticated",
    "system:unauthenticated",
    "system:serviceaccounts",
    "system:serviceaccounts:apps",
    "system:serviceaccounts:builds",
    "system:serviceaccounts:",
    "alice",
];

/// SplitMix64: small, and the same on every machine for a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize fits u64");
        usize::try_from(self.next() % end).expect("it is below a usize")
    }

    pub(super) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One to `most` of them.
    fn some(&mut self, from: &[&str], most: usize) -> Vec<String> {
        (0..=self.below(most))
            .map(|_| (*self.pick(from)).to_owned())
            .collect()
    }
}

/// A review of this spec.
pub(super) fn review(spec: &Value) -> Value {
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
    })
}

/// Roles and bindings of all four kinds, without apiVersion; some of them point to roles that are
/// not among them.
pub(super) fn objects(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    // Same names as kinds Role and ClusterRole on purpose; those left out are the missing ones.
    for name in ROLE_NAMES {
        if random.percent(80) {
            let rules = rules(random, true);
            objects.push(json!({
                "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
            }));
        }
        for namespace in NAMESPACES {
            if random.percent(60) {
                let rules = rules(random, false);
                objects.push(json!({
                    "kind": "Role", "metadata": {"name": name, "namespace": namespace},
                    "rules": rules,
                }));
            }
        }
    }
    for number in 0..14 {
        let subjects = subjects(random, None);
        let names = if random.percent(10) {
            DEFAULT_ROLES
        } else {
            ROLE_NAMES
        };
        let name = *random.pick(names);
        objects.push(json!({
            "kind": "ClusterRoleBinding", "metadata": {"name": format!("binding {number}")},
            "subjects": subjects, "roleRef": role_ref("ClusterRole", name),
        }));
    }
    for number in 0..42 {
        let namespace = *random.pick(&NAMESPACES);
        let subjects = subjects(random, Some(namespace));
        let (kind, names) = match random.below(20) {
            0..10 => ("Role", ROLE_NAMES),
            10..18 => ("ClusterRole", ROLE_NAMES),
            _ => ("ClusterRole", DEFAULT_ROLES),
        };
        let name = *random.pick(names);
        objects.push(json!({
            "kind": "RoleBinding",
            "metadata": {"name": format!("binding {number}"), "namespace": namespace},
            "subjects": subjects, "roleRef": role_ref(kind, name),
        }));
    }
    objects
}

fn role_ref(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

fn rules(random: &mut Random, cluster: bool) -> Vec<Value> {
    let count = if random.percent(5) {
        0
    } else {
        1 + random.below(3)
    };
    (0..count)
        .map(|_| {
            let verbs = random.some(VERBS, 3);
            if cluster && random.percent(25) {
                return json!({"verbs": verbs, "nonResourceURLs": random.some(PATHS, 2)});
            }
            let resources: Vec<_> = (0..=random.below(3))
                .map(|_| rule_resource(random))
                .collect();
            let mut rule = json!({
                "verbs": verbs, "apiGroups": random.some(GROUPS, 2), "resources": resources,
            });
            if random.percent(35) {
                rule["resourceNames"] = json!(random.some(NAMES, 2));
            }
            rule
        })
        .collect()
}

/// A resource as rules may write it: `pods`, `pods/exec`, `*/exec`, `pods/*`, `*/*`, `/exec`, …
fn rule_resource(random: &mut Random) -> String {
    let resource = *random.pick(RESOURCES);
    match random.below(10) {
        0..3 => format!("{resource}/{}", random.pick(SUBRESOURCES)),
        3 => format!("*/{}", random.pick(SUBRESOURCES)),
        _ => resource.to_owned(),
    }
}

/// One to three subjects of a binding in `namespace`, or of a cluster-wide one.
fn subjects(random: &mut Random, namespace: Option<&str>) -> Vec<Value> {
    let api_group = "rbac.authorization.k8s.io";
    let count = 1 + random.below(3);
    (0..count)
        .map(|_| match random.below(10) {
            0..4 => {
                let mut subject = json!({"kind": "ServiceAccount", "name": random.pick(ACCOUNTS)});
                // Without one it is the binding's own, which a cluster-wide binding does not have.
                if namespace.is_none() || random.percent(60) {
                    subject["namespace"] = json!(random.pick(&NAMESPACES));
                }
                subject
            }
            4..7 => {
                let mut subject =
                    json!({"kind": "User", "apiGroup": api_group, "name": random.pick(USERS)});
                // Means nothing on a user, also where the name makes it an account.
                if random.percent(20) {
                    subject["namespace"] = json!(random.pick(&NAMESPACES));
                }
                subject
            }
            _ => json!({"kind": "Group", "apiGroup": api_group, "name": random.pick(USER_GROUPS)}),
        })
        .collect()
}

/// Makes questions to what a server holds.
pub(super) struct Questioner {
    roles: Vec<Value>,
    generated: Vec<Value>,
    others: Vec<Value>,
}

impl Questioner {
    /// `exported` is what `kubectl get --output=json` writes.
    pub(super) fn new(exported: &str) -> Self {
        let mut list: Value = serde_json::from_str(exported).expect("kubectl writes JSON");
        let Value::Array(items) = list["items"].take() else {
            panic!("kubectl writes a list")
        };
        let (roles, rest): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item["rules"].is_array());
        let (generated, others): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .filter(|item| item["subjects"].is_array())
            .partition(|item| item["metadata"]["labels"]["round"].is_string());
        assert!(!roles.is_empty() && !generated.is_empty() && !others.is_empty());
        Self {
            roles,
            generated,
            others,
        }
    }

    /// New questions.
    pub(super) fn questions(&self, random: &mut Random, count: usize) -> Vec<Value> {
        (0..count)
            .map(|_| {
                let mut spec = Map::new();
                // Most start from what is granted: chance alone is answered no nearly always.
                if random.percent(80) {
                    let misread = random.percent(15);
                    self.granted(random, misread, &mut spec);
                    if !misread && random.percent(20) {
                        change_one(random, &mut spec);
                    }
                } else {
                    who(random, &mut spec);
                    what(random, &mut spec);
                }
                if random.percent(2) {
                    add_group(&mut spec, "system:masters");
                }
                review(&Value::Object(spec))
            })
            .collect()
    }

    /// A question that a rule of a random binding answers with yes, or, when the rule is `misread`,
    /// would if names were optional and stars stood for anything everywhere.
    fn granted(&self, random: &mut Random, misread: bool, spec: &mut Map<String, Value>) {
        let bindings = if random.percent(90) {
            &self.generated
        } else {
            &self.others
        };
        let binding = random.pick(bindings);
        let namespace = binding["metadata"]["namespace"].as_str();
        let subject = random.pick(binding["subjects"].as_array().expect("filtered by it"));
        member(random, subject, namespace.unwrap_or_default(), spec);

        let role_ref = &binding["roleRef"];
        let rules = self
            .roles
            .iter()
            .find(|role| {
                let home = role["metadata"]["namespace"].as_str();
                role["kind"] == role_ref["kind"]
                    && role["metadata"]["name"] == role_ref["name"]
                    && (role_ref["kind"] == "ClusterRole" || home == namespace)
            })
            .and_then(|role| role["rules"].as_array())
            .filter(|rules| !rules.is_empty());
        let Some(rules) = rules else {
            what(random, spec);
            return;
        };
        let rule = random.pick(rules);
        let verb = literal(random, &rule["verbs"], VERBS);
        if rule["nonResourceURLs"].is_array() {
            let url = literal(random, &rule["nonResourceURLs"], PATHS);
            let path = match url.strip_suffix('*') {
                Some(start) if misread => start.trim_end_matches(['*', '/']).to_owned(),
                Some(start) => format!("{}{}", start.trim_end_matches('*'), random.pick(NAMES)),
                None => url,
            };
            spec.insert(
                "nonResourceAttributes".into(),
                json!({"verb": verb, "path": path}),
            );
            return;
        }
        let written = literal(random, &rule["resources"], RESOURCES);
        let (resource, subresource) = match written.split_once('/') {
            // The authoriser joins the two, so a request for a "resource" with a slash is one too.
            Some(_) if random.percent(5) => (written.as_str(), ""),
            Some((resource, "*")) if misread => (resource, *random.pick(SUBRESOURCES)),
            Some(("*", subresource)) => (*random.pick(RESOURCES), subresource),
            Some(parts) => parts,
            None => (written.as_str(), ""),
        };
        let name = match rule["resourceNames"].as_array() {
            Some(names) if !misread => random.pick(names).as_str().expect("names are strings"),
            _ => random.pick(NAMES),
        };
        let place = match namespace {
            Some(namespace) => namespace,
            None if random.percent(50) => "",
            None => random.pick(&NAMESPACES),
        };
        let attributes = json!({
            "verb": verb, "group": literal(random, &rule["apiGroups"], GROUPS),
            "resource": resource, "subresource": subresource, "name": name, "namespace": place,
        });
        spec.insert("resourceAttributes".into(), attributes);
    }
}

/// One entry of a rule's list, or what its `*` stands for.
fn literal(random: &mut Random, entries: &Value, vocabulary: &[&str]) -> String {
    let entries = entries.as_array().map(Vec::as_slice).unwrap_or_default();
    match random.pick(entries).as_str() {
        Some("*") | None => (*random.pick(vocabulary)).to_owned(),
        Some(entry) => entry.to_owned(),
    }
}

/// A user whom `subject` of a binding in `namespace` means.
fn member(random: &mut Random, subject: &Value, namespace: &str, spec: &mut Map<String, Value>) {
    let name = subject["name"].as_str().expect("subjects have names");
    match subject["kind"].as_str() {
        Some("Group") => {
            if random.percent(70) {
                spec.insert("user".into(), json!(random.pick(USERS)));
            }
            spec.insert("groups".into(), json!(random.some(USER_GROUPS, 2)));
            add_group(spec, name);
        }
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            account(random, namespace, name, spec);
        }
        _ => {
            spec.insert("user".into(), json!(name));
            if random.percent(30) {
                spec.insert("groups".into(), json!(random.some(USER_GROUPS, 2)));
            }
        }
    }
}

/// An account, with the groups that its tokens carry or without.
fn account(random: &mut Random, namespace: &str, name: &str, spec: &mut Map<String, Value>) {
    spec.insert(
        "user".into(),
        json!(format!("system:serviceaccount:{namespace}:{name}")),
    );
    if random.percent(60) {
        let groups = json!([
            "system:serviceaccounts",
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated",
        ]);
        spec.insert("groups".into(), groups);
    }
}

fn add_group(spec: &mut Map<String, Value>, group: &str) {
    let groups = spec.entry("groups").or_insert_with(|| json!([]));
    groups
        .as_array_mut()
        .expect("groups are a list")
        .push(json!(group));
}

/// A random user.
fn who(random: &mut Random, spec: &mut Map<String, Value>) {
    spec.remove("user");
    spec.remove("groups");
    match random.below(10) {
        0..5 => {
            let (namespace, name) = (*random.pick(&NAMESPACES), *random.pick(ACCOUNTS));
            account(random, namespace, name, spec);
        }
        5..8 => {
            spec.insert("user".into(), json!(random.pick(USERS)));
            spec.insert("groups".into(), json!(random.some(USER_GROUPS, 3)));
        }
        _ => {
            spec.insert("groups".into(), json!(random.some(USER_GROUPS, 3)));
        }
    }
}

/// A random request.
fn what(random: &mut Random, spec: &mut Map<String, Value>) {
    spec.remove("resourceAttributes");
    spec.remove("nonResourceAttributes");
    let verb = random.pick(VERBS);
    if random.percent(20) {
        let attributes = json!({"verb": verb, "path": random.pick(PATHS)});
        spec.insert("nonResourceAttributes".into(), attributes);
        return;
    }
    let subresource = if random.percent(40) {
        random.pick(SUBRESOURCES)
    } else {
        ""
    };
    let namespace = if random.percent(70) {
        random.pick(&NAMESPACES)
    } else {
        ""
    };
    let attributes = json!({
        "verb": verb, "group": random.pick(GROUPS), "resource": random.pick(RESOURCES),
        "subresource": subresource, "name": random.pick(NAMES), "namespace": namespace,
    });
    spec.insert("resourceAttributes".into(), attributes);
}

/// Changes one part of a question, so that what is one step from a yes is asked often.
fn change_one(random: &mut Random, spec: &mut Map<String, Value>) {
    if random.percent(20) {
        who(random, spec);
        return;
    }
    let (key, vocabulary) = if spec.contains_key("nonResourceAttributes") {
        *random.pick(&[("verb", VERBS), ("path", PATHS)])
    } else {
        *random.pick(&[
            ("verb", VERBS),
            ("group", GROUPS),
            ("resource", RESOURCES),
            ("subresource", SUBRESOURCES),
            ("subresource", &[""]),
            ("name", NAMES),
            ("namespace", &["apps", "builds", "tools", "", "elsewhere"]),
        ])
    };
    let attributes = spec
        .iter_mut()
        .find(|(key, _)| key.ends_with("Attributes"))
        .map(|(_, attributes)| attributes)
        .expect("a question asks for something");
    let old = attributes[key].as_str().expect("attributes are strings");
    let new = match random.below(6) {
        0 => old.to_uppercase(),
        1 => format!("{old}x"),
        2 => "*".to_owned(),
        _ => (*random.pick(vocabulary)).to_owned(),
    };
    attributes[key] = json!(new);
}
