"""A small HTTP server in place of the Hugging Face Hub, with the headers that its library reads."""

import contextlib
import dataclasses
import hashlib
import http.server
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class FakeHub:
    """The repositories of the server, its faults, and the requests that it got.

    files: {'OWNER/NAME/FILE': content} of the branch main.
    served: {'OWNER/NAME/FILE': content} of a file whose content is not the stated one.
    broken: '' or 'every': the server hangs up in place of an answer; 'once': in the middle of the
      next file.
    status: of every answer, if not 200.
    requests: 'METHOD PATH' of each.
    """

    address: str
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    served: dict[str, bytes] = dataclasses.field(default_factory=dict)
    broken: str = ''
    status: int = 200
    requests: list[str] = dataclasses.field(default_factory=list)

    @property
    def commit(self) -> str:
        """The commit of the branch main, another one for other files."""
        digest = hashlib.sha1()
        for name, content in sorted(self.files.items()):
            digest.update(name.encode())
            digest.update(content)
        return digest.hexdigest()


def checksum(name: str, content: bytes) -> str:
    """Returns the name of a file on the Hub: SHA-256 of weights, Git's SHA-1 of text."""
    if name.endswith('.safetensors'):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()


@contextlib.contextmanager
def serving() -> Iterator[FakeHub]:
    """Serves on a free port of this machine until the context ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def answer(self, with_body: bool):
            hub.requests.append(f'{self.command} {self.path}')
            if hub.broken == 'every':
                self.close_connection = True
                return
            if hub.status != 200:
                self.reply(hub.status)
                return
            owner, name, _, revision, file = self.path.strip('/').split('/', 4)
            if not any(key.startswith(f'{owner}/{name}/') for key in hub.files):
                self.reply(404, {'X-Error-Code': 'RepoNotFound'})
            elif revision not in ('main', hub.commit):
                self.reply(404, {'X-Error-Code': 'RevisionNotFound'})
            elif (key := f'{owner}/{name}/{file}') not in hub.files:
                self.reply(404, {'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': hub.commit})
            else:
                self.send(key, with_body)

        def send(self, key: str, with_body: bool):
            stated = hub.files[key]
            content = hub.served.get(key, stated) if with_body else stated
            headers = {'ETag': f'"{checksum(key, stated)}"', 'X-Repo-Commit': hub.commit}
            start = 0
            if wanted := self.headers.get('Range'):
                start = int(wanted.removeprefix('bytes=').split('-')[0])
                headers['Content-Range'] = f'bytes {start}-{len(content) - 1}/{len(content)}'
            body = content[start:]
            headers['Content-Length'] = str(len(body))
            self.reply(206 if start else 200, headers, end=False)
            if with_body and hub.broken == 'once':
                hub.broken = ''
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
            elif with_body:
                self.wfile.write(body)

        def reply(self, status: int, headers: dict | None = None, end: bool = True):
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if end:
                self.send_header('Content-Length', '0')
            self.end_headers()

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    hub = FakeHub(f'http://127.0.0.1:{server.server_port}')
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
