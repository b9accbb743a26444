//! Aggregated ClusterRoles. In a cluster the controller fills `.rules` and those are what is
//! authorised; in manifests nobody has, so the union is computed here
//! (`pkg/controller/clusterroleaggregation`).

use crate::object::{LabelSelector, PolicyRule, Role};

/// Does the selector pick an object with these labels? An empty selector picks everything, as
/// `metav1.LabelSelectorAsSelector` has it; an operator that the API does not know picks nothing.
pub fn selects(selector: &LabelSelector, labels: &[(String, String)]) -> bool {
    let value = |key: &str| {
        labels
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    };
    selector
        .match_labels
        .iter()
        .all(|(k, v)| value(k) == Some(v.as_str()))
        && selector
            .match_expressions
            .iter()
            .all(|e| match e.operator.as_str() {
                "In" => value(&e.key).is_some_and(|v| e.values.iter().any(|x| x == v)),
                "NotIn" => value(&e.key).is_none_or(|v| e.values.iter().all(|x| x != v)),
                "Exists" => value(&e.key).is_some(),
                "DoesNotExist" => value(&e.key).is_none(),
                _ => false,
            })
}

/// The union of the rules of the ClusterRoles that `role` aggregates, its own (usually none) first,
/// without repetitions. `others` yields every ClusterRole with its labels and rules as they stand;
/// roles that aggregate themselves count with what `rules_of` gives for them.
pub fn aggregated_rules<'a>(
    role: &Role,
    others: impl Iterator<Item = (&'a Role, Vec<PolicyRule>)>,
) -> Vec<PolicyRule> {
    let mut rules = role.rules.clone();
    let Some(selectors) = &role.aggregation else {
        return rules;
    };
    for (other, other_rules) in others {
        if other.meta.name == role.meta.name || !selectors.iter().any(|s| selects(s, &other.labels))
        {
            continue;
        }
        for rule in other_rules {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{LabelRequirement, Meta};

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).into(), (*v).into()))
            .collect()
    }

    fn expression(operator: &str, values: &[&str]) -> LabelSelector {
        LabelSelector {
            match_labels: vec![],
            match_expressions: vec![LabelRequirement {
                key: "a".into(),
                operator: operator.into(),
                values: values.iter().map(|v| (*v).into()).collect(),
            }],
        }
    }

    #[test]
    fn selectors_follow_the_api() {
        let with = labels(&[("a", "1"), ("b", "2")]);
        let without = labels(&[("b", "2")]);
        for (selector, on_with, on_without) in [
            (LabelSelector::default(), true, true),
            (
                LabelSelector {
                    match_labels: labels(&[("a", "1")]),
                    ..Default::default()
                },
                true,
                false,
            ),
            (
                LabelSelector {
                    match_labels: labels(&[("a", "2")]),
                    ..Default::default()
                },
                false,
                false,
            ),
            (expression("In", &["1", "3"]), true, false),
            (expression("In", &["3"]), false, false),
            (expression("NotIn", &["3"]), true, true),
            (expression("NotIn", &["1"]), false, true),
            (expression("Exists", &[]), true, false),
            (expression("DoesNotExist", &[]), false, true),
            (expression("Odd", &[]), false, false),
        ] {
            assert_eq!(selects(&selector, &with), on_with, "{selector:?}");
            assert_eq!(selects(&selector, &without), on_without, "{selector:?}");
        }
    }

    #[test]
    fn the_union_takes_labelled_roles_once() {
        let rule = |verb: &str| PolicyRule {
            verbs: vec![verb.into()],
            ..Default::default()
        };
        let role = |name: &str, label: &str, rules: Vec<PolicyRule>| Role {
            meta: Meta {
                name: name.into(),
                ..Default::default()
            },
            labels: labels(&[("agg", label)]),
            aggregation: None,
            rules,
        };
        let mut sum = role("sum", "no", vec![]);
        sum.aggregation = Some(vec![LabelSelector {
            match_labels: labels(&[("agg", "yes")]),
            ..Default::default()
        }]);
        let others = [
            role("x", "yes", vec![rule("get"), rule("list")]),
            role("y", "yes", vec![rule("get")]),
            role("z", "no", vec![rule("delete")]),
        ];
        let got = aggregated_rules(&sum, others.iter().map(|r| (r, r.rules.clone())));
        assert_eq!(got, [rule("get"), rule("list")]);
    }
}
