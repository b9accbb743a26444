//! Manifests: objects written down in files, as a source of changes.
//!
//! What a cluster would make of them is read, no more: pods as they are when a server has admitted
//! them, and otherwise as admission would make them from a pod or the template of a workload.
//! Whatever cannot be read is a problem with its place, and costs nothing but itself; on a later
//! reading it also keeps what it gave before.

mod file;
mod kinds;

use crate::ledger::{Change, Problem, Severity};
use crate::object::{Object, Resource, Workload};
use crate::source::slim::{Content, Template, Workloads};
use file::{Entry, Key, Parsed};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file; a larger one is a problem and is not read further.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            file_bytes: 256 << 20,
        }
    }
}

/// Why the manifests as a whole could not be read. Whatever is wrong with a single file is among
/// the problems of a [`Reading`] instead.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is nothing at the path.
    #[error(
        "manifests path {0:?} does not exist; give a file, a directory, or - for standard input"
    )]
    Missing(String),
    /// The path is there but cannot be looked at.
    #[error("manifests path {path:?} cannot be read: {source}; make it readable for this user")]
    Unreadable {
        /// The path as given.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// Everything the manifests hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Objects by resource, namespace and name, each once.
    pub objects: Vec<Object>,
    /// What could not be read, and what looks like a mistake, by file, document and line.
    pub problems: Vec<Problem>,
    /// Objects of other kinds by `apiVersion/kind`.
    pub skipped: BTreeMap<String, u64>,
}

/// Reads one stream of documents that is in memory; `name` stands for its file.
pub fn parse(name: &str, text: &[u8]) -> Reading {
    assemble(
        &[&file::read(name, file::DEFAULT_NAMESPACE, text)],
        Vec::new(),
        &Accounts::new(),
    )
}

/// How far a reading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadSoFar {
    /// Files begun.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Bytes that there were to read when the reading began; 0 when that is not known.
    pub of: u64,
}

/// Is told how far a reading has come.
struct Watcher(Box<dyn Fn(ReadSoFar) + Send>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// Service accounts by namespace and name, with their `automountServiceAccountToken`.
pub type Accounts = BTreeMap<(String, String), Option<bool>>;

/// Manifests at a path, read again whenever they are asked for.
#[derive(Debug)]
pub struct Manifests {
    path: String,
    root: Root,
    limits: Limits,
    /// Of objects that name none.
    namespace: String,
    /// Accounts that pods may run under beside those of the manifests.
    accounts: Accounts,
    watcher: Option<Watcher>,
    so_far: Cell<ReadSoFar>,
    files: BTreeMap<PathBuf, File>,
    /// Problems of directories.
    walk: Vec<Problem>,
    announced: bool,
}

#[derive(Debug)]
enum Root {
    /// Standard input or a pipe, which can be read once.
    Stream { read: bool },
    /// A file or a directory.
    Path,
}

/// A file as last read.
#[derive(Debug)]
struct File {
    stamp: Stamp,
    hash: Option<[u8; 32]>,
    parsed: Parsed,
}

/// When two are equal and `settled`, so are the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    /// The last write lies so far back that a later one would show in the time.
    settled: bool,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        /// Coarser than the clock of any file system still in use.
        const TICK: Duration = Duration::from_secs(2);
        let modified = metadata.modified().ok();
        let age = modified.and_then(|time| SystemTime::now().duration_since(time).ok());
        Stamp {
            size: metadata.len(),
            modified,
            settled: age.is_some_and(|age| age > TICK),
        }
    }

    /// Nothing has been written since `self` was taken.
    fn still(self, now: Stamp) -> bool {
        self.settled && self.size == now.size && self.modified == now.modified
    }
}

impl Manifests {
    /// Manifests in a file, in all `*.yaml`, `*.yml` and `*.json` files of a directory and the
    /// directories below it, or on standard input (`-`). Nothing is read yet.
    ///
    /// # Errors
    ///
    /// When there is nothing at the path or it cannot be looked at.
    pub fn open(path: &str, limits: Limits) -> Result<Self, ReadError> {
        let stream = path == "-" || {
            let found = stat(path)?;
            !found.is_file() && !found.is_dir()
        };
        Ok(Manifests {
            path: path.to_owned(),
            root: if stream {
                Root::Stream { read: false }
            } else {
                Root::Path
            },
            limits,
            namespace: file::DEFAULT_NAMESPACE.to_owned(),
            accounts: Accounts::new(),
            watcher: None,
            so_far: Cell::default(),
            files: BTreeMap::new(),
            walk: Vec::new(),
            announced: false,
        })
    }

