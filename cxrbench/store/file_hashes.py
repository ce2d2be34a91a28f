"""Which bytes a file holds: SHA-256 by path and stamp, so that a warm run reads no image at all."""

import contextlib
import os
import stat
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.sealed import DamagedError, listed, read_regular

# One record of a log; names are the first half of the SHA-256 of the path below the root.
RECORD = np.dtype(
    [
        ("name", "u1", (16,)),
        ("content", "u1", (32,)),
        ("size", "<i8"),
        ("mtime", "<i8"),
        ("ctime", "<i8"),
        ("inode", "<u8"),
        ("written", "<i8"),
        ("checksum", "<u4"),
    ]
)
_NONE = np.zeros(0, RECORD)
_SUMMED = RECORD.itemsize - 4  # bytes that the checksum is of
_MOST_BYTES = 1 << 32  # of a log: 46 million files
_STAMP = ("size", "mtime", "ctime", "inode")
_AT_ONCE, _ASKING = 1024, 16  # files that a thread asks the system about, and threads
_LOGS = 64  # that are borne with; more are merged
_REST_S = 3600.0  # without a write, after which a log's process is taken to have ended
_FINE_NS, _COARSE_NS = 20 * 10**6, 3 * 10**9  # within such a time two changes may carry one time stamp
_COARSE_UNIT = 10**6
_STALE = 4096  # records of earlier stamps that are borne with, and as many as half of the names


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says of a file without reading it, links followed.

    `ctime_ns` is when content, name or times were last changed: unlike `mtime_ns`, no `tar`, `rsync -a` or `cp -p` can
    set it back (on Windows it is the time of creation). `inode` is the file's number, which a file put in its place
    has not; the number of the device is not in it, since that changes with every mount. Not `settled`: changed so
    lately that another change could leave the same times; such a stamp is good for nothing later.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    settled: bool = field(default=True, compare=False)


def stamp(path: Path) -> Stamp | None:
    """The file's stamp, or None where there is no regular file; waits some milliseconds for one just written."""
    first = _stamp(path)
    if first is None or first.settled or _grain_ns(first.ctime_ns) != _FINE_NS:
        return first
    time.sleep(_FINE_NS / 1e9)
    return _stamp(path)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    settled = status.st_ctime_ns < time.time_ns() - _grain_ns(status.st_ctime_ns)
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, settled)


def _grain_ns(changed: int) -> int:
    """How long two changes may look alike: file systems that count milliseconds or seconds write round numbers."""
    return _COARSE_NS if changed % _COARSE_UNIT == 0 else _FINE_NS


