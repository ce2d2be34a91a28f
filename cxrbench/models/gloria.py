"""GLoRIA (Huang et al., ICCV 2021): a ResNet-50 and Bio_ClinicalBERT, compared as wholes and word by word.

The authors enlarge the pixels inside the model, which the probes of the paper did not: that is done for the recipe
`authors` alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import feature_maps, resnet50, under
from cxrbench.models.text import TextFiles, bert, lower_cased_bert, text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

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


TRUNK, GLOBAL, LOCAL = (f"gloria.img_encoder.{part}." for part in ("model", "global_embedder", "local_embedder"))


def words_of(model: CheckpointModel[Any], prefix: str) -> GloriaWords:
    """What reads the texts of a model, whose file holds the BERT under a prefix.

    Raises SpecError for a card without a text encoder, DataError as `text_files` does.
    """
    encoder = model.card.text_encoder
    if encoder is None:
        raise SpecError(f"{model.card.name}: the card names no text encoder")
    files = text_files(encoder, model.text_encoder)
    return GloriaWords(model.parts[prefix].state_dict(), files, encoder.max_tokens, model.runtime.device)


BERT = "gloria.text_encoder.model."
_REGION_CHANNELS = 1024  # of layer3
_AT_ONCE = 32  # texts through the encoder together: the hidden states of hundreds would fill the memory
_ATTENTION, _SHARPNESS = 4.0, 5.0  # written into the authors' code; the configuration's temperatures serve training


class Options(Spec):
    """`enlarged`: pixels a side that the authors' model enlarges its input to."""

    enlarged: int


class GLoRIA(CheckpointModel[Options]):
    """`pooled` is the average pool (2048), `joint` its linear image at unit length (768), `tokens` the regions.

    Neither regions (N, 361, 768 for the authors' recipe) nor words (P, 97, 768) are of unit length.
    """

    options_type = Options
    image_network = TRUNK
    texts_apart: ClassVar[bool] = True  # no text sees another, though images are scored by interaction

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        joint = card.taps["joint"]
        with torch.device("meta"):
            heads: dict[str, nn.Module] = {
                GLOBAL: nn.Linear(card.taps["pooled"], joint),
                LOCAL: nn.Conv2d(_REGION_CHANNELS, joint, 1, bias=False),
            }
        return {TRUNK: resnet50(), **heads, BERT: bert(under(tensors, BERT), None)}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        if runtime.recipe == "authors":
            size = (self.options.enlarged, self.options.enlarged)
            pixels = interpolate(pixels, size, mode="bilinear", align_corners=True)
        with runtime.autocast():
            maps = feature_maps(self.parts[TRUNK], pixels)
        pooled = maps["layer4"].float().mean(dim=(2, 3))
        regions: Tensor = self.parts[LOCAL](maps["layer3"].float())
        return ImageFeatures(pooled, normalize(self.projected(pooled)), tokens=regions.flatten(2).transpose(1, 2))

    def projected(self, pooled: Tensor) -> Tensor:
        """`joint` before it is brought to unit length."""
        out: Tensor = self.parts[GLOBAL](pooled)
        return out

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; the whole is the mean over all places, those without a word included."""
        parts = []
        for first in range(0, len(texts), _AT_ONCE):
            with self.runtime.autocast():
                parts.append(self._words.words(texts[first : first + _AT_ONCE]))
        vectors, compared = (torch.cat([getattr(p, n) for p in parts]) for n in ("vectors", "compared"))
        whole = vectors.mean(dim=1)
        return TextFeatures(normalize(whole), whole, vectors, compared)

    @cached_property
    def _words(self) -> GloriaWords:
        return words_of(self, BERT)

    @torch.inference_mode()
    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Mean of the cosine of the wholes and of the local similarity (N, P)."""
        return (super().score(images, texts) + self.local_similarity(images, texts)) / 2

    @torch.inference_mode()
    def local_similarity(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """The best match (N, P) of a word with the regions that it attends to, as 5 times their cosine.

        Raises SpecError if the features hold no regions or no words.
        """
        if images.tokens is None or texts.tokens is None or texts.mask is None:
            raise SpecError(f"{self.card.name} compares regions with words, and these features have none")
        pairs = zip(texts.tokens, texts.mask, strict=True)
        return torch.stack([_best_match(images.tokens, words[compared]) for words, compared in pairs], dim=1)


def _best_match(regions: Tensor, places: Tensor) -> Tensor:
    """Regions (N, R, d) and the compared places (n, d) of one text, to (N,).

    All places without a word are alike: together they enter the softmax over places with the weight of their number,
    and their cosine is 0.
    """
    words = places[places.any(dim=1)]
    empty = len(places) - len(words)
    likeness = regions @ words.T
    if empty:
        blank = likeness.new_full((*likeness.shape[:2], 1), math.log(empty))
        likeness = torch.cat([likeness, blank], dim=2)
    share = likeness.softmax(dim=2)[..., : len(words)]
    attention = (_ATTENTION * share).softmax(dim=1)
    seen = attention.transpose(1, 2) @ regions
    best = _SHARPNESS * cosine_similarity(seen, words[None], dim=2, eps=1e-8).amax(dim=1)
    return best.clamp_min(0) if empty else best
