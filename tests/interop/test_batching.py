"""Dynamic batching before real scoring servers: many callers at once, each with the answer that the server gives it alone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from google.protobuf.json_format import MessageToDict, ParseDict

import rpc
from conftest import predict
from forms import COLUMNS, split
from gateway import Gateway

CALLERS = 32


@pytest.fixture(scope="module")
def batched(scoring):
    """A gateway that puts together what comes within 50 ms while the model is busy."""
    batch = {"max_rows": 64, "max_delay": "50ms"}
    endpoints = [{**predict(name, scoring[name]), "batch": batch} for name in ("iris", "params", "tensor", "fragile")]
    gateway = Gateway("batched", {"endpoints": endpoints})
    yield gateway
    gateway.stop()


def sent(gateway, endpoint):
    """How many requests the model got, and of how many callers."""
    page = requests.get(f"{gateway.admin}/metrics", timeout=10).text
    lines = [line.split(" ") for line in page.splitlines() if f'endpoint="{endpoint}"' in line]
    value = {name.split("{")[0]: float(number) for name, number in lines if "_bucket" not in name}
    return value["flowgate_batch_requests_count"], value["flowgate_batch_requests_sum"]


def at_once(ask, bodies):
    """The answers to all bodies, asked for at the same time."""
    with ThreadPoolExecutor(len(bodies)) as callers:
        return list(callers.map(ask, bodies))


def post(url):
    """A function that posts a body there."""
    return lambda body: requests.post(url, json=body, timeout=30)


BODIES = {
    "iris": [split(COLUMNS, [[4.5 + n / 10, 3.5, 1.5 + n / 8, 0.25]]) for n in range(CALLERS)],
    "params": [{"dataframe_records": [{"x": n + 0.5}], "params": {"factor": 2.5}} for n in range(CALLERS)],
    "tensor": [{"instances": [[n + 0.5, 1.5, 2.5]]} for n in range(CALLERS)],
}
for body in BODIES["iris"]:
    # As pandas writes it.
    body["dataframe_split"]["index"] = [0]


@pytest.mark.parametrize("model", BODIES)
def test_each_caller_gets_its_own_answer(scoring, batched, model):
    """Predictions are those of the server alone, and the server was asked less often: how much, the machine decides."""
    direct = [post(f"{scoring[model]}/invocations")(body).json() for body in BODIES[model]]
    through = at_once(post(f"{batched.url}/endpoints/{model}/invocations"), BODIES[model])
    assert [answer.json() for answer in through] == direct
    requests_sent, callers = sent(batched, model)
    assert callers == CALLERS and requests_sent < CALLERS, (requests_sent, callers)


def test_grpc_callers_too(scoring, batched):
    """The same by messages, which the gateway writes as JSON."""
    body = {"dataframe_split": {"columns": COLUMNS, "data": BODIES["iris"][3]["dataframe_split"]["data"]}}
    direct = post(f"{scoring['iris']}/invocations")(body).json()["predictions"]
    with batched.channel() as channel:
        stub = rpc.predict_stub(channel)
        message = ParseDict({"endpoint": "iris", **body}, rpc.predict.PredictRequest())
        answers = at_once(lambda request: stub.Predict(request, timeout=rpc.SECONDS), [message] * 8)
    assert [MessageToDict(answer)["predictions"] for answer in answers] == [direct] * 8


def test_only_the_unlucky_one_fails(batched):
    """The model raises on 13, and would on every request that holds it."""
    bodies = [split(["x"], [[float(n)]]) for n in range(2, 26)]
    answers = at_once(post(f"{batched.url}/endpoints/fragile/invocations"), bodies)
    for n, answer in zip(range(2, 26), answers):
        assert answer.status_code == (500 if n == 13 else 200), answer.text
        assert n == 13 or answer.json() == {"predictions": [float(n)]}
    assert sent(batched, "fragile")[0] < 24
