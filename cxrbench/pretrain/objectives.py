"""The four objectives of Silva-Rodríguez et al. (IPMI 2025), as functions of unit vectors, scales and labels.

Notation: u image vectors, v text vectors, p class prototypes, all at unit length; s a scale, exp of a learned log
scale; y labels, m masks (0 or 1). Every function returns a float scalar; gradients flow to all its tensors. Vectors of
16 bits are widened to 32 before the first product: a loss has more digits than they hold.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

_FEWEST_REPORTS = 2  # one pair has nothing to be told from
_NO_DIVISION_BY_ZERO = 1e-3  # added to the size of a sample's mask, as released


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their texts: unit vectors (n, d) each, row by row, and the scale () between them."""

    image: Tensor
    text: Tensor
    scale: Tensor


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (n, d) at unit length, raw prototypes (C, d), the scale () between them; labels, masks (n, C) of 0 or 1.

    Only labels inside the mask count.
    """

    image: Tensor
    prototypes: Tensor
    scale: Tensor
    labels: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Soft targets of both directions, (n, n) each; rows sum to 1."""

    image_to_text: Tensor
    text_to_image: Tensor


def scale(log_scale: Tensor, highest: float = 4.6052) -> Tensor:
    """exp(t) with t clamped to 0..`highest` in place first, so the gradient is that at the clamped value."""
    with torch.no_grad():
        log_scale.clamp_(0, highest)
    return log_scale.exp()


def clip_loss(pairs: Pairs) -> Tensor:
    """Contrastive loss over all pairs of the batch; equal texts are negatives of each other.

    L = -1/(2n) Σ_i [ log softmax_j(s u_i·v_j)_i + log softmax_j(s v_i·u_j)_i ]
    """
    logits = _logits(pairs.scale, pairs.image, pairs.text)
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def unicl_targets(image_labels: Tensor, text_labels: Tensor) -> Targets:
    """Which images and texts share a category, from labels (n, C) of 0 and 1 on both sides; a pair always matches.

    S = min(Y_image Y_textᵀ + I, 1); the targets are the rows of S and of Sᵀ over their sums.
    """
    shared = image_labels.float() @ text_labels.float().T
    shared = (shared + torch.eye(len(shared), device=shared.device)).clamp(0, 1)
    return Targets(shared / shared.sum(dim=1, keepdim=True), shared.T / shared.T.sum(dim=1, keepdim=True))


def unicl_loss(pairs: Pairs, targets: Targets) -> Tensor:
    """Contrastive loss with soft targets q both ways; with the identity as targets it is `clip_loss`.

    L = -1/(2n) Σ_i Σ_j [ q_ij log softmax_j(s u_i·v_j) + q'_ij log softmax_j(s v_i·u_j) ]
    """
    logits = _logits(pairs.scale, pairs.image, pairs.text)
    forward, back = (target.to(logits.dtype) for target in (targets.image_to_text, targets.text_to_image))
    return (cross_entropy(logits, forward) + cross_entropy(logits.T, back)) / 2


def unimodal_loss(batch: Labelled) -> Tensor:
    """Binary cross-entropy of every category against its prototype, inside the label space of the sample's data set.

    L = -1/n Σ_i Σ_c m_ic [ y_ic log σ(s u_i·p_c) + (1 - y_ic) log(1 - σ(s u_i·p_c)) ] / (Σ_c m_ic + 1e-3)
    """
    logits = _logits(batch.scale, batch.image, normalize(_wide(batch.prototypes), dim=1))
    mask = batch.mask.to(logits.dtype)
    terms = binary_cross_entropy_with_logits(logits, batch.labels.to(logits.dtype), reduction="none") * mask
    return (terms.sum(dim=1) / (mask.sum(dim=1) + _NO_DIVISION_BY_ZERO)).mean()


def dlilp_loss(batch: Labelled, reports: Pairs | None, weight: float) -> Tensor:
    """Label loss on one projection, contrastive loss on another over the samples that have a report sentence.

    L = L_unimodal(w, p; s₂) + λ L_CLIP(u, v; s₁); there is no second term, nor a gradient of it, below two such samples
    (None stands for none).
    """
    loss = unimodal_loss(batch)
    if reports is None or len(reports.image) < _FEWEST_REPORTS or weight == 0:
        return loss
    return loss + weight * clip_loss(reports)


def _logits(factor: Tensor, image: Tensor, other: Tensor) -> Tensor:
    """Scaled cosines (n, m)."""
    return _wide(factor) * _wide(image) @ _wide(other).T


def _wide(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors
