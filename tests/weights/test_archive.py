"""Archives from the network: the one file wanted, or nothing at all."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.weights import fetch as unpacking
from cxrbench.models.weights.fetch import extract

WANTED = b"the weights" * 1000
Add = Callable[[zipfile.ZipFile], None]


def zipped(path: Path, add: Add = lambda _: None, *, wanted: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        add(archive)
        if wanted:
            archive.writestr("pytorch_model.bin", WANTED)
    return path


def named(name: str, mode: int = 0, content: bytes | str = b"x") -> Add:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)

    return add


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("zeros", bytes(1 << 22), zipfile.ZIP_DEFLATED)


def test_the_one_file_is_unpacked_and_nothing_else(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", named("folder/other.bin", stat.S_IFREG | 0o644))
    out = tmp_path / "out"
    out.mkdir()
    extract(path, "pytorch_model.bin", out / "w.bin")
    assert [p.name for p in out.iterdir()] == ["w.bin"]
    assert (out / "w.bin").read_bytes() == WANTED
    assert not (out / "w.bin").stat().st_mode & 0o111


HOSTILE: dict[str, tuple[Add, str]] = {
    "parent": (named("../evil"), r"'\.\./evil' is a path that leads out"),
    "parent within": (named("a/../../evil"), "leads out"),
    "parent of Windows": (named("..\\evil"), "leads out"),
    "absolute": (named("/tmp/evil"), "'/tmp/evil' is an absolute path"),
    "drive": (named("C:\\evil"), "absolute path"),
    "symlink": (named("link", stat.S_IFLNK | 0o777, "/etc/passwd"), "'link' is a link"),
    "the wanted one a symlink": (named("pytorch_model.bin", stat.S_IFLNK | 0o777, "../evil"), "is a link"),
    "device": (named("null", stat.S_IFCHR | 0o666), "'null' is a device"),
    "disk": (named("sda", stat.S_IFBLK | 0o666), "a device"),
    "pipe": (named("pipe", stat.S_IFIFO | 0o666), "a pipe"),
    "socket": (named("socket", stat.S_IFSOCK | 0o666), "no file"),
    "bomb": (bomb, r"'zeros' is 4194304 bytes in \d+, a bomb"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_by_the_member_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    add, says = HOSTILE[name]
    out = tmp_path / "a" / "b"
    out.mkdir(parents=True)
    path = zipped(tmp_path / "a.zip", add, wanted="wanted" not in name)
    with pytest.raises(IntegrityError, match=f"{says}.*Nothing was unpacked") as refusal:
        extract(path, "pytorch_model.bin", out / "w.bin")
    assert str(path) in str(refusal.value)
    assert {p for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()} == {path}


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip").read_bytes())
    place = data.rindex(b"PK\x01\x02") + 8  # the flags of the last entry in the central directory
    data[place] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"'pytorch_model\.bin' is encrypted"):
        extract(tmp_path / "a.zip", "pytorch_model.bin", tmp_path / "w.bin")


def spoilt(data: bytes, kind: str) -> bytes:
    if kind == "cut":
        return data[: len(data) // 2]
    if kind == "page":
        return b"<html>Sign in</html>"
    changed = bytearray(data)
    place = data.index(b"pytorch_model.bin") + len("pytorch_model.bin")
    changed[place + 5] ^= 0xFF
    return bytes(changed)


@pytest.mark.parametrize("kind", ["cut", "page", "flipped"])
def test_a_damaged_archive_leaves_nothing(kind: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip")
    path.write_bytes(spoilt(path.read_bytes(), kind))
    with pytest.raises(IntegrityError, match="no whole zip archive"):
        extract(path, "pytorch_model.bin", tmp_path / "w.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_lying_size_is_noticed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("pytorch_model.bin", WANTED)
    data = bytearray(stream.getvalue())
    place = data.rindex(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 100)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(IntegrityError, match="no whole zip archive"):
        extract(tmp_path / "a.zip", "pytorch_model.bin", tmp_path / "w.bin")
    assert not (tmp_path / "w.bin").exists()


def test_a_missing_or_doubled_member_is_told_with_what_there_is(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", named("sub/pytorch_model.bin"), wanted=False)
    with pytest.raises(IntegrityError, match=r"0 members .* holds config\.json, sub/pytorch_model\.bin"):
        extract(path, "pytorch_model.bin", tmp_path / "w.bin")
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "b.zip", named("pytorch_model.bin"))
    with pytest.raises(IntegrityError, match="2 members"):
        extract(path, "pytorch_model.bin", tmp_path / "w.bin")


def test_a_full_disk_is_told_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "a.zip")
    usage = type(unpacking.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: usage(10, 5, 5))
    with pytest.raises(DataError, match="needs 11000 bytes, 5 are free"):
        extract(path, "pytorch_model.bin", tmp_path / "w.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


def test_a_member_that_begins_before_the_file_is_told(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip").read_bytes())
    end = data.rindex(b"PK\x05\x06")
    (size,) = struct.unpack("<I", data[end + 12 : end + 16])
    data[end + 16 : end + 20] = struct.pack("<I", end - size + 10**6)  # all places move by the difference
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(IntegrityError, match="no whole zip archive"):
        extract(tmp_path / "a.zip", "pytorch_model.bin", tmp_path / "w.bin")
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
