"""MAVL (Phan et al., CVPR 2024): MedKLIP with nine texts a class, its description and eight visual aspects.

The nine are queries of their own, and what the decoder makes of them is laid end to end before the classifier: each
has its place, none may be left out, and all texts of all classes see each other.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import multi_head_attention_forward

from cxrbench.errors import IntegrityError, NotApplicableError, SpecError
from cxrbench.models.base import Runtime, checked_options
from cxrbench.models.checkpoint_model import require_size
from cxrbench.models.entities import Descriptions, EntityQueries, book, edition, named, vocabulary
from cxrbench.models.entities import Options as Books
from cxrbench.models.features import ImageFeatures
from cxrbench.models.medklip import MedKLIP, MedKLIPNetwork
from cxrbench.models.query_decoder import Stages, decoder_like, linear_like, text_side
from cxrbench.specs.card import ModelCard

PLACES = 9  # texts a class
_STAGES, _SIZE, _POOL_HEADS = 3, 224, 8
_ROWS_AT_ONCE = 72
_POSITIONS = "pool.positional_embedding"


class Options(Books):
    """`aspects`: the authors' second file, of eight aspects an entity; looked for where `descriptions` is."""

    aspects: str


class AttentionPool(nn.Module):
    """A map (N, C, h, w) to (N, d): its mean looks at itself and at all cells, as in CLIP's ResNets."""

    def __init__(self, cells: int, width: int, joint: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(cells + 1, width))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, joint)

    def forward(self, trunk: Tensor) -> Tensor:
        """See the class."""
        cells = trunk.flatten(2).permute(2, 0, 1)
        cells = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + self.positional_embedding[:, None].to(cells.dtype)
        biases = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
        found, _ = multi_head_attention_forward(
            query=cells[:1],
            key=cells,
            value=cells,
            embed_dim_to_check=cells.shape[2],
            num_heads=_POOL_HEADS,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
            in_proj_weight=None,
            in_proj_bias=biases,
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=self.c_proj.weight,
            out_proj_bias=self.c_proj.bias,
            use_separate_proj_weight=True,
            training=False,
            need_weights=False,
        )
        return found[0]


class MAVLNetwork(MedKLIPNetwork):
    """All that the published file is used for; the names are the file's."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        nn.Module.__init__(self)
        self.backbone = Stages(_STAGES)
        first, last, embedding = (_matrix(tensors, n, path) for n in ("res_l1.0.weight", "res_l2.weight", _POSITIONS))
        self.res_l1 = nn.Sequential(nn.Conv2d(first.shape[1], first.shape[0], 1), nn.PReLU())  # type: ignore[assignment]
        self.res_l2 = nn.Conv2d(last.shape[1], last.shape[0], 1)  # type: ignore[assignment]
        joint = linear_like(tensors, "pool.c_proj", path).out_features
        self.pool = AttentionPool(len(embedding) - 1, embedding.shape[1], joint)
        self.disease_embedding_layer = linear_like(tensors, "disease_embedding_layer", path)
        self.decoder = decoder_like(tensors, path)
        self.classifier = linear_like(tensors, "classifier", path)

    def parts(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The trunk's mean (N, C), the attention's pooled vector (N, d) and the tokens (N, T, w), row by row."""
        trunk = self.backbone(pixels)
        tokens = self.res_l2(self.res_l1(trunk)).flatten(2).mT
        return self.pooled(trunk), self.pool(trunk), tokens


def _matrix(tensors: Mapping[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors or tensors[name].ndim < 2:
        raise IntegrityError(f"{path}: no matrix {name}; this is not the model's file, or not all of it")
    return tensors[name]


class MAVL(MedKLIP):
    """The published checkpoints. A text of a class has nine lines: its description, then its aspects in their order.

    `joint` (256) is the attention's pooled vector, not of unit length; a text's are its nine vectors end to end.
    """

    options_type: ClassVar[type[Books]] = Options
    network_type: ClassVar[type[MedKLIPNetwork]] = MAVLNetwork
    least_side: ClassVar[int] = _SIZE

    @classmethod
    def require_texts(cls, card: ModelCard, texts: Sequence[str]) -> None:
        """See `Adapter.require_texts`."""
        short = [text for text in texts if len(text.split("\n")) != PLACES]
        if short:
            own = ", ".join(card.zero_shot.prompts) if card.zero_shot else ""
            raise NotApplicableError(
                f"{card.name} reads {PLACES} lines a class, its description and {PLACES - 1} aspects, each at its own "
                f"place, and not {short[0][:60]!r}; its authors' own set is {own}"
            )

    @classmethod
    def entity_queries(cls, card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> EntityQueries:
        """See `MedKLIP.entity_queries`; both books are read by name, and each entity's nine texts are its lines."""
        options = checked_options(card, Options)
        words = vocabulary(card, options)
        columns = words.columns(classes)
        path, data = book(card, options.descriptions, text_encoder)
        other, more = book(card, options.aspects, text_encoder)
        told, seen = named(path, data, words.entities), named(other, more, words.entities)
        texts = tuple(_lines(path, told[name], other, seen[name]) for name in words.entities)
        which = f"{edition(words, data)}; aspects: {edition(words, more)}"
        return EntityQueries(words.entities, Descriptions(texts, which, path), columns)

    @torch.inference_mode()
    def _encoded(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        require_size(pixels, _SIZE, self.card.name)
        network = self._network
        assert isinstance(network, MAVLNetwork)
        with runtime.autocast():
            pooled, joint, tokens = network.parts(pixels)
        return ImageFeatures(pooled.float(), joint.float(), tokens=tokens.float())

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        try:
            self.require_texts(self.card, texts)
        except NotApplicableError as error:
            raise SpecError(str(error)) from error
        lines = [line for text in texts for line in text.split("\n")]
        limit = text_side(self.card).max_tokens
        starts = range(0, len(lines), _ROWS_AT_ONCE)
        rows = [self._text.states(lines[first : first + _ROWS_AT_ONCE], limit).first_token for first in starts]
        return torch.cat(rows).reshape(len(texts), -1)

    def queries(self, texts: Tensor) -> Tensor:
        """Text vectors (P, 9 * 768) as the decoder takes them: (9 * P, 256), those of one class together."""
        return super().queries(texts.reshape(PLACES * len(texts), -1))

    def _decoded(self, tokens: Tensor, texts: Tensor) -> Tensor:
        asked = self.queries(texts).expand(len(tokens), -1, -1)
        found = self._network.decoder(asked, tokens).reshape(len(tokens), len(texts), -1)
        logits: Tensor = self._network.classifier(found)
        return logits


def _lines(path: Path, description: object, other: Path, aspects: object) -> str:
    """Nine lines of one entity; white space is one to the tokenizer, so that a line may have no break of its own."""
    if not isinstance(description, str):
        raise IntegrityError(f"{path}: wanted one text an entity; one is {type(description).__name__}")
    if not isinstance(aspects, list) or len(aspects) != PLACES - 1 or not all(isinstance(a, str) for a in aspects):
        raise IntegrityError(f"{other}: wanted a list of {PLACES - 1} texts an entity, in the authors' order")
    return "\n".join(" ".join(text.split()) for text in (description, *aspects))
