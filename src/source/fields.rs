//! Finds the fields of roles and bindings that the API server does not know.
//!
//! It drops them without a word (or refuses them, under strict validation), so `resorces:` leaves a
//! rule that grants nothing and looks harmless.

use super::slim::{Fault, Notation, charge};
use crate::object::Resource;
use crate::spelling::nearest;
use serde::de::{DeserializeSeed, Error};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Write as _};

/// What a value may hold.
enum Shape {
    /// Anything: a scalar, a map with free keys, or something that does not matter here.
    Any,
    /// A list of these.
    List(&'static Shape),
    /// Nothing but these fields.
    Map(&'static [(&'static str, Shape)]),
}

const METADATA: (&str, Shape) = (
    "metadata",
    Shape::Map(&[
        ("annotations", Shape::Any),
        ("creationTimestamp", Shape::Any),
        ("deletionGracePeriodSeconds", Shape::Any),
        ("deletionTimestamp", Shape::Any),
        ("finalizers", Shape::Any),
        ("generateName", Shape::Any),
        ("generation", Shape::Any),
        ("labels", Shape::Any),
        ("managedFields", Shape::Any),
        ("name", Shape::Any),
        ("namespace", Shape::Any),
        ("ownerReferences", Shape::Any),
        ("resourceVersion", Shape::Any),
        ("selfLink", Shape::Any),
        ("uid", Shape::Any),
    ]),
);

const RULES: (&str, Shape) = (
    "rules",
    Shape::List(&Shape::Map(&[
        ("apiGroups", Shape::Any),
        ("nonResourceURLs", Shape::Any),
        ("resourceNames", Shape::Any),
        ("resources", Shape::Any),
        ("verbs", Shape::Any),
    ])),
);

const AGGREGATION: (&str, Shape) = (
    "aggregationRule",
    Shape::Map(&[(
        "clusterRoleSelectors",
        Shape::List(&Shape::Map(&[
            (
                "matchExpressions",
                Shape::List(&Shape::Map(&[
                    ("key", Shape::Any),
                    ("operator", Shape::Any),
                    ("values", Shape::Any),
                ])),
            ),
            ("matchLabels", Shape::Any),
        ])),
    )]),
);

const CLUSTER_ROLE: Shape = Shape::Map(&[
    AGGREGATION,
    ("apiVersion", Shape::Any),
    ("kind", Shape::Any),
    METADATA,
    RULES,
]);

const ROLE: Shape = Shape::Map(&[
    ("apiVersion", Shape::Any),
    ("kind", Shape::Any),
    METADATA,
    RULES,
]);

const BINDING: Shape = Shape::Map(&[
    ("apiVersion", Shape::Any),
    ("kind", Shape::Any),
    METADATA,
    (
        "roleRef",
        Shape::Map(&[
            ("apiGroup", Shape::Any),
            ("kind", Shape::Any),
            ("name", Shape::Any),
        ]),
    ),
    (
        "subjects",
        Shape::List(&Shape::Map(&[
            ("apiGroup", Shape::Any),
            ("kind", Shape::Any),
            ("name", Shape::Any),
            ("namespace", Shape::Any),
        ])),
    ),
]);

/// One sentence for each field of a role or binding that the API server does not know, at most
/// [`MOST`]. Other resources are not looked at.
pub(crate) fn unknown(resource: Resource, text: &impl Notation) -> Result<Vec<String>, Fault> {
    let shape = match resource {
        Resource::ClusterRoles => &CLUSTER_ROLE,
        Resource::Roles => &ROLE,
        Resource::ClusterRoleBindings | Resource::RoleBindings => &BINDING,
        Resource::ServiceAccounts | Resource::Pods | Resource::Namespaces => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    text.seed(Walk {
        shape,
        path: &Path::Root,
        found: &mut found,
    })?;
    Ok(found)
}

/// More of them in one object say nothing new.
const MOST: usize = 20;

/// Where the walk is.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

struct Walk<'a> {
    shape: &'static Shape,
    path: &'a Path<'a>,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::Any => from.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            Shape::List(_) | Shape::Map(_) => from.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shape {
            Shape::Map(_) => "a mapping",
            Shape::List(_) => "a list",
            Shape::Any => "anything",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Shape::List(shape) = self.shape else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        let mut index = 0;
        while seq
            .next_element_seed(Walk {
                shape,
                path: &Path::Index(self.path, index),
                found: self.found,
            })?
            .is_some()
        {
            charge(1)?;
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = match self.shape {
            Shape::Map(fields) => *fields,
            _ => &[],
        };
        while let Some(key) = map.next_key::<String>()? {
            charge(key.len())?;
            match fields.iter().find(|(name, _)| *name == key) {
                Some((name, shape)) => map.next_value_seed(Walk {
                    shape,
                    path: &Path::Key(self.path, name),
                    found: self.found,
                })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                    if self.found.len() < MOST {
                        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
                        self.found
                            .push(sentence(&Path::Key(self.path, &key), &key, &names));
                    }
                }
            }
        }
        Ok(())
    }
}

fn sentence(path: &Path<'_>, key: &str, names: &[&str]) -> String {
    let mut out = format!("the field {path} is unknown, so the API server drops it; ");
    // Writing to a string does not fail.
    let _ = match nearest(key, names.iter().copied()) {
        Some(name) => write!(out, "did you mean {name}?"),
        None => write!(out, "the fields here are {}", names.join(", ")),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::slim::Json;

    #[test]
    fn unknown_fields_are_named_with_the_nearest_known_one() {
        let text = r#"{"kind":"Role","metadata":{"name":"a","lables":{}},
            "rules":[{"verbs":["get"],"resorces":["pods"],"apiGroup":[""]}, null],"spec":{}}"#;
        assert_eq!(
            unknown(Resource::Roles, &Json(text)).unwrap(),
            [
                "the field metadata.lables is unknown, so the API server drops it; did you mean labels?",
                "the field rules[0].resorces is unknown, so the API server drops it; did you mean resources?",
                "the field rules[0].apiGroup is unknown, so the API server drops it; did you mean apiGroups?",
                "the field spec is unknown, so the API server drops it; the fields here are apiVersion, kind, metadata, rules",
            ]
        );
    }

    #[test]
    fn a_role_has_no_aggregation_and_a_role_reference_no_namespace() {
        let role = r#"{"aggregationRule":{"clusterRoleSelectors":[{"matchLabel":{}}]}}"#;
        let found = unknown(Resource::Roles, &Json(role)).unwrap();
        assert!(found[0].contains("aggregationRule"), "{found:?}");
        let found = unknown(Resource::ClusterRoles, &Json(role)).unwrap();
        assert!(
            found[0].contains("clusterRoleSelectors[0].matchLabel is"),
            "{found:?}"
        );
        let binding = r#"{"roleRef":{"name":"x","namespace":"y"},"subjects":[{"namespace":"z"}]}"#;
        let found = unknown(Resource::RoleBindings, &Json(binding)).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("roleRef.namespace"), "{found:?}");
    }
}
