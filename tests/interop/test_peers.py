"""llama.cpp's own server with a real small model behind Flowgate: what it is asked is ours, what it answers is not."""

import json
import os
import sys

import openai
import pytest
import requests

import rpc
from doors import ANY_KEY, DOORS, Failed
from gateway import Gateway
from join import both, calls, joined, said
from processes import INTEROP, Program, environment, free_port, poll

HERE = os.path.dirname(os.path.abspath(__file__))
QUESTION = "What is the capital of France?"
# Rows of the same protocol that people use for servers of their own.
ROWS = ["llama-cpp", "openai-compatible", "vllm", "lm-studio"]
# The protocols that the server speaks natively, by the endpoint that uses them. In the last it does not tell when it stopped for
# the most tokens, and there is no stop sequence.
PROTOCOLS = ["llama-cpp", "anthropic", "openai-responses"]
# The choice of tokens is the same each time.
GREEDY = {"temperature": 0, "seed": 7}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": json.dumps({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}),
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def start(task, port):
    """Starts the server for one task, without waiting."""
    command = [sys.executable, os.path.join(HERE, "llama.py"), port, task]
    return Program(f"llama-{task}-{port}", command, env=environment(PYTHONPATH=INTEROP / "peers"))


@pytest.fixture(scope="module")
def llama():
    """Addresses of real servers, by task."""
    ports = {task: free_port() for task in ("chat", "embed")}
    programs = {task: start(task, port) for task, port in ports.items()}
    try:
        for task, program in programs.items():
            program.wait_for(f"http://127.0.0.1:{ports[task]}/health")
        yield {task: f"http://127.0.0.1:{port}" for task, port in ports.items()}
    finally:
        for program in programs.values():
            program.stop()


def endpoint(name, url, task="chat", provider="llama-cpp", **more):
    """An endpoint at one server; what it does not say is chosen greedily."""
    model = {"provider": provider, "name": "smollm2", "config": {"api_base": f"{url}/v1", "api_key": "none"}}
    if task != "embeddings":
        # The newer protocols know no seed; Anthropic's wants to be told the most tokens.
        model["parameters"] = {"temperature": 0, "max_tokens": 24} if provider in PROTOCOLS[1:] else GREEDY
    return {"name": name, "endpoint_type": f"llm/v1/{task}", "model": model, **more}


@pytest.fixture(scope="module")
def gate(llama):
    """A gateway in front of them."""
    endpoints = [endpoint(row, llama["chat"], provider=row) for row in dict.fromkeys([*ROWS, *PROTOCOLS])]
    endpoints.append(endpoint("complete", llama["chat"], task="completions"))
    endpoints.append(endpoint("embed", llama["embed"], task="embeddings"))
    gateway = Gateway("peers", {"endpoints": endpoints})
    yield gateway
    gateway.stop()


@pytest.fixture(params=PROTOCOLS)
def to(request):
    """An endpoint for each protocol."""
    return request.param


@pytest.fixture(params=DOORS, ids=lambda door: door.name)
def door(request, gate):
    """Each door in turn."""
    opened = request.param(gate)
    yield opened
    opened.close()


def ask(text=QUESTION, to="llama-cpp", only=None, **more):
    """A short chat request; `only` is what only this server knows."""
    request = rpc.ask(to, text, **{"max_tokens": 24, **more})
    if only:
        request.provider_options["llama-cpp"].update(only)
    return request


@pytest.mark.parametrize("row", dict.fromkeys([*ROWS, *PROTOCOLS]))
def test_chat(stub, row):
    """A true answer, the same whole and as a stream, with the server's own counts."""
    answer = both(stub, ask(to=row))
    assert "Paris" in said(answer) and answer.model == "smollm2"
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_STOP
    assert answer.usage.input_tokens > 5 and answer.usage.output_tokens > 5


def test_every_door_says_the_same(door, stub, to):
    """One text on every door, whole and in pieces, with the same counts."""
    known = both(stub, ask(to=to))
    stream = door.stream(to, QUESTION)
    pieces = list(stream)
    assert len(pieces) > 3 and stream.ended
    assert "".join(pieces) == door.whole(to, QUESTION) == said(known)
    assert stream.usage == (known.usage.input_tokens, known.usage.output_tokens)


