"""Tasks that show the same patients: drawn together where they name them alike, told of where they do not."""

import numpy as np
import pytest
from made_means import cell_of, mean_of
from made_scores import Wards, two_normals

from cxrbench import catalog
from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.freedom import area_shares, freedom
from cxrbench.evaluate.statistics.interval import area_interval
from cxrbench.evaluate.statistics.units import ScoredRows, strata
from cxrbench.verdict.average import Weighted, difference_interval, kinds, mean_interval, mean_p
from cxrbench.verdict.cell import cell_interval
from cxrbench.verdict.compare import cells_difference
from cxrbench.verdict.kinship import namespace, taken_as_independent
from cxrbench.verdict.predictions import ScoredCell


def ward_cell(task: str, seed: int = 1, *, named: bool = True, noise: int | None = None) -> ScoredCell:
    """The same patients and images under the name of any task; `noise` makes another model of it."""
    folds = Wards(120, 2).draw(np.random.default_rng(seed))
    if noise is not None:
        rng = np.random.default_rng(noise)
        folds = [ScoredRows(f.unit, f.labels, f.scores + 0.7 * rng.normal(size=f.scores.shape)) for f in folds]
    return cell_of(task, folds, {k: f"{k:08}" for k in range(120)} if named else None, noise or 0)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc"])
@pytest.mark.parametrize(
    ("tasks", "named", "share"),
    [
        (("rsna", "nih_lt"), True, 1.0),  # the same data twice is no more data
        (("rsna", "nih_lt"), False, np.sqrt(0.5)),
        (("rsna", "chexpert5x200"), True, np.sqrt(0.5)),  # equal names of two collections are two patients
        (("mimic5x200", "chexpert5x200"), True, np.sqrt(0.5)),
        (("rsna", "siim"), True, np.sqrt(0.5)),  # siim's names are not those of NIH's patients
    ],
)
def test_patients_are_one_where_their_collection_is(
    tasks: tuple[str, str], named: bool, share: float, metric: Metric
) -> None:
    cells = [ward_cell(task, named=named) for task in tasks]
    alone, found = cell_interval(cells[0], metric, 2000), mean_interval(mean_of(cells), metric, 2000)
    assert found.error is not None and alone.error is not None
    assert found.error / alone.error == pytest.approx(share, rel=0.06)
    assert found.units == (120 if share == 1 else 240)


def test_one_task_whose_patients_are_not_known_is_drawn_apart() -> None:
    cells = [ward_cell("rsna", named=False), ward_cell("nih_lt")]
    assert kinds(mean_of(cells)) == {"rsna": "image", "nih_lt": "patient"}
    assert mean_interval(mean_of(cells), "balanced_accuracy", 100).units == 240


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc", "kappa"])
def test_a_mean_of_one_cell_has_the_cells_interval(metric: Metric) -> None:
    """AUROC with few positives too: by Student's t, with the same warning."""
    cell = cell_of("rsna", two_normals(14, 200, 0.8).draw(np.random.default_rng(3)))
    alone, found = cell_interval(cell, metric, 6000), mean_interval(mean_of([cell]), metric, 6000)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.008)
    assert ("its error rests on about" in found.reason) == (metric == "macro_auroc")
    if metric == "macro_auroc":
        assert found.reason == alone.reason


def test_two_tasks_add_up_their_degrees_of_freedom() -> None:
    """Two equal, independent halves: twice the freedom of one, by Satterthwaite."""
    draws = [two_normals(14, 200, 0.8).draw(np.random.default_rng(3)) for _ in range(2)]
    one = mean_interval(mean_of([cell_of("rsna", draws[0])]), "macro_auroc", 500)
    both = mean_interval(mean_of([cell_of("rsna", draws[0]), cell_of("vindr", draws[1])]), "macro_auroc", 500)
    told = [int(found.reason.split("about ")[1].split()[0]) for found in (one, both)]
    assert told[1] == pytest.approx(2 * told[0], abs=1)


