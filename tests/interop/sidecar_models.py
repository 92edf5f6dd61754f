"""Models for test_sidecar.py, by kind. They are kept by value, since the process that serves them knows no test."""

import os
import sys
import time
from decimal import Decimal
from pathlib import Path

import cloudpickle
import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import CANCELLED, RESOURCE_EXHAUSTED
from mlflow.pyfunc import ChatAgent, ChatModel, PythonModel, ResponsesAgent
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.agent import ChatAgentChunk, ChatAgentMessage, ChatAgentResponse
from mlflow.types.llm import ChatChoice, ChatCompletionChunk, ChatCompletionResponse, ChatMessage
from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent

import numpy as np

BAD = "no number that I like: hush"


def wait_for(path):
    """Stands still until there is a file, or for a minute."""
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.02)


class Frame(PythonModel):
    """Columns `a` and `b`; the text in `b` says what goes wrong."""

    def predict(self, context, model_input, params=None):
        """`a` times the parameter `factor`."""
        what, _, rest = str(model_input["b"].iloc[0]).partition(" ")
        if what == "raise":
            raise ValueError(BAD)
        if what == "exit":
            sys.exit(1)
        if what == "limit":
            raise MlflowException("come back later", error_code=RESOURCE_EXHAUSTED)
        if what == "cancel":
            raise MlflowException("enough", error_code=CANCELLED)
        if what == "decimal":
            return [Decimal(1)]
        if what == "greedy":
            return [len(bytearray(7 << 30))]
        if what == "wait":
            wait_for(rest.split()[0])
        model_input["a"] = model_input["a"] * params["factor"]
        return model_input


class Tensor(PythonModel):
    """A tensor of rows of two."""

    def predict(self, context, model_input, params=None):
        """The sums of the rows, one of them not finite; or how they come about."""
        if params["explain"]:
            return {"contributions": np.asarray(model_input)}
        return np.append(np.asarray(model_input).sum(axis=1), np.nan)


class Words(PythonModel):
    """No signature; streams what it is given, word by word. The last word may say what goes wrong."""

    def predict(self, context, model_input, params=None):
        """All at once."""
        return {"text": text_of(model_input)}

    def predict_stream(self, context, model_input, params=None):
        """One by one."""
        words = text_of(model_input).split(" ")
        if words[0] == "endless":
            try:
                while True:
                    yield {"text": "more"}
                    time.sleep(0.01)
            finally:
                Path(words[1]).touch()
        for word in words:
            if word == "raise":
                raise ValueError(BAD)
            yield {"text": word}


def text_of(model_input):
    """The text of an input in one of several forms."""
    if isinstance(model_input, dict):
        return str(model_input.get("prompt") or model_input.get("text"))
    return str(np.asarray(model_input).reshape(-1)[0])


class Chat(ChatModel):
    """Says the last message again."""

    def predict(self, context, messages, params):
        """In one piece."""
        if messages[-1].content == "raise":
            raise ValueError(BAD)
        said = ChatMessage(role="assistant", content=f"{messages[-1].content} at {params.temperature}")
        return ChatCompletionResponse(choices=[ChatChoice(message=said)], model="chat", created=1)

    def predict_stream(self, context, messages, params):
        """In two."""
        for piece in ("one ", "two"):
            choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
            yield ChatCompletionChunk.from_dict({"id": "c", "model": "chat", "created": 1, "choices": [choice]})


class Agent(ChatAgent):
    """Says the last message again."""

    def predict(self, messages, context=None, custom_inputs=None):
        """In one piece."""
        return ChatAgentResponse(messages=[ChatAgentMessage(id="1", role="assistant", content=messages[-1].content)])

    def predict_stream(self, messages, context=None, custom_inputs=None):
        """In two."""
        for piece in ("one ", "two"):
            yield ChatAgentChunk(delta=ChatAgentMessage(id="1", role="assistant", content=piece))


class Responses(ResponsesAgent):
    """Says something."""

    def predict(self, request):
        """In one piece."""
        return ResponsesAgentResponse(output=[self.create_text_output_item("one two", "m1")])

    def predict_stream(self, request):
        """In two, and whole."""
        for piece in ("one ", "two"):
            yield ResponsesAgentStreamEvent(**self.create_text_delta(piece, "m1"))
        item = self.create_text_output_item("one two", "m1")
        yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)


def save(folder):
    """Saves all of them below a folder; returns where, by name."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    frame = ModelSignature(
        inputs=Schema([ColSpec("double", "a"), ColSpec("string", "b")]),
        params=ParamSchema([ParamSpec("factor", "double", 2.0)]),
    )
    tensor = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float64"), (-1, 2))]), params=ParamSchema([ParamSpec("explain", "boolean", False)])
    )
    models = {
        "frame": (Frame(), frame),
        "tensor": (Tensor(), tensor),
        "words": (Words(), None),
        "chat": (Chat(), None),
        "agent": (Agent(), None),
        "responses": (Responses(), None),
    }
    for name, (model, signature) in models.items():
        given = {} if signature is None else {"signature": signature}
        mlflow.pyfunc.save_model(folder / name, python_model=model, pip_requirements=["mlflow"], **given)
    return {name: folder / name for name in models}
