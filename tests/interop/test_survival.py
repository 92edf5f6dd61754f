"""Replicas that are killed, paused, reset, slowed or broken under load: no call fails that can be answered, and what was ejected returns."""

import re
import signal
import threading
import time

import grpc
import pytest
import requests

import rpc
from doors import DOORS, Failed
from gateway import Gateway
from processes import INTEROP, Program, environment, free_port, poll

REPLICA = INTEROP.parent / "tests" / "interop" / "replica.py"
LOADERS = 6  # of each kind
ROUTING = {
    "retry": {"attempts": 4, "backoff": "10ms..50ms"},
    "timeouts": {"attempt": "700ms", "first_event": "700ms", "idle": "700ms", "total": "15s"},
    "upstream": {"ejection": {"failures": 3, "time": "1s", "max_time": "2s"}},
}


class Replica:
    """One server of three."""

    def __init__(self, name):
        self.name, self.port = name, free_port()
        self.start()

    def start(self):
        """Starts it, also again at its place."""
        self.program = Program(f"replica-{self.name}", ["python", REPLICA, self.port, self.name], env=environment())
        self.program.wait_for(f"{self.url}/ping")

    @property
    def url(self):
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def mode(self, mode):
        """How it behaves from now on."""
        assert requests.post(f"{self.url}/mode", json={"mode": mode}, timeout=5).status_code == 200

    def calls(self):
        """How many calls it got."""
        return requests.get(f"{self.url}/ping", timeout=5).json()["calls"]

    def signal(self, sign):
        """Sends it a signal."""
        self.program.process.send_signal(sign)


class Load:
    """Callers that call until they are told to stop; what failed is kept."""

    def __init__(self, gateway):
        self.gateway, self.failed, self.cut, self.good = gateway, [], [], 0
        self.over = threading.Event()
        kinds = [self.predict_json, self.predict_grpc, self.chat, self.stream]
        self.threads = [threading.Thread(target=self.run, args=(kind,)) for kind in kinds for _ in range(LOADERS)]
        for thread in self.threads:
            thread.start()

    def run(self, kind):
        """One caller."""
        with requests.Session() as session, self.gateway.channel() as channel:
            while not self.over.is_set():
                try:
                    kind(session, channel)
                    self.good += 1
                except Failed as error:
                    self.cut.append(error)
                except Exception as error:  # whatever it is, it failed
                    self.failed.append(f"{kind.__name__}: {error!r}")

    def predict_json(self, session, _):
        """MLflow's own door."""
        answer = session.post(f"{self.gateway.url}/endpoints/iris/invocations", json={"inputs": [[1]]}, timeout=20)
        assert answer.status_code == 200 and answer.json()["predictions"], answer.text

    def predict_grpc(self, _, channel):
        """The generated client."""
        stub = rpc.predict_grpc.PredictionServiceStub(channel)
        answer = stub.Predict(rpc.predict.PredictRequest(endpoint="iris", instances={"values": [{"number_value": 1}]}), timeout=20)
        assert answer.call.attempts >= 1

    def chat(self, _, channel):
        """A whole answer."""
        answer = rpc.chat_stub(channel).Chat(rpc.ask("chat", "x"), timeout=20)
        text = answer.choices[0].message.parts[0].text.text
        assert len(set(re.findall("[abc]", text))) == 1, text

    def stream(self, _, channel):
        """A streamed answer; a failure after its first piece is told apart."""
        text = ""
        try:
            for event in rpc.chat_stub(channel).StreamChat(rpc.ask("chat", "x"), timeout=20):
                text += event.delta.text
        except grpc.RpcError as error:
            if not text:
                raise
            raise Failed(rpc.details(error).reason, error.code(), error.details()) from None
        assert len(set(re.findall("[abc]", text))) == 1 and len(text) == 15, text

    def stop(self):
        """Ends all callers."""
        self.over.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture(scope="module")
def replicas():
    """Three servers."""
    started = [Replica(name) for name in "abc"]
    yield started
    for replica in started:
        replica.program.process.send_signal(signal.SIGCONT)
        replica.program.stop()


