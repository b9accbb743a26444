//! The JSON API: `/api/v1/…`. Lists come in pages, entries are those of the report, errors are problem
//! details (RFC 9457).

use super::http::{Ask, Content, Reply};
use super::negotiate::{Packer, accepts_gzip};
use super::params::{Fault, Params, not_among};
use super::report::{
    Report, Summary, binding_entry, pod_entry, role_entry, subject_entry, subject_of,
};
use super::rules::RuleEntry;
use super::who_can::WhoCan;
use crate::clock;
use crate::ledger::{
    Attributes, BindingFilter, Filter, Ledger, Listed, Order, PodFilter, PodHas, RoleFilter, Slice,
    Snapshot, SubjectFilter,
};
use crate::object::Subject;
use crate::risk::{Catalogue, Priority, Status};
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer as _};

/// Where the API begins.
pub(super) const ROOT: &str = "/api/v1/";

/// Entries of a page when none is asked for, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1000;

/// The words of `kind` for subjects.
pub(super) const SUBJECT_KINDS: [&str; 3] = ["Group", "ServiceAccount", "User"];

/// Does the answer take so long that others would notice?
pub(super) fn takes_long(path: &str) -> bool {
    path.strip_prefix(ROOT) == Some("report")
}

/// Why there is no answer.
#[derive(Debug, Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resources: Vec<ResourceState>,
}

/// How far a resource is, while nothing can be shown.
#[derive(Debug, Serialize)]
struct ResourceState {
    resource: &'static str,
    state: &'static str,
    objects: u64,
    fault: Option<String>,
}

impl Problem {
    fn of(status: u16, title: &'static str, detail: String) -> Problem {
        Problem {
            title,
            status,
            detail,
            errors: Vec::new(),
            resources: Vec::new(),
        }
    }

    fn not_found(detail: String) -> Problem {
        Problem::of(404, "Not Found", detail)
    }

    fn bad(errors: Vec<Fault>) -> Problem {
        let lines = errors
            .iter()
            .map(|f| format!("{} {}", f.parameter, f.detail));
        let detail = lines.collect::<Vec<_>>().join("; ");
        Problem {
            errors,
            ..Problem::of(400, "Bad Request", detail)
        }
    }

    fn reply(&self) -> Reply {
        let body = serde_json::to_vec(self).unwrap_or_default();
        Reply::new(self.status, "application/problem+json", body)
    }
}

/// Until every resource has been listed once.
pub(super) fn unavailable(snapshot: &Snapshot) -> Reply {
    let detail =
        "not every resource has been listed yet; nothing is shown before, as it would be too low";
    let states = snapshot.watches.iter();
    let problem = Problem {
        resources: states
            .map(|(resource, watch, objects, _)| ResourceState {
                resource: resource.plural(),
                state: watch.word(clock::now()),
                objects: *objects,
                fault: watch.fault.clone(),
            })
            .collect(),
        ..Problem::of(503, "Service Unavailable", detail.to_owned())
    };
    problem.reply()
}

/// What is written behind [`ROOT`], with the ledger as it stands.
pub(super) fn answer(ledger: &Ledger, ask: &Ask<'_>) -> Reply {
    let path = ask.path.strip_prefix(ROOT).unwrap_or_default();
    let mut params = Params::new(ask.query);
    let body = match path {
        "summary" => params
            .finish()
            .map_err(Problem::bad)
            .and_then(|()| written(|out| serde_json::to_writer(out, &Summary::of(ledger)))),
        "report" => params
            .finish()
            .map_err(Problem::bad)
            .and_then(|()| written(|out| Report::write(ledger, out))),
        "subjects" => subjects(ledger, ask, params),
        "pods" => pods(ledger, ask, params),
        "roles" => roles(ledger, ask, params),
        "bindings" => bindings(ledger, ask, params),
        "who-can" => who_can(ledger, params),
        "rules" => rules(ledger, ask, &mut params).and_then(|page| {
            params.finish().map_err(Problem::bad)?;
            page.written()
        }),
        _ => match path.strip_prefix("subjects/") {
            Some(segments) => params.finish().map_err(Problem::bad).and_then(|()| {
                let subject = subject_at(segments)?;
                let view = ledger
                    .explain(&subject)
                    .ok_or_else(|| no_subject(&subject))?;
                written(|out| serde_json::to_writer(out, &subject_entry(&view)))
            }),
            None => Err(no_path(path)),
        },
    };
    match body {
        Ok(packed) => reply(ask, packed),
        Err(problem) => problem.reply(),
    }
}

