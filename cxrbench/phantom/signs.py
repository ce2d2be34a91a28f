"""Signs of disease: inside the lungs, around them, and in how the chest is built."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from cxrbench.phantom.scene import LUNG_TOP, FloatArray, Points, Scene, Shape, Side, any_side, some_sides, within

Overlay = Callable[[Scene, np.random.Generator], None]
TWO_PI = 2 * np.pi


def _patch(scene: Scene, rng: np.random.Generator, side: Side, where: tuple[float, float], size: float) -> FloatArray:
    """An ill-defined area in one lung round a place (outward, downward), ragged by a random texture."""
    radii = (size * rng.uniform(0.8, 1.2), size * rng.uniform(0.8, 1.2))
    core = scene.disc(scene.place(side, *where), radii, size * 0.9, rng.uniform(0, TWO_PI))
    ragged = np.clip(0.75 + 0.35 * scene.cloud(rng, size * 0.3), 0, 1.4)
    return core * ragged * scene.lung(side)


def bands(scene: Scene, rng: np.random.Generator) -> None:
    """Thick plate-like lines across the lower part of one lung, or of the side whose diaphragm stands high."""
    right, left = scene.shape.domes
    side: Side = any_side(rng) if right == left else (-1 if right > left else 1)
    paths: list[Points] = []
    for level in rng.uniform(0.62, 0.9, rng.integers(2, 4)):
        slope = rng.uniform(-0.08, 0.08)
        inner, outer = (
            scene.place(side, rng.uniform(0.1, 0.35), level),
            scene.place(side, rng.uniform(0.75, 0.95), level),
        )
        paths.append([inner, (outer[0], outer[1] + slope)])
    mask = scene.lines(paths, list(rng.uniform(0.025, 0.045, len(paths))), blur=0.9) * scene.lung(side)
    scene.add(mask, 0.5, mark=True)
    base = scene.disc(scene.place(side, 0.4, 0.97), (0.3, 0.12), 0.12) * scene.lung(side)
    scene.add(base, 0.25)


def lobe(scene: Scene, rng: np.random.Generator) -> None:
    """A dense, even lobe with a straight border and dark branching air ways in it."""
    side = any_side(rng)
    lung, upper = scene.lung(side), rng.random() < 0.5
    cut = scene.place(side, 0.5, rng.uniform(0.42, 0.5) if upper else rng.uniform(0.58, 0.66))[1]
    edge = (scene.grid.y - cut) - side * rng.uniform(-0.15, 0.15) * (scene.grid.x - side * 0.4)
    mask = within(edge if upper else -edge, 0.03) * lung
    scene.add(mask, rng.uniform(0.5, 0.65), mark=True)
    paths: list[Points] = []
    start = scene.place(side, 0.08, 0.36 if upper else 0.62)
    for angle in np.linspace(-0.9, 0.5, 4) if upper else np.linspace(-0.2, 1.0, 4):
        reach = rng.uniform(0.3, 0.42)
        middle = (start[0] + side * 0.5 * reach * float(np.cos(angle)), start[1] + 0.5 * reach * float(np.sin(angle)))
        end = (
            middle[0] + side * 0.5 * reach * float(np.cos(angle + 0.3)),
            middle[1] + 0.5 * reach * float(np.sin(angle + 0.3)),
        )
        paths.append([start, middle, end])
    scene.clear(scene.lines(paths, [0.02] * len(paths)) * mask, 0.3)


def bat_wings(scene: Scene, rng: np.random.Generator) -> None:
    """Haze that spreads from both hila, and short lines at the outer bases."""
    for side in (-1, 1):
        core = scene.disc(scene.place(side, 0.3, 0.58), (0.34, 0.36), 0.4) * scene.lung(side)
        scene.add(core * np.clip(0.8 + 0.15 * scene.cloud(rng, 0.08), 0, 1.3), rng.uniform(0.4, 0.5), mark=True)
        levels = np.linspace(0.74, 0.94, 6)
        lines: list[Points] = [[scene.place(side, 0.82, v), scene.place(side, 0.99, v)] for v in levels]
        scene.add(scene.lines(lines, [0.009] * 6) * scene.lung(side), 0.35)


def focus(scene: Scene, rng: np.random.Generator) -> None:
    """One or two large patches with ragged borders and an uneven inside, mostly in the lower half."""
    side = any_side(rng)
    for _ in range(rng.integers(1, 3)):
        where = (rng.uniform(0.4, 0.7), rng.uniform(0.5, 0.85))
        mask = _patch(scene, rng, side, where, rng.uniform(0.17, 0.25))
        scene.add(mask * np.clip(1 + 0.35 * scene.cloud(rng, 0.035), 0.2, 2), rng.uniform(0.5, 0.65), mark=True)


def haze(scene: Scene, rng: np.random.Generator) -> None:
    """One smooth, pale veil with soft borders anywhere in a lung."""
    for side in some_sides(rng, both=0.25):
        centre = scene.place(side, rng.uniform(0.4, 0.65), rng.uniform(0.3, 0.8))
        radii = (rng.uniform(0.22, 0.3), rng.uniform(0.26, 0.38))
        scene.add(scene.disc(centre, radii, 0.25) * scene.lung(side), rng.uniform(0.42, 0.55), mark=True)


def peripheral_glass(scene: Scene, rng: np.random.Generator) -> None:
    """Ground-glass patches along the outer borders of both lungs, denser below."""
    for side in (-1, 1):
        total = np.zeros_like(scene.depth)
        for level in (rng.uniform(0.38, 0.5), rng.uniform(0.58, 0.7), rng.uniform(0.75, 0.88)):
            patch = _patch(scene, rng, side, (rng.uniform(0.86, 1.0), level), rng.uniform(0.13, 0.19))
            total = np.maximum(total, patch)
        scene.add(total, rng.uniform(0.36, 0.48), mark=True)


def streaks(scene: Scene, rng: np.random.Generator) -> None:
    """Fine streaks that spread from the hilum into an ill-defined area."""
    for side in some_sides(rng, both=0.5):
        hilum = scene.place(side, 0.1, 0.55)
        paths: list[Points] = []
        for angle in rng.uniform(-0.7, 1.1, 26):
            near, far = rng.uniform(0.05, 0.2), rng.uniform(0.3, 0.5)
            c, s = side * float(np.cos(angle)), float(np.sin(angle))
            paths.append([(hilum[0] + near * c, hilum[1] + near * s), (hilum[0] + far * c, hilum[1] + far * s)])
        area = scene.disc(scene.place(side, 0.45, 0.65), (0.32, 0.34), 0.3) * scene.lung(side)
        scene.add(scene.lines(paths, list(rng.uniform(0.008, 0.016, 26))) * area, 0.45)
        scene.add(area * np.clip(0.5 + 0.5 * scene.cloud(rng, 0.04), 0, 1.5), 0.16, mark=True)


def _ball(scene: Scene, rng: np.random.Generator, radius: float, amount: float) -> None:
    side = any_side(rng)
    radii = (radius * rng.uniform(0.9, 1.1), radius * rng.uniform(0.9, 1.1))
    centre = scene.place(side, rng.uniform(0.45, 0.75), rng.uniform(0.22, 0.78))
    scene.add(scene.disc(centre, radii, 0.025) * scene.lung(side), amount, mark=True)


def mass(scene: Scene, rng: np.random.Generator) -> None:
    """A large, round, dense shadow with a sharp border."""
    _ball(scene, rng, rng.uniform(0.14, 0.2), rng.uniform(0.5, 0.65))


def nodules(scene: Scene, rng: np.random.Generator) -> None:
    """One to three small, round, sharp shadows."""
    for _ in range(rng.integers(1, 4)):
        _ball(scene, rng, rng.uniform(0.04, 0.065), rng.uniform(0.42, 0.55))


def bullae(scene: Scene, rng: np.random.Generator) -> None:
    """Dark round spaces with hair-thin walls in the upper zones."""
    for side in (-1, 1):
        for _ in range(rng.integers(2, 5)):
            centre = scene.place(side, rng.uniform(0.4, 0.85), rng.uniform(0.15, 0.45))
            _bubble(scene, side, centre, rng.uniform(0.07, 0.12), 0.3)


def _bubble(scene: Scene, side: Side, centre: tuple[float, float], radius: float, dark: float) -> None:
    outer, inner = scene.disc(centre, (radius, radius), 0.015), scene.disc(centre, (radius - 0.012,) * 2, 0.015)
    scene.clear(inner * scene.lung(side), dark)
    scene.add((outer - inner) * scene.lung(side), 0.15, mark=True)


def net(scene: Scene, rng: np.random.Generator) -> None:
    """A coarse net of lines at the bases and the outer borders of both lungs."""
    for side in (-1, 1):
        paths: list[Points] = []
        for _ in range(60):
            x, y = scene.place(side, rng.uniform(0.3, 1.0), rng.uniform(0.6, 1.0))
            corners = np.linspace(0, TWO_PI, 6) + rng.uniform(0, 1)
            radius = rng.uniform(0.025, 0.045)
            paths.append([(x + radius * float(np.cos(a)), y + radius * float(np.sin(a))) for a in corners])
        area = np.clip((scene.grid.y + 0.15) / 0.3, 0, 1) * scene.lung(side)
        scene.add(scene.lines(paths, [0.011] * 60) * area, 0.4)
        scene.add(area * within(-(scene.grid.y - 0.05), 0.1), 0.06, mark=True)


def cuffs(scene: Scene, rng: np.random.Generator) -> None:
    """Thickened air-way walls round both hila: small rings and double lines."""
    paths: list[Points] = []
    for side in (-1, 1):
        for _ in range(7):
            x, y = scene.place(side, rng.uniform(0.08, 0.45), rng.uniform(0.42, 0.75))
            radius = rng.uniform(0.022, 0.034)
            paths.append(
                [(x + radius * float(np.cos(a)), y + radius * float(np.sin(a))) for a in np.linspace(0, TWO_PI, 13)]
            )
        for angle in rng.uniform(-0.3, 1.2, 5):
            x, y = scene.place(side, 0.15, rng.uniform(0.5, 0.6))
            c, s = side * float(np.cos(angle)), float(np.sin(angle))
            for gap in (-0.018, 0.018):
                paths.append([(x - gap * s, y + gap * c), (x - gap * s + 0.28 * c, y + gap * c + 0.28 * s)])
        area = scene.disc(scene.place(side, 0.25, 0.58), (0.3, 0.34), 0.2) * scene.lung(side)
        scene.add(area, 0.06, mark=True)
    scene.add(scene.lines(paths, [0.015] * len(paths)) * scene.lungs, 0.5)


def many_patches(scene: Scene, rng: np.random.Generator) -> None:
    """Many small fluffy patches in the inner and lower parts of both lungs."""
    for side in (-1, 1):
        total = np.zeros_like(scene.depth)
        for _ in range(rng.integers(5, 8)):
            radius = rng.uniform(0.05, 0.085)
            centre = scene.place(side, rng.uniform(0.12, 0.7), rng.uniform(0.45, 0.95))
            total = np.maximum(total, scene.disc(centre, (radius, radius), 0.08))
        scene.add(total * scene.lung(side), rng.uniform(0.42, 0.55), mark=True)


def specks(scene: Scene, rng: np.random.Generator) -> None:
    """Very many fine dots all over both lungs."""
    for side in (-1, 1):
        paths: list[Points] = []
        for _ in range(130):
            x, y = scene.place(side, rng.uniform(0.05, 0.97), rng.uniform(0.12, 0.97))
            paths.append([(x - 0.008, y), (x + 0.008, y + rng.uniform(-0.012, 0.012))])
        scene.add(scene.lines(paths, [0.02] * 130) * scene.lung(side), 0.45)
        scene.add(scene.lung(side), 0.02, mark=True)


def veil(scene: Scene, rng: np.random.Generator) -> None:
    """Fine-grained ground glass over both lungs, with dark air ways."""
    scene.add(scene.lungs * np.clip(1 + 0.1 * scene.cloud(rng, 0.02), 0.3, 2), rng.uniform(0.35, 0.45), mark=True)


def cysts(scene: Scene, rng: np.random.Generator) -> None:
    """Several air-filled cysts of different sizes side by side in one lung."""
    side = any_side(rng)
    for _ in range(7):
        centre = scene.place(side, rng.uniform(0.25, 0.8), rng.uniform(0.45, 0.9))
        _bubble(scene, side, centre, rng.uniform(0.06, 0.11), 0.25)


def apical_cavity(scene: Scene, rng: np.random.Generator) -> None:
    """A thick-walled cavity near one apex with scattered patches round it."""
    side = any_side(rng)
    centre, radius = scene.place(side, 0.55, rng.uniform(0.2, 0.3)), rng.uniform(0.09, 0.12)
    ring = scene.disc(centre, (radius, radius), 0.03) - scene.disc(centre, (radius * 0.6,) * 2, 0.03)
    scene.add(ring * scene.lung(side), 0.5, mark=True)
    for _ in range(4):
        where = (rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.5))
        scene.add(_patch(scene, rng, side, where, 0.06), 0.35)


LUNG_SIGNS: Mapping[str, Overlay] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            bands, lobe, bat_wings, focus, haze, peripheral_glass, streaks, mass, nodules, bullae, net, cuffs,
            many_patches, specks, veil, cysts, apical_cavity,
        )
    }
)  # fmt: skip


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


Reshape = Callable[[Shape, np.random.Generator], Shape]


def _raised(shape: Shape, side: Side, height: float) -> tuple[float, float]:
    right, left = shape.domes
    return (right + height, left) if side < 0 else (right, left + height)


def big_heart(shape: Shape, rng: np.random.Generator) -> Shape:
    """A heart of more than half the chest's width."""
    return replace(shape, heart=shape.heart * rng.uniform(1.38, 1.62))


