"""The released reader's arithmetic against what the released reader gave: `decode.npz`, bytes in, pixels out."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images.decoder_check import self_test
from cxrbench.images.pixels import pixels, pixels_by
from cxrbench.specs.recipe import Canvas

TRIMMED = Path(__file__).resolve().parent.parent / "fixtures" / "decode.npz"


def golden(path: Path) -> Iterator[tuple[str, str, bytes, Canvas, np.ndarray]]:
    """Key, file name, bytes, recipe and expected pixels of every entry."""
    archive = np.load(path)
    for key in archive.files:
        if not key.startswith("out/"):
            continue
        parts = key.removeprefix("out/").split("/")
        antialias, norm = parts[-1] == "antialias", parts[-1] == "norm"
        parts = parts[:-1] if antialias or norm else parts
        name = "/".join(parts[:-1])
        recipe = Canvas(
            size=int(parts[-1]),
            antialias=antialias,
            polarity="negated" if "VinDr" in name else "stored",
            mean=(0.5,) if norm else (0.0,),
            std=(0.5,) if norm else (1.0,),
        )
        yield key, name, archive[f"file/{name}"].tobytes(), recipe, archive[key]


def far_off(path: Path, way: str) -> tuple[int, dict[str, float]]:
    """How many entries there are, and those that differ by more than 1e-6."""
    differences = {
        key: float(np.abs(pixels_by(data, name, recipe, way).array[0] - expected).max())
        for key, name, data, recipe, expected in golden(path)
    }
    return len(differences), {key: off for key, off in differences.items() if off > 1e-6}


@pytest.mark.parametrize("way", ["fast", "reference"])
def test_fixture_is_reproduced(way: str) -> None:
    assert far_off(TRIMMED, way) == (70, {})


@pytest.mark.parametrize("way", ["fast", "reference"])
def test_whole_archive_is_reproduced(shared: Path, way: str) -> None:
    assert far_off(shared / "parity" / "protocol" / "decode.npz", way) == (78, {})


def test_fast_path_equals_the_oracle_on_this_machine() -> None:
    result = self_test()
    assert [check for check in result.checks if not check.equal] == []
    assert result.passed
    assert len(result.checks) >= 10


def test_header_polarity_negates_only_what_the_header_calls_inverted() -> None:
    files = {name: data for _, name, data, _, _ in golden(TRIMMED)}
    stored, negated, header = (Canvas(size=64, polarity=way) for way in ("stored", "negated", "header"))
    for name, alike in (("other/bits12_MONOCHROME1.dcm", negated), ("other/bits12_MONOCHROME2.dcm", stored)):
        by_header, same = pixels(files[name], name, [header, alike])
        np.testing.assert_array_equal(by_header.array, same.array)
    first, second = pixels(files["other/bits12_MONOCHROME2.dcm"], "x", [stored, negated])
    assert np.abs(first.array - second.array).max() > 0.5


def saved(picture: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_too_oblong_for_the_released_reader(kind: str) -> None:
    data = saved(np.arange(3000 * 2, dtype=np.uint8).reshape(2, 3000), kind)
    with pytest.raises(ImageError, match=r"thin: 3000 x 2 pixels.*canvas of 224.*radiograph"):
        pixels_by(data, "thin", Canvas())
    radiograph = Canvas(decode="radiograph", polarity="header")
    picture = pixels_by(data, "thin", radiograph)
    assert any("one pixel" in note for note in picture.notes)
    assert picture.array[0, 0].max() > 0
    assert picture.array[0, 1:].max() == 0


def test_deep_png_goes_beyond_one() -> None:
    data = saved(np.full((40, 40), 65535, dtype=np.uint16), "PNG")
    assert pixels_by(data, "white", Canvas()).array.max() == 257.0
