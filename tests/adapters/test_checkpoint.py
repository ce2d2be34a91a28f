import io
import pickle
import random
import struct
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from made_hostile import Payload
from safetensors.torch import save_file

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.checkpoint import ForeignClasses, read_checkpoint
from cxrbench.store import digest

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(1)}


def written(path: Path, content: object, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
def test_torch_files_of_both_formats(tmp_path: Path, modern: bool) -> None:
    path = written(tmp_path / "a.pth", TENSORS, _use_new_zipfile_serialization=modern)
    found = read_checkpoint(path)
    assert list(found.tensors) == list(TENSORS)
    assert all(torch.equal(found.tensors[name], TENSORS[name]) for name in TENSORS)
    assert found.sha256 == digest.of_file(path)
    assert not found.other


def test_content_and_not_the_name_decides(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.pth")
    written(tmp_path / "b.safetensors", TENSORS)
    for name in ("a.pth", "b.safetensors"):
        assert set(read_checkpoint(tmp_path / name).tensors) == set(TENSORS)


def test_a_container_is_walked_and_what_lies_beside_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"epoch": 3, "model": {"state_dict": {**TENSORS, "note": "x"}, "lr": 0.1}})
    found = read_checkpoint(path, ["model", "state_dict"])
    assert set(found.tensors) == set(TENSORS)
    assert found.other == {"epoch": "int", "lr": "float", "note": "str"}
    assert found.container == ("model", "state_dict")


@pytest.mark.parametrize("container", [(), ("model",), ("net",)])
def test_a_wrong_container_is_refused_with_the_keys_there_are(tmp_path: Path, container: tuple[str, ...]) -> None:
    path = written(tmp_path / "a.pth", {"model": {"state_dict": TENSORS}})
    with pytest.raises(IntegrityError, match=r"'model'|'state_dict'"):
        read_checkpoint(path, container)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_a_payload_is_named_and_not_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    content = {**TENSORS, "x": Payload(proof)}
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickle.dumps(content["x"]))
    for path in (
        written(tmp_path / "zip.pth", content),
        written(tmp_path / "legacy.pth", content, _use_new_zipfile_serialization=False),
        written(tmp_path / "newer.pth", content, pickle_protocol=4),
        bare,
    ):
        with pytest.raises(IntegrityError, match="system") as refusal:
            read_checkpoint(path)
        assert "foreign class" in str(refusal.value) or "bare pickle" in str(refusal.value)
    assert not proof.exists()
    pickle.loads(bare.read_bytes())
    assert proof.exists(), "the payload itself must work, or this test shows nothing"


def test_a_foreign_class_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"state_dict": TENSORS, "args": Namespace(lr=1)})
    with pytest.raises(IntegrityError, match=r"argparse\.Namespace"):
        read_checkpoint(path, ["state_dict"])


def whole(kind: str) -> bytes:
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, stream, _use_new_zipfile_serialization=kind == "zip")
    return stream.getvalue()


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 24))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 40, "neither"),
        (struct.pack("<Q", 10 << 30) + b'{"a":' + b" " * 1000, "truncated"),
        (struct.pack("<Q", 20) + b'{"a": 1' + b" " * 40, "damaged"),
        (whole("zip")[:2000], "truncated"),
        (whole("legacy")[:-7], "truncated"),
        (whole("legacy")[:40], "truncated"),
        (b"PK\x03\x04", "truncated"),
        (bomb(), "unpack to"),
    ],
)
def test_files_that_are_no_checkpoint_are_named_as_such(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=says) as refusal:
        read_checkpoint(path)
    assert str(path) in str(refusal.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_checkpoint(tmp_path / "none.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("foreign", ["refused", "inert"])
@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_damage_anywhere_is_a_refusal_and_no_traceback(
    kind: Literal["zip", "legacy"], foreign: ForeignClasses, tmp_path: Path
) -> None:
    stream = io.BytesIO()
    torch.save(TENSORS, stream, _use_new_zipfile_serialization=kind == "zip")
    rng, good = random.Random(0), stream.getvalue()
    path, refused = tmp_path / "a.pth", 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(rng.choice([1, 2, 4])):
            near = rng.choice([rng.randrange(400), len(data) - 1 - rng.randrange(400)])  # names and places are there
            data[near] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_checkpoint(path, foreign=foreign)
        except IntegrityError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100


def test_a_torn_directory_of_an_archive_is_told(tmp_path: Path) -> None:
    data = bytearray(whole("zip"))
    data[data.rindex(b"PK\x01\x02")] = 0
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        read_checkpoint(tmp_path / "a.pth")


ONE, TWO = torch.ones(2), torch.zeros(2)


@pytest.mark.parametrize(
    ("content", "sections", "name"),
    [
        ({1: ONE, "1": TWO}, (), "1"),
        ({"model": {"a.b": ONE}, "model.a": {"b": TWO}}, ("model", "model.a"), "model.a.b"),
        ({"model": {"a": ONE}, "model.a": TWO}, ("model",), "model.a"),
        ({"model": {"a": ONE}, "model.a": "text"}, ("model",), "model.a"),
        ({"model": {1: ONE, "1": TWO}}, ("model",), "model.1"),
    ],
)
def test_no_tensor_stands_for_another_of_its_name(
    content: object, sections: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.pth", content)
    with pytest.raises(IntegrityError, match=f"two of its entries are called '{name}' here"):
        read_checkpoint(path, sections=sections)


def test_entries_without_tensors_may_look_alike(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"model": {"a": ONE}, 1: "x", "1": "y", (1, 2): 0, (3, 4): 0})
    found = read_checkpoint(path, sections=("model",))
    assert list(found.tensors) == ["model.a"]
    assert found.other["1"] == "str"


def test_lists_of_any_length_are_read(tmp_path: Path) -> None:
    names = [*(f"prompts.{n}" for n in range(300)), "queue.1048576", "9" * 5000]
    assert list(read_checkpoint(written(tmp_path / "a.pth", dict.fromkeys(names, ONE))).tensors) == names
