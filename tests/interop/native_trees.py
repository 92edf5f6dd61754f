"""Trains small real models and writes what the tree engine's tests hold it against.

`native_trees.py FOLDER` makes FOLDER/<case>/: the model as its library writes it (`model.json`, `model.ubj`, `model.txt`, or `spec.json`,
the attributes of an ONNX node) and `golden.json`, the rows and the library's own raw scores, predictions and contributions for them.
It needs numpy, scikit-learn, skl2onnx, onnx, onnxruntime, xgboost and lightgbm. The cases are written where they are missing;
name some behind the folder to write them anew.
"""

import json
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import onnx
import onnxruntime as ort
import xgboost as xgb
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier

ROWS = 13
CASES = {}


def case(make):
    """Takes a function up as the case of its name: it returns the model's file name, its bytes and the golden values."""
    CASES[make.__name__] = make
    return make


def table(seed, columns=5, rows=400, missing=0.0):
    """Rows of 32-bit numbers, some of them missing, some zero and some equal."""
    random = np.random.RandomState(seed)
    x = random.randn(rows, columns).astype(np.float32)
    x[:, -1] = np.round(x[:, -1])
    x[random.rand(*x.shape) < missing] = np.nan
    return x


def target(x, seed=0):
    """A number that hangs on the columns, together and alone."""
    filled = np.nan_to_num(x.astype(np.float64), nan=0.5)
    noise = np.random.RandomState(seed).randn(len(x)) * 0.1
    return filled[:, 0] * 2 + filled[:, 1] * (filled[:, 2] > 0) - np.abs(filled[:, -1]) + noise


def classes(x, count=2):
    """Classes of unlike sizes."""
    return np.digitize(target(x), np.linspace(-1.0, 2.0, count - 1) if count > 2 else [1.0])


def plain(values):
    """JSON's lists; what is no number is null."""
    values = np.asarray(values)
    # A 32-bit number is read as the same one from as few digits as tell it from its neighbours.
    number = (lambda value: float(str(value))) if values.dtype == np.float32 else float
    return [None if not np.isfinite(value) else number(value) for value in values.ravel()]


def rounded(values):
    """To nine digits, which is more than is compared."""
    return np.array([float(f"{value:.9g}") for value in np.asarray(values, dtype=np.float64).ravel()])


def golden(rows, **values):
    """The golden values for rows."""
    return {"width": rows.shape[1], "rows": plain(rows), **{name: plain(rounded(value)) for name, value in values.items()}}


# === XGBoost ===


def boosted(x, y, params, rounds=6, ubj=False, **matrix):
    """A booster's file and what it says to the first rows."""
    extra = {"verbosity": 0, "max_depth": 4, "eta": 0.4, "nthread": 1, **params}
    booster = xgb.train(extra, xgb.DMatrix(x, y, **matrix), rounds)
    return written(booster, x[:ROWS], ubj, matrix.get("feature_types"))


def written(booster, rows, ubj=False, types=None, contributions=True):
    """A booster's file and its answers to rows."""
    asked = xgb.DMatrix(rows, feature_types=types, enable_categorical=types is not None)
    # Raw and contributions of all rounds, as a Booster answers.
    values = {"raw": booster.predict(asked, output_margin=True), "predict": booster.predict(asked)}
    if contributions:
        values["contributions"] = booster.predict(asked, pred_contribs=True)
    form = "ubj" if ubj else "json"
    return f"model.{form}", bytes(booster.save_raw(form)), golden(rows, **values)


@case
def xgboost_binary():
    x = table(1)
    return boosted(x, classes(x), {"objective": "binary:logistic"})


@case
def xgboost_binary_missing_ubj():
    x = table(2, missing=0.2)
    return boosted(x, classes(x), {"objective": "binary:logistic"}, ubj=True)


@case
def xgboost_logitraw():
    x = table(3)
    return boosted(x, classes(x), {"objective": "binary:logitraw", "base_score": 0.3})


@case
def xgboost_hinge():
    x = table(4)
    return boosted(x, classes(x), {"objective": "binary:hinge"})


