//! A listener on port 0, spoken to over real sockets.

use std::{convert::Infallible, path::Path};

use http_body_util::{BodyExt as _, Full};
use hyper::{client::conn, service::service_fn};
use hyper_util::rt::TokioExecutor;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::upstream::tls as shared_tls;

const LONG: Duration = Duration::from_secs(10);

/// A listener under test. Its service answers `VERSION PEER CERTIFICATE`, and `/slow` only when told to.
struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    go: Arc<Notify>,
    arrived: mpsc::UnboundedReceiver<()>,
    done: oneshot::Receiver<()>,
}

fn options() -> Options {
    Options { tls: None, max_connection_age: LONG * 60, grace: LONG, cut: Cut::default(), max_connections: 100 }
}

async fn start(options: Options) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, go) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (arrival, arrived) = mpsc::unbounded_channel();
    let (finished, done) = oneshot::channel();
    let (tasks, token, told) = (Tasks::default(), shutdown.clone(), Arc::clone(&go));
    Tasks::default().spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let (told, arrival) = (Arc::clone(&told), arrival.clone());
            async move {
                if request.uri().path() == "/slow" {
                    arrival.send(()).unwrap();
                    told.notified().await;
                }
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(describe(&request)))))
            }
        });
        serve(listener, service, options, token, &tasks).await;
        finished.send(()).ok();
    });
    Running { address, shutdown, go, arrived, done }
}

#[expect(clippy::disallowed_methods, reason = "stands in for the doors")]
fn describe(request: &Request<Incoming>) -> String {
    let peer = request.extensions().get::<Peer>().unwrap();
    format!("{:?} {} {}", request.version(), peer.address.ip(), peer.certificate.as_ref().map_or(0, Bytes::len))
}

type Empty = http_body_util::Empty<Bytes>;

fn get(path: &str) -> Request<Empty> {
    Request::get(format!("http://flowgate.test{path}")).header("host", "flowgate.test").body(Empty::new()).unwrap()
}

async fn h1<I>(io: I) -> conn::http1::SendRequest<Empty>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    Tasks::default().spawn(async { drop(connection.await) });
    sender
}

/// With a receiver that hears when the connection has ended, well or badly.
async fn h2<I>(io: I) -> (conn::http2::SendRequest<Empty>, oneshot::Receiver<bool>)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let (ended, end) = oneshot::channel();
    Tasks::default().spawn(async {
        ended.send(connection.await.is_ok()).ok();
    });
    (sender, end)
}

