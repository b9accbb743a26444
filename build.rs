//! Names the commit in the version, where there is one to name.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RBAC_EXPORTER_REVISION");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let given = std::env::var("RBAC_EXPORTER_REVISION")
        .ok()
        .filter(|r| !r.is_empty());
    let revision = given.or_else(|| {
        let git = Command::new("git")
            .args(["rev-parse", "--short=12", "HEAD"])
            .output()
            .ok()?;
        let text = String::from_utf8(git.stdout).ok()?;
        git.status.success().then(|| text.trim().to_owned())
    });
    let revision = revision.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=RBAC_EXPORTER_REVISION={revision}");
}
