"""The same YAML and the same requests to a real `mlflow gateway start` and to Flowgate, over one upstream.

Answers and the bodies sent upstream are compared field by field. Every difference must stand in `DIFFERENCES`, with its
reason, and every row there must be met: the table is the whole truth about where Flowgate leaves MLflow's path.
"""

import json
from fnmatch import fnmatchcase

import pytest
import requests
import yaml

from conftest import TASKS, openai_endpoint
from doors import events
from fake_openai import KEY
from gateway import Gateway
from processes import INTEROP, Program, environment, free_port

USER = [{"role": "user", "content": "one two"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "minLength": 1}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": PARAMETERS}}
PARTS = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
SCHEMA = {"name": "answer", "strict": True, "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
FAULTS = ["fail-400", "fail-401", "fail-404", "fail-429", "fail-500", "not-json"]
CHAT, COMPLETIONS, EMBEDDINGS = (f"/gateway/{name}/invocations" for name in TASKS)

# name -> path and body; None for a GET.
REQUESTS = {
    "chat": (CHAT, {"messages": USER}),
    "chat by the deployments path": ("/endpoints/chat/invocations", {"messages": USER}),
    "chat with parameters": (
        CHAT,
        {"messages": USER, "temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "stop": ["x"], "n": 2, "seed": 7},
    ),
    "chat with unknown fields": (CHAT, {"messages": USER, "n": 1, "user": "u", "brand_new": {"deep": [1]}}),
    "chat with parts": (CHAT, {"messages": [{"role": "user", "content": PARTS}]}),
    "chat with a tool": (CHAT, {"messages": USER, "tools": [TOOL], "tool_choice": "auto"}),
    "chat with a tool, stream": (CHAT, {"messages": USER, "tools": [TOOL], "stream": True}),
    "chat with a JSON object": (CHAT, {"messages": USER, "response_format": {"type": "json_object"}}),
    "chat with a schema": (
        CHAT,
        {"messages": USER, "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    ),
    "chat, stream": (CHAT, {"messages": USER, "stream": True}),
    "chat, stream with usage": (CHAT, {"messages": USER, "stream": True, "stream_options": {"include_usage": True}}),
    "OpenAI chat": ("/v1/chat/completions", {"model": "chat", "messages": USER}),
    "OpenAI chat, stream": ("/v1/chat/completions", {"model": "chat", "messages": USER, "stream": True}),
    "completions": (COMPLETIONS, {"prompt": "once", "max_tokens": 5}),
    "OpenAI completions": ("/v1/completions", {"model": "completions", "prompt": "once"}),
    "embeddings": (EMBEDDINGS, {"input": ["a", "bcd"]}),
    "embeddings of token ids": (EMBEDDINGS, {"input": [[1, 2], [3]]}),
    "OpenAI embeddings": ("/v1/embeddings", {"model": "embeddings", "input": "a"}),
    "an unknown endpoint": ("/gateway/nobody/invocations", {"messages": USER}),
    "an unknown model": ("/v1/chat/completions", {"model": "nobody", "messages": USER}),
    "the wrong task": ("/v1/chat/completions", {"model": "embeddings", "messages": USER}),
    "no messages": (CHAT, {}),
    "stop as a string": (CHAT, {"messages": USER, "n": 1, "stop": "x"}),
    "health": ("/health", None),
    "the list": ("/api/2.0/endpoints/", None),
    "one of the list": ("/api/2.0/endpoints/chat", None),
    "none of the list": ("/api/2.0/endpoints/nobody", None),
    **{f"upstream {fault}": (f"/gateway/{fault}/invocations", {"messages": USER}) for fault in FAULTS},
}

# Request, difference, reason; both by pattern. `-` only MLflow has it, `+` only Flowgate, `~` both, with other values.
DIFFERENCES = [
    ("*", "-up.body.n", "MLflow writes `n: 1` where the caller said nothing; some models refuse it"),
    ("*", "-answer.*=null", "MLflow writes null for what the upstream left out; the byte lane writes nothing"),
    ("*chat*", "-answer.provider", "an addition of MLflow's; the byte lane adds nothing"),
    ("*stream*", "-events[].*=null", "as for answers"),
    ("*stream*", "-events[].provider", "as for answers"),
    ("*stream*", "+events[].system_fingerprint", "unknown response fields are kept"),
    ("*stream*", "+events[].choices[].logprobs=null", "unknown response fields are kept"),
    ("*stream", "-usage chunk", "MLflow passes on a usage chunk that the caller did not ask for"),
    ("*stream*", "+[DONE]", "OpenAI's end mark, which MLflow leaves out"),
    ("*", "+answer.system_fingerprint", "unknown response fields are kept"),
    ("*", "+answer.choices[].logprobs=null", "unknown response fields are kept"),
    ("*tool*", "+up.body.tools[].function.parameters.properties.city.minLength", "schemas arrive whole"),
    ("*", "+answer.error", "errors carry OpenAI's shape too, which the OpenAI SDK reads"),
    ("*", "~answer.detail", "our words: what to do next, nothing of the upstream's secrets"),
    ("an unknown model", "~status", "404, where MLflow answers a bare 500"),
    ("an unknown model", "+answer", "JSON, where MLflow answers plain text"),
    ("no messages", "~status", "400: MLflow's 422 is its framework's"),
    ("stop as a string", "~status", "accepted, as OpenAI does; MLflow wants a list"),
    ("stop as a string", "?answer*", "accepted, as OpenAI does"),
    ("stop as a string", "+up", "accepted, as OpenAI does"),
    ("upstream fail-401", "~status", "the operator's credential is not the caller's fault: 502"),
    ("upstream fail-404", "~status", "the operator's model name is not the caller's fault: 502"),
    ("upstream fail-500", "~status", "a fault behind the gateway is 502"),
]


@pytest.fixture(scope="module")
def pair(upstream):
    """MLflow's gateway and Flowgate on the same file."""
    endpoints = [openai_endpoint(name, task, "gpt-fake", upstream.url) for name, task in TASKS.items()]
    endpoints += [openai_endpoint(fault, TASKS["chat"], fault, upstream.url) for fault in FAULTS]
    ours = Gateway("parity", {"endpoints": endpoints}, UPSTREAM_KEY=KEY)
    path = INTEROP / "configs" / "mlflow-gateway.yaml"
    path.write_text(yaml.safe_dump({"endpoints": endpoints}))
    port = free_port()
    command = ["mlflow", "gateway", "start", "--config-path", path, "--port", port, "--workers", "1"]
    theirs = Program("mlflow-gateway", command, env=environment(UPSTREAM_KEY=KEY))
    try:
        theirs.wait_for(f"http://127.0.0.1:{port}/health", 120)
        yield f"http://127.0.0.1:{port}", ours.url
    finally:
        theirs.stop()
        ours.stop()


def exchange(url, upstream, path, body):
    """One request: its status, its answer or events, and what went upstream."""
    upstream.take()
    answer = requests.request("GET" if body is None else "POST", url + path, json=body, timeout=30)
    found = {"status": answer.status_code}
    if answer.headers["content-type"].startswith("text/event-stream"):
        found |= read_events(list(events(answer)))
    elif answer.headers["content-type"].startswith("application/json"):
        found["answer"] = answer.json()
    for call in upstream.take():
        found["up"] = {"path": call.path, "key": call.headers.get("authorization"), "body": call.body}
    return found


def read_events(data):
    """The chunks with content, and whether a usage chunk and the end mark came after them."""
    chunks = [json.loads(text) for text in data if text != "[DONE]"]
    found = {"events": [chunk for chunk in chunks if chunk["choices"]]}
    if len(chunks) > len(found["events"]):
        found["usage chunk"] = True
    if data[-1:] == ["[DONE]"]:
        found["[DONE]"] = True
    return found


def differences(theirs, ours, place=""):
    """Every place where two JSON values differ, list positions left out."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted({*theirs, *ours}):
            inner = f"{place}.{key}" if place else key
            if key not in ours:
                yield f"-{inner}" + ("=null" if theirs[key] is None else "")
            elif key not in theirs:
                yield f"+{inner}" + ("=null" if ours[key] is None else "")
            else:
                yield from differences(theirs[key], ours[key], inner)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for one, other in zip(theirs, ours):
            yield from differences(one, other, f"{place}[]")
    elif theirs != ours:
        yield f"~{place}"


def defended(name, difference):
    """The row that explains a difference."""
    for row in DIFFERENCES:
        pattern = row[1].replace("[", "[[]")
        if fnmatchcase(name, row[0]) and fnmatchcase(difference, pattern):
            return row
    return None


@pytest.fixture(scope="module")
def found(pair, upstream):
    """All differences, by request."""
    theirs, ours = pair
    return {
        name: sorted(set(differences(exchange(theirs, upstream, *sent), exchange(ours, upstream, *sent))))
        for name, sent in REQUESTS.items()
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_differences_are_defended(found, name):
    """Nothing differs that the table does not explain."""
    undefended = [difference for difference in found[name] if not defended(name, difference)]
    assert not undefended, undefended


def test_every_row_is_met(found):
    """The table lists nothing that is not so."""
    met = {defended(name, difference) for name in found for difference in found[name]}
    idle = [row for row in DIFFERENCES if row not in met]
    assert not idle, idle
