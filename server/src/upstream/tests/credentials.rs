//! Credentials that are got: which refusals cost one, and when a request is sent again with another.

use super::*;

/// A provider that refuses `t1` once that is revoked, and a server that gives tokens.
struct Bench {
    deployment: Arc<Deployment>,
    upstream: Upstream,
    is_revoked: Arc<AtomicBool>,
    given: Arc<AtomicUsize>,
    seen: mpsc::UnboundedReceiver<String>,
}

impl Bench {
    /// The tokens are given in this order; after the last one there is none.
    async fn new(refusal: String, tokens: &'static [&'static str]) -> Self {
        let (issuer, given) = granting(tokens).await;
        let (heads, seen) = mpsc::unbounded_channel();
        let is_revoked = Arc::new(AtomicBool::new(false));
        let revoked = Arc::clone(&is_revoked);
        let url = server(move |_, mut stream| {
            let (heads, revoked, refusal) = (heads.clone(), Arc::clone(&revoked), refusal.clone());
            async move {
                while let Some(head) = request(&mut stream).await {
                    let token = head.lines().find_map(|line| line.strip_prefix("authorization: bearer ")).unwrap().to_owned();
                    let is_refused = token == "t1" && revoked.load(SeqCst);
                    heads.send(token).unwrap();
                    let answer = if is_refused { refusal.clone() } else { whole("200 OK", "application/json", "{}") };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        })
        .await;
        let grant = config::Grant::ClientCredentials(config::ClientCredentials {
            token_url: issuer.parse().unwrap(),
            client_id: "app".to_owned(),
            proof: config::Proof::Body("s".into()),
            scope: None,
            resource: None,
        });
        let deployment = deployment(&[&url], |config| config.credentials = vec![config::Access::Granted(grant)]);
        let upstream = upstream(&deployment);
        Self { deployment, upstream, is_revoked, given, seen }
    }

    /// One that was called, and whose token was revoked some time later.
    async fn revoked(refusal: String, tokens: &'static [&'static str]) -> Self {
        let mut bench = Self::new(refusal, tokens).await;
        bench.call().await.unwrap();
        assert_eq!(bench.tokens(), ["t1"]);
        bench.is_revoked.store(true, SeqCst);
        age().await;
        bench
    }

    async fn call(&self) -> Result<Reply> {
        self.upstream.send(attempt(&self.deployment, false)).await
    }

    /// With which requests came since this was asked last.
    fn tokens(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    fn given(&self) -> usize {
        self.given.load(SeqCst)
    }
}

async fn granting(tokens: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    let url = server(move |_, mut stream| {
        let counted = Arc::clone(&counted);
        async move {
            while request(&mut stream).await.is_some() {
                let answer = match tokens.get(counted.fetch_add(1, SeqCst)) {
                    Some(token) => whole("200 OK", "application/json", &format!(r#"{{"access_token":"{token}","expires_in":3600}}"#)),
                    None => whole("500 No", "text/plain", "away"),
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    (url, given)
}

/// Lets so much time pass that a credential is not new any more.
async fn age() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
}

fn refusal(status: &str) -> String {
    whole(status, "application/json", "{}")
}

#[tokio::test]
async fn a_request_is_sent_again_where_its_credential_was_refused_and_there_is_another() {
    let mut bench = Bench::new(refusal("401 Unauthorized"), &["t1", "t2"]).await;
    bench.call().await.unwrap();
    bench.is_revoked.store(true, SeqCst);
    assert_eq!(bench.call().await.unwrap_err().reason(), ErrorReason::ProviderCredentialRejected);
    assert_eq!((bench.tokens(), bench.given()), (vec!["t1".to_owned(); 2], 1), "one that was got just now is not got again");
    age().await;
    bench.call().await.unwrap();
    assert_eq!((bench.tokens(), bench.given()), (vec!["t1".to_owned(), "t2".to_owned()], 2));
}

#[tokio::test]
async fn a_refusal_that_no_other_credential_cures_costs_none() {
    for status in ["402 Pay", "403 Forbidden"] {
        let mut bench = Bench::revoked(refusal(status), &["t1", "t2"]).await;
        for _ in 0..2 {
            assert_eq!(bench.call().await.unwrap_err().reason(), ErrorReason::ProviderCredentialRejected);
            assert_eq!((&*bench.tokens(), bench.given()), (&["t1".to_owned()][..], 1), "{status}");
        }
    }
}

#[tokio::test]
async fn a_credential_that_comes_back_the_same_is_not_tried_again() {
    let mut bench = Bench::revoked(refusal("401 Unauthorized"), &["t1", "t1"]).await;
    assert_eq!(bench.call().await.unwrap_err().reason(), ErrorReason::ProviderCredentialRejected);
    assert_eq!((&*bench.tokens(), bench.given()), (&["t1".to_owned()][..], 2));
}

#[tokio::test]
async fn where_no_other_credential_is_granted_the_refusal_stands() {
    let mut bench = Bench::revoked(refusal("401 Unauthorized"), &["t1"]).await;
    let error = bench.call().await.unwrap_err();
    assert_eq!((error.reason(), error.upstream_status_code()), (ErrorReason::ProviderCredentialRejected, Some(401)), "{error:?}");
    assert_eq!(bench.tokens(), ["t1"]);
}

#[tokio::test]
async fn a_refusal_inside_a_success_counts_as_well() {
    let mut bench = Bench::revoked(whole("200 OK", "application/json", "error: expired"), &["t1", "t2"]).await;
    bench.call().await.unwrap();
    assert_eq!((bench.tokens(), bench.given()), (vec!["t1".to_owned(), "t2".to_owned()], 2));
    let mut bench = Bench::revoked(whole("200 OK", "application/json", "error: spent"), &["t1", "t2"]).await;
    bench.call().await.unwrap_err();
    assert_eq!((&*bench.tokens(), bench.given()), (&["t1".to_owned()][..], 1));
}

#[tokio::test]
async fn a_stream_that_tells_a_refusal_costs_the_next_call_nothing() {
    let told = "data: error: expired\n\n";
    let refusal = format!("{EVENTS}content-length: {}\r\n\r\n{told}", told.len());
    let mut bench = Bench::revoked(refusal, &["t1", "t2"]).await;
    let mut reply = bench.upstream.send(attempt(&bench.deployment, true)).await.unwrap();
    assert!(reply.next().await.unwrap().unwrap_err().is_credential_stale());
    assert_eq!(bench.tokens(), ["t1"]);
    bench.call().await.unwrap();
    assert_eq!((&*bench.tokens(), bench.given()), (&["t2".to_owned()][..], 2));
}
