//! `flowgate start`: serves a configuration, takes over its changes, drains on SIGTERM and SIGINT.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{USAGE, complain, runtime, say};
use crate::{
    Gateway, Listeners,
    catalog::{Catalog, Endpoint},
    config::{self, Config, Diagnostics, LoadOptions, Loaded, LogFormat, SecretsMode, Source, Watch},
    error::{Error, Result},
    listen,
    telemetry::logs,
};

const QUICKSTART: &str = include_str!("quickstart.yaml");
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, Args)]
pub(super) struct Start {
    /// The configuration. Given several times, later files are laid over earlier ones.
    #[arg(long, alias = "config", value_name = "FILE")]
    pub(super) config_path: Vec<PathBuf>,
    /// The address to listen on, instead of the configuration's.
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// The port to listen on, instead of the configuration's.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Take unknown keys as warnings.
    #[arg(long)]
    lenient: bool,
}

pub(super) fn run(start: &Start) -> ExitCode {
    crate::install_crypto();
    let mut files = Watch::new(start.config_path.iter().cloned());
    let loaded = match start.load() {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            complain(&format!("{diagnostics}\n"));
            return ExitCode::from(USAGE);
        }
    };
    for warning in &loaded.warnings {
        complain(&format!("{warning}\n"));
    }
    let _flush = match logs::start(loaded.config.log == LogFormat::Json) {
        Ok(flush) => flush,
        Err(error) => {
            complain(&format!("error: the log cannot be written: {error}\n"));
            return ExitCode::FAILURE;
        }
    };
    let served = match runtime() {
        Ok(runtime) => {
            files.also(loaded.watched.iter().cloned());
            let served = runtime.block_on(serve(start, loaded.config, files));
            // A name server that does not answer must not hold the process back.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(Error::internal(format!("the runtime cannot be started: {error}"))),
    };
    match served {
        Ok(0) => ExitCode::SUCCESS,
        // Said in the log; whoever only looks at the process must see it as well.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("error: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

impl Start {
    fn load(&self) -> Result<Loaded, Diagnostics> {
        let options = LoadOptions { lenient: self.lenient, secrets: SecretsMode::Require };
        let mut loaded = if self.config_path.is_empty() {
            let quickstart = Source { name: "quickstart.yaml".to_owned(), text: QUICKSTART.to_owned() };
            config::parse(&[quickstart], &config::Process, options)?
        } else {
            config::load(&self.config_path, options)?
        };
        let host = self.host.as_deref().map(|host| if host == "localhost" { "127.0.0.1" } else { host });
        if let Some(host) = host {
            let address: IpAddr = host.parse().map_err(|_| Diagnostics::one("`--host` is not an IP address, for example `0.0.0.0`"))?;
            loaded.config.listen.set_ip(address);
        }
        if let Some(port) = self.port {
            loaded.config.listen.set_port(port);
        }
        Ok(loaded)
    }
}

/// The signals that are listened to. Taken before anything is served: until then they would end the process at once.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Error::internal(format!("signals cannot be listened to: {error}")));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

async fn serve(start: &Start, config: Config, files: Watch) -> Result<usize> {
    let Signals { hangup, terminate, interrupt } = Signals::new()?;
    // Said before the greeting: a file that cannot be read is no start.
    listen::Options::new(&config)?;
    let listeners = Listeners::bind(&config).await?;
    let addresses = (address(&listeners.data)?, address(&listeners.admin)?);
    let gateway = Gateway::new(&config).await?;
    let (shutdown, stopped) = (CancellationToken::new(), CancellationToken::new());
    greet(start, &gateway.used().await, addresses);
    warn_open(start, &config);
    for (name, why) in Catalog::new(&config).not_serving() {
        tracing::warn!(endpoint = name, why, "an endpoint is not serving");
    }
    let watching = watch(start, &gateway, (files, hangup), &config, &shutdown);
    let serving = async {
        let served = gateway.serve(&config, listeners, shutdown.clone()).await;
        shutdown.cancel();
        stopped.cancel();
        served
    };
    let (served, (), ()) = tokio::join!(serving, watching, stop((terminate, interrupt), &config, &shutdown, &stopped));
    served.inspect(|cut| match cut {
        0 => tracing::info!("stopped, all calls are done"),
        cut => tracing::error!(cut, "stopped, calls were cut because the grace was over; a longer `shutdown_grace` gives them more time"),
    })
}

fn address(listener: &tokio::net::TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| Error::internal("a listener has no address").because(error))
}

/// Where it listens; for the quickstart also two commands to try.
fn greet(start: &Start, config: &Config, addresses: (SocketAddr, SocketAddr)) {
    say(&greeting(start, config, addresses));
}

fn greeting(start: &Start, config: &Config, (data, admin): (SocketAddr, SocketAddr)) -> String {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let catalog = Catalog::new(config);
    let mark = |endpoint: &Arc<Endpoint>| {
        if endpoint.not_serving().is_some() { format!("{} (not serving)", endpoint.name) } else { endpoint.name.to_string() }
    };
    let endpoints: Vec<String> = catalog.all().iter().map(mark).collect();
    let mut text = format!(
        "Flowgate {} listens on {scheme}://{data} (gRPC, gRPC-Web, JSON); metrics and probes on http://{admin}\n\
         Endpoints: {}\n",
        env!("CARGO_PKG_VERSION"),
        endpoints.join(", "),
    );
    if start.config_path.is_empty() {
        let here = reached(data);
        text += &format!(
            "\nThis is the built-in quickstart: made-up conversations and a real model of irises, no key, no cost. Try:\n\n  \
             grpcurl -plaintext -d '{{\"endpoint\":\"chat\",\"messages\":[{{\"text\":\"Hello\"}}]}}' {here} flowgate.v1.ChatService/StreamChat\n\n  \
             curl http://{here}/invocations -H 'content-type: application/json' -d '{{\"inputs\":[[5.1,3.5,1.4,0.2]]}}'\n\n\
             Your own: flowgate start --config-path FILE\n"
        );
    }
    text
}

/// An address to call from this machine.
fn reached(listens: SocketAddr) -> SocketAddr {
    let ip = match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listens.port())
}

