"""Saves small real models with MLflow and writes what its own scoring server answers.

`native_scoring.py FOLDER` makes FOLDER/<model>/: MLflow's folder of a model, less the files of its environment, and `cases.jsonl`, a
line per request: its content type and body, and the status and body with which MLflow's scoring server answers. Where Flowgate is to
answer otherwise, the line says how (`status`, `predictions`) and why (`differs`). It needs mlflow, starlette's test client, numpy,
pandas, scikit-learn, skl2onnx, onnx, onnxruntime, xgboost and lightgbm. Name models behind the folder to make only those.
"""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
warnings.filterwarnings("ignore")

import lightgbm as lgb
import mlflow
import numpy as np
import onnx
import pandas as pd
import xgboost as xgb
from mlflow.models import ModelSignature, infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from starlette.testclient import TestClient

JSON = "application/json"
CSV = "text/csv"
NAMES = ["a", "b", "c", "d"]
MODELS = {}


def model(make):
    """Takes a function up as the model of its name: it saves the model in a folder and returns its cases."""
    MODELS[make.__name__] = make
    return make


def case(name, body, kind=JSON, **ours):
    """A request; `ours` is what Flowgate answers otherwise: `status`, `predictions`, and `differs`, the reason."""
    assert not ours or "differs" in ours, name
    return {"name": name, "type": kind, "body": body if isinstance(body, str) else json.dumps(body), **ours}


def table(seed=0, rows=120, columns=4):
    """Rows of plain numbers."""
    return np.round(np.random.RandomState(seed).randn(rows, columns), 2)


def split(rows, names=NAMES, **more):
    """The first of MLflow's forms."""
    return {"dataframe_split": {"columns": names, "data": rows}, **more}


def records(rows, names=NAMES, **more):
    """The second."""
    return {"dataframe_records": [dict(zip(names, row)) for row in rows], **more}


def columns(kind="double", names=NAMES, required=True):
    """Columns of one type."""
    return Schema([ColSpec(kind, name, required=required) for name in names])


def save_onnx(proto, folder, inputs=None, params=None):
    """As `log_model` does, without a run."""
    signature = ModelSignature(inputs=inputs, params=params) if inputs or params else None
    mlflow.onnx.save_model(proto, folder, signature=signature, pip_requirements=[])


def classifier(classes=3, zipmap=False, labels=None):
    """A classifier as ONNX, and its rows."""
    x = table()
    y = np.digitize(x[:, 0] + x[:, 1], np.linspace(-0.7, 0.7, classes - 1) if classes > 2 else [0.2])
    y = np.array(labels)[y] if labels else y
    fitted = LogisticRegression().fit(x, y)
    return to_onnx(fitted, x.astype(np.float32), options={"zipmap": zipmap}, target_opset=17), x


TWO = [[0.5, -1.25, 3, 0.1], [-0.5, 0.75, 1.5, -2]]


def four_forms(rows=TWO, names=NAMES):
    """The same rows in every form in which a table can come."""
    by_name = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    text = ",".join(names) + "\n" + "\n".join(",".join(str(value) for value in row) for row in rows) + "\n"
    return [
        case("split", split(rows, names)),
        case("split, one row", split(rows[:1], names)),
        case("split with index", {"dataframe_split": {"index": [3, 4], "columns": names, "data": rows}}),
        case("split in another order, with more", split([[9, *row[::-1]] for row in rows], ["x", *names[::-1]])),
        case("records", records(rows, names)),
        case("records in another order, with more", records([["x", *row[::-1]] for row in rows], ["x", *names[::-1]])),
        case("instances as records", {"instances": [dict(zip(names, row)) for row in rows]}),
        case("inputs by name", {"inputs": by_name}),
        case("inputs by name, one row of scalars", {"inputs": dict(zip(names, rows[0]))}),
        case("inputs as records", {"inputs": [dict(zip(names, row)) for row in rows]}),
        case("csv", text, CSV),
        case("csv with charset", text, "text/csv; charset=UTF-8"),
    ]


