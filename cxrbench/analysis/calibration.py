"""Whether the probabilities of measured cells can be taken at their word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from cxrbench.analysis.cell import cell_calibration, pooled_calibration
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.calibration import Calibration
from cxrbench.records.cells import cell_name
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record


@dataclass(frozen=True, slots=True)
class CellCalibration:
    """One cell: means over folds of both calibration errors and the Brier score, and the folds themselves.

    `pooled` judges the rows of all folds together: it is what a reliability curve is drawn from, and its errors are
    not those of a fold.
    """

    record: str
    name: str
    ece: float
    adaptive_ece: float
    brier: float
    folds: tuple[Calibration, ...]
    pooled: Calibration


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Cells in the order of the records, and the reasons where scores are no probabilities, by the cell's name."""

    cells: tuple[CellCalibration, ...]
    refused: Mapping[str, str]


def calibrated(out: Path, records: Sequence[Record]) -> Calibrated:
    """Calibration of every record whose scores are probabilities or logits, from the predictions below `out`.

    Raises DataError and IntegrityError for predictions that are gone or changed.
    """
    cells, refused = list[CellCalibration](), dict[str, str]()
    for record in records:
        cell = read_cell(out, record)
        try:
            folds, pooled = cell_calibration(cell), pooled_calibration(cell)
        except NotApplicableError as error:
            refused[cell_name(record)] = str(error)
            continue
        ece, adaptive = fmean(fold.ece for fold in folds), fmean(fold.adaptive_ece for fold in folds)
        brier = fmean(fold.brier for fold in folds)
        cells.append(CellCalibration(record.id, cell_name(record), ece, adaptive, brier, folds, pooled))
    return Calibrated(tuple(cells), refused)
