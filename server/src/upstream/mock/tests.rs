//! What the mock says to requests as the dialects write them.

use futures_util::TryStreamExt as _;
use tokio::time::Instant;

use super::*;
use crate::config::MockFailure;

fn request(path: &str, body: &Value) -> http::Request<Bytes> {
    http::Request::post(format!("http://mock.invalid{path}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into())
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect(1 << 20).await.unwrap().0.to_vec()).unwrap()
}

async fn answer(mock: &Mock, path: &str, body: Value) -> Value {
    let response = mock.answer(request(path, &body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    serde_json::from_str(&text(response).await).unwrap()
}

async fn chunks(mock: &Mock, path: &str, body: Value) -> Vec<Value> {
    let response = mock.answer(request(path, &body)).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    let text = text(response).await;
    let (events, end) = text.rsplit_once("data: [DONE]\n\n").expect("an end mark");
    assert_eq!(end, "");
    events.split_terminator("\n\n").map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap()).collect()
}

fn mock(change: impl FnOnce(&mut config::Mock)) -> Mock {
    let mut config = config::Mock::default();
    change(&mut config);
    Mock::new(config)
}

fn hello() -> Value {
    json!({ "model": "m", "messages": [{ "role": "system", "content": "be kind" }, { "role": "user", "content": "hello  my friend" }] })
}

#[tokio::test]
async fn chat_echoes_the_last_user_message_and_counts_words() {
    let answer = answer(&mock(|_| ()), "/v1/chat/completions", hello()).await;
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "m");
    assert_eq!(answer["choices"][0]["message"], json!({ "role": "assistant", "content": "hello  my friend" }));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8 }));
}

#[tokio::test]
async fn a_stream_says_the_same_word_by_word_with_usage_if_asked() {
    let mock = mock(|_| ());
    let mut body = hello();
    body["stream"] = true.into();
    let plain = chunks(&mock, "/v1/chat/completions", body.clone()).await;
    let said: String = plain.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, "hello  my friend");
    assert_eq!(plain.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));
    body["stream_options"] = json!({ "include_usage": true });
    let counted = chunks(&mock, "/v1/chat/completions", body).await;
    assert_eq!(counted.len(), plain.len() + 1);
    let last = counted.last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(8)));
}

#[tokio::test]
async fn text_tokens_and_limits_shape_the_answer() {
    let said = async |mock: Mock, body: Value| {
        let answer = answer(&mock, "/v1/chat/completions", body).await;
        (answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), answer["choices"][0]["finish_reason"].clone())
    };
    let fixed = || mock(|config| (config.text, config.tokens) = (Some("a b".to_owned()), Some(5)));
    assert_eq!(said(fixed(), hello()).await, ("a b a b a".to_owned(), json!("stop")));
    let mut limited = hello();
    limited["max_completion_tokens"] = 2.into();
    assert_eq!(said(fixed(), limited).await, ("a b".to_owned(), json!("length")));
    let parts = json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x" }, { "type": "image_url" }] }], "n": 2 });
    assert_eq!(said(mock(|_| ()), parts).await.0, "x");
}

