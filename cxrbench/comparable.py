"""What keeps a measured number from being set beside a printed one."""

from collections.abc import Iterator

from cxrbench import catalog
from cxrbench.record import Record


def flaws(record: Record) -> tuple[str, ...]:
    """What keeps a number from being the one of its variant, split, model and prompts; none for a sound record."""
    return (*_incomplete(record), *_strangers(record))


def why_not(record: Record) -> tuple[str, ...]:
    """Reasons against comparing a record with a published number, none if there is none."""
    official = catalog.load_variant("paper-code")
    checks = (
        (record.model.synthetic, "the weights are made"),
        (record.data.synthetic, "the images are made"),
        (record.variant_digest != official.digest, f"the variant is {record.variant}"),
    )
    return (*(reason for holds, reason in checks if holds), *flaws(record))


def _incomplete(record: Record) -> Iterator[str]:
    data = record.data
    if data.reference == "differs":
        yield f"the split is not the known {data.split}: its digest differs"
    if data.missing:
        yield f"{data.missing} images have no file"
    if data.left_out:
        yield f"{len(data.left_out)} images could not be read"
    if record.runtime.precision != "float32":
        yield f"the precision is {record.runtime.precision}"


def _strangers(record: Record) -> Iterator[str]:
    """A card or prompt set that bears a built-in name and is another one."""
    cards, sets, told = catalog.card_files(), catalog.prompt_files(), record.prompts
    name = record.model.name
    if name in cards and catalog.load_card(name).digest != record.model.card_digest:
        yield f"the card {name} is not the built-in one"
    if told is None or told.source != "prompts" or told.set not in sets:
        return
    if catalog.load_prompts(told.set).digest != told.digest:
        yield f"the prompt set {told.set} is not the built-in one"
