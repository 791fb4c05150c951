"""A stand-in for the Hugging Face hub on this machine, which notes what is committed to it."""

import base64
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from urllib.parse import unquote

TOKEN = "hf_standInForAToken"


@contextmanager
def hub_server(refuses: int | None = None, card_error: str | None = None):
    """The server's address, and what it was asked.

    ``refuses`` answers every request with this status; ``card_error`` refuses each card.
    """
    seen = SimpleNamespace(url="", tokens=set(), paths=[], repos=[], branches=[], commits=[])

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            self._note()
            self._answer(404, {"error": "there is nothing to read here"})

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self._note()
            path = unquote(self.path)
            if refuses is not None:
                return self._answer(refuses, {"error": "Invalid username or password."})
            if path == "/api/validate-yaml":
                wrong = [{"message": card_error}] if card_error else []
                return self._answer(400 if wrong else 200, {"errors": wrong, "warnings": []})
            if path == "/api/repos/create":
                seen.repos.append(json.loads(body))
                return self._answer(200, {"url": f"{seen.url}/me/encoder"})
            if "/branch/" in path:
                seen.branches.append(path.rpartition("/branch/")[2])
                return self._answer(200, {})
            if "/preupload/" in path:
                files = json.loads(body)["files"]
                modes = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in files
                ]
                return self._answer(200, {"files": modes})
            if "/commit/" in path:
                lines = [json.loads(line) for line in body.splitlines()]
                files = [line["value"] for line in lines if line["key"] == "file"]
                seen.commits.append(
                    {
                        "branch": path.rpartition("/commit/")[2],
                        "files": {f["path"]: base64.b64decode(f["content"]) for f in files},
                    }
                )
                oid = "0f" * 20
                url = f"{seen.url}/me/encoder/commit/{oid}"
                return self._answer(200, {"commitOid": oid, "commitUrl": url})
            return self._answer(404, {"error": f"no {path} here"})

        def _note(self):
            seen.paths.append(self.path)
            seen.tokens.add(self.headers.get("authorization"))

        def _answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    seen.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
