"""Writes small ONNX models that the native engine does not know, and what ONNX Runtime answers: the truth that `test_onnx.py` holds Flowgate to.

`onnx_models.py [NAME ...]` makes onnx/NAME/: MLflow's folder of a model (`MLmodel`, `model.onnx`, files beside it), and `case.json`, requests
with the outputs of each. Needs numpy, onnx and onnxruntime.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent / "onnx"
MLMODEL = """flavors:
  onnx:
    data: model.onnx
    onnx_version: 1.17.0
signature:
  inputs: '{inputs}'
  outputs: null
  params: null
"""
CHANCE = np.random.RandomState(11)
MODELS = {}


def model(make):
    """Takes a function up as the model of its name: it returns nodes, inputs, outputs, constants, and rows to ask with."""
    MODELS[make.__name__] = make
    return make


def some(*shape):
    """Small numbers."""
    return np.round(CHANCE.randn(*shape), 2).astype(np.float32)


def tensor(name, kind, shape):
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


@model
def convolution():
    """An image net: two convolutions, pooling, a dense end."""
    nodes = [
        helper.make_node("Conv", ["image", "k1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "k2"], ["c2"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0),
    ]
    constants = {"k1": some(4, 1, 3, 3), "b1": some(4), "k2": some(6, 4, 3, 3), "w": some(6, 3), "b": some(3)}
    inputs = [tensor("image", TensorProto.FLOAT, ["rows", 1, 8, 8])]
    outputs = [tensor("label", TensorProto.INT64, ["rows"]), tensor("probabilities", TensorProto.FLOAT, ["rows", 3])]
    return nodes, inputs, outputs, constants, [{"image": some(1, 1, 8, 8)}, {"image": some(5, 1, 8, 8)}]


@model
def recurrent():
    """An LSTM with two named inputs, of any length."""
    nodes = [
        helper.make_node("LSTM", ["steps", "w", "r", "", "", "start"], ["all", "last"], hidden_size=3),
        helper.make_node("Squeeze", ["last", "zero"], ["state"]),
    ]
    constants = {"w": some(1, 12, 2), "r": some(1, 12, 3), "zero": np.array([0], dtype=np.int64)}
    inputs = [tensor("steps", TensorProto.FLOAT, ["time", "rows", 2]), tensor("start", TensorProto.FLOAT, [1, "rows", 3])]
    rows = [{"steps": some(4, 1, 2), "start": some(1, 1, 3)}, {"steps": some(2, 3, 2), "start": some(1, 3, 3)}]
    return nodes, inputs, [tensor("state", TensorProto.FLOAT, ["rows", 3])], constants, rows


@model
def quantised():
    """Whole numbers of eight bits, and a table of columns as input."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["y"]),
    ]
    constants = {"w": CHANCE.randint(-9, 9, (4, 2)).astype(np.int8)}
    inputs = [tensor("x", TensorProto.FLOAT, ["rows", 4])]
    return nodes, inputs, [tensor("y", TensorProto.FLOAT, ["rows", 2])], constants, [{"x": some(1, 4)}, {"x": some(3, 4)}]


@model
def words():
    """Texts in and out, and ZipMap's maps behind an operator that is not known."""
    nodes = [
        helper.make_node("StringSplit", ["text"], ["pieces", "count"]),
        helper.make_node("RegexFullMatch", ["text"], ["is_word"], pattern="[a-z]+"),
        helper.make_node("Cast", ["count"], ["length"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["length", "w"], ["scores"]),
        helper.make_node("ZipMap", ["scores"], ["named"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"]),
    ]
    inputs = [tensor("text", TensorProto.STRING, ["rows", 1])]
    maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        tensor("pieces", TensorProto.STRING, None),
        tensor("is_word", TensorProto.BOOL, ["rows", 1]),
        helper.make_value_info("named", helper.make_sequence_type_proto(maps)),
    ]
    rows = [{"text": np.array([["the żółw sat"], ["cat"]], dtype=object)}]
    return nodes, inputs, outputs, {"w": some(1, 2)}, rows


@model
def beside():
    """Constants in a file beside the model."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[3]),
        helper.make_node("ReduceSum", ["c"], ["y"], keepdims=0),
    ]
    inputs = [tensor("x", TensorProto.FLOAT, [1, 2, None])]
    return nodes, inputs, [tensor("y", TensorProto.FLOAT, [])], {"k": some(8, 2, 3)}, [{"x": some(1, 2, 6)}]


@model
def half():
    """An input of 16 bits, which is refused by name."""
    nodes = [helper.make_node("GlobalMaxPool", ["x"], ["y"])]
    return nodes, [tensor("x", TensorProto.FLOAT16, [1, 1, 4])], [tensor("y", TensorProto.FLOAT16, [1, 1, 1])], {}, []


@model
def alien():
    """An operator that nobody knows."""
    nodes = [helper.make_node("Magic", ["x"], ["y"], domain="com.example")]
    return nodes, [tensor("x", TensorProto.FLOAT, [1, 2])], [tensor("y", TensorProto.FLOAT, [1, 2])], {}, []


def written(value):
    """An output as Flowgate writes it."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def make(name):
    """Writes one model."""
    nodes, inputs, outputs, constants, asked = MODELS[name]()
    stored = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, stored)
    opsets = [helper.make_opsetid(domain, number) for domain, number in {"": 20, "ai.onnx.ml": 3, "com.example": 1}.items()]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    if name == "beside":
        (folder / "model.onnx.data").unlink(missing_ok=True)
        onnx.save(made, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    else:
        path.write_bytes(made.SerializeToString())
    kinds = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.STRING: "str"}
    signature = []
    for value in inputs:
        form = value.type.tensor_type
        shape = [dim.dim_value or -1 for dim in form.shape.dim]
        signature.append({"name": value.name, "type": "tensor", "tensor-spec": {"dtype": kinds[form.elem_type], "shape": shape}})
    (folder / "MLmodel").write_text(MLMODEL.format(inputs=json.dumps(signature)))
    cases = []
    if asked:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for given in asked:
            answers = zip(names, session.run(None, given), strict=True)
            shown = {key: value.tolist() for key, value in given.items()}
            cases.append({"inputs": shown, "outputs": {key: written(value) for key, value in answers}})
    (folder / "case.json").write_text(json.dumps(cases, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    for each in sys.argv[1:] or MODELS:
        make(each)
