"""A hub on this machine: as much of the API of huggingface.co as downloads ask for, over real HTTP."""

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef" * 2 + "01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories, and writes down what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folders: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.cut: dict[str, int] = {}  # files that break off after so many bytes; asked for again, they are gone
        self.broken: set[str] = set()  # which have broken off
        self.spoiled: set[str] = set()  # files of which one bit is another on the way
        self.log: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def downloaded(self) -> set[str]:
        return {line.rpartition("/")[2] for line in self.log if line.startswith("GET") and "/resolve/" in line}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.log.append(f"{self.command} {self.path}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/?]+)(/revision/[^/?]+)?(\?.*)?", self.path):
            self.describe(match[1])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            self.send_file(match[1], match[3], body)
        else:
            self.refuse(404, "RepoNotFound")

    def refuse(self, code: int, name: str = "") -> None:
        self.send_response(code)
        self.send_header("X-Error-Code", name)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def describe(self, repo: str) -> None:
        folder = self.server.folders.get(repo)
        if folder is None:
            self.refuse(401, "RepoNotFound")  # as huggingface.co says to strangers
            return
        siblings = []
        for path in sorted(folder.iterdir()):
            entry: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40}
            if is_large(path):
                entry["lfs"] = {"size": path.stat().st_size, "sha256": sha256(path), "pointerSize": 134}
            siblings.append(entry)
        data = json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, repo: str, name: str, body: bool) -> None:
        if repo in self.server.gated:
            return self.refuse(403, "GatedRepo")
        path = self.server.folders.get(repo, Path("/nowhere")) / name
        if not path.is_file():
            return self.refuse(404, "EntryNotFound")
        data = path.read_bytes()
        if body and name in self.server.cut and name in self.server.broken:
            return self.refuse(503)
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        if is_large(path):
            self.send_header("X-Linked-Etag", f'"{sha256(path)}"')
            self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return None
        if name in self.server.spoiled:
            data = data[:-1] + bytes([data[-1] ^ 1])
        if name in self.server.cut:
            data = data[: self.server.cut[name]]
            self.server.broken.add(name)
            self.close_connection = True
        self.wfile.write(data)
        return None


def is_large(path: Path) -> bool:
    """Whether it would not be in git itself."""
    return path.suffix in (".safetensors", ".bin")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def running():
    """A hub that answers until the end of the block."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
