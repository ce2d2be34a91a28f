"""What there is by name, with a line about each: model cards, tasks, variants, prompt sets; it imports no model."""

import difflib
import fnmatch
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from cxrbench.errors import SpecError
from cxrbench.specs import card, paths
from cxrbench.specs.card import ModelCard, UnavailableModel, read_card
from cxrbench.specs.prompts import PromptSet, read_prompts
from cxrbench.specs.settings import SettingDocs, Variant
from cxrbench.specs.task import TaskSpec, read_task
from cxrbench.store.schema import read_toml

PAPERS_TASKS = ("chexpert5x200", "mimic5x200", "siim", "rsna", "nih_lt", "vindr", "covid")


def unknown(what: str, name: str, known: Iterable[str]) -> SpecError:
    """The error for a name that does not exist, with the nearest ones that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(names)}"
    return SpecError(f"there is no {what} {name!r}; {hint}")


def select(patterns: Sequence[str], known: Iterable[str], what: str, papers: Sequence[str] = PAPERS_TASKS) -> list[str]:
    """Names chosen by words, comma lists, `all`, `paper` (its `papers`) and globs, in the order asked for, each once.

    Raises SpecError for a word that fits nothing.
    """
    names, chosen = list(known), list[str]()
    for pattern in (part.strip() for text in patterns for part in text.split(",") if part.strip()):
        sets = {"all": names, "paper": [name for name in names if name in papers]}
        fitting = sets[pattern] if pattern in sets else fnmatch.filter(names, pattern)
        if not fitting:
            raise unknown(what, pattern, names)
        chosen.extend(fitting)
    return list(dict.fromkeys(chosen))


def refuse_namesakes(what: str, named: Iterable[tuple[str, str]]) -> None:
    """Raise SpecError where two of the facts that were asked for (word, name in the file) bear one name.

    Records, tables and the store's lists know them by it alone.
    """
    first: dict[str, str] = {}
    for word, name in named:
        if first.setdefault(name, word) != word:
            raise SpecError(
                f"two {what}s are named {name!r}: {first[name]} and {word}. Nothing could tell their records apart: "
                "give one of them another `name`, or ask for them in two commands with an --out of their own."
            )


_PROTOCOLS = "cxrbench.protocols"  # the group of their entry points
_SOURCES = "cxrbench.sources"
_PAPERS = (
    metadata.EntryPoint("zero-shot", "cxrbench.runner.protocols.zero_shot:ZeroShot", _PROTOCOLS),
    metadata.EntryPoint("linear-probe", "cxrbench.runner.protocols.linear_probe:LinearProbe", _PROTOCOLS),
)
_OTHERS = (metadata.EntryPoint("retrieval", "cxrbench.runner.protocols.retrieval:Retrieval", _PROTOCOLS),)
PAPERS_PROTOCOLS = tuple(point.name for point in _PAPERS)
_FEW_SHOT = tuple(
    metadata.EntryPoint(name, f"cxrbench.runner.protocols.{place}", _PROTOCOLS)
    for name, place in {
        "knn-10": "knn:Knn10",
        "knn-20": "knn:Knn20",
        "knn-100": "knn:Knn100",
        "knn-200": "knn:Knn200",
        "simpleshot-un": "simpleshot:SimpleShotUN",
        "simpleshot-l2n": "simpleshot:SimpleShotL2N",
        "simpleshot-cl2n": "simpleshot:SimpleShotCL2N",
        "zs-lp": "zs_lp:ZsLp",
        "zs-lp-cw": "zs_lp:ZsLpClassWeighted",
        "clap": "clap:Clap",
        "clap-shared": "clap:ClapShared",
        "ss-text": "ss_text:SsText",
        "ss-text-plus": "ss_text:SsTextPlus",
        "lp-plus-plus": "lp_plus_plus:LpPlusPlus",
        "lp-plus-plus-drawn": "lp_plus_plus:LpPlusPlusDrawn",
        "tip-adapter": "tip_adapter:TipAdapter",
        "tip-adapter-own-scale": "tip_adapter:TipAdapterOwnScale",
    }.items()
)
_DRAWS = "cxrbench.draws"
_OWN_DRAWS = (
    metadata.EntryPoint("released", "cxrbench.evaluate.draws:Released", _DRAWS),
    metadata.EntryPoint("hash-rank-v1", "cxrbench.evaluate.draws:HashRank", _DRAWS),
    metadata.EntryPoint("standard", "cxrbench.evaluate.ss_text_draws:Standard", _DRAWS),
    metadata.EntryPoint("relaxed", "cxrbench.evaluate.ss_text_draws:Relaxed", _DRAWS),
    metadata.EntryPoint("realistic", "cxrbench.evaluate.ss_text_draws:Realistic", _DRAWS),
)


def _plugin_folders(group: str) -> list[Path]:
    """Folders of installed packages that offer fact files by an entry point; none of their code is imported.

    Raises SpecError that names the entry point of a package that is not there, or not a folder.
    """
    folders = []
    for point in plugin_points(group):
        top, *inner = point.value.split(".")
        found = importlib.util.find_spec(top)  # of the topmost package: for one within it, Python would import that
        places = found.submodule_search_locations if found is not None else None
        folder = next((path for place in places or () if (path := Path(place, *inner)).is_dir()), None)
        if folder is None:
            raise SpecError(f"entry point {point.name} of {group}: there is no package {point.value!r} as a folder")
        folders.append(folder)
    return folders


def plugin_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of a group that installed packages offer; none of their code is imported."""
    return _points(group, tuple(sys.path))


