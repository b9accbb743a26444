//! Links between the documents lead somewhere.

use super::{documents, root};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The anchors that GitHub gives to headings, and those that a document writes itself.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let slug = slug(&heading.take().unwrap_or_default());
                let mut anchor = slug.clone();
                for n in 1.. {
                    if out.insert(anchor.clone()) {
                        break;
                    }
                    anchor = format!("{slug}-{n}");
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                for attribute in [" id=\"", " name=\""] {
                    let found = html.split(attribute).skip(1);
                    out.extend(found.filter_map(|s| Some(s.split_once('"')?.0.to_owned())));
                }
            }
            _ => {}
        }
    }
    out
}

fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c if c.is_alphanumeric() => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Targets of links and images.
fn targets(text: &str) -> Vec<String> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
        .filter_map(|event| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some(dest_url.to_string())
            }
            _ => None,
        })
        .collect()
}

/// What is wrong with a link; nothing for one to another site.
fn wrong(
    target: &str,
    of: &Path,
    own: &str,
    known: &mut BTreeMap<PathBuf, BTreeSet<String>>,
) -> Option<&'static str> {
    if target.contains("://") {
        return target.starts_with("http://").then_some("not by HTTPS");
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = match path {
        "" => of.to_owned(),
        path => of.parent().unwrap_or(of).join(path),
    };
    let Ok(real) = file.canonicalize() else {
        return Some("there is no such file");
    };
    if !real.starts_with(root()) {
        return Some("leads out of the repository");
    }
    if anchor.is_empty() {
        return None;
    }
    let there = known.entry(real).or_insert_with_key(|real| match path {
        "" => anchors(own),
        _ => anchors(&fs::read_to_string(real).unwrap_or_default()),
    });
    (!there.contains(anchor)).then_some("there is no such heading")
}

#[test]
fn every_link_leads_somewhere() {
    let mut known = BTreeMap::new();
    let (mut seen, mut broken) = (0, Vec::new());
    for (path, text) in documents() {
        for target in targets(&text) {
            seen += 1;
            if let Some(why) = wrong(&target, &path, &text, &mut known) {
                broken.push(format!("{}: {target}: {why}", path.display()));
            }
        }
    }
    assert!(seen > 90, "{seen} links");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Somebody who reads the README can come to every other document.
#[test]
fn every_document_is_found_from_the_readme() {
    let texts: BTreeMap<PathBuf, String> = documents().collect();
    let mut reached = BTreeSet::from([root().join("README.md")]);
    let mut next: Vec<PathBuf> = reached.iter().cloned().collect();
    while let Some(path) = next.pop() {
        for target in targets(&texts[&path]) {
            let file = target.split('#').next().unwrap_or_default();
            let to = path.parent().unwrap_or(&path).join(file);
            let Ok(to) = to.canonicalize() else { continue };
            // a folder is shown with its README, or else as a list of what it holds
            let inside =
                |p: &&PathBuf| **p == to || p.parent() == Some(&*to) || **p == to.join("README.md");
            let found: Vec<&PathBuf> = texts.keys().filter(inside).collect();
            for to in found {
                if reached.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
    }
    let lost: Vec<&PathBuf> = texts.keys().filter(|p| !reached.contains(*p)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn a_broken_link_is_noticed() {
    let text =
        "# One `two`\n[a](#one-two) [b](#three) [c](nowhere.md) ![d](Cargo.toml) [e](../x)\n";
    let of = root().join("README.md");
    let found: Vec<_> = targets(text)
        .iter()
        .map(|t| wrong(t, &of, text, &mut BTreeMap::new()))
        .collect();
    assert_eq!(
        found,
        [
            None,
            Some("there is no such heading"),
            Some("there is no such file"),
            None,
            Some("there is no such file")
        ]
    );
}