@case
def xgboost_softprob_missing():
    x = table(5, missing=0.1)
    return boosted(x, classes(x, 4), {"objective": "multi:softprob", "num_class": 4, "max_depth": 3}, 5)


@case
def xgboost_softmax_ubj():
    x = table(6)
    return boosted(x, classes(x, 3), {"objective": "multi:softmax", "num_class": 3, "max_depth": 3}, 5, ubj=True)


@case
def xgboost_regression():
    x = table(7)
    return boosted(x, target(x), {"objective": "reg:squarederror"}, 12)


@case
def xgboost_big_base_score():
    x = table(8)
    return boosted(x, target(x) * 1000 + 1e6, {"objective": "reg:squarederror", "base_score": 1e6})


@case
def xgboost_poisson():
    x = table(9)
    return boosted(x, np.exp(target(x) / 3).round(), {"objective": "count:poisson"})


@case
def xgboost_gamma():
    x = table(10)
    return boosted(x, np.exp(target(x) / 3), {"objective": "reg:gamma"})


@case
def xgboost_tweedie():
    x = table(11)
    return boosted(x, np.exp(target(x) / 3), {"objective": "reg:tweedie"})


@case
def xgboost_logistic_regression():
    x = table(12)
    return boosted(x, 1 / (1 + np.exp(-target(x))), {"objective": "reg:logistic"})


@case
def xgboost_rank():
    x = table(13)
    return boosted(x, classes(x, 4), {"objective": "rank:ndcg"}, group=[100] * 4)


@case
def xgboost_quantiles():
    x = table(14)
    return boosted(x, target(x), {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5, 0.9], "max_depth": 3}, 5)


@case
def xgboost_absolute_error():
    x = table(15)
    return boosted(x, target(x), {"objective": "reg:absoluteerror"})


@case
def xgboost_cox():
    x = table(35)
    return boosted(x, np.exp(target(x) / 3), {"objective": "survival:cox"})


@case
def xgboost_dart():
    x = table(16, missing=0.1)
    return boosted(x, target(x), {"booster": "dart", "rate_drop": 0.5, "one_drop": 1, "objective": "reg:squarederror"}, 10)


@case
def xgboost_forest():
    x = table(17)
    params = {"objective": "binary:logistic", "num_parallel_tree": 12, "subsample": 0.7, "colsample_bynode": 0.7, "eta": 1}
    return boosted(x, classes(x), params, 1)


@case
def xgboost_pruned():
    x = table(18)
    return boosted(x, target(x), {"objective": "reg:squarederror", "gamma": 15, "tree_method": "exact", "max_depth": 5})


@case
def xgboost_lossguide():
    x = table(19)
    return boosted(x, target(x), {"objective": "reg:squarederror", "grow_policy": "lossguide", "max_depth": 0, "max_leaves": 12})


def categorical(seed, rows=400):
    """Two columns of categories, one of them missing at times, and one of numbers."""
    random = np.random.RandomState(seed)
    x = np.column_stack([random.randint(0, 9, rows), random.randint(0, 40, rows), random.randn(rows)]).astype(np.float32)
    y = np.isin(x[:, 0], [1, 4, 7]) * 2.0 + np.sin(x[:, 1]) + 0.3 * x[:, 2]
    x[random.rand(rows) < 0.1, 0] = np.nan
    return x, y


def strange(x):
    """Rows with categories that no training saw."""
    x = x[:ROWS].copy()
    x[0, :2], x[1, :2], x[2, :2], x[3, 1], x[4, 1] = [77, 3], [0, 1000], [np.nan, np.nan], 1e7, 39
    x[5, 0], x[6, :2], x[7, :2] = -1, [-0.5, -0.5], [3.7, 4.2]
    return x


@case
def xgboost_categories():
    x, y = categorical(20)
    types = ["c", "c", "q"]
    matrix = xgb.DMatrix(x, y, feature_types=types, enable_categorical=True)
    params = {"objective": "reg:squarederror", "max_cat_to_onehot": 1, "max_depth": 4, "verbosity": 0}
    return written(xgb.train(params, matrix, 6), strange(x), types=types)


