#!/usr/bin/env python3
"""Writes what a fuzz target begins with: the golden fixtures, in the form that the target reads, and a dictionary of their words.

    seeds.py TARGET FOLDER DESTINATION

FOLDER is the one of the dialect below `server/src/dialect`.
"""

import collections
import hashlib
import itertools
import json
import pathlib
import re
import struct
import sys
import zlib

SOURCES = pathlib.Path(__file__).resolve().parent.parent / "server/src"
DIALECTS = SOURCES / "dialect"
NATIVE, SCORING = SOURCES / "mlflow/native", SOURCES / "mlflow/scoring/testdata"
UNARY, STREAM, FAILURE, REQUEST = range(4)
TASKS = ["chat", "complete", "embed", "predict"]
BYTE_LANE = 16
# As in `rows.rs`.
MODELS = ["m", "claude", "-maas", "text-embedding-005", "titan-embed", "cohere.embed-v4", "gemini-embedding-2", "nova"]
STATUSES = [400, 401, 403, 404, 413, 429, 500, 529]
# The folders of golden models, as `models.rs` names them.
FOLDERS = re.findall(r'"(\w+)"', (SOURCES.parent.parent / "fuzz/src/models.rs").read_text().split("const FOLDERS")[1].split("];")[0])
# Types that a model may announce, as in `inference.rs`.
DATATYPES = 14
# The longest input that libFuzzer is let make.
LONGEST = 65536
MOST_WORDS = 400


def text(body):
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)


def bodies(path, folder):
    """What a file holds, and how a target reads it."""
    if path.stem == "response":
        yield UNARY, path.read_bytes()
    elif path.name == "request.json":
        yield REQUEST, path.read_bytes()
    elif path.name == "failure.json":
        failure = json.loads(path.read_text())
        status = STATUSES.index(failure["status"]) if failure["status"] in STATUSES else 0
        yield FAILURE, bytes([status]) + text(failure["body"]).encode()
    elif path.name == "stream.jsonl":
        events = [json.loads(line) for line in filter(None, path.read_text().splitlines())]
        # A stream within the event stream has frames of its own, in one of two framings.
        forms = [("data: ", "\n\n"), ("", "\n")] if folder == "sagemaker" else [(None, "\n")]
        for lead, end in forms:
            named = [("!" if event.get("exception") else "") + event["name"] + " " for event in events]
            leads = [name if lead is None or event.get("exception") else lead for name, event in zip(named, events)]
            yield STREAM, "".join(lead + text(event["data"]) + end for lead, event in zip(leads, events)).encode()
    elif path.stem == "stream":
        yield STREAM, path.read_bytes()


def of_dialect(folder):
    """The fixtures of a dialect with golden cases."""
    for case in sorted(path for path in (DIALECTS / folder / "testdata").iterdir() if path.is_dir()):
        told = json.loads((case / "case.json").read_text()) if (case / "case.json").exists() else {}
        task = TASKS.index(told.get("task", case.name.split("_")[0])) << 2
        model = next((n for n, name in enumerate(MODELS) if n and name in told.get("model", "")), 0)
        # Where a case names no model that makes vectors, all of them are tried.
        models = range(len(MODELS)) if task == TASKS.index("embed") << 2 and not model else [model]
        variants = [8 * model + choice for model in models for choice in (range(4) if told.get("settings") else [0])]
        for path in sorted(case.iterdir()):
            for how, body in bodies(path, folder):
                for variant in variants:
                    yield bytes([how | task, variant]) + body
                    if how in (UNARY, STREAM):
                        yield bytes([how | task | BYTE_LANE, variant]) + body


def of_scoring(files, lead):
    """The lines of the scoring protocol's tables."""
    for name in files:
        for line in (DIALECTS / "scoring/testdata" / name).read_text().splitlines():
            if not line.startswith("> {"):
                continue
            body = json.loads(line[2:]).get("body")
            if isinstance(body, str):
                for start in lead:
                    yield bytes(start) + body.encode()


def of_door():
    for path in sorted((DIALECTS / "openai/testdata").glob("*/upstream.http")):
        head, _, body = path.read_text().partition("\n\n")
        task = 2 if "/embeddings" in head else 0 if "/chat/" in head else 1
        yield bytes([task]) + body.encode()


