"""Published checkpoints turned into safetensors: the tensors as they were, and where they came from in the header.

A converted file `NAME.safetensors` stands for the published file `NAME`. Its tensors must have the digest that its
header states; that they are those of the published file is no more than a claim until both were read (see
`weights.identity`). Keys of stored vectors hold digests of tensors, so the two share everything computed from them.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.store import digest
from cxrbench.store.atomic import written_whole
from cxrbench.store.schema import Spec, complaints

SUFFIX = ".safetensors"
_KEY = "cxrbench.origin"
_ADVICE = "Remove it, and convert the published file again by `cxrbench weights convert`."


class ConversionOrigin(Spec):
    """The published file behind a converted one: its name and SHA-256, and how its tensors were reached.

    `tensors`: digest of the converted tensors, see `tensors_digest`; `other`: what else the file held, as in
    `Checkpoint`.
    """

    file: str = Field(pattern=r"^[^/\\\x00]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    tensors: str = Field(pattern="^[0-9a-f]{64}$")
    container: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    other: Mapping[str, str] = {}


def beside(path: Path) -> Path:
    """Where the converted file of a published one lies."""
    return path.with_name(path.name + SUFFIX)


def prefer_converted(path: Path) -> Path:
    """The converted file beside a published one where there is one, else `path` itself.

    Raises IntegrityError for a converted file that is damaged.
    """
    found = beside(path)
    return found if found.is_file() and origin(found) is not None else path


def origin(path: Path) -> ConversionOrigin | None:
    """Where a safetensors file comes from, or None where nothing was converted; reads the header alone.

    Raises IntegrityError for a damaged file.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            told = (stream.metadata() or {}).get(_KEY)
        return None if told is None else ConversionOrigin.model_validate_json(told)
    except ValidationError as error:
        raise IntegrityError(f"{path}: its header does not say where it comes from: {complaints(error)}") from error
    except SafetensorError as error:
        raise IntegrityError(f"{path}: a damaged safetensors file ({error}). {_ADVICE}") from error


def tensor_digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Dtype, shape and hex SHA-256 of the bytes of every tensor, by its name."""
    return {name: _named(tensor) for name, tensor in tensors.items()}


def _named(tensor: Tensor) -> str:
    data = hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} {data}"


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over the names, dtypes, shapes and bytes of all tensors, whatever their order."""
    return digest.of_json(tensor_digests(tensors))


def write_converted(path: Path, tensors: Mapping[str, Tensor], told: ConversionOrigin) -> None:
    """Write the file whole or not at all; tensors that share memory get a copy each."""
    with written_whole(path) as made:
        own = {key: tensor.detach().clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
        save_file(own, made, {_KEY: told.model_dump_json()})  # one key: several would be written in any order


def require_faithful(path: Path, told: ConversionOrigin, tensors: Mapping[str, Tensor]) -> None:
    """Raise IntegrityError unless the tensors are those that were converted, and their source, if there, unchanged."""
    if tensors_digest(tensors) != told.tensors:
        raise IntegrityError(f"{path}: its tensors are not those that were converted from {told.file}. {_ADVICE}")
    source = path.with_name(told.file)
    if source.is_file():
        require_source(path, told, digest.of_file(source))


def require_source(path: Path, told: ConversionOrigin, sha256: str) -> None:
    """Raise IntegrityError unless the published file beside, of this SHA-256, is the one that was converted."""
    if sha256 != told.sha256:
        raise IntegrityError(
            f"{path}: was converted from a {told.file} with sha256 {told.sha256}; the one beside it has {sha256}. "
            f"One of the two is not what you want. {_ADVICE}"
        )
