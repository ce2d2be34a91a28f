"""Vectors from a file: the numbers of the model that they are of, whatever names images, and all that is refused."""

import csv
import hashlib
import re
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
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import load_adapter
from cxrbench.models.vectors import VectorsFile
from cxrbench.phantom.write import write
from cxrbench.records.record import Record, record_path
from cxrbench.records.validity import flaws, why_not
from cxrbench.runner.given import Lookup, NamedImage
from cxrbench.runner.model import bench_model
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
    columns_of = {tap: f"{tap}_*" if form in (as_columns, as_mixed) else tap for tap in known.taps}
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
    names.append(names[0])
    columns |= {name: np.concatenate([rows, rows[1:2]]) for name, rows in columns.items()}


def long(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["joint"] *= 2


def wide(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["pooled"] = np.concatenate([columns["pooled"], columns["pooled"][:, :1]], axis=1)


def whole(names: list[str], columns: dict[str, np.ndarray]) -> None:
    columns["pooled"] = columns["pooled"].astype(np.int64)


def as_whole(path: Path, names: list[str], columns: Arrays) -> None:
    numbers = {name: pa.array(list(rows), pa.list_(pa.int64())) for name, rows in columns.items()}
    parquet.write_table(pa.table({"ids": names, **numbers}), path)


def as_ragged(path: Path, names: list[str], columns: Arrays) -> None:
    rows = [list(row) for row in columns["pooled"]]
    rows[4] = rows[4][:-1]
    parquet.write_table(pa.table({"ids": names, "pooled": rows, "joint": list(columns["joint"])}), path)


def as_holes(path: Path, names: list[str], columns: Arrays) -> None:
    rows = [None if n == 5 else list(row) for n, row in enumerate(columns["pooled"])]
    parquet.write_table(pa.table({"ids": names, "pooled": rows, "joint": list(columns["joint"])}), path)


def as_numbered(path: Path, names: list[str], columns: Arrays) -> None:
    lists = {name: list(rows) for name, rows in columns.items()}
    parquet.write_table(pa.table({"ids": list(range(len(names))), **lists}), path)


def as_mixed(path: Path, names: list[str], columns: Arrays) -> None:
    each = {f"{name}_{n}": row for name, rows in columns.items() for n, row in enumerate(rows.T)}
    pd.DataFrame({"ids": names, **each, "pooled_1": columns["pooled"][:, 1].astype(np.float64)}).to_parquet(path)


def as_objects(path: Path, names: list[str], columns: Arrays) -> None:
    with path.open("wb") as stream:
        np.savez(stream, ids=np.array(names, dtype=object), **columns)


def as_text(path: Path, names: list[str], columns: Arrays) -> None:
    pd.DataFrame({"ids": names}).to_csv(path)


def as_half(path: Path, names: list[str], columns: Arrays) -> None:
    as_fixed(path, names, columns)
    path.write_bytes(path.read_bytes()[:-20])


Write = Callable[[Path, list[str], Arrays], None]
Spoil = Callable[[list[str], dict[str, np.ndarray]], None]
REFUSED: list[tuple[Write, Spoil | None, str]] = [
    (as_fixed, drop, "no vectors of 1 of 36 images .*Nothing is measured on a part"),
    (as_npz, drop, "no vectors of 1 of 36 images .*Nothing is measured on a part"),
    (as_list, spoil_row(np.nan), "1 rows hold NaN or infinite values, row 3 "),
    (as_npz, spoil_row(np.inf), "1 rows hold NaN or infinite values, row 3 "),
    (as_fixed, twice, "1 names have several rows with different vectors"),
    (as_fixed, long, "has length 2, and cosines are taken of unit vectors.*unit_length"),
    (as_fixed, wide, "row 0 .* has a vector of 9 values, the card says width 8"),
    (as_columns, wide, "picks 9 columns .*, the card says width 8"),
    (as_npz, wide, r"\(37, 8\) is wanted"),
    (as_npz, whole, "holds int64; vectors are float16, float32 or float64"),
    (as_whole, whole, "holds int64; vectors are float16, float32 or float64"),
    (as_ragged, None, "row 4 .* has a vector of 7 values"),
    (as_holes, None, "row 5 .* has no vector"),
    (as_numbered, None, "holds int64; text is wanted"),
    (as_mixed, None, "mixed types: double, float"),
    (as_objects, None, "a list of texts is wanted"),
    (as_text, None, "vectors are read from Parquet or NPZ"),
    (as_half, None, "damaged, or written in another way"),
]


@pytest.mark.parametrize(("form", "spoil", "why"), REFUSED)
def test_a_file_that_cannot_be_is_refused_by_name(
    lab: Lab, known: Known, tmp_path: Path, form: Write, spoil: Spoil | None, why: str
) -> None:
    card = export(lab, known, tmp_path, form=form, spoil=spoil or (lambda names, columns: None))
    found = measured(lab, tmp_path, card, protocols=["knn-20"])
    (problem,) = found.problems
    assert not found.records and "vectors.bin" in str(problem)
    assert re.search(why, str(problem)), str(problem)


def test_the_bytes_of_images_that_a_file_lacks_are_told_after_they_were_read(
    lab: Lab, known: Known, tmp_path: Path
) -> None:
    """By SHA-256 nobody knows before; no part of the images is measured, whatever --max-unreadable allows."""
    card = export(lab, known, tmp_path, "sha256", spoil=drop)
    for _ in range(2):
        found = measured(lab, tmp_path, card, protocols=["knn-20"], max_unreadable=1.0)
        assert not found.records
        assert any("no vectors of 1 of" in str(problem) for problem in found.problems), found.problems


def test_pictures_of_the_same_bytes_with_different_vectors_are_refused(lab: Lab, known: Known, tmp_path: Path) -> None:
    own, _ = copied(lab, tmp_path / "data")
    files = own.files("covid")
    first, second = [path for path in sorted(files.values()) if path.parent.parent.name == "COVID"][:2]
    second.write_bytes(first.read_bytes())
    before = lab.files("covid")
    moved = {tap: {str(files[i]): rows[str(before[i])] for i in files} for tap, rows in known.taps.items()}
    card = export(own, replace(known, taps=moved), tmp_path / "card", "name")
    for _ in range(2):
        found = measured(own, tmp_path, card, protocols=["knn-20"])
        assert not found.records
        assert "byte for byte, and have different vectors" in str(found.problems[0])


def test_a_name_of_two_images_is_refused(lab: Lab, known: Known, tmp_path: Path) -> None:
    card = export(lab, known, tmp_path, "name")
    own = lab.request(tmp_path, [], [], models=[str(card)], tasks=[lab.task("covid")])
    facts = catalog.load_card(str(card))
    model = bench_model(facts, own.places, own.engine, "cpu", alone=True)
    one = next(iter(lab.files("covid").values()))
    other = tmp_path / "elsewhere" / one.name
    lookup = Lookup(model, {path: NamedImage(path, path.as_posix(), ()) for path in (one, other)})
    lookup.require_all({one: "0" * 64, other: "0" * 64})
    for contents in ({one: None, other: None}, {one: "0" * 64, other: "1" * 64}):
        with pytest.raises(DataError, match="1 names stand for several images"):
            lookup.require_all(contents)


def test_texts_that_a_file_lacks_are_named_and_all_that_is_needed_is_written(
    lab: Lab, known: Known, tmp_path: Path
) -> None:
    lost = sorted(known.texts)[0]
    card = export(lab, replace(known, texts={t: v for t, v in known.texts.items() if t != lost}), tmp_path)
    found = measured(lab, tmp_path, card)
    (problem,) = found.problems
    assert repr(lost) in str(problem) and "texts.npz has no vector of 1 of" in str(problem)
    assert {record.protocol.protocol for record in found.records} == {"linear-probe", "knn-20"}
    (tmp_path / "vectors.bin").unlink()
    (tmp_path / "texts.npz").unlink()
    words = ["encode", "--needed", str(tmp_path / "needed"), "--model", str(card), "--task", lab.task("covid")]
    asked = ["--protocol", "zero-shot", "--prompts", "names", "--variant", str(lab.variant), *lab.roots]
    done = CliRunner().invoke(app, [*words, *asked, "--cache", str(tmp_path / "cache")])
    assert done.exit_code == 0, done.output
    with (tmp_path / "needed" / "texts.csv").open(encoding="utf-8") as stream:
        assert {row["texts"] for row in csv.DictReader(stream)} == set(known.texts)
    with (tmp_path / "needed" / "images.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    files = lab.files("covid")
    for row in rows:
        assert {key: row[key] for key in NAMES} == {
            key: of(lab, row["id"], files[row["id"]]) for key, of in NAMES.items()
        }
    assert {row["id"] for row in rows} <= set(files) and rows


def test_another_file_is_another_model(lab: Lab, known: Known, tmp_path: Path) -> None:
    card = export(lab, known, tmp_path)
    first = measured(lab, tmp_path, card, protocols=["knn-20"])
    export(lab, known, tmp_path, spoil=lambda names, columns: columns.update(pooled=-columns["pooled"]))
    changed = measured(lab, tmp_path, card, protocols=["knn-20"])
    assert "when it was first seen" in str(changed.problems[0]) and not changed.records
    verified = CliRunner().invoke(app, ["weights", "verify", str(card), "--accept", "--cache", str(tmp_path / "cache")])
    assert verified.exit_code == 0, verified.output
    second = measured(lab, tmp_path, card, protocols=["knn-20"])
    assert not second.problems
    assert first.records[0].id != second.records[0].id
    assert first.records[0].model.weights_tensors != second.records[0].model.weights_tensors


def test_vectors_are_brought_to_unit_length_where_the_card_says_so(lab: Lab, known: Known, tmp_path: Path) -> None:
    card = export(lab, known, tmp_path, spoil=long, unit_length=True)
    found = measured(lab, tmp_path, card, protocols=["zero-shot"])
    assert not found.problems
    (wanted,) = [r for r in known.run.records if r.protocol.protocol == "zero-shot"]
    assert found.records[0].summary == wanted.summary


def test_every_verb_says_what_such_a_model_is(lab: Lab, known: Known, tmp_path: Path) -> None:
    card = export(lab, known, tmp_path)
    report = check_card(catalog.load_card(str(card)))
    assert report.passed and {finding.name for finding in report.findings} == {"vectors", "texts", "network"}
    cache = ["--cache", str(tmp_path / "cache")]
    for words, told in (
        (["doctor", str(card), *cache], "cannot tell: vectors from a file"),
        (["weights", "info", str(card), *cache], "vectors.bin: computed by an interface"),
        (["weights", "verify", str(card), *cache], "format Parquet"),
        (["weights", "convert", str(card), *cache], "nothing to convert"),
        (["info", str(card)], "none: vectors come from a file"),
    ):
        done = CliRunner().invoke(app, words)
        assert told in done.output, (words, done.output)
    (record,) = measured(lab, tmp_path, card, protocols=["knn-20"]).records
    out = str(tmp_path / "results")
    asked = ["--synthetic", "--variant", str(lab.variant), "--out", out]
    for words, told in (
        (["table", *asked], "elsewhere: its vectors were computed elsewhere and came from a file, vectors.bin"),
        (["table", "4", *asked], "elsewhere: its vectors were computed elsewhere and came from a file, vectors.bin"),
        (
            ["info", str(record_path(Path(out), "covid", "elsewhere", record.id))],
            "vectors that were computed elsewhere",
        ),
    ):
        done = CliRunner().invoke(app, words)
        assert told in " ".join(done.output.split()), (words, done.output)
    model = cxrbench.load_model(str(card))
    with pytest.raises(SpecError, match="sees no pixels"):
        model.encode_image(next(iter(lab.files("covid").values())))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": {"made": "x"}}, "come from one file got by hand"),
        ({"published": {"table2": "x"}}, "come from one file got by hand"),
        ({"recipes": {"reality-check": {"kind": "given"}, "authors": {}}}, "either all are given or none is"),
    ],
)
def test_a_card_claims_nothing_of_a_network(changes: Mapping[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=why):
        catalog.load_card(str(write_facts(tmp_path / "one.toml", card_facts(**changes))))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"key": "dicom"}, "key"),
        ({"key": "id"}, "name the column of each tap"),
        ({"key": "id", "vectors": {"pooled": "a", "joint": "b"}}, "needs the options `texts` and `logit_scale`"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Mapping[str, Any], why: str, tmp_path: Path) -> None:
    card = catalog.load_card(str(write_facts(tmp_path / "one.toml", card_facts(options=options))))
    with pytest.raises(SpecError, match=why):
        VectorsFile.options_digest(card)


