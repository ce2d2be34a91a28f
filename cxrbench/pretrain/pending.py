"""A step whose numbers still lie on the device: to ask for them is to wait for it."""

from dataclasses import dataclass

from cxrbench.pretrain.engine import Stepped
from cxrbench.pretrain.log import Row, number


@dataclass(frozen=True, slots=True)
class Pending:
    """Update `step` of an epoch at a learning rate, over so many images."""

    step: int
    epoch: int
    rate: float
    images: int
    done: Stepped

    def row(self) -> Row:
        """Its row of the log."""
        done = self.done
        scales = {name: float(value) for name, value in done.scales.items()}
        return Row(
            kind="step",
            step=self.step,
            epoch=self.epoch,
            loss=number(float(done.loss)),
            rate=self.rate,
            scale=scales.get("logit_scale"),
            scale_label=scales.get("logit_scale_head2"),
            norm=number(float(done.norm)),
            skipped=done.skipped,
        )
