"""Which bytes a file holds: SHA-256 by path, size and modification time, so that a warm run reads no image at all."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cxrbench import digest


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file system says of a file without reading it."""

    size: int
    mtime_ns: int


def stamp(path: Path) -> Stamp | None:
    """Size and modification time, or None where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


class Ledger:
    """Content hashes of the images below one folder, kept as an append-only text file in the cache."""

    def __init__(self, cache: Path, root: Path) -> None:
        self._root = root.resolve()
        self._path = cache / "ledger" / f"{digest.of_bytes(str(self._root).encode())[:32]}.tsv"
        self._known = dict(self._read())

    def _read(self) -> Iterable[tuple[tuple[str, Stamp], str]]:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().split(b"\n")[:-1]:
            fields = line.decode("utf-8", "surrogateescape").split("\t")
            if len(fields) == 4 and len(fields[0]) == 64 and fields[1].isdigit() and fields[2].isdigit():
                yield (_unquoted(fields[3]), Stamp(int(fields[1]), int(fields[2]))), fields[0]

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._root)

    def known(self, path: Path) -> str | None:
        """SHA-256 of the file's bytes if it was read before and has not changed since, else None."""
        now = stamp(path)
        return self._known.get((self._name(path), now)) if now is not None else None

    def add(self, entries: Iterable[tuple[Path, Stamp, str]]) -> None:
        """Remember what was read; the stamp must have been taken before the bytes were."""
        lines = []
        for path, at, content in entries:
            name = self._name(path)
            if self._known.get((name, at)) != content:
                self._known[name, at] = content
                lines.append(f"{content}\t{at.size}\t{at.mtime_ns}\t{_quoted(name)}\n")
        if not lines:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._path}.lock"), self._path.open("ab") as file:
            if file.tell() and not _ends_whole(self._path):
                file.write(b"\n")
            file.write("".join(lines).encode("utf-8", "surrogateescape"))


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


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
