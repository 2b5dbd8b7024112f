"""What stderr gets to see."""

import logging
import sys
from types import SimpleNamespace

import datasets
import pytest
from transformers.utils import logging as transformers_logging

from kakehashi.training.console import hide_bars_off_terminal, notify, quiet_library


def test_a_notice_is_one_line_on_stderr(capsys):
    notify("saved runs/x")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "saved runs/x\n")


def test_a_notice_that_nobody_reads_any_more_stops_nothing(monkeypatch):
    def break_pipe(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=break_pipe, flush=lambda: None))
    notify("saved runs/x")


def test_the_library_is_quiet_inside_and_as_before_outside():
    had_bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    with quiet_library():
        assert not transformers_logging.is_progress_bar_enabled()
        assert transformers_logging.get_verbosity() == logging.ERROR
    assert transformers_logging.is_progress_bar_enabled() == had_bars
    assert transformers_logging.get_verbosity() == verbosity


@pytest.fixture
def with_bars():
    """Shows the bars of both libraries, as a new process does."""
    datasets.enable_progress_bars()
    transformers_logging.enable_progress_bar()
    yield
    datasets.enable_progress_bars()
    transformers_logging.enable_progress_bar()


@pytest.mark.parametrize("is_terminal", [True, False])
def test_bars_are_for_terminals_only(monkeypatch, with_bars, is_terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    hide_bars_off_terminal()
    assert datasets.are_progress_bars_disabled() is not is_terminal
    assert transformers_logging.is_progress_bar_enabled() is is_terminal
