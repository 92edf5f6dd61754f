"""The program itself: the quickstart as printed, a reload under load, and a stop with calls in flight."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
import requests

from conftest import mock_endpoint, openai_endpoint
from doors import DOORS, Grpc
from fake_openai import KEY
from gateway import Gateway, binary
from processes import Program, environment, poll

CHAT = {"messages": [{"text": "hello"}]}


def listens(port):
    """Whether something listens on a port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def printed_commands(output):
    """The grpcurl and curl commands of the quickstart, continued lines joined."""
    lines = output.replace("\\\n", " ").splitlines()
    return [line[found.start() :] for line in lines if (found := re.search(r"\b(grp)?curl\s", line))]


@pytest.mark.skipif(listens(5000) or listens(5001), reason="the quickstart's own ports are taken")
def test_quickstart(tmp_path):
    """No arguments: it serves, and the two printed commands work as printed."""
    program = Program("flowgate-quickstart", [binary()], env=environment(), cwd=tmp_path)
    try:
        program.wait_for("http://127.0.0.1:5001/readyz", 30)
        commands = printed_commands(program.output())
        assert {command.split()[0] for command in commands} == {"curl", "grpcurl"}, program.output()
        for command in commands:
            done = subprocess.run(
                ["bash", "-c", command], env=environment(), capture_output=True, text=True, timeout=30
            )
            assert done.returncode == 0 and done.stdout.strip(), (command, done.stderr)
    finally:
        assert program.stop() == 0


class Load:
    """Calls one endpoint from several threads until it is stopped; `failed` is what went wrong."""

    def __init__(self, call, threads=4):
        self.call, self.done, self.failed = call, 0, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(30)

    def run(self):
        """One thread."""
        while not self.stopping.is_set() and len(self.failed) < 1000:
            try:
                self.call()
                self.done += 1
            except Exception as error:  # whatever it is, the test reports it
                self.failed.append(repr(error))

    def wait_for(self, calls):
        """Waits until that many calls have been answered."""
        poll(lambda: self.done >= calls or self.failed, 20, f"{calls} calls")


def chat(gateway):
    """One unary call over a new connection."""
    answer = requests.post(f"{gateway.url}/v1/endpoints/chat:chat", json=CHAT, timeout=20)
    answer.raise_for_status()


def endpoint_names(gateway):
    """What the gateway lists."""
    return {item["name"] for item in requests.get(f"{gateway.url}/v1/endpoints", timeout=20).json()["endpoints"]}


@pytest.fixture
def reloaded():
    """A gateway with one mock endpoint, to be reconfigured."""
    gateway = Gateway("reload", {"endpoints": [mock_endpoint("chat", "llm/v1/chat")]})
    yield gateway
    gateway.stop()


def test_a_reload_fails_no_call(reloaded):
    """Endpoints come and go while calls run; none fails."""
    base = [mock_endpoint("chat", "llm/v1/chat")]
    with Load(lambda: chat(reloaded)) as load:
        load.wait_for(1)
        for round_ in range(3):
            fresh = mock_endpoint(f"fresh-{round_}", "llm/v1/chat")
            reloaded.write({"endpoints": [*base, fresh]})
            poll(lambda name=fresh["name"]: endpoint_names(reloaded) == {"chat", name}, 10, f"reload {round_}")
    assert load.failed == [] and load.done > 0


def test_a_broken_edit_keeps_the_old(reloaded):
    """The old configuration serves on, and the log says where the new one is wrong."""
    reloaded.write({"endpoints": [mock_endpoint("chat", "llm/v9/chat")]})
    poll(lambda: "llm/v9/chat" in reloaded.program.output(), 10, "a word about the broken file")
    assert re.search(r"reload\.yaml:\d+:\d+", reloaded.program.output())
    assert endpoint_names(reloaded) == {"chat"}
    chat(reloaded)


