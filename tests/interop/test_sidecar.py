"""The process that serves one model, by itself: held against MLflow's own scoring server, which runs in this process."""

import asyncio
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server

import sidecar_models
from processes import ROOT, poll

SIDECAR = ROOT / "server" / "src" / "mlflow" / "sidecar" / "sidecar.py"
JSON = "application/json"
FRAME = {"columns": ["a", "b"], "data": [[1.5, "x"], [-2, "y"]]}
CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}
AGENT = {"messages": [{"role": "user", "content": "hello", "id": "1"}]}
RESPONSES = {"input": [{"role": "user", "content": "hello"}]}
STREAMED = {"Accept": "text/event-stream"}
CALLS = 4


class Unix(http.client.HTTPConnection):
    """A connection to a socket of the file system."""

    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        """Opens it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))

    def send_call(self, body, content_type=JSON, **headers):
        """Sends a scoring request; returns what can be read of the answer."""
        body = json.dumps(body) if isinstance(body, dict) else body
        self.request("POST", "/invocations", body, {"Content-Type": content_type, **headers})
        return self.getresponse()


class Sidecar:
    """A process that serves a model, started but not waited for."""

    def __init__(self, model, *arguments, python=(sys.executable,), **env):
        self.folder = Path(tempfile.mkdtemp(prefix="sc", dir="/tmp"))
        self.log = Path(f"{self.folder}.log")
        command = [*python, SIDECAR, "--model", model, "--folder", self.folder, *arguments]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "2", **env}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=env
            )

    def ready(self):
        """Waits until it serves, and returns it."""
        poll(lambda: (self.folder / "s").exists() or self.process.poll() is not None, 90, "the socket")
        assert self.process.poll() is None, self.output()
        return self

    def crashed(self):
        """Waits for the end of one that cannot serve; returns the last line that it wrote."""
        assert self.process.wait(60) == 1
        return self.output().splitlines()[-1]

    def output(self):
        """What it has written."""
        return self.log.read_text()

    def connection(self):
        """A new connection."""
        return Unix(self.folder / "s")

    def call(self, body, content_type=JSON, **headers):
        """A call of its own connection: status, content type and body."""
        connection = self.connection()
        try:
            answer = connection.send_call(body, content_type, **headers)
            return answer.status, answer.getheader("content-type"), answer.read()
        finally:
            connection.close()

    def events(self, body):
        """The data of the events of a stream."""
        status, content_type, told = self.call(body, **STREAMED)
        assert (status, content_type) == (200, "text/event-stream"), told
        assert told.endswith(b"\n\n")
        return [event.removeprefix("data: ") for event in told.decode().removesuffix("\n\n").split("\n\n")]

    def ping(self):
        """Whether it answers, on a new connection."""
        connection = self.connection()
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        finally:
            connection.close()

    def stop(self):
        """Ends it, whatever it does."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.log.unlink()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folders of all models, by name."""
    # As in the processes; else each call is noted in a database.
    mlflow.tracing.disable()
    return sidecar_models.save(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def sidecars(models):
    """A process for each model, by name."""
    started = {name: Sidecar(path, "--calls", CALLS, "--memory", 6 << 30) for name, path in models.items()}
    try:
        yield {name: sidecar.ready() for name, sidecar in started.items()}
    finally:
        for sidecar in started.values():
            sidecar.stop()


@pytest.fixture(scope="module")
def servers(models):
    """MLflow's own application for each model, by name."""
    return {name: scoring_server.init(mlflow.pyfunc.load_model(str(path))) for name, path in models.items()}


def ask(application, body, content_type):
    """What an application of MLflow's answers: status, content type and body."""
    body = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = [(b"content-type", content_type.encode())]
    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": headers, "query_string": b"", "raw_path": b""}
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    told = dict(sent[0]["headers"])[b"content-type"].decode()
    return sent[0]["status"], told, b"".join(message.get("body", b"") for message in sent[1:])


def parquet():
    """A frame as Parquet."""
    return pd.DataFrame(FRAME["data"], columns=FRAME["columns"]).to_parquet()


GOOD = {
    "split": ("frame", {"dataframe_split": FRAME}, JSON),
    "records": ("frame", {"dataframe_records": [{"a": 1, "b": "x"}]}, JSON),
    "instances": ("frame", {"instances": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}, JSON),
    "inputs": ("frame", {"inputs": {"a": [1.5], "b": ["x"]}}, JSON),
    "params": ("frame", {"dataframe_split": FRAME, "params": {"factor": -1.0}}, JSON + "; charset=utf-8"),
    "csv": ("frame", "a,b\n1,x\n2.5,ü\n".encode(), "text/csv"),
    "parquet": ("frame", parquet, "application/vnd.apache.parquet"),
    "tensor": ("tensor", {"inputs": [[1, 2], [3, 4]]}, JSON),
    "tensor-instances": ("tensor", {"instances": [[1, 2]]}, JSON),
    "words": ("words", {"prompt": "one two", "stream": False}, JSON),
    "words-inputs": ("words", {"inputs": ["one two"]}, JSON),
    "chat": ("chat", CHAT, JSON),
    "agent": ("agent", AGENT, JSON),
    "responses": ("responses", RESPONSES, JSON),
}
BAD = {
    "no-json": ("frame", b"{", JSON, 400),
    "no-text": ("frame", b"\xff", JSON, 400),
    "list": ("frame", b"[1]", JSON, 400),
    "no-form": ("frame", {"a": 1}, JSON, 400),
    "two-forms": ("frame", {"inputs": [1], "instances": [1]}, JSON, 400),
    "column": ("frame", {"dataframe_split": {"columns": ["a"], "data": [[1]]}}, JSON, 400),
    "cast": ("frame", {"dataframe_records": [{"a": "x", "b": "x"}]}, JSON, 400),
    "param": ("frame", {"dataframe_split": FRAME, "params": {"factor": "x"}}, JSON, 400),
    "csv": ("frame", b"", "text/csv", 400),
    "parquet": ("frame", b"x", "application/vnd.apache.parquet", 400),
    "shape": ("tensor", {"inputs": [[1, 2, 3]]}, JSON, 400),
    "type": ("frame", b"a", "text/html", 415),
    "charset": ("frame", b"a,b\n1,x\n", "text/csv; charset=latin-1", 415),
}


@pytest.mark.parametrize("case", GOOD)
def test_answers_are_those_of_mlflow(sidecars, servers, case):
    """To the byte."""
    model, body, content_type = GOOD[case]
    body = body() if callable(body) else body
    told = sidecars[model].call(body, content_type)
    assert told[0] == 200, told
    assert told == ask(servers[model], body, content_type)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_as_by_mlflow(sidecars, servers, case):
    """The status, the code and the words, without the stack traces that MLflow has for some."""
    model, body, content_type, want = BAD[case]
    status, _, told = sidecars[model].call(body, content_type)
    their_status, _, theirs = ask(servers[model], body, content_type)
    assert status == their_status == want, told
    if want == 400:
        told, theirs = json.loads(told), json.loads(theirs)
        assert "stack_trace" not in told
        assert told["error_code"] == theirs["error_code"]
        # The names of the forms are in any order.
        assert sorted(told["message"]) == sorted(theirs["message"])


def test_explanations_are_asked_only_of_who_gives_them(sidecars):
    """MLflow leaves out what the signature does not name, and answers as if nobody had asked."""
    rows = {"inputs": {"a": [1], "b": ["x"]}}
    for model, body, headers in (("frame", rows, {}), ("words", {"inputs": ["one"]}, {}), ("words", {"inputs": ["one"]}, STREAMED)):
        status, _, told = sidecars[model].call({**body, "params": {"explain": True}}, **headers)
        assert status == 400 and "This model gives no explanations: its signature has no parameter `explain`" in json.loads(told)["message"]
    assert sidecars["frame"].call({**rows, "params": {"explain": False}})[0] == 200
    status, _, told = sidecars["tensor"].call({"inputs": [[1, 2]], "params": {"explain": True}})
    assert status == 200 and json.loads(told)["predictions"] == {"contributions": [[1, 2]]}


def test_what_does_not_fit_leaves_no_advice_about_instances(sidecars):
    """MLflow gives it in its log for every such call, whatever was sent."""
    assert sidecars["frame"].call({"inputs": {"a": [1]}})[0] == 400
    assert "If using `instances`" not in sidecars["frame"].output()


@pytest.mark.parametrize("what", ["raise", "exit", "decimal", "greedy"])
def test_the_models_fault_is_its_own(sidecars, what):
    """500, whatever it does; nothing of it is told but to the log, and the process goes on."""
    sidecar = sidecars["frame"]
    status, content_type, told = sidecar.call({"inputs": {"a": [1], "b": [what]}})
    assert (status, content_type) == (500, JSON)
    told = json.loads(told)
    assert told.keys() == {"error_code", "message"} and told["error_code"] == "INTERNAL_ERROR"
    assert told["message"].startswith("Failed to predict data") and "hush" not in told["message"]
    want = {"raise": sidecar_models.BAD, "exit": "SystemExit: 1", "decimal": "not JSON", "greedy": "MemoryError"}[what]
    poll(lambda: want in sidecar.output(), 5, "the log")
    assert sidecar.ping()


def test_a_model_may_choose_its_error(sidecars):
    """By raising MLflow's."""
    status, _, told = sidecars["frame"].call({"inputs": {"a": [1], "b": ["limit"]}})
    assert status == 429 and json.loads(told)["error_code"] == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("model, body", [("chat", {"messages": [1]}), ("agent", {"messages": [{"role": "user"}]})])
def test_what_an_agent_cannot_read_is_bad_input(sidecars, model, body):
    """Whoever finds it out, and whether it is asked for a stream."""
    for headers in ({}, STREAMED):
        status, _, told = sidecars[model].call(body, **headers)
        assert status == 400, told


STREAMS = {
    "words": ("words", {"prompt": "one two"}, [{"text": "one"}, {"text": "two"}]),
    "words-inputs": ("words", {"inputs": ["one two"]}, [{"text": "one"}, {"text": "two"}]),
    "chat": ("chat", CHAT, ["one ", "two"]),
    "agent": ("agent", AGENT, ["one ", "two"]),
    "responses": ("responses", RESPONSES, ["one ", "two", None]),
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams(sidecars, case):
    """The shapes are MLflow's own."""
    model, body, want = STREAMS[case]
    *events, end = sidecars[model].events(body)
    assert end == "[DONE]"
    events = [json.loads(event) for event in events]
    if model == "chat":
        assert {event["object"] for event in events} == {"chat.completion.chunk"}
        events = [event["choices"][0]["delta"]["content"] for event in events]
    elif model == "agent":
        events = [event["delta"]["content"] for event in events]
    elif model == "responses":
        assert [event["type"] for event in events] == ["response.output_text.delta"] * 2 + ["response.output_item.done"]
        events = [event.get("delta") for event in events]
    assert events == want


def test_who_cannot_stream_or_is_not_asked_to_answers_whole(sidecars):
    """As MLflow's server does, whatever the body says."""
    for model, body, headers in (
        ("frame", {"dataframe_split": FRAME}, STREAMED),
        ("words", {"prompt": "one two", "stream": True}, {}),
        ("chat", {**CHAT, "stream": True}, {}),
    ):
        status, content_type, told = sidecars[model].call(body, **headers)
        assert (status, content_type) == (200, JSON) and json.loads(told)


def test_a_failure_before_the_first_event_is_a_status(sidecars):
    """Nothing has been streamed yet."""
    status, _, told = sidecars["words"].call({"prompt": "raise"}, **STREAMED)
    assert status == 500 and json.loads(told)["error_code"] == "INTERNAL_ERROR" and b"hush" not in told
    status, _, _ = sidecars["words"].call(b'{"prompt": 1', **STREAMED)
    assert status == 400


def test_a_failure_in_mid_stream_is_an_event(sidecars):
    """And no end mark follows."""
    event, error = sidecars["words"].events({"prompt": "one raise two"})
    assert json.loads(event) == {"text": "one"}
    error = json.loads(error)["error"]
    assert error["type"] == "INTERNAL_ERROR" and error["code"] == 500 and "hush" not in error["message"]


def test_who_hangs_up_ends_the_stream(sidecars, tmp_path):
    """The model's own `finally` runs, soon."""
    marker = tmp_path / "ended"
    connection = sidecars["words"].connection()
    answer = connection.send_call({"prompt": f"endless {marker}"}, **STREAMED)
    assert answer.readline().strip() and not marker.exists()
    answer.close()
    connection.close()
    poll(marker.exists, 10, "the end of the stream")


def test_connections_are_kept(sidecars):
    """Over answers of all kinds."""
    connection, first = sidecars["words"].connection(), None
    for body, headers, want in (
        ({"prompt": "x"}, {}, 200), ({"prompt": "x y"}, STREAMED, 200), (b"{", {}, 400), ({"prompt": "x"}, {}, 200)
    ):
        answer = connection.send_call(body, **headers)
        assert answer.status == want and answer.read()
        first = first or connection.sock
        assert connection.sock is first is not None
    connection.close()


def test_a_stuck_model_holds_up_nobody_else(sidecars, tmp_path):
    """Not /ping, whatever the number of calls; and calls that wait for a thread get their turn, or none if they are given up."""
    sidecar, gate = sidecars["frame"], tmp_path / "gate"
    answers = []
    stuck = {"inputs": {"a": [1], "b": [f"wait {gate}"]}}
    threads = [threading.Thread(target=lambda: answers.append(sidecar.call(stuck)[0])) for _ in range(CALLS + 3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert sidecar.ping()
    assert answers == []
    running = Path(f"/proc/{sidecar.process.pid}/task")
    assert sum((task / "comm").exists() for task in running.iterdir()) < 60, "threads are bounded"
    gate.touch()
    for thread in threads:
        thread.join(30)
    assert answers == [200] * (CALLS + 3)


def test_a_process_whose_threads_are_all_lost_ends(models, tmp_path):
    """To be started anew; while one thread may still come back it goes on."""
    sidecar, gate = Sidecar(models["frame"], "--calls", 2, "--patience", 0.2).ready(), tmp_path / "gate"
    try:
        given_up = []
        for number in range(2):
            connection = sidecar.connection()
            body = json.dumps({"inputs": {"a": [1], "b": [f"wait {gate} {number}"]}})
            connection.request("POST", "/invocations", body, {"Content-Type": JSON})
            given_up.append(connection)
            assert sidecar.ping()
        given_up[0].close()
        assert sidecar.ping() and sidecar.process.poll() is None
        given_up[1].close()
        assert sidecar.process.wait(10) == 70
        assert "nobody waits for" in sidecar.output().splitlines()[-1] and not sidecar.folder.exists()
    finally:
        sidecar.stop()


def test_a_status_of_no_name_is_answered(sidecars):
    """MLflow has one for calls that were cancelled; the model raised it, so that it is the model's fault."""
    status, _, told = sidecars["frame"].call({"inputs": {"a": [1], "b": ["cancel"]}})
    assert status == 500 and b"the model raised" in told


@pytest.mark.parametrize(
    "text, want",
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"GET /invocations HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /invocations HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"x" * (70 << 10), 431),
    ],
)
def test_what_is_no_request_is_refused(sidecars, text, want):
    """And harms nobody."""
    with socket.socket(socket.AF_UNIX) as plain:
        plain.settimeout(10)
        plain.connect(str(sidecars["frame"].folder / "s"))
        plain.sendall(text)
        assert plain.recv(1000).startswith(b"HTTP/1.1 %d " % want)
    assert sidecars["frame"].ping()


def test_what_cannot_be_served_says_why(models, tmp_path):
    """In its last line."""
    starts = {
        "MLmodel": Sidecar(tmp_path),
        "cannot import MLflow": Sidecar(models["frame"], python=(sys.executable, "-S", "-E")),
        "`resources.memory`": Sidecar(models["frame"], "--memory", 1 << 70),
        "knows no `env_manager: poetry`": Sidecar(models["frame"], "--env-manager", "poetry"),
    }
    paths = {"PATH": "/usr/bin:/bin", "MLFLOW_ENV_ROOT": str(tmp_path / "envs")}
    for manager in ("conda", "virtualenv", "uv"):
        starts[f"`env_manager: {manager}`"] = Sidecar(models["frame"], "--env-manager", manager, **paths)
    try:
        for want, sidecar in starts.items():
            assert want in sidecar.crashed()
    finally:
        for sidecar in starts.values():
            sidecar.stop()


def test_an_environment_is_entered(models, tmp_path):
    """The same program goes on in the Python of the environment; a conda stands in that has it already."""
    name = "mlflow-" + hashlib.sha1((models["frame"] / "conda.yaml").read_bytes()).hexdigest()
    conda, entered = tmp_path / "bin" / "conda", tmp_path / "etc" / "profile.d" / "conda.sh"
    for path, text in (
        (conda, f"#!/bin/sh\necho '{{\"envs\": [\"/envs/{name}\"]}}'\n"),
        (entered, "conda() { echo entered $2; export ENTERED=yes; }\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    conda.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    sidecar = Sidecar(models["frame"], "--env-manager", "conda", MLFLOW_CONDA_HOME=str(tmp_path), PATH=path)
    try:
        sidecar.ready()
        assert f"entered {name}" in sidecar.output()
        assert sidecar.ping()
        sidecar.process.send_signal(signal.SIGTERM)
        assert sidecar.process.wait(10) == 0 and not sidecar.folder.exists(), "it leaves nothing behind"
    finally:
        sidecar.stop()
