"""Published models from raw files to record, on checkpoints with the published layout and synthetic weights."""

import json
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import made_encoders
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lab import Lab, predictions
from made_weights import zoo_card
from made_zoo import CERTIFIED, MadeModel, certified, made_model, undigested, without_digest
from numpy.typing import NDArray
from written_facts import write_facts

from cxrbench.analysis.paper_tables import table_view
from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Adapter, load_adapter
from cxrbench.models.certificate import certificates
from cxrbench.phantom.write import write
from cxrbench.records.record import Record
from cxrbench.runner.run import RunResult
from cxrbench.specs import catalog, paths
from cxrbench.specs.card import RecipeName, read_card
from cxrbench.specs.paper import published_table
from cxrbench.store import digest
from cxrbench.testing import check_card
from cxrbench.testing.samples import samples

pytestmark = pytest.mark.slow

ENTITIES = tomllib.loads((paths.folder("model_zoo") / "medklip_vocabulary.toml").read_text())["entities"]
FIVE = catalog.load_task("chexpert5x200").groups["all"]
LAYOUTS = [(found.name, name) for found in certificates() for name in found.models]
# Pixels on a side that are enough for networks that take any number of them.
SMALLER = {"kad": 256, "biovil": 240, "xrv_resnet50_512": 224}
# Pictures of the published side, and of one that is enough here: no promise and no step of a run depends on it. The
# doctor's proof and the parity tests take the published one.
EDITIONS = {
    "ark_plus": (768, 384),
    "medimageinsight": (480, 192),
    "radzero": (518, 140),
    "xray_dino": (512, 128),
    "xrv_resnet50_512": (512, 128),
}
BOUND = {"ark_plus", "medimageinsight", "radzero"}  # networks that are built for the side that the options tell


def measured(lab: Lab, place: Path, made: MadeModel, task: str, **changes: object) -> RunResult:
    """A model over the drawn images of a task."""
    files = {"weights": {made.card.name: made.weights}, "text_encoder": made.text_encoder}
    return lab.run(place, [], [task], models=[made.asked], **{**files, "protocols": ["zero-shot"], **changes})


def scores(place: Path, record: Record, fold: int = 0) -> tuple[list[str], NDArray[np.float32]]:
    """The images that a fold scores, and their predicted scores (n, C)."""
    table = pq.read_table(predictions(place, record), filters=[("fold", "=", fold)])
    columns = [table[f"score: {label}"].to_numpy() for label in record.data.labels]
    return table["image"].to_pylist(), np.stack(columns, axis=1)


def loaded(made: MadeModel) -> Adapter:
    return load_adapter(made.card, made.weights, made.text_encoder)


def answers(adapter: Adapter, lab: Lab, task: str, images: Sequence[str], record: Record) -> NDArray[np.float32]:
    """The model's own scores (N, P) of raw files for all texts that the record says were asked."""
    files, recipe = lab.files(task), record.preprocessing.recipe
    batch = [pixels_by(files[image].read_bytes(), image, recipe).array for image in images]
    (asked,) = record.prompts.asked  # type: ignore[union-attr]
    seen = adapter.encode_image(torch.from_numpy(np.stack(batch)))
    return adapter.score(seen, adapter.encode_text(list(asked))).numpy()


