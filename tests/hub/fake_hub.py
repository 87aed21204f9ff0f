"""A hub of our own on loopback: speaks the protocol of the Hugging Face hub and of OCI registries, and misbehaves on demand.

    with FakeHub() as hub:
        commit = hub.add("org/model", {"model-Q8_0.gguf": data, "README.md": b"..."})
        hub.behave("model-Q8_0.gguf", cut_at=1000)      # the next answer breaks off there
        ... HF_ENDPOINT=hub.url ...
        hub.requests                                     # what was asked: method, path, headers

Every file is an LFS file (SHA-256) if its name ends like weights, else a git blob (SHA-1), as on the hub. By hand, for real clients:
`python3 tests/hub/fake_hub.py FOLDER...` serves each folder as org/<its name> and prints the URL.
"""
import dataclasses
import email.utils
import hashlib
import http.server
import json
import pathlib
import re
import socketserver
import ssl
import sys
import threading
import time
import urllib.parse

LFS_SUFFIXES = (".gguf", ".safetensors", ".bin", ".model")
PAGE_ENTRIES = 3  # of a listing, so that paging is used


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclasses.dataclass
class File:
    data: bytes
    lfs: bool
    etag: str = ""

    def __post_init__(self):
        self.etag = hashlib.sha256(self.data).hexdigest() if self.lfs else git_sha1(self.data)


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: dict
    server: str  # "hub" or "store"


