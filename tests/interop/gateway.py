"""Starts Flowgate on free ports with a configuration given as Python data."""

import os
from pathlib import Path

import grpc
import yaml

from processes import INTEROP, ROOT, Program, environment, free_port

CONFIGS = INTEROP / "configs"


def binary():
    """The program under test: FLOWGATE_BIN, else the release build."""
    path = Path(os.environ.get("FLOWGATE_BIN", "target/release/flowgate"))
    path = path if path.is_absolute() else ROOT / path
    assert path.exists(), f"{path} does not exist: build it, or set FLOWGATE_BIN"
    return path


class Gateway:
    """A running Flowgate. `config` lacks only the addresses, which are chosen here."""

    def __init__(self, name, config, **env):
        self.name = name
        port, admin = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self.admin = f"http://127.0.0.1:{admin}"
        CONFIGS.mkdir(parents=True, exist_ok=True)
        self.path = CONFIGS / f"{name}.yaml"
        self.base = {"admin": {"listen": f"127.0.0.1:{admin}"}}
        self.write(config)
        command = [binary(), "start", "--config-path", self.path, "--host", "127.0.0.1", "--port", port]
        self.program = Program(f"flowgate-{name}", command, env=environment(**env))
        self.program.wait_for(f"{self.admin}/readyz", 30)

    def write(self, config):
        """Replaces the configuration in one step, as a reload expects it."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(yaml.safe_dump({**self.base, **config}, sort_keys=False))
        fresh.replace(self.path)

    def channel(self):
        """A gRPC channel in the clear."""
        return grpc.insecure_channel(self.address)

    def stop(self):
        """Ends the program and returns its exit status."""
        return self.program.stop()
