//! The web-config file: the schema of Prometheus' exporter-toolkit, as far as rustls can do it.
//!
//! Keys and complaints are those of its `docs/web-configuration.md`; docs/web-config.md lists where
//! this differs.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a web-config file says, checked, with every file it names read.
#[derive(Debug, Default)]
pub(super) struct WebConfig {
    /// TLS; plain HTTP without.
    pub(super) tls: Option<TlsConfig>,
    /// Headers on every response, with names as they are sent.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Users and the bcrypt hashes of their passwords; nobody is asked when there are none.
    pub(super) users: BTreeMap<String, String>,
    /// At most `burst` requests at once and one in each interval.
    pub(super) rate: Option<Rate>,
    /// The file itself and those it names: when one of them changes, all are read again.
    pub(super) files: Vec<PathBuf>,
}

/// `rate_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Time that gives back one request.
    pub(super) interval: Duration,
    /// Requests that can be made at once.
    pub(super) burst: u32,
}

/// `tls_server_config`, files read.
#[derive(Debug)]
pub(super) struct TlsConfig {
    /// Certificate chain, PEM.
    pub(super) cert: Vec<u8>,
    /// Private key, PEM.
    pub(super) key: Vec<u8>,
    /// Authorities of client certificates, PEM.
    pub(super) client_ca: Option<Vec<u8>>,
    /// What is asked of clients.
    pub(super) client_auth: ClientAuth,
    /// Names of which a client's certificate must have one.
    pub(super) allowed_sans: Option<Vec<String>>,
    /// TLS 1.2 may be spoken.
    pub(super) tls12: bool,
    /// TLS 1.3 may be spoken.
    pub(super) tls13: bool,
    /// Suites for TLS 1.2 in the order of preference; all when empty.
    pub(super) cipher_suites: Vec<String>,
    /// Key exchange groups in the order of preference; all when empty.
    pub(super) curves: Vec<String>,
    /// The server's order of suites counts, not the client's.
    pub(super) prefer_server: bool,
}

/// `client_auth_type`: Go's `tls.ClientAuthType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    /// Nothing is asked.
    None,
    /// One is asked for, none is fine, and it is not verified.
    Request,
    /// Any certificate, not verified.
    RequireAny,
    /// Verified when there is one.
    VerifyIfGiven,
    /// There must be one and it is verified.
    RequireAndVerify,
}

/// Why a web-config cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct WebConfigError {
    /// The web-config file.
    pub(super) file: String,
    /// What is wrong with it, one complaint a line.
    pub(super) what: String,
}

impl WebConfigError {
    /// What is wrong, each with the file.
    pub fn complaints(&self) -> impl Iterator<Item = String> {
        self.what
            .lines()
            .map(|what| format!("{}: {what}", self.file))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tls_server_config: Option<Tls>,
    #[serde(default)]
    http_server_config: Option<Http>,
    #[serde(default)]
    basic_auth_users: Option<BTreeMap<String, String>>,
    #[serde(default)]
    rate_limit: Option<RateLimit>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    cert: String,
    key: String,
    client_ca: String,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca_file: String,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Vec<String>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// Read and let be: HTTP/1.1 is what is spoken here.
    #[serde(default, rename = "http2")]
    _http2: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    #[serde(default)]
    interval: String,
    #[serde(default)]
    burst: u32,
}

/// Headers that may be set, with the values that are allowed; any when there are none.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// Suites that rustls with ring has, in Go's and IANA's names.
pub(super) const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Suites that Go takes here too and that rustls has left out: CBC mode, no forward secrecy, or TLS 1.3,
/// whose suites are not chosen by configuration in Go either.
const SUITES_OF_GO: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
];

/// Groups that rustls with ring has, in Go's names.
pub(super) const CURVES: [&str; 3] = ["X25519", "CurveP256", "CurveP384"];

