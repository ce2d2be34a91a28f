"""What the demonstration left behind, as its tests ask for it."""

from dataclasses import dataclass
from functools import cached_property

from cxrbench.cli.demonstration import OBJECTIVES, Folders, zero_shot
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record
from cxrbench.runner.run import RunResult

MODELS = tuple(f"demo_{objective}" for objective in OBJECTIVES)


@dataclass(frozen=True)
class Shown:
    """The folders of one demonstration, what its run came to, and the lines that it told."""

    folders: Folders
    report: RunResult
    told: tuple[str, ...]

    @cached_property
    def records(self) -> list[Record]:
        return read_results(self.folders.results, self.folders.cache).records

    def one(self, model: str, task: str, group: str, protocol: str) -> Record | None:
        """The zero-shot record of Table 2, or that of the probe with the most shots."""
        records = [r for r in self.records if r.protocol.protocol == protocol and r.protocol.shots in (None, 16)]
        chosen = zero_shot(records) if protocol == "zero-shot" else records
        found = [r for r in chosen if (r.model.name, r.data.task, r.data.group) == (model, task, group)]
        assert len(found) <= 1
        return found[0] if found else None

    def skill(self, model: str, task: str, group: str) -> float:
        """How far zero-shot macro AUROC is on its way from chance (0) to perfect (1).

        Balanced accuracy would not do: of two classes it also counts how similar a prompt is to every image.
        """
        record = self.one(model, task, group, "zero-shot")
        assert record is not None
        return 2 * float(record.summary["macro_auroc"]["mean"]) - 1
