"""The Open Inference Protocol by Triton's own clients, gRPC and REST: before real scoring servers, and before a gateway that calls another one."""

import sys

import cloudpickle
import mlflow
import numpy as np
import pytest
import requests
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema

from conftest import mock_endpoint, predict
from gateway import Gateway
from processes import INTEROP
from test_models import Registry, endpoint

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


class Shown(PythonModel):
    """Takes bytes beside a number, and says what it got; knows the version's number types."""

    def predict(self, context, model_input, params=None):
        """What Python makes of each value, and the number in 32 bits."""
        model_input["shown"] = [repr(value) for value in model_input["blob"]]
        model_input["small"] = model_input["number"].astype("int32") * 2
        return model_input[["shown", "small"]]


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    """A gateway that runs the second version of a model of bytes, and one model that cannot be loaded."""
    folder = tmp_path_factory.mktemp("hosted")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    signature = ModelSignature(
        inputs=Schema([ColSpec("binary", "blob"), ColSpec("integer", "number")]),
        outputs=Schema([ColSpec("string", "shown"), ColSpec("integer", "small")]),
    )
    mlflow.pyfunc.save_model(folder / "shown", python_model=Shown(), pip_requirements=["mlflow"], signature=signature)
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    registry = Registry(tmp_path_factory.mktemp("oip-registry"))
    try:
        registry.register("shown", folder / "shown")
        registry.register("shown", folder / "shown", "champion")
        settings = {"tracking_uri": registry.url, "cache": {"folder": str(folder / "cache")}}
        endpoints = [endpoint("shown", "models:/shown@champion"), endpoint("gone", folder / "nothing")]
        gateway = Gateway("oip-hosted", {"mlflow": settings, "endpoints": endpoints})
        yield gateway
        gateway.stop()
    finally:
        registry.program.stop()


def shown(library, client, blobs, **how):
    """What the model says that it got."""
    inputs = [tensor(library, "blob", blobs, "BYTES"), tensor(library, "number", list(range(len(blobs))), "INT32")]
    return client.infer("shown", inputs, **how)


def test_bytes_reach_a_model_as_they_are(hosted, library):
    """A column of bytes gets the same bytes, whether or not they, or those beside them, are text."""
    client = library.InferenceServerClient(hosted.address, **({"network_timeout": 90} if library is triton_http else {}))
    for blobs in ([b"abc"], [b"\xff\xfeabc"], [b"abc", b"\xff"], [b"YWJj"], [bytes(range(256)), b""]):
        answer = shown(library, client, blobs)
        assert [text.decode() for text in answer.as_numpy("shown")] == [repr(blob) for blob in blobs]


def test_answers_are_what_the_metadata_announces(hosted, library):
    """Names, types and the version of an answer are those of the metadata; another version is refused."""
    client = library.InferenceServerClient(hosted.address)
    answer = shown(library, client, [b"a", b"b"])
    metadata = client.get_model_metadata("shown", **({"as_json": True} if library is triton_grpc else {}))
    assert metadata["versions"] == ["2"]
    assert answer.as_numpy("small").dtype == np.int32 and answer.as_numpy("small").tolist() == [0, 2]
    response = answer.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else [{"name": one.name, "datatype": one.datatype} for one in response.outputs]
    told = [(one["name"], one["datatype"]) for one in metadata["outputs"]]
    assert [(one["name"], one["datatype"]) for one in outputs] == told == [("shown", "BYTES"), ("small", "INT32")]
    assert (response["model_version"] if isinstance(response, dict) else response.model_version) == "2"
    assert shown(library, client, [b"a"], model_version="2").as_numpy("small").tolist() == [0]
    assert client.is_model_ready("shown", "2") and not client.is_model_ready("shown", "1")
    with pytest.raises(InferenceServerException, match="version 2 does"):
        shown(library, client, [b"a"], model_version="1")


def test_readiness_is_the_truth(hosted, library):
    """A model that cannot be loaded is not ready once that is known, and one that nobody knows is not either."""
    client = library.InferenceServerClient(hosted.address)
    requests.post(f"{hosted.url}/endpoints/gone/invocations", json={"inputs": [1]}, timeout=60)
    assert client.is_model_ready("shown") and not client.is_model_ready("gone") and not client.is_model_ready("nobody")
    index = client.get_model_repository_index()
    models = {model["name"]: model for model in index} if isinstance(index, list) else {model.name: model for model in index.models}
    state = {name: model["state"] if isinstance(model, dict) else model.state for name, model in models.items()}
    assert state == {"gone": "UNAVAILABLE", "shown": "READY"}


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
    with pytest.raises(InferenceServerException, match="needs a key, and the gateway has none"):
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
