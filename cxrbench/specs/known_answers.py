"""Numbers that others printed from the published weights, as a card states them."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from cxrbench.specs.recipe import Recipe
from cxrbench.store.schema import Spec


class ExamplePicture(Spec):
    """The picture of an answer, which is never passed on. Without a known `sha256` it goes by its file `name`."""

    name: str
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    where: str
    terms: str


class KnownAnswer(Spec):
    """One printed answer. `source`: where it is printed; `note`: what else is known of it.

    `kind`: `vector`, entries of the card's tap `tap` of the picture, or of the one text's vector, by position, from
    the end where negative; `scores` of the picture with `texts`, encoded as one batch; `head`, probabilities by a
    linear layer of the file that the card ignores, `head` naming its tensors, on `pooled`, by output number; `order`,
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
    head: str | None = None
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
        if (self.kind == "head") != (self.head is not None):
            raise ValueError("`head` goes with the kind `head`")
        if self.kind in ("vector", "head"):
            if self.picture is None and len(self.texts) != 1:
                raise ValueError("a vector is that of a picture, or of one text")
            if not all(key.removeprefix("-").isdigit() for key in self.values):
                raise ValueError("the keys of `values` are positions")
        elif self.picture is None or set(self.values) - set(self.texts):
            raise ValueError("scores are of a picture with `texts`, and each value is that of one of them")
        if self.kind == "head" and self.picture is None:
            raise ValueError("the output of a head is that of a picture")
