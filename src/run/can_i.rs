//! `can-i`: one question, or a file of SubjectAccessReviews, answered by the evaluator of the judgement.

use super::{Exit, Failure, note, print, world};
use crate::cli::{CanIArgs, SourceArgs};
use crate::ledger::{Attributes, Ledger, Question};
use crate::object::Subject;
use crate::rbac::{Target, implicit_groups};
use crate::risk::Catalogue;
use crate::source::slim::Text;
use crate::source::yaml::{self, Body, Documents};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

pub(super) fn run(source: &SourceArgs, args: &CanIArgs) -> Result<Exit, Failure> {
    if let Some(path) = &args.reviews {
        if path.as_os_str() == "-" && source.manifests.as_deref() == Some("-") {
            return Err(Failure::Usage(
                "standard input can hold the manifests or the reviews, not both".into(),
            ));
        }
        // read first: a file that is not there must not cost the listing of a cluster
        let reviews = read(path)?;
        return answer(&world::gather(source)?, reviews);
    }
    let question = question(args)?;
    let ledger = world::gather(source)?;
    let verdicts = ledger.can_i(std::slice::from_ref(&question));
    let Some(verdict) = verdicts.first() else {
        return Ok(Exit::Incomplete);
    };
    let word = if verdict.allowed { "yes" } else { "no" };
    print(&format!(
        "{word}: {}\n",
        crate::export::report::printable(&verdict.reason)
    ))?;
    doubts(&question.attributes)
        .iter()
        .for_each(|doubt| note(doubt));
    if !ledger.complete() {
        note(
            "not everything could be read, so the answer may be wrong; scan lists what is missing",
        );
    }
    if !verdict.allowed {
        return Ok(Exit::Found);
    }
    if !ledger.complete() && !args.allow_incomplete {
        return Ok(Exit::Incomplete);
    }
    Ok(Exit::Done)
}

/// The question as typed, with the groups that the subject certainly has.
fn question(args: &CanIArgs) -> Result<Question, Failure> {
    let given = |value: &Option<String>| value.clone().unwrap_or_default();
    let who = given(&args.subject);
    let subject = match Subject::parse(&who) {
        Some(subject) => subject,
        None if who.starts_with("sa:") || who.is_empty() => {
            return Err(Failure::Usage(format!(
                "--as {who:?}: write sa:NAMESPACE/NAME, user:NAME, group:NAME, or a user name"
            )));
        }
        None => Subject::user(&who),
    };
    let mut groups = args.groups.clone();
    let user = match &subject {
        Subject::Group { name } => {
            groups.push(name.clone());
            String::new()
        }
        Subject::User { name } => name.clone(),
        Subject::ServiceAccount { namespace, name } => {
            format!(
                "{}{namespace}:{name}",
                crate::object::SERVICE_ACCOUNT_USER_PREFIX
            )
        }
    };
    groups.extend(implicit_groups(&subject));
    let verb = given(&args.verb);
    let what = given(&args.resource);
    Ok(Question {
        user,
        groups,
        attributes: attributes(
            &verb,
            &what,
            args.subresource.as_deref(),
            args.namespace.as_deref(),
        ),
    })
}

/// What is asked about, as typed.
pub(super) fn attributes(
    verb: &str,
    what: &str,
    subresource: Option<&str>,
    namespace: Option<&str>,
) -> Attributes {
    let given = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let verb = verb.to_owned();
    if what.starts_with('/') {
        let path = what.to_owned();
        return Attributes::Url { verb, path };
    }
    let (resource, name) = what.split_once('/').unwrap_or((what, ""));
    let (resource, group) = match resource.split_once('.') {
        Some((resource, group)) => (resource, group.to_owned()),
        None => (resource, group_of(resource)),
    };
    Attributes::Resource {
        verb,
        group,
        resource: resource.to_owned(),
        subresource: given(subresource),
        name: name.to_owned(),
        namespace: given(namespace),
    }
}

