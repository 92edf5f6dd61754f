"""Generated clients in other languages, compiled and run against the gateway."""

import shutil
import subprocess
from pathlib import Path

import pytest

from processes import INTEROP, ROOT, environment

HERE = Path(__file__).parent


def run(gateway, language, *command):
    """Copies a language's sources beside its generated code and packages, and runs them there."""
    folder = INTEROP / language
    shutil.copytree(HERE / language, folder, dirs_exist_ok=True)
    env = environment(FLOWGATE_ADDR=gateway.address, FLOWGATE_PROTO=str(ROOT / "proto"))
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_grpc_web_from_node(gateway):
    """connect-web."""
    run(gateway, "node", "node", "--test", "web.test.mjs")


def test_grpc_from_node(gateway):
    """grpc-js and connect-node."""
    run(gateway, "node", "node", "--test", "grpc.test.mjs")


@pytest.mark.timeout(600)
def test_grpc_from_go(gateway):
    """protoc-gen-go; the first run compiles grpc-go."""
    run(gateway, "go", "go", "test", "-count=1", "./...")
