//! Lists with filters, orders and pages, held to the plain way: work out everything, keep what fits,
//! sort it all, cut the page.

use crate::cut::{CATALOGUE, Given, demo, truth_tables, world};
use crate::incremental::{config, some_objects};
use proptest::test_runner::{TestCaseError, TestRunner};
use rbac_exporter::ledger::{
    BindingFilter, BindingView, Filter, FindingView, Ledger, Listed, Order, PodFilter, PodHas,
    PodView, RoleFilter, RoleView, Slice, SubjectFilter, SubjectLine, SubjectView,
};
use rbac_exporter::object::{Object, Pod, Subject};
use rbac_exporter::risk::{Priority, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

type Level = (Priority, Status);
type Checked = Result<(), String>;

/// What an order sorts by before the name.
fn rank(order: Order, (priority, status): Level, since: Option<i64>) -> [i64; 3] {
    let worst = Priority::Critical as i64 - priority as i64;
    let newest = -since.unwrap_or(0);
    match order {
        Order::Name => [0; 3],
        Order::Priority => [worst, status as i64, newest],
        Order::Since => [newest, worst, status as i64],
    }
}

/// Every order and several pages of one list.
fn check_pages<T: PartialEq + Debug>(
    what: &dyn Debug,
    fitting: impl Iterator<Item = T>,
    level: impl Fn(&T) -> (Level, Option<i64>),
    list: impl Fn(&Slice) -> Listed<T>,
) -> Checked {
    let fitting: Vec<T> = fitting.collect();
    let by_name = (0..fitting.len()).collect::<Vec<_>>();
    let total = fitting.len();
    for order in [Order::Name, Order::Priority, Order::Since] {
        let mut sorted = by_name.clone();
        let ranks: Vec<[i64; 3]> = fitting
            .iter()
            .map(|item| {
                let (level, since) = level(item);
                rank(order, level, since)
            })
            .collect();
        sorted.sort_by_key(|i| ranks[*i]);
        for (offset, limit) in [(0, usize::MAX), (0, 2), (1, 3), (total, 1)] {
            let slice = Slice {
                order,
                offset,
                limit,
            };
            let got = list(&slice);
            let page = sorted.iter().skip(offset).take(limit);
            let same = got.items.iter().eq(page.clone().map(|i| &fitting[*i]));
            if got.total != total || !same {
                let page: Vec<_> = page.map(|i| &fitting[*i]).collect();
                return Err(format!(
                    "{what:?} {slice:?}: {total} {page:#?}\ngot {got:#?}"
                ));
            }
        }
    }
    Ok(())
}

/// What a filter looks at in every kind of object.
struct Common<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: &'a str,
    level: Level,
}

fn fits(filter: &Filter, it: &Common<'_>) -> bool {
    let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|w| w == has);
    let whole = format!("{}/{}", it.namespace, it.name).to_lowercase();
    let text = |t: &String| match t.contains('/') {
        true => whole.contains(&t.to_lowercase()),
        false => whole
            .split('/')
            .any(|part| part.contains(&t.to_lowercase())),
    };
    is(&filter.namespace, it.namespace)
        && is(&filter.kind, it.kind)
        && is(&filter.name, it.name)
        && filter.text.as_ref().is_none_or(text)
        && (filter.priorities.is_empty() || filter.priorities.contains(&it.level.0))
        && (filter.statuses.is_empty() || filter.statuses.contains(&it.level.1))
}

/// Filters that some item of the list fits, by one thing and by two, and some that none does.
fn filters(items: &[Common<'_>]) -> Vec<Filter> {
    let mut out = vec![
        Filter::default(),
        Filter {
            name: Some("nobody-has-this-name".into()),
            ..Filter::default()
        },
        Filter {
            text: Some("nobody-has-this-part".into()),
            ..Filter::default()
        },
        Filter {
            priorities: vec![Priority::High, Priority::Critical],
            statuses: vec![Status::Open],
            ..Filter::default()
        },
    ];
    let few = items.len().div_ceil(7).max(1);
    for it in items.iter().step_by(few) {
        let some = |text: &str| Some(text.to_owned());
        out.extend([
            Filter {
                namespace: some(it.namespace),
                ..Filter::default()
            },
            Filter {
                kind: some(it.kind),
                priorities: vec![it.level.0],
                ..Filter::default()
            },
            Filter {
                name: some(it.name),
                ..Filter::default()
            },
            Filter {
                namespace: some(it.namespace),
                statuses: vec![it.level.1],
                ..Filter::default()
            },
            Filter {
                text: it.name.get(1..).map(str::to_uppercase),
                ..Filter::default()
            },
            Filter {
                text: Some(format!("{}/{}", it.namespace, it.name)),
                ..Filter::default()
            },
        ]);
    }
    out
}

fn common_of_subject(view: &SubjectView) -> Common<'_> {
    let (namespace, kind, name) = match &view.subject {
        Subject::User { name } => ("", "User", name),
        Subject::Group { name } => ("", "Group", name),
        Subject::ServiceAccount { namespace, name } => (&**namespace, "ServiceAccount", name),
    };
    Common {
        namespace,
        kind,
        name,
        level: (view.priority, view.status),
    }
}

