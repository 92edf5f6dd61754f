"""Trains the model of the quickstart: a small forest on Fisher's irises, as ONNX. Needs scikit-learn and skl2onnx.

`builtin_iris.py FOLDER` writes the folder of an MLflow model.
"""

import json
import sys
from pathlib import Path

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

MLMODEL = """\
flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.21.0
  python_function:
    data: model.onnx
    loader_module: mlflow.onnx
    python_version: 3.11.7
metadata:
  data: Fisher's irises (1936)
mlflow_version: 3.17.2
saved_input_example_info:
  artifact_path: input_example.json
  serving_input_path: serving_input_example.json
  type: ndarray
signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]'
  outputs: '[{"type": "tensor", "name": "label", "tensor-spec": {"dtype": "str", "shape": [-1]}}, {"type": "tensor", "name": "probabilities", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
  params: null
"""


def main(folder):
    """Two dozen shallow trees tell irises apart as well as many deep ones."""
    data = load_iris()
    names = data.target_names[data.target]
    forest = RandomForestClassifier(24, max_depth=3, random_state=7).fit(data.data, names)
    onnx = to_onnx(
        forest, initial_types=[("measures", FloatTensorType([None, 4]))], options={"zipmap": False}, target_opset={"": 15, "ai.onnx.ml": 3}
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx.SerializeToString())
    (folder / "MLmodel").write_text(MLMODEL)
    (folder / "serving_input_example.json").write_text(json.dumps({"inputs": [[5.1, 3.5, 1.4, 0.2]]}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
