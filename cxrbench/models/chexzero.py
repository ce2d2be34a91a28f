"""CheXzero (Tiu et al., Nature Biomedical Engineering 2022): OpenAI's CLIP ViT-B/32, fine-tuned on reports."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

_HEAD = 64  # width of an attention head in all of OpenAI's models


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        rows, length, width = x.shape
        mixed = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = mixed.view(rows, length, 3, width // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=causal)
        out: Tensor = self.out_proj(seen.transpose(1, 2).reshape(rows, length, width))
        return out


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _Attention(width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, depth: int, causal: bool) -> None:
        super().__init__()
        self._causal = causal
        self.resblocks = nn.ModuleList(_Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, self._causal)
        return x


class ClipImage(nn.Module):
    """Pixels (N, 3, S, S) to the class token after the last norm (N, width); `proj` (width, d) is applied by others."""

    def __init__(self, width: int, depth: int, patch: int, size: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Transformer(width, depth, causal=False)
        self.proj = nn.Parameter(torch.empty(width, embedding))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        out: Tensor = self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0])
        return out


class ClipTowers(nn.Module):
    """Both towers; text is read left to right, and its vector is that at the end token, the highest of the ids."""

    def __init__(self, image: ClipImage, width: int, depth: int, vocabulary: int, context: int, embedding: int) -> None:
        super().__init__()
        self.visual = image
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = _Transformer(width, depth, causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def text_states(self, ids: Tensor) -> Tensor:
        """Token ids (P, context) to (P, width) after the last norm; what follows the longest text is not computed."""
        ends = ids.argmax(dim=1)
        ids = ids[:, : int(ends.max()) + 1]
        tokens = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        states: Tensor = self.ln_final(self.transformer(tokens))
        return states[torch.arange(len(ids), device=ids.device), ends]


class Options(Spec):
    """Sizes of both towers; `size` are pixels a side, `patch` those of a patch, `context` the tokens of a text."""

    size: int
    patch: int
    text_width: int
    vocabulary: int
    context: int


class CheXzero(CheckpointModel[Options]):
    """`pooled` is the class token after the last norm (768); `joint` its projection (512) at unit length."""

    options_type = Options
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network for all."""
        pooled, joint = card.taps["pooled"], card.taps["joint"]
        seen, read = (layer_count(tensors, f"{tower}transformer.resblocks.") for tower in ("visual.", ""))
        with torch.device("meta"):
            image = ClipImage(pooled, seen, options.patch, options.size, joint)
            towers = ClipTowers(image, options.text_width, read, options.vocabulary, options.context, joint)
        return {"": towers}

    @property
    def _towers(self) -> ClipTowers:
        towers = self.parts[""]
        assert isinstance(towers, ClipTowers)
        return towers

    @property
    def training_scale(self) -> float:
        """The factor on cosines in training; no published score has it."""
        return float(self._towers.logit_scale.exp())

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, self.options.size, self.card.name)
        with runtime.autocast():
            pooled = self._towers.visual(pixels)
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(pooled @ self._towers.visual.proj))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; raises SpecError for a text longer than the context."""
        ids = self.token_ids(texts).to(self.runtime.device)
        with self.runtime.autocast():
            states = self._towers.text_states(ids)
        projected = states.float() @ self._towers.text_projection
        return TextFeatures(normalize(projected), projected)

    def token_ids(self, texts: Sequence[str]) -> Tensor:
        """Ids (P, context) int64, zero after the end token; raises SpecError for a text that is too long."""
        ids = torch.zeros((len(texts), self.options.context), dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            found = [self.options.vocabulary - 2, *self._words.encode(text), self.options.vocabulary - 1]
            if len(found) > len(row):
                most = len(row)
                raise SpecError(f"{self.card.name} reads {most} tokens, and this text has {len(found)}: {text[:60]!r}")
            row[: len(found)] = torch.tensor(found)
        return ids

    @cached_property
    def _words(self) -> Any:
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer()  # OpenAI's own byte pairs; mends mojibake, undoes HTML, lower-cases
