"""CXR-BERT, the text side of BioViL and BioViL-T: a BERT whose `[CLS]` state goes through a projection of its own.

The file is that of a masked-language model: its `cls.predictions` (the tie of the word embeddings among them) predict
words and take no part in the vectors.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.bert_words import BertWords
from cxrbench.models.coverage import coverage, require_complete
from cxrbench.models.features import TextFeatures
from cxrbench.models.nets import frozen, under
from cxrbench.models.text import bert, text_checkpoint
from cxrbench.specs.card import ModelCard

BERT, HEAD = "bert.", "cls_projection_head."
_ENDINGS = "!?."  # what the authors strip from the right end of a prompt


class ProjectionHead(nn.Module):
    """`[CLS]` states (P, hidden) to vectors (P, d), not of unit length; names as in the file."""

    def __init__(self, hidden: int, joint: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden, joint)
        self.LayerNorm = nn.LayerNorm(joint, eps=1e-12)  # whatever the configuration says
        self.dense_to_output = nn.Linear(joint, joint)

    def forward(self, states: Tensor) -> Tensor:
        """Dense, exact gelu, norm, dense."""
        return self.dense_to_output(self.LayerNorm(gelu(self.dense_to_hidden(states))))


class CXRBert:
    """The text encoder in the folder of tokenizer and configuration, read and checked when it is made.

    Raises SpecError if the card has no text encoder, DataError if a file is not at hand, IntegrityError unless every
    tensor of the file is used, or ignored by name on the card.
    """

    def __init__(self, card: ModelCard, folder: Path | None, runtime: Runtime) -> None:
        if card.text_encoder is None:
            raise SpecError(f"{card.name} has no text side: its card names no text encoder")
        self._limit, self._runtime, self._name = card.text_encoder.max_tokens, runtime, card.name
        files, checkpoint = text_checkpoint(card.text_encoder, folder)
        head = _head(card.taps["joint"], under(checkpoint.tensors, BERT))
        ignored = _ignored(checkpoint.tensors, card.weights.ignored)
        self.coverage = coverage(checkpoint.tensors, _wanted(checkpoint.tensors, head), ignored)
        require_complete(self.coverage, checkpoint.path, f"the text encoder of {card.name}")
        tensors = {name: checkpoint.tensors[name] for name in self.coverage.used}
        self._words = BertWords(under(tensors, BERT), files, runtime.device, pooler=False)
        self._head = frozen(head, under(tensors, HEAD), runtime.device)

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> TextFeatures:
        """Vectors before (`projected`) and at (`joint`) unit length; trailing `!`, `?` and `.` do not count.

        Raises SpecError for a text of too many tokens and for one that spells a special token other than `[MASK]`.
        """
        stripped = [text.rstrip(_ENDINGS) for text in texts]
        self._check(stripped)
        with self._runtime.autocast():
            projected = self._head(self._words.states(stripped, None).first_token)
        projected = projected.float()
        return TextFeatures(normalize(projected), projected)

    def _check(self, texts: Sequence[str]) -> None:
        for text in texts:
            found = [token for token in self._words.special if token in text and token != "[MASK]"]
            if found:
                raise SpecError(f"{self._name}: the prompt {text!r} spells the special token {found[0]}")
        counts = self._words.tokens(texts, None)["attention_mask"].sum(dim=1).tolist()
        for text, count in zip(texts, counts, strict=True):
            if count > self._limit:
                said = f"the prompt {text[:60]!r}… has {count} tokens; the text encoder takes {self._limit}"
                raise SpecError(f"{self._name}: {said} and the authors do not cut. Shorten it.")


def _head(joint: int, tensors: Mapping[str, Tensor]) -> ProjectionHead:
    norm = tensors.get("embeddings.LayerNorm.weight")
    with torch.device("meta"):
        return ProjectionHead(768 if norm is None else len(norm), joint)


def _ignored(names: Iterable[str], reasons: Mapping[str, str]) -> dict[str, str]:
    return {name: reason for pattern, reason in reasons.items() for name in names if fnmatchcase(name, pattern)}


def _wanted(tensors: Mapping[str, Tensor], head: nn.Module) -> dict[str, Tensor]:
    encoder = bert(under(tensors, BERT), None, pooler=False).state_dict()
    return {
        **{BERT + name: tensor for name, tensor in encoder.items()},
        **{HEAD + name: tensor for name, tensor in head.state_dict().items()},
    }
