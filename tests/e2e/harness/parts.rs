//! Finds the programs that are not ours.

use std::env;
use std::path::{Path, PathBuf};

/// A Kubernetes version that `tests/parts` builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// The newest that is supported, whole.
    Newest,
    /// The oldest; only its API server, as nothing else differs that we look at.
    Oldest,
}

impl Release {
    /// Its version, as the `go.mod` of its module states it.
    pub(crate) fn version(self) -> &'static str {
        let module = match self {
            Self::Newest => include_str!("../../parts/go.mod"),
            Self::Oldest => include_str!("../../parts/v1.33/go.mod"),
        };
        module
            .lines()
            .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
            .expect("go.mod requires k8s.io/kubernetes")
    }

    /// One of its parts; `KUBEBUILDER_ASSETS` goes first, as envtest users expect.
    ///
    /// # Panics
    ///
    /// When it is in neither place: a check that was skipped in silence would look passed.
    pub(crate) fn part(self, part: &str) -> PathBuf {
        let built = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("target/parts")
            .join(self.version());
        let inside = match self {
            Self::Newest => "",
            Self::Oldest => "v1.33",
        };
        let places = env::var_os("KUBEBUILDER_ASSETS").map(|place| Path::new(&place).join(inside));
        places
            .into_iter()
            .chain([built])
            .map(|place| place.join(part))
            .find(|path| path.is_file())
            .unwrap_or_else(|| {
                panic!(
                    "{part} {} is missing: run `make parts`, which needs Go, or set \
                     KUBEBUILDER_ASSETS to a directory that holds it",
                    self.version()
                )
            })
    }
}

/// A part of the newest version.
pub(crate) fn kubernetes(part: &str) -> PathBuf {
    Release::Newest.part(part)
}

/// A directory with the CustomResourceDefinitions of the Prometheus Operator that the chart uses.
///
/// # Panics
///
/// When `make parts` has not put it there.
pub(crate) fn operator_crds() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/parts")
        .join(Release::Newest.version());
    let newest = std::fs::read_dir(built)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("crds-"))
        })
        .max();
    newest.expect("the Prometheus Operator's CRDs are missing: run `make parts`, which needs Go")
}

/// A program of Debian's package `prometheus`.
///
/// # Panics
///
/// When `PATH` does not hold it.
pub(crate) fn prometheus(program: &str) -> PathBuf {
    on_path(&[program], "Prometheus 2.42 or newer", "prometheus")
}

/// `alertmanager`, or `amtool`, of Debian's package `prometheus-alertmanager`, which calls the first otherwise than its
/// makers do.
///
/// # Panics
///
/// When `PATH` does not hold it.
pub(crate) fn alertmanager(program: &str) -> PathBuf {
    let debian = format!("prometheus-{program}");
    on_path(
        &[program, &debian],
        "Alertmanager 0.25 or newer",
        "prometheus-alertmanager",
    )
}

/// A program that `PATH` may or may not hold.
pub(crate) fn on_path_if_there(name: &str) -> Option<PathBuf> {
    let places = env::var_os("PATH");
    let places = places.iter().flat_map(env::split_paths);
    places
        .map(|place| place.join(name))
        .find(|path| path.is_file())
}

fn on_path(names: &[&str], what: &str, package: &str) -> PathBuf {
    let found = names.iter().find_map(|name| on_path_if_there(name));
    found.unwrap_or_else(|| {
        panic!(
            "{} is missing from PATH: install {what} (on Debian: apt-get install {package})",
            names[0]
        )
    })
}
