"""What a run says on stderr: single lines beside a progress bar, and no noise from the library underneath."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from datasets import disable_progress_bars
from tqdm.auto import tqdm
from transformers.utils import logging

from kakehashi.training.processes import is_first_process


def notify(message: str) -> None:
    """Writes one line to stderr without tearing a progress bar apart; of several processes only the first does."""
    if is_first_process():
        # A run goes on, and saves what it has, where nobody reads it any more: Ctrl-C ends `tee` too.
        with suppress(BrokenPipeError):
            tqdm.write(message, file=sys.stderr)


def hide_bars_off_terminal() -> None:
    """Holds back the bars of the libraries where stderr is a file or a pipe: each redrawing would be a line there."""
    if not sys.stderr.isatty():
        disable_progress_bars()
        logging.disable_progress_bar()


@contextmanager
def quiet_library() -> Iterator[None]:
    """Holds back the library's bars, one for each file it reads or writes, and its remarks on keys it did not find.

    A run says itself, in one line, what it starts from; tied weights, stored once, would be reported as missing.
    """
    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
