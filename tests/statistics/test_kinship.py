"""Tasks that show the same patients: drawn together where they name them alike, told of where they do not."""

import math

import numpy as np
import pytest
from made_means import cell_of, mean_of
from made_scores import Wards, two_normals
from scipy.special import stdtrit

from cxrbench.analysis.cell import cell_interval, measurement
from cxrbench.analysis.means import kinds, mean_difference, mean_estimate, mean_interval
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, Metric
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.predictions import ScoredCell, namespace, taken_as_independent
from cxrbench.specs import catalog


def ward_cell(task: str, seed: int = 1, *, named: bool = True, noise: int | None = None) -> ScoredCell:
    """The same patients and images under the name of any task; `noise` makes another model of it."""
    folds = Wards(120, 2).draw(np.random.default_rng(seed))
    if noise is not None:
        rng = np.random.default_rng(noise)
        folds = [ScoredRows(f.unit, f.labels, f.scores + 0.7 * rng.normal(size=f.scores.shape)) for f in folds]
    return cell_of(task, folds, {k: f"{k:08}" for k in range(120)} if named else None)


@pytest.mark.parametrize("metric", [BALANCED_ACCURACY, MACRO_AUROC])
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
    alone, found = cell_interval(cells[0], metric), mean_interval(mean_of(cells, metric))
    assert found.error is not None and alone.error is not None
    assert found.error / alone.error == pytest.approx(share, rel=0.02)
    assert found.units == 240


def test_one_task_whose_patients_are_not_known_stands_apart() -> None:
    cells = [ward_cell("rsna", named=False), ward_cell("nih_lt")]
    assert kinds(mean_of(cells, BALANCED_ACCURACY)) == {"rsna": "image", "nih_lt": "patient"}
    together, apart = (mean_interval(mean_of(own, BALANCED_ACCURACY)) for own in ([ward_cell("rsna"), cells[1]], cells))
    assert apart.error is not None and together.error is not None and apart.error < 0.8 * together.error
    assert (apart.over, together.over) == ("image", "patient")


def test_degrees_of_freedom_of_unequal_tasks_are_satterthwaites() -> None:
    """From the error and the degrees of freedom of each: the spread of one task is not that of the other."""
    draws = [
        two_normals(12, 200, 0.7).draw(np.random.default_rng(3)),
        two_normals(8, 9, 0.95).draw(np.random.default_rng(4)),
    ]
    cells = [cell_of(task, folds) for task, folds in zip(("rsna", "vindr"), draws, strict=True)]
    parts = [part for cell in cells for part in measurement(cell, MACRO_AUROC).estimate.units]
    variance = sum(part.variance for part in parts)
    freedom = variance**2 / sum(part.variance**2 / part.freedom for part in parts)
    found = mean_estimate(mean_of(cells, MACRO_AUROC))
    assert found.reach(0.025) == pytest.approx(math.sqrt(variance) / 2 * stdtrit(freedom, 0.975))


@pytest.mark.parametrize("metric", [BALANCED_ACCURACY, MACRO_AUROC])
def test_a_difference_over_shared_patients_is_no_more_certain_than_over_one_task(metric: Metric) -> None:
    pairs = [(ward_cell(task), ward_cell(task, noise=5)) for task in ("rsna", "nih_lt")]
    one = measurement(pairs[0][0], metric).minus(measurement(pairs[0][1], metric))
    a, b = (mean_of([pair[side] for pair in pairs], metric) for side in (0, 1))
    both = mean_difference(a, b)
    assert both.error == pytest.approx(one.error, rel=0.05)
    assert both.p() == pytest.approx(one.p(), abs=0.03)


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
