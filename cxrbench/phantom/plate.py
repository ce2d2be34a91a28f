"""What a layout asks for, one image after the other, and what drawing it showed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from cxrbench.phantom.draw import View

Container = Literal["jpeg", "png", "png-rgb", "png-rgba", "png-deep", "dicom-jpeg", "dicom-raw", "dicom-j2k"]
Text = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plate:
    """One image to be drawn and written."""

    path: str  # relative to the data set's folder
    patient: str  # images of one patient show the same chest
    findings: tuple[str, ...]
    size: tuple[int, int]  # height, width
    container: Container
    view: View = "frontal"
    child: bool = False
    lung_mask: str | None = None  # where to write a mask of the lungs, if anywhere
    row: Text = field(default_factory=dict)  # what the label tables say of it
    header: Text = field(default_factory=dict)  # DICOM keyword to value


@dataclass(frozen=True, slots=True)
class Region:
    """Where one sign of a finding lies, in pixels of the written file."""

    finding: str
    left: int
    top: int
    width: int
    height: int
    side: Literal["right", "left", "bilateral"]  # of the patient
    runs: str  # mask as relative run lengths, column by column, first pixel 0; empty where not asked for


@dataclass(frozen=True, slots=True)
class Developed:
    """A plate that was written, and what is on it."""

    plate: Plate
    regions: tuple[Region, ...]


def name(seed: int, *parts: object, digits: int) -> str:
    """A made-up identifier of hex digits (at most 64) that depends on nothing but the seed and the parts."""
    return hashlib.sha256(":".join(map(str, (seed, *parts))).encode()).hexdigest()[:digits]


def number(seed: int, *parts: object, below: int) -> int:
    """A made-up number from 0 to below - 1 that depends on nothing but the seed and the parts."""
    return int(name(seed, *parts, digits=15), 16) % below


def uuid(seed: int, *parts: object) -> str:
    """A made-up identifier in groups of 8-4-4-4-12 hex digits."""
    h = name(seed, *parts, digits=32)
    return "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))


def generator(seed: int, *parts: object) -> np.random.Generator:
    """A random generator that depends on nothing but the seed and the parts."""
    return np.random.default_rng(int(name(seed, *parts, digits=32), 16))
