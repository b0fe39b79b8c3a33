"""Files of tensors, in safetensors, read as they were written or refused in one sentence."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probekit.digests import require_undamaged, way_out
from probekit.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def opened(path: Path, device: str = "cpu") -> Iterator[Any]:
    """Open a file of tensors, as `safetensors.safe_open` does.

    Args:
        path: The file.
        device: Where its tensors are to be.

    Raises:
        RunError: If it is not as its run wrote it, or is none of tensors; also if what is read
            of it in the `with` block is not in it.
    """
    from safetensors import SafetensorError, safe_open

    require_undamaged(path)
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path} cannot be read as safetensors: {error}. {way_out(path)}") from None


def read(path: Path, device: str = "cpu") -> tuple[dict[str, str], "Mapping[str, Tensor]"]:
    """Return the metadata of a file of tensors, and its tensors.

    Raises:
        RunError: If it is not as its run wrote it, or is none of tensors.
    """
    with opened(path, device) as file:
        names = file.keys()
        return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
