//! The thin binary.

use clap::Parser;
use rbac_exporter::{cli::Cli, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    run::run(Cli::parse())
}
