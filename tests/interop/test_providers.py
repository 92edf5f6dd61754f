"""Providers' protocols as a third party speaks them: what is said, what is called, and every way to fail, whole and as a stream."""

import json

import grpc
import pytest
from google.rpc import error_details_pb2

import rpc
from doors import DOORS, Failed
from gateway import Gateway
from join import both, calls, said
from mocked import CLOCK, FIXTURES, KEY, LONG, TEXT, WEATHER, Mocked

CODES = grpc.StatusCode
# A name for each protocol -> the provider's row, where the mock serves its protocol, and what else its configuration says.
PROVIDERS = {
    "openai": ("openai", "/v1", {}),
    "responses": ("openai-responses", "/v1", {}),
    "anthropic": ("anthropic", "/v1", {}),
    "gemini": ("gemini", "/v1beta", {}),
    "azure": ("azure", "", {"api_version": "2024-10-21"}),
    "bedrock": ("bedrock", "", {}),
    "cohere": ("cohere", "/v2", {}),
}
# Where the mock is not like the provider.
UNLIKE = {
    ("responses", "length"): "the mock does not say why an answer is incomplete",
    ("bedrock", "reason"): "the mock begins a thought with an event that Bedrock does not have; test_aws.py has one as it is",
    ("cohere", "reason"): "the mock thinks aloud, in text",
    ("cohere", "tools"): "the mock has a plan in its streams alone",
}
# What the provider does -> reason, gRPC code, the upstream's status.
FAULTS = {
    "fail-400": ("PROVIDER_REJECTED_REQUEST", CODES.INVALID_ARGUMENT, "400"),
    "fail-401": ("PROVIDER_CREDENTIAL_REJECTED", CODES.INTERNAL, "401"),
    "fail-429": ("PROVIDER_RATE_LIMITED", CODES.RESOURCE_EXHAUSTED, "429"),
    "fail-500": ("PROVIDER_FAILED", CODES.UNAVAILABLE, "500"),
    "fail-503": ("PROVIDER_UNAVAILABLE", CODES.UNAVAILABLE, "503"),
    "fail-529": ("PROVIDER_UNAVAILABLE", CODES.UNAVAILABLE, "529"),
    "malformed": ("PROVIDER_BAD_ANSWER", CODES.UNAVAILABLE, ""),
    "dropped": ("PROVIDER_UNAVAILABLE", CODES.UNAVAILABLE, ""),
    "late": ("PROVIDER_TIMEOUT", CODES.DEADLINE_EXCEEDED, ""),
}
# What happens in the middle of a stream -> reason.
BREAKS = {"cut": "PROVIDER_STREAM_CUT", "stall": "PROVIDER_TIMEOUT"}
TOOLS = [
    {"name": "weather", "parameters": json.dumps({"type": "object", "properties": {"city": {"type": "string"}}})},
    {"name": "clock", "parameters": json.dumps({"type": "object", "properties": {"zone": {"type": "string"}}})},
]


def endpoint(provider, model, url, key=KEY, name=None):
    """An endpoint that asks for one model, once."""
    row, path, more = PROVIDERS[provider]
    # Google's protocol has no word of its own for it.
    asked = f"{model}-stop" if provider == "gemini" and model in ("tools", "mixed") else model
    config = {"api_key": key, "api_base": f"{url}{path}", **more}
    timeouts = {"late": {"attempt": "300ms", "first_event": "300ms"}, "stall": {"idle": "300ms"}}
    made = {
        "name": f"{provider}-{name or model}",
        "endpoint_type": "llm/v1/chat",
        "model": {"provider": row, "name": asked, "config": config, "parameters": {"max_tokens": 100}},
        "retry": {"attempts": 1},
    }
    return {**made, "timeouts": timeouts[model]} if model in timeouts else made


def endpoints(provider, url):
    """Every model, one with a wrong key, and one that tries again for each way to call."""
    models = dict.fromkeys(fixture["match"]["model"] for fixture in FIXTURES)
    yield from (endpoint(provider, model, url) for model in models if model != "flaky" and not model.endswith("-stop"))
    yield endpoint(provider, "talk", url, key="not-the-key", name="stranger")
    for way in ("whole", "stream"):
        again = {"retry": {"attempts": 2, "backoff": "10ms..20ms"}, "upstream": {"headers": {"x-test-id": f"{provider}-{way}"}}}
        yield {**endpoint(provider, "flaky", url, name=f"flaky-{way}"), **again}


@pytest.fixture(scope="module")
def mocked():
    """The mock."""
    started = Mocked()
    yield started
    started.stop()


@pytest.fixture(scope="module", params=PROVIDERS)
def provider(request):
    """Each provider in turn."""
    return request.param


@pytest.fixture(scope="module")
def gate(mocked, provider):
    """A gateway in front of the mock."""
    gateway = Gateway(f"provider-{provider}", {"endpoints": [*endpoints(provider, mocked.url)]})
    yield gateway
    gateway.stop()


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request, gate):
    """Each door in turn."""
    opened = request.param(gate)
    yield opened
    opened.close()


def skip_unlike(provider, what):
    """Leaves out what the mock does in a way that the provider does not."""
    if (provider, what) in UNLIKE:
        pytest.skip(UNLIKE[provider, what])


