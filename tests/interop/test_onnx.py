"""ONNX models that the native engine does not know, through ONNX Runtime's library as pip brings it: `onnx_models.py` wrote them and the truth."""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from gateway import Gateway
from processes import INTEROP, ROOT

MODELS = Path(__file__).parent / "onnx"
KNOWN = ["convolution", "recurrent", "quantised", "words", "beside"]
REFUSED = {"half": ["input `x`", "element type 10"], "alien": ["com.example.Magic is not supported", "Magic", "ONNX Runtime refuses it"]}
OWN = {"dataframe_records": [{"a": 1, "b": 1, "c": 1, "d": 1}]}


def library():
    """The shared library: another one by FLOWGATE_TEST_ONNX."""
    found = os.environ.get("FLOWGATE_TEST_ONNX")
    return Path(found) if found else next((INTEROP / "peers" / "onnxruntime" / "capi").glob("libonnxruntime.so.*"))


def endpoint(name, folder, **more):
    """An endpoint for a folder, answered in the gateway's process or not at all."""
    model = {"provider": "mlflow", "uri": str(folder), "runtime": "native", **more}
    return {"name": name, "endpoint_type": "mlflow/predict", "model": model}


def serve(name, models, setting=None, **env):
    """A gateway with these models, and one that its own engine answers."""
    own = endpoint("own", ROOT / "server/src/mlflow/scoring/testdata/onnx_zipmap")
    mlflow = {"onnx_runtime": str(setting)} if setting else {}
    return Gateway(name, {"mlflow": mlflow, "endpoints": [own, *(endpoint(model, MODELS / model) for model in models)]}, **env)


@pytest.fixture(scope="module")
def gateway():
    """All models; the library is found by configuration. It ends as it should with sessions open."""
    serving = serve("onnx", [*KNOWN, *REFUSED], library())
    yield serving
    assert serving.stop() == 0


def ask(serving, name, body):
    """Asks a model."""
    return requests.post(f"{serving.url}/endpoints/{name}/invocations", json=body, timeout=60)


def cases(name):
    """Requests and what Python's ONNX Runtime answers."""
    return json.loads((MODELS / name / "case.json").read_text())


def same(found, known):
    """Equal, numbers within what 32 bits hold."""
    if isinstance(known, dict):
        return isinstance(found, dict) and found.keys() == known.keys() and all(same(found[key], known[key]) for key in known)
    if isinstance(known, list):
        return isinstance(found, list) and len(found) == len(known) and all(map(same, found, known))
    if isinstance(known, float):
        return math.isclose(found, known, rel_tol=1e-5, abs_tol=1e-6)
    return type(found) is type(known) and found == known


@pytest.mark.parametrize("name", KNOWN)
def test_answers(gateway, name):
    """Every output of every request is what Python's ONNX Runtime answers."""
    asked = cases(name)
    assert asked
    for case in asked:
        answer = ask(gateway, name, {"inputs": case["inputs"]})
        assert answer.status_code == 200, answer.text
        assert same(answer.json()["predictions"], case["outputs"]), (answer.text, case["outputs"])


def test_forms_of_input(gateway):
    """A single input takes its tensor by itself and row by row too."""
    case = cases("quantised")[1]
    rows = case["inputs"]["x"]
    for body in [{"inputs": rows}, {"instances": rows}, {"instances": [{"x": row} for row in rows]}]:
        answer = ask(gateway, "quantised", body)
        assert answer.status_code == 200, (body, answer.text)
        assert same(answer.json()["predictions"], case["outputs"]), (body, answer.text)


@pytest.mark.parametrize(
    "body", [{"inputs": {"image": [[["x"]]]}}, {"inputs": {"image": [[1.0, 2.0]]}}, {"inputs": {"other": [1.0]}}, {"nothing": 1}]
)
def test_a_bad_request_is_the_callers(gateway, body):
    """The signature holds here as elsewhere."""
    answer = ask(gateway, "convolution", body)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(gateway, name):
    """What nobody can run is named at load, without a path; the others answer."""
    answer = ask(gateway, name, {"inputs": {"x": [[1.0, 2.0]]}})
    assert answer.status_code == 503, answer.text
    assert all(part in answer.text for part in REFUSED[name]), answer.text
    assert f"{name}/model.onnx" not in answer.text, answer.text  # the folder itself is the model's name
    assert ask(gateway, "own", OWN).status_code == 200


def test_concurrent_calls(gateway):
    """Many at once, of two models, each gets its own answer."""
    asked = [(name, case) for name in ("convolution", "recurrent") for case in cases(name)] * 20
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: ask(gateway, pair[0], {"inputs": pair[1]["inputs"]}), asked))
    for (name, case), answer in zip(asked, answers, strict=True):
        assert answer.status_code == 200 and same(answer.json()["predictions"], case["outputs"]), (name, answer.text)


def test_found_by_the_variable():
    """Without a word in the configuration."""
    serving = serve("onnx-variable", ["quantised"], ORT_DYLIB_PATH=str(library()))
    try:
        case = cases("quantised")[0]
        assert same(ask(serving, "quantised", {"inputs": case["inputs"]}).json()["predictions"], case["outputs"])
    finally:
        assert serving.stop() == 0


def broken(kind, folder):
    """A library that is none."""
    path = folder / "libonnxruntime.so"
    if kind == "text":
        path.write_text("no library")
    elif kind == "cut":
        path.write_bytes(library().read_bytes()[:100_000])
    elif kind == "other":
        path = next(library().parent.glob("libonnxruntime_providers_shared.so"))
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [("missing", "names no file"), ("text", "names no library"), ("cut", "was cut short"), ("other", "names a library of something else")],
)
def test_no_library(tmp_path, kind, told):
    """A library that is missing or broken keeps only the models from being loaded that need it, each time anew."""
    for setting in ("mlflow.onnx_runtime", "ORT_DYLIB_PATH"):
        path = broken(kind, tmp_path)
        by_key = setting != "ORT_DYLIB_PATH"
        env = {} if by_key else {setting: str(path)}
        serving = serve(f"onnx-{kind}", ["quantised", "convolution"], path if by_key else None, **env)
        try:
            for name, operator in [("quantised", "DynamicQuantizeLinear"), ("convolution", "Conv")]:
                answer = ask(serving, name, {"inputs": cases(name)[0]["inputs"]})
                assert answer.status_code == 503, answer.text
                for part in (operator, f"`{setting}` names", told, "mlflow.onnx_runtime"):
                    assert part in answer.text, (part, answer.text)
                assert str(tmp_path) not in answer.text
                assert ask(serving, "own", OWN).status_code == 200
            assert "panicked" not in serving.program.output()
        finally:
            assert serving.stop() == 0
