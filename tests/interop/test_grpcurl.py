"""grpcurl with no proto files at hand: by reflection alone, in the clear, over TLS and over mTLS."""

import json
import subprocess

import pytest
import requests

from certs import CLIENT, SERVER, Authority
from conftest import mock_endpoint
from gateway import Gateway
from processes import INTEROP

GRPCURL = INTEROP / "bin" / "grpcurl"
SERVICES = ["Chat", "Completion", "Embedding", "Endpoint", "Prediction"]
CHAT = '{"endpoint": "mock-chat", "messages": [{"text": "hello"}]}'


def grpcurl(*arguments):
    """Runs grpcurl; returns the finished process."""
    command = [str(GRPCURL), "-max-time", "20", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def ok(*arguments):
    """What a successful grpcurl prints."""
    done = grpcurl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Signs what the TLS tests need."""
    return Authority(tmp_path_factory.mktemp("certs"))


def secured(authority, name, **more):
    """A gateway with a certificate."""
    cert, key = authority.issue(name, "localhost", SERVER)
    config = {
        "tls": {"cert": str(cert), "key": str(key), **more},
        "endpoints": [mock_endpoint("mock-chat", "llm/v1/chat")],
    }
    return Gateway(name, config)


@pytest.fixture(scope="module")
def tls(authority):
    """A gateway over TLS."""
    gateway = secured(authority, "tls")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def mtls(authority):
    """A gateway that wants a client certificate."""
    gateway = secured(authority, "mtls", client_ca=str(authority.ca))
    yield gateway
    gateway.stop()


def check_all(*reach):
    """List, describe and call."""
    listed = ok(*reach, "list").split()
    assert {f"flowgate.v1.{name}Service" for name in SERVICES} | {"grpc.health.v1.Health"} <= set(listed)
    assert "rpc StreamChat" in ok(*reach, "describe", "flowgate.v1.ChatService")
    assert "repeated .flowgate.v1.Message messages" in ok(*reach, "describe", "flowgate.v1.ChatRequest")
    answer = json.loads(ok("-d", CHAT, *reach, "flowgate.v1.ChatService/Chat"))
    assert answer["choices"][0]["message"]["parts"][0]["text"]["text"]


def test_in_the_clear(gateway):
    """h2 by prior knowledge."""
    check_all("-plaintext", gateway.address)


def test_tls(authority, tls):
    """ALPN, and the server's certificate is checked."""
    check_all("-cacert", authority.ca, tls.address)


def test_tls_serves_http_too(authority, tls):
    """The same port speaks HTTPS with JSON."""
    answer = requests.get(f"https://{tls.address}/health", verify=str(authority.ca), timeout=20)
    assert answer.status_code == 200


def test_mtls(authority, mtls):
    """With a certificate of the configured authority."""
    cert, key = authority.issue("client", "a client", CLIENT)
    check_all("-cacert", authority.ca, "-cert", cert, "-key", key, mtls.address)


@pytest.mark.parametrize("stranger", [False, True], ids=["no certificate", "another authority's"])
def test_mtls_refuses_strangers(authority, mtls, tmp_path, stranger):
    """Without one, or with one of another authority."""
    more = []
    if stranger:
        cert, key = Authority(tmp_path).issue("stranger", "a stranger", CLIENT)
        more = ["-cert", cert, "-key", key]
    assert grpcurl("-cacert", authority.ca, *more, "-connect-timeout", "5", mtls.address, "list").returncode != 0


def test_a_stream(gateway):
    """Events one by one, the end last."""
    request = '{"endpoint": "mock-chat", "messages": [{"text": "hello"}]}'
    text = ok("-plaintext", "-d", request, gateway.address, "flowgate.v1.ChatService/StreamChat")
    decoder, events = json.JSONDecoder(), []
    while text.strip():
        event, end = decoder.raw_decode(text.lstrip())
        events.append(event)
        text = text.lstrip()[end:]
    assert "start" in events[0] and "end" in events[-1]


def test_predict(gateway):
    """A call to a predict endpoint, its input as MLflow's JSON."""
    request = '{"endpoint": "mock-predict", "dataframe_records": [{"x": 1}, {"x": 2}]}'
    answer = json.loads(ok("-plaintext", "-d", request, gateway.address, "flowgate.v1.PredictionService/Predict"))
    assert len(answer["predictions"]) == 2


def test_an_error_names_its_reason(gateway):
    """The details are decoded by reflection too."""
    request = '{"endpoint": "nobody", "messages": [{"text": "hello"}]}'
    done = grpcurl("-plaintext", "-d", request, gateway.address, "flowgate.v1.ChatService/Chat")
    assert done.returncode != 0
    assert "NotFound" in done.stderr and "CALLER_ENDPOINT_NOT_FOUND" in done.stderr


@pytest.mark.parametrize("name", ["", "flowgate.v1.ChatService", "mock-chat"])
def test_health(gateway, name):
    """The server, a service, an endpoint."""
    request = json.dumps({"service": name})
    answer = ok("-plaintext", "-d", request, gateway.address, "grpc.health.v1.Health/Check")
    assert json.loads(answer) == {"status": "SERVING"}


def test_health_of_nobody(gateway):
    """NOT_FOUND, as the health protocol says."""
    done = grpcurl("-plaintext", "-d", '{"service": "nobody"}', gateway.address, "grpc.health.v1.Health/Check")
    assert "NotFound" in done.stderr
