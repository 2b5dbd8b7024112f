"""The memory benchmark: its tables are those of the page on scaling, and what it measures is near what it computes."""

import importlib.util
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the system does not tell a process's peak of memory")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def memory(monkeypatch):
    """The benchmark, imported as Python does when it runs the script."""
    spec = importlib.util.spec_from_file_location("memory", ROOT / "benchmarks" / "memory.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "memory", module)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_the_page_are_what_the_benchmark_prints(memory, capsys):
    memory.main(presets=[], vocab_size=32_000, tokens=None)
    printed = [line for line in capsys.readouterr().out.split("\n") if line]
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8").split("\n")
    assert len(printed) > 10
    assert [line for line in printed if line not in page] == []


def test_what_training_takes_is_near_what_is_computed(memory):
    computed = memory.compute("nano", 8192, 1024, bf16=False).total
    assert 0.8 < memory.measure("nano", 8192, 1024, use_muon=False, checkpointed=False) / computed < 1.8
