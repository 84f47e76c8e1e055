"""A hub on 127.0.0.1 that speaks the hub's protocol: listings, metadata, ranges, and failures.

with LocalHub() as hub:
    hub.put("owner/name", {"model.safetensors": b"..."})
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

# Kept in LFS, by SHA-256; others are Git's blobs.
LARGE = (".safetensors", ".pt", ".bin", ".npz", ".parquet")


@dataclass
class Request:
    """What somebody asked for."""

    method: str
    path: str
    range: str | None


@dataclass
class Repository:
    """Commits with their files, and the branches and tags that name commits."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)


class LocalHub:
    """The server, what it holds, what it was asked, and how it misbehaves.

    ``break_after`` closes each connection after that many bytes of a body (``breaks`` times);
    ``slow`` is a pause after each 64 kB; ``lies`` maps a file's name to what is sent instead;
    ``deaf_to_ranges`` sends everything, whatever was asked; ``down`` answers 503.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.break_after: int | None = None
        self.breaks = 0
        self.slow = 0.0
        self.lies: dict[str, bytes] = {}
        self.names: dict[str, str] = {}  # a file's name -> what the listing calls it
        self.deaf_to_ranges = self.down = False
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> LocalHub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def put(self, repository: str, files: Mapping[str, bytes], ref: str = "main") -> str:
        """A new commit of a repository, which ``ref`` names from now on; returns it."""
        found = self.repositories.setdefault(repository, Repository())
        text = json.dumps([repository, len(found.commits), sorted(files)])
        commit = hashlib.sha1(text.encode()).hexdigest()
        found.commits[commit] = dict(files)
        found.refs[ref] = commit
        return commit

    def asked(self, method: str, part: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and part in r.path]


def content_hash(name: str, data: bytes) -> str:
    """SHA-256 for what LFS keeps, Git's SHA-1 for the rest."""
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range")))
        if self.hub.down:
            return self._plain(503, b"down")
        listing = r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?"
        if match := re.fullmatch(listing, path):
            return self._listing(*match.groups())
        if match := re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*match.groups(), body)
        return self._plain(404, b"", "EntryNotFound")

    def _commit(self, name: str, revision: str) -> str | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._plain(404, b"", "RepoNotFound")
            return None
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            self._plain(404, b"", "RevisionNotFound")
            return None
        return commit

    def _listing(self, name: str, revision: str | None) -> None:
        commit = self._commit(name, revision or "main")
        if commit is None:
            return
        siblings = []
        for file, data in self.hub.repositories[name].commits[commit].items():
            entry: dict = {"rfilename": self.hub.names.get(file, file), "size": len(data)}
            digest = content_hash(file, data)
            if file.endswith(LARGE):
                entry |= {"blobId": "0" * 40}
                entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 100}
            else:
                entry |= {"blobId": digest}
            siblings.append(entry)
        info = {"_id": "1", "id": name, "modelId": name, "sha": commit, "siblings": siblings}
        info |= {"author": name.partition("/")[0], "disabled": False, "gated": False}
        info |= {"private": False, "tags": [], "downloads": 0, "likes": 0}
        self._plain(200, json.dumps(info).encode(), kind="application/json")

    def _file(self, name: str, revision: str, file: str, body: bool) -> None:
        commit = self._commit(name, revision)
        if commit is None:
            return
        data = self.hub.repositories[name].commits[commit].get(file)
        if data is None:
            return self._plain(404, b"", "EntryNotFound")
        etag = content_hash(file, data)
        data = self.hub.lies.get(file, data)
        start = 0
        asked = self.headers.get("Range")
        if asked and not self.hub.deaf_to_ranges:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(data):
                return self._plain(416, b"")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if body:
            self._send(data[start:])

    def _send(self, data: bytes) -> None:
        sent = 0
        limit = self.hub.break_after if self.hub.breaks > 0 else None
        while sent < len(data):
            size = 1 << 16 if limit is None else min(1 << 16, limit - sent)
            if size <= 0:
                self.hub.breaks -= 1
                self.close_connection = True
                self.connection.close()
                return
            try:
                self.wfile.write(data[sent : sent + size])
            except ConnectionError:  # who asked has gone, which a cancelled pull does
                self.close_connection = True
                return
            sent += size
            time.sleep(self.hub.slow)

    def _plain(
        self, status: int, data: bytes, code: str | None = None, kind: str = "text/plain"
    ) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
