"""LP++ as a protocol: a linear probe that blends in the text's logits, by step sizes that follow from the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cxrbench.evaluate.cosine_head import MOMENTUM, together, two_orders
from cxrbench.evaluate.vectors import Float64Array, FloatArray, products, unit
from cxrbench.runner.few_shot import FewShotFold, Scored, Tests
from cxrbench.runner.protocols.with_texts import WithTexts
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

STEPS, ALPHA_EVERY, ALPHA_FACTOR = 300, 10, 250.0
BIAS_SEED = 1


@dataclass(frozen=True, slots=True)
class Blend:
    """B fits: weights (B, C, d), biases (B, C) and multipliers of the text (B, C)."""

    weights: Float64Array
    bias: Float64Array
    alpha: Float64Array


@dataclass(frozen=True, slots=True)
class Rates:
    """The steps of weights and bias, and of the multipliers; and where the multipliers start."""

    weights: float
    alpha: float
    start: float


def lp_plus_plus_rates(features: FloatArray, labels: IntArray, texts: FloatArray) -> Rates:
    """4 N / the largest eigenvalue of F'F; N / (4 max over classes of the sum of squared f_i . t_c); 250 mean cosine.

    The last two take features (n, d) as they come, as SS-Text's form does: the same where they have unit length. A
    class without an image counts as one whose mean is 0. Source: few-shot facts, section 5.
    """
    n, counts = len(labels), np.bincount(labels, minlength=len(texts))
    rows, raw = unit(features), features.astype(np.float64) @ unit(texts).T
    gram = rows @ rows.T if n <= rows.shape[1] else rows.T @ rows
    own = np.bincount(labels, weights=raw[np.arange(n), labels], minlength=len(texts)) / np.maximum(counts, 1)
    largest = float(np.linalg.eigvalsh(gram)[-1])
    return Rates(4 * n / largest, n / (4 * float((raw**2).sum(axis=0).max())), ALPHA_FACTOR * float(own.mean()))


@dataclass(frozen=True, slots=True)
class Start:
    """What is fitted: features (n, d), labels (n,), class vectors (C, d), first bias (C,), orders (B, n) of rows."""

    features: FloatArray
    labels: IntArray
    texts: FloatArray
    bias: Float64Array
    orders: IntArray


def lp_plus_plus(starts: Sequence[Start], steps: int = STEPS) -> list[Blend]:
    """Logits F w + b + a (F T') of unit features and texts, fitted once for each order of each start's rows.

    w starts at the sum of the class's features. SGD with momentum 0.9 on the whole batch; after every tenth step the
    multipliers move by the gradient summed over all steps so far, which the released code never resets. Starts of one
    shape take their steps together. Source: few-shot facts, section 5.
    """
    kinds = [(one.features.shape, one.texts.shape) for one in starts]
    entries = [len(one.orders) * len(one.labels) * min(one.features.shape) for one in starts]
    found = dict[int, Blend]()
    for places in together(kinds, entries):
        whole = _steps([starts[place] for place in places], steps)
        ends = np.cumsum([len(starts[place].orders) for place in places])[:-1]
        parts = (np.split(array, ends) for array in (whole.weights, whole.bias, whole.alpha))
        found |= {place: Blend(*own) for place, own in zip(places, zip(*parts, strict=True), strict=True)}
    return [found[place] for place in range(len(starts))]


def _steps(starts: Sequence[Start], steps: int) -> Blend:
    """All fits to starts of one shape.

    The bias is the weight of a constant feature. What weights have moved by is kept as the sum of their velocities, so
    that logits are `fixed`, which changes with the multipliers alone, and one product. Where rows are fewer than
    dimensions, weights are kept as coefficients over them, which is exact.
    """
    fits, (classes, _), n = [len(one.orders) for one in starts], starts[0].texts.shape, len(starts[0].labels)
    known = [lp_plus_plus_rates(one.features, one.labels, one.texts) for one in starts]
    weight_rate, alpha_rate, begin = (
        np.repeat([getattr(rates, name) for rates in known], fits)[:, None] for name in ("weights", "alpha", "start")
    )
    rows = np.concatenate([unit(one.features)[one.orders] for one in starts])
    labels = np.concatenate([one.labels[one.orders] for one in starts])
    texts = np.repeat(np.stack([unit(one.texts) for one in starts]), fits, axis=0)
    by_text = texts @ rows.transpose(0, 2, 1)
    truth = (labels[:, None, :] == np.arange(classes)[:, None]).astype(np.float64)
    bias = np.repeat(np.stack([one.bias for one in starts]), fits, axis=0)
    bias -= truth.sum(axis=2)  # the weight of the constant feature in `first`
    whole = np.concatenate([rows, np.ones((len(rows), n, 1))], axis=2)
    spanned = n < rows.shape[2]
    across = whole @ whole.transpose(0, 2, 1) if spanned else whole.transpose(0, 2, 1).copy()
    first = truth if spanned else truth @ whole
    start = first @ across + bias[:, :, None]
    across *= -weight_rate[:, :, None]
    summing = by_text if spanned else np.concatenate([texts, np.zeros((*bias.shape, 1))], axis=2)
    alpha, share = np.repeat(begin, classes, axis=1), truth / n
    moved, velocity, slopes = np.zeros_like(summing), np.zeros_like(summing), np.empty_like(truth)
    fixed = start + alpha[:, :, None] * by_text
    for step in range(1, steps + 1):
        np.matmul(moved, across, out=slopes)
        slopes += fixed
        slopes -= slopes.max(axis=1, keepdims=True)
        np.exp(slopes, out=slopes)
        slopes *= 1 / (n * slopes.sum(axis=1, keepdims=True))
        slopes -= share
        velocity *= MOMENTUM
        velocity += slopes if spanned else slopes @ whole
        moved += velocity
        if step % ALPHA_EVERY == 0:
            summed = (1 - MOMENTUM) * moved + MOMENTUM * velocity  # of all gradients so far
            alpha -= alpha_rate * np.einsum("bcq,bcq->bc", summed, summing)
            fixed = start + alpha[:, :, None] * by_text
    last = first - weight_rate[:, :, None] * moved
    weights = last @ whole if spanned else last
    return Blend(weights[:, :, :-1], bias + weights[:, :, -1], alpha)


def blended_logits(test: FloatArray, texts: FloatArray, fit: Blend) -> list[Float64Array]:
    """Logits (m, C) of images (m, d) by each fit."""
    fits, classes, width = fit.weights.shape
    found, size = products(test, np.vstack([fit.weights.reshape(-1, width), unit(texts)]))
    found /= np.where(size > 0, size, 1.0)[:, None]
    by_text = found[:, -classes:]
    return [
        found[:, one * classes : (one + 1) * classes] + fit.bias[one] + fit.alpha[one] * by_text for one in range(fits)
    ]


def drawn_bias(width: int, classes: int, fold: int) -> Float64Array:
    """A bias (C,) as torch starts a linear layer, uniform in +-1/sqrt(d), from NumPy's generator of (seed, fold)."""
    return np.random.default_rng([BIAS_SEED, fold]).uniform(-1, 1, classes) / np.sqrt(width)


class LpPlusPlus(WithTexts):
    """LP++ by its last step, with a bias that starts at zero.

    The released code starts it at random and keeps the step that is best on a validation set, which costs as many
    images again; neither is repeated. Shots need not be equal.
    """

    name = "lp-plus-plus"
    source = "LP++, Huang et al., CVPR 2024; SS-Text's form"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Steps, momentum and the start of the bias."""
        return {
            "steps": STEPS,
            "momentum": MOMENTUM,
            "alpha_every": ALPHA_EVERY,
            "alpha_factor": ALPHA_FACTOR,
            "batch": "all",
            "bias": "starts at 0",
        }

    def bias(self, fold: FewShotFold) -> Float64Array:
        """Where the bias (C,) starts."""
        return np.zeros(len(fold.classes))

    def start(self, fold: FewShotFold) -> Start:
        """What is fitted."""
        orders = two_orders(len(fold.labels), fold.number)
        return Start(fold.train, fold.labels, self.texts(fold).vectors, self.bias(fold), orders)

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Logits (m, C)."""
        start = self.start(fold)
        return _scored(start, lp_plus_plus([start])[0], fold.test)

    def score_folds(self, folds: Sequence[FewShotFold], tests: Tests, settings: Settings) -> Iterator[Scored]:
        """All folds are fitted together."""
        starts = [self.start(fold) for fold in folds]
        for place, (start, fit) in enumerate(zip(starts, lp_plus_plus(starts), strict=True)):
            yield _scored(start, fit, tests(place))


def _scored(start: Start, fit: Blend, test: FloatArray) -> Scored:
    first, second = blended_logits(test, start.texts, fit)
    return Scored(first, STEPS, reordered=second)


class LpPlusPlusDrawn(LpPlusPlus):
    """LP++ with a bias that starts at random, as the released one does, from a generator that the record names."""

    name = "lp-plus-plus-drawn"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """The same with the generator."""
        told = f"uniform in +-1/sqrt(d) from numpy.random.default_rng([{BIAS_SEED}, fold])"
        return {**super().options(settings), "bias": told}

    def bias(self, fold: FewShotFold) -> Float64Array:
        """Where the bias (C,) starts."""
        return drawn_bias(fold.train.shape[1], len(fold.classes), fold.number)