fn warn_open(start: &Start, config: &Config) {
    // The file's own `listen` has been warned of when it was read.
    if start.host.is_some() && config.keys.is_empty() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "anyone who reaches this address can call every endpoint at your cost; set `identity.keys`");
    }
    if config.tls.is_none() && !config.keys.is_empty() && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "keys cross the network in the clear; set `tls`, or terminate TLS in front");
    }
    if !config.admin.ip().is_loopback() {
        tracing::warn!(
            admin = %config.admin,
            "anyone who reaches this address can read the metrics; a key for the admin services crosses the network in the clear"
        );
    }
}

/// Takes over changes of the files, and looks at once on SIGHUP.
async fn watch(
    start: &Start,
    gateway: &Arc<Gateway>,
    (mut files, mut hangup): (Watch, Signal),
    first: &Config,
    shutdown: &CancellationToken,
) {
    loop {
        let forced = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hangup.recv() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        if !files.changed() && !forced {
            continue;
        }
        // As they are before they are read, so that no edit slips in between.
        let mut looked = Watch::new(start.config_path.iter().cloned());
        match start.load() {
            Ok(loaded) => {
                looked.also(loaded.watched.iter().cloned());
                files = looked;
                take_over(gateway, &loaded, first).await;
            }
            Err(diagnostics) => {
                gateway.metrics().reload_refused();
                tracing::error!("the changed configuration is refused, the old one stays in use\n{diagnostics}");
            }
        }
    }
}

/// The keys that differ, of those that the server takes from its first configuration only.
fn kept(config: &Config, first: &Config) -> Vec<&'static str> {
    let all = [
        ("listen", config.listen == first.listen),
        ("admin.listen", config.admin == first.admin),
        ("tls", config.tls == first.tls),
        ("cors", config.cors_origins == first.cors_origins),
        ("trusted_proxies", config.trusted_proxies == first.trusted_proxies),
        ("max_request_bytes", config.max_request_bytes == first.max_request_bytes),
        ("shutdown_delay", config.shutdown_delay == first.shutdown_delay),
        ("shutdown_grace", config.shutdown_grace == first.shutdown_grace),
        ("max_connection_age", config.max_connection_age == first.max_connection_age),
        ("telemetry.log", config.log == first.log),
        ("mlflow.tracking_uri", config.models.tracking_uri == first.models.tracking_uri),
        ("mlflow.cache.folder", config.models.cache == first.models.cache),
    ];
    all.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}

/// Where a key stands, with its line; nowhere when it was taken out.
fn place(key: &str, loaded: &Loaded) -> Option<String> {
    loaded.places.get(key).map(|place| format!("{}:{}:{}", place.file, place.line, place.column))
}

