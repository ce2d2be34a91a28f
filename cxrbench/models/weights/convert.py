"""A published checkpoint as safetensors, once; afterwards no pickle is read again."""

from pathlib import Path

from cxrbench.errors import SpecError
from cxrbench.models.checkpoint import file_format, read_checkpoint
from cxrbench.models.converted import ConversionOrigin, beside, tensors_digest, write_converted
from cxrbench.models.weights.identity import WeightsIdentity, record, weights_identity
from cxrbench.specs.card import ModelCard


def convert(path: Path, card: ModelCard, cache: Path) -> WeightsIdentity:
    """Write `NAME.safetensors` beside the published file `NAME`, read it back, and return its identity.

    Every tensor under the card's container and sections goes into it as it is, ignored ones too, so that the file does
    not depend on what today's adapter needs; all else (optimizer, configuration) stays behind, its names in the header.
    Raises SpecError for a file that is safetensors already, and what `weights_identity` and `read_checkpoint` raise.
    """
    if file_format(path) == "safetensors":
        raise SpecError(f"{path}: is safetensors already; there is nothing to convert")
    facts = card.weights
    identity = weights_identity(path, card, cache)
    found = read_checkpoint(path, facts.container, sections=facts.sections, foreign=facts.foreign)
    told = ConversionOrigin(
        file=path.name,
        sha256=identity.sha256,
        tensors=tensors_digest(found.tensors),
        container=facts.container,
        sections=facts.sections,
        other=found.other,
    )
    write_converted(beside(path), found.tensors, told)
    record(identity, cache)
    made = weights_identity(beside(path), card, cache, accept=True)
    record(made, cache)
    return made
