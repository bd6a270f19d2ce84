"""A stand-in for the W&B server on this machine: it answers what saving a workspace asks, and keeps what was sent."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VIEWER = {"id": "VXNlcjox", "username": "ann", "entity": "anns-team", "flags": "{}", "teams": {"edges": []}}


@dataclass
class Server:
    """Where it listens, what it was sent, and the message with which it refuses to save (none: it saves)."""

    address: str = ""
    saved: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refusal: str | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a GraphQL request."""
        query = request["query"]
        self.asked.append(query)
        if "upsertView" not in query:
            return {"data": {"viewer": VIEWER, "serverInfo": None}}
        if self.refusal is not None:
            return {"errors": [{"message": self.refusal}], "data": None}
        self.saved.append(request["variables"])
        view = {"id": "VmlldzoxCg==", "name": request["variables"]["name"]}
        return {"data": {"upsertView": {"view": view, "inserted": True}}}


@contextmanager
def serving() -> Iterator[Server]:
    """Run the server in a thread."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            # Whatever else the client tells a server is none of this one's business.
            answer = server.answer(json.loads(sent)) if self.path == "/graphql" else {}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
