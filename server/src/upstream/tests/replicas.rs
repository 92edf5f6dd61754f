//! An attempt goes to the replica that it names, with the credential that it names, and what befalls its connection may be tried again.

use super::*;
use crate::{call::ReplicaId, dialect::Credential, error::Again};

fn named(replica: ReplicaId, deployment: &Arc<Deployment>) -> Attempt {
    Attempt { replica: Some(replica), ..attempt(deployment, false) }
}

#[tokio::test]
async fn the_named_replica_is_asked_while_there_is_one() {
    let mut urls = Vec::new();
    for name in ["one", "two", "three"] {
        urls.push(answering(whole("200 OK", "application/json", name), false).await);
    }
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let deployment = deployment(&urls, |_| ());
    let upstream = upstream(&deployment);
    let mut tried = Vec::new();
    let mut answers = Vec::new();
    while upstream.has_untried(&tried) {
        let replica = upstream.choose(&tried).unwrap();
        for _ in 0..3 {
            let Answer::Wire(answer) = upstream.send(named(replica, &deployment)).await.unwrap().answer().await.unwrap() else { panic!() };
            answers.push(String::from_utf8(answer.body.to_vec()).unwrap());
        }
        tried.push(replica);
    }
    answers.dedup();
    answers.sort_unstable();
    assert_eq!(answers, ["one", "three", "two"], "each was asked for itself");
    assert!(tried.contains(&upstream.choose(&tried).unwrap()));
    assert!(upstream.send(named(ReplicaId(u64::MAX), &deployment)).await.is_ok(), "one that is gone is any");
}

#[tokio::test]
async fn the_load_is_what_is_in_flight() {
    let url = answering(format!("{EVENTS}\r\ndata: one\n\n"), false).await;
    let deployment = deployment(&[&url, &format!("{url}/other")], |_| ());
    let upstream = upstream(&deployment);
    assert_eq!(upstream.load(), 0);
    let replies = (upstream.send(attempt(&deployment, true)).await.unwrap(), upstream.send(attempt(&deployment, true)).await.unwrap());
    assert_eq!(upstream.load(), 2);
    drop(replies);
    assert_eq!(upstream.load(), 0);
}

#[tokio::test]
async fn the_named_credential_is_used_and_hidden() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let url = server(move |_, mut stream| {
        let heads = heads.clone();
        async move {
            while let Some(head) = request(&mut stream).await {
                let key = head.lines().find_map(|line| line.strip_prefix("authorization: bearer ")).unwrap().to_owned();
                stream.write_all(whole("400 No", "text/plain", &format!("what is {key}?")).as_bytes()).await.unwrap();
                heads.send(key).unwrap();
            }
        }
    })
    .await;
    let credential = |secret: &str| Credential::Header { header: http::header::AUTHORIZATION, prefix: "Bearer ", secret: secret.into() };
    let deployment =
        deployment(&[&url], |config| config.credentials = ["key-0", "key-1"].map(credential).map(config::Access::Held).to_vec());
    let upstream = upstream(&deployment);
    for (position, key) in [(0, "key-0"), (1, "key-1"), (7, "key-0")] {
        let error = upstream.send(Attempt { credential: position, ..attempt(&deployment, false) }).await.unwrap_err();
        assert_eq!(seen.recv().await.unwrap(), key);
        assert!(error.to_string().contains("what is ***?"), "{error:?}");
    }
}

#[tokio::test]
async fn a_kept_connection_that_closes_instead_of_answering_may_be_tried_again() {
    for is_reset in [false, true] {
        let url = server(move |number, mut stream| async move {
            request(&mut stream).await.unwrap();
            stream.write_all(whole("200 OK", "application/json", "{}").as_bytes()).await.unwrap();
            request(&mut stream).await.unwrap();
            assert_eq!(number, 0, "the same connection");
            if is_reset {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
        })
        .await;
        let deployment = deployment(&[&url], |_| ());
        let upstream = upstream(&deployment);
        drop(upstream.send(attempt(&deployment, false)).await.unwrap().answer().await.unwrap());
        let error = upstream.send(attempt(&deployment, false)).await.unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ProviderUnavailable, "{error:?}");
        assert!(error.again() == Again::Anywhere && upstream.is_fit(), "{error:?}");
    }
}
