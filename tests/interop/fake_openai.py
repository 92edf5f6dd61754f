"""An OpenAI-compatible upstream that records what it is sent and misbehaves on demand.

What it does is told by the request's `model`:

| model         | does                                                                         |
|---------------|------------------------------------------------------------------------------|
| `fail-STATUS` | answers STATUS with an OpenAI error body                                     |
| `not-json`    | answers 200 with an HTML page                                                |
| `cut`         | streams two words, then drops the connection                                 |
| `no-end`      | streams two words, then ends the body without `[DONE]`                       |
| `error-event` | streams two words, then an `error` event                                     |
| `silent`      | accepts the call and never answers                                           |
| `gated`       | streams two words (unary: nothing), and the rest once the test `release`s it |
| anything else | answers at once                                                              |
"""

import asyncio
import base64
import json
import struct
import threading
import time

import uvicorn

from processes import free_port, poll

KEY = "sk-upstream-secret"
ERRORS = {
    400: ("invalid_request_error", "unsupported_value", "Unsupported value: 'temperature' does not support 7."),
    401: ("invalid_request_error", "invalid_api_key", f"Incorrect API key provided: {KEY}."),
    403: ("insufficient_permissions", "forbidden", "Project does not have access to this model."),
    404: ("invalid_request_error", "model_not_found", "The model `fail-404` does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again in 7s."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded."),
}


class Dropped(Exception):
    """Ends an answer in the middle; uvicorn then closes the connection."""


class Call:
    """One request as the upstream saw it."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.raw = path, headers, body
        self.body = json.loads(body or b"{}")
        self.model = self.body.get("model")
        self.gate = asyncio.Event()
        self.closed_at = None


class FakeOpenAI:
    """The upstream, on a thread of its own; `calls` is what it was sent."""

    def __init__(self):
        self.calls = []
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        settings = {"interface": "asgi3", "lifespan": "off", "log_level": "critical"}
        self.server = uvicorn.Server(uvicorn.Config(self.app, host="127.0.0.1", port=self.port, **settings))
        self.loop = None

    def start(self):
        """Serves until `stop`."""
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        poll(lambda: self.server.started, 20, "the fake upstream")
        return self

    def stop(self):
        """Drops what is open and ends the thread."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(10)

    def take(self):
        """Returns the calls since the last `take`."""
        taken, self.calls = self.calls, []
        return taken

    def wait_for_call(self, model, seconds=10):
        """Returns the next call for `model`, as soon as it is there."""
        return poll(lambda: next((c for c in self.calls if c.model == model), None), seconds, f"a call of {model}")

    def release(self, call):
        """Lets a `gated` answer go on."""
        self.loop.call_soon_threadsafe(call.gate.set)

    async def app(self, scope, receive, send):
        """The ASGI application."""
        if scope["type"] != "http":
            return
        self.loop = asyncio.get_running_loop()
        call = Call(scope["path"], {k.decode(): v.decode() for k, v in scope["headers"]}, await read_body(receive))
        self.calls.append(call)
        answer = asyncio.ensure_future(Answer(call, send).run())
        gone = asyncio.ensure_future(wait_until_gone(receive))
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if answer.done():
            answer.result()  # raises what the answer raised
        else:
            call.closed_at = time.monotonic()
            answer.cancel()


async def read_body(receive):
    """The whole request body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def wait_until_gone(receive):
    """Returns when the client has closed the connection, or the answer is complete."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Answer:
    """Writes the answer to one call."""

    def __init__(self, call, send):
        self.call, self.body, self.model, self.send = call, call.body, call.model or "", send

    async def run(self):
        """Chooses the answer by the model's name, then by the path."""
        if self.call.path == "/v1/models":
            return await self.json(200, {"object": "list", "data": [{"id": "gpt-fake", "object": "model"}]})
        if self.model.startswith("fail-"):
            return await self.fail(int(self.model.removeprefix("fail-")))
        if self.model == "not-json":
            return await self.whole(200, b"<html>login</html>", [(b"content-type", b"text/html")])
        if self.model == "silent":
            return await asyncio.Event().wait()
        if self.call.path.endswith("/embeddings"):
            return await self.json(200, embeddings(self.body))
        if self.body.get("stream"):
            return await self.stream()
        if self.model == "gated":
            await self.call.gate.wait()
        await self.json(200, whole_answer(self.call.path, self.body))

    async def fail(self, status):
        """An error in OpenAI's shape."""
        kind, code, message = ERRORS[status]
        more = [(b"retry-after", b"7")] if status == 429 else []
        await self.json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, more)

    async def json(self, status, body, more=()):
        """A whole JSON answer."""
        head = [(b"content-type", b"application/json"), (b"x-request-id", b"req_fake"), *more]
        await self.whole(status, json.dumps(body).encode(), head)

    async def whole(self, status, body, headers):
        """A whole answer."""
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    async def stream(self):
        """The same answer in pieces, broken off where the model's name asks for it."""
        head = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await self.send({"type": "http.response.start", "status": 200, "headers": head})
        for place, chunk in enumerate(chunks(self.call.path, self.body)):
            if place == 3:
                await self.misbehave()
                if self.model in ("no-end", "error-event"):
                    break
            await self.event(chunk)
        else:
            await self.event("[DONE]")
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def misbehave(self):
        """What happens after the head and two words."""
        if self.model == "cut":
            raise Dropped
        if self.model == "error-event":
            kind, code, message = ERRORS[500]
            await self.event({"error": {"message": message, "type": kind, "param": None, "code": code}})
        if self.model == "gated":
            await self.call.gate.wait()

    async def event(self, data):
        """One server-sent event."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self.send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})


def answer_text(path, body):
    """What the model says: an echo, so that every test knows it."""
    if path.endswith("/chat/completions"):
        said = body["messages"][-1].get("content")
        said = said if isinstance(said, str) else " ".join(part.get("text", part["type"]) for part in said or [])
        if (body.get("response_format") or {}).get("type", "text") != "text":
            return json.dumps({"answer": said})
        return f"You said: {said}"
    prompt = body["prompt"] if isinstance(body["prompt"], str) else body["prompt"][0]
    return f"{prompt} and so on"


def tool_calls(body):
    """A call of the first tool, when the last message is the user's."""
    if not body.get("tools") or body["messages"][-1]["role"] == "tool" or body.get("tool_choice") == "none":
        return None
    name = body["tools"][0]["function"]["name"]
    return [{"id": "call_1", "type": "function", "function": {"name": name, "arguments": '{"city":"Paris"}'}}]


