"""MedImageInsight (Codella et al., arXiv 2410.06542): a DaViT at 480 pixels, and a text transformer read both ways."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import require_size
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import rename
from cxrbench.models.scaled_cosine import ScaledCosine
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.models.unfilled import without_values
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

IMAGE, TEXT = "image_encoder.", "lang_encoder."
_HEAD, _STAGES, _EPS = 64, 4, 1e-12
_ATTENTION_HEAD = 32  # width of a head, and of a group of channels, on the image side
_NAMES = (  # timm's names, and the file's
    ("stem.conv.", "convs.0.proj."),
    ("stem.norm.", "convs.0.norm."),
    ("head.norm.", "norms."),
)
_PARTS = (
    ("cpe1.proj.", "conv1.fn.dw."),
    ("cpe2.proj.", "conv2.fn.dw."),
    ("norm1.", "{kind}_attn.norm."),
    ("norm2.", "ffn.norm."),
    ("attn.", "{kind}_attn.fn."),
    ("mlp.", "ffn.fn.net."),
)
_BLOCKS = {"0": ("spatial", "window"), "1": ("channel", "channel")}


class Options(Spec):
    """`size`: pixels a side; `width`: of the first stage, doubled by each other; `context`: the tokens of a text."""

    size: int
    width: int
    context: int


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // _HEAD, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, key_padding_mask=padding, need_weights=False)[0]
        wide = self.mlp["c_fc"](self.ln_2(x))
        out: Tensor = x + self.mlp["c_proj"](wide * torch.sigmoid(1.702 * wide))
        return out


class TextTransformer(nn.Module):
    """Token ids and mask (P, L) to the states (P, width) at the first end token; every token sees every other."""

    def __init__(self, width: int, depth: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.resblocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.ln_final = nn.LayerNorm(width, _EPS)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """See the class."""
        states = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.resblocks:
            states = block(states, mask == 0)
        ends = ids.argmax(dim=1)  # the end token has the highest id, and fills what follows
        found: Tensor = self.ln_final(states[torch.arange(len(ids), device=ids.device), ends])
        return found


class Towers(nn.Module):
    """Both encoders, their projections and the logarithm of the factor on cosines; the names are the file's."""

    def __init__(self, image: nn.Module, text: nn.Module, pooled: int, read: int, joint: int) -> None:
        super().__init__()
        self.image_encoder, self.lang_encoder = image, text
        self.image_projection = nn.Parameter(torch.empty(pooled, joint))
        self.lang_projection = nn.Parameter(torch.empty(read, joint))
        self.logit_scale = nn.Parameter(torch.empty(()))


def davit(depths: Sequence[int], width: int) -> nn.Module:
    """Microsoft's DaViT by timm, without values, under the published names; its output is the pooled vector."""
    from timm.models.davit import DaVit

    widths = tuple(width << stage for stage in range(_STAGES))
    heads = tuple(wide // _ATTENTION_HEAD for wide in widths)
    with without_values():
        found: nn.Module = DaVit(
            depths=tuple(depths),
            embed_dims=widths,
            num_heads=heads,
            window_size=12,
            down_kernel_size=3,
            channel_attn_v2=True,
            num_classes=0,
        )
    rename(found, {name: _published(name) for name in found.state_dict()})
    return found


def _published(name: str) -> str:
    """What the file calls a tensor of timm's DaViT."""
    for own, published in _NAMES:
        if name.startswith(own):
            return published + name.removeprefix(own)
    _, stage, kind, rest = name.split(".", 3)
    if kind == "downsample":
        return f"convs.{stage}.{rest.replace('conv.', 'proj.')}"
    number, which, rest = rest.split(".", 2)
    part, attention = _BLOCKS[which]
    for own, published in _PARTS:
        if rest.startswith(own):
            rest = published.format(kind=attention) + rest.removeprefix(own)
            break
    return f"blocks.{stage}.{number}.{part}_block.{rest}"


class MedImageInsight(ScaledCosine[Options]):
    """`pooled` is the norm of the mean over tokens (2048), `joint` its projection at unit length (1024)."""

    options_type = Options
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network for all. Depths and vocabulary are the file's."""
        depths = [layer_count(tensors, f"{IMAGE}blocks.{stage}.") for stage in range(_STAGES)]
        words = tensors.get(f"{TEXT}token_embedding.weight", torch.empty(0, 0))
        with torch.device("meta"):
            text = TextTransformer(
                card.taps["joint"], layer_count(tensors, f"{TEXT}resblocks."), len(words), options.context
            )
        image = davit(depths, options.width)
        with torch.device("meta"):
            joint = card.taps["joint"]
            return {"": Towers(image, text, card.taps["pooled"], joint, joint)}

    @property
    def _towers(self) -> Towers:
        found = self.parts[""]
        assert isinstance(found, Towers)
        return found

    @property
    def scale_and_bias(self) -> tuple[float, float]:
        """See `ScaledCosine.scale_and_bias`; no bias."""
        return float(self._towers.logit_scale.exp()), 0.0

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the model's."""
        require_size(pixels, self.options.size, self.card.name)
        with runtime.autocast():
            pooled = self._towers.image_encoder(pixels)
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(pooled @ self._towers.image_projection))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; cut at the context. DataError if the tokenizer is not at hand."""
        batch = self.tokens(texts)
        longest = int(batch["attention_mask"].sum(dim=1).max())
        with self.runtime.autocast():
            states = self._towers.lang_encoder(*(batch[n][:, :longest] for n in ("input_ids", "attention_mask")))
        projected = states.float() @ self._towers.lang_projection
        return TextFeatures(normalize(projected), projected)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, context); mojibake, curly quotes and HTML are mended first."""
        import ftfy

        mended = [ftfy.fix_text(text) for text in texts]
        batch = self.tokenizer(
            mended, padding="max_length", truncation=True, max_length=self.options.context, return_tensors="pt"
        )
        return {name: batch[name].to(self.runtime.device) for name in ("input_ids", "attention_mask")}

    @cached_property
    def tokenizer(self) -> Any:
        """Raises SpecError where the card names none, DataError where it is not at hand, IntegrityError for another."""
        encoder = self.card.text_encoder
        if encoder is None or encoder.max_tokens != self.options.context:
            raise SpecError(f"{self.card.name}: the card needs a text encoder of {self.options.context} tokens")
        folder = text_files(encoder, self.text_encoder).folder
        found = load_tokenizer("AutoTokenizer", folder)
        words = self._towers.lang_encoder.token_embedding.num_embeddings  # type: ignore[union-attr]
        if len(found) != words or found.pad_token_id != words - 1:
            raise IntegrityError(
                f"{folder}: a tokenizer of {len(found)} tokens that fills with {found.pad_token_id}; the checkpoint "
                f"has {words} word embeddings and fills with the end token, its last"
            )
        return found
