"""The Hub's HTTP interface, as far as a run goes up and comes down, on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What the Hub keeps as large files.
LARGE = (".safetensors", ".parquet", ".png")


@dataclass
class Hub:
    """What the Hub holds.

    Attributes:
        address: Where it answers.
        files: Of each repository, the content of each file.
        private: Repositories that not everybody may read.
        objects: Large files, by sha256.
        tokens: What each request said of who it is.
        token: Whose requests may write.
    """

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    objects: dict[str, bytes] = field(default_factory=dict)
    tokens: list[str | None] = field(default_factory=list)
    token: str = "hf_abcdefghijklmnop"

    def commit(self, repository: str) -> str:
        """Return the commit of what a repository holds."""
        content = sorted(self.files[repository].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()

    def post(self, path: str, body: bytes) -> Any:
        """Answer what writes."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.files.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.private.add(name)
            return {"url": f"{self.address}/{name}"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if re.fullmatch(r"/api/models/.+/.+/preupload/main", path):
            return {"files": [_mode(each["path"]) for each in json.loads(body)["files"]]}
        if re.fullmatch(r"/.+/.+\.git/info/lfs/objects/batch", path):
            return {"objects": [self._object(each) for each in json.loads(body)["objects"]]}
        return self._commit(path.split("/", 3)[3].removesuffix("/commit/main"), body)

    def _commit(self, repository: str, body: bytes) -> Any:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.files[repository][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[repository][value["path"]] = self.objects[value["oid"]]
        return {"commitUrl": f"{self.address}/{repository}", "commitOid": self.commit(repository)}

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        upload = {"href": f"{self.address}/objects/{asked['oid']}"}
        return {**asked, "actions": {"upload": upload}}

    def get(self, path: str) -> Any:
        """Answer what reads; None where there is nothing."""
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/.+", path):
            return [_entry(name, content) for name, content in self.files[found[1]].items()]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            files = self.files.get(found[1])
            if files is None:
                return None
            names = [{"rfilename": name} for name in files]
            return {"id": found[1], "sha": self.commit(found[1]), "siblings": names}
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path)
        return self.files.get(found[1], {}).get(found[2]) if found else None


def _entry(path: str, content: bytes) -> dict[str, Any]:
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LARGE) else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}


class Handler(BaseHTTPRequestHandler):
    """Answers for the hub of its server."""

    server: "Server"
    protocol_version = "HTTP/1.1"

    def _answer(self, content: Any, head: bool = False) -> None:
        whole = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        elif isinstance(content, bytes):
            repository = "/".join(self.path.split("/")[1:3])
            self.send_header("X-Repo-Commit", self.server.hub.commit(repository))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if not head:
            self.wfile.write(whole)

    def _body(self) -> bytes:
        self.server.hub.tokens.append(self.headers.get("Authorization"))
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_POST(self) -> None:
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {self.server.hub.token}":
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._answer(self.server.hub.post(self.path.partition("?")[0], body))

    def do_PUT(self) -> None:
        body = self._body()
        self.server.hub.objects[hashlib.sha256(body).hexdigest()] = body
        self._answer({})

    def do_GET(self) -> None:
        self._answer(self.server.hub.get(self.path.partition("?")[0]))

    def do_HEAD(self) -> None:
        self._answer(self.server.hub.get(self.path.partition("?")[0]), head=True)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """The server of a hub."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = Hub(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def running() -> Iterator[Hub]:
    """Run a Hub that holds nothing, on a port of its own."""
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
