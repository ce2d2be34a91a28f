"""`check_adapter` and `check_card`: every promise, tried on a loaded model."""

from collections.abc import Callable, Iterator
from pathlib import Path

from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import Adapter, adapter_class, load_adapter
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.system.contained import PASSING
from cxrbench.testing import image_side, text_side
from cxrbench.testing.samples import Samples, samples
from cxrbench.testing.subject import AdapterReport, CheckFinding, Subject, furthest, held, parts, score_difference

Check = Callable[[Subject], Iterator[CheckFinding]]


def check_adapter(
    adapter: Adapter, tried_on: Samples | None = None, *, reduced: Adapter | None = None
) -> AdapterReport:
    """Try a model that is loaded in float32; `reduced` is the same model below float32, for the drift between the two.

    `tried_on`: made pictures by the card's recipe `reality-check` and prompts of CheXpert 5x200 unless given. Works for
    models that compare vectors, for label sides, for models that score by interaction and for models that only see; a
    check that a model's kind has no use for makes no finding. Raises SpecError for a model below float32, DataError if
    its tokenizer is not at hand.
    """
    if adapter.engine.precision != "float32":
        raise SpecError(f"{adapter.card.name} runs in {adapter.engine.precision}; load it in float32 to be checked")
    subject = Subject(adapter, tried_on or samples(adapter.card), reduced)
    checks: tuple[Check, ...] = (_interface, *image_side.CHECKS, *text_side.CHECKS, _drift)
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
    rough = load_adapter(card, weights, text_encoder, device, "bfloat16", recipe=recipe)
    return check_adapter(exact, tried_on or samples(card, recipe), reduced=rough)


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
