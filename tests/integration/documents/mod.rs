//! The documents: what they tell people to type exists, and their links lead somewhere.

/// Commands.
mod commands;
/// Figures.
mod figures;
/// Links.
mod links;

use clap::{CommandFactory as _, Parser as _};
use rbac_exporter::cli::Cli;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .canonicalize()
        .unwrap()
}

/// Every document that people read, with its text.
fn documents() -> impl Iterator<Item = (PathBuf, String)> {
    crate::blocks::documents().into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    })
}

/// Command lines of ours in a document: in code spans and in code blocks, up to a pipe or redirection.
fn commands(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for piece in text.split(['`', '\n']) {
        let starts = piece.match_indices("rbac-exporter ").filter(|(at, _)| {
            let before = &piece[..*at];
            before.is_empty()
                || before.ends_with(": ")
                || before.ends_with("| ")
                || before.ends_with(' ')
        });
        for (at, _) in starts {
            let line = &piece[at..];
            let end = line.find([')', ';']).into_iter();
            let end = end.chain(line.find(" | ")).chain(line.find(" > ")).min();
            let line = line[..end.unwrap_or(line.len())].trim_end_matches([' ', '\\']);
            let words = line.split(' ').count();
            // a sentence about the program, not a call of it
            let called = line.split(' ').nth(1).is_some_and(|word| {
                word.starts_with("--")
                    || Cli::command()
                        .get_subcommands()
                        .any(|c| c.get_name() == word)
            });
            if words > 1 && called {
                out.push(line.to_owned());
            }
        }
    }
    out
}

#[test]
fn what_people_are_told_to_type_is_understood() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for (name, least) in [("ci.md", 5), ("from-kubiscan.md", 25)] {
        let text = fs::read_to_string(docs.join(name)).unwrap();
        let commands = commands(&text);
        assert!(commands.len() >= least, "{name}: {commands:#?}");
        for line in commands {
            if let Err(error) = Cli::try_parse_from(line.split(' ')) {
                // help is an answer too
                assert!(!error.use_stderr(), "{name}: {line}\n{error}");
            }
        }
    }
}

#[test]
fn what_is_not_there_is_noticed() {
    let told = "run `rbac-exporter scan --shwo pods`, or\n    helm template . | rbac-exporter diff live - > x\n";
    let found = commands(told);
    assert_eq!(
        found,
        [
            "rbac-exporter scan --shwo pods",
            "rbac-exporter diff live -"
        ]
    );
    assert!(Cli::try_parse_from(found[0].split(' ')).is_err());
    assert!(Cli::try_parse_from(found[1].split(' ')).is_ok());
}

/// Every option that KubiScan had in that snapshot, so that none is passed over in silence.
#[test]
fn every_option_of_kubiscan_is_mapped() {
    let options = "-f -rr -rcr -rar -rb -rcb -rab -rs -rp -d -pp -a -cve -jt -psv -pse -ctx -p -lt -ns -k \
                   -r -e -n -dt -ho -c -cc -ck -co -t -o -q -j -nc -aarbr -aarbcr -aarbs -aars -su -sg -ss \
                   -rru -crru";
    let text = include_str!("../../../docs/from-kubiscan.md");
    for option in options.split_whitespace() {
        let span = format!("`{option}`");
        let row = text.lines().find(|l| {
            l.starts_with('|') && l.split('|').nth(1).is_some_and(|cell| cell.contains(&span))
        });
        assert!(row.is_some(), "{option}");
    }
}
