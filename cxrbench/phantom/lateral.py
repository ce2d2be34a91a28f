"""The side view, for rows that a frontal-only task has to leave out."""

import numpy as np

from cxrbench.phantom.anatomy import FloatArray, Patient, Shape
from cxrbench.phantom.draw import film
from cxrbench.phantom.scene import Scene, grid, within


def lateral(patient: Patient, size: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A lateral radiograph of a healthy chest, (H, W) float32 0..1; the breastbone is at image left."""
    share = min(1, 384 / max(size))
    board = grid(max(1, round(size[0] * share)), max(1, round(size[1] * share)), patient)
    x, y = board.x, board.y
    torso = within(np.abs(x) - 0.62 - 0.06 * y, 0.03) * within(-0.8 - y + 0.3 * np.abs(x), 0.05)
    front, back = -0.42 + 0.25 * np.clip(-y, 0, 1), 0.48 - 0.15 * y**2
    dome = 0.42 + 0.35 * np.clip(x + 0.3, 0, 1)
    lung = within(front - x, 0.03) * within(x - back, 0.03) * within(y - dome, 0.03) * within(-0.62 - y, 0.1)
    depth = torso * (0.9 * patient.build) * (1 - 0.6 * lung) + torso * np.clip((y - 0.2) / 0.5, 0, 1) * (1 - lung) * 0.5
    scene = Scene(board, Shape(), depth, lung, np.zeros_like(lung))
    scene.add(scene.disc((-0.2, 0.24), (0.27, 0.22), 0.04, angle=0.4) * lung, 0.45)
    scene.add(scene.disc((0.02, -0.05), (0.12, 0.12), 0.1) * lung, 0.25)
    spine = within(np.abs(x - 0.46 + 0.15 * y**2) - 0.08, 0.02) * torso
    scene.add(spine * (0.75 + 0.25 * np.cos(y * (2 * np.pi / 0.15))), 0.3)
    scene.add(np.clip(np.cos((y - 0.5 * x) * 42), 0, 1) * lung, 0.1)
    return film(scene.depth, patient, size, rng)
