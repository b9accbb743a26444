//! What people type. Nothing here is looked up or checked against the world; [`crate::run`] does that.

use crate::export::http::ListenAddress;
use crate::log::{LogFormat, LogLevel};
use crate::object::Subject;
use crate::rbac::{NEWEST, OLDEST, ServerVersion};
use crate::risk::Priority;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  Serve the cluster of the current kubeconfig, or the one it runs in:
    rbac-exporter
  Serve manifests instead; no cluster needed:
    rbac-exporter --source.manifests deploy/demo
  Print who is dangerous, and why:
    rbac-exporter scan --source.manifests chart.yaml
  The full report; exit 1 if an open subject is critical:
    rbac-exporter scan --output json --fail-on critical
  For code scanning:
    rbac-exporter scan --source.manifests deploy --output sarif
  What a pull request changes:
    rbac-exporter diff old new
  Why a subject is dangerous, and which binding to cut:
    rbac-exporter explain sa:ci/deployer
  Who may, and may this one:
    rbac-exporter who-can get secrets -n app
    rbac-exporter can-i create pods --subresource exec --as sa:ci/deployer -n app
  Check a configuration against the cluster that it is for:
    rbac-exporter config check config.yaml --kube.context prod

Exit codes:
  0  done
  1  threshold reached (scan and diff --fail-on), or the answer is no (can-i)
  2  usage or configuration
  3  nothing could be judged, or not everything could be read (--allow-incomplete makes that 0)";

const DIFF_EXAMPLES: &str = "\
Examples:
  What a change of manifests gives to whom:
    rbac-exporter diff main/deploy deploy
  What a chart would change in the cluster of the current kubeconfig:
    helm template ./chart | rbac-exporter diff live - --namespace apps
  As a comment on a pull request; exit 1 if somebody becomes critical:
    rbac-exporter diff old new --output markdown --fail-on critical";

/// Tells who could take a Kubernetes cluster over: effective RBAC permissions, escalation paths and
/// pods with strong tokens, as Prometheus metrics.
#[derive(Debug, Parser)]
#[command(name = "rbac-exporter", version = VERSION, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    /// Where objects come from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// The server.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do; `serve` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Package version and the commit it was built from.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("RBAC_EXPORTER_REVISION"),
    ")"
);

/// What stands for the cluster where `diff` takes a path.
pub const LIVE: &str = "live";

/// `--source.*`, `--kube.*`, `--kubernetes.*`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceArgs {
    /// Read manifests (a file, a directory, or - for standard input) instead of watching a cluster.
    #[arg(long = "source.manifests", value_name = "PATH", global = true)]
    pub manifests: Option<String>,
    /// Context of the kubeconfig to use.
    #[arg(long = "kube.context", value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Do without a resource of the cluster; only pods can be. Whatever leads through a pod is assumed
    #[arg(long = "allow-partial", value_name = "RESOURCE", global = true, value_parser = partial)]
    pub allow_partial: Option<Partial>,
    /// Server version that manifests are judged for; it decides the default roles too.
    #[arg(
        long = "kubernetes.version", value_name = "MAJOR.MINOR", global = true,
        default_value_t = NEWEST, value_parser = version,
    )]
    pub kubernetes_version: ServerVersion,
    /// What to judge by.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// `--config.*`. Part of the source's arguments, because every command that judges needs both.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Rules, accepted risks and metrics details; serve reads it again when it changes, and on SIGHUP.
    #[arg(long = "config.file", value_name = "PATH", global = true)]
    pub file: Option<PathBuf>,
    /// KubiScan's risky_roles.yaml or an edited copy, whose rules are added; repeatable.
    #[arg(long = "config.kubiscan-template", value_name = "PATH", global = true)]
    pub templates: Vec<PathBuf>,
}

/// What `--allow-partial` leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partial {
    /// Pods are neither listed nor watched.
    Pods,
}

fn partial(text: &str) -> Result<Partial, String> {
    match text {
        "pods" => Ok(Partial::Pods),
        _ => Err(
            "only pods can be left out; without anything else the judgement would be too low"
                .into(),
        ),
    }
}

