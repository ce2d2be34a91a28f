"""Signs inside the lungs: what fills, scars or narrows them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from cxrbench.phantom.anatomy import FloatArray, Side
from cxrbench.phantom.scene import Points, Scene, any_side, some_sides, within

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