class FileHashes:
    """Content hashes of the files below one folder, kept in the cache as logs: one for each process that wrote.

    Nobody writes into the log of another, so no lock is needed, and what two processes found out is all there. Each
    record carries its own checksum; one that lost it is not believed, nor is a last one that a kill cut off: the file
    is hashed again. Many logs, or many records of earlier stamps, are merged into one by whoever next writes. A log
    that cannot be read at all (too large, or no file) is left out; `unread` then says why. `rehash`: believe nothing
    that is kept. `damaged` counts records that were met and not believed; `changed_unseen` holds files whose content
    is another than the kept one though their stamp is the same.
    """

    def __init__(self, cache: Path, root: Path, rehash: bool = False) -> None:
        self._prefixes = tuple(f"{place}{os.sep}" for place in dict.fromkeys((root, root.resolve())))
        self._root, self._rehash = root.resolve(), rehash
        self._folder = cache / "file_hashes" / digest.of_bytes(os.fsencode(self._root))[:32]
        self.unread, self.damaged = "", 0
        self.changed_unseen: dict[Path, None] = {}
        self._own: dict[tuple[bytes, Stamp], str] = {}  # what this process found out
        self._log: Path | None = None
        parts = {path: records for path in _logs(self._folder) if (records := self._read(path)) is not None}
        self._records = np.concatenate(list(parts.values())) if len(parts) > 1 else next(iter(parts.values()), _NONE)
        self._index()
        self._to_merge = len(parts) > _LOGS or len(self._records) > self._distinct() + self._borne()

    def _read(self, path: Path) -> NDArray[np.void] | None:
        try:
            data = read_regular(path, _MOST_BYTES)
        except FileNotFoundError:  # merged by another process meanwhile
            return None
        except DamagedError as error:
            self.unread = str(error)
            return None
        return np.frombuffer(data, RECORD, len(data) // RECORD.itemsize)

    def _index(self) -> None:
        """Order the records by name, those of one name by time; some twelve bytes a record beside the records."""
        heads = _heads(self._records["name"])
        order = np.lexsort((self._records["written"], heads)).astype(np.uint32)
        self._heads, self._order = heads[order], order

    def _distinct(self) -> int:
        return int((self._heads[1:] != self._heads[:-1]).sum()) + bool(len(self._heads))

    def _borne(self) -> int:
        """How many records of earlier stamps are borne with."""
        return max(_STALE, self._distinct() // 2)

    def _name(self, path: Path) -> bytes:
        told = str(path)
        for prefix in self._prefixes:
            if told.startswith(prefix):
                told = told[len(prefix) :]
                break
        else:
            told = os.path.relpath(path, self._root)
        return sha256(os.fsencode(told)).digest()[:16]

    def known(self, path: Path) -> str | None:
        """SHA-256 of the file's bytes if it was read before and has not changed since, else None."""
        now = _stamp(path)
        if now is None:
            return None
        name = self._name(path)
        own = self._own.get((name, now))
        return own if own is not None or self._rehash else self._kept(name, now)

    def known_all(self, paths: Sequence[Path]) -> list[str | None]:
        """`known` of many files; the system is asked about several at a time, which a mount over a network needs."""
        parts = [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]
        with ThreadPoolExecutor(_ASKING if len(parts) > 1 else 1) as pool:
            return [known for part in pool.map(self._known_part, parts) for known in part]

    def _known_part(self, paths: Sequence[Path]) -> list[str | None]:
        stamps = [_stamp(path) for path in paths]
        names = [self._name(path) for path in paths]
        found = [None if at is None else self._own.get((name, at)) for name, at in zip(names, stamps, strict=True)]
        if self._rehash or not len(self._heads):
            return found
        places = [n for n, at in enumerate(stamps) if at is not None and found[n] is None]
        newest = self._newest([names[n] for n in places])
        for n, record in zip(places, newest, strict=True):
            at = stamps[n]
            assert at is not None
            if record["name"].tobytes() == names[n] and tuple(record[part] for part in _STAMP) == _told(at):
                found[n] = record["content"].tobytes().hex() if _whole(record) else self._kept(names[n], at)
            else:
                found[n] = self._kept(names[n], at)
        return found

    def _newest(self, names: Sequence[bytes]) -> NDArray[np.void]:
        """The newest record of each name, or the one before which it would stand."""
        asked = _heads(np.frombuffer(b"".join(names), np.uint8).reshape(-1, RECORD["name"].shape[0]))
        return self._records[self._order[np.maximum(np.searchsorted(self._heads, asked, "right") - 1, 0)]]

    def _kept(self, name: bytes, now: Stamp) -> str | None:
        """The content of the newest record of the name with this stamp."""
        for record in self._of_name(name):
            if tuple(int(record[part]) for part in _STAMP) == _told(now):
                return bytes(record["content"].tobytes()).hex()
        return None

    def _of_name(self, name: bytes) -> Iterator[Any]:
        """The records of a name that have their checksum, newest first."""
        if not len(self._heads):
            return
        head = _heads(np.frombuffer(name, np.uint8)[None])[0]
        first, last = (int(np.searchsorted(self._heads, head, side)) for side in ("left", "right"))
        for at in range(last - 1, first - 1, -1):
            record = self._records[self._order[at]]
            if not _whole(record):
                self.damaged += 1
            elif record["name"].tobytes() == name:
                yield record

    def add(self, entries: Iterable[tuple[Path, Stamp, str]]) -> None:
        """Remember what was read; the stamp must have been taken before the bytes were.

        A file that is not now as it was then is not remembered: it changed while it was read, or after.
        """
        found = list[tuple[bytes, Stamp, str]]()
        for path, at, content in entries:
            if not at.settled or _stamp(path) != at:
                continue
            name = self._name(path)
            kept = self._own.get((name, at)) or self._kept(name, at)
            if kept != content:
                found.append((name, at, content))
            if kept not in (None, content):
                self.changed_unseen[path] = None
            self._own[name, at] = content
        if found:
            self._append(_records(found))

    def _append(self, records: NDArray[np.void]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._to_merge:
            self._merge()
        if self._log is None:
            self._log = self._folder / f"{uuid.uuid4().hex}.log"
        with self._log.open("ab", buffering=0) as file:
            file.truncate(file.tell() // RECORD.itemsize * RECORD.itemsize)  # what a full disk cut off
            file.write(records.tobytes())

    def _merge(self) -> None:
        """Make one log of those whose processes have ended: of each name the newest record that has its checksum.

        Two processes that do it at once write the same twice, and lose nothing.
        """
        self._to_merge = False
        found = {path: self._read(path) for path in _logs(self._folder) if _at_rest(path)}
        ended = {path: records for path, records in found.items() if records is not None}  # as they are now
        newest: dict[bytes, bytes] = {}
        records = np.concatenate([_NONE, *ended.values()])
        for record in records[np.argsort(records["written"], kind="stable")]:
            if _whole(record):
                newest[record["name"].tobytes()] = record.tobytes()
        if newest:
            write_atomically(self._folder / f"{uuid.uuid4().hex}.log", b"".join(newest.values()))
        for path in ended:
            with contextlib.suppress(OSError):  # one that stays is merged another time
                path.unlink()


def _told(at: Stamp) -> tuple[int, int, int, int]:
    return at.size, at.mtime_ns, at.ctime_ns, at.inode


def _logs(folder: Path) -> list[Path]:
    return [folder / name for name in listed(folder) if name.endswith(".log")]


def _at_rest(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _REST_S
    except OSError:
        return False


def _heads(names: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first eight bytes of each name."""
    found: NDArray[np.uint64] = np.ascontiguousarray(names[:, :8]).view("<u8")[:, 0].astype(np.uint64)
    return found


def _records(found: Sequence[tuple[bytes, Stamp, str]]) -> NDArray[np.void]:
    """Records of names with their stamps and contents; of one name the last counts as the newest."""
    records = np.zeros(len(found), RECORD)
    names, stamps, contents = zip(*found, strict=True)
    for part, data in (("name", b"".join(names)), ("content", bytes.fromhex("".join(contents)))):
        records[part] = np.frombuffer(data, np.uint8).reshape(len(found), -1)
    for part, values in zip(_STAMP, zip(*map(_told, stamps), strict=True), strict=True):
        records[part] = np.array(values, RECORD[part])
    records["written"] = time.time_ns()
    data, size = records.tobytes(), RECORD.itemsize
    records["checksum"] = [zlib.crc32(data[first : first + _SUMMED]) for first in range(0, len(data), size)]
    return records


def _whole(record: Any) -> bool:
    """Whether a record has its checksum."""
    return bool(zlib.crc32(record.tobytes()[:_SUMMED]) == record["checksum"])
