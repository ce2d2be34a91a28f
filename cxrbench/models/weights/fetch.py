"""Weights from where their authors publish them, into the folder where every verb looks for them."""

import contextlib
import errno
import glob
import json
import re
import shutil
import stat
import struct
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock
from pydantic import TypeAdapter, ValidationError

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import find_weights
from cxrbench.models.hub import offline, require_hub
from cxrbench.models.shards import is_index, read_index
from cxrbench.models.text import TextFiles, fetched_text_files
from cxrbench.specs.card import ModelCard
from cxrbench.store.atomic import sync_file, sync_folder, write_atomically, written_whole
from cxrbench.store.schema import LocalPath, complaints
from cxrbench.system.printable import printable
from cxrbench.system.progress import Transfer

_MOST_RATIO = 100  # weights hardly shrink; a thousand is what a bomb has
_MOST_BYTES = 64 << 30
_KINDS = {stat.S_IFLNK: "a link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe"}
_ENCRYPTED = 0x1


def extract(archive: Path, member: str, target: Path) -> None:
    """Unpack the one `member` as `target`, there whole or not at all; nothing else is unpacked.

    Raises IntegrityError, before a byte is written, for an archive that is none, lacks the member, or holds anything
    with a path that leads out, a link, a device, an encrypted or a bomb-sized member; DataError if the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, _member(archive, opened.infolist(), member), target)
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, struct.error, zlib.error) as error:
        raise _broken(archive, error) from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # which is a place before the start of the file
            raise
        raise _broken(archive, error) from error


def _broken(archive: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"{archive}: no whole zip archive ({error}). Remove it, and fetch it again.")


def _member(archive: Path, members: list[zipfile.ZipInfo], wanted: str) -> zipfile.ZipInfo:
    for info in members:
        fault = _fault(info)
        if fault:
            raise IntegrityError(
                f"{archive}: its member {info.filename!r} is {fault}; no such archive was published. Nothing was "
                "unpacked. Remove it, and fetch it again from where the card says."
            )
    found = [info for info in members if info.filename == wanted]
    if len(found) != 1:
        names = ", ".join(info.filename for info in members[:8])
        raise IntegrityError(f"{archive}: {len(found)} members named {wanted!r}, one is wanted; it holds {names}")
    return found[0]


def _fault(info: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member, or None."""
    name = info.orig_filename.replace("\\", "/")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if ".." in name.split("/") or "\0" in name:
        return "a path that leads out of the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _KINDS.get(kind, "no file")
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.file_size > _MOST_BYTES or info.file_size > _MOST_RATIO * max(info.compress_size, 1 << 10):
        return f"{info.file_size} bytes in {info.compress_size}, a bomb"
    return None


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    free = shutil.disk_usage(target.parent).free
    if info.file_size > free:
        raise DataError(f"{target}: needs {info.file_size} bytes, {free} are free on this disk")
    with written_whole(target) as made, made.open("wb") as file, opened.open(info) as packed:
        shutil.copyfileobj(packed, file, 1 << 20)  # stops at the size checked above; a wrong checksum raises


_BLOCK = 1 << 18
_ABANDONED = 6 * 3600.0  # seconds without a write; a connection that lives stalls for minutes at most
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

    Bytes gather in a file of this process's own, which is renamed when it has the announced length; of an attempt that
    ends otherwise they stay as `NAME.part`. A lock lets others wait; where a mount gives it to everybody, the file
    comes more than once, and is whole all the same. Raises DataError if the server cannot be reached, refuses, or
    breaks off again and again (the part is kept), IntegrityError if it sends a web page, or not the bytes that it
    announced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.is_file():
            _Download(url, target, progress).run()
    Path(f"{target}.lock").unlink(missing_ok=True)


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _abandoned(part: Path) -> bool:
    """Whether nobody has written into a part for a while: its process was killed."""
    try:
        return time.time() - part.stat().st_mtime > _ABANDONED
    except OSError:
        return False


