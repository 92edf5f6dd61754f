"""Trains and registers the models that the interop tests serve with `mlflow models serve`.

`train.py FOLDER` makes FOLDER/mlflow.db, an MLflow store, and FOLDER/artifacts. Each function registers one model.
"""

import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, set_signature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


class Types(mlflow.pyfunc.PythonModel):
    """Says what it received: per column its dtype and its values as text."""

    def predict(self, context, model_input, params=None):
        """Returns one record per row; `repr` keeps what JSON would lose."""
        return [
            {
                name: {"dtype": str(model_input[name].dtype), "value": _show(model_input[name].iloc[row])}
                for name in model_input.columns
            }
            for row in range(len(model_input))
        ]


def _show(value):
    """Renders one cell so that it survives JSON without losing its type."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value)


class Doubled(mlflow.pyfunc.PythonModel):
    """Doubles a float32 tensor of shape [-1, 3]."""

    def predict(self, context, model_input, params=None):
        """Takes an array and returns an array, or a column of it when given a dict of one."""
        if isinstance(model_input, dict):
            return {name: value * 2 for name, value in model_input.items()}
        return model_input * 2


class Scaled(mlflow.pyfunc.PythonModel):
    """Multiplies column `x` by the parameter `factor` and adds `label`."""

    def predict(self, context, model_input, params=None):
        """Shows the parameters as the model got them, defaults included."""
        params = params or {}
        factor, label = params.get("factor", 0.0), params.get("label", "")
        return [
            {"y": float(x) * factor, "label": label, "tags": list(params.get("tags", []))} for x in model_input["x"]
        ]


class Fragile(mlflow.pyfunc.PythonModel):
    """Raises on x == 13, answers NaN for x == 0 and an int64 beyond 2^53 for x == 1; else echoes x."""

    def predict(self, context, model_input, params=None):
        """The exception's text is what must never reach a caller."""
        values = list(model_input["x"])
        if 13 in values:
            raise RuntimeError("fragile-secret: thirteen is unlucky")
        if 1 in values:
            return np.array([9007199254740993 for _ in values], dtype=np.int64)
        return np.array([float("nan") if x == 0 else x for x in values])


class Said(mlflow.pyfunc.PythonModel):
    """An LLM-shaped model: takes an OpenAI chat body and answers with one, bare, as MLflow's LLM models do."""

    def predict(self, context, model_input, params=None):
        """Echoes the last message."""
        messages = model_input["messages"].iloc[0] if hasattr(model_input, "iloc") else model_input["messages"]
        said = list(messages)[-1]["content"]
        return {
            "id": "chatcmpl-said",
            "object": "chat.completion",
            "created": 1,
            "model": "said",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": f"You said: {said}"}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4},
        }


class Sentiment(mlflow.pyfunc.PythonModel):
    """Tells the mood of a text, and which model told it."""

    def __init__(self, name, words):
        self.name, self.words = name, words

    def predict(self, context, model_input, params=None):
        """One record for each text; the first column holds them."""
        texts = model_input.iloc[:, 0]
        return [{"model": self.name, "good": any(word in text.lower() for word in self.words)} for text in texts]


def log_iris():
    """The README's model: scikit-learn's iris classifier with four double columns."""
    data = load_iris()
    frame = pd.DataFrame(data.data, columns=COLUMNS)
    model = LogisticRegression(max_iter=500).fit(frame, data.target)
    mlflow.sklearn.log_model(
        model,
        name="iris",
        signature=ModelSignature(
            inputs=Schema([ColSpec(DataType.double, name) for name in COLUMNS]),
            outputs=Schema([TensorSpec(np.dtype("int64"), (-1,))]),
        ),
        registered_model_name="iris",
    )


def log_types():
    """Every column type of MLflow, each once required and once optional."""
    columns = []
    for name in ["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]:
        columns.append(ColSpec(DataType[name], name))
        columns.append(ColSpec(DataType[name], f"maybe_{name}", required=False))
    log_pyfunc("types", Types(), ModelSignature(inputs=Schema(columns)))


def log_tensor():
    """One unnamed float32 tensor of three features."""
    schema = Schema([TensorSpec(np.dtype("float32"), (-1, 3))])
    log_pyfunc("tensor", Doubled(), ModelSignature(inputs=schema, outputs=schema))


def log_params():
    """A params schema: a scalar of each common type and a list."""
    params = ParamSchema(
        [
            ParamSpec("factor", DataType.double, 2.0),
            ParamSpec("label", DataType.string, "none"),
            ParamSpec("tags", DataType.string, ["a", "b"], shape=(-1,)),
        ]
    )
    inputs = Schema([ColSpec(DataType.double, "x")])
    log_pyfunc("params", Scaled(), ModelSignature(inputs=inputs, params=params))


def log_fragile():
    """The model that fails, and whose answers are hard to write as JSON."""
    log_pyfunc("fragile", Fragile(), ModelSignature(inputs=Schema([ColSpec(DataType.long, "x")])))


def log_said():
    """A model of the unified LLM form, without a signature."""
    log_pyfunc("said", Said(), None)


def log_sentiment():
    """Two models for one endpoint: a small one, and one that knows more words."""
    signature = ModelSignature(inputs=Schema([ColSpec(DataType.string, "text")]))
    log_pyfunc("fast", Sentiment("fast", ["good"]), signature)
    log_pyfunc("accurate", Sentiment("accurate", ["good", "fine", "splendid"]), signature)


def log_pyfunc(name, model, signature):
    """Logs a Python model, with pinned requirements so that MLflow need not guess them, and registers it."""
    logged = mlflow.pyfunc.log_model(
        name=name, python_model=model, pip_requirements=[f"mlflow=={mlflow.__version__}"], registered_model_name=name
    )
    if signature is not None:
        set_signature(logged.model_uri, signature)


MODELS = [log_iris, log_types, log_tensor, log_params, log_fragile, log_said, log_sentiment]


def main(folder):
    """Makes the store, with its artifacts beside it, and registers every model."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("interop", (folder / "artifacts").as_uri()))
    for log in MODELS:
        log()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
