//! promtool and amtool on what is in `alerts/`. That its series exist is for the tests that need Rust alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::blocks::blocks;
use crate::harness::process::{Finished, run, temporary_directory};
use crate::harness::{parts, repository};

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(directory)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} is empty");
    files
}

fn promtool(words: &[&str], files: &[PathBuf]) -> Finished {
    let mut command = Command::new(parts::prometheus("promtool"));
    run(command.args(words).args(files), "")
}

#[track_caller]
fn amtool(words: &[&str]) -> Finished {
    let done = run(Command::new(parts::alertmanager("amtool")).args(words), "");
    assert_eq!(done.code, 0, "{done:?}");
    done
}

#[test]
fn promtool_finds_nothing_in_the_rules() {
    let checked = promtool(
        &["check", "rules", "--lint=all", "--lint-fatal"],
        &files("alerts/rules"),
    );
    assert_eq!(checked.code, 0, "{checked:?}");
    let said = checked.stdout + &checked.stderr;
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        let fine = line.starts_with("Checking") || line.trim().starts_with("SUCCESS");
        assert!(fine, "{said}");
    }
}

#[test]
fn the_rules_fire_and_stay_silent_as_their_tests_say() {
    let tested = promtool(&["test", "rules"], &files("alerts/tests"));
    assert_eq!(tested.code, 0, "{}{}", tested.stdout, tested.stderr);
}

#[test]
fn the_example_for_alertmanager_is_one_and_sends_pages_and_tickets_apart() {
    let example = repository("alerts/alertmanager.example.yaml");
    let example = example.to_str().unwrap();
    amtool(&["check-config", example]);
    let config = format!("--config.file={example}");
    for (severity, alert, receiver) in [
        ("page", "RBACNewCriticalSubject", "pages"),
        ("page", "RBACEveryoneAccess", "pages"),
        ("page", "RBACExporterDown", "pages"),
        ("ticket", "RBACCriticalSubjectOpen", "tickets"),
        ("ticket", "RBACHygieneBudgetBurn", "tickets"),
    ] {
        let (severity, alert) = (format!("severity={severity}"), format!("alertname={alert}"));
        amtool(&[
            "config",
            "routes",
            "test",
            &config,
            &format!("--verify.receivers={receiver}"),
            &severity,
            &alert,
        ]);
    }
}

/// The command of the documentation, on a copy.
#[test]
fn one_command_says_where_the_runbooks_are() {
    let blocks = blocks().into_iter().filter(|block| block.needs == "files");
    let scripts: Vec<String> = blocks.map(|block| block.script).collect();
    let [script] = &scripts[..] else {
        panic!("{scripts:?}");
    };
    let dir = temporary_directory();
    let files = [
        "alerts/rules/settings.yaml",
        "deploy/manifests/components/prometheus-operator/prometheusrule.yaml",
    ];
    for file in files {
        let copy = dir.path().join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(repository(file), copy).unwrap();
    }
    let done = run(
        Command::new("sh")
            .args(["-c", script])
            .current_dir(dir.path()),
        "",
    );
    assert_eq!(done.code, 0, "{done:?}");
    for file in files {
        let text = fs::read_to_string(dir.path().join(file)).unwrap();
        let base = "base: https://git.example/rbac-exporter/docs/runbooks\n";
        assert!(text.contains(base), "{text}");
    }
    let settings = dir.path().join(files[0]);
    assert_eq!(promtool(&["check", "rules"], &[settings]).code, 0);
}
