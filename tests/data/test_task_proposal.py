"""A proposed task file: which columns are taken for what, and that the file is the task that was tried."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_own import laid_out, table_text, two_classes, write_image, write_set

from cxrbench.data.proposal import Proposal, propose_folder, propose_table, write_toml
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.task import read_task


def proposed(
    folder: Path, rows: Sequence[dict[str, Any]], column: str = "file", suffix: str = "", **asked: Any
) -> Proposal:
    """The proposal for a table; its file is held against what was tried."""
    write_set(folder, rows, column, suffix=suffix)
    return tried(propose_table(folder / "labels.csv", None, folder / "mine.toml", **asked), folder)


def tried(proposal: Proposal, home: Path) -> Proposal:
    (home / "mine.toml").write_text(proposal.text, encoding="utf-8")
    task = read_task(home / "mine.toml")
    assert laid_out(task).digest == proposal.partition.digest
    assert len(proposal.text.splitlines()) <= 10
    return proposal


def told(proposal: Proposal, start: str) -> str:
    return " ".join(reason for reason in proposal.reasons if reason.startswith(start))


def test_an_ordinary_table_is_understood(tmp_path: Path) -> None:
    rows = [
        {
            "": n,
            "Image Index": f"{n:08d}.png",
            "Finding Labels": ["Effusion|Mass", "Mass", "No Finding", "Effusion"][n % 4],
            "Patient ID": n // 2,
            "Patient Age": f"{20 + n:03d}Y",
            "Patient Gender": "MF"[n % 2],
            "View Position": ["PA", "AP"][n % 2],
            "Follow-up #": n % 2,
        }
        for n in range(20)
    ]
    found = proposed(tmp_path, rows, "Image Index")
    facts = tomllib.loads(found.text)
    assert facts["csv"] == {
        "table": "labels.csv",
        "image": "Image Index",
        "patient": "Patient ID",
        "sex": "Patient Gender",
        "age": "Patient Age",
        "view": "View Position",
        "label": "Finding Labels",
        "separator": "|",
        "ignore": ["No Finding"],
    }
    assert facts["kind"] == "multi-label" and sorted(facts["labels"]) == ["Effusion", "Mass"]
    assert facts["root"] == "." and "splits" not in facts
    assert set(found.partition.parts) == {"train", "valid", "test"}
    assert "no column or folder says the parts" in told(found, "split") and "'Follow-up #'" in told(found, "not used")


def test_ids_join_by_stem_and_a_single_flag_has_two_classes(tmp_path: Path) -> None:
    rows = [{"patientId": f"id-{n}", "Target": n % 2, "x": n * 1.5} for n in range(20)]
    found = proposed(tmp_path, rows, "patientId", suffix=".dcm")
    facts = tomllib.loads(found.text)
    assert facts["labels"] == [{"name": "no Target", "column": "0"}, {"name": "Target", "column": "1"}]
    assert "patient" not in facts["csv"] and found.partition.parts["test"].counts == {"no Target": 3, "Target": 3}


@pytest.mark.parametrize(("alone", "kind"), [(True, "single-label"), (False, "multi-label")])
def test_columns_of_flags_exclude_each_other_or_not(alone: bool, kind: str, tmp_path: Path) -> None:
    rows = [{"file": f"{n}.png", "A": n % 2, "B": 1 - n % 2 if alone else n % 3 % 2} for n in range(24)]
    found = proposed(tmp_path, rows)
    assert found.task.kind == kind and found.task.classes == ("A", "B")


def test_blank_and_uncertain_flags_go_by_a_rule_that_is_told(tmp_path: Path) -> None:
    rows = [{"file": f"{n}.png", "A": [1, 0, -1, ""][n % 4], "B": [1, 0, 1][n % 3]} for n in range(24)]
    found = proposed(tmp_path, rows)
    assert found.task.csv is not None and found.task.csv.uncertain == "ignore"
    assert "-1 as unknown" in told(found, "labels")


def test_a_split_column_is_taken_with_the_meaning_of_its_values(tmp_path: Path) -> None:
    rows = [{**row, "subset": ["Train", "Train", "Val", "TEST"][n // 2 % 4]} for n, row in enumerate(two_classes(32))]
    found = proposed(tmp_path, rows)
    assert tomllib.loads(found.text)["splits"]["own"]["params"] == {
        "column": "subset",
        "train": ["Train"],
        "valid": ["Val"],
        "test": ["TEST"],
    }


def test_folds_become_a_split_each(tmp_path: Path) -> None:
    rows = [{**row, "fold": n // 4 % 5} for n, row in enumerate(two_classes(40))]
    found = proposed(tmp_path, rows)
    assert list(found.task.splits) == [f"fold_{n}" for n in range(5)]


def test_parts_that_are_not_understood_are_told(tmp_path: Path) -> None:
    rows = [{**row, "split": "xyz"[n % 3]} for n, row in enumerate(two_classes(40))]
    found = proposed(tmp_path, rows)
    assert "column 'split' may say the parts, but has 'x', 'y', 'z'" in told(found, "not understood")


def test_rare_blank_and_odd_cells_are_left_out_by_name(tmp_path: Path) -> None:
    rows = two_classes(24)
    rows[0]["finding"], rows[1]["finding"], rows[3]["finding"], rows[6]["patient"] = "", "Rare", "b", ""
    found = proposed(tmp_path, rows)
    assert found.task.classes == ("A", "B")
    assert found.task.csv is not None and found.task.csv.spellings == {"b": "B"}
    assert "class Rare, with" in told(found, "left out") and "1 rows without one" in told(found, "patient")
    assert found.partition.findings.left_out == {
        "the label is blank": 1,
        "the label is none of the task's": 1,
        "the patient is blank": 1,
    }


def test_odd_names_and_mixed_formats_are_found(tmp_path: Path) -> None:
    names = ["Ärzte/Thorax é 1", "b c/2", "d/日本", "e/4"]
    rows = [{"Bild": f"{names[n % 4]} {n}", "Diagnose": "A'\"\\"[n % 2 :], "€": n} for n in range(16)]
    for n, row in enumerate(rows):
        write_image(tmp_path / f"{row['Bild']}{['.png', '.dcm'][n % 2]}", n)
    (tmp_path / "labels.csv").write_text(table_text(rows), encoding="utf-8")
    found = tried(propose_table(tmp_path / "labels.csv", None, tmp_path / "mine.toml"), tmp_path)
    assert len(found.partition.paths) == 16 and set(found.task.columns) == {"A'\"\\", "'\"\\"}


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    write_set(tmp_path / "data", two_classes())
    (tmp_path / "data" / "labels.csv").rename(tmp_path / "labels.csv")
    found = propose_table(tmp_path / "labels.csv", tmp_path / "data", tmp_path / "mine.toml")
    facts = tomllib.loads(tried(found, tmp_path).text)
    assert facts["root"] == "data" and facts["csv"]["table"] == str(tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"no column names files in .*nothing \(there are 0 files\)"):
        (tmp_path / "nothing").mkdir()
        propose_table(tmp_path / "labels.csv", tmp_path / "nothing", tmp_path / "mine.toml")


def test_an_unclear_choice_is_asked_for(tmp_path: Path) -> None:
    rows = [{"file": f"{n}.png", "one": "AB"[n % 2], "two": "CD"[n // 2 % 2]} for n in range(16)]
    with pytest.raises(DataError, match="any of 'one', 'two' may"):
        proposed(tmp_path, rows)
    assert set(proposed(tmp_path, rows, label="two").task.classes) == {"C", "D"}
    with pytest.raises(SpecError, match="has no column 'three'; its columns are 'file', 'one', 'two'"):
        proposed(tmp_path, rows, label="three")
    with pytest.raises(SpecError, match="column 'file' names the images"):
        proposed(tmp_path, rows, label="file")


def test_what_is_no_table_or_folder_is_told_as_such(tmp_path: Path) -> None:
    write_set(tmp_path, two_classes())
    (tmp_path / "excel.csv").write_text(table_text(two_classes(), ";"))
    for table, said in (("excel.csv", "separated by semicolons"), ("images", "is a folder, not a table")):
        with pytest.raises(DataError, match=said):
            propose_table(tmp_path / table, None, tmp_path / "mine.toml")
    with pytest.raises(DataError, match="is a file, not a folder"):
        propose_folder(tmp_path / "labels.csv", tmp_path / "mine.toml")


def test_classes_of_one_patient_each_cannot_be_trained_and_scored(tmp_path: Path) -> None:
    rows = [{**row, "patient": row["finding"]} for row in two_classes()]
    with pytest.raises(DataError, match="of different patients where they are known; too few: A: with"):
        proposed(tmp_path, rows)


def test_a_folder_of_classes_is_proposed(tmp_path: Path) -> None:
    for name in ("Viral_Pneumonia", "Normal"):
        for n in range(6):
            write_image(tmp_path / "data" / name / f"{n}.png", n)
    write_image(tmp_path / "data" / "Few" / "1.png")
    found = tried(propose_folder(tmp_path / "data", tmp_path / "mine.toml"), tmp_path)
    assert set(found.task.classes) == {"Viral Pneumonia", "Normal"}
    assert "Few, which have too few" in told(found, "left out")
    with pytest.raises(DataError, match=r"two classes are needed.*folders with images: none"):
        propose_folder(tmp_path / "data" / "Few", tmp_path / "mine.toml")


@pytest.mark.parametrize("word", ["plain", 'quo"te', "back\\slash", "line\nfeed", "tab\t", "ünï 日本", "\x7f", ""])
def test_any_words_come_back_from_the_file(word: str) -> None:
    facts = {"name": word, "labels": [word, {"name": word, "column": word}], "csv": {word: {word: [word]}}}
    assert tomllib.loads(write_toml(facts)) == facts
