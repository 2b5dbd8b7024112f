"""What several processes agree on, seen from one; tests/test_distributed_runs.py has two."""

import pytest
import torch

from kakehashi.training.arguments import InstructArguments
from kakehashi.training.console import notify
from kakehashi.training.processes import (
    first_process_first,
    from_first,
    gather_model,
    is_any,
    is_first_process,
    launched_processes,
    same_everywhere,
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
