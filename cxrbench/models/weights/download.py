"""One file over HTTP: in parts where the server allows, whole or not there at all."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from cxrbench.errors import DataError, IntegrityError
from cxrbench.store.atomic import sync_file, sync_folder, write_atomically
from cxrbench.system.progress import Transfer

_BLOCK = 1 << 18
_FRUITLESS = 4  # attempts in a row that brought no byte
_WAIT = 0.5  # seconds before the second attempt; doubled before each further one
_TIMEOUT = (8.0, 60.0)  # seconds to connect, and between two blocks


@dataclass(frozen=True, slots=True)
class _Version:
    """Which bytes a server is giving: a part is only continued with those."""

    url: str
    validator: str  # a strong ETag, else Last-Modified, else "": then nothing can be continued
    length: int


class _CutError(Exception):
    """The connection ended before the file did."""


def download(url: str, target: Path, progress: Transfer) -> None:
    """The file at `url` as `target`; what is there of an earlier attempt is continued if the server has the same file.

    Bytes gather in `NAME.part`, which is renamed when it has the announced length; one process at a time. Raises
    DataError if the server cannot be reached, refuses, or breaks off again and again (the part is kept), IntegrityError
    if it sends a web page, or not the bytes that it announced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            _Download(url, target, progress).run()
    Path(f"{target}.lock").unlink(missing_ok=True)


class _Download:
    def __init__(self, url: str, target: Path, progress: Transfer) -> None:
        self._url, self._target, self._progress = url, target, progress
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._answered = False

    def run(self) -> None:
        import requests

        fruitless = 0
        with requests.Session() as session:
            while True:
                before = self._have()
                try:
                    self._attempt(session)
                    break
                except (_CutError, requests.RequestException) as error:
                    fruitless = 0 if self._have() > before else fruitless + 1
                    unreachable = isinstance(error, requests.ConnectionError) and not self._answered
                    if unreachable or fruitless == _FRUITLESS:  # no network, or no such server: again is no help
                        raise DataError(self._told_cut(error)) from error
                    time.sleep(_WAIT * 2**fruitless)
        with self._part.open("rb+") as file:
            sync_file(file)
        self._part.replace(self._target)
        self._note.unlink(missing_ok=True)
        sync_folder(self._target.parent)

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _known(self) -> _Version | None:
        """What the bytes of the part are; a part without a readable note is of no use."""
        try:
            known = _Version(**json.loads(self._note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return known if known.url == self._url and known.validator and self._have() <= known.length else None

    def _attempt(self, session: Any) -> None:
        """One request, from where the part ends; raises _CutError if it does not bring the rest."""
        known = self._known()
        if known is not None and self._have() == known.length:
            return
        headers = {"Accept-Encoding": "identity"}
        if known is not None and self._have():
            headers |= {"Range": f"bytes={self._have()}-", "If-Range": known.validator}
        with session.get(self._url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            self._answered = True
            if response.status_code in (206, 416) and not self._continues(response, known):
                self._forget()
                raise _CutError("the file changed on the server")
            self._require_file(response)
            if response.status_code == 200:
                known = self._begin(response)
            assert known is not None  # a 206 that continues nothing is a cut, above
            self._receive(response, known)

    def _continues(self, response: Any, known: _Version | None) -> bool:
        if known is None or response.status_code != 206:
            return False
        same = _validator(response) in ("", known.validator)
        return same and response.headers.get("Content-Range") == (
            f"bytes {self._have()}-{known.length - 1}/{known.length}"
        )

    def _require_file(self, response: Any) -> None:
        if response.status_code in (500, 502, 503, 504, 429):
            raise _CutError(f"the server answers {response.status_code}")
        if response.status_code not in (200, 206):
            raise DataError(f"{self._url}: the server answers {response.status_code} {response.reason}")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise self._web_page()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise IntegrityError(f"{self._url}: the server sends the file encoded, though asked for it as it is")

    def _begin(self, response: Any) -> _Version:
        """Throw the part away and note what is coming; raises DataError if the server does not say how much."""
        length = response.headers.get("Content-Length", "")
        if not length.isdigit() or not int(length):
            raise DataError(f"{self._url}: the server does not say how long the file is, so a cut would go unnoticed")
        self._forget()
        version = _Version(self._url, _validator(response), int(length))
        write_atomically(self._note, json.dumps(asdict(version)).encode())
        return version

    def _receive(self, response: Any, version: _Version) -> None:
        done = self._have()
        self._progress.start(version.length, done, self._target.name)
        try:
            with self._part.open("ab") as file:
                for block in _blocks(response):
                    if not done and block.lstrip()[:1] == b"<" and b"\0" not in block[:8]:
                        raise self._web_page()
                    file.write(block)
                    done += len(block)
                    self._progress.advance(len(block))
        finally:
            self._progress.stop()
        if done > version.length:
            self._forget()
            raise IntegrityError(f"{self._url}: {done} bytes came, {version.length} were announced; nothing was kept")
        if done < version.length:
            raise _CutError(f"{done} of {version.length} bytes came")

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _web_page(self) -> IntegrityError:
        self._forget()
        return IntegrityError(
            f"{self._url}: the server sends a web page, not the file; nothing was kept. Open the address in a browser: "
            "it may want a click, or the file has moved."
        )

    def _told_cut(self, error: Exception) -> str:
        known = self._known()
        if known is None:
            return f"{self._url}: {error}. Run the same command again."
        got = f"{self._have()} of {known.length} bytes are kept in {self._part}"
        return f"{self._url}: {error}. {got}; the same command goes on from there."


def _validator(response: Any) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _blocks(response: Any) -> Iterator[bytes]:
    """The bytes as sent; raises _CutError where the connection ends or falls silent."""
    from urllib3.exceptions import HTTPError

    try:
        yield from response.raw.stream(_BLOCK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _CutError(str(error)) from error
