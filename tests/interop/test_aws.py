"""AWS as others speak it: credentials from moto's STS, signatures checked with botocore's signer, event streams with its decoder."""

import json
from pathlib import Path

import boto3
import grpc
import pytest
import requests
from botocore.config import Config
from botocore.credentials import Credentials
from moto.server import ThreadedMotoServer
from moto.sts.models import sts_backends

import rpc
from bedrock import CALL, TEXT, THOUGHT, Bedrock, frame, read
from doors import DOORS, Failed
from gateway import Gateway
from join import both, calls, said
from processes import INTEROP, free_port

REGION = "eu-central-1"
ACCOUNT = "123456789012"
# One role for each endpoint, since those that ask for the same keys share them.
ROLES = {name: f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ["role", "mlflow-role", "role-by-key", "role-forger", "web"]}
STATIC = Credentials("AKIASTATIC0000000001", "static/secret+with=signs")
SESSION = Credentials("ASIASESSION000000001", "session-secret", "session/token==")
ARN = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/eu.anthropic.claude-v1:0"
MODELS = ["anthropic.claude-3-5-sonnet-20240620-v1:0", ARN, "drip"]
CODES = grpc.StatusCode
REFUSALS = {
    "throttled": ("PROVIDER_RATE_LIMITED", CODES.RESOURCE_EXHAUSTED),
    "invalid": ("PROVIDER_REJECTED_REQUEST", CODES.INVALID_ARGUMENT),
}
BREAKS = {
    "exception": "PROVIDER_RATE_LIMITED",
    "cut": "PROVIDER_STREAM_CUT",
    "no-end": "PROVIDER_STREAM_CUT",
    "checksum": "PROVIDER_BAD_ANSWER",
}
WEATHER = {"name": "weather", "parameters": json.dumps({"type": "object", "properties": {"city": {"type": "string"}}})}


class Sts:
    """moto's STS with access control: it checks the signature of who assumes the role, and whether that one may."""

    def __init__(self):
        self.port = free_port()
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.port}"
        more = {"region_name": "us-east-1", "endpoint_url": self.url, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        iam = boto3.client("iam", **more)
        iam.create_user(UserName="gate")
        key = iam.create_access_key(UserName="gate")["AccessKey"]
        self.user = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
        may = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}
        iam.put_user_policy(UserName="gate", PolicyName="may", PolicyDocument=json.dumps(may))
        who = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/gate"}, "Action": "sts:AssumeRole"}
        trust = {"Version": "2012-10-17", "Statement": [who]}
        for name in ROLES:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        self.check(0)

    def check(self, after):
        """From the given number of calls on, signatures and permissions are checked."""
        requests.post(f"{self.url}/moto-api/reset-auth", data=str(after), timeout=10).raise_for_status()

    def sessions(self):
        """The roles that were assumed, by the key that was given out."""
        return {role.access_key_id: role for role in sts_backends[ACCOUNT]["aws"].assumed_roles}

    def find(self, key):
        """The credentials with this id, if they were given out here."""
        role = self.sessions().get(key)
        return role and Credentials(role.access_key_id, role.secret_access_key, role.session_token)

    def stop(self):
        """Ends it, and lets later servers of this process be asked without a signature."""
        self.check(float("inf"))
        self.server.stop()


@pytest.fixture(scope="module")
def sts():
    """The security token service."""
    started = Sts()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def bedrock(sts):
    """The upstream, which knows two keys of its own and those that the service gave out."""
    upstream = Bedrock(REGION, {key.access_key: key for key in (STATIC, SESSION)}, sts.find)
    yield upstream
    upstream.stop()


def keys(credentials):
    """Configuration with a key."""
    more = {"aws_session_token": credentials.token} if credentials.token else {}
    return {"aws_access_key_id": credentials.access_key, "aws_secret_access_key": credentials.secret_key, **more}


def endpoint(name, url, model="amazon.nova-lite-v1:0", **config):
    """An endpoint at the upstream."""
    config = {"api_base": url, "aws_region": REGION, **config} if "aws_config" not in config else {"api_base": url, **config}
    model = {"provider": "bedrock", "name": model, "config": config, "parameters": {"max_tokens": 100}}
    return {"name": name, "endpoint_type": "llm/v1/chat", "model": model, "retry": {"attempts": 1}}


