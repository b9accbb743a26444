//! Requests to the API server under one identity and nothing else.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Request;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// An answer of 400 and more, or why a good one is of no use.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Status code.
    pub(crate) status: u16,
    /// The server's words.
    pub(crate) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What follows the first line is a list of rules.
        let message = self.message.lines().next().unwrap_or_default();
        write!(f, "{}: {message}", self.status)
    }
}

/// What the server said.
pub(crate) type Outcome = Result<Value, Refusal>;

/// For one answer, by a server that may be about to die.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client.
#[derive(Clone)]
pub(crate) struct Caller {
    client: Client,
    headers: Vec<(&'static str, String)>,
}

impl Caller {
    /// A client with the cluster and the credentials of a kubeconfig.
    pub(crate) fn new(kubeconfig: Value) -> Self {
        let kubeconfig: Kubeconfig =
            serde_json::from_value(kubeconfig).expect("a kubeconfig is one");
        let client = runtime().block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .unwrap();
            Client::try_from(config).unwrap()
        });
        Self {
            client,
            headers: Vec::new(),
        }
    }

    /// The same credentials, with headers on every request.
    pub(crate) fn with_headers(&self, headers: &[(&'static str, &str)]) -> Self {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Self {
            client: self.client.clone(),
            headers: headers.collect(),
        }
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.send("GET", path, "application/json", &Value::Null)
    }

    /// POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.send("POST", path, "application/json", body)
    }

    /// PUT.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.send("PUT", path, "application/json", body)
    }

    /// DELETE.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, Refusal> {
        self.send("DELETE", path, "application/json", &Value::Null)
    }

    /// PATCH with a merge patch.
    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Result<Value, Refusal> {
        self.send("PATCH", path, "application/merge-patch+json", patch)
    }

    /// PATCH by server-side apply.
    pub(crate) fn apply(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        let path = format!("{path}?fieldManager=e2e");
        // JSON is YAML.
        self.send("PATCH", &path, "application/apply-patch+yaml", object)
    }

    /// POST, or why there was no answer.
    pub(crate) fn try_post(&self, path: &str, body: &Value) -> Result<Outcome, String> {
        self.try_send("POST", path, "application/json", body)
    }

    /// PATCH with a merge patch, or why there was no answer.
    pub(crate) fn try_merge(&self, path: &str, patch: &Value) -> Result<Outcome, String> {
        self.try_send("PATCH", path, "application/merge-patch+json", patch)
    }

    /// DELETE, or why there was no answer.
    pub(crate) fn try_delete(&self, path: &str) -> Result<Outcome, String> {
        self.try_send("DELETE", path, "application/json", &Value::Null)
    }

    fn send(&self, method: &str, path: &str, media: &str, body: &Value) -> Outcome {
        self.try_send(method, path, media, body)
            .unwrap_or_else(|e| panic!("the server answers: {e}"))
    }

    fn try_send(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<Outcome, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = request.body(Body::from(body)).expect("a valid request");
        let asking = async {
            let answer = self.client.send(request).await.map_err(|e| e.to_string())?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await;
            Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
        };
        let answered = runtime().block_on(async { timeout(PATIENCE, asking).await });
        let (status, body) =
            answered.unwrap_or_else(|_| Err(format!("no answer in {PATIENCE:?}")))?;
        let body: Value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| json!({"message": String::from_utf8_lossy(&body)}));
        if status < 400 {
            return Ok(Ok(body));
        }
        let message = body["message"].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refusal { status, message }))
    }
}

/// Where the clients of the tests live, which are not asynchronous themselves.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap())
}
