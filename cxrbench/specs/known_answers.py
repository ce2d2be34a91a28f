"""Numbers that others printed from the published weights, as a card states them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cxrbench.specs.recipe import Recipe
from cxrbench.store.schema import Spec


class Head(Spec):
    """A classifier that the file holds and the adapter does not use: linear, on the pooled vector.

    `layer` names its tensors, `outputs` what it tells, in order. Without `operating_points` its probabilities are the
    softmax. With them they are torchxrayvision's: p, the logistic function, becomes p / 2t up to the output's point t
    and 1 - (1 - p) / (2 (1 - t)) from there, so that 0.5 is the point; an output without one was not trained, and is
    0.5 throughout.
    """

    layer: str
    outputs: tuple[str, ...] = ()
    operating_points: Mapping[str, Annotated[float, Field(gt=0, lt=1)]] = {}

    @model_validator(mode="after")
    def _fits(self) -> "Head":
        if strange := sorted(set(self.operating_points) - set(self.outputs)):
            raise ValueError(f"`operating_points` names what is none of `outputs`: {', '.join(strange)}")
        return self

    def place(self, output: str) -> int | None:
        """The number of an output by its name, or of one without names as it is; None for one that there is not."""
        if self.outputs:
            return self.outputs.index(output) if output in self.outputs else None
        return int(output) if output.isdigit() else None


class ExamplePicture(Spec):
    """The picture of an answer, which is never passed on. Without a known `sha256` it goes by its file `name`."""

    name: str
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    where: str
    terms: str


class KnownAnswer(Spec):
    """One printed answer. `source`: where it is printed; `note`: what else is known of it.

    `kind`: `vector`, entries of the card's tap `tap` of the picture, or of the one text's vector, by position, from
    the end where negative; `scores` of the picture with `texts`, encoded as one batch; `head`, probabilities by the
    card's `head` on `pooled`, by the name of the output or its number; `order`,
    of four places in `texts` each: the cosine of the first two is above that of the last two; `file`, the SHA-256 of
    `file`; `listed`, scores on a list of images, shown with what is needed. `form` of scores: logits, the cosine, or
    the softmax of logits over the texts. `tolerance` is absolute. `recipe`: where it is not the card's `authors`.

    `file`: a name of the card's for its weights, text/NAME for one of its text encoder, or another one of the source.
    `unchecked`: why cxrbench cannot compute it. `standing` of a file: several sources agree (`required`), one states it
    (`stated`), or it is that of an upload that was replaced (`superseded`).
    """

    name: str
    kind: Literal["vector", "scores", "head", "order", "file", "listed"]
    source: tuple[str, ...] = Field(min_length=1)
    note: str = ""
    picture: ExamplePicture | None = None
    recipe: Recipe | None = None
    texts: tuple[str, ...] = ()
    form: Literal["logit", "cosine", "probability"] = "logit"
    tap: str = "pooled"
    values: Mapping[str, float] = {}
    tolerance: float = Field(0.0, ge=0)
    order: tuple[tuple[int, int, int, int], ...] = ()
    file: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    standing: Literal["required", "stated", "superseded"] = "stated"
    unchecked: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> "KnownAnswer":
        if self.kind == "file":
            if self.file is None or self.sha256 is None:
                raise ValueError("an answer about a file names the `file` and its `sha256`")
            return self
        if self.kind == "listed" and self.unchecked is None:
            raise ValueError("a listed answer says in `unchecked` what is needed")
        if self.unchecked is None:
            self._computable()
        return self

    def _computable(self) -> None:
        if self.kind == "order":
            if not self.order or not all(0 <= place < len(self.texts) for places in self.order for place in places):
                raise ValueError("`order` holds four places in `texts` each")
            return
        if not self.values or not self.tolerance:
            raise ValueError(f"an answer of kind {self.kind!r} needs `values` and a `tolerance`")
        if self.kind == "head":
            if self.picture is None:
                raise ValueError("the output of a head is that of a picture")
        elif self.kind == "vector":
            if self.picture is None and len(self.texts) != 1:
                raise ValueError("a vector is that of a picture, or of one text")
            if not all(key.removeprefix("-").isdigit() for key in self.values):
                raise ValueError("the keys of `values` are positions")
        elif self.picture is None or set(self.values) - set(self.texts):
            raise ValueError("scores are of a picture with `texts`, and each value is that of one of them")
