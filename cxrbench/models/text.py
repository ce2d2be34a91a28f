"""Text encoders of the BERT kind: tokenizer and configuration from a folder or the hub, weights from the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.checkpoint import Checkpoint, read_checkpoint
from cxrbench.models.container import layer_count
from cxrbench.models.fit import in_single_precision, require_finite
from cxrbench.models.hub import require_hub
from cxrbench.models.nets import frozen
from cxrbench.models.shards import file_digest
from cxrbench.models.text_loading import (
    FILES,
    PATTERNS,
    deciding,
    load_tokenizer,
    refusing,
    require_files,
    settings_table,
)
from cxrbench.specs.card import TextEncoder
from cxrbench.store import digest
from cxrbench.store.sealed import check_folder


@dataclass(frozen=True, slots=True)
class TextFiles:
    """A folder with tokenizer and configuration, and the digest of all of it that decides what a text becomes.

    That is every file that a tokenizer or its library reads, the text encoder's own `weights` where the card names any,
    and the length at which texts are cut.
    """

    folder: Path
    digest: str
    weights: Path | None = None


def text_files(facts: TextEncoder, folder: Path | None) -> TextFiles:
    """The user's own folder, that beside the card, or the hub's cached files at its revision. Asks no network.

    Raises DataError that says what to fetch and where to put it, DamagedError for a folder that we wrote and that has
    changed since, IntegrityError for what is no file of such a folder.
    """
    place = folder or facts.beside or _cached(facts)
    if place is None:
        raise DataError(f"{facts.place}: its tokenizer and configuration are not in the hub's cache. {_advice(facts)}")
    require_files(place, facts.files)
    check_folder(place)
    lost = _lost(facts, place)
    if lost:
        raise DataError(f"{place}: the text encoder's {' and '.join(lost)} is missing. {_advice(facts)}")
    weights = next((place / name for name in facts.weights if (place / name).is_file()), None)
    used = [place / name for name in deciding(place, facts.files)] + ([weights] if weights else [])
    content = {path.relative_to(place).as_posix(): file_digest(path) for path in used}
    return TextFiles(place, digest.of_json([content, facts.max_tokens]), weights)


def fetched_text_files(facts: TextEncoder, folder: Path | None) -> TextFiles:
    """As `text_files`, of files that the hub is asked for where they are neither given, beside the card nor cached."""
    cached = folder or facts.beside or _cached(facts)
    if cached is None or (cached not in (folder, facts.beside) and _lost(facts, cached)):
        _fetch(facts)
    return text_files(facts, folder)


def text_checkpoint(facts: TextEncoder, folder: Path | None) -> tuple[TextFiles, Checkpoint]:
    """The files of `text_files`, and the tensors of the text encoder's own weights among them.

    Raises DataError as `text_files` does, IntegrityError as `read_checkpoint` does.
    """
    files = text_files(facts, folder)
    if files.weights is None:
        raise SpecError(f"{facts.place}: the card names no weights of the text encoder")
    checkpoint = in_single_precision(read_checkpoint(files.weights))
    require_finite(checkpoint, None)
    return files, checkpoint


def lost_text_files(facts: TextEncoder, folder: Path | None) -> tuple[str, ...]:
    """What of tokenizer, configuration and weights is missing in `folder`, or without one in the hub's cache.

    Asks no network.
    """
    place = folder or facts.beside or _cached(facts)
    return tuple(_needed(facts) if place is None else _lost(facts, place))


def _needed(facts: TextEncoder) -> list[str]:
    return [*facts.files, *([" or ".join(facts.weights)] if facts.weights else [])]


def _lost(facts: TextEncoder, place: Path) -> list[str]:
    """What is needed and not there; of several names for the weights, one is enough."""
    lost = [name for name in facts.files if not (place / name).is_file()]
    if facts.weights and not any((place / name).is_file() for name in facts.weights):
        lost.append(" or ".join(facts.weights))
    return lost


def _snapshot(facts: TextEncoder, *, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [*FILES, *PATTERNS, *facts.files, *facts.weights]
    return Path(
        snapshot_download(facts.hub or "", revision=facts.revision, allow_patterns=wanted, local_files_only=local)
    )


def _cached(facts: TextEncoder) -> Path | None:
    """The folder in the hub's cache, or None if nothing was ever fetched."""
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return _snapshot(facts, local=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _fetch(facts: TextEncoder) -> None:
    """Bring the hub's files into its cache."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    require_hub(f"{facts.hub}: its tokenizer and configuration cannot be fetched", _advice(facts))
    try:
        _snapshot(facts, local=False)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise DataError(f"{facts.hub}: its tokenizer and configuration cannot be fetched. {_advice(facts)}") from error


def _advice(facts: TextEncoder) -> str:
    if facts.hub is None:
        there = [] if facts.beside is None else [name for name in deciding(facts.beside) if name != "config.json"]
        held = f"it holds {', '.join(there)}: name those" if there else "it holds no tokenizer"
        return f"text_encoder.files of the card names what the folder of the tokenizer must hold; {held}."
    at = f" at revision {facts.revision}" if facts.revision else ""
    return (
        f"`cxrbench weights fetch MODEL` gets them where there is network. Or fetch {' and '.join(_needed(facts))} "
        f"(and tokenizer_config.json if there is one) of {facts.hub}{at}, put them into one folder, and give it as "
        "--text-encoder FOLDER (to `pretrain run` as --set text.folder=FOLDER)."
    )


def bert_config(tensors: Mapping[str, Tensor], files: TextFiles | None) -> Any:
    """A BertConfig with the sizes that the tensors have; heads, activation and norm from `files` where given.

    `tensors` bear BertModel's names. Raises IntegrityError if the file's configuration disagrees with the tensors.
    """
    from transformers import BertConfig

    sizes = _sizes(tensors)
    if files is None:
        return BertConfig(**sizes)
    path = files.folder / "config.json"
    told = {**settings_table(path), "model_type": "bert"}  # whatever it is called
    with refusing(path, "configuration of a BERT"):
        config = BertConfig.from_dict(told)
    for name, size in sizes.items():
        if getattr(config, name) != size:
            raise IntegrityError(
                f"{files.folder / 'config.json'}: {name} is {getattr(config, name)}, but the checkpoint's text encoder "
                f"has {size}. Give the folder of the text encoder that the checkpoint was trained with."
            )
    return config


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """What the shapes say; a tensor that is not there says nothing (and coverage will report it)."""
    said = {
        "vocab_size": ("embeddings.word_embeddings.weight", 0),
        "max_position_embeddings": ("embeddings.position_embeddings.weight", 0),
        "type_vocab_size": ("embeddings.token_type_embeddings.weight", 0),
        "hidden_size": ("embeddings.LayerNorm.weight", 0),
        "intermediate_size": ("encoder.layer.0.intermediate.dense.bias", 0),
    }
    sizes = {key: int(tensors[name].shape[axis]) for key, (name, axis) in said.items() if name in tensors}
    return {**sizes, "num_hidden_layers": layer_count(tensors, "encoder.layer.")}


def bert(tensors: Mapping[str, Tensor], files: TextFiles | None, *, pooler: bool = True) -> nn.Module:
    """A BertModel, with or without pooler, sized by `tensors`, on the meta device."""
    from transformers import BertModel

    config = bert_config(tensors, files)
    with refusing(files.folder if files else "the checkpoint", "BERT"), torch.device("meta"):
        model: nn.Module = BertModel(config, add_pooling_layer=pooler)
    for name, buffer in model.embeddings.named_buffers():  # type: ignore[union-attr]
        fresh = torch.zeros(buffer.shape, dtype=buffer.dtype)
        if name == "position_ids":
            fresh += torch.arange(buffer.shape[-1])
        model.embeddings.register_buffer(name, fresh, persistent=False)  # type: ignore[union-attr]
    return model


def lower_cased_bert(
    tokenizer: Any, tensors: Mapping[str, Tensor], files: TextFiles, device: torch.device
) -> nn.Module:
    """The BERT of these tensors for a tokenizer that lower-cases and has no more tokens than it has embeddings.

    Raises IntegrityError where the tokenizer of the folder is another.
    """
    if tokenizer("Lung").input_ids != tokenizer("lung").input_ids:
        raise IntegrityError(f"{files.folder}: the tokenizer keeps capitals; the encoder was trained without them")
    model = bert(tensors, files)
    if len(tokenizer) > int(model.config.vocab_size):  # type: ignore[union-attr, arg-type]
        raise IntegrityError(f"{files.folder}: more tokens than the checkpoint has word embeddings for")
    return frozen(model, tensors, device)


class BertText:
    """Texts to the mean over positions of the mean of hidden states 1, 2 and last: (P, hidden) float32, unprojected."""

    def __init__(self, tensors: Mapping[str, Tensor], files: TextFiles, max_tokens: int, device: torch.device) -> None:
        self.files, self._max_tokens, self._device = files, max_tokens, device
        self._tokenizer = load_tokenizer("AutoTokenizer", files.folder)
        self._model = self._network(tensors, files, device)

    def _network(self, tensors: Mapping[str, Tensor], files: TextFiles, device: torch.device) -> nn.Module:
        return lower_cased_bert(self._tokenizer, tensors, files, device)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L): cut at the card's limit, padded to the longest of these texts."""
        batch = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        return {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}

    def mean_states(self, texts: Sequence[str], real_only: bool) -> Tensor:
        """The unprojected vectors; padding enters the mean over positions unless `real_only`."""
        batch = self.tokens(texts)
        states = self._model(**batch, output_hidden_states=True).hidden_states
        mixed = torch.stack([states[1], states[2], states[-1]]).float().mean(dim=0)
        if not real_only:
            return mixed.mean(dim=1)
        weight = batch["attention_mask"].unsqueeze(-1).to(mixed.dtype)
        return (mixed * weight).sum(dim=1) / weight.sum(dim=1)
