"""Trains small models, exports them to ONNX, and writes what ONNX Runtime answers: the truth that the native engine is held against.

`native_models.py FOLDER [NAME ...]` makes FOLDER/NAME/model.onnx and FOLDER/NAME/case.json (inputs and outputs of some rows) for
each model named, or for all. Folders of small ones are kept in `server/src/mlflow/native/testdata`.
Needs numpy, scikit-learn, skl2onnx, onnxmltools, onnx, onnxruntime, xgboost and lightgbm, which no other interop test does.
"""

import json
import logging
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import is_classifier

ROWS = 5
MODELS = {}
IRIS, SPECIES = datasets.load_iris(return_X_y=True)
IRIS = IRIS.astype(np.float32)
BINARY = (SPECIES == 1).astype(np.int64)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
SUGAR, PROGRESS = datasets.load_diabetes(return_X_y=True)
SUGAR = SUGAR.astype(np.float32)
SHUFFLED = np.random.RandomState(7).permutation(len(IRIS))
IRIS, SPECIES, BINARY, NAMES = IRIS[SHUFFLED], SPECIES[SHUFFLED], BINARY[SHUFFLED], NAMES[SHUFFLED]
HOLES = IRIS.copy()
HOLES[np.random.RandomState(3).rand(*IRIS.shape) < 0.2] = np.nan
CITIES = np.random.RandomState(5).choice(["Oslo", "Rome", "Łódź", ""], size=(len(IRIS), 2)).astype(object)
TEXTS = [
    "the cat sat on the mat",
    "A dog, a cat and a bird!",
    "birds fly over the dog house",
    "no animals here",
    "cat cat dog CAT",
    "the house on the hill has a mat",
]
TOPIC = np.array([0, 1, 1, 0, 1, 0])


def model(name, estimator, rows=IRIS, truth=SPECIES, **export):
    """Declares a model: what is trained on which rows, and how it is exported."""
    assert name not in MODELS, name
    MODELS[name] = (estimator, rows, truth, export)


def pipe(*steps):
    """A pipeline of nameless steps."""
    return pipeline.make_pipeline(*steps)


def linear():
    """Linear models, with every form of answer: labels of both types, with and without ZipMap, several opsets."""
    logistic = linear_model.LogisticRegression
    for opset in (9, 11, 13, 15, 18, 21):
        model(f"logistic_opset{opset}", pipe(preprocessing.StandardScaler(), logistic()), opset=opset)
    model("logistic_zipmap", logistic(), zipmap=True)
    model("logistic_zipmap_text", logistic(), truth=NAMES, zipmap=True)
    model("logistic_columns", logistic(), zipmap="columns")
    model("logistic_text", logistic(), truth=NAMES)
    model("logistic_binary", logistic(), truth=BINARY)
    model("logistic_binary_zipmap", logistic(), truth=BINARY, zipmap=True)
    model("logistic_binary_text", logistic(), truth=np.where(BINARY, "yes", "no"))
    model("logistic_ovr", multiclass.OneVsRestClassifier(logistic()))
    model("logistic_double", logistic(), rows=IRIS.astype(np.float64))
    model("logistic_integers", logistic(), rows=(IRIS * 10).astype(np.int64))
    model("logistic_raw", logistic(), options={"raw_scores": True})
    model("logistic_raw_binary", logistic(), truth=BINARY, options={"raw_scores": True})
    model("ovo", multiclass.OneVsOneClassifier(logistic()))
    model("sgd_log", linear_model.SGDClassifier(loss="log_loss", random_state=0))
    model("sgd_huber", linear_model.SGDClassifier(loss="modified_huber", random_state=0))
    model("sgd_hinge", linear_model.SGDClassifier(random_state=0), truth=BINARY, options={"raw_scores": True})
    model("perceptron", linear_model.Perceptron(random_state=0), options={"raw_scores": True})
    model("ridge_classifier", linear_model.RidgeClassifier())
    model("passive_aggressive", linear_model.RidgeClassifierCV(), truth=BINARY)
    for name, estimator in {
        "linear_regression": linear_model.LinearRegression(),
        "ridge": linear_model.Ridge(),
        "lasso": linear_model.Lasso(alpha=0.1),
        "elastic_net": linear_model.ElasticNet(alpha=0.01),
        "bayesian_ridge": linear_model.BayesianRidge(),
        "huber": linear_model.HuberRegressor(),
        "ransac": linear_model.RANSACRegressor(random_state=0),
        "poisson": linear_model.PoissonRegressor(),
        "gamma": linear_model.GammaRegressor(),
        "tweedie": linear_model.TweedieRegressor(power=1.5),
        "quantile": linear_model.QuantileRegressor(alpha=0.01),
    }.items():
        model(name, estimator, rows=SUGAR, truth=PROGRESS)
    model("linear_double", linear_model.LinearRegression(), rows=SUGAR.astype(np.float64), truth=PROGRESS)
    model("linear_two", linear_model.LinearRegression(), rows=SUGAR, truth=np.stack([PROGRESS, SUGAR[:, 0]], axis=1))
    model("pls", cross_decomposition.PLSRegression(), rows=SUGAR, truth=PROGRESS)
    model("multi_output", multioutput.MultiOutputRegressor(linear_model.Ridge()), rows=SUGAR,
          truth=np.stack([PROGRESS, SUGAR[:, 0]], axis=1))
    model("multi_output_classes", multioutput.MultiOutputClassifier(logistic()), truth=np.stack([SPECIES, BINARY], axis=1))


