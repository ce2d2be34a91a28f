"""Checkpoints with foreign classes: their tensors are read, and nothing in them is ever run."""

import argparse
import collections
import contextlib
import copyreg
import io
import os
import pickle
import subprocess
import sys
import tempfile
import typing
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lightning import save_lightning

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import read_checkpoint

BASE = torch.arange(24.0)
TENSORS: dict[str, torch.Tensor] = {
    "net.weight": BASE[:12].reshape(3, 4),
    "net.turned": BASE[12:].reshape(4, 3).T,
    "net.tied": BASE,
    "net.own": torch.nn.Parameter(torch.full((2, 2), 0.5)),
    "net.count": torch.tensor(7),
    "net.half": torch.tensor([1.5, -2.0]).half(),
    "net.brain": torch.tensor([1.5, -2.0]).bfloat16(),
    "net.mask": torch.tensor([True, False]),
    "net.none": torch.empty(0, 3),
}
WATCHED = ("import", "exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class", "os.posix_spawn")
_seen: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _seen is not None and event in WATCHED:
        _seen.append(f"{event} {arguments[:2]}")


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[Path], object]]:
    """Reads `state_dict` of a file, and fails if Python imported, compiled or ran anything meanwhile."""
    if _note not in _hooks:
        sys.addaudithook(_note)
        _hooks.append(_note)
    with contextlib.suppress(IntegrityError):  # Python's own codecs are imported at first use
        read_checkpoint(zipped(tmp_path / "warm.pth", b"N."), foreign="inert")

    def read(path: Path) -> object:
        global _seen  # noqa: PLW0603
        _seen = []
        try:
            return read_checkpoint(path, ["state_dict"], foreign="inert")
        finally:
            events, _seen = _seen, None
            assert not events

    yield read


_hooks: list[Callable[[str, tuple[object, ...]], None]] = []


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(("modern", "protocol"), [(True, 2), (True, 3), (True, 4), (False, 2)])
def test_a_training_checkpoint_gives_its_tensors(
    modern: bool, protocol: int, tmp_path: Path, watch: Callable[[Path], typing.Any]
) -> None:
    path = tmp_path / "last.ckpt"
    keys = save_lightning(path, TENSORS, _use_new_zipfile_serialization=modern, pickle_protocol=protocol)
    with pytest.raises(IntegrityError, match="foreign class"):
        read_checkpoint(path, ["state_dict"])
    found = watch(path)
    assert list(found.tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor.detach())
        assert type(found.tensors[name]) is torch.Tensor
    assert found.other["hyper_parameters"] == "omegaconf.dictconfig.DictConfig"
    assert found.other["score"].endswith("multiarray.scalar")
    assert set(found.other) == keys - {"state_dict"}


def test_a_plain_file_reads_the_same_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({name: tensor.detach() for name, tensor in TENSORS.items()}, path)
    plain, inert = read_checkpoint(path), read_checkpoint(path, foreign="inert")
    assert (plain.sha256, plain.other, list(plain.tensors)) == (inert.sha256, inert.other, list(inert.tensors))
    assert all(torch.equal(plain.tensors[name], inert.tensors[name]) for name in TENSORS)


def test_the_optimizer_stays_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(2)}, "optimizer": {"a": torch.ones(4)}}, path)
    data = bytearray(path.read_bytes())
    place = data.index(torch.ones(4).numpy().tobytes())
    data[place] ^= 1  # its checksum no longer holds
    path.write_bytes(data)
    assert set(read_checkpoint(path, ["state_dict"], foreign="inert").tensors) == {"a"}
    with pytest.raises(IntegrityError, match="damaged"):
        read_checkpoint(path, ["optimizer"], foreign="inert")


def test_archives_that_torch_did_not_write_are_told_apart(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "pytorch_model.bin")
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "pytorch_model.bin", "pytorch_model.bin")
    with pytest.raises(IntegrityError, match=r"holds pytorch_model\.bin.*Unpack it"):
        read_checkpoint(path, foreign="inert")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", os.urandom(1000))
    with pytest.raises(IntegrityError, match="compressed"):
        read_checkpoint(path, foreign="inert")


class Calls:
    """Pickles as a call of `what` with `arguments`, then items and state as an object's own."""

    def __init__(self, what: object, *arguments: object, state: object = None, items: object = None) -> None:
        self.reduced = (what, arguments, state, items and iter([items]))

    def __reduce__(self) -> tuple[typing.Any, ...]:
        return self.reduced


class Holder:
    """Pickles by NEWOBJ with a hostile state."""

    def __init__(self, state: object) -> None:
        self.state = state

    def __getstate__(self) -> object:
        return self.state

    def __setstate__(self, state: object) -> None:
        raise AssertionError("a class was given its state")


