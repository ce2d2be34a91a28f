"""What a file of weights holds, read once: the digest of every tensor, kept by the digest of the file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from cxrbench.models import made
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.converted import tensor_digests
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.sealed import DamagedError, read_sealed, write_sealed
from cxrbench.system.sources import code_digest


@dataclass(frozen=True, slots=True)
class Content:
    """`tensors`: dtype, shape and SHA-256 of each by name; `synthetic`: nobody trained these values."""

    tensors: Mapping[str, str]
    synthetic: bool

    def used_digest(self, card: ModelCard) -> str:
        """Hex SHA-256 over the tensors that decide something: the weights' part of every key.

        Those that the card ignores do not (that its model uses none of them is checked when it is loaded, see
        `models.base.load_adapter`), nor do the counters that it says a file may lack.
        """
        idle = (*card.weights.ignored, *card.weights.absent)
        used = {n: told for n, told in self.tensors.items() if not any(fnmatchcase(n, pattern) for pattern in idle)}
        return digest.of_json(used)


def content(path: Path, sha256: str, card: ModelCard, cache: Path) -> Content:
    """The content of a file with that SHA-256, read with the card's container and sections unless it was before.

    Raises IntegrityError for a damaged file and for one that changes while it is read.
    """
    known = known_content(sha256, card, cache)
    if known is not None:
        return known
    facts = card.weights
    read = read_checkpoint(path, facts.container, sections=facts.sections, foreign=facts.foreign)
    found = Content(tensor_digests(read.tensors), are_synthetic(read.tensors))
    if read.sha256 == sha256:  # else it was replaced meanwhile, which loading will tell
        write_sealed(_place(sha256, card, cache), asdict(found))
    return found


def known_content(sha256: str, card: ModelCard, cache: Path) -> Content | None:
    """The content of a file with that SHA-256, if one was ever read here as the card reads it."""
    try:
        return Content(**read_sealed(_place(sha256, card, cache)))
    except (FileNotFoundError, DamagedError, TypeError):
        return None


def _place(sha256: str, card: ModelCard, cache: Path) -> Path:
    facts = card.weights
    reader = code_digest(__name__)
    name = digest.of_json([sha256, facts.container, facts.sections, facts.foreign, reader, made.SEEDS])
    return cache / "tensors" / name[:2] / f"{name}.json"


def are_synthetic(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors of a checkpoint, by the names that the file gives them, are those of `cxrbench.models.made`."""
    matrices = {n: t for n, t in tensors.items() if t.numel() >= made.FEWEST and t.ndim > 1 and t.is_floating_point()}
    smallest = sorted(matrices, key=lambda name: (matrices[name].numel(), name))[:1]
    return made.is_made({name: matrices[name].float().numpy() for name in smallest})