fn check_subjects(ledger: &Ledger) -> Checked {
    let all: Vec<SubjectView> = ledger.subject_views().collect();
    let common: Vec<Common<'_>> = all.iter().map(common_of_subject).collect();
    let rules = all.iter().flat_map(|v| &v.findings).map(|f| &f.rule);
    let rules: BTreeSet<&String> = rules.collect();
    let mut asked: Vec<SubjectFilter> = filters(&common)
        .into_iter()
        .map(|all| SubjectFilter { all, rule: None })
        .collect();
    asked.extend(rules.into_iter().map(|rule| SubjectFilter {
        rule: Some(rule.clone()),
        ..SubjectFilter::default()
    }));
    let lines: Vec<_> = all.iter().map(line_of).collect();
    for filter in asked {
        let fitting: Vec<usize> = (0..all.len())
            .filter(|i| fits(&filter.all, &common[*i]))
            .filter(|i| {
                let has = |rule: &String| counted(&all[*i]).any(|f| f.rule == *rule);
                filter.rule.as_ref().is_none_or(has)
            })
            .collect();
        check_pages(
            &filter,
            fitting.iter().map(|i| all[*i].clone()),
            |v| ((v.priority, v.status), v.since),
            |slice| ledger.list_subjects(&filter, slice),
        )?;
        check_pages(
            &filter,
            fitting.iter().map(|i| lines[*i].clone()),
            |l| ((l.0.priority, l.0.status), l.0.since),
            |slice| {
                let got = ledger.list_subject_lines(&filter, slice);
                let lines = got.items.into_iter().map(|mut l| {
                    let rules = std::mem::take(&mut l.rules).into_iter().collect();
                    (l, rules)
                });
                Listed {
                    total: got.total,
                    items: lines.collect(),
                }
            },
        )?;
    }
    Ok(())
}

/// The rules that count: where `wildcard-admin` holds, what it implies there is left out (catalogue C.7).
fn counted(view: &SubjectView) -> impl Iterator<Item = &FindingView> {
    view.findings.iter().filter(|f| {
        let admin = |a: &FindingView| {
            a.rule == "wildcard-admin"
                && (a.scope == f.scope || a.scope == "*")
                && a.priority >= f.priority
        };
        let id = CATALOGUE.find(&f.rule).unwrap();
        f.rule == "wildcard-admin"
            || !CATALOGUE.implied_by_admin(id)
            || !view.findings.iter().any(admin)
    })
}

/// A line without its rules, and these: their order is not promised.
fn line_of(view: &SubjectView) -> (SubjectLine, BTreeSet<String>) {
    let top = counted(view).filter(|f| f.priority == view.own);
    let line = SubjectLine {
        subject: view.subject.clone(),
        exists: view.exists,
        own: view.own,
        priority: view.priority,
        status: view.status,
        since: view.since,
        rules: Vec::new(),
        path: view.path.clone(),
    };
    (line, top.map(|f| f.rule.clone()).collect())
}

fn owner(view: &PodView) -> (&str, &str) {
    match &view.workload {
        Some(owner) => (&owner.kind, &owner.name),
        None => ("Pod", &view.name),
    }
}

