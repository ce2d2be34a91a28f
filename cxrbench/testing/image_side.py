"""Promises about image vectors."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cxrbench.models.nets import SAME
from cxrbench.testing.subject import CheckFinding, Subject, furthest, held, networks, parts, refused, rows, within


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


CHECKS = (
    taps, values, gradients, mode, determinism, batch_independence, untouched, grey, refusals,
)  # fmt: skip
