"""Networks of the library transformers under the tensor names that are published, without values."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import SpecError
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text_loading import refusing
from cxrbench.models.unfilled import unfilled

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
    from transformers import AutoModel

    with refusing(name, "network"), unfilled():
        model: nn.Module = AutoModel.from_config(config, trust_remote_code=False)
    assert model.dtype == torch.float32
    names = _published_names(name, model)
    if any(own != published for own, published in names.items()):
        _rename(model, names)
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


def _rename(model: nn.Module, names: Mapping[str, str]) -> None:
    def publish(module: nn.Module, tensors: dict[str, Tensor], prefix: str, local_metadata: object) -> None:
        for own, published in names.items():
            if own in tensors:  # parts may have been taken off
                tensors[published] = tensors.pop(own)

    def take(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *others: object) -> None:
        for own, published in names.items():
            if published in tensors:
                tensors[own] = tensors.pop(published)

    model.register_state_dict_post_hook(publish)
    model.register_load_state_dict_pre_hook(take)
