"""MGCA's BERT: every token stands at position 0 and has no type, so the order of the words makes no difference.

The authors' own BERT class takes the position ids where their caller hands over the token types, which are all 0; the
weights were trained so, and sequential positions would be another model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError
from cxrbench.models.text import TextFiles, bert
from cxrbench.models.text_loading import load_tokenizer


class _NoTypes(nn.Module):
    """Adds nothing where other BERTs add the embedding of the token's type."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros((), device=ids.device)


def orderless_bert(tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network without pooler, sized by `tensors` (names of BertModel), on the meta device.

    The configuration at the hub is left alone: it says twelve layers, and the published checkpoints hold six.
    """
    model = bert(tensors, None, pooler=False)
    model.get_submodule("embeddings").token_type_embeddings = _NoTypes()
    return model


@dataclass(frozen=True, slots=True)
class WordPieces:
    """What the network makes of P texts: `states` (P, L, hidden) float32; `pieces` of each text, without padding."""

    states: Tensor
    pieces: tuple[tuple[str, ...], ...]

    def words(self, length: int) -> Tensor:
        """Sums of the states of each word's pieces (P, length, hidden), zero after the last.

        `[SEP]` counts as a word and is the last; `[CLS]` is left out.
        """
        texts, _, hidden = self.states.shape
        sums = self.states.new_zeros(texts, length + 1, hidden)
        for row, states, pieces in zip(sums, self.states, self.pieces, strict=True):
            starts = torch.tensor([not piece.startswith("##") for piece in pieces], device=states.device)
            row.index_add_(0, starts.cumsum(0) - 1, states[: len(pieces)])
        return sums[:, 1:]


class OrderlessWords:
    """The WordPiece tokenizer of a folder with `vocab.txt`, lower-casing whatever the folder says."""

    def __init__(self, files: TextFiles, vocabulary: int, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokenizer: Any = load_tokenizer("BertTokenizer", files.folder, do_lower_case=True)
        if len(self._tokenizer) != vocabulary:
            raise IntegrityError(
                f"{files.folder / 'vocab.txt'}: {len(self._tokenizer)} tokens, and the checkpoint has word embeddings "
                f"for {vocabulary}. Give the folder of the text encoder that the checkpoint was trained with."
            )

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L), padded to the longest, cut to the limit with `[SEP]` kept."""
        batch = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def read(self, texts: Sequence[str], network: nn.Module, device: torch.device) -> WordPieces:
        """The last hidden states of the texts; a text's do not depend on its batch mates."""
        batch = {name: values.to(device) for name, values in self.tokens(texts).items()}
        nowhere = torch.zeros_like(batch["input_ids"])
        states = network(**batch, position_ids=nowhere).last_hidden_state.float()
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        pieces = [
            tuple(self._tokenizer.convert_ids_to_tokens(ids[:length].tolist()))
            for ids, length in zip(batch["input_ids"], lengths, strict=True)
        ]
        return WordPieces(states, tuple(pieces))
