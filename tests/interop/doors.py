"""The doors of a chat call, made alike: each asks one question, whole or as a stream, and fails with the same words."""

import json

import grpc
import openai
import requests

import rpc

ANY_KEY = "sk-anything"


class Failed(Exception):
    """A call that failed: the reason of the contract, and the status at this door."""

    def __init__(self, reason, status, message):
        super().__init__(f"{reason} {status}: {message}")
        self.reason, self.status, self.message = (reason or "").upper(), status, message


def failed_rpc(error):
    """A gRPC error in the doors' own form."""
    return Failed(rpc.details(error).reason, error.code(), error.details())


def failed_body(status, text):
    """An HTTP error body in the doors' own form; `error.reason` is the reason."""
    body = json.loads(text)
    assert status < 400 or body["detail"], body
    return Failed(body["error"]["reason"], status, body["error"]["message"])


class Grpc:
    """The generated Python client."""

    name = "grpc"

    def __init__(self, gateway):
        self.channel = gateway.channel()
        self.stub = rpc.chat_stub(self.channel)

    def whole(self, endpoint, text):
        """The text of a unary answer."""
        try:
            answer = self.stub.Chat(rpc.ask(endpoint, text), timeout=rpc.SECONDS)
        except grpc.RpcError as error:
            raise failed_rpc(error) from None
        return answer.choices[0].message.parts[0].text.text

    def stream(self, endpoint, text):
        """The streamed answer."""
        return GrpcStream(self.stub.StreamChat(rpc.ask(endpoint, text), timeout=rpc.SECONDS))

    def close(self):
        """Ends the connection."""
        self.channel.close()


class GrpcStream:
    """A StreamChat call."""

    def __init__(self, call):
        self.call, self.usage, self.ended = call, None, False

    def __iter__(self):
        try:
            for place, event in enumerate(self.call):
                assert event.sequence == place, "no gaps"
                yield from self.read(event)
        except grpc.RpcError as error:
            raise failed_rpc(error) from None

    def read(self, event):
        """The text of one event."""
        kind = event.WhichOneof("event")
        if kind == "delta" and event.delta.WhichOneof("delta") == "text":
            yield event.delta.text
        if kind == "usage":
            self.usage = (event.usage.input_tokens, event.usage.output_tokens)
        self.ended = kind == "end"

    def cancel(self):
        """Goes away."""
        self.call.cancel()


class Json:
    """The transcoded contract: JSON, and server-sent events."""

    name = "json"

    def __init__(self, gateway):
        self.url = f"{gateway.url}/v1/endpoints"
        self.session = requests.Session()

    def post(self, endpoint, verb, text, stream):
        """Sends one message."""
        body = {"messages": [{"role": "ROLE_USER", "text": text}]}
        answer = self.session.post(f"{self.url}/{endpoint}:{verb}", json=body, stream=stream, timeout=rpc.SECONDS)
        if answer.status_code != 200:
            raise failed_body(answer.status_code, answer.text)
        return answer

    def whole(self, endpoint, text):
        """The text of a unary answer."""
        answer = self.post(endpoint, "chat", text, False).json()
        return answer["choices"][0]["message"]["parts"][0]["text"]["text"]

    def stream(self, endpoint, text):
        """The streamed answer."""
        return JsonStream(self.post(endpoint, "streamChat", text, True))

    def close(self):
        """Ends the connections."""
        self.session.close()


class JsonStream:
    """The events of `:streamChat`."""

    def __init__(self, answer):
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.headers
        self.answer, self.usage, self.ended = answer, None, False

    def __iter__(self):
        for data in events(self.answer):
            event = json.loads(data)
            if "error" in event:
                raise failed_body(200, data)
            if "text" in event.get("delta", {}):
                yield event["delta"]["text"]
            if "usage" in event:
                self.usage = (event["usage"]["input_tokens"], event["usage"]["output_tokens"])
            self.ended = "end" in event

    def cancel(self):
        """Goes away."""
        self.answer.close()


def events(answer):
    """The data of each server-sent event as it arrives; comments and other fields are skipped."""
    for line in answer.iter_lines(chunk_size=None, decode_unicode=True):
        if line.startswith("data:"):
            yield line.removeprefix("data:").strip()


class OpenAi:
    """The OpenAI SDK."""

    name = "openai"

    def __init__(self, gateway):
        self.client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=ANY_KEY, max_retries=0, timeout=rpc.SECONDS)

    def create(self, endpoint, text, **more):
        """Asks one question."""
        try:
            return self.client.chat.completions.create(
                model=endpoint, messages=[{"role": "user", "content": text}], **more
            )
        except openai.APIStatusError as error:
            raise failed_body(error.status_code, error.response.text) from None

    def whole(self, endpoint, text):
        """The text of a unary answer."""
        return self.create(endpoint, text).choices[0].message.content

    def stream(self, endpoint, text):
        """The streamed answer."""
        return OpenAiStream(self.create(endpoint, text, stream=True, stream_options={"include_usage": True}))

    def close(self):
        """Ends the connections."""
        self.client.close()


class OpenAiStream:
    """A stream of the SDK, which reads `[DONE]` itself: `ended` is told from the finish reason."""

    def __init__(self, chunks):
        self.chunks, self.usage, self.ended = chunks, None, False

    def __iter__(self):
        try:
            for chunk in self.chunks:
                yield from self.read(chunk)
        except openai.APIError as error:
            raise Failed((error.body or {}).get("reason"), 200, error.message) from None

    def read(self, chunk):
        """The text of one chunk."""
        if chunk.usage:
            self.usage = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
        for choice in chunk.choices:
            self.ended = self.ended or choice.finish_reason is not None
            if choice.delta.content:
                yield choice.delta.content

    def cancel(self):
        """Goes away."""
        self.chunks.close()


DOORS = [Grpc, Json, OpenAi]