def protocol():
    """What goes wrong before any model is asked."""
    return [
        case("no json", "{not json"),
        case("nothing", ""),
        case("a list", [1, 2]),
        case("a number", "3"),
        case("no form", {"data": [[1]]}),
        case("two forms", {"inputs": [1], "instances": [1]}),
        case("other keys beside a form", split(TWO, unknown=3)),
        case("records that are an object", {"dataframe_records": {"a": 1}}),
        case("split that is a list", {"dataframe_split": [[1]]}),
        case("split without data", {"dataframe_split": {"columns": NAMES}}),
        case("split with another key", {"dataframe_split": {"columns": NAMES, "data": TWO, "dtype": "x"}}),
        case("split with too few names", {"dataframe_split": {"columns": NAMES[:2], "data": TWO}}),
        case("a missing column", split([row[:3] for row in TWO], NAMES[:3])),
        case("two missing columns", split([row[:2] for row in TWO], NAMES[:2])),
        case("no names", {"dataframe_split": {"data": TWO}}),
        case("a list for named columns", {"inputs": TWO}),
        case("instances for named columns", {"instances": TWO}),
        case("columns of unequal lengths", {"instances": {"a": [1.0, 2.0], "b": [1.0], "c": [1.0], "d": [1.0]}}),
        case("text for a number", split([["x", 1, 1, 1]])),
        case("a list for a number", records([[[1, 2], 1, 1, 1]])),
        case("an object for a number", split([[{"a": 1}, 1, 1, 1]])),
        case("numbers as text", split([["0.5", "-1.25", "3", "1e-1"]])),
        case("truth for numbers", split([[True, False, 1, 0]])),
        case("params that nobody declared", split(TWO, params={"x": 1})),
        case("params that are a list", split(TWO, params=[1])),
        case("params that are null", split(TWO, params=None)),
        case("another charset", split(TWO), "application/json; charset=latin-1"),
        case("another parameter", split(TWO), "application/json; boundary=x"),
        case("another type", "<x/>", "application/xml"),
        case("csv without a column", "a,b,c\n1,2,3\n", CSV),
        case("csv with a field too many", "a,b,c,d\n1,2,3,4\n1,2,3,4,5\n", CSV),
        case("csv with text", "a,b,c,d\nx,2,3,4\n", CSV),
        case("csv with quotes", '"a","b",c,d\n"1","2",3,4\n', CSV),
    ]


@model
def onnx_classes(folder):
    """Labels and probabilities side by side, of which MLflow cannot make a table."""
    proto, x = classifier()
    save_onnx(proto, folder, columns())
    why = "MLflow fails at outputs of unequal lengths; here each row has its list"
    return [case(**{**each, "status": 200, "differs": why}) for each in renamed(four_forms())]


def renamed(cases):
    """Cases as arguments of `case`."""
    return [{"name": each["name"], "body": each["body"], "kind": each["type"]} for each in cases]


@model
def onnx_zipmap(folder):
    """Probabilities by label."""
    proto, x = classifier(zipmap=True)
    save_onnx(proto, folder, columns())
    return four_forms() + protocol()


@model
def onnx_zipmap_text(folder):
    """Labels that are texts, two of them."""
    proto, x = classifier(2, True, ["no", 'say "yes"'])
    save_onnx(proto, folder, columns("float"))
    return four_forms()


@model
def onnx_regression(folder):
    """One number a row."""
    x = table()
    proto = to_onnx(LinearRegression().fit(x, x @ [1, 2, 3, 4]), x.astype(np.float32), target_opset=17)
    save_onnx(proto, folder, columns())
    nan = "MLflow writes NaN, which is no JSON"
    return four_forms() + [
        case("null for a double", split([[None, 1, 1, 1]]), status=200, predictions=[{"variable": None}], differs=nan),
        case("NaN for a double", '{"dataframe_split": {"columns": ["a","b","c","d"], "data": [[NaN, 1, 1, 1]]}}', status=200,
             predictions=[{"variable": None}], differs=nan),
        case("csv with nothing", "a,b,c,d\n,1,1,1\n", CSV, status=200, predictions=[{"variable": None}], differs=nan),
        case("csv with NA", "a,b,c,d\nNA,1,1,1\n", CSV, status=200, predictions=[{"variable": None}], differs=nan),
        case("records that lack a value", {"dataframe_records": [dict(zip(NAMES, TWO[0])), {"a": 1, "b": 1, "c": 1}]}, status=200,
             differs=nan),
        case("more than a float holds", split([[1e300, 1, 1, 1]]), status=400, differs="the number becomes infinite"),
        case("no rows", split([]), status=200, predictions=[], differs="an empty table has an empty answer"),
    ]


