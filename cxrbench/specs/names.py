"""One line about each model and each task: what the lists of the command line and of Python show."""

from collections.abc import Mapping
from dataclasses import dataclass

from cxrbench.specs import catalog


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model: `trained_on` are letters (C CheXpert, M MIMIC-CXR, P PadChest, C14 NIH ChestX-ray14).

    A `control` is a negative control, which must do badly; one that is not `available` is known and cannot be run.
    """

    name: str
    trained_on: str
    title: str
    control: bool
    available: bool


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task with the number of classes of each of its label groups."""

    name: str
    title: str
    groups: Mapping[str, int]

    @property
    def groups_told(self) -> str:
        """The groups in words, such as `all 5, base 3, new 2`."""
        return ", ".join(f"{name} {classes}" for name, classes in self.groups.items())


def model_lines() -> tuple[ModelLine, ...]:
    """Every model by name, those last that cannot be run."""
    cards = [catalog.load_card(name) for name in catalog.card_files()]
    known = [ModelLine(card.name, "+".join(card.pretraining), card.title, card.control, True) for card in cards]
    others = [ModelLine(m.name, "", m.title, False, False) for m in catalog.unavailable_models().values()]
    return (*known, *others)


def task_lines() -> tuple[TaskLine, ...]:
    """Every task, in the paper's order."""
    specs = [catalog.load_task(name) for name in catalog.task_files()]
    return tuple(TaskLine(s.name, s.title, {name: len(labels) for name, labels in s.groups.items()}) for s in specs)
