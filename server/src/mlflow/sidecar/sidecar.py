"""Serves one MLflow model to the gateway that has started this process, by HTTP/1.1 on a Unix socket in a private folder.

What a request means is left to MLflow's own scoring server; this adds streams, tells a model's faults from bad input, and keeps
`/ping` answering whatever the model does. Nothing is imported but Python's own library and MLflow, of any version from 2 on.
"""

import argparse
import asyncio
import contextlib
import fcntl
import functools
import http.client
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

# The socket's name in the folder. It is there once the model is loaded.
SOCKET = "s"
# What is there as soon as this runs in the Python that is to run the model, which MLflow may have to make before.
BEGUN = "begun"
MOST_HEAD = 64 << 10
# Pieces of a stream that are written but not sent yet.
MOST_UNSENT = 64
JSON = "application/json"
CSV = "text/csv"
EVENTS = "text/event-stream"
# Bodies with one of these are the model's input as they are.
LLM_FIELDS = ("messages", "prompt", "input")
# What asks for explanations, and what the gateway knows a refusal of it by.
EXPLAIN = "explain"
NO_EXPLANATIONS = "This model gives no explanations"
# What MLflow makes of a call that was cancelled: the model says so, not the caller.
NOBODY_WAITS = 499
# What a call is at, by which a failure is the caller's or the model's.
READING, RUNNING, WRITING = "reading", "running", "writing"

Request = namedtuple("Request", "method path headers body")
Answer = namedtuple("Answer", "status content_type body")


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Unusable(Exception):
    """What keeps the model from being served, in words for the operator."""


def failure(status, code, message):
    """An answer in the form of MLflow's errors."""
    return Answer(status, JSON, json.dumps({"error_code": code, "message": message}).encode())


