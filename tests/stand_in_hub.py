"""A small Hub on loopback that speaks what huggingface_hub speaks: enough to create, upload, list and download.

    with StandInHub() as hub:
        token = hub.add_user("user")
        HfApi(endpoint=hub.endpoint, token=token).create_repo("user/model")

What it keeps is in `hub.repositories`, what it was asked in `hub.requests`, and `hub.cut_uploads_after` breaks the
connection in the middle of each large file after so many. Regular files are git blobs, weights are LFS objects, a
commit is all or nothing.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

MAIN = "main"
# What the Hub keeps as large files, by the `.gitattributes` of a new repository.
_LFS_SUFFIXES = (".safetensors", ".bin", ".pt")


class Refusal(Exception):
    """An answer that is an error: status, the Hub's code for it, and a sentence."""

    def __init__(self, status, message, code=None, commit=None):
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = {"X-Error-Message": message}
        if code is not None:
            self.headers["X-Error-Code"] = code
        if commit is not None:
            self.headers["X-Repo-Commit"] = commit


@dataclass(frozen=True)
class StoredFile:
    """A file of a commit; a large one stands in the store under its SHA-256."""

    oid: str
    size: int
    content: bytes | None = None
    sha256: str | None = None

    @classmethod
    def regular(cls, content):
        return cls(hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(), len(content), content)

    @classmethod
    def large(cls, sha256, size):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return cls(cls.regular(pointer).oid, size, sha256=sha256)

    @property
    def etag(self):
        return self.sha256 or self.oid


