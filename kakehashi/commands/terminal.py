"""What commands show: results on stdout, and nothing of the libraries underneath."""

import logging
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def silence_libraries() -> None:
    """Keeps the progress bars and warnings of the libraries off the terminal: here only results matter."""
    from datasets.utils.logging import disable_progress_bar as disable_datasets_progress_bar
    from transformers.utils import logging as transformers_logging

    disable_datasets_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


def open_stdout() -> "Console":
    """Returns the console that results go to; into a file or a pipe, a long row stays one line."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 10_000)
