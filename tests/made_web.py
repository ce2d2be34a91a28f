"""A web server on this machine that does as it is told: with ranges or without, cut off, changed, dressed as a page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 3000  # 768,000 bytes


@dataclass
class Site:
    """What the server gives. `cuts`: after how many bytes each of the first answers breaks off."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    ranges: bool = True
    if_range: bool = True  # False: gives the range asked for, whatever became of the file
    cuts: list[int] = field(default_factory=list)
    kind: str = "application/octet-stream"
    status: list[int] = field(default_factory=list)  # of the first answers, where it is an error
    length: bool = True
    extra: int = 0  # bytes more than announced in a partial answer's range
    headers: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # by path, instead of `content`
    asked: list[dict[str, str]] = field(default_factory=list)  # the headers of every request
    paths: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, head: bool) -> None:
        site = self.site
        site.asked.append(dict(self.headers))
        site.paths.append(self.path)
        body = site.files.get(self.path) if site.files else site.content
        if site.status:
            self.send_error(site.status.pop(0))
            return
        if body is None:
            self.send_error(404)
            return
        start = self._start(site, body)
        rest = body[start:] + b"x" * (site.extra if start else 0)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if site.length:
            self.send_header("Content-Length", str(len(rest)))
        if site.etag:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Type", site.kind)
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not head:
            self.wfile.write(rest[: site.cuts.pop(0)] if site.cuts else rest)
        self.close_connection = True

    def _start(self, site: Site, body: bytes) -> int:
        asked = self.headers.get("Range", "")
        same = not site.if_range or self.headers.get("If-Range") == site.etag
        return min(int(asked.removeprefix("bytes=").rstrip("-")), len(body)) if asked and site.ranges and same else 0

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(site: Site) -> Iterator[Site]:
    """The site on a free port of 127.0.0.1; `url` is the address of its file."""
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site.url = f"http://127.0.0.1:{server.server_address[1]}/published.bin"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Told:
    """Keeps what a progress bar would be told."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.came = self.stops = 0

    def start(self, total: int, done: int, what: str) -> None:
        self.starts.append((total, done))

    def advance(self, count: int) -> None:
        self.came += count

    def stop(self) -> None:
        self.stops += 1