fn check_pods(ledger: &Ledger, objects: &[Object]) -> Checked {
    let all: Vec<PodView> = ledger.pod_views().collect();
    let pods: BTreeMap<(&str, &str), &Pod> = objects
        .iter()
        .filter_map(|o| match o {
            Object::Pod(pod) => Some(((&*pod.meta.namespace, &*pod.meta.name), &**pod)),
            _ => None,
        })
        .collect();
    let pod = |v: &PodView| pods.get(&(&*v.namespace, &*v.name)).copied();
    let account = |v: &PodView| pod(v).map(|p| p.service_account.to_string());
    let common: Vec<Common<'_>> = all
        .iter()
        .map(|v| Common {
            namespace: &v.namespace,
            kind: "Pod",
            name: &v.name,
            level: (v.priority, v.status),
        })
        .collect();
    let mut asked: Vec<PodFilter> = filters(&common)
        .into_iter()
        .map(|all| PodFilter {
            // pods are all of one kind
            all: Filter { kind: None, ..all },
            ..PodFilter::default()
        })
        .collect();
    for v in all.iter().step_by(all.len().div_ceil(9).max(1)) {
        let (kind, name) = owner(v);
        asked.extend([
            PodFilter {
                account: account(v),
                ..PodFilter::default()
            },
            PodFilter {
                workload_kind: Some(kind.into()),
                ..PodFilter::default()
            },
            PodFilter {
                workload: Some(name.into()),
                live: Some(true),
                ..PodFilter::default()
            },
            PodFilter {
                node: Some(v.node.clone()),
                ..PodFilter::default()
            },
        ]);
    }
    let has = [PodHas::Token, PodHas::NodeEscape, PodHas::Secret].map(Some);
    asked.extend(has.map(|has| PodFilter {
        has,
        ..PodFilter::default()
    }));
    asked.extend([true, false].map(|live| PodFilter {
        live: Some(live),
        ..PodFilter::default()
    }));
    for filter in asked {
        let fitting: Vec<&PodView> = all
            .iter()
            .zip(&common)
            .filter(|(v, common)| {
                let (kind, name) = owner(v);
                let is = |wanted: &Option<String>, has: &str| {
                    wanted.as_ref().is_none_or(|wanted| wanted == has)
                };
                fits(&filter.all, common)
                    && is(&filter.workload_kind, kind)
                    && is(&filter.workload, name)
                    && is(&filter.node, &v.node)
                    && (filter.account.is_none() || filter.account == account(v))
                    && filter.live.is_none_or(|live| live != v.phase.terminal())
                    && match filter.has {
                        None => true,
                        Some(PodHas::Token) => !v.tokens.is_empty(),
                        Some(PodHas::NodeEscape) => !v.escapes.is_empty(),
                        Some(PodHas::Secret) => !v.secrets.is_empty(),
                    }
            })
            .map(|(v, _)| v)
            .collect();
        check_pages(
            &filter,
            fitting.iter().map(|v| (*v).clone()),
            |v| ((v.priority, v.status), None),
            |slice| ledger.list_pods(&filter, slice),
        )?;
        check_workloads(ledger, &filter, &fitting)?;
    }
    Ok(())
}

fn check_workloads(ledger: &Ledger, filter: &PodFilter, fitting: &[&PodView]) -> Checked {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&PodView>> = BTreeMap::new();
    for v in fitting {
        let (kind, name) = owner(v);
        groups
            .entry((&v.namespace, name, kind))
            .or_default()
            .push(v);
    }
    let rows = groups.into_iter().map(|((_, name, kind), pods)| {
        // the first by name of those with the highest priority and, of these, the least answered for
        let level = |v: &PodView| (std::cmp::Reverse(v.priority), v.status as u8);
        let worst = *pods.iter().min_by_key(|v| level(v)).unwrap_or(&pods[0]);
        let escapes: BTreeSet<&str> = pods
            .iter()
            .flat_map(|v| v.escapes.iter().copied())
            .collect();
        (
            (kind.to_owned(), name.to_owned(), pods.len()),
            worst.clone(),
            escapes,
        )
    });
    check_pages(
        filter,
        rows,
        |(_, worst, _)| ((worst.priority, worst.status), None),
        |slice| {
            let got = ledger.list_workloads(filter, slice);
            let items = got.items.into_iter().map(|l| {
                let escapes = l.escapes.into_iter().collect();
                ((l.kind, l.name, l.pods), l.worst, escapes)
            });
            Listed {
                total: got.total,
                items: items.collect(),
            }
        },
    )
}

