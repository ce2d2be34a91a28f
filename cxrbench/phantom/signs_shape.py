"""Signs that change how the chest is built: size and place of heart, aorta, mediastinum, diaphragms and lungs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from cxrbench.phantom.anatomy import Shape, Side
from cxrbench.phantom.scene import any_side

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
