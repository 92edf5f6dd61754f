//! A second attempt beside one that stalls, at every door and in both lanes: its answer counts, and the first is given up.

use std::time::Duration;

use flowgate_server::config::{Config, Hedge, HedgeAfter};
use futures_util::StreamExt as _;

use crate::{
    doors::{self, Task},
    fake::{Answer, Fake, until},
    gateway::Running,
    predict,
    speech::{OPERATOR_KEY, TEXT, llm, model},
};

/// Hedges every endpoint, at once and always: what is tested does not hang on time.
fn hedge(config: &mut Config) {
    for endpoint in &mut config.endpoints {
        endpoint.routing.hedge = Some(Hedge { after: HedgeAfter::Delay(Duration::ZERO), budget: 1.0 });
    }
}

/// A chat and a predict endpoint, each before a server that stalls and one that answers.
async fn gateway(stalls: &str, answers: &str, parameters: &str) -> Running {
    let deployments = |provider: &str, keys: &dyn Fn(&str) -> String| {
        let model = |url| format!("{{ provider: {provider}, name: m, {parameters}{} }}", keys(url));
        format!(
            "    deployments:\n      - {{ alias: stalls, model: {} }}\n      - {{ alias: answers, model: {} }}\n",
            model(stalls),
            model(answers)
        )
    };
    let chat = deployments("openai", &|url| format!("config: {{ api_key: {OPERATOR_KEY}, api_base: \"{url}/v1\" }}"));
    let iris = deployments("mlflow", &|url| format!("url: \"{url}\""));
    let yaml = format!(
        "endpoints:\n  - name: chat\n    endpoint_type: llm/v1/chat\n    path: /own/chat\n{chat}\
         \x20 - name: iris\n    endpoint_type: mlflow/predict\n    path: /own/iris\n{iris}"
    );
    Running::start_with(&yaml, hedge).await
}

#[tokio::test]
async fn a_stalled_attempt_is_answered_by_the_second_and_given_up() {
    // With a default parameter the byte lane is closed.
    for parameters in ["", "parameters: { user: u }, "] {
        let mut stalls = Fake::start(|seen| match seen.wants_stream() {
            // The head of a stream is not an answer yet.
            true => Answer::sse(futures_util::stream::iter([Ok(": stalled\n\n".into())]).chain(futures_util::stream::pending())),
            false => Answer::Silence,
        })
        .await;
        let answers = Fake::start(|seen| if seen.path == "/invocations" { model(seen) } else { llm(seen) }).await;
        let running = gateway(&stalls.url, &answers.url, parameters).await;
        let mut calls = 0;
        for door in doors::doors(Task::Chat) {
            assert_eq!(door.ask(&running, "chat").await.unwrap().text, TEXT, "{door:?}");
            calls += 1;
        }
        for door in predict::DOORS.into_iter().filter(|door| *door != predict::PredictDoor::Default) {
            door.ask(&running, "iris").await.unwrap();
            calls += 1;
        }
        assert_eq!(answers.seen().len(), calls);
        stalls.all_gone().await;
        until("the end of all calls", || running.in_flight() == 0).await;
        for name in ["flowgate_hedges_total", "flowgate_hedges_won_total"] {
            assert_eq!(running.counted(name, &[]), calls, "{name}");
        }
        assert_eq!(running.counted("flowgate_attempts_total", &["deployment=\"answers\"", "outcome=\"ok\""]), calls);
        assert_eq!(running.counted("flowgate_attempts_total", &["deployment=\"stalls\""]), 0, "nobody knows what it would have said");
    }
}

#[tokio::test]
async fn the_answer_names_who_gave_it() {
    let (stalls, answers) = (Fake::start(|_| Answer::Silence).await, Fake::start(llm).await);
    let running = gateway(&stalls.url, &answers.url, "").await;
    let answer = running.client().chat(doors::chat("chat", "hi")).await.unwrap();
    assert_eq!(answer.call.unwrap().deployment, "answers");
}

#[tokio::test]
async fn a_caller_who_leaves_ends_both() {
    let (mut first, mut second) = (Fake::start(|_| Answer::Silence).await, Fake::start(|_| Answer::Silence).await);
    let running = gateway(&first.url, &second.url, "").await;
    for door in doors::doors(Task::Chat) {
        let mut call = Box::pin(door.ask(&running, "chat"));
        tokio::select! {
            told = &mut call => panic!("{door:?}: {told:?}"),
            () = async { tokio::join!(first.called(), second.called()); } => {}
        }
        drop(call);
        first.client_gone().await;
        second.client_gone().await;
    }
}