class _Download:
    def __init__(self, url: str, target: Path, progress: Transfer) -> None:
        self._url, self._target, self._progress = url, target, progress
        self._kept = target.with_name(f"{target.name}.part")
        self._part = target.with_name(f"{target.name}.{uuid.uuid4().hex}.part")
        self._note = _note_of(self._part)
        self._answered = False

    def run(self) -> None:
        self._claim()
        try:
            self._run()
        finally:
            self._hand_back()

    def _claim(self) -> None:
        """Take over what an earlier attempt left: a rename succeeds for one process alone."""
        left = [
            path for path in self._target.parent.glob(f"{glob.escape(self._target.name)}.*.part") if _abandoned(path)
        ]
        for part in (self._kept, *sorted(left)):
            try:
                part.rename(self._part)
            except OSError:  # another process has it
                continue
            with contextlib.suppress(OSError):  # a part without its note is begun anew
                _note_of(part).rename(self._note)
            return

    def _hand_back(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._note.replace(_note_of(self._kept))
            self._part.replace(self._kept)

    def _run(self) -> None:
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
        got = f"{self._have()} of {known.length} bytes are kept in {self._kept}"
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


def weights_folder(cache: Path) -> Path:
    """Where weights are put and looked for when nobody names a folder: one folder a model."""
    return cache / "weights"


def locate(card: ModelCard, given: Path | None, cache: Path) -> Path:
    """The weights of a card: `given`, or beside the card, or what `fetch` put into the cache.

    Raises what `models.base.find_weights` raises, and SpecError for a card whose tensors are made.
    """
    _require_file(card)
    return find_weights(card, given, weights_folder(cache))


def place(card: ModelCard, given: Path | None, cache: Path) -> Path:
    """Where the file that `fetch` gets will lie; raises SpecError for a `given` that is a file.

    Raises SpecError too for a card whose tensors are made.
    """
    _require_file(card)
    if given is not None and given.is_file():
        raise SpecError(f"{card.name}: {given} is a file; name the folder that shall hold the weights")
    return (given or weights_folder(cache)) / card.name / card.weights.files[0]


def fetch(card: ModelCard, given: Path | None, cache: Path, progress: Transfer) -> Path:
    """The weights of a card, fetched into the folder `given` or the cache's unless they are there.

    Raises DataError that says what to open and where to put it if only a person can get them, or if there is no
    network; IntegrityError for what is not the file; SpecError as `place` does.
    """
    target = place(card, given, cache)
    try:
        return locate(card, given, cache)
    except DataError:
        pass
    if card.weights.fetch == "by-hand":
        raise DataError(by_hand(card, target))
    if offline() and not _archive(card, target).is_file():
        raise DataError(f"{card.name}: HF_HUB_OFFLINE forbids the network. {by_hand(card, target)}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if card.weights.fetch == "hub":
        _from_hub(card, target)
    else:
        _direct(card, target, progress)
    return target


def fetch_copy(card: ModelCard, file: str, given: Path | None, cache: Path) -> Path:
    """The `file` of the repository `hub_copy`, fetched into the model's folder under its own name.

    Raises SpecError for a card without such a repository and for a name that leads out of the folder, DataError if the
    hub cannot be reached, or has no such file (and says which it has), or if the model has weights there already.
    """
    facts, target = card.weights, place(card, given, cache)
    if facts.hub_copy is None:
        raise SpecError(f"{card.name}: --file names a file of a copy on the hub, and its card knows of none")
    try:
        TypeAdapter(LocalPath).validate_python(file)
    except ValidationError as error:
        raise SpecError(f"{card.name}: --file {file!r}: {complaints(error)}") from error
    if target.exists():
        raise DataError(f"{card.name}: there are weights at {target} already; move them away to fetch others")
    require_hub(card.name, by_hand(card, target))
    target.parent.mkdir(parents=True, exist_ok=True)
    return _copy_from_hub(card.name, facts.hub_copy, file, target.parent)


def _copy_from_hub(name: str, repository: str, file: str, folder: Path) -> Path:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RemoteEntryNotFoundError

    try:
        try:
            return Path(hf_hub_download(repository, file, local_dir=folder))
        except RemoteEntryNotFoundError as error:
            held = ", ".join(HfApi().list_repo_files(repository)[:20])
            raise DataError(f"{name}: {repository} has no {file!r}; it holds {printable(held)}") from error
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{name}: {file} cannot be fetched from {repository}: {reason}") from error


def fetch_text(card: ModelCard, folder: Path | None) -> TextFiles | None:
    """Tokenizer, configuration and text weights at the card's revision; None for a card without a text encoder.

    Raises DataError that says what to fetch and where to put it.
    """
    return None if card.text_encoder is None else fetched_text_files(card.text_encoder, folder)


def by_hand(card: ModelCard, target: Path) -> str:
    """What a person does to get the weights of a card to `target`."""
    facts = card.weights
    what = f"`{facts.member}` of the archive" if facts.member else f"`{facts.files[0]}`"
    page = (
        f"open {facts.url} in a browser ({facts.where}). Take {what}" if facts.url else f"take {what} ({facts.where})"
    )
    told = f"{card.name}: {page}, put it at {target}, then run `cxrbench weights verify {card.word}`."
    if facts.hub_copy is None:
        return told
    return (
        f"{told} Or take the copy on the hub, {facts.hub_copy}: how its file is called is not known here, so name it: "
        f"`cxrbench weights fetch {card.word} --file FILE`."
    )


def _require_file(card: ModelCard) -> None:
    if card.weights.made is not None:
        raise SpecError(f"{card.name}: there is no file of weights; its tensors are made: {card.weights.made}")


def _archive(card: ModelCard, target: Path) -> Path:
    """Where the downloaded archive lies, or for a card without one the target itself."""
    if card.weights.member is None:
        return target
    return target.parent / PurePosixPath(urlsplit(card.weights.url or "").path).name


def _direct(card: ModelCard, target: Path, progress: Transfer) -> None:
    """Download, and unpack if it is an archive; one that lies there already is taken."""
    archive = _archive(card, target)
    came = not archive.is_file()
    if came:
        try:
            download(card.weights.url or "", archive, progress)
        except DataError as error:
            raise DataError(f"{error} Or: {by_hand(card, target)}") from error
    if card.weights.member is not None:
        extract(archive, card.weights.member, target)
        if came:
            archive.unlink()


def _from_hub(card: ModelCard, target: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    facts = card.weights
    require_hub(card.name, by_hand(card, target))
    folder = target.parents[len(PurePosixPath(facts.files[0]).parts) - 1]
    try:
        hf_hub_download(facts.hub or "", facts.files[0], revision=facts.hub_revision, local_dir=folder)
        for shard in read_index(target).files if is_index(target) else ():
            name = shard.relative_to(folder).as_posix()
            hf_hub_download(facts.hub or "", name, revision=facts.hub_revision, local_dir=folder)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        at = f" at {facts.hub_revision}" if facts.hub_revision else ""
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{card.name}: {facts.files[0]} cannot be fetched from {facts.hub}{at}: {reason}. {by_hand(card, target)}"
        ) from error
