//! What a subject can do in the end, in one sentence.

use crate::ledger::{ExplainedFinding, ExplainedStep, Explanation};
use crate::object::Subject;
use crate::risk::Priority;

/// What `can …` goes on with, for rules whose title is no verb; `{in}` is where, `{role}` the role.
const CAN: [(&str, &str); 14] = [
    ("impersonate-groups", "impersonate groups"),
    ("impersonate-users", "impersonate users"),
    ("wildcard-admin", "do everything{in}"),
    ("secrets-list", "read every Secret{in}"),
    ("mass-delete", "delete everything{in}"),
    (
        "impersonate-constrained",
        "act as others for some verbs{in}",
    ),
    (
        "csr-node-autoapprove",
        "get itself the certificate of a node",
    ),
    ("node-proxy", "run commands in pods through the kubelet"),
    ("nonresource-wildcard", "ask for any non-resource URL"),
    ("system-masters", "do everything, whatever RBAC says"),
    ("anonymous-access", "use what {role} grants{in}"),
    ("authenticated-access", "use what {role} grants{in}"),
    ("all-serviceaccounts-access", "use what {role} grants{in}"),
    ("default-serviceaccount-bound", "use what {role} grants{in}"),
];

/// What `by …` goes on with, for each rule that leads to others; `{in}` is where, `{to}` who.
const BY: [(&str, &str); 17] = [
    ("pod-create", "creating pods{in} that run as {to}"),
    ("workload-create", "creating workloads{in} that run as {to}"),
    (
        "workload-modify",
        "changing workloads{in} so that they run as {to}",
    ),
    ("serviceaccount-token-create", "requesting a token of {to}"),
    ("secrets-token-mint", "making a token Secret for {to}"),
    ("secrets-list", "using a token Secret{in} to become {to}"),
    ("secrets-get", "using a token Secret{in} to become {to}"),
    (
        "secrets-read-named",
        "using a token Secret{in} to become {to}",
    ),
    ("impersonate-serviceaccounts", "impersonating {to}"),
    ("impersonate-users", "impersonating {to}"),
    ("impersonate-groups", "impersonating {to}"),
    (
        "impersonate-constrained",
        "impersonating {to} for some verbs",
    ),
    (
        "pod-exec",
        "running commands in a pod{in} that carries a token of {to}",
    ),
    (
        "pod-exec-legacy-get",
        "running commands in a pod{in} that carries a token of {to}",
    ),
    (
        "pod-modify",
        "changing a pod{in} that carries a token of {to}",
    ),
    (
        "pod-ephemeral-containers",
        "adding a container to a pod{in} that gets a token of {to}",
    ),
    (
        "node-proxy",
        "running commands through the kubelet in a pod that carries a token of {to}",
    ),
];

/// Findings spelt out; the rest is counted.
const MOST: usize = 2;

/// One sentence in plain words. Names are as they are: who prints it makes them harmless.
pub(super) fn sentence(explanation: &Explanation) -> String {
    let view = &explanation.view;
    let who = who(&view.subject);
    if view.priority == Priority::None {
        return format!("{who} can do nothing that the catalogue calls dangerous.");
    }
    let Some(last) = explanation.path.last() else {
        let can = can(&explanation.findings, view.priority);
        return format!("{who} can {can}.");
    };
    let by: Vec<String> = explanation.path.iter().map(by).collect();
    let by = by.join(", then by ");
    let strongest = explanation.end.first().map(|f| f.finding.priority);
    if strongest > Some(view.priority) {
        // what may be done as somebody is less than what that one may do
        return format!(
            "{who} can do part of what {} can, up to {}, by {by}.",
            last.to.written(),
            view.priority.as_str()
        );
    }
    let can = can(&explanation.end, view.priority);
    format!("{who} can {can}, by {by}.")
}

fn who(subject: &Subject) -> String {
    let written = subject.written();
    let everyone = match subject {
        Subject::User { name } if name == "system:anonymous" => "Anyone without credentials",
        Subject::Group { name } => match name.as_str() {
            "system:unauthenticated" => "Anyone without credentials",
            "system:authenticated" => "Everyone who is authenticated",
            "system:serviceaccounts" => "Every service account",
            _ => match name.strip_prefix("system:serviceaccounts:") {
                Some(namespace) => {
                    return format!("Every service account of namespace {namespace} ({written})");
                }
                None => return format!("A member of {written}"),
            },
        },
        _ => return written,
    };
    format!("{everyone} ({written})")
}

