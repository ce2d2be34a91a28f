"""CPU time from bytes to float32 pixels: the released arithmetic (`official.py`) over the fast path, by format.

Antialiasing off, 224 pixels. The reader's own `reference` path (an oracle of whole matrices, not built for speed) must
give the same float32 values too. Every file is read by both before the clock starts.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.material import KINDS, Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

IMAGES = 32
PASSES = 4
# Lower bounds of the study that these formats come from; full JPEG is bound by the Huffman decoder on both sides.
TARGETS: Mapping[str, float] = {"DICOM 1024x1024": 3.5, "PNG 299x299": 1.2, "JPEG 2500x3000": 0.97}


def rows(material: Material, rounds: int) -> list[Row]:
    """A row for each kind of file."""
    kinds = {kind: material.files(kind, IMAGES) for kind in KINDS}
    runs = alternated({arm: partial(child, f"decode:{arm}", kinds=kinds) for arm in ("released", "fast")}, rounds)
    found = []
    for kind in kinds:
        theirs, ours = [run["cpu"][kind] for run in runs["released"]], [run["cpu"][kind] for run in runs["fast"]]
        equal = all(run["equal"][kind] for run in runs["fast"])
        note = f"{min(theirs):.2f} against {min(ours):.2f} ms an image; float32 values {'equal' if equal else 'DIFFER'}"
        found.append(Row(f"decode, {kind}", ratios(theirs, ours), Target(TARGETS[kind]), equal, note))
    return found


def released(kinds: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Arm: decoded and resized as the released reader does."""
    from benchmarks.official import pixels

    return {"cpu": {kind: _ms(pixels, files) for kind, files in kinds.items()}}


def fast(kinds: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Arm: the reader of the harness; `equal` tells whether all three ways agree in every pixel."""
    from cxrbench.system import cpu

    cpu.prepare()
    import numpy as np

    from benchmarks import official
    from cxrbench.images.pixels import pixels_by
    from cxrbench.images.radiograph import read_bytes
    from cxrbench.specs.recipe import Canvas

    def quick(path: Path) -> Any:
        return pixels_by(read_bytes(path), path.name, Canvas()).array

    def same(path: Path) -> bool:
        oracle = pixels_by(read_bytes(path), path.name, Canvas(), "reference").array
        return np.array_equal(quick(path), oracle) and np.array_equal(quick(path)[0], official.pixels(path))

    return {
        "equal": {kind: all(same(Path(file)) for file in files) for kind, files in kinds.items()},
        "cpu": {kind: _ms(quick, files) for kind, files in kinds.items()},
    }


def _ms(read: Any, files: Sequence[str]) -> float:
    """Milliseconds of CPU time an image."""
    paths = [Path(file) for file in files]
    for path in paths:
        read(path)
    spent, _ = cpu_seconds(lambda: [read(path) for _ in range(PASSES) for path in paths])
    return 1000 * spent / PASSES / len(paths)
