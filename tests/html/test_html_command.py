"""The command of a cell asks for that cell again, choice by choice."""

import shlex

import pytest
from made_records import made_record

from cxrbench.records.record import Record
from cxrbench.reports.html.cells import command, own_files
from cxrbench.runner.options import pairs
from cxrbench.specs import catalog
from cxrbench.specs.settings import Variant


def options(record: Record) -> dict[str, list[str]]:
    """The words of the command by option; raises where it is not `cxrbench run`."""
    program, verb, *rest = shlex.split(command(record))
    assert (program, verb) == ("cxrbench", "run")
    found: dict[str, list[str]] = {}
    for word in rest:
        if word.startswith("--"):
            last = found.setdefault(word, [])
        else:
            last.append(word)
    return found


def of_variant(variant: Variant) -> Record:
    return made_record(
        variant_digest=variant.digest,
        splits=dict(variant.splits),
        settings=variant.settings.model_dump(mode="json"),
    ).model_copy(update={"variant": variant.name})


def test_a_probe_is_asked_for_by_its_shots() -> None:
    told = options(made_record())
    assert told["--model"] == ["clip_cm"]
    assert told["--shots"] == ["16"]
    assert told["--protocol"] == ["linear-probe"]
    assert "--prompts" not in told
    assert not own_files(made_record())


@pytest.mark.parametrize("base", ["paper-code", "cxrbench-v1", "phantom"])
@pytest.mark.parametrize(
    "changes", [{}, {"lp.solver": "scikit-learn", "rsna.split": "gloria"}, {"resize.antialias": "on"}]
)
def test_the_variant_of_the_command_is_the_record_s(base: str, changes: dict[str, str]) -> None:
    variant = catalog.load_variant(base).with_choices(changes)
    told = options(of_variant(variant))
    again = catalog.load_variant(told["--variant"][0]).with_choices(pairs(told.get("--set"), "--set"))
    assert again.digest == variant.digest


def test_prompts_are_named_and_prototypes_are_not() -> None:
    words = {"set": "names", "digest": catalog.load_prompts("names").digest, "source": "prompts"}
    how = {"protocol__protocol": "zero-shot", "protocol__shots": None}
    assert options(made_record(prompts=words, **how))["--prompts"] == ["names"]
    own = {"set": "prototypes", "digest": "0" * 64, "source": "prototypes"}
    assert "--prompts" not in options(made_record(prompts=own, **how))


def test_what_is_the_users_own_is_named_as_a_file() -> None:
    record = made_record(model__name="heron; rm -rf /", model__card_digest="0" * 64)
    assert options(record)["--model"] == ["heron; rm -rf /.toml"]
    assert any("the card" in note for note in own_files(record))


def test_missing_images_and_reduced_precision_are_asked_for_again() -> None:
    told = options(made_record(data__missing=3, runtime__precision="bfloat16"))
    assert told["--precision"] == ["bfloat16"]
    assert "--allow-missing" in told
