"""From findings to a picture: shape, chest, signs, film."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from cxrbench.errors import SpecError
from cxrbench.phantom.scene import FloatArray, Grid, Patient, Points, Scene, Shape, Side, grid, within
from cxrbench.phantom.signs import CHEST_SIGNS, LUNG_SIGNS, RESHAPES, Overlay
from cxrbench.store.schema import Spec, read_toml


def chest(grid: Grid, patient: Patient, shape: Shape, rng: np.random.Generator) -> Scene:
    """The scene of a patient without overlays; `shape` already holds what the findings change."""
    torso, tissue = _torso(grid, patient)
    cage = within(np.abs(grid.x) - shape.lateral(grid.y), 0.03)
    right, left = (_lung(grid, shape, cage, side) for side in (-1, 1))
    scene = Scene(grid, shape, tissue * (0.8 * patient.build), right, left)
    lungs = scene.lungs
    scene.depth *= 1 - lungs * 0.72
    scene.depth += 0.13 * lungs + np.clip((grid.y - 0.1) / 0.6, 0, 1) * torso * (1 - lungs) * 0.6
    _centre(scene, patient, torso)
    scene.depth += _ribs(grid, shape, patient.child) * torso * within(grid.y - 0.78, 0.2) * 0.17
    scene.depth += _vessels(scene, rng) * scene.lungs * (0.22 * shape.vessels)
    _shoulders(scene, patient, rng)
    _abdomen(scene, torso, rng)
    for mask, air in zip((right, left), shape.air, strict=True):
        if air != 1:
            scene.depth *= 1 - mask * (1 - 1 / air)
    scene.depth += 0.02 * scene.cloud(rng, 0.25) * torso
    return scene


def _torso(grid: Grid, patient: Patient) -> tuple[FloatArray, FloatArray]:
    """Mask of the body and its thickness (0 at the skin, about 1 in the middle), arms included."""
    x, y = np.abs(grid.x), grid.y
    flare = np.clip((0.05 - y) / 0.6, 0, 1)
    half = 0.82 + 0.06 * patient.build + 0.42 * flare**2 * (3 - 2 * flare)
    top = -0.84 + 0.22 * np.clip(x - 0.2, 0, 2) + 0.5 * np.clip(x - 0.75, 0, 2) ** 2 - 2 * within(x - 0.23, 0.05)
    ratio = np.clip(x / half, 0, 1)
    mask = within(x - half, 0.02) * within(top - y, 0.03)
    return mask, mask * np.sqrt(1 - ratio**3) * (0.75 + 0.25 * np.clip((y + 1) / 0.5, 0, 1))


def _lung(grid: Grid, shape: Shape, cage: FloatArray, side: Side) -> FloatArray:
    """The air of one lung that is not hidden behind the mediastinum."""
    x = grid.x * side
    return cage * within(0.12 * shape.mediastinum - x, 0.04) * within(grid.y - shape.dome(side, grid.x), 0.025)


def _centre(scene: Scene, patient: Patient, torso: FloatArray) -> None:
    """Heart, mediastinum, aorta, hila, spine and windpipe; the lungs' masks lose what the heart hides."""
    grid, shape = scene.grid, scene.shape
    size = shape.heart * patient.heart
    x = grid.x - shape.pull
    left = scene.disc((0.13 + shape.pull, 0.52 - 0.24 * size), (0.33 * size, 0.25 * size), 0.03, angle=0.55)
    right = scene.disc((shape.pull - 0.05 * size, 0.52 - 0.21 * size), (0.19 * size, 0.24 * size), 0.03)
    toward_left = np.clip(grid.x / 0.4 + 0.5, 0, 1)
    floor = shape.dome(-1, grid.x) * (1 - toward_left) + shape.dome(1, grid.x) * toward_left
    above = within(grid.y - floor, 0.03)
    heart = np.maximum(left, right) * above
    half = 0.125 * shape.mediastinum + 0.06 * np.clip((-0.45 - grid.y) / 0.35, 0, 1)
    if shape.bulge:
        half = half + np.abs(shape.bulge) * np.exp(-(((grid.y + 0.1) / 0.2) ** 2)) * (shape.bulge * x > 0)
    middle = within(np.abs(x) - half, 0.03) * torso * np.clip((grid.y + 1) / 0.5, 0, 1)
    centre = np.maximum(np.maximum(heart, middle), _aorta(scene))
    scene.right *= 1 - centre
    scene.left *= 1 - centre
    scene.depth += 0.5 * centre * (0.6 + 0.4 * above) + 0.22 * heart
    for side in (-1, 1):
        scene.add(scene.disc((side * 0.17 + shape.pull, 0.02 + 0.03 * side), (0.07, 0.12), 0.08), 0.18)
    spine = within(np.abs(grid.x) - 0.075, 0.02) * (0.75 + 0.25 * np.cos(grid.y * (2 * np.pi / 0.13)))
    scene.add(spine * torso, 0.22)
    pipe = within(np.abs(grid.x - 1.2 * shape.pull) - 0.035, 0.02) * within(grid.y + 0.08, 0.06)
    scene.clear(pipe, 0.3)


