"""Models that Flowgate runs itself, through their lives: looked up in a real registry, loaded, moved, crashed and let go."""

import os
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import cloudpickle
import grpc
import mlflow
import openai
import pandas as pd
import pytest
import requests
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema
from moto.server import ThreadedMotoServer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import sidecar_models
from conftest import mock_endpoint
from doors import ANY_KEY
from home import BODY, COLUMNS, MOVED, ONNX, RATE, ROWS, XGB, Callers, Home, Registry, command_line, endpoint, family, golden, numbers, same, sidecars
from processes import free_port, poll

HANGING = 10  # seconds that a registry may hold up a call; the first of three tries to ask it takes as long
RESIDENCE = 2  # seconds for which a model that was just loaded does not make way
NATIVE, PYTHON = "MODEL_RUNTIME_NATIVE", "MODEL_RUNTIME_PYTHON"


class Slow(PythonModel):
    """Answers at once, or when there is a file."""

    def predict(self, context, model_input, params=None):
        """The text `b` is a path, or empty."""
        path = str(model_input["b"].iloc[0])
        while path and not os.path.exists(path):
            time.sleep(0.02)
        return (model_input["a"] * 2).tolist()


class Heavy(PythonModel):
    """Says that it is being loaded, and is not until there is a file."""

    def __init__(self, folder):
        self.begun, self.gate = f"{folder}/begun", f"{folder}/gate"

    def load_context(self, context):
        """Waits, for a minute at most."""
        open(self.begun, "w").close()
        until = time.monotonic() + 60
        while not os.path.exists(self.gate) and time.monotonic() < until:
            time.sleep(0.02)

    def predict(self, context, model_input, params=None):
        """Always the same."""
        return [7.0] * len(model_input)


class Broken(PythonModel):
    """Cannot be loaded."""

    def load_context(self, context):
        """Fails."""
        raise RuntimeError("no licence for this machine")

    def predict(self, context, model_input, params=None):
        """Is never called."""
        return model_input


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with three models: `flower` of scikit-learn, `trees` of XGBoost, `graph` of ONNX."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    mlflow.set_tracking_uri(registry.url)
    try:
        frame = pd.DataFrame(ROWS + [[1.0, 2.0, 3.0, 4.0]], columns=COLUMNS)
        model = make_pipeline(StandardScaler(), LinearRegression()).fit(frame, [1.0, 2.0, 4.0])
        given = {"pip_requirements": ["scikit-learn"], "signature": mlflow.models.infer_signature(frame)}
        mlflow.sklearn.log_model(model, name="flower", registered_model_name="flower", serialization_format="cloudpickle", **given)
        registry.client.set_registered_model_alias("flower", "champion", "1")
        registry.register("trees", XGB, "champion")
        registry.register("graph", ONNX, "champion")
        for name in ("flower", "trees", "graph"):
            registry.stage(name, "1")
        yield registry
    finally:
        # Not what it was before: that would be a variable of the programs that other tests start.
        mlflow.set_tracking_uri(None)
        registry.program.stop()


@pytest.fixture(scope="module", autouse=True)
def by_value():
    """The classes of this file are kept with the models: the process that serves them knows no test."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def python_models(tmp_path_factory):
    """Folders of models of Python: one that can be made to wait, one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("python")
    signature = ModelSignature(inputs=Schema([ColSpec("double", "a"), ColSpec("string", "b")]))
    for name, model in {"slow": Slow(), "broken": Broken()}.items():
        mlflow.pyfunc.save_model(folder / name, python_model=model, pip_requirements=["mlflow"], signature=signature)
    return folder


ENDPOINTS = [endpoint(name, f"models:/{name}@champion") for name in ("flower", "trees", "graph")]
ENDPOINTS += [endpoint(f"{name}-stage", f"models:/{name}/Production") for name in ("flower", "trees", "graph")]


@pytest.fixture(scope="module")
def home(registry, tmp_path_factory):
    """A gateway with the three models, by alias and by stage."""
    with Home("home", tmp_path_factory.mktemp("cache"), ENDPOINTS, tracking_uri=registry.url, refresh="1s") as home:
        yield home


