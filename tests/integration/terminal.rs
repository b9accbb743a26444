//! What people see on a terminal, and what a pipe gets: the binary on a pseudo-terminal.

use crate::command::{Input, command, demo};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// A terminal, and what is written on it until its last user goes.
struct Terminal {
    end: File,
    screen: JoinHandle<String>,
}

impl Terminal {
    fn new(columns: u16) -> Terminal {
        let mine = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&mine).unwrap();
        unlockpt(&mine).unwrap();
        let name = ptsname(&mine, Vec::new()).unwrap();
        let end = OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&end, size).unwrap();
        let screen = std::thread::spawn(move || {
            let mut mine = File::from(mine);
            let mut seen = Vec::new();
            let mut buffer = [0; 4096];
            // when nobody has the other end any more, Linux says EIO
            while let Ok(read @ 1..) = mine.read(&mut buffer) {
                seen.extend_from_slice(&buffer[..read]);
            }
            String::from_utf8(seen).unwrap().replace("\r\n", "\n")
        });
        Terminal { end, screen }
    }

    fn end(&self) -> Stdio {
        Stdio::from(self.end.try_clone().unwrap())
    }

    /// Runs to its end; gives exit code and screen. The command holds ends of the terminal too.
    fn shown(self, mut command: Command, act: impl FnOnce(&mut Child)) -> (i32, String) {
        let mut child = command.spawn().unwrap();
        drop(command);
        drop(self.end);
        act(&mut child);
        let code = child.wait().unwrap().code().unwrap();
        (code, self.screen.join().unwrap())
    }
}

/// The binary, with the terminal's name and nothing that speaks for or against colours.
fn plain(args: &[&str]) -> Command {
    let mut command = command(args);
    command.env("TERM", "xterm-256color");
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(name);
    }
    command
}

/// Without the sequences that set colours.
fn colourless(text: &str) -> String {
    regex_lite::Regex::new("\u{1b}\\[[0-9;]*m")
        .unwrap()
        .replace_all(text, "")
        .into_owned()
}

const SCAN: [&str; 3] = ["scan", "--source.manifests", "deploy/demo"];

#[test]
fn a_terminal_has_colours_and_an_end() {
    assert_eq!(SCAN[2], demo());
    let terminal = Terminal::new(72);
    let mut command = plain(&SCAN);
    command.stdout(terminal.end());
    let (code, screen) = terminal.shown(command, |_| ());
    assert_eq!(code, 0);
    assert!(
        screen.contains("\u{1b}[1m\u{1b}[31mcritical\u{1b}[0m"),
        "{screen}"
    );
    let table = screen.split("PRIORITY").nth(1).unwrap();
    let table = table.split("\n\n").next().unwrap();
    for line in colourless(table).lines() {
        // a word is never broken: names are there to be copied
        let words = line.split_whitespace().count();
        assert!(line.chars().count() <= 72 || words == 1, "{line}");
    }
    // the numbers come first
    assert!(screen.find("Subjects").unwrap() < screen.find("PRIORITY").unwrap());
}

#[test]
fn colours_go_where_they_are_wanted_and_nowhere_else() {
    let piped = |name: Option<&str>| {
        let mut command = plain(&SCAN);
        command.envs(name.map(|name| (name, "1")));
        let output = command.output().unwrap();
        assert_eq!(output.stderr, b"");
        String::from_utf8(output.stdout).unwrap()
    };
    let without = piped(None);
    assert!(!without.contains('\u{1b}'), "{without}");
    let forced = piped(Some("CLICOLOR_FORCE"));
    assert!(forced.contains("\u{1b}[31m"), "{forced}");
    assert_eq!(colourless(&forced), without);

    let terminal = Terminal::new(400);
    let mut command = plain(&SCAN);
    command.env("NO_COLOR", "1").stdout(terminal.end());
    let (_, screen) = terminal.shown(command, |_| ());
    assert_eq!(screen, without);

    let terminal = Terminal::new(72);
    let mut command = plain(&[&SCAN[..], &["-o", "json"]].concat());
    command.stdout(terminal.end());
    let (_, screen) = terminal.shown(command, |_| ());
    assert!(!screen.contains('\u{1b}'), "JSON is JSON everywhere");
}

/// Input that takes a second to come.
fn slowly(child: &mut Child) {
    let mut stdin = child.stdin.take().unwrap();
    for i in 0..5 {
        let account = format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: a{i}, namespace: n}}\n---\n"
        );
        stdin.write_all(account.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn a_bar_is_drawn_on_a_terminal_while_something_takes_long_and_leaves_nothing() {
    let args = ["scan", "--source.manifests", "-", "-o", "json"];
    let terminal = Terminal::new(80);
    let mut command = plain(&args);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(terminal.end());
    let mut out = String::new();
    let (code, screen) = terminal.shown(command, |child| {
        slowly(child);
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
    });
    assert_eq!(code, 0);
    assert!(
        screen.contains("[....................] 1 file read, 0 MiB"),
        "{screen:?}"
    );
    assert!(screen.ends_with("\r\u{1b}[2K"), "{screen:?}");
    assert!(out.starts_with('{') && !out.contains("file read"), "{out}");

    // not in a pipe
    let mut command = plain(&args);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    slowly(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn what_is_quick_draws_no_bar() {
    let input = Input::new("apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n");
    let terminal = Terminal::new(80);
    let mut command = plain(&["scan", "--source.manifests", input.path.to_str().unwrap()]);
    command.stderr(terminal.end());
    let (code, screen) = terminal.shown(command, |_| ());
    assert_eq!((code, screen.as_str()), (0, ""));
}
