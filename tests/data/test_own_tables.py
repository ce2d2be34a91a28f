"""A table of one's own: which image is meant, what its labels are, in which part it is, and what is left out."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_own import laid_out, own_task, table_text, two_classes, write_image, write_set

from cxrbench.data import own_split
from cxrbench.data.sources import csv as csv_source
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.own_data import RatioSplit
from cxrbench.specs.task import TaskSpec, read_task

CSV = {"table": "labels.csv", "image": "file", "label": "finding"}
BY_PATIENT = {**CSV, "patient": "patient"}


def everything(task: TaskSpec) -> dict[str, tuple[int, ...]]:
    """The labels of every image of the task."""
    parts = laid_out(task).parts.values()
    return {i: tuple(row) for part in parts for i, row in zip(part.ids, part.labels.tolist(), strict=True)}


def test_a_task_file_needs_name_source_and_labels(tmp_path: Path) -> None:
    write_set(tmp_path, two_classes())
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\nsource = "csv"\nlabels = ["A", "B"]\n'
        'csv = { table = "labels.csv", image = "file", label = "finding" }\n'
    )
    task = read_task(tmp_path / "mine.toml")
    assert (task.title, task.data_set, task.folds, list(task.splits)) == ("mine", "mine", "external-test", ["own"])
    assert task.groups == {"all": ("A", "B")} and task.patients.kind == "image"
    found = laid_out(task)
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 14, "test": 6}
    assert not found.findings.missing and not found.synthetic
    assert all(path.is_file() for path in found.paths.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"csv": {**CSV, "imagee": "file"}}, "csv.imagee: Extra inputs"),
        ({"csv": {"table": "labels.csv"}}, "csv.image: Field required"),
        ({"csv": None}, "a section [csv] belongs to source = 'csv'"),
        ({"csv": {"table": "a.csv", "image": "f", "separator": "|"}}, "separator and ignore belong to a column"),
        ({"csv": {**CSV, "drop": ["odd"]}}, "csv.drop.0"),
        ({"splits": {"own": {"rule": "column", "params": {"column": "s", "tests": ["x"]}}}}, "splits.own.params"),
        ({"splits": {"own": {"rule": "columns"}}}, "unknown rule 'columns'; known: ratios, column"),
        ({"splits": {"own": {"rule": "ratios", "params": {"train": 0.9}}}}, "must add up to 1"),
        ({"source": "folder", "csv": None, "kind": "multi-label"}, "single-label"),
    ],
)
def test_a_wrong_task_file_is_refused_with_file_and_field(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    import tomli_w

    facts = {"name": "mine", "source": "csv", "labels": ["A", "B"], "csv": CSV} | changes
    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps({name: value for name, value in facts.items() if value is not None}))
    with pytest.raises(SpecError) as refused:
        read_task(path)
    assert str(path) in str(refused.value) and said in str(refused.value)


Writer = Callable[[Path, str], None]


def as_parquet(path: Path, text: str) -> None:
    import pandas as pd

    frame = pd.read_csv(path.parent / "labels.csv")
    pq.write_table(pa.Table.from_pandas(frame), path)


def gzipped(path: Path, text: str) -> None:
    import gzip

    path.write_bytes(gzip.compress(text.encode()))


def zipped(path: Path, text: str) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("table.tsv" if ".tsv" in path.name else "table.csv", text)


@pytest.mark.parametrize(
    ("name", "separator", "write"),
    [
        ("table.csv", ",", lambda path, text: path.write_text(text)),
        ("table.tsv", "\t", lambda path, text: path.write_text(text)),
        ("table.csv", ";", lambda path, text: path.write_text(f"sep=;\n{text}")),
        ("table.csv", ",", lambda path, text: path.write_bytes(text.encode("utf-16"))),
        ("table.csv.gz", ",", gzipped),
        ("table.tsv.gz", "\t", gzipped),
        ("table.csv.zip", ",", zipped),
        ("table.tsv.zip", "\t", zipped),
        ("table.parquet", ",", as_parquet),
        ("table.csv", ",", as_parquet),
    ],
)
def test_every_format_gives_the_same_partition(name: str, separator: str, write: Writer, tmp_path: Path) -> None:
    rows = two_classes()
    write_set(tmp_path, rows)
    plain = laid_out(own_task(tmp_path, csv=BY_PATIENT))
    write(tmp_path / name, table_text(rows, separator))
    found = laid_out(own_task(tmp_path, csv={**BY_PATIENT, "table": name}))
    assert found.digest == plain.digest and found.patients == plain.patients


def test_cells_of_parquet_are_read_as_those_of_a_csv_table(tmp_path: Path) -> None:
    columns = {
        "file": pa.array(["a.png", "b.png", "c.png"]).dictionary_encode(),
        "A": pa.array([1.0, 0.0, None]),
        "B": pa.array([True, False, False]),
        "patient": pa.array([7, 8, None], pa.int64()),
        "age": pa.array([61.0, None, 3.0]),
    }
    pq.write_table(pa.table(columns), tmp_path / "labels.parquet")
    data = {"table": "labels.parquet", "image": "file", "patient": "patient", "age": "age", "drop": ["patient"]}
    split = {"own": {"rule": "ratios", "params": {"train": 0.5, "test": 0.5}}}
    task = own_task(tmp_path, kind="multi-label", csv={**data, "uncertain": "zeros"}, splits=split)
    found = csv_source.tables(tmp_path, task, "own")
    assert {i: p for t in found.parts.values() for i, p in zip(t.ids, t.patients or (), strict=True)} == {
        "a.png": "7",
        "b.png": "8",
    }
    labels = {i: r for t in found.parts.values() for i, r in zip(t.ids, t.labels.tolist(), strict=True)}
    assert labels == {"a.png": [1, 1], "b.png": [0, 0]}
    assert found.left_out == {"the patient is blank": 1} and found.attributes["age"]["a.png"] == "61"


@pytest.mark.parametrize(
    ("cell", "file", "images"),
    [
        ("images/x.png", "images/x.png", "."),
        ("x.png", "images/x.png", "images"),
        ("./images/x.png", "images/x.png", "."),
        ("images/x.png", "images/x.png", "images"),
        ("images/deep/../x.png", "images/x.png", "."),
        ("images\\x.png", "images/x.png", "."),
        ("x", "images/deep/x.dcm", "."),
        ("x.png", "images/x.dcm.png", "."),
        ("x.png", "elsewhere/x.dcm", "."),
        ("1.2.840.1", "dcm/1.2.840.1.dcm", "."),
        ("1.2.840.1", "dcm/1.2.840.1", "."),
        ("Full-set/train/p1/x.jpg", "train/p1/x.png", "."),
        ("Ärzte Bilder/Thorax é (1).png", "Ärzte Bilder/Thorax é (1).png", "."),
        (unicodedata.normalize("NFC", "é ñ.png"), unicodedata.normalize("NFD", "é ñ.png"), "."),
        ("{root}/images/x.png", "images/x.png", "."),
        ("{root}/apart/x.png", "apart/x.png", "images"),
        ("../other/x.png", "other/x.png", "images"),
    ],
)
def test_an_image_is_found_by_path_or_id(cell: str, file: str, images: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    rows = [{"file": f"images/{n}.png", "finding": "AB"[n % 2]} for n in range(8)]
    write_set(root, rows)
    write_image(root / file)
    cell = cell.format(root=root)
    named = [{**row, "file": str(row["file"]).removeprefix("images/" if images != "." else "")} for row in rows]
    (root / "labels.csv").write_text(table_text([*named, {"file": cell, "finding": "A"}]))
    found = laid_out(own_task(root, csv={**CSV, "images": images}))
    assert not found.findings.missing and len(found.paths) == 9
    assert root / file in {path.resolve() for path in found.paths.values()}


def test_ids_below_the_root_do_not_say_where_the_root_lies(tmp_path: Path) -> None:
    digests = set()
    for place in ("here", "there"):
        root = write_set(tmp_path / place, two_classes())
        absolute = [{**row, "file": root / str(row["file"])} for row in two_classes()]
        (root / "labels.csv").write_text(table_text(absolute))
        digests.add(laid_out(own_task(root, csv=CSV)).digest)
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("files", "cells", "said"),
    [
        (["a/1.png", "b/1.png"], ["1"], "'1' may be any of 2 files in {root}: a/1.png, b/1.png"),
        (["a/1.png"], ["1", "1.png"], "'1' and '1.png' would both be the file {root}/a/1.png"),
        (["x.png", "tables/x.png"], ["x.png"], "'x.png' may be tables/x.png or x.png in {root}"),
        (["p2/s1/view.png"], ["p1/s1/view.png"], None),
    ],
)
def test_an_image_that_may_be_another_is_never_taken(
    files: list[str], cells: list[str], said: str | None, tmp_path: Path
) -> None:
    write_set(tmp_path, two_classes())
    for file in files:
        write_image(tmp_path / file)
    rows = [*two_classes(), *({"file": c, "finding": "A", "patient": "q"} for c in cells)]
    (tmp_path / "tables").mkdir(exist_ok=True)
    (tmp_path / "tables" / "labels.csv").write_text(table_text(rows))
    task = own_task(tmp_path, csv={**CSV, "table": "tables/labels.csv"})
    if said is None:
        assert laid_out(task).findings.missing == tuple(cells)
        return
    with pytest.raises(DataError) as refused:
        laid_out(task)
    assert said.format(root=tmp_path) in str(refused.value) and "task mine, split own" in str(refused.value)


def test_missing_extra_and_nearly_named_files_are_told(tmp_path: Path) -> None:
    rows = two_classes()
    write_set(tmp_path, rows)
    (tmp_path / "images/000.png").rename(tmp_path / "images/000.PNG.bak")
    (tmp_path / "images/001.png").unlink()
    write_image(tmp_path / "more" / "Other.png")
    (tmp_path / "labels.csv").write_text(
        table_text([*rows, {"file": "more/other.png", "finding": "A", "patient": "z"}])
    )
    findings = laid_out(own_task(tmp_path, csv=CSV), survey=True).findings
    assert findings.missing == ("images/000.png", "images/001.png", "more/other.png")
    assert findings.extra == ("more/Other.png",)
    assert any("more/other.png has no file, but more/Other.png is named nearly so" in note for note in findings.notes)


def labelled(tmp_path: Path, cells: list[dict[str, object]], **facts: Any) -> TaskSpec:
    rows = [{"file": f"images/{n}.png", **cell} for n, cell in enumerate(cells)]
    write_set(tmp_path, rows)
    split = {"own": {"rule": "ratios", "params": {"train": 0.5, "test": 0.5}}}
    return own_task(tmp_path, **{"splits": split, **facts})


WORDS = [{"finding": word} for word in ("A", "B", "a", "B", "A", "B", "", "C", "A", "B")]


def test_words_are_spelt_dropped_and_counted_by_reason(tmp_path: Path) -> None:
    data = {**CSV, "spellings": {"a": "A"}, "drop": ["blank", "other"]}
    found = laid_out(labelled(tmp_path, WORDS, csv=data))
    assert found.findings.left_out == {"the label is blank": 1, "the label is none of the task's": 1}
    assert sum(part.counts["A"] for part in found.parts.values()) == 4
    assert any("finding has words that are no label of the task: C 1" in note for note in found.findings.notes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"spellings": {"a": "A"}, "drop": ["blank"]}, "data row 8: finding is 'C', and the labels are 'A', 'B'"),
        ({"spellings": {"a": "A", "C": "A"}}, "data row 7: A is blank"),
        ({"drop": ["blank"]}, "data row 3: finding is 'a'"),
        ({"spellings": {"a": "A"}, "ignore": ["C"], "drop": ["blank"]}, "data row 8: finding: none of the task's"),
        ({"label": "findings"}, "has no column 'findings'; its columns are 'file', 'finding'"),
        ({"image": "path"}, "has no column 'path'"),
        ({"table": "label.csv"}, "label.csv: there is no such table"),
        ({"images": "pictures", "drop": ["blank", "other"]}, "pictures: there is no such folder"),
        ({"uncertain": "some", "spellings": {"a": "A"}, "drop": ["other"]}, "no rule 'some'"),
    ],
)
def test_what_nobody_decided_is_refused_with_file_row_and_column(
    data: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises((DataError, SpecError)) as refused:
        laid_out(labelled(tmp_path, WORDS, csv={**CSV, **data}))
    assert said in str(refused.value) and "task mine, split own" in str(refused.value)


FLAGS = [{"A": a, "B": b} for a, b in [(1, 0), (0, 1), (1, 1), (0, 0), (-1, 1), ("", 1), ("1.0", "0.0"), (0, 1)]]


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("zeros", {"images/4.png": (0, 1), "images/5.png": (0, 1)}),
        ("ones", {"images/4.png": (1, 1), "images/5.png": (0, 1)}),
        ("ignore", {"images/4.png": (-1, 1), "images/5.png": (0, 1)}),
    ],
)
def test_flags_of_a_multi_label_task_go_by_a_named_rule(
    rule: str, rows: dict[str, tuple[int, int]], tmp_path: Path
) -> None:
    data = {"table": "labels.csv", "image": "file", "uncertain": rule}
    found = everything(labelled(tmp_path, FLAGS, kind="multi-label", csv=data))
    assert len(found) == 8 and found["images/2.png"] == (1, 1) and found["images/3.png"] == (0, 0)
    assert {name: found[name] for name in rows} == rows


def test_flags_of_a_single_label_task_name_one_class_or_are_left_out(tmp_path: Path) -> None:
    data = {"table": "labels.csv", "image": "file", "drop": ["blank", "uncertain", "none", "several"]}
    found = laid_out(labelled(tmp_path, FLAGS, csv=data))
    assert found.findings.left_out == {
        "the label is blank": 1,
        "the label is uncertain (-1)": 1,
        "no label holds": 1,
        "several labels hold": 1,
    }
    with pytest.raises(DataError, match="data row 3: A, B: A and B hold, and the task is single-label"):
        laid_out(labelled(tmp_path, FLAGS, csv={**data, "drop": ["blank", "uncertain", "none"]}))


def test_words_in_the_place_of_flags_are_refused_or_spelt(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [{"A": w, "B": v} for w, v in [("yes", "no"), ("no", "yes")] * 3]
    data = {"table": "labels.csv", "image": "file"}
    with pytest.raises(DataError, match="data row 1: A is 'yes'; expected 1, 0, -1 or blank"):
        laid_out(labelled(tmp_path, cells, csv=data))
    spelt = {**data, "spellings": {"yes": "1", "no": "0"}}
    assert everything(labelled(tmp_path, cells, csv=spelt))["images/0.png"] == (1, 0)


def test_a_list_in_text_holds_several_labels(tmp_path: Path) -> None:
    cells: list[dict[str, object]] = [{"finding": f} for f in ("A|B", "No Finding", " b | A", "B", "A|Tube", "A")]
    data = {**CSV, "separator": "|", "ignore": ["No Finding", "Tube"], "spellings": {"b": "B"}}
    found = everything(labelled(tmp_path, cells, kind="multi-label", csv=data))
    assert [found[f"images/{n}.png"] for n in range(6)] == [(1, 1), (0, 0), (1, 1), (0, 1), (1, 0), (1, 0)]
    with pytest.raises(DataError, match=r"data row 5: finding is 'A\|Tube'"):
        laid_out(labelled(tmp_path, cells, kind="multi-label", csv={**data, "ignore": ["No Finding"]}))


def test_rows_that_repeat_an_image_count_once_and_contradictions_are_refused(tmp_path: Path) -> None:
    rows = [*two_classes(), two_classes()[3]]
    write_set(tmp_path, rows)
    found = laid_out(own_task(tmp_path, csv=CSV))
    assert found.findings.left_out == {"the image is in an earlier row": 1}
    assert sum(map(len, found.parts.values())) == 20
    for change in ({"finding": "A"}, {"patient": "p99"}):
        (tmp_path / "labels.csv").write_text(table_text([*two_classes(), {**two_classes()[3], **change}]))
        with pytest.raises(DataError, match="rows contradict each other: images/003"):
            laid_out(own_task(tmp_path, csv=BY_PATIENT))


def test_a_column_says_the_part(tmp_path: Path) -> None:
    parts = ["Training", "val", "Test", "Training", "unused"]
    rows = [{**row, "set": parts[n // 4]} for n, row in enumerate(two_classes())]
    write_set(tmp_path, rows)
    params = {"column": "set", "train": ["Training"], "test": ["Test"], "leave_out": ["unused"]}
    split = {"own": {"rule": "column", "params": params}}
    found = laid_out(own_task(tmp_path, csv=BY_PATIENT, splits=split))
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 8, "valid": 4, "test": 4}
    assert found.findings.left_out == {"set is 'unused'": 4}
    split["own"]["params"] = {**params, "leave_out": []}
    with pytest.raises(DataError, match="data row 17: set is 'unused', which is no part"):
        laid_out(own_task(tmp_path, csv=BY_PATIENT, splits=split))


def test_a_column_of_folds_is_a_split_for_each(tmp_path: Path) -> None:
    rows = [{**row, "fold": n // 4 % 3} for n, row in enumerate(two_classes(24))]
    write_set(tmp_path, rows)
    params = [{"column": "fold", "train": ["*"], "test": [str(fold)]} for fold in range(3)]
    splits = {f"fold_{n}": {"rule": "column", "params": one} for n, one in enumerate(params)}
    task = own_task(tmp_path, csv=BY_PATIENT, splits=splits)
    tests = [set(laid_out(task, split=name).parts["test"].ids) for name in splits]
    assert [len(part) for part in tests] == [8, 8, 8] and len(set().union(*tests)) == 24


def test_parts_that_share_patients_are_told(tmp_path: Path) -> None:
    rows = [{**row, "split": "train" if n % 4 < 2 else "test"} for n, row in enumerate(two_classes())]
    write_set(tmp_path, rows)
    split = {"own": {"rule": "column", "params": {"column": "split"}}}
    found = laid_out(own_task(tmp_path, csv=BY_PATIENT, splits=split))
    assert "train and test share 5 patients, such as p00" in found.findings.notes


def test_a_second_table_is_the_test_part(tmp_path: Path) -> None:
    rows = two_classes()
    write_set(tmp_path, rows[:12])
    write_set(tmp_path, rows[12:], table="judged.csv")
    data = {**CSV, "test_table": "judged.csv"}
    found = laid_out(own_task(tmp_path, csv=data))
    assert set(found.parts["test"].ids) == {row["file"] for row in rows[12:]} and len(found.parts["train"]) == 12
    params = {"train": 0.75, "valid": 0.25, "test": 0}
    valid = own_task(tmp_path, csv=data, splits={"own": {"rule": "ratios", "params": params}})
    assert {name: len(part) for name, part in laid_out(valid).parts.items()} == {"train": 9, "valid": 3, "test": 8}
    both = own_task(tmp_path, csv=data, splits={"own": {"rule": "ratios"}})
    with pytest.raises(SpecError, match=r"rows of labels.csv are test images, and so is judged.csv"):
        laid_out(both)
    (tmp_path / "judged.csv").write_text(table_text(rows[11:]))
    with pytest.raises(DataError, match=r"1 of its images are in .*labels.csv too, such as images/011.png"):
        laid_out(own_task(tmp_path, csv=data))


@given(order=st.permutations(range(20)), seed=st.integers(0, 3))
def test_the_order_of_rows_decides_nothing(
    order: list[int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("own")
    rows = two_classes()
    task = own_task(folder, csv=BY_PATIENT, splits={"own": {"rule": "ratios", "params": {"seed": seed}}})
    (folder / "labels.csv").write_text(table_text(rows))
    first = csv_source.tables(folder, task, "own").parts
    (folder / "labels.csv").write_text(table_text([rows[n] for n in order]))
    second = csv_source.tables(folder, task, "own").parts
    assert {n: (t.ids, t.labels.tolist()) for n, t in first.items()} == {
        n: (t.ids, t.labels.tolist()) for n, t in second.items()
    }


@given(
    patients=st.lists(st.integers(0, 40), min_size=20, max_size=120),
    classes=st.integers(1, 4),
    shares=st.sampled_from([(0.7, 0.0, 0.3), (0.6, 0.1, 0.3), (0.5, 0.5, 0.0), (1.0, 0.0, 0.0)]),
    seed=st.integers(0, 5),
)
def test_shares_keep_patients_together_and_sizes_to_one_unit(
    patients: list[int], classes: int, shares: tuple[float, float, float], seed: int
) -> None:
    units = [str(number) for number in patients]
    labels = np.eye(classes, dtype=np.int8)[[number * 7 % classes for number in patients]]
    rule = RatioSplit(seed=seed, train=shares[0], valid=shares[1], test=shares[2])
    parts = own_split.by_shares(units, labels, rule).tolist()
    held = {unit: {part for own, part in zip(units, parts, strict=True) if own == unit} for unit in units}
    assert all(len(own) == 1 for own in held.values())
    for name, share in zip(("train", "valid", "test"), shares, strict=True):
        assert abs(sum(own == {name} for own in held.values()) - share * len(held)) <= 1


def test_another_seed_draws_other_images() -> None:
    units, labels = [f"i{n}" for n in range(60)], np.ones((60, 1), dtype=np.int8)
    first, second = (own_split.by_shares(units, labels, RatioSplit(seed=seed)).tolist() for seed in (0, 1))
    assert first != second and sum(map(str.__eq__, first, second)) < 50


def test_sex_age_and_view_are_known_of_images(tmp_path: Path) -> None:
    about = [("F", "061Y", "PA"), ("male", "12.0", "LL"), ("", "155", "ap")]
    rows = [
        {**row, "sex": about[n % 3][0], "years": about[n % 3][1], "view": about[n % 3][2]}
        for n, row in enumerate(two_classes())
    ]
    write_set(tmp_path, rows)
    found = laid_out(own_task(tmp_path, csv={**CSV, "sex": "sex", "age": "years", "view": "view"})).attributes
    names = [str(row["file"]) for row in rows]
    assert [found["sex"].get(name) for name in names[:3]] == ["F", "M", None]
    assert [found["age"].get(name) for name in names[:3]] == ["61", "12", None]
    assert [found["view"].get(name) for name in names[:3]] == ["PA", None, "AP"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["A", "B", "Z"], "no image of class Z (column 'finding', class 'Z')"),
        (["A", "B", {"name": "Zebra", "column": "z"}], "no image of class Zebra (column 'finding', class 'z')"),
    ],
)
def test_a_class_without_an_image_is_told_with_class_column_and_file(
    labels: list[Any], said: str, tmp_path: Path
) -> None:
    write_set(tmp_path, two_classes())
    with pytest.raises(DataError) as refused:
        laid_out(own_task(tmp_path, csv=CSV, labels=labels))
    assert said in str(refused.value) and str(tmp_path / "labels.csv") in str(refused.value)


def test_a_table_that_names_no_file_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(table_text(two_classes()))
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError) as refused:
        laid_out(own_task(tmp_path, csv={**CSV, "images": "pictures"}))
    assert f"column 'file' names no file in {tmp_path / 'pictures'}" in str(refused.value)
    assert "'images/000.png'" in str(refused.value)


@pytest.mark.parametrize(
    ("places", "root", "expected"),
    [
        ({}, None, "home"),
        ({"": "general"}, None, "general"),
        ({"": "general"}, "data", "home/data"),
        ({"": "general", "mine": "own"}, "data", "own"),
    ],
)
def test_which_folder_holds_the_data(places: dict[str, str], root: str | None, expected: str) -> None:
    task = own_task(Path("home"), csv=CSV, root=root)
    assert task.data_root({name: Path(place) for name, place in places.items()}) == Path(expected)
