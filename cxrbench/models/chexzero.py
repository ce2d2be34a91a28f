"""CheXzero (Tiu et al., Nature Biomedical Engineering 2022): OpenAI's CLIP ViT-B/32, fine-tuned on reports."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.clip_towers import ClipImage, ClipTowers
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.layers import layer_count
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts


class Options(Facts):
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
