//! The standard `process_*` metrics, read from `/proc/self` when a scrape asks for them.
//!
//! prometheus-client has no process collector. A value the platform does not offer is absent, never
//! zero: a graph with a gap says more than one that lies.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use std::{fmt, fs, path::Path};

/// What the operating system says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// `process_cpu_seconds_total`: user and system time, all threads.
    pub cpu_seconds: Option<f64>,
    /// `process_resident_memory_bytes`
    pub resident_bytes: Option<u64>,
    /// The highest resident memory so far (`VmHWM`). No metric; benchmarks judge by it.
    pub peak_resident_bytes: Option<u64>,
    /// `process_virtual_memory_bytes`
    pub virtual_bytes: Option<u64>,
    /// `process_virtual_memory_max_bytes`: the soft limit; 2^64-1 when there is none, as in
    /// client_golang, so that dashboards made for it read the same.
    pub virtual_max_bytes: Option<u64>,
    /// `process_open_fds`
    pub open_fds: Option<u64>,
    /// `process_max_fds`: the soft limit, 2^64-1 when there is none.
    pub max_fds: Option<u64>,
    /// `process_start_time_seconds`: Unix time.
    pub start_seconds: Option<f64>,
}

impl Process {
    /// Reads everything anew. Where there is no `/proc` all is absent.
    pub fn read() -> Process {
        Process::read_from(Path::new("/proc"))
    }

    fn read_from(proc: &Path) -> Process {
        let text = |file: &str| fs::read_to_string(proc.join(file)).unwrap_or_default();
        let status = text("self/status");
        let limits = text("self/limits");
        let stat = text("self/stat");
        let ticks = fs::read(proc.join("self/auxv"))
            .ok()
            .and_then(|auxv| clock_ticks(&auxv))
            .unwrap_or(USER_HZ);
        let (cpu, start) = match times(&stat, ticks) {
            Some((cpu, start)) => (Some(cpu), Some(start)),
            None => (None, None),
        };
        Process {
            cpu_seconds: cpu,
            resident_bytes: status_bytes(&status, "VmRSS"),
            peak_resident_bytes: status_bytes(&status, "VmHWM"),
            virtual_bytes: status_bytes(&status, "VmSize"),
            virtual_max_bytes: soft_limit(&limits, "Max address space"),
            // The directory handle that counts is open meanwhile and counts itself.
            open_fds: fs::read_dir(proc.join("self/fd"))
                .ok()
                .map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: soft_limit(&limits, "Max open files"),
            start_seconds: start
                .and_then(|start| boot_seconds(&text("stat")).map(|boot| boot + start)),
        }
    }
}

/// A collector that reads at every scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        Process::read().encode(&mut encoder)
    }
}

impl Process {
    /// Writes what is known.
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => {
                let metric = ConstGauge::new(value);
                metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
            }
            None => Ok(()),
        };
        // Above 2^53 bytes, nine petabytes, the conversion would round.
        let float = |value: Option<u64>| value.map(|value| value as f64);
        gauge(
            "process_open_fds",
            "Number of open file descriptors",
            float(self.open_fds),
        )?;
        gauge(
            "process_max_fds",
            "Maximum number of open file descriptors",
            float(self.max_fds),
        )?;
        gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes",
            float(self.resident_bytes),
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes",
            float(self.virtual_bytes),
        )?;
        gauge(
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes",
            float(self.virtual_max_bytes),
        )?;
        gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds",
            self.start_seconds,
        )?;
        if let Some(seconds) = self.cpu_seconds {
            let metric = ConstCounter::new(seconds);
            metric.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "Total user and system CPU time spent in seconds",
                None,
                metric.metric_type(),
            )?)?;
        }
        Ok(())
    }
}

/// Ticks a second in `/proc`: 100 on every architecture that Rust targets on Linux.
const USER_HZ: f64 = 100.0;

/// `AT_CLKTCK` from the auxiliary vector, where the kernel states it: pairs of native words.
fn clock_ticks(auxv: &[u8]) -> Option<f64> {
    const AT_CLKTCK: usize = 17;
    const WORD: usize = size_of::<usize>();
    let word = |bytes: &[u8]| bytes.try_into().ok().map(usize::from_ne_bytes);
    auxv.chunks_exact(2 * WORD)
        .find(|pair| word(&pair[..WORD]) == Some(AT_CLKTCK))
        .and_then(|pair| word(&pair[WORD..]))
        .filter(|ticks| *ticks > 0)
        .map(|ticks| ticks as f64)
}

/// CPU time, and start time since boot, in seconds, from `/proc/self/stat`.
///
/// The second field is the program's name in parentheses and may hold spaces and parentheses, so
/// fields are counted from the last closing one.
fn times(stat: &str, ticks: f64) -> Option<(f64, f64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // fields[0] is field 3 of proc(5); utime is 14, stime 15, starttime 22.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let cpu = field(14)? + field(15)?;
    Some((cpu as f64 / ticks, field(22)? as f64 / ticks))
}