@pytest.fixture(scope="module")
def gate(bedrock, sts):
    """A gateway whose own identity is the service's user, by its environment."""
    own, url = keys(STATIC), bedrock.url
    endpoints = [
        endpoint("static", url, **own),
        endpoint("session", url, **keys(SESSION)),
        endpoint("mlflow", url, aws_config={**own, "aws_region": REGION}),
        endpoint("environment", url),
        endpoint("role", url, aws_role_arn=ROLES["role"], session_length_seconds=900),
        endpoint("mlflow-role", url, aws_config={"aws_role_arn": ROLES["mlflow-role"], "session_length_seconds": 900, "aws_region": REGION}),
        endpoint("role-by-key", url, aws_role_arn=ROLES["role-by-key"], **keys(sts.user)),
        endpoint("forger", url, **keys(Credentials(STATIC.access_key, "another"))),
        endpoint("role-forger", url, aws_role_arn=ROLES["role-forger"], **keys(Credentials(sts.user.access_key, "another"))),
    ]
    endpoints += [endpoint(f"model-{place}", url, model, **own) for place, model in enumerate(MODELS)]
    endpoints += [endpoint(model, url, model, **own) for model in ["tools", "reason", *REFUSALS, *BREAKS]]
    bedrock.keys[sts.user.access_key] = sts.user
    gateway = Gateway("aws", {"endpoints": endpoints}, **environment(sts, **upper(keys(sts.user))))
    yield gateway
    gateway.stop()


def upper(config):
    """Configuration as environment variables."""
    return {name.upper(): value for name, value in config.items()}


def environment(sts, **more):
    """Where the service is; neither the machine's own files nor its cloud's."""
    nothing = str(INTEROP / "no-such-file")
    own = {"AWS_CONFIG_FILE": nothing, "AWS_SHARED_CREDENTIALS_FILE": nothing, "AWS_EC2_METADATA_DISABLED": "true"}
    return {**own, "AWS_ENDPOINT_URL_STS": sts.url, "AWS_REGION": REGION, **more}


@pytest.mark.parametrize("name", ["static", "session", "mlflow", "environment"])
def test_signatures(stub, bedrock, sts, name):
    """Every way to give a key: botocore makes the same signature, whole and as a stream."""
    bedrock.take()
    answer = both(stub, rpc.ask(name, "Où est Paris ?"))
    assert said(answer) == TEXT and (answer.usage.input_tokens, answer.usage.output_tokens) == (11, 9)
    used = {"session": SESSION, "environment": sts.user}.get(name, STATIC)
    assert [key for _, key, _ in bedrock.take()] == [used.access_key] * 2


@pytest.mark.parametrize("place", range(len(MODELS)))
def test_models(stub, bedrock, place):
    """Ids with colons and slashes are one segment of the path, signed as AWS signs it; frames are read wherever they are cut."""
    bedrock.take()
    assert said(both(stub, rpc.ask(f"model-{place}", "Where?"))) == TEXT
    assert {model for model, _, _ in bedrock.take()} == {MODELS[place]}


@pytest.mark.parametrize("name", ["role", "mlflow-role", "role-by-key"])
def test_an_assumed_role(stub, bedrock, sts, name):
    """The role's keys sign, are asked for once, and by someone whose own signature moto has checked."""
    bedrock.take()
    before = {*sts.sessions()}
    assert said(both(stub, rpc.ask(name, "Where?"))) == TEXT
    (given,) = {*sts.sessions()} - before
    assert {key for _, key, _ in bedrock.take()} == {given} and sts.sessions()[given].role_arn == ROLES[name]


def test_web_identity(bedrock, sts):
    """A token in a file, as in a cluster, becomes the role's keys; no other identity is there."""
    token = Path(INTEROP) / "configs" / "identity.jwt"
    token.write_text("eyJhbGciOiJub25lIn0.eyJzdWIiOiJnYXRlIn0.")
    more = {"AWS_ROLE_ARN": ROLES["web"], "AWS_WEB_IDENTITY_TOKEN_FILE": str(token), "AWS_ROLE_SESSION_NAME": "gate-0"}
    gateway = Gateway("aws-web", {"endpoints": [endpoint("web", bedrock.url)]}, **environment(sts, **more))
    bedrock.take()
    before = {*sts.sessions()}
    try:
        # moto's access control knows no call without a signature, and the token is all that this one has.
        sts.check(float("inf"))
        with gateway.channel() as channel:
            assert said(both(rpc.chat_stub(channel), rpc.ask("web", "Where?"))) == TEXT
    finally:
        sts.check(0)
        gateway.stop()
    (given,) = {*sts.sessions()} - before
    assert {key for _, key, _ in bedrock.take()} == {given} and sts.sessions()[given].session_name == "gate-0"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", ["forger", "role-forger"])
