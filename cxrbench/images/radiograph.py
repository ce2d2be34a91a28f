"""One radiograph from a path or from bytes: PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM, told by content alone."""

import os
import stat
from pathlib import Path

from cxrbench.errors import ImageError, MissingImageError, UnreadableError
from cxrbench.images import dicom, display, raster
from cxrbench.images.grey import Grey, refusing
from cxrbench.images.header import is_dicom
from cxrbench.store.folded_names import near
from cxrbench.system.contained import of_machine, shortage

BYTE_LIMIT = 1 << 30


def read_bytes(path: Path) -> bytes:
    """The whole content of a regular file; raises ImageError for anything else, and never waits for a pipe.

    A file that is not there is a MissingImageError; one that this machine cannot read now, as it lacks memory or open
    files or its disk fails, an UnreadableError.
    """
    try:
        return _bytes(path)
    except (OSError, MemoryError) as error:
        if of_machine(error):
            raise UnreadableError(path, shortage(error)) from error
        raise ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _bytes(path: Path) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingImageError(f"{path}: no such file.{_near(path)}") from error
    except (OSError, ValueError) as error:
        if of_machine(error):
            raise
        raise ImageError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    try:
        _check_regular(path, os.fstat(handle))
        with os.fdopen(handle, "rb", closefd=False) as file:
            data = file.read()
    finally:
        os.close(handle)
    if not data:
        raise ImageError(f"{path}: is empty. Get a fresh copy.")
    return data


def read_radiograph(data: bytes, name: str, at_least: tuple[int, int] | None = None, reference: bool = False) -> Grey:
    """The picture as a viewer shows it: header, palette, bit depth and EXIF orientation followed, air dark.

    `name` only serves messages. `at_least` (height, width) allows a JPEG to be decoded at 1/2, 1/4 or 1/8 so long as
    neither side falls below it. `reference` takes pydicom's own decoders throughout. Raises ImageError with the name
    and the reason for whatever is not a whole picture.
    """
    with refusing(name):
        if is_dicom(data):
            return display.grey(dicom.decode_stored(data, reference))
        image = raster.open_picture(data)
        if at_least is not None:
            height, width = reversed(at_least) if raster.swaps_sides(image) else at_least
            raster.draft(image, height, width)
        return raster.grey(image)


def _check_regular(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or device"
        raise ImageError(f"{path}: is {kind}, not a picture")
    if about.st_size > BYTE_LIMIT:
        raise ImageError(f"{path}: has {about.st_size:,} bytes, far more than any radiograph")


def _near(path: Path) -> str:
    """A hint: a name in the same folder that differs in case or in Unicode form only, or the folder that is missing."""
    try:
        listed = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" Its folder {path.parent} cannot be listed either."
    found = near([path.name], sorted(name for name in listed if name != path.name))
    return "".join(f" There is {name!r}: correct the name or the table." for name in found.values())
