"""What several processes agree on, seen from one; tests/test_distributed_runs.py has two."""

import logging

import pytest
import torch
from datasets import Dataset
from datasets.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging as transformers_logging

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.console import notify
from kakehashi.training.examples import tokenize_documents
from kakehashi.training.processes import (
    first_process_first,
    from_first,
    gather_model,
    is_any,
    is_first_process,
    launched_processes,
    same_everywhere,
    silence_other_processes,
    sum_over_processes,
)
from kakehashi.training.recipe import parse_recipe

CPU = torch.device("cpu")


def test_alone_a_process_agrees_with_itself(tiny_model, tmp_path):
    assert is_first_process()
    assert launched_processes() == 1
    assert from_first(0.1, CPU) == 0.1
    assert is_any(True, CPU) and not is_any(False, CPU)
    values = torch.tensor([1, 2])
    assert sum_over_processes(values) is values
    assert gather_model(tiny_model) is tiny_model
    _, settings = parse_recipe(InstructArguments, {"output_dir": str(tmp_path)})
    with pytest.raises(ValueError, match="no data"), first_process_first(settings):
        raise ValueError("no data")


def test_only_the_first_process_tells_what_all_of_them_meet(monkeypatch, capsys):
    error = ValueError("not finite")
    notify("from the first")
    assert same_everywhere(error) is error
    monkeypatch.setenv("RANK", "1")
    notify("from the second")
    silent = same_everywhere(error)
    assert isinstance(silent, SystemExit) and silent.code == 2
    assert capsys.readouterr().err == "from the first\n"


def test_only_the_first_process_warns_of_its_data_and_shows_bars(monkeypatch, caplog, tiny_tokenizer):
    def tokenize():
        caplog.clear()
        tokenize_documents(Dataset.from_dict({"text": ["I love cats. " * 20]}), tiny_tokenizer, max_length=8)
        return caplog.messages

    silence_other_processes()
    assert tokenize() == ["1 of 1 documents are longer than 8 tokens and were split."]
    assert not are_progress_bars_disabled()
    monkeypatch.setenv("RANK", "1")
    verbosity = transformers_logging.get_verbosity()
    try:
        silence_other_processes()
        assert tokenize() == [] and are_progress_bars_disabled()
    finally:
        logging.getLogger("kakehashi").setLevel(logging.NOTSET)
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
        enable_progress_bars()
