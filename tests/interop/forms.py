"""Request forms of MLflow's scoring protocol, to be sent to a scoring server and through Flowgate side by side."""

import io
import json
from dataclasses import dataclass

import pandas as pd

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROWS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]]
RECORDS = [dict(zip(COLUMNS, row)) for row in ROWS]
BY_COLUMN = {name: [row[place] for row in ROWS] for place, name in enumerate(COLUMNS)}
CSV = ",".join(COLUMNS) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
BIG = 9007199254740993  # 2^53 + 1: lost by whatever reads JSON numbers as doubles

TYPED = {
    "boolean": True,
    "integer": 7,
    "long": BIG,
    "float": 1.5,
    "double": 2.5,
    "string": "zwölf",
    "binary": "aGVsbG8=",
    "datetime": "2024-01-02T03:04:05",
}


@dataclass(frozen=True)
class Form:
    """One request. `fails` is the status at Flowgate's door, None where the answer is a success."""

    name: str
    model: str
    body: bytes
    content_type: str | None = "application/json"
    fails: int | None = None

    @property
    def headers(self):
        """The content type, if there is one."""
        return {"content-type": self.content_type} if self.content_type else {}


def split(columns, data, **more):
    """A `dataframe_split` body."""
    return {"dataframe_split": {"columns": columns, "data": data}, **more}


def parquet(frame):
    """The frame as Parquet."""
    out = io.BytesIO()
    frame.to_parquet(out)
    return out.getvalue()


def ok(name, model, body, content_type="application/json"):
    """A form that succeeds; a body that is not bytes is written as JSON."""
    return Form(name, model, body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)


def bad(name, model, body, content_type="application/json", fails=400):
    """A form that fails."""
    form = ok(name, model, body, content_type)
    return Form(form.name, form.model, form.body, form.content_type, fails)


RAISED = 500  # the scoring server says 400; that the model raised is not the caller's mistake
MEDIA = 415

SUCCEED = [
    ok("split", "iris", split(COLUMNS, ROWS)),
    ok("split with index", "iris", {"dataframe_split": {"columns": COLUMNS, "index": [4, 5, 6], "data": ROWS}}),
    ok("split in another order", "iris", split(COLUMNS[::-1], [row[::-1] for row in ROWS])),
    ok("split with an extra column", "iris", split([*COLUMNS, "colour"], [[*row, "blue"] for row in ROWS])),
    ok("split of whole numbers", "iris", split(COLUMNS, [[5, 3, 1, 0]])),
    ok("split of numbers as text", "iris", split(COLUMNS, [["5.1", "3.5", "1.4", "0.2"]])),
    ok("records", "iris", {"dataframe_records": RECORDS}),
    ok("instances by row", "iris", {"instances": RECORDS}),
    ok("inputs by column", "iris", {"inputs": BY_COLUMN}),
    ok("keys that MLflow drops", "iris", {"dataframe_records": RECORDS, "comment": "dropped"}),
    ok("params without a schema", "iris", {"dataframe_records": RECORDS, "params": {"factor": 2}}),
    ok("charset", "iris", {"dataframe_records": RECORDS}, "application/json; charset=utf-8"),
    ok("csv", "iris", CSV.encode(), "text/csv"),
    ok("csv with charset", "iris", CSV.encode(), "text/csv; charset=utf-8"),
    ok("parquet", "iris", parquet(pd.DataFrame(RECORDS)), "application/vnd.apache.parquet"),
    ok("every type", "types", {"dataframe_records": [TYPED]}),
    ok("every type, split", "types", split(list(TYPED), [list(TYPED.values())])),
    ok("every type, by column", "types", {"inputs": {name: [value] for name, value in TYPED.items()}}),
    ok("optional columns", "types", {"dataframe_records": [TYPED | {f"maybe_{k}": v for k, v in TYPED.items()}]}),
    ok("optional nulls", "types", {"dataframe_records": [TYPED | {"maybe_string": None, "maybe_double": None}]}),
    ok("int32 overflow, which MLflow wraps", "types", {"dataframe_records": [TYPED | {"integer": 3000000000}]}),
    ok("tensor as inputs", "tensor", {"inputs": [[1, 2, 3], [4, 5, 6]]}),
    ok("tensor as instances", "tensor", {"instances": [[1, 2, 3]]}),
    ok("params", "params", {"inputs": {"x": [1.5]}, "params": {"factor": 3.0, "label": "q", "tags": ["t"]}}),
    ok("params left out", "params", {"inputs": {"x": [1.5]}}),
    ok("unknown params", "params", {"inputs": {"x": [1.5]}, "params": {"nobody": 1}}),
    ok("an int64 beyond 2^53", "fragile", {"dataframe_records": [{"x": 1}]}),
    ok("an answer of NaN", "fragile", {"dataframe_records": [{"x": 0}]}),
    ok("unified LLM form", "said", {"messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}),
]

FAIL = [
    bad("a missing column", "iris", split(COLUMNS[:3], [ROWS[0][:3]])),
    bad("text for a number", "iris", split(COLUMNS, [["a", 3.5, 1.4, 0.2]])),
    bad("unnamed rows for named columns", "iris", {"instances": ROWS}),
    bad("bad JSON", "iris", b'{"dataframe_split": '),
    bad("no body", "iris", b""),
    bad("a JSON list", "iris", [1, 2]),
    bad("no form", "iris", {"rows": ROWS}),
    bad("two forms", "iris", {"instances": RECORDS, "inputs": BY_COLUMN}),
    bad("records that are an object", "iris", {"dataframe_records": RECORDS[0]}),
    bad("split without data", "iris", {"dataframe_split": {"columns": COLUMNS}}),
    bad("bad parquet", "iris", b"PAR1 not parquet", "application/vnd.apache.parquet"),
    bad("bad CSV", "iris", b"a\n1,2\n1,2,3\n", "text/csv"),
    bad("a CSV row too short for the model", "iris", CSV.encode() + b"5.1,3.5\n", "text/csv", RAISED),
    bad("another content type", "iris", b"<rows/>", "application/xml", MEDIA),
    bad("another charset", "iris", {"inputs": BY_COLUMN}, "application/json; charset=latin1", MEDIA),
    bad("no content type", "iris", {"inputs": BY_COLUMN}, None, MEDIA),
    bad("a null where the model raises", "iris", split(COLUMNS, [[None, 3.5, 1.4, 0.2]]), fails=RAISED),
    bad("a null in a required integer", "types", {"dataframe_records": [TYPED | {"long": None}]}),
    bad("a time zone", "types", {"dataframe_records": [TYPED | {"datetime": "2024-01-02T03:04:05+02:00"}]}),
    bad("the wrong shape", "tensor", {"inputs": [[1, 2]]}),
    bad("a parameter of the wrong type", "params", {"inputs": {"x": [1.5]}, "params": {"factor": "z"}}),
    bad("an exception in the model", "fragile", {"dataframe_records": [{"x": 13}]}, fails=RAISED),
    bad("an exception in an LLM model", "said", {"prompt": "no messages"}, fails=RAISED),
]