@pytest.mark.parametrize(("name", "runtime"), [("flower", PYTHON), ("trees", NATIVE), ("graph", NATIVE)])
def test_a_registered_model_answers(home, name, runtime):
    """By alias and by stage, over HTTP, gRPC and Triton's client, as MLflow does, and says which version it is."""
    if name == "flower":
        loaded = mlflow.pyfunc.load_model("models:/flower@champion")
        expected = [float(value) for value in loaded.predict(pd.DataFrame(ROWS, columns=COLUMNS))]
    else:
        expected = golden(XGB if name == "trees" else ONNX)
    for place in (name, f"{name}-stage"):
        for predictions, version in (home.told(place), home.grpc(place)):
            assert same(predictions, expected), (place, predictions)
            assert version == "1", place
        assert home.triton(place) == pytest.approx(numbers(expected), rel=1e-6), place
        model = home.models()[place]
        assert (model["runtime"], model["version"]) == (runtime, 1), model
        assert model["aliases"] == ["champion"], model


@pytest.mark.parametrize("by", ["alias", "stage"])
def test_a_promotion_loses_no_call(registry, home, by):
    """Calls go on while the reference moves. Each answer is of the version that it names, and soon all are of the new one."""
    name = f"moving-{by}"
    reference = f"models:/{name}@champion" if by == "alias" else f"models:/{name}/Production"

    def promote(version):
        if by == "alias":
            registry.client.set_registered_model_alias(name, "champion", version)
        else:
            registry.stage(name, version)

    versions = {registry.register(name, XGB): golden(XGB), registry.register(name, ONNX): golden(ONNX)}
    promote("1")
    cache = registry.folder / f"cache-{by}"
    with Home(name, cache, [endpoint(name, reference)], tracking_uri=registry.url, refresh="1s") as home:
        assert home.told(name)[1] == "1"
        with Callers(home, name, versions) as callers:
            poll(lambda: len(callers.answers) > RATE, 10, "calls before")
            begun = time.monotonic()
            promote("2")
            poll(lambda: callers.answers[-1][0] == "2", MOVED, "the new version")
            took = time.monotonic() - begun
            first = len(callers.answers)
            poll(lambda: len(callers.answers) > first + RATE, 10, "calls after")
    assert not callers.failed
    assert {said for said, _ in callers.answers} == {"1", "2"}
    assert all(meant == [said] for said, meant in callers.answers)
    assert {said for said, _ in callers.answers[first + len(callers.threads) :]} == {"2"}
    assert took < MOVED


def test_a_broken_promotion_changes_nothing(registry, tmp_path):
    """The version before it goes on, and the log says why."""
    registry.register("fragile", XGB, "champion")
    broken = Path(shutil.copytree(XGB, tmp_path / "broken"))
    (broken / "MLmodel").write_text("flavors: {}")
    endpoints = [endpoint("fragile", "models:/fragile@champion")]
    with Home("fragile", tmp_path / "cache", endpoints, tracking_uri=registry.url, refresh="1s") as home:
        assert home.told("fragile")[1] == "1"
        registry.register("fragile", broken, "champion")
        poll(lambda: "a model cannot be loaded" in home.gateway.program.output(), 15, "a word in the log")
        assert home.told("fragile")[1] == "1"
        registry.register("fragile", ONNX, "champion")
        poll(lambda: home.told("fragile")[1] == "3", MOVED, "the version that mends it")
        assert same(home.told("fragile")[0], golden(ONNX))


def test_found_models_become_endpoints(registry, tmp_path):
    """One that is registered while Flowgate runs is served by its name and by each alias."""
    with Home("found", tmp_path, [], tracking_uri=registry.url, refresh="1s", serve="*") as home:
        poll(lambda: home.post("trees").status_code == 200, 15, "a model that was there before")
        assert home.post("newcomer").status_code == 404
        registry.register("newcomer", XGB, "fresh")
        for name in ("newcomer", "newcomer@fresh"):
            poll(lambda name=name: home.post(name).status_code == 200, 15, name)
            assert same(home.told(name)[0], golden(XGB))
            assert home.told(name)[1] == "1"


def test_found_models_of_language_converse(registry, tmp_path):
    """A version that is an agent answers conversations; one of trees, of the same model, predictions."""
    agents = sidecar_models.save(tmp_path / "agents")
    registry.register("talker", XGB, "trees")
    registry.register("talker", agents["agent"], "agent")
    with Home("talkers", tmp_path / "cache", [], tracking_uri=registry.url, refresh="1s", serve="name = 'talker'") as home:
        assert [home.task(name) for name in ("talker", "talker@agent", "talker@trees")] == ["TASK_CHAT", "TASK_CHAT", "TASK_PREDICTION"]
        assert same(home.told("talker@trees")[0], golden(XGB))
        with openai.OpenAI(base_url=f"{home.gateway.url}/v1", api_key=ANY_KEY, max_retries=0, timeout=120) as client:
            answer = client.chat.completions.create(model="talker", messages=[{"role": "user", "content": "hello"}])
        assert answer.choices[0].message.content == "hello"
        registry.client.set_registered_model_alias("talker", "trees", "2")
        poll(lambda: home.task("talker@trees") == "TASK_CHAT", MOVED, "an alias that moves")


