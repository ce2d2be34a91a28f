"""A RoBERTa with its pooler: byte-pair tokens that keep case and outer spaces, positions counted from 2."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError
from cxrbench.models.layers import layer_count
from cxrbench.models.text import TextFiles
from cxrbench.models.text_loading import load_tokenizer

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
