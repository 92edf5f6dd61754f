"""The rest of the contract from a generated Python client, and the errors as gRPC people expect them."""

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from rpc import (
    SECONDS,
    ask,
    chat_stub,
    completion,
    completion_stub,
    details,
    embedding,
    embedding_stub,
    endpoint,
    endpoint_stub,
    failure,
)

SCHEMA = '{"type":"object","properties":{"city":{"type":"string","$comment":"kept"}},"required":["city"]}'


@pytest.mark.parametrize("name", ["completions", "mock-completions", "mock-chat"])
def test_completions(channel, name):
    """A prompt, whole and in pieces; a chat-only endpoint takes it as one user message."""
    request = completion.CompleteRequest(endpoint=name, prompts=["once upon a time"])
    whole = completion_stub(channel).Complete(request, timeout=SECONDS)
    events = list(completion_stub(channel).StreamComplete(request, timeout=SECONDS))
    assert [event.sequence for event in events] == list(range(len(events)))
    assert "".join(event.delta.text for event in events) == whole.choices[0].text != ""
    assert events[-1].WhichOneof("event") == "end"


@pytest.mark.parametrize("name", ["embeddings", "mock-embeddings"])
def test_embeddings(channel, name):
    """One vector for each text, in order."""
    request = embedding.EmbedRequest(endpoint=name, inputs=["a", "bcd"])
    answer = embedding_stub(channel).Embed(request, timeout=SECONDS)
    assert [vector.index for vector in answer.embeddings] == [0, 1]
    assert all(vector.values for vector in answer.embeddings)


def test_tools(channel, fake):
    """A tool call comes back with its arguments as written, whole and in pieces; the schema goes up to the letter."""
    request = ask("chat", "weather?", tools=[{"name": "weather", "parameters": SCHEMA}])
    part = chat_stub(channel).Chat(request, timeout=SECONDS).choices[0].message.parts[0].tool_call
    assert (part.id, part.name, part.arguments) == ("call_1", "weather", '{"city":"Paris"}')
    deltas = [event.delta for event in chat_stub(channel).StreamChat(request, timeout=SECONDS)]
    assert "".join(delta.arguments for delta in deltas) == '{"city":"Paris"}'
    assert [delta.tool_call.name for delta in deltas if delta.HasField("tool_call")] == ["weather"]
    assert SCHEMA.encode() in fake.take()[0].raw


def test_what_goes_up(channel, fake):
    """A request says upstream what it says here, and no more."""
    request = ask("chat", "hi", max_tokens=5, temperature=0.0, seed=9007199254740993, stop=["x"])
    chat_stub(channel).Chat(request, timeout=SECONDS)
    call = fake.take()[0]
    tokens = call.body.pop("max_tokens", None) or call.body.pop("max_completion_tokens", None)
    assert tokens == 5
    assert call.body == {
        "model": "gpt-fake",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.0,
        "seed": 9007199254740993,
        "stop": ["x"],
    }


def test_endpoints(channel):
    """The list, by name, and one of it."""
    listed = list(endpoint_stub(channel).ListEndpoints(endpoint.ListEndpointsRequest(), timeout=SECONDS).endpoints)
    names = [item.name for item in listed]
    assert names == sorted(names) and {"chat", "mock-predict"} <= set(names)
    one = endpoint_stub(channel).GetEndpoint(endpoint.GetEndpointRequest(endpoint="chat"), timeout=SECONDS).endpoint
    assert MessageToDict(one) == MessageToDict(listed[names.index("chat")])
    assert MessageToDict(one)["task"] == "TASK_CHAT" and MessageToDict(one)["state"] == "ENDPOINT_STATE_SERVING"


def test_endpoints_by_page(channel):
    """Pages join to the list."""
    stub, names, token = endpoint_stub(channel), [], ""
    while True:
        page = stub.ListEndpoints(endpoint.ListEndpointsRequest(page_size=3, page_token=token), timeout=SECONDS)
        assert len(page.endpoints) <= 3
        names += [item.name for item in page.endpoints]
        token = page.next_page_token
        if not token:
            break
    whole = stub.ListEndpoints(endpoint.ListEndpointsRequest(), timeout=SECONDS)
    assert names == [item.name for item in whole.endpoints]


def test_a_bad_field_is_named(channel):
    """BadRequest says which field and why."""
    error = failure(lambda: chat_stub(channel).Chat(ask("chat", "hi", max_tokens=0), timeout=SECONDS))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(error).reason == "CALLER_INVALID_REQUEST"
    assert [v.field for v in details(error, error_details_pb2.BadRequest).field_violations] == ["max_tokens"]


def test_a_rate_limit_says_when(channel):
    """RetryInfo carries the upstream's hint."""
    error = failure(lambda: chat_stub(channel).Chat(ask("fail-429", "hi"), timeout=SECONDS))
    assert details(error, error_details_pb2.RetryInfo).retry_delay.seconds == 7
    assert details(error).metadata["upstream_status"] == "429"


def test_the_wrong_task(channel):
    """A chat call to a predict endpoint."""
    error = failure(lambda: chat_stub(channel).Chat(ask("mock-predict", "hi"), timeout=SECONDS))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(error).reason == "CALLER_WRONG_TASK"


def test_an_unknown_rpc(channel):
    """UNIMPLEMENTED, as every gRPC server says."""
    call = channel.unary_unary("/flowgate.v1.ChatService/Nobody")
    assert failure(lambda: call(b"", timeout=SECONDS)).code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_request_id_comes_back(channel):
    """The caller's `x-request-id` is the call's."""
    answer = chat_stub(channel).Chat(ask("chat", "hi"), metadata=[("x-request-id", "mine-1")], timeout=SECONDS)
    assert answer.call.request_id == "mine-1"


@pytest.mark.parametrize("name", ["", "flowgate.v1.ChatService", "chat"])
def test_health(channel, name):
    """The server, each service and each endpoint have a status."""
    stub = health_pb2_grpc.HealthStub(channel)
    status = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS).status
    assert status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_v1alpha(channel):
    """What grpcio's and older clients ask for; grpcurl asks for v1."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {"flowgate.v1.ChatService", "grpc.health.v1.Health"} <= set(database.get_services())
    assert database.FindFileContainingSymbol("flowgate.v1.ChatService").package == "flowgate.v1"