def in_one_line(error):
    """An exception in few words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


class Served:
    """A loaded model, and how MLflow reads requests for it and writes answers."""

    def __init__(self, path):
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
            from mlflow.pyfunc import scoring_server
        except ImportError as error:
            raise Unusable(
                f"{sys.executable} cannot import MLflow ({in_one_line(error)}); install it there, or set `mlflow.python` or `env_manager`"
            ) from error
        self.scoring, self.MlflowException, self.version = scoring_server, MlflowException, mlflow.__version__
        if "MLFLOW_TRACKING_URI" not in os.environ and hasattr(mlflow, "tracing"):
            # Else models that trace themselves would write to a database of their own.
            mlflow.tracing.disable()
        os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
        load = getattr(scoring_server, "load_model_with_mlflow_config", mlflow.pyfunc.load_model)
        self.model = load(path)
        self.schema = self.model.metadata.get_input_schema()
        self.call = threading.local()
        self.is_streamable = getattr(self.model, "_predict_stream_fn", None) is not None
        # It says this of whatever it refuses, whether or not anybody has used `instances`.
        logging.getLogger("mlflow.pyfunc.scoring_server").addFilter(lambda said: not str(said.msg).startswith("If using `instances`"))
        for name in ("predict", "predict_stream"):
            self.guard(name)
        self.watch(self.model, "_predict_fn", RUNNING, WRITING)
        self.watch(self.model, "_predict_stream_fn", RUNNING, RUNNING)
        # What turns a request into the model's own types, for models that have such.
        self.watch(getattr(self.model, "_model_impl", None), "_convert_input", READING, RUNNING)
        self.flask = None
        if not hasattr(scoring_server, "invocations"):
            # Before MLflow 2.7 only its application knew how.
            self.flask = scoring_server.init(self.model)

    def guard(self, name):
        """Refuses what asks for explanations where the model does not take that: MLflow would leave it out, and answer without."""
        asked = getattr(self.model, name, None)
        schema = getattr(self.model.metadata, "get_params_schema", lambda: None)()
        if asked is None or any(param.name == EXPLAIN for param in getattr(schema, "params", ())):
            return

        # MLflow looks at the signature.
        @functools.wraps(asked)
        def guarded(*args, **kwargs):
            params = kwargs.get("params")
            if isinstance(params, dict) and params.get(EXPLAIN):
                raise self.MlflowException.invalid_parameter_value(
                    f"{NO_EXPLANATIONS}: its signature has no parameter `{EXPLAIN}`"
                )
            return asked(*args, **kwargs)

        setattr(self.model, name, guarded)

    def watch(self, owner, name, during, after):
        """Notes when a call of the model reaches a function and comes back from it."""
        watched = getattr(owner, name, None)
        if watched is None:
            return

        # MLflow looks at the signature.
        @functools.wraps(watched)
        def watching(*args, **kwargs):
            self.call.at = during
            result = watched(*args, **kwargs)
            self.call.at = after
            return result

        setattr(owner, name, watching)

    def predict(self, request):
        """The whole answer to a scoring request."""
        self.call.at = READING
        content_type = request.headers.get("content-type", "")
        media_type = content_type.split(";")[0].strip()
        if media_type not in self.scoring.CONTENT_TYPES:
            known = ", ".join(self.scoring.CONTENT_TYPES)
            return Answer(415, "text/plain", f"This predictor only supports the following content types: {known}.".encode())
        try:
            if self.flask is not None:
                answer = self.flask.test_client().post("/invocations", data=request.body, content_type=content_type)
                if answer.status_code == 200:
                    return Answer(200, answer.mimetype, answer.data)
                if self.call.at != READING:
                    return self.raised("an exception")
                return self.refused(answer.status_code, json.loads(answer.data))
            # Some versions want text here, and none minds it.
            body = request.body.decode() if media_type == CSV else request.body
            told = self.scoring.invocations(body, content_type, self.model, self.schema)
            return Answer(told.status, told.mimetype, told.response.encode())
        except BaseException as error:  # a model may even call `exit`
            return self.failed(error)

    def wants_stream(self, request):
        """Whether an answer is asked for piece by piece that can be given so. Only the gateway asks, and it knows what it can pass on: a
        body's own `stream` is the model's business, as it is in MLflow's server."""
        is_json = request.headers.get("content-type", "").startswith(JSON)
        return self.is_streamable and is_json and EVENTS in request.headers.get("accept", "")

    def read(self, body):
        """The model's input and parameters."""
        scoring = self.scoring
        if hasattr(scoring, "_parse_json_data"):
            parsed = scoring._parse_json_data(body, self.model.metadata, self.schema)
            return parsed.data, parsed.params
        asked = scoring._decode_json_input(body)
        if any(field in asked for field in LLM_FIELDS):
            return scoring._split_data_and_params_for_llm_input(asked, self.model.metadata.get_params_schema())
        inputs, params = scoring._split_data_and_params(asked)
        return scoring.infer_and_parse_data(inputs, self.schema), params

    def stream(self, request):
        """The pieces of a streamed answer as JSON, as they come."""
        self.call.at = READING
        inputs, params = self.read(request.body)
        pieces = self.model.predict_stream(inputs, params=params)
        try:
            for piece in pieces:
                self.call.at = WRITING
                written = json.dumps(
                    self.scoring._get_jsonable_obj(piece, pandas_orient="records"), cls=self.scoring.NumpyEncoder
                )
                self.call.at = RUNNING
                yield written.encode()
        finally:
            # The model's own `finally` runs now, and not when somebody collects the generator.
            getattr(pieces, "close", lambda: None)()

    def has_no_stream(self, error):
        """Whether the model has whole answers only. MLflow takes its own kinds of models for streamable, and they say so when asked."""
        return isinstance(error, NotImplementedError) or isinstance(error.__context__, NotImplementedError)

    def failed(self, error):
        """The answer to a call that came to an exception: 4xx for bad input, 500 for the model's fault."""
        is_told = isinstance(error, self.MlflowException)
        at = getattr(self.call, "at", READING)
        # MLflow tells of whatever a model raises as if it were bad input, and has the cause beside it.
        cause = error.__context__ if is_told and "unexpected error while evaluating" in error.message else error
        if at != READING and not (isinstance(cause, self.MlflowException) and at == RUNNING):
            sys.stderr.write("".join(traceback.format_exception(type(cause), cause, cause.__traceback__)))
            return self.raised(type(cause).__name__) if at == RUNNING else self.raised("no JSON as its answer")
        if not is_told or cause is not error:
            return failure(400, "BAD_REQUEST", f"Invalid input. The model cannot take it. Error: '{cause}'")
        return self.refused(error.get_http_status_code(), json.loads(error.serialize_as_json()))

    def refused(self, status, told):
        """The answer to a request that MLflow, or the model in MLflow's words, does not take."""
        told.pop("stack_trace", None)
        if self.call.at == READING and status >= 500:
            status, told["error_code"] = 400, "BAD_REQUEST"
        if not 400 <= status < 600 or status == NOBODY_WAITS:
            return self.raised("an exception")
        return Answer(status, JSON, json.dumps(told).encode())

    def raised(self, what):
        """The answer where the model is at fault. The gateway knows it by how the message begins."""
        return failure(500, "INTERNAL_ERROR", f"Failed to predict data: the model raised {what}; its log says more")


