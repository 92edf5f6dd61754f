"""Predict and StreamPredict from a generated Python client, against real scoring servers."""

import datetime
import json
import math
import struct

import grpc
import pytest
import requests
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from forms import BIG, COLUMNS, CSV, FAIL, RECORDS, ROWS, SUCCEED, TYPED
from rpc import SECONDS, details, failure, predict, predict_stub, prediction

KEYS = {"dataframe_split", "dataframe_records", "instances", "inputs", "params"}
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def as_message(form):
    """The form as a PredictRequest, or None when it is not JSON of the contract."""
    if form.content_type != "application/json":
        return None
    try:
        body = json.loads(form.body)
    except ValueError:
        return None
    if not isinstance(body, dict) or not set(body) <= KEYS or str(BIG) in form.body.decode():
        return None
    try:
        return ParseDict({"endpoint": form.model, **body}, predict.PredictRequest())
    except ParseError:
        return None


def direct(scoring, model, body):
    """The scoring server's own predictions."""
    response = requests.post(f"{scoring[model]}/invocations", json=body, timeout=30)
    return response.json()["predictions"] if response.ok else None


def as_double(value):
    """JSON as `google.protobuf.Value` can hold it: numbers are doubles, NaN is null."""
    if isinstance(value, list):
        return [as_double(item) for item in value]
    if isinstance(value, dict):
        return {key: as_double(item) for key, item in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


JSON_FORMS = [form for form in SUCCEED if as_message(form)]
# A message cannot tell a list that is missing from one that is empty.
JSON_FAULTS = [form for form in FAIL if as_message(form) and form.name != "split without data"]


@pytest.mark.parametrize("form", JSON_FORMS, ids=[form.name for form in JSON_FORMS])
def test_json_forms(scoring, models_channel, form):
    """The four JSON forms as messages: the same numbers as from the scoring server."""
    answer = predict_stub(models_channel).Predict(as_message(form), timeout=SECONDS)
    want = direct(scoring, form.model, json.loads(form.body))
    assert MessageToDict(answer)["predictions"] == as_double(want)
    assert answer.call.provider == "mlflow" and answer.call.attempts == 1


@pytest.mark.parametrize("form", JSON_FAULTS, ids=[form.name for form in JSON_FAULTS])
def test_json_faults(models_channel, form):
    """The caller's mistake is INVALID_ARGUMENT, the model's exception is not."""
    error = failure(lambda: predict_stub(models_channel).Predict(as_message(form), timeout=SECONDS))
    raised = form.fails == 500
    assert error.code() == (grpc.StatusCode.INTERNAL if raised else INVALID)
    info = details(error)
    assert info.domain == "flowgate" and info.metadata["endpoint"] == form.model
    assert (info.reason == "PROVIDER_MODEL_FAILED") == raised
    assert "Traceback" not in str(error) and "fragile-secret" not in str(error)


def column(name, kind, values, validity=()):
    """One column of a frame."""
    field = "unix_nanos" if kind == "timestamps" else "values"
    return prediction.Column(name=name, validity=validity, **{kind: {field: values}})


def iris_frame():
    """The iris rows as typed columns."""
    return prediction.Frame(columns=[column(n, "doubles", [row[i] for row in ROWS]) for i, n in enumerate(COLUMNS)])


def test_frame(scoring, models_channel):
    """Typed columns in, typed columns out."""
    request = predict.PredictRequest(endpoint="iris", frame=iris_frame())
    answer = predict_stub(models_channel).Predict(request, timeout=SECONDS)
    assert list(answer.frame.columns[0].integers.values) == direct(scoring, "iris", {"dataframe_records": RECORDS})


def test_frame_answered_as_json(scoring, models_channel):
    """The form of the answer can be chosen."""
    request = predict.PredictRequest(endpoint="iris", frame=iris_frame(), prediction_form="PREDICTION_FORM_JSON")
    answer = predict_stub(models_channel).Predict(request, timeout=SECONDS)
    assert MessageToDict(answer.predictions) == as_double(direct(scoring, "iris", {"dataframe_records": RECORDS}))


NANOS = int(datetime.datetime.fromisoformat(TYPED["datetime"] + "+00:00").timestamp()) * 10**9
TYPED_COLUMNS = {
    "boolean": ("booleans", True),
    "integer": ("integers", 7),
    "long": ("integers", BIG),
    "float": ("doubles", 1.5),
    "double": ("doubles", 2.5),
    "string": ("strings", "zwölf"),
    "binary": ("bytes", b"hello"),
    "datetime": ("timestamps", NANOS),
}


def typed_frame(*more):
    """One row of every column type, and more columns."""
    columns = [column(name, kind, [value]) for name, (kind, value) in TYPED_COLUMNS.items()]
    return predict.PredictRequest(
        endpoint="types", frame={"columns": [*columns, *more]}, prediction_form="PREDICTION_FORM_JSON"
    )


def test_frame_of_every_type(scoring, models_channel):
    """Every column type reaches the model as the signature wants it, int64 exactly."""
    answer = predict_stub(models_channel).Predict(typed_frame(), timeout=SECONDS)
    assert MessageToDict(answer.predictions) == direct(scoring, "types", {"dataframe_records": [TYPED]})


@pytest.mark.parametrize("name", TYPED_COLUMNS)
def test_frame_with_a_null(scoring, models_channel, name):
    """A null in an optional column: as the scoring server takes the same null as JSON, or refused as it refuses."""
    kind, value = TYPED_COLUMNS[name]
    want = direct(scoring, "types", {"dataframe_records": [TYPED | {f"maybe_{name}": None}]})
    request = typed_frame(column(f"maybe_{name}", kind, [value], [False]))
    if want is None:
        error = failure(lambda: predict_stub(models_channel).Predict(request, timeout=SECONDS))
        assert error.code() == INVALID
    else:
        answer = predict_stub(models_channel).Predict(request, timeout=SECONDS)
        assert MessageToDict(answer.predictions) == want


def test_uneven_columns_are_refused(models_channel):
    """A frame whose columns differ in length is the caller's mistake, and the field is named."""
    columns = [column("x", "doubles", [1.0]), column("y", "doubles", [1.0, 2.0])]
    request = predict.PredictRequest(endpoint="iris", frame={"columns": columns})
    error = failure(lambda: predict_stub(models_channel).Predict(request, timeout=SECONDS))
    assert error.code() == INVALID and details(error).reason == "CALLER_INVALID_REQUEST"


def test_tensor(models_channel):
    """A packed float32 tensor, there and back."""
    data = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
    tensor = prediction.Tensor(data_type="DATA_TYPE_FLOAT32", shape=[2, 3], data=data)
    request = predict.PredictRequest(endpoint="tensor", tensors={"tensors": [tensor]})
    answer = predict_stub(models_channel).Predict(request, timeout=SECONDS).tensors.tensors[0]
    assert list(answer.shape) == [2, 3]
    letter, size = {prediction.DATA_TYPE_FLOAT32: ("f", 4), prediction.DATA_TYPE_FLOAT64: ("d", 8)}[answer.data_type]
    assert struct.unpack(f"<{len(answer.data) // size}{letter}", answer.data) == (2, 4, 6, 8, 10, 12)


@pytest.mark.parametrize("form", [f for f in SUCCEED if f.content_type], ids=lambda form: form.name)
def test_raw(scoring, models_channel, form):
    """Any body as it is, the answer as it came."""
    raw = prediction.Raw(content_type=form.content_type, body=form.body)
    answer = predict_stub(models_channel).Predict(predict.PredictRequest(endpoint=form.model, raw=raw), timeout=SECONDS)
    url = f"{scoring[form.model]}/invocations"
    assert answer.raw.body == requests.post(url, data=form.body, headers=form.headers, timeout=30).content


def test_csv_answered_as_json(models_channel):
    """CSV in, JSON out."""
    raw = {"content_type": "text/csv", "body": CSV.encode()}
    request = predict.PredictRequest(endpoint="iris", raw=raw, prediction_form="PREDICTION_FORM_JSON")
    answer = predict_stub(models_channel).Predict(request, timeout=SECONDS)
    assert MessageToDict(answer.predictions) == [0, 1, 2]


def test_int64_in_an_answer_is_exact_in_a_frame(models_channel):
    """An int64 beyond 2^53 comes back whole."""
    frame = {"columns": [column("x", "integers", [1])]}
    answer = predict_stub(models_channel).Predict(
        predict.PredictRequest(endpoint="fragile", frame=frame), timeout=SECONDS
    )
    assert list(answer.frame.columns[0].integers.values) == [BIG]


def test_stream_predict(models_channel):
    """Each request is a call of its own: a bad one fails alone."""
    good = predict.PredictRequest(endpoint="iris", frame=iris_frame())
    wrong = predict.PredictRequest(endpoint="nobody", frame=iris_frame())
    requests_ = [predict.StreamPredictRequest(request=request) for request in (good, wrong, good)]
    answers = {a.index: a for a in predict_stub(models_channel).StreamPredict(iter(requests_), timeout=SECONDS)}
    assert sorted(answers) == [0, 1, 2]
    assert [answers[index].WhichOneof("result") for index in range(3)] == ["response", "error", "response"]
    assert details(answers[1].error).reason == "CALLER_ENDPOINT_NOT_FOUND"


def test_a_dead_server_is_unavailable(models_channel):
    """Nothing listens there."""
    request = predict.PredictRequest(endpoint="dead", frame=iris_frame())
    error = failure(lambda: predict_stub(models_channel).Predict(request, timeout=SECONDS))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert details(error).reason == "PROVIDER_UNAVAILABLE"