impl WebConfig {
    /// Reads and checks the file, and reads the files it names, which are relative to it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, unless it does not parse.
    pub(super) fn read(path: &Path) -> Result<WebConfig, WebConfigError> {
        let error = |what: String| WebConfigError {
            file: path.display().to_string(),
            what,
        };
        let text = fs::read_to_string(path).map_err(|e| error(format!("cannot be read: {e}")))?;
        let file: Option<File> = serde_saphyr::from_str(&text).map_err(|e| {
            // below the first line it draws the place, hashes of passwords included
            let said = e.to_string();
            error(without_secrets(
                said.lines().next().unwrap_or_default(),
                &text,
            ))
        })?;
        let mut wrong = Vec::new();
        let mut out = WebConfig {
            files: vec![path.to_owned()],
            ..WebConfig::default()
        };
        let Some(file) = file else { return Ok(out) };
        if let Some(tls) = file.tls_server_config.filter(Tls::enabled) {
            let dir = path.parent().unwrap_or(Path::new(""));
            out.tls = tls.read(dir, &mut out.files, &mut wrong);
        }
        for (name, value) in file
            .http_server_config
            .map(|h| h.headers)
            .unwrap_or_default()
        {
            let known = HEADERS.iter().find(|(n, _)| n.eq_ignore_ascii_case(&name));
            let Some((name, allowed)) = known else {
                let names = HEADERS.map(|(n, _)| n).join(", ");
                wrong.push(format!(
                    "HTTP header {} can not be configured; these can: {names}",
                    shown(&name)
                ));
                continue;
            };
            if !value.is_empty() && !allowed.is_empty() && !allowed.contains(&value.as_str()) {
                wrong.push(format!(
                    "invalid value for {name}. Expected one of: {allowed:?}, but got: {}",
                    shown(&value)
                ));
            } else if value.chars().any(char::is_control) {
                wrong.push(format!(
                    "invalid value for {name}: it has a control character"
                ));
            } else if !value.is_empty() {
                out.headers.push((name, value));
            }
        }
        for (user, hash) in file.basic_auth_users.unwrap_or_default() {
            if let Some((before, _)) = user.split_once(':') {
                // what follows may well be the hash, written without a blank
                wrong.push(format!(
                    "basic_auth_users: a colon follows {}, which ends a user name",
                    shown(before)
                ));
            } else if !is_bcrypt(&hash) {
                wrong.push(format!(
                    "basic_auth_users: {}: not a bcrypt hash; make one with `htpasswd -nBC 10 \"\"`",
                    shown(&user)
                ));
            }
            out.users.insert(user, hash);
        }
        if let Some(rate) = file.rate_limit {
            match duration(&rate.interval) {
                Some(Duration::ZERO) => {}
                Some(interval) => {
                    out.rate = Some(Rate {
                        interval,
                        burst: rate.burst,
                    });
                }
                None => wrong.push(format!(
                    "rate_limit.interval: {} is no duration; write it as 100ms, 1s or 1m",
                    shown(&rate.interval)
                )),
            }
        }
        if wrong.is_empty() {
            Ok(out)
        } else {
            Err(error(wrong.join("\n")))
        }
    }
}

impl Tls {
    fn enabled(&self) -> bool {
        [
            &self.cert,
            &self.cert_file,
            &self.key,
            &self.key_file,
            &self.client_ca,
            &self.client_ca_file,
            &self.client_auth_type,
        ]
        .iter()
        .any(|text| !text.is_empty())
    }

