"""What a run tells while it runs: metrics.jsonl, one row a step and a validation, and trackers if asked for.

Every line ends with a checksum that runs through all lines before it; see `Logged`.
"""

import csv
import errno
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from cxrbench.errors import RunError, SpecError
from cxrbench.store import digest
from cxrbench.store.atomic import sync_file, write_atomically
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import DamagedError, advising, json_value, read_regular
from cxrbench.system.extras import from_extra

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path, way_out: str) -> Iterator[None]:
    """Within, what the system refuses becomes a RunError that names `path`; `way_out` is for a full disk."""
    try:
        yield
    except OSError as error:
        advice = way_out if error.errno in _FULL else "Name a folder that can be written."
        raise RunError(f"{path}: cannot be written: {error.strerror or error}. {advice}") from error


JSONL, CSV = "metrics.jsonl", "metrics.csv"


class LogRow(Spec):
    """One row. `step` counts updates done; a `validation` row has its mean `loss` and nothing of the update.

    `scale`, `scale_label`: exp of the log scales; `positive`, `neutral`, `negative`: shares of SAT's pairs; `norm`: of
    the gradient before clipping; `loss` and `norm` are None where the gradient scaler skipped a step that overflowed.
    """

    kind: Literal["step", "validation"]
    step: int
    epoch: int
    loss: float | None
    rate: float | None = None
    scale: float | None = None
    scale_label: float | None = None
    positive: float | None = None
    neutral: float | None = None
    negative: float | None = None
    norm: float | None = None
    skipped: bool = False
    images_per_second: float | None = None


class Tracker(Protocol):
    """Something beside the run's own files that wants its numbers."""

    def write(self, row: LogRow) -> None:
        """Take one row."""

    def close(self) -> None:
        """The run is over."""


@dataclass(frozen=True, slots=True)
class Logged:
    """How far a log goes: `rows` lines; `checksum` (CRC-32) runs through all of them, and each line ends with its own.

    So a line that is changed, moved, doubled or gone is found by the next one, and by the checkpoint.
    """

    rows: int = 0
    checksum: int = 0

    def after(self, text: str) -> "Logged":
        """One row further."""
        return Logged(self.rows + 1, zlib.crc32(text.encode(), self.checksum))