def test_a_signal_rereads_the_file(reloaded):
    """SIGHUP, for those whose file system tells of no changes."""
    reloaded.write({"endpoints": [mock_endpoint("other", "llm/v1/chat")]})
    os.kill(reloaded.program.process.pid, signal.SIGHUP)
    poll(lambda: endpoint_names(reloaded) == {"other"}, 10, "the reload")


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_a_stop_finishes_calls_in_flight(door, fake):
    """SIGTERM: new callers are refused, a call in flight is finished, the exit status is 0."""
    config = {"endpoints": [openai_endpoint("gated", "llm/v1/chat", "gated", fake.url)]}
    gateway = Gateway(f"stop-{door.name}", config, UPSTREAM_KEY=KEY)
    try:
        stream = door(gateway).stream("gated", "one two")
        pieces = iter(stream)
        first = next(pieces)
        gateway.program.process.send_signal(signal.SIGTERM)
        port = int(gateway.address.split(":")[1])
        poll(lambda: not listens(port), 10, "the listener to close")
        fake.release(fake.wait_for_call("gated"))
        assert first + "".join(pieces) == "You said: one two" and stream.ended
        assert gateway.program.process.wait(15) == 0
    finally:
        gateway.stop()


def test_a_stop_that_cuts_a_call_says_so():
    """A call that outlives the grace is told so in its own protocol, the log counts it, and the exit status is 1."""
    slow = mock_endpoint("slow", "llm/v1/chat")
    slow["model"]["config"] = {"first_delay": "60s"}
    gateway = Gateway("stop-cut", {"shutdown_delay": "1s", "shutdown_grace": "100ms", "endpoints": [slow]})
    answers = []
    call = threading.Thread(
        target=lambda: answers.append(requests.post(f"{gateway.url}/v1/endpoints/slow:chat", json=CHAT, timeout=30))
    )
    try:
        call.start()
        in_flight = 'flowgate_in_flight{door="json"} 1'
        poll(lambda: in_flight in requests.get(f"{gateway.admin}/metrics", timeout=5).text, 10, "the call")
        gateway.program.process.send_signal(signal.SIGTERM)
        poll(lambda: requests.get(f"{gateway.admin}/readyz", timeout=5).status_code == 503, 10, "the end of readiness")
        assert requests.get(f"{gateway.url}/health", timeout=5).status_code == 200, "still served for the delay"
        assert gateway.program.process.wait(15) == 1
        call.join(10)
    finally:
        gateway.stop()
    assert answers[0].status_code == 503 and answers[0].json()["error"]["reason"] == "GATEWAY_UNAVAILABLE"
    assert "cut=1" in gateway.program.output().splitlines()[-1]


def test_a_stop_under_load_cuts_no_rpc():
    """Every call that was taken is answered; after that connections are refused, and the exit status is 0."""
    gateway = Gateway("stop-load", {"endpoints": [mock_endpoint("chat", "llm/v1/chat")]})
    door = Grpc(gateway)
    try:
        with Load(lambda: door.whole("chat", "hello")) as load:
            load.wait_for(50)
            assert gateway.stop() == 0
    finally:
        gateway.stop()
    assert [error for error in load.failed if "refused" not in error.lower()] == []


@pytest.mark.parametrize("script, want", [("exit 3", 3), ("kill -9 $$", 137)])
def test_a_shim_ends_with_its_program(script, want):
    """And as it did, while the gateway lives, which holds the other end of its input."""
    with shim(script) as started:
        assert started.wait(15) == want


def test_a_shim_ends_with_the_gateway(tmp_path):
    """And all that it has started, whatever they do."""
    note = tmp_path / "deaf"
    with shim(f"trap : TERM; touch {note}; while true; do sleep 60 & wait; done") as started:
        poll(note.exists, 10, "the program")
        started.stdin.close()
        assert started.wait(30) == 128 + signal.SIGKILL


@pytest.mark.parametrize("ends", ["the program", "the gateway"])
def test_nothing_escapes_a_shim(tmp_path, ends):
    """Not by a session of its own, and not by parents that are gone."""
    note = tmp_path / "pid"
    away = f"setsid sh -c 'trap : TERM; echo $$ >{note}.new; mv {note}.new {note}; while true; do sleep 60 & wait; done' &"
    rest = "while true; do sleep 60 & wait; done" if ends == "the gateway" else f"while ! [ -e {note} ]; do :; done"
    with shim(f"({away}) ; {rest}") as started:
        poll(note.exists, 10, "the process that goes away")
        if ends == "the gateway":
            started.stdin.close()
        started.wait(30)
        with pytest.raises(ProcessLookupError):
            os.kill(int(note.read_text()), 0)


@contextlib.contextmanager
def shim(script):
    """What stands between the gateway and a shell script."""
    started = subprocess.Popen([binary(), "shim", "--", "sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield started
    finally:
        started.kill()
        started.wait()