    fn read(
        self,
        dir: &Path,
        files: &mut Vec<PathBuf>,
        wrong: &mut Vec<String>,
    ) -> Option<TlsConfig> {
        let before = wrong.len();
        let mut pem = |what: &str, inline: String, file: &str, wrong: &mut Vec<String>| {
            if file.is_empty() {
                return (!inline.is_empty()).then(|| inline.into_bytes());
            }
            if file.contains(char::is_control) {
                let key = what.trim_end_matches("_file");
                wrong.push(format!(
                    "{what}: names a file; the text itself goes into {key}"
                ));
                return Some(Vec::new());
            }
            let file = dir.join(file);
            let read = fs::read(&file);
            let read = read.map_err(|e| {
                wrong.push(format!("failed to read {what} ({}): {e}", file.display()));
            });
            files.push(file);
            Some(read.unwrap_or_default())
        };
        let cert = pem("cert_file", self.cert, &self.cert_file, wrong);
        let key = pem("key_file", self.key, &self.key_file, wrong);
        let client_ca = pem(
            "client_ca_file",
            self.client_ca,
            &self.client_ca_file,
            wrong,
        );
        if cert.is_none() {
            wrong.push("missing one of cert or cert_file".to_owned());
        }
        if key.is_none() {
            wrong.push("missing one of key or key_file".to_owned());
        }
        let client_auth = match self.client_auth_type.as_str() {
            "" | "NoClientCert" => ClientAuth::None,
            "RequestClientCert" => ClientAuth::Request,
            "RequireAnyClientCert" | "RequireClientCert" => ClientAuth::RequireAny,
            "VerifyClientCertIfGiven" => ClientAuth::VerifyIfGiven,
            "RequireAndVerifyClientCert" => ClientAuth::RequireAndVerify,
            other => {
                wrong.push(format!("invalid ClientAuth: {}", shown(other)));
                ClientAuth::None
            }
        };
        if client_ca.is_some() && client_auth == ClientAuth::None {
            wrong.push("client CA's have been configured without a Client Auth Policy".to_owned());
        }
        if client_ca.is_none()
            && matches!(
                client_auth,
                ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
            )
        {
            wrong.push(format!(
                "client_auth_type {} needs client_ca_file or client_ca to verify against",
                self.client_auth_type
            ));
        }
        if let Some(sans) = &self.client_allowed_sans {
            if !matches!(
                client_auth,
                ClientAuth::RequireAny | ClientAuth::RequireAndVerify
            ) {
                wrong.push(
                    "client_allowed_sans requires client_auth_type to be one of \
                     RequireAnyClientCert or RequireAndVerifyClientCert"
                        .to_owned(),
                );
            }
            for san in sans
                .iter()
                .filter(|san| san.contains('@') && !san.contains("://"))
            {
                wrong.push(format!(
                    "client_allowed_sans: {} is an e-mail address, which cannot be compared here; \
                     use a DNS name, an IP address or a URI",
                    shown(san)
                ));
            }
        }
        let mut version = |key: &str, text: Option<String>, default: u8| match text.as_deref() {
            None => default,
            Some("TLS12") => 12,
            Some("TLS13") => 13,
            Some(old @ ("TLS10" | "TLS11")) => {
                wrong.push(format!(
                    "{key}: {old} cannot be spoken here, only TLS12 and TLS13"
                ));
                default
            }
            Some(other) => {
                wrong.push(format!(
                    "{key}: unknown TLS version: {}; TLS12 or TLS13",
                    shown(other)
                ));
                default
            }
        };
        let min = version("min_version", self.min_version, 12);
        let max = version("max_version", self.max_version, 13);
        if min > max {
            wrong.push("min_version is above max_version".to_owned());
        }
        for suite in &self.cipher_suites {
            if SUITES_OF_GO.contains(&suite.as_str()) {
                wrong.push(format!(
                    "cipher_suites: {suite} cannot be chosen here; these can: {}",
                    SUITES.join(", ")
                ));
            } else if !SUITES.contains(&suite.as_str()) {
                wrong.push(format!("unknown cipher: {}", shown(suite)));
            }
        }
        for curve in &self.curve_preferences {
            if !CURVES.contains(&curve.as_str()) {
                let known = matches!(curve.as_str(), "CurveP521" | "X25519MLKEM768");
                let what = if known {
                    "cannot be had here"
                } else {
                    "unknown curve"
                };
                wrong.push(format!(
                    "curve_preferences: {}: {what}; these can: {}",
                    shown(curve),
                    CURVES.join(", ")
                ));
            }
        }
        (wrong.len() == before).then(|| TlsConfig {
            cert: cert.unwrap_or_default(),
            key: key.unwrap_or_default(),
            client_ca,
            client_auth,
            allowed_sans: self.client_allowed_sans,
            tls12: min <= 12,
            tls13: max >= 13,
            cipher_suites: self.cipher_suites,
            curves: self.curve_preferences,
            prefer_server: self.prefer_server_cipher_suites.unwrap_or(true),
        })
    }
}

