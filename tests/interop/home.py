"""A registry, and gateways that run its models: what the tests of the life of models share."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from google.protobuf.json_format import MessageToDict, ParseDict

import rpc
from gateway import Gateway, binary
from processes import INTEROP, ROOT, Program, environment, free_port

sys.path.append(str(INTEROP / "peers"))

import tritonclient.grpc as triton  # noqa: E402

GOLDEN = ROOT / "server" / "src" / "mlflow" / "scoring" / "testdata"
XGB, ONNX = GOLDEN / "xgb_regression", GOLDEN / "onnx_regression"
COLUMNS = list("abcd")
ROWS = [[0.5, -1.25, 3.0, 0.1], [-0.5, 0.75, 1.5, -2.0]]
BODY = {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}
RATE, MOVED = 50, 15  # calls a second, and seconds within which they have moved


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


def endpoint(name, uri, **run):
    """An endpoint with a model that Flowgate runs."""
    return {"name": name, "endpoint_type": "mlflow/predict", "model": {"provider": "mlflow", "uri": str(uri), **run}}


class Home:
    """A gateway that runs models."""

    def __init__(self, name, cache, endpoints, env=None, **settings):
        self.cache = cache if isinstance(cache, dict) else {"folder": str(cache)}
        self.config = {"mlflow": {"cache": self.cache, **settings}, "endpoints": endpoints}
        self.gateway = Gateway(f"models-{name}", self.config, **(env or {}))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.gateway.stop()

    def post(self, name, body=BODY, session=requests, headers=None):
        """A call of MLflow's own door."""
        return session.post(f"{self.gateway.url}/endpoints/{name}/invocations", json=body, headers=headers, timeout=60)

    def told(self, name, body=BODY, session=requests):
        """The predictions and the version of a call, which must succeed."""
        answer = self.post(name, body, session)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"], answer.headers.get("x-flowgate-model-version")

    def task(self, name):
        """What an endpoint is for."""
        return requests.get(f"{self.gateway.url}/v1/endpoints/{name}", timeout=30).json()["endpoint"]["task"]

    def grpc(self, name, timeout=60):
        """The same through gRPC."""
        with self.gateway.channel() as channel:
            request = ParseDict({"endpoint": name, **BODY}, rpc.predict.PredictRequest())
            answer = rpc.predict_stub(channel).Predict(request, timeout=timeout)
        return MessageToDict(answer.predictions), answer.model.version

    def triton(self, name):
        """The same by Triton's client of the Open Inference Protocol, its numbers row by row."""
        columns = [triton.InferInput(column, [len(ROWS)], "FP64") for column in COLUMNS]
        for given, values in zip(columns, zip(*ROWS)):
            given.set_data_from_numpy(np.array(values))
        with triton.InferenceServerClient(self.gateway.address) as client:
            answer = client.infer(name, columns, client_timeout=60)
        outputs = [answer.as_numpy(output.name).ravel().tolist() for output in answer.get_response().outputs]
        return [value for row in zip(*outputs) for value in row]

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
