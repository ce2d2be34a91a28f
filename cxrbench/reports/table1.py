"""Table 1: what the user's own data come to, beside the printed sizes, with the reason for each difference."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError
from cxrbench.reports.tables import Format
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, Table1Row, table1
from cxrbench.specs.settings import Variant
from cxrbench.types import Partition

_HEAD = (
    "data set",
    "split",
    "printed train / test / labels",
    "here train / test / labels",
    "images",
    "why they differ",
)


def sizes(variant: Variant, roots: Mapping[str, Path], cache: Path, form: Format) -> str:
    """Printed and measured sizes of the seven evaluation sets under a variant's splits, and of the pre-training sets.

    A data set that is not on this disk shows a dash and why.
    """
    printed = table1()
    rows = [_row(row, variant, roots, cache) for row in printed.rows]
    rows += [
        (row.name, "pre-training", f"{row.images:,} / – / {row.labels}", MISSING, MISSING, row.reason)
        for row in printed.pretraining
    ]
    return _rendered(rows, printed.source, variant.name, form)


def _row(row: Table1Row, variant: Variant, roots: Mapping[str, Path], cache: Path) -> tuple[str, ...]:
    told = f"{row.train:,} / {row.test:,} / {row.labels}"
    split, root = variant.split_of(row.task), roots.get(row.task) or roots.get("")
    if root is None:
        return row.name, split, told, MISSING, MISSING, f"no --data-root; as published: {row.reason}"
    try:
        partition = load_partition(root, catalog.load_task(row.task), split, cache)
    except CxrBenchError as error:
        return row.name, split, told, MISSING, MISSING, str(error)
    here = _here(partition, variant)
    mark = "PHANTOM: " if partition.synthetic else ""
    return row.name, split, told, mark + here, _images(partition), "" if here == told else row.reason


def _here(partition: Partition, variant: Variant) -> str:
    labels = catalog.load_task(partition.task).groups
    name = "all-20" if "all-20" in labels and variant.settings.nih_classes == "20" else "all"
    train = partition.parts.get("train") or partition.parts["all"]
    test = partition.parts.get("test") or partition.parts["all"]
    return f"{len(train):,} / {len(test):,} / {len(labels[name])}"


def _images(partition: Partition) -> str:
    ids = {image for part in partition.parts.values() for image in part.ids}
    lost = len(partition.findings.missing)
    return f"{len(ids):,} distinct" + (f", {lost:,} missing" if lost else "")


def _rendered(rows: list[tuple[str, ...]], source: str, variant: str, form: Format) -> str:
    if form == "json":
        named = [dict(zip(_HEAD, row, strict=True)) for row in rows]
        return json.dumps({"source": source, "variant": variant, "rows": named}, indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([_HEAD, *rows])
        return out.getvalue()
    from tabulate import tabulate

    style = {"terminal": "simple", "markdown": "github", "latex": "latex_booktabs"}[form]
    widths = [None, None, None, None, None, 60 if form == "terminal" else None]
    title = f"Table 1. Evaluation sets, printed and here\n{source}\nvariant: {variant}"
    if form == "latex":
        title = "\n".join(f"% {line}" for line in title.splitlines())
    return f"{title}\n\n{tabulate(rows, _HEAD, tablefmt=style, disable_numparse=True, maxcolwidths=widths)}\n"
