"""Any model of the library open_clip, by its card: the library's own network, our reader, no pretrained tag."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import EngineReport, Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.model_config import Published, beside_weights, model_config, require_agreement, weights_config
from cxrbench.models.scaled_cosine import ScaledCosine
from cxrbench.models.settings_check import network_settings
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import refusing, require_text_folder
from cxrbench.models.unfilled import without_values
from cxrbench.specs.card import ModelCard, TextEncoder
from cxrbench.store import digest
from cxrbench.store.schema import Spec
from cxrbench.system.contained import PASSING

Tokenizer = Callable[[list[str]], Tensor]
_OPTIONS = {"clean", "strip_sep_token"}  # others would reach a library that may run code for them
_CLIP_WORDS = 49408


def tokenizer(card: ModelCard, told: Mapping[str, Any], words: int, folder: Path | None) -> Tokenizer:
    """Texts to ids (P, context) by the library, cut at the context as it does; `told` is `text_cfg`.

    `words` are the network's word embeddings. Raises SpecError where card and configuration disagree, DataError that
    says what to fetch when the files are not at hand, IntegrityError for a tokenizer of more words.
    """
    from open_clip.tokenizer import SimpleTokenizer

    length, more = int(told.get("context_length", 77)), dict(told.get("tokenizer_kwargs") or {})
    if not more.keys() <= _OPTIONS:
        raise SpecError(f"{card.name}: tokenizer_kwargs has {sorted(more)}; known are {sorted(_OPTIONS)}")
    named = told.get("hf_tokenizer_name")
    if (card.text_encoder is None) != (not named):
        raise SpecError(f"{card.name}: its configuration names the tokenizer {named!r}, its card none, or the reverse")
    if card.text_encoder is not None:
        return _of_transformers(card.name, card.text_encoder, told, words, folder)
    if words != _CLIP_WORDS:
        raise SpecError(f"{card.name}: a network of {words} words, and CLIP's tokenizer has {_CLIP_WORDS}")
    plain: Tokenizer = SimpleTokenizer(context_length=length, **more)
    return plain


def _of_transformers(
    name: str, encoder: TextEncoder, told: Mapping[str, Any], words: int, folder: Path | None
) -> Tokenizer:
    from open_clip.tokenizer import HFTokenizer

    length = int(told.get("context_length", 77))
    if encoder.max_tokens != length:
        raise SpecError(f"{name}: context_length is {length}, text_encoder.max_tokens is {encoder.max_tokens}")
    given = {key: told[key] for key in ("tokenizer_mode",) if told.get(key)} | dict(told.get("tokenizer_kwargs") or {})
    place = text_files(encoder, folder).folder
    require_text_folder(place)
    with refusing(place, "tokenizer"):
        found = HFTokenizer(str(place), context_length=length, local_files_only=True, trust_remote_code=False, **given)
    if len(found.tokenizer) > words:
        raise IntegrityError(f"{place}: {len(found.tokenizer)} tokens, and word embeddings for {words}")
    own: Tokenizer = found
    return own


CONFIG = "open_clip_config.json"
_NAMED_ELSEWHERE = ("timm_model_pretrained", "hf_model_pretrained", "hf_model_name", "hf_tokenizer_name")


class Options(Spec):
    """Where the configuration is: `architecture` by its name in the library, or `config` on the card itself.

    Without either it is the published `open_clip_config.json`. `text_config`: the `config.json` of a text encoder of
    transformers; without it, the published one in the repository of the card's text encoder.
    """

    architecture: str | None = None
    config: Mapping[str, Any] | None = None
    text_config: Mapping[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Options":
        if self.architecture is not None and self.config is not None:
            raise ValueError("give `architecture` or `config`, not both")
        return self


class OpenCLIP(ScaledCosine[Options]):
    """`pooled`: what the image projection sees; `joint`: its unit vector.

    Of a network that pools by attention while it projects, `pooled` is the mean of the map before.
    """

    options_type = Options
    image_network = ""

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        published = beside_weights(checkpoint, CONFIG)
        if published is not None:
            said = _compared(published.get("model_cfg", published))
            require_agreement(card, checkpoint, CONFIG, _compared(architecture(card, options)), said)
        super().__init__(card, options, checkpoint, text_encoder, runtime)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the configurations are part of it."""
        options = cls._options(card)
        told = architecture(card, options)
        return digest.of_json([options.model_dump(mode="json"), told, _text_config(card, options, told)])

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network for all."""
        told = architecture(card, options)
        with without_values(), _config_folder(_text_config(card, options, told)) as folder:
            return {"": _network(card.name, told, folder)}

    def _engine(self) -> EngineReport:
        self._head = _taken_off(self.parts[""].get_submodule("visual"), self.card.name)
        return super()._engine()

    @property
    def checked_size(self) -> int:
        """See `CheckpointModel.checked_size`."""
        side = self.parts[""].get_submodule("visual").image_size
        return int(side[0] if isinstance(side, tuple | list) else side)  # type: ignore[arg-type]

    @property
    def scale_and_bias(self) -> tuple[float, float]:
        """See `ScaledCosine.scale_and_bias`."""
        model: Any = self.parts[""]
        return float(model.logit_scale.exp()), 0.0 if model.logit_bias is None else float(model.logit_bias)

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, self.checked_size, self.card.name)
        with runtime.autocast():
            seen = self.parts[""].get_submodule("visual")(pixels)
        seen = seen.float()
        pooled = seen.mean(dim=(2, 3)) if seen.ndim == 4 else seen
        return ImageFeatures(pooled, normalize(self._head(seen)))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; cut at the context, as the library does. DataError without tokenizer."""
        ids = self.tokenizer(list(texts)).to(self.runtime.device)
        model: Any = self.parts[""]
        with self.runtime.autocast():
            projected = model.encode_text(ids).float()
        return TextFeatures(normalize(projected), projected)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See `open_clip_words.tokenizer`, whose errors it raises."""
        model: Any = self.parts[""]
        words = model.vocab_size if hasattr(model, "vocab_size") else model.text.vocab_size
        return tokenizer(self.card, architecture(self.card, self.options)["text_cfg"], words, self.text_encoder)


def architecture(card: ModelCard, options: Options) -> dict[str, Any]:
    """The table `model_cfg` of a model; raises SpecError for one that the library does not know or we do not run."""
    import open_clip

    if options.architecture is not None:
        found = open_clip.get_model_config(options.architecture) if ":" not in options.architecture else None
        if found is None:
            raise SpecError(f"{card.name}: open_clip has no architecture {options.architecture!r}")
    else:
        found = model_config(card, options.config, weights_config(card, CONFIG))
        found = found.get("model_cfg", found)
    if "multimodal_cfg" in found:
        raise SpecError(f"{card.name}: a captioning model (multimodal_cfg), which this adapter does not run")
    if not all(isinstance(found.get(part), dict) for part in ("vision_cfg", "text_cfg")):
        raise SpecError(f"{card.name}: its configuration has no vision_cfg and text_cfg")
    if ":" in str(found["vision_cfg"].get("timm_model_name")):
        raise SpecError(f"{card.name}: timm_model_name must be an architecture of timm, not a place to fetch from")
    return found


def _text_config(card: ModelCard, options: Options, told: Mapping[str, Any]) -> dict[str, Any] | None:
    """The configuration of a text encoder of transformers; None where the text side is the library's own."""
    if "hf_model_name" not in told["text_cfg"]:
        return None
    encoder = card.text_encoder
    hub, revision = (encoder.hub, encoder.revision) if encoder else (None, None)
    folders = () if encoder is None or encoder.folder is None else (encoder.folder,)
    return model_config(card, options.text_config, Published("text_config", "config.json", hub, revision, folders))


