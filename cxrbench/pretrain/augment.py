"""Augmentation of a batch on its device: flip, small affine change, brightness and contrast.

The chances come from outside, `WIDTH` uniform numbers an image, so the same numbers give the same pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cxrbench.pretrain.config import Augmentation

WIDTH = 8
_FLIP, _AFFINE, _ANGLE, _SCALE, _JITTER, _BRIGHTNESS, _CONTRAST, _ORDER = range(WIDTH)


def unit(pixels: Tensor) -> Tensor:
    """Grey levels uint8 (n, 1, s, s) as float32 in [0, 1]."""
    return pixels.float() / 255


def augmented(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    """The images (n, 1, s, s) float32 in [0, 1], changed by `chances` (n, WIDTH) in [0, 1); same shape and range.

    Flip left to right; then rotation by up to `degrees` either way about the centre and zoom by a factor of `scale`
    (below 1 the picture shrinks), bilinear, zeros outside; then brightness x f and contrast (x - mean) f + mean, each
    f within 1 ± its number, in either order, cut to [0, 1].
    """
    images = torch.where(_at(chances[:, _FLIP] < how.flip), images.flip(3), images)
    moved = torch.nonzero(chances[:, _AFFINE] < how.affine).squeeze(1)
    if len(moved):
        images = images.index_copy(0, moved, _moved(images[moved], chances[moved], how))
    toned = torch.nonzero(chances[:, _JITTER] < how.jitter).squeeze(1)
    if len(toned):
        images = images.index_copy(0, toned, _toned(images[toned], chances[toned], how))
    return images


def _moved(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    angle = (2 * chances[:, _ANGLE] - 1) * math.radians(how.degrees)
    low, high = how.scale
    factor = low + (high - low) * chances[:, _SCALE]
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    zero = torch.zeros_like(cos)
    # Where each pixel of the result comes from: the inverse of the rotation and the zoom.
    matrix = torch.stack([torch.stack([cos, sin, zero], 1), torch.stack([-sin, cos, zero], 1)], 1)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _toned(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    bright = 1 + (2 * _at(chances[:, _BRIGHTNESS]) - 1) * how.brightness
    contrast = 1 + (2 * _at(chances[:, _CONTRAST]) - 1) * how.contrast
    first = _contrasted((images * bright).clamp(0, 1), contrast)
    second = (_contrasted(images, contrast) * bright).clamp(0, 1)
    return torch.where(_at(chances[:, _ORDER] < 0.5), first, second)


def _contrasted(images: Tensor, factor: Tensor) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * factor + mean).clamp(0, 1)


def _at(values: Tensor) -> Tensor:
    return values[:, None, None, None]