def test_a_damaged_file_is_fetched_again(registry, tmp_path):
    """What the disk has spoilt is noticed by the next start."""
    settings = {"tracking_uri": registry.url, "refresh": "1s"}
    with Home("damaged", tmp_path, [endpoint("trees", "models:/trees@champion")], **settings) as home:
        assert same(home.told("trees")[0], golden(XGB))
    (path,) = tmp_path.glob("models/*/files/model.ubj")
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(good[:-100] + bytes(100))
    with Home("damaged", tmp_path, [endpoint("trees", "models:/trees@champion")], **settings) as home:
        assert same(home.told("trees")[0], golden(XGB))
        assert "damaged" in home.gateway.program.output()
    assert path.read_bytes() == good


def test_a_model_too_large_for_the_cache_says_so(registry, tmp_path):
    """It names what to do, leaves nothing behind, and harms no other."""
    cache = {"folder": str(tmp_path), "max_bytes": 1000}
    endpoints = [endpoint("trees", "models:/trees@champion"), mock_endpoint("mock", "mlflow/predict")]
    with Home("full", cache, endpoints, tracking_uri=registry.url, refresh="1s") as home:
        answer = home.post("trees")
        assert answer.status_code == 503, answer.text
        assert "cache" in answer.json()["error"]["message"] and "raise its budget" in answer.text
        assert home.post("mock").status_code == 200
        assert home.models()["trees"]["state"] == "MODEL_STATE_FAILED"
        assert not list(tmp_path.glob("fresh/*")) and not list(tmp_path.glob("models/*"))


def slow(path=""):
    """A call of the model that waits for a file."""
    return {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, str(path)]]}}


def test_a_killed_process_is_replaced(python_models, tmp_path):
    """A call in it fails clearly or is answered by the next process, and the calls after it are answered."""
    gate = tmp_path / "gate"
    endpoints = [endpoint("slow", python_models / "slow"), endpoint("trees", XGB)]
    with Home("killed", tmp_path / "cache", endpoints) as home, ThreadPoolExecutor(1) as pool:
        assert home.told("slow", slow())[0] == [3.0]
        call = pool.submit(home.post, "slow", slow(gate))
        poll(lambda: home.models()["slow"].get("calls") == 1, 10, "a call under way")
        (victim,) = sidecars(home.pid())
        os.kill(victim, signal.SIGKILL)
        poll(lambda: not command_line(victim), 10, "its end")
        gate.touch()
        answer = call.result(30)
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            assert "was killed by signal 9 (out of memory?)" in answer.text or "cannot be loaded" in answer.text, answer.text
        assert same(home.told("trees")[0], golden(XGB))
        poll(lambda: home.post("slow", slow()).status_code == 200, 15, "the next process")
        assert sidecars(home.pid()) not in ([], [victim])


def test_an_idle_model_is_let_go_and_comes_again(python_models, tmp_path):
    """With its process."""
    with Home("idle", tmp_path, [endpoint("slow", python_models / "slow", idle="1s"), endpoint("trees", XGB, idle="1s")]) as home:
        for _ in range(2):
            assert home.told("slow", slow())[0] == [3.0]
            assert same(home.told("trees")[0], golden(XGB))
            poll(lambda: not home.loaded(), 20, "nothing loaded")
            poll(lambda: not family(home.pid()), 15, "no process left")


def test_a_killed_gateway_leaves_no_process(python_models, tmp_path):
    """Not even one in the middle of a call."""
    gate = tmp_path / "gate"
    with Home("orphans", tmp_path / "cache", [endpoint("slow", python_models / "slow")]) as home, ThreadPoolExecutor(1) as pool:
        assert home.told("slow", slow())[0] == [3.0]
        call = pool.submit(home.post, "slow", slow(gate))
        poll(lambda: home.models()["slow"].get("calls") == 1, 10, "a call under way")
        children = family(home.pid())
        assert sidecars(home.pid())
        home.gateway.program.process.kill()
        with pytest.raises(requests.RequestException):
            call.result(30)
        poll(lambda: not any(command_line(child) for child in children), 20, "the end of all its children")