#[tokio::test]
async fn a_required_tool_is_called() {
    let mock = mock(|_| ());
    let mut body = hello();
    body["tools"] = json!([{ "type": "function", "function": { "name": "look" } }, { "type": "function", "function": { "name": "find" } }]);
    body["tool_choice"] = "required".into();
    let first = answer(&mock, "/v1/chat/completions", body.clone()).await;
    assert_eq!(first["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(first["choices"][0]["message"]["tool_calls"][0]["function"], json!({ "name": "look", "arguments": "{}" }));
    body["tool_choice"] = json!({ "type": "function", "function": { "name": "find" } });
    body["stream"] = true.into();
    let chunks = chunks(&mock, "/v1/chat/completions", body).await;
    assert_eq!(chunks[1]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"], "find");
    assert_eq!(chunks[2]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"], "{}");
}

#[tokio::test]
async fn completions_answer_each_prompt() {
    let mock = mock(|_| ());
    let answer = answer(&mock, "/v1/completions", json!({ "prompt": ["a b", "c"], "n": 2 })).await;
    let texts: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["a b", "a b", "c", "c"]);
    assert_eq!(answer["choices"][3]["index"], 3);
    let chunks = chunks(&mock, "/v1/completions", json!({ "prompt": "a b", "stream": true })).await;
    assert_eq!(chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect::<String>(), "a b");
}

#[tokio::test]
async fn embeddings_are_unit_vectors_of_the_text_in_both_encodings() {
    let mock = mock(|_| ());
    let plain = answer(&mock, "/v1/embeddings", json!({ "input": ["a", "b", "a"] })).await;
    let vector = |answer: &Value, n: usize| -> Vec<f64> {
        answer["data"][n]["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    assert_eq!(vector(&plain, 0), vector(&plain, 2));
    assert_ne!(vector(&plain, 0), vector(&plain, 1));
    assert_eq!(vector(&plain, 0).len(), 8);
    assert!((vector(&plain, 0).iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-5);
    let packed = answer(&mock, "/v1/embeddings", json!({ "input": "a", "dimensions": 3, "encoding_format": "base64" })).await;
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 16);
}

#[tokio::test]
async fn predictions_are_one_number_per_row_of_every_form() {
    let mock = mock(|_| ());
    let count = async |body: Value| answer(&mock, "/invocations", body).await["predictions"].as_array().unwrap().len();
    assert_eq!(count(json!({ "dataframe_split": { "columns": ["x"], "data": [[1], [2]] } })).await, 2);
    assert_eq!(count(json!({ "dataframe_records": [{ "x": 1 }, { "x": 2 }, { "x": 3 }] })).await, 3);
    assert_eq!(count(json!({ "instances": [[1, 2]] })).await, 1);
    assert_eq!(count(json!({ "instances": { "a": [1, 2], "b": [3, 4] }, "params": {} })).await, 2);
    assert_eq!(count(json!({ "inputs": { "a": [1, 2, 3] } })).await, 3);
    assert_eq!(count(json!({ "inputs": "text" })).await, 1);
    let same = answer(&mock, "/invocations", json!({ "inputs": [[1, 2], [1, 2], [3]] })).await;
    assert_eq!(same["predictions"][0], same["predictions"][1]);
    assert_ne!(same["predictions"][0], same["predictions"][2]);
}

#[tokio::test]
async fn equal_numbers_get_equal_answers_however_they_are_written() {
    let mock = mock(|_| ());
    let predict = async |kind: &str, body: String| {
        let mut request = http::Request::post("http://mock.invalid/invocations").body(Bytes::from(body)).unwrap();
        request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let answer: Value = serde_json::from_str(&text(mock.answer(request).await).await).unwrap();
        answer["predictions"][0].as_f64().unwrap()
    };
    let rows = [("3", "3.0"), ("0", "-0.0"), ("1e3", "1000"), ("9223372036854775808", "9223372036854775808.0"), ("1.50", "1.5")];
    for (one, other) in rows {
        let number = async |written: &str| predict("application/json", format!(r#"{{"inputs": [{{"x": [{written}, null]}}]}}"#)).await;
        assert_eq!(number(one).await, number(other).await, "{one} {other}");
        let number = async |written: &str| predict("text/csv", format!("x,y\n{written},a\n")).await;
        assert_eq!(number(one).await, number(other).await, "{one} {other}");
    }
    for (one, other) in [("3", "4"), ("3", "3.5"), ("9007199254740993", "9007199254740992"), ("1e300", "1e301"), ("3", "\"3\"")] {
        let number = async |written: &str| predict("application/json", format!(r#"{{"inputs": [{written}]}}"#)).await;
        assert_ne!(number(one).await, number(other).await, "{one} {other}");
    }
}

#[tokio::test]
async fn csv_is_read_and_what_is_no_input_is_refused() {
    let mock = mock(|_| ());
    let send = async |kind: &str, body: &'static str| {
        let mut request = http::Request::post("http://mock.invalid/invocations").body(Bytes::from(body)).unwrap();
        request.headers_mut().insert(header::CONTENT_TYPE, kind.parse().unwrap());
        let response = mock.answer(request).await;
        (response.status().as_u16(), text(response).await)
    };
    let (status, body) = send("text/csv; charset=utf-8", "x,y\n1,2\n3,4\n").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["predictions"].as_array().unwrap().len(), 2);
    assert_eq!(send("application/json", "{}").await.0, 400);
    assert_eq!(send("application/json", "{").await.0, 400);
    assert_eq!(send("text/html", "<p>").await.0, 415);
}

#[tokio::test]
async fn configured_predictions_are_given_as_they_are() {
    let mock = mock(|config| config.predictions = Some(json!({ "a": [1] })));
    assert_eq!(answer(&mock, "/invocations", json!({ "inputs": [1] })).await, json!({ "predictions": { "a": [1] } }));
}

#[tokio::test(start_paused = true)]
async fn delays_are_kept() {
    let mock = mock(|config| (config.first_delay, config.delay) = (Duration::from_millis(100), Duration::from_millis(10)));
    let start = Instant::now();
    drop(mock.answer(request("/v1/chat/completions", &hello())).await);
    assert!((100..110).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let mut body = hello();
    body["stream"] = true.into();
    let start = Instant::now();
    let response = mock.answer(request("/v1/chat/completions", &body)).await;
    assert_eq!(start.elapsed(), Duration::ZERO, "the head comes at once");
    let events: Vec<_> = response.into_body().try_collect().await.unwrap();
    let later = u32::try_from(events.len()).unwrap() - 1;
    assert!(start.elapsed() >= Duration::from_millis(100) + later * Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn failures_come_as_configured() {
    let failing = |every, status, mode| mock(|config| config.failure = Some(MockFailure { every, status, mode }));
    let mut body = hello();
    body["stream"] = true.into();

    let every_second = failing(2, Some(429), MockFailureMode::Status);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let response = every_second.answer(request("/v1/chat/completions", &body)).await;
        assert_eq!(response.headers().contains_key(header::RETRY_AFTER), response.status() == 429);
        seen.push(response.status().as_u16());
    }
    assert_eq!(seen, [200, 429, 200, 429]);

    let collect = async |mode| {
        let response = failing(1, None, mode).answer(request("/v1/chat/completions", &body)).await;
        response.into_body().collect(1 << 20).await.map(|(body, _)| String::from_utf8(body.to_vec()).unwrap())
    };
    assert!(collect(MockFailureMode::Cut).await.is_err());
    let ended = collect(MockFailureMode::NoEnd).await.unwrap();
    assert!(ended.contains("hello") && !ended.contains("[DONE]") && !ended.contains("\"stop\""), "{ended}");
    let errored = collect(MockFailureMode::ErrorEvent).await.unwrap();
    assert!(errored.contains("hello") && errored.contains("\"error\"") && !errored.contains("[DONE]"), "{errored}");

    let silent = failing(1, None, MockFailureMode::Silent);
    let silence = tokio::time::timeout(Duration::from_secs(3600), silent.answer(request("/v1/chat/completions", &body))).await;
    assert!(silence.is_err());
}