/// Writes JSON. It is packed at once, whatever the client takes: see [`Content::Unpacked`].
fn written(
    write: impl FnOnce(&mut Packer) -> serde_json::Result<()>,
) -> Result<(bytes::Bytes, u64), Problem> {
    let mut packer = Packer::default();
    match write(&mut packer) {
        Ok(()) => Ok(packer.finish()),
        Err(error) => {
            let detail = format!("the answer could not be written: {error}");
            Err(Problem::of(500, "Internal Server Error", detail))
        }
    }
}

fn reply(ask: &Ask<'_>, (packed, length): (bytes::Bytes, u64)) -> Reply {
    let mut reply = Reply::new(200, "application/json", bytes::Bytes::new()).negotiated();
    if accepts_gzip(ask.accept_encoding) {
        reply.encoding = Some("gzip");
        reply.body = Content::Parts(vec![packed]);
    } else {
        reply.body = Content::Unpacked { packed, length };
    }
    reply
}

fn no_path(path: &str) -> Problem {
    let known = [
        "bindings", "pods", "report", "roles", "rules", "subjects", "summary", "who-can",
    ];
    let detail = not_among(path, known.into_iter());
    Problem::not_found(format!("below {ROOT} {detail}"))
}

fn no_subject(subject: &Subject) -> Problem {
    Problem::not_found(format!(
        "there is no subject {}: nothing binds it, and it is no ServiceAccount that exists; names are exact",
        subject.written()
    ))
}

/// `Group/NAME`, `User/NAME`, `ServiceAccount/NAMESPACE/NAME`, each part percent-encoded.
fn subject_at(segments: &str) -> Result<Subject, Problem> {
    let form = "write Group/NAME, User/NAME or ServiceAccount/NAMESPACE/NAME, percent-encoded";
    let parts: Option<Vec<String>> = segments
        .split('/')
        .map(|part| {
            let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
            decoded.ok().map(|text| text.into_owned())
        })
        .collect();
    let parts = parts.ok_or_else(|| Problem::not_found(format!("no UTF-8; {form}")))?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts[..] {
        [kind, name] => subject_of(kind, "", name),
        [kind, namespace, name] => subject_of(kind, namespace, name),
        _ => None,
    }
    .ok_or_else(|| Problem::not_found(form.to_owned()))
}

// === lists

/// A page of a list.
struct Page<'a, T> {
    list: &'static str,
    complete: bool,
    total: usize,
    slice: Slice,
    query: &'a str,
    items: Vec<T>,
}

impl<'a, T: Serialize> Page<'a, T> {
    fn of<V>(
        list: &'static str,
        ledger: &Ledger,
        ask: &Ask<'a>,
        slice: Slice,
        listed: &Listed<V>,
        entry: impl FnMut(&V) -> T,
    ) -> Page<'a, T> {
        Page {
            list,
            complete: ledger.complete(),
            total: listed.total,
            slice,
            query: ask.query,
            items: listed.items.iter().map(entry).collect(),
        }
    }

    /// Where the next page is, as a reference relative to this one.
    fn next(&self) -> Option<String> {
        let offset = self.slice.offset.checked_add(self.slice.limit)?;
        if offset >= self.total {
            return None;
        }
        let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
        let others = form_urlencoded::parse(self.query.as_bytes());
        query.extend_pairs(others.filter(|(name, _)| name != "offset"));
        query.append_pair("offset", &offset.to_string());
        Some(query.finish())
    }

    fn written(&self) -> Result<(bytes::Bytes, u64), Problem> {
        written(|out| {
            let mut out = serde_json::Serializer::new(out);
            let mut map = out.serialize_map(None)?;
            map.serialize_entry("complete", &self.complete)?;
            map.serialize_entry("total", &self.total)?;
            map.serialize_entry("offset", &self.slice.offset)?;
            map.serialize_entry("limit", &self.slice.limit)?;
            map.serialize_entry("next", &self.next())?;
            map.serialize_entry(self.list, &self.items)?;
            map.end()
        })
    }
}

