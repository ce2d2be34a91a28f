"""Sealed files: what does not have its checksum is never believed, and nothing waits for a pipe."""

import errno
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import IntegrityError, UnreadableError
from cxrbench.store.sealed import (
    CHECKSUM,
    CONTENTS,
    DamagedError,
    advising,
    check_folder,
    check_text,
    opened_regular,
    read_regular,
    read_sealed,
    seal_folder,
    seal_text,
    with_checksum,
    without_checksum,
    write_sealed,
)

CONTENT = {"a": [1, 2.5, None, "x"], "\udce9": {"b": True}}


def test_a_sealed_value_comes_back(tmp_path):
    write_sealed(tmp_path / "a.json", CONTENT)
    assert read_sealed(tmp_path / "a.json") == CONTENT


@given(st.data())
def test_no_flipped_bit_gives_another_value(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("sealed") / "a.json"
    write_sealed(path, CONTENT)
    raw = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        assert read_sealed(path) == CONTENT  # white space between tokens, say
    except DamagedError as error:
        assert str(path) in str(error)


def test_a_cut_file_is_refused_at_every_length(tmp_path):
    path = tmp_path / "a.json"
    write_sealed(path, CONTENT)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read_sealed(path)


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b"{}", b"[]", b"\xff", b"", json.dumps({"sha256": 1, "content": 2}).encode()]
)
def test_what_is_no_sealed_file_is_refused(tmp_path, data):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DamagedError):
        read_sealed(tmp_path / "a.json")


def test_a_pipe_a_folder_and_a_huge_file_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(200 << 30)
    found = []

    def read():
        for name in ("pipe", "folder", "huge"):
            with pytest.raises(DamagedError) as caught:
                read_regular(tmp_path / name)
            found.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert len(found) == 3


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    for path in (tmp_path / "none", tmp_path / "none" / "deeper"):
        with pytest.raises(FileNotFoundError):
            read_sealed(path)


def test_a_text_under_its_checksum_is_checked_and_a_persons_own_is_not(tmp_path):
    text = seal_text('name = "a"\n')
    check_text(tmp_path, text)
    check_text(tmp_path, 'name = "a"\n# SHA-256 of what follows: 0\n')
    for other in (text.replace('"a"', '"b"'), text[:-1], text[:40], text + " "):
        with pytest.raises(DamagedError, match="if you edited it, remove that line"):
            check_text(tmp_path, other)


def test_a_folder_is_checked_by_the_files_that_were_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    check_folder(tmp_path)
    seal_folder(tmp_path, ["a", "b"])
    (tmp_path / "c").write_text("other")
    check_folder(tmp_path)
    (tmp_path / "a").write_text("other")
    with pytest.raises(DamagedError, match=rf"a: is missing, or not the file that {CONTENTS}"):
        check_folder(tmp_path)
    (tmp_path / "a").unlink()
    with pytest.raises(DamagedError, match="a: is missing"):
        check_folder(tmp_path)
    (tmp_path / CONTENTS).write_text("{")
    with pytest.raises(DamagedError, match="fresh copy of the folder"):
        check_folder(tmp_path)


def test_damage_is_told_with_the_readers_own_way_out(tmp_path):
    (tmp_path / "a").write_bytes(b"long")
    with pytest.raises(DamagedError, match=r"a: has 4 bytes.*\. Ask\.$"), advising("Ask."):
        read_regular(tmp_path / "a", most=3)


MOMENTARY = ["EMFILE", "ENFILE", "ENOMEM", "EIO", "EACCES", "EPERM", "ESTALE"]


@pytest.mark.parametrize("name", MOMENTARY)
@pytest.mark.parametrize("step", ["open", "fstat"])
def test_what_the_system_refuses_for_a_moment_is_no_damage(name, step, tmp_path, monkeypatch):
    write_sealed(tmp_path / "a.json", CONTENT)
    number = getattr(errno, name)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(UnreadableError) as caught:
        patch.setattr(os, step, refuse)
        read_sealed(tmp_path / "a.json")
    assert caught.value.path == tmp_path / "a.json" and caught.value.reason == os.strerror(number)
    assert not isinstance(caught.value, IntegrityError) and caught.value.exit_code == 5
    assert read_sealed(tmp_path / "a.json") == CONTENT


def test_a_read_that_fails_names_the_file_and_no_error_of_another_does(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="No space left") as other, opened_regular(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device", "b")
    assert other.value.filename == "b"
    for read in (lambda file: file.read(), lambda file: file.read(5), lambda file: file.readline()):
        with pytest.raises(UnreadableError, match="a: cannot be read now"), opened_regular(tmp_path / "a") as file:
            os.close(file.fileno())  # every read fails from now on
            try:
                read(file)
            finally:
                held = os.open(os.devnull, os.O_RDONLY)
                if held != file.fileno():
                    os.dup2(held, file.fileno())
                    os.close(held)


def test_a_link_to_itself_and_a_folder_in_place_of_a_file_are_damage(tmp_path):
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "folder").mkdir()
    for name in ("ring", "folder", "x" * 300, "a\0b"):
        with pytest.raises(DamagedError):
            read_regular(tmp_path / name)


def test_an_object_keeps_its_own_checksum(tmp_path):
    sealed = with_checksum(CONTENT)
    assert next(iter(sealed)) == CHECKSUM
    assert without_checksum(tmp_path, json.loads(json.dumps(sealed))) == CONTENT
    for other in ({**sealed, "a": 2}, {**sealed, "more": 1}, {CHECKSUM: sealed[CHECKSUM]}, CONTENT, [], None):
        with pytest.raises(DamagedError, match="checksum"):
            without_checksum(tmp_path, other)
