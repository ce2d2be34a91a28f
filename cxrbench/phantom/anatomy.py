"""Who is drawn and how the chest is built: a patient's habitus and exposure, and the shape that findings may change.

Body coordinates: x from image left (the patient's right) to image right, y downwards, origin in the middle of the
chest; the outer chest wall of a patient of scale 1 lies at |x| = 0.86.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]  # float32 throughout
Side = Literal[-1, 1]  # -1: image left, the patient's right

LUNG_TOP = -0.68
LUNG_WIDEST = 0.50


@dataclass(frozen=True, slots=True)
class Patient:
    """One person in front of one detector."""

    child: bool
    female: bool
    scale: float  # half the shorter image side is 1 / scale body units
    shift: tuple[float, float]  # body units
    rotation: float  # radians, clockwise
    build: float  # soft tissue, 1 is average
    heart: float  # heart width, 1 is average
    gain: float  # exposure: attenuation is multiplied by it
    gamma: float  # the film's curve
    noise: float  # standard deviation in grey levels of 0..1


def patient(rng: np.random.Generator, child: bool = False) -> Patient:
    """A patient drawn at random; children have a smaller, rounder chest and a relatively larger heart."""
    return Patient(
        child=child,
        female=bool(rng.random() < 0.5),
        scale=float(rng.uniform(0.78, 0.92) if child else rng.uniform(0.92, 1.06)),
        shift=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.03))),
        rotation=float(rng.normal(0, 0.025)),
        build=float(rng.uniform(0.8, 1.25)),
        heart=float(rng.uniform(0.92, 1.1) + (0.08 if child else 0)),
        gain=float(rng.uniform(0.75, 1.3)),
        gamma=float(rng.uniform(0.75, 1.35)),
        noise=float(rng.uniform(0.006, 0.02)),
    )


@dataclass(frozen=True, slots=True)
class Shape:
    """What a finding may change before the chest is built; 1 or 0 is the healthy value."""

    heart: float = 1.0  # width and height
    mediastinum: float = 1.0  # width
    bulge: float = 0.0  # of the mediastinum to one side, body units
    domes: tuple[float, float] = (0.0, 0.0)  # how far the right and the left diaphragm stand higher, body units
    arch: float = 1.0  # how much the diaphragms are curved
    width: float = 1.0  # of the rib cage
    air: tuple[float, float] = (1.0, 1.0)  # how dark the right and the left lung are
    vessels: float = 1.0
    aorta: float = 0.0  # how far the aorta winds, body units
    pull: float = 0.0  # shift of heart and trachea, body units, positive to image right
    mirrored: bool = False

    def lateral(self, y: FloatArray | np.float32) -> FloatArray:
        """Distance of the lungs' outer border from the midline at height y (same shape as y), 0 above the apex."""
        rise = np.clip((y - LUNG_WIDEST) / (LUNG_WIDEST - LUNG_TOP), -1, 1)
        return (0.76 * self.width) * np.sqrt(1 - np.abs(rise) ** 2.4)

    def dome(self, side: Side, x: FloatArray | np.float32) -> FloatArray:
        """Height of the diaphragm of one side above x (same shape as x)."""
        raised = self.domes[0 if side < 0 else 1]
        base = 0.46 if side < 0 else 0.51
        return base - raised + (1.1 * self.arch) * (np.abs(x) - 0.33) ** 2
