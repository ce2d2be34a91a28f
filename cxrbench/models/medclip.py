"""MedCLIP (Wang et al., EMNLP 2022): a ResNet-50 or a Swin-tiny beside Bio_ClinicalBERT, heads without bias.

A text's vector is the mean over all positions, padding included, of three hidden states, so it depends on the texts
encoded with it: encode the prompts of one class together, as the authors do.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import DualEncoder, Padding, Runtime, clamped_factor
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import feature_maps, resnet50, under
from cxrbench.models.swin import Swin
from cxrbench.models.text import BertText, bert, text_files
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, card_files, read_card
from cxrbench.store.schema import Spec

TRUNK, BERT, TEXT_HEAD = "vision_model.model.", "text_model.model.", "text_model.projection_head."
TEMPERATURE = "logit_"  # a prefix too: the tensor is `logit_scale`
_SWIN_SIZE = 224


class Temperature(nn.Module):
    """The natural logarithm of the factor from cosine to logit."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(()))


class MedCLIP(DualEncoder, CheckpointModel[Spec]):
    """The ResNet-50; `pooled` is its average pool (2048), `joint` that times `fc.weight` at unit length (512)."""

    options_type = Spec  # there are none
    image_network = TRUNK
    head: ClassVar[str] = "vision_model.model.fc.weight"

    def __init__(
        self, card: ModelCard, options: Spec, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        super().__init__(card, options, checkpoint, text_encoder, runtime)
        self.log_scale = float(self.parts[TEMPERATURE].get_parameter("scale"))

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; names the other card if the file is that of the other image network."""
        for kind in (MedCLIP, MedCLIPSwin):
            if cls.head not in checkpoint.tensors and kind.head in checkpoint.tensors:
                raise IntegrityError(
                    f"{checkpoint.path}: this looks like {_titles(kind)}; {card.name} is {card.title}."
                )
        return super().load(card, checkpoint, text_encoder, runtime)

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Spec) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        text = bert(under(tensors, BERT), None)
        hidden = text.get_submodule("embeddings.LayerNorm").weight.shape[0]  # type: ignore[index]
        with torch.device("meta"):
            heads = {TEXT_HEAD: nn.Linear(int(hidden), card.taps["joint"], bias=False), TEMPERATURE: Temperature()}
        return {**cls.image_networks(under(tensors, TRUNK), card), BERT: text, **heads}

    @classmethod
    def image_networks(cls, tensors: Mapping[str, Tensor], card: ModelCard) -> dict[str, nn.Module]:
        """The image side's part of `networks`; `tensors` are those under `TRUNK`."""
        trunk = resnet50()
        with torch.device("meta"):
            trunk.fc = nn.Linear(card.taps["pooled"], card.taps["joint"], bias=False)
        return {TRUNK: trunk}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        pooled = self.pooled(pixels, runtime).float()
        return ImageFeatures(pooled, normalize(self.projected(pooled)))

    def pooled(self, pixels: Tensor, runtime: Runtime) -> Tensor:
        """Pixels (N, 3, H, W) to what the head gets."""
        with runtime.autocast():
            return feature_maps(self.parts[TRUNK], pixels)["layer4"].mean(dim=(2, 3))

    def projected(self, pooled: Tensor) -> Tensor:
        """`joint` before it is brought to unit length."""
        out: Tensor = self.parts[TRUNK].get_submodule("fc")(pooled)
        return out

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """See `Adapter.encode_text`. `released`: padding enters the mean over positions; `masked`: it does not."""
        if padding == "released" or not texts:
            return super().encode_text(texts)
        return self._headed(texts, real_only=True)

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """As the authors': with padding; DataError if the tokenizer is not at hand."""
        return self._headed(texts, real_only=False)

    def _headed(self, texts: Sequence[str], real_only: bool) -> TextFeatures:
        with self.runtime.autocast():
            states = self._text.mean_states(texts, real_only)
        projected = self.parts[TEXT_HEAD](states.float())
        return TextFeatures(normalize(projected), projected)

    @cached_property
    def _text(self) -> BertText:
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        files = text_files(encoder, self.text_encoder)
        return BertText(self.parts[BERT].state_dict(), files, encoder.max_tokens, self.runtime.device)

    def logit_scale(self, view: str) -> float:
        """See `Adapter.logit_scale`: clamped, as the authors do in place; SpecError for a view not on the card."""
        return super().logit_scale(view) * clamped_factor(self.log_scale)


class MedCLIPSwin(MedCLIP):
    """The Swin-tiny ("MedCLIP-ViT"); `pooled` is the mean of its 49 last tokens (768)."""

    head = "vision_model.projection_head.weight"
    _prefix = head.removesuffix("weight")

    @classmethod
    def image_networks(cls, tensors: Mapping[str, Tensor], card: ModelCard) -> dict[str, nn.Module]:
        """See `MedCLIP.image_networks`; raises IntegrityError if the tensors are those of no Swin."""
        with torch.device("meta"):
            head = nn.Linear(card.taps["pooled"], card.taps["joint"], bias=False)
        return {TRUNK: Swin(tensors, Path(card.weights.files[0])), cls._prefix: head}

    def pooled(self, pixels: Tensor, runtime: Runtime) -> Tensor:
        """See `MedCLIP.pooled`; raises SpecError for pixels that are not 224 x 224."""
        require_size(pixels, _SWIN_SIZE, self.card.name)
        with runtime.autocast():
            tokens: Tensor = self.parts[TRUNK](pixels)
        return tokens.float().mean(dim=1)

    def projected(self, pooled: Tensor) -> Tensor:
        """See `MedCLIP.projected`."""
        out: Tensor = self.parts[self._prefix](pooled)
        return out


def _titles(kind: type[MedCLIP]) -> str:
    """Titles and names of the zoo's cards that load this kind."""
    adapter = f"{kind.__module__}:{kind.__name__}"
    cards = [card for card in map(read_card, card_files(paths.folder("model_zoo"))) if card.adapter == adapter]
    return " / ".join(f"{card.title} (card {card.name})" for card in cards)
