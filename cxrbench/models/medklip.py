"""MedKLIP (Wu et al., ICCV 2023, arXiv 2301.02228): a query decoder over ResNet-50 tokens up to its third stage.

The text encoder, Bio_ClinicalBERT, is frozen and lies in a folder of its own; texts get no closing token. The
published file names its tensors from `module.` on.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from cxrbench.models.base import Runtime, checked_options
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import coverage, require_complete
from cxrbench.models.entities import EntityQueries, Options, descriptions, vocabulary
from cxrbench.models.nets import frozen, under
from cxrbench.models.query_decoder import QueryDecoder, TokenTrunk, UnclosedWords, decoder_like, linear_like, text_side
from cxrbench.models.text import bert, text_checkpoint
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest

FILE, BERT = "module.", "bert."
_STAGES = 3


class MedKLIPNetwork(TokenTrunk):
    """All that the published file is used for; the names are the file's."""

    def __init__(self, tensors: dict[str, Tensor], path: Path) -> None:
        super().__init__(tensors, _STAGES, path)
        self.disease_embedding_layer = linear_like(tensors, "disease_embedding_layer", path)
        self.decoder = decoder_like(tensors, path)
        self.classifier = linear_like(tensors, "classifier", path)


class MedKLIP(QueryDecoder):
    """The published checkpoint; any text is a query, and its 75 entities are those it was trained on."""

    options_type: ClassVar[type[Options]] = Options
    network_type: ClassVar[type[MedKLIPNetwork]] = MedKLIPNetwork

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        self._text_encoder, self._options = text_encoder, options
        own = under(checkpoint.tensors, FILE)
        with torch.device("meta"):
            network = self.network_type(own, checkpoint.path)
        wanted = {FILE + name: tensor for name, tensor in network.state_dict().items()}
        self.coverage = coverage(checkpoint.tensors, wanted, card.weights.ignored)
        require_complete(self.coverage, checkpoint.path, card.name)
        used = {name: checkpoint.tensors[name] for name in self.coverage.used}
        frozen(network, under(used, FILE), runtime.device)
        self._network = network
        super().__init__(card, network, runtime, checkpoint.path)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the vocabulary's content is in it, the descriptions are prompts like any."""
        options = checked_options(card, cls.options_type)
        return digest.of_json([options.model_dump(), vocabulary(card, options).model_dump(mode="json")])

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises SpecError for options that this adapter does not know."""
        return cls(card, checked_options(card, cls.options_type), checkpoint, text_encoder, runtime)

    @classmethod
    def entity_queries(cls, card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> EntityQueries:
        """The authors' own set of queries, always all of them and in their order, and where in it the classes stand.

        Needs no weights. Raises NotApplicableError that lists the vocabulary for a class outside it, DataError without
        the authors' descriptions.
        """
        options = checked_options(card, cls.options_type)
        words = vocabulary(card, options)
        columns = words.columns(classes)
        return EntityQueries(words.entities, descriptions(card, options, text_encoder), columns)

    @cached_property
    def _text(self) -> UnclosedWords:
        encoder = text_side(self.card)
        files, checkpoint = text_checkpoint(encoder, self._text_encoder)
        network = bert(under(checkpoint.tensors, BERT), files)
        wanted = {BERT + name: tensor for name, tensor in network.state_dict().items()}
        found = coverage(checkpoint.tensors, wanted, self.card.weights.ignored)
        require_complete(found, checkpoint.path, f"the text encoder of {self.card.name}")
        tensors = under({name: checkpoint.tensors[name] for name in found.used}, BERT)
        return UnclosedWords(tensors, files, self._runtime.device)

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        return self._text.states(texts, text_side(self.card).max_tokens).first_token

    def queries(self, texts: Tensor) -> Tensor:
        """Text vectors (P, 768) as the decoder takes them: (P, 256)."""
        found: Tensor = self._network.disease_embedding_layer(texts)
        return found

    def _decoded(self, tokens: Tensor, texts: Tensor) -> Tensor:
        queries = self.queries(texts).expand(len(tokens), -1, -1)
        logits: Tensor = self._network.classifier(self._network.decoder(queries, tokens))
        return logits