@pytest.mark.slow
def test_retrieval_by_given_vectors_is_that_of_the_model(lab: Lab, tmp_path: Path) -> None:
    task = "retrieval_mimic_test"
    write(task, tmp_path / "data", images_per_class=2, size=(48, 48))
    drawn = Lab(lab.models, lab.tasks, {"": tmp_path / "data"})
    own = write_facts(tmp_path / "sound.toml", made_adapters.card(made_adapters.Sound))
    asked = {"tasks": [task], "protocols": ["retrieval"], "groups": ["*"], "variant": "phantom"}
    first = measured(drawn, tmp_path / "own", own, **asked)
    assert first.records and not first.problems
    ((key, _),) = Store(tmp_path / "own" / "cache").entries()
    stored = Store(tmp_path / "own" / "cache").read(key)
    partition = load_partition(tmp_path / "data", catalog.load_task(task), "phantom", tmp_path / "own" / "cache")
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in partition.paths.values()]
    texts = list(dict.fromkeys(partition.texts))
    joint = load_adapter(catalog.load_card(str(own))).encode_text(texts, "masked").joint.numpy()
    folder = tmp_path / "given"
    folder.mkdir()
    vectors = {tap: stored.rows(tap, contents) for tap in ("pooled", "joint")}
    with (folder / "vectors.bin").open("wb") as stream:
        np.savez(stream, ids=np.array(contents), texts=np.array(texts), text_vectors=joint, **vectors)
    options = {"key": "sha256", "vectors": {t: t for t in vectors}, "texts": "vectors.bin", "logit_scale": 1.0}
    card = write_facts(folder / "elsewhere.toml", card_facts(options=options))
    found = measured(drawn, folder, card, **asked)
    assert not found.problems
    assert [told(folder, r) for r in found.records] == [told(tmp_path / "own", r) for r in first.records]
