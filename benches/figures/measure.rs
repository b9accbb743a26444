//! Looking at a process from outside: memory, CPU, answers over a socket.

use crate::harness::free_port;
use crate::harness::process::{Process, image_environment, temporary_directory};
use flate2::read::GzDecoder;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The middle one.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value that a share of all do not exceed.
pub(crate) fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values[at.clamp(1, values.len()) - 1]
}

/// The slope and the offset of the line nearest to these points.
pub(crate) fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let above = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum::<f64>();
    let below = points
        .iter()
        .map(|(x, _)| (x - mean_x) * (x - mean_x))
        .sum::<f64>();
    (above / below, mean_y - above / below * mean_x)
}

/// How long something takes, in seconds.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed().as_secs_f64())
}

/// How long a client waits for the next byte.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An answer and how long it took.
pub(crate) struct Scrape {
    pub(crate) status: u16,
    pub(crate) first_byte: f64,
    pub(crate) seconds: f64,
    /// Bytes of the body.
    pub(crate) size: usize,
}

/// A client with buffers that are kept, so that its own memory is not what is measured. Every request opens a
/// connection and reads the body to its end.
#[derive(Default)]
pub(crate) struct Client {
    buffer: Vec<u8>,
    body: usize,
    end: usize,
    /// The body when it came compressed.
    unpacked: Option<String>,
}

