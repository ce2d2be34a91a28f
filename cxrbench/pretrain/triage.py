"""SAT's objective: which reports of a batch fit an image as well as its own, and a loss that leaves those out.

Source: Liu et al., Improving Medical Vision-Language Contrastive Pretraining with Semantics-aware Triage, IEEE TMI
42(12), 2023, as its released code computes it. The paper itself was not at hand.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from cxrbench.pretrain.config import Factor, TriageSettings
from cxrbench.pretrain.network import Pairs, TextModel, Tokens, clip_loss, pair_logits


@dataclass(frozen=True, slots=True)
class Triaged:
    """Pairs (n, n) of an anchor (row) and a candidate: `positives` and `negatives` of bool, no pair both."""

    positives: Tensor
    negatives: Tensor

    @property
    def shares(self) -> dict[str, Tensor]:
        """The share () of positive, neutral and negative pairs among all, an anchor with itself included."""
        positive, negative = (kind.float().mean() for kind in (self.positives, self.negatives))
        return {"positive": positive, "neutral": 1 - positive - negative, "negative": negative}


def triage(similarity: Tensor, how: TriageSettings) -> Triaged:
    """Pairs by the similarity (n, n) of their reports: above one threshold, not above the other, or between the two.

    Thresholds are compared in float32; an anchor is always positive to itself.
    """
    close = similarity.float()
    own = torch.eye(len(close), dtype=torch.bool, device=close.device)
    return Triaged((close > how.positive) | own, (close <= how.negative) & ~own)


def direction_loss(logits: Tensor, found: Triaged, factor: Factor) -> Tensor:
    """From anchors (rows) to candidates, over logits z (n, n); other positives are in no denominator.

    L = 1/n Σ_a f_a/|P(a)| Σ_{b in P(a)} -log( exp z_ab / (exp z_ab + Σ_{c in N(a)} exp z_ac) ), where f_a is
    1 / (1 + |N(a)|) as in the released code, or 1 (`plain`). An anchor without negatives adds nothing.
    """
    facing = found.negatives.any(dim=1)
    positives, negatives, rows = found.positives[facing], found.negatives[facing], logits[facing]
    if not len(rows):
        return logits.sum() * 0
    others = rows.masked_fill(~negatives, -torch.inf).logsumexp(dim=1, keepdim=True)
    terms = (softplus(others - rows) * positives).sum(dim=1) / positives.sum(dim=1)
    if factor == "code":
        terms = terms / (1 + negatives.sum(dim=1))
    return terms.sum() / len(logits)


def sat_loss(pairs: Pairs, found: Triaged, how: TriageSettings) -> Tensor:
    """Both directions; the anchor of either is the row of the similarity: α image to text + (1 - α) text to image."""
    logits = pair_logits(pairs)
    forward, back = direction_loss(logits, found, how.factor), direction_loss(logits.T, found, how.factor)
    return how.image_weight * forward + (1 - how.image_weight) * back


def held_out_loss(pairs: Pairs) -> Tensor:
    """What SAT is validated by: without triage, the sum of both directions' cross-entropies."""
    return 2 * clip_loss(pairs)


class FrozenReports:
    """A copy of the text encoder as it stood before training, which learns nothing: vectors of reports to compare."""

    def __init__(self, text: TextModel, device: torch.device) -> None:
        self._encoder: nn.Module = copy.deepcopy(text.model).to(device, torch.float32).eval().requires_grad_(False)

    @torch.no_grad()
    def vectors(self, tokens: Tokens) -> Tensor:
        """Unit vectors (t, width) float32: the last state at the first token that is no padding, `[CLS]` of a BERT."""
        with torch.autocast(tokens.ids.device.type, enabled=False):
            states = self._encoder(input_ids=tokens.ids, attention_mask=tokens.mask, return_dict=True).last_hidden_state
        first = tokens.mask.argmax(dim=1)
        return normalize(states[torch.arange(len(states), device=states.device), first].float(), dim=1)
