//! The client: which cluster, as whom.

use super::wire::chain;
use arc_swap::ArcSwap;
use hyper::Uri;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use kube::client::middleware::AuthLayer;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tower::BoxError;
use tower::util::MapErrLayer;

/// Where an account's files are mounted.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the exporter names itself to the API server.
const AGENT: &str = concat!("rbac-exporter/", env!("CARGO_PKG_VERSION"));

/// A connection at rest is asked for a sign of life after this time, and then this often: a peer that
/// is gone without a word is noticed within 45 s, on a quiet watch too.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// What was sent must be acknowledged within this time, for a peer that went in the middle of a request.
#[cfg(any(target_os = "linux", target_os = "android"))]
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(45);

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
    /// What the client was made of now names another server.
    #[error(
        "the configuration names {now} instead of {before}; it is not followed there, \
         restart to judge another cluster"
    )]
    Moved {
        /// The server that is watched.
        before: String,
        /// The one that is named.
        now: String,
    },
}

/// The way into a cluster. Credentials that changed on disk, expired or are made by a plugin are taken
/// up by making the client anew, which the drivers ask for when the server or TLS refused one of them.
#[derive(Clone)]
pub struct Access {
    clients: Arc<ArcSwap<Clients>>,
    origin: Option<Arc<Origins>>,
}

/// The client of the drivers, and one with connections of its own.
struct Clients {
    watching: Client,
    beside: OnceLock<Client>,
    /// Makes the one beside.
    another: Option<Remake>,
}

/// Makes a client with the same credentials.
type Remake = Box<dyn Fn() -> Result<Client, ConnectError> + Send + Sync>;

/// What a client is made of.
struct Origins {
    context: Option<String>,
    server: Uri,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// By one client for good.
    pub fn fixed(client: Client) -> Access {
        Access {
            clients: Arc::new(ArcSwap::from_pointee(Clients {
                watching: client,
                beside: OnceLock::new(),
                another: None,
            })),
            origin: None,
        }
    }

    /// The client of now. Streams that an older one opened go on.
    pub fn client(&self) -> Client {
        self.clients.load().watching.clone()
    }

    /// One that shares no connection with the drivers, whose thread sleeps between changes
    /// ([`Cluster::apart`](super::Cluster::apart)); for whoever waits for an answer. Needs a tokio runtime around it.
    pub fn beside(&self) -> Client {
        let clients = self.clients.load();
        let make = || {
            let another = clients.another.as_ref().map(|another| another());
            // the drivers' own answers, if later
            another
                .and_then(Result::ok)
                .unwrap_or_else(|| clients.watching.clone())
        };
        clients.beside.get_or_init(make).clone()
    }