/// What the question probably does not mean, although it can be asked: a wrong "no" is worse than a
/// sentence too many.
pub(super) fn doubts(attributes: &Attributes) -> Vec<String> {
    let Attributes::Resource {
        group,
        resource,
        subresource,
        name,
        ..
    } = attributes
    else {
        return Vec::new();
    };
    let catalogue = Catalogue::shipped();
    let known = |wanted: &dyn Fn(&str, &str, &str) -> bool| {
        catalogue
            .vocabulary
            .ids()
            .any(|id| match &catalogue.vocabulary.permission(id).target {
                Target::Resource {
                    group,
                    resource,
                    subresource,
                } => wanted(group, resource, subresource),
                Target::Url(_) => false,
            })
    };
    let mut out = Vec::new();
    let last = name.rsplit('/').next().unwrap_or_default();
    if subresource.is_empty()
        && !last.is_empty()
        && known(&|g, r, s| (g, r, s) == (group, resource, last))
    {
        out.push(format!(
            "{name:?} was taken for a name; write --subresource {last} to ask about {resource}/{last}"
        ));
    }
    if group.is_empty() && !known(&|g, r, _| g.is_empty() && r == resource) {
        out.push(format!(
            "{resource:?} was looked for in the core group; write the plural, and RESOURCE.GROUP for another group"
        ));
    }
    out
}

/// The API group of a resource that is given without one, as far as the catalogue knows it; else core.
fn group_of(resource: &str) -> String {
    if resource == "*" {
        return "*".into();
    }
    let catalogue = Catalogue::shipped();
    let mut groups: Vec<&str> = catalogue
        .vocabulary
        .ids()
        .filter_map(|id| match &catalogue.vocabulary.permission(id).target {
            Target::Resource {
                group, resource: r, ..
            } if r == resource => Some(group.as_str()),
            _ => None,
        })
        .collect();
    groups.sort_unstable();
    // core sorts first, and is what kubectl would take
    groups.first().map(|g| (*g).to_owned()).unwrap_or_default()
}