class Log:
    """The rows of a run, appended as they come; `at` is how far they go."""

    def __init__(self, folder: Path, trackers: Sequence[Tracker] = ()) -> None:
        self._path, self._trackers, self.at = folder / JSONL, tuple(trackers), Logged()
        with writing(folder, _ROOM):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: Iterable[LogRow]) -> None:
        """Append the rows; raises RunError where the disk refuses."""
        rows, lines, at = tuple(rows), list[str](), self.at
        for row in rows:
            text = row.model_dump_json(exclude_defaults=True)
            at = at.after(text)
            lines.append(f'{text[:-1]},"crc":"{at.checksum:08x}"}}\n')
        with writing(self._path, _ROOM), self._path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
        self.at = at
        for tracker in self._trackers:
            for row in rows:
                tracker.write(row)

    def sync(self) -> None:
        """Make the rows durable, before a checkpoint counts on them."""
        if self._path.exists():
            with writing(self._path, _ROOM), self._path.open("rb+") as file:
                sync_file(file)

    def rewind(self, to: Logged) -> None:
        """Forget what came after a checkpoint, a line cut by a kill with it.

        A log that is gone is begun anew there. Raises DamagedError where the rows before it are not those that the
        checkpoint knows, and leaves them.
        """
        try:
            lines = _lines(self._path)
        except FileNotFoundError:
            self.at = Logged()
            return
        kept = lines[: to.rows]
        _checked(self._path, kept, to)
        with writing(self._path, _ROOM):
            write_atomically(self._path, "".join(f"{line}\n" for line in kept).encode())
        self.at = to

    def close(self) -> None:
        """Write the same rows as CSV and close the trackers."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(LogRow.model_fields), lineterminator="\n")
        writer.writeheader()
        rows = read_rows(self._path.parent, self.at) if self.at.rows else ()
        writer.writerows(row.model_dump() for row in rows)
        with writing(self._path.with_name(CSV), _ROOM):
            write_atomically(self._path.with_name(CSV), text.getvalue().encode())
        for tracker in self._trackers:
            tracker.close()


def read_rows(folder: Path, at_least: Logged | None = None) -> tuple[LogRow, ...]:
    """The rows of a run in order, without a last line that is not whole.

    `at_least`: what a checkpoint knows of them. Raises SpecError where there is no log, DamagedError where a row is not
    what was written, or known ones are missing.
    """
    path = folder / JSONL
    try:
        lines = _lines(path)
    except FileNotFoundError as error:
        raise SpecError(f"{path}: there is no such file; name the folder of a pre-training run") from error
    if at_least is not None:
        _checked(path, lines[: at_least.rows], at_least)
    rows = _checked(path, lines)
    try:
        return tuple(LogRow.model_validate(json_value(path, text.encode())) for text in rows)
    except ValidationError as error:
        raise DamagedError(path, f"holds what is no row of a run ({complaints(error)[:200]})", _GONE) from error


_LINE = re.compile(r'(\{.*),"crc":"([0-9a-f]{8})"\}')
_ROOM = "Make room, then --resume."
_GONE = "Remove it: the run goes on without these rows, and its weights do not depend on them."


def _lines(path: Path) -> list[str]:
    with advising(_GONE):
        return read_regular(path).decode("utf-8", "surrogateescape").split("\n")[:-1]


def _checked(path: Path, lines: Sequence[str], wanted: Logged | None = None) -> list[str]:
    """The rows as JSON text; raises DamagedError for a line without its checksum, and if they are not all `wanted`."""
    at, texts = Logged(), list[str]()
    for number, line in enumerate(lines, start=1):
        told = _LINE.fullmatch(line) if line.isascii() else None
        text = f"{told[1]}}}" if told else ""
        at = at.after(text)
        if told is None or f"{at.checksum:08x}" != told[2]:
            raise DamagedError(path, f"line {number} is not what was written, or one before it is gone", _GONE)
        texts.append(text)
    if wanted is not None and at != wanted:
        raise DamagedError(path, f"holds {at.rows} of the {wanted.rows} rows before the checkpoint", _GONE)
    return texts


def number(value: float) -> float | None:
    """The value, or None where it is no finite number (JSON has none)."""
    return value if math.isfinite(value) else None


def _tensorboard() -> Any:
    with from_extra("tensorboard", "tracking.tensorboard"):
        from torch.utils import tensorboard
    return tensorboard


def _wandb() -> Any:
    with from_extra("wandb", "tracking.wandb"):
        import wandb  # type: ignore[import-not-found]
    return wandb


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        self._writer = _tensorboard().SummaryWriter(str(folder / "tensorboard"))

    def write(self, row: LogRow) -> None:
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

    def write(self, row: LogRow) -> None:
        self._run.log(_scalars(row), step=row.step)

    def close(self) -> None:
        self._run.finish()


def _scalars(row: LogRow) -> dict[str, float]:
    values = row.model_dump(exclude={"kind", "step", "skipped"}, exclude_none=True)
    return {f"{row.kind}/{name}": float(value) for name, value in values.items()}


def require_trackers(tensorboard: bool, wandb: str | None) -> None:
    """Raise MissingExtraError, which says what to install, for a tracker that is asked for and is not there."""
    if tensorboard:
        _tensorboard()
    if wandb:
        _wandb()


def trackers(folder: Path, tensorboard: bool, wandb: str | None, config: Mapping[str, object]) -> list[Tracker]:
    """The trackers that were asked for; raises MissingExtraError, which says what to install."""
    found: list[Tracker] = [_TensorBoard(folder)] if tensorboard else []
    return [*found, _WandB(folder, wandb, config)] if wandb else found