async fn take_over(gateway: &Gateway, loaded: &Loaded, first: &Config) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for key in kept(&loaded.config, first) {
        tracing::warn!(key, place = place(key, loaded), "a key has changed, which takes effect at the next start");
    }
    match gateway.reload(&loaded.config).await {
        Ok(()) => {
            tracing::info!(endpoints = loaded.config.endpoints.len(), "the changed configuration is in use");
            for (name, why) in Catalog::new(&loaded.config).not_serving() {
                tracing::warn!(endpoint = name, why, "an endpoint is not serving");
            }
        }
        Err(error) => tracing::error!(%error, "the changed configuration cannot be served, the old one stays in use"),
    }
}

/// Begins the shutdown on SIGTERM or SIGINT; a second one ends the process at once.
async fn stop(
    (mut terminate, mut interrupt): (Signal, Signal),
    config: &Config,
    shutdown: &CancellationToken,
    stopped: &CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let (delay, grace) = (config.shutdown_delay, config.shutdown_grace);
    tracing::info!(?delay, ?grace, "shutting down; a second signal ends the process at once");
    shutdown.cancel();
    tokio::select! {
        () = stopped.cancelled() => {}
        _ = terminate.recv() => end_now(),
        _ = interrupt.recv() => end_now(),
    }
}

#[expect(clippy::exit, reason = "who signals twice wants no drain")]
fn end_now() {
    logs::end();
    complain("a second signal came: calls in flight are cut\n");
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        start: Start,
    }

    fn config(text: &str) -> Config {
        loaded(text).config
    }

    fn loaded(text: &str) -> Loaded {
        let rest = "endpoints: [{ name: chat, endpoint_type: llm/v1/chat, model: { provider: mock } }]\n";
        let source = Source { name: "test.yaml".to_owned(), text: format!("{text}\n{rest}") };
        config::parse(&[source], &config::Process, LoadOptions::default()).unwrap()
    }

    #[test]
    fn only_the_keys_that_changed_wait_for_the_next_start() {
        let first = config("");
        assert_eq!(kept(&config("default_endpoint: chat"), &first), [""; 0]);
        assert_eq!(kept(&config("listen: 127.0.0.1:1\ncors: { allow_origins: ['*'] }"), &first), ["listen", "cors"]);
        let rest = "admin: { listen: 127.0.0.1:2 }\ntls: { cert: a, key: b }\ntrusted_proxies: [10.0.0.0/8]\nmax_request_bytes: 1\n\
                    shutdown_delay: 1s\nshutdown_grace: 1s\nmax_connection_age: 1s\ntelemetry: { log: json }";
        let keys = [
            "admin.listen",
            "tls",
            "trusted_proxies",
            "max_request_bytes",
            "shutdown_delay",
            "shutdown_grace",
            "max_connection_age",
            "telemetry.log",
        ];
        assert_eq!(kept(&config(rest), &first), keys);
        let all = "mlflow:\n  refresh: 1s\n  memory: 1GiB\n  max_processes: 1\n  serve: '*'\n  python: /a\n  cache: { max_bytes: 1, folder: /b }\n  \
                   tracking_uri: http://h:1";
        assert_eq!(kept(&config(all), &first), ["mlflow.tracking_uri", "mlflow.cache.folder"], "the others change at once");
    }

    #[test]
    fn a_key_that_waits_is_told_with_its_place() {
        let loaded = loaded("mlflow:\n  tracking_uri: http://h:1\n  cache: { max_bytes: 1, folder: /b }");
        let found = |key| place(key, &loaded).unwrap_or_default();
        assert_eq!(found("mlflow.tracking_uri"), "test.yaml:2:3");
        assert_eq!(found("mlflow.cache.folder"), "test.yaml:3:26");
        assert_eq!(found("listen"), "", "it was taken out");
    }

    #[test]
    fn the_commands_to_try_can_be_called() {
        let start = Line::parse_from(["start"]).start;
        let config = start.load().unwrap().config;
        for (listens, here) in [
            ("0.0.0.0:5000", "127.0.0.1:5000"),
            ("[::]:5000", "[::1]:5000"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("10.0.0.1:5000", "10.0.0.1:5000"),
        ] {
            let told = greeting(&start, &config, (listens.parse().unwrap(), listens.parse().unwrap()));
            assert!(told.contains(&format!("listens on http://{listens} ")), "{told}");
            assert!(told.contains(&format!("' {here} flowgate.v1")) && told.contains(&format!("curl http://{here}/invocations")), "{told}");
        }
    }
}