@model
def onnx_no_signature(folder):
    """What the model itself says of its input."""
    proto, x = classifier(zipmap=True)
    save_onnx(proto, folder)
    return [
        case("split", split(TWO)),
        case("split without names", {"dataframe_split": {"data": TWO}}),
        case("records", records(TWO)),
        case("instances", {"instances": TWO}),
        case("inputs", {"inputs": TWO}),
        case("inputs by name", {"inputs": {"X": TWO}}),
        case("inputs by another name", {"inputs": {"Y": TWO}}),
        case("inputs of another width", {"inputs": [row[:3] for row in TWO]}),
        case("split of another width", split([row[:3] for row in TWO], NAMES[:3])),
        case("inputs of another rank", {"inputs": [1.0, 2.0, 3.0, 4.0]}),
        case("ragged", {"inputs": [[1.0, 2.0, 3.0, 4.0], [1.0]]}),
        case("csv", "a,b,c,d\n0.5,-1.25,3.5,0.1\n", CSV),
        case("whole numbers", {"inputs": [[1, 2, 3, 4]]}, status=200, differs="MLflow's int64 is none of ONNX Runtime's floats"),
    ]


@model
def onnx_tensor(folder):
    """One tensor without a name; the answer has the outputs by name."""
    proto, x = classifier()
    save_onnx(proto, folder, Schema([TensorSpec(np.dtype("float32"), (-1, 4))]))
    return [
        case("inputs", {"inputs": TWO}),
        case("instances", {"instances": TWO}),
        case("split", split(TWO)),
        case("another width", {"inputs": [row[:3] for row in TWO]}),
        case("another rank", {"inputs": TWO[0]}),
        case("text", {"inputs": [["x", 1, 1, 1]]}),
        case("ragged", {"inputs": [[1.0], [1.0, 2.0]]}),
        case("csv", "a,b,c,d\n0.5,-1.25,3,0.1\n", CSV, status=200, differs="MLflow asks a tensor for a type of pandas'"),
        case("null", {"inputs": [[None, 1, 1, 1]]}, status=200, differs="MLflow's NaN is no JSON"),
        case("an object", {"inputs": {"x": TWO}}),
    ]


@model
def onnx_named_tensors(folder):
    """A column of numbers and one of texts, each an input of its own."""
    x = pd.DataFrame({"age": [20.0, 30, 40, 50] * 10, "city": ["rome", "oslo", "rome", "bern"] * 10})
    steps = ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])])
    fitted = make_pipeline(steps, LogisticRegression()).fit(x, [0, 1, 1, 0] * 10)
    kinds = [("age", FloatTensorType([None, 1])), ("city", StringTensorType([None, 1]))]
    proto = to_onnx(fitted, initial_types=kinds, options={"zipmap": False}, target_opset=17)
    inputs = Schema([TensorSpec(np.dtype("float32"), (-1, 1), "age"), TensorSpec(np.dtype("str"), (-1, 1), "city")])
    save_onnx(proto, folder, inputs)
    return [
        case("inputs", {"inputs": {"age": [[25.0], [45]], "city": [["rome"], ["oslo"]]}}),
        case("instances", {"instances": [{"age": [25.0], "city": ["rome"]}, {"age": [45], "city": ["nowhere"]}]}),
        case("split", split([[25, "rome"], [45, "oslo"]], ["age", "city"])),
        case("missing", {"inputs": {"age": [[25.0]]}}),
        case("text for a number", {"inputs": {"age": [["x"]], "city": [["rome"]]}}),
        case("another shape", {"inputs": {"age": [25.0], "city": ["rome"]}}),
        case("a list", {"inputs": [[25.0]]}),
    ]


@model
def onnx_named_columns(folder):
    """The same as a table, of which MLflow makes flat arrays that the model does not take."""
    onnx_named_tensors(folder)
    proto = onnx.load(Path(folder) / "model.onnx")
    shutil.rmtree(folder)
    save_onnx(proto, folder, Schema([ColSpec("double", "age"), ColSpec("string", "city")]))
    why = "MLflow gives the model flat arrays where it takes columns"
    return [
        case("split", split([[25, "rome"], [45, "oslo"]], ["age", "city"]), status=200, differs=why),
        case("csv", "city,age\nrome,25\n\"oslo\",45\n", CSV, status=200, differs=why),
        case("null for text", split([[25, None]], ["age", "city"])),
        case("a number for text", split([[25, 3]], ["age", "city"])),
        case("missing", split([["rome"]], ["city"])),
    ]


