"""`cxrbench cache` over damaged folders: each is named, none ends the listing, and `prune` removes it."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flips import IMAGES, KEY, TAPS, make_store
from typer.testing import CliRunner

from cxrbench.cli.cache import app
from cxrbench.errors import IntegrityError, RunError, UnreadableError
from cxrbench.store.embeddings import Key, Store

OTHER = Key(**{**{name: getattr(KEY, name) for name in KEY.__slots__}, "recipe": "b"})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store of two keys, the second with one image."""
    import numpy as np

    make_store(tmp_path)
    with Store(tmp_path).writer(OTHER, 1, TAPS) as writer:
        writer.append(IMAGES[:1], {tap: np.ones((1, dim), np.float32) for tap, dim in TAPS.items()})
    return tmp_path


def told(place: Path, *words: str) -> tuple[str, IntegrityError | None]:
    done = CliRunner().invoke(app, [*words, "--cache", str(place)])
    if done.exception is not None and not isinstance(done.exception, IntegrityError):
        raise done.exception
    return done.stdout, done.exception


def shard(place: Path) -> Path:
    return next(Store(place).folders()[KEY.digest].glob("shard-*"))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    os.truncate(path, 200 << 30)


def _deep(path: Path) -> None:
    path.write_text("[" * 300_000)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


HARMLESS = {("rows.bin", "_sparse"), ("pooled.npy", "_sparse")}  # what is behind the rows that a journal tells


@pytest.mark.parametrize("damage", [_pipe, _sparse, _deep, _flip, Path.unlink], ids=lambda how: how.__name__)
@pytest.mark.parametrize("file", ["rows.bin", "pooled.npy", "journal.bin", "shard.json", "../key.json"])
def test_what_is_damaged_is_named_and_everything_else_goes_on(
    file: str, damage: Callable[[Path], None], place: Path
) -> None:
    damage(shard(place) / file)
    listed, failed = told(place, "list")
    assert failed is None
    assert KEY.digest[:16] in listed and f"{OTHER.digest[:16]}  1 images" in listed
    verified, failed = told(place, "verify")
    if (file, damage.__name__) in HARMLESS or (file, damage) == ("journal.bin", Path.unlink):
        assert failed is None
        return
    assert (KEY.digest[:16] in verified and Path(file).name in verified + listed) or "checksum" in verified
    assert OTHER.digest[:16] not in verified
    assert failed is not None and "cache prune" in str(failed)
    told(place, "prune", *(["--damaged"] if file != "../key.json" else [KEY.digest[:16]]))
    assert told(place, "verify")[1] is None
    assert f"{OTHER.digest[:16]}  1 images" in told(place, "list")[0]


def test_a_sound_store_is_left_alone_by_prune_damaged(place: Path) -> None:
    assert told(place, "prune", "--damaged")[0] == "0 damaged shards removed\n"
    assert "25 rows" in told(place, "verify")[0]


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOMEM", "EIO", "EACCES", "EPERM", "ESTALE"])
@pytest.mark.parametrize("file", ["rows.bin", "pooled.npy", "journal.bin", "shard.json", "its folder", "all folders"])
def test_what_cannot_be_read_now_is_told_and_never_removed(
    file: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the shard beside it is damaged, which is removed."""
    own = shard(place)
    refused = {"its folder": own.parent, "all folders": own.parent.parent}.get(file, own / file)
    damaged = next(Store(place).folders()[OTHER.digest].glob("shard-*"))
    (damaged / "rows.bin").write_bytes(b"")
    before = {path: path.read_bytes() for path in own.iterdir()}

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def instead(path: Any, *arguments: Any, **named: Any) -> Any:
            if not isinstance(path, int) and Path(path) == refused:
                raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
            return real(path, *arguments, **named)

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(os.open))
        patch.setattr(os, "listdir", refusing(os.listdir))
        with pytest.raises(UnreadableError):
            Store(place).read(KEY) if file != "all folders" else Store(place).folders()
        for words in (["verify"], ["prune", "--damaged"]):
            done = CliRunner().invoke(app, [*words, "--cache", str(place)])
            assert isinstance(done.exception, RunError) and str(refused) in done.stdout + str(done.exception)
        if file != "all folders":
            listing = CliRunner().invoke(app, ["list", "--cache", str(place)]).stdout
            assert "cannot be read now" in listing and OTHER.digest[:16] in listing
            assert not damaged.exists()
    assert before == {path: path.read_bytes() for path in own.iterdir()}
    assert len(Store(place).read(KEY)) == 24


def test_vectors_of_one_image_that_differ_name_both_shards(place: Path) -> None:
    import numpy as np

    first = shard(place).name
    with Store(place).writer(KEY, 1, TAPS) as writer:
        writer.append(IMAGES[:1], {tap: np.full((1, dim), 7, np.float32) for tap, dim in TAPS.items()})
    verified, failed = told(place, "verify")
    assert failed is not None
    (line,) = verified.splitlines()[:1]
    assert first in line and line.count("shard-") == 2 and "vectors of the same images" in line


def test_prune_wants_one_choice(place: Path) -> None:
    done = CliRunner().invoke(app, ["prune", "--all", "--damaged", "--cache", str(place)])
    assert "--all or --damaged" in str(done.exception)