async fn tcp(running: &Running) -> TcpStream {
    TcpStream::connect(running.address).await.unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn both_versions_are_served_in_the_clear() {
    let running = start(options()).await;
    let mut one = h1(tcp(&running).await).await;
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "HTTP/1.1 127.0.0.1 0");
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "HTTP/1.1 127.0.0.1 0");
    let (mut two, _end) = h2(tcp(&running).await).await;
    assert_eq!(text(two.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 127.0.0.1 0");
}

#[tokio::test]
async fn a_drain_lets_calls_finish_and_refuses_new_connections() {
    let mut running = start(options()).await;
    let mut one = h1(tcp(&running).await).await;
    let (mut two, end) = h2(tcp(&running).await).await;
    let slow = futures_util::future::join(one.send_request(get("/slow")), two.send_request(get("/slow")));
    let mut slow = Box::pin(slow);
    for _ in 0..2 {
        tokio::select! {
            _ = &mut slow => panic!("nobody answered"),
            _ = running.arrived.recv() => {}
        }
    }
    running.shutdown.cancel();
    timeout(LONG, async { while TcpStream::connect(running.address).await.is_ok() {} }).await.unwrap();
    running.go.notify_waiters();
    let (first, second) = slow.await;
    assert_eq!(first.as_ref().unwrap().headers()["connection"], "close");
    assert_eq!(text(first.unwrap()).await, "HTTP/1.1 127.0.0.1 0");
    assert_eq!(text(second.unwrap()).await, "HTTP/2.0 127.0.0.1 0");
    assert!(timeout(LONG, end).await.unwrap().unwrap(), "h2 ended by GOAWAY");
    timeout(LONG, running.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_meets_the_shutdown_is_answered() {
    let running = start(options()).await;
    let mut kept = h1(tcp(&running).await).await;
    text(kept.send_request(get("/")).await.unwrap()).await;
    let fresh = tcp(&running).await;
    running.shutdown.cancel();
    let mut fresh = h1(fresh).await;
    for sender in [&mut kept, &mut fresh] {
        let response = sender.send_request(get("/")).await.unwrap();
        assert_eq!(response.headers()["connection"], "close");
    }
    timeout(LONG, running.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_finish_in_the_grace_is_cut() {
    let mut running = start(Options { grace: Duration::from_millis(50), ..options() }).await;
    let mut one = h1(tcp(&running).await).await;
    let mut slow = Box::pin(one.send_request(get("/slow")));
    tokio::select! {
        _ = &mut slow => panic!("nobody answered"),
        _ = running.arrived.recv() => {}
    }
    running.shutdown.cancel();
    assert!(slow.await.is_err());
    timeout(LONG, running.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_old_connection_is_sent_away_and_its_calls_finish() {
    let mut running = start(Options { max_connection_age: Duration::from_millis(50), ..options() }).await;
    let (mut two, end) = h2(tcp(&running).await).await;
    let mut other = two.clone();
    let mut slow = Box::pin(two.send_request(get("/slow")));
    tokio::select! {
        _ = &mut slow => panic!("nobody answered"),
        _ = running.arrived.recv() => {}
    }
    // Served until the GOAWAY comes, which leaves the slow call alone.
    timeout(LONG, async { while other.send_request(get("/")).await.is_ok() {} }).await.unwrap();
    running.go.notify_waiters();
    assert_eq!(text(slow.await.unwrap()).await, "HTTP/2.0 127.0.0.1 0");
    assert!(timeout(LONG, end).await.unwrap().unwrap());
    assert_eq!(text(h2(tcp(&running).await).await.0.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 127.0.0.1 0");
}

#[tokio::test]
async fn more_connections_than_allowed_wait() {
    let running = start(Options { max_connections: 1, ..options() }).await;
    let first = tcp(&running).await;
    let mut second = h1(tcp(&running).await).await;
    let mut waiting = Box::pin(second.send_request(get("/")));
    let mut one = h1(first).await;
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("there was no room"),
        answer = one.send_request(get("/")) => assert!(answer.is_ok()),
    }
    drop(one);
    assert!(waiting.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let running = start(options()).await;
    for said in ["", "G", "PRI", "GET / HTTP/1.1\r\nhost: flow"] {
        let mut silent = tcp(&running).await;
        silent.write_all(said.as_bytes()).await.unwrap();
        let ended = timeout(Duration::from_secs(60), silent.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "after {said:?}: {ended:?}");
    }
    let (mut two, end) = h2(tcp(&running).await).await;
    assert!(timeout(Duration::from_secs(60), end).await.unwrap().unwrap(), "h2 ended by GOAWAY");
    assert!(two.send_request(get("/")).await.is_err());
    let mut one = h1(tcp(&running).await).await;
    text(one.send_request(get("/")).await.unwrap()).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "HTTP/1.1 127.0.0.1 0", "one that has begun may idle");
}

#[tokio::test]
async fn the_drain_waits_for_what_the_calls_have_started() {
    let (tasks, shutdown, done) = (Tasks::default(), CancellationToken::new(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = Arc::clone(&done);
    tasks.spawn(async move {
        sleep(Duration::from_millis(50)).await;
        told.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    shutdown.cancel();
    let service = service_fn(|_: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::new()))) });
    serve(listener, service, options(), shutdown, &tasks).await;
    assert!(done.load(std::sync::atomic::Ordering::Relaxed));
}

/// A certificate of its own authority, and where its files are.
struct Keys {
    folder: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { folder: tempfile::tempdir().unwrap() };
        keys.renew();
        keys
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate and key; the certificate in DER form.
    fn renew(&self) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["flowgate.test".to_owned()]).unwrap();
        std::fs::write(self.path("tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(self.path("tls.key"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    }

    fn files(&self, client_ca: Option<&Path>) -> config::Tls {
        config::Tls { cert: self.path("tls.crt"), key: self.path("tls.key"), client_ca: client_ca.map(Path::to_owned) }
    }

    fn options(&self, client_ca: Option<&Path>) -> Options {
        Options { tls: Some(TlsAcceptor::new(&self.files(client_ca)).unwrap()), ..options() }
    }

    fn certificates(&self) -> Vec<CertificateDer<'static>> {
        shared_tls::certificates(Path::new("tls.crt"), &std::fs::read(self.path("tls.crt")).unwrap()).unwrap()
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        use rustls::pki_types::pem::PemObject as _;
        PrivateKeyDer::from_pem_file(self.path("tls.key")).unwrap()
    }

    /// A handshake as a client that trusts this certificate.
    async fn connect(&self, running: &Running, protocol: &str, own: Option<&Self>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates() {
            roots.add(certificate).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(shared_tls::provider()).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.certificates(), own.key()).unwrap(),
        };
        config.alpn_protocols = vec![protocol.into()];
        let name = ServerName::try_from("flowgate.test").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp(running).await).await
    }
}

#[tokio::test]
async fn tls_offers_both_versions() {
    let keys = Keys::new();
    let running = start(keys.options(None)).await;
    let (mut two, _end) = h2(keys.connect(&running, "h2", None).await.unwrap()).await;
    assert_eq!(text(two.send_request(get("/")).await.unwrap()).await, "HTTP/2.0 127.0.0.1 0");
    let mut one = h1(keys.connect(&running, "http/1.1", None).await.unwrap()).await;
    assert_eq!(text(one.send_request(get("/")).await.unwrap()).await, "HTTP/1.1 127.0.0.1 0");
    let mut clear = h1(tcp(&running).await).await;
    assert!(clear.send_request(get("/")).await.is_err(), "nothing is served in the clear");
}

#[tokio::test]
async fn a_client_authority_lets_its_clients_in_and_no_others() {
    let (keys, client, stranger) = (Keys::new(), Keys::new(), Keys::new());
    let running = start(keys.options(Some(&client.path("tls.crt")))).await;
    let (mut two, _end) = h2(keys.connect(&running, "h2", Some(&client)).await.unwrap()).await;
    let length = client.certificates()[0].len();
    assert_eq!(text(two.send_request(get("/")).await.unwrap()).await, format!("HTTP/2.0 127.0.0.1 {length}"));
    for own in [None, Some(&stranger)] {
        // With TLS 1.3 the client hears of the refusal after its own handshake.
        let refused = match keys.connect(&running, "http/1.1", own).await {
            Err(_) => true,
            Ok(stream) => h1(stream).await.send_request(get("/")).await.is_err(),
        };
        assert!(refused);
    }
}

#[tokio::test]
async fn a_replaced_certificate_serves_and_a_broken_one_does_not() {
    let keys = Keys::new();
    let running = start(keys.options(None)).await;
    let shown = async || {
        let stream = keys.connect(&running, "h2", None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown().await;
    let renewed = keys.renew();
    assert_ne!(first, renewed);
    assert_eq!(shown().await, renewed);
    std::fs::write(keys.path("tls.key"), "half a ke").unwrap();
    assert_eq!(shown().await, renewed);
    let again = keys.renew();
    assert_eq!(shown().await, again);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let keys = Keys::new();
    let other = Keys::new();
    let files = keys.files(None);
    let refused = |files: config::Tls| TlsAcceptor::new(&files).unwrap_err().to_string();
    assert!(refused(config::Tls { cert: "/nowhere/tls.crt".into(), ..files.clone() }).contains("/nowhere/tls.crt"));
    assert!(refused(config::Tls { key: other.path("tls.key"), ..files.clone() }).contains("do not fit together"));
    assert!(refused(config::Tls { client_ca: Some(keys.path("tls.key")), ..files }).contains("holds no certificate"));
}
