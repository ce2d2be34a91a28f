"""Augmentation: what each chance does, on pictures whose change can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as vision

from cxrbench.pretrain.batches import WIDTH, augment, unit
from cxrbench.pretrain.config import Augmentation, build_config

HOW = build_config(None, {}).augmentation
FLIP, AFFINE, ANGLE, SCALE, JITTER, BRIGHTNESS, CONTRAST, ORDER = range(WIDTH)


def picture(rows: int = 1, size: int = 33) -> Tensor:
    """Smooth, so that two bilinear resamplers agree, and black at the border."""
    axis = torch.linspace(-1, 1, size)
    bumps = torch.exp(-12 * ((axis[:, None] - 0.2) ** 2 + (axis[None] + 0.1) ** 2))
    return bumps.expand(rows, 1, size, size).clone()


def chances(rows: int = 1, **at: float) -> Tensor:
    """Nothing happens, but for what is named."""
    values = torch.full((rows, WIDTH), 0.999)
    for name, value in at.items():
        values[:, globals()[name.upper()]] = value
    return values


def test_pixels_become_fractions() -> None:
    assert unit(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)).tolist() == [[[[0, pytest.approx(0.2), 1]]]]


def test_without_luck_nothing_changes() -> None:
    images = picture(3)
    assert torch.equal(augment(images, chances(3), HOW), images)


def test_flip_is_left_to_right() -> None:
    images = picture()
    assert torch.equal(augment(images, chances(flip=0.4), HOW), images.flip(3))


@pytest.mark.parametrize(("angle", "scale"), [(1.0, 1.0), (0.0, 1.0), (0.5, 0.0), (0.75, 0.3)])
def test_affine_equals_torchvision(angle: float, scale: float) -> None:
    found = augment(picture(), chances(affine=0.1, angle=angle, scale=scale), HOW)
    degrees, factor = (2 * angle - 1) * HOW.degrees, 0.9 + 0.1 * scale
    wanted = vision.affine(picture(), degrees, [0, 0], factor, [0.0], interpolation=vision.InterpolationMode.BILINEAR)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [0.2, 0.8])
def test_brightness_and_contrast_equal_torchvision(order: float) -> None:
    images = picture() * 0.9 + 0.05
    found = augment(images, chances(jitter=0.1, brightness=1.0, contrast=0.0, order=order), HOW)

    def contrasted(x: Tensor) -> Tensor:
        return vision.adjust_contrast(x, 1 - HOW.contrast)

    def bright(x: Tensor) -> Tensor:
        return vision.adjust_brightness(x, 1 + HOW.brightness)

    wanted = contrasted(bright(images)) if order < 0.5 else bright(contrasted(images))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_shares_and_range_are_as_configured() -> None:
    rng = np.random.default_rng(0)
    rows = 4000
    images = picture(rows, 9) + torch.arange(9) / 50
    found = augment(images, torch.from_numpy(rng.random((rows, WIDTH), np.float32)), HOW)
    assert found.shape == images.shape
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    alone = Augmentation(**{**HOW.model_dump(), "affine": 0, "jitter": 0})
    flipped = augment(images, torch.from_numpy(rng.random((rows, WIDTH), np.float32)), alone)
    share = float((flipped[:, 0, 0, 0] != images[:, 0, 0, 0]).float().mean())
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / rows)
    unchanged = float((found == images).flatten(1).all(1).float().mean())
    assert abs(unchanged - 0.5 * 0.75 * 0.75) < 0.04


def test_an_image_does_not_depend_on_its_batch() -> None:
    rng = torch.Generator().manual_seed(1)
    images, luck = torch.rand((9, 1, 16, 16), generator=rng), torch.rand((9, WIDTH), generator=rng)
    whole = augment(images, luck, HOW)
    for row in range(9):
        torch.testing.assert_close(augment(images[row : row + 1], luck[row : row + 1], HOW)[0], whole[row])
