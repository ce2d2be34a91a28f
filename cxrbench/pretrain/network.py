"""The network that is trained; its tensors bear the names of the official checkpoints, so its state is the export."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, pad

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.dlilp_layout import PROTOTYPES, SCALES, NamedTrunk, named_trunk
from cxrbench.models.text import TextFiles, fetched_text_files
from cxrbench.models.transformers_nets import text_config
from cxrbench.pretrain.config import Config, Objective, Text
from cxrbench.specs.card import TextEncoder

_FEWEST_REPORTS = 2  # one pair has nothing to be told from
_NO_DIVISION_BY_ZERO = 1e-3  # added to the size of a sample's mask, as released


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and their texts: unit vectors (n, d) each, row by row, and the scale () between them."""

    image: Tensor
    text: Tensor
    scale: Tensor


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (n, d) at unit length, raw prototypes (C, d), the scale () between them; labels, masks (n, C) of 0 or 1.

    Only labels inside the mask count.
    """

    image: Tensor
    prototypes: Tensor
    scale: Tensor
    labels: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Targets:
    """Soft targets of both directions, (n, n) each; rows sum to 1."""

    image_to_text: Tensor
    text_to_image: Tensor


def scale(log_scale: Tensor, highest: float = 4.6052) -> Tensor:
    """exp(t) with t clamped to 0..`highest` in place first, so the gradient is that at the clamped value."""
    with torch.no_grad():
        log_scale.clamp_(0, highest)
    return log_scale.exp()


def clip_loss(pairs: Pairs) -> Tensor:
    """Contrastive loss over all pairs of the batch; equal texts are negatives of each other.

    L = -1/(2n) Σ_i [ log softmax_j(s u_i·v_j)_i + log softmax_j(s v_i·u_j)_i ]
    """
    logits = pair_logits(pairs)
    own = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def unicl_targets(image_labels: Tensor, text_labels: Tensor) -> Targets:
    """Which images and texts share a category, from labels (n, C) of 0 and 1 on both sides; a pair always matches.

    S = min(Y_image Y_textᵀ + I, 1); the targets are the rows of S and of Sᵀ over their sums.
    """
    shared = image_labels.float() @ text_labels.float().T
    shared = (shared + torch.eye(len(shared), device=shared.device)).clamp(0, 1)
    return Targets(shared / shared.sum(dim=1, keepdim=True), shared.T / shared.T.sum(dim=1, keepdim=True))


def unicl_loss(pairs: Pairs, targets: Targets) -> Tensor:
    """Contrastive loss with soft targets q both ways; with the identity as targets it is `clip_loss`.

    L = -1/(2n) Σ_i Σ_j [ q_ij log softmax_j(s u_i·v_j) + q'_ij log softmax_j(s v_i·u_j) ]
    """
    logits = pair_logits(pairs)
    forward, back = (target.to(logits.dtype) for target in (targets.image_to_text, targets.text_to_image))
    return (cross_entropy(logits, forward) + cross_entropy(logits.T, back)) / 2


def unimodal_loss(batch: Labelled) -> Tensor:
    """Binary cross-entropy of every category against its prototype, inside the label space of the sample's data set.

    L = -1/n Σ_i Σ_c m_ic [ y_ic log σ(s u_i·p_c) + (1 - y_ic) log(1 - σ(s u_i·p_c)) ] / (Σ_c m_ic + 1e-3)
    """
    logits = _logits(batch.scale, batch.image, normalize(_wide(batch.prototypes), dim=1))
    mask = batch.mask.to(logits.dtype)
    terms = binary_cross_entropy_with_logits(logits, batch.labels.to(logits.dtype), reduction="none") * mask
    return (terms.sum(dim=1) / (mask.sum(dim=1) + _NO_DIVISION_BY_ZERO)).mean()


def dlilp_loss(batch: Labelled, reports: Pairs | None, weight: float) -> Tensor:
    """Label loss on one projection, contrastive loss on another over the samples that have a report sentence.

    L = L_unimodal(w, p; s₂) + λ L_CLIP(u, v; s₁); there is no second term, nor a gradient of it, below two such samples
    (None stands for none).
    """
    loss = unimodal_loss(batch)
    if reports is None or len(reports.image) < _FEWEST_REPORTS or weight == 0:
        return loss
    return loss + weight * clip_loss(reports)


def pair_logits(pairs: Pairs) -> Tensor:
    """Scaled cosines (n, n) of each image (row) with each text."""
    return _logits(pairs.scale, pairs.image, pairs.text)


def _logits(factor: Tensor, image: Tensor, other: Tensor) -> Tensor:
    """Scaled cosines (n, m)."""
    return _wide(factor) * _wide(image) @ _wide(other).T


def _wide(vectors: Tensor) -> Tensor:
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


_CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.")  # what published ImageNet weights hold beyond the trunk


def trunk(name: str, weights: Path | None) -> NamedTrunk:
    """The named trunk, filled from a file where one is given.

    Raises SpecError for a name that is not known, IntegrityError if the file is not that network's.
    """
    made = named_trunk(name)
    if weights is not None:
        _fill(made.module, read_checkpoint(weights).tensors, weights, name)
    return made


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Put published weights into the trunk; those of the classifier are left out."""
    own = module.state_dict()
    kept = {key: tensor for key, tensor in tensors.items() if key in own}
    strange = [key for key in tensors if key not in kept and not key.startswith(_CLASSIFIERS)]
    # Files older than these counters lack them; torch starts them at 0.
    missing = [key for key in own if key not in kept and not key.endswith(".num_batches_tracked")]
    if missing or strange:
        raise IntegrityError(
            f"{path}: not the weights of {name}: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(strange)} are of another network ({', '.join(strange[:3])})"
        )
    try:
        module.load_state_dict(kept)
    except RuntimeError as error:
        raise IntegrityError(f"{path}: not the weights of {name}: {str(error).splitlines()[-1].strip()}") from error


WEIGHTS = ("model.safetensors", "pytorch_model.bin")
WITH_TEXT: tuple[Objective, ...] = ("clip", "unicl", "dlilp", "sat")
WITH_LABELS: tuple[Objective, ...] = ("unimodal", "dlilp")


@dataclass(frozen=True, slots=True)
class Tokens:
    """`ids` and `mask` (t, L) int64 of t texts; `filler` is the id of padding, which stands to the right or `left`."""

    ids: Tensor
    mask: Tensor
    filler: int = 0
    left: bool = False

    def widened(self, length: int) -> "Tokens":
        """The same texts, padded to `length` positions."""
        more = length - self.ids.shape[1]
        sides = (more, 0) if self.left else (0, more)
        return replace(self, ids=pad(self.ids, sides, value=self.filler), mask=pad(self.mask, sides))


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors in the precision of the weights: `joint` (n, d) of images, `text` (t, d).

    `label` (n, d) is DLILP's second head.
    """

    joint: Tensor
    label: Tensor | None = None
    text: Tensor | None = None


class Projection(nn.Module):
    """A linear head without bias."""

    def __init__(self, width: int, dimension: int) -> None:
        super().__init__()
        self.projection = nn.Linear(width, dimension, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, width) to (n, dimension) at unit length, in the precision of the weights."""
        with torch.autocast(vectors.device.type, enabled=False):
            return normalize(self.projection(vectors.to(self.projection.weight.dtype)), dim=1)


class VisionModel(nn.Module):
    """Trunk and its one or two heads."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        made = trunk(config.image.trunk, config.image.weights)
        self.width = made.width
        self.model = made.module
        self.projection_head_vision = Projection(made.width, config.head.dimension)
        if config.objective == "dlilp":
            self.projection_head2 = Projection(made.width, config.head.dimension)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pixels (n, 3, s, s) to the vectors of the first head, and of the second if there is one."""
        pooled = self.model(pixels)
        second = self.projection_head2(pooled) if hasattr(self, "projection_head2") else None
        return self.projection_head_vision(pooled), second


class TextModel(nn.Module):
    """A text encoder whose token states are averaged, and its head."""

    def __init__(self, config: Config, files: TextFiles) -> None:
        super().__init__()
        self.model = text_encoder(config.text, files)
        self.dtype = torch.float64 if config.engine.precision == "64-true" else torch.float32
        self.real_only = config.text.padding == "masked"
        self.projection_head_text = Projection(int(self.model.config.hidden_size), config.head.dimension)  # type: ignore[arg-type, union-attr]

    def forward(self, tokens: Tokens) -> Tensor:
        """Unit vectors (t, d): the mean over positions of the mean of hidden states 1, 2 and last, projected."""
        states = self.model(
            input_ids=tokens.ids, attention_mask=tokens.mask, output_hidden_states=True, return_dict=True
        ).hidden_states
        mixed = torch.stack([states[1], states[2], states[-1]]).to(self.dtype).mean(dim=0)
        if self.real_only:
            weight = tokens.mask.unsqueeze(-1).to(mixed.dtype)
            return self.projection_head_text((mixed * weight).sum(dim=1) / weight.sum(dim=1))
        return self.projection_head_text(mixed.mean(dim=1))


class Network(nn.Module):
    """Both towers, prototypes and log scales, as one objective needs them.

    Prototypes (C, d) start as independent normal numbers of variance 1 / d, log scales at log(1 / temperature), where
    that of SAT stays.
    """

    def __init__(self, config: Config, categories: int, files: TextFiles | None) -> None:
        super().__init__()
        self.highest = config.head.highest_log_scale
        warmth = config.triage.temperature if config.objective == "sat" else config.head.temperature
        dimension, start = config.head.dimension, math.log(1 / warmth)
        if config.objective in WITH_LABELS:
            rows = torch.randn(categories, dimension) / math.sqrt(dimension)
            self.register_parameter(PROTOTYPES, nn.Parameter(rows))
        names = SCALES.values() if config.objective == "dlilp" else [SCALES["joint"]]
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.tensor(start)))
        self.vision_model = VisionModel(config)
        if files is not None:
            self.text_model = TextModel(config, files)

    def forward(self, pixels: Tensor, tokens: Tokens | None) -> Vectors:
        """Pixels (n, 3, s, s) and, where the objective reads, texts to unit vectors."""
        joint, label = self.vision_model(pixels)
        return Vectors(joint, label, None if tokens is None else self.text_model(tokens))

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights, and of what leaves the network."""
        return self.vision_model.projection_head_vision.projection.weight.dtype

    def scale(self, tap: str) -> Tensor:
        """exp of the clamped log scale that belongs to the tap `joint` or `label`."""
        return scale(self.get_parameter(SCALES[tap]), self.highest)

    @property
    def prototypes(self) -> Tensor:
        """The raw class prototypes (C, d)."""
        return self.get_parameter(PROTOTYPES)


def encoder_facts(text: Text, weights: bool) -> TextEncoder:
    """The text encoder in the words of a model card; with its own weights, or tokenizer and configuration only.

    Of a local folder nothing is known but its name.
    """
    local = text.folder is not None
    return TextEncoder(
        hub=text.folder.resolve().name if text.folder is not None else text.hub,
        files=text.files,
        weights=WEIGHTS if weights else (),
        revision=None if local else text.revision,
        revision_reason="a local folder, copied beside the card" if local else None,
        max_tokens=text.max_tokens,
    )


def find_text_encoder(config: Config) -> TextFiles | None:
    """The text encoder's files, from the local folder or the hub; None where the objective reads no text.

    Raises DataError that says what to fetch.
    """
    if config.objective not in WITH_TEXT:
        return None
    return fetched_text_files(encoder_facts(config.text, config.text.initial == "pretrained"), config.text.folder)


def text_encoder(text: Text, files: TextFiles) -> nn.Module:
    """The folder's encoder with its weights, or untrained.

    Raises SpecError for what is no text encoder, IntegrityError if the weights do not cover it.
    """
    from transformers import AutoModel

    config = text_config(files)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and text.max_tokens > longest:
        raise SpecError(f"text.max_tokens: {text.max_tokens}, but {files.folder} has {longest} positions")
    if text.initial == "random":
        made: nn.Module = AutoModel.from_config(config, trust_remote_code=False)
        return made
    model, report = AutoModel.from_pretrained(
        str(files.folder), config=config, local_files_only=True, trust_remote_code=False, output_loading_info=True
    )
    if lost := [name for name in report["missing_keys"] if not name.startswith("pooler.")]:
        raise IntegrityError(
            f"{files.folder}: the weights lack {len(lost)} tensors of a {config.model_type}, such as {sorted(lost)[0]}"
        )
    loaded: nn.Module = model.float()
    return loaded