def at(replicas, **more):
    """The endpoints over some replicas."""
    urls = [replica.url for replica in replicas]
    predict = {"name": "iris", "endpoint_type": "mlflow/predict", "model": {"provider": "mlflow", "urls": urls}}
    chat = {"provider": "openai-compatible", "name": "m", "urls": [f"{url}/v1" for url in urls]}
    chat = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": chat}
    return {"endpoints": [{**endpoint, **ROUTING, **more} for endpoint in (predict, chat)]}


@pytest.fixture(scope="module")
def survivor(replicas):
    """A gateway over them."""
    gateway = Gateway("survivor", at(replicas))
    yield gateway
    gateway.stop()


def metric(gateway, name, **labels):
    """The sum of a metric's samples with these labels."""
    page = requests.get(f"{gateway.admin}/metrics", timeout=5).text
    lines = [line for line in page.splitlines() if re.match(rf"{name}(\{{| )", line)]
    lines = [line for line in lines if all(f'{key}="{value}"' in line for key, value in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def wound(replica, fault):
    """Does something to a server, and tells how to undo it."""
    if fault == "kill":
        replica.signal(signal.SIGKILL)
        replica.program.process.wait()
        return replica.start
    if fault == "pause":
        replica.signal(signal.SIGSTOP)
        return lambda: replica.signal(signal.SIGCONT)
    replica.mode(fault)
    return lambda: replica.mode("well")


@pytest.mark.parametrize("fault", ["kill", "pause", "reset", "delay", "drip", "storm"])
def test_one_of_three_in_trouble_costs_no_call(replicas, survivor, fault):
    """Under load, no prediction and no chat fails before its first piece; the server is ejected and comes back."""
    victim = replicas[1]
    before = metric(survivor, "flowgate_upstream_ejections_total", upstream=f"127.0.0.1:{victim.port}")
    load = Load(survivor)
    try:
        poll(lambda: load.good > 200, 20, "calls before the fault")
        heal = wound(victim, fault)
        try:
            ejections = lambda: metric(survivor, "flowgate_upstream_ejections_total", upstream=f"127.0.0.1:{victim.port}")
            poll(lambda: ejections() > before, 20, "the ejection")
            good = load.good
            poll(lambda: load.good > good + 500, 30, "calls during the fault")
        finally:
            heal()
        calls = victim.calls()
        out = lambda: metric(survivor, "flowgate_upstream_ejected", upstream=f"127.0.0.1:{victim.port}")
        poll(lambda: victim.calls() > calls + 20 and out() == 0, 30, "the return")
    finally:
        load.stop()
    assert load.failed == [], f"{len(load.failed)} of {load.good} calls failed"
    assert all(error.reason.startswith("PROVIDER_") for error in load.cut), load.cut


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_cut_after_the_first_piece_is_an_error_and_no_second_beginning(replicas, survivor, door):
    """All servers cut their streams: what came stays, then an error in the door's own form."""
    for replica in replicas:
        replica.mode("cut")
    opened = door(survivor)
    try:
        pieces = []
        with pytest.raises(Failed) as failed:
            for piece in opened.stream("chat", "x"):
                pieces.append(piece)
        assert failed.value.reason == "PROVIDER_STREAM_CUT"
        assert re.fullmatch("([abc])0 (\\1)1 ", "".join(pieces)), pieces
    finally:
        opened.close()
        for replica in replicas:
            replica.mode("well")


def two(replicas, **more):
    """An endpoint whose second deployment is the fallback of its first."""
    model = lambda replica: {"provider": "openai-compatible", "name": "m", "url": f"{replica.url}/v1"}
    deployments = [{"alias": "first", "model": model(replicas[0])}, {"alias": "second", "model": model(replicas[1])}]
    return {"endpoints": [{"name": "chat", "endpoint_type": "llm/v1/chat", "deployments": deployments, **more}]}


def beside(replicas):
    """An endpoint whose fallback is another endpoint."""
    model = lambda replica: {"provider": "openai-compatible", "name": "m", "url": f"{replica.url}/v1"}
    chat = {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model(replicas[0]), "fallback": "second"}
    return {"endpoints": [chat, {"name": "second", "endpoint_type": "llm/v1/chat", "model": model(replicas[1])}]}


def served(gateway):
    """Who serves a call now."""
    with gateway.channel() as channel:
        return rpc.chat_stub(channel).Chat(rpc.ask("chat", "x"), timeout=20).call.deployment


@pytest.mark.parametrize(("config", "first", "second"), [(two, "first", "second"), (beside, "m", "second.m")], ids=["deployment", "endpoint"])
def test_a_limited_primary_rests_as_long_as_it_asks(replicas, config, first, second):
    """429 with `Retry-After: 2`: the fallback serves for two seconds, then the primary again; not one call is lost."""
    gateway = Gateway("limited", config(replicas))
    try:
        assert served(gateway) == first
        replicas[0].mode("limit")
        since = time.monotonic()
        assert served(gateway) == second
        replicas[0].mode("well")
        calls = replicas[0].calls()
        while time.monotonic() - since < 1.8:
            assert served(gateway) == second
        assert replicas[0].calls() == calls, "it was asked although it rests"
        poll(lambda: served(gateway) == first, 3, "the primary's return")
        assert 1.9 < time.monotonic() - since < 3
    finally:
        replicas[0].mode("well")
        gateway.stop()


def test_a_lone_server_that_restarts_costs_no_call(replicas):
    """Nobody listens for a moment: calls wait and come back."""
    lone = Replica("lone")
    gateway = Gateway("lone", at([lone], retry={"attempts": 6, "backoff": "400ms..2s"}))
    try:
        with requests.Session() as session:
            ask = lambda: session.post(f"{gateway.url}/endpoints/iris/invocations", json={"inputs": [1]}, timeout=20).status_code
            assert ask() == 200
            lone.program.stop()
            starting = threading.Timer(0.3, lone.start)
            starting.start()
            assert [ask(), ask()] == [200, 200]
            starting.join()
    finally:
        gateway.stop()
        lone.program.stop()


def test_a_callers_mistake_goes_nowhere_else(replicas):
    """A thousand 400s: each is asked once, none falls back, nothing is ejected, and the next good call is served at the same place."""
    gateway = Gateway("mistakes", {"endpoints": [*two(replicas)["endpoints"], at(replicas[:1])["endpoints"][0]]})
    first, second = replicas[0], replicas[1]
    try:
        first.mode("refuse")
        calls, others = first.calls(), second.calls()
        with requests.Session() as session:
            for _ in range(500):
                body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
                assert session.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=20).status_code == 400
            first.mode("poison")
            for _ in range(500):
                assert session.post(f"{gateway.url}/endpoints/iris/invocations", json={"inputs": [1]}, timeout=20).status_code in (400, 500)
        assert (first.calls() - calls, second.calls() - others) == (1000, 0)
        first.mode("well")
        assert served(gateway) == "first"
        assert metric(gateway, "flowgate_upstream_ejections_total") == 0 and metric(gateway, "flowgate_breaker_open") == 0
    finally:
        first.mode("well")
        gateway.stop()


def test_a_storm_of_failures_is_not_multiplied(replicas):
    """All three servers fail every call: they get at most a fifth more calls than there are."""
    gateway = Gateway("storm", at(replicas))
    for replica in replicas:
        replica.mode("storm")
    try:
        before, offered = sum(replica.calls() for replica in replicas), 600
        with requests.Session() as session:
            for _ in range(offered):
                answer = session.post(f"{gateway.url}/endpoints/iris/invocations", json={"inputs": [1]}, timeout=20)
                assert answer.status_code >= 500
        got = sum(replica.calls() for replica in replicas) - before
        assert offered <= got <= offered * 1.2, got
    finally:
        for replica in replicas:
            replica.mode("well")
        gateway.stop()
