"""The certificate run: a published layout with synthetic weights through this installation, beside stored figures."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from cxrbench.models.base import Adapter, Runtime, adapter_class, fill_adapter
from cxrbench.models.certificate import PIXEL_STEP, Certificate, CertifiedFigure, Run
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.nets import relative_difference
from cxrbench.models.precision import known_device
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.system.contained import PASSING
from cxrbench.testing.samples import through

# Sums in float32 come in another order with another library or processor: on the CPU figures were met to some 1e-6.
# A GPU's kernels differ by more. Another resize, padding or layer shows from 1e-3 up.
_LIMITS = {"cpu": 1e-4}
_OTHER_DEVICES = 1e-3
_PIXELS, _ABSOLUTE = 1e-5, 1e-5


@dataclass(frozen=True, slots=True)
class CertificateComparison:
    """One output of one run beside the authors' figure; differences as `Figure.by` says."""

    recipe: str
    output: str
    difference: float
    limit: float

    @property
    def equal(self) -> bool:
        """Whether the difference is within the limit; NaN is not."""
        return self.difference <= self.limit


@dataclass(frozen=True, slots=True)
class Proof:
    """All comparisons of a certificate; `problem` says why they ended early, if they did."""

    certificate: str
    title: str
    source: str
    reduced: Mapping[str, tuple[int, int]]
    compared: tuple[CertificateComparison, ...]
    problem: str | None
    seconds: float

    @property
    def worst(self) -> CertificateComparison | None:
        """The output that uses most of its limit."""
        return max(self.compared, key=lambda one: one.difference / one.limit, default=None)

    @property
    def faults(self) -> tuple[str, ...]:
        """What differs, in words."""
        told = [f"{c.output} ({c.recipe}) by {c.difference:.1e}" for c in self.compared if not c.equal]
        return tuple(told) + ((self.problem,) if self.problem else ())


def prove(card: ModelCard, certificate: Certificate, device: str = "cpu") -> Proof:
    """Build the certificate's model by the card's adapter, and compare everything that has a figure.

    What the adapter raises ends the comparison and is told in `problem`. Raises IntegrityError for a certificate whose
    own files are damaged, SpecError for a device that is not there.
    """
    known_device(device)
    started, golden, problem = time.perf_counter(), certificate.golden(), None
    compared: list[CertificateComparison] = []
    try:
        compared.extend(_comparisons(card, certificate, golden, device))
    except PASSING:
        raise
    except BaseException as error:  # the patient may be any library underneath, in any version
        problem = f"the certificate's model raised {type(error).__name__}: {' '.join(str(error).split())[:500]}"
    facts = certificate.name, certificate.title, certificate.source, dict(certificate.reduced)
    return Proof(*facts, tuple(compared), problem, time.perf_counter() - started)


def _comparisons(
    card: ModelCard, certificate: Certificate, golden: Mapping[str, NDArray[np.float32]], device: str
) -> Iterator[CertificateComparison]:
    own_names = card.weights.model_copy(update={"rename": {}})  # a certificate's layout has those of the network
    card = card.model_copy(update={"weights": own_names})
    checkpoint = Checkpoint(Path((card.weights.files or ("made",))[0]), "", _tensors(certificate.weights()))
    models: dict[RecipeName, Adapter] = {}
    with _text_folder(card, certificate) as text:
        for run in certificate.runs:
            if run.used not in models:
                runtime = Runtime(known_device(device), recipe=run.used)
                models[run.used] = fill_adapter(adapter_class(card), card, checkpoint, text, runtime)
            made = _outputs(models[run.used], certificate, run)
            for figure in run.figures:
                wanted = torch.from_numpy(golden[figure.stored].astype(np.float32))
                difference = _difference(made[figure.output], wanted, figure)
                yield CertificateComparison(_name(run), figure.output, difference, _limit(figure, device))


def _tensors(arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """As torch tensors; names of one array share one tensor."""
    shared: dict[int, Tensor] = {}
    return {name: shared.setdefault(id(array), torch.from_numpy(array)) for name, array in arrays.items()}


@contextmanager
def _text_folder(card: ModelCard, certificate: Certificate) -> Iterator[Path | None]:
    """The certificate's tokenizer, with synthetic weights beside it where the card's text encoder has its own file."""
    made = certificate.text_weights()
    small = None if certificate.text is None else certificate.place(certificate.text)
    if made is None or small is None or card.text_encoder is None:
        yield small
        return
    with tempfile.TemporaryDirectory(prefix="cxrbench-doctor-") as name:
        folder = Path(name)
        for file in small.iterdir():
            shutil.copyfile(file, folder / file.name)
        torch.save(_tensors(made), folder / card.text_encoder.weights[0])
        yield folder


def _outputs(model: Adapter, certificate: Certificate, run: Run) -> dict[str, Tensor]:
    """Everything that the run's figures ask for, on the CPU."""
    asked = {figure.output for figure in run.figures}
    recipe = model.card.recipe(run.recipe) if isinstance(run.recipe, str) else run.recipe
    pixels = through(recipe, certificate.images())
    images = model.encode_image(pixels)
    found: dict[str, Tensor] = {"pixels": pixels[:, 0, ::PIXEL_STEP, ::PIXEL_STEP], **images.taps}
    if asked & {"text-joint", "text-projected", "score"}:
        texts = model.encode_text(certificate.prompts)
        found["text-joint"] = texts.joint
        if texts.projected is not None:
            found["text-projected"] = texts.projected
        if "score" in asked:
            found["score"] = model.score(images, texts)
    if "label-score" in asked:
        name, view = next((n, v) for n, v in model.card.views.items() if v.classes == "prototypes")
        classes = model.prototypes(certificate.classes)
        found["label-score"] = images.taps[view.tap] @ classes.T * model.logit_scale(name)
    return {name: tensor.detach().cpu() for name, tensor in found.items()}


def _difference(found: Tensor, wanted: Tensor, figure: CertifiedFigure) -> float:
    """Infinite where shapes differ or a value is not finite; figures may have more rows than pictures were made."""
    count = min(len(found), len(wanted))
    ours, theirs = found[:count].flatten(1), wanted[:count].flatten(1)
    if ours.shape != theirs.shape or not ours.isfinite().all():
        return float("inf")
    if figure.form == "unit":
        theirs = normalize(theirs)
    elif figure.form == "sigmoid":
        ours = ours.sigmoid()
    if figure.by == "absolute":
        return float((ours - theirs).abs().max())
    plain = relative_difference(ours, theirs)
    if figure.by == "rows" or figure.output == "pixels" or count < 2:
        return plain
    mean = theirs.mean(dim=0)
    return max(plain, relative_difference(ours - mean, theirs - mean))


def _limit(figure: CertifiedFigure, device: str) -> float:
    if figure.output == "pixels":
        return _PIXELS
    return _ABSOLUTE if figure.by == "absolute" else _LIMITS.get(torch.device(device).type, _OTHER_DEVICES)


def _name(run: Run) -> str:
    return run.recipe if isinstance(run.recipe, str) else f"another of the {run.used}"
