"""The drawing board: attenuation over a grid of body coordinates, and the strokes that signs are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

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


Points = Sequence[tuple[float, float]]  # body coordinates


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the pixels of a canvas lie in the body; x, y (H, W) float32; `pixel` is one pixel in body units."""

    x: FloatArray
    y: FloatArray
    pixel: float
    middle: tuple[float, float]  # column and row of the body's origin
    turn: tuple[float, float]  # cosine and sine of the rotation

    def pixels(self, points: Points) -> list[tuple[float, float]]:
        """Body coordinates as (column, row)."""
        c, s = self.turn
        return [
            (self.middle[0] + (c * x - s * y) / self.pixel, self.middle[1] + (s * x + c * y) / self.pixel)
            for x, y in points
        ]


def grid(height: int, width: int, patient: Patient) -> Grid:
    """The grid of a canvas for a patient."""
    pixel = 2 / (min(height, width) * patient.scale)
    middle = (width / 2 + patient.shift[0] / pixel, height / 2 + patient.shift[1] / pixel)
    c, s = float(np.cos(patient.rotation)), float(np.sin(patient.rotation))
    columns = (np.arange(width, dtype=np.float32) + 0.5 - middle[0])[None, :] * pixel
    rows = (np.arange(height, dtype=np.float32) + 0.5 - middle[1])[:, None] * pixel
    return Grid(c * columns + s * rows, c * rows - s * columns, pixel, middle, (c, s))


def within(distance: FloatArray, soft: float) -> FloatArray:
    """1 where the signed distance is negative, 0 where it is positive, a ramp of width `soft` between."""
    ramp = distance * (-1 / soft)
    ramp += 0.5
    return np.clip(ramp, 0, 1, out=ramp)


@dataclass(slots=True)
class Scene:
    """A chest being drawn. `depth`, `right`, `left` are (H, W) float32; depth is attenuation, lungs are masks 0..1."""

    grid: Grid
    shape: Shape
    depth: FloatArray
    right: FloatArray
    left: FloatArray
    marks: list[FloatArray] = field(default_factory=list)  # regions of the finding being drawn, (H, W) 0..1

    @property
    def lungs(self) -> FloatArray:
        """Both lungs as one mask."""
        return self.right + self.left

    def lung(self, side: Side) -> FloatArray:
        """The mask of one lung."""
        return self.right if side < 0 else self.left

    def add(self, mask: FloatArray, amount: float, mark: bool = False) -> None:
        """Add attenuation under a mask; with `mark` the mask is a region of the finding."""
        self.depth += mask * amount
        if mark:
            self.marks.append(mask)

    def clear(self, mask: FloatArray, share: float) -> None:
        """Take away a share (0..1) of the attenuation under a mask: air."""
        self.depth *= 1 - mask * share

    def place(self, side: Side, outward: float, downward: float) -> tuple[float, float]:
        """A point of a lung: outward 0 at the mediastinum to 1 at the ribs, downward 0 at the apex to 1 at the base."""
        bottom = float(self.shape.dome(side, np.float32(0.38)))
        y = LUNG_TOP + (bottom - LUNG_TOP) * downward
        outer = float(self.shape.lateral(np.float32(y)))
        return side * (0.13 + (max(outer, 0.2) - 0.13) * outward), y

    def disc(
        self, centre: tuple[float, float], radii: tuple[float, float], soft: float, angle: float = 0
    ) -> FloatArray:
        """An ellipse with an edge of width `soft`; lengths in body units, angle in radians."""
        soft = max(soft, self.grid.pixel)
        mask = np.zeros_like(self.depth)
        window = self._window(centre, max(radii) * (1 + soft / min(radii)))
        dx, dy = self.grid.x[window] - centre[0], self.grid.y[window] - centre[1]
        if angle:
            c, s = float(np.cos(angle)), float(np.sin(angle))
            dx, dy = c * dx + s * dy, c * dy - s * dx
        reach = np.sqrt((dx / radii[0]) ** 2 + (dy / radii[1]) ** 2)
        mask[window] = within((reach - 1) * min(radii), soft)
        return mask

    def _window(self, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
        """The rows and columns within `reach` of a point."""
        column, row = self.grid.pixels([centre])[0]
        extent = reach / self.grid.pixel + 1
        top, left = (max(0, int(middle - extent)) for middle in (row, column))
        return slice(top, max(top, int(row + extent) + 1)), slice(left, max(left, int(column + extent) + 1))

    def lines(self, paths: Sequence[Points], widths: Sequence[float], blur: float = 0.6) -> FloatArray:
        """Polylines of the given widths (body units) as a mask; a line thinner than a pixel is drawn fainter."""
        from scipy.ndimage import gaussian_filter

        image = Image.new("L", (self.grid.x.shape[1], self.grid.x.shape[0]))
        pen = ImageDraw.Draw(image)
        for path, width in zip(paths, widths, strict=True):
            thick = width / self.grid.pixel
            pen.line(self.grid.pixels(path), fill=int(255 * min(1, thick)), width=max(1, round(thick)), joint="curve")
        return gaussian_filter(np.asarray(image, np.float32) / 255, blur)

    def cloud(self, rng: np.random.Generator, cell: float) -> FloatArray:
        """Smooth random texture with grains of size `cell` (body units): mean 0, standard deviation about 1."""
        height, width = self.grid.x.shape
        share = self.grid.pixel / cell
        rows, columns = max(2, round(height * share)), max(2, round(width * share))
        coarse = rng.standard_normal((rows, columns), dtype=np.float32)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(fine) * np.float32(1.3)


def any_side(rng: np.random.Generator) -> Side:
    """One of the two sides."""
    return -1 if rng.random() < 0.5 else 1


def some_sides(rng: np.random.Generator, both: float) -> tuple[Side, ...]:
    """Both sides with the given probability, else one."""
    return (-1, 1) if rng.random() < both else (any_side(rng),)
