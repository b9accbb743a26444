//! Wiring: the one place that knows every part.

mod accept;
mod can_i;
mod config;
mod diff;
mod door;
mod explain;
mod progress;
mod rules;
mod scan;
mod serve;
mod who_can;
mod world;

use crate::cli::{Cli, Command, ConfigCommand, RulesCommand, ServeArgs};
use crate::export::metrics::About;
use crate::export::terminal::Look;
use crate::log;
use std::io::Write as _;
use std::process::ExitCode;

/// How a command ended (contract §10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Threshold reached, or the answer is no.
    Found = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Nothing could be judged, or not everything could be read.
    Incomplete = 3,
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The way it was called.
    #[error("{0}")]
    Usage(String),
    /// The world.
    #[error("{0}")]
    World(String),
    /// The configuration, a line a fault.
    #[error("{}", .0.join("\n"))]
    Configuration(Vec<String>),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) | Failure::Configuration(_) => Exit::Usage,
            Failure::World(_) => Exit::Incomplete,
        }
    }
}

/// Carries a command line out.
pub fn run(cli: Cli) -> ExitCode {
    let exit = match dispatch(cli) {
        Ok(exit) => exit,
        Err(failure) => {
            match &failure {
                Failure::Configuration(faults) => config::complain(faults),
                other => note(&other.to_string()),
            }
            failure.exit()
        }
    };
    ExitCode::from(exit as u8)
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli {
        source,
        serve,
        log,
        command,
    } = cli;
    log::init(&log.level, log.format).map_err(|e| Failure::Usage(e.to_string()))?;
    let served = matches!(command, None | Some(Command::Serve(_)));
    if serve.any() && !served {
        return Err(Failure::Usage(
            "the --web and --metrics flags are for serve; leave them out here".into(),
        ));
    }
    // clap does not see a conflict of flags before and behind the command
    if source.manifests.is_some() && source.context.is_some() {
        return Err(Failure::Usage(
            "--source.manifests needs no cluster and --kube.context names one; leave one of them out".into(),
        ));
    }
    if source.manifests.is_some() && source.allow_partial.is_some() {
        return Err(Failure::Usage(
            "--allow-partial is for clusters; manifests hold the pods they hold".into(),
        ));
    }
    match command.unwrap_or(Command::Serve(ServeArgs::default())) {
        Command::Serve(args) => serve::run(&source, args.or(serve)),
        Command::Scan(args) => scan::run(&source, &args),
        Command::Diff(args) => diff::run(&source, &args),
        Command::Explain(args) => explain::run(&source, &args),
        Command::WhoCan(args) => who_can::run(&source, &args),
        Command::Accept(args) => accept::run(&source, &args),
        Command::CanI(args) => can_i::run(&source, &args),
        Command::Rules(RulesCommand::List { output }) => rules::list(&source.config, output),
        Command::Rules(RulesCommand::Check { checked }) => {
            config::check_rules(&source.config, checked)
        }
        Command::Config(ConfigCommand::Check { checked }) => config::check(&source, checked),
    }
}

/// What standard output is shown on.
fn look() -> Look {
    use std::io::IsTerminal as _;
    let stdout = std::io::stdout();
    Look {
        colour: anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never,
        width: if stdout.is_terminal() {
            terminal_size::terminal_size_of(&stdout).map(|(width, _)| width.0.into())
        } else {
            None
        },
    }
}

/// What is told of the binary.
fn about(external_url: String) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: env!("RBAC_EXPORTER_REVISION").to_owned(),
        external_url,
    }
}

/// What deserves to be known beside the output, for people.
fn note(text: &str) {
    let text = crate::export::report::printable(text);
    let _ = writeln!(std::io::stderr(), "rbac-exporter: {text}");
}

/// Writes to standard output. A reader that went away (a closed pipe) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| std::io::stdout().flush())
    {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::World(format!(
            "standard output cannot be written: {e}"
        ))),
        _ => Ok(()),
    }
}
