"""The square canvas: long side to the size, aspect kept, picture at the top left, zeros to the right and below."""

import numpy as np
from numpy.typing import NDArray

from cxrbench.images.grey import FloatArray
from cxrbench.specs.recipe import Canvas


def fitted(height: int, width: int, recipe: Canvas) -> tuple[int, int]:
    """Height and width on the canvas; 0 is possible for pictures more oblong than the size.

    `released` floors a floating-point quotient, which makes the long side one pixel short for some sizes.
    """
    size, longest = recipe.size, max(height, width)
    if height == width:
        return size, size
    if recipe.floor == "exact":
        return height * size // longest, width * size // longest
    scale = longest / size
    return int(height / scale), int(width / scale)


def laid_out(picture: FloatArray, recipe: Canvas) -> NDArray[np.float32]:
    """(C, size, size) float32 from the resized picture (height, width): padded, then mean and std, then the cast.

    C is 1 where mean and std have one value: the three channels are equal and are expanded by whoever needs them.
    """
    canvas = np.zeros((recipe.size, recipe.size))
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    if recipe.mean == (0.0,) and recipe.std == (1.0,):
        return canvas.astype(np.float32)[None]
    mean, std = (np.asarray(row)[:, None, None] for row in (recipe.mean, recipe.std))
    return ((canvas - mean) / std).astype(np.float32)