Put = Callable[[Path], object]
REFUSED: dict[str, tuple[Put, str]] = {
    "system": (lambda proof: Calls(os.system, f"touch '{proof}'"), "posix.system"),
    "eval": (lambda proof: Calls(eval, f"open({str(proof)!r}, 'w')"), "eval"),
    "exec": (lambda proof: Calls(exec, f"open({str(proof)!r}, 'w')"), "exec"),
    "import": (lambda proof: Calls(__import__, "this"), "__import__"),
    "subprocess": (lambda proof: Calls(subprocess.Popen, ["touch", str(proof)]), "Popen"),
    "only named": (lambda proof: [os.system], "posix.system"),
    "inside a tensor's arguments": (
        lambda proof: Calls(torch._utils._rebuild_tensor_v2, Calls(os.system, f"touch '{proof}'"), 0, (1,), (1,)),
        "posix.system",
    ),
    "as a state": (lambda proof: Holder({"a": Calls(os.system, f"touch '{proof}'")}), "posix.system"),
    "as a factory": (lambda proof: collections.defaultdict(os.system), "posix.system"),  # type: ignore[arg-type]
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_file_made_to_run_code_is_refused_by_name(
    name: str, modern: bool, tmp_path: Path, watch: Callable[[Path], object]
) -> None:
    make, says = REFUSED[name]
    for protocol in (2, 4) if modern else (2,):
        path, proof = tmp_path / "a.ckpt", tmp_path / "proof"
        content = {"x": make(proof), "state_dict": TENSORS}
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=modern)
        with pytest.raises(IntegrityError, match=f"{says}.*made to run code"):
            watch(path)
        assert not proof.exists()


