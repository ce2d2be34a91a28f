"""Files that are there whole or not at all, even after a kill."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cxrbench.store.temporary import clear_once, temporary_beside

# What mounts answer that cannot sync: a folder on CIFS, VirtualBox or FUSE, any file on some.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
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
