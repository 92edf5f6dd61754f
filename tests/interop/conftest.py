"""What all tests share: the scoring servers, the fake upstream, and the gateways in front of them."""

import os
import sys

import pytest

from processes import INTEROP, Program, environment, free_port

sys.path.insert(0, str(INTEROP / "gen" / "python"))
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
# MLflow's clients, the OpenAI SDK and AWS's must take their addresses and keys from the tests alone.
FOREIGN = ("MLFLOW_TRACKING_URI", "MLFLOW_DEPLOYMENTS_TARGET", "OPENAI_API_KEY", "OPENAI_BASE_URL")
for name in [name for name in os.environ if name in FOREIGN or name.startswith("AWS_")]:
    del os.environ[name]

import rpc  # noqa: E402
from fake_openai import KEY, FakeOpenAI  # noqa: E402
from gateway import Gateway  # noqa: E402

MODELS = ["iris", "types", "tensor", "params", "fragile", "said", "fast", "accurate"]
FAULTS = ["fail-400", "fail-401", "fail-403", "fail-404", "fail-429", "fail-500", "fail-503"]
FAULTS += ["not-json", "cut", "no-end", "error-event", "silent", "gated"]
TASKS = {"chat": "llm/v1/chat", "completions": "llm/v1/completions", "embeddings": "llm/v1/embeddings"}


def serve(name):
    """Starts `mlflow models serve` for a registered model; returns the program and its address."""
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", f"models:/{name}/1", "-p", port, "--env-manager", "local"]
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{INTEROP}/mlflow.db")
    return Program(f"serve-{name}", command, env=env, cwd=INTEROP), f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def scoring():
    """Addresses of real scoring servers, by model."""
    started = {name: serve(name) for name in MODELS}
    try:
        for program, url in started.values():
            program.wait_for(f"{url}/ping", 180)
        yield {name: url for name, (_, url) in started.items()}
    finally:
        for program, _ in started.values():
            program.stop()


@pytest.fixture(scope="session")
def models(scoring):
    """A gateway in front of the scoring servers; `iris` is what `/invocations` calls."""
    endpoints = [predict(name, url) for name, url in scoring.items()]
    endpoints.append(predict("dead", f"http://127.0.0.1:{free_port()}"))
    gateway = Gateway("models", {"default_endpoint": "iris", "endpoints": endpoints})
    yield gateway
    gateway.stop()


def predict(name, url):
    """An endpoint in front of one scoring server."""
    return {"name": name, "endpoint_type": "mlflow/predict", "model": {"provider": "mlflow", "url": url}}


@pytest.fixture(scope="session")
def upstream():
    """The fake OpenAI upstream."""
    fake = FakeOpenAI().start()
    yield fake
    fake.stop()


@pytest.fixture
def fake(upstream):
    """The fake upstream with nothing recorded yet."""
    upstream.take()
    return upstream


def openai_endpoint(name, task, model, url):
    """An endpoint with provider openai at the fake upstream."""
    config = {"openai_api_key": "$UPSTREAM_KEY", "openai_api_base": url}
    return {"name": name, "endpoint_type": task, "model": {"provider": "openai", "name": model, "config": config}}


def mock_endpoint(name, task):
    """An endpoint that Flowgate answers itself."""
    return {"name": name, "endpoint_type": task, "model": {"provider": "mock", "name": "mock"}}


def llm_config(url):
    """Endpoints of every task at the fake upstream and at the mock, and one for each way in which it fails."""
    endpoints = [openai_endpoint(name, task, "gpt-fake", url) for name, task in TASKS.items()]
    endpoints += [openai_endpoint(fault, TASKS["chat"], fault, url) for fault in FAULTS]
    endpoints += [mock_endpoint(f"mock-{name}", task) for name, task in TASKS.items()]
    endpoints.append(mock_endpoint("mock-predict", "mlflow/predict"))
    for endpoint in endpoints:
        if endpoint["name"] == "silent":
            endpoint["timeouts"] = {"attempt": "300ms", "first_event": "300ms"}
    return {"endpoints": endpoints}


@pytest.fixture(scope="session")
def gateway(upstream):
    """A gateway in front of the fake upstream and the mock provider."""
    gateway = Gateway("llm", llm_config(upstream.url), UPSTREAM_KEY=KEY)
    yield gateway
    gateway.stop()


@pytest.fixture
def channel(gateway):
    """A gRPC channel to `gateway`."""
    with gateway.channel() as channel:
        yield channel


@pytest.fixture
def models_channel(models):
    """A gRPC channel to `models`."""
    with models.channel() as channel:
        yield channel


@pytest.fixture
def stub(gate):
    """ChatService of a module's own gateway, its fixture `gate`."""
    with gate.channel() as channel:
        yield rpc.chat_stub(channel)