fn check_roles(ledger: &Ledger) -> Checked {
    let all: Vec<RoleView> = ledger.role_views().collect();
    let common: Vec<Common<'_>> = all
        .iter()
        .map(|v| Common {
            namespace: &v.namespace,
            kind: if v.cluster { "ClusterRole" } else { "Role" },
            name: &v.name,
            level: (v.priority, v.status),
        })
        .collect();
    let plain = filters(&common).into_iter().map(|all| RoleFilter {
        all,
        ..RoleFilter::default()
    });
    let mut asked: Vec<RoleFilter> = plain.collect();
    for yes in [true, false] {
        asked.push(RoleFilter {
            bound: Some(yes),
            ..RoleFilter::default()
        });
        asked.push(RoleFilter {
            wildcard: Some(yes),
            ..RoleFilter::default()
        });
    }
    for filter in asked {
        let fitting = all.iter().zip(&common).filter(|(v, common)| {
            fits(&filter.all, common)
                && filter.bound.is_none_or(|bound| bound == v.bound)
                && filter.wildcard.is_none_or(|w| w == (v.wildcard_rules > 0))
        });
        check_pages(
            &filter,
            fitting.map(|(v, _)| v.clone()),
            |v| ((v.priority, v.status), None),
            |slice| ledger.list_roles(&filter, slice),
        )?;
    }
    Ok(())
}

fn check_bindings(ledger: &Ledger) -> Checked {
    let all: Vec<BindingView> = ledger.binding_views().collect();
    let common: Vec<Common<'_>> = all
        .iter()
        .map(|v| Common {
            namespace: &v.namespace,
            kind: match &*v.namespace {
                "" => "ClusterRoleBinding",
                _ => "RoleBinding",
            },
            name: &v.name,
            level: (v.priority, v.status),
        })
        .collect();
    let plain = filters(&common).into_iter().map(|all| BindingFilter {
        all,
        ..BindingFilter::default()
    });
    let mut asked: Vec<BindingFilter> = plain.collect();
    for v in all.iter().step_by(all.len().div_ceil(9).max(1)) {
        asked.push(BindingFilter {
            role: Some(v.role.clone()),
            ..BindingFilter::default()
        });
        asked.extend(v.subjects.iter().map(|subject| BindingFilter {
            subject: Some(subject.clone()),
            ..BindingFilter::default()
        }));
    }
    asked.extend([true, false].map(|dangling| BindingFilter {
        dangling: Some(dangling),
        ..BindingFilter::default()
    }));
    for filter in asked {
        let fitting = all.iter().zip(&common).filter(|(v, common)| {
            let dangling = v.role_missing || v.account_missing;
            fits(&filter.all, common)
                && filter.role.as_ref().is_none_or(|role| *role == v.role)
                && filter
                    .subject
                    .as_ref()
                    .is_none_or(|s| v.subjects.contains(s))
                && filter.dangling.is_none_or(|wanted| wanted == dangling)
        });
        check_pages(
            &filter,
            fitting.map(|(v, _)| v.clone()),
            |v| ((v.priority, v.status), None),
            |slice| ledger.list_bindings(&filter, slice),
        )?;
    }
    Ok(())
}

/// The numbers of the overview against a count of everything.
fn check_levels(ledger: &Ledger) -> Checked {
    let [subjects, pods] = ledger.levels();
    for priority in Priority::ALL.into_iter().filter(|p| *p > Priority::None) {
        for status in Status::ALL {
            let at = |l: Level| l == (priority, status);
            let counted = ledger
                .subject_views()
                .filter(|v| at((v.priority, v.status)));
            let told = subjects[priority as usize][status as usize] as usize;
            let counted = counted.count();
            if told != counted {
                return Err(format!(
                    "{counted} subjects {priority:?} {status:?}: {told}"
                ));
            }
            let live = ledger.pod_views().filter(|v| !v.phase.terminal());
            let counted = live.filter(|v| at((v.priority, v.status))).count();
            let told = pods[priority as usize][status as usize] as usize;
            if told != counted {
                return Err(format!("{counted} pods {priority:?} {status:?}: {told}"));
            }
        }
    }
    Ok(())
}

fn check(given: &Given) -> Checked {
    let ledger = given.ledger();
    check_subjects(&ledger)?;
    check_pods(&ledger, given.objects())?;
    check_roles(&ledger)?;
    check_bindings(&ledger)?;
    check_levels(&ledger)
}

#[test]
fn every_list_of_the_demo() {
    check(&demo()).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn every_list_of_the_truth_tables() {
    for (id, given) in truth_tables().step_by(5) {
        check(&given).unwrap_or_else(|e| panic!("{id}: {e}"));
    }
}

#[test]
fn every_list_of_generated_worlds() {
    let mut runner = TestRunner::new(config(24));
    let outcome = runner.run(&some_objects(), |objects| {
        check(&world(objects)).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
