"""Models that Flowgate runs itself, through their lives: looked up in a real registry, loaded, moved, crashed and let go."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import mlflow
import pandas as pd
import pytest
import requests
from google.protobuf.json_format import MessageToDict, ParseDict
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rpc
from conftest import mock_endpoint
from gateway import Gateway, binary
from processes import ROOT, Program, environment, free_port, poll

GOLDEN = ROOT / "server" / "src" / "mlflow" / "scoring" / "testdata"
XGB, ONNX = GOLDEN / "xgb_regression", GOLDEN / "onnx_regression"
COLUMNS = list("abcd")
ROWS = [[0.5, -1.25, 3.0, 0.1], [-0.5, 0.75, 1.5, -2.0]]
BODY = {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}
RATE, MOVED = 50, 15  # calls a second, and seconds within which they have moved
HANGING = 10  # seconds that a registry may hold up a call; the first of three tries to ask it takes as long
RESIDENCE = 2  # seconds for which a model that was just loaded does not make way
NATIVE, PYTHON = "MODEL_RUNTIME_NATIVE", "MODEL_RUNTIME_PYTHON"


def golden(folder):
    """What MLflow says to `BODY`."""
    cases = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    return next(case for case in cases if json.loads(case["body"]) == BODY)["mlflow"]["predictions"]


def same(answer, expected):
    """Whether two predictions are equal but for the last digit of a float."""
    return kinds(answer) == kinds(expected) and numbers(answer) == pytest.approx(numbers(expected), rel=1e-6)


def kinds(predictions):
    """What each row is: a number, or an object with these keys."""
    return [list(row) if isinstance(row, dict) else None for row in predictions]


def numbers(predictions):
    """The numbers of all rows."""
    return [value for row in predictions for value in (row.values() if isinstance(row, dict) else [row])]


class Slow(PythonModel):
    """Answers at once, or when there is a file."""

    def predict(self, context, model_input, params=None):
        """The text `b` is a path, or empty."""
        path = str(model_input["b"].iloc[0])
        while path and not os.path.exists(path):
            time.sleep(0.02)
        return (model_input["a"] * 2).tolist()


class Broken(PythonModel):
    """Cannot be loaded."""

    def load_context(self, context):
        """Fails."""
        raise RuntimeError("no licence for this machine")

    def predict(self, context, model_input, params=None):
        """Is never called."""
        return model_input


class Registry:
    """A tracking server over SQLite that hands out artifacts itself."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()
        self.client = mlflow.MlflowClient(self.url)

    def start(self):
        """Starts it, also again at its place."""
        command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db", "--artifacts-destination"]
        command += [self.folder / "artifacts", "--host", "127.0.0.1", "--port", self.port, "--workers", "1"]
        env = environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        self.program = Program("registry", command, env=env, cwd=self.folder).wait_for(f"{self.url}/health")

    def register(self, name, folder, alias=None):
        """The files of a folder as the next version of a model; returns its number."""
        try:
            self.client.create_registered_model(name)
        except mlflow.MlflowException as error:
            assert error.error_code == "RESOURCE_ALREADY_EXISTS", error
        run = self.client.create_run("0")
        self.client.log_artifacts(run.info.run_id, folder, "model")
        version = self.client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id).version
        if alias:
            self.client.set_registered_model_alias(name, alias, version)
        return str(version)

    def stage(self, name, version):
        """Moves a version to production, and the one that was there out of it."""
        self.client.transition_model_version_stage(name, version, "Production", archive_existing_versions=True)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry with three models: `flower` of scikit-learn, `trees` of XGBoost, `graph` of ONNX."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    before = mlflow.get_tracking_uri()
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
        mlflow.set_tracking_uri(before)
        registry.program.stop()


@pytest.fixture(scope="module")
def python_models(tmp_path_factory):
    """Folders of models of Python: one that can be made to wait, one that cannot be loaded."""
    folder = tmp_path_factory.mktemp("python")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    signature = ModelSignature(inputs=Schema([ColSpec("double", "a"), ColSpec("string", "b")]))
    for name, model in {"slow": Slow(), "broken": Broken()}.items():
        mlflow.pyfunc.save_model(folder / name, python_model=model, pip_requirements=["mlflow"], signature=signature)
    yield folder
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def endpoint(name, uri, **run):
    """An endpoint with a model that Flowgate runs."""
    return {"name": name, "endpoint_type": "mlflow/predict", "model": {"provider": "mlflow", "uri": str(uri), **run}}


