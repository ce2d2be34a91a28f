"""What a run tells while it runs: metrics.jsonl, one row a step and a validation, and trackers if asked for."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from cxrbench import digest
from cxrbench.durable import write_atomically
from cxrbench.errors import IntegrityError, SpecError
from cxrbench.schema import Facts

JSONL, CSV = "metrics.jsonl", "metrics.csv"


class Row(Facts):
    """One row. `step` counts updates done; a `validation` row has its mean `loss` and nothing of the update.

    `scale`, `scale_label`: exp of the log scales; `norm`: of the gradient before clipping; `loss` and `norm` are None
    where the gradient scaler skipped a step that overflowed.
    """

    kind: Literal["step", "validation"]
    step: int
    epoch: int
    loss: float | None
    rate: float | None = None
    scale: float | None = None
    scale_label: float | None = None
    norm: float | None = None
    skipped: bool = False
    images_per_second: float | None = None


class Tracker(Protocol):
    """Something beside the run's own files that wants its numbers."""

    def write(self, row: Row) -> None:
        """Take one row."""

    def close(self) -> None:
        """The run is over."""


class Log:
    """The rows of a run, appended as they come."""

    def __init__(self, folder: Path, trackers: Sequence[Tracker] = ()) -> None:
        self._folder, self._trackers = folder, tuple(trackers)
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: Iterable[Row]) -> None:
        """Append the rows."""
        rows = tuple(rows)
        with (self._folder / JSONL).open("a", encoding="utf-8") as file:
            file.writelines(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
        for tracker in self._trackers:
            for row in rows:
                tracker.write(row)

    def rewind(self, step: int, epoch: int) -> None:
        """Forget what came after a checkpoint: later steps, validations from `epoch` on, a line cut by a kill."""
        kept = [
            row
            for row in (read_rows(self._folder) if (self._folder / JSONL).is_file() else ())
            if row.step <= step and not (row.kind == "validation" and row.epoch >= epoch)
        ]
        write_atomically(
            self._folder / JSONL, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in kept).encode()
        )

    def close(self) -> None:
        """Write the same rows as CSV and close the trackers."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(Row.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.model_dump() for row in read_rows(self._folder))
        write_atomically(self._folder / CSV, text.getvalue().encode())
        for tracker in self._trackers:
            tracker.close()


def read_rows(folder: Path) -> tuple[Row, ...]:
    """The rows of a run in order, without a last line that is not whole; raises IntegrityError for any other fault."""
    path = folder / JSONL
    try:
        *lines, rest = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); name the folder of a pre-training run") from error
    try:
        return tuple(Row.model_validate(json.loads(line)) for line in lines)
    except ValueError as error:
        raise IntegrityError(f"{path}: a row is broken ({error}), before a rest of {len(rest)} bytes") from error


def number(value: float) -> float | None:
    """The value, or None where it is no finite number (JSON has none)."""
    return value if math.isfinite(value) else None


def _tensorboard() -> Any:
    try:
        from torch.utils import tensorboard
    except ModuleNotFoundError as error:
        raise SpecError("tracking.tensorboard: it is not installed; `pip install cxrbench[tensorboard]`") from error
    return tensorboard


def _wandb() -> Any:
    try:
        import wandb  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise SpecError("tracking.wandb: it is not installed; `pip install cxrbench[wandb]`") from error
    return wandb


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        self._writer = _tensorboard().SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: Row) -> None:
        for name, value in _scalars(row).items():
            self._writer.add_scalar(name, value, row.step)

    def close(self) -> None:
        self._writer.close()


class _WandB:
    def __init__(self, folder: Path, project: str, config: Mapping[str, object]) -> None:
        place = digest.of_bytes(str(folder.resolve()).encode())[:8]  # folders of one name are several runs
        self._run = _wandb().init(
            project=project,
            dir=str(folder),
            config=dict(config),
            name=folder.resolve().name,
            id=f"{folder.resolve().name}-{place}",
            resume="allow",
        )

    def write(self, row: Row) -> None:
        self._run.log(_scalars(row), step=row.step)

    def close(self) -> None:
        self._run.finish()


def _scalars(row: Row) -> dict[str, float]:
    values = row.model_dump(exclude={"kind", "step", "skipped"}, exclude_none=True)
    return {f"{row.kind}/{name}": float(value) for name, value in values.items()}


def require_trackers(tensorboard: bool, wandb: str | None) -> None:
    """Raise SpecError that says what to install for a tracker that is asked for and is not there."""
    if tensorboard:
        _tensorboard()
    if wandb:
        _wandb()


def trackers(folder: Path, tensorboard: bool, wandb: str | None, config: Mapping[str, object]) -> list[Tracker]:
    """The trackers that were asked for; raises SpecError that says what to install."""
    found: list[Tracker] = [_TensorBoard(folder)] if tensorboard else []
    return [*found, _WandB(folder, wandb, config)] if wandb else found