@model
def onnx_whole(folder):
    """Whole numbers go through and come out as they are."""
    names = ["i", "l"]
    nodes = [
        helper.make_node("Cast", ["i"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Add", ["wide", "l"], ["sum"]),
        helper.make_node("Cast", ["l"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["l", "wide"], ["more"]),
    ]
    ins = [helper.make_tensor_value_info("i", TensorProto.INT32, [None]), helper.make_tensor_value_info("l", TensorProto.INT64, [None])]
    outs = [
        helper.make_tensor_value_info("sum", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("real", TensorProto.FLOAT, [None]),
        helper.make_tensor_value_info("more", TensorProto.BOOL, [None]),
    ]
    proto = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(proto, folder, Schema([ColSpec("integer", "i"), ColSpec("long", "l")]))
    wraps = "MLflow wraps and cuts numbers silently"
    return [
        case("split", split([[1, 2], [-3, 4]], names)),
        case("beyond 2^53", split([[1, 9007199254740993]], names)),
        case("the greatest", split([[2147483647, 9223372036854775806]], names), status=200, differs="the sum wraps in the model"),
        case("as text", split([["1", "-2"]], names)),
        case("whole as a fraction", split([[1.0, 2.0]], names)),
        case("truth", split([[True, False]], names)),
        case("csv", "i,l\n1,2\n", CSV),
        case("beyond int32", split([[3000000000, 1]], names), status=400, differs=wraps),
        case("beyond int64", split([[1, 9223372036854775808]], names), status=400, differs=wraps),
        case("a fraction", split([[1, 2.5]], names), status=400, differs=wraps),
        case("a fraction in inputs", {"inputs": {"i": [1], "l": [2.5]}}, status=400, differs=wraps),
        case("null", split([[1, None]], names)),
        case("null in inputs", {"inputs": {"i": [1], "l": [None]}}),
        case("text", split([["x", 1]], names)),
    ]


@model
def onnx_text(folder):
    """Texts and bytes go through."""
    nodes = [helper.make_node("Identity", ["s"], ["same"]), helper.make_node("Identity", ["b"], ["bytes"])]
    text = TensorProto.STRING
    ins = [helper.make_tensor_value_info(name, text, [None]) for name in ("s", "b")]
    outs = [helper.make_tensor_value_info(name, text, [None]) for name in ("same", "bytes")]
    proto = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(proto, folder, Schema([ColSpec("string", "s"), ColSpec("binary", "b")]))
    decoded = "base64 is decoded in every form, to text that the model takes"
    one = {"same": "x", "bytes": "hi"}
    ours = {"status": 200, "differs": decoded}
    return [
        case("split", split([['x"\n', "aGk="], ["\u00e9", "eW8=\n"]], ["s", "b"]), **ours,
             predictions=[{"same": 'x"\n', "bytes": "hi"}, {"same": "\u00e9", "bytes": "yo"}]),
        case("records", records([["x", "aGk="]], ["s", "b"]), predictions=[one], **ours),
        case("inputs", {"inputs": {"s": ["x"], "b": ["aGk="]}}, predictions=[one], **ours),
        case("instances", {"instances": [{"s": "x", "b": "aGk="}]}, predictions=[one], **ours),
        case("csv", "s,b\nx,aGk=\n", CSV, predictions=[one], **ours),
        case("no base64", split([["x", "a"]], ["s", "b"])),
    ]


@model
def onnx_one_column(folder):
    """One named column: a list is that column."""
    x = table(columns=1)
    proto = to_onnx(LinearRegression().fit(x, x[:, 0] * 2 + 1), x.astype(np.float32), target_opset=17)
    save_onnx(proto, folder, columns(names=["a"]))
    return [
        case("inputs", {"inputs": [0.5, 1.5]}),
        case("instances", {"instances": [0.5, 1.5]}),
        case("inputs by name", {"inputs": {"a": [0.5]}}),
        case("split", split([[0.5], [1.5]], ["a"])),
        case("split of plain values", {"dataframe_split": {"columns": ["a"], "data": [0.5, 1.5]}}),
        case("a scalar by name", {"inputs": {"a": 0.5}}),
    ]


@model
def onnx_unnamed(folder):
    """Columns without names are counted."""
    proto, x = classifier(zipmap=True)
    save_onnx(proto, folder, Schema([ColSpec("double") for _ in NAMES]))
    return [
        case("split", split(TWO)),
        case("split without names", {"dataframe_split": {"data": TWO}}),
        case("one too many", {"dataframe_split": {"data": [[*row, 7] for row in TWO]}}),
        case("one too few", {"dataframe_split": {"data": [row[:3] for row in TWO]}}),
        case("inputs", {"inputs": TWO}),
        case("csv", "x,y,z,w\n0.5,-1.25,3,0.1\n", CSV),
    ]


@model
def onnx_raises(folder):
    """A model that fails at what its signature allows."""
    nodes = [helper.make_node("Cast", ["s"], ["number"], to=TensorProto.FLOAT)]
    ins = [helper.make_tensor_value_info("s", TensorProto.STRING, [None, 1])]
    outs = [helper.make_tensor_value_info("number", TensorProto.FLOAT, [None, 1])]
    proto = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(proto, folder, columns("string", ["s"]))
    return [
        case("a number", split([["1.5"]], ["s"])),
        case("no number", split([["secret"]], ["s"]), status=500, differs="a failure of the model is no fault of the caller's"),
    ]


@model
def onnx_groups(folder):
    """Two inputs of several columns each, without a signature: they come by name."""
    nodes = [helper.make_node("Concat", ["x", "y"], ["z"], axis=1)]
    ins = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width]) for name, width in (("x", 2), ("y", 1))]
    outs = [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 3])]
    proto = helper.make_model(helper.make_graph(nodes, "g", ins, outs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(proto, folder)
    return [
        case("inputs", {"inputs": {"x": [[0.5, 1.5], [2.5, 3.5]], "y": [[4.5], [5.5]]}}),
        case("instances", {"instances": [{"x": [0.5, 1.5], "y": [4.5]}]}),
        case("one alone", {"inputs": {"x": [[0.5, 1.5]]}}),
        case("another width", {"inputs": {"x": [[0.5]], "y": [[4.5]]}}),
        case("a list", {"inputs": [[0.5, 1.5, 4.5]]}, status=400, differs="the caller's mistake, for which MLflow answers 500"),
        case("split", split([[0.5, 4.5]], ["x", "y"])),
    ]


@model
def onnx_beside(folder):
    """Large constants are in a file beside the model, which is how MLflow saves them."""
    weights = np.random.RandomState(1).randn(4, 80).round(2).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["wide"]), helper.make_node("ReduceSum", ["wide", "axes"], ["sum"], keepdims=1)]
    constants = [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(np.array([1]), "axes")]
    ins = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])]
    outs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])]
    graph = helper.make_graph(nodes, "g", ins, outs, constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(proto, folder, columns())
    assert len([file for file in Path(folder).iterdir() if file.stat().st_size == weights.nbytes]) == 1
    return four_forms()


@model
def onnx_params(folder):
    """Parameters are checked, though no ONNX model reads them."""
    x = table()
    proto = to_onnx(LinearRegression().fit(x, x @ [1, 2, 3, 4]), x.astype(np.float32), target_opset=17)
    params = ParamSchema([
        ParamSpec("t", "double", 0.5), ParamSpec("n", "integer", 3), ParamSpec("s", "string", "x"), ParamSpec("w", "long", [1], shape=(-1,)),
        ParamSpec("f", "boolean", False), ParamSpec("d", "datetime", "2024-01-01"),
    ])
    save_onnx(proto, folder, columns(), params)
    ask = lambda **given: split(TWO, params=given)
    return [
        case("all", ask(t=0.1, n=4, s="y", w=[1, 2], f=True, d="2024-01-02T03:04:05")),
        case("none", split(TWO)),
        case("unknown", ask(x=1)),
        case("a whole number for a double", ask(t=1)),
        case("text for a double", ask(t="1")),
        case("a fraction for an integer", ask(n=1.5)),
        case("truth for an integer", ask(n=True)),
        case("a number for text", ask(s=1)),
        case("a scalar for a list", ask(w=1)),
        case("a list for a scalar", ask(n=[1])),
        case("text in a list", ask(w=["x"])),
        case("a number for truth", ask(f=1)),
        case("no time", ask(d="soon")),
        case("null", ask(t=None)),
        case("no object", split(TWO, params=[1])),
        case("beyond an integer", ask(n=3000000000), status=400, differs="MLflow takes what does not fit"),
    ]


def targets(x, classes=None):
    """Something to learn from rows."""
    score = x[:, 0] * 2 + x[:, 1] * (x[:, 2] > 0)
    return score if classes is None else np.digitize(score, np.linspace(-1, 1.5, classes - 1) if classes > 2 else [0.3])


def frame(x, names=NAMES):
    """Rows as a table."""
    return pd.DataFrame(x, columns=names)


def explained(folder, load):
    """A case that asks why, with the library's own contributions."""
    rows = frame(np.array(TWO, dtype=float))
    booster = load(folder)
    whole = booster(rows)
    return case("explain", split(TWO, params={"explain": True}), status=200, predictions=whole, differs="Flowgate's own parameter")


def shown(predictions, added):
    """Predictions with what led to them."""
    several = added.ndim == 3

    def one(values):
        return {name: float(value) for name, value in zip(NAMES, values[:-1])}

    return [
        {
            "prediction": prediction,
            "bias": [float(each[-1]) for each in values] if several else float(values[-1]),
            "contributions": [one(each) for each in values] if several else one(values),
        }
        for prediction, values in zip(predictions, added)
    ]


@model
def xgb_booster(folder):
    """A booster's own answer: probabilities in 32 bits."""
    x = table()
    train = xgb.DMatrix(frame(x), label=targets(x, 2))
    booster = xgb.train({"objective": "binary:logistic", "max_depth": 3}, train, 5)
    mlflow.xgboost.save_model(booster, folder, signature=ModelSignature(columns()), model_format="json", pip_requirements=[])
    rows = xgb.DMatrix(frame(np.array(TWO)))
    why = shown(booster.predict(rows).astype(float).tolist(), booster.predict(rows, pred_contribs=True))
    return four_forms() + [
        case("null", split([[None, 1, 1, 1]])),
        case("a missing column", split([row[:3] for row in TWO], NAMES[:3])),
        case("explain", split(TWO, params={"explain": True}), status=200, predictions=why, differs="Flowgate's own parameter"),
        case("do not explain", split(TWO, params={"explain": False})),
        case("explain, perhaps", split(TWO, params={"explain": "maybe"}), status=400, differs="Flowgate's own parameter"),
        case("text", split([["x", 1, 1, 1]])),
        case("no rows", split([])),
    ]


@model
def xgb_classes(folder):
    """The scikit-learn class answers with classes."""
    x = table()
    fitted = xgb.XGBClassifier(n_estimators=4, max_depth=3).fit(frame(x), targets(x, 3))
    mlflow.xgboost.save_model(fitted, folder, signature=ModelSignature(columns()), pip_requirements=[])
    rows = xgb.DMatrix(frame(np.array(TWO)))
    why = shown(fitted.predict(frame(np.array(TWO))).tolist(), fitted.get_booster().predict(rows, pred_contribs=True))
    return four_forms() + [
        case("explain", split(TWO, params={"explain": True}), status=200, predictions=why, differs="Flowgate's own parameter"),
    ]


@model
def xgb_binary_class(folder):
    """Two classes, and no names of columns."""
    x = table()
    fitted = xgb.XGBClassifier(n_estimators=4, max_depth=3).fit(x, targets(x, 2))
    mlflow.xgboost.save_model(fitted, folder, signature=infer_signature(x, fitted.predict(x)), pip_requirements=[])
    return [case("inputs", {"inputs": TWO}), case("instances", {"instances": TWO}), case("split", split(TWO)),
            case("another width", {"inputs": [[1.0]]})]


@model
def xgb_regression(folder):
    """A number a row, without a signature."""
    x = table()
    fitted = xgb.XGBRegressor(n_estimators=4, max_depth=3).fit(frame(x), targets(x))
    mlflow.xgboost.save_model(fitted, folder, pip_requirements=[])
    named = "XGBoost wants its own order and names; they are found by name here"
    return [
        case("split", split(TWO)),
        case("records", records(TWO)),
        case("split in another order", split([row[::-1] for row in TWO], NAMES[::-1]), status=200, differs=named),
        case("a missing column", split([row[:3] for row in TWO], NAMES[:3])),
        case("csv", "a,b,c,d\n0.5,-1.25,3,0.1\n", CSV),
    ]


@model
def lgb_binary(folder):
    """Probabilities in 64 bits."""
    x = table(rows=300)
    booster = lgb.train({"objective": "binary", "num_leaves": 5, "verbose": -1}, lgb.Dataset(frame(x), targets(x, 2)), 5)
    mlflow.lightgbm.save_model(booster, folder, signature=ModelSignature(columns()), pip_requirements=[])
    rows = frame(np.array(TWO))
    why = shown(booster.predict(rows).tolist(), booster.predict(rows, pred_contrib=True))
    return four_forms() + [
        case("null", split([[None, 1, 1, 1]])),
        case("explain", split(TWO, params={"explain": True}), status=200, predictions=why, differs="Flowgate's own parameter"),
    ]


@model
def lgb_classes(folder):
    """A list of probabilities a row; a column may be missing."""
    x = table(rows=300)
    booster = lgb.train({"objective": "multiclass", "num_class": 3, "num_leaves": 4, "verbose": -1},
                        lgb.Dataset(frame(x), targets(x, 3)), 4)
    optional = Schema([*columns(names=NAMES[:3]).inputs, ColSpec("double", "d", required=False)])
    mlflow.lightgbm.save_model(booster, folder, signature=ModelSignature(optional), pip_requirements=[])
    rows = frame(np.array(TWO))
    added = booster.predict(rows, pred_contrib=True).reshape(2, 3, 5)
    why = shown(booster.predict(rows).tolist(), added)
    return four_forms() + [
        case("without what may be missing", split([row[:3] for row in TWO], NAMES[:3]), status=200,
             predictions=booster.predict(rows.assign(d=np.nan)).tolist(), differs="LightGBM refuses the narrower table"),
        case("explain", split(TWO, params={"explain": True}), status=200, predictions=why, differs="Flowgate's own parameter"),
    ]


@model
def lgb_whole(folder):
    """Columns of several types, all of them numbers."""
    x = table(rows=300)
    booster = lgb.train({"objective": "regression", "num_leaves": 5, "verbose": -1}, lgb.Dataset(frame(x), targets(x)), 5)
    inputs = Schema([ColSpec("double", "a"), ColSpec("float", "b"), ColSpec("long", "c"), ColSpec("boolean", "d")])
    mlflow.lightgbm.save_model(booster, folder, signature=ModelSignature(inputs), pip_requirements=[])
    return [
        case("split", split([[0.5, 1.1, 3, True], [1, 2, -1, False]])),
        case("inputs", {"inputs": {"a": [0.5], "b": [1.1], "c": [3], "d": [True]}}),
        case("null for a long", split([[0.5, 1.1, None, True]])),
        case("a fraction for a long", split([[0.5, 1.1, 2.5, True]]), status=400, differs="MLflow cuts it silently"),
        case("a float beyond its range", split([[0.5, 1e39, 1, True]]), status=400, differs="MLflow makes it infinite"),
        case("two for a truth", split([[0.5, 1.1, 3, 2]]), status=400, differs="MLflow takes any number for true"),
        case("csv", "a,b,c,d\n0.5,1.1,3,True\n", CSV),
    ]


def ask(client, each):
    """Adds what MLflow's server answers."""
    answer = client.post("/invocations", content=each["body"].encode(), headers={"content-type": each["type"]})
    known = {"status": answer.status_code}
    if answer.status_code == 200:
        known["predictions"] = json.loads(answer.text, parse_constant=lambda _: None)["predictions"]
    else:
        told = answer.json() if answer.headers["content-type"] == JSON else {}
        # Where Python raised, the code says nothing.
        if "error_code" in told and "stack_trace" not in told:
            known["error_code"] = told["error_code"]
        print(f"    {each['name']}: {answer.status_code} {answer.text[:260]!r}", file=sys.stderr)
    return {**each, "mlflow": known}


def write(folder, make):
    """One model's folder."""
    print(folder.name, file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    cases = make(str(folder))
    client = TestClient(scoring_server.init(mlflow.pyfunc.load_model(str(folder))), raise_server_exceptions=False)
    lines = [json.dumps(ask(client, each), ensure_ascii=False) for each in cases]
    for name in ("conda.yaml", "python_env.yaml", "requirements.txt"):
        (folder / name).unlink(missing_ok=True)
    (folder / "cases.jsonl").write_text("\n".join(lines) + "\n")


def main():
    """Writes all models, or those that are named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:] or MODELS:
        write(folder / name, MODELS[name])


if __name__ == "__main__":
    main()
