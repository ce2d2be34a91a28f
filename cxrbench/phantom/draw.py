"""From findings to a picture: shape, chest, signs, film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from cxrbench.errors import SpecError
from cxrbench.phantom.anatomy import FloatArray, Patient, Shape
from cxrbench.phantom.body import chest
from cxrbench.phantom.scene import grid
from cxrbench.phantom.signs_chest import CHEST_SIGNS
from cxrbench.phantom.signs_lung import LUNG_SIGNS, Overlay
from cxrbench.phantom.signs_shape import RESHAPES
from cxrbench.store.schema import Facts, read_toml

CANVAS = 512  # longest side on which anatomy is drawn; larger films are enlarged before their noise is added
OVERLAYS: Mapping[str, Overlay] = {**LUNG_SIGNS, **CHEST_SIGNS}
View = Literal["frontal", "lateral"]


class Signs(Facts):
    """Each finding's signs, as in findings.toml."""

    signs: Mapping[str, tuple[str, ...]]


@cache
def signs() -> Mapping[str, tuple[str, ...]]:
    """Finding to the names of its signs."""
    return read_toml(Path(__file__).with_name("findings.toml"), Signs).signs


@dataclass(frozen=True, slots=True)
class Sketch:
    """A drawn radiograph, and where its findings lie: (finding, mask) with masks (h, w) 0..1 on the canvas.

    `image` (H, W) float32 0..1, air dark, bone bright; `lungs` (h, w) on the canvas, whose longest side is at most
    CANVAS pixels.
    """

    image: FloatArray
    lungs: FloatArray
    regions: tuple[tuple[str, FloatArray], ...]


def draw(findings: Sequence[str], patient: Patient, size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A frontal radiograph (H, W) float32 0..1 with a visible sign for every finding; size is (height, width).

    Raises SpecError for a finding without a sign in findings.toml.
    """
    return sketch(findings, patient, size, rng).image


def sketch(findings: Sequence[str], patient: Patient, size: tuple[int, int], rng: np.random.Generator) -> Sketch:
    """The radiograph as `draw` makes it, with its lungs and the regions of its findings."""
    shape = Shape()
    for finding in findings:
        for sign in _signs_of(finding):
            shape = RESHAPES[sign](shape, rng) if sign in RESHAPES else shape
    height, width = _canvas(size)
    scene = chest(grid(height, width, patient), patient, shape, rng)
    lungs, regions = scene.lungs, []
    for finding in findings:
        scene.marks.clear()
        for sign in _signs_of(finding):
            if sign in OVERLAYS:
                OVERLAYS[sign](scene, rng)
        regions += [(finding, mask) for mask in scene.marks]
    image = film(scene.depth, patient, size, rng)
    if shape.mirrored:
        image, lungs = image[:, ::-1], lungs[:, ::-1]
        regions = [(finding, mask[:, ::-1]) for finding, mask in regions]
    return Sketch(image, lungs, tuple(regions))


def film(depth: FloatArray, patient: Patient, size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Attenuation as grey levels of a film of the given size, 0..1, with the detector's noise."""
    grey = 1 - np.exp(-np.maximum(depth, 0) * (1.45 * patient.gain))
    grey = enlarged(grey ** np.float32(patient.gamma), size)
    noise = rng.standard_normal(size, dtype=np.float32)
    noise *= patient.noise
    grey = grey * 0.97 + 0.01
    grey += noise
    return np.clip(grey, 0, 1, out=grey)


def enlarged(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    """A canvas (h, w) at the size (H, W) of its film."""
    if plane.shape == size:
        return plane.astype(np.float32, copy=True)
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.array(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def _signs_of(finding: str) -> tuple[str, ...]:
    try:
        return signs()[finding]
    except KeyError:
        raise SpecError(f"no phantom sign for finding '{finding}'; known are {', '.join(signs())}") from None


def _canvas(size: tuple[int, int]) -> tuple[int, int]:
    share = min(1, CANVAS / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))