class Home:
    """A gateway that runs models."""

    def __init__(self, name, cache, endpoints, **settings):
        self.cache = cache if isinstance(cache, dict) else {"folder": str(cache)}
        self.gateway = Gateway(f"models-{name}", {"mlflow": {"cache": self.cache, **settings}, "endpoints": endpoints})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gateway.stop()

    def post(self, name, body=BODY, session=requests):
        """A call of MLflow's own door."""
        return session.post(f"{self.gateway.url}/endpoints/{name}/invocations", json=body, timeout=60)

    def told(self, name, body=BODY, session=requests):
        """The predictions and the version of a call, which must succeed."""
        answer = self.post(name, body, session)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"], answer.headers.get("x-flowgate-model-version")

    def grpc(self, name):
        """The same through gRPC."""
        with self.gateway.channel() as channel:
            request = ParseDict({"endpoint": name, **BODY}, rpc.predict.PredictRequest())
            answer = rpc.predict_stub(channel).Predict(request, timeout=60)
        return MessageToDict(answer.predictions), answer.model.version

    def models(self, *act):
        """What `flowgate models` says, by endpoint."""
        command = [binary(), "models", *act, "--json", "--admin", self.gateway.admin]
        command = [str(word) for word in command]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment(), check=False)
        assert said.returncode == 0, said.stderr
        return {name: model for model in json.loads(said.stdout) for name in model["endpoints"]}

    def loaded(self):
        """The endpoints whose models are loaded."""
        return {name for name, model in self.models().items() if model["state"] == "MODEL_STATE_LOADED"}

    def youngest(self):
        """The seconds since a model was loaded last."""
        moments = [model["loaded_at"] for model in self.models().values() if "loaded_at" in model]
        return time.time() - max(pd.Timestamp(moment).timestamp() for moment in moments)

    def pid(self):
        """Its own process."""
        return self.gateway.program.process.pid


def family(pid):
    """All processes below one."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
    below, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        below |= more
    return below


def sidecars(pid):
    """Those of them that are Python with a model."""
    lines = {child: [Path(word).name for word in command_line(child)[:2]] for child in family(pid)}
    return [child for child, names in lines.items() if len(names) == 2 and "python" in names[0] and names[1] == "sidecar.py"]


def command_line(pid):
    """The words of a process; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


ENDPOINTS = [endpoint(name, f"models:/{name}@champion") for name in ("flower", "trees", "graph")]
ENDPOINTS += [endpoint(f"{name}-stage", f"models:/{name}/Production") for name in ("flower", "trees", "graph")]


@pytest.fixture(scope="module")
def home(registry, tmp_path_factory):
    """A gateway with the three models, by alias and by stage."""
    with Home("home", tmp_path_factory.mktemp("cache"), ENDPOINTS, tracking_uri=registry.url, refresh="1s") as home:
        yield home


@pytest.mark.parametrize(("name", "runtime"), [("flower", PYTHON), ("trees", NATIVE), ("graph", NATIVE)])
def test_a_registered_model_answers(home, name, runtime):
    """By alias and by stage, over HTTP and gRPC, as MLflow does, and says which version it is."""
    if name == "flower":
        loaded = mlflow.pyfunc.load_model("models:/flower@champion")
        expected = [float(value) for value in loaded.predict(pd.DataFrame(ROWS, columns=COLUMNS))]
    else:
        expected = golden(XGB if name == "trees" else ONNX)
    for place in (name, f"{name}-stage"):
        for predictions, version in (home.told(place), home.grpc(place)):
            assert same(predictions, expected), (place, predictions)
            assert version == "1", place
        model = home.models()[place]
        assert (model["runtime"], model["version"]) == (runtime, 1), model
        assert model["aliases"] == ["champion"], model


class Callers:
    """Steady calls. Each answer is kept as the version that it names and the one whose answer it is."""

    def __init__(self, home, name, versions):
        self.home, self.name, self.versions = home, name, versions
        self.answers, self.failed, self.over = [], [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(number,)) for number in range(5)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, number):
        """One caller of five; every other one speaks gRPC."""
        with requests.Session() as session:
            while not self.over.wait(len(self.threads) / RATE):
                try:
                    predictions, said = self.home.grpc(self.name) if number % 2 else self.home.told(self.name, session=session)
                    meant = [version for version, expected in self.versions.items() if same(predictions, expected)]
                    self.answers.append((said, meant))
                except Exception as error:  # whatever it is, it failed
                    self.failed.append(repr(error))


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