@case
def xgboost_categories_onehot_ubj():
    x, y = categorical(21)
    types = ["c", "c", "q"]
    matrix = xgb.DMatrix(x, y > 0.7, feature_types=types, enable_categorical=True)
    params = {"objective": "binary:logistic", "max_cat_to_onehot": 100, "max_depth": 4, "verbosity": 0}
    return written(xgb.train(params, matrix, 6), strange(x), ubj=True, types=types)


@case
def xgboost_early_stopping():
    x = table(22)
    y = target(x, 1) + np.random.RandomState(3).randn(len(x)) * 2
    model = xgb.XGBRegressor(n_estimators=40, max_depth=4, learning_rate=0.6, early_stopping_rounds=3, verbosity=0)
    model.fit(x[:200], y[:200], eval_set=[(x[200:], y[200:])], verbose=False)
    rows, last = x[:ROWS], (0, model.best_iteration + 1)
    asked = xgb.DMatrix(rows)
    values = {
        "raw": model.predict(rows, output_margin=True),
        "predict": model.predict(rows),
        "contributions": model.get_booster().predict(asked, pred_contribs=True, iteration_range=last),
    }
    return "model.json", bytes(model.get_booster().save_raw("json")), {**golden(rows, **values), "rounds": "best"}


@case
def xgboost_many_targets():
    x = table(23)
    y = np.column_stack([target(x), x[:, 0] * x[:, 1], x[:, 2]])
    return boosted(x, y, {"objective": "reg:squarederror", "max_depth": 3}, 4)


@case
def xgboost_vector_leaves():
    x = table(24)
    y = np.column_stack([target(x), x[:, 0] * x[:, 1]])
    params = {"objective": "reg:squarederror", "multi_strategy": "multi_output_tree", "tree_method": "hist", "max_depth": 4, "verbosity": 0}
    return written(xgb.train(params, xgb.DMatrix(x, y), 4), x[:ROWS], contributions=False)


# === LightGBM ===


def light(x, y, params, rounds=8, rows=None, categories="auto", **more):
    """A booster's text and what it says to the first rows."""
    extra = {"verbosity": -1, "num_leaves": 12, "learning_rate": 0.3, "num_threads": 1, "min_data_in_leaf": 5, **params}
    booster = lgb.train(extra, lgb.Dataset(x, y, categorical_feature=categories, **more), rounds)
    # As the file says it: what was written is what is read.
    booster = lgb.Booster(model_str=booster.model_to_string())
    rows = x[:ROWS] if rows is None else rows
    values = {
        "raw": booster.predict(rows, raw_score=True),
        "predict": booster.predict(rows),
        "contributions": booster.predict(rows, pred_contrib=True),
    }
    return "model.txt", trimmed(booster.model_to_string()), golden(rows, **values)


def trimmed(text):
    """Without the parameters, which nobody reads."""
    return (text.split("\nfeature_importances:")[0] + "\n").encode()


def doubles(seed, **options):
    """Rows of 64-bit numbers."""
    x = table(seed, **options).astype(np.float64)
    return x + np.random.RandomState(seed).randn(*x.shape) * 1e-9


@case
def lightgbm_binary():
    x = doubles(40)
    return light(x, classes(x), {"objective": "binary", "sigmoid": 0.7})


@case
def lightgbm_missing_nan():
    x = doubles(41, missing=0.2)
    return light(x, classes(x), {"objective": "binary"})


@case
def lightgbm_missing_zero():
    x = doubles(42).round(1)
    rows = x[:ROWS].copy()
    rows[0], rows[1], rows[2] = 0.0, 1e-36, np.nan
    rows[3], rows[4] = -1e-36, 1e-34
    return light(x, target(x), {"objective": "regression", "zero_as_missing": True}, rows=rows)