def scaled():
    """Steps before a model: scalers, imputers, encoders, selections, decompositions."""
    for name, step in {
        "standard": preprocessing.StandardScaler(),
        "robust": preprocessing.RobustScaler(),
        "min_max": preprocessing.MinMaxScaler(clip=True),
        "max_abs": preprocessing.MaxAbsScaler(),
        "normal_l1": preprocessing.Normalizer("l1"),
        "normal_l2": preprocessing.Normalizer("l2"),
        "normal_max": preprocessing.Normalizer("max"),
        "binarizer": preprocessing.Binarizer(threshold=3.0),
        "polynomial": preprocessing.PolynomialFeatures(degree=2),
        "bins": preprocessing.KBinsDiscretizer(n_bins=3, encode="onehot-dense", strategy="uniform"),
        "bins_ordinal": preprocessing.KBinsDiscretizer(n_bins=3, encode="ordinal", strategy="uniform"),
        "power": preprocessing.PowerTransformer(),
        "quantiles": preprocessing.QuantileTransformer(n_quantiles=10),
        "function": preprocessing.FunctionTransformer(),
        "best": feature_selection.SelectKBest(k=2),
        "variance": feature_selection.VarianceThreshold(0.3),
        "pca": decomposition.PCA(2),
        "pca_whitened": decomposition.PCA(2, whiten=True),
        "svd": decomposition.TruncatedSVD(2),
        "kernel_pca": decomposition.KernelPCA(2, kernel="rbf"),
        "lda_scaler": discriminant_analysis.LinearDiscriminantAnalysis(n_components=2),
    }.items():
        if name == "lda_scaler":
            model(name, step)
        else:
            model(f"step_{name}", step if name != "best" else pipe(step))
    model("imputed", pipe(impute.SimpleImputer(), linear_model.LogisticRegression()), rows=HOLES)
    model("imputed_median", impute.SimpleImputer(strategy="median", add_indicator=False), rows=HOLES)
    model("imputed_constant", impute.SimpleImputer(strategy="constant", fill_value=-1.0), rows=HOLES)
    model("imputed_text", impute.SimpleImputer(missing_values="", strategy="most_frequent"), rows=CITIES)
    model("imputed_neighbours", impute.KNNImputer(n_neighbors=2), rows=HOLES[:20], truth=SPECIES[:20])
    model("one_hot", preprocessing.OneHotEncoder(handle_unknown="ignore"), rows=CITIES, alien=True)
    model("one_hot_numbers", preprocessing.OneHotEncoder(), rows=np.round(IRIS[:, :2]).astype(np.int64))
    model("one_hot_drop", preprocessing.OneHotEncoder(drop="first"), rows=CITIES)
    model("ordinal", preprocessing.OrdinalEncoder(), rows=CITIES)
    model("ordinal_unknown", preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-7), rows=CITIES, alien=True)
    model("target", preprocessing.TargetEncoder(random_state=0), rows=CITIES, truth=BINARY)
    model("label_binarizer", preprocessing.LabelBinarizer(), rows=SPECIES.reshape(-1, 1), truth=None)
    model("label_encoder", preprocessing.LabelEncoder(), rows=NAMES.reshape(-1, 1).astype(object), truth=None)
    numbers = pipe(impute.SimpleImputer(), preprocessing.StandardScaler())
    words = preprocessing.OneHotEncoder(handle_unknown="ignore")
    columns = compose.ColumnTransformer([("numbers", numbers, [0, 1, 2, 3]), ("words", words, [4, 5])])
    mixed = np.concatenate([HOLES.astype(object), CITIES], axis=1)
    model("columns", pipe(columns, linear_model.LogisticRegression()), rows=mixed, truth=BINARY, named=True, alien=True)
    model("columns_zipmap", pipe(columns, linear_model.LogisticRegression()), rows=mixed, truth=NAMES, named=True, zipmap=True)
    model("columns_ridge", pipe(columns, linear_model.Ridge()), rows=mixed, truth=IRIS[:, 0], named=True, opset=12)
    union = pipeline.make_union(preprocessing.StandardScaler(), decomposition.PCA(2))
    model("union", pipe(union, linear_model.LogisticRegression()))


def kernels():
    """Support vectors, neighbours and Gaussian processes."""
    for kernel in ("linear", "rbf", "poly", "sigmoid"):
        model(f"svc_{kernel}", svm.SVC(kernel=kernel, coef0=0.1))
        model(f"svr_{kernel}", svm.SVR(kernel=kernel), rows=SUGAR[:40], truth=PROGRESS[:40])
    model("svc_probability", svm.SVC(probability=True, random_state=0))
    model("svc_probability_zipmap", svm.SVC(probability=True, random_state=0), truth=NAMES, zipmap=True)
    model("svc_binary", svm.SVC(), truth=BINARY)
    model("svc_binary_probability", svm.SVC(probability=True, random_state=0), truth=BINARY)
    model("svc_binary_text", svm.SVC(probability=True, random_state=0), truth=np.where(BINARY, "yes", "no"))
    model("svc_ovo", svm.SVC(decision_function_shape="ovo"), options={"raw_scores": True})
    model("nu_svc", svm.NuSVC(probability=True, random_state=0))
    model("nu_svr", svm.NuSVR(), rows=SUGAR[:40], truth=PROGRESS[:40])
    model("linear_svc", svm.LinearSVC())
    model("linear_svc_binary", svm.LinearSVC(), truth=BINARY)
    model("linear_svr", svm.LinearSVR(), rows=SUGAR, truth=PROGRESS)
    model("one_class", svm.OneClassSVM())
    few = slice(0, 40)
    for opset in (12, 18):
        model(f"neighbours_opset{opset}", neighbors.KNeighborsClassifier(3), rows=IRIS[few], truth=SPECIES[few], opset=opset)
    model("neighbours_zipmap", neighbors.KNeighborsClassifier(3), rows=IRIS[few], truth=NAMES[few], zipmap=True)
    model("neighbours_distance", neighbors.KNeighborsClassifier(3, weights="distance"), rows=IRIS[few], truth=SPECIES[few])
    model("neighbours_manhattan", neighbors.KNeighborsClassifier(3, metric="manhattan"), rows=IRIS[few], truth=SPECIES[few])
    model("neighbours_cdist", neighbors.KNeighborsClassifier(3), rows=IRIS[few], truth=SPECIES[few], options={"optim": "cdist"})
    model("neighbours_regression", neighbors.KNeighborsRegressor(3), rows=SUGAR[few], truth=PROGRESS[few])
    model("neighbours_regression_cdist", neighbors.KNeighborsRegressor(3, weights="distance"), rows=SUGAR[few], truth=PROGRESS[few],
          options={"optim": "cdist"})
    model("neighbours_radius", neighbors.RadiusNeighborsRegressor(10.0), rows=SUGAR[few], truth=PROGRESS[few])
    model("outlier", neighbors.LocalOutlierFactor(3, novelty=True), rows=IRIS[few])
    kernel = gaussian_process.kernels
    for name, form in {"rbf": kernel.RBF(), "dot": kernel.DotProduct() + kernel.WhiteKernel(),
                       "periodic": kernel.ExpSineSquared(), "matern": 2.0 * kernel.Matern(nu=1.5)}.items():
        model(f"process_{name}", gaussian_process.GaussianProcessRegressor(form, alpha=0.1, optimizer=None),
              rows=SUGAR[:20].astype(np.float64), truth=PROGRESS[:20])


