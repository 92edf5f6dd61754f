"""The Open Inference Protocol by Triton's own clients, gRPC and REST: before real scoring servers, and before a gateway that calls another one."""

import sys

import numpy as np
import pytest

from conftest import mock_endpoint, predict
from gateway import Gateway
from processes import INTEROP

sys.path.append(str(INTEROP / "peers"))

import tritonclient.grpc as triton_grpc  # noqa: E402
import tritonclient.http as triton_http  # noqa: E402
from tritonclient.utils import InferenceServerException, triton_to_np_dtype  # noqa: E402

CLIENTS = {"grpc": triton_grpc, "http": triton_http}
TYPES = ["BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP16", "FP32", "FP64", "BYTES"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]
NUMBERS = {"name": "mock", "config": {"predictions": [1, 2]}}


@pytest.fixture(scope="module")
def gates(scoring):
    """A gateway before scoring servers, and one that calls it by the protocol."""
    models = ["iris", "tensor", "fragile"]
    endpoints = [predict(name, scoring[name]) for name in models]
    endpoints += [mock_endpoint("mock", "mlflow/predict"), mock_endpoint("chat", "llm/v1/chat")]
    endpoints.append({"name": "numbers", "endpoint_type": "mlflow/predict", "model": {"provider": "mock", **NUMBERS}})
    near = Gateway("oip-near", {"endpoints": endpoints})
    model = {"provider": "mlflow", "oip": near.url}
    far = Gateway(
        "oip-far",
        {"endpoints": [{**endpoint, "endpoint_type": "mlflow/predict", "model": {**model, "name": endpoint["name"]}} for endpoint in endpoints]},
    )
    yield {"near": near, "far": far}
    far.stop()
    near.stop()


@pytest.fixture(params=CLIENTS)
def library(request):
    """Triton's client of one form of the protocol."""
    return CLIENTS[request.param]


@pytest.fixture(params=["near", "far"])
def client(request, gates, library):
    """A client of one of the gateways."""
    client = library.InferenceServerClient(gates[request.param].address)
    yield client
    client.close()


def tensor(library, name, values, datatype="FP64", **how):
    """A named input."""
    array = np.array(values, dtype=triton_to_np_dtype(datatype))
    given = library.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, **how)
    return given


def columns(library):
    """The columns of two irises."""
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return [tensor(library, name, list(column)) for name, column in zip(names, zip(*ROWS))]


def test_server_and_models(client):
    """Who answers, what there is, and what can be called."""
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("mock")
    metadata, index = client.get_server_metadata(), client.get_model_repository_index()
    name = metadata["name"] if isinstance(metadata, dict) else metadata.name
    listed = {model["name"]: model["state"] for model in index} if isinstance(index, list) else {model.name: model.state for model in index.models}
    assert name == "flowgate"
    assert listed.pop("mock") == "READY" and set(listed.values()) == {"READY"}


@pytest.mark.parametrize("datatype", TYPES)
def test_types(client, library, datatype):
    """Every type crosses: the same elements get the same number, however they are sent."""
    values = [b"0", b"1"] if datatype == "BYTES" else [0, 1]
    answers = [client.infer("mock", [tensor(library, "predict", values, datatype)]).as_numpy("predict")]
    if library is triton_http and datatype != "FP16":
        given = tensor(library, "predict", values, datatype, binary_data=False)
        wanted = [triton_http.InferRequestedOutput("predict", binary_data=False)]
        answers.append(client.infer("mock", [given], outputs=wanted).as_numpy("predict"))
    assert answers[0].shape == (2,) and answers[0].dtype == np.float64
    assert all((answer == answers[0]).all() for answer in answers)


def test_a_real_model(client, library):
    """Columns by name, as the model's signature has them."""
    answer = client.infer("iris", columns(library), request_id="7")
    response = answer.get_response()
    assert (response["id"] if isinstance(response, dict) else response.id) == "7"
    assert answer.as_numpy("predict").shape == (2,)


def test_outputs_are_named_by_whoever_asks(gates, library):
    """A model without names for its output gives it the one that is asked for; one with names has only those."""
    wanted, client = [library.InferRequestedOutput("y")], library.InferenceServerClient(gates["near"].address)
    answer = client.infer("numbers", [tensor(library, "x", [1.0])], outputs=wanted)
    assert answer.as_numpy("y").tolist() == [1, 2] and answer.as_numpy("predict") is None
    with pytest.raises(InferenceServerException, match="is no output of the model"):
        library.InferenceServerClient(gates["far"].address).infer("numbers", [tensor(library, "x", [1.0])], outputs=wanted)


@pytest.mark.parametrize("model, shown", [("nobody", "no endpoint has this name"), ("mock", "asks for `classification`")])
def test_errors(gates, library, model, shown):
    """What is wrong is told in the protocol's own way."""
    client = library.InferenceServerClient(gates["near"].address)
    with pytest.raises(InferenceServerException, match=shown):
        client.infer(model, [tensor(library, "x", [1.0])], outputs=[library.InferRequestedOutput("y", class_count=2)] if model == "mock" else None)
    with pytest.raises(InferenceServerException, match="does not answer prediction calls"):
        client.infer("chat", [tensor(library, "x", [1.0])])
    with pytest.raises(InferenceServerException, match="may not load or unload models"):
        client.load_model("mock")


@pytest.mark.parametrize("gate", ["near", "far"])
def test_stream(gates, gate):
    """Answers come in the order of the requests; one that fails does not end the stream."""
    told = []
    with triton_grpc.InferenceServerClient(gates[gate].address) as client:
        client.start_stream(lambda result, error: told.append(str(error) if error else result.get_response().id))
        for n in range(40):
            client.async_stream_infer("nobody" if n % 4 == 3 else "mock", [tensor(triton_grpc, "x", [n])], request_id=str(n))
        client.stop_stream()
    assert len(told) == 40
    assert [said for n, said in enumerate(told) if n % 4 != 3] == [str(n) for n in range(40) if n % 4 != 3]
    assert all("no endpoint has this name" in said for said in told[3::4])