/// `--web.*`, before or behind `serve`. Not global, so that the help of the other commands is free of
/// them; that is why the defaults are applied when both places have been read.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Server")]
pub struct ServeArgs {
    /// Address to listen on; repeatable. `:PORT` takes IPv6 and IPv4 [default: :7222]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    pub listen: Vec<ListenAddress>,
    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", value_parser = path)]
    pub telemetry_path: Option<String>,
    /// URL under which people reach this exporter; alerts and dashboards link to it
    #[arg(long = "web.external-url", value_name = "URL")]
    pub external_url: Option<String>,
    /// Priorities that get a series a subject and workload, or none [default: critical,high]
    #[arg(long = "metrics.detail", value_name = "PRIORITIES", value_parser = detail)]
    pub detail: Option<Detail>,
    /// Most series of one detail family [default: 5000]
    #[arg(long = "metrics.detail-limit", value_name = "SERIES")]
    pub detail_limit: Option<usize>,
    /// TLS, client certificates and basic authentication, as Prometheus' exporters take them
    #[arg(long = "web.config.file", value_name = "PATH")]
    pub web_config: Option<PathBuf>,
    /// Ask the API server whose token it is and whether that one may read the path [default: none]
    #[arg(long = "web.auth", value_name = "WHO", value_enum)]
    pub auth: Option<Auth>,
}

/// Value of `--metrics.detail`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail(pub Vec<Priority>);

impl ServeArgs {
    /// What was given here, and else what was given before the command.
    pub fn or(self, before: ServeArgs) -> ServeArgs {
        ServeArgs {
            listen: if self.listen.is_empty() {
                before.listen
            } else {
                self.listen
            },
            telemetry_path: self.telemetry_path.or(before.telemetry_path),
            external_url: self.external_url.or(before.external_url),
            detail: self.detail.or(before.detail),
            detail_limit: self.detail_limit.or(before.detail_limit),
            web_config: self.web_config.or(before.web_config),
            auth: self.auth.or(before.auth),
        }
    }

    /// Something was given.
    pub fn any(&self) -> bool {
        !self.listen.is_empty()
            || self.telemetry_path.is_some()
            || self.external_url.is_some()
            || self.detail.is_some()
            || self.detail_limit.is_some()
            || self.web_config.is_some()
            || self.auth.is_some()
    }
}

/// `--web.auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Nobody is asked for a token.
    None,
    /// TokenReview, then SubjectAccessReview of `get` on the telemetry path, and on the path too if it is another.
    Kubernetes,
}

/// `--log.*`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogArgs {
    /// error, warn, info, debug, trace, or a filter such as info,kube_client=debug.
    #[arg(long = "log.level", value_name = "LEVEL", global = true, default_value_t = LogLevel::default())]
    pub level: LogLevel,
    /// Form of a line.
    #[arg(
        long = "log.format",
        value_name = "FORMAT",
        global = true,
        value_enum,
        default_value_t
    )]
    pub format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch, judge and serve metrics (the default)
    Serve(ServeArgs),
    /// Judge once and print the result
    #[command(override_usage = "rbac-exporter scan [--source.manifests <PATH>] [OPTIONS]")]
    Scan(ScanArgs),
    /// Tell who can do more or less in one world than in another, and because of which object
    #[command(
        override_usage = "rbac-exporter diff <OLD> <NEW> [OPTIONS]",
        after_help = DIFF_EXAMPLES
    )]
    Diff(DiffArgs),
    /// Why a subject is what it is, and which binding to cut
    #[command(override_usage = "rbac-exporter explain <SUBJECT> [OPTIONS]")]
    Explain(ExplainArgs),
    /// Everybody who may do something
    ///
    /// Users and groups that bindings name, and service accounts, with what they hold by the groups that
    /// they certainly have. Members of other groups are known to the identity provider alone. Manifests are
    /// taken as they are: default bindings, such as that of system:discovery, count where the input has them.
    #[command(
        name = "who-can",
        override_usage = "rbac-exporter who-can <VERB> <RESOURCE[/NAME]> [OPTIONS]"
    )]
    WhoCan(WhoCanArgs),
    /// Ask whether a subject may do something, or answer SubjectAccessReviews
    ///
    /// Manifests are taken as they are: default roles are brought along, but default bindings, such as that
    /// of system:discovery to everyone, count where the input has them.
    #[command(name = "can-i")]
    CanI(CanIArgs),
    /// Print the entries of a configuration that would accept what is open now
    #[command(override_usage = "rbac-exporter accept [SUBJECT]... [OPTIONS]")]
    Accept(AcceptArgs),
    /// The rules of the catalogue
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Form of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `--fail-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// An open critical subject.
    Critical,
    /// An open subject that is high or worse.
    High,
    /// Medium or worse.
    Medium,
    /// Low or worse.
    Low,
    /// Whatever is found.
    #[default]
    Never,
}

impl FailOn {
    /// The priority from which on to fail.
    pub fn threshold(self) -> Option<Priority> {
        match self {
            FailOn::Critical => Some(Priority::Critical),
            FailOn::High => Some(Priority::High),
            FailOn::Medium => Some(Priority::Medium),
            FailOn::Low => Some(Priority::Low),
            FailOn::Never => None,
        }
    }
}

/// Form of the output of `scan`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ScanOutput {
    /// For people.
    #[default]
    Table,
    /// The report, for programs.
    Json,
    /// The families of /metrics, for a text file collector.
    Prometheus,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// `--show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShowArg {
    /// Who is dangerous, and what to cut.
    Subjects,
    /// Pods that carry a risky token.
    Pods,
    /// Roles by what they give.
    Roles,
    /// Bindings by what they give.
    Bindings,
}

