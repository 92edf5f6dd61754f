"""MLflow's models of language (ChatModel, ChatAgent, ResponsesAgent, any model of texts) run by Flowgate, streamed at its doors."""

import json
import sys

import cloudpickle
import grpc
import mlflow
import openai
import pytest
from mlflow.models import ModelSignature
from mlflow.pyfunc import ChatModel
from mlflow.types import ColSpec, Schema
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage

import rpc
import sidecar_models
from doors import ANY_KEY
from gateway import Gateway
from processes import INTEROP
from test_grpcurl import ok

# What says nothing of itself must be said of it.
MODELS = {"chat": {}, "agent": {}, "responses": {}, "words": {"schema": "plain"}, "mute": {}, "told": {}}
SPEAKERS = ["chat", "agent", "responses"]
PYTHON = INTEROP / "venv" / "bin" / "python"


class Mute(ChatModel):
    """Has whole answers only."""

    def predict(self, context, messages, params):
        """The last message again."""
        said = ChatMessage(role="assistant", content=messages[-1].content)
        return ChatCompletionResponse(choices=[ChatChoice(message=said)], model="mute", created=1)


def endpoint(name, folder):
    """An endpoint whose model Flowgate runs."""
    model = {"provider": "mlflow", "uri": str(folder), "config": MODELS[name]}
    return {"name": name, "endpoint_type": "llm/v1/chat", "model": model}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A gateway that runs all of them."""
    folder = tmp_path_factory.mktemp("agents")
    folders = sidecar_models.save(folder)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    mlflow.pyfunc.save_model(folder / "mute", python_model=Mute(), pip_requirements=["mlflow"])
    signature = ModelSignature(inputs=Schema([ColSpec("string")]))
    mlflow.pyfunc.save_model(folder / "told", python_model=sidecar_models.Words(), pip_requirements=["mlflow"], signature=signature)
    folders |= {name: folder / name for name in ("mute", "told")}
    config = {"mlflow": {"python": str(PYTHON)}, "endpoints": [endpoint(name, folders[name]) for name in MODELS]}
    gateway = Gateway("agents", config)
    yield gateway
    gateway.stop()


def texts(events):
    """The pieces of text of a stream of the contract."""
    return [event.delta.text for event in events if event.WhichOneof("event") == "delta"]


@pytest.fixture
def client(gate):
    """OpenAI's SDK."""
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key=ANY_KEY, max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.parametrize("name", SPEAKERS)
def test_stream_chat(stub, name):
    """The pieces as the model gives them."""
    assert texts(stub.StreamChat(rpc.ask(name, "hello"), timeout=60)) == ["one ", "two"]


@pytest.mark.parametrize("name", SPEAKERS)
def test_whole(stub, name):
    """The same models asked for whole answers."""
    [choice] = stub.Chat(rpc.ask(name, "hello", **({"temperature": 0.5} if name == "chat" else {})), timeout=60).choices
    said = {"chat": "hello at 0.5", "agent": "hello", "responses": "one two"}
    assert [part.text.text for part in choice.message.parts] == [said[name]]


@pytest.mark.parametrize("name", SPEAKERS)
def test_openai_sdk(client, name):
    """Chunks."""
    chunks = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "hello"}], stream=True)
    told = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert told == ["one ", "two"]


def test_grpcurl(gate):
    """By reflection alone."""
    body = json.dumps({"endpoint": "agent", "messages": [{"text": "hello"}]})
    told = ok("-plaintext", "-d", body, gate.address, "flowgate.v1.ChatService/StreamChat")
    assert '"one "' in told and '"two"' in told


@pytest.mark.parametrize("name", ["words", "told"])
def test_plain_words(stub, name):
    """A model that yields small objects; of one the configuration says that it takes a text, of the other its signature."""
    assert texts(stub.StreamChat(rpc.ask(name, "one two three"), timeout=60)) == ["one", "two", "three"]


def test_raised_in_the_middle(stub):
    """What was said is there; then the model's fault."""
    stream = stub.StreamChat(rpc.ask("words", "one two raise"), timeout=60)
    told = []
    with pytest.raises(grpc.RpcError) as failed:
        for event in stream:
            told.append(event)
    assert texts(told) == ["one", "two"]
    assert rpc.details(failed.value).reason == "PROVIDER_MODEL_FAILED"
    assert "hush" not in failed.value.details()


def test_raised_in_the_middle_openai(client):
    """The same with OpenAI's SDK."""
    told = []
    with pytest.raises(openai.APIError) as failed:
        for chunk in client.chat.completions.create(model="words", messages=[{"role": "user", "content": "one raise"}], stream=True):
            told += [choice.delta.content for choice in chunk.choices if choice.delta.content]
    assert told == ["one"] and "raised an exception" in failed.value.message


def test_a_model_that_cannot_stream(stub):
    """Its whole answer, in one piece."""
    assert "".join(texts(stub.StreamChat(rpc.ask("mute", "one two"), timeout=60))) == "one two"
