"""Which bytes a file holds: SHA-256 by path and stamp, so that a warm run reads no image at all."""

import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.sealed import DamagedError, read_regular

_CHECK = 16  # hex digits of a line's own digest
_FINE_NS, _COARSE_NS = 20 * 10**6, 3 * 10**9  # within such a time two changes may carry one time stamp
_COARSE_UNIT = 10**6
_STALE = 4096  # lines of earlier stamps that are borne with, and as many as half of the names


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
    """Content hashes of the files below one folder, kept as a text file in the cache to which lines are appended.

    Every line carries its own digest. A line that lost it is not believed, and neither is a last line cut by a kill:
    the file is hashed again, and the line goes when the next one is written. Lines of a name's earlier stamps go once
    they are many. A table that cannot be read at all (too large, or no file) is begun anew; `unread` then says why.
    `rehash`: believe nothing that is kept. `damaged` counts lines that were not believed; `changed_unseen` holds files
    whose content is another than the kept one though their stamp is the same.
    """

    def __init__(self, cache: Path, root: Path, rehash: bool = False) -> None:
        self._root = root.resolve()
        self._path = cache / "file_hashes" / f"{digest.of_bytes(os.fsencode(self._root))[:32]}.tsv"
        self.unread = ""
        lines = list[bytes]()
        try:
            lines = _lines(self._path)
        except DamagedError as error:
            self.unread = str(error)
        entries = [_entry(line) for line in lines]
        self._kept = dict(entry for entry in entries if entry is not None)
        self._known = {} if rehash else dict(self._kept)
        self.damaged = entries.count(None)
        self.changed_unseen: dict[Path, None] = {}
        self._to_mend = self.damaged > 0 or bool(self.unread)
        self._count, self._names = len(entries), {name for name, _ in self._kept}

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._root)

    def known(self, path: Path) -> str | None:
        """SHA-256 of the file's bytes if it was read before and has not changed since, else None."""
        now = _stamp(path)
        return self._known.get((self._name(path), now)) if now is not None else None

    def add(self, entries: Iterable[tuple[Path, Stamp, str]]) -> None:
        """Remember what was read; the stamp must have been taken before the bytes were.

        A file that is not now as it was then is not remembered: it changed while it was read, or after.
        """
        lines = list[bytes]()
        for path, at, content in entries:
            if not at.settled or _stamp(path) != at:
                continue
            key = (self._name(path), at)
            kept = self._kept.get(key)
            if kept != content:
                lines.append(_line(key[0], at, content))
            if kept not in (None, content):
                self.changed_unseen[path] = None
            self._known[key] = self._kept[key] = content
            self._names.add(key[0])
        if lines:
            self._append(lines)

    def _append(self, lines: list[bytes]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"):
            self._count += len(lines)
            stale = self._count - len(self._names)
            if self._to_mend or stale > max(_STALE, len(self._names) // 2) or not _ends_whole(self._path):
                self._rewrite(lines)
            else:
                with self._path.open("ab") as file:
                    file.write(b"".join(lines))

    def _rewrite(self, lines: list[bytes]) -> None:
        """Keep the last line of each name, of those that other processes wrote meanwhile, too; call with the lock."""
        held = list[bytes]()
        try:
            held = _lines(self._path)
        except DamagedError:
            if self._path.is_dir():
                self._path.replace(self._path.with_suffix(".unread"))
        newest = dict[str, bytes]()
        for line in [*(line + b"\n" for line in held), *lines]:
            if entry := _entry(line[:-1]):
                newest.pop(entry[0][0], None)
                newest[entry[0][0]] = line
        write_atomically(self._path, b"".join(newest.values()))
        self._count, self._names, self._to_mend = len(newest), set(newest), False


def _lines(path: Path) -> list[bytes]:
    """Whole lines without their ends; a last one that a kill cut off is none."""
    try:
        return read_regular(path).split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _ends_whole(path: Path) -> bool:
    with path.open("ab+") as file:
        if file.tell() == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _line(name: str, at: Stamp, content: str) -> bytes:
    told = f"{content}\t{at.size}\t{at.mtime_ns}\t{at.ctime_ns}\t{at.inode}\t{_quoted(name)}\t"
    body = told.encode("utf-8", "surrogateescape")
    return body + _check(body) + b"\n"


def _entry(line: bytes) -> tuple[tuple[str, Stamp], str] | None:
    """What a line says; None unless it has its own digest."""
    body, check = line[:-_CHECK], line[-_CHECK:]
    if _check(body) != check:
        return None
    content, size, mtime, ctime, inode, name, _ = body.decode("utf-8", "surrogateescape").split("\t")
    return (_unquoted(name), Stamp(int(size), int(mtime), int(ctime), int(inode))), content


def _check(body: bytes) -> bytes:
    return digest.of_bytes(body)[:_CHECK].encode()


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _unquoted(name: str) -> str:
    out, escaped = [], False
    for letter in name:
        if escaped:
            out.append({"t": "\t", "n": "\n"}.get(letter, letter))
        elif letter != "\\":
            out.append(letter)
        escaped = letter == "\\" and not escaped
    return "".join(out)
