"""Networks and text encoders of the library transformers under published tensor names, before they have values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.nets import frozen, rename
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text import BertText, TextFiles
from cxrbench.models.text_loading import json_table, refusing
from cxrbench.models.unfilled import without_values

# What a configuration says that does not decide what the network computes.
_IDLE = {
    *("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "auto_map"),
    *("initializer_range", "initializer_factor", "logit_scale_init_value", "id2label", "label2id", "problem_type"),
    *("return_dict", "output_hidden_states", "output_attentions", "use_cache", "gradient_checkpointing"),
    *("bos_token_id", "pad_token_id", "sep_token_id"),
    *("apply_layernorm", "out_features", "out_indices", "reshape_hidden_states", "stage_names"),
    *("use_mask_token", "mask_ratio", "attention_probs_dropout_prob", "hidden_dropout_prob", "attention_dropout"),
}


def known_config(name: str, told: Mapping[str, Any]) -> Any:
    """The library's configuration of `told`; raises SpecError for a `model_type` that it does not know."""
    from transformers import CONFIG_MAPPING

    kind = told.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise SpecError(f"{name}: transformers has no model_type {kind!r}")
    with refusing(name, f"configuration of a {kind}"):
        return CONFIG_MAPPING[kind].from_dict(_without_dtype(network_settings(name, told)))


def decisive(name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that decide what the network computes, the library's defaults filled in."""
    found: dict[str, Any] = _decisive(known_config(name, told).to_dict())
    return found


def _decisive(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _decisive(entry) for key, entry in value.items() if key not in _IDLE}
    return value


def _without_dtype(value: Any) -> Any:
    """Published half precision is read as float32, so the network must be float32, too."""
    if isinstance(value, Mapping):
        return {key: _without_dtype(entry) for key, entry in value.items() if key not in ("dtype", "torch_dtype")}
    return value


def network(name: str, config: Any) -> nn.Module:
    """The model of a configuration with its tensors under their published names; code of a repository is never run.

    Newer versions of the library rename tensors when they load; `state_dict` and `load_state_dict` here do not.
    Raises SpecError for a model that they also reshape.
    """
    model = _built(name, config)
    rename(model, _published_names(name, model))
    return model


def network_part(name: str, config: Any, part: str) -> nn.Module:
    """One module of such a model, with its tensors under their published names from there on; see `network`."""
    model = _built(name, config)
    names, found = _published_names(name, model), model.get_submodule(part)
    own = f"{part}."
    rename(found, {n.removeprefix(own): p.removeprefix(own) for n, p in names.items() if n.startswith(own)})
    return found


def _built(name: str, config: Any) -> nn.Module:
    from transformers import AutoModel

    with refusing(name, "network"), without_values():
        model: nn.Module = AutoModel.from_config(config, trust_remote_code=False)
    assert model.dtype == torch.float32
    return model


def _published_names(name: str, model: nn.Module) -> dict[str, str]:
    """Own names of all tensors to their published ones."""
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # before version 5 the two are the same
        return {own: own for own in model.state_dict()}
    tensors = model.state_dict()
    stored: Mapping[str, Tensor] = revert_weight_conversion(model, dict(tensors))
    published = {id(tensor): key for key, tensor in stored.items()}
    if len(stored) != len(tensors) or published.keys() != {id(tensor) for tensor in tensors.values()}:
        raise SpecError(f"{name}: transformers reshapes the tensors of a {type(model).__name__}; it needs an adapter")
    return {own: published[id(tensor)] for own, tensor in tensors.items()}


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

    with refusing(config.name_or_path, "text encoder"), without_values():
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