def message(kind, payload):
    """A message of an AWS event stream."""
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in ((b":event-type", kind), (b":message-type", b"event"))
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    whole = prelude + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def of_framers():
    for path in sorted(DIALECTS.glob("*/testdata/*/stream.*"))[::5]:
        body = path.read_bytes()[:4096]
        halves = [body[: len(body) // 2], body[len(body) // 2 :]]
        outer = b"".join(message(b"PayloadPart", half) for half in halves)
        for which, text in ((0, body), (1, body), (2, outer), (3, outer), (4, outer)):
            yield bytes([which, 7]) + text


def varint(number):
    """A number of protobuf's."""
    number &= (1 << 64) - 1
    head, rest = number & 127, number >> 7
    return bytes([head | 128]) + varint(rest) if rest else bytes([head])


def field(number, value):
    """A field of protobuf's: a number, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


# Of each datatype: its name, the field of `contents`, elements in JSON, in a list of the message, and as bytes; two of each.
TENSORS = [
    ("BOOL", 1, [True, False], b"\1\0", b"\1\0"),
    ("INT8", 2, [-1, 2], varint(-1) + varint(2), b"\xff\2"),
    ("INT16", 2, [-1, 2], varint(-1) + varint(2), struct.pack("<2h", -1, 2)),
    ("INT32", 2, [-1, 2], varint(-1) + varint(2), struct.pack("<2i", -1, 2)),
    ("INT64", 3, [-1, 2**53 + 1], varint(-1) + varint(2**53 + 1), struct.pack("<2q", -1, 2**53 + 1)),
    ("UINT8", 4, [1, 255], b"\1\xff\1", b"\1\xff"),
    ("UINT64", 5, [1, 2**64 - 1], varint(1) + varint(2**64 - 1), struct.pack("<2Q", 1, 2**64 - 1)),
    ("FP16", None, [0.5, -1], None, b"\0\x38\0\xbc"),
    ("FP32", 6, [0.5, -1], struct.pack("<2f", 0.5, -1), struct.pack("<2f", 0.5, -1)),
    ("FP64", 7, [0.1, 1e300], struct.pack("<2d", 0.1, 1e300), struct.pack("<2d", 0.1, 1e300)),
    ("BYTES", 8, ["a", "é"], None, b"\1\0\0\0a\2\0\0\0\xc3\xa9"),
]


def announced(request):
    """A request, and what the model announces of its answer."""
    return (bytes([first]) + request for first in (0, 128, *range(DATATYPES)[1:], DATATYPES))


def of_inference(form):
    """Requests of the Open Inference Protocol, or answers, whose message has its fields elsewhere."""
    for name, at, elements, listed, raw in TENSORS:
        if form == "rest":
            tensor = {"name": "x", "datatype": name, "shape": [2, 1], "parameters": {"content_type": "np"}}
            plain = {"id": "7", "parameters": {"k": 1.5, "t": "x", "b": True}, "inputs": [{**tensor, "data": [[one] for one in elements]}]}
            yield from announced(b"\0\0" + json.dumps(plain).encode())
            sized = {**tensor, "parameters": {"binary_data_size": len(raw)}}
            wanted = [{"name": "x", "parameters": {"binary_data": True}}]
            head = json.dumps({"inputs": [sized, {**sized, "name": "y"}], "outputs": wanted}).encode()
            yield from announced(struct.pack(">H", len(head)) + head + raw + raw)
            continue
        tensor = field(1, b"x") + field(2, name.encode()) + field(3, varint(2) + varint(1))
        # Where the tensors and their bytes stand in a request, and in an answer.
        tensors, bytes_at = (5, 7) if form == "request" else (5, 6)
        start = field(1, b"m") + field(3, b"7")
        # As in `scoring`, each form of predictions.
        leads = announced if form == "request" else lambda message: (bytes([form]) + message for form in range(5))
        parameter = field(4, field(1, b"k") + field(2, field(2, 5))) if form == "request" else b""
        yield from leads(start + parameter + field(tensors, tensor) + field(bytes_at, raw))
        yield from leads(start + field(tensors, tensor) + field(tensors, tensor.replace(b"x", b"y")) + 2 * field(bytes_at, raw))
        if at:
            contents = field(at, listed) if listed else b"".join(field(at, text.encode()) for text in elements)
            yield from leads(start + field(tensors, tensor + field(5, contents)))


def of_batches():
    """Bodies beside themselves, and answers."""
    for body in of_scoring(["door.txt", "requests.txt"], [b""]):
        yield body + b"\0" + body
    for path in sorted(SCORING.glob("*/cases.jsonl")):
        for line in path.read_text().splitlines():
            body = json.loads(line)["body"].encode()
            yield body + b"\0" + body
    yield from of_scoring(["answers.txt"], [b"\0"])
    for answer in ('{"predictions": [1.50, NaN, "]"]}', '{"predictions": {"a": [1, 2, 3], "b": [[], [{}], null]}}', "[[1], [2], [3]]"):
        yield b"\0" + answer.encode()


def of_models(pattern, leads, root=NATIVE):
    """Files of models."""
    for path in sorted(root.glob(pattern)):
        body = path.read_bytes()
        if len(body) < LONGEST:
            for lead in leads:
                yield lead + body


def of_operators():
    """An ONNX model of each operator, given a matrix of each type and constants, whether it takes them or not."""
    source = (NATIVE / "operators/mod.rs").read_text()
    domains = {"arithmetic": b"", "tensor": b"", "learned": b"ai.onnx.ml", "contributed": b"com.microsoft"}
    shape = field(1, b"") + field(1, field(1, 4))
    for function, domain in domains.items():
        body = source.split(f"fn {function}(")[1].split("\nfn ")[0]
        for operator in re.findall(r'"([A-Z]\w+)"', body) + (["ReduceMean"] if function == "arithmetic" else []):
            # `float`, `int64`, `string` and `bool`.
            for code, inputs in itertools.product((1, 7, 8, 9), ("x", "xx", "xn", "xnn", "n", "nn", "xxx", "nnx")):
                node = b"".join(field(1, name.encode()) for name in inputs) + field(2, b"y") + field(4, operator.encode()) + field(7, domain)
                given = field(1, b"x") + field(2, field(1, field(1, code) + field(2, shape)))
                constant = field(1, 2) + field(2, 7) + field(7, varint(0) + varint(1)) + field(8, b"n")
                graph = field(1, node) + field(5, constant) + field(11, given) + field(12, field(1, b"y"))
                versions = field(8, field(2, 18)) + field(8, field(1, b"ai.onnx.ml") + field(2, 3))
                yield b"\2" + field(7, graph) + versions


def of_tensors(*tensors):
    """A request with tensors: their names, shapes, types by number, and elements."""
    packed = [
        field(1, name.encode()) + field(2, kind) + field(3, bytes(shape)) + field(4, data) for name, shape, kind, data in tensors
    ]
    return field(7, b"".join(field(1, tensor) for tensor in packed))


def of_bodies():
    """What golden models were asked, and the contract's own messages."""
    singles, doubles = struct.pack("<4f", 0.5, 1.5, float("nan"), -2), struct.pack("<2d", 0.5, float("inf"))
    messages = [
        of_tensors(("", [1, 4], 10, singles)),
        of_tensors(("x", [4], 10, singles)),
        of_tensors(*((name, [2], 11, doubles) for name in "abcd")),
        of_tensors(("a", [2, 1], 5, bytes(16)), ("b", [], 1, b"\1"), ("c", [0], 9, b""), ("d", [2], 13, bytes(4))),
        field(7, field(1, field(2, 12) + field(3, b"\2") + field(5, b"a") + field(5, b"b"))),
    ]
    for number, name in enumerate(FOLDERS):
        yield from (bytes([number, 2]) + message for message in messages)
        for line in (SCORING / name / "cases.jsonl").read_text().splitlines():
            case = json.loads(line)
            yield bytes([number, "csv" in case["type"]]) + case["body"].encode()


# Targets whose seeds are no fixtures of a dialect.
OTHERS = {
    "door-oip": lambda: of_inference("request"),
    "door-oip-rest": lambda: of_inference("rest"),
    "oip-answers": lambda: of_inference("answer"),
    "batches": of_batches,
    "model-onnx": lambda: [*of_models("**/model.onnx", [b"\2"]), *of_models("onnx*/model.onnx", [b"\2"], SCORING), *of_operators()],
    "model-xgboost": lambda: of_models("trees/testdata/xgboost*/model.*", [b"\0", b"\1"]),
    "model-lightgbm": lambda: of_models("trees/testdata/lightgbm*/model.*", [b""]),
    "model-file": lambda: [
        *(seed for number, name in enumerate(FOLDERS) for seed in of_models(f"{name}/MLmodel", [bytes([number])], SCORING)),
        *of_models("*.yaml", [b"\0"], SOURCES / "mlflow/model_file/testdata"),
    ],
    "model-body": of_bodies,
}


def seeds(target, folder):
    if target in OTHERS:
        return OTHERS[target]()
    if target == "framers":
        return of_framers()
    if target == "door-openai":
        return of_door()
    if target == "door-scoring":
        return of_scoring(["door.txt"], [[kind] for kind in range(4)])
    if folder == "scoring":
        answers = [[UNARY | 3 << 2, 8 * form] for form in range(5)]
        failures = [[FAILURE | 3 << 2, 0, 0], [FAILURE | 3 << 2, 0, 6]]
        return [*of_scoring(["answers.txt"], answers), *of_scoring(["errors.txt"], failures)]
    return of_dialect(folder)


def main():
    target, folder, destination = sys.argv[1:]
    destination = pathlib.Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    words = {b"[DONE]", b"null", b"true", b"1e308", b"-1", b"18446744073709551615"}
    bare = collections.Counter()
    count = 0
    for seed in seeds(target, folder):
        (destination / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
        words.update(re.findall(rb'"[A-Za-z_.:-]{1,32}"', seed))
        # What is no JSON has its words without quotes.
        bare.update(set(re.findall(rb"[A-Za-z_]{3,24}", seed)) if target in OTHERS else ())
        count += 1
    assert count, f"no seeds for {target}"
    words.update(word for word, _ in bare.most_common(MOST_WORDS))
    escaped = sorted(word.replace(b'"', b'\\"').decode() for word in words)
    destination.with_suffix(".dict").write_text("".join(f'"{word}"\n' for word in escaped))


main()
