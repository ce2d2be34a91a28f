"""The released procedure told again in a few lines, as the yardstick: it keeps nothing from one fold to the next.

For every fold and number of shots each image is read, decoded and encoded anew: pixels in float64 (DICOM by gdcm,
scale first, then torch's bilinear resize), batches of 16, eager torch on plain memory, scikit-learn's default fit.
The models are not loaded anew, as the released code does, so the yardstick errs to its own advantage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrbench.images import dicom, official, raster
from cxrbench.images.grey import ValueArray
from cxrbench.images.header import is_dicom

BATCH = 16
SIZE = 224
FloatArray = NDArray[np.float32]


def pixels(path: Path) -> FloatArray:
    """(224, 224) float32 of an image file that is brighter in its bright parts: no polarity is looked at."""
    values = _decoded(path.read_bytes())
    grey = values.astype(np.float64)
    if grey.min() < 0 or grey.max() > 255:
        grey = (grey - grey.min()) / (grey.max() - grey.min()) * 255.0
    grey /= 255.0
    height, width = grey.shape
    scale = max(height, width) / SIZE
    fitted = (SIZE, SIZE) if height == width else (int(height / scale), int(width / scale))
    small = nn.functional.interpolate(torch.from_numpy(grey)[None, None], fitted, mode="bilinear", align_corners=False)
    canvas = np.zeros((SIZE, SIZE))
    canvas[: fitted[0], : fitted[1]] = small[0, 0].numpy()
    return canvas.astype(np.float32)


def _decoded(data: bytes) -> ValueArray:
    if is_dicom(data):
        return official.from_dicom(dicom.decode_stored(data, reference=True)).values
    image = raster.open_picture(data)
    official.draft(image, SIZE)
    return official.from_raster(raster.decode_picture(image)).values


def network(weights: Path) -> nn.Module:
    """The ResNet-50 of a checkpoint, as torchvision builds it."""
    from safetensors.torch import load_file
    from torchvision.models import resnet50

    trunk = resnet50()
    trunk.fc = nn.Identity()
    prefix = "vision_model.model."
    tensors = {n.removeprefix(prefix): t for n, t in load_file(weights).items() if n.startswith(prefix)}
    trunk.load_state_dict(tensors)
    return trunk.eval()


@torch.no_grad()
def encoded(trunk: nn.Module, images: Sequence[FloatArray]) -> FloatArray:
    """Pooled vectors (n, 2048) of images, batch by batch."""
    starts = range(0, len(images), BATCH)
    batches = [torch.from_numpy(np.stack(images[first : first + BATCH])) for first in starts]
    found: list[Tensor] = [trunk(batch[:, None].repeat(1, 3, 1, 1)) for batch in batches]
    return torch.cat(found).numpy()


@dataclass(frozen=True, slots=True)
class Judged:
    """One fold at one number of shots: what was encoded, and the balanced accuracy of the released fit."""

    train: FloatArray
    test: FloatArray
    accuracy: float


def judged(trunk: nn.Module, train: Sequence[Path], truth: Any, test: Sequence[Path], expected: Any) -> Judged:
    """Encode a fold's images, fit, and score: balanced accuracy in 0..1."""
    from sklearn.linear_model import LogisticRegression

    seen = encoded(trunk, [pixels(path) for path in train])
    unseen = encoded(trunk, [pixels(path) for path in test])
    model = LogisticRegression(C=0.316, max_iter=1000, class_weight="balanced").fit(seen, truth)
    guesses = model.predict(unseen)
    recalls = [float((guesses[expected == label] == label).mean()) for label in np.unique(expected)]
    return Judged(seen, unseen, float(np.mean(recalls)))