def test_degrees_of_freedom_of_unequal_tasks_are_satterthwaites() -> None:
    """From the error and the degrees of freedom of each: the spread of one task is not that of the other."""
    draws = [
        two_normals(12, 200, 0.7).draw(np.random.default_rng(3)),
        two_normals(8, 9, 0.95).draw(np.random.default_rng(4)),
    ]
    errors = [area_interval(folds, "image").error for folds in draws]
    known = [freedom(area_shares(folds, len(folds[0].labels)), strata(folds)) for folds in draws]
    squares = [error**2 for error in errors if error is not None]
    expected = sum(squares) ** 2 / sum(square**2 / own for square, own in zip(squares, known, strict=True))
    cells = [cell_of(task, folds) for task, folds in zip(("rsna", "vindr"), draws, strict=True)]
    assert mean_interval(mean_of(cells), "macro_auroc", 500).reason.startswith(
        f"its error rests on about {expected:.0f} "
    )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc", "kappa"])
def test_the_difference_of_means_of_one_cell_is_that_of_the_cells(metric: Metric) -> None:
    a, b = ward_cell("rsna"), ward_cell("rsna", noise=5)
    found = difference_interval([Weighted(a, 1.0)], [Weighted(b, 1.0)], metric, 6000)
    paired = cells_difference(a, b, metric, 6000).interval
    assert found.estimate == pytest.approx(paired.estimate)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), abs=0.006)
    assert found.units == 120


def test_a_difference_over_shared_patients_is_no_more_certain_than_over_one_task() -> None:
    pairs = [(ward_cell(task), ward_cell(task, noise=5)) for task in ("rsna", "nih_lt")]
    one = cells_difference(*pairs[0], "balanced_accuracy", 4000).interval
    means = [mean_of([pair[side] for pair in pairs]) for side in (0, 1)]
    both = difference_interval(means[0], means[1], "balanced_accuracy", 4000)
    assert both.error == pytest.approx(one.error, rel=0.06)
    expected = cells_difference(*pairs[0], "balanced_accuracy", 4000).p
    assert mean_p(means[0], means[1]) == pytest.approx(expected, abs=0.02)


def test_models_that_judge_alike_differ_by_nothing_and_it_says_so() -> None:
    a = mean_of([ward_cell("rsna"), ward_cell("vindr", named=False)])
    found = difference_interval(a, a, "balanced_accuracy", 200)
    assert (found.estimate, found.low) == (0, None)


def test_what_is_taken_as_independent_is_told() -> None:
    (told,) = taken_as_independent({"rsna": "patient", "siim": "image", "nih_lt": "patient", "vindr": "image"})
    assert told.startswith("rsna, siim and nih_lt hold images of one collection (nih): patients of rsna and nih_lt are")
    assert "of siim are of the same patients, so they are taken as independent" in told
    (told,) = taken_as_independent({"rsna": "image", "nih_lt": "patient"})
    assert "drawn together" not in told and "of rsna and nih_lt are of the same patients" in told
    (told,) = taken_as_independent({"rsna": "patient", "nih_lt": "patient"})
    assert told.endswith("patients of rsna and nih_lt are drawn together")


def test_tasks_of_other_collections_need_no_word() -> None:
    assert taken_as_independent({"chexpert5x200": "patient", "mimic5x200": "patient", "rsna": "image"}) == ()
    assert taken_as_independent({"my_own": "image"}) == ()
    (told,) = taken_as_independent({"my_own": "image", "rsna": "image"})
    assert told == "where the images of my_own are from is not known here: taken as independent"


def test_only_patients_of_a_collection_have_its_names() -> None:
    assert namespace("rsna", "patient") == namespace("nih_lt", "patient") != namespace("rsna", "image")
    assert namespace("my_own", "patient") == "task my_own"
    for name in catalog.task_files():
        task = catalog.load_task(name)
        assert (task.patients.collection is not None) == (task.patients.kind == "patient"), name