@contextmanager
def _config_folder(config: dict[str, Any] | None) -> Iterator[str | None]:
    """A folder with this configuration, which is how the library takes one without going to the hub."""
    if config is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        yield folder


def _network(name: str, told: dict[str, Any], text_folder: str | None) -> nn.Module:
    from open_clip import CLIP, CustomTextCLIP

    told = network_settings(name, told)
    parts = {key: value for key, value in told.items() if key != "custom_text"}
    parts["vision_cfg"] = {**told["vision_cfg"], "timm_model_pretrained": False}
    parts["text_cfg"] = dict(told["text_cfg"])
    if text_folder is not None:
        parts["text_cfg"] |= {"hf_model_name": text_folder, "hf_model_pretrained": False}
    kind = CustomTextCLIP if told.get("custom_text") or text_folder is not None else CLIP
    try:
        network: nn.Module = kind(**parts)
        _fit_size(network.visual)
    except PASSING:
        raise
    except BaseException as error:
        raise SpecError(f"{name}: open_clip cannot build a model of its configuration: {error!r}") from error
    return network


def _fit_size(visual: Any) -> None:
    """Give a network of timm the configuration's `image_size`, where its own is another: the library does not."""
    own = getattr(getattr(getattr(visual, "trunk", None), "patch_embed", None), "img_size", None)
    if own not in (None, visual.image_size):
        visual.set_input_size(visual.image_size)


def _taken_off(visual: Any, name: str) -> Callable[[Tensor], Tensor]:
    """The image network's projection; the network ends before it from now on."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    match visual:
        case VisionTransformer():
            matrix, visual.proj = visual.proj, None
            return lambda seen: seen @ matrix
        case TimmModel():
            head, visual.head = visual.head, nn.Identity().eval()
        case ModifiedResNet():
            head, visual.attnpool = visual.attnpool, nn.Identity().eval()
        case _:
            raise SpecError(f"{name}: an image network {type(visual).__name__}, whose projection is not known here")
    projected: Callable[[Tensor], Tensor] = head
    return projected


def _compared(told: Mapping[str, Any]) -> dict[str, Any]:
    """What two configurations of one network agree on, whatever they say of where things are fetched from."""
    return {
        key: {k: v for k, v in value.items() if k not in _NAMED_ELSEWHERE} if isinstance(value, Mapping) else value
        for key, value in told.items()
    }
