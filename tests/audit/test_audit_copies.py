"""Copies under other names: equal bytes, re-encoded ones, and pictures that are only alike."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cxrbench.checks.overlap import MOST_SQUARED_ERROR, copies, prints
from cxrbench.cli.main import app
from cxrbench.phantom.write import write


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Drawn radiographs, each of another patient."""
    root = tmp_path_factory.mktemp("drawn")
    write("covid", root, images_per_class=8, size=(256, 256))
    return sorted(root.rglob("images/*.png"))


def encoded(path: Path, how: str) -> bytes:
    picture, out = Image.open(path).convert("L"), io.BytesIO()
    if how == "jpeg":
        picture.save(out, "JPEG", quality=60)
    elif how == "smaller":
        picture.resize((180, 180), Image.Resampling.LANCZOS).save(out, "PNG")
    else:
        Image.fromarray(np.asarray(picture).astype(np.uint16) * 257).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("how", ["jpeg", "smaller", "16 bit"])
def test_re_encoded_copies_are_found_and_nothing_else(drawn: list[Path], how: str, tmp_path: Path) -> None:
    again = {}
    for path in drawn[::4]:
        target = tmp_path / f"{path.stem}.bin"
        target.write_bytes(encoded(path, how))
        again[f"copy of {path.stem}"] = target
    originals = {path.stem: path for path in drawn}
    found = copies(prints(originals), prints(again))
    assert {(copy.first, copy.second) for copy in found} == {(p.stem, f"copy of {p.stem}") for p in drawn[::4]}
    assert not any(copy.exact for copy in found)
    assert max(copy.error for copy in found) < MOST_SQUARED_ERROR


def test_equal_bytes_are_told_from_copies(drawn: list[Path]) -> None:
    one, other = prints({"a": drawn[0]}), prints({"b": drawn[0], "a": drawn[0]})
    assert [(copy.first, copy.second, copy.exact, copy.error) for copy in copies(one, other)] == [("a", "b", True, 0.0)]


def test_an_unreadable_picture_is_told_with_its_reason(tmp_path: Path, drawn: list[Path]) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = prints({"broken": tmp_path / "broken.png", "sound": drawn[0]})
    assert found.ids == ("sound",) and "broken.png" in found.unreadable["broken"]


def picture_of(image: str) -> str:
    """Which of the real pictures a file shows: the derived ones are two NIH pictures stored in other ways."""
    stem = Path(image).stem
    return {"a_": "00000001_000", "b_": "00027426_000"}.get(stem[:2], stem)


def test_real_radiographs_are_found_in_other_encodings_and_not_taken_for_one_another(shared: Path) -> None:
    root = shared / "real_images"
    kinds = {".png", ".jpg", ".dcm", ".tif", ".jp2", ".webp", ".bmp", ".dicom"}
    files = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in kinds]
    found = prints({str(path.relative_to(root)): path for path in files})
    assert len(found.ids) == 82
    pairs = {(copy.first, copy.second) for copy in copies(found, found)}
    assert all(picture_of(one) == picture_of(other) for one, other in pairs)
    same = [(a, b) for a in found.ids for b in found.ids if a != b and picture_of(a) == picture_of(b)]
    assert len(same) == 2 * 600
    assert len(pairs) > 0.85 * len(same)  # the rest: windows that clip, one bit a pixel


@pytest.mark.slow
def test_the_audit_finds_a_copy_that_was_put_into_the_test_part(tmp_path: Path) -> None:
    """One image of COVID's training part is written over one of the test part, re-encoded."""
    from cxrbench.data.sources.base import load_partition
    from cxrbench.specs import catalog

    write("covid", tmp_path)
    partition = load_partition(tmp_path, catalog.load_task("covid"), "phantom")
    train, test = (partition.parts[name].ids[0] for name in ("train", "test"))
    partition.paths[test].write_bytes(encoded(partition.paths[train], "jpeg"))
    words = ["audit", "-t", "covid", "--variant", "phantom", "--images", "--data-root", str(tmp_path), "-f", "json"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    (found,) = (f for f in json.loads(done.stdout)["findings"] if f["kind"] == "copies")
    assert found["count"] == 1 and f"{train} and {test}" in found["text"]
