"""Trains the forests that the benchmark of models measures. Needs mlflow, scikit-learn, skl2onnx, onnx and onnxruntime.

`forests.py FOLDER` makes FOLDER/NAME/model.onnx and FOLDER/NAME/rows.json for each forest, and of the forest on irises two folders of MLflow
models: FOLDER/python, as scikit-learn's own, and FOLDER/native, its export.
"""

import json
import sys
from pathlib import Path

import mlflow
import numpy as np
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

TREES = 100
ROWS = 1000


def forests():
    """Name, forest and the table it was trained on: shallow, deep, and one that answers a number."""
    features, classes = load_iris(return_X_y=True)
    yield "iris", RandomForestClassifier(TREES, random_state=0).fit(features, classes), features
    features, classes = make_classification(10000, 20, n_informative=12, n_classes=3, random_state=0)
    yield "deep", RandomForestClassifier(TREES, random_state=0, n_jobs=-1).fit(features, classes), features
    features, targets = load_diabetes(return_X_y=True)
    yield "regressor", RandomForestRegressor(TREES, random_state=0).fit(features, targets), features


def export(forest, features):
    """The forest as ONNX; probabilities as a tensor, as whoever wants them fast has them."""
    options = {id(forest): {"zipmap": False}} if isinstance(forest, RandomForestClassifier) else None
    return to_onnx(forest, features[:1].astype(np.float32), options=options)


def empty():
    """A model that does nothing: what a call costs by itself."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in ("X", "Y"))
    graph = helper.make_graph([helper.make_node("Identity", ["X"], ["Y"])], "empty", [x], [y])
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def save(folder, model, rows):
    """The model, and rows to ask it for."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "rows.json").write_text(json.dumps(rows.astype(np.float32).tolist()))


def main(folder):
    """Writes all of them."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name, forest, features in forests():
        model = export(forest, features)
        # Rows as those of the training, but none of them twice.
        rows = features[draw.integers(len(features), size=ROWS)]
        save(folder / name, model, rows + draw.normal(scale=features.std(axis=0) / 10, size=rows.shape))
        if name == "iris":
            mlflow.sklearn.save_model(forest, folder / "python", pip_requirements=[], serialization_format="cloudpickle")
            mlflow.onnx.save_model(model, folder / "native", pip_requirements=[])
    save(folder / "empty", empty(), np.zeros((ROWS, 1)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
