"""`cxrbench cache` knows the images that were decoded to train on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cxrbench.cli.cache import app
from cxrbench.errors import IntegrityError
from cxrbench.pretrain.images import StoredImages, WantedImages, fill_pixel_store
from cxrbench.specs.recipe import Canvas


def decoded(root: Path) -> StoredImages:
    for n in range(3):
        Image.fromarray(np.full((9, 9), 50 * n, np.uint8)).save(root / f"{n}.png")
    return fill_pixel_store(WantedImages(sorted(root.glob("*.png")), Canvas(size=32), root / "cache"))


def told(root: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--cache", str(root / "cache")])
    if result.exception:
        raise result.exception
    return result.stdout


def test_decoded_images_are_listed_verified_and_removed(tmp_path: Path) -> None:
    decoded(tmp_path)
    (place,) = (tmp_path / "cache/pixels").iterdir()
    assert f"{place.name[:16]}  3 images  0.0 MiB  decoded to 32 x 32" in told(tmp_path, "list")
    assert "0 rows and 3 decoded images, all fit" in told(tmp_path, "verify")
    with (place / "pixels.u8").open("r+b") as file:
        file.write(b"\x99")
    with pytest.raises(
        IntegrityError, match=rf"damaged in {place.name[:16]}; none is trained on.*`cxrbench cache prune`"
    ):
        told(tmp_path, "verify")
    assert "1 of 1 keys removed" in told(tmp_path, "prune", place.name[:8])
    assert not place.exists()
    assert decoded(tmp_path).decoded == 3
    assert "1 of 1 keys removed" in told(tmp_path, "prune", "--all")
    assert told(tmp_path, "list").startswith("0.0 MiB in ")


def test_a_store_whose_size_is_damaged_is_named_and_can_be_removed(tmp_path: Path) -> None:
    decoded(tmp_path)
    (place,) = (tmp_path / "cache/pixels").iterdir()
    told_size = (place / "size.json").read_bytes()
    for damage in (b"", b"[" * 100_000, told_size.replace(b"32", b"16")):
        (place / "size.json").write_bytes(damage)
        assert f"{place.name[:16]}  0 images" in told(tmp_path, "list")
        assert f"`cxrbench cache prune {place.name[:16]}`" in told(tmp_path, "list")
        with pytest.raises(IntegrityError, match=f"damaged in {place.name[:16]}"):
            told(tmp_path, "verify")
    again = fill_pixel_store(WantedImages(sorted(tmp_path.glob("*.png")), Canvas(size=32), tmp_path / "cache"))
    assert again.decoded == 0, "training does not need that file"
    assert "1 of 1 keys removed" in told(tmp_path, "prune", place.name[:8])
