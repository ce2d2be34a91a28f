"""Open-I, the chest radiographs of Indiana University: reports as XML, packed or not, images flat as PNG or DICOM."""

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from cxrbench.data.listing import image_stem, is_folder, stem_key
from cxrbench.data.search import Visited, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import Shares, holding
from cxrbench.errors import DataError, SpecError, UnreadableError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.store.sealed import DamagedError, read_regular
from cxrbench.types import Partition, Table

PACKED, FOLDER = "NLMCXR_reports.tgz", "ecgen-radiology"
_REPORT = re.compile(r"CXR(\d+)")
_AGAIN = f"Download {PACKED} again."
_LARGEST, _MOST_BYTES = 1 << 20, 1 << 28  # of one report, of all of them, which are of 21 MB
_GZIP, _TAR_END = b"\x1f\x8b", 1024  # a tar ends in so many zero bytes, or more


def _names(image: str) -> tuple[str, ...]:
    """`CXR1_1_IM-0001-3001` is that as PNG, and `1_1_IM-0001-3001` as DICOM."""
    stem = image_stem(image) or image
    return (stem, stem.removeprefix("CXR"))


LAYOUT = Layout(key=stem_key, names=_names, skip=frozenset({FOLDER}))


class Terms(Spec):
    """A label holds where its column, or a synonym of it, occurs within an automatic MeSH term, without regard to case.

    `synonyms`: further texts to look for, by column. One row an image, in the order of the reports' numbers: one part,
    test.
    """

    synonyms: Mapping[str, tuple[str, ...]] = {}


class TermsByReport(Terms, Shares):
    """As Terms, cut into parts by the hash rank of the report."""


@dataclass(frozen=True, slots=True)
class Report:
    """One report: its id (`CXR1`), its images by id, and the automatic MeSH terms as they are spelt."""

    name: str
    images: tuple[str, ...]
    terms: tuple[str, ...]

    @property
    def number(self) -> int:
        """1 of `CXR1`."""
        return int(self.name.removeprefix("CXR"))


def locate(root: Path) -> Path:
    """The folder that holds the reports, packed or in their folder."""
    wanted = f"{PACKED} or folder {FOLDER} of reports"
    return located(root, "Open-I", lambda folder: folder.holds(PACKED) or _has_folder(folder), wanted=wanted)


def _has_folder(folder: Visited) -> bool:
    return FOLDER in folder.names


def reports(folder: Path) -> list[Report]:
    """Every report, by number; the unpacked folder is read where both are there.

    Raises DataError for a file that is no report, with its name, and for two reports or images of one id.
    """
    inside = folder / FOLDER
    files = _from_folder(inside) if is_folder(inside) else _from_archive(folder / PACKED)
    found = sorted((report(data, name) for name, data in files), key=lambda one: one.number)
    if not found:
        raise DataError(f"{folder}: there is no report in {FOLDER}. {_AGAIN}")
    for what, names in (("report", [one.name for one in found]), ("image", [i for one in found for i in one.images])):
        if len(set(names)) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise DataError(f"{folder}: {what} {twice} stands in the reports twice. {_AGAIN}")
    return found


def _from_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.glob("*.xml")):
        try:
            yield str(path), read_regular(path, _LARGEST)
        except (UnreadableError, DamagedError) as error:
            raise DataError(f"{path}: {error.reason}. {_AGAIN}") from error


def _from_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """The regular files named `*.xml`; nothing is written to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked_tar(path)), mode="r:") as archive:
            for member in archive:
                opened = archive.extractfile(member) if member.isreg() and member.name.endswith(".xml") else None
                if opened is not None:
                    yield f"{path}: {member.name}", opened.read()
    except (UnreadableError, DamagedError) as error:
        raise DataError(f"{path}: {error.reason}. {_AGAIN}") from error
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: the archive is cut or damaged ({error}). {_AGAIN}") from error


def _unpacked_tar(path: Path) -> bytes:
    """The tar, whole: `tarfile` itself takes one that was cut for one that ends there."""
    data = read_regular(path, _MOST_BYTES)
    if data.startswith(_GZIP):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path}: is larger than all reports are. Is it the archive?")
    if not data.endswith(bytes(_TAR_END)):
        raise tarfile.ReadError("it does not end as a tar does")
    return data


def report(data: bytes, where: str) -> Report:
    """One report from its XML; raises DataError that begins with `where`.

    A document type, and so any entity of its own, is refused: no report has one.
    """
    root = _parsed(data, where)
    name = _id(root.find("uId"))
    if not _REPORT.fullmatch(name):
        raise DataError(f"{where}: is no report of Open-I: its uId is {name!r}, not CXR and a number. {_AGAIN}")
    images = tuple(_id(image) for image in root.iter("parentImage"))
    if "" in images:
        raise DataError(f"{where}: a parentImage has no id. {_AGAIN}")
    terms = (term.text or "" for mesh in root.iter("MeSH") for term in mesh.findall("automatic"))
    return Report(name, images, tuple(terms))


def _parsed(data: bytes, where: str) -> Element:
    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> None:
        raise DataError(f"{where}: declares a document type, as no report of Open-I does. {_AGAIN}")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"{where}: is no XML, or cut ({error}). {_AGAIN}") from error
    return builder.close()


def _id(element: Element | None) -> str:
    return "" if element is None else element.get("id", "")


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split; a report counts as a patient; see `Source.tables`."""
    spec = rule_of(task, split, ("terms", "terms-by-report"))
    cut = spec.parameters(TermsByReport) if spec.rule == "terms-by-report" else None
    words = _words(task, (cut or spec.parameters(Terms)).synonyms)
    found = reports(folder)
    chosen: dict[str, list[Report]] = {part: [] for part in (cut.shares if cut else ("test",))}
    for one in found:
        chosen[cut.part_of(one.name) if cut else "test"].append(one)
    images = frozenset(image for one in found for image in one.images)
    totals = {
        "reports": len(found),
        "images": len(images),
        "reports_without_image": sum(not one.images for one in found),
    }
    return LabelledParts({part: _table(rows, words, task) for part, rows in chosen.items()}, images, totals)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _words(task: TaskSpec, synonyms: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    """What is looked for, in lower case, by column; raises SpecError for synonyms of no label."""
    if strange := sorted(synonyms.keys() - set(task.columns)):
        raise SpecError(f"synonyms of {strange[0]!r}, which is the column of no label of {task.name}")
    return {c: tuple(word.lower() for word in (c, *synonyms.get(c, ()))) for c in task.columns}


def _table(rows: Sequence[Report], words: Mapping[str, tuple[str, ...]], task: TaskSpec) -> Table:
    held = [_held(one, words) for one in rows]
    found = [names for one, names in zip(rows, held, strict=True) for _ in one.images]
    return Table(
        tuple(image for one in rows for image in one.images),
        holding(found, task.columns),
        task.classes,
        tuple(one.name for one in rows for _ in one.images),
    )


def _held(one: Report, words: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    terms = "\n".join(one.terms).lower()
    return frozenset(column for column, own in words.items() if any(word in terms for word in own))
