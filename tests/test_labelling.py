"""Labels of texts with their probabilities: one that is right, several that hold, or a number."""

import pytest
import torch

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.inference import load_for_classification
from kakehashi.training.labelling import classify_texts, label_texts, score_texts

LABELS = {0: "animal", 1: "food", 2: "place"}


@pytest.fixture
def build(build_tiny_model):
    """A function that builds a tiny classifier with three labels."""
    label2id = {name: index for index, name in LABELS.items()}
    return lambda **settings: build_tiny_model(
        KakehashiForSequenceClassification, **{"id2label": LABELS, "label2id": label2id, **settings}
    )


@torch.no_grad()
def test_labels_come_with_their_probability(build, tiny_tokenizer, tiny_sentences, tmp_path):
    build().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = load_for_classification(tmp_path)
    together = classify_texts(model, tokenizer, tiny_sentences, batch_size=4)
    for sentence, (label, probability) in zip(tiny_sentences, together, strict=True):
        logits = model(**tokenizer(sentence, return_tensors="pt")).logits[0]
        assert label == LABELS[int(logits.argmax())]
        assert probability == pytest.approx(float(logits.softmax(0).max()), abs=1e-5)
    assert label_texts(model, tokenizer, tiny_sentences, batch_size=4) == [[pair] for pair in together]


@torch.no_grad()
@pytest.mark.parametrize(
    "problem_type, activation", [("multi_label_classification", torch.sigmoid), ("regression", torch.nn.Identity())]
)
def test_other_kinds_of_labels_have_their_own_scale(build_tiny_model, tiny_tokenizer, problem_type, activation):
    num_labels = 1 if problem_type == "regression" else 3
    model = build_tiny_model(KakehashiForSequenceClassification, problem_type=problem_type, num_labels=num_labels)
    [(_, value)] = classify_texts(model, tiny_tokenizer, ["I love cats."])
    logits = model(**tiny_tokenizer("I love cats.", return_tensors="pt")).logits[0]
    assert value == pytest.approx(float(activation(logits).max()), abs=1e-5)


def test_of_several_labels_all_that_reach_the_threshold_hold_likeliest_first(build, tiny_tokenizer):
    model = build(problem_type="multi_label_classification")
    scores = score_texts(model, tiny_tokenizer, ["I love cats."])[0]
    threshold = float(scores.sort().values[1])
    [labels] = label_texts(model, tiny_tokenizer, ["I love cats."], threshold=threshold)
    assert [score for _, score in labels] == scores.sort(descending=True).values[:2].tolist()
    assert [name for name, _ in labels] == [
        LABELS[index] for index in scores.sort(descending=True).indices[:2].tolist()
    ]
    assert label_texts(model, tiny_tokenizer, ["I love cats."], threshold=1.0) == [[]]


def test_a_threshold_beyond_probability_is_refused(build, tiny_tokenizer):
    with pytest.raises(ValueError, match="`threshold` must be between 0 and 1, got 50"):
        label_texts(build(), tiny_tokenizer, ["cats"], threshold=50)


def test_no_texts_have_no_labels(build, tiny_tokenizer):
    assert score_texts(build(), tiny_tokenizer, []).shape == (0, 3)
    assert classify_texts(build(), tiny_tokenizer, []) == label_texts(build(), tiny_tokenizer, []) == []
