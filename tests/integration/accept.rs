//! `accept`: what it prints is refused until it is filled in, and then accepts what was open.

use crate::command::{Input, demo, run};
use rbac_exporter::config::{Text, read};
use rbac_exporter::export::acceptance::acceptance_entry;
use rbac_exporter::export::report::printable;
use rbac_exporter::ledger::Proposal;
use rbac_exporter::object::Subject;
use rbac_exporter::risk::{Acceptance, AcceptedFinding, Priority};

fn accept(args: &[&str]) -> crate::command::Ran {
    run(&[&["accept", "--source.manifests", demo()], args].concat())
}

/// Open and accepted subjects of the demo at a priority.
fn subjects(config: &str, priority: &str) -> (u64, u64) {
    let report = run(&[
        "scan",
        "--output",
        "json",
        "--source.manifests",
        demo(),
        "--config.file",
        config,
    ])
    .json();
    let of = |status: &str| {
        report["summary"]["subjects"][priority][status]
            .as_u64()
            .unwrap()
    };
    (of("open"), of("accepted"))
}

#[test]
fn what_it_prints_accepts_what_was_open_once_it_is_filled_in() {
    let nothing = Input::new("{}");
    let (open, accepted) = subjects(nothing.path.to_str().unwrap(), "critical");
    assert!(open > 0 && accepted == 0);
    let all = accept(&["--priority", "critical"]);
    assert_eq!((all.code, all.err.as_str()), (0, ""));
    let printed = Input::new(&all.out);
    let printed = run(&["config", "check", printed.path.to_str().unwrap()]);
    assert_eq!(printed.code, 2, "{}", printed.out);
    assert_eq!(
        printed.err.matches("reason").count(),
        all.out.matches("  - id: ").count(),
        "{}",
        printed.err
    );
    let filled = all
        .out
        .replace("reason: \"\"", "reason: known for years")
        .replace("owner: \"\"", "owner: platform")
        .replace("expires: \"\"", "expires: 2999-12-31");
    let filled = Input::new(&filled);
    let config = filled.path.to_str().unwrap();
    let checked = run(&["config", "check", config, "--source.manifests", demo()]);
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
    // who is critical by an accepted group alone is accepted with it
    let (left, taken) = subjects(config, "critical");
    assert_eq!((left, taken), (0, open));
    let again = accept(&["--priority", "critical", "--config.file", config]);
    assert_eq!(again.code, 0);
    assert_eq!(
        (again.out.as_str(), again.err.contains("nothing to accept")),
        ("", true)
    );
}

#[test]
fn subjects_are_named_or_refused() {
    let all = accept(&["--priority", "critical"]).out;
    let first = all
        .lines()
        .find_map(|l| l.trim().strip_prefix("subject: "))
        .unwrap();
    let first = first.trim_matches('"');
    let one = accept(&[first, first]);
    assert_eq!(
        (one.code, one.out.matches("  - id: ").count()),
        (0, 1),
        "{}",
        one.out
    );
    assert!(one.out.contains(first) && one.out.starts_with("accepted:\n"));
    let nobody = accept(&["user:nobody-at-all"]);
    assert_eq!((nobody.code, nobody.out.as_str()), (2, ""));
    assert!(
        nobody.err.contains("user:nobody-at-all is not there"),
        "{}",
        nobody.err
    );
    assert_eq!(accept(&["somebody"]).code, 2);
}

fn proposal(subject: Subject) -> Proposal {
    let finding = |text: &str| AcceptedFinding::parse(text).expect("a finding");
    Proposal {
        id: "user:x-01234567".into(),
        subject,
        findings: vec![finding("secrets-list@*"), finding("pod-exec@kube-system")],
        priority: Priority::High,
    }
}

fn parsed(entry: &str) -> Result<Vec<Acceptance>, Vec<String>> {
    let text = Text {
        name: "config.yaml".into(),
        text: format!("accepted:\n{entry}"),
    };
    let read = read(Some(&text), vec![], &mut |_| Err("no template".into()));
    read.map(|c| c.accepted.into_iter().map(|a| a.entry).collect())
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn an_entry_is_refused_until_it_is_filled_in() {
    let entry = acceptance_entry(&proposal(Subject::user("x")));
    assert_eq!(
        entry,
        r#"  - id: "user:x-01234567"
    subject: "user:x"
    findings:
      - "secrets-list@*"
      - "pod-exec@kube-system"
    priority: high
    reason: "" # why it may stay
    owner: "" # who answers for it
    expires: "" # the last day, YYYY-MM-DD
"#
    );
    let faults = parsed(&entry).expect_err("nothing is filled in");
    let fields: Vec<bool> = ["reason", "owner", "expires"]
        .iter()
        .map(|field| faults.iter().any(|f| f.contains(field)))
        .collect();
    assert_eq!((faults.len(), fields), (3, vec![true; 3]), "{faults:?}");
}

#[test]
fn hostile_names_come_back_as_they_were() {
    for name in [
        "x\u{1b}[31m",
        "a\nexpires: 2999-01-01\n  - id: b",
        "quote\" back\\slash 'single'",
        "{a: b}, [c] # no comment &anchor *alias !tag | > %",
        "\u{202e}evil\u{2028}line\u{85}next\u{feff}bom",
        "emoji \u{1f600} ümläut",
        "null",
        "~",
        " spaces around ",
    ] {
        for subject in [
            Subject::User { name: name.into() },
            Subject::Group { name: name.into() },
        ] {
            let entry = acceptance_entry(&proposal(subject.clone()));
            for line in entry.lines() {
                assert_eq!(printable(line), line);
            }
            let filled = entry
                .replace("reason: \"\"", "reason: known")
                .replace("owner: \"\"", "owner: team")
                .replace("expires: \"\"", "expires: 2031-03-31");
            let read = parsed(&filled).expect("a good entry");
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].subject, subject);
            assert_eq!(read[0].findings, proposal(subject).findings);
            assert_eq!(
                (read[0].priority, &*read[0].owner),
                (Priority::High, "team")
            );
        }
    }
}
