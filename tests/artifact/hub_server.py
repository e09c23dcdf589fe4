"""A server that speaks as much of the Hub's API as huggingface_hub asks for: repositories, commits, files.

What it answers follows the Hub: a commit is a copy of all files, `X-Error-Code` names what is missing, a private
repository is not to be told from none, and files have ETags and can be read from a byte on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(/(?P<verb>revision|tree|preupload|commit)/(?P<revision>[^/]+))?")
_FILE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


class RefusalError(Exception):
    """An answer other than 200, with what else is in it."""

    def __init__(self, status: int, message: str, code: str | None = None, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details


@dataclass
class Repository:
    """Commits, oldest first: their names, and the files of each; names of some of them."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """Name of the last commit."""
        return next(reversed(self.commits))

    @property
    def files(self) -> dict[str, bytes]:
        """Those of the last commit."""
        return self.commits[self.head]

    def commit(self, files: Mapping[str, bytes]) -> str:
        """Adds a commit that consists of these files."""
        text = repr((len(self.commits), sorted((name, _oid(content)) for name, content in files.items())))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = dict(files)
        return sha

    def find(self, revision: str) -> str:
        """The commit of that name, tag, or branch."""
        sha = self.head if revision == "main" else self.tags.get(revision, revision)
        if sha not in self.commits:
            raise RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


class HubServer:
    """The Hub at a free port of this machine.

    Attributes:
        accounts: tokens, and the owner whom each lets write.
        repositories: by `owner/name`.
        requests: method and path of each request so far.
        broken: status of every answer; None for the right ones.
        cut: files of which nothing but the headers arrives.
        meanwhile: what somebody else does between a client's first look and its commit.
    """

    def __init__(self, accounts: Mapping[str, str]) -> None:
        self.accounts = accounts
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.broken: int | None = None
        self.cut: set[str] = set()
        self.meanwhile: Callable[[], object] = lambda: None
        self._listen(0)

    @property
    def address(self) -> str:
        """What HF_ENDPOINT is to be."""
        return f"http://127.0.0.1:{self._port}"

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Within the block, connections are refused."""
        self.close()
        yield
        self._listen(self._port)

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()

    def _listen(self, port: int) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def create(self, token: str | None, asked: dict[str, Any]) -> dict[str, str]:
        """Makes a repository, as the Hub does with one file in it."""
        if token is None:
            raise RefusalError(401, "Invalid username or password.")
        name = f"{asked['organization']}/{asked['name']}"
        if self.accounts[token] != asked["organization"]:
            message = f'You don\'t have the rights to create a model under the namespace "{asked["organization"]}".'
            raise RefusalError(403, message)
        if name in self.repositories:
            raise RefusalError(409, "You already created this model repo", url=f"{self.address}/{name}")
        private = asked.get("visibility") == "private" or asked.get("private") is True  # as older clients say it
        self.repositories[name] = Repository(private)
        self.repositories[name].commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return {"url": f"{self.address}/{name}", "name": name}

    def find(self, name: str, token: str | None) -> Repository:
        """The repository, if the token may see it."""
        found = self.repositories.get(name)
        if found is not None and (not found.private or self._owns(name, token)):
            return found
        if token is None:
            raise RefusalError(401, "Invalid username or password.")
        raise RefusalError(404, "Repository not found", "RepoNotFound")

    def change(self, name: str, token: str | None, lines: list[dict[str, Any]]) -> dict[str, str]:
        """Makes a commit."""
        repository = self.find(name, token)
        if not self._owns(name, token):
            raise RefusalError(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        files = dict(repository.files)
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit", repository.head) != repository.head:
                raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"], validate=True)
            if key == "deletedFile" and files.pop(value["path"], None) is None:
                raise RefusalError(404, "A file with this name doesn't exist", "EntryNotFound")
        sha = repository.commit(files)
        return {"commitUrl": f"{self.address}/{name}/commit/{sha}", "commitOid": sha}

    def _owns(self, name: str, token: str | None) -> bool:
        return token is not None and self.accounts[token] == name.partition("/")[0]


def _oid(content: bytes) -> str:
    """What git calls the content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _info(name: str, repository: Repository, sha: str) -> dict[str, Any]:
    siblings = [{"rfilename": path} for path in repository.commits[sha]]
    return {"id": name, "modelId": name, "sha": sha, "private": repository.private, "siblings": siblings, "tags": []}


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [{"type": "file", "path": path, "size": len(each), "oid": _oid(each)} for path, each in files.items()]


def _upload_modes(files: Mapping[str, bytes], asked: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "files": [
            {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
            | ({"oid": _oid(files[each["path"]])} if each["path"] in files else {})
            for each in asked
        ]
    }


def _check_metadata(card: str) -> dict[str, Any]:
    """The Hub's verdict on the lines between the dashes of a README."""
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    if found is None:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        table = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise RefusalError(400, f"not YAML: {error}") from error
    lists = [key for key in ("tags", "metrics") if key in table and not all(isinstance(x, str) for x in table[key])]
    if lists or not isinstance(table.get("library_name", ""), str):
        raise RefusalError(400, f"not as the Hub has it: {lists or 'library_name'}")
    return {"errors": [], "warnings": []}


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """One request, after which the connection is closed."""

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_request(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            path = urlsplit(self.path).path
            hub.requests.append((self.command, unquote(path)))
            try:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if hub.broken is not None:
                    raise RefusalError(hub.broken, "Internal Server Error")
                token = self._token()
                if match := _FILE.fullmatch(path):
                    self._send_file(match["name"], token, unquote(match["revision"]), unquote(match["path"]))
                else:
                    self._send(200, json.dumps(self._call(path, token, body)).encode())
            except RefusalError as error:
                headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
                self._send(error.status, json.dumps({"error": str(error), **error.details}).encode(), headers)

        def _token(self) -> str | None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
            if token is not None and token not in hub.accounts:
                raise RefusalError(401, "Invalid credentials in Authorization header")
            return token

        def _call(self, path: str, token: str | None, body: bytes) -> Any:
            if path == "/api/repos/create":
                return hub.create(token, json.loads(body))
            if path == "/api/validate-yaml":
                return _check_metadata(json.loads(body)["content"])
            match = _API.fullmatch(path)
            if match is None:
                raise RefusalError(404, f"no such address: {path}")
            if match["verb"] == "commit":
                return hub.change(match["name"], token, [json.loads(line) for line in body.splitlines()])
            repository = hub.find(match["name"], token)
            sha = repository.find(unquote(match["revision"] or "main"))
            if match["verb"] == "tree":
                return _tree(repository.commits[sha])
            if match["verb"] == "preupload":
                hub.meanwhile()
                return _upload_modes(repository.commits[sha], json.loads(body)["files"])
            return _info(match["name"], repository, sha)

        def _send_file(self, name: str, token: str | None, revision: str, path: str) -> None:
            repository = hub.find(name, token)
            sha = repository.find(revision)
            if path not in repository.commits[sha]:
                raise RefusalError(404, "Entry not found", "EntryNotFound")
            content = repository.commits[sha][path]
            first = int(re.sub(r"\D", "", self.headers.get("Range", "bytes=0-")))
            headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(content)}"', "Accept-Ranges": "bytes"}
            if "Range" in self.headers:
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            cut = self.command == "GET" and path in hub.cut
            self._send(206 if "Range" in self.headers else 200, content[first:], headers, cut)

        def _send(self, status: int, content: bytes, headers: Mapping[str, str] = {}, cut: bool = False) -> None:
            always = {"Content-Type": "application/json", "Content-Length": str(len(content))}
            self.send_response(status)
            for key, value in {**always, **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD" and not cut:
                self.wfile.write(content)

    return Handler
