"""RSNA Pneumonia Detection Challenge 2018, in the layouts of Kaggle, of PNG and JPEG copies, and of MD.ai."""

from pathlib import Path

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import stem_key
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.base import Labelled, partition, rule_of
from cxrbench.data.sources.join import Disk, Layout
from cxrbench.data.sources.rsna_draws import DRAWS, FROM_TARGETS
from cxrbench.data.sources.rsna_mapping import Mapped, mapping
from cxrbench.data.sources.rsna_tables import kinds, targets
from cxrbench.data.splits import table
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition

_TARGETS = ("stage_2_train_labels", "stage_1_train_labels")
_KINDS = ("stage_2_detailed_class_info", "stage_1_detailed_class_info")


def locate(root: Path) -> Path:
    """The folder that holds one of the challenge's label tables."""
    return located(
        root,
        "RSNA",
        has_table(*_TARGETS),
        has_table(*_KINDS),
        wanted="stage_2_train_labels.csv",
        stems=(*_TARGETS, *_KINDS),
    )


def tables(folder: Path, task: TaskSpec, split: str) -> Labelled:
    """The parts of a split; patients where the mapping to NIH ChestX-ray14 is in the folder; see `Source.tables`."""
    return _tables(folder, task, split, mapping(folder))


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`. Images may also lie under the UIDs of the MD.ai export, if the mapping file gives them."""
    folder = locate(root)
    mapped = mapping(folder)
    uids = mapped.uids if mapped else {}
    layout = Layout(
        key=stem_key,
        names=lambda image: (image, uids[image]) if image in uids else (image,),
        unlabelled=frozenset({"stage_2_test_images", "stage_1_test_images"}),
    )
    labelled = _tables(folder, task, split, mapped)
    return partition(task, split, labelled, Disk(root, folder, layout, cache, survey))


def _tables(folder: Path, task: TaskSpec, split: str, mapped: Mapped | None) -> Labelled:
    spec = rule_of(task, split, DRAWS)
    stems, read = (_TARGETS, targets) if spec.rule in FROM_TARGETS else (_KINDS, kinds)
    rows = read(csv_tables.required(folder, *stems, why=f"Split {split} is drawn from it."))
    drawn = DRAWS[spec.rule](rows, spec, mapped)
    ids, index = drawn.rows.ids, drawn.rows.index
    patients = [mapped.patient(name) for name in ids] if mapped else None
    parts = {name: table(ids, index, part, task.classes, patients) for name, part in drawn.parts.items()}
    old = () if rows.path.name.startswith("stage_2") else (f"labels of stage 1 ({rows.path.name}), not of stage 2",)
    notes = (*old, *rows.notes)
    return Labelled(parts, set(rows.ids), rows.found, notes, doubtful=mapped.doubtful if mapped else frozenset())