/// `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// Form of the output.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: ScanOutput,
    /// List only what lies in this namespace; repeatable.
    #[arg(long = "namespace", short, value_name = "NAMESPACE")]
    pub namespaces: Vec<String>,
    /// List only this priority and higher ones.
    #[arg(long, value_name = "PRIORITY", value_parser = priorities())]
    pub priority: Option<Priority>,
    /// List only this subject (sa:NAMESPACE/NAME, user:NAME, group:NAME) and what belongs to it,
    /// whatever its status; repeatable.
    #[arg(long = "subject", value_name = "SUBJECT", value_parser = subject)]
    pub subjects: Vec<Subject>,
    /// What the table lists [default: subjects]
    #[arg(long, value_name = "LIST", value_enum)]
    pub show: Option<ShowArg>,
    /// Exit 1 when an open subject has this priority or a higher one.
    #[arg(long, value_name = "PRIORITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
    /// Exit 0 although not everything could be read.
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// `accept`.
#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Whose risks: sa:NAMESPACE/NAME, user:NAME or group:NAME [default: everybody's]
    #[arg(value_name = "SUBJECT", value_parser = subject)]
    pub subjects: Vec<Subject>,
    /// Only of subjects with this priority or a higher one.
    #[arg(long, value_name = "PRIORITY", value_parser = priorities(), default_value = "low")]
    pub priority: Priority,
    /// Exit 0 although not everything could be read.
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Manifests as they were (a file, a directory, or - for standard input), or `live` for the cluster;
    /// a path of that name is written ./live.
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Manifests as they are to be. Beside manifests they are a whole world; over a cluster they are
    /// applied: nothing is deleted.
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Form of the output.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: DiffOutput,
    /// Exit 1 when a subject is open at this priority or a higher one now and was below it.
    #[arg(long, value_name = "PRIORITY", value_enum, default_value_t)]
    pub fail_on: FailOn,
    /// Namespace of objects that name none.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Exit 0 although not everything could be read.
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// Form of the output of `diff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiffOutput {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For a comment on a pull request.
    Markdown,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Who: sa:NAMESPACE/NAME, user:NAME or group:NAME
    #[arg(value_name = "SUBJECT")]
    pub subject: String,
    /// Form of the output
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// Exit 0 although not everything could be read
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// `who-can`.
#[derive(Debug, Args)]
pub struct WhoCanArgs {
    /// Verb, such as `create`
    pub verb: String,
    /// `RESOURCE[.GROUP][/NAME]` (a subresource goes into --subresource), or a path such as `/metrics`
    #[arg(value_name = "RESOURCE[/NAME]")]
    pub resource: String,
    /// Namespace; without it the question is cluster-wide
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Also who may do it in some namespace only, with the namespace
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Subresource, such as `exec`
    #[arg(long)]
    pub subresource: Option<String>,
    /// Form of the output
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
    /// Exit 0 although not everything could be read
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// `can-i`.
#[derive(Debug, Args)]
pub struct CanIArgs {
    /// Verb, such as `create`
    #[arg(required_unless_present = "reviews")]
    pub verb: Option<String>,
    /// `RESOURCE[.GROUP][/NAME]` (a subresource goes into --subresource), or a path such as `/metrics`
    #[arg(required_unless_present = "reviews", value_name = "RESOURCE[/NAME]")]
    pub resource: Option<String>,
    /// Who: sa:NAMESPACE/NAME, user:NAME, group:NAME, or a user name
    #[arg(
        long = "as",
        value_name = "SUBJECT",
        required_unless_present = "reviews"
    )]
    pub subject: Option<String>,
    /// A group that the user has beside the ones it certainly has; repeatable
    #[arg(long = "as-group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Namespace; without it the question is cluster-wide
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// Subresource, such as `exec`
    #[arg(long)]
    pub subresource: Option<String>,
    /// Answer SubjectAccessReviews (JSON Lines, YAML documents or a List; - for standard input) as JSON Lines
    #[arg(
        long, value_name = "FILE",
        conflicts_with_all = ["verb", "resource", "subject", "groups", "namespace", "subresource"],
    )]
    pub reviews: Option<PathBuf>,
    /// Exit 0 although not everything could be read
    #[arg(long)]
    pub allow_incomplete: bool,
}

