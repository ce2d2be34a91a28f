"""What a run that goes on must share with its checkpoint, and what it was computed with, which it need not.

What a person chooses (recipe, images, labels, weights) must be the same: else two halves of a run would be of two
experiments. What the machine brings (code, libraries, device) may change, as it will during weeks; it moves results at
most as another machine does. It is kept step by step, said when a run goes on, and stands in the card.
"""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from cxrbench.pretrain.image_files import pixel_code, version
from cxrbench.system.sources import code_digest

_LIBRARIES = ("torch", "numpy", "lightning-fabric", "torchvision", "timm", "transformers", "tokenizers")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run must have in common with its checkpoint.

    `config`: see `Config.going_on`; `images`: digest of the files' bytes and of which could be read, row by row;
    `batch` is that of all processes together; `precision` in Fabric's words, never `auto`; `weights`, `text`: SHA-256
    of the file that the trunk starts from, digest of the text encoder's files; "" where there are none.
    """

    config: str
    corpus: str
    images: str
    batch: int
    precision: str
    weights: str
    text: str


def difference(found: Identity, wanted: Identity) -> str:
    """What two runs do not have in common, and how to mend it; of several things the first."""
    told = {
        "corpus": "another corpus; give the same sources, roots and options",
        "images": "other images: files changed, went or came back, or another part of them can be read (corpus.json "
        "there names those that could not be); restore them",
        "batch": f"{found.batch} images a step, not {wanted.batch}; keep data.batch_size times the number of processes",
        "precision": f"precision {found.precision}, not {wanted.precision}; set engine.precision",
        "weights": "another file image.weights; give the one that it started from",
        "text": "other files of the text encoder; give those that it started from",
        "config": "another configuration (config.toml there); give the same settings",
    }
    first = next(name for name in told if getattr(found, name) != getattr(wanted, name))
    return f"{told[first]}, or take another --out"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What computes, from step `since` on: digests of the code that trains and of that which makes pixels, libraries
    with their versions, and the device, with the number of processes.
    """

    code: str
    pixels: str
    libraries: str
    device: str
    since: int = 0

    def differing(self, other: "Surroundings") -> tuple[str, ...]:
        """The names of what is not the same; where it began aside."""
        names = [field.name for field in fields(self) if field.name != "since"]
        return tuple(name for name in names if getattr(self, name) != getattr(other, name))


def training_code() -> str:
    """Digest of the code that decides a run's weights, given its corpus and pixels."""
    return code_digest("cxrbench.pretrain.loop", stop_at=frozenset({"cxrbench.pretrain.log"}))


def surroundings(ranks: int, device: torch.device) -> Surroundings:
    """Those of one of `ranks` processes that computes on `device`."""
    found = [f"{name} {told}" for name in _LIBRARIES if (told := version(name))]
    libraries = ", ".join([f"python {platform.python_version()}", *found])
    return Surroundings(training_code(), pixel_code(), libraries, f"{ranks} x {_device(device)}")


def carried_on(history: Sequence[Surroundings], now: Surroundings, step: int) -> tuple[Surroundings, ...]:
    """The history of a run that goes on from a step: as it is, or longer where something is not as it was last."""
    if history and not now.differing(history[-1]):
        return tuple(history)
    return (*history, replace(now, since=step))


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    return device.type
