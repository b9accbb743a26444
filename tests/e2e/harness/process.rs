//! Child processes and directories that end with the test, however it ends.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;

use super::eventually;

/// What the image sets, for an exporter that runs as it does there.
pub(crate) fn image_environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../../Containerfile").lines();
    lines.filter_map(|line| line.strip_prefix("ENV ")?.split_once('='))
}

/// Ends what drop cannot reach: worlds in statics, and everything when the test binary itself is
/// killed or aborts.
///
/// It reads from a pipe whose only writer is this process. The kernel closes that pipe at our
/// death, whatever the cause, and then it kills and deletes what is still on its list. It sits in
/// a process group of its own, so that an interrupt from the terminal does not take it first.
const REAPER: &str = r#"
pids= ; dirs=
while read -r what value; do
  case $what in
    pid) pids="$pids $value" ;;
    ended) kept= ; for pid in $pids; do [ "$pid" = "$value" ] || kept="$kept $pid"; done; pids=$kept ;;
    dir) dirs="$dirs $value" ;;
  esac
done
for pid in $pids; do kill -9 "-$pid"; done
for dir in $dirs; do [ -d "$dir" ] && { rm -rf "$dir" || { sleep 1; rm -rf "$dir"; }; }; done
"#;

static REAPER_PROCESS: LazyLock<Mutex<Child>> = LazyLock::new(|| {
    let reaper = Command::new("sh")
        .args(["-c", REAPER])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh starts");
    Mutex::new(reaper)
});

fn tell_reaper(what: &str, value: &dyn std::fmt::Display) {
    let mut reaper = REAPER_PROCESS
        .lock()
        .unwrap_or_else(|broken| broken.into_inner());
    let input = reaper.stdin.as_mut().expect("stdin is piped");
    writeln!(input, "{what} {value}").expect("the reaper lives as long as we do");
}

/// A directory that is gone when the test is.
pub(crate) fn temporary_directory() -> TempDir {
    let dir = TempDir::with_prefix("rbac-exporter-e2e-").expect("a temporary directory");
    tell_reaper("dir", &dir.path().display());
    dir
}

/// A server in a process group of its own, killed on drop.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs in `DIR/NAME.log`, after what an earlier one of that
    /// name wrote.
    pub(crate) fn start(name: &str, command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options()
            .append(true)
            .create(true)
            .open(&log)
            .unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        tell_reaper("pid", &child.id());
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of its memory in `/proc`, such as `VmRSS`, in kB.
    pub(crate) fn memory(&self, line: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let value = status
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        let number = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        number.expect("the kernel tells")
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its log, for messages of failed tests.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Complains when it has ended on its own.
    pub(crate) fn check_alive(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended with {status}:\n{}", self.name, self.log_tail());
        }
    }

    /// SIGKILL: no time to say goodbye to anybody.
    pub(crate) fn kill(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        tell_reaper("ended", &self.child.id());
    }

    /// Sends a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status()
            .unwrap();
    }

    /// SIGTERM, and the exit status.
    ///
    /// # Panics
    ///
    /// When it is still there after `within`.
    pub(crate) fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        let (status, _) = eventually("it ends on SIGTERM", within, || {
            self.child
                .try_wait()
                .unwrap()
                .ok_or_else(|| self.log_tail())
        });
        tell_reaper("ended", &self.child.id());
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; a signal's number plus 128, as shells say.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs `command` to its end with `input` on its standard input.
pub(crate) fn run(command: &mut Command, input: &str) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{} does not start: {e}", command.get_program().display()));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = thread::scope(|scope| {
        // A program may stop reading early; what it then says and returns is for the caller.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    });
    Finished {
        code: output
            .status
            .code()
            .unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default()),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
