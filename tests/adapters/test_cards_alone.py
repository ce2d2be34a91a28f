"""Models that a card alone admits: with a shallow network of their kind, vectors are the library's own."""

from pathlib import Path

import pytest
import torch
from made_hub import CLOSE, drawn, load, relative_difference
from made_weights import zoo_card
from safetensors.torch import load_file
from transformers import AutoModel, CLIPConfig, Dinov2Config, DINOv3ViTConfig, SiglipConfig
from transformers.configuration_utils import PretrainedConfig

from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import adapter_class
from cxrbench.specs.recipe import Steps

PATCH = {"vit_b16": 16, "vit_l14": 14, "siglip_b16": 16, "siglip_l16": 16}
XRAY = [f"xray{loss}_{kind}" for loss in ("clip", "siglip") for kind in PATCH]
BY_FILE = [*XRAY, "pubmedclip", "siglip2_b16", "dinov3_b16"]  # whose configuration is the published file alone
PLAIN = ["rad_dino_maira2", "xray_dinov2", "dinov2_b14"]


def shallow(name: str) -> PretrainedConfig:
    """A configuration with one layer, and with the widths and the picture's size that the card states."""
    card = zoo_card(name)
    width, joint, size = card.taps["pooled"], card.taps.get("joint"), card.recipe("authors").size
    common = {"hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": width // 64}
    seen = {**common, "intermediate_size": 64, "image_size": size}
    seen["patch_size"] = 32 if name == "pubmedclip" else PATCH.get(name.partition("_")[2], 16)
    if name in PLAIN:
        return Dinov2Config(**{**common, **card.options["config"], "mlp_ratio": 1})
    if name == "dinov3_b16":
        return DINOv3ViTConfig(**seen, num_register_tokens=4)
    read = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 64}
    read |= {"vocab_size": 99, "max_position_embeddings": 64}
    if name.partition("_")[2].startswith("siglip") or name == "siglip2_b16":
        return SiglipConfig(text_config={**read, "projection_size": width}, vision_config=seen)
    assert joint is not None
    return CLIPConfig(text_config={**read, "hidden_act": "gelu"}, vision_config=seen, projection_dim=joint)


@pytest.mark.parametrize("name", [*BY_FILE, *PLAIN])
def test_vectors_are_the_librarys(name: str, tmp_path: Path) -> None:
    config, card = shallow(name), zoo_card(name)
    theirs = drawn(AutoModel.from_config(config))
    told = card.model_copy(update={"options": {**card.options, "config": config.to_dict()}})
    theirs.save_pretrained(tmp_path)
    ours = load(told, load_file(tmp_path / "model.safetensors"))
    size = card.recipe("authors").size
    pixels = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0))
    found = ours.encode_image(pixels)
    with torch.inference_mode():
        if "joint" in card.taps:
            wanted = theirs.get_image_features(pixel_values=pixels)
            wanted = torch.nn.functional.normalize(getattr(wanted, "pooler_output", wanted))
            assert found.joint is not None
            assert relative_difference(found.joint, wanted) <= CLOSE
            assert found.pooled.shape == (2, card.taps["pooled"])
        else:
            wanted = theirs(pixel_values=pixels).last_hidden_state[:, 0]
            assert relative_difference(found.pooled, wanted) <= CLOSE
    if card.zero_shot is not None:
        with pytest.raises(SpecError, match="alone"):
            ours.encode_image(pixels[..., :-16, :-16])


@pytest.mark.parametrize("name", BY_FILE)
def test_a_configuration_that_is_not_at_hand_is_asked_for(name: str) -> None:
    card = zoo_card(name)
    with pytest.raises(DataError, match=rf"hf download {card.weights.hub} config\.json"):
        adapter_class(card).options_digest(card)


@pytest.mark.parametrize("name", [*BY_FILE, *PLAIN])
def test_what_was_not_checked_is_said(name: str) -> None:
    card = zoo_card(name)
    said = " ".join(card.notes)
    assert any(word in said for word in ("not read", "not seen", "not checked"))
    recipe = card.recipe("authors")
    assert isinstance(recipe, Steps)
    assert recipe.files == "colour"
    assert card.recipe("reality-check").size == recipe.size