class Threads:
    """What the model runs on. A call that nobody waits for any more keeps its thread, since Python cannot end one; when all are lost so,
    only a new process helps."""

    def __init__(self, calls, patience, leave):
        self.pool = ThreadPoolExecutor(calls, thread_name_prefix="call")
        self.calls, self.patience, self.leave = calls, patience, leave
        self.loop = asyncio.get_running_loop()
        self.stuck, self.alarm = 0, None

    def run(self, work, *arguments):
        """Has a thread do it, in its turn."""
        return self.pool.submit(work, *arguments)

    def abandon(self, call):
        """Nobody waits for a call any more."""
        # What waits for a thread never gets one.
        if call.cancel() or call.done():
            return
        self.stuck += 1
        call.add_done_callback(lambda _: self.loop.call_soon_threadsafe(self.back))
        if self.stuck == self.calls:
            self.alarm = self.loop.call_later(self.patience, self.give_up)

    def back(self):
        """A thread has come back."""
        self.stuck -= 1
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None

    def give_up(self):
        sys.stderr.write(f"all {self.calls} threads are in calls that nobody waits for any more; the process ends, to be started anew\n")
        self.leave(70)


class Connection(asyncio.Protocol):
    """One connection of the gateway, with one request at a time."""

    def __init__(self, served, threads):
        self.served, self.threads = served, threads
        self.loop = asyncio.get_running_loop()
        self.transport, self.task, self.call = None, None, None
        self.received = bytearray()
        self.head = None
        self.is_gone = False
        self.writable = threading.Event()
        self.writable.set()
        self.unsent = threading.BoundedSemaphore(MOST_UNSENT)

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        self.advance()

    def connection_lost(self, error):
        self.is_gone = True
        self.writable.set()
        if self.call is not None:
            # What runs finds out when it writes.
            self.threads.abandon(self.call)

    def pause_writing(self):
        self.writable.clear()

    def resume_writing(self):
        self.writable.set()

    def advance(self):
        """Starts on a request when all of it is there."""
        if self.task is not None or self.is_gone:
            return
        if self.head is None:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                if len(self.received) > MOST_HEAD:
                    self.refuse(431)
                return
            try:
                self.head = read_head(bytes(self.received[:end]))
            except (ValueError, IndexError):
                self.refuse(400)
                return
            del self.received[: end + 4]
        length = self.head[-1]
        if len(self.received) < length:
            return
        method, path, headers, _ = self.head
        request = Request(method, path, headers, bytes(self.received[:length]))
        del self.received[:length]
        self.head = None
        self.task = self.loop.create_task(self.serve(request))

    async def serve(self, request):
        """Answers a request, and goes on to the next."""
        try:
            answer = await self.answer(request)
        except asyncio.CancelledError:
            return
        except Exception:
            traceback.print_exc()
            answer = self.served.raised("an exception")
        if answer is not None and not self.is_gone:
            self.transport.write(head(answer.status, answer.content_type, len(answer.body)) + answer.body)
        self.task = None
        self.advance()

    async def answer(self, request):
        """The answer to a request; None when it is written already."""
        path = request.path.split("?")[0]
        if path in ("/ping", "/health"):
            return Answer(200, JSON, b"\n")
        if path == "/version":
            return Answer(200, JSON, self.served.version.encode())
        if path != "/invocations":
            return failure(404, "ENDPOINT_NOT_FOUND", "There is /invocations, /ping, /health and /version.")
        if request.method != "POST":
            return failure(405, "BAD_REQUEST", "Send a POST.")
        self.call = self.threads.run(self.run, request)
        try:
            return await asyncio.wrap_future(self.call)
        finally:
            self.call = None

    def run(self, request):
        """Has the model answer, on a thread."""
        try:
            return self.stream(request) if self.served.wants_stream(request) else self.served.predict(request)
        except BaseException:  # a model's generator may raise even when it is closed
            traceback.print_exc()
            return self.served.raised("an exception at its end")

    def stream(self, request):
        """Writes a streamed answer. The status waits for the first piece."""
        pieces, is_begun = self.served.stream(request), False
        try:
            for piece in pieces:
                self.write(b"" if is_begun else head(200, EVENTS, None), piece)
                is_begun = True
            self.write(b"" if is_begun else head(200, EVENTS, None), b"[DONE]", b"0\r\n\r\n")
        except Gone:
            pass
        except BaseException as error:
            if not is_begun and self.served.has_no_stream(error):
                return self.served.predict(request)
            answer = self.served.failed(error)
            if not is_begun:
                return answer
            self.write_error(answer)
        finally:
            pieces.close()
        return None

    def write_error(self, answer):
        """Ends a stream that has begun with an error in its place."""
        told = json.loads(answer.body)
        error = {"message": told["message"], "type": told["error_code"], "code": answer.status}
        try:
            self.write(b"", json.dumps({"error": error}).encode(), b"0\r\n\r\n")
        except Gone:
            pass

    def write(self, before, piece, after=b""):
        """Sends an event, in its turn and when there is room."""
        self.writable.wait()
        self.unsent.acquire()
        if self.is_gone:
            self.unsent.release()
            raise Gone
        event = b"data: " + piece + b"\n\n"
        self.loop.call_soon_threadsafe(self.send, before + b"%x\r\n" % len(event) + event + b"\r\n" + after)

    def send(self, piece):
        self.unsent.release()
        if not self.is_gone:
            self.transport.write(piece)

    def refuse(self, status):
        """Answers what is no request, and hangs up."""
        self.transport.write(head(status, JSON, 0))
        self.transport.close()


