"""The OpenAI Python SDK, unchanged but for its address."""

import openai
import pytest

from doors import ANY_KEY
from fake_openai import KEY

USER = [{"role": "user", "content": "one two"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "$defs": {"a": {"const": 1}}, "properties": {}}},
}


@pytest.fixture
def client(gateway):
    """The SDK at the gateway, retries off so that a test sees the first answer."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=ANY_KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("model", ["chat", "mock-chat"])
def test_chat(client, model):
    """A unary answer with usage."""
    answer = client.chat.completions.create(model=model, messages=USER)
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop" and answer.object == "chat.completion"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


@pytest.mark.parametrize("model", ["chat", "mock-chat"])
def test_chat_stream(client, model):
    """Chunks that join to the unary answer; no usage chunk unless asked for."""
    whole = client.chat.completions.create(model=model, messages=USER).choices[0].message.content
    chunks = list(client.chat.completions.create(model=model, messages=USER, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_stream_with_usage(client):
    """The usage chunk comes last when it was asked for."""
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="chat", messages=USER, stream=True, stream_options=options))
    assert chunks[-1].usage.total_tokens > 0 and chunks[-1].choices == []


@pytest.mark.parametrize("model", ["completions", "mock-completions"])
def test_completions(client, model):
    """Whole and in pieces."""
    whole = client.completions.create(model=model, prompt="once").choices[0].text
    chunks = list(client.completions.create(model=model, prompt="once", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole != ""


@pytest.mark.parametrize("model", ["embeddings", "mock-embeddings"])
@pytest.mark.parametrize("form", ["float", "base64", None])
def test_embeddings(client, model, form):
    """As numbers, as base64, and as the SDK asks by default."""
    more = {"encoding_format": form} if form else {}
    answer = client.embeddings.create(model=model, input=["a", "bcd"], **more)
    assert [item.index for item in answer.data] == [0, 1]
    assert all(item.embedding for item in answer.data) and answer.usage.prompt_tokens > 0


def test_embeddings_are_the_upstream_s(client):
    """The numbers cross unchanged."""
    answer = client.embeddings.create(model="embeddings", input=["a", "bcd"])
    assert [item.embedding for item in answer.data] == [[0.0, 1.0, 0.5], [1.0, 3.0, 0.5]]


def test_tools(client, fake):
    """A tool call, its result, and a schema that arrives whole."""
    call = client.chat.completions.create(model="chat", messages=USER, tools=[TOOL]).choices[0].message.tool_calls[0]
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", '{"city":"Paris"}')
    turn = [*USER, {"role": "assistant", "tool_calls": [call.to_dict()]}]
    turn.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    answer = client.chat.completions.create(model="chat", messages=turn, tools=[TOOL])
    assert answer.choices[0].message.content == "You said: sunny"
    first, second = fake.take()
    assert first.body["tools"] == [TOOL] and second.body["messages"] == turn


def test_tools_stream(client):
    """A tool call in pieces."""
    chunks = client.chat.completions.create(model="chat", messages=USER, tools=[TOOL], stream=True)
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or []]
    assert "".join(piece.function.arguments or "" for piece in pieces) == '{"city":"Paris"}'


def test_structured_output(client, fake):
    """`response_format` with a schema."""
    schema = {"name": "answer", "schema": {"type": "object", "properties": {"answer": {"type": "string"}}}}
    form = {"type": "json_schema", "json_schema": schema}
    answer = client.chat.completions.create(model="chat", messages=USER, response_format=form)
    assert answer.choices[0].message.content == '{"answer": "one two"}'
    assert fake.take()[0].body["response_format"] == form


def test_the_byte_lane_changes_the_model_alone(client, fake):
    """Fields that nobody knows go up and come back; the credential is the operator's, the caller's stays here."""
    more = {"brand_new": {"deep": [1, 2.0]}, "service_tier": "flex"}
    answer = client.chat.completions.create(model="chat", messages=USER, n=2, logprobs=True, extra_body=more)
    assert answer.system_fingerprint == "fp_fake" and len(answer.choices) == 2
    call = fake.take()[0]
    assert call.body == {"model": "gpt-fake", "messages": USER, "n": 2, "logprobs": True, **more}
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert ANY_KEY not in str(call.headers)


def test_parts(client, fake):
    """Multimodal messages arrive as they were sent."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what?"}, image]}]
    client.chat.completions.create(model="chat", messages=messages)
    assert fake.take()[0].body["messages"] == messages


def test_models(client):
    """The endpoints are the models."""
    assert {"chat", "embeddings", "mock-chat"} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("fail-400", openai.BadRequestError),
        ("fail-401", openai.InternalServerError),  # our credential, not the caller's: 502
        ("fail-429", openai.RateLimitError),
        ("fail-500", openai.InternalServerError),
        ("nobody", openai.NotFoundError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_errors(client, model, kind, stream):
    """The SDK's own exceptions, with a message, a code and a request id."""
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=model, messages=USER, stream=stream)
    assert caught.value.code and caught.value.request_id
    assert "error code" not in caught.value.message.lower() or caught.value.body["message"]
    assert KEY not in caught.value.response.text


def test_a_rate_limit_says_when(client):
    """`Retry-After` crosses."""
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="fail-429", messages=USER)
    assert caught.value.response.headers["retry-after"] == "7"