def test_a_wrong_secret(stub, name, streamed):
    """A signature that is refused, by the upstream or by the service, is the operator's trouble."""
    error = fault(stub, name, streamed)
    assert (rpc.details(error).reason, error.code()) == ("PROVIDER_CREDENTIAL_REJECTED", CODES.INTERNAL)
    assert "another" not in str(error) and "AKIA" not in str(error)


def fault(stub, name, streamed):
    """The error of a call that fails before anything is said."""
    request = rpc.ask(name, "Where?")
    return rpc.failure(lambda: [*stub.StreamChat(request, timeout=rpc.SECONDS)] if streamed else stub.Chat(request, timeout=rpc.SECONDS))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(stub, name, streamed):
    """The exception's name decides."""
    error = fault(stub, name, streamed)
    assert (rpc.details(error).reason, error.code()) == REFUSALS[name]


@pytest.mark.parametrize("name", BREAKS)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_breaks(gate, door, name):
    """A stream that breaks is an error after what was said, on every door; never a silent end."""
    opened, pieces = door(gate), []
    stream = opened.stream(name, "Where?")
    with pytest.raises(Failed) as caught:
        for piece in stream:
            pieces.append(piece)
    opened.close()
    assert "".join(pieces) == TEXT[: len("".join(pieces))] != "" and caught.value.reason == BREAKS[name]
    assert not stream.ended


def test_tools(stub, bedrock):
    """A call and its result, in Bedrock's words."""
    request = rpc.ask("tools", "What is the weather in Paris?", tools=[WEATHER])
    answer = both(stub, request)
    assert [(name, json.loads(arguments)) for name, arguments in calls(answer)] == [("weather", {"city": "Paris"})]
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_TOOL_CALLS
    request.messages.append(answer.choices[0].message)
    result = {"tool_call_id": CALL["toolUseId"], "parts": [{"text": {"text": "sunny"}}]}
    request.messages.add(role="ROLE_TOOL", parts=[{"tool_result": result}])
    bedrock.take()
    assert said(both(stub, request)) == TEXT
    (_, _, sent), _ = bedrock.take()
    assert sent["messages"][1]["content"] == [{"toolUse": {**CALL, "input": {"city": "Paris"}}}]
    assert sent["messages"][2]["content"][0]["toolResult"]["toolUseId"] == CALL["toolUseId"]


def test_reasoning(stub, bedrock):
    """A thought with its signature, which goes up again as it came."""
    request = rpc.ask("reason", "Where?")
    answer = both(stub, request)
    thought = answer.choices[0].message.parts[0].reasoning
    assert (thought.text, thought.signature) == (THOUGHT["text"], THOUGHT["signature"]) and said(answer) == TEXT
    request.messages.append(answer.choices[0].message)
    request.messages.add(role="ROLE_USER", text="And Lyon?")
    bedrock.take()
    both(stub, request)
    (_, _, sent), _ = bedrock.take()
    assert sent["messages"][1]["content"][0] == {"reasoningContent": {"reasoningText": THOUGHT}}


@pytest.mark.parametrize("model", MODELS)
def test_the_upstream_is_what_boto3_takes_it_for(bedrock, model):
    """AWS's own client is let in by the same check and reads the same frames: so both are as AWS has them."""
    client = boto3.client(
        "bedrock-runtime", region_name=REGION, endpoint_url=bedrock.url, config=Config(retries={"total_max_attempts": 1}), **keys(SESSION)
    )
    asked = {"modelId": model, "messages": [{"role": "user", "content": [{"text": "Where?"}]}]}
    assert client.converse(**asked)["output"]["message"]["content"] == [{"text": TEXT}]
    events = [*client.converse_stream(**asked)["stream"]]
    assert "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event) == TEXT
    assert events[-1]["metadata"]["usage"]["outputTokens"] == 9


def test_the_check_refuses_forgeries(bedrock):
    """What the signature does not cover is found out."""
    client = boto3.client("bedrock-runtime", region_name=REGION, endpoint_url=bedrock.url, **keys(STATIC))
    client.meta.events.register("before-send", lambda request, **_: setattr(request, "body", request.body.replace(b"Where", b"There")))
    with pytest.raises(client.exceptions.ClientError, match="signature"):
        client.converse(modelId="any", messages=[{"role": "user", "content": [{"text": "Where?"}]}])


def test_frames_are_read_by_botocore():
    """The frames of these tests, one by one: names, types and bodies."""
    (message,) = read(frame("exception", "throttlingException", {"message": "é"}))
    assert message.headers == {":exception-type": "throttlingException", ":content-type": "application/json", ":message-type": "exception"}
    assert json.loads(message.payload) == {"message": "é"}
