"""A local OpenAI-compatible server that answers, or misbehaves, as it is told."""

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SNAPSHOT = "scripted-2026-01-01"


class Exchange:
    """One request as it came in, and the ways to answer it."""

    def __init__(self, handler: BaseHTTPRequestHandler, number: int, body: dict[str, Any]) -> None:
        self.number = number
        self.body = body
        self.key = handler.headers.get("Authorization")
        self._handler = handler

    @property
    def prompt(self) -> str:
        """The text of all messages."""
        return "\n".join(message["content"] for message in self.body["messages"])

    def say(self, text: str | None, finish: str = "stop", usage: tuple[int, int] | None = (100, 10)) -> None:
        """Answer with a completion."""
        self.send(200, completion(text, finish, usage))

    def fail(self, code: int, message: str = "", headers: dict[str, str] | None = None) -> None:
        """Answer with an error in OpenAI's form."""
        self.send(code, {"error": {"message": message or f"error {code}", "code": None}}, headers)

    def send(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        """Answer with any JSON."""
        self.raw(json.dumps(body).encode(), code, headers)

    def raw(self, content: bytes, code: int = 200, headers: dict[str, str] | None = None, length: int = -1) -> None:
        """Answer with any bytes, and say that there are `length` of them."""
        self._head(code, headers or {}, len(content) if length < 0 else length)
        self._handler.wfile.write(content)
        if length > len(content):
            self._handler.close_connection = True

    def reset(self) -> None:
        """Break the connection, as a server that crashes does."""
        linger = struct.pack("ii", 1, 0)
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._handler.connection.close()
        self._handler.close_connection = True

    def hang(self, seconds: float) -> None:
        """Answer nothing for a time, then end the connection."""
        time.sleep(seconds)
        self._handler.close_connection = True

    def drip(self, seconds: float, pause: float) -> None:
        """Send an answer byte by byte, for a time."""
        self._head(200, {}, 1_000_000)
        end = time.monotonic() + seconds
        self._handler.close_connection = True
        while time.monotonic() < end:
            self._handler.wfile.write(b" ")
            self._handler.wfile.flush()
            time.sleep(pause)

    def _head(self, code: int, headers: dict[str, str], length: int) -> None:
        self._handler.send_response(code)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(length)} | headers).items():
            self._handler.send_header(name, value)
        self._handler.end_headers()


Script = Callable[[Exchange], None]


def completion(text: str | None, finish: str = "stop", usage: tuple[int, int] | None = (100, 10)) -> dict[str, Any]:
    """Return the body of an answer."""
    body: dict[str, Any] = {
        "model": SNAPSHOT,
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return body


class Server:
    """The address of a running server, and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.at_once = 0
        self.most_at_once = 0

    @property
    def calls(self) -> int:
        """Requests that came in."""
        return len(self.bodies)


@contextmanager
def serving(script: Script, port: int = 0) -> Iterator[Server]:
    """Run a server that plays a script for each request; port 0 is one that is free."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each body waits 40 ms for the client to confirm its head

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            content = self.rfile.read(length)
            if len(content) < length:  # the client was killed while it sent
                self.close_connection = True
                return
            body = json.loads(content)
            with lock:
                exchange = Exchange(self, len(server.bodies), body)
                server.bodies.append(body | {"path": self.path})
                server.keys.append(exchange.key)
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            try:
                script(exchange)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has gone, as some scripts want it to
            finally:
                with lock:
                    server.at_once -= 1

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the tests' output clean."""

    class Threads(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # clients are killed here
                super().handle_error(request, client_address)

    http = Threads(("127.0.0.1", port), Handler)
    server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