@pytest.mark.parametrize("to", PROTOCOLS[:2])
def test_length(stub, to):
    """`max_tokens` is kept to the token."""
    answer = both(stub, ask("Tell me a long story.", to, max_tokens=5))
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_LENGTH
    assert answer.usage.output_tokens == 5


@pytest.mark.parametrize("to", PROTOCOLS[:2])
def test_stop(stub, to):
    """A stop sequence ends the answer and is not in it; only Anthropic's protocol says which one it was."""
    answer = both(stub, ask(to=to, stop=["France"]))
    assert said(answer).strip() == "The capital of"
    ends = {"anthropic": rpc.types.FINISH_REASON_STOP_SEQUENCE}
    assert answer.choices[0].finish_reason == ends.get(to, rpc.types.FINISH_REASON_STOP)


def test_sampling_is_seeded(stub):
    """Seeds reach the sampler: the same one gives the same text, others give others."""
    texts = [said(both(stub, ask("Name an animal.", max_tokens=8, temperature=1.5, seed=seed))) for seed in (1, 2, 3)]
    assert len(set(texts)) > 1


def test_logprobs(stub):
    """Every token's logarithm of probability, with its bytes and its rivals."""
    request = ask(logprobs=True, top_logprobs=2)
    whole, streamed = stub.Chat(request, timeout=rpc.SECONDS), joined(stub.StreamChat(request, timeout=rpc.SECONDS))
    tokens = streamed.choices[0].logprobs.content
    assert b"".join(token.bytes or token.token.encode() for token in tokens).decode() == said(whole)
    # The server tells the mark at the end of the text in whole answers only.
    assert [*whole.choices[0].logprobs.content][: len(tokens)] == [*tokens] and len(tokens) == whole.usage.output_tokens - 1
    assert all(token.logprob <= 0 and len(token.top) == 2 for token in tokens)
    assert all(token.top[0].logprob >= token.top[1].logprob for token in tokens)


def test_structured_output(stub):
    """A schema becomes the server's grammar: what comes back fits it, whatever the model would have said."""
    form = {"type": "RESPONSE_FORMAT_TYPE_JSON_SCHEMA", "name": "person", "schema": json.dumps(PERSON), "strict": True}
    answer = both(stub, ask("Describe Ann, aged 7.", max_tokens=64, response_format=form))
    person = json.loads(said(answer))
    assert set(person) == {"name", "age"} and 0 <= person["age"] <= 99


def weather(city, number):
    """A question, the model's call, and its result."""
    call = {"id": f"call_{number}", "name": "weather", "arguments": json.dumps({"city": city})}
    result = {"tool_call_id": call["id"], "parts": [{"text": {"text": "sunny"}}]}
    return [
        {"role": "ROLE_USER", "text": f"What is the weather in {city}?"},
        {"role": "ROLE_ASSISTANT", "parts": [{"tool_call": call}]},
        {"role": "ROLE_TOOL", "parts": [{"tool_result": result}]},
    ]


def with_tools(to, messages):
    """A request that offers one tool."""
    return rpc.chat.ChatRequest(endpoint=to, messages=messages, tools=[WEATHER], max_tokens=48)


def test_tools(stub, to):
    """The model, shown one call and its result, makes the next itself; shown the result of that one, it answers from it."""
    first, second = weather("Rome", 1), weather("Paris", 2)
    answer = both(stub, with_tools(to, [*first, second[0]]))
    assert [(name, json.loads(arguments)) for name, arguments in calls(answer)] == [("weather", {"city": "Paris"})]
    assert answer.choices[0].finish_reason == rpc.types.FINISH_REASON_TOOL_CALLS
    assert "sunny" in said(both(stub, with_tools(to, second)))


def test_provider_options(stub):
    """What only this server knows goes to it under the provider's name: a grammar that leaves one word."""
    assert said(both(stub, ask(only={"grammar": 'root ::= "Lyon"'}))) == "Lyon"


def test_completions(gate):
    """A prompt goes on, whole and in pieces."""
    with gate.channel() as channel:
        stub = rpc.completion_stub(channel)
        request = rpc.completion.CompleteRequest(endpoint="complete", prompts=["The capital of France is"], max_tokens=4)
        whole = stub.Complete(request, timeout=rpc.SECONDS)
        events = list(stub.StreamComplete(request, timeout=rpc.SECONDS))
    assert whole.choices[0].text.startswith(" Paris")
    assert "".join(event.delta.text for event in events) == whole.choices[0].text
    assert [event.usage for event in events if event.WhichOneof("event") == "usage"][-1] == whole.usage
    assert whole.usage.output_tokens == 4 and events[-1].WhichOneof("event") == "end"


