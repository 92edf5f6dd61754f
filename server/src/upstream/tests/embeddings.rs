//! Embeddings: how many inputs a request has, and how many vectors an answer.

use std::sync::Mutex;

use flowgate_proto::v1::{EmbedRequest, TokenIds};
use serde_json::{Value, json};

use super::*;
use crate::dialect::openai::{OPENAI, door};

/// The bodies that a server was sent.
type Seen = Arc<Mutex<Vec<Value>>>;

/// A speaker of OpenAI's protocol that gives the inputs of a request these indices.
async fn embedder(indices: fn(usize) -> Vec<usize>) -> (String, Seen) {
    let seen = Seen::default();
    let kept = Arc::clone(&seen);
    let url = server(move |_, mut stream| {
        let seen = Arc::clone(&kept);
        async move {
            let mut read = Vec::new();
            let body: Value = loop {
                let end = memchr::memmem::find(&read, b"\r\n\r\n").map_or(read.len(), |end| end + 4);
                if let Ok(body) = serde_json::from_slice(&read[end..]) {
                    break body;
                }
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let inputs = body["input"].as_array().map_or(1, |inputs| if inputs[0].is_number() { 1 } else { inputs.len() });
            seen.lock().unwrap().push(body);
            let vectors: Vec<_> = indices(inputs).into_iter().map(|index| json!({ "index": index, "embedding": [index] })).collect();
            let answer = json!({ "data": vectors, "model": "m", "usage": { "prompt_tokens": inputs, "total_tokens": inputs } });
            let answer =
                whole("200 OK", "application/json", &answer.to_string()).replace("HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\nconnection: close");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    (url, seen)
}

/// A deployment that takes ten inputs at once.
fn tens(url: &str) -> Arc<Deployment> {
    let mut deployment = Arc::into_inner(deployment(&[url], |_| ())).unwrap();
    deployment.task = Task::Embed;
    deployment.dialect = Some(&OPENAI);
    deployment.targets[0].quirks = &provider::find("dashscope").unwrap().quirks;
    Arc::new(deployment)
}

fn asking(deployment: &Arc<Deployment>, payload: Payload, lane: Lane) -> Attempt {
    let attempt = attempt(deployment, false);
    Attempt { call: Call { task: Task::Embed, payload, ..attempt.call.clone() }, lane, ..attempt }
}

fn received(body: &Value) -> Payload {
    let (content_type, body) = (HeaderValue::from_static("application/json"), Bytes::from(body.to_string()));
    Payload::wire_only(Wire { protocol: Protocol::OpenAiEmbeddings, content_type, body, decode: door::decode_embed })
}

fn texts(count: usize) -> Payload {
    Payload::typed_only(Request::Embed(EmbedRequest { inputs: vec!["a".to_owned(); count], ..EmbedRequest::default() }))
}

fn in_order(count: usize) -> Vec<usize> {
    (0..count).collect()
}

#[tokio::test]
async fn too_many_inputs_in_bytes_are_split_like_typed_ones() {
    let many = [json!(vec!["a"; 23]), json!(vec![vec![1, 2]; 23])];
    for input in many {
        let (url, seen) = embedder(in_order).await;
        let deployment = tens(&url);
        let body = json!({ "model": "e", "input": input, "encoding_format": "float" });
        let reply = upstream(&deployment).send(asking(&deployment, received(&body), Lane::Byte)).await.unwrap();
        assert_eq!(reply.head.lane, Lane::Typed);
        let Answer::Embed(answer) = reply.answer().await.unwrap() else { panic!("no vectors") };
        assert_eq!(answer.embeddings.iter().map(|vector| vector.index).collect::<Vec<_>>(), (0..23).collect::<Vec<_>>());
        assert_eq!(answer.usage.unwrap().input_tokens, Some(23));
        let mut sizes: Vec<_> = seen.lock().unwrap().iter().map(|body| body["input"].as_array().unwrap().len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [3, 10, 10]);
        assert!(seen.lock().unwrap().iter().all(|body| body["encoding_format"] == "float" && body["model"] == "m"));
    }
}

#[tokio::test]
async fn what_a_provider_takes_at_once_crosses_as_received() {
    for input in [
        json!(vec!["a, b, c, d"; 10]),
        json!("a"),
        json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        json!([{ "image": "a,b,c,d,e,f,g,h,i,j,k" }]),
    ] {
        let (url, seen) = embedder(in_order).await;
        let deployment = tens(&url);
        let reply =
            upstream(&deployment).send(asking(&deployment, received(&json!({ "model": "e", "input": input })), Lane::Byte)).await.unwrap();
        assert_eq!(reply.head.lane, Lane::Byte);
        assert_eq!(seen.lock().unwrap()[0], json!({ "model": "m", "input": input }));
    }
}

#[tokio::test]
async fn lists_of_tokens_are_split_in_the_typed_lane_too() {
    let (url, seen) = embedder(in_order).await;
    let deployment = tens(&url);
    let token_inputs = vec![TokenIds { ids: vec![1, 2] }; 11];
    let payload = Payload::typed_only(Request::Embed(EmbedRequest { token_inputs, ..EmbedRequest::default() }));
    let reply = upstream(&deployment).send(asking(&deployment, payload, Lane::Typed)).await.unwrap();
    let Answer::Embed(answer) = reply.answer().await.unwrap() else { panic!("no vectors") };
    assert_eq!((answer.embeddings.len(), seen.lock().unwrap().len()), (11, 2));
}

#[tokio::test]
async fn one_call_makes_no_more_than_256_requests() {
    let (url, seen) = embedder(in_order).await;
    let deployment = tens(&url);
    let send = async |payload, lane| upstream(&deployment).send(asking(&deployment, payload, lane)).await;
    let token_inputs = vec![TokenIds { ids: vec![1] }; 2561];
    let tokens = Payload::typed_only(Request::Embed(EmbedRequest { token_inputs, ..EmbedRequest::default() }));
    let body = received(&json!({ "model": "e", "input": vec!["a"; 2561] }));
    for (payload, lane, field) in
        [(texts(2561), Lane::Typed, "inputs"), (body, Lane::Byte, "inputs"), (tokens, Lane::Typed, "token_inputs")]
    {
        let error = send(payload, lane).await.unwrap_err();
        assert_eq!((error.reason(), &*error.violations()[0].field), (ErrorReason::CallerInvalidRequest, field));
        assert!(error.to_string().contains("at most 2560") && error.to_string().contains("send fewer"), "{error}");
    }
    assert!(seen.lock().unwrap().is_empty());
    let Answer::Embed(answer) = send(texts(2560), Lane::Typed).await.unwrap().answer().await.unwrap() else { panic!("no vectors") };
    assert_eq!((answer.embeddings.len(), seen.lock().unwrap().len()), (2560, 256));
}

#[tokio::test]
async fn an_answer_has_one_vector_for_each_input_in_its_place() {
    let wrong: [fn(usize) -> Vec<usize>; 5] = [
        |count| in_order(count - 1),
        |count| in_order(count + 1),
        |count| vec![0; count],
        |count| (1..=count).collect(),
        |count| vec![7; count],
    ];
    for indices in wrong {
        let (url, _) = embedder(indices).await;
        let deployment = tens(&url);
        for count in [3, 12] {
            let error = upstream(&deployment).send(asking(&deployment, texts(count), Lane::Typed)).await.unwrap_err();
            assert_eq!(error.reason(), ErrorReason::ProviderBadAnswer, "{error}");
            assert!(error.to_string().contains("vectors"), "{error}");
        }
    }
    let (url, _) = embedder(|count| (0..count).rev().collect()).await;
    let deployment = tens(&url);
    let reply = upstream(&deployment).send(asking(&deployment, texts(3), Lane::Typed)).await.unwrap();
    let Answer::Embed(answer) = reply.answer().await.unwrap() else { panic!("no vectors") };
    assert_eq!(answer.embeddings.iter().map(|vector| vector.values[0]).collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
}
