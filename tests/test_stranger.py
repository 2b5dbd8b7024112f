"""A process of its own, without kakehashi, on behalf of those who have none."""

import pytest

from kakehashi.training.stranger import ask_stranger


def test_a_folder_that_does_not_load_is_reported_with_what_the_process_said(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)did not load without kakehashi: .*Unrecognized model"):
        ask_stranger({"folders": {str(tmp_path): "AutoModelForSeq2SeqLM"}})


def test_nothing_asked_is_nothing_answered():
    assert ask_stranger({"folders": {}}) == {"classes": {}, "auto_map": {}}
