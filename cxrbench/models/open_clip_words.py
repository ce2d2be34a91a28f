"""The tokenizers of open_clip's models: CLIP's byte pairs, or one of transformers from the card's text encoder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import refusing, require_text_folder
from cxrbench.specs.card import ModelCard, TextEncoder

Tokenizer = Callable[[list[str]], Tensor]

_OPTIONS = {"clean", "strip_sep_token"}  # others would reach a library that may run code for them
_CLIP_WORDS = 49408


def tokenizer(card: ModelCard, told: Mapping[str, Any], words: int, folder: Path | None) -> Tokenizer:
    """Texts to ids (P, context) by the library, cut at the context as it does; `told` is `text_cfg`.

    `words` are the network's word embeddings. Raises SpecError where card and configuration disagree, DataError that
    says what to fetch when the files are not at hand, IntegrityError for a tokenizer of more words.
    """
    from open_clip.tokenizer import SimpleTokenizer

    length, more = int(told.get("context_length", 77)), dict(told.get("tokenizer_kwargs") or {})
    if not more.keys() <= _OPTIONS:
        raise SpecError(f"{card.name}: tokenizer_kwargs has {sorted(more)}; known are {sorted(_OPTIONS)}")
    named = told.get("hf_tokenizer_name")
    if (card.text_encoder is None) != (not named):
        raise SpecError(f"{card.name}: its configuration names the tokenizer {named!r}, its card none, or the reverse")
    if card.text_encoder is not None:
        return _of_transformers(card.name, card.text_encoder, told, words, folder)
    if words != _CLIP_WORDS:
        raise SpecError(f"{card.name}: a network of {words} words, and CLIP's tokenizer has {_CLIP_WORDS}")
    plain: Tokenizer = SimpleTokenizer(context_length=length, **more)
    return plain


def _of_transformers(
    name: str, encoder: TextEncoder, told: Mapping[str, Any], words: int, folder: Path | None
) -> Tokenizer:
    from open_clip.tokenizer import HFTokenizer

    length = int(told.get("context_length", 77))
    if encoder.max_tokens != length:
        raise SpecError(f"{name}: context_length is {length}, text_encoder.max_tokens is {encoder.max_tokens}")
    given = {key: told[key] for key in ("tokenizer_mode",) if told.get(key)} | dict(told.get("tokenizer_kwargs") or {})
    place = text_files(encoder, folder).folder
    require_text_folder(place)
    with refusing(place, "tokenizer"):
        found = HFTokenizer(str(place), context_length=length, local_files_only=True, trust_remote_code=False, **given)
    if len(found.tokenizer) > words:
        raise IntegrityError(f"{place}: {len(found.tokenizer)} tokens, and word embeddings for {words}")
    own: Tokenizer = found
    return own
