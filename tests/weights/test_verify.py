"""What `weights verify` says of good files and of the wrong ones, and what is told missing, all at once."""

from pathlib import Path

import pytest
import torch
from made_weights import TEXT_ENCODER, make_checkpoint, official_layout, small_card, small_layout, zoo_card

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.weights.verify import missing, verify
from cxrbench.specs.card import Weights

CARD = small_card("clip_cm")
POSITIONS = "text_model.model.embeddings.position_ids"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(make_checkpoint(small_layout("clip")), tmp_path / "clip_CM.pth")
    return tmp_path / "clip_CM.pth"


def test_a_good_file_is_told_with_its_counts_and_format(file: Path, tmp_path: Path) -> None:
    found = verify(CARD, tmp_path, tmp_path / "cache")
    layout = {name for name, *_ in small_layout("clip")}
    assert found.coverage is not None
    assert {*found.coverage.used, *found.coverage.ignored} == layout
    assert set(found.coverage.ignored) == {POSITIONS} & layout
    assert found.format == "torch"
    assert found.identity.fresh
    assert not verify(CARD, tmp_path, tmp_path / "cache").identity.fresh


@pytest.mark.parametrize(("strategy", "says"), [("unimodal", r"\d+ missing: "), ("dlilp", r"\d+ left over: ")])
def test_another_layout_is_refused_with_the_tensors_by_name(strategy: str, says: str, tmp_path: Path) -> None:
    torch.save(make_checkpoint(small_layout(strategy)), tmp_path / "clip_CM.pth")
    with pytest.raises(IntegrityError, match=rf"not the tensors of clip_cm.*{says}"):
        verify(CARD, tmp_path, tmp_path / "cache")


@pytest.mark.slow
def test_the_model_whose_layout_a_file_has_is_named(tmp_path: Path) -> None:
    torch.save(make_checkpoint(official_layout("unimodal")), tmp_path / "clip_CM.pth")
    with pytest.raises(IntegrityError, match=r"has the layout of unimodal_c / unimodal_cm"):
        verify(zoo_card("clip_cm"), tmp_path, tmp_path / "cache")


def test_the_wrong_tensors_do_not_spoil_the_place_for_the_right_file(file: Path, tmp_path: Path) -> None:
    right = file.read_bytes()
    torch.save(make_checkpoint(small_layout("unimodal")), file)
    with pytest.raises(IntegrityError, match="not the tensors"):
        verify(CARD, file, tmp_path / "cache")
    file.write_bytes(right)
    assert verify(CARD, file, tmp_path / "cache").identity.fresh


def test_accept_does_not_take_a_file_that_the_model_cannot_use(file: Path, tmp_path: Path) -> None:
    first = verify(CARD, file, tmp_path / "cache").identity
    right = file.read_bytes()
    torch.save(make_checkpoint(small_layout("unimodal")), file)
    with pytest.raises(IntegrityError, match="not the tensors"):
        verify(CARD, file, tmp_path / "cache", accept=True)
    file.write_bytes(right)
    again = verify(CARD, file, tmp_path / "cache").identity
    assert (again.fresh, again.pin) == (False, first.pin)


def test_no_weights_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights in .*clip_CM\.pth.*--weights"):
        verify(CARD, tmp_path, tmp_path / "cache")


def test_everything_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    found = missing(zoo_card("medklip"), None, empty, tmp_path)
    assert len(found.told) == 2
    assert "checkpoint_final.pth" in (found.weights or "")
    assert "config.json and vocab.txt and pytorch_model.bin or model.safetensors is not in" in (found.text or "")
    assert "revision d5892b39a4adaed74b92212a44081509db72f87b" in (found.text or "")


def test_a_local_folder_with_the_text_files_leaves_only_the_weights(tmp_path: Path) -> None:
    found = missing(CARD, None, TEXT_ENCODER, tmp_path)
    assert (found.text, len(found.told)) == (None, 1)
    biovil = missing(zoo_card("biovil"), None, TEXT_ENCODER, tmp_path)
    assert "pytorch_model.bin" in (biovil.text or "")
    assert "vocab.txt" not in (biovil.text or "")


def test_a_linear_probe_misses_no_text_and_made_tensors_no_file(tmp_path: Path, file: Path) -> None:
    assert missing(CARD, file, tmp_path / "none", tmp_path, text=False).told == ()
    made = CARD.model_copy(update={"weights": Weights(made="drawn"), "text_encoder": None})
    assert missing(made, None, None, tmp_path).told == ()
