"""The Python of docs/neighbours.md runs as it stands there, on tiny models."""

import re
from pathlib import Path

import pytest

from kakehashi.modeling import KakehashiForCausalLM
from kakehashi.tokenization import for_causal_lm

PAGE = Path(__file__).resolve().parent.parent / "docs" / "neighbours.md"
SECTIONS = {
    title: block
    for title, block in re.findall(r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE.read_text("utf-8"), re.S | re.M)
}
NEEDS = {"sentence-transformers": "sentence_transformers", "TRL": "trl"}


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_runs(title, tiny_model_dir, build_tiny_model, tiny_tokenizer, monkeypatch, capsys):
    if title in NEEDS:
        pytest.importorskip(NEEDS[title])
    folder = tiny_model_dir.parent
    tiny_model_dir.rename(folder / "my-model")
    build_tiny_model(KakehashiForCausalLM).save_pretrained(folder / "my-decoder")
    for_causal_lm(tiny_tokenizer).save_pretrained(folder / "my-decoder")
    monkeypatch.chdir(folder)
    exec(compile(SECTIONS[title], f"{PAGE.name}, {title}", "exec"), {})
    assert capsys.readouterr().out


def test_every_example_is_found():
    assert list(SECTIONS) == ["Pipelines", "sentence-transformers", "TRL"]
