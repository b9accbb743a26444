//! Finds the programs that are not ours.

use std::env;
use std::path::{Path, PathBuf};

/// The Kubernetes version of the parts, as `tests/parts/go.mod` states it.
pub(crate) fn kubernetes_version() -> &'static str {
    include_str!("../../parts/go.mod")
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .expect("go.mod requires k8s.io/kubernetes")
}

/// One of the parts that `tests/parts` builds; `KUBEBUILDER_ASSETS` goes first, as envtest users
/// expect.
///
/// # Panics
///
/// When it is in neither place: a check that was skipped in silence would look passed.
pub(crate) fn kubernetes(part: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/parts")
        .join(kubernetes_version());
    let places = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    places
        .into_iter()
        .chain([built])
        .map(|place| place.join(part))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{part} {} is missing: run `make parts`, which needs Go, or set \
                 KUBEBUILDER_ASSETS to a directory that holds it",
                kubernetes_version()
            )
        })
}

/// A program of Debian's package `prometheus`.
///
/// # Panics
///
/// When `PATH` does not hold it.
pub(crate) fn prometheus(program: &str) -> PathBuf {
    env::var_os("PATH")
        .iter()
        .flat_map(env::split_paths)
        .map(|place| place.join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{program} is missing from PATH: install Prometheus 2.42 or newer (on Debian: \
                 apt-get install prometheus)"
            )
        })
}