    /// Puts objects that name no namespace there, as `kubectl --namespace` does; else they go to
    /// `default`. To be called before anything is read.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// Predicts pods as if these accounts existed, where the manifests do not have them themselves.
    #[must_use]
    pub fn beside(mut self, accounts: Accounts) -> Self {
        self.accounts = accounts;
        self
    }

    /// Tells somebody how far each reading has come, many times a second.
    #[must_use]
    pub fn watched_by(mut self, watcher: impl Fn(ReadSoFar) + Send + 'static) -> Self {
        self.watcher = Some(Watcher(Box::new(watcher)));
        self
    }

    /// Reads what has changed and gives everything.
    ///
    /// # Errors
    ///
    /// When there is nothing at the path any more; what was read before is kept for the next call.
    pub fn read(&mut self) -> Result<Reading, ReadError> {
        self.refresh()?;
        Ok(self.reading())
    }

    /// Everything as changes, or `None` when nothing has changed since the last call.
    ///
    /// # Errors
    ///
    /// When there is nothing at the path any more; what was read before is kept for the next call.
    pub fn changes(&mut self) -> Result<Option<Vec<Change>>, ReadError> {
        if !self.refresh()? && self.announced {
            return Ok(None);
        }
        self.announced = true;
        let reading = self.reading();
        let mut changes: Vec<Change> = Resource::ALL.map(Change::RelistBegin).into();
        changes.extend(reading.objects.into_iter().map(Change::Upsert));
        changes.extend(Resource::ALL.map(Change::RelistEnd));
        changes.push(Change::Problems(reading.problems));
        changes.push(Change::Skipped(reading.skipped));
        Ok(Some(changes))
    }

    fn reading(&self) -> Reading {
        let files: Vec<&Parsed> = self.files.values().map(|file| &file.parsed).collect();
        assemble(&files, self.walk.clone(), &self.accounts)
    }

    /// Reads what has changed; whether anything has.
    fn refresh(&mut self) -> Result<bool, ReadError> {
        if let Root::Stream { read } = self.root {
            if read {
                return Ok(false);
            }
            let (hash, parsed) = if self.path == "-" {
                self.load(&self.path, io::stdin().lock())
            } else {
                let opened = fs::File::open(&self.path);
                let stream = opened.map_err(|source| ReadError::Unreadable {
                    path: self.path.clone(),
                    source,
                })?;
                self.load(&self.path, stream)
            };
            self.root = Root::Stream { read: true };
            let stamp = Stamp {
                size: 0,
                modified: None,
                settled: false,
            };
            let file = File {
                stamp,
                hash,
                parsed,
            };
            self.files.insert(PathBuf::from(&self.path), file);
            return Ok(true);
        }
        let found = stat(&self.path)?;
        let mut tree = Tree::default();
        if found.is_dir() {
            tree.walk(Path::new(&self.path));
            if tree.files.is_empty() && tree.problems.is_empty() {
                let message =
                    "the directory holds no *.yaml, *.yml or *.json file; put the manifests there";
                tree.problem(Path::new(&self.path), message);
            }
        } else {
            tree.files.insert(PathBuf::from(&self.path));
        }
        if self.watcher.is_some() {
            let size = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.len());
            self.so_far.set(ReadSoFar {
                of: tree.files.iter().map(size).sum(),
                ..ReadSoFar::default()
            });
        }
        let mut changed = tree.problems != self.walk;
        self.walk = tree.problems;
        let gone = |path: &PathBuf| {
            let hidden = tree.unreadable.iter().any(|dir| path.starts_with(dir));
            !tree.files.contains(path) && !hidden
        };
        let before = self.files.len();
        self.files.retain(|path, _| !gone(path));
        changed |= self.files.len() != before;
        for path in tree.files {
            changed |= self.refresh_file(path);
        }
        Ok(changed)
    }

    /// Reads one file if it has changed; whether it has.
    fn refresh_file(&mut self, path: PathBuf) -> bool {
        let name = path.display().to_string();
        let earlier = self.files.get(&path);
        let (stamp, hash, mut parsed) = match open_file(&path) {
            Ok(None) => return self.files.remove(&path).is_some(),
            Ok(Some((stamp, opened))) => {
                if earlier.is_some_and(|file| file.hash.is_some() && file.stamp.still(stamp)) {
                    return false;
                }
                if stamp.size > self.limits.file_bytes {
                    (
                        stamp,
                        None,
                        file::unreadable(&name, &too_large(self.limits)),
                    )
                } else {
                    let known = earlier.and_then(|file| file.hash);
                    if known.is_some() && digest(&path).ok() == known {
                        if let Some(file) = self.files.get_mut(&path) {
                            file.stamp = stamp;
                        }
                        return false;
                    }
                    let (hash, parsed) = self.load(&name, opened);
                    (stamp, hash, parsed)
                }
            }
            Err(error) => {
                let stamp = Stamp {
                    size: 0,
                    modified: None,
                    settled: false,
                };
                let message =
                    format!("the file cannot be read: {error}; make it readable for this user");
                (stamp, None, file::unreadable(&name, &message))
            }
        };
        let mut changed = true;
        if let Some(earlier) = self.files.remove(&path) {
            // Still as unreadable as it was.
            changed = hash.is_some()
                || earlier.hash.is_some()
                || earlier.parsed.problems != parsed.problems;
            parsed.keep(earlier.parsed);
        }
        let file = File {
            stamp,
            hash,
            parsed,
        };
        self.files.insert(path, file);
        changed
    }

    fn passed(&self, bytes: u64) {
        let mut so_far = self.so_far.get();
        so_far.bytes += bytes;
        self.so_far.set(so_far);
        if let Some(watcher) = &self.watcher {
            (watcher.0)(so_far);
        }
    }

    /// Parses a stream, and gives its hash when it was read to its end.
    fn load(&self, name: &str, from: impl Read) -> (Option<[u8; 32]>, Parsed) {
        let mut bounded = Bounded {
            from,
            left: self.limits.file_bytes,
            limits: self.limits,
            hash: Sha256::new(),
            whole: false,
            passed: &|bytes| self.passed(bytes),
        };
        let ReadSoFar { files, .. } = self.so_far.get();
        self.so_far.set(ReadSoFar {
            files: files + 1,
            ..self.so_far.get()
        });
        let reader = BufReader::with_capacity(64 << 10, &mut bounded);
        let parsed = file::read(name, &self.namespace, reader);
        let hash = bounded.whole.then(|| bounded.hash.finalize().into());
        (hash, parsed)
    }
}

