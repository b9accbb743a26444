//! Commands that documents show are run, or say what they need.

use crate::blocks::blocks;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

/// What may stand after `sh`.
const NEEDS: [&str; 6] = ["", "cluster", "files", "alertmanager", "installed", "build"];

#[test]
fn every_block_of_commands_is_run_or_says_what_it_needs() {
    let blocks = blocks();
    for block in &blocks {
        assert!(
            NEEDS.contains(&&*block.needs),
            "{}: {:?}",
            block.place,
            block.needs
        );
    }
    assert!(blocks.len() > 40, "{}", blocks.len());
}

/// Those that need nothing but the binary, which here is built already.
#[test]
fn what_needs_the_binary_alone_is_run() {
    let binary = env!("CARGO_BIN_EXE_rbac-exporter");
    let mut run = 0;
    for block in blocks().into_iter().filter(|b| b.needs.is_empty()) {
        for line in block.script.lines() {
            let line = line.replace("cargo run --release --", binary);
            let serves = line.trim_start_matches(binary).trim().starts_with("--");
            // no port of the machine's
            let port = if serves {
                " --web.listen-address=127.0.0.1:0"
            } else {
                ""
            };
            let call = line.split('#').next().unwrap_or_default();
            let out = tempfile::NamedTempFile::new().unwrap();
            let mut child = Command::new("sh")
                .args(["-c", &format!("exec {}{port}", call.trim())])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .stdin(Stdio::null())
                .stdout(out.reopen().unwrap())
                .stderr(out.reopen().unwrap())
                .spawn()
                .unwrap();
            let mut ended = None;
            for _ in 0..600 {
                ended = child.try_wait().unwrap();
                let listens = fs::read_to_string(&out).unwrap().contains("listening");
                if ended.is_some() || (serves && listens) {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(&out).unwrap();
            match serves {
                true => assert!(
                    ended.is_none() && said.contains("listening"),
                    "{}: {line}: {said}",
                    block.place
                ),
                // the demo is not without its riddles: not everything in it can be judged
                false => assert!(
                    ended.is_some_and(|e| [Some(0), Some(3)].contains(&e.code())),
                    "{}: {line}: {ended:?} {said}",
                    block.place
                ),
            }
            assert!(!said.is_empty(), "{}: {line}", block.place);
            run += 1;
        }
    }
    assert!(run >= 3, "{run}");
}