// === SubjectAccessReviews

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<UrlAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Text>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<BTreeMap<String, Vec<Text>>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceAttributes {
    #[serde(skip_serializing_if = "Text::is_empty")]
    namespace: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    verb: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    group: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    version: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    resource: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    subresource: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    name: Text,
    // RBAC does not look at the selectors; they are part of what was asked
    #[serde(skip_serializing_if = "Option::is_none")]
    field_selector: Option<Selector>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label_selector: Option<Selector>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    #[serde(skip_serializing_if = "Text::is_empty")]
    raw_selector: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Requirement {
    key: Text,
    operator: Text,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<Text>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct UrlAttributes {
    #[serde(skip_serializing_if = "Text::is_empty")]
    path: Text,
    #[serde(skip_serializing_if = "Text::is_empty")]
    verb: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    kind: String,
    spec: Option<Spec>,
    items: Option<Vec<Item>>,
}

/// One of a List. What does not decode must not take its siblings along.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Item {
    Review(Box<Document>),
    Odd(Value),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    spec: Value,
    status: AnswerStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AnswerStatus {
    allowed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    evaluation_error: String,
}

/// A review as read: its spec, or why it is none, with what stands there for a spec.
type Review = Result<Spec, (String, Value)>;

/// What stands in the place of a spec in something that is no review, to be handed back as it is.
fn spec_of(odd: Value) -> Value {
    match odd {
        Value::Object(mut map) => map.remove("spec").unwrap_or_else(|| json!({})),
        _ => json!({}),
    }
}

fn read(path: &Path) -> Result<Vec<Review>, Failure> {
    let reader: Box<dyn BufRead> = if path.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(path).map_err(|e| {
            Failure::Usage(format!(
                "reviews file {:?} cannot be read: {e}; give a file, or - for standard input",
                path.display()
            ))
        })?;
        Box::new(BufReader::new(file))
    };
    let mut out = Vec::new();
    for document in Documents::new(reader) {
        let document = document.map_err(|e| {
            Failure::World(format!(
                "reviews file {:?} cannot be read: {e}",
                path.display()
            ))
        })?;
        let line = document.line;
        let parsed = match &document.body {
            Body::Yaml(text) => yaml::parse::<Document>(text),
            Body::Json(text) => serde_json::from_str::<Document>(text).map_err(|e| e.to_string()),
            Body::Broken(why) => Err(why.clone()),
        };
        match parsed {
            Ok(parsed) => flatten(parsed, line, &mut out),
            Err(why) => {
                let odd = match &document.body {
                    Body::Yaml(text) => yaml::parse::<Value>(text).unwrap_or_default(),
                    Body::Json(text) => serde_json::from_str(text).unwrap_or_default(),
                    Body::Broken(_) => Value::Null,
                };
                out.push(Err((format!("line {line}: {why}"), spec_of(odd))));
            }
        }
    }
    Ok(out)
}

fn flatten(document: Document, line: u32, out: &mut Vec<Review>) {
    if let Some(items) = document.items {
        for (i, item) in items.into_iter().enumerate() {
            match item {
                Item::Review(review) => flatten(*review, line, out),
                Item::Odd(odd) => out.push(Err((
                    format!("line {line}: items[{i}] cannot be read as a SubjectAccessReview"),
                    spec_of(odd),
                ))),
            }
        }
        return;
    }
    out.push(match (document.kind.as_str(), document.spec) {
        ("SubjectAccessReview" | "", Some(spec)) => Ok(spec),
        (kind, _) => Err((
            format!("line {line}: kind {kind:?} is no SubjectAccessReview with a spec"),
            json!({}),
        )),
    });
}

/// What the server would refuse (`pkg/apis/authorization/validation`).
fn as_question(spec: &Spec) -> Result<Question, String> {
    let user = spec.user.clone().unwrap_or_default().0;
    let groups = spec.groups.iter().flatten();
    let groups: Vec<String> = groups.map(|g| g.0.clone()).collect();
    if user.is_empty() && groups.is_empty() {
        return Err("spec: at least one of user and groups must be given".into());
    }
    let attributes = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(r), None) => Attributes::Resource {
            verb: r.verb.0.clone(),
            group: r.group.0.clone(),
            resource: r.resource.0.clone(),
            subresource: r.subresource.0.clone(),
            name: r.name.0.clone(),
            namespace: r.namespace.0.clone(),
        },
        (None, Some(u)) => Attributes::Url {
            verb: u.verb.0.clone(),
            path: u.path.0.clone(),
        },
        _ => {
            return Err(
                "spec: exactly one of resourceAttributes and nonResourceAttributes must be given"
                    .into(),
            );
        }
    };
    Ok(Question {
        user,
        groups,
        attributes,
    })
}

fn answer(ledger: &Ledger, reviews: Vec<Review>) -> Result<Exit, Failure> {
    let questions: Vec<Result<Question, String>> = reviews
        .iter()
        .map(|r| match r {
            Ok(spec) => as_question(spec),
            Err((why, _)) => Err(why.clone()),
        })
        .collect();
    let asked: Vec<Question> = questions
        .iter()
        .filter_map(|q| q.as_ref().ok())
        .cloned()
        .collect();
    let mut verdicts = ledger.can_i(&asked).into_iter();
    let mut text = String::new();
    for (review, question) in reviews.into_iter().zip(questions) {
        let status = match question {
            Ok(_) => match verdicts.next() {
                Some(v) => AnswerStatus {
                    allowed: v.allowed,
                    reason: v.reason,
                    evaluation_error: String::new(),
                },
                None => continue,
            },
            Err(why) => AnswerStatus {
                allowed: false,
                reason: String::new(),
                evaluation_error: why,
            },
        };
        let spec = match review {
            Ok(spec) => serde_json::to_value(spec),
            Err((_, spec)) => Ok(spec),
        };
        let unwritable =
            |e: serde_json::Error| Failure::World(format!("an answer cannot be written: {e}"));
        let answer = Answer {
            api_version: "authorization.k8s.io/v1",
            kind: "SubjectAccessReview",
            spec: spec.map_err(unwritable)?,
            status,
        };
        let line = serde_json::to_string(&answer).map_err(unwritable)?;
        text.push_str(&line);
        text.push('\n');
    }
    print(&text)?;
    Ok(Exit::Done)
}
