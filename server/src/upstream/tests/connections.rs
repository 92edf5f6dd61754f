//! Which connection a call takes, how it is opened, and when it is let go: pools, proxies, TLS.

use super::{
    super::{
        connect::Connector,
        pool::{self, Pool},
        replica::{Client, Replica},
    },
    *,
};

#[tokio::test]
async fn another_replica_is_taken_once_one_could_not_be_reached() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let url = answering(whole("200 OK", "application/json", "{}"), false).await;
    let deployment = deployment(&[&dead, &url], |_| ());
    let upstream = upstream(&deployment);
    let mut failed = 0;
    for _ in 0..30 {
        failed += usize::from(upstream.send(attempt(&deployment, false)).await.is_err());
    }
    assert!(failed <= 1, "{failed} calls met the dead replica");
}

#[tokio::test]
async fn connections_outlive_a_reload_that_does_not_change_them() {
    let connections = Connections::default();
    let timeouts = Timeouts::defaults(Task::Chat);
    let of = |url: &str, timeouts: &Timeouts, proxy: Option<&'static str>| {
        let deployment = deployment(&[url], |config| config.proxy = proxy.map(Uri::from_static));
        Arc::clone(&connections.upstream(&deployment, timeouts).unwrap().group.members()[0].replica)
    };
    let pool = |replica: &Replica| match &replica.client {
        Client::Sockets(sockets) => Arc::<Pool>::clone(&sockets.pool),
        Client::Own(_) | Client::Mock(_) => panic!("it has no sockets"),
    };
    let first = of("http://a.test:1/one", &timeouts, None);
    assert!(Arc::ptr_eq(&first, &of("http://a.test:1/one", &timeouts, None)));
    let neighbour = of("http://a.test:1/two", &timeouts, None);
    assert!(!Arc::ptr_eq(&first, &neighbour), "another model does not fail with this one");
    assert!(Arc::ptr_eq(&pool(&first), &pool(&neighbour)), "but is reached by the same connections");
    assert!(!Arc::ptr_eq(&first, &of("http://a.test:2/one", &timeouts, None)));
    assert!(!Arc::ptr_eq(&first, &of("https://a.test:1/one", &timeouts, None)));
    assert!(!Arc::ptr_eq(&first, &of("http://a.test:1/one", &timeouts, Some("http://p:1"))));
    assert!(!Arc::ptr_eq(&first, &of("http://a.test:1/one", &Timeouts { connect: SOON, ..timeouts }, None)));
    drop((first, neighbour));
    of("http://b.test", &timeouts, None);
    assert_eq!(connections.0.remembered(), (1, 1), "what nobody uses is forgotten");
}

#[tokio::test]
async fn sockets_send_at_once() {
    let url = answering(String::new(), false).await;
    let connector = Connector::new(None, None, SOON, false).unwrap();
    let socket = connector.open(&url.parse().unwrap()).await.unwrap();
    assert!(socket.nodelay().unwrap());
}

