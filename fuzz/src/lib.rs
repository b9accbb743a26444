//! What is read of others, and what must hold of it whatever it is: one module a target.
//!
//! No target stops at "it does not panic". Each reads the same bytes a second time, by another way or by
//! somebody else's code, and the two must agree; each error must say where it is; and what an input costs
//! is bounded by its length. `README.md` beside this says how they are run.

/// The configuration: rules, acceptances.
pub mod config;
/// Files of manifests.
pub mod manifests;
/// One object of a list or a watch.
pub mod objects;
/// What is behind the door: queries of the API and of the page.
pub mod queries;
/// HTTP as it comes over the wire.
pub mod requests;
/// KubiScan's template.
pub mod template;
/// The stream of a watch and the pages of a list.
pub mod watch;
/// TLS and users.
pub mod web_config;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that any input may take, however short: tables made on first use, buffers.
const BASE: usize = 8 << 20;

/// Reads `input` and holds the memory that it takes at once to `factor` bytes a byte. Time is held by
/// libFuzzer's `-timeout`.
fn bounded<T>(input: &[u8], factor: usize, read: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let out = read();
    let taken = MEMORY.peak_usage().saturating_sub(before);
    let allowed = BASE + factor * input.len();
    assert!(
        taken <= allowed,
        "{} bytes of input take {taken} bytes of memory at once",
        input.len()
    );
    out
}

/// Something that is said to a person: there is something in it, and it is bounded.
fn told(message: &str) {
    assert!(!message.trim().is_empty(), "nothing is said");
    assert!(message.len() <= 64 << 10, "{} bytes said", message.len());
}

/// One line for a log or a terminal.
fn one_line(message: &str) {
    told(message);
    let odd = message.chars().find(|c| c.is_control());
    assert_eq!(odd, None, "{message:?}");
}

/// Lines of a text. A carriage return alone ends one too, for YAML.
fn lines(text: &[u8]) -> u32 {
    let after = text.iter().skip(1).map(Some).chain([None]);
    let ends =
        |(byte, next): (&u8, Option<&u8>)| *byte == b'\n' || *byte == b'\r' && next != Some(&b'\n');
    let breaks = text.iter().zip(after).filter(|pair| ends(*pair)).count();
    u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
}
