//! The client: which cluster, as whom.

use super::wire::chain;
use hyper::header::{HeaderValue, USER_AGENT};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use std::ffi::OsStr;
use std::path::Path;

/// Where an account's files are mounted.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the exporter names itself to the API server.
const AGENT: &str = concat!("rbac-exporter/", env!("CARGO_PKG_VERSION"));

/// No client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("cannot use {which}: {cause}; {advice}")]
    Kubeconfig {
        /// The kubeconfig that was tried, and why this one.
        which: String,
        /// The error with its causes.
        cause: String,
        /// What to do.
        advice: &'static str,
    },
    /// The pod's own account cannot be used.
    #[error(
        "cannot use the account mounted at {ACCOUNT}: {cause}; \
         name a kubeconfig in KUBECONFIG if this is not meant to run in the cluster"
    )]
    Account {
        /// The error with its causes.
        cause: String,
    },
    /// The configuration was read but no client can be made of it.
    #[error(
        "cannot make a client for {server}: {cause}; \
         check its certificate authority, credentials and proxy"
    )]
    Client {
        /// URL of the API server.
        server: String,
        /// The error with its causes.
        cause: String,
    },
}

/// Where the configuration comes from.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// A kubeconfig: the one in KUBECONFIG or the default one.
    Kubeconfig,
    /// The account mounted into the pod.
    Account,
}

/// What was asked for goes first, then what the pod has, then what the user has: a kubeconfig that
/// happens to lie in an image must not send the exporter to another cluster than its own.
fn origin(context: Option<&str>, variable: Option<&OsStr>, account: bool) -> Origin {
    let asked = context.is_some() || variable.is_some_and(|v| !v.is_empty());
    if account && !asked {
        Origin::Account
    } else {
        Origin::Kubeconfig
    }
}

/// Will the client speak for the account mounted into the pod, to the cluster that the pod is in?
pub(super) fn as_own_account(context: Option<&str>) -> bool {
    let variable = std::env::var_os("KUBECONFIG");
    let account = Path::new(ACCOUNT).join("token").exists();
    origin(context, variable.as_deref(), account) == Origin::Account
}

/// Makes the client: from the kubeconfig if `context` is given or `KUBECONFIG` is set, else from the
/// pod's own account if its files are there, else from the default kubeconfig.
pub async fn connect(context: Option<&str>) -> Result<Client, ConnectError> {
    let config = if as_own_account(context) {
        Config::incluster().map_err(|error| ConnectError::Account {
            cause: chain(&error),
        })?
    } else {
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let variable = std::env::var_os("KUBECONFIG");
        let config = Config::from_kubeconfig(&options).await;
        config.map_err(|error| kubeconfig_error(context, variable.as_deref(), &error))?
    };
    connect_with(config)
}

/// Makes the client from a configuration that is known already. Needs a tokio runtime around it.
pub fn connect_with(mut config: Config) -> Result<Client, ConnectError> {
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(AGENT)));
    // kube would repeat a request for minutes before it says that it failed. Failures are to be seen
    // and counted when they happen, and backed off from once.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|error| ConnectError::Client {
        server,
        cause: chain(&error),
    })
}

fn kubeconfig_error(
    context: Option<&str>,
    variable: Option<&OsStr>,
    error: &kube::config::KubeconfigError,
) -> ConnectError {
    let variable = variable.filter(|v| !v.is_empty());
    let file = match variable {
        Some(path) => format!(
            "the kubeconfig {} (from KUBECONFIG)",
            path.to_string_lossy()
        ),
        None => "the default kubeconfig ~/.kube/config".to_owned(),
    };
    ConnectError::Kubeconfig {
        which: match context {
            Some(context) => format!("context {context:?} of {file}"),
            None => file,
        },
        // the parser draws the place below its sentence, which has the line already
        cause: chain(error).lines().next().unwrap_or_default().to_owned(),
        advice: match (context, variable) {
            (Some(_), _) => "see `kubectl config get-contexts` for the contexts there are",
            (None, Some(_)) => {
                "correct or unset KUBECONFIG, or choose a context with --kube.context"
            }
            (None, None) => {
                "run in a cluster with a mounted account, set KUBECONFIG, \
                 or read manifests with --source.manifests"
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_goes_before_the_account_and_that_before_the_default() {
        let set = Some(OsStr::new("/a"));
        let empty = Some(OsStr::new(""));
        for (context, variable, account, expected) in [
            (None, None, true, Origin::Account),
            (None, empty, true, Origin::Account),
            (None, set, true, Origin::Kubeconfig),
            (Some("c"), None, true, Origin::Kubeconfig),
            (None, None, false, Origin::Kubeconfig),
        ] {
            assert_eq!(origin(context, variable, account), expected);
        }
    }

    #[test]
    fn errors_say_what_was_tried_and_what_to_do() {
        let cause = kube::config::KubeconfigError::CurrentContextNotSet;
        let text = |c, v| kubeconfig_error(c, v, &cause).to_string();
        assert_eq!(
            text(Some("prod"), None),
            "cannot use context \"prod\" of the default kubeconfig ~/.kube/config: failed to \
             determine current context; see `kubectl config get-contexts` for the contexts there are"
        );
        assert!(text(None, Some(OsStr::new("/x"))).contains("/x (from KUBECONFIG)"));
        assert!(text(None, None).contains("--source.manifests"));
        let broken = kube::config::Kubeconfig::from_yaml("clusters:\n- cluster: [\n").unwrap_err();
        let text = kubeconfig_error(None, None, &broken).to_string();
        assert!(text.contains("line 2") && !text.contains('\n'), "{text}");
    }
}
