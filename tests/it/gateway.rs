//! A gateway for one test: its own ports, its own configuration, stopped when dropped.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use flowgate_client::{CallOptions, Client};
use flowgate_server::{
    Gateway, Listeners,
    config::{self, Config, LoadOptions, Process, Source},
    error::Result,
};
use http::{HeaderMap, HeaderName};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running gateway.
pub struct Running {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    pub gateway: Arc<Gateway>,
    http: reqwest::Client,
    call: CallOptions,
    shutdown: CancellationToken,
    served: Option<JoinHandle<Result<usize>>>,
}

impl Running {
    /// Serves the endpoints of a YAML text; `listen` and `admin` are set here.
    pub async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, |_| {}).await
    }

    /// As [`Running::start`], once the configuration is changed.
    pub async fn start_with(yaml: &str, change: impl FnOnce(&mut Config)) -> Self {
        flowgate_server::install_crypto();
        let mut config = parse(yaml);
        change(&mut config);
        let listeners = Listeners::bind(&config).await.unwrap();
        let (data, admin) = (listeners.data.local_addr().unwrap(), listeners.admin.local_addr().unwrap());
        let gateway = Gateway::new(&config).await.unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn({
            let (gateway, shutdown) = (Arc::clone(&gateway), shutdown.clone());
            async move { gateway.serve(&config, listeners, shutdown).await }
        });
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        Self { data, admin, gateway, http, call: CallOptions::new(), shutdown, served: Some(served) }
    }

    /// An HTTP address on the data plane.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.data)
    }

    /// A gRPC client.
    pub fn client(&self) -> Client {
        Client::connect(self.url("")).unwrap().with(&self.call)
    }

    /// Speaks HTTP/2 at the HTTP doors from now on, without TLS.
    pub fn speak_h2(&mut self) {
        self.http = reqwest::Client::builder().timeout(Duration::from_secs(30)).http2_prior_knowledge().build().unwrap();
    }

    /// Sends a header with every call from now on, at every door.
    pub fn send_header(&mut self, name: &'static str, value: &str) {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
        self.http = reqwest::Client::builder().timeout(Duration::from_secs(30)).default_headers(headers).build().unwrap();
        self.call = CallOptions::new().metadata(name, value).unwrap();
    }

    /// A plain HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = self.http().post(self.url(path)).header("content-type", "application/json");
        request.body(body).send().await.unwrap()
    }

    /// Requests that are being answered.
    pub fn in_flight(&self) -> usize {
        self.counted("flowgate_in_flight", &[])
    }

    /// The sum of a metric over all lines that hold all of these labels.
    pub fn counted(&self, name: &str, labels: &[&str]) -> usize {
        counted(&self.gateway, name, labels)
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        let page = self.http().get(format!("http://{}/metrics", self.admin)).send().await.unwrap();
        page.text().await.unwrap()
    }

    /// Takes over another configuration.
    pub async fn reload(&self, yaml: &str) {
        self.gateway.reload(&parse(yaml)).await.unwrap();
    }

    /// Begins the shutdown.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    /// Waits until the gateway has stopped; how many calls it cut.
    pub async fn stopped(mut self) -> Result<usize> {
        self.served.take().unwrap().await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// As [`Running::counted`], for a gateway that may have stopped.
pub fn counted(gateway: &Gateway, name: &str, labels: &[&str]) -> usize {
    let page = gateway.metrics().render();
    let lines = page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Reads a configuration, on free ports unless it says otherwise.
pub fn parse(yaml: &str) -> Config {
    let ports = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nshutdown_grace: 10s\n";
    let sources = [("ports.yaml", ports), ("test.yaml", yaml)].map(|(name, text)| Source { name: name.to_owned(), text: text.to_owned() });
    match config::parse(&sources, &Process, LoadOptions::default()) {
        Ok(loaded) => loaded.config,
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}
