"""Choice by condition, as design.md writes it, on two real scoring servers: the same from every door and for every form of the input."""

import pytest
import requests
from google.protobuf.json_format import ParseDict

from gateway import Gateway
from rpc import SECONDS, predict, predict_stub

CONDITION = "request.json()['dataframe_split']['data'][0][0].startswith('Domain specific text')"
PLAIN, SPECIAL = "a good day", "Domain specific text: a splendid day"
CHOICES = [(PLAIN, "fast"), (SPECIAL, "accurate")]


@pytest.fixture(scope="module")
def sentiment(scoring):
    """The endpoint of two models."""
    model = lambda name: {"provider": "mlflow", "url": scoring[name]}
    deployments = [
        {"alias": "fast", "model": model("fast")},
        {"alias": "accurate", "model": model("accurate"), "when": CONDITION},
    ]
    endpoint = {"name": "sentiment", "endpoint_type": "mlflow/predict", "path": "/own/sentiment", "deployments": deployments}
    gateway = Gateway("sentiment", {"endpoints": [endpoint]})
    yield gateway
    gateway.stop()


def split(text):
    """The text in the form that the condition reads."""
    return {"dataframe_split": {"columns": ["text"], "data": [[text]]}}


@pytest.mark.parametrize(("text", "alias"), CHOICES)
@pytest.mark.parametrize("path", ["/endpoints/sentiment/invocations", "/invocations", "/own/sentiment"])
def test_condition_over_mlflows_doors(sentiment, path, text, alias):
    """The body crosses as it was sent; only the choice reads it."""
    answer = requests.post(f"{sentiment.url}{path}", json=split(text), timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": [{"model": alias, "good": True}]}
    assert answer.headers["x-flowgate-deployment"] == alias


@pytest.mark.parametrize(("text", "alias"), CHOICES)
def test_condition_over_json(sentiment, text, alias):
    """Our own JSON door."""
    answer = requests.post(f"{sentiment.url}/v1/endpoints/sentiment:predict", json=split(text), timeout=SECONDS).json()
    assert (answer["predictions"], answer["call"]["deployment"]) == ([{"model": alias, "good": True}], alias)


@pytest.mark.parametrize(("text", "alias"), CHOICES)
def test_condition_over_grpc(sentiment, text, alias):
    """The generated client, with MLflow's form and with a typed frame."""
    frame = {"columns": [{"name": "text", "strings": {"values": [text]}}]}
    with sentiment.channel() as channel:
        for form in (split(text), {"frame": frame}):
            answer = predict_stub(channel).Predict(ParseDict({"endpoint": "sentiment", **form}, predict.PredictRequest()), timeout=SECONDS)
            assert answer.call.deployment == alias, form


def test_what_the_condition_cannot_read_is_served_by_default(sentiment):
    """Records have no `dataframe_split`: the condition fails, which is false, and counted."""
    body = {"dataframe_records": [{"text": SPECIAL}]}
    answer = requests.post(f"{sentiment.url}/invocations", json=body, timeout=SECONDS)
    assert answer.json()["predictions"][0]["model"] == "fast"
    page = requests.get(f"{sentiment.admin}/metrics", timeout=SECONDS).text
    failures = [line for line in page.splitlines() if line.startswith("flowgate_condition_failures_total")]
    assert failures and not failures[0].endswith(" 0")
