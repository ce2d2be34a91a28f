"""The command that measures a record's cell again."""

import shlex
from collections.abc import Iterator
from functools import cache

from cxrbench.records.record import Record
from cxrbench.records.validity import has_known_card
from cxrbench.specs import catalog
from cxrbench.specs.settings import Variant


def command(record: Record) -> str:
    """The line for a shell; folders of data and weights come from CXRBENCH_DATA and CXRBENCH_WEIGHTS.

    What was read from a file of the user's own stands as `NAME.toml`: a record does not keep its place.
    """
    return shlex.join(["cxrbench", "run", *_words(record)])


def own_files(record: Record) -> tuple[str, ...]:
    """What the command takes from files that this installation does not have, each in words."""
    return tuple(f"{what} is a file of its own: put its path in place of {word}" for what, word in _own(record))


def _words(record: Record) -> Iterator[str]:
    own = dict(_own(record))
    yield from ("--model", own.get("the card", record.model.name), "--task", own.get("the task", record.data.task))
    yield from ("--protocol", record.protocol.protocol)
    if record.protocol.shots is not None:
        yield from ("--shots", str(record.protocol.shots))
    yield from ("--group", record.data.group)
    yield from _variant_words(record, own)
    if record.prompts is not None and record.prompts.source == "prompts":
        yield from ("--prompts", own.get("the prompt set", record.prompts.set))
    if record.runtime.precision != "float32":
        yield from ("--precision", record.runtime.precision)
    if record.data.missing:
        yield "--allow-missing"
    yield "--no-resume"


def _own(record: Record) -> Iterator[tuple[str, str]]:
    if not has_known_card(record):
        yield "the card", f"{record.model.name}.toml"
    if record.data.task not in _tasks():
        yield "the task", f"{record.data.task}.toml"
    told = record.prompts
    if told is not None and told.source == "prompts" and told.digest != _prompts(told.set):
        yield "the prompt set", f"{told.set}.toml"
    if _choices(record) is None:
        yield "the variant", f"{record.variant.partition('+')[0]}.toml"


def _variant_words(record: Record, own: dict[str, str]) -> Iterator[str]:
    yield from ("--variant", own.get("the variant", record.variant.partition("+")[0]))
    for name, choice in sorted((_choices(record) or {}).items()):
        yield from ("--set", f"{name}={choice}")


def _choices(record: Record) -> dict[str, str] | None:
    """What was chosen over the built-in bundle that the variant is named after; None where there is no such bundle."""
    base = _variant(record.variant.partition("+")[0])
    if base is None:
        return None
    before = base.settings.model_dump(mode="json") | {f"{task}.split": name for task, name in base.splits.items()}
    after = record.settings.model_dump(mode="json") | {f"{task}.split": name for task, name in record.splits.items()}
    chosen = {name: str(choice) for name, choice in after.items() if before.get(name) != choice}
    rebuilt = base.with_choices(chosen, record.splits)
    return chosen if rebuilt.digest == record.variant_digest else None


@cache
def _tasks() -> frozenset[str]:
    return frozenset(catalog.task_files())


@cache
def _variant(name: str) -> Variant | None:
    return catalog.load_variant(name) if name in catalog.variant_files() else None


@cache
def _prompts(name: str) -> str | None:
    files = catalog.prompt_files() | catalog.author_prompt_files()
    return catalog.load_prompts(name).digest if name in files else None