/// A value as a complaint shows it: on one line, and cut where a name, a word or a duration has ended
/// long since. A hash or a key that stands in the wrong place is not carried into a log.
fn shown(value: &str) -> String {
    let mut start: String = value.chars().take(32).collect();
    if start.len() < value.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// What the parser says, without what it quotes at length: whatever it has from the file stays under
/// forty bytes, where hashes of passwords and lines of keys have more.
fn without_secrets(said: &str, file: &str) -> String {
    let said: String = said.chars().take(1000).collect();
    // where the last window ends that is in the file
    let mut quoted = 0;
    let mut out = String::with_capacity(said.len());
    for (at, c) in said.char_indices() {
        let rest = &said[at..];
        let mut ends = rest.char_indices().map(|(i, c)| i + c.len_utf8());
        if let Some(window) = ends.find(|end| *end >= 32)
            && file.contains(&rest[..window])
        {
            if quoted <= at {
                out.extend(rest.chars().take(8));
                out.push('…');
            }
            quoted = at + window;
        }
        if quoted <= at {
            out.push(c);
        }
    }
    out
}

/// `$2y$10$` and 53 characters of bcrypt's alphabet.
fn is_bcrypt(hash: &str) -> bool {
    let mut parts = hash.split('$').skip(1);
    let (Some(version), Some(cost), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'/';
    hash.starts_with('$')
        && matches!(version, "2a" | "2b" | "2x" | "2y")
        && cost.len() == 2
        && cost
            .parse::<u8>()
            .is_ok_and(|cost| (4..=31).contains(&cost))
        && rest.len() == 53
        && rest.bytes().all(alphabet)
}

/// Go's durations, as far as anybody writes them: `1h2m3s4ms`; `0` needs no unit.
fn duration(text: &str) -> Option<Duration> {
    if text.is_empty() || text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) = [("ms", 0.001), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)]
            .into_iter()
            .chain([("h", 3600.0), ("m", 60.0), ("s", 1.0)])
            .find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        sum += number * seconds;
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, ms) in [
            ("", 0),
            ("0", 0),
            ("1s", 1000),
            ("1m30s", 90_000),
            ("250ms", 250),
            ("1.5s", 1500),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["1", "s", "-1s", "1 s", "1x", "1.2.3s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_parser_quotes_is_cut() {
        let hash = "$2y$10$X0h1gDsPszWURQaxFh.zou(FéDXncSjhoQNJgRrnGs7EsimhC7zG";
        let file = format!("a:\n{hash} alice: b\n");
        let said = format!("line 2 column 1: unknown field `{hash} alice`, expected one of a, b");
        assert_eq!(
            without_secrets(&said, &file),
            "line 2 column 1: unknown field `$2y$10$X…`, expected one of a, b"
        );
        assert_eq!(
            without_secrets("unknown field `rates`", &file),
            "unknown field `rates`"
        );
        // the file's last word is the message's too
        let said = format!("not a map: {hash}");
        assert_eq!(without_secrets(&said, hash), "not a map: $2y$10$X…");
    }

    #[test]
    fn hashes_are_told_from_passwords() {
        assert!(is_bcrypt(
            "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
        ));
        for text in [
            "secret",
            "$2y$10$short",
            "$1$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG",
            "",
            "x$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG",
        ] {
            assert!(!is_bcrypt(text), "{text}");
        }
    }
}