    /// Reads the configuration again, runs its plugin again, and uses what comes of it from now on. The
    /// client stays as it is when that fails, and when the configuration has come to name another server:
    /// two clusters must not be taken for one.
    pub(super) async fn renew(&self) -> Result<(), ConnectError> {
        let Some(origin) = self.origin.clone() else {
            return Ok(());
        };
        let (clients, server) = make(origin.context.clone()).await?;
        if server != origin.server {
            return Err(ConnectError::Moved {
                before: origin.server.to_string(),
                now: server.to_string(),
            });
        }
        self.clients.store(Arc::new(clients));
        Ok(())
    }
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

/// Opens the way in: by the kubeconfig if `context` is given or `KUBECONFIG` is set, else by the pod's
/// own account if its files are there, else by the default kubeconfig. A credential plugin is run for it,
/// which may take any time.
pub async fn connect(context: Option<&str>) -> Result<Access, ConnectError> {
    let context = context.map(str::to_owned);
    let (clients, server) = make(context.clone()).await?;
    Ok(Access {
        clients: Arc::new(ArcSwap::from_pointee(clients)),
        origin: Some(Arc::new(Origins { context, server })),
    })
}

/// Off the event loop: kube waits for plugins where it is called.
async fn make(context: Option<String>) -> Result<(Clients, Uri), ConnectError> {
    let runtime = Handle::current();
    let making = spawn_blocking(move || {
        let config = runtime.block_on(config(context.as_deref()))?;
        let server = config.cluster_url.clone();
        Ok((clients(config)?, server))
    });
    match making.await {
        Ok(made) => made,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

async fn config(context: Option<&str>) -> Result<Config, ConnectError> {
    if as_own_account(context) {
        Config::incluster().map_err(|error| ConnectError::Account {
            cause: chain(&error),
        })
    } else {
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let variable = std::env::var_os("KUBECONFIG");
        let config = Config::from_kubeconfig(&options).await;
        config.map_err(|error| kubeconfig_error(context, variable.as_deref(), &error))
    }
}

/// Makes the client from a configuration that is known already. Needs a tokio runtime around it.
pub fn connect_with(config: Config) -> Result<Client, ConnectError> {
    Ok(clients(config)?.watching)
}

fn clients(mut config: Config) -> Result<Clients, ConnectError> {
    config
        .headers
        .push((USER_AGENT, HeaderValue::from_static(AGENT)));
    let server = config.cluster_url.to_string();
    let failed = move |error: kube::Error| ConnectError::Client {
        server: server.clone(),
        cause: chain(&error),
    };
    // once: a plugin is run for it
    let credentials = config.auth_layer().map_err(&failed)?;
    Ok(Clients {
        watching: client(&config, credentials.as_ref()).map_err(&failed)?,
        beside: OnceLock::new(),
        another: Some(Box::new(move || {
            client(&config, credentials.as_ref()).map_err(&failed)
        })),
    })
}

/// As kube makes its own, but with keepalive, and without its retries: those would repeat a request for
/// minutes before anybody hears that it failed, and failures are to be seen, counted and backed off from
/// when they happen.
fn client(config: &Config, credentials: Option<&AuthLayer>) -> kube::Result<Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    #[cfg(any(target_os = "linux", target_os = "android"))]
    tcp.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN));
    let Some(proxy) = &config.proxy_url else {
        let connector = config.rustls_https_connector_with_connector(tcp)?;
        return finish(connector, config, credentials);
    };
    let matcher = Matcher::builder().all(proxy.to_string()).build();
    let unsupported = || kube::Error::ProxyProtocolUnsupported {
        proxy_url: Box::new(proxy.clone()),
    };
    let through = matcher
        .intercept(&config.cluster_url)
        .ok_or_else(unsupported)?;
    let at = through.uri().clone();
    match (proxy.scheme_str(), through.basic_auth()) {
        (Some("socks5"), _) => {
            let mut socks = SocksV5::new(at, tcp);
            if let Some((user, password)) = through.raw_auth() {
                socks = socks.with_auth(user.to_owned(), password.to_owned());
            }
            let connector = config.rustls_https_connector_with_connector(socks)?;
            finish(connector, config, credentials)
        }
        (Some("http"), auth) => {
            let mut tunnel = Tunnel::new(at, tcp);
            if let Some(auth) = auth {
                tunnel = tunnel.with_auth(auth.clone());
            }
            let connector = config.rustls_https_connector_with_connector(tunnel)?;
            finish(connector, config, credentials)
        }
        (Some("https"), auth) => {
            let mut tunnel = Tunnel::new(at, config.rustls_https_connector_with_connector(tcp)?);
            if let Some(auth) = auth {
                tunnel = tunnel.with_auth(auth.clone());
            }
            let connector = config.rustls_https_connector_with_connector(tunnel)?;
            finish(connector, config, credentials)
        }
        _ => Err(unsupported()),
    }
}

/// What is read of a connection at a time. There is one for each resource, and each keeps its buffer at the size
/// to which a list made it grow: 400 KiB unless told otherwise.
const READ_BUFFER: usize = 64 << 10;

/// What goes above the connection: address, credentials, headers.
fn finish<C>(connector: C, config: &Config, credentials: Option<&AuthLayer>) -> kube::Result<Client>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let service = legacy::Client::builder(TokioExecutor::new())
        .http1_max_buf_size(READ_BUFFER)
        .build::<_, Body>(connector);
    let stack = ClientBuilder::new(service, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer()?);
    let address = config.base_uri_layer();
    Ok(match credentials {
        Some(credentials) => stack.with_layer(credentials).with_layer(&address).build(),
        None => stack.with_layer(&address).build(),
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