fn stat(path: &str) -> Result<Metadata, ReadError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing(path.to_owned()),
        _ => ReadError::Unreadable {
            path: path.to_owned(),
            source,
        },
    })
}

/// Opens a regular file; `None` when it is gone or is none (a pipe would never end).
fn open_file(path: &Path) -> io::Result<Option<(Stamp, fs::File)>> {
    let found = (|| {
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let file = fs::File::open(path)?;
        let stamp = Stamp::of(&file.metadata()?);
        Ok(Some((stamp, file)))
    })();
    match found {
        Err(error) if io::Error::kind(&error) == io::ErrorKind::NotFound => Ok(None),
        found => found,
    }
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn too_large(limits: Limits) -> String {
    format!(
        "the file is larger than {} MiB; split it into several",
        limits.file_bytes >> 20
    )
}

/// Counts and hashes what passes.
struct Bounded<'a, R> {
    from: R,
    left: u64,
    limits: Limits,
    hash: Sha256,
    whole: bool,
    /// Is told how many bytes have passed.
    passed: &'a dyn Fn(u64),
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(too_large(self.limits)))?;
        self.hash.update(&buffer[..read]);
        (self.passed)(read as u64);
        self.whole = read == 0;
        Ok(read)
    }
}

/// The files of a directory.
#[derive(Default)]
struct Tree {
    files: BTreeSet<PathBuf>,
    problems: Vec<Problem>,
    /// Directories whose content is unknown at the moment, which is not to say gone.
    unreadable: Vec<PathBuf>,
    /// Files and directories already met, without symbolic links: a mounted ConfigMap holds each
    /// file three times over.
    met: BTreeSet<PathBuf>,
}

impl Tree {
    fn walk(&mut self, directory: &Path) {
        let listed = fs::canonicalize(directory).and_then(|real| {
            if !self.met.insert(real) {
                return Ok(Vec::new());
            }
            let entries = fs::read_dir(directory)?;
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        });
        let mut paths: Vec<PathBuf> = match listed {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!(
                    "the directory cannot be read: {error}; make it readable for this user"
                );
                self.problem(directory, &message);
                self.unreadable.push(directory.to_owned());
                return;
            }
        };
        paths.sort_unstable();
        for path in paths {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let manifest = path.extension().is_some_and(|extension| {
                ["yaml", "yml", "json"]
                    .iter()
                    .any(|known| extension == *known)
            });
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() && !hidden => self.walk(&path),
                Ok(found) if found.is_file() && manifest => {
                    if let Ok(real) = fs::canonicalize(&path)
                        && self.met.insert(real)
                    {
                        self.files.insert(path);
                    }
                }
                Ok(_) => {}
                // A link to nowhere, or gone since the directory was listed.
                Err(_) if manifest && path.is_symlink() => {
                    self.problem(&path, "the link leads nowhere; mend or delete it");
                    self.unreadable.push(path);
                }
                Err(_) => {}
            }
        }
    }

    fn problem(&mut self, path: &Path, message: &str) {
        let name = path.display().to_string();
        self.problems
            .extend(file::unreadable(&name, message).problems);
    }
}