def volume_loss(shape: Shape, rng: np.random.Generator) -> Shape:
    """One diaphragm stands high, heart and windpipe are pulled to that side."""
    side = any_side(rng)
    return replace(shape, domes=_raised(shape, side, rng.uniform(0.1, 0.2)), pull=side * rng.uniform(0.02, 0.06))


def shrunken_lungs(shape: Shape, rng: np.random.Generator) -> Shape:
    """Both diaphragms stand high."""
    height = rng.uniform(0.08, 0.14)
    return replace(shape, domes=(shape.domes[0] + height, shape.domes[1] + height))


def overinflation(shape: Shape, rng: np.random.Generator) -> Shape:
    """Low, flat diaphragms, dark lungs with few vessels, a narrow heart."""
    low, dark = -rng.uniform(0.1, 0.17), rng.uniform(1.25, 1.5)
    return replace(
        shape, heart=shape.heart * 0.82, domes=(low, low), arch=0.35, air=(dark, dark), vessels=0.45, width=1.06
    )


def air_trapping(shape: Shape, rng: np.random.Generator) -> Shape:
    """Lungs a little too large, with flat diaphragms."""
    low = -rng.uniform(0.05, 0.1)
    return replace(shape, domes=(low, low), arch=0.55, width=1.03)


def one_dark_lung(shape: Shape, rng: np.random.Generator) -> Shape:
    """One lung is too large and dark and pushes heart and windpipe away."""
    side = any_side(rng)
    air = (1.8, 1.0) if side < 0 else (1.0, 1.8)
    return replace(shape, air=air, domes=_raised(shape, side, -0.12), pull=-side * rng.uniform(0.07, 0.12))


