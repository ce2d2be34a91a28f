"""What is measured on: synthetic radiographs at the sizes of the real files, and checkpoints with synthetic weights."""

from dataclasses import dataclass
from pathlib import Path

from cxrbench.phantom.write import write

KINDS = {  # file kind: task, where its images lie, what is asked of the phantom
    "DICOM 1024x1024": ("rsna", "rsna-*/stage_2_train_images/*.dcm", None),
    "PNG 299x299": ("covid", "COVID-19_*/*/images/*.png", None),
    "JPEG 2500x3000": ("chexpert5x200", "CheXpert-*/train/**/*.jpg", 14),
}
MODELS = 3
CARD = """\
name = "made_{number}"
title = "ResNet-50 with synthetic weights"
adapter = "cxrbench.models.dlilp:DLILP"
pretraining = ["nothing"]
licence = "same as cxrbench"
source = "made by the benchmarks"
synthetic = true

[options]
strategy = "unimodal"
vocabulary = "dlilp_vocabulary.toml"

[weights]
files = ["made_{number}.safetensors"]
where = "beside this card, written by the benchmarks"

[recipes.reality-check]
size = 224

[taps]
pooled = 2048
joint = 512

[zero_shot]
default = "label"
pooling = "embedding"

[zero_shot.views.label]
tap = "joint"
classes = "prototypes"
"""


@dataclass(frozen=True, slots=True)
class Material:
    """Where images and cards lie below one folder."""

    root: Path

    @property
    def data(self) -> Path:
        """The data root of the phantoms."""
        return self.root / "data"

    @property
    def cards(self) -> tuple[Path, ...]:
        """Cards of three models, each beside its weights."""
        return tuple(self.root / "models" / f"made_{number}.toml" for number in range(MODELS))

    def files(self, kind: str, count: int) -> list[str]:
        """The first `count` image files of a kind, sorted by name."""
        found = sorted(self.data.glob(KINDS[kind][1]))
        assert len(found) >= count, f"{len(found)} files of {kind} below {self.data}, {count} wanted"
        return [str(path) for path in found[:count]]


def prepared(root: Path) -> Material:
    """The material below `root`, drawn and made unless it is there."""
    material = Material(root)
    for task, _, images in KINDS.values():
        write(task, material.data, images_per_class=images, size="true")
    for number, card in enumerate(material.cards):
        if not card.is_file():
            _make_model(card, number)
    return material


def _make_model(card: Path, number: int) -> None:
    """A unimodal checkpoint in the official layout: torchvision's own initialisation of a ResNet-50, seeded."""
    import torch
    from safetensors.torch import save_file
    from torchvision.models import resnet50

    torch.manual_seed(number)
    trunk = {f"vision_model.model.{n}": t for n, t in resnet50().state_dict().items() if not n.startswith("fc.")}
    heads = {
        "class_prototypes": torch.randn(85, 512),
        "logit_scale": torch.tensor(2.66),
        "vision_model.projection_head_vision.projection.weight": torch.randn(512, 2048) / 2048**0.5,
    }
    card.parent.mkdir(parents=True, exist_ok=True)
    save_file({**heads, **trunk}, card.with_suffix(".safetensors"))
    card.write_text(CARD.format(number=number), encoding="utf-8")
