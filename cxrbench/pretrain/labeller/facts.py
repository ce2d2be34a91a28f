"""The labeller's two fact files: phrases of the findings (theirs), triggers of negation and uncertainty (ours)."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from cxrbench.specs import paths
from cxrbench.store import digest
from cxrbench.store.schema import Spec, read_toml

NO_FINDING, DEVICES = "No Finding", "Support Devices"
NAME = "rule labeller after CheXpert"
Kind = Literal["unsure first", "negated", "unsure"]
Side = Literal["before", "after", "both", "between", "within"]


def _compiling(word: str) -> str:
    try:
        re.compile(word)
    except re.error as error:
        raise ValueError(f"{word!r} is no regular expression: {error}") from error
    return word


Words = Annotated[str, AfterValidator(_compiling)]


class Region(Spec):
    """How the phrases of a place are made; `never`: the findings that have them, and phrases left as they are."""

    before: tuple[str, ...]
    side: tuple[str, ...]
    never: Mapping[str, tuple[str, ...]]


class Implied(Spec):
    """A mention of `finding` in one of these `texts` adds an uncertain one of another finding."""

    finding: str
    texts: tuple[str, ...]
    uncertain: str


class Phrases(Spec):
    """`tasks/labeller/phrases.toml`; the keys of `mention` are the findings in the order of the output."""

    notice: str
    mention: Mapping[str, tuple[str, ...]]
    unmention: Mapping[str, tuple[str, ...]]
    region: Region
    implied: tuple[Implied, ...]

    @model_validator(mode="after")
    def _known(self) -> "Phrases":
        named = {
            *self.unmention,
            *self.region.never,
            *(n for one in self.implied for n in (one.finding, one.uncertain)),
        }
        if strange := named - self.mention.keys():
            raise ValueError(f"{sorted(strange)[0]} has no phrases under [mention]")
        if len(self.notice.split()) < 20:
            raise ValueError("the lists may be passed on only with their licence: `notice` must hold it")
        return self

    def voiding(self, finding: str) -> tuple[str, ...]:
        """The phrases that a hit of the finding must not overlap."""
        made: list[str] = []
        if finding in self.region.never:
            own = [p.removeprefix("the ") for p in self.mention[finding] if p not in self.region.never[finding]]
            places = [before + side for before in self.region.before for side in self.region.side]
            made = [f"{place} {phrase}" for place in places for phrase in own]
        return (*self.unmention.get(finding, ()), *made)


class Trigger(Spec):
    """Words (each a regular expression, matched whole) that say something of mentions near them.

    `kind`: "unsure first" is looked for before "negated", and that before "unsure". `side`: the words stand `before` or
    `after` the mention, on either side (`both`), `between` two mentions, or `within` the mention's own text. `reach`:
    at most so many words lie in between. `ends`: what ends the reach, beyond the common ends. `lists`: words after the
    mention speak of earlier members of a list, too; else a comma ends their reach. `only`: the mention's text has one
    of these in it.
    """

    kind: Kind
    side: Side
    words: tuple[Words, ...] = Field(min_length=1)
    reach: int | None = Field(None, ge=0)
    ends: tuple[Words, ...] = ()
    lists: bool = False
    only: tuple[str, ...] = ()


class Triggers(Spec):
    """`tasks/labeller/triggers.toml`.

    `ends` of any reach; `verbs`, of which none may stand between a mention and what is said after it, but one right
    before that; `nothing`: what looks like a negation and is none; `opening`: beginnings of a sentence that negate all
    of it.
    """

    ends: tuple[Words, ...]
    verbs: tuple[Words, ...]
    nothing: tuple[Words, ...]
    opening: tuple[str, ...]
    trigger: tuple[Trigger, ...]


@cache
def phrases() -> Phrases:
    """The phrases that ship with the package."""
    return read_toml(paths.folder("tasks") / "labeller" / "phrases.toml", Phrases)


@cache
def triggers() -> Triggers:
    """The triggers that ship with the package."""
    return read_toml(paths.folder("tasks") / "labeller" / "triggers.toml", Triggers)


def facts_digest() -> str:
    """Hex SHA-256 of what decides a label, code aside: phrases and triggers."""
    return digest.of_json([phrases().model_dump(mode="json", exclude={"notice"}), triggers().model_dump(mode="json")])