#[tokio::test]
async fn a_forward_proxy_gets_the_whole_address_and_its_credential() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let proxy = server(move |_, mut stream| {
        let heads = heads.clone();
        async move {
            while let Some(head) = request(&mut stream).await {
                heads.send(head).unwrap();
                stream.write_all(whole("200 OK", "application/json", "{}").as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let proxy = proxy.replace("http://", "http://user:p%40ss@");
    let deployment = deployment(&["http://model.invalid:81/base"], |config| config.proxy = Some(proxy.parse().unwrap()));
    upstream(&deployment).send(attempt(&deployment, false)).await.unwrap();
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("post http://model.invalid:81/base/x http/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwqhnz\r\n"), "user:p@ss, in lower case as all of the head: {head}");
    assert!(head.contains("host: model.invalid:81"), "{head}");
    let told = format!("{:?}", Connector::new(Some(&proxy.parse().unwrap()), None, SOON, false).unwrap());
    assert!(!told.contains("p%40ss"), "{told}");
}

/// A TLS server with its own certificate authority; answers with the HTTP version it was spoken to in.
pub(super) struct Secure {
    pub(super) address: std::net::SocketAddr,
    pub(super) ca: PathBuf,
    /// That are open.
    connections: Arc<AtomicUsize>,
    refuses: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

pub(super) async fn secure() -> Secure {
    let key = rcgen::generate_simple_self_signed(["model.invalid".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, key.cert.pem()).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions().unwrap();
    let private = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let mut config = builder.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let refuses = Arc::new(AtomicBool::new(false));
    let refuse = Arc::clone(&refuses);
    let tasks = Tasks::default();
    tasks.clone().spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if refuse.load(SeqCst) {
                continue;
            }
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            count.fetch_add(1, SeqCst);
            let count = Arc::clone(&count);
            let answer = service_fn(async |request: http::Request<Incoming>| {
                let version = format!("\"{:?}\"", request.version());
                let response = http::Response::builder().header("content-type", "application/json");
                Ok::<_, std::convert::Infallible>(response.body(http_body_util::Full::new(Bytes::from(version))).unwrap())
            });
            tasks.spawn(async move {
                let http = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                drop(http.serve_connection(TokioIo::new(stream), answer).await);
                count.fetch_sub(1, SeqCst);
            });
        }
    });
    Secure { address, ca, connections, refuses, _folder: folder }
}

/// What the stack needs of the way to an upstream.
fn sent(future: impl Future<Output = Result<Reply>> + Send) -> impl Future<Output = Result<Reply>> + Send {
    future
}

async fn body(upstream: &Upstream, deployment: &Arc<Deployment>) -> Bytes {
    match sent(upstream.send(attempt(deployment, false))).await.unwrap().answer().await.unwrap() {
        Answer::Wire(answer) => answer.body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn https_trusts_the_configured_authority() {
    let secure = secure().await;
    let url = format!("https://{}", secure.address);
    let trusting = deployment(&[&url], |config| config.ca = Some(secure.ca.clone()));
    let up = upstream(&trusting);
    assert_eq!(body(&up, &trusting).await, "\"HTTP/2.0\"");

    let wary = deployment(&[&url], |_| ());
    let error = upstream(&wary).send(attempt(&wary, false)).await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert!(format!("{error:?}").contains("certificate"), "{error:?}");

    let missing = deployment(&[&url], |config| config.ca = Some("/nowhere/ca.pem".into()));
    let error = Connections::default().upstream(&missing, &Timeouts::defaults(Task::Chat)).unwrap_err();
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn calls_share_an_h2_connection_until_it_is_busy() {
    let secure = secure().await;
    let url = format!("https://{}", secure.address);
    let trusting = deployment(&[&url], |config| config.ca = Some(secure.ca.clone()));
    let up = upstream(&trusting);
    let at_once = async |calls: usize| {
        let replies = (0..calls).map(|_| sent(up.send(attempt(&trusting, false))));
        let replies = futures_util::future::join_all(replies).await;
        replies.iter().for_each(|reply| assert!(reply.is_ok(), "{reply:?}"));
        secure.connections.load(SeqCst)
    };
    assert_eq!(at_once(pool::ENOUGH_STREAMS).await, 1, "nobody opens a second one while the first is being opened");
    assert_eq!(at_once(pool::ENOUGH_STREAMS).await, 1);
    secure.refuses.store(true, SeqCst);
    assert_eq!(at_once(2 * pool::ENOUGH_STREAMS).await, 1, "if there is no second one, the first has to do");
    secure.refuses.store(false, SeqCst);
    assert_eq!(at_once(2 * pool::ENOUGH_STREAMS).await, 2);
    assert_eq!(at_once(pool::USUAL_H2 * pool::FULL).await, pool::USUAL_H2);
    assert_eq!(at_once(pool::USUAL_H2 * pool::FULL + 1).await, pool::USUAL_H2 + 1, "nobody waits for a stream");

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(200)).await;
    while secure.connections.load(SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used_again() {
    let (served, mut connections) = mpsc::unbounded_channel();
    let url = server(move |number, mut stream| {
        let served = served.clone();
        async move {
            request(&mut stream).await;
            stream.write_all(whole("200 OK", "application/json", "{}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            served.send(number).unwrap();
        }
    })
    .await;
    let deployment = deployment(&[&url], |_| ());
    let up = upstream(&deployment);
    for number in 0..5 {
        assert_eq!(body(&up, &deployment).await, "{}");
        assert_eq!(connections.recv().await, Some(number));
    }
}

#[tokio::test]
async fn idle_connections_are_closed_after_a_while() {
    let (closed, mut seen) = mpsc::unbounded_channel();
    let url = server(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            request(&mut stream).await;
            stream.write_all(whole("200 OK", "application/json", "{}").as_bytes()).await.unwrap();
            closed.send(stream.read(&mut [0]).await.unwrap()).unwrap();
        }
    })
    .await;
    let deployment = deployment(&[&url], |_| ());
    let up = upstream(&deployment);
    assert_eq!(body(&up, &deployment).await, "{}");
    tokio::time::pause();
    assert!(seen.recv().now_or_never().is_none());
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(seen.recv().await, Some(0));
}

#[tokio::test]
async fn a_proxy_is_tunnelled_through_for_https() {
    let secure = secure().await;
    let inner = secure.address;
    let (heads, mut seen) = mpsc::unbounded_channel();
    let proxy = server(move |_, mut stream| {
        let heads = heads.clone();
        async move {
            heads.send(request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let mut inner = TcpStream::connect(inner).await.unwrap();
            drop(tokio::io::copy_bidirectional(&mut stream, &mut inner).await);
        }
    })
    .await;
    let proxy = proxy.replace("http://", "http://user:pass@");
    let deployment = deployment(&["https://model.invalid"], |config| {
        config.proxy = Some(proxy.parse().unwrap());
        config.ca = Some(secure.ca.clone());
    });
    assert_eq!(body(&upstream(&deployment), &deployment).await, "\"HTTP/2.0\"");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("connect model.invalid:443 http/1.1"), "{head}");
    assert!(head.contains("proxy-authorization: basic dxnlcjpwyxnz"), "{head}");
}

#[tokio::test]
async fn the_connect_limit_covers_the_handshake() {
    let url = server(|_, mut stream| async move { drop(stream.read_to_end(&mut Vec::new()).await) }).await;
    let deployment = deployment(&[&url.replace("http:", "https:")], |_| ());
    let timeouts = Timeouts { connect: Duration::from_millis(50), ..Timeouts::defaults(Task::Chat) };
    let upstream = Connections::default().upstream(&deployment, &timeouts).unwrap();
    let error = timeout(Duration::from_secs(2), upstream.send(attempt(&deployment, false))).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
}
