"""Numbers by sex, age and view: a count with every number, none for small groups, gaps over shared classes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import written
from typer.testing import CliRunner, Result

from cxrbench.analysis.subgroups import BANDS, Subgroups, _group, subgroups
from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.scores import FoldScores

IDS = tuple(f"image{i:03d}" for i in range(80))
LABELS = np.arange(80) % 2
SEX = {image: "F" if i < 40 else "M" for i, image in enumerate(IDS)}


def fold(wrong: set[int], number: int = 0) -> FoldScores:
    """All right but for these rows."""
    scores = np.eye(2)[LABELS] * 0.8 + 0.1
    for row in wrong:
        scores[row] = scores[row][::-1]
    return FoldScores(number, IDS, LABELS, scores)


def made(out: Path, about: dict[str, dict[str, str]], wrong: set[int] | None = None) -> ScoredCell:
    folds = [fold({0, 1, 2, 3, 4, 41} if wrong is None else wrong, k) for k in range(2)]
    return read_cell(out, written(out, "clip_cm", folds, about=about))


def test_groups_hold_their_own_rows_by_hand(tmp_path: Path) -> None:
    """Women: 3 of 20 and 2 of 20 wrong, so (0.85 + 0.90) / 2; men: 0 and 1 of 20, so (1 + 0.95) / 2."""
    found = subgroups(made(tmp_path, {"sex": SEX}), "sex")
    women, men = found.groups
    assert (women.name, women.images, women.units, women.classes) == ("F", 40, 40, ("Normal", "Pneumonia"))
    assert women.interval is not None and men.interval is not None
    assert women.interval.estimate == pytest.approx(0.875)
    assert men.interval.estimate == pytest.approx(0.975)
    (gap,) = found.gaps
    assert (gap.name, gap.reference) == ("M", "F")
    assert gap.interval is not None and gap.interval.estimate == pytest.approx(0.1)
    assert gap.interval.low < 0.1 < gap.interval.high  # type: ignore[operator]
    expected = np.sqrt(women.interval.error**2 + men.interval.error**2)  # type: ignore[operator]
    assert gap.interval.error == pytest.approx(expected, rel=0.05)


def test_small_groups_have_counts_and_no_number(tmp_path: Path) -> None:
    few = {image: "F" if i < 19 else "M" for i, image in enumerate(IDS)}
    women, men = subgroups(made(tmp_path, {"sex": few}), "sex").groups
    assert (women.images, women.interval) == (19, None)
    assert "19 images, fewer than 20" in women.reason
    assert men.interval is not None


def test_a_class_that_is_absent_leaves_a_recall_and_is_named(tmp_path: Path) -> None:
    """AP: 30 Normal and four Pneumonia; its number is the recall of Normal, and the gap would be over Normal alone."""
    views = {image: "AP" if (LABELS[i] == 0 and i < 60) or i in (1, 3, 5, 7) else "PA" for i, image in enumerate(IDS)}
    found = subgroups(made(tmp_path, {"view": views}), "view")
    ap, pa = found.groups
    assert (ap.classes, dict(ap.left_out)) == (("Normal",), {"Pneumonia": 4})
    assert ap.interval is not None and ap.interval.estimate == pytest.approx(27 / 30)
    assert pa.classes == ("Normal", "Pneumonia")
    (gap,) = found.gaps
    assert gap.classes == ("Normal",)
    assert gap.interval is None and "10 images, fewer than 20" in gap.reason


def test_images_of_unknown_sex_are_counted_and_in_no_group(tmp_path: Path) -> None:
    known = {image: sex for image, sex in SEX.items() if image not in IDS[:3]}
    found = subgroups(made(tmp_path, {"sex": known}), "sex")
    assert (found.images, found.unknown) == (80, 3)
    assert sum(group.images for group in found.groups) == 77


def test_patients_are_the_units_and_one_in_two_bands_is_drawn_once(tmp_path: Path) -> None:
    ages = {image: "59" if i % 4 < 2 else "61" for i, image in enumerate(IDS)}
    patients = {image: f"patient{i // 2 % 20}" for i, image in enumerate(IDS)}
    folds = [fold({0, 1, 2, 3, 4, 41})]
    cell = read_cell(tmp_path, written(tmp_path, "clip_cm", folds, patients, about={"age": ages}))
    found = subgroups(cell, "age")
    assert found.over == "patient"
    assert [(group.name, group.images, group.units) for group in found.groups] == [("40–60", 40, 10), ("60–80", 40, 10)]
    assert all("10 patients, fewer than 20" in group.reason for group in found.groups)


@given(st.integers(0, 120))
def test_every_age_is_in_the_band_that_names_it(age: int) -> None:
    name = _group("age", str(age))
    firsts = dict(BANDS)
    later = [first for first in firsts.values() if first > firsts[str(name)]]
    assert firsts[str(name)] <= age < min(later, default=200)
    limits = {"<18": (0, 18), "18–40": (18, 40), "40–60": (40, 60), "60–80": (60, 80), "80+": (80, 200)}
    assert limits[str(name)][0] <= age < limits[str(name)][1]


def test_nothing_known_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="tell no image's view"):
        subgroups(made(tmp_path, {"sex": SEX}), "view")


def cli(out: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["subgroups", "--out", str(out), *more])


def test_the_verb_shows_what_is_known_and_tells_the_rest(tmp_path: Path) -> None:
    made(tmp_path, {"sex": SEX, "age": dict.fromkeys(IDS[:10], "17")})
    shown = cli(tmp_path)
    assert shown.exit_code == 0, shown.output
    assert "87.50 [" in shown.stdout and "+10.00 [" in shown.stdout and "too small: 10 images" in shown.stdout
    assert "70 of 80 test images are in no group: their age is not known" in shown.stdout
    assert "no image's view is known" in shown.stderr
    assert isinstance(cli(tmp_path, "--by", "view").exception, DataError)
    (data,) = json.loads(cli(tmp_path, "--by", "sex", "--format", "json").stdout)
    assert data["groups"]["groups"][0]["interval"]["estimate"] == pytest.approx(0.875)


def test_no_number_is_shown_without_its_count(tmp_path: Path) -> None:
    made(tmp_path, {"sex": SEX})
    rows = [line for line in cli(tmp_path, "--format", "markdown").stdout.splitlines() if "[" in line]
    assert rows and all("| 40" in row and "40 images" in row for row in rows)


def test_equal_records_give_equal_groups(tmp_path: Path) -> None:
    cell = made(tmp_path, {"sex": SEX})
    one, two = subgroups(cell, "sex"), subgroups(cell, "sex")
    assert isinstance(one, Subgroups) and one == two