/// When the machine was booted, Unix seconds, from `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// A size from `/proc/self/status`, `VmRSS:   12345 kB`.
fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The soft limit from `/proc/self/limits`.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a (b) c) d) S 1 4242 4242 0 -1 4194560 3021 0 7 0 151 49 0 0 20 0 9 0 \
        123456 1234567890 5120 18446744073709551615 1 1 0 0 0 0 0 4096 17642 0 0 0 17 3 0 0 0 0 0\n";
    const STATUS: &str = "Name:\tVmRSS: 1 kB\nVmPeak:\t  990000 kB\nVmSize:\t  980000 kB\n\
        VmHWM:\t   65536 kB\nVmRSS:\t   61440 kB\nThreads:\t9\n";
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max address space         unlimited            unlimited            bytes
";

    #[test]
    fn times_count_from_the_last_parenthesis() {
        assert_eq!(times(STAT, 100.0), Some((2.0, 1234.56)));
        for broken in [
            "",
            "1 (x",
            "1 (x) S 1 2 3",
            "1 (x) S a b c d e f g h i j k l m n o p q r s t",
        ] {
            assert_eq!(times(broken, 100.0), None, "{broken}");
        }
    }

    #[test]
    fn sizes_and_limits() {
        assert_eq!(status_bytes(STATUS, "VmRSS"), Some(61440 * 1024));
        assert_eq!(status_bytes(STATUS, "VmHWM"), Some(65536 * 1024));
        assert_eq!(status_bytes(STATUS, "VmSwap"), None);
        assert_eq!(status_bytes("VmRSS:\t1 MB\n", "VmRSS"), None);
        assert_eq!(soft_limit(LIMITS, "Max open files"), Some(1024));
        assert_eq!(soft_limit(LIMITS, "Max address space"), Some(u64::MAX));
        assert_eq!(soft_limit(LIMITS, "Max nothing"), None);
        assert_eq!(
            boot_seconds("cpu  1 2 3\nbtime 1790000000\n"),
            Some(1_790_000_000.0)
        );
        assert_eq!(boot_seconds(""), None);
    }

    #[test]
    fn ticks_come_from_the_auxiliary_vector() {
        let auxv = |pairs: &[(usize, usize)]| -> Vec<u8> {
            pairs
                .iter()
                .flat_map(|(k, v)| [k.to_ne_bytes(), v.to_ne_bytes()].concat())
                .collect()
        };
        assert_eq!(
            clock_ticks(&auxv(&[(6, 4096), (17, 250), (0, 0)])),
            Some(250.0)
        );
        assert_eq!(clock_ticks(&auxv(&[(17, 0)])), None);
        assert_eq!(clock_ticks(&auxv(&[(6, 17)])), None);
        assert_eq!(clock_ticks(&[17, 0, 0]), None);
    }

    #[test]
    fn without_proc_everything_is_absent() {
        let process = Process::read_from(Path::new("/nonexistent"));
        assert_eq!(process, Process::default());
        assert_eq!(exposition(process), "# EOF\n");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_plausible() {
        let process = Process::read();
        let resident = process.resident_bytes.unwrap();
        assert!(resident > 1 << 20);
        assert!(process.peak_resident_bytes.unwrap() >= resident / 2);
        assert!(process.virtual_bytes.unwrap() >= resident);
        assert!(process.cpu_seconds.unwrap() >= 0.0);
        assert!((3..1 << 20).contains(&process.open_fds.unwrap()));
        assert!(process.max_fds.unwrap() >= 3);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - process.start_seconds.unwrap();
        assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn metrics_have_the_standard_names() {
        let process = Process {
            cpu_seconds: Some(1.5),
            resident_bytes: Some(4096),
            peak_resident_bytes: Some(8192),
            virtual_bytes: Some(12288),
            virtual_max_bytes: Some(u64::MAX),
            open_fds: Some(9),
            max_fds: Some(1024),
            start_seconds: Some(1_790_000_000.25),
        };
        let samples: Vec<String> = exposition(process)
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            samples,
            [
                "process_open_fds 9.0",
                "process_max_fds 1024.0",
                "process_resident_memory_bytes 4096.0",
                "process_virtual_memory_bytes 12288.0",
                "process_virtual_memory_max_bytes 18446744073709553000.0",
                "process_start_time_seconds 1790000000.25",
                "process_cpu_seconds_total 1.5",
            ]
        );
    }

    fn exposition(process: Process) -> String {
        #[derive(Debug)]
        struct Fixed(Process);
        impl Collector for Fixed {
            fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
                self.0.encode(&mut encoder)
            }
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Fixed(process)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}
