"""What stderr gets to see."""

import logging

from transformers.utils import logging as transformers_logging

from kakehashi.training.console import notify, quiet_library


def test_a_notice_is_one_line_on_stderr(capsys):
    notify("saved runs/x")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "saved runs/x\n")


def test_the_library_is_quiet_inside_and_as_before_outside():
    had_bars, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    with quiet_library():
        assert not transformers_logging.is_progress_bar_enabled()
        assert transformers_logging.get_verbosity() == logging.ERROR
    assert transformers_logging.is_progress_bar_enabled() == had_bars
    assert transformers_logging.get_verbosity() == verbosity
