"""Which files BioViL, BioViL-T and CXR-CLIP take for theirs, what they say of all others, and of wrong questions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_cosines import BIOVIL, CXR_CLIP, Tensors, bare, text_encoder, text_folder, text_tensors
from made_weights import zoo_card

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import Runtime, adapter_class, checked_pixels
from cxrbench.models.biovil import BioViL, BioViLT, CXRBert
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.specs.recipe import Canvas, Steps

CPU = Runtime(torch.device("cpu"))
NOWHERE = Runtime(torch.device("meta"), memory_format="contiguous")
SOME = {
    "biovil": "projector.model.3.bias",
    "biovil_t": "encoder.vit_pooler.blocks.2.attn.proj_v.weight",
    "cxr_clip": "text_projection.projection.bias",
    "cxr_clip_swin": "image_encoder.image_encoder.encoder.layers.1.blocks.0.output.dense.bias",
}
CHANGES: dict[str, tuple[Callable[[Tensors, str], Tensors], str]] = {
    "dropped": (lambda t, name: {n: v for n, v in t.items() if n != name}, "1 missing: {name}"),
    "renamed": (
        lambda t, name: {n + "_" * (n == name): v for n, v in t.items()},
        "1 missing: {name}; 1 left over: {name}_",
    ),
    "reshaped": (lambda t, name: {**t, name: t[name].new_empty(3)}, r"1 of another shape: {name} \(3,\) instead of \("),
    "more": (lambda t, name: {**t, "text_model.x": torch.zeros(1)}, r"1 left over: text_model\.x"),
}


def opened(name: str, tensors: Tensors, file: str | None = None) -> object:
    """The model of a card with tensors that have no values: as far as coverage goes."""
    card = zoo_card(name)
    checkpoint = Checkpoint(Path(file or card.weights.files[0]), "0" * 64, tensors)
    return adapter_class(card).load(card, checkpoint, None, NOWHERE)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", (*BIOVIL, *CXR_CLIP))
def test_a_file_that_is_not_the_layout_is_refused(name: str, change: str) -> None:
    alter, says = CHANGES[change]
    with pytest.raises(IntegrityError, match=says.format(name=SOME[name].replace(".", r"\."))):
        opened(name, alter(bare(name), SOME[name]))


@pytest.mark.parametrize("name", (*BIOVIL, *CXR_CLIP))
def test_the_layout_is_used_whole(name: str) -> None:
    found = opened(name, bare(name))
    ignored = found.coverage.ignored  # type: ignore[attr-defined]
    assert found.coverage.complete  # type: ignore[attr-defined]
    assert {*found.coverage.used, *ignored} == set(bare(name))  # type: ignore[attr-defined]
    assert all(n.endswith(("fc.weight", "fc.bias", "logit_scale", "position_ids", "_index")) for n in ignored)


def test_the_models_of_one_family_are_told_apart() -> None:
    with pytest.raises(IntegrityError, match=r"missing: encoder\.missing_previous_emb"):
        opened("biovil_t", bare("biovil"))
    with pytest.raises(IntegrityError, match=r"left over: encoder\.missing_previous_emb"):
        opened("biovil", bare("biovil_t"))


@pytest.mark.parametrize(
    ("name", "layout", "file", "says"),
    [
        ("cxr_clip_m", "cxr_clip", "r50_mc.tar", r"looks like CXR-CLIP ResNet-50 \(M\+C\); the card cxr_clip_m wants"),
        (
            "cxr_clip",
            "cxr_clip",
            "r50_mcc.tar",
            r"\(M\+C\+C14\); .*published as r50_mc\.tar\. Take the card cxr_clip_mcc",
        ),
        ("cxr_clip", "cxr_clip_swin", "swint_m.tar", r"like CXR-CLIP Swin-T \(M\); .*Take the card cxr_clip_swin_m,"),
        (
            "cxr_clip_swin",
            "cxr_clip",
            "mine.pt",
            r"ResNet-50 \(M\+C\) / CXR-CLIP ResNet-50 \(M\) / .* the card cxr_clip_swin",
        ),
    ],
)
def test_another_edition_is_refused_by_name_and_another_trunk_by_its_tensors(
    name: str, layout: str, file: str, says: str
) -> None:
    with pytest.raises(IntegrityError, match=says):
        opened(name, bare(layout), file)


@pytest.mark.parametrize("file", ["r50_mc.tar", "cxr-clip.tar", "mine.pt"])
def test_a_name_of_no_edition_is_taken_at_its_word(file: str) -> None:
    assert opened("cxr_clip", bare("cxr_clip"), file)


def test_the_editions_differ_in_files_alone() -> None:
    for family in (
        ("cxr_clip", "cxr_clip_m", "cxr_clip_mcc"),
        ("cxr_clip_swin", "cxr_clip_swin_m", "cxr_clip_swin_mcc"),
    ):
        first, *others = (zoo_card(name) for name in family)
        for other in others:
            own = {field for field, value in other if value != getattr(first, field)}
            assert own <= {"name", "title", "pretraining", "weights", "notes", "published"}
            assert not set(other.weights.files) & set(first.weights.files)
            assert other.weights.url != first.weights.url


@pytest.mark.parametrize(
    ("name", "side", "papers"),
    [("biovil", 480, 512), ("biovil_t", 448, 512), ("cxr_clip", 224, 224), ("cxr_clip_swin", 224, 224)],
)
def test_recipes(name: str, side: int, papers: int) -> None:
    card = zoo_card(name)
    authors, paper = card.recipe("authors"), card.recipe("reality-check")
    assert isinstance(authors, Steps)
    assert isinstance(paper, Canvas)
    assert (authors.size, paper.size, paper.antialias) == (side, papers, False)
    assert paper.mean == ((0.0,) if name in BIOVIL else (0.5,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoder("biovil", tmp_path_factory.mktemp("biovil") / "text")


@pytest.fixture(scope="module")
def text(folder: Path) -> CXRBert:
    return CXRBert(zoo_card("biovil"), folder, CPU)


def test_the_text_file_is_covered_too(tmp_path: Path) -> None:
    made = text_tensors()
    made["cls_projection_head.dense.weight"] = made.pop("cls_projection_head.dense_to_output.weight")
    place = text_encoder("biovil", tmp_path / "text", made)
    with pytest.raises(
        IntegrityError, match=r"text encoder of biovil: 1 missing: .*dense_to_output.*; 1 left over: .*dense"
    ):
        CXRBert(zoo_card("biovil"), place, CPU)


def test_a_folder_without_the_weights_says_what_to_fetch() -> None:
    with pytest.raises(
        DataError, match=r"pytorch_model\.bin is missing.*vocab\.txt and pytorch_model\.bin.*--text-encoder"
    ):
        CXRBert(zoo_card("biovil"), text_folder("biovil"), CPU)


def test_the_ends_of_prompts_do_not_count(text: CXRBert) -> None:
    plain, ended, spaced, comma = (text.features([f"no pneumonia{end}"]).joint for end in ("", "?!.", ". ", ","))
    assert torch.equal(plain, ended)
    assert not torch.allclose(plain, spaced, atol=1e-4)
    assert not torch.allclose(plain, comma, atol=1e-4)


def test_a_text_does_not_depend_on_its_batch(text: CXRBert) -> None:
    texts = ["", "edema", "there is a small left pleural effusion", "a [MASK] effusion"]
    alone = torch.cat([text.features([one]).joint for one in texts])
    assert torch.allclose(text.features(texts).joint, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("no [SEP] edema", r"spells the special token \[SEP\]"),
        ("edema " * 511, "513 tokens; the text encoder takes 512"),
    ],
)
def test_prompts_that_the_authors_refuse(prompt: str, says: str, text: CXRBert) -> None:
    with pytest.raises(SpecError, match=says):
        text.features(["edema", prompt])


def test_a_prior_has_the_size_of_the_grid_and_there_is_one_for_each() -> None:
    model = opened("biovil_t", bare("biovil_t"))
    assert isinstance(model, BioViLT)
    pixels = checked_pixels(torch.zeros(2, 1, 448, 448))
    with pytest.raises(SpecError, match="448 x 448"):
        model.encode_image_with_prior(pixels, torch.zeros(2, 1, 480, 480))
    with pytest.raises(SpecError, match="2 images and 1 priors"):
        model.encode_image_with_prior(pixels, pixels[:1])


def test_there_are_no_prototypes_no_temperature_and_no_options() -> None:
    model = opened("biovil", bare("biovil"))
    assert isinstance(model, BioViL)
    assert model.logit_scale("text") == 1
    with pytest.raises(SpecError, match="no label side"):
        model.prototypes(["Edema"])
    with pytest.raises(SpecError, match="no view 'label'"):
        model.logit_scale("label")
    card = zoo_card("cxr_clip").model_copy(update={"options": {"trunk": "swin"}})
    with pytest.raises(SpecError, match="options: trunk"):
        adapter_class(card).options_digest(card)
