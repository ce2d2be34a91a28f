"""Text encoders that were trained here: any kind that transformers knows, by the configuration beside the card."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.nets import frozen
from cxrbench.models.text import BertText, TextFiles
from cxrbench.models.text_loading import json_table, refusing
from cxrbench.models.transformers_nets import known_config
from cxrbench.models.unfilled import unfilled

_FEWEST_LAYERS = 2  # hidden states 1, 2 and last are averaged


def text_config(files: TextFiles) -> Any:
    """The configuration in the folder; a BERT's where it does not say whose, as old ones do not.

    Raises SpecError for a kind that transformers does not know, that has a decoder, or has too few layers.
    """
    from transformers import MODEL_MAPPING

    path = files.folder / "config.json"
    told = {"model_type": "bert", **json_table(path)}
    config = known_config(str(path), told)
    config.name_or_path = str(path)  # for what is said of it later
    if getattr(config, "is_encoder_decoder", False):
        raise SpecError(f"{path}: a {told['model_type']} is an encoder with a decoder; name an encoder alone")
    sizes = [getattr(config, name, None) for name in ("hidden_size", "vocab_size", "num_hidden_layers")]
    reads = getattr(MODEL_MAPPING.get(type(config), None), "main_input_name", None) == "input_ids"
    if not reads or not all(isinstance(size, int) for size in sizes) or config.num_hidden_layers < _FEWEST_LAYERS:
        raise SpecError(f"{path}: no text encoder of at least {_FEWEST_LAYERS} layers; name one")
    return config


def text_network(config: Any) -> nn.Module:
    """The encoder of a configuration without values; code of a repository is never run."""
    from transformers import AutoModel

    with refusing(config.name_or_path, "text encoder"), unfilled():
        model: nn.Module = AutoModel.from_config(config, trust_remote_code=False)
    return model


def require_room(tokenizer: Any, config: Any, files: TextFiles) -> None:
    """Raise IntegrityError unless every token of the tokenizer has an embedding."""
    if len(tokenizer) > int(config.vocab_size):
        raise IntegrityError(
            f"{files.folder}: the tokenizer has {len(tokenizer)} tokens, the encoder embeddings for {config.vocab_size}"
        )


class OwnText(BertText):
    """As `BertText`, with the encoder that the folder's configuration names and its tokenizer's own letter case."""

    def _network(self, tensors: Mapping[str, Tensor], files: TextFiles, device: torch.device) -> nn.Module:
        config = text_config(files)
        require_room(self._tokenizer, config, files)
        return frozen(text_network(config), tensors, device)
