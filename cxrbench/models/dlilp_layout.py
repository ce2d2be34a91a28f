"""The published layouts of CLIP, UniCL, unimodal and DLILP: which tensors a file must hold, and what its rows mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cxrbench.errors import NotApplicableError, SpecError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import Coverage, coverage
from cxrbench.models.nets import resnet, under, width
from cxrbench.models.text import bert, text_files
from cxrbench.models.transformers_nets import text_config, text_network
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import LocalPath, Spec, read_toml


@dataclass(frozen=True, slots=True)
class NamedTrunk:
    """A network from (n, 3, s, s) to (n, width), with fresh tensors."""

    module: nn.Module
    width: int


def named_trunk(name: str) -> NamedTrunk:
    """`resnet50` is torchvision's, `timm:NAME` timm's; the last linear layer is left out.

    Raises SpecError for a name that the library does not know.
    """
    return _of_timm(name.removeprefix("timm:")) if name.startswith("timm:") else _of_torchvision(name)


def _of_torchvision(name: str) -> NamedTrunk:
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise SpecError(f"torchvision has no model {name!r}; write timm:{name} for timm's")
    module: nn.Module = torchvision.models.get_model(name, weights=None)
    path, last = [(path, part) for path, part in module.named_modules() if isinstance(part, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())
    return NamedTrunk(module, last.in_features)


def _of_timm(name: str) -> NamedTrunk:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SpecError("timm is not installed; `pip install timm` or name a torchvision model") from error
    if not timm.is_model(name):
        raise SpecError(f"timm has no model {name!r}")
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    width: int = getattr(module, "head_hidden_size", None) or module.num_features  # type: ignore[assignment]
    return NamedTrunk(module, width)


Strategy = Literal["clip", "unicl", "unimodal", "dlilp"]
TRUNK, BERT = "vision_model.model.", "text_model.model."
HEADS = {
    "joint": "vision_model.projection_head_vision.projection.weight",
    "label": "vision_model.projection_head2.projection.weight",
}
SCALES = {"joint": "logit_scale", "label": "logit_scale_head2"}  # of the views that score this tap
TEXT_HEAD, PROTOTYPES = "text_model.projection_head_text.projection.weight", "class_prototypes"


class Options(Spec):
    """`strategy` decides the layout; `vocabulary` names a file beside the card, or of the zoo.

    `trunk`: the image network's name in torchvision, or `timm:NAME`; without one it is a ResNet, told by its tensors.
    """

    strategy: Strategy
    vocabulary: LocalPath | None = None
    trunk: str | None = None


class Vocabulary(Spec):
    """The categories, in the order of the prototypes, and the class names that stand for others (lower case).

    An alias of several categories is the mean of their raw prototypes.
    """

    title: str
    source: str
    categories: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]

    def rows(self, name: str) -> list[int]:
        """Row numbers of the prototypes of a class; raises NotApplicableError that lists the vocabulary."""
        wanted = self.aliases.get(name.lower(), (name.lower(),))
        if any(category not in self.categories for category in wanted):
            raise NotApplicableError(
                f"there is no prototype for class {name!r}; the label side knows: {', '.join(self.categories)}; "
                f"and under another name: {', '.join(self.aliases)}. Score the class by prompts, or leave it out."
            )
        return [self.categories.index(category) for category in wanted]


def vocabulary(card: ModelCard, options: Options) -> Vocabulary | None:
    """The vocabulary that the options name; raises SpecError if the file cannot be read."""
    if options.vocabulary is None:
        return None
    beside = card.home / options.vocabulary
    path = beside if beside.is_file() else paths.folder("model_zoo") / options.vocabulary
    return read_toml(path, Vocabulary)


def covered(checkpoint: Checkpoint, card: ModelCard, options: Options) -> Coverage:
    """The file's tensors against the layout; IntegrityError if its image network is of no known kind."""
    return coverage(checkpoint.tensors, wanted(checkpoint, card, options), card.weights.ignored)


def wanted(checkpoint: Checkpoint, card: ModelCard, options: Options) -> dict[str, Tensor]:
    """Every tensor of the layout, on the meta device: depths as the file has them, widths as the card says."""
    made = image_network(checkpoint, options)
    words = vocabulary(card, options)
    sizes = {HEADS["joint"]: (card.taps["joint"], made.width), SCALES["joint"]: ()}
    if words is not None:
        label = "label" if "label" in card.taps else "joint"
        sizes[PROTOTYPES] = (len(words.categories), card.taps[label])
    if "label" in card.taps:
        sizes |= {HEADS["label"]: (card.taps["label"], made.width), SCALES["label"]: ()}
    text: dict[str, Tensor] = {}
    if options.strategy != "unimodal":
        encoder = text_layout(checkpoint, card)
        text = {BERT + name: tensor for name, tensor in encoder.state_dict().items()}
        sizes[TEXT_HEAD] = (card.taps["joint"], int(encoder.config.hidden_size))  # type: ignore[arg-type, union-attr]
    own = {name: torch.empty(size, device="meta") for name, size in sizes.items()}
    return {**own, **{TRUNK + name: tensor for name, tensor in made.module.state_dict().items()}, **text}


def text_layout(checkpoint: Checkpoint, card: ModelCard) -> nn.Module:
    """The text encoder without values: by the configuration beside the card where it names one, else a BERT."""
    if card.text_encoder is not None and card.text_encoder.beside is not None:
        return text_network(text_config(text_files(card.text_encoder, None)))
    return bert(under(checkpoint.tensors, BERT), None)


def image_network(checkpoint: Checkpoint, options: Options) -> NamedTrunk:
    """The image network of a file, to be filled; raises IntegrityError, or SpecError for a name nobody knows."""
    if options.trunk is not None:
        return named_trunk(options.trunk)
    found = resnet(under(checkpoint.tensors, TRUNK), checkpoint.path)
    return NamedTrunk(found, width(found))


def fits(checkpoint: Checkpoint, card: ModelCard) -> bool:
    """Whether the file has the layout of a card with this adapter."""
    return covered(checkpoint, card, Options.model_validate(dict(card.options))).complete
