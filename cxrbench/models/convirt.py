"""ConVIRT as BenchX trained it again: ResNet-50, a RoBERTa with its pooler, and a projection of two layers on each.

The paper's authors published no weights; this is not their model (their text encoder was a BERT, max-pooled).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import resnet50, under
from cxrbench.models.text import TextFiles, text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

_PAD = 1  # id of `<pad>`; positions are counted from the next number on


def roberta(tensors: Mapping[str, Tensor], width: int) -> nn.Module:
    """A RobertaModel of the base kind on the meta device; depth, vocabulary and positions as `tensors` have them."""
    from transformers import RobertaConfig, RobertaModel

    said = {
        "vocab_size": "embeddings.word_embeddings.weight",
        "max_position_embeddings": "embeddings.position_embeddings.weight",
    }
    sizes = {key: int(tensors[name].shape[0]) for key, name in said.items() if name in tensors}
    config = RobertaConfig(
        **{"max_position_embeddings": 514, **sizes},
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layer_count(tensors, "encoder.layer."),
        num_attention_heads=width // 64,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=_PAD,
    )
    with torch.device("meta"):
        model: nn.Module = RobertaModel(config, add_pooling_layer=True)
    embeddings = model.get_submodule("embeddings")
    for name, buffer in list(embeddings.named_buffers()):
        count = torch.arange(buffer.shape[-1])[None]
        embeddings.register_buffer(name, count if name == "position_ids" else torch.zeros_like(count), persistent=False)
    return model


class RobertaWords:
    """The byte-pair tokenizer of a folder with `vocab.json` and `merges.txt`."""

    def __init__(self, files: TextFiles, vocabulary: int, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokenizer: Any = load_tokenizer("RobertaTokenizer", files.folder)
        if len(self._tokenizer) != vocabulary or self._tokenizer.pad_token_id != _PAD:
            raise IntegrityError(
                f"{files.folder}: {len(self._tokenizer)} tokens, padding {self._tokenizer.pad_token_id}; "
                f"the checkpoint has word embeddings for {vocabulary}, padding {_PAD}. "
                "Give the folder of the text encoder that the checkpoint was trained with."
            )

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L), padded to the longest, cut to the limit with `</s>` kept."""
        batch = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        return {name: batch[name] for name in ("input_ids", "attention_mask")}


TRUNK, TEXT, IMAGE_HEAD, TEXT_HEAD = "visual.model.", "linguistic.encoder.", "vis_proj.", "lin_proj."


class Options(Spec):
    """`text_width`: width of the text encoder's states."""

    text_width: int


class ConVIRT(CheckpointModel[Options]):
    """`pooled`: the average pool (2048); `joint`: its projection (768) at unit length."""

    options_type = Options
    image_network = TRUNK

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        joint = card.taps["joint"]
        with torch.device("meta"):
            heads = {
                prefix: nn.Sequential(nn.Linear(width, joint), nn.ReLU(), nn.Linear(joint, joint))
                for prefix, width in ((IMAGE_HEAD, card.taps["pooled"]), (TEXT_HEAD, options.text_width))
            }
        return {TRUNK: resnet50(), TEXT: roberta(under(tensors, TEXT), options.text_width), **heads}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        with runtime.autocast():
            pooled = self.parts[TRUNK](pixels)
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(self.parts[IMAGE_HEAD](pooled)))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; outer spaces are tokens. DataError if the tokenizer is not at hand."""
        batch = {name: values.to(self.runtime.device) for name, values in self.words.tokens(texts).items()}
        with self.runtime.autocast():
            pooled = self.parts[TEXT](**batch).pooler_output
        projected = self.parts[TEXT_HEAD](pooled.float())
        return TextFeatures(normalize(projected), projected)

    @cached_property
    def words(self) -> RobertaWords:
        """The tokenizer; raises DataError that says what to fetch when it is not at hand."""
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        embeddings = self.parts[TEXT].get_submodule("embeddings.word_embeddings")
        assert isinstance(embeddings, nn.Embedding)
        return RobertaWords(text_files(encoder, self.text_encoder), embeddings.num_embeddings, encoder.max_tokens)
