"""Sex, age and view from label tables: what is told is kept, what is not known is not guessed."""

from pathlib import Path

import pytest

from cxrbench.data.sources import base, chexpert5x200, nih_lt


def test_values_are_brought_to_one_spelling_and_unknown_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "entries.csv"
    rows = ["a,058Y,M,PA", "b,414,female,AP", "c,7,Unknown,LL", "d,,F,", "e,018M,m,pa"]
    path.write_text("Image Index,Patient Age,Patient Gender,View Position\n" + "\n".join(rows) + "\n")
    found = base.read(path, "Image Index", nih_lt.ATTRIBUTES)
    assert found == {
        "age": {"a": "58", "c": "7"},
        "sex": {"a": "M", "b": "F", "d": "F", "e": "M"},
        "view": {"a": "PA", "b": "AP", "e": "PA"},
    }


def test_a_table_without_these_columns_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("Path,Edema\nCheXpert-v1.0/train/patient1/study1/view1_frontal.jpg,1\n")
    assert base.read(path, "Path", chexpert5x200.ATTRIBUTES, chexpert5x200.image_id) == {}


def test_the_real_tables_tell_what_the_facts_count(shared: Path) -> None:
    labels = shared / "data_facts" / "labels"
    chexpert = base.read(labels / "chexpert_train.csv.gz", "Path", chexpert5x200.ATTRIBUTES, chexpert5x200.image_id)
    counts = {sex: sum(value == sex for value in chexpert["sex"].values()) for sex in "FM"}
    assert counts == {"F": 90777, "M": 132636}
    assert len(chexpert["age"]) == 223414
    nih = base.read(labels / "nih_Data_Entry_2017_v2020.csv.gz", "Image Index", nih_lt.ATTRIBUTES)
    assert {name: len(values) for name, values in nih.items()} == {"sex": 112120, "age": 112120, "view": 112120}
    assert max(map(int, nih["age"].values())) == 95


@pytest.mark.parametrize("written", ["155", "30D", "-3", "1e2"])
def test_an_age_that_is_none_is_not_known(written: str, tmp_path: Path) -> None:
    path = tmp_path / "entries.csv"
    path.write_text(f"Image Index,Patient Age\nx,{written}\n")
    assert base.read(path, "Image Index", nih_lt.ATTRIBUTES) == {"age": {}}
