"""Published multi-label numbers with their lists and sources: `results/published/multilabel.toml`."""

from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from cxrbench.specs import paths
from cxrbench.store.schema import Spec, read_toml

Known = Literal["first-hand", "copied", "memory", "computed"]
Number = Field(pattern=r"^\d+(\.\d+)?$")


class PublishedRow(Spec):
    """One number as printed; `card` is the model here whose weights the source names, `finding` a single label.

    `known`: read in a source whose authors measured it, or where others repeat it, not read at all, or a mean of
    printed numbers.
    """

    model: str
    value: str = Number
    known: Known
    card: str | None = None
    finding: str | None = None
    sd: str | None = None
    low: str | None = None
    high: str | None = None

    @property
    def first_hand(self) -> bool:
        """Whether it was read in the source that measured it; no other number may ever decide a check."""
        return self.known == "first-hand"


class PublishedList(Spec):
    """Numbers of one source on one list by one metric.

    `task` and `group` name list and labels as they are here, of `images` test images and so many `labels`; without
    them `why` says why no task has the list.
    """

    source: str
    read_in: str
    data_set: str
    list: str
    task: str | None = None
    group: str | None = None
    images: int | None = None
    labels: int | None = None
    why: str = ""
    protocol: Literal["zero-shot", "linear-probe", "fine-tuned", "supervised"]
    fraction: str = ""
    metric: str
    unit: Literal["fraction", "percent"]
    note: str = ""
    rows: tuple[PublishedRow, ...]

    @model_validator(mode="after")
    def _placed(self) -> "PublishedList":
        told = (self.task, self.group, self.images, self.labels)
        if any(one is None for one in told) != all(one is None for one in told):
            raise ValueError("task, group, images and labels go together")
        if (self.task is None) != bool(self.why):
            raise ValueError("a list without a task says `why`, and no other does")
        return self

    def percent(self, row: PublishedRow) -> Decimal:
        """A number of the list in percent, with the decimals that are printed."""
        value = Decimal(row.value)
        return value.scaleb(2) if self.unit == "fraction" else value


class PublishedLists(Spec):
    """The whole file."""

    tables: tuple[PublishedList, ...]


def published_lists() -> tuple[PublishedList, ...]:
    """Every list; raises SpecError for a file that is malformed."""
    return read_toml(paths.folder("published") / "multilabel.toml", PublishedLists).tables
