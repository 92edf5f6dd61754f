"""Starts the programs that the tests talk to, waits until they answer, and stops them with all their children."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / ".interop"
LOGS = INTEROP / "logs"

_given = set()


def free_port():
    """Returns a port of 127.0.0.1 that nothing listens on and that this run has not given out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def poll(check, seconds, what):
    """Calls `check` until it returns something true, and returns that; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def environment(**more):
    """The environment of a child: ours, with the virtual environment's programs in front and no telemetry."""
    path = os.pathsep.join([str(INTEROP / "venv" / "bin"), str(INTEROP / "bin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **more}


class Program:
    """A running program in a process group of its own, its output in a file under `.interop/logs`."""

    def __init__(self, name, command, env=None, cwd=None):
        LOGS.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = LOGS / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env or environment(),
                cwd=cwd,
                start_new_session=True,
            )

    def output(self):
        """What the program has written so far."""
        return self.log.read_text(errors="replace")

    def answers(self, url):
        """Whether `url` answers 200 now; fails if the program has ended."""
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.output()[-4000:]}")
        try:
            return requests.get(url, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def wait_for(self, url, seconds=90):
        """Waits until `url` answers 200, and returns the program."""
        try:
            poll(lambda: self.answers(url), seconds, f"{self.name} at {url}")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.output()[-4000:]}") from None
        return self

    def stop(self, seconds=15):
        """Ends the whole group, politely first, and returns the exit status."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                break
            try:
                self.process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # children that outlived their parent
        except ProcessLookupError:
            pass
        return self.process.wait()