def _aorta(scene: Scene) -> FloatArray:
    """Arch and descending aorta; a winding one bulges to the left."""
    bend = scene.shape.aorta
    knob = scene.disc((0.12 + 0.5 * bend + scene.shape.pull, -0.2 - 0.3 * bend), (0.085 + 0.3 * bend,) * 2, 0.02)
    y = scene.grid.y
    course = 0.07 + bend * np.sin(np.clip((y + 0.25) / 0.75, 0, 1) * np.pi) + scene.shape.pull
    trunk = within(np.abs(scene.grid.x - course) - 0.075, 0.025) * within(np.abs(y - 0.15) - 0.37, 0.05)
    return np.maximum(knob, trunk)


def _ribs(grid: Grid, shape: Shape, child: bool) -> FloatArray:
    """Posterior and fainter anterior ribs, 0..1, outside the lungs' outer border by a little."""
    x = np.abs(grid.x)
    spacing = 0.125 if child else 0.15
    back = np.cos((grid.y - 0.28 * x + 0.62 * x**2) * (2 * np.pi / spacing))
    front = np.cos((grid.y + 0.75 * x - 0.9 * x**2) * (2 * np.pi / (spacing * 1.1)))
    border = shape.lateral(grid.y) + 0.03
    cage = within(x - border, 0.03) * within(0.06 - x, 0.03)
    wall = np.exp(-(((x - border + 0.012) / 0.018) ** 2)) * within(-0.6 - grid.y, 0.1)
    return (
        np.clip(back * 1.6 + 0.3, 0, 1) + 0.35 * np.clip(front * 1.6, 0, 1) * within(0.2 - x, 0.1)
    ) * cage + 0.9 * wall


def _vessels(scene: Scene, rng: np.random.Generator) -> FloatArray:
    """Branches that run from the hila outwards and become thinner."""
    paths: list[Points] = []
    widths: list[float] = []
    for side in (-1, 1):
        for start in np.linspace(-1.35, 1.45, 11) + rng.normal(0, 0.08, 11):
            angle, width = float(start), rng.uniform(0.014, 0.022)
            point = (side * 0.16 + scene.shape.pull, 0.03 + 0.1 * angle / 1.4)
            for _ in range(4):
                angle += rng.normal(0, 0.16)
                step = rng.uniform(0.09, 0.16)
                end = (point[0] + side * step * float(np.cos(angle)), point[1] + step * float(np.sin(angle)))
                fork = angle + rng.choice((-0.5, 0.5))
                twig = (end[0] + side * step * float(np.cos(fork)), end[1] + step * float(np.sin(fork)))
                paths += [(point, end), (end, twig)]
                widths += [width, width * 0.6]
                point, width = end, width * 0.72
    return scene.lines(paths, widths)


def _shoulders(scene: Scene, patient: Patient, rng: np.random.Generator) -> None:
    """Collar bones, shoulder blades, upper arms; breasts of a grown woman."""
    tilt = rng.normal(0, 0.02)
    bones: list[Points] = [
        [(s * 0.09, -0.47), (s * 0.3, -0.56 + s * tilt), (s * 0.55, -0.6 + s * tilt), (s * 0.8, -0.7)] for s in (-1, 1)
    ]
    scene.add(scene.lines(bones, [0.05, 0.05], blur=1.2), 0.2)
    blades: list[Points] = [[(s * 0.78, -0.62), (s * 0.72, -0.2), (s * 0.8, 0.02)] for s in (-1, 1)]
    scene.add(scene.lines(blades, [0.03, 0.03], blur=1.5), 0.12)
    for side in (-1, 1):
        scene.add(scene.disc((side * 0.98, -0.58), (0.11, 0.11), 0.04), 0.25)
        if patient.female and not patient.child:
            scene.add(scene.disc((side * 0.44, 0.34), (0.27, 0.2), 0.05), 0.1 * patient.build)


def _abdomen(scene: Scene, torso: FloatArray, rng: np.random.Generator) -> None:
    """Liver, and the air bubble of the stomach under the left diaphragm."""
    liver = scene.disc((-0.3, 0.85), (0.5, 0.35), 0.1)
    scene.add(liver * torso * (1 - scene.lungs), 0.12)
    bubble = (0.36 + rng.normal(0, 0.04), 0.68 - scene.shape.domes[1] + rng.normal(0, 0.02))
    scene.clear(scene.disc(bubble, (rng.uniform(0.06, 0.13), rng.uniform(0.03, 0.06)), 0.03), 0.35)


CANVAS = 512  # longest side on which anatomy is drawn; larger films are enlarged before their noise is added
OVERLAYS: Mapping[str, Overlay] = {**LUNG_SIGNS, **CHEST_SIGNS}
View = Literal["frontal", "lateral"]


class Signs(Spec):
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
    grey = enlarge(grey ** np.float32(patient.gamma), size)
    noise = rng.standard_normal(size, dtype=np.float32)
    noise *= patient.noise
    grey = grey * 0.97 + 0.01
    grey += noise
    return np.clip(grey, 0, 1, out=grey)


def enlarge(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
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
