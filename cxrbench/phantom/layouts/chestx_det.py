"""ChestX-Det10: PNG in two folders, and for each a JSON list of images with a finding and a box for every sign."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from cxrbench.data.sources.chestx_det import FilesAndRest
from cxrbench.phantom.layouts.order import Order
from cxrbench.phantom.layouts.together import numbers_of, split_rule, together
from cxrbench.phantom.plate import Developed, Plate

_FIRST, _SEEDS_APART = 36000, 10**6
_WIDTH = 3  # findings an image


def plates(order: Order) -> list[Plate]:
    """Images part by part, so that each part has every finding, then images without one; each file shuffled."""
    rule = split_rule(order, FilesAndRest)
    first = _FIRST + _SEEDS_APART * order.seed
    names: dict[str, Iterator[str]] = numbers_of(rule, "{}.png", first)
    names["test"] = map("{}.png".format, count(first + _SEEDS_APART // 2))
    wanted = [(part, findings) for part in names for findings in together(order, order.facts.classes, part, _WIDTH)]
    parts = list(names)
    wanted += [(parts[n % len(parts)], ()) for n in range(order.quotas["normal"])]
    made = [_plate(order, "test" if part == "test" else "train", next(names[part]), f) for part, f in wanted]
    return order.shuffled(made)


def _plate(order: Order, file: str, image: str, findings: tuple[str, ...]) -> Plate:
    return Plate(f"{file}_data/{image}", image, findings, order.size, "png", row={"id": image, "file": file})


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """`train.json` and `test.json`."""
    files: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for shown in developed:
        files[shown.plate.row["file"]].append(_entry(order, shown))
    return {f"{file}.json": json.dumps(entries).encode() for file, entries in files.items()}


def _entry(order: Order, shown: Developed) -> dict[str, Any]:
    """One box for every region of a finding; the whole image for a finding that has none."""
    height, width = shown.plate.size
    boxes = [(r.finding, [r.left, r.top, r.left + r.width, r.top + r.height]) for r in shown.regions]
    seen = {finding for finding, _ in boxes}
    boxes += [(finding, [0, 0, width, height]) for finding in shown.plate.findings if finding not in seen]
    syms = [order.facts.labels.get(finding, (finding,))[0] for finding, _ in boxes]
    return {"file_name": shown.plate.row["id"], "syms": syms, "boxes": [box for _, box in boxes]}