@cache
def _points(group: str, _: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Entry points of the packages on Python's path, which are looked for once a path."""
    return tuple(metadata.entry_points(group=group))


def card_files() -> dict[str, Path]:
    """Model cards by name: built-in ones, then those of installed packages (entry points `cxrbench.model_zoo`)."""
    own = {path.stem: path for path in card.card_files(paths.folder("model_zoo"))}
    others = (path for folder in _plugin_folders("cxrbench.model_zoo") for path in card.card_files(folder))
    return own | {path.stem: path for path in others if path.stem not in own}


def unavailable_models() -> dict[str, UnavailableModel]:
    """Models that are known and cannot be run, by name."""
    files = sorted(paths.folder("model_zoo").glob("*_unavailable.toml"))
    return {model.name: model for model in (read_toml(path, UnavailableModel) for path in files)}


def refuse_unavailable(names: Iterable[str]) -> None:
    """Raise SpecError with the reason if one of the names is that of a model that cannot be run."""
    absent = unavailable_models()
    for name in names:
        if name in absent:
            raise SpecError(f"{name} ({absent[name].title}) cannot be run: {absent[name].unavailable}")


_NO_TASKS = ("settings", "transfer")  # of the files beside the tasks


def task_files() -> dict[str, Path]:
    """Tasks by name: the paper's in its order, other built-in ones, then those of entry points `cxrbench.tasks`."""
    found = {path.stem: path for path in sorted(paths.folder("tasks").glob("*.toml")) if path.stem not in _NO_TASKS}
    order = [name for name in PAPERS_TASKS if name in found]
    own = {name: found[name] for name in [*order, *sorted(found.keys() - set(order))]}
    others = (path for folder in _plugin_folders("cxrbench.tasks") for path in sorted(folder.glob("*.toml")))
    return own | {path.stem: path for path in others if path.stem not in own}


def protocol_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Protocols by name, each by its entry point: the paper's two, other built-in ones, those of installed packages.

    Nothing is imported. A name that two packages use has both.
    """
    return _by_name((*_PAPERS, *_FEW_SHOT, *_OTHERS, *plugin_points(_PROTOCOLS)))


def draw_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Draws of training images by name, built-in ones, then those of installed packages; see `protocol_points`."""
    return _by_name((*_OWN_DRAWS, *plugin_points(_DRAWS)))


def select_protocols(words: Sequence[str]) -> list[str]:
    """Protocols by names, globs such as `knn-*`, `paper` (its two) and `all`; raises SpecError with the nearest."""
    return select(words, protocol_points(), "protocol", PAPERS_PROTOCOLS)


def source_points() -> dict[str, tuple[metadata.EntryPoint, ...]]:
    """Sources of installed packages by name, each by its entry point; see `protocol_points`."""
    return _by_name(plugin_points(_SOURCES))


def _by_name(points: Iterable[metadata.EntryPoint]) -> dict[str, tuple[metadata.EntryPoint, ...]]:
    found: dict[str, tuple[metadata.EntryPoint, ...]] = {}
    for point in dict.fromkeys(points):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def one_point(what: str, name: str, known: Mapping[str, tuple[metadata.EntryPoint, ...]]) -> metadata.EntryPoint:
    """The entry point of a name; raises SpecError with the nearest names where there is none, with both for two."""
    if name not in known:
        raise unknown(what, name, known)
    if len(known[name]) > 1:
        values = " and ".join(point.value for point in known[name])
        raise SpecError(f"two {what}s are called {name}: {values}; remove one of the packages")
    return known[name][0]


def load_card(name: str) -> ModelCard:
    """A card by name, or by the path of a TOML file; raises SpecError with the nearest names.

    Raises SpecError with the reason for a model that cannot be run.
    """
    if name.endswith(".toml"):
        return read_card(Path(name), name)
    files = card_files()
    refuse_unavailable([name])
    if name not in files:
        raise unknown("model", name, files)
    return read_card(files[name])


def load_task(name: str) -> TaskSpec:
    """A task by name, or by the path of a TOML file; raises SpecError with the nearest names."""
    if name.endswith(".toml"):
        return read_task(Path(name), name)
    files = task_files()
    if name not in files:
        raise unknown("task", name, files)
    return read_task(files[name], installed=True)


def known_task(name: str) -> TaskSpec | None:
    """The task that a record names, None where this installation does not have it: one of a user's own file."""
    return load_task(name) if name in task_files() else None


def variant_files() -> dict[str, Path]:
    """Variant bundles by name."""
    return {path.stem: path for path in sorted((paths.folder("tasks") / "variants").glob("*.toml"))}


def load_variant(name: str) -> Variant:
    """A bundle by name, or by the path of a TOML file; raises SpecError with the nearest names."""
    files = variant_files()
    if name not in files and not name.endswith(".toml"):
        raise unknown("variant", name, files)
    return _of_known_draw(read_toml(files.get(name, Path(name)), Variant))


def _of_known_draw(variant: Variant) -> Variant:
    """The variant; raises SpecError with the nearest names for a draw that nothing here brings.

    Records are read wherever they are, also without the package that drew their images: this is asked of a choice.
    """
    if variant.settings.draw not in draw_points():
        raise unknown("draw (setting fewshot.draw)", variant.settings.draw, draw_points())
    return variant


def chosen_variant(name: str, choices: Mapping[str, str], tasks: Iterable[str] = ()) -> Variant:
    """The bundle of that name with other choices; `tasks` are further ones, of one's own, that may get a split.

    Raises SpecError for a bundle, setting or choice that does not exist.
    """
    return _of_known_draw(load_variant(name).with_choices(dict(choices), (*task_files(), *tasks)))


def prompt_files() -> dict[str, Path]:
    """Prompt sets by name that serve every model."""
    return {path.stem: path for path in sorted((paths.folder("tasks") / "prompts").glob("*.toml"))}


def author_prompt_files() -> dict[str, Path]:
    """Prompt sets by name that the authors of single models use; the models' cards say which are theirs."""
    return {path.stem: path for path in sorted((paths.folder("tasks") / "prompts" / "authors").glob("*.toml"))}


def load_prompts(name: str) -> PromptSet:
    """A prompt set by name, those of single models' authors included, or by the path of a TOML file.

    Raises SpecError with the nearest names.
    """
    if name.endswith(".toml"):
        return read_prompts(Path(name))
    files = prompt_files() | author_prompt_files()
    if name not in files:
        raise unknown("prompt set", name, files)
    return read_prompts(files[name])


def setting_docs() -> SettingDocs:
    """What every setting and each of its choices means."""
    return read_toml(paths.folder("tasks") / "settings.toml", SettingDocs)


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task with the number of classes of each of its label groups."""

    name: str
    title: str
    groups: Mapping[str, int]

    @property
    def groups_told(self) -> str:
        """The groups in words, such as `all 5, base 3, new 2`."""
        return ", ".join(f"{name} {classes}" for name, classes in self.groups.items())


def task_lines() -> tuple[TaskLine, ...]:
    """Every task, those of the paper first, in its order."""
    specs = [load_task(name) for name in task_files()]
    return tuple(TaskLine(s.name, s.title, {name: len(labels) for name, labels in s.groups.items()}) for s in specs)