/// Reads which part of a list is asked for.
fn slice(params: &mut Params<'_>, orders: &[(&str, Order)]) -> Slice {
    Slice {
        order: params.word("sort", orders).unwrap_or_default(),
        offset: params.number("offset", 0..=usize::MAX).unwrap_or(0),
        limit: params.number("limit", 1..=MOST).unwrap_or(LIMIT),
    }
}

/// The words of `sort`; the last one is for subjects alone.
pub(super) const ORDERS: [(&str, Order); 3] = [
    ("name", Order::Name),
    ("priority", Order::Priority),
    ("since", Order::Since),
];

/// Reads what every list can be narrowed by.
pub(super) fn filter(params: &mut Params<'_>, kinds: &[&str]) -> Filter {
    let priorities = Priority::ALL.map(|p| (p.as_str(), p));
    let statuses = Status::ALL.map(|s| (s.as_str(), s));
    let kind = (!kinds.is_empty()).then(|| {
        let words: Vec<(&str, &str)> = kinds.iter().map(|k| (*k, *k)).collect();
        params.word("kind", &words).map(str::to_owned)
    });
    Filter {
        namespace: params.text("namespace"),
        kind: kind.flatten(),
        name: params.text("name"),
        text: params.text("text"),
        priorities: params.words("priority", &priorities),
        statuses: params.words("status", &statuses),
    }
}

/// Reads the id of a rule.
pub(super) fn rule(params: &mut Params<'_>, catalogue: &Catalogue) -> Option<String> {
    params.read("rule", |id| {
        let mut ids = catalogue.rules.iter().map(|r| r.id.as_str());
        if ids.clone().any(|known| known == id) {
            return Ok(id.to_owned());
        }
        let near = crate::spelling::nearest(id, &mut ids);
        let near = near.map_or_else(
            || "see /api/v1/rules for the ids".to_owned(),
            |near| format!("did you mean {near}?"),
        );
        Err(format!("{id:?} is no rule; {near}"))
    })
}

/// Reads what is asked of pods.
pub(super) fn pod_filter(params: &mut Params<'_>) -> PodFilter {
    PodFilter {
        all: filter(params, &[]),
        account: params.text("serviceaccount"),
        workload_kind: params.text("workload_kind"),
        workload: params.text("workload"),
        node: params.text("node"),
        has: params.word("has", &POD_HAS),
        live: params.flag("live"),
    }
}

/// The words of `has`.
pub(super) const POD_HAS: [(&str, PodHas); 3] = [
    ("token", PodHas::Token),
    ("node-escape", PodHas::NodeEscape),
    ("secret", PodHas::Secret),
];

type Written = Result<(bytes::Bytes, u64), Problem>;

fn subjects(ledger: &Ledger, ask: &Ask<'_>, mut params: Params<'_>) -> Written {
    let filter = SubjectFilter {
        all: filter(&mut params, &SUBJECT_KINDS),
        rule: rule(&mut params, ledger.catalogue()),
    };
    let slice = slice(&mut params, &ORDERS);
    params.finish().map_err(Problem::bad)?;
    let listed = ledger.list_subjects(&filter, &slice);
    Page::of("subjects", ledger, ask, slice, &listed, subject_entry).written()
}

