"""MLflow's own deployments client, unchanged but for its address."""

import pytest
import requests
from mlflow.deployments import get_deploy_client

from forms import COLUMNS, ROWS, split

CHAT = {"messages": [{"role": "user", "content": "one two"}]}


@pytest.fixture(scope="module")
def client(gateway):
    """The client at the LLM endpoints."""
    return get_deploy_client(gateway.url)


def test_list_endpoints(client):
    """Every endpoint, with what the client reads of it."""
    listed = {endpoint.name: endpoint for endpoint in client.list_endpoints()}
    assert {"chat", "completions", "embeddings"} <= set(listed)
    chat = listed["chat"]
    assert (chat.endpoint_type, chat.model.name, chat.model.provider) == ("llm/v1/chat", "gpt-fake", "openai")
    assert chat.endpoint_url.endswith("/gateway/chat/invocations") and chat.limit is None


def test_get_endpoint(client):
    """One endpoint, and none."""
    assert client.get_endpoint("embeddings").endpoint_type == "llm/v1/embeddings"
    with pytest.raises(requests.HTTPError) as caught:
        client.get_endpoint("nobody")
    assert caught.value.response.status_code == 404 and caught.value.response.json()["detail"]


def test_chat(client):
    """A chat endpoint."""
    answer = client.predict(endpoint="chat", inputs=CHAT)
    assert answer["choices"][0]["message"]["content"] == "You said: one two"
    assert answer["usage"]["total_tokens"] > 0


def test_completions(client):
    """A completions endpoint."""
    answer = client.predict(endpoint="completions", inputs={"prompt": "once", "stop": ["x"], "temperature": 0.0})
    assert answer["choices"][0]["text"] == "once and so on"


def test_embeddings(client):
    """An embeddings endpoint."""
    answer = client.predict(endpoint="embeddings", inputs={"input": ["a", "bcd"]})
    assert [item["embedding"] for item in answer["data"]] == [[0.0, 1.0, 0.5], [1.0, 3.0, 0.5]]


def test_an_error_says_why(client):
    """The client raises with the body's `detail`."""
    with pytest.raises(requests.HTTPError) as caught:
        client.predict(endpoint="fail-400", inputs=CHAT)
    assert caught.value.response.json()["detail"] in str(caught.value)


def test_predict(models):
    """A predict endpoint."""
    answer = get_deploy_client(models.url).predict(endpoint="iris", inputs=split(COLUMNS, ROWS))
    assert answer == {"predictions": [0, 1, 2]}


def test_predict_endpoint_is_listed(models):
    """Predict endpoints have the same shape."""
    iris = get_deploy_client(models.url).get_endpoint("iris")
    assert iris.endpoint_type == "mlflow/predict" and iris.model.provider == "mlflow"