@case
def lightgbm_missing_none():
    x = doubles(43)
    rows = x[:ROWS].copy()
    rows[0], rows[1, 0], rows[2, 1] = np.nan, np.nan, np.nan
    return light(x, target(x), {"objective": "regression", "use_missing": False}, rows=rows)


@case
def lightgbm_multiclass():
    x = doubles(44, missing=0.1)
    return light(x, classes(x, 4), {"objective": "multiclass", "num_class": 4, "num_leaves": 6}, 5)


@case
def lightgbm_one_against_all():
    x = doubles(45)
    return light(x, classes(x, 3), {"objective": "multiclassova", "num_class": 3, "num_leaves": 6}, 5)


@case
def lightgbm_regression():
    x = doubles(46)
    return light(x, target(x) + 1e5, {"objective": "regression"})


@case
def lightgbm_sqrt():
    x = doubles(47)
    return light(x, target(x) ** 3, {"objective": "regression", "reg_sqrt": True})


@case
def lightgbm_poisson():
    x = doubles(48)
    return light(x, np.exp(target(x) / 3).round(), {"objective": "poisson"})


@case
def lightgbm_tweedie():
    x = doubles(49)
    return light(x, np.exp(target(x) / 3), {"objective": "tweedie"})


@case
def lightgbm_quantile():
    x = doubles(50)
    return light(x, target(x), {"objective": "quantile", "alpha": 0.8})


@case
def lightgbm_cross_entropy():
    x = doubles(51)
    return light(x, 1 / (1 + np.exp(-target(x))), {"objective": "cross_entropy"})


@case
def lightgbm_cross_entropy_lambda():
    x = doubles(52)
    return light(x, 1 / (1 + np.exp(-target(x))), {"objective": "cross_entropy_lambda"})


@case
def lightgbm_rank():
    x = doubles(53)
    return light(x, classes(x, 4), {"objective": "lambdarank"}, group=[50] * 8)


@case
def lightgbm_categories():
    x, y = categorical(54)
    x = x.astype(np.float64)
    rows = strange(x)
    params = {"objective": "regression", "min_data_per_group": 5, "cat_smooth": 1, "max_cat_to_onehot": 1}
    return light(x, y, params, rows=rows, categories=[0, 1])


@case
def lightgbm_forest():
    x = doubles(55)
    params = {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.6, "feature_fraction": 0.7}
    return light(x, classes(x), params)


@case
def lightgbm_dart():
    x = doubles(56)
    return light(x, target(x), {"objective": "regression", "boosting": "dart", "drop_rate": 0.5, "skip_drop": 0.1})


@case
def lightgbm_early_stopping():
    x = doubles(57)
    y = target(x) + np.random.RandomState(3).randn(len(x)) * 2
    stop = lgb.early_stopping(3, verbose=False)
    model = lgb.LGBMRegressor(n_estimators=60, num_leaves=12, learning_rate=0.4, verbosity=-1, n_jobs=1)
    model.fit(x[:200], y[:200], eval_X=x[200:], eval_y=y[200:], callbacks=[stop])
    rows = x[:ROWS]
    values = {
        "raw": model.predict(rows, raw_score=True),
        "predict": model.predict(rows),
        "contributions": model.predict(rows, pred_contrib=True),
    }
    return "model.txt", trimmed(model.booster_.model_to_string()), golden(rows, **values)


@case
def lightgbm_one_leaf():
    x = doubles(58)
    return light(x, target(x), {"objective": "regression", "min_data_in_leaf": 390}, 2)


# === ONNX ===


def attributes(node):
    """The attributes of a node as JSON."""
    found = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, TensorProto):
            value = onnx.numpy_helper.to_array(value).tolist()
        elif isinstance(value, bytes):
            value = value.decode()
        elif not isinstance(value, (int, float, str)):
            value = [item.decode() if isinstance(item, bytes) else item for item in value]
        name = attribute.name
        if isinstance(value, list) and any(isinstance(item, float) and not np.isfinite(item) for item in value):
            value = [None if isinstance(item, float) and not np.isfinite(item) else item for item in value]
        found[name] = value
    return found