@pytest.mark.parametrize("model", ["talk", "slow"])
def test_chat(stub, provider, model):
    """The text and the counts, the same whole and as a stream."""
    answer = both(stub, rpc.ask(f"{provider}-{model}", "Where?"))
    assert said(answer) == TEXT
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_STOP
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 9)


def test_every_door(door, provider):
    """The same text on every door, whatever the provider's protocol."""
    stream = door.stream(f"{provider}-talk", "Where?")
    pieces = list(stream)
    assert len(pieces) > 1 and stream.ended and stream.usage == (11, 9)
    assert "".join(pieces) == door.whole(f"{provider}-talk", "Where?") == TEXT


def test_length(stub, provider):
    """The provider's word for the most tokens."""
    skip_unlike(provider, "length")
    answer = both(stub, rpc.ask(f"{provider}-length", "Count."))
    assert said(answer) == LONG and answer.choices[0].finish_reason == rpc.types.FINISH_REASON_LENGTH


def test_reasoning(stub, provider):
    """What the model thought stands before what it said."""
    skip_unlike(provider, "reason")
    answer = both(stub, rpc.ask(f"{provider}-reason", "Where?"))
    kinds = [part.WhichOneof("kind") for part in answer.choices[0].message.parts]
    assert kinds == ["reasoning", "text"] and said(answer) == TEXT
    assert answer.choices[0].message.parts[0].reasoning.text == "Where is the Eiffel Tower?"


def test_tools(stub, provider):
    """A call comes back whole; the history with its result goes up again, and the answer rests on it."""
    skip_unlike(provider, "tools")
    request = rpc.ask(f"{provider}-tools", "What is the weather in Paris?", tools=TOOLS)
    answer = both(stub, request)
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_TOOL_CALLS
    (part,) = answer.choices[0].message.parts
    assert (part.tool_call.name, json.loads(part.tool_call.arguments)) == ("weather", WEATHER["arguments"])
    assert part.tool_call.id
    request.messages.append(answer.choices[0].message)
    result = {"tool_call_id": part.tool_call.id, "parts": [{"text": {"text": "sunny"}}]}
    request.messages.add(role="ROLE_TOOL", parts=[{"tool_result": result}])
    answer = both(stub, request)
    assert said(answer) == "It is sunny in Paris." and not calls(answer)


def test_text_and_two_calls(stub, provider):
    """Text and several calls in one answer, each with its own arguments."""
    skip_unlike(provider, "tools")
    answer = both(stub, rpc.ask(f"{provider}-mixed", "Weather and time?", tools=TOOLS))
    made = [(name, json.loads(arguments)) for name, arguments in calls(answer)]
    assert made == [(call["name"], call["arguments"]) for call in (WEATHER, CLOCK)]
    assert said(answer) == "Let me look."
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_TOOL_CALLS


def fault(stub, endpoint, streamed):
    """The error of a call that fails before anything is said."""
    request = rpc.ask(endpoint, "Where?")
    return rpc.failure(lambda: [*stub.StreamChat(request, timeout=rpc.SECONDS)] if streamed else stub.Chat(request, timeout=rpc.SECONDS))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", FAULTS)
def test_faults(stub, provider, model, streamed):
    """The same class of error for every provider, whole and as a stream."""
    error = fault(stub, f"{provider}-{model}", streamed)
    detail, (reason, code, status) = rpc.details(error), FAULTS[model]
    assert (detail.reason, error.code()) == (reason, code)
    assert detail.metadata["provider"] == PROVIDERS[provider][0]
    if status:
        assert detail.metadata["upstream_status"] == status
    assert KEY not in error.details()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_rate_limit_says_when(stub, provider, streamed):
    """The provider's pause reaches the caller."""
    error = fault(stub, f"{provider}-fail-429", streamed)
    assert rpc.details(error, error_details_pb2.RetryInfo).retry_delay.seconds in (6, 7)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_key_that_is_refused(stub, provider, streamed):
    """The mock reads the key where the provider would; a wrong one is the operator's trouble, not the caller's."""
    error = fault(stub, f"{provider}-stranger", streamed)
    assert rpc.details(error).reason == "PROVIDER_CREDENTIAL_REJECTED" and error.code() == CODES.INTERNAL
    assert "not-the-key" not in str(error)


@pytest.mark.parametrize("model", BREAKS)
def test_breaks(door, provider, model):
    """A stream that breaks is an error after what was said, on every door; never a silent end."""
    stream, pieces = door.stream(f"{provider}-{model}", "Count."), []
    with pytest.raises(Failed) as caught:
        for piece in stream:
            pieces.append(piece)
    text = "".join(pieces)
    assert text and LONG.startswith(text) and text != LONG
    assert caught.value.reason == BREAKS[model] and not stream.ended


@pytest.mark.parametrize("way", ["whole", "stream"])
def test_a_failure_is_tried_again(stub, provider, way):
    """The first attempt fails, the second is all that the caller sees."""
    request = rpc.ask(f"{provider}-flaky-{way}", "Where?")
    if way == "whole":
        answer = stub.Chat(request, timeout=rpc.SECONDS)
        assert said(answer) == TEXT and answer.call.attempts == 2
    else:
        events = [*stub.StreamChat(request, timeout=rpc.SECONDS)]
        assert "".join(event.delta.text for event in events) == TEXT and events[-1].end.call.attempts == 2
