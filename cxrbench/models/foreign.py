"""Names in a pickle that stay names, and which of them torch itself writes."""

import re
from dataclasses import dataclass

# All that torch.save itself names in a file of tensors and plain values.
_OWN = re.compile(
    r"torch\.(\w+Storage|Size|device|Tensor|bool|strided|per_\w+|b?float\d\w*|u?int\d+|complex\d+)|torch\._utils\._rebuild_\w+"
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.\w*(Parameter|Buffer)|torch\.storage\.\w+"
    r"|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|complex)"
)
STORAGE = re.compile(r"torch\.\w*Storage")  # of numbers that are not read: complex, quantised, 8-bit floats
_UNREAD = re.compile(r"torch\.(\w*Storage|_utils\._rebuild_\w+|_tensor\._rebuild_\w+)")


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a file calls `name` (module.attribute), or would build of it. Never more than the name."""

    name: str

    @property
    def own(self) -> bool:
        """Whether torch.save itself writes this name into a file of tensors and plain values."""
        return _OWN.fullmatch(self.name) is not None

    @property
    def unread_tensor(self) -> bool:
        """Whether it stands for a tensor of a kind that is not read: sparse, quantised, complex, without values."""
        return _UNREAD.fullmatch(self.name) is not None