/// The worst findings in words. What `wildcard-admin` implies where it holds goes without saying.
fn can(findings: &[ExplainedFinding], priority: Priority) -> String {
    let worst = findings.iter().filter(|f| f.finding.priority >= priority);
    let worst: Vec<&ExplainedFinding> = worst.collect();
    let admin_at = |scope: &str| {
        worst.iter().any(|f| {
            let f = &f.finding;
            f.rule == "wildcard-admin" && (f.scope == scope || f.scope == "*")
        })
    };
    // by rule, in the order of the catalogue, with all the places where it holds
    let mut rules: Vec<(&ExplainedFinding, Vec<&str>)> = Vec::new();
    for f in &worst {
        let finding = &f.finding;
        if finding.rule != "wildcard-admin" && admin_at(&finding.scope) {
            continue;
        }
        match rules
            .iter_mut()
            .find(|(known, _)| known.finding.rule == finding.rule)
        {
            Some((_, scopes)) => scopes.push(&finding.scope),
            None => rules.push((f, vec![&finding.scope])),
        }
    }
    let more = rules.len().saturating_sub(MOST);
    let mut parts: Vec<String> = rules
        .iter()
        .take(MOST)
        .map(|(f, scopes)| phrase(f, scopes))
        .collect();
    match more {
        0 => {}
        1 => parts.push("do one more thing as bad".to_owned()),
        n => parts.push(format!("do {n} more things as bad")),
    }
    listed(&parts)
}

fn phrase(f: &ExplainedFinding, scopes: &[&str]) -> String {
    let place = place(scopes);
    let role = f.by.first().map(|e| match e.grant.cluster_role {
        true => format!("ClusterRole {}", e.grant.role),
        false => format!("Role {}", e.grant.role),
    });
    match CAN.iter().find(|(rule, _)| *rule == f.finding.rule) {
        Some((_, text)) => filled(text, &place, role.as_deref().unwrap_or("a role"), ""),
        None => format!("{}{place}", lower(&f.title)),
    }
}

fn by(step: &ExplainedStep) -> String {
    let place = place(&[&step.scope]);
    let to = step.to.written();
    match BY.iter().find(|(rule, _)| *rule == step.edge) {
        Some((_, text)) => filled(text, &place, "", &to),
        None => format!(
            "what {} is for ({}){place}, becoming {to}",
            step.edge,
            lower(&step.title)
        ),
    }
}

/// Fills a phrase in one pass: a name that looks like a place to fill is none.
fn filled(text: &str, place: &str, role: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        let (word, behind) = behind.split_once('}').unwrap_or((behind, ""));
        out.push_str(before);
        out.push_str(match word {
            "in" => place,
            "role" => role,
            _ => to,
        });
        rest = behind;
    }
    out + rest
}

fn place(scopes: &[&str]) -> String {
    match scopes {
        [] => String::new(),
        all if all.contains(&"*") => " in the whole cluster".to_owned(),
        [one] => format!(" in namespace {one}"),
        many => {
            let mut names: Vec<String> = many.iter().take(MOST).map(|n| (*n).to_owned()).collect();
            match many.len() - names.len() {
                0 => {}
                n => names.push(format!("{n} more")),
            }
            format!(" in namespaces {}", listed(&names))
        }
    }
}

fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

fn lower(title: &str) -> String {
    let mut chars = title.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::risk::Catalogue;

    #[test]
    fn phrases_belong_to_rules() {
        let catalogue = Catalogue::shipped();
        for (rule, text) in CAN.iter().chain(&BY) {
            assert!(catalogue.find(rule).is_some(), "{rule}");
            let shown = filled(text, "[in]", "[role]", "[to]");
            assert!(!shown.contains(['{', '}']), "{shown}");
        }
    }

    #[test]
    fn a_name_is_not_filled_in() {
        assert_eq!(
            filled("a {to} b{in}", " in {to}", "", "{in}"),
            "a {in} b in {to}"
        );
    }

    #[test]
    fn places_are_counted() {
        assert_eq!(place(&["*", "a"]), " in the whole cluster");
        assert_eq!(place(&["a"]), " in namespace a");
        assert_eq!(place(&["a", "b"]), " in namespaces a and b");
        assert_eq!(place(&["a", "b", "c"]), " in namespaces a, b and 1 more");
    }
}
