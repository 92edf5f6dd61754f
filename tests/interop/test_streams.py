"""Streams on every door: prompt, complete, cancellable, and never an empty success."""

import socket
import time

import grpc
import pytest

from doors import DOORS, Failed
from fake_openai import KEY
from processes import poll
from rpc import SECONDS, ask, chat_stub

WORDS = "one two three four"
SAID = f"You said: {WORDS}"
CODES = grpc.StatusCode
# What the upstream does -> reason, HTTP status, gRPC code at our door, before anything was said.
REFUSALS = {
    "fail-400": ("PROVIDER_REJECTED_REQUEST", 400, CODES.INVALID_ARGUMENT),
    "fail-401": ("PROVIDER_CREDENTIAL_REJECTED", 502, CODES.INTERNAL),
    "fail-403": ("PROVIDER_CREDENTIAL_REJECTED", 502, CODES.INTERNAL),
    "fail-404": ("PROVIDER_NOT_FOUND", 502, CODES.INTERNAL),
    "fail-429": ("PROVIDER_RATE_LIMITED", 429, CODES.RESOURCE_EXHAUSTED),
    "fail-500": ("PROVIDER_FAILED", 502, CODES.UNAVAILABLE),
    "fail-503": ("PROVIDER_UNAVAILABLE", 503, CODES.UNAVAILABLE),
    "not-json": ("PROVIDER_BAD_ANSWER", 502, CODES.UNAVAILABLE),
    "silent": ("PROVIDER_TIMEOUT", 504, CODES.DEADLINE_EXCEEDED),
    "nobody": ("CALLER_ENDPOINT_NOT_FOUND", 404, CODES.NOT_FOUND),
}
BREAKS = {"cut": "PROVIDER_STREAM_CUT", "no-end": "PROVIDER_STREAM_CUT", "error-event": "PROVIDER_FAILED"}


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request, gateway):
    """Each door in turn."""
    opened = request.param(gateway)
    yield opened
    opened.close()


@pytest.mark.parametrize("endpoint", ["chat", "mock-chat"])
def test_pieces_are_the_whole(door, endpoint):
    """The pieces of a stream, joined, are the unary answer; usage and the end come."""
    stream = door.stream(endpoint, WORDS)
    pieces = list(stream)
    assert "".join(pieces) == door.whole(endpoint, WORDS)
    assert len(pieces) > 1 and stream.ended
    assert stream.usage and all(count > 0 for count in stream.usage)


def test_text_is_the_upstream_s(door):
    """The same text on every door."""
    assert door.whole("chat", WORDS) == SAID


def test_first_piece_before_the_upstream_has_finished(door, fake):
    """Pieces arrive as they are written: the upstream is still waiting when the first is here."""
    stream = door.stream("gated", WORDS)
    pieces = iter(stream)
    first = next(pieces)
    call = fake.wait_for_call("gated")
    assert not call.gate.is_set()
    fake.release(call)
    assert first + "".join(pieces) == SAID
    assert stream.usage and stream.ended


def closed_within(call, since):
    """How long after `since` the upstream saw its connection close."""
    return poll(lambda: call.closed_at, 5, "the upstream's connection to close") - since


def fastest(attempt, fake):
    """The best of three, since other programs share the machine."""
    times = []
    for _ in range(3):
        fake.take()
        times.append(attempt())
        if times[-1] < 0.1:
            break
    return min(times)


def test_cancelling_a_stream_stops_the_upstream(door, fake):
    """The client goes away in the middle: the upstream's connection closes within 100 ms."""

    def attempt():
        stream = door.stream("gated", WORDS)
        pieces = iter(stream)  # held, since letting go of it may close the stream
        next(pieces)
        call = fake.wait_for_call("gated")
        since = time.monotonic()
        stream.cancel()
        return closed_within(call, since)

    assert fastest(attempt, fake) < 0.1


@pytest.mark.parametrize("path", ["/v1/endpoints/gated:chat", "/v1/chat/completions", "/endpoints/gated/invocations"])
def test_leaving_a_unary_http_call_stops_the_upstream(gateway, fake, path):
    """The same for a call whose answer has not begun."""
    text = b'{"messages":[{"role":"user","content":"x"}]}'
    text = text.replace(b"{", b'{"model":"gated",', 1) if path == "/v1/chat/completions" else text
    text = b'{"messages":[{"text":"x"}]}' if path.endswith(":chat") else text
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"

    def attempt():
        host, port = gateway.address.split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode() + text)
            call = fake.wait_for_call("gated")
            since = time.monotonic()
        return closed_within(call, since)

    assert fastest(attempt, fake) < 0.1


def test_cancelling_a_unary_rpc_stops_the_upstream(channel, fake):
    """The same over gRPC."""

    def attempt():
        future = chat_stub(channel).Chat.future(ask("gated", WORDS), timeout=SECONDS)
        call = fake.wait_for_call("gated")
        since = time.monotonic()
        future.cancel()
        return closed_within(call, since)

    assert fastest(attempt, fake) < 0.1


def test_a_deadline_stops_the_upstream(channel, fake):
    """The caller's deadline passes: DEADLINE_EXCEEDED, and the upstream is left."""
    with pytest.raises(grpc.RpcError) as caught:
        chat_stub(channel).Chat(ask("gated", WORDS), timeout=0.3)
    assert caught.value.code() == CODES.DEADLINE_EXCEEDED
    assert closed_within(fake.wait_for_call("gated"), time.monotonic()) < 1


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("endpoint", REFUSALS)
def test_refusals(door, endpoint, streamed):
    """A failure before anything was said has its status and reason, streamed or not."""
    reason, status, code = REFUSALS[endpoint]
    with pytest.raises(Failed) as caught:
        list(door.stream(endpoint, WORDS)) if streamed else door.whole(endpoint, WORDS)
    assert caught.value.reason == reason
    assert caught.value.status == (code if door.name == "grpc" else status)
    assert KEY not in str(caught.value), "no upstream secrets"


@pytest.mark.parametrize("endpoint", BREAKS)
def test_breaks(door, endpoint):
    """A failure in the middle is an error after what was said, never a silent end."""
    stream, said = door.stream(endpoint, WORDS), []
    with pytest.raises(Failed) as caught:
        for piece in stream:
            said.append(piece)
    assert "".join(said) == "You said:"
    assert caught.value.reason == BREAKS[endpoint]
    assert not stream.ended
