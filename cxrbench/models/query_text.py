"""Queries as BERT vectors: without the closing token, or through the pooler."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cxrbench.models.bert_words import BertWords


class UnclosedWords(BertWords):
    """A text is `[CLS]` and its pieces, with no `[SEP]` after them."""

    def tokens(self, texts: Sequence[str], limit: int | None) -> dict[str, Tensor]:
        """See `BertWords.tokens`; the limit counts `[CLS]`."""
        room = None if limit is None else limit - 1
        bare = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=limit is not None, max_length=room
        ).input_ids
        rows = [torch.tensor([self._tokenizer.cls_token_id, *pieces]) for pieces in bare]
        ids = pad_sequence(rows, batch_first=True, padding_value=self._tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}


class PooledWords(BertWords):
    """A BERT read off through its own pooler, a linear layer and a tanh on the state of `[CLS]`."""

    forced = True

    def pooled(self, texts: Sequence[str], limit: int) -> Tensor:
        """Vectors (P, hidden)."""
        vectors: Tensor = self._model(**self.tokens(texts, limit)).pooler_output
        return vectors
