"""A small model server that can be told to misbehave: predictions at /invocations, chat at /v1/chat/completions. Run: replica.py PORT NAME"""

import json
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STALL = 30  # seconds; longer than anybody waits
state = {"mode": "well", "calls": 0}
lock = threading.Lock()


class Replica(BaseHTTPRequestHandler):
    """One connection of one client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Says nothing of single requests."""

    def whole(self, status, body, **headers):
        """One answer with its length."""
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if state["mode"] == "drip" and self.command == "POST" and status == 200:
            for place in range(len(body)):
                self.wfile.write(body[place : place + 1])
                time.sleep(1)
        self.wfile.write(body)

    def do_GET(self):
        """/ping, and how often it was called."""
        self.whole(200, {"calls": state["calls"], "name": sys.argv[2]})

    def do_POST(self):
        """A prediction or a chat, or a change of mode at /mode."""
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if self.path == "/mode":
            state["mode"] = body["mode"]
            return self.whole(200, {})
        with lock:
            state["calls"] += 1
        mode = state["mode"]
        if mode == "storm":
            return self.whole(500, {"error": {"message": "broken inside"}})
        if mode == "limit":
            return self.whole(429, {"error": {"message": "slow down"}}, retry_after=2)
        if mode == "refuse":
            return self.whole(400, {"error": {"message": "what is this"}})
        if mode == "poison":
            return self.whole(400, {"error_code": "BAD_REQUEST", "message": "failed to predict", "stack_trace": "Traceback"})
        if mode == "delay":
            time.sleep(STALL)
        if mode == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return None
        if self.path == "/invocations":
            return self.whole(200, {"predictions": [sys.argv[2]]})
        return self.chat(body, mode)

    def chat(self, body, mode):
        """A chat answer, whole or in five pieces."""
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
        words = [f"{sys.argv[2]}{n} " for n in range(5)]
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            usage = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
            return self.whole(200, {**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        deltas = [{"role": "assistant", "content": ""}] + [{"content": word} for word in words] + [{}]
        for place, delta in enumerate(deltas):
            if mode == "drip":
                time.sleep(STALL)
            if mode == "cut" and place == 3:
                return None
            finish = "stop" if not delta else None
            chunk = {**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        return None


class Server(ThreadingHTTPServer):
    """One thread for each connection; clients that go away are nothing to tell of."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that went away."""


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Replica).serve_forever()
