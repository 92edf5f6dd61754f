"""MLflow's scoring protocol: every form sent to the scoring server and through Flowgate, side by side."""

import json

import pytest
import requests

from forms import BIG, BY_COLUMN, COLUMNS, FAIL, RAISED, RECORDS, ROWS, SUCCEED, TYPED, split

SECRETS = ["Traceback", "stack_trace", "fragile-secret", 'File "']
REASONS = {
    400: {"CALLER_INVALID_REQUEST", "PROVIDER_REJECTED_REQUEST"},
    415: {"CALLER_UNSUPPORTED_MEDIA_TYPE", "PROVIDER_REJECTED_REQUEST"},
    RAISED: {"PROVIDER_MODEL_FAILED"},
}


def post(url, form):
    """Sends a form."""
    return requests.post(url, data=form.body, headers=form.headers, timeout=30)


def doors(models, form):
    """The addresses at which the form must be answered."""
    paths = [f"/endpoints/{form.model}/invocations", f"/gateway/{form.model}/invocations"]
    return [models.url + path for path in paths + (["/invocations"] if form.model == "iris" else [])]


def names(forms):
    """Test ids."""
    return [form.name.replace(" ", "-") for form in forms]


@pytest.mark.parametrize("form", SUCCEED, ids=names(SUCCEED))
def test_equal_answers(scoring, models, form):
    """A success is the scoring server's own body, byte for byte."""
    direct = post(f"{scoring[form.model]}/invocations", form)
    assert direct.status_code == 200, direct.text
    for url in doors(models, form):
        through = post(url, form)
        assert (through.status_code, through.content) == (200, direct.content), url
        assert through.headers["content-type"].startswith("application/json"), url


@pytest.mark.parametrize("form", FAIL, ids=names(FAIL))
def test_errors_where_it_errs(scoring, models, form):
    """An error is Flowgate's own: the right status and reason, and nothing of the server's insides."""
    assert post(f"{scoring[form.model]}/invocations", form).status_code >= 400
    for url in doors(models, form):
        through = post(url, form)
        assert through.status_code == form.fails, (url, through.text)
        check_error(through)


def check_error(response):
    """Both shapes of the error, the reason, and no leak."""
    body = response.json()
    assert body["detail"] and body["error"]["message"], body
    assert body["error"]["code"].upper() in REASONS[response.status_code], body
    assert not [secret for secret in SECRETS if secret in response.text], response.text


@pytest.mark.parametrize("cell", ["sepal-secret-7", "5.1x"])
def test_inputs_are_not_echoed(models, cell):
    """What the caller sent stays out of the message."""
    body = split(COLUMNS, [[cell, 3.5, 1.4, 0.2]])
    response = requests.post(f"{models.url}/invocations", json=body, timeout=30)
    assert response.status_code == 400
    assert cell not in response.text


def test_a_dead_server_is_unavailable(models):
    """Nothing listens there."""
    response = requests.post(f"{models.url}/endpoints/dead/invocations", json={"inputs": [1]}, timeout=30)
    assert response.status_code == 503
    assert response.json()["error"]["code"].upper() == "PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize(
    "body",
    [split(COLUMNS, ROWS), {"dataframe_records": RECORDS}, {"instances": RECORDS}, {"inputs": BY_COLUMN}],
    ids=["split", "records", "instances", "inputs"],
)
def test_the_native_path_takes_mlflow_json(scoring, models, body):
    """The JSON of `PredictRequest` is MLflow's JSON."""
    direct = requests.post(f"{scoring['iris']}/invocations", json=body, timeout=30).json()
    answer = requests.post(f"{models.url}/v1/endpoints/iris:predict", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == direct["predictions"]
    assert answer.json()["call"]["endpoint"] == "iris"


def test_int64_survives_the_native_path(models):
    """Predict's JSON stays JSON bytes between an HTTP door and the scoring server."""
    body = json.dumps({"dataframe_records": [TYPED]})
    head = {"content-type": "application/json"}
    answer = requests.post(f"{models.url}/v1/endpoints/types:predict", data=body, headers=head, timeout=30)
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"][0]["long"]["value"] == str(BIG)
