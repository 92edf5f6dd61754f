//! The choice among deployments: shares of 1 and 0 leave no doubt, and what cannot be called is passed over.

use std::collections::BTreeMap;

use crate::{
    doors::{self, Door, Task, Way, chat},
    fake::Fake,
    gateway::Running,
    predict,
    speech::{OPERATOR_KEY, llm, model},
};

/// A chat endpoint with deployments: alias, further keys, address.
fn endpoint(deployments: &[(&str, &str, &str)]) -> String {
    let mut text = "endpoints:\n  - name: chat\n    endpoint_type: llm/v1/chat\n    path: /own/chat\n    deployments:\n".to_owned();
    for (alias, more, url) in deployments {
        let config = format!("{{ api_key: {OPERATOR_KEY}, api_base: \"{url}/v1\" }}");
        text += &format!("      - {{ alias: {alias}, {more} model: {{ provider: openai, name: {alias}-model, config: {config} }} }}\n");
    }
    text
}

const UNARY: Door = Door { way: Way::Grpc, task: Task::Chat, streaming: false };

#[tokio::test]
async fn all_calls_go_where_all_the_weight_is() {
    let (a, b) = (Fake::start(llm).await, Fake::start(llm).await);
    let weights =
        |first: u32, second: u32| endpoint(&[("a", &format!("weight: {first},"), &a.url), ("b", &format!("weight: {second},"), &b.url)]);
    let running = Running::start(&weights(1, 0)).await;
    for (first, second) in [(1, 0), (0, 1), (7, 0), (0, 100)] {
        running.reload(&weights(first, second)).await;
        let before = (a.seen().len(), b.seen().len());
        let doors = doors::doors(Task::Chat);
        for door in &doors {
            door.ask(&running, "chat").await.unwrap();
        }
        let made = (a.seen().len() - before.0, b.seen().len() - before.1);
        assert_eq!(made, if first > 0 { (doors.len(), 0) } else { (0, doors.len()) });
        let (alias, upstream) = if first > 0 { ("a", &a) } else { ("b", &b) };
        let answer = running.client().chat(chat("chat", "hi")).await.unwrap();
        assert_eq!(answer.call.unwrap().deployment, alias);
        assert_eq!(upstream.last().json()["model"], format!("{alias}-model"));
    }
}

#[tokio::test]
async fn equal_shares_reach_both() {
    let (a, b) = (Fake::start(llm).await, Fake::start(llm).await);
    let running = Running::start(&endpoint(&[("a", "weight: 1,", &a.url), ("b", "weight: 1,", &b.url)])).await;
    // A fair coin shows one side only in 200 throws once in 10^60 runs.
    for _ in 0..200 {
        UNARY.ask(&running, "chat").await.unwrap();
        if !a.seen().is_empty() && !b.seen().is_empty() {
            return;
        }
    }
    panic!("{} and {} calls", a.seen().len(), b.seen().len());
}

#[tokio::test]
async fn without_weights_the_first_that_can_be_called_is_called() {
    let (a, b) = (Fake::start(llm).await, Fake::start(llm).await);
    let never = "when: \"request.headers['x-never'] == 'x'\",";
    for (deployments, reached) in [
        ([("a", "", &a.url), ("b", "", &b.url)], &a),
        // Its deployment serves only what it matches.
        ([("a", never, &a.url), ("b", "", &b.url)], &b),
    ] {
        let running = Running::start(&endpoint(&deployments.map(|(alias, more, url)| (alias, more, url.as_str())))).await;
        let before = reached.seen().len();
        for door in doors::doors(Task::Chat) {
            door.ask(&running, "chat").await.unwrap();
        }
        assert_eq!(reached.seen().len() - before, doors::doors(Task::Chat).len());
    }
}

#[tokio::test]
async fn what_cannot_be_called_is_passed_over() {
    let upstream = Fake::start(model).await;
    let iris = |first: &str, second: &str| {
        format!(
            "endpoints:\n  - name: iris\n    endpoint_type: mlflow/predict\n    path: /own/iris\n    deployments:\n\
             \x20     - {{ alias: later, {first} model: {{ provider: mlflow, url: \"http://127.0.0.1:1\", config: {{ api_key: \"{{{{ secrets.vault:a#b }}}}\" }} }} }}\n\
             \x20     - {{ alias: now, {second} model: {{ provider: mlflow, url: \"{}\" }} }}\n",
            upstream.url
        )
    };
    for (first, second) in [("", ""), ("weight: 9,", "weight: 1,")] {
        let running = Running::start(&iris(first, second)).await;
        for door in predict::DOORS {
            door.ask(&running, "iris").await.unwrap_or_else(|refusal| panic!("{door:?}: {refusal:?}"));
        }
        let endpoint = running.client().get_endpoint("iris").await.unwrap();
        assert_eq!(endpoint.state().as_str_name(), "ENDPOINT_STATE_SERVING");
    }
    let running = Running::start(&iris("weight: 1,", "weight: 0,")).await;
    for door in predict::DOORS {
        let refusal = door.ask(&running, "iris").await.unwrap_err();
        assert_eq!(refusal.reason, "GATEWAY_NOT_SERVING", "{door:?}");
        assert!(refusal.message.contains("weight 0"), "{}", refusal.message);
    }
}

/// MLflow's traffic split: an endpoint over endpoints.
#[tokio::test]
async fn a_split_over_endpoints_follows_its_percentages() {
    let (a, b) = (Fake::start(llm).await, Fake::start(llm).await);
    let text = |first: u32, second: u32| {
        let endpoints = [crate::speech::endpoint("a", "llm/v1/chat", &a.url, ""), crate::speech::endpoint("b", "llm/v1/chat", &b.url, "")];
        format!(
            "{}routes:\n  - name: both\n    task_type: llm/v1/chat\n    destinations:\n      - {{ name: a, traffic_percentage: {first} }}\n\
             \x20     - {{ name: b, traffic_percentage: {second} }}\n",
            crate::speech::config(&endpoints)
        )
    };
    let running = Running::start(&text(100, 0)).await;
    for (first, second) in [(100, 0), (0, 100)] {
        running.reload(&text(first, second)).await;
        let before: BTreeMap<_, _> = [("a", a.seen().len()), ("b", b.seen().len())].into();
        for door in doors::doors(Task::Chat).into_iter().filter(|door| door.way != Way::Own) {
            door.ask(&running, "both").await.unwrap();
        }
        assert_eq!(a.seen().len() > before["a"], first == 100);
        assert_eq!(b.seen().len() > before["b"], second == 100);
    }
}

/// Replicas are alike: none is left out, and none is asked twice for one call.
#[tokio::test]
async fn replicas_share_the_calls() {
    let replicas = [Fake::start(model).await, Fake::start(model).await, Fake::start(model).await];
    let urls = replicas.each_ref().map(|replica| format!("\"{}\"", replica.url)).join(", ");
    let running = Running::start(&format!(
        "endpoints:\n  - {{ name: iris, endpoint_type: mlflow/predict, model: {{ provider: mlflow, urls: [{urls}] }} }}\n"
    ))
    .await;
    for calls in 1..=300 {
        predict::PredictDoor::Grpc.ask(&running, "iris").await.unwrap();
        assert_eq!(replicas.iter().map(|replica| replica.seen().len()).sum::<usize>(), calls);
        if replicas.iter().all(|replica| !replica.seen().is_empty()) {
            return;
        }
    }
    panic!("a replica got no call");
}