impl Client {
    pub(crate) fn get(&mut self, port: u16, path: &str, gzip: bool) -> io::Result<Scrape> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let encoding = if gzip {
            "Accept-Encoding: gzip\r\n"
        } else {
            ""
        };
        // HTTP/1.0 rules out chunked answers, so the end of the stream is the end of the body.
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{encoding}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut read = 0;
        let mut first_byte = 0.0;
        loop {
            if self.buffer.len() - read < 1 << 16 {
                self.buffer.resize((self.buffer.len() * 2).max(1 << 20), 0);
            }
            match stream.read(&mut self.buffer[read..])? {
                0 => break,
                more => read += more,
            }
            if first_byte == 0.0 {
                first_byte = begun.elapsed().as_secs_f64();
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let answer = &self.buffer[..read];
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = std::str::from_utf8(&answer[..head])
            .ok()
            .and_then(|head| head.split(' ').nth(1)?.parse().ok());
        self.body = head + 4;
        self.end = read;
        let mut member = GzDecoder::new(&self.buffer[self.body..self.end]);
        // An error is plain even where gzip was asked for.
        self.unpacked = match member.header() {
            Some(_) => {
                let mut text = self.unpacked.take().unwrap_or_default();
                text.clear();
                member.read_to_string(&mut text)?;
                Some(text)
            }
            None => None,
        };
        Ok(Scrape {
            status: status.ok_or(io::ErrorKind::InvalidData)?,
            first_byte,
            seconds,
            size: read - self.body,
        })
    }

    /// The body of the last answer.
    pub(crate) fn text(&self) -> &str {
        if let Some(text) = &self.unpacked {
            return text;
        }
        std::str::from_utf8(&self.buffer[self.body..self.end]).unwrap()
    }

    /// Sum of the samples of a family in the last answer whose labels hold a text.
    pub(crate) fn sum(&self, family: &str, labels: &str) -> f64 {
        let lines = self.text().lines();
        let own = lines.filter(|line| {
            let rest = line.strip_prefix(family);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        own.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Samples in the last answer.
    pub(crate) fn series(&self) -> usize {
        self.text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    }
}

/// A program that serves metrics, as a child.
pub(crate) struct Served {
    process: Process,
    pub(crate) port: u16,
    pub(crate) started: Instant,
    _dir: TempDir,
}

impl Served {
    /// Starts a program on a free port, with a kubeconfig or without.
    pub(crate) fn start(
        program: &Path,
        kubeconfig: Option<&str>,
        args: impl Fn(u16, &Path) -> Vec<String>,
    ) -> Served {
        let dir = temporary_directory();
        let port = free_port();
        let file = dir.path().join("kubeconfig");
        let mut command = Command::new(program);
        command.env_clear().args(args(port, &file));
        command.envs(image_environment());
        if let Some(text) = kubeconfig {
            fs::write(&file, text).unwrap();
            command.env("KUBECONFIG", &file);
        }
        let started = Instant::now();
        let process = Process::start("served", &mut command, dir.path());
        Served {
            process,
            port,
            started,
            _dir: dir,
        }
    }

    /// Asks until an answer is as wanted, and says how long after the start that was. What was wrong with the others
    /// is for the caller to note.
    pub(crate) fn until(
        &mut self,
        client: &mut Client,
        path: &str,
        mut wanted: impl FnMut(&Client, &Scrape) -> bool,
    ) -> f64 {
        loop {
            match client.get(self.port, path, true) {
                Ok(scrape) if wanted(client, &scrape) => {
                    return self.started.elapsed().as_secs_f64();
                }
                _ => sleep(Duration::from_millis(1)),
            }
            assert!(
                self.started.elapsed() < Duration::from_secs(300),
                "{}",
                self.process.log_tail()
            );
            self.process.check_alive();
        }
    }

    fn status(&self, key: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kilobytes: f64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kilobytes * 1024.0
    }

    /// The highest resident memory so far, in bytes.
    pub(crate) fn peak(&self) -> f64 {
        self.status("VmHWM")
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> f64 {
        self.status("VmRSS")
    }

    /// CPU of all threads that there were, in seconds; hundredths.
    pub(crate) fn cpu(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields = text.rsplit(')').next().unwrap().split_whitespace();
        fields
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / 100.0
    }

    /// CPU of the threads that there are, in seconds; nanoseconds.
    pub(crate) fn fine_cpu(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let nanoseconds: f64 = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<f64>().ok())
            .sum();
        nanoseconds / 1e9
    }
}

/// The exporter's binary: as shipped, or the build that `RBAC_EXPORTER_BENCH_BINARY` names.
pub(crate) fn exporter() -> PathBuf {
    std::env::var_os("RBAC_EXPORTER_BENCH_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_rbac-exporter").into(), PathBuf::from)
}

/// The exporter on a cluster.
pub(crate) fn watch(kubeconfig: &str) -> Served {
    Served::start(&exporter(), Some(kubeconfig), |port, _| {
        vec![format!("--web.listen-address=127.0.0.1:{port}")]
    })
}

/// A program of somebody else, if `PATH` or `target/tools` has it.
pub(crate) fn peer(names: &[&str]) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([tools]);
    places
        .flat_map(|place| names.iter().map(move |name| place.join(name)))
        .find(|path| path.is_file())
}

/// Seconds to send so many bytes over loopback and to read them, by programs that do nothing else: the bound of an
/// answer.
pub(crate) fn loopback(size: usize) -> f64 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    const RUNS: usize = 21;
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
            answer.resize(answer.len() + size, b'x');
            for stream in listener.incoming().take(RUNS) {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        let mut client = Client::default();
        median((0..RUNS).map(|_| client.get(port, "/", false).unwrap().seconds))
    })
}

/// Seconds and CPU of a program from its start to its end, or nothing when it failed.
pub(crate) fn run(program: &Path, args: &[impl AsRef<OsStr>]) -> Option<(f64, f64)> {
    // CPU of the children that were waited for, in hundredths of a second.
    let cpu = || {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let fields = text.rsplit(')').next().unwrap().split_whitespace();
        let ticks = fields.skip(13).take(2);
        ticks
            .map(|ticks| ticks.parse::<f64>().unwrap())
            .sum::<f64>()
            / 100.0
    };
    let before = cpu();
    let (status, seconds) = timed(|| {
        Command::new(program)
            .args(args)
            .env_remove("KUBECONFIG")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    });
    let good = status.code().is_some_and(|code| matches!(code, 0 | 1 | 3));
    good.then(|| (seconds, cpu() - before))
}
