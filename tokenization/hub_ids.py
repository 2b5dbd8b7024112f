"""Names that can stand for a repository on the Hugging Face Hub, and errors that say which one was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

_RUNS: Final = "runs"


def may_be_hub_id(name: str | Path) -> bool:
    """Returns whether a name that is no folder here can be an id on the Hub, such as `owner/name`.

    What begins with `runs/` is none: recipes and documentation keep there what they make, and whoever mistypes such a
    folder, or has not made it yet, did not ask for the network.
    """
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        return False
    return Path(name).parts[0] != _RUNS


@contextmanager
def naming_hub_id(name: str | Path) -> Iterator[None]:
    """Adds to an error of the Hub what was asked of it: the library names only itself where there is no network.

    Raises:
        OSError: In place of one that is raised inside, unless there is a folder of that name.
    """
    try:
        yield
    except OSError as error:
        if Path(name).exists():
            raise
        raise OSError(f"there is no folder {name}, and the Hub gave nothing of that name: {error}") from error
