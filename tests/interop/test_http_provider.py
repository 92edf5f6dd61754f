"""`provider: http` before a real FastAPI app: MLflow's forms and messages in, the app's own JSON behind."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from google.protobuf.json_format import MessageToDict, ParseDict

import rpc
from gateway import Gateway
from processes import Program, free_port

APP = """
from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel
import uvicorn, sys

app = FastAPI()

class Body(BaseModel):
    features: list[list[float]]
    names: list[str] = []

@app.get("/ping")
def ping():
    return "pong"

@app.put("/predict")
def predict(body: Body):
    if any(row[0] == 13 for row in body.features):
        raise HTTPException(500, "secret insides")
    return {"scores": [sum(row) for row in body.features], "names": body.names}

@app.get("/price")
def price(sqm: float, city: str, tag: list[str] = Query([])):
    return {"price": sqm * 10, "city": city, "tags": tag}

@app.post("/invocations")
def invocations(body: dict):
    return [row["x"] for row in body["dataframe_records"]]

uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""
TEMPLATES = {
    "path": "/predict",
    "method": "PUT",
    "request": '{"features": {{ rows }}, "names": {{ columns }}}',
    "response": "{{ response.scores }}",
}
QUERY = {
    "path": "/price",
    "method": "GET",
    "request": '{"sqm": {{ rows[0][0]|tojson }}, "city": {{ rows[0][1]|tojson }}, "tag": {{ params.tags }}}',
    "response": "[{{ response }}]",
}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A gateway with endpoints at the app: by templates of bodies and of queries, and as it is."""
    app = tmp_path_factory.mktemp("app") / "app.py"
    app.write_text(APP)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Program("fastapi", [sys.executable, app, port])
    program.wait_for(f"{url}/ping", 60)

    def endpoint(name, config):
        model = {"provider": "http", "url": url, "config": config}
        batch = {"max_delay": "20ms"}
        return {"name": name, "endpoint_type": "mlflow/predict", "model": model, "batch": batch}

    alone = {"name": "query", "endpoint_type": "mlflow/predict", "model": {"provider": "http", "url": url, "config": QUERY}}
    gateway = Gateway("http", {"endpoints": [endpoint("own", TEMPLATES), endpoint("plain", {"path": "/invocations"}), alone]})
    yield gateway
    gateway.stop()
    program.stop()


def split(*rows):
    """A body with two columns."""
    return {"dataframe_split": {"columns": ["a", "b"], "data": [list(row) for row in rows]}}


def post(gate, endpoint, body):
    """Asks at MLflow's path."""
    return requests.post(f"{gate.url}/endpoints/{endpoint}/invocations", json=body, timeout=30)


def test_forms_and_messages(gate):
    """The same predictions by HTTP and gRPC."""
    assert post(gate, "own", split((1.5, 2), (3, 4))).json() == {"predictions": [3.5, 7.0]}
    records = {"dataframe_records": [{"a": 1.5, "b": 2.0}]}
    assert post(gate, "plain", {"dataframe_records": [{"x": 12345678901234567}]}).json() == {"predictions": [12345678901234567]}
    # The app wants lists, so records do not fit: its refusal is the caller's, in words of the gateway.
    refused = post(gate, "own", records)
    assert refused.status_code == 400 and "features" not in refused.text, refused.text
    with gate.channel() as channel:
        request = ParseDict({"endpoint": "own", **split((1.5, 2))}, rpc.predict.PredictRequest())
        answer = rpc.predict_stub(channel).Predict(request, timeout=rpc.SECONDS)
    assert MessageToDict(answer)["predictions"] == [3.5]


def test_a_query(gate):
    """An app that is asked by its address reads there what was sent, letter for letter."""
    city, tags = "São Paulo & co? #1/2 100%+", ["a b", "c&d"]
    body = {"dataframe_split": {"columns": ["sqm", "city"], "data": [[72.5, city]]}, "params": {"tags": tags}}
    assert post(gate, "query", body).json() == {"predictions": [{"price": 725.0, "city": city, "tags": tags}]}
    # What the app refuses is the caller's.
    assert post(gate, "query", {**body, "dataframe_split": {"data": [["many", city]]}}).status_code == 400


def test_failures_are_told_and_not_repeated(gate):
    """A failure of the app is the provider's, and says nothing of its insides."""
    failed = post(gate, "own", split((13, 0)))
    assert failed.status_code == 502 and "secret" not in failed.text, failed.text


def test_callers_go_together(gate):
    """What comes at the same time is one request, before the template sees it."""
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda n: post(gate, "own", split((n + 0.5, n))).json(), range(20, 36)))
    assert answers == [{"predictions": [2 * n + 0.5]} for n in range(20, 36)]
