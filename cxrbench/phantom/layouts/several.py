"""Images with any number of findings, for data sets of which each image may have several labels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cxrbench.phantom.layouts.order import Order
from cxrbench.phantom.plate import number

_HEALTHY_EVERY = 6  # beside so many images with findings there is one without


@dataclass(frozen=True, slots=True)
class Visit:
    """One image: the patient by a running number from 1, and which of the patient's images it is, from 0."""

    patient: int
    visit: int
    findings: tuple[str, ...]


def findings(order: Order, part: str, count: int, healthy: str | None) -> list[tuple[str, ...]]:
    """What the images of a part show: `count` times each class, every second time beside another one or two.

    `healthy`: the class that stands alone, of images without a finding; None where these have no label.
    """
    classes = [name for name in order.facts.classes if name != healthy]
    draw = order.random("findings", part)
    wanted: list[tuple[str, ...]] = []
    for place, name in enumerate(classes):
        for n in range(place, place + count):
            others = [other for other in classes if other != name]
            more = draw.choice(len(others), size=int(draw.integers(1, 3)), replace=False) if n % 2 else ()
            wanted.append((name, *(others[int(other)] for other in more)))
    wanted += [(healthy,) if healthy else ()] * -(-len(wanted) // _HEALTHY_EVERY)
    return [wanted[int(row)] for row in order.random("rows", part).permutation(len(wanted))]


def visits(
    order: Order, part: str, count: int, healthy: str | None, fits: Callable[[int], bool] = bool
) -> Iterator[Visit]:
    """The images of a part, one to three a patient, as in `findings`; patients that do not fit are passed over."""
    rows = findings(order, part, count, healthy)
    patient = 0
    while rows:
        patient += 1
        if not fits(patient):
            continue
        for visit in range(min(len(rows), 1 + number(order.seed, order.task, part, patient, below=3))):
            yield Visit(patient, visit, rows.pop())