def read_head(text):
    """Method, path, headers and length of a request."""
    first, *lines = text.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, value = line.split(":", 1)
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise ValueError("a body without a length")
    length = int(headers.get("content-length", "0"))
    if length < 0:
        raise ValueError("a negative length")
    return method, path, headers, length


def head(status, content_type, length):
    """The head of an answer; without a length it comes in chunks."""
    if content_type == "text/plain":
        content_type += "; charset=utf-8"
    how = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    phrase = http.client.responses.get(status, "Unknown")
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-type: {content_type}\r\n{how}\r\n\r\n".encode("latin-1")


async def serve(folder, served, calls, patience):
    """Serves for ever."""
    loop = asyncio.get_running_loop()

    def leave(code=0):
        shutil.rmtree(folder, ignore_errors=True)
        sys.stderr.flush()
        # Threads in a model's code cannot be ended otherwise.
        os._exit(code)

    loop.add_signal_handler(signal.SIGTERM, leave)
    threads = Threads(calls, patience, leave)
    listener = socket.socket(socket.AF_UNIX)
    # Under another name until it takes connections.
    listener.bind(os.path.join(folder, SOCKET + ".new"))
    await loop.create_unix_server(lambda: Connection(served, threads), sock=listener, backlog=1024)
    os.rename(os.path.join(folder, SOCKET + ".new"), os.path.join(folder, SOCKET))
    await loop.create_future()


