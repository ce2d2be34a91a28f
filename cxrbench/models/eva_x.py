"""EVA-X (Yao et al., npj Digital Medicine 2025): EVA-02 transformers with rotary positions, for masked images."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

from torch import Tensor, nn

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import VisionOnly, require_size
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import rename
from cxrbench.models.unfilled import without_values
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

_SIZE, _PATCH, _HEAD = 224, 16, 64  # pixels a side, of a patch, width of an attention head
_EPS = 1e-6

# Parts of timm's names, and of the published ones. The published last norm is put after the mean over patches.
_ALL = (("fc_norm.", "norm."),)
_RENAMED: dict[str, tuple[tuple[str, str], ...]] = {
    "joint": ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3.")),
    "split": (
        (".attn.q_proj.bias", ".attn.q_bias"),
        (".attn.v_proj.bias", ".attn.v_bias"),
        (".mlp.fc1_g.", ".mlp.w1."),
        (".mlp.fc1_x.", ".mlp.w2."),
        (".mlp.norm.", ".mlp.ffn_ln."),
        (".mlp.fc2.", ".mlp.w3."),
    ),
}


class Options(Spec):
    """`matrices`: `joint`, one for queries, keys and values, and one for both halves of the MLP (Ti, S); `split`, one
    each, with a norm inside the MLP (B)."""

    matrices: Literal["joint", "split"]


class EvaX(VisionOnly[Options]):
    """`pooled`: mean of the patches after the last block, then the last norm; the class token is left out."""

    options_type = Options
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        from timm.models.eva import Eva

        width, split = card.taps["pooled"], options.matrices == "split"
        with without_values():
            net = Eva(
                img_size=_SIZE,
                patch_size=_PATCH,
                num_classes=0,
                embed_dim=width,
                depth=layer_count(tensors, "blocks."),
                num_heads=width // _HEAD,
                qkv_fused=not split,
                mlp_ratio=8 / 3,
                swiglu_mlp=True,
                scale_mlp=split,
                norm_layer=partial(nn.LayerNorm, eps=_EPS),
                use_rot_pos_emb=True,
            )
        rename(net, dict(_published(net.state_dict(), options)))
        return {"": net}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than 224."""
        require_size(pixels, _SIZE, self.card.name)
        with runtime.autocast():
            pooled = self.parts[""](pixels)
        return ImageFeatures(pooled.float())


def _published(names: Iterable[str], options: Options) -> Iterable[tuple[str, str]]:
    for name in names:
        found = name
        for own, published in (*_ALL, *_RENAMED[options.matrices]):
            found = found.replace(own, published)
        yield name, found