def others():
    """Bayes, nets, mixtures, clusters, ensembles without trees, text."""
    model("bayes_gaussian", naive_bayes.GaussianNB())
    model("bayes_gaussian_zipmap", naive_bayes.GaussianNB(), truth=NAMES, zipmap=True)
    model("bayes_multinomial", naive_bayes.MultinomialNB())
    model("bayes_bernoulli", naive_bayes.BernoulliNB(binarize=2.0))
    model("bayes_complement", naive_bayes.ComplementNB())
    model("bayes_categorical", naive_bayes.CategoricalNB(), rows=np.round(IRIS).astype(np.int64))
    for activation in ("relu", "tanh", "logistic", "identity"):
        net = neural_network.MLPClassifier(hidden_layer_sizes=(6,), activation=activation, max_iter=50, random_state=0)
        model(f"net_{activation}", net)
    model("net_binary", neural_network.MLPClassifier(hidden_layer_sizes=(6,), max_iter=50, random_state=0), truth=BINARY, opset=11)
    model("net_regression", neural_network.MLPRegressor(hidden_layer_sizes=(6, 4), max_iter=50, random_state=0), rows=SUGAR, truth=PROGRESS)
    model("lda", discriminant_analysis.LinearDiscriminantAnalysis())
    model("qda", discriminant_analysis.QuadraticDiscriminantAnalysis())
    model("mixture", mixture.GaussianMixture(2, random_state=0))
    model("mixture_diagonal", mixture.BayesianGaussianMixture(n_components=2, covariance_type="diag", random_state=0))
    model("k_means", cluster.KMeans(3, random_state=0, n_init=1))
    model("k_means_batch", cluster.MiniBatchKMeans(3, random_state=0, n_init=1), opset=12)
    logistic = linear_model.LogisticRegression
    pair = [("a", logistic()), ("b", naive_bayes.GaussianNB())]
    model("voting_soft", ensemble.VotingClassifier(pair, voting="soft", flatten_transform=False))
    model("voting_hard", ensemble.VotingClassifier(pair, flatten_transform=False))
    model("voting_regression", ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", linear_model.LinearRegression())]),
          rows=SUGAR, truth=PROGRESS)
    model("stacking", ensemble.StackingClassifier(pair, logistic()))
    model("stacking_binary", ensemble.StackingClassifier(pair, logistic(), passthrough=True), truth=BINARY)
    model("stacking_regression", ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", linear_model.Lasso())]),
          rows=SUGAR, truth=PROGRESS)
    model("calibrated_sigmoid", calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), cv=2))
    model("calibrated_isotonic", calibration.CalibratedClassifierCV(logistic(), method="isotonic", cv=2), truth=BINARY)
    model("bagging", ensemble.BaggingClassifier(logistic(), 3, random_state=0))
    model("bagging_regression", ensemble.BaggingRegressor(linear_model.Ridge(), 3, random_state=0), rows=SUGAR, truth=PROGRESS)
    model("ada_logistic", ensemble.AdaBoostClassifier(logistic(), n_estimators=3, random_state=0))
    text = feature_extraction.text
    model("text_counts", text.CountVectorizer(), rows=TEXTS, truth=TOPIC)
    model("text_bigrams", text.CountVectorizer(ngram_range=(1, 2), stop_words=["the"]), rows=TEXTS, truth=TOPIC)
    model("text_characters", text.CountVectorizer(analyzer="char", ngram_range=(2, 2)), rows=TEXTS, truth=TOPIC)
    model("text_binary", text.CountVectorizer(binary=True, lowercase=False), rows=TEXTS, truth=TOPIC)
    model("text_tfidf", pipe(text.TfidfVectorizer(), logistic()), rows=TEXTS, truth=TOPIC)
    model("text_tfidf_zipmap", pipe(text.TfidfVectorizer(sublinear_tf=True), logistic()), rows=TEXTS, truth=TOPIC, zipmap=True)
    model("text_expression", text.CountVectorizer(token_pattern="[a-z]+"), rows=TEXTS, truth=TOPIC, options={"tokenexp": "[a-z]+"})