/// `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules in force
    List {
        /// Form of the output.
        #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
        output: Output,
    },
    /// Check rules without using them
    Check {
        /// A configuration or a template file of KubiScan [default: those of the --config flags]
        #[arg(value_name = "FILE")]
        checked: Option<PathBuf>,
    },
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check a configuration; with a source, also whether its accepted risks are still there
    Check {
        /// The file [default: --config.file]
        #[arg(value_name = "FILE")]
        checked: Option<PathBuf>,
    },
}

/// `critical,high`, or nothing.
fn detail(text: &str) -> Result<Detail, String> {
    let words = text.split(',').map(str::trim);
    let given = words.filter(|w| !w.is_empty() && *w != "none");
    let of = |word: &str| match Priority::parse(word) {
        Some(p) if p != Priority::None => Ok(p),
        _ => Err("write critical, high, medium and low, with commas between".to_owned()),
    };
    given.map(of).collect::<Result<_, _>>().map(Detail)
}

/// A version whose default roles and rules are not known would be judged by those of another one.
fn version(text: &str) -> Result<ServerVersion, String> {
    ServerVersion::parse(text)
        .filter(|version| (OLDEST..=NEWEST).contains(version))
        .ok_or_else(|| format!("write a version from {OLDEST} to {NEWEST}"))
}

fn priorities() -> impl TypedValueParser<Value = Priority> {
    PossibleValuesParser::new(Priority::ALL.map(Priority::as_str).into_iter().rev())
        .map(|word| Priority::parse(&word).unwrap_or_default())
}

fn subject(text: &str) -> Result<Subject, String> {
    Subject::parse(text)
        .ok_or_else(|| "write sa:NAMESPACE/NAME, user:NAME or group:NAME".to_owned())
}

fn path(text: &str) -> Result<String, String> {
    let reserved = [
        "/",
        "/-/ready",
        "/readyz",
        "/-/healthy",
        "/livez",
        "/healthz",
    ];
    if !text.starts_with('/') || text.starts_with("/api/") || reserved.contains(&text) {
        return Err("write a path of its own, such as /metrics".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_flags_work_on_both_sides() {
        let cli = Cli::try_parse_from(["x", "--source.manifests", "a", "scan"]).unwrap();
        assert_eq!(cli.source.manifests.as_deref(), Some("a"));
        let cli = Cli::try_parse_from(["x", "scan", "--source.manifests", "a"]).unwrap();
        assert_eq!(cli.source.manifests.as_deref(), Some("a"));
        assert!(Cli::try_parse_from(["x"]).unwrap().command.is_none());
        let path = |args: &[&str]| {
            let cli = Cli::try_parse_from(args).unwrap();
            let Some(Command::Serve(behind)) = cli.command else {
                return None;
            };
            behind.or(cli.serve).telemetry_path
        };
        let given = ["x", "--web.telemetry-path", "/a", "serve"];
        assert_eq!(path(&given).as_deref(), Some("/a"));
        let given = ["x", "serve", "--web.telemetry-path", "/a"];
        assert_eq!(path(&given).as_deref(), Some("/a"));
        for wrong in [
            &["x", "can-i"][..],
            &["x", "can-i", "get", "pods"],
            &["x", "can-i", "get", "pods", "--as", "a", "--reviews", "-"],
            &["x", "--kubernetes.version", "new"],
            &["x", "--kubernetes.version", "1.32"],
            &["x", "--kubernetes.version", "2.0"],
            &["x", "--web.telemetry-path", "metrics"],
            &["x", "scan", "--fail-on", "none"],
            &["x", "scan", "--priority", "urgent"],
            &["x", "scan", "--subject", "bob"],
            &["x", "scan", "--web.telemetry-path", "/a"],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
