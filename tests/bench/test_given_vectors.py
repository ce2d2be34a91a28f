"""Vectors from a file: the numbers of the model that they are of, whatever names images, and all that is refused."""

import csv
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_adapters
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lab import Lab, copied, predictions
from pyarrow import parquet
from typer.testing import CliRunner
from written_facts import write_facts

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.models.base import load_adapter
from cxrbench.phantom.write import write
from cxrbench.records.record import Record
from cxrbench.records.validity import flaws, why_not
from cxrbench.runner.settle import RunResult
from cxrbench.specs import catalog
from cxrbench.store.embeddings import Store
from cxrbench.testing import check_card

PROTOCOLS = ["zero-shot", "linear-probe", "knn-20"]
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Known:
    """A tiny model's run on COVID, and all that it gave: vectors of images by path, and of texts."""

    run: RunResult
    place: Path
    taps: Mapping[str, Arrays]
    texts: Arrays


def measured(lab: Lab, place: Path, card: Path | str, **changes: Any) -> RunResult:
    asked = {"models": [str(card)], "protocols": PROTOCOLS, "groups": ["all"], "shots": (2,)}
    return lab.run(place, [], ["covid"], **(asked | changes))


@pytest.fixture(scope="module")
def known(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Known:
    place = tmp_path_factory.mktemp("known")
    card = write_facts(place / "sound.toml", made_adapters.card(made_adapters.Sound))
    run = measured(lab, place, card)
    assert not run.problems and len(run.records) == len(PROTOCOLS)
    ((key, _),) = Store(place / "cache").entries()
    stored, taps = Store(place / "cache").read(key), dict[str, dict[str, np.ndarray]]()
    for path in lab.files("covid").values():
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        if content in stored:
            for tap in ("pooled", "joint"):
                taps.setdefault(tap, {})[str(path)] = stored.rows(tap, [content])[0]
    told = next(record.prompts for record in run.records if record.prompts)
    texts = sorted({text for words in told.drawn for some in words.values() for text in some})
    joint = load_adapter(catalog.load_card(str(card))).encode_text(texts).joint.numpy()
    return Known(run, place, taps, dict(zip(texts, joint, strict=True)))


def as_list(path: Path, names: list[str], columns: Arrays) -> None:
    lists = {name: pa.array(list(rows), pa.list_(pa.float32())) for name, rows in columns.items()}
    parquet.write_table(pa.table({"ids": names, **lists}), path, row_group_size=7)


def as_fixed(path: Path, names: list[str], columns: Arrays) -> None:
    lists = {n: pa.FixedSizeListArray.from_arrays(r.reshape(-1), r.shape[1]) for n, r in columns.items()}
    parquet.write_table(pa.table({"ids": names, **lists}), path)


def as_columns(path: Path, names: list[str], columns: Arrays) -> None:
    each = {f"{name}_{n}": row for name, rows in columns.items() for n, row in enumerate(rows.T)}
    pd.DataFrame({"ids": names, **each}).to_parquet(path)


def as_npz(path: Path, names: list[str], columns: Arrays) -> None:
    with path.open("wb") as stream:
        np.savez(stream, ids=np.array(names), **columns)


NAMES: Mapping[str, Callable[[Lab, str, Path], str]] = {
    "id": lambda lab, image, path: image,
    "name": lambda lab, image, path: path.name,
    "stem": lambda lab, image, path: path.stem,
    "path": lambda lab, image, path: path.relative_to(lab.data[""]).as_posix(),
    "sha256": lambda lab, image, path: hashlib.sha256(path.read_bytes()).hexdigest(),
}


def export(
    lab: Lab,
    known: Known,
    folder: Path,
    key: str = "path",
    form: Callable[[Path, list[str], Arrays], None] = as_fixed,
    spoil: Callable[[list[str], dict[str, np.ndarray]], None] = lambda names, columns: None,
    **options: Any,
) -> Path:
    """The known vectors in a file, and the card that reads it; `spoil` changes names and columns in place."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {image: path for image, path in lab.files("covid").items() if str(path) in known.taps["pooled"]}
    names = [NAMES[key](lab, image, path) for image, path in files.items()]
    columns = {tap: np.stack([rows[str(path)] for path in files.values()]) for tap, rows in known.taps.items()}
    spoil(names, columns)
    form(folder / "vectors.bin", [*names, "of no task"], {n: np.concatenate([r, r[:1]]) for n, r in columns.items()})
    rows = np.stack(list(known.texts.values()))
    with (folder / "texts.npz").open("wb") as stream:
        np.savez(stream, texts=np.array(list(known.texts)), text_vectors=rows)
    columns_of = {tap: f"{tap}_*" if form is as_columns else tap for tap in known.taps}
    told = {"key": key, "vectors": columns_of, "texts": "texts.npz", "logit_scale": 1.0, **options}
    return write_facts(folder / "elsewhere.toml", card_facts(options=told))


def card_facts(**changes: Any) -> dict[str, Any]:
    sound = made_adapters.card(made_adapters.Sound).model_dump(mode="json", exclude_none=True)
    own = {
        "name": "elsewhere",
        "adapter": "cxrbench.models.vectors:VectorsFile",
        "weights": {"files": ["vectors.bin"], "where": "computed by an interface"},
        "recipes": {"reality-check": {"kind": "given"}},
    }
    return {**sound, **own, **changes}


def told(place: Path, record: Record) -> dict[str, Any]:
    """What a number rests on that must not hang on where vectors came from."""
    table = parquet.read_table(predictions(place, record)).replace_schema_metadata(None)
    facts = record.model_dump(mode="json", include={"protocol", "prompts", "folds", "summary", "generalised"})
    return {**facts, "predictions": table.to_pylist()}


@pytest.mark.parametrize(
    ("key", "form"),
    [("id", as_list), ("name", as_fixed), ("stem", as_columns), ("path", as_npz), ("sha256", as_npz)],
)
def test_given_vectors_give_the_numbers_of_their_model(
    lab: Lab, known: Known, tmp_path: Path, key: str, form: Callable[[Path, list[str], Arrays], None]
) -> None:
    """Bit for bit, whatever names the images and in whatever form; and records say where the vectors came from."""
    card = export(lab, known, tmp_path, key, form)
    found = measured(lab, tmp_path, card, precision="bfloat16", batch_size=5)
    assert not found.problems and not found.skipped
    assert [told(tmp_path, r) for r in found.records] == [told(known.place, r) for r in known.run.records]
    file = (tmp_path / "vectors.bin").read_bytes()
    for record in found.records:
        assert record.given and record.preprocessing.recipe.model_dump() == {"kind": "given"}
        assert record.model.weights_file == "vectors.bin"
        assert record.model.weights_sha256 == hashlib.sha256(file).hexdigest()
        assert (record.runtime.device, record.runtime.precision) == ("cpu", "float32")
        assert any("came from a file" in reason for reason in why_not(record))
        assert record.published == () and flaws(record) == ()
    again = measured(lab, tmp_path, card)
    assert again.cached == len(PROTOCOLS) and again.encoded == 0


def drop(names: list[str], columns: dict[str, np.ndarray]) -> None:
    names[0] = "another"


def spoil_row(value: float) -> Callable[[list[str], dict[str, np.ndarray]], None]:
    def spoil(names: list[str], columns: dict[str, np.ndarray]) -> None:
        columns["pooled"][3, 1] = value

    return spoil


def twice(names: list[str], columns: dict[str, np.ndarray]) -> None:
    names[1] = names[0]


def long(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["joint"] *= 2


def wide(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["pooled"] = np.concatenate([columns["pooled"], columns["pooled"][:, :1]], axis=1)


def whole(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["pooled"] = columns["pooled"].astype(np.int64)


@pytest.mark.parametrize("form", [as_fixed, as_npz])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (drop, r"no vectors of 1 of 36 images .*Nothing is measured on a part"),
        (spoil_row(np.nan), r"1 rows hold NaN or infinite values, row 3 "),
        (spoil_row(np.inf), r"1 rows hold NaN or infinite values, row 3 "),
        (twice, r"no vectors of 1 of 36 images"),
        (long, r"has length 2, and cosines are taken of unit vectors"),
        (wide, r"width 8|\(37, 9\); \(37, 8\) is wanted"),
        (whole, r"holds int64; vectors are float16, float32 or float64"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_name(
    lab: Lab,
    known: Known,
    tmp_path: Path,
    spoil: Callable[[list[str], dict[str, np.ndarray]], None],
    why: str,
    form: Callable[[Path, list[str], Arrays], None],
) -> None:
    found = measured(lab, tmp_path, export(lab, known, tmp_path, form=form, spoil=spoil), protocols=["knn-20"])
    assert not found.records
    (problem,) = found.problems
    assert pytest.raises(type(problem), match=why) and __import__("re").search(why, str(problem)), problem