def exported(model, x, proba=False):
    """The tree node of an estimator's export, and what the estimator says."""
    graph = to_onnx(model, x[:1], options={"zipmap": False} if proba else None).graph
    (node,) = [node for node in graph.node if node.op_type.startswith("TreeEnsemble")]
    rows = x[:ROWS]
    answer = model.predict_proba(rows) if proba else model.predict(rows)
    if proba and answer.shape[1] == 2:
        # The node scores one of two classes; the other follows from it.
        answer = answer[:, 1]
    return "spec.json", json.dumps(attributes(node)).encode(), golden(rows, raw=answer)


@case
def sklearn_forest_classifier():
    x = table(60)
    return exported(RandomForestClassifier(8, max_depth=5, random_state=0).fit(x, classes(x, 3)), x, True)


@case
def sklearn_forest_binary():
    x = table(61)
    return exported(RandomForestClassifier(8, max_depth=5, random_state=0).fit(x, classes(x)), x, True)


@case
def sklearn_tree_classifier():
    x = table(62)
    return exported(DecisionTreeClassifier(random_state=0).fit(x, classes(x, 3)), x, True)


@case
def sklearn_forest_regressor():
    x = table(63)
    return exported(RandomForestRegressor(8, max_depth=5, random_state=0).fit(x, target(x)), x)


@case
def sklearn_extra_trees_targets():
    x = table(64)
    y = np.column_stack([target(x), x[:, 0]])
    return exported(ExtraTreesRegressor(6, max_depth=5, random_state=0).fit(x, y), x)


@case
def sklearn_boosting_regressor():
    x = table(65)
    return exported(GradientBoostingRegressor(n_estimators=12, random_state=0).fit(x, target(x)), x)


@case
def sklearn_boosting_classifier():
    x = table(66)
    model = GradientBoostingClassifier(n_estimators=5, random_state=0).fit(x, classes(x, 3))
    name, spec, values = exported(model, x, True)
    return name, spec, {**values, "raw": plain(model.decision_function(x[:ROWS]))}


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def random_trees(seed, modes, aggregate, double=False):
    """Trees grown at random, of any modes, as ONNX Runtime answers them."""
    random = np.random.RandomState(seed)
    columns = {name: [] for name in ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]}
    tracks, leaves = [], []
    for tree in range(6):
        splits, known, node = 5 if tree else 0, 1, 0
        while node < known:
            # The last open node goes on while there are splits left.
            is_inner = splits > 0 and (random.rand() < 0.7 or node + 1 == known)
            first, second = (known, known + 1) if is_inner else (0, 0)
            splits, known = splits - is_inner, known + 2 * is_inner
            row = [tree, node, random.randint(3), random.randint(-2, 3), random.choice(modes) if is_inner else "LEAF", first, second]
            for name, value in zip(columns, row):
                columns[name].append(value)
            tracks.append(int(random.rand() < 0.5) if is_inner else 0)
            if not is_inner:
                adds = [output for output in range(2) if random.rand() < 0.8 or output == tree % 2]
                leaves += [(tree, node, output, float(np.round(random.randn(), 3))) for output in adds]
            node += 1
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    tensor = lambda name, values: onnx.helper.make_tensor(name, kind, [len(values)], values)
    weights, base = [leaf[3] for leaf in leaves], [0.5, -1.0]
    values = columns.pop("values")
    given = {f"nodes_{name}": [str(v) if name == "modes" else int(v) for v in column] for name, column in columns.items()}
    if double:
        given |= {"nodes_values_as_tensor": tensor("v", values), "target_weights_as_tensor": tensor("w", weights)}
        given |= {"base_values_as_tensor": tensor("b", base)}
    else:
        given |= {"nodes_values": [float(value) for value in values], "target_weights": weights, "base_values": base}
    for place, name in enumerate(["treeids", "nodeids", "ids"]):
        given[f"target_{name}"] = [int(leaf[place]) for leaf in leaves]
    given |= {"nodes_missing_value_tracks_true": tracks, "n_targets": 2, "aggregate_function": aggregate}
    return answered("TreeEnsembleRegressor", given, small_numbers(random), double, 3)