def trees():
    """Trees and what is made of them, in scikit-learn, XGBoost and LightGBM."""
    for name, maker in {
        "tree": lambda kind: getattr(tree, f"DecisionTree{kind}")(max_depth=4, random_state=0),
        "forest": lambda kind: getattr(ensemble, f"RandomForest{kind}")(6, max_depth=4, random_state=0),
        "extra": lambda kind: getattr(ensemble, f"ExtraTrees{kind}")(6, max_depth=4, random_state=0),
        "boosting": lambda kind: getattr(ensemble, f"GradientBoosting{kind}")(n_estimators=6, random_state=0),
        "ada": lambda kind: getattr(ensemble, f"AdaBoost{kind}")(n_estimators=3, random_state=0),
    }.items():
        model(f"{name}_classes", maker("Classifier"))
        model(f"{name}_text", maker("Classifier"), truth=NAMES, zipmap=True)
        model(f"{name}_binary", maker("Classifier"), truth=BINARY)
        model(f"{name}_binary_zipmap", maker("Classifier"), truth=BINARY, zipmap=True)
        model(f"{name}_regression", maker("Regressor"), rows=SUGAR, truth=PROGRESS)
    model("tree_two", tree.DecisionTreeRegressor(max_depth=3), rows=SUGAR, truth=np.stack([PROGRESS, SUGAR[:, 0]], axis=1))
    model("tree_path", tree.DecisionTreeClassifier(max_depth=3), options={"decision_path": True, "decision_leaf": True})
    model("isolation", ensemble.IsolationForest(n_estimators=5, max_samples=20, random_state=0))
    model("calibrated_forest", calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(3, max_depth=3, random_state=0), cv=2))
    pair = [("a", tree.DecisionTreeClassifier(max_depth=3)), ("b", linear_model.LogisticRegression())]
    model("voting_trees", ensemble.VotingClassifier(pair, voting="soft", flatten_transform=False))
    import lightgbm
    import xgboost

    small = {"n_estimators": 6, "max_depth": 3}
    for library, prefix, kinds in ((xgboost, "XGB", small), (lightgbm, "LGBM", {**small, "verbose": -1})):
        name = library.__name__
        model(f"{name}_classes", getattr(library, f"{prefix}Classifier")(**kinds))
        model(f"{name}_classes_zipmap", getattr(library, f"{prefix}Classifier")(**kinds), zipmap=True)
        model(f"{name}_binary", getattr(library, f"{prefix}Classifier")(**kinds), truth=BINARY)
        model(f"{name}_holes", getattr(library, f"{prefix}Classifier")(**kinds), rows=HOLES, truth=BINARY)
        model(f"{name}_regression", getattr(library, f"{prefix}Regressor")(**kinds), rows=SUGAR, truth=PROGRESS)
        model(f"{name}_ranker", getattr(library, f"{prefix}Regressor")(**kinds, objective="poisson" if prefix == "LGBM" else "count:poisson"),
              rows=SUGAR, truth=PROGRESS)


F = np.float32
MATRIX = np.array([[1.5, -2, 0.25], [-0.5, 3, 7]], dtype=F)
CUBE = np.arange(24, dtype=F).reshape(2, 3, 4) - 7
WHOLE = np.array([[5, -7, 0], [2, 9, -3]])
LETTERS = np.array([["b", "a"], ["Łódź", "c"]], dtype=object)
ML = "ai.onnx.ml"


def graph(name, inputs, *nodes, opset=18, ml=3, **constants):
    """Declares a model of single operators: every node is (operator, inputs, attributes[, domain]), every output an answer."""
    made = []
    for at, (operator, names, attributes, *rest) in enumerate(nodes):
        attributes = dict(attributes)
        outs = [f"y{at}_{out}" for out in range(attributes.pop("outputs", 1))]
        made.append(helper.make_node(operator, names.split(), outs, domain=rest[0] if rest else "", **attributes))
    declared = [helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape) for key, value in inputs.items()]
    outputs = [helper.make_empty_tensor_value_info(out) for node in made for out in node.output]
    stored = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    versions = [helper.make_opsetid("", opset), helper.make_opsetid(ML, ml), helper.make_opsetid("com.microsoft", 1)]
    content = helper.make_model(helper.make_graph(made, name, declared, outputs, stored), opset_imports=versions, ir_version=8)
    MODELS[f"operator_{name}"] = (content.SerializeToString(), inputs, None, {})


def index(*values):
    """Constants for axes, shapes and places."""
    return np.array(values, dtype=np.int64)