INERT: dict[str, Put] = {
    "an open file": lambda proof: Calls(io.open_code, str(proof)),
    "a file handler": lambda proof: Calls(__import__("logging").FileHandler, str(proof)),
    "a method": lambda proof: Calls(Path.touch, Path(proof)),
    "timeit": lambda proof: Calls(__import__("timeit").timeit, f"open({str(proof)!r}, 'w')"),
    "nested": lambda proof: Calls(map, Calls(getattr, Path, "touch"), [proof], items=Calls(Path.touch, proof)),
    "state": lambda proof: Calls(Path, "x", state=Calls(Path.touch, proof)),
    "state of a function": lambda proof: Calls(getattr, torch._utils._rebuild_tensor_v2, "x", state=({}, {"a": 1})),
    "reduced reduce": lambda proof: Calls(Calls(getattr, Path, "touch"), proof),
    "torch's loader": lambda proof: Calls(torch.load, str(proof)),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", INERT)
def test_calls_that_no_list_knows_are_not_made(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Callable[[Path], typing.Any]
) -> None:
    # Pickle checks that the thing called is callable; the payload of "reduced reduce" is not, so let it seem so.
    monkeypatch.setattr(Calls, "__call__", lambda self: None, raising=False)
    for protocol in (2, 4):
        path, proof = tmp_path / "a.ckpt", tmp_path / "proof"
        torch.save({"x": INERT[name](proof), "state_dict": TENSORS}, path, pickle_protocol=protocol)
        assert set(watch(path).tensors) == set(TENSORS)
        assert not proof.exists()


def zipped(path: Path, data: bytes, **storages: bytes) -> Path:
    """A torch file with this pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", data)
        for key, content in storages.items():
            archive.writestr(f"a/data/{key}", content)
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


OS = b"cos\nsystem\n"
FUNCTION = b"ctorch._utils\n_rebuild_tensor_v2\n"
HAND_MADE: dict[str, tuple[bytes, str]] = {
    "INST": (b"(" + text("touch x") + b"ios\nsystem\n.", "opcode 105"),
    "OBJ": (b"(ccodecs\nopen\n" + text("x") + b"o.", "opcode 111"),
    "EXT1": (b"\x82\x01.", "opcode 130"),
    "BYTEARRAY8": (b"\x96" + (10 << 30).to_bytes(8, "little") + b".", "opcode 150"),
    "BINUNICODE8": (b"\x8d" + (10 << 30).to_bytes(8, "little") + b".", "damaged"),
    "a protocol to come": (b"\x80\x09N.", "protocol"),
    "a name built from memory": (b"\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.", "os.system"),
    "a string called": (text("os.system") + b")R.", "a str is called"),
    "arguments that are no tuple": (FUNCTION + b"]R.", "Foreign is called"),
    "items of a tuple": (b")" + text("a") + b"Ns.", "put into a tuple"),
    "values of a string": (text("a") + b"Na.", "added to a str"),
    "an odd number of items": (b"}(Nu.", "damaged"),
    "an empty stack": (b"R.", "damaged"),
    "nothing": (b"", "damaged"),
    "no end": (b"}", "damaged"),
    "a foreign object on top": (b"ccodecs\nopen\n)R}b.", "which holds a codecs.open"),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_pickles(name: str, tmp_path: Path, watch: Callable[[Path], object]) -> None:
    data, says = HAND_MADE[name]
    copyreg.add_extension("os", "system", 1)
    try:
        with pytest.raises(IntegrityError, match=says if name != "a foreign object on top" else "a codecs.open"):
            watch(zipped(tmp_path / "a.ckpt", data))
    finally:
        copyreg.remove_extension("os", "system", 1)


def test_state_given_to_a_function_or_class_changes_neither(tmp_path: Path, watch: Callable[[Path], object]) -> None:
    state = b"N}" + text("__defaults__") + b"Ns\x86b0"  # (None, {"__defaults__": None}) as a state, then dropped
    data = b"\x80\x02" + FUNCTION + state + b"ccollections\nOrderedDict\n" + state + b"}."
    before = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(IntegrityError, match="no key 'state_dict'"):
        watch(zipped(tmp_path / "a.ckpt", data))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before == (None,)


def stored(key: str = "0", count: int = 4, kind: str = "FloatStorage", more: tuple[object, ...] = ()) -> bytes:
    """Opcodes that push one storage."""
    items = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(count)
    return items + b"".join(pickle.dumps(item, 2)[2:-1] for item in more) + b"tQ"


def number(value: int) -> bytes:
    return f"I{value}\n".encode()


def plain(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def tensor(storage: bytes, offset: object, size: object, stride: object) -> bytes:
    made = FUNCTION + b"(" + storage + b"".join(map(plain, (offset, size, stride, False, None))) + b"tR"
    return b"\x80\x02}" + text("state_dict") + b"}" + text("a") + made + b"ss."


def test_a_hand_made_tensor_is_read(tmp_path: Path, watch: Callable[[Path], typing.Any]) -> None:
    path = zipped(tmp_path / "a.ckpt", tensor(stored(), 1, (3,), (1,)), **{"0": np.arange(4, dtype="f4").tobytes()})
    assert watch(path).tensors["a"].tolist() == [1, 2, 3]


HOSTILE_TENSORS: dict[str, bytes] = {
    "beyond its storage": tensor(stored(), 0, (5,), (1,)),
    "offset beyond": tensor(stored(), 4, (1,), (1,)),
    "negative offset": tensor(stored(), -1, (1,), (1,)),
    "offset that is none": tensor(stored(), "a", (1,), (1,)),
    "negative size": tensor(stored(), 0, (-1,), (1,)),
    "negative stride": tensor(stored(), 3, (4,), (-1,)),
    "one number seen very often": tensor(stored(), 0, (1 << 40,), (0,)),
    "two sizes whose product overflows": tensor(stored(), 0, (1 << 33, 1 << 33), (0, 0)),
    "a stride of astronomic size": tensor(stored(), 0, (1,), (1 << 80,)),
    "fewer strides": tensor(stored(), 0, (2, 2), (1,)),
    "sizes that are none": tensor(stored(), 0, ("a",), (1,)),
    "a list of sizes": tensor(stored(), 0, [4], (1,)),
    "no storage": tensor(plain(3), 0, (4,), (1,)),
    "a foreign storage": tensor(b"ccodecs\nopen\n", 0, (4,), (1,)),
    "more elements than bytes": tensor(stored(count=5), 0, (4,), (1,)),
    "a negative count": tensor(stored(count=-1), 0, (0,), (1,)),
    "an astronomic count": tensor(stored(count=1 << 60), 0, (4,), (1,)),
    "a key out of the archive": tensor(stored(key="../../../../etc/hostname"), 0, (4,), (1,)),
    "a key that is not there": tensor(stored(key="1"), 0, (4,), (1,)),
    "a dtype that is none": tensor(stored(kind="load"), 0, (4,), (1,)),
    "a view of a storage": tensor(stored(more=(("1", 0, 4),)), 0, (4,), (1,)),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_tensors_that_their_file_cannot_hold(name: str, tmp_path: Path, watch: Callable[[Path], object]) -> None:
    path = zipped(tmp_path / "a.ckpt", HOSTILE_TENSORS[name], **{"0": np.arange(4, dtype="f4").tobytes()})
    with pytest.raises(IntegrityError, match="damaged"):
        watch(path)


def whole(modern: bool) -> bytes:
    stream = io.BytesIO()
    content = {"state_dict": TENSORS, "args": argparse.Namespace(a=1), "d": collections.defaultdict(list, a=[1])}
    torch.save(content, stream, _use_new_zipfile_serialization=modern)
    return stream.getvalue()


def test_truncated_files_say_so(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    for modern in (True, False):
        data = whole(modern)
        for length in range(20, len(data), 97):
            path.write_bytes(data[:length])
            with pytest.raises(IntegrityError, match=r"truncated|neither|bare pickle"):
                read_checkpoint(path, ["state_dict"], foreign="inert")


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_are_read_or_refused_and_raise_nothing_else(modern: bool, damage: list[tuple[int, int]]) -> None:
    data = bytearray(whole(modern))
    for place, value in damage:
        data[place % len(data)] = value
    if modern:  # keep the archive whole and damage the pickle alone, or its checksum would end every try
        with zipfile.ZipFile(io.BytesIO(whole(modern))) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith("data.pkl"))
            contents = {n: archive.read(n) for n in archive.namelist()}
        broken = bytearray(contents[name])
        for place, value in damage:
            broken[place % len(broken)] = value
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for n, content in {**contents, name: bytes(broken)}.items():
                archive.writestr(n, content)
        data = bytearray(stream.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ckpt"
        path.write_bytes(data)
        with contextlib.suppress(IntegrityError):
            read_checkpoint(path, ["state_dict"], foreign="inert")
