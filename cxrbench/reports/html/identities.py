"""Where numbers are from, each source once: cells link to it instead of repeating its digests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cxrbench.records.record import Record
from cxrbench.reports.html.cells import CellPage
from cxrbench.reports.html.show import settled

NOT_TOLD = "not recorded"
Told = tuple[str, ...]

HEADS: Mapping[str, Told] = {
    "Weights": ("model", "file", "SHA-256", "adapter", "card digest", "text encoder", "pre-trained on"),
    "Splits": ("task", "split", "digest of the rows", "digest of the images' bytes", "known split?"),
    "Preprocessing": ("recipe", "digest", "steps"),
    "Prompts": ("set", "source", "digest"),
    "Variants": ("variant", "version", "digest", "settings"),
    "Code": ("version", "digest of the sources", "commit"),
}


@dataclass(slots=True)
class Identities:
    """All sources by kind, each with the fragment that it is found by."""

    found: dict[str, dict[Told, str]] = field(default_factory=lambda: {kind: {} for kind in HEADS})

    def of(self, record: Record) -> dict[str, str]:
        """The fragments of a record's sources, by kind."""
        told = _told(record)
        return {kind: self.found[kind].setdefault(line, self._next(kind)) for kind, line in told.items()}

    def shared(self, pages: Sequence[CellPage]) -> dict[str, str]:
        """The fragments of those sources that all the pages have."""
        each = [self.of(page.record) for page in pages]
        return {kind: anchor for kind, anchor in each[0].items() if all(own.get(kind) == anchor for own in each)}

    def _next(self, kind: str) -> str:
        return f"{kind[0].lower()}{len(self.found[kind])}-{kind.lower()}"


def identities(records: Iterable[Record]) -> Identities:
    """The sources of all records, in their order."""
    found = Identities()
    for record in records:
        found.of(record)
    return found


def _told(record: Record) -> dict[str, Told]:
    model, data, code, prompts = record.model, record.data, record.code, record.prompts
    text = " ".join(filter(None, (model.text_encoder, model.text_encoder_digest))) or "none"
    adapter = f"{model.adapter} code {model.code[:16]}"
    recipe = record.preprocessing.recipe.model_dump(mode="json")
    lines: dict[str, Told] = {
        "Weights": (
            model.name,
            model.weights_file,
            model.weights_sha256 or NOT_TOLD,
            adapter,
            model.card_digest,
            text,
            model.pretraining or NOT_TOLD,
        ),
        "Splits": (data.task, data.split, data.partition_digest, data.contents_digest, data.reference),
        "Preprocessing": (record.preprocessing.name, record.preprocessing.digest, settled(recipe)),
        "Variants": (
            record.variant,
            str(record.variant_version),
            record.variant_digest,
            settled(record.settings.model_dump(mode="json")),
        ),
        "Code": (code.version, code.sources, code.commit or NOT_TOLD),
    }
    if prompts is not None:
        lines["Prompts"] = (prompts.set, prompts.source, prompts.digest)
    return lines