/// Puts files together: the last of several definitions counts, and pods are predicted.
fn assemble(files: &[&Parsed], mut problems: Vec<Problem>, accounts: &Accounts) -> Reading {
    let mut reading = Reading::default();
    let mut entries: BTreeMap<&Key, &Entry> = BTreeMap::new();
    for file in files {
        problems.extend_from_slice(&file.problems);
        for (kind, count) in &file.skipped {
            *reading.skipped.entry(kind.clone()).or_default() += count;
        }
        for entry in &file.entries {
            if let Some(earlier) = entries.insert(&entry.key, entry) {
                problems.push(redefined(earlier, entry));
            }
        }
    }
    problems.sort_by(|a, b| {
        let place = |problem: &'_ Problem| (problem.document, problem.line);
        let files = a.file.cmp(&b.file);
        files
            .then_with(|| place(a).cmp(&place(b)))
            .then_with(|| a.cmp(b))
    });
    reading.problems = problems;
    let mut templates = Vec::new();
    for entry in entries.values() {
        match &entry.content {
            Content::Object(object) => reading.objects.push(object.clone()),
            Content::Template(template) => templates.push(&**template),
        }
    }
    predict(&templates, accounts, &mut reading.objects);
    reading.objects.sort_by(|a, b| {
        let (one, two) = (a.meta(), b.meta());
        let resources = a.resource().cmp(&b.resource());
        resources
            .then_with(|| one.namespace.cmp(&two.namespace))
            .then_with(|| one.name.cmp(&two.name))
    });
    reading
}

fn redefined(earlier: &Entry, later: &Entry) -> Problem {
    let Key {
        kind,
        namespace,
        name,
    } = &later.key;
    let (first, second) = (&earlier.origin, &later.origin);
    Problem {
        severity: Severity::Warning,
        file: Some(second.file.to_string()),
        document: Some(second.document),
        line: Some(second.line),
        kind: Some((*kind).to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.clone()),
        name: Some(name.clone()),
        message: super::slim::clean(&format!(
            "{kind} {name:?} is defined in {:?} line {} and again in {:?} line {}; the last one counts, so delete the other",
            first.file, first.line, second.file, second.line
        )),
    }
}

/// Adds the pods that admission would make of pods that no server has seen, and of the templates
/// of workloads that have no pod here.
fn predict(templates: &[&Template], accounts: &Accounts, objects: &mut Vec<Object>) {
    let mut automount = accounts.clone();
    let mut covered = Workloads::new();
    let mut names = BTreeSet::new();
    for object in objects.iter() {
        match object {
            Object::ServiceAccount(account) => {
                let meta = &account.meta;
                let name = (meta.namespace.clone(), meta.name.clone());
                automount.insert(name, account.automount);
            }
            Object::Pod(pod) => {
                names.insert((pod.meta.namespace.clone(), pod.meta.name.clone()));
                let workload = pod.workload.clone();
                covered.extend(workload.map(|owner| (pod.meta.namespace.clone(), owner)));
            }
            _ => {}
        }
    }
    let account = |template: &Template| {
        let name = (
            template.meta.namespace.clone(),
            template.account().to_owned(),
        );
        automount.get(&name).copied().flatten()
    };
    let (pods, workloads): (Vec<&&Template>, Vec<_>) = templates
        .iter()
        .partition(|template| template.kind == "Pod");
    for template in pods {
        let namespace = &template.meta.namespace;
        names.insert((namespace.clone(), template.meta.name.clone()));
        let workload = template.workload.clone();
        covered.extend(workload.map(|owner| (namespace.clone(), owner)));
        let pod = (*template).clone().predicted(account(template));
        objects.push(Object::Pod(Box::new(pod)));
    }
    let itself = |template: &Template| {
        let workload = Workload {
            kind: template.kind.to_owned(),
            name: template.meta.name.clone(),
        };
        (template.meta.namespace.clone(), workload)
    };
    let present: Workloads = workloads.iter().map(|template| itself(template)).collect();
    for template in workloads {
        let namespace = &template.meta.namespace;
        // What another workload here makes is that one's to predict.
        let Some(owner) = template.workload.clone() else {
            continue;
        };
        let owner = (namespace.clone(), owner);
        let made = owner != itself(template) && present.contains(&owner);
        if template.idle || made || !covered.insert(owner) {
            continue;
        }
        let mut pod = (*template).clone().predicted(account(template));
        if !names.insert((namespace.clone(), pod.meta.name.clone())) {
            // No object has a slash in its name, so this one is free.
            pod.meta.name = format!("{}/{}", template.kind.to_lowercase(), pod.meta.name);
        }
        objects.push(Object::Pod(Box::new(pod)));
    }
}