def test_embeddings(gate):
    """Real vectors: like meanings are nearer than others."""
    texts = ["A cat sat on the mat.", "A kitten sat on the rug.", "Interest rates rose by two percent."]
    with gate.channel() as channel:
        request = rpc.embedding.EmbedRequest(endpoint="embed", inputs=texts)
        answer = rpc.embedding_stub(channel).Embed(request, timeout=rpc.SECONDS)
    cat, kitten, rates = ([*item.values] for item in answer.embeddings)
    assert len(cat) == 576 and answer.usage.input_tokens > 20
    assert product(cat, kitten) > product(cat, rates)


def product(one, other):
    """The product of two vectors, which llama.cpp gives the length 1."""
    return sum(a * b for a, b in zip(one, other))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_prompt_that_is_too_long(door, to, streamed):
    """The server's own words for it become the one class of error."""
    text = "word " * 3000
    with pytest.raises(Failed) as caught:
        list(door.stream(to, text)) if streamed else door.whole(to, text)
    assert caught.value.reason == "CALLER_CONTEXT_TOO_LONG"


def busy(url):
    """Whether the server is at work."""
    return any(slot["is_processing"] for slot in requests.get(f"{url}/slots", timeout=10).json())


def produced(url):
    """How many tokens the server has made."""
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("llamacpp:tokens_predicted_total ")))


def test_leaving_frees_the_server(stub, llama):
    """The client goes away in the middle: the server stops making tokens, long before it would have been done."""
    before = produced(llama["chat"])
    call = stub.StreamChat(ask("Count to one thousand.", max_tokens=900, only={"ignore_eos": True}), timeout=rpc.SECONDS)
    next(event for event in call if event.WhichOneof("event") == "delta")
    assert busy(llama["chat"])
    call.cancel()
    poll(lambda: not busy(llama["chat"]), 5, "the server to be free")
    assert produced(llama["chat"]) - before < 450


def test_the_sdk(gate):
    """The OpenAI SDK by the byte lane: the server's own fields arrive."""
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key=ANY_KEY, max_retries=0, timeout=rpc.SECONDS) as client:
        more = {"model": "llama-cpp", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12}
        whole = client.chat.completions.create(**more)
        chunks = list(client.chat.completions.create(**more, stream=True))
        text = client.completions.create(model="complete", prompt="The capital of France is", max_tokens=4)
        vectors = client.embeddings.create(model="embed", input=["a", "b"])
    assert "Paris" in whole.choices[0].message.content and whole.timings["predicted_n"] == whole.usage.completion_tokens
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert text.choices[0].text.startswith(" Paris") and len(vectors.data) == 2


def test_a_server_that_is_loading(llama):
    """503 while the model loads: the provider is unavailable, a fallback serves meanwhile, and the server serves as soon as it can."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    spare, once = endpoint("spare", llama["chat"]), {"retry": {"attempts": 1}}
    config = {"endpoints": [endpoint("new", url, **once), endpoint("safe", url, **once, fallback="spare"), spare]}
    gateway = Gateway("loading", config)
    program = start("chat", port)
    try:
        with gateway.channel() as channel:
            stub = rpc.chat_stub(channel)
            poll(lambda: loading(url), 20, "the server to listen")
            detail = rpc.details(rpc.failure(lambda: stub.Chat(ask(to="new"), timeout=rpc.SECONDS)))
            assert (detail.reason, detail.metadata["upstream_status"]) == ("PROVIDER_UNAVAILABLE", "503")
            assert "Paris" in said(stub.Chat(ask(to="safe"), timeout=rpc.SECONDS))
            program.wait_for(f"{url}/health")
            assert "Paris" in said(both(stub, ask(to="new")))
    finally:
        gateway.stop()
        program.stop()


def loading(url):
    """Whether the server listens and says that it is loading."""
    try:
        return requests.get(f"{url}/health", timeout=5).status_code == 503
    except requests.ConnectionError:
        return False