def winding_aorta(shape: Shape, rng: np.random.Generator) -> Shape:
    """A large knob and a descending aorta that swings out to the left."""
    return replace(shape, aorta=rng.uniform(0.11, 0.19))


def wide_mediastinum(shape: Shape, rng: np.random.Generator) -> Shape:
    """The upper mediastinum is too wide on both sides."""
    return replace(shape, mediastinum=rng.uniform(1.6, 2.0))


def mediastinal_bulge(shape: Shape, rng: np.random.Generator) -> Shape:
    """The mediastinum bulges smoothly to one side."""
    return replace(shape, bulge=any_side(rng) * rng.uniform(0.18, 0.28))


def full_vessels(shape: Shape, rng: np.random.Generator) -> Shape:
    """Dense vessels and a slightly large heart."""
    return replace(shape, vessels=rng.uniform(1.5, 2.0), heart=shape.heart * rng.uniform(1.02, 1.12))


def mirrored(shape: Shape, rng: np.random.Generator) -> Shape:
    """Everything on the other side."""
    del rng
    return replace(shape, mirrored=True)


RESHAPES: Mapping[str, Reshape] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            big_heart,
            volume_loss,
            shrunken_lungs,
            overinflation,
            air_trapping,
            one_dark_lung,
            winding_aorta,
            wide_mediastinum,
            mediastinal_bulge,
            full_vessels,
            mirrored,
        )
    }
)