@dataclasses.dataclass
class Behaviour:
    """What goes wrong with a file; `times` answers of its bytes do, those after it are right (-1: all)."""
    cut_at: int | None = None        # the connection breaks off before this byte of the file
    flip_at: int | None = None       # one bit of this byte is wrong
    status: int | None = None        # this instead of an answer (429, 503, 404, ...)
    retry_after: int | None = None
    headers: dict = dataclasses.field(default_factory=dict)  # of the answer, replacing its own
    loop: bool = False               # a redirect to itself
    no_ranges: bool = False          # 200 and everything, whatever was asked for
    short: bool = False              # says it sends more than it has
    bytes_per_second: int | None = None
    error_code: str | None = None
    times: int = -1


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        hub = self.server.hub
        with hub.lock:
            hub.requests.append(Request(self.command, self.path, dict(self.headers.items()), self.server.role))
        try:
            if self.server.role == "store":
                return self.answer_store()
            if self.path.startswith("/v2/") or self.path.startswith("/token"):
                return self.answer_registry()
            return self.answer_hub()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- answers

    def send_bytes(self, status, body, headers=None):
        self.send_response(status)
        sent = {"Content-Length": str(len(body))} | (headers or {})
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value, headers=None, status=200):
        self.send_bytes(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def send_error_code(self, status, code, message="refused"):
        self.send_bytes(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def authorized(self, token):
        return token is None or self.headers.get("Authorization") == f"Bearer {token}"

    # ---- the hub

    def answer_hub(self):
        hub = self.server.hub
        path = urllib.parse.urlsplit(self.path).path
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+|[^/]+)/(revision|tree)/([^/]+)(?:/.*)?", path):
            return self.answer_listing(match[1], match[2], urllib.parse.unquote(match[3]))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)", path):
            return self.answer_listing(match[1], "revision", "main")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.answer_resolve(match[1], urllib.parse.unquote(match[2]), urllib.parse.unquote(match[3]))
        if path in hub.plain:
            return self.send_file(hub.plain[path], path)
        return self.send_error_code(404, "RepoNotFound")

    def find(self, name, revision):
        """The repository and its files at a revision, or None when the answer was an error."""
        hub = self.server.hub
        repository = hub.repositories.get(name)
        if repository is None or not self.authorized(repository.private_token):
            return self.send_error_code(401, "RepoNotFound", "Repository not found")
        commit = repository.revisions.get(revision, revision)
        if commit not in repository.commits:
            return self.send_error_code(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit, repository.commits[commit]

    def answer_listing(self, name, kind, revision):
        hub = self.server.hub
        if behaviour := hub.take_behaviour("listing"):
            return self.misbehave(behaviour)
        found = self.find(name, revision)
        if not found:
            return None
        repository, commit, files = found
        if kind == "revision":
            return self.send_json({"_id": "1", "id": name, "modelId": name, "sha": commit, "private": False, "gated": repository.gated,
                                   "disabled": False, "downloads": 0, "likes": 0, "tags": [], "cardData": repository.card,
                                   "siblings": [{"rfilename": file} for file in files]})
        entries = [self.tree_entry(file, content) for file, content in files.items()] + repository.extra_entries
        page = int(urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("cursor", ["0"])[0])
        part, headers = entries[page:page + PAGE_ENTRIES], {}
        if page + PAGE_ENTRIES < len(entries):
            headers["Link"] = f'<{hub.url}/api/models/{name}/tree/{commit}?recursive=true&cursor={page + PAGE_ENTRIES}>; rel="next"'
        return self.send_json(part, headers)

    @staticmethod
    def tree_entry(name, file):
        entry = {"type": "file", "oid": git_sha1(file.data), "size": len(file.data), "path": name}
        if file.lfs:
            entry["oid"] = git_sha1(f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.etag}\nsize {len(file.data)}\n".encode())
            entry["lfs"] = {"oid": file.etag, "size": len(file.data), "pointerSize": 135}
        return entry

    def answer_resolve(self, name, revision, path):
        hub = self.server.hub
        found = self.find(name, revision)
        if not found:
            return None
        repository, commit, files = found
        if repository.gated and not self.authorized(repository.gated_token):
            return self.send_error_code(403 if "Authorization" in self.headers else 401, "GatedRepo", f"Access to model {name} is restricted")
        if path not in files:
            return self.send_error_code(404, "EntryNotFound", "Entry not found")
        file = files[path]
        about = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not file.lfs:
            return self.send_file(file, path, about | {"ETag": f'"{file.etag}"'})
        about |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
        behaviour = hub.behaviours.get(path)
        where = self.path if behaviour and behaviour.loop else f"{hub.store_url}/{name}/{commit}/{urllib.parse.quote(path)}?signature=s"
        if self.server.scheme == "https":
            return self.send_file(file, path, about | {"ETag": f'"{file.etag}"'})
        return self.send_bytes(302, b"", about | {"Location": where, "ETag": f'"{file.etag}"'})

    # ---- the store that the hub redirects to

    def answer_store(self):
        hub = self.server.hub
        if match := re.fullmatch(r"/([^/]+/[^/]+)/([^/]+)/(.+)", urllib.parse.urlsplit(self.path).path):
            path = urllib.parse.unquote(match[3])
            file = hub.repositories[match[1]].commits[match[2]][path]
            return self.send_file(file, path, {"ETag": f'"store-{file.etag[:8]}"'})
        if match := re.fullmatch(r"/blob/(.+)", self.path):
            return self.send_file(hub.blobs[match[1]], match[1], {})
        return self.send_bytes(404, b"")

    def misbehave(self, behaviour):
        headers = dict(behaviour.headers)
        if behaviour.retry_after is not None:
            headers["Retry-After"] = str(behaviour.retry_after)
        if behaviour.error_code:
            headers["X-Error-Code"] = behaviour.error_code
        self.send_bytes(behaviour.status, b"not now", headers)

    def send_file(self, file, name, headers=None):
        hub = self.server.hub
        behaviour = hub.take_behaviour(name) or Behaviour()
        if behaviour.status:
            return self.misbehave(behaviour)
        begin, end, status = self.asked_range(file, behaviour)
        if begin >= len(file.data) and status == 206:
            return self.send_bytes(416, b"", {"Content-Range": f"bytes */{len(file.data)}"})
        fields = {"ETag": f'"{file.etag}"', "Content-Length": str(end - begin), "Date": email.utils.formatdate(usegmt=True)}
        if status == 206:
            fields["Content-Range"] = f"bytes {begin}-{end - 1}/{len(file.data)}"
        if behaviour.short:
            fields["Content-Length"] = str(end - begin + 10)
        fields |= (headers or {}) | behaviour.headers
        self.send_response(status)
        for key, value in fields.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        data = bytearray(file.data[begin:end])
        if behaviour.flip_at is not None and begin <= behaviour.flip_at < end:
            data[behaviour.flip_at - begin] ^= 1
        cut = behaviour.cut_at is not None and begin <= behaviour.cut_at < end
        self.send_slowly(bytes(data[:behaviour.cut_at - begin] if cut else data), behaviour.bytes_per_second or hub.bytes_per_second)
        if cut or behaviour.short:
            self.close_connection = True
        return None

    def send_slowly(self, data, bytes_per_second):
        hub = self.server.hub
        step = 1 << 20 if bytes_per_second is None else max(1, bytes_per_second // 200)
        for at in range(0, len(data), step):
            piece = data[at:at + step]
            self.wfile.write(piece)
            with hub.lock:
                hub.bytes_sent += len(piece)
            if bytes_per_second is not None:
                time.sleep(len(piece) / bytes_per_second)

    def asked_range(self, file, behaviour):
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if_range = self.headers.get("If-Range")
        if not match or behaviour.no_ranges or (if_range and if_range != f'"{file.etag}"'):
            return 0, len(file.data), 200
        last = int(match[2]) if match[2] else len(file.data) - 1
        return int(match[1]), min(last + 1, len(file.data)), 206

    # ---- an OCI registry

    def answer_registry(self):
        hub = self.server.hub
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/token":
            return self.send_json({"token": hub.registry_token})
        if hub.registry_token and self.headers.get("Authorization") != f"Bearer {hub.registry_token}":
            challenge = f'Bearer realm="{hub.registry_realm or hub.url + "/token"}",service="fake",scope="repository:x:pull"'
            return self.send_bytes(401, b"{}", {"WWW-Authenticate": challenge})
        if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", url.path):
            manifest = hub.manifests.get((match[1], match[2]))
            if manifest is None:
                return self.send_json({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
            return self.send_bytes(200, manifest, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"})
        if match := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]+)", url.path):
            if match[2] not in hub.blobs:
                return self.send_bytes(404, b"{}")
            return self.send_bytes(307, b"", {"Location": f"{hub.store_url}/blob/{match[2]}"})
        return self.send_bytes(404, b"{}")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError, ssl.SSLError)):
            super().handle_error(request, client_address)


@dataclasses.dataclass
class Repository:
    commits: dict = dataclasses.field(default_factory=dict)    # commit: {name: File}
    revisions: dict = dataclasses.field(default_factory=dict)  # branch or tag: commit
    card: dict = dataclasses.field(default_factory=dict)
    gated: object = False
    gated_token: str | None = None
    private_token: str | None = None
    extra_entries: list = dataclasses.field(default_factory=list)  # of the listing


class FakeHub:
    def __init__(self, certificate=None):
        """`certificate`: (chain, key) files make it an https server, which then gives the bytes itself."""
        self.lock = threading.Lock()
        self.requests, self.repositories, self.behaviours, self.plain = [], {}, {}, {}
        self.blobs, self.manifests, self.registry_token, self.registry_realm = {}, {}, None, None
        self.bytes_sent, self.bytes_per_second = 0, None
        self.servers = [self._start("hub", certificate), self._start("store", None)]
        self.url = f"{self.servers[0].scheme}://127.0.0.1:{self.servers[0].server_port}"
        self.store_url = f"http://127.0.0.1:{self.servers[1].server_port}"

    def _start(self, role, certificate):
        server = Server(("127.0.0.1", 0), Handler)
        server.hub, server.role, server.scheme = self, role, "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def add(self, name, files, revision="main", **about):
        """Commits the files to a branch; returns the commit."""
        repository = self.repositories.setdefault(name, Repository())
        for key, value in about.items():
            setattr(repository, key, value)
        content = {file: File(data, file.endswith(LFS_SUFFIXES)) for file, data in files.items()}
        commit = hashlib.sha1(f"{name} {[(n, f.etag) for n, f in content.items()]}".encode()).hexdigest()
        repository.commits[commit] = content
        repository.revisions[revision] = commit
        return commit

    def remove_commit(self, name, commit):
        repository = self.repositories[name]
        del repository.commits[commit]
        repository.revisions = {branch: there for branch, there in repository.revisions.items() if there != commit}

    def add_plain(self, path, data):
        self.plain[path] = File(data, True)

    def add_artifact(self, name, tag, layers):
        """layers: (media type, data, annotations). Returns the manifest's digest."""
        described = []
        for media_type, data, annotations in layers:
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            self.blobs[digest] = File(data, True)
            described.append({"mediaType": media_type, "digest": digest, "size": len(data)} | ({"annotations": annotations} if annotations else {}))
        manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": {}, "layers": described}).encode()
        digest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        self.manifests[name, tag] = self.manifests[name, digest] = manifest
        return digest

    def behave(self, file, **behaviour):
        """`file`: a file's name, or "listing" for the API."""
        self.behaviours[file] = Behaviour(**behaviour)

    def take_behaviour(self, file):
        with self.lock:
            behaviour = self.behaviours.get(file)
            if behaviour is None or behaviour.times == 0:
                return None
            behaviour.times -= 1
            return behaviour

    def asked(self, text):
        return [request for request in self.requests if text in request.path]


def main():
    with FakeHub() as hub:
        for folder in map(pathlib.Path, sys.argv[1:]):
            hub.add(f"org/{folder.name}", {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
        print(hub.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
