"""`cxrbench doctor`: a good installation, and what it says of one that is not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made_weights import TEXT_ENCODER, make_checkpoint, small_card, small_layout, zoo_card
from made_zoo import CERTIFIED, MadeModel, made_model
from typer.testing import CliRunner

from cxrbench.checks.doctor import Diagnosis, ExaminedModel, examine, lines
from cxrbench.checks.proof import prove
from cxrbench.cli.main import app
from cxrbench.models.certificate import certificate_for
from cxrbench.models.controls import ClassPrior
from cxrbench.models.dlilp import DLILP
from cxrbench.models.features import ImageFeatures
from cxrbench.specs import paths

CERTIFICATES = paths.folder("model_zoo") / "certificates"
SAME_LIBRARY = {"eva_x_ti", "eva_x_s", "eva_x_b", "ark6_swin_b", "xray_dino"}  # the same operations in the same order
QUICK = "unimodal_m"  # a ResNet-50 without text


def seen(model: MadeModel, cache: Path, **changes: object) -> Diagnosis:
    told = {"weights": model.weights, "text_encoder": model.text_encoder, "device": "cpu", "cache": cache, **changes}
    return examine(ExaminedModel(model.card, **told))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> MadeModel:
    """CLIP loss, C+M, with its text side."""
    return made_model("clip_cm", tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def healthy(clip: MadeModel, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    return seen(clip, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "unimodal" else pytest.mark.slow) for name in sorted(CERTIFIED)]
)
def test_this_installation_computes_what_the_authors_do(name: str) -> None:
    card = zoo_card(CERTIFIED[name].models[0])
    wrapped = card.weights.model_copy(update={"rename": {"": "module."}})  # of one's own file
    proof = prove(card.model_copy(update={"weights": wrapped}), CERTIFIED[name])
    assert not proof.faults
    assert len(proof.compared) == sum(len(run.figures) for run in CERTIFIED[name].runs)
    assert all(one.difference <= one.limit / 2 for one in proof.compared)
    same = name in SAME_LIBRARY
    assert same or any(one.difference > 0 for one in proof.compared)  # two programs hardly agree to the last bit


@pytest.mark.slow
def test_a_good_installation_with_a_good_file(healthy: Diagnosis, clip: MadeModel) -> None:
    assert healthy.answer.verdict == "yes"
    assert healthy.answer.exit_code == 0
    own = healthy.own
    assert own is not None
    assert not own.problems
    assert own.file is not None
    assert own.file.made
    assert own.file.bytes == clip.weights.stat().st_size
    assert own.used is not None
    assert own.ignored is not None
    assert own.file.tensors == own.used + len(own.ignored)
    assert all(own.ignored.values())  # each with its reason
    assert own.file.dtypes.keys() == {"float32", "int64"}
    assert own.report is not None
    assert own.report.passed
    assert own.text is not None
    assert own.text.folder == str(clip.text_encoder)
    assert own.trial is not None
    assert own.trial.asked == "a radiology image of atelectasis"
    assert np.isfinite(own.trial.score)


def test_without_a_file_the_certificate_still_runs(tmp_path: Path) -> None:
    found = examine(ExaminedModel(zoo_card(QUICK), None, None, "cpu", tmp_path))
    assert (found.answer.verdict, found.answer.exit_code) == ("yes", 0)
    assert "no file of weights was looked at" in found.answer.text
    assert found.not_looked_at is not None
    assert "unimodal_M.pth" in found.not_looked_at


def test_a_figure_that_differs_is_named(tmp_path: Path) -> None:
    shutil.copytree(CERTIFICATES, tmp_path / "certificates")
    path = tmp_path / "certificates" / "dlilp" / "figures.npz"
    with np.load(path) as stored:
        figures = {name: stored[name] for name in stored.files}
    figures["image_unprojected"][0, 3] *= 1.01
    np.savez_compressed(path, **figures)
    found = examine(ExaminedModel(zoo_card(QUICK), None, None, "cpu", tmp_path), tmp_path / "certificates")
    assert (found.answer.verdict, found.answer.exit_code) == ("no", 4)
    assert found.answer.text.startswith("pooled (reality-check) by ")
    assert found.proof is not None
    assert [one.output for one in found.proof.compared if not one.equal] == ["pooled"]


def test_pixels_that_differ_are_told_from_a_network_that_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cxrbench.checks import proof

    real = proof.through
    monkeypatch.setattr(proof, "through", lambda recipe, pictures: real(recipe, [p[:, ::-1] for p in pictures]))
    found = prove(zoo_card(QUICK), CERTIFIED["unimodal"])
    assert not found.compared[0].equal
    assert found.compared[0].output == "pixels"


def test_an_adapter_that_falls_is_a_fault_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> object:
        raise AttributeError("torchvision has no resnet50")

    monkeypatch.setattr(DLILP, "load", broken)
    found = prove(zoo_card(QUICK), CERTIFIED["unimodal"])
    assert found.problem == "the certificate's model raised AttributeError: torchvision has no resnet50"
    assert found.faults == (found.problem,)


@pytest.mark.parametrize("name", ["class_prior", "shuffled_labels", "random_resnet50"])
def test_a_negative_control_is_told_for_what_it_is(name: str, tmp_path: Path) -> None:
    card = zoo_card(name)
    found = examine(ExaminedModel(card, None, None, "cpu", tmp_path))
    assert (found.answer.verdict, found.answer.exit_code) == ("control", 0)
    assert "no authors' code to agree with" in found.answer.text
    assert card.notes[-1] in found.answer.text
    told = list(lines(found))
    assert told[-1].startswith("control: ")
    assert not any("cannot tell" in line or line.startswith("certificate") for line in told)


def test_a_control_that_breaks_a_promise_is_at_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ClassPrior, "encode_image", lambda *_: ImageFeatures(torch.full((3, 1), torch.nan)))
    found = examine(ExaminedModel(zoo_card("class_prior"), None, None, "cpu", tmp_path))
    assert (found.answer.verdict, found.answer.exit_code) == ("no", 4)


@pytest.mark.slow
def test_a_file_with_a_renamed_tensor_is_refused_by_name(tmp_path: Path) -> None:
    model = made_model(QUICK, tmp_path)
    made = torch.load(model.weights, weights_only=True)
    made["vision_model.model.stem.weight"] = made.pop("vision_model.model.conv1.weight")
    torch.save(made, model.weights)
    found = seen(model, tmp_path)
    assert (found.answer.verdict, found.answer.exit_code) == ("no", 4)
    assert "1 missing: vision_model.model.conv1.weight" in found.answer.text
    assert "1 left over: vision_model.model.stem.weight" in found.answer.text
    assert found.own is not None
    assert found.own.file is not None
    assert found.proof is not None
    assert not found.proof.faults


@pytest.mark.slow
def test_missing_tokenizer_files_are_named_and_the_images_looked_at(clip: MadeModel, tmp_path: Path) -> None:
    found = seen(clip, tmp_path, text_encoder=tmp_path)
    assert (found.answer.verdict, found.answer.exit_code) == ("cannot tell", 3)
    assert "vocab.txt" in found.answer.text
    assert found.own is not None
    assert found.own.report is not None
    assert found.own.report.passed
    assert any(finding.name == "batch independence of images" for finding in found.own.report.findings)
    assert next(f for f in found.own.report.findings if f.name == "text side").passed is None
    assert found.own.trial is not None
    assert found.own.trial.asked is None


@pytest.mark.slow
def test_no_certificate_is_no_answer(tmp_path: Path) -> None:
    """A card of the user's own: a ResNet-18."""
    card = small_card("clip_cm")
    assert certificate_for(card) is None
    path = tmp_path / card.weights.files[0]
    torch.save(make_checkpoint(small_layout("clip")), path)
    found = seen(MadeModel(card, path, TEXT_ENCODER, card.name), tmp_path)
    assert (found.answer.verdict, found.answer.exit_code) == ("cannot tell", 0)
    assert "no certificate holds for clip_cm" in found.answer.text
    assert found.own is not None
    assert found.own.report is not None
    assert found.own.report.passed