def assert_close(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> None:
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.fixture(scope="module")
def kad(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return made_model("kad_224", tmp_path_factory.mktemp("kad_224"))


@pytest.fixture(scope="module")
def medklip(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return made_model("medklip", tmp_path_factory.mktemp("medklip"))


@pytest.fixture(scope="module")
def gloria(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    return made_model("gloria", tmp_path_factory.mktemp("gloria"))


def for_any_task(name: str, folder: Path) -> str:
    """A copy of a set's file that serves any task."""
    told = (paths.folder("tasks") / "prompts" / "authors" / f"{name}.toml").read_text().splitlines()
    path = folder / f"{name}.toml"
    path.write_text("\n".join(line for line in told if not line.startswith("tasks = ")))
    return str(path)


def test_kad_is_asked_a_groups_classes_together(kad: MadeModel, lab: Lab, tmp_path: Path) -> None:
    refused = measured(lab, tmp_path, kad, "covid", groups=["3-class"], prompts=["authors"])
    assert not refused.records
    assert "prompt set 'kad_names' is for chexpert5x200, nih_lt" in str(refused.skipped)
    asked = {"prompts": [for_any_task("kad_names", tmp_path)], "protocols": ["paper"], "shots": (4,)}
    three = measured(lab, tmp_path, kad, "covid", groups=["3-class"], **asked)
    assert not three.problems
    assert not three.skipped
    record = next(r for r in three.records if r.protocol.protocol == "zero-shot")
    assert record.prompts is not None
    assert (record.prompts.set, record.protocol.scoring) == ("kad_names", "interaction")
    assert record.prompts.asked == (("normal", "covid", "pneumonia"),)
    images, found = scores(tmp_path, record)
    assert_close(found, answers(loaded(kad), lab, "covid", images, record))

    again = measured(lab, tmp_path, kad, "covid", groups=["3-class"], **asked)
    assert (again.cached, again.encoded, again.decoded) == (len(three.records), 0, 0)
    assert [r.id for r in again.records] == [r.id for r in three.records]

    probes = measured(lab, tmp_path, kad, "covid", groups=["2-class"], **{**asked, "protocols": ["linear-probe"]})
    assert (len(probes.records), probes.cached, probes.encoded) == (1, 0, 0)  # the vectors are there
    two = measured(lab, tmp_path, kad, "covid", groups=["2-class"], **{**asked, "protocols": ["zero-shot"]})
    (other,) = two.records
    assert other.prompts is not None
    assert other.prompts.asked == (("normal", "covid"),)
    fewer, apart = scores(tmp_path, other)
    assert two.encoded == len(fewer)  # another set of queries is another reading
    assert np.abs(apart - found[[images.index(image) for image in fewer], :2]).min(axis=1).max() > 1e-3


def test_a_pair_is_asked_in_one_set_with_all_others(kad: MadeModel, lab: Lab, tmp_path: Path) -> None:
    settings, pairs = {"sota.preprocessing": "authors"}, [for_any_task("chexzero_pairs", tmp_path)]
    report = measured(lab, tmp_path, kad, "covid", groups=["2-class"], prompts=pairs, settings=settings)
    (record,) = report.records
    assert record.preprocessing.name == "authors"
    assert record.prompts is not None
    assert record.prompts.asked == (("Normal", "COVID", "no Normal", "no COVID"),)
    assert record.prompts.against == ({"Normal": ("no Normal",), "COVID": ("no COVID",)},)
    images, found = scores(tmp_path, record)
    raw = answers(loaded(kad), lab, "covid", images, record)
    assert_close(found, raw[:, :2] - raw[:, 2:])


def test_medklip_is_asked_its_75_entities(medklip: MadeModel, lab: Lab, tmp_path: Path) -> None:
    text = tmp_path / "text"
    shutil.copytree(medklip.text_encoder, text)  # type: ignore[arg-type]
    without = measured(lab, tmp_path, medklip, "chexpert5x200", prompts=["authors"], text_encoder=text)
    assert not without.records
    assert "observation explanation.json" in str(without.problems[0])

    described = {name: f"a finding that is called {name}" for name in ENTITIES}  # the authors' are not ours to pass on
    (text / "observation explanation.json").write_text(json.dumps(described))
    report = measured(lab, tmp_path, medklip, "chexpert5x200", prompts=["authors"], text_encoder=text)
    assert not report.problems
    (record,) = report.records
    assert record.prompts is not None
    assert record.prompts.asked == (tuple(described.values()),)
    assert record.prompts.edition == "none that the card knows"
    own = [name.lower() if name != "Pleural Effusion" else "effusion" for name in FIVE]
    assert record.prompts.drawn == ({label: (described[name],) for label, name in zip(FIVE, own, strict=True)},)
    images, found = scores(tmp_path, record)
    raw = answers(loaded(medklip), lab, "chexpert5x200", images, record)
    assert_close(found, raw[:, [ENTITIES.index(name) for name in own]])


def test_a_class_outside_of_medklips_vocabulary_is_skipped(medklip: MadeModel, lab: Lab, tmp_path: Path) -> None:
    report = measured(lab, tmp_path, medklip, "covid", groups=["2-class"], prompts=["authors", "names"])
    assert not report.problems
    (record,) = report.records  # by a plain set of prompts it can be asked anything
    assert record.prompts is not None
    assert record.prompts.asked == (("a radiology image of normal", "a radiology image of covid"),)
    images, found = scores(tmp_path, record)
    assert_close(found, answers(loaded(medklip), lab, "covid", images, record))
    ((name, reason),) = report.skipped.items()
    assert "medklip_entities" in name
    assert "'COVID'" in reason
    assert all(entity in reason for entity in ENTITIES)


def test_gloria_is_standardised_over_the_images(gloria: MadeModel, lab: Lab, tmp_path: Path) -> None:
    report = measured(lab, tmp_path, gloria, "chexpert5x200", prompts=["gloria_readme"])
    assert not report.problems
    (record,) = report.records
    prompts = catalog.load_prompts("gloria_readme").classes
    assert record.prompts is not None
    assert record.prompts.asked == (tuple(text for name in FIVE for text in prompts[name]),)
    assert (record.protocol.pooling, record.protocol.standardised) == ("max", True)
    assert len(record.folds) == 5
    images, found = scores(tmp_path, record, fold=4)  # over the images of its own fold
    raw = answers(loaded(gloria), lab, "chexpert5x200", images, record).reshape(len(images), 5, 5).max(axis=2)
    assert_close(found, (raw - raw.mean(axis=0)) / raw.std(axis=0))


def test_glorias_scores_are_kept_class_by_class(gloria: MadeModel, lab: Lab, tmp_path: Path) -> None:
    three = measured(lab, tmp_path, gloria, "covid", groups=["3-class"], prompts=["names"])
    assert not three.problems
    assert three.encoded
    two = measured(lab, tmp_path, gloria, "covid", groups=["2-class"], prompts=["names"])
    assert (len(two.records), two.cached, two.encoded, two.decoded) == (1, 0, 0, 0)  # both classes were asked before
    (record,) = two.records
    images, found = scores(tmp_path, record)
    raw = answers(loaded(gloria), lab, "covid", images, record)
    assert_close(found, (raw - raw.mean(axis=0)) / raw.std(axis=0))


@dataclass(frozen=True)
class Drawn:
    """A drawn ChestX-ray14, two images per class in training and one in the test part, and its task for two labels."""

    root: Path
    task: Path
    labels: tuple[str, ...]


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    root, labels = tmp_path_factory.mktemp("nih"), ("Cardiomegaly", "Effusion")
    quotas = {"train": 1, "balanced-val": 1, "balanced-test": 1, "test": 0}
    write("nih_lt", root, images_per_class=quotas, size=(96, 96))
    task = catalog.load_task("nih_lt").model_copy(update={"groups": {"all": labels, "base": labels}})
    return Drawn(root, write_facts(root / "nih_lt.toml", task), labels)


@pytest.fixture(scope="module")
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeModel]:
    """The first model of a certificate. Its files go with the last test of it: hundreds of megabytes."""
    folder = tmp_path_factory.mktemp("layout")
    yield edition(made_model(CERTIFIED[request.param].models[0], folder), folder)
    shutil.rmtree(folder)


def edition(made: MadeModel, folder: Path) -> MadeModel:
    """The model with a card for smaller pictures, where there is one."""
    name = made.card.name
    if name not in EDITIONS:
        return made
    full, small = (f"size = {side}" for side in EDITIONS[name])
    told = without_digest((paths.folder("model_zoo") / f"{name}.toml").read_text())
    facts, mark, recipes = told.partition("[recipes")
    assert full in recipes
    facts = facts.replace(full, small) if name in BOUND else facts
    path = folder / "smaller" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(facts + mark + recipes.replace(full, small))
    return replace(made, card=read_card(path), asked=str(path))


def sibling(made: MadeModel, name: str) -> MadeModel:
    """Another model of the certificate: the same tensors, in a file of the name that its card tells."""
    card = made_encoders.card(name)
    path = made.weights.with_name(Path(card.weights.files[0]).name)
    if not path.exists():
        path.hardlink_to(made.weights)
    return edition(replace(made, card=card, weights=path, asked=undigested(name, path.parent)), path.parent)


@pytest.mark.parametrize("layout", sorted(CERTIFIED), indirect=True)
def test_every_adapter_keeps_its_promises(layout: MadeModel) -> None:
    certificate = certified(zoo_card(layout.card.name))
    recipe: RecipeName = "authors" if "authors" in layout.card.recipes else "reality-check"
    whole = samples(layout.card, recipe)
    side = SMALLER.get(layout.card.name, whole.pixels.shape[-1])
    tried_on = replace(whole, pixels=whole.pixels[..., :side, :side])
    if layout.card.name == "mavl":  # which reads texts of nine lines
        tried_on = replace(tried_on, texts=CERTIFIED["mavl"].prompts)
    report = check_card(layout.card, layout.weights, layout.text_encoder, recipe=recipe, tried_on=tried_on)
    report.require()
    found = {finding.name: finding.figure for finding in report.findings}
    assert {f"drift of {tap}" for tap in layout.card.taps} <= {n for n, figure in found.items() if figure is not None}
    if certificate.prompts:
        assert {"scores of parts", "padding masked", "drift of texts", "drift of scores"} <= found.keys()


@pytest.mark.parametrize(("layout", "name"), LAYOUTS, indirect=["layout"])
def test_every_model_goes_from_raw_files_to_records(
    layout: MadeModel, name: str, lab: Lab, nih: Drawn, tmp_path: Path
) -> None:
    how = {"shots": (1,), "groups": ["base"], "protocols": ["paper"], "variant": "phantom", "batch_size": 6}
    made = sibling(layout, name)
    if name == "mavl":  # which reads nine texts a class, and no other prompts than its own
        how |= {"prompts": ["authors"]}
    report = measured(lab, tmp_path, made, "nih_lt", tasks=[str(nih.task)], data_root=nih.root, **how)
    assert not report.problems
    protocols = {"linear-probe": 5} if made.card.zero_shot is None else {"zero-shot": 1, "linear-probe": 5}
    assert len(report.skipped) == 2 - len(protocols)  # without a text side, prompts are not asked
    drawn = {image for record in report.records for fold in record.folds for image in fold.train}
    assert report.encoded == report.decoded == len(drawn) + len(nih.labels)
    assert {record.protocol.protocol for record in report.records} == protocols.keys()
    for record in report.records:
        assert record.model.synthetic  # known by the values of the weights
        assert record.model.weights_sha256 == digest.of_file(made.weights)
        assert (record.data.task, record.data.labels) == ("nih_lt", nih.labels)
        assert len(record.folds) == protocols[record.protocol.protocol]
        assert all(fold.metrics["balanced_accuracy"] is not None for fold in record.folds)
        assert all(np.isfinite(scores(tmp_path, record, fold.fold)[1]).all() for fold in record.folds)
        assert told(record, synthetic=True) == (record.protocol.protocol == "zero-shot")  # Table 2 probes K = 16
        assert not told(record, synthetic=False)


def told(record: Record, *, synthetic: bool) -> bool:
    """Whether Table 2 shows the record, were its prompts those of the table."""
    if record.prompts is not None:
        record = record.model_copy(update={"prompts": record.prompts.model_copy(update={"set": "ensemble"})})
    view = table_view(published_table(2), [record], record.variant, synthetic=synthetic)
    return any(cell.record == record.id for row in view.rows for cell in row.cells.values())
