"""COVID-19_Radiography_Dataset, version 5: four folders of pictures and lung masks of the same names."""

from collections.abc import Mapping, Sequence

from cxrbench.phantom.layouts.order import Order
from cxrbench.phantom.plate import Developed, Plate

_COLOUR_EVERY = 7  # Viral Pneumonia pictures that are RGB


def plates(order: Order) -> list[Plate]:
    """Every class's pictures, numbered from 1; Viral Pneumonia shows children, as in the original."""
    found: list[Plate] = []
    for name in order.facts.classes:
        viral = name == "Viral Pneumonia"
        for n in range(1, order.quotas[name] + 1):
            stem = f"{name}-{n}.png"
            found.append(
                Plate(
                    f"{name}/images/{stem}",
                    patient=stem,
                    findings=(name,),
                    size=order.size,
                    container="png-rgb" if viral and n % _COLOUR_EVERY == 0 else "png",
                    child=viral or (name == "Normal" and n % 8 == 0),
                    lung_mask=f"{name}/masks/{stem}",
                )
            )
    return found


def tables(order: Order, developed: Sequence[Developed]) -> Mapping[str, bytes]:
    """The data set's note; its labels are its folders."""
    counts = "".join(f"{name}: {order.quotas[name]} images\n" for name in order.facts.classes)
    note = f"Layout of the COVID-19 Radiography Database; {len(developed)} drawn images, none of a patient.\n\n{counts}"
    return {"README.md.txt": note.encode()}