def small_numbers(random):
    """Rows that meet thresholds to the bit, and miss them."""
    rows = random.randint(-3, 4, (40, 3)).astype(np.float64)
    rows[random.rand(*rows.shape) < 0.15] = np.nan
    rows[random.rand(*rows.shape) < 0.15] += 0.5
    rows[0], rows[1], rows[2] = np.inf, -np.inf, -0.0
    return rows


def answered(operator, given, rows, double, version):
    """A model of one node, and ONNX Runtime's answer."""
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    node = helper.make_node(operator, ["x"], ["y"], domain="ai.onnx.ml", **given)
    # The older operators answer in 32 bits whatever they are asked in.
    ends = [("x", kind), ("y", kind if version == 5 else TensorProto.FLOAT)]
    ends = [[helper.make_tensor_value_info(*end, [None, None])] for end in ends]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    model = helper.make_model(helper.make_graph([node], "g", *ends), opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": rows.astype(np.float64 if double else np.float32)})
    # JSON has no infinities; the tests know the first two rows.
    return "spec.json", json.dumps(attributes(node)).encode(), {**golden(rows, raw=answer), "infinite": True, "double": double}


@case
def onnx_modes():
    return random_trees(70, MODES, "SUM")


@case
def onnx_modes_average_double():
    return random_trees(71, MODES, "AVERAGE", True)


@case
def onnx_ordered_min():
    return random_trees(72, MODES[:4], "MIN")


@case
def onnx_modes_max():
    return random_trees(73, MODES, "MAX")


@case
def onnx_below():
    return random_trees(74, ["BRANCH_LT"], "SUM")


@case
def onnx_above_double():
    return random_trees(75, ["BRANCH_GT"], "SUM", True)


@case
def onnx_nested_members():
    return nested(76, False)


@case
def onnx_nested_double():
    return nested(77, True)


def nested(seed, double):
    """Version 5's operator: three trees, one of them a leaf, one of sets."""
    random = np.random.RandomState(seed)
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    tensor = lambda name, values, kind=kind: onnx.helper.make_tensor(name, kind, [len(values)], values)
    given = {
        "tree_roots": [0, 3, 4],
        "nodes_featureids": [0, 1, 2, 0, 2, 1],
        "nodes_splits": tensor("s", [0.5, -1.0, 2.0, 0.0, 0.0, 1.0]),
        "nodes_modes": tensor("m", [0, 3, 4, 0, 6, 6], TensorProto.UINT8),
        "nodes_truenodeids": [1, 0, 2, 4, 5, 6],
        "nodes_trueleafs": [0, 1, 1, 1, 0, 1],
        "nodes_falsenodeids": [2, 1, 3, 4, 5, 7],
        "nodes_falseleafs": [0, 1, 1, 1, 1, 1],
        "nodes_missing_value_tracks_true": [0, 1, 0, 0, 1, 0],
        "membership_values": tensor("v", [-2.0, 1.0, 3.0, float("nan"), 0.0, 2.0, float("nan")]),
        "leaf_targetids": [0, 1, 0, 1, 0, 1, 0, 1],
        "leaf_weights": tensor("w", list(random.randn(8).round(3))),
        "n_targets": 2,
        "aggregate_function": 1,
        "post_transform": 0,
    }
    # Only whole numbers: ONNX Runtime finds 3.5 in a set with 3, which the operator's definition does not.
    return answered("TreeEnsemble", given, np.floor(small_numbers(random)), double, 5)


def main(folder, names):
    """Writes the cases."""
    for name, make in CASES.items():
        place = Path(folder) / name
        if place.exists() and name not in names:
            continue
        file, model, values = make()
        place.mkdir(parents=True, exist_ok=True)
        (place / file).write_bytes(model)
        (place / "golden.json").write_text(json.dumps(values, separators=(",", ":")) + "\n")
        print(name, len(model))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
