"""The metric that a task is judged by where none is asked for."""

from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, Metric
from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec


def main_metric(task: TaskSpec) -> Metric:
    """Balanced accuracy where classes exclude each other, macro AUROC where each label holds or not by itself."""
    return MACRO_AUROC if task.kind == "multi-label" else BALANCED_ACCURACY


def main_metric_of(record: Record) -> Metric:
    """`main_metric` of a record's task; of one that this installation does not have, by what the record sums up."""
    task = catalog.known_task(record.data.task)
    if task is not None:
        return main_metric(task)
    return BALANCED_ACCURACY if BALANCED_ACCURACY.name in record.summary else MACRO_AUROC
