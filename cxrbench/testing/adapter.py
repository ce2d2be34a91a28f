"""`check_adapter` and `check_card`: every promise, tried on a loaded model."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import Adapter, Padding, adapter_class, load_adapter
from cxrbench.models.features import TextFeatures
from cxrbench.models.nets import SAME
from cxrbench.models.vectors import VectorsFile
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.system.contained import PASSING
from cxrbench.testing.samples import Samples, samples
from cxrbench.testing.subject import (
    AdapterReport,
    CheckFinding,
    Subject,
    furthest,
    held,
    networks,
    parts,
    refused,
    rows,
    score_difference,
    within,
)


def taps(subject: Subject) -> Iterator[CheckFinding]:
    """The taps of the card and no others, in the widths that it says, one row an image."""
    count = len(subject.samples.pixels)
    wanted = {name: (count, width) for name, width in subject.adapter.card.taps.items()}
    found = {name: tuple(vectors.shape) for name, vectors in subject.images.taps.items()}
    yield held("taps", found == wanted, f"as the card says: {wanted}", f"{found}; the card says {wanted}")


def values(subject: Subject) -> Iterator[CheckFinding]:
    """Finite float32 on the device that the engine names."""
    found = parts(subject.images)
    kinds = {name: str(tensor.dtype) for name, tensor in found.items() if tensor.dtype != torch.float32}
    yield held("float32", not kinds, "every vector is float32", f"not float32: {kinds}")
    wild = [name for name, tensor in found.items() if not tensor.isfinite().all()]
    yield held("finite", not wild, "every value is finite", f"not finite: {', '.join(wild)}")
    wanted = torch.device(subject.adapter.engine.device).type
    away = {name: str(tensor.device) for name, tensor in found.items() if tensor.device.type != wanted}
    yield held("device", not away, f"on {wanted}", f"the engine says {wanted}; found {away}")


def gradients(subject: Subject) -> Iterator[CheckFinding]:
    """No vector carries a gradient, also where the caller has gradients on."""
    with torch.enable_grad():
        found = parts(subject.encode(subject.samples.pixels[:2]))
    wanting = [name for name, tensor in found.items() if tensor.requires_grad]
    text = f"gradients on: {', '.join(wanting)}. Encode under torch.inference_mode()"
    yield held("no gradient", not wanting, "no vector carries a gradient", text)


def mode(subject: Subject) -> Iterator[CheckFinding]:
    """Every network is in evaluation mode: no dropout, and batch norm by its stored statistics."""
    nets = list(networks(subject.adapter))
    training = [type(part).__name__ for net in nets for part in net.modules() if part.training]
    if not nets:
        yield CheckFinding("evaluation mode", None, "no torch module hangs on the adapter's attributes; see the others")
        return
    some = ", ".join(sorted(set(training))[:4])
    text = f"{len(training)} modules in training mode ({some}). Call eval() on the network"
    yield held("evaluation mode", not training, f"{len(nets)} networks", text)


def determinism(subject: Subject) -> Iterator[CheckFinding]:
    """The same batch twice gives the same bits."""
    again = parts(subject.encode(subject.samples.pixels))
    other = [name for name, tensor in parts(subject.images).items() if not _same_bits(again.get(name), tensor)]
    apart, _ = furthest(again, parts(subject.images))
    text = f"the same batch twice gives other bits: {', '.join(other)} ({apart:.1e})"
    yield held("determinism of images", not other, "the same bits twice", text)


def batch_independence(subject: Subject) -> Iterator[CheckFinding]:
    """Image i alone, and in a batch in reverse order, as in the batch.

    The limit is that at which two engines count as equal: sums in float32 come in another order with another batch
    size (some 1e-6); what looks at other images of the batch differs by orders of magnitude more.
    """
    pixels, whole = subject.samples.pixels, subject.images
    encode = subject.encode
    count = len(pixels)
    apart = [furthest(parts(encode(pixels[i : i + 1])), parts(rows(whole, [i]))) for i in range(count)]
    apart.append(furthest(parts(encode(pixels.flip(0))), parts(rows(whole, range(count - 1, -1, -1)))))
    worst, name = max(apart)
    yield within("batch independence of images", worst, SAME, f"image i alone and in a batch ({name})")


def untouched(subject: Subject) -> Iterator[CheckFinding]:
    """The pixels that were given are as they were."""
    given = subject.samples.pixels.clone()
    subject.adapter.encode_image(given)
    same = torch.equal(given, subject.samples.pixels)
    yield held("inputs untouched", same, "pixels stay as they were", "encode_image writes into the pixels it is given")


def grey(subject: Subject) -> Iterator[CheckFinding]:
    """One channel means three equal ones."""
    one = subject.samples.pixels[:2, :1]
    encode = subject.encode
    worst, name = furthest(parts(encode(one)), parts(encode(one.repeat(1, 3, 1, 1))))
    yield within("one channel is grey", worst, SAME, f"(N, 1, H, W) and the same three times ({name})")


def refusals(subject: Subject) -> Iterator[CheckFinding]:
    """Pixels of another dtype or shape are refused by SpecError, not cast or guessed at."""
    pixels = subject.samples.pixels[:1]
    wrong: dict[str, Tensor] = {
        "float64": pixels.double(),
        "uint8": torch.zeros(pixels.shape, dtype=torch.uint8),
        "two channels": torch.zeros(1, 2, *pixels.shape[2:]),
        "no batch axis": pixels[0],
    }
    taken = [what for what, batch in wrong.items() if not refused(subject.adapter.encode_image, batch)]
    text = f"taken without a SpecError: {', '.join(taken)}. `cxrbench.models.base.checked_pixels` refuses them"
    yield held("wrong pixels refused", not taken, f"refused: {', '.join(wrong)}", text)


def _same_bits(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and torch.equal(found, wanted)


IMAGE_CHECKS = (
    taps, values, gradients, mode, determinism, batch_independence, untouched, grey, refusals,
)  # fmt: skip


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


TEXT_CHECKS = (text_side, text_batches, text_refusals, scores, views, prototypes)


Check = Callable[[Subject], Iterator[CheckFinding]]


def check_adapter(
    adapter: Adapter, tried_on: Samples | None = None, *, reduced: Adapter | None = None
) -> AdapterReport:
    """Try a model that is loaded in float32; `reduced` is the same model below float32, for the drift between the two.

    `tried_on`: made pictures by the card's recipe `reality-check` and prompts of CheXpert 5x200 unless given. Works for
    models that compare vectors, for label sides, for models that score by interaction and for models that only see; a
    check that a model's kind has no use for makes no finding. Raises SpecError for a model below float32, DataError if
    its tokenizer is not at hand. Of a model whose vectors are given, only their file is looked at.
    """
    if adapter.card.given:
        return AdapterReport(adapter.card.name, tuple(_given(adapter)))
    if adapter.engine.precision != "float32":
        raise SpecError(f"{adapter.card.name} runs in {adapter.engine.precision}; load it in float32 to be checked")
    subject = Subject(adapter, tried_on or samples(adapter.card), reduced)
    checks: tuple[Check, ...] = (_interface, *IMAGE_CHECKS, *TEXT_CHECKS, _drift)
    return AdapterReport(adapter.card.name, tuple(finding for check in checks for finding in _found(check, subject)))


def check_held(adapter: Adapter, tried_on: Samples) -> AdapterReport:
    """The promises that a model in memory can break, without those that its adapter here keeps by itself."""
    subject = Subject(adapter, tried_on)
    checks: tuple[Check, ...] = (taps, values, determinism, batch_independence, text_side, text_batches)
    return AdapterReport(adapter.card.name, tuple(finding for check in checks for finding in _found(check, subject)))


def check_card(
    card: ModelCard,
    weights: Path | None = None,
    text_encoder: Path | None = None,
    device: str = "cpu",
    *,
    recipe: RecipeName = "reality-check",
    tried_on: Samples | None = None,
) -> AdapterReport:
    """Load the model of a card in float32 and in bfloat16, and check it on pixels by the recipe it is loaded for.

    Raises what `cxrbench.models.base.load_adapter` raises, and what `check_adapter` does.
    """
    exact = load_adapter(card, weights, text_encoder, device, recipe=recipe)
    if card.given:
        return check_adapter(exact)
    rough = load_adapter(card, weights, text_encoder, device, "bfloat16", recipe=recipe)
    return check_adapter(exact, tried_on or samples(card, recipe), reduced=rough)


def _given(adapter: Adapter) -> Iterator[CheckFinding]:
    """What a file of vectors holds, all of it read; raises what reading it does."""
    if not isinstance(adapter, VectorsFile):
        raise SpecError(f"{adapter.card.name}: adapter {adapter.card.adapter!r} reads no vectors from a file")
    told = ", ".join(f"{tap} {vectors.shape[1]}" for tap, vectors in adapter.read().items())
    yield CheckFinding("vectors", True, f"of {len(adapter.places)} images by {adapter.options.key}: {told}; all finite")
    if adapter.options.texts is not None:
        texts = adapter.text_vectors()
        yield CheckFinding("texts", True, f"{len(texts)} rows of {texts.shape[1]}; all finite")
    yield CheckFinding("network", None, "none here: nobody can tell which pixels and which model the vectors are of")


def _found(check: Check, subject: Subject) -> list[CheckFinding]:
    """The findings of one check; whatever a stranger's adapter raises is one too, except a file that is not there."""
    found: list[CheckFinding] = []
    try:
        found.extend(check(subject))
    except (DataError, *PASSING):
        raise
    except BaseException as error:
        name = check.__name__.strip("_").replace("_", " ")
        found.append(CheckFinding(name, False, f"raised {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return found


def _interface(subject: Subject) -> Iterator[CheckFinding]:
    """Options that need no weights, and the same digest of them each time."""
    adapter, kind = subject.adapter, adapter_class(subject.adapter.card)
    digests = {kind.options_digest(adapter.card) for _ in range(2)}
    sound = isinstance(adapter, kind) and len(digests) == 1
    text = "the card's adapter, one digest of the options"
    yield held("interface", sound, text, f"{adapter.__class__.__name__} for {adapter.card.adapter}: wanted {text}")


def _drift(subject: Subject) -> Iterator[CheckFinding]:
    """Relative differences between float32 and the precision of `reduced`: stated, not judged."""
    if subject.reduced is None:
        yield CheckFinding("drift", None, "not measured: no model below float32 was given")
        return
    precision = subject.reduced.engine.precision
    seen = subject.reduced.encode_image(subject.samples.pixels.clone())
    for tap, vectors in subject.images.taps.items():
        apart, _ = furthest({tap: seen.taps[tap]}, {tap: vectors})
        yield _stated(f"drift of {tap}", precision, apart)
    if subject.texts is None:
        return
    read = subject.reduced.encode_text(subject.samples.texts)
    yield _stated("drift of texts", precision, furthest({"": parts(read)["joint"]}, {"": subject.texts.joint})[0])
    if subject.adapter.card.views:
        exact = subject.adapter.score(subject.images, subject.texts)
        yield _stated("drift of scores", precision, score_difference(subject.reduced.score(seen, read), exact))


def _stated(name: str, precision: str, figure: float) -> CheckFinding:
    return CheckFinding(name, None, f"float32 to {precision}, largest relative difference: {figure:.1e}", figure)