def operators():
    """Operators alone, with what no exported model above shows of them."""
    x = {"x": MATRIX}
    unary = ["Abs", "Neg", "Sign", "Exp", "Sigmoid", "Tanh", "Erf", "Floor", "Ceil", "Round", "Sin", "Cos", "Relu", "Reciprocal", "Softplus"]
    graph("unary", x, *[(name, "x", {}) for name in unary])
    special = {"x": np.array([[np.nan, np.inf, -np.inf, -0.0, 2.5, 3.5, -2.5, 1e30]], dtype=F)}
    graph("special", special, *[(name, "x", {}) for name in [*unary, "IsNaN", "IsInf", "Sqrt", "Log"] if name != "Softplus"])
    graph("integers", {"x": WHOLE}, ("Abs", "x", {}), ("Neg", "x", {}), ("Sign", "x", {}), ("Div", "x two", {}), ("Mod", "x two", {}),
          ("Mod", "x two", {"fmod": 1}), ("Pow", "x three", {}), ("Max", "x two", {}), ("Less", "x two", {}), ("ReduceSum", "x", {}),
          two=index(-2), three=index(3))
    pairs = ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Less", "GreaterOrEqual", "Equal"]
    graph("broadcast", {"x": CUBE}, *[(name, "x column", {}) for name in pairs[:4]], *[(name, "x row", {}) for name in pairs],
          *[(name, "row column", {}) for name in pairs], ("Mod", "x row", {"fmod": 1}), ("Sum", "x row column", {}), ("Mean", "x row column", {}),
          column=np.array([[1], [2], [3]], dtype=F), row=np.array([1, 2, 4, 0.5], dtype=F))
    graph("not_a_number", special, ("Max", "x one", {}), ("Min", "x one", {}), ("Clip", "x one", {}), ("ReduceMax", "x", {}),
          ("ReduceSum", "x", {}), ("Cast", "x", {"to": 9}), ("Cast", "x", {"to": 8}), one=np.float32(1))
    graph("casts", {"x": np.array([1.5, -2.75, 0, 3e-7, 123456792, 0.1], dtype=F), "d": np.array([0.1, 1e22, -5e-324, 1 / 3]),
                    "n": index(0, -5, 300), "s": np.array(["1.5", "-3e2", "NaN"], dtype=object)},
          *[("Cast", "x", {"to": to}) for to in (6, 7, 8, 9, 11)], *[("Cast", "d", {"to": to}) for to in (1, 8)],
          *[("Cast", "n", {"to": to}) for to in (1, 2, 6, 8, 9)], *[("Cast", "s", {"to": to}) for to in (1, 11)])
    for name in ("Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"):
        axes = (0, 1, 2, (0, 2), (0, 1), ())
        old = [(f"Reduce{name}", "x", {"axes": list(np.atleast_1d(one))}) for one in axes if one != ()]
        graph(f"reduce_{name.lower()}", {"x": CUBE / 4}, *old, (f"Reduce{name}", "x", {}), (f"Reduce{name}", "x", {"keepdims": 0}), opset=11)
    graph("reduce_input", {"x": CUBE}, ("ReduceMean", "x last", {}), ("ReduceMax", "x last", {"keepdims": 0}),
          ("ReduceSum", "x none", {"noop_with_empty_axes": 1}), last=index(-1), none=index())
    turns = ("Softmax", "LogSoftmax", "Hardmax")
    for opset in (11, 13):
        graph(f"softmax_opset{opset}", {"x": CUBE}, *[(name, "x", {"axis": axis}) for name in turns for axis in (0, 1, 2)],
              *[(name, "x", {}) for name in turns], opset=opset)
    ties = {"x": np.array([[3, 1, 3, 2], [0, 0, -1, -1]], dtype=F)}
    graph("arg", ties, *[(name, "x", {"axis": axis, "select_last_index": last, "keepdims": keep}) for name in ("ArgMax", "ArgMin")
                         for axis, last, keep in ((0, 0, 1), (1, 0, 0), (-1, 1, 1))])
    graph("top", ties, ("TopK", "x two", {"outputs": 2}), ("TopK", "x two", {"axis": 0, "outputs": 2}), ("TopK", "x two", {"largest": 0, "outputs": 2}),
          two=index(2))
    graph("top_opset9", ties, ("TopK", "x", {"k": 3, "outputs": 2}), opset=9)
    graph("cumulate", {"x": CUBE}, *[("CumSum", "x one", {"exclusive": a, "reverse": b}) for a in (0, 1) for b in (0, 1)], one=np.int64(1))
    graph("multiply", {"x": CUBE, "v": np.array([1, 2, 3, 4], dtype=F)}, ("MatMul", "x v", {}), ("MatMul", "x w", {}), ("MatMul", "v w", {}),
          ("MatMul", "v v", {}), ("MatMul", "x b", {}), w=np.arange(8, dtype=F).reshape(4, 2), b=np.ones((2, 4, 2), dtype=F))
    graph("gemm", x, ("Gemm", "x w c", {"alpha": 0.5, "beta": 2.0}), ("Gemm", "x x", {"transB": 1}), ("Gemm", "x x", {"transA": 1}),
          ("Gemm", "x t r", {"transB": 1}), w=np.arange(6, dtype=F).reshape(3, 2), t=np.arange(6, dtype=F).reshape(2, 3),
          c=np.array([[1], [2]], dtype=F), r=np.array([3, 4], dtype=F))
    graph("einsum", {"x": CUBE, "m": MATRIX}, ("Einsum", "x", {"equation": "ijk->kj"}), ("Einsum", "m m", {"equation": "ij,ij->j"}),
          ("Einsum", "m x", {"equation": "ij,ajk->aik"}))
    graph("eye", x, ("EyeLike", "x", {}), ("EyeLike", "x", {"k": 1, "dtype": 7}))
    graph("distance", {"x": MATRIX}, ("CDist", "x x", {"metric": "euclidean"}, "com.microsoft"), ("CDist", "x w", {"metric": "sqeuclidean"}, "com.microsoft"),
          w=np.ones((1, 3), dtype=F))
    graph("shapes", {"x": CUBE}, ("Shape", "x", {}), ("Shape", "x", {"start": 1, "end": -1}), ("Size", "x", {}), ("Reshape", "x to", {}),
          ("Flatten", "x", {"axis": 0}), ("Flatten", "x", {"axis": 2}), ("Flatten", "x", {"axis": -1}), ("Flatten", "x", {"axis": 3}),
          ("Unsqueeze", "x outer", {}), ("Transpose", "x", {}), ("Transpose", "x", {"perm": [1, 2, 0]}), ("Tile", "x times", {}),
          ("Expand", "row wide", {}), ("ConstantOfShape", "wide", {}), to=index(0, -1, 2), outer=index(0, -1), times=index(1, 2, 3),
          row=np.array([[1], [2]], dtype=F), wide=index(3, 1, 4))
    graph("squeeze", {"x": CUBE.reshape(1, 2, 1, 12)}, ("Squeeze", "x", {}), ("Squeeze", "x last", {}), last=index(-2))
    graph("squeeze_opset11", {"x": CUBE.reshape(1, 2, 1, 12)}, ("Squeeze", "x", {"axes": [2]}), ("Unsqueeze", "x", {"axes": [0, 3]}), opset=11)
    graph("range", {"x": np.array(1.5, dtype=F)}, ("Range", "x limit step", {}), limit=np.float32(-2), step=np.float32(-0.75))
    graph("slice", {"x": CUBE}, ("Slice", "x starts ends axes steps", {}), ("Slice", "x starts ends", {}), ("Slice", "x back far axes down", {}),
          starts=index(1, -3), ends=index(9, 3), axes=index(1, -1), steps=index(1, 2), back=index(-1, 10), far=index(-99, 0), down=index(-1, -2))
    graph("slice_opset9", {"x": CUBE}, ("Slice", "x", {"starts": [0, -2], "ends": [1, 2147483647], "axes": [0, 2]}), opset=9)
    graph("split", {"x": CUBE}, ("Split", "x parts", {"axis": 2, "outputs": 2}), ("Split", "x", {"axis": 1, "outputs": 3, "num_outputs": 3}),
          ("Split", "x", {"axis": 1, "outputs": 2, "num_outputs": 2}), parts=index(1, 3))
    graph("split_opset11", {"x": CUBE}, ("Split", "x", {"axis": 2, "split": [3, 1], "outputs": 2}), ("Split", "x", {"outputs": 2}), opset=11)
    graph("gather", {"x": CUBE, "s": LETTERS}, ("Gather", "x at", {}), ("Gather", "x at", {"axis": 1}), ("Gather", "x at", {"axis": -1}),
          ("Gather", "s one", {"axis": 1}), ("GatherElements", "x each", {"axis": 2}), ("GatherND", "x deep", {}), ("GatherND", "x flat", {}),
          ("ScatterND", "x flat news", {}), ("ScatterElements", "x each where", {"axis": 2}), at=np.array([[0, -1], [1, 1]]), one=np.int64(1),
          each=np.array([[[0, -1]], [[2, 1]]]), deep=np.array([[0, 1, 2], [-1, 0, -1]]), flat=np.array([[1, 2]]),
          news=np.array([[9, 8, 7, 6]], dtype=F), where=np.array([[[100, 101]], [[102, 103]]], dtype=F))
    graph("concat", {"x": CUBE, "s": LETTERS}, ("Concat", "x x", {"axis": 1}), ("Concat", "x x x", {"axis": -1}), ("Concat", "s s", {"axis": 0}))
    graph("one_hot", {"x": np.array([[0, 2], [-1, 7]])}, ("OneHot", "x depth values", {}), ("OneHot", "x depth values", {"axis": 0}),
          depth=np.int64(3), values=np.array([-1, 5], dtype=F))
    graph("choice", {"x": MATRIX, "s": LETTERS}, ("Greater", "x row", {}), ("Where", "y0_0 x row", {}), ("Not", "y0_0", {}), ("And", "y0_0 y2_0", {}),
          ("Xor", "y0_0 y2_0", {}), ("NonZero", "x", {}), ("Compress", "x picks", {"axis": 1}), ("Compress", "x picks", {}), ("Equal", "s a", {}),
          row=np.array([1, 0, 0.25], dtype=F), picks=np.array([True, False, True]), a=np.array(["a"], dtype=object), opset=19)
    graph("pad", {"x": MATRIX}, ("Pad", "x pads", {}), ("Pad", "x pads nine", {}), pads=index(1, 0, 0, 2), nine=np.float32(9))
    graph("clip_opset10", x, ("Clip", "x", {"min": -1.0, "max": 2.0}), ("Clip", "x", {"max": 0.0}), opset=10)
    graph("activations", x, ("LeakyRelu", "x", {}), ("Elu", "x", {}), ("Selu", "x", {}), ("HardSigmoid", "x", {}), ("ThresholdedRelu", "x", {}),
          ("Softsign", "x", {}), ("LpNormalization", "x", {"p": 1}))
    words = np.array(["The", "cat", "SAT", "the", "Mat"], dtype=object)
    graph("strings", {"s": words}, ("StringNormalizer", "s", {"case_change_action": "UPPER", "stopwords": ["the"], "locale": "C"}),
          ("StringNormalizer", "s", {"case_change_action": "NONE", "is_case_sensitive": 1, "stopwords": ["the"], "locale": "C"}),
          ("StringNormalizer", "s", {"case_change_action": "LOWER", "locale": "C", "stopwords": [str(word).lower() for word in words]}))
    graph("tokens", {"s": np.array(["a b,c", "", "one  two--three"], dtype=object)},
          ("Tokenizer", "s", {"mark": 1, "mincharnum": 1, "pad_value": "#", "separators": [" ", ","]}, "com.microsoft"),
          ("Tokenizer", "s", {"mark": 0, "mincharnum": 2, "pad_value": "#", "tokenexp": "[^ ,-]+"}, "com.microsoft"),
          ("Tokenizer", "s", {"mark": 0, "mincharnum": 1, "pad_value": "", "separators": [""]}, "com.microsoft"),
          ("Tokenizer", "s", {"mark": 0, "mincharnum": 1, "pad_value": "", "tokenexp": "\\w{2,3}"}, "com.microsoft"))
    pool = {"min_gram_length": 1, "max_gram_length": 2, "ngram_counts": [0, 3], "ngram_indexes": [0, 2, 1, 4, 3], "pool_int64s": [2, 3, 5, 2, 3, 5, 5],
            "weights": [1.0, 2.0, 0.5, 4.0, 3.0]}
    rows = {"x": np.array([[2, 3, 5, 5, 2], [5, 5, 1, 3, 3]])}
    graph("grams", rows, *[("TfIdfVectorizer", "x", {**pool, "mode": mode, "max_skip_count": skip}) for mode in ("TF", "IDF", "TFIDF") for skip in (0, 1, 2)],
          ("TfIdfVectorizer", "x", {**pool, "mode": "TF", "max_skip_count": 1, "min_gram_length": 2}))
    scores = {"x": np.array([[0.5, -1], [2, 0.25], [-3, 0]], dtype=F)}
    two = {"coefficients": [1.0, -0.5], "intercepts": [0.1], "classlabels_ints": [7, 9]}
    three = {"coefficients": [1.0, -0.5, 0.3, 0.2, -1.0, 0.0], "intercepts": [0.1, 0.0, -0.2], "classlabels_strings": ["a", "b", "c"]}
    ways = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")
    graph("linear_classes", scores, *[("LinearClassifier", "x", {**form, "post_transform": way, "outputs": 2}, ML) for form in (two, three) for way in ways])
    graph("linear_numbers", scores, *[("LinearRegressor", "x", {"coefficients": [1.0, -0.5, 2.0, 0.0], "intercepts": [0.1, 0.2], "targets": 2,
                                                                 "post_transform": way}, ML) for way in ways],
          ("LinearRegressor", "x", {"coefficients": [1.0, -0.5]}, ML))
    vectors = {"kernel_type": "RBF", "kernel_params": [0.5, 0.0, 3.0], "support_vectors": [0.0, 1.0, 1.0, 0.0, -1.0, 0.5], "coefficients": [1.0, -0.75, -0.25],
               "rho": [0.1], "vectors_per_class": [1, 2], "classlabels_ints": [4, 6]}
    plain = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]}
    graph("svm_classes", scores, *[("SVMClassifier", "x", {**vectors, "post_transform": way, "outputs": 2}, ML) for way in ways],
          ("SVMClassifier", "x", {**vectors, "prob_a": [-1.5], "prob_b": [0.2], "outputs": 2}, ML),
          *[("SVMClassifier", "x", {**plain, "coefficients": list(weights), "rho": [0.1], "classlabels_strings": ["n", "y"], "outputs": 2}, ML)
            for weights in ((1.0, -0.5, 0.3, 0.2), (1.0, 0.5, 0.3, 0.2))])
    graph("svm_numbers", scores, ("SVMRegressor", "x", {**plain, "coefficients": [1.0, -0.5], "rho": [0.5]}, ML),
          ("SVMRegressor", "x", {**{key: vectors[key] for key in ("kernel_params", "support_vectors", "coefficients", "rho")}, "kernel_type": "POLY",
                                 "n_supports": 3, "one_class": 1}, ML))
    graph("scaling", {"x": MATRIX}, ("Scaler", "x", {"offset": [1.0], "scale": [2.0]}, ML), *[("Normalizer", "x", {"norm": norm}, ML) for norm in ("MAX", "L1", "L2")],
          ("Imputer", "x", {"imputed_value_floats": [8.0], "replaced_value_float": 3.0}, ML), ("FeatureVectorizer", "x x", {"inputdimensions": [3, 2]}, ML),
          ("ArrayFeatureExtractor", "x places", {}, ML), ("Binarizer", "x", {"threshold": 1.0}, ML), places=index(2, 0, 2))
    graph("labels", {"s": LETTERS, "x": np.array([0.5, np.nan, -0.0, 3], dtype=F), "n": np.array([1, 0, 4])},
          ("LabelEncoder", "s", {"keys_strings": ["a", "b", "a"], "values_int64s": [5, 6, 7]}, ML),
          ("LabelEncoder", "s", {"keys_strings": ["a", "c"], "values_floats": [0.5, 1.5], "default_float": -2.0}, ML),
          ("LabelEncoder", "x", {"keys_floats": [float("nan"), 0.0, 0.5], "values_strings": ["hole", "none", "half"]}, ML),
          ("LabelEncoder", "n", {"keys_int64s": [1, 4], "values_int64s": [4, 1]}, ML),
          ("CategoryMapper", "s", {"cats_strings": ["a", "b"], "cats_int64s": [3, 4]}, ML), ("CategoryMapper", "n", {"cats_strings": ["a", "b"], "cats_int64s": [3, 4]}, ML),
          ("OneHotEncoder", "s", {"cats_strings": ["a", "b"]}, ML), ("OneHotEncoder", "x", {"cats_int64s": [0, 3]}, ML), ("OneHotEncoder", "n", {"cats_int64s": [4, 1]}, ML))
    graph("labels_opset4", {"x": np.array([0.5, np.nan, -0.0, 3], dtype=F), "d": np.array([0.5, 7])}, ("LabelEncoder", "x", {
        "keys_floats": [float("nan"), 0.0, 0.5], "values_strings": ["hole", "none", "half"]}, ML),
          ("LabelEncoder", "d", {"keys_tensor": numpy_helper.from_array(np.array([0.5])), "values_tensor": numpy_helper.from_array(np.array([8.0])),
                                 "default_tensor": numpy_helper.from_array(np.array([-1.0]))}, ML), ml=4)
    graph("reduce_nothing", {"x": MATRIX}, *[(name, "x none", {"noop_with_empty_axes": 1}) for name in (
        "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ReduceSum", "ReduceMean", "ReduceMax")], none=index())
    graph("norms", {"x": CUBE}, *[("LpNormalization", "x", {"p": p, "axis": at}) for p in (1, 2) for at in (0, 1, -1)], opset=22)
    graph("squeeze_nothing", {"x": MATRIX.reshape(1, 2, 1, 3)}, ("Squeeze", "x none", {}), none=index())
    graph("gemm_without", {"x": MATRIX}, ("Gemm", "x w c", {"beta": 0.0}), w=np.ones((3, 2), dtype=F), c=np.array([np.nan, 1], dtype=F))
    stump = {"nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3, "nodes_values": [0.0] * 3,
             "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
             "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [0.3, 0.7], "n_targets": 1}
    graph("single_target", {"x": MATRIX[:, :2]},
          *[("LinearRegressor", "x", {"coefficients": [0.1, -0.1], "intercepts": [0.5], "targets": 1, "post_transform": way}, ML) for way in ways],
          *[("TreeEnsembleRegressor", "x", {**stump, "post_transform": way}, ML) for way in ways])
    graph("expression", {"s": np.array(["ab1 cd", "x-yz 12ab", "", "Łódź ab\ncd", "a" * 50 + "1"], dtype=object)},
          *[("Tokenizer", "s", {"tokenexp": form, "mark": 0, "mincharnum": 1, "pad_value": "#"}, "com.microsoft")
            for form in ("[a-zA-Z]+\\b", "\\b[a-z]{2}", "[^a-z ]+", "\\w{1,3}", "[a-z]*[0-9]", "a.c?")])
    graph("sequence", {"x": MATRIX}, ("SequenceConstruct", "x x", {}), ("ConcatFromSequence", "y0_0", {"axis": 1}), ("SequenceAt", "y0_0 one", {}), one=np.int64(-1))


def typed(rows):
    """The tensor type of rows."""
    if isinstance(rows, list):
        return StringTensorType([None, 1])
    kind = {"f4": FloatTensorType, "f8": DoubleTensorType, "i8": Int64TensorType, "O": StringTensorType}
    return kind[rows.dtype.str.lstrip("<|")]([None, rows.shape[1]])


def inputs(rows, named):
    """What ONNX Runtime is given, by name, with the types for the export. Named: a column each, as of a data frame."""
    if isinstance(rows, list):
        return {"X": np.array(rows, dtype=object).reshape(-1, 1)}
    if not named:
        return {"X": rows}
    columns = {}
    for at in range(rows.shape[1]):
        column = rows[:, at : at + 1]
        columns[f"c{at}"] = column if isinstance(column[0, 0], str) else column.astype(np.float32)
    return columns


def export(name, given):
    """Trains and exports: the bytes of the model."""
    estimator, rows, truth, export = MODELS[name]
    fitted = rows.ravel() if truth is None and not isinstance(rows, list) else rows
    estimator = estimator.fit(fitted, truth) if truth is not None else estimator.fit(fitted)
    opset = export.get("opset", 18)
    library = type(estimator).__module__.split(".")[0]
    if library == "xgboost" or library == "lightgbm":
        register(library)
    options = dict(export.get("options", {}))
    if is_classifier(estimator) and not isinstance(estimator, (multioutput.MultiOutputClassifier, svm.LinearSVC)):
        options["zipmap"] = export.get("zipmap", False)
    types = [(key, typed(value)) for key, value in given.items()]
    domains = {"": opset, "ai.onnx.ml": 3 if opset > 12 else 1}
    chosen = {id(estimator): options} if options else {}
    if isinstance(rows, list):  # ONNX Runtime wants the locale installed that a text step names; this one always is.
        steps = [estimator] if not isinstance(estimator, pipeline.Pipeline) else [step for _, step in estimator.steps]
        chosen.setdefault(id(steps[0]), {})["locale"] = "C"
    return convert_sklearn(estimator, initial_types=types, target_opset=domains, options=chosen).SerializeToString()


def register(library):
    """Teaches skl2onnx the models of another library."""
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    module = __import__(library)
    convert = {"xgboost": convert_xgboost, "lightgbm": convert_lightgbm}[library]
    prefix = {"xgboost": "XGB", "lightgbm": "LGBM"}[library]
    update_registered_converter(getattr(module, f"{prefix}Classifier"), f"{prefix}C", calculate_linear_classifier_output_shapes,
                                convert, options={"nocl": [True, False], "zipmap": [True, False, "columns"], "raw_scores": [True, False]})
    update_registered_converter(getattr(module, f"{prefix}Regressor"), f"{prefix}R", calculate_linear_regressor_output_shapes, convert)


def number(value):
    """JSON has no NaN and no infinities."""
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def written(value):
    """A tensor, a ZipMap's maps or a sequence, as JSON."""
    if isinstance(value, list) and isinstance(value[0], dict):
        return {"labels": [number(label) for label in value[0]], "rows": [[number(one) for one in row.values()] for row in value]}
    if isinstance(value, list):
        return {"sequence": [written(one) for one in value]}
    kind = "string" if value.dtype == object else value.dtype.name
    return {"dtype": kind, "shape": list(value.shape), "values": [number(one) for one in value.ravel()]}


def make(name, folder):
    """Writes one case."""
    _, rows, _, export_as = MODELS[name]
    if name.startswith("operator_"):
        content, given = MODELS[name][:2]
    else:
        given = inputs(rows, export_as.get("named"))
        content = export(name, given)
        given = {key: value[:ROWS].copy() for key, value in given.items()}
    if export_as.get("alien"):
        key = [key for key, value in given.items() if value.dtype == object][-1]
        given[key][0, -1] = "Atlantis"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    answers = session.run(None, given)
    names = [output.name for output in session.get_outputs()]
    case = {"inputs": {key: written(value) for key, value in given.items()},
            "outputs": {key: written(value) for key, value in zip(names, answers, strict=True)}}
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "model.onnx").write_bytes(content)
    (folder / name / "case.json").write_text(json.dumps(case, ensure_ascii=False) + "\n")


def main():
    """Makes the cases named on the command line, and says which could not be made."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for declare in (linear, scaled, kernels, others, trees, operators):
        declare()
    folder, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    for name in names:
        try:
            make(name, folder)
        except Exception as error:  # noqa: BLE001: one model that an exporter refuses must not hide the others
            print(f"{name}: {type(error).__name__}: {str(error).strip()[:300]}", file=sys.stderr)


if __name__ == "__main__":
    main()
