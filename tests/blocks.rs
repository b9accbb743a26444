//! The commands that documents show. The second word after the fence says what they need:
//!
//! - none: the binary alone. `cargo test` runs them.
//! - `cluster`: an API server, and the tools that people have beside one. `make e2e` runs them.
//! - `files`: files of this project, which they change. `make e2e` runs them on a copy.
//! - `alertmanager`: an Alertmanager. `make e2e` runs them.
//! - `installed`: pods that run, for which a kubelet and an image are needed. Nothing here can run them.
//! - `build`: a builder, or the compiler for minutes. Nothing here runs them; CI takes the same steps by
//!   `make`.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use std::fs;
use std::path::{Path, PathBuf};

/// Commands in a document.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The document and the number of the block in it.
    pub(crate) place: String,
    /// See the module.
    pub(crate) needs: String,
    /// What a shell is given.
    pub(crate) script: String,
}

/// Every document that people read.
pub(crate) fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.canonicalize().unwrap();
    let folders = ["docs", "deploy", "alerts", "dashboards", "fuzz"];
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    let files = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ];
    let mut files: Vec<PathBuf> = files.iter().map(|file| root.join(file)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The commands of all of them.
pub(crate) fn blocks() -> Vec<Block> {
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let shells = of(&text).into_iter().enumerate();
        shells
            .map(|(i, (needs, script))| Block {
                place: format!("{}, block {}", path.display(), i + 1),
                needs,
                script,
            })
            .collect::<Vec<_>>()
    };
    documents().into_iter().flat_map(read).collect()
}

fn of(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut open: Option<(String, String)> = None;
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let (language, needs) = info.split_once(' ').unwrap_or((&info, ""));
                if ["sh", "bash", "shell"].contains(&language) {
                    open = Some((needs.to_owned(), String::new()));
                }
            }
            Event::Text(part) => {
                if let Some((_, script)) = &mut open {
                    script.push_str(&part);
                }
            }
            Event::End(TagEnd::CodeBlock) => out.extend(open.take()),
            _ => {}
        }
    }
    out
}
