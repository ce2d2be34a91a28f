"""One file out of a zip archive of unknown making."""

import errno
import re
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from cxrbench.errors import DataError, IntegrityError
from cxrbench.store.atomic import written_whole

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
