//! What upstreams repeat of the operator's secrets.

use super::*;
use crate::config::Access;

/// What the provider says of itself comes through, and no secret does: to the caller, or to the log.
async fn assert_hidden(answer: String, streaming: bool) {
    let url = answering(answer, true).await;
    let deployment = deployment(&[&url], |config| {
        let secret = "sk-secret-1".into();
        config.credentials = vec![Access::Held(Credential::Header { header: http::header::AUTHORIZATION, prefix: "Bearer ", secret })];
        let hidden = ["Basic header-secret-2", "tiny", "in my few words", "tiny-and-more", "abc"];
        config.hidden = hidden.into_iter().map(Into::into).collect();
    });
    let error = match upstream(&deployment).send(attempt(&deployment, streaming)).await {
        Err(error) => error,
        Ok(reply) => reply.filter_map(async |event| event.err()).boxed().next().await.unwrap(),
    };
    let told = format!("{error} {error:?}");
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("no *** with *** is abc: *** and *** and ***, few words"), "{told}");
}

const TOLD: &str = "no sk-secret-1 with header-secret-2 is abc: tiny and in my few words and tiny-and-more, few words";

#[tokio::test]
async fn secrets_are_hidden_however_an_error_is_told() {
    assert_hidden(whole("400 Bad Request", "text/plain", TOLD), false).await;
    assert_hidden(whole("400 Bad Request", "text/plain", TOLD), true).await;
    assert_hidden(whole("200 OK", "application/json", &format!("error: {TOLD}")), false).await;
    assert_hidden(format!("{EVENTS}\r\ndata: error: {TOLD}\n\n"), true).await;
}