def test_a_model_that_cannot_be_loaded_says_why(python_models, tmp_path):
    """It is not tried again at once, and the next one answers meanwhile."""
    with Home("broken", tmp_path, [endpoint("broken", python_models / "broken"), endpoint("trees", XGB)]) as home:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(home.post, "broken", slow())
            assert same(home.told("trees")[0], golden(XGB))
            answer = call.result(60)
        assert answer.status_code == 503, answer.text
        assert "no licence for this machine" in answer.text and "tried again in" in answer.text
        assert "Traceback" not in answer.text
        poll(lambda: "tried again in 2 s" in home.post("broken", slow()).text, 30, "a longer pause")
        begun = time.monotonic()
        assert home.post("broken", slow()).status_code == 503
        assert time.monotonic() - begun < 1
        model = home.models()["broken"]
        assert model["state"] == "MODEL_STATE_FAILED" and "no licence" in model["state_reason"], model
        assert same(home.told("trees")[0], golden(XGB))


@pytest.fixture
def heavy(tmp_path):
    """The folder of a model whose load a test can hold up, and of what it waits for."""
    signature = ModelSignature(inputs=Schema([ColSpec("double", column) for column in COLUMNS]))
    mlflow.pyfunc.save_model(tmp_path / "heavy", python_model=Heavy(tmp_path), pip_requirements=["mlflow"], signature=signature)
    return tmp_path


def test_a_process_killed_in_a_swap_loses_no_call(registry, heavy):
    """The version before it goes on, what failed is told beside it, and the next try succeeds."""
    versions = {registry.register("swapped", XGB, "champion"): golden(XGB), registry.register("swapped", heavy / "heavy"): [7.0] * len(ROWS)}
    endpoints = [endpoint("swapped", "models:/swapped@champion")]
    with Home("swapped", heavy / "cache", endpoints, tracking_uri=registry.url, refresh="1s") as home:
        assert home.told("swapped")[1] == "1"
        with Callers(home, "swapped", versions) as callers:
            registry.client.set_registered_model_alias("swapped", "champion", "2")
            poll((heavy / "begun").exists, 60, "a load of the new version")
            (victim,) = sidecars(home.pid())
            os.kill(victim, signal.SIGKILL)
            model = poll(lambda: next(filter(lambda model: "failure" in model, home.models().values()), None), 10, "word of it")
            assert (model["state"], model["version"]) == ("MODEL_STATE_LOADED", 1), model
            failure = model["failure"]
            assert failure["version"] == 2 and "was killed by signal 9 (out of memory?) before it had loaded the model" in failure["reason"], model
            assert float(failure["again_in"].rstrip("s")) <= 1.1, model
            (heavy / "gate").touch()
            poll(lambda: callers.answers[-1][0] == "2", 60, "the new version")
            first = len(callers.answers)
            poll(lambda: len(callers.answers) > first + RATE, 10, "calls after")
        assert "failure" not in home.models()["swapped"]
    assert not callers.failed
    assert all(meant == [said] for said, meant in callers.answers)
    assert {said for said, _ in callers.answers} == {"1", "2"}
    assert {said for said, _ in callers.answers[first + len(callers.threads) :]} == {"2"}


def test_callers_of_a_slow_load_have_their_own_deadlines(heavy):
    """Who has time waits for the answer, who has none is told so, the load goes on, and others notice nothing."""
    # The wait for a load is no attempt at a model that hangs.
    slow = {**endpoint("heavy", heavy / "heavy", load_timeout="50s"), "timeouts": {"attempt": "1s"}}
    endpoints = [slow, endpoint("trees", XGB)]
    with Home("heavy", heavy / "cache", endpoints) as home, ThreadPoolExecutor(4) as pool:
        patient = [pool.submit(home.told, "heavy"), pool.submit(home.grpc, "heavy")]
        poll((heavy / "begun").exists, 60, "a load")
        loading = sidecars(home.pid())
        short = pool.submit(home.post, "heavy", headers={"x-request-timeout": "300ms"})
        with pytest.raises(grpc.RpcError) as failed:
            home.grpc("heavy", timeout=0.3)
        assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        answer = short.result(10)
        assert answer.status_code == 504 and "CALLER_DEADLINE_EXCEEDED" in answer.text, answer.text
        begun = time.monotonic()
        assert same(home.told("trees")[0], golden(XGB))
        assert time.monotonic() - begun < 5
        assert home.models()["heavy"]["state"] == "MODEL_STATE_LOADING" and not any(call.done() for call in patient)
        (heavy / "gate").touch()
        assert [call.result(30)[0] for call in patient] == [[7.0] * len(ROWS)] * 2
        assert sidecars(home.pid()) == loading, "one load for all"


