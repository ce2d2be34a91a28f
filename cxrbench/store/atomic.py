"""Files that are there whole or not at all, even after a kill."""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from cxrbench.store import digest

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
_NAME = re.compile(r"\..*\.(?P<machine>[0-9a-f]{12})\.[0-9a-f]{16}\.tmp", re.DOTALL)
_NO_LOCK = "0" * 12  # in place of the machine: the mount gave no lock, so age alone tells
_OLD = 24 * 3600.0  # seconds without a write after which nobody writes any more
_KEPT = 40  # characters of the name, which has at most 255 bytes with all that is added


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A new empty file in the folder of `path`, with the permissions that the umask leaves; gone at the end.

    It may be renamed away while this lasts.
    """
    made, handle = _new(path)
    try:
        if fcntl is None:
            os.close(handle)  # Windows renames no open file
        yield made
    finally:
        made.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(handle)  # the lock goes last: a file without one would be taken for a dead writer's


def _new(path: Path) -> tuple[Path, int]:
    machine = _NO_LOCK if fcntl is None else _machine()
    while True:
        made = path.with_name(f".{path.name[:_KEPT]}.{machine}.{secrets.token_hex(8)}.tmp")
        handle = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if machine == _NO_LOCK or (_locked(handle, wait=True) and os.fstat(handle).st_nlink):
            return made, handle
        # Either no lock is to be had here, or another process took the file for a dead writer's before it was locked.
        if os.fstat(handle).st_nlink:
            machine = _NO_LOCK
        made.unlink(missing_ok=True)
        os.close(handle)


def _locked(handle: int, *, wait: bool) -> bool:
    """Whether the lock on an open file is now ours; False where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


@cache
def _machine() -> str:
    """This machine since it was started; two containers on it are one machine, as their locks are."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        import platform
        import uuid

        told = f"{platform.node()} {uuid.getnode()}"
    return digest.of_bytes(told.encode())[:12]


@cache
def clear_once(folder: Path) -> None:
    """`clear_dead`, the first time that this process writes into the folder."""
    clear_dead(folder)


def clear_dead(folder: Path) -> list[Path]:
    """Remove temporary files in the folder whose writer is dead; those of living ones stay. What cannot go stays, too.

    On this machine the lock tells; elsewhere a day without a write does.
    """
    try:
        with os.scandir(folder) as entries:
            files = [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []
    named = ((path, _NAME.fullmatch(path.name)) for path in map(Path, files))
    return [path for path, match in named if match and _cleared(path, match["machine"])]


def _cleared(path: Path, machine: str) -> bool:
    try:
        handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return False
    try:
        own = fcntl is not None and machine == _machine()
        old = time.time() - os.fstat(handle).st_mtime > _OLD
        if not (_locked(handle, wait=False) if own else old):
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


# What mounts answer that cannot sync: a folder on CIFS, VirtualBox or FUSE, any file on some.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_NO_LINK = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC = _NO_SYNC | {errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to be filled; at the end it is synced and takes the place of `path`.

    It has the permissions of a new file, as the umask says. After an error it is removed, and what stood at `path` is
    as it was. An OSError that names no file, or the temporary one, names `path`. Files that killed writers left in the
    folder are removed.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_once(path.parent)
        with temporary_beside(path) as made, naming(path, made):
            yield made
            with made.open("rb+") as file:
                sync_file(file)
            made.replace(path)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path, stand_in: Path | None = None) -> Iterator[None]:
    """Lets an OSError that names no file, as those of writing, or the `stand_in`, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(stand_in)):
            error.filename, error.filename2 = str(path), None
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write the file under a temporary name beside it, sync, rename, sync the folder."""
    with written_whole(path) as made:
        made.write_bytes(data)


def written_new(path: Path, data: bytes) -> bool:
    """Write the file whole if there is none, without a lock: one of several processes does, and others get False."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_once(path.parent)
    with naming(path), temporary_beside(path) as made:
        with made.open("rb+") as file:
            file.write(data)
            sync_file(file)
        try:
            os.link(made, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            if path.exists():
                return False
            made.replace(path)  # a mount without links
    sync_folder(path.parent)
    return True


def sync_file(file: IO[Any]) -> None:
    """Make what was written to an open file durable; goes on where the mount cannot."""
    file.flush()
    sync = getattr(os, "fdatasync", os.fsync)  # macOS and Windows have no fdatasync
    try:
        sync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Make renames and new names in the folder durable; goes on where system or mount cannot."""
    if os.name == "nt":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