fn pods(ledger: &Ledger, ask: &Ask<'_>, mut params: Params<'_>) -> Written {
    let filter = pod_filter(&mut params);
    let slice = slice(&mut params, &ORDERS[..2]);
    params.finish().map_err(Problem::bad)?;
    let listed = ledger.list_pods(&filter, &slice);
    Page::of("pods", ledger, ask, slice, &listed, pod_entry).written()
}

fn roles(ledger: &Ledger, ask: &Ask<'_>, mut params: Params<'_>) -> Written {
    let filter = RoleFilter {
        all: filter(&mut params, &["ClusterRole", "Role"]),
        bound: params.flag("bound"),
        wildcard: params.flag("wildcard"),
    };
    let slice = slice(&mut params, &ORDERS[..2]);
    params.finish().map_err(Problem::bad)?;
    let listed = ledger.list_roles(&filter, &slice);
    Page::of("roles", ledger, ask, slice, &listed, role_entry).written()
}

fn bindings(ledger: &Ledger, ask: &Ask<'_>, mut params: Params<'_>) -> Written {
    let filter = BindingFilter {
        all: filter(&mut params, &["ClusterRoleBinding", "RoleBinding"]),
        role: params.text("role"),
        subject: params.read("subject", |text| {
            Subject::parse(text).ok_or_else(|| {
                format!("{text:?} is no subject; write sa:NAMESPACE/NAME, user:NAME or group:NAME")
            })
        }),
        dangling: params.flag("dangling"),
    };
    let slice = slice(&mut params, &ORDERS[..2]);
    params.finish().map_err(Problem::bad)?;
    let listed = ledger.list_bindings(&filter, &slice);
    Page::of("bindings", ledger, ask, slice, &listed, binding_entry).written()
}

/// Everybody who may do something: as the command answers, in one piece, since it is small.
fn who_can(ledger: &Ledger, mut params: Params<'_>) -> Written {
    let mut text = |name| params.text(name).unwrap_or_default();
    let (verb, resource, path) = (text("verb"), text("resource"), text("path"));
    let (group, subresource) = (text("group"), text("subresource"));
    let (name, namespace) = (text("name"), text("namespace"));
    let anywhere = params.flag("anywhere").unwrap_or(false);
    let of_resource = [&group, &subresource, &name, &namespace];
    let needs = match (verb.is_empty(), resource.is_empty(), path.is_empty()) {
        (true, ..) => Some(("verb", "is needed, such as create")),
        (_, true, true) => Some((
            "resource",
            "is needed, such as pods; or path, such as /metrics",
        )),
        (_, false, false) => Some(("path", "is asked alone, without resource")),
        (_, true, false) if anywhere || of_resource.iter().any(|p| !p.is_empty()) => Some((
            "path",
            "lies in no namespace and group, and has no name and subresource",
        )),
        _ => None,
    };
    if let Some((parameter, what)) = needs {
        params.fault(parameter, what.to_owned());
    }
    params.finish().map_err(Problem::bad)?;
    let asked = if path.is_empty() {
        Attributes::Resource {
            verb,
            group,
            resource,
            subresource,
            name,
            namespace,
        }
    } else {
        Attributes::Url { verb, path }
    };
    let who = WhoCan::of(&ledger.who_can(&asked, anywhere), ledger.complete());
    written(|out| serde_json::to_writer(out, &who))
}

fn rules<'a>(
    ledger: &'a Ledger,
    ask: &Ask<'a>,
    params: &mut Params<'_>,
) -> Result<Page<'a, RuleEntry<'a>>, Problem> {
    let only = rule(params, ledger.catalogue());
    let slice = slice(params, &ORDERS[..1]);
    let all = ledger.catalogue().rules.iter();
    let found: Vec<_> = all
        .filter(|r| only.as_ref().is_none_or(|id| *id == r.id))
        .collect();
    let listed = Listed {
        total: found.len(),
        items: found
            .into_iter()
            .skip(slice.offset)
            .take(slice.limit)
            .collect(),
    };
    Ok(Page::of("rules", ledger, ask, slice, &listed, |r| {
        RuleEntry::of(r)
    }))
}
