"""`cxrbench data status` and `data prepare` over many small files: time, peak memory, and when a word is first said.

    python -m benchmarks.prepare [--files 10000 100000 1000000] [--below DIR]

NIH-CXR-LT in its own layout (tables, folders of ten thousand files), with PNG of 8 x 8 pixels that all differ. Each
command is a process of its own. CPU time is user and system of all threads: on a shared machine it is the honest one.
A million files take 4 GB below DIR (default: the system's temporary folder), which are removed at the end.
"""

import argparse
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

SIZES = (10_000, 100_000, 1_000_000)
_A_FOLDER = 10_000
_CLASSES = 20
COMMANDS = ("status", "prepare", "prepare again", "status again")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took: wall and CPU seconds, MiB at its peak, and seconds to its first and to its second word."""

    command: str
    files: int
    wall: float
    cpu: float
    peak: float
    words: tuple[float, ...]

    def __str__(self) -> str:
        spoke = ", ".join(f"{at:.1f}" for at in self.words[:2])
        return (
            f"data {self.command}: {self.files:,} files: {self.cpu:.1f} s CPU ({1e6 * self.cpu / self.files:.0f} us a "
            f"file), {self.wall:.1f} s, peak {self.peak:.0f} MiB, first words after {spoke} s"
        )


def png(number: int) -> bytes:
    """A grey picture of 8 x 8 pixels, another for each number."""
    plane = struct.pack(">Q", number) + bytes(range(56))
    rows = b"".join(b"\0" + plane[first : first + 8] for first in range(0, 64, 8))
    head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write(root: Path, files: int) -> None:
    """The data set: one table of all images for training, and two small ones of the first of them."""
    from cxrbench.specs.catalog import load_task

    names = [f"{n // 10:08d}_{n % 10:03d}.png" for n in range(files)]
    for first in range(0, files, _A_FOLDER):
        folder = root / f"images_{first // _A_FOLDER + 1:03d}" / "images"
        folder.mkdir(parents=True)
        for n in range(first, min(first + _A_FOLDER, files)):
            (folder / names[n]).write_bytes(png(n))
    tables, columns = root / "LongTailCXR", load_task("nih_lt").columns
    tables.mkdir()
    rows = {n: ",".join("1" if n == column else "0" for column in range(_CLASSES)) for n in range(_CLASSES)}
    parts = {"balanced-val": names[:300], "balanced-test": names[300:900], "train": names[900:]}
    for kind, own in parts.items():
        lines = [",".join(("id", *columns)), *(f"{name},{rows[n % _CLASSES]}" for n, name in enumerate(own))]
        (tables / f"nih-cxr-lt_single-label_{kind}.csv").write_text("\n".join(lines) + "\n", encoding="ascii")


def cost(command: str, files: int, root: Path, cache: Path) -> Cost:
    """Run `cxrbench data COMMAND` and measure it; its exit code must be 0."""
    words = [sys.executable, "-m", "cxrbench", "data", command.partition(" ")[0], "--task", "nih_lt"]
    words += ["--data-root", str(root), "--cache", str(cache)]
    began, spoken = time.monotonic(), list[float]()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    told = list[bytes]()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            spoken.append(time.monotonic() - began)
            told.append(line)

    listener = Thread(target=listen)
    listener.start()
    _, code, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(code)
    listener.join()
    assert process.returncode == 0, b"".join(told).decode()
    return Cost(command, files, wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, tuple(spoken))


def costs(sizes: Sequence[int], below: Path | None = None) -> Iterator[Cost]:
    """Every command at every size, on a cold cache first."""
    for files in sizes:
        with TemporaryDirectory(dir=below) as folder:
            root, cache = Path(folder) / "nih", Path(folder) / "cache"
            write(root, files)
            time.sleep(4)  # a folder that was changed just before is walked again
            for command in COMMANDS:
                yield cost(command, files, root, cache)


def prepared(files: int) -> float:
    """CPU seconds of a first `data prepare`."""
    return next(found.cpu for found in costs([files]) if found.command == "prepare")


def main(words: Sequence[str] | None = None) -> int:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", type=int, default=SIZES)
    parser.add_argument("--below", type=Path)
    asked = parser.parse_args(words)
    for found in costs(asked.files, asked.below):
        print(found, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