@pytest.mark.slow
def test_the_command_tells_it_in_lines_and_in_json(tmp_path: Path) -> None:
    model = made_model(QUICK, tmp_path)
    words = ["doctor", QUICK, "--device", "cpu", "--cache", str(tmp_path), "--weights"]
    good = CliRunner().invoke(app, [*words, str(model.weights)])
    assert good.exit_code == 0, good.output
    assert good.output.splitlines()[-1].startswith("yes: this installation computes what the authors' code does")
    assert "the file fits, but holds synthetic weights" in good.output.splitlines()[-1]
    assert "  synthetic weights, which nobody trained" in good.output
    count = len(torch.load(model.weights, weights_only=True))
    for part in (
        "sha256 ",
        f"{count} used",
        "kept   batch independence of images",
        "stated drift of pooled",
        "trial: ",
    ):
        assert part in good.output, part
    lost = CliRunner().invoke(app, [*words, str(tmp_path / "nowhere"), "--json"])
    assert lost.exit_code == 3
    told = json.loads(lost.output)
    assert told["answer"]["verdict"] == "cannot tell"
    assert told["own"]["problems"][0]["kind"] == "DataError"
    assert {one["output"] for one in told["proof"]["compared"]} == {"pixels", "pooled", "joint", "label-score"}
    unknown = CliRunner().invoke(app, ["doctor", "unimodal"])
    assert unknown.exit_code != 0


def test_its_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom cxrbench.cli.main import main\nsys.argv = ['cxrbench', 'doctor', '--help']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'transformers', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--text-encoder" in done.stdout