def test_a_load_that_takes_too_long_is_given_up(heavy):
    """Its process is ended, callers are told which limit it was and no folder of this machine, and the next try may succeed."""
    with Home("late", heavy / "cache", [endpoint("heavy", heavy / "heavy", load_timeout="2s")]) as home:
        answer = home.post("heavy")
        assert answer.status_code == 503, answer.text
        assert "model `…/heavy` cannot be loaded: loading it takes longer than its `load_timeout` of 2 s" in answer.text, answer.text
        poll(lambda: not sidecars(home.pid()), 20, "the end of its process")
        assert str(heavy) not in answer.text and home.models()["heavy"]["uri"].endswith(str(heavy / "heavy"))


def test_a_version_in_s3_is_loaded(registry, tmp_path):
    """The registry names a bucket, and the gateway has AWS's own variables."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "AKIAMODELS0000000001", "aws_secret_access_key": "secret"}
    try:
        s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        s3.create_bucket(Bucket="models")
        for path in filter(Path.is_file, XGB.rglob("*")):
            s3.upload_file(str(path), "models", f"trees/v1/{path.relative_to(XGB)}")
        registry.client.create_registered_model("bucket")
        registry.client.create_model_version("bucket", "s3://models/trees/v1")
        registry.client.set_registered_model_alias("bucket", "champion", "1")
        env = {name.upper(): value for name, value in keys.items()}
        env |= {"AWS_REGION": "us-east-1", "MLFLOW_S3_ENDPOINT_URL": url, "AWS_EC2_METADATA_DISABLED": "true"}
        endpoints = [endpoint("bucket", "models:/bucket@champion")]
        with Home("bucket", tmp_path, endpoints, env=env, tracking_uri=registry.url, refresh="1s") as home:
            predictions, version = home.told("bucket")
            assert same(predictions, golden(XGB)) and version == "1"
            s3.delete_object(Bucket="models", Key="trees/v1/MLmodel")
            home.models("unload", "bucket")
            assert same(home.told("bucket")[0], golden(XGB)), "a version's files are brought once"
    finally:
        server.stop()


def test_models_share_a_budget(tmp_path):
    """Eight with room for three: each call is answered, and those that were called least recently make way."""
    folders = [Path(shutil.copytree(XGB, tmp_path / f"m{number}")) for number in range(8)]
    endpoints = [endpoint(folder.name, folder) for folder in folders]
    with Home("one", tmp_path / "cache", endpoints) as home:
        home.told("m0")
        each = int(home.models()["m0"]["memory_bytes"])
    with Home("budget", tmp_path / "cache", endpoints, memory=each * 3 + each // 2) as home:
        for name in [folder.name for folder in folders]:
            assert same(home.told(name)[0], golden(XGB))
            assert len(home.loaded()) <= 3
        assert home.loaded() == {"m5", "m6", "m7"}
        poll(lambda: home.youngest() > RESIDENCE, 10, "models that may make way")
        for name, left in [("m5", None), ("m0", {"m5", "m7", "m0"}), ("m7", None), ("m1", {"m7", "m0", "m1"})]:
            home.told(name)
            assert left is None or home.loaded() == left, name
            poll(lambda: home.youngest() > RESIDENCE, 10, "models that may make way")


def test_a_registry_that_hangs_holds_up_no_known_model(registry, home):
    """Loaded ones go on, and one that is loaded anew takes the last version soon."""
    home.told("trees")
    os.killpg(registry.program.process.pid, signal.SIGSTOP)
    try:
        assert home.told("trees")[1] == "1"
        home.models("unload", "trees")
        begun = time.monotonic()
        assert home.told("trees")[1] == "1"
        assert time.monotonic() - begun < HANGING
    finally:
        os.killpg(registry.program.process.pid, signal.SIGCONT)


def test_models_outlive_their_registry(registry, home):
    """Loaded ones go on, and so does a gateway that starts with the same files and no registry. The last test: it ends the registry."""
    names = ("flower", "trees", "graph", "trees-stage")
    before = {name: home.told(name) for name in names}
    assert before["trees"][1] == "1"
    registry.program.stop()
    assert {name: home.told(name) for name in names} == before
    with Home("alone", home.cache, ENDPOINTS, tracking_uri=registry.url, refresh="1s") as alone:
        assert {name: alone.told(name) for name in names} == before
