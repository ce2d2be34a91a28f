"""RadZero (Park et al., NeurIPS 2025): a DINOv2 at 518 pixels with two more blocks, and an MPNet.

A text is compared with every token of an image, the class token among them; their average, weighted by these
similarities, is compared with the text again. Neither texts nor images see each other.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import under
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.models.transformers_nets import known_config, network, network_part
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

IMAGE, ALIGN, TEXT, LOSS = "vision_model.", "align_transformer.transformer_layers.", "text_model.", "loss_fns."
_HEAD, _TEXTS_AT_ONCE = 64, 64
_MPNET_EPS = 1e-5  # of all-mpnet-base-v2; the library's default is another
_OFFSET = 0.1  # the older library enlarges positions by a factor, with this much added to the new side


class Options(Spec):
    """All in pixels a side: `size` of the picture, `positions` of those its positions are stored for, `patch`."""

    size: int
    positions: int
    patch: int


class Scorer(nn.Module):
    """The norm of tokens and texts, and the logarithm of the temperature; stored among the losses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.loss_temperature = nn.Parameter(torch.empty(1))

    def forward(self, vectors: Tensor) -> Tensor:
        """Vectors of any kind at unit length after the norm."""
        return normalize(self.layer_norm(vectors), dim=-1)


class RadZero(CheckpointModel[Options]):
    """`pooled` is the class token after the last block (768); `tokens` are that and the patches, row by row.

    A text's `joint` is the mean of its tokens' states, neither projected nor of unit length.
    """

    options_type = Options
    image_network = IMAGE
    texts_apart: ClassVar[bool] = True

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        width = card.taps["pooled"]
        facts = {"model_type": "dinov2", "hidden_size": width, "num_attention_heads": width // _HEAD}
        facts |= {"image_size": options.positions, "patch_size": options.patch}
        depths = [layer_count(tensors, f"{part}layer.") for part in (f"{IMAGE}encoder.", ALIGN)]
        trunk, align = (known_config(card.name, {**facts, "num_hidden_layers": depth}) for depth in depths)
        with torch.device("meta"):
            scorer = nn.ModuleDict({"RadZeroLoss": Scorer(width)})
        return {
            IMAGE: network(card.name, trunk),
            ALIGN: network_part(card.name, align, "encoder"),
            TEXT: _mpnet(card.name, under(tensors, TEXT)),
            LOSS: scorer,
        }

    @property
    def _scorer(self) -> Scorer:
        found = self.parts[LOSS].get_submodule("RadZeroLoss")
        assert isinstance(found, Scorer)
        return found

    @property
    def temperature(self) -> float:
        """What similarities are divided by, of tokens and of the whole."""
        return float(self._scorer.loss_temperature.exp())

    def _engine(self) -> Any:
        embeddings: Any = self.parts[IMAGE].get_submodule("embeddings")
        embeddings.position_embeddings = nn.Parameter(
            enlarged(embeddings.position_embeddings, self.options.size // self.options.patch), requires_grad=False
        )
        return super()._engine()

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, self.options.size, self.card.name)
        with runtime.autocast():
            trunk = self.parts[IMAGE](pixel_values=pixels).last_hidden_state
            tokens: Tensor = self.parts[ALIGN](trunk).last_hidden_state
        tokens = tokens.float()
        return ImageFeatures(tokens[:, 0], tokens=tokens)

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; DataError if the tokenizer is not at hand."""
        parts = [self._read(texts[first : first + _TEXTS_AT_ONCE]) for first in range(0, len(texts), _TEXTS_AT_ONCE)]
        return TextFeatures(torch.cat(parts))

    def _read(self, texts: Sequence[str]) -> Tensor:
        batch = self.tokens(texts)
        with self.runtime.autocast():
            states = self.parts[TEXT](**batch).last_hidden_state
        weights = batch["attention_mask"][..., None].float()
        return (states.float() * weights).sum(dim=1) / weights.sum(dim=1)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L), padded to the longest, cut at the card's limit."""
        assert self.card.text_encoder is not None or self.tokenizer  # which refuses a card without one
        limit = self.card.text_encoder.max_tokens  # type: ignore[union-attr]
        batch = self.tokenizer(list(texts), padding="longest", truncation=True, max_length=limit, return_tensors="pt")
        return {name: batch[name].to(self.runtime.device) for name in ("input_ids", "attention_mask")}

    @cached_property
    def tokenizer(self) -> Any:
        """Raises SpecError where the card names none, DataError where it is not at hand, IntegrityError for another."""
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        folder = text_files(encoder, self.text_encoder).folder
        found = load_tokenizer("AutoTokenizer", folder)
        words: Any = self.parts[TEXT].get_submodule("embeddings.word_embeddings")
        if len(found) > words.num_embeddings:
            raise IntegrityError(f"{folder}: more tokens than the checkpoint has word embeddings for")
        return found

    @torch.inference_mode()
    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Logits (N, P): the cosine of a text and the average of the tokens that it sees, over the temperature."""
        tokens, asked = self._compared(images, texts)
        shares = self._likeness(tokens, asked).softmax(dim=2)
        seen = normalize(shares @ tokens, dim=2)
        return (seen * asked).sum(dim=2) / self.temperature

    @torch.inference_mode()
    def similarity_map(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Cosines of texts and patches over the temperature (N, P, patches), row by row."""
        return self._likeness(*self._compared(images, texts))[:, :, 1:]

    def _likeness(self, tokens: Tensor, asked: Tensor) -> Tensor:
        return asked @ tokens.mT / self.temperature

    def _compared(self, images: ImageFeatures, texts: TextFeatures) -> tuple[Tensor, Tensor]:
        """Unit vectors of tokens (N, T, w) and texts (P, w) after the norm; SpecError for features without tokens."""
        if images.tokens is None:
            raise SpecError(f"{self.card.name} scores image tokens, and these features have none")
        return self._scorer(images.tokens), self._scorer(texts.joint)


def enlarged(positions: Tensor, side: int) -> Tensor:
    """Positions (1, 1 + n, w), the class token's first, of n patches as those of side x side patches.

    By a factor, as transformers before 4.48 does it: the newer way moves scores by a thousandth.
    """
    first, grid = positions[:, :1], positions[:, 1:]
    before = round(grid.shape[1] ** 0.5)
    grid = grid.mT.reshape(1, -1, before, before)
    factor = (side + _OFFSET) / before
    found = interpolate(grid, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
    return torch.cat([first, found.flatten(2).mT], dim=1)


def _mpnet(name: str, tensors: Mapping[str, Tensor]) -> nn.Module:
    """An MPNet of the sizes that the tensors have; a tensor that is not there says nothing, and is missed later."""
    said = {
        "vocab_size": ("embeddings.word_embeddings.weight", 0),
        "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
        "hidden_size": ("embeddings.LayerNorm.weight", 0),
        "intermediate_size": ("encoder.layer.0.intermediate.dense.bias", 0),
        "num_attention_heads": ("encoder.relative_attention_bias.weight", 1),
    }
    sizes = {key: int(tensors[tensor].shape[axis]) for key, (tensor, axis) in said.items() if tensor in tensors}
    depth = layer_count(tensors, "encoder.layer.")
    facts = {"model_type": "mpnet", "num_hidden_layers": depth, "layer_norm_eps": _MPNET_EPS}
    model = network(name, known_config(name, {**facts, **sizes}))
    model.pooler = None  # type: ignore[assignment]
    return model