def into_environment(given):
    """Has MLflow make the model's own environment, and becomes the same program in it."""
    try:
        from mlflow.models import Model
        from mlflow.pyfunc.backend import PyFuncBackend
        from mlflow.utils import env_manager
    except ImportError as error:
        raise Unusable(f"{sys.executable} cannot import MLflow ({in_one_line(error)}), which makes environments; install it there") from error
    if given.env_manager not in (env_manager.VIRTUALENV, env_manager.CONDA, getattr(env_manager, "UV", None)):
        raise Unusable(f"the MLflow of {sys.executable} knows no `env_manager: {given.env_manager}`; install a newer one")
    try:
        flavor = Model.load(given.model).flavors["python_function"]
        with lock("flowgate-environments"):
            environment = PyFuncBackend(flavor, env_manager=given.env_manager).prepare_env(given.model)
    except Exception as error:
        traceback.print_exc()
        where = "the log says more; programs are those on the PATH that `env` sets"
        raise Unusable(f"MLflow cannot make the environment of `env_manager: {given.env_manager}` ({where}): {in_one_line(error)}") from error
    enter = " && ".join([*environment.get_activate_command(), 'exec python "$@"'])
    arguments = ["--name", given.name, "--model", given.model, "--folder", given.folder, "--calls", given.calls, "--memory", given.memory]
    os.execvp("bash", ["bash", "-c", enter, "bash", os.path.abspath(__file__), *map(str, arguments)])


def end_by_exception(*_):
    """Ends what goes on: an environment that is half made is removed only on an exception, and taken for whole if it is not."""
    raise RuntimeError("the gateway has ended it")


@contextlib.contextmanager
def lock(name):
    """Lets one process of this user at a time go on: MLflow takes an environment that another is making for a whole one."""
    path = os.path.join(tempfile.gettempdir(), f"{name}-{os.getuid()}.lock")
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def bound(memory):
    """Lets this process have so many bytes of address space and no more."""
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (ValueError, OSError, OverflowError) as error:
        raise Unusable(f"`resources.memory` of {memory} bytes cannot be set here ({in_one_line(error)}); change it, or leave it out") from error


def leave_nothing(folder, why):
    """Ends before anything is served. The gateway may be gone, so that nobody else removes the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(why)


def main():
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="", help="what the model is called, for whoever lists processes")
    parser.add_argument("--model", required=True, help="the folder of the model's files")
    parser.add_argument("--folder", required=True, help="the folder of the socket, which belongs to this process")
    parser.add_argument("--calls", type=int, default=32, help="how many calls run at once; more wait")
    parser.add_argument("--patience", type=float, default=30, help="seconds that all threads may be in calls that nobody waits for")
    parser.add_argument("--memory", type=int, default=0, help="bytes of address space; 0 for no bound")
    parser.add_argument("--env-manager", default="local", help="local, virtualenv, uv or conda")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, end_by_exception)
    try:
        if given.env_manager != "local":
            into_environment(given)
        open(os.path.join(given.folder, BEGUN), "w").close()
        if given.memory:
            bound(given.memory)
        served = Served(given.model)
    except Unusable as error:
        leave_nothing(given.folder, f"{error}")
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        leave_nothing(given.folder, in_one_line(error))
    asyncio.run(serve(given.folder, served, given.calls, given.patience))


if __name__ == "__main__":
    main()
