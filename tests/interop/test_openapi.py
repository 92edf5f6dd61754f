"""The OpenAPI document: valid, and every path in it is there."""

import re

import pytest
import requests
from openapi_spec_validator import validate

PREDICT = {"dataframe_records": [{"x": 1}]}
# The last part of a path -> the endpoint it is called for, and a body that is right for it.
BODIES = {
    ":predict": ("mock-predict", PREDICT),
    ":chat": ("mock-chat", {"messages": [{"text": "hi"}]}),
    ":streamChat": ("mock-chat", {"messages": [{"text": "hi"}]}),
    ":complete": ("mock-completions", {"prompts": ["once"]}),
    ":streamComplete": ("mock-completions", {"prompts": ["once"]}),
    ":embed": ("mock-embeddings", {"inputs": ["a"]}),
    "/v1/chat/completions": ("mock-chat", {"model": "mock-chat", "messages": [{"role": "user", "content": "hi"}]}),
    "/v1/completions": ("mock-completions", {"model": "mock-completions", "prompt": "once"}),
    "/v1/embeddings": ("mock-embeddings", {"model": "mock-embeddings", "input": "a"}),
    "/llm/v1/chat/": ("mock-chat", {"messages": [{"role": "user", "content": "hi"}]}),
    "/llm/v1/completions/": ("mock-completions", {"prompt": "once"}),
    "/llm/v1/embeddings/": ("mock-embeddings", {"input": "a"}),
    "invocations": ("mock-predict", PREDICT),
    "/infer": ("mock-predict", {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}),
    "/v2/models/": ("mock-predict", None),
    "/v2/repository/models/": ("mock-predict", {}),
    "/v2/repository/index": ("mock-predict", {}),
}
# The end of a path -> what even a right request gets: endpoints have no versions of that protocol, and nobody here may load models.
REFUSED = {"/versions/{version}": 400, "/versions/{version}/ready": 400, "/versions/{version}/infer": 400, "/load": 403, "/unload": 403}
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
RPCS = {":predict", ":chat", ":streamChat", ":complete", ":streamComplete", ":embed"}


@pytest.fixture(scope="module")
def document(gateway):
    """The document."""
    answer = requests.get(f"{gateway.url}/openapi.json", timeout=20)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("application/json")
    return answer.json()


def test_the_document_is_valid(document):
    """By openapi-spec-validator."""
    validate(document)


def test_every_annotated_rpc_is_there(document):
    """The paths of the contract's annotations."""
    assert {"/v1/endpoints", "/v1/endpoints/{endpoint}"} <= set(document["paths"])
    assert {f"/v1/endpoints/{{endpoint}}{verb}" for verb in RPCS} <= set(document["paths"])


def operations(document):
    """Every path and method."""
    return [(path, method) for path, item in document["paths"].items() for method in item if method in METHODS]


def meant_for(path):
    """The endpoint and the body for a path."""
    return next((row for end, row in BODIES.items() if end in path), ("mock-chat", None))


def call(gateway, path, method):
    """Calls one operation with a right request."""
    endpoint, body = meant_for(path)
    url = gateway.url + re.sub(r"\{\w+\}", endpoint, path)
    return requests.request(method, url, json=body, timeout=20)


def test_every_operation_answers(document, gateway):
    """None is unknown, and each answers a right request with success, or as it must."""
    answers = {(method, path): call(gateway, path, method) for path, method in operations(document)}
    expected = lambda path: next((status for end, status in REFUSED.items() if path.endswith(end)), 200)
    wrong = {key: answer.text[:200] for key, answer in answers.items() if answer.status_code != expected(key[1])}
    assert wrong == {}
