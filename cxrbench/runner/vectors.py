"""What is kept of an adapter's text and label side, as float32 arrays on the CPU."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, Padding

FloatArray = NDArray[np.float32]


def prompt_array(adapter: Adapter, prompts: Sequence[str], padding: Padding, *, projected: bool) -> FloatArray:
    """Vectors (P, d) of prompts, encoded as one batch; `projected`: before they get unit length.

    Raises SpecError where the model keeps no vectors from before.
    """
    features = adapter.encode_text(list(prompts), padding)
    vectors = features.projected if projected else features.joint
    if vectors is None:
        raise SpecError(f"{adapter.card.name}: its card pools projected vectors, and its adapter gives none")
    found: FloatArray = vectors.float().cpu().numpy()
    return found


def prototype_array(adapter: Adapter, classes: Sequence[str]) -> FloatArray:
    """Unit class vectors (C, d) of the label side; raises SpecError for a class outside its vocabulary."""
    found: FloatArray = adapter.prototypes(list(classes)).float().cpu().numpy()
    return found


def scale_array(adapter: Adapter, view: str) -> FloatArray:
    """The factor from cosine to logit of a view, without a dimension."""
    return np.array(adapter.logit_scale(view), np.float32)
