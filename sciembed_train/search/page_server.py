"""A page to search with, served to this machine alone.

It listens on 127.0.0.1, answers GET alone, and only where the request names this machine (against
DNS rebinding by the page of another site). What comes from papers is sent as JSON and
set as text by ``page/page.js``; the page may load nothing but its own files.
"""

from __future__ import annotations

import errno
import json
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import SplitResult, parse_qs, urlsplit

import numpy as np

from sciembed_train.errors import UserError
from sciembed_train.search.paper_search import Answer, PaperSearch

HOST, NAMES = "127.0.0.1", ("127.0.0.1", "localhost")
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
TOP, LONGEST = 10, 4000  # nearest papers; letters of a query
LONGEST_TITLE = 300  # letters of a title on the map
PATIENCE = 30  # seconds for a request to arrive


class PageServer(ThreadingHTTPServer):
    """Serves the page of an index; the model is loaded first, where the index names one.

    Args:
        search: the opened index.
        port: 0 takes a free one.

    Raises:
        UserError: the port is in use or not allowed, or the model cannot be used.
    """

    daemon_threads = True

    def __init__(self, search: PaperSearch, port: int) -> None:
        self.search, self.map = search, search.map()
        self.by_text = search.record["model"] is not None
        self._encoding = threading.Lock()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(_no_port(port, error)) from error
        try:
            if self.by_text:
                search.load_model()
            search.index.vector(0)  # builds the direct map before there are threads
        except BaseException:
            self.server_close()
            raise

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_port}/"

    def facts(self) -> dict[str, Any]:
        """The facts about the index that the page shows."""
        record = self.search.record
        line = f"{len(self.search):,} papers"
        why = "This index names no model: click a point of the map to see the papers near it."
        if self.by_text:
            line += f", vectors of {Path(str(self.search.model or record['model']['name'])).name}"
        line += f", {record['kind']} index"
        if record["recall"] is not None:
            line += f" (recall {record['recall']:.3f})"
        return {
            "papers": len(self.search),
            "similarity": record["similarity"],
            "text": self.by_text,
            "why": why,
            "line": line,
        }

    def whole_map(self) -> dict[str, Any]:
        """The points of the map, with ids and titles."""
        names, rows = self.search.names, self.map.rows.tolist()
        return {
            "points": np.round(self.map.points.astype(float), 5).tolist(),
            "ids": [names.id(row) for row in rows],
            "titles": [names.title(row)[:LONGEST_TITLE] for row in rows],
            "share": self.map.share,
        }

    def for_text(self, text: str) -> dict[str, Any]:
        """The nearest papers of a text."""
        with self._encoding:
            return self._placed(self.search.by_text(text, TOP))

    def for_paper(self, paper_id: str) -> dict[str, Any]:
        """The nearest papers of a paper."""
        answer = self.search.by_paper(paper_id, TOP)
        row = cast(int, self.search.names.row(paper_id))
        return {**self._placed(answer), "title": self.search.names.title(row)}

    def _placed(self, answer: Answer) -> dict[str, Any]:
        """An answer, and where query and papers lie on the map."""
        vectors = [answer.vector, *(self.search.index.vector(hit.row) for hit in answer.hits)]
        points = np.round(self.map.place(np.stack(vectors)).astype(float), 5).tolist()
        told = answer.as_dict()
        for hit, point in zip(told["nearest"], points[1:], strict=True):
            hit["point"] = point
        return {**told, "point": points[0]}


Asked = dict[str, list[str]]


class _Refused(Exception):
    """A request that is not answered, with the status and the reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "sciembed_train", ""
    timeout = PATIENCE

    @property
    def page(self) -> PageServer:
        return cast(PageServer, self.server)

    def parse_request(self) -> bool:
        """Read a request; one that is not of this machine, or no GET, is refused here."""
        if not super().parse_request():
            return False
        try:
            if not self._names_this_machine(self.headers.get_all("Host") or []):
                raise _Refused(403, "This page is for http://127.0.0.1 and http://localhost alone.")
            if self.command != "GET":
                raise _Refused(405, "Only GET is answered here.")
        except _Refused as error:
            self.close_connection = True
            self._send_json({"error": str(error)}, error.status)
            return False
        return True

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            url, query = self._asked()
            if url.path in FILES:
                name, kind = FILES[url.path]
                self._send((Path(__file__).parent / "page" / name).read_bytes(), kind)
            elif url.path in _ROUTES:
                self._send_json(_ROUTES[url.path](self.page, query))
            else:
                raise _Refused(404, "There is no such page.")
        except _Refused as error:
            self._send_json({"error": str(error)}, error.status)
        except UserError as error:
            self._send_json({"error": str(error)}, 400)

    def _asked(self) -> tuple[SplitResult, Asked]:
        try:
            url = urlsplit(self.path)
            return url, parse_qs(url.query, keep_blank_values=True, max_num_fields=10)
        except ValueError as error:
            raise _Refused(400, f"The address cannot be read: {error}.") from error

    def _names_this_machine(self, hosts: list[str]) -> bool:
        if len(hosts) != 1:
            return False
        name, _, port = hosts[0].lower().partition(":")
        return name in NAMES and port in ("", str(self.page.server_port))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that the library refuses, as JSON."""
        self.close_connection = True
        self._send_json({"error": explain or message or self.responses.get(code, ("",))[0]}, code)

    def _send_json(self, content: Any, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _send(self, content: bytes, kind: str, status: int = 200) -> None:
        if self.request_version == "HTTP/0.9":  # or no version that could be read
            self.request_version = "HTTP/1.0"  # an answer without headers would be one of text
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if status == 405:
            self.send_header("Allow", "GET")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log no request."""


def _one(asked: Asked, name: str) -> str:
    values = asked.get(name, [])
    if len(values) != 1 or not values[0].strip() or len(values[0]) > LONGEST:
        raise _Refused(400, f"Give one {name} of 1 to {LONGEST:,} letters.")
    return values[0]


_ROUTES: dict[str, Callable[[PageServer, Asked], dict[str, Any]]] = {
    "/facts": lambda page, _: page.facts(),
    "/map": lambda page, _: page.whole_map(),
    "/search": lambda page, asked: page.for_text(_one(asked, "q")),
    "/similar": lambda page, asked: page.for_paper(_one(asked, "id")),
}


def serve(search: PaperSearch, port: int, print_address: bool = True) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: as `PageServer`.
    """
    with PageServer(search, port) as server:
        if print_address:
            print(f"Open {server.address} in a browser; Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            if print_address:
                print("Ended.", flush=True)


def _no_port(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"--port {port} is in use by another program, perhaps by such a page. Give another, or "
            "--port 0 for a free one."
        )
    return f"--port {port} cannot be used: {error.strerror}. Give one from 1024 to 65535."
