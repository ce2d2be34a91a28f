"""Kept arrays come back as they were made, and a file that is not the key's own counts as absent."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrbench.store import digest
from cxrbench.store.array_cache import ArrayCache, CachedArray
from cxrbench.store.sealed import DamagedError

ONE, TWO = ({"texts": [name]} for name in "ab")
ENGINE = {"device": "cpu", "torch": "2"}
VECTORS = np.arange(6, dtype=np.float32).reshape(2, 3)


def kept(array: np.ndarray) -> CachedArray:
    return CachedArray(array, ENGINE)


def never() -> Any:
    raise AssertionError("made again")


def path_of(root: Path, key: dict[str, Any]) -> Path:
    return next(root.rglob(f"{digest.of_json(key)}.vec"))


@pytest.mark.parametrize("array", [VECTORS, VECTORS[:0], VECTORS.T, np.ones((2, 1, 3), np.float32)])
def test_an_array_is_made_once(array: np.ndarray, tmp_path: Path) -> None:
    ArrayCache(tmp_path).array(ONE, lambda: kept(array))
    found = ArrayCache(tmp_path).array(ONE, never)
    assert (found.array.dtype, found.array.shape) == (np.float32, array.shape)
    np.testing.assert_array_equal(found.array, array)
    assert found.engine == ENGINE


def test_a_file_under_another_keys_name_is_not_believed(tmp_path: Path) -> None:
    arrays = ArrayCache(tmp_path)
    arrays.array(ONE, lambda: kept(VECTORS))
    arrays.array(TWO, lambda: kept(VECTORS + 1))
    shutil.copy(path_of(tmp_path, ONE), path_of(tmp_path, TWO))
    np.testing.assert_array_equal(arrays.array(TWO, lambda: kept(VECTORS + 1)).array, VECTORS + 1)


def sealed(body: bytes) -> bytes:
    return digest.of_bytes(body).encode() + body


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


@pytest.mark.parametrize(
    ("told", "values"),
    [
        ({"shape": [3, 3]}, VECTORS.tobytes()),
        ({"shape": [-1, 3]}, VECTORS.tobytes()),
        ({"shape": [10**12, 10**12]}, VECTORS.tobytes()),
        ({"shape": "x"}, VECTORS.tobytes()),
        ({}, VECTORS.tobytes()),
        ({"shape": [2, 3]}, VECTORS.astype(">f8").tobytes()),
        ({"shape": [2, 3]}, (VECTORS + np.nan).tobytes()),
        ({"shape": [2, 3], "more": 1}, VECTORS.tobytes()),
    ],
)
def test_a_sealed_file_that_tells_other_facts_counts_as_absent(
    told: dict[str, Any], values: bytes, tmp_path: Path
) -> None:
    arrays = ArrayCache(tmp_path)
    arrays.array(ONE, lambda: kept(VECTORS))
    head = json.dumps({"key": digest.of_json(ONE), "engine": ENGINE, **told}).encode()
    for body in (head + b"\n" + values, head, npy(VECTORS), b"\n", b"[" * 10**5 + b"\n"):
        path_of(tmp_path, ONE).write_bytes(sealed(body))
        np.testing.assert_array_equal(arrays.array(ONE, lambda: kept(VECTORS + 2)).array, VECTORS + 2)
        path_of(tmp_path, ONE).unlink()
        arrays.array(ONE, lambda: kept(VECTORS))


def test_what_is_not_finite_is_given_back_and_not_kept(tmp_path: Path) -> None:
    assert np.isnan(ArrayCache(tmp_path).array(ONE, lambda: kept(VECTORS + np.nan)).array).all()
    np.testing.assert_array_equal(ArrayCache(tmp_path).array(ONE, lambda: kept(VECTORS)).array, VECTORS)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    ArrayCache(tmp_path).array(ONE, lambda: kept(VECTORS))
    path = path_of(tmp_path, ONE)
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedError, match=r"is a folder, not a file\. Remove it\."):
        ArrayCache(tmp_path).array(ONE, lambda: kept(VECTORS))
