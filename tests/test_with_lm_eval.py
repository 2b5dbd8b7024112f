"""lm-evaluation-harness runs a local task on the models through its own class for Hugging Face models."""

import json

import pytest

from kakehashi.modeling import KakehashiForCausalLM, KakehashiForConditionalGeneration
from kakehashi.tokenization import for_causal_lm

lm_eval = pytest.importorskip("lm_eval")
huggingface = pytest.importorskip("lm_eval.models.huggingface")
tasks = pytest.importorskip("lm_eval.tasks")

QUESTIONS = [
    {"question": "I love", "choices": ["cats.", "the park."], "answer": 0},
    {"question": "She reads a", "choices": ["dog.", "book in the park."], "answer": 1},
    {"question": "The small dog did not", "choices": ["run.", "eat an apple."], "answer": 0},
]
TASK = """
task: kakehashi_choices
dataset_path: json
dataset_kwargs:
  data_files:
    test: {path}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
metadata:
  version: 1.0
"""


@pytest.fixture
def task_manager(tmp_path):
    """Knows one task of three questions in a local file."""
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, QUESTIONS)), "utf-8")
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "kakehashi_choices.yaml").write_text(TASK.format(path=questions), "utf-8")
    return tasks.TaskManager(include_path=str(folder), include_defaults=False)


@pytest.mark.parametrize(
    "model_class, backend", [(KakehashiForCausalLM, "causal"), (KakehashiForConditionalGeneration, "seq2seq")]
)
def test_a_multiple_choice_task_is_scored(build_tiny_model, tiny_tokenizer, task_manager, model_class, backend):
    tokenizer = for_causal_lm(tiny_tokenizer) if backend == "causal" else tiny_tokenizer
    model = huggingface.HFLM(
        pretrained=build_tiny_model(model_class), tokenizer=tokenizer, backend=backend, device="cpu", batch_size=2
    )
    results = lm_eval.simple_evaluate(
        model=model, tasks=["kakehashi_choices"], task_manager=task_manager, bootstrap_iters=0, verbosity="ERROR"
    )
    scores = results["results"]["kakehashi_choices"]
    assert 0 <= scores["acc,none"] <= 1 and 0 <= scores["acc_norm,none"] <= 1
    assert results["n-samples"]["kakehashi_choices"]["effective"] == len(QUESTIONS)
