"""Files that ask for endless work or memory, each made at a path; run as a program, it reads them and says how it went.

`python made_bombs.py FOLDER` prints one JSON line a file: its name, seconds, the kind of error, and the message.
"""

import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

LIMIT = 1 << 30  # bytes of address space beside what the libraries take
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def storage(count: int = 4) -> bytes:
    items = text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + f"I{count}\n".encode()
    return b"(" + items + b"tQ"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], more: bytes = b"") -> bytes:
    arguments = b"".join(pickle.dumps(value, 2)[2:-1] for value in (0, size, stride, False, None))
    return _TENSOR + b"(" + storage() + arguments + more + b"tR"


def archive(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("a/data.pkl", b"\x80\x02" + pickled)
        opened.writestr("a/data/0", struct.pack("<4f", 1, -2, 3, -4))


def table(*items: bytes) -> bytes:
    return b"}(" + b"".join(items) + b"u."


def named(name: str) -> bytes:
    return table(text(name), tensor((4,), (1,)))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, 200 << 30)


def hollow(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, 40 << 30)


def doubling(path: Path) -> None:
    """A key that is a tuple of twice a tuple of twice a tuple: hashing it takes 2^200 steps."""
    archive(path, b"})" + b"2\x86" * 200 + b"K\x01s" + text("a") + tensor((4,), (1,)) + b"s.")


def doubling_arguments(path: Path) -> None:
    """A list of a hundred thousand pairs, made a dictionary a hundred thousand times."""
    long = b"K\x01K\x01\x86q\x020" + b"](" + b"h\x02" * 100_000 + b"eq\x000"
    archive(path, long + b"ccollections\nOrderedDict\nq\x010" + b"h\x01h\x00\x85R0" * 100_000 + b"N.")


def million(path: Path) -> None:
    one = b"h\x00(h\x01K\x00K\x04\x85K\x01\x85\x89NtR"
    head = _TENSOR + b"q\x00" + b"0" + storage() + b"q\x01" + b"0"
    archive(path, head + table(*(text(f"t{n}") + one for n in range(1_000_000))))


def members(path: Path) -> None:
    """A directory of half a million members, as long as a checkpoint's never is."""
    count, entry = (
        500_000,
        struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a",
    )
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count % 65536, count % 65536, count * len(entry), 4, 0)
    path.write_bytes(b"PK\x03\x04" + entry * count + end)


def deep(path: Path) -> None:
    archive(path, b"]" * 490_000 + b"a" * 489_999 + b".")


def long_number(path: Path) -> None:
    huge = b"\x8b" + (1 << 24).to_bytes(4, "little") + b"\x7f" * (1 << 24)
    archive(
        path, table(huge + b"K\x01", text("a") + _TENSOR + b"(" + storage() + b"K\x00" + huge + b"\x85K\x01\x85\x89NtR")
    )


def expanded(path: Path) -> None:
    archive(path, table(text("a"), tensor((10**6, 10**6), (0, 0))))


def header(path: Path) -> None:
    told = {f"t{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(1_000_000)}
    data = json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(data)) + data + bytes(len(told)))


def layers(path: Path) -> None:
    archive(path, named("text_model.model.encoder.layer.9999999.output.dense.bias"))


def odd_tensors(kind: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import torch

        one = torch.ones(2, 2)
        made = {
            "sparse": one.to_sparse,
            "rows": one.to_sparse_csr,
            "quantised": lambda: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8),
            "complex": lambda: one.to(torch.complex64),
            "meta": lambda: torch.empty(1 << 40, device="meta"),
        }[kind]()
        torch.save({"plain": one, "odd": made}, path)

    return make


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (pipe, "is a pipe or device, not a file"),
    "device": (device, "is a pipe or device, not a file"),
    "folder": (Path.mkdir, "is a folder, not a file"),
    "sparse": (sparse, "more than such a file ever has"),
    "hollow": (hollow, "without its end: truncated"),
    "doubling": (doubling, ""),
    "arguments": (doubling_arguments, "more than 1,000,000 steps"),
    "million": (million, "more than 1,000,000 steps"),
    "members": (members, "directory of members has"),
    "deep": (deep, "which holds a list"),
    "number": (long_number, "impossible size"),
    "expanded": (expanded, "expanded without copies, or damaged"),
    "header": (header, "more than the names of tensors ever need"),
    "layers": (layers, ""),
    "odd sparse": (odd_tensors("sparse"), "odd is no dense tensor"),
    "odd rows": (odd_tensors("rows"), "odd is no dense tensor"),
    "odd quantised": (odd_tensors("quantised"), "odd is no dense tensor"),
    "odd complex": (odd_tensors("complex"), "odd is no dense tensor"),
    "odd meta": (odd_tensors("meta"), "odd is no dense tensor"),
}


def main(folder: Path) -> None:
    import resource

    from cxrbench.models.checkpoint import read_checkpoint

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + LIMIT, taken + LIMIT))
    for path in sorted(folder.iterdir()):
        for foreign in ("refused", "inert"):
            began, said = time.monotonic(), ["", ""]
            try:
                read_checkpoint(path, foreign=foreign)  # type: ignore[arg-type]
            except BaseException as error:
                said = [type(error).__name__, str(error)]
            print(json.dumps([path.name, foreign, time.monotonic() - began, *said]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