def usage(path, body):
    """Token counts: words."""
    asked = len(json.dumps(body.get("messages", body.get("prompt", body.get("input")))).split())
    said = 0 if path.endswith("/embeddings") else len(answer_text(path, body).split())
    counts = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    if path.endswith("/embeddings"):
        del counts["completion_tokens"]
    return counts


def head(path, body, chunk):
    """The fields that an answer and its chunks share."""
    chat = path.endswith("/chat/completions")
    kind = {(True, False): "chat.completion", (True, True): "chat.completion.chunk"}.get(
        (chat, chunk), "text_completion"
    )
    return {
        "id": "chatcmpl-fake" if chat else "cmpl-fake",
        "object": kind,
        "created": 1700000000,
        "model": f"{body['model']}-2026",
        "system_fingerprint": "fp_fake",
    }


def whole_answer(path, body):
    """The unary answer to a chat or completion call."""
    text, tools = answer_text(path, body), tool_calls(body)
    choices = []
    for index in range(body.get("n") or 1):
        choice = {"index": index, "finish_reason": "tool_calls" if tools else "stop", "logprobs": None}
        if path.endswith("/chat/completions"):
            choice["message"] = {"role": "assistant", "content": None if tools else text, "refusal": None}
            if tools:
                choice["message"]["tool_calls"] = tools
        else:
            choice["text"] = text
        choices.append(choice)
    return {**head(path, body, False), "choices": choices, "usage": usage(path, body)}


def chunks(path, body):
    """The streamed answer: a role, one word each, the finish reason, then usage where it was asked for."""
    chat, base = path.endswith("/chat/completions"), head(path, body, True)
    counted = (body.get("stream_options") or {}).get("include_usage")
    more = {"usage": None} if counted else {}

    def chunk(delta, finish=None):
        choice = {"index": 0, "finish_reason": finish, "logprobs": None}
        choice.update({"delta": delta} if chat else {"text": delta.get("content", "")})
        return {**base, "choices": [choice], **more}

    yield chunk({"role": "assistant", "content": ""})
    tools = tool_calls(body) if chat else None
    for delta in tool_deltas(tools) if tools else word_deltas(answer_text(path, body)):
        yield chunk(delta)
    yield chunk({}, "tool_calls" if tools else "stop")
    if counted:
        yield {**base, "choices": [], "usage": usage(path, body)}


def word_deltas(text):
    """The text word by word, spaces kept."""
    words = text.split(" ")
    for place, word in enumerate(words):
        yield {"content": word if place == 0 else f" {word}"}


def tool_deltas(calls):
    """The head of each tool call, then its arguments in two pieces."""
    for index, call in enumerate(calls):
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{**call, "index": index, "function": {**call["function"], "arguments": ""}}]}
        for piece in (arguments[:4], arguments[4:]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def embeddings(body):
    """Vectors told from the input's place and length, as numbers or, as the OpenAI SDK asks, as base64."""
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if inputs and isinstance(inputs[0], int):
        inputs = [inputs]
    data = []
    for index, text in enumerate(inputs):
        vector = [float(index), float(len(text)), 0.5]
        packed = base64.b64encode(struct.pack("<3f", *vector)).decode()
        value = packed if body.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": value})
    return {"object": "list", "data": data, "model": body["model"], "usage": usage("/embeddings", body)}
