"""A BERT whose vectors are its last hidden states at single positions: texts to states and mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.models.nets import frozen
from cxrbench.models.text import TextFiles, bert
from cxrbench.models.text_loading import load_tokenizer


@dataclass(frozen=True, slots=True)
class States:
    """Last hidden states (P, L, hidden) float32 of P texts, with `mask` (P, L), 1 at real tokens, which come first."""

    last: Tensor
    mask: Tensor

    @property
    def first_token(self) -> Tensor:
        """States at `[CLS]` (P, hidden)."""
        return self.last[:, 0]

    @property
    def last_token(self) -> Tensor:
        """States at the last real token, which is `[SEP]` (P, hidden)."""
        return self.last[torch.arange(len(self.last), device=self.last.device), self.mask.sum(dim=1) - 1]


class BertWords:
    """The tokenizer of a folder and a BERT with the given tensors (names of BertModel), on a device.

    Lower-casing WordPiece; padding goes to the right and is masked, so a text's states do not depend on its batch.
    `forced`: the authors lower-case whatever the folder says.
    """

    forced: ClassVar[bool] = False

    def __init__(
        self, tensors: Mapping[str, Tensor], files: TextFiles, device: torch.device, *, pooler: bool = True
    ) -> None:
        self._device = device
        settings = {"do_lower_case": True} if self.forced else {}
        self._tokenizer = load_tokenizer("BertTokenizer", files.folder, **settings)
        if self._tokenizer("Lung").input_ids != self._tokenizer("lung").input_ids:
            raise IntegrityError(f"{files.folder}: the tokenizer keeps capitals; the encoder was trained without them")
        model = bert(tensors, files, pooler=pooler)
        if len(self._tokenizer) > int(model.config.vocab_size):  # type: ignore[union-attr, arg-type]
            raise IntegrityError(f"{files.folder}: more tokens than the checkpoint has word embeddings for")
        self._model = frozen(model, tensors, device)

    @property
    def special(self) -> tuple[str, ...]:
        """The tokens that are no words: `[CLS]`, `[SEP]` and so on."""
        return tuple(self._tokenizer.all_special_tokens)

    def tokens(self, texts: Sequence[str], limit: int | None) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L), padded to the longest, cut to `limit` tokens with `[SEP]` kept."""
        batch = self._tokenizer(
            list(texts), padding="longest", truncation=limit is not None, max_length=limit, return_tensors="pt"
        )
        return {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}

    def states(self, texts: Sequence[str], limit: int | None) -> States:
        """What the network makes of `tokens`."""
        batch = self.tokens(texts, limit)
        return States(self._model(**batch).last_hidden_state.float(), batch["attention_mask"])
