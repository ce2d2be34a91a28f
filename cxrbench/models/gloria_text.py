"""GLoRIA's way from a prompt to words: cleaned text, word pieces, and vectors of pieces summed to vectors of words.

Source of every rule here: the code of the authors' repository, whose outputs are held in the parity fixtures.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.models.text import TextFiles, lower_cased_bert
from cxrbench.models.text_loading import load_tokenizer

_NUMBERING = re.compile(r"[0-9]+\.")
_WORD = re.compile(r"\w+")
_LAYERS = 4  # the last so many hidden states are summed


@dataclass(frozen=True, slots=True)
class Words:
    """Vectors of the words of P texts (P, L, hidden) float32, zero where there is no word; place 0 is `[CLS]`.

    `compared` (P, L) is true at the places that the local similarity looks at: 1 to n, where n is the number of
    characters, not of words, of the raw prompt. Places without a word take part.
    """

    vectors: Tensor
    compared: Tensor


def cleaned(prompt: str) -> str:
    """The text that is tokenised: lower case, ASCII, no punctuation; sentences of a single word are gone.

    Sentences end at full stops and at numbering ("1."), so "3.5 cm nodule" becomes "5 cm nodule".
    """
    pieces = [part for point in _NUMBERING.split(prompt.replace("\n", " ")) for part in point.split(".")]
    found = [_WORD.findall(piece.replace("\ufffd\ufffd", " ").lower()) for piece in pieces]
    kept = [[word.encode("ascii", "ignore").decode("ascii") for word in words] for words in found if len(words) > 1]
    return " ".join(" ".join(filter(None, words)) for words in kept)


def compared_places(prompt: str, places: int) -> int:
    """How many places the local similarity looks at: characters other than `[`, at most those there are.

    The authors' code fails above that limit; another published port cuts there too. Raises SpecError if there are none.
    """
    characters = len(prompt.replace("[", ""))
    if characters == 0:
        raise SpecError(f"prompt {prompt!r} has no characters to compare")
    return min(characters, places - 1)


def word_numbers(tokens: Sequence[str]) -> list[int]:
    """For each token up to the first `[SEP]` the word that it belongs to: `##` goes on with the word before."""
    numbers: list[int] = []
    for token in tokens[: tokens.index("[SEP]") + 1]:
        last = numbers[-1] if numbers else -1
        numbers.append(last if token.startswith("##") else last + 1)
    return numbers


class GloriaWords:
    """The tokenizer of a folder and a BERT with the given tensors (names of BertModel), on a device.

    Padding is masked and no word, so a text's words do not depend on its batch.
    """

    def __init__(self, tensors: Mapping[str, Tensor], files: TextFiles, places: int, device: torch.device) -> None:
        self._places, self._device = places, device
        self._tokenizer = load_tokenizer("BertTokenizer", files.folder)
        self._model = lower_cased_bert(self._tokenizer, tensors, files, device)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L) of the cleaned texts, cut to the places, padded to the longest."""
        batch = self._tokenizer(
            [cleaned(text) for text in texts],
            padding="longest",
            truncation=True,
            max_length=self._places,
            return_tensors="pt",
        )
        return {name: batch[name].to(self._device) for name in ("input_ids", "attention_mask")}

    def words(self, texts: Sequence[str]) -> Words:
        """Each word is the sum of its pieces, each piece the sum of the last four hidden states."""
        batch = self.tokens(texts)
        states = self._model(**batch, output_hidden_states=True).hidden_states
        pieces = torch.stack(states[-_LAYERS:]).float().sum(dim=0)
        belongs = torch.zeros(len(texts), self._places, pieces.shape[1])
        compared = torch.zeros(len(texts), self._places, dtype=torch.bool)
        for row, ids in enumerate(batch["input_ids"].tolist()):
            for place, word in enumerate(word_numbers(self._tokenizer.convert_ids_to_tokens(ids))):
                belongs[row, word, place] = 1
            compared[row, 1 : 1 + compared_places(texts[row], self._places)] = True
        with torch.autocast(self._device.type, enabled=False):
            return Words(belongs.to(self._device) @ pieces, compared.to(self._device))
