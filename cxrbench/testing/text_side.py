"""Promises about texts, classes and scores."""

from collections.abc import Iterator
from dataclasses import replace
from math import isfinite

import torch

from cxrbench.models.base import Padding
from cxrbench.models.features import TextFeatures
from cxrbench.models.nets import SAME
from cxrbench.testing.subject import (
    CheckFinding,
    Subject,
    furthest,
    held,
    parts,
    refused,
    rows,
    score_difference,
    within,
)

_NOBODY = "no such view or class, by design"


def text_side(subject: Subject) -> Iterator[CheckFinding]:
    """Texts become finite float32 rows; where the card has a view by prompts, there must be a text side."""
    found = subject.texts
    if not subject.samples.texts:
        yield CheckFinding("text side", None, "not looked at: no texts to try it on")
    elif found is None:
        yield CheckFinding("text side", True, "none, and no view of the card asks for one")
    else:
        tensors = parts(found)
        odd = [
            name
            for name, tensor in tensors.items()
            if len(tensor) != len(subject.samples.texts)
            or (name != "mask" and tensor.dtype != torch.float32)
            or not tensor.isfinite().all()
            or tensor.requires_grad
        ]
        text = f"one finite float32 row a text, without gradient: {', '.join(tensors)}"
        yield held("text side", not odd, text, f"not one finite float32 row a text without gradient: {', '.join(odd)}")


def text_batches(subject: Subject) -> Iterator[CheckFinding]:
    """The same texts give the same bits; their order and, with masked padding, their company change nothing.

    The `released` padding of some models lets a text see how long the longest of its batch is: stated, not judged.
    """
    if subject.texts is None:
        return
    texts, encode = list(subject.samples.texts), subject.adapter.encode_text
    same = all(torch.equal(parts(encode(texts))[name], tensor) for name, tensor in parts(subject.texts).items())
    yield held("determinism of texts", same, "the same bits twice", "the same texts twice give other bits")
    turned, _ = furthest(_vectors(encode(texts[::-1])), {n: t.flip(0) for n, t in _vectors(subject.texts).items()})
    yield within("order of texts", turned, SAME, "texts in reverse order")
    masked = max(_alone_and_together(subject, "masked"))
    yield within("padding masked", masked, SAME, "a text alone and in a batch, padding masked")
    released = max(_alone_and_together(subject, "released"))
    text = f"a text alone and in a batch, padding as released: {released:.1e}"
    yield CheckFinding("padding released", None, text, released)


def _alone_and_together(subject: Subject, padding: Padding) -> Iterator[float]:
    texts, encode = list(subject.samples.texts), subject.adapter.encode_text
    whole = _vectors(encode(texts, padding))
    for i, text in enumerate(texts):
        yield furthest(_vectors(encode([text], padding)), {name: t[i : i + 1] for name, t in whole.items()})[0]


def text_refusals(subject: Subject) -> Iterator[CheckFinding]:
    """No text, and a bare string, are refused by SpecError."""
    if subject.texts is None:
        return
    wrong: tuple[object, ...] = ([], subject.samples.texts[0])
    taken = [repr(given) for given in wrong if not refused(subject.adapter.encode_text, given)]
    text = f"taken without a SpecError: {', '.join(taken)}"
    yield held("wrong texts refused", not taken, "refused: an empty list, a bare string", text)


def scores(subject: Subject) -> Iterator[CheckFinding]:
    """`score(a) ++ score(b) == score(a ++ b)` over images.

    Over texts too where the card's views compare vectors; where it asks all texts as one set, what the others change is
    stated.
    """
    if subject.texts is None or not subject.adapter.card.views:
        return
    score, texts, pixels = subject.adapter.score, subject.texts, subject.samples.pixels
    whole = score(subject.images, texts)
    shape = (len(pixels), len(subject.samples.texts))
    sound = tuple(whole.shape) == shape and whole.dtype == torch.float32 and bool(whole.isfinite().all())
    text = f"{tuple(whole.shape)} {whole.dtype}, or not finite; wanted {shape} float32"
    yield held("scores", sound and not whole.requires_grad, f"{shape}, finite float32", text)
    split = [subject.encode(part) for part in (pixels[:1], pixels[1:])]
    together = torch.cat([score(part, texts) for part in split])
    yield within("scores of parts", score_difference(together, whole), SAME, "score(a) ++ score(b) and score(a ++ b)")
    again = torch.cat([score(rows(subject.images, [i]), texts) for i in range(len(pixels))])
    yield within("scores row by row", score_difference(again, whole), SAME, "rows of features scored one by one")
    alone = score_difference(score(subject.images, _head(texts)), whole[:, :1])
    if subject.by_interaction:
        yield CheckFinding(
            "texts asked alone", None, f"the first text asked alone scores otherwise by {alone:.1e}", alone
        )
    else:
        yield within("texts asked alone", alone, SAME, "the first text asked alone and with the others")


def views(subject: Subject) -> Iterator[CheckFinding]:
    """A positive factor for every view of the card, and SpecError for a view or class that does not exist."""
    adapter = subject.adapter
    factors = {view: adapter.logit_scale(view) for view in adapter.card.views}
    sound = all(isfinite(factor) and factor > 0 for factor in factors.values())
    yield held("logit scale", sound, f"of each view: {factors}", f"not positive and finite: {factors}")
    unknown = refused(adapter.logit_scale, _NOBODY)
    yield held("unknown view refused", unknown, "SpecError", "logit_scale takes a view that is not on the card")
    unknown = refused(adapter.prototypes, [_NOBODY])
    yield held("unknown class refused", unknown, "SpecError", "prototypes takes a class that it cannot know")


def prototypes(subject: Subject) -> Iterator[CheckFinding]:
    """Class vectors of unit length in the width of the view's tap, each independent of the others."""
    wanted = [view for view in subject.adapter.card.views.values() if view.classes == "prototypes"]
    classes = list(subject.samples.classes)
    if not wanted or not classes:
        return
    found = subject.adapter.prototypes(classes)
    shapes = {(len(classes), subject.adapter.card.taps[view.tap]) for view in wanted}
    unit = float((found.norm(dim=1) - 1).abs().max())
    yield held("prototypes", {tuple(found.shape)} == shapes, f"{shapes}", f"{tuple(found.shape)} instead of {shapes}")
    yield within("prototypes of unit length", unit, SAME, "length beside 1")
    turned = subject.adapter.prototypes(classes[::-1]).flip(0)
    yield within("order of classes", furthest({"": turned}, {"": found})[0], SAME, "classes in reverse order")


def _vectors(texts: TextFeatures) -> dict[str, torch.Tensor]:
    """Those whose shape no batch mate decides."""
    return {name: tensor for name, tensor in parts(texts).items() if name in {"joint", "projected"}}


def _head(texts: TextFeatures) -> TextFeatures:
    return replace(texts, **{name: tensor[:1] for name, tensor in parts(texts).items()})


CHECKS = (text_side, text_batches, text_refusals, scores, views, prototypes)
