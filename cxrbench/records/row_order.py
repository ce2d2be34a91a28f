"""What a second fit, to the same training images in another order, changed: how far a number hangs on rounding."""

from collections.abc import Sequence

from cxrbench.records.record import FoldResult, Record

UNSETTLED = "≈"
REORDERED = f"{UNSETTLED} the training images in another order decide some test images otherwise"


def unsettled(record: Record) -> Sequence[FoldResult]:
    """The folds in which a second fit, if there was one, decides test images otherwise."""
    return [fold for fold in record.folds if fold.reordered is not None and fold.reordered.changed]


def row_order_note(record: Record) -> str:
    """In words, what another order of the training images changes; empty where it changes no decision."""
    found = unsettled(record)
    if not found:
        return ""
    worst = max(found, key=lambda fold: fold.reordered.changed if fold.reordered else 0)
    assert worst.reordered is not None
    mean = reordered_mean(record)
    told = f"training images in another order decide up to {worst.reordered.changed} of {worst.test_rows} test images "
    told += f"otherwise (fold {worst.fold})" if len(record.folds) > 1 else "otherwise"
    return told if mean is None else f"{told}: {100 * mean:.2f} %"


def reordered_decisions(record: Record) -> int | None:
    """The most test images of a fold that another order decides otherwise; None for a protocol that was fitted once."""
    return max((fold.reordered.changed for fold in record.folds if fold.reordered is not None), default=None)


def reordered_mean(record: Record) -> float | None:
    """The mean over folds of the main metric by the second fit; None without one, or where a fold has none."""
    values = [None if fold.reordered is None else fold.reordered.value for fold in record.folds]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