@dataclass
class Repository:
    """Branches and commits of one repository."""

    private: bool
    branches: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)

    def __post_init__(self):
        self.commit(MAIN, {}, "initial commit")

    def commit(self, branch, files, message):
        sha = hashlib.sha1(f"{branch} {message} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def sha_of(self, revision):
        sha = self.branches.get(revision, revision)
        if sha not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def files(self, revision=MAIN):
        return self.commits[self.sha_of(revision)]


class StandInHub:
    """The server, running in a thread of its own inside a `with`.

    Args:
        part_size: Large files above so many bytes are sent in parts; None sends each in one piece.
    """

    def __init__(self, part_size=None):
        self.part_size = part_size
        self.repositories = {}
        self.users = {}
        self.store = {}
        self.parts = {}
        self.requests = []
        self.cut_uploads_after = None
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def add_user(self, name):
        """Returns the token of a new user, in the form that the Hub gives out."""
        token = "hf_" + hashlib.sha256(name.encode()).hexdigest()[:34]
        self.users[token] = name
        return token

    def asked(self, method, pattern):
        """Returns the paths asked for by a method that match a regular expression."""
        return [path for verb, path in self.requests if verb == method and re.search(pattern, path)]

    def content(self, repo_id, path, revision=MAIN):
        """Returns the bytes of a file."""
        file = self.repositories[f"models/{repo_id}"].files(revision)[path]
        return file.content if file.sha256 is None else self.store[file.sha256]

    def use(self, monkeypatch, cache, token=None):
        """Turns the client of this very process to this server, which it would otherwise choose when imported."""
        from huggingface_hub import constants, hf_api
        from transformers.utils import hub as transformers_hub

        settings = {
            "ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN_PATH": str(cache / "token"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hf_api.api, "endpoint", self.endpoint)
        monkeypatch.setattr(transformers_hub, "_hf_api", None, raising=False)
        if token is None:
            monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            monkeypatch.setenv("HF_TOKEN", token)

    def environment(self, cache, token=None):
        """Returns the variables that turn the client of another process to this server."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(cache),
            "HF_MODULES_CACHE": str(cache / "modules"),
            **({} if token is None else {"HF_TOKEN": token}),
        }


class _Handler(BaseHTTPRequestHandler):
    """One request after another on one connection."""

    protocol_version = "HTTP/1.1"
    hub: StandInHub

    ROUTES = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_card"),
        ("POST", r"/api/repos/create", "create_repository"),
        ("POST", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/branch/(?P<branch>[^/]+)", "create_branch"),
        ("POST", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)", "list_paths"),
        ("GET", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?", "list_tree"),
        ("GET", r"/api/(?P<repo>\w+/[^/]+/[^/]+)/refs", "list_refs"),
        ("GET", r"/api/(?P<repo>\w+/[^/]+/[^/]+)(?:/revision/(?P<revision>[^/]+))?", "describe"),
        ("POST", r"/(?P<repo>(?:\w+/)?[^/]+/[^/]+)\.git/info/lfs/objects/batch", "plan_uploads"),
        ("POST", r"/(?P<repo>(?:\w+/)?[^/]+/[^/]+)\.git/info/lfs/verify", "verify_upload"),
        ("PUT", r"/store/(?P<oid>\w+)(?:/(?P<part>\d+))?", "receive"),
        ("POST", r"/store/(?P<oid>\w+)/complete", "join_parts"),
        ("GET", r"/store/(?P<oid>\w+)", "send_stored"),
        ("HEAD", r"/(?P<repo>(?:\w+/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ("GET", r"/(?P<repo>(?:\w+/)?[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def do_GET(self):
        self._answer()

    do_POST = do_PUT = do_HEAD = do_GET

    def log_message(self, *_):
        """Keeps quiet."""

    def _answer(self):
        path = urlsplit(self.path).path
        self.body = None
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
        try:
            for method, pattern, name in self.ROUTES:
                match = re.fullmatch(pattern, path) if method == self.command else None
                if match is not None:
                    found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                    getattr(self, f"_{name}")(**found)
                    return
            raise Refusal(404, f"no such address: {path}")
        except Refusal as refusal:
            self._read()
            self._send({"error": refusal.message}, status=refusal.status, headers=refusal.headers)

    # What comes in, what goes out.

    def _read(self):
        if self.body is None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                pieces = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                self.body = b"".join(pieces)
            else:
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self.body

    def _send(self, content=None, *, status=200, headers=None, size=None):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers = {"Content-Type": "application/json", **(headers or {})}
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # Who asks, and for what.

    def _user(self):
        bearer = self.headers.get("Authorization")
        if bearer is None:
            return None
        name = self.hub.users.get(bearer.removeprefix("Bearer "))
        if name is None:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return name

    def _repository(self, repo, *, write=False):
        repo = repo if repo.count("/") == 2 else f"models/{repo}"
        user, repository = self._user(), self.hub.repositories.get(repo)
        owner = repo.split("/")[1]
        if repository is None or (repository.private and user != owner):
            raise Refusal(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user != owner:
            raise Refusal(403 if user else 401, "You don't have the rights to write here")
        return repository

    # The interface for programs.

    def _whoami(self):
        name = self._user()
        if name is None:
            raise Refusal(401, "Invalid username or password.")
        self._send({"type": "user", "name": name, "orgs": [], "auth": {"type": "access_token"}})

    def _validate_card(self):
        errors = find_card_errors(json.loads(self._read())["content"])
        self._send({"errors": [{"message": each} for each in errors], "warnings": []}, status=400 if errors else 200)

    def _create_repository(self):
        asked, user = json.loads(self._read()), self._user()
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        owner = asked.get("organization") or user
        if owner != user:
            raise Refusal(403, f"You don't have the rights to create a model under the namespace {owner}")
        repo = f"{asked.get('type') or 'model'}s/{owner}/{asked['name']}"
        answer = {"url": f"{self.hub.endpoint}/{owner}/{asked['name']}", "name": f"{owner}/{asked['name']}"}
        with self.hub.lock:
            is_new = repo not in self.hub.repositories
            if is_new:
                private = asked.get("visibility") == "private" or bool(asked.get("private"))
                self.hub.repositories[repo] = Repository(private)
        message = {} if is_new else {"error": "You already created this model repo"}
        self._send({**answer, **message}, status=200 if is_new else 409)

    def _create_branch(self, repo, branch):
        repository = self._repository(repo, write=True)
        start = json.loads(self._read() or b"{}").get("startingPoint", MAIN)
        if branch in repository.branches:
            raise Refusal(409, f"Reference already exists: refs/heads/{branch}")
        repository.branches[branch] = repository.sha_of(start)
        self._send({})

    def _describe(self, repo, revision=MAIN):
        repository = self._repository(repo)
        name, files = repo.split("/", 1)[1], repository.files(revision)
        siblings = [{"rfilename": path} for path in sorted(files)]
        sha = repository.sha_of(revision)
        self._send({"id": name, "modelId": name, "sha": sha, "private": repository.private, "siblings": siblings})

    def _list_refs(self, repo):
        branches = self._repository(repo).branches.items()
        listed = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha} for name, sha in branches]
        self._send({"branches": listed, "converts": [], "tags": []})

    def _list_tree(self, repo, revision, path=""):
        files = self._repository(repo).files(revision)
        inside = {name: file for name, file in files.items() if not path or name.startswith(f"{path}/")}
        if path and not inside:
            raise Refusal(404, f"{path} does not exist", "EntryNotFound")
        self._send([_tree_entry(name, file) for name, file in sorted(inside.items())])

    def _list_paths(self, repo, revision):
        files = self._repository(repo).files(revision)
        paths = parse_qs(self._read().decode())["paths"]
        self._send([_tree_entry(path, files[path]) for path in paths if path in files])

    def _preupload(self, repo, revision):
        files = self._repository(repo, write=True).files(revision)
        answer = []
        for each in json.loads(self._read())["files"]:
            path = each["path"]
            mode = "lfs" if path.endswith(_LFS_SUFFIXES) else "regular"
            known = {"oid": files[path].etag} if path in files else {}
            answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        self._send({"files": answer})

    def _commit(self, repo, revision):
        repository = self._repository(repo, write=True)
        lines = [json.loads(line) for line in self._read().splitlines()]
        files, message = dict(repository.files(revision)), lines[0]["value"]["summary"]
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = StoredFile.regular(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.store:
                    raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = StoredFile.large(value["oid"], len(self.hub.store[value["oid"]]))
            elif files.pop(value["path"], None) is None:
                raise Refusal(404, "A file with this name doesn't exist", "EntryNotFound")
        sha = repository.commit(revision, files, message)
        url = f"{self.hub.endpoint}/{repo.removeprefix('models/')}/commit/{sha}"
        self._send({"success": True, "commitOid": sha, "commitUrl": url})

    # Large files.

    def _plan_uploads(self, repo):
        self._repository(repo, write=True)
        asked = json.loads(self._read())
        planned = [self._plan_upload(repo, each["oid"], each["size"]) for each in asked["objects"]]
        is_split = any("chunk_size" in each.get("actions", {}).get("upload", {}).get("header", {}) for each in planned)
        self._send({"transfer": "multipart" if is_split else "basic", "objects": planned})

    def _plan_upload(self, repo, oid, size):
        if oid in self.hub.store:
            return {"oid": oid, "size": size}
        upload = {"href": f"{self.hub.endpoint}/store/{oid}", "header": {}}
        if self.hub.part_size is not None and size > self.hub.part_size:
            count = -(-size // self.hub.part_size)
            urls = {str(number): f"{self.hub.endpoint}/store/{oid}/{number}" for number in range(1, count + 1)}
            upload = {
                "href": f"{self.hub.endpoint}/store/{oid}/complete",
                "header": {"chunk_size": str(self.hub.part_size), **urls},
            }
        verify = {"href": f"{self.hub.endpoint}/{repo}.git/info/lfs/verify", "header": {}}
        return {"oid": oid, "size": size, "authenticated": True, "actions": {"upload": upload, "verify": verify}}

    def _receive(self, oid, part=None):
        with self.hub.lock:
            uploads = sum(method == "PUT" for method, _ in self.hub.requests)
        if self.hub.cut_uploads_after is not None and uploads > self.hub.cut_uploads_after:
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.close_connection = True
            self.connection.close()
            return
        content = self._read()
        if part is not None:
            self.hub.parts[oid, int(part)] = content
        elif hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "the content does not have the promised SHA-256")
        else:
            self.hub.store[oid] = content
        self._send({}, headers={"ETag": hashlib.md5(content).hexdigest()})

    def _join_parts(self, oid):
        numbers = [each["partNumber"] for each in json.loads(self._read())["parts"]]
        content = b"".join(self.hub.parts.pop((oid, number)) for number in numbers)
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "the parts do not have the promised SHA-256 together")
        self.hub.store[oid] = content
        self._send({})

    def _verify_upload(self, repo):
        self._repository(repo, write=True)
        asked = json.loads(self._read())
        if len(self.hub.store.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "Object not found")
        self._send({})

    # Downloads.

    def _resolve(self, repo, revision, path):
        repository = self._repository(repo)
        sha = repository.sha_of(revision)
        file = repository.commits[sha].get(path)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", commit=sha)
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        if file.sha256 is None:
            self._send_range(file.content, headers)
            return
        # Large files come from a host of another name, to which the client must not show its token.
        location = {"Location": f"{self.hub.endpoint.replace('127.0.0.1', 'localhost')}/store/{file.sha256}"}
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        self._send(b"", status=302, headers={**headers, **linked, **location})

    def _send_stored(self, oid):
        if "Authorization" in self.headers:
            raise Refusal(400, "the token was shown to the host of the large files")
        self._send_range(self.hub.store[oid], {"ETag": f'"{oid}"'})

    def _send_range(self, content, headers):
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            self._send(content, headers=headers)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1) + 1
        span = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
        self._send(content[start:end], status=206, headers={**headers, **span})


def _tree_entry(path, file):
    entry = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
    if file.sha256 is not None:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
    return entry


def find_card_errors(text):
    """Returns what the Hub would refuse in the metadata of a card, as it describes them in its documentation."""
    found = re.match(r"---\n(.*?)\n---", text, re.S)
    try:
        data = yaml.safe_load(found[1]) if found else {}
    except yaml.YAMLError as error:
        return [f"the metadata is not YAML: {error}"]
    if not isinstance(data, dict):
        return ["the metadata must be a mapping"]
    errors = []
    for key, pattern in {"license": r"[a-z0-9.-]+", "pipeline_tag": r"[a-z0-9-]+", "library_name": r"[\w-]+"}.items():
        if key in data and not re.fullmatch(pattern, str(data[key])):
            errors.append(f'"{key}" must match {pattern}')
    for key in ("language", "datasets", "metrics", "tags"):
        values = data.get(key) or []
        values = values if isinstance(values, list) else [values]
        errors += [f'"{key}" must hold strings' for value in values if not isinstance(value, str) or not value]
    for index in data.get("model-index") or []:
        errors += [f'"model-index[].name" must be a string, got {index}'] if not index.get("name") else []
        errors += [each for result in index.get("results") or [] for each in _find_result_errors(result)]
    return errors


def _find_result_errors(result):
    required = {"task": ("type",), "dataset": ("type", "name")}
    for part, keys in required.items():
        for key in keys:
            if not isinstance((result.get(part) or {}).get(key), str):
                yield f'"model-index[].results[].{part}.{key}" is required'
    for metric in result.get("metrics") or [{}]:
        if not isinstance(metric.get("type"), str) or not isinstance(metric.get("value"), (int, float, str)):
            yield f'"model-index[].results[].metrics[]" must have a type and a value, got {metric}'
