"""Signs outside the lungs: pleura, free air, great vessels, gut in the chest, bones, devices."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from cxrbench.phantom.anatomy import LUNG_TOP, Side
from cxrbench.phantom.scene import Points, Scene, any_side, some_sides, within
from cxrbench.phantom.signs_lung import Overlay


def fluid(scene: Scene, rng: np.random.Generator) -> None:
    """An even, dense base whose upper border climbs towards the ribs."""
    for side in some_sides(rng, both=0.35):
        level = scene.place(side, 0.5, rng.uniform(0.66, 0.85))[1]
        outward = np.clip(np.abs(scene.grid.x) / 0.7, 0, 1.1)
        mask = within(level - 0.28 * (outward**3 - 0.2) - scene.grid.y, 0.04) * scene.lung(side)
        scene.add(mask, rng.uniform(0.75, 0.95), mark=True)


def free_lung_edge(scene: Scene, rng: np.random.Generator) -> None:
    """Black space without vessels between ribs and a thin white line: the edge of a lung that has come away."""
    for side in some_sides(rng, both=0.08):
        gap, lowest = rng.uniform(0.1, 0.24), rng.uniform(0.15, 0.5)
        x, y = scene.grid.x * side, scene.grid.y
        fade = np.clip((lowest - y) / 0.35, 0, 1)
        edge = scene.shape.lateral(np.maximum(y - 0.6 * gap, LUNG_TOP)) - 0.02 - gap * fade
        outside = within(edge - x, 0.015) * scene.lung(side) * (fade > 0)
        line = np.exp(-(((x - edge) / 0.011) ** 2)) * scene.lung(side) * (fade > 0.02)
        scene.clear(outside, 0.62)
        scene.add(line, 0.3)
        scene.add(scene.lung(side) * (1 - outside), 0.08)
        scene.marks.append(outside)


def thick_pleura(scene: Scene, rng: np.random.Generator) -> None:
    """A white, slightly wavy rind along the ribs of one or both sides, thickest at the apex."""
    for side in some_sides(rng, both=0.35):
        x, y = scene.grid.x * side, scene.grid.y
        wave = 0.012 * np.sin(y * rng.uniform(14, 22) + rng.uniform(0, 6))
        rind = rng.uniform(0.06, 0.09) + wave + 0.06 * np.clip((-0.42 - y) / 0.2, 0, 1)
        mask = within(scene.shape.lateral(y) - rind - x, 0.02) * scene.lung(side)
        scene.add(mask, rng.uniform(0.55, 0.7), mark=True)


def air_under_diaphragm(scene: Scene, rng: np.random.Generator) -> None:
    """A black sickle below a thin white diaphragm, on the right or on both sides."""
    sides: tuple[Side, ...] = (-1, 1) if rng.random() < 0.5 else (-1,)
    for side in sides:
        dome = scene.shape.dome(side, scene.grid.x)
        below = scene.grid.y - dome
        reach = within(np.abs(scene.grid.x * side - 0.36) - 0.27, 0.04)
        depth = rng.uniform(0.07, 0.12) * np.clip(1 - ((scene.grid.x * side - 0.36) / 0.3) ** 2, 0, 1)
        sickle = within(np.abs(below - 0.03 - depth / 2) - depth / 2, 0.015) * reach
        scene.clear(sickle, 0.72)
        scene.marks.append(sickle)
        scene.add(np.exp(-(((below - 0.012) / 0.014) ** 2)) * reach, 0.25)


def air_round_heart(scene: Scene, rng: np.random.Generator) -> None:
    """Black stripes with a thin white border along heart and mediastinum, running up into the neck."""
    for side in (-1, 1):
        bound = (
            0.15 + 0.035 * scene.shape.heart + (0.2 if side > 0 else 0.06) * np.clip((scene.grid.y + 0.05) / 0.4, 0, 1)
        )
        away = scene.grid.x * side - bound - rng.uniform(-0.01, 0.01)
        tall = within(np.abs(scene.grid.y + 0.25) - 0.62, 0.08)
        stripe = np.exp(-((away / 0.022) ** 2)) * tall
        scene.clear(stripe, 0.5)
        scene.marks.append(stripe)
        scene.add(np.exp(-(((away - 0.042) / 0.012) ** 2)) * tall, 0.22)


def air_in_soft_tissue(scene: Scene, rng: np.random.Generator) -> None:
    """Black streaks between the muscle fibres of the chest wall and the neck."""
    paths: list[Points] = []
    for side in some_sides(rng, both=0.6):
        for _ in range(34):
            y = rng.uniform(-0.6, 0.4)
            x = side * (0.8 + rng.uniform(0.0, 0.12) + 0.25 * max(0.0, -0.35 - y))
            slope = rng.uniform(0.02, 0.06)
            paths.append([(x - side * slope, y - 0.08), (x, y), (x - side * slope * 0.5, y + 0.09)])
        for _ in range(10):
            x, y = side * rng.uniform(0.12, 0.6), rng.uniform(-0.82, -0.66)
            paths.append([(x, y), (x + side * 0.12, y + rng.uniform(-0.02, 0.03))])
    mask = scene.lines(paths, list(rng.uniform(0.012, 0.03, len(paths))), blur=0.8)
    scene.clear(np.clip(mask, 0, 1), 0.75)
    scene.marks.append(mask)


def aortic_chalk(scene: Scene, rng: np.random.Generator) -> None:
    """A bright, broken sickle along the border of the aortic knob, and flecks below it."""
    bend = scene.shape.aorta
    x0, y0, radius = 0.12 + 0.5 * bend + scene.shape.pull, -0.2 - 0.3 * bend, 0.075 + 0.3 * bend
    arc = np.linspace(-1.9, rng.uniform(0.9, 1.3), 16)
    paths: list[Points] = [[(x0 + radius * float(np.cos(a)), y0 + radius * float(np.sin(a))) for a in arc]]
    for _ in range(6):
        y = rng.uniform(-0.08, 0.35)
        x = 0.07 + 0.065 + bend * float(np.sin(np.clip((y + 0.25) / 0.75, 0, 1) * np.pi))
        paths.append([(x, y), (x + rng.uniform(-0.01, 0.01), y + rng.uniform(0.03, 0.06))])
    mask = scene.lines(paths, [0.034] + [0.022] * 6)
    scene.add(mask, 1.3, mark=True)


def stomach_in_chest(scene: Scene, rng: np.random.Generator) -> None:
    """A round shadow behind the heart with black air above a level."""
    centre, radius = (rng.uniform(-0.03, 0.1), rng.uniform(0.3, 0.36)), rng.uniform(0.15, 0.19)
    ball = scene.disc(centre, (radius, radius), 0.02)
    hollow = scene.disc(centre, (radius - 0.025,) * 2, 0.02)
    scene.add(ball, 0.35, mark=True)
    scene.clear(hollow * within(scene.grid.y - centre[1] - rng.uniform(0.0, 0.04), 0.01), 0.6)


def gut_in_chest(scene: Scene, rng: np.random.Generator) -> None:
    """Air-filled loops in place of the lower left lung."""
    area = within(-(scene.grid.y + 0.05), 0.1) * scene.left
    scene.add(area, 0.5, mark=True)
    for _ in range(6):
        centre = scene.place(1, rng.uniform(0.2, 0.8), rng.uniform(0.6, 0.95))
        scene.clear(scene.disc(centre, (rng.uniform(0.06, 0.1), rng.uniform(0.05, 0.08)), 0.02) * scene.left, 0.55)


def broken_rib(scene: Scene, rng: np.random.Generator) -> None:
    """A displaced bright stump over a dark gap in the outer chest wall."""
    side = any_side(rng)
    x, y = scene.place(side, 0.95, rng.uniform(0.35, 0.75))
    paths: list[Points] = [
        [(x - side * 0.16, y - 0.03), (x, y)],
        [(x - side * 0.01, y + 0.05), (x + side * 0.08, y + 0.12)],
    ]
    scene.add(scene.lines(paths, [0.045, 0.045]), 0.45, mark=True)
    scene.clear(scene.lines([[(x - side * 0.01, y - 0.05), (x + side * 0.01, y + 0.07)]], [0.02]), 0.4)


def tubes(scene: Scene, rng: np.random.Generator) -> None:
    """A breathing tube, a central line from the right and sometimes a pacemaker."""
    line: Points = [(-0.7, -0.62), (-0.4, -0.56), (-0.15, -0.5), (-0.1, -0.3), (-0.08, rng.uniform(0.0, 0.15))]
    tube: Points = [(0.0, -0.95), (0.01, -0.6), (0.0, rng.uniform(-0.3, -0.18))]
    scene.add(scene.lines([line, tube], [0.014, 0.022]), 0.8, mark=True)
    if rng.random() < 0.4:
        scene.add(scene.disc((0.55, -0.42), (0.1, 0.08), 0.015), 1.6)
        scene.add(scene.lines([[(0.5, -0.42), (0.2, -0.4), (0.0, -0.2), (0.02, 0.3)]], [0.014]), 0.9)


CHEST_SIGNS: Mapping[str, Overlay] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            fluid, free_lung_edge, thick_pleura, air_under_diaphragm, air_round_heart, air_in_soft_tissue, aortic_chalk,
            stomach_in_chest, gut_in_chest, broken_rib, tubes,
        )
    }
)  # fmt: skip
