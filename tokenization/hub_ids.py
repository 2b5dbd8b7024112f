"""Which names can stand for a repository on the Hugging Face Hub."""

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
