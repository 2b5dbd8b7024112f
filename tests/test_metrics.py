import math

import pytest
import sacrebleu

from kakehashi.training.metrics import METRICS, load_metric


def translation(predictions, references, **options):
    return load_metric("translation_quality").compute(predictions=predictions, references=references, **options)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_loads_without_a_network_and_says_what_it_needs(name):
    metric = load_metric(name)
    assert "predictions" in metric.inputs_description and metric.description


def test_an_unknown_metric_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="but it is 'rouge'"):
        load_metric("rouge")


def test_any_of_several_references_counts_as_an_exact_match():
    scores = translation(["猫です。", "犬です。"], [["ねこです。", "猫です。"], ["鳥です。"]])
    assert scores["exact_match"] == 0.5
    assert 0 < scores["chrf"] < 1
    assert set(scores) == {"exact_match", "chrf", "bleu"}


def test_right_answers_score_one_in_both_languages():
    for sentences in (["I love cats very much.", "She reads."], ["私は猫が大好きです。", "彼女は本を読みます。"]):
        assert translation(sentences, sentences) == pytest.approx({"exact_match": 1, "chrf": 1, "bleu": 1})


def test_bleu_cuts_japanese_with_mecab_and_english_with_13a():
    japanese, right = ["私は大きい猫がとても好きです。"], ["私は小さい猫がとても好きです。"]
    english, correct = ["I love big cats very much."], ["I love small cats very much."]
    expected = sacrebleu.corpus_bleu(japanese, [right], tokenize="ja-mecab").score / 100
    assert expected > 0.3
    assert translation(japanese, right)["bleu"] == pytest.approx(expected)
    assert translation(japanese, right, target_language="ja")["bleu"] == pytest.approx(expected)
    assert translation(japanese, right, target_language="en")["bleu"] < expected / 2
    expected = sacrebleu.corpus_bleu(english, [correct], tokenize="13a").score / 100
    assert translation(english, correct)["bleu"] == pytest.approx(expected)


def test_a_text_without_references_is_refused():
    with pytest.raises(ValueError, match="row 1 has none"):
        translation(["a", "b"], [["a"], []])


def test_accuracy_and_macro_f1_match_a_count_by_hand():
    metric = load_metric("classification_quality")
    scores = metric.compute(predictions=[0, 0, 1, 2], references=[0, 1, 1, 2])
    assert scores == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 2 / 3 + 1) / 3})
    scores = metric.compute(predictions=[[1, 0], [1, 1]], references=[[1, 0], [0, 1]])
    assert scores == pytest.approx({"accuracy": 0.5, "macro_f1": (2 / 3 + 1) / 2})


def test_perplexity_weighs_rows_by_their_tokens():
    metric = load_metric("perplexity")
    scores = metric.compute(predictions=[math.log(2), math.log(4)], references=[3, 1])
    assert scores == pytest.approx({"loss": 1.25 * math.log(2), "perplexity": 2**1.25})
    assert metric.compute(predictions=[1e4], references=[1])["perplexity"] == math.inf
    with pytest.raises(ValueError, match="at least one token"):
        metric.compute(predictions=[1.0], references=[0])


def test_several_labels_a_row_match_a_count_by_hand():
    scores = load_metric("multilabel_quality").compute(
        predictions=[[1, 0, 0], [1, 1, 0], [0, 0, 0]], references=[[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    )
    # By label: 1 right of 2 predicted, 1 present; 1 of 1, 1 present; none of 1.
    assert scores == pytest.approx({"micro_f1": 4 / 6, "macro_f1": (2 / 3 + 1 + 0) / 3, "exact_match": 2 / 3})


def test_the_absence_of_the_only_label_is_no_label():
    scores = load_metric("multilabel_quality").compute(
        predictions=[[0], [1], [0], [1]], references=[[0], [0], [1], [1]]
    )
    assert scores == pytest.approx({"micro_f1": 0.5, "macro_f1": 0.5, "exact_match": 0.5})
    scores = load_metric("multilabel_quality").compute(predictions=[[0], [1], [0]], references=[[0], [0], [1]])
    assert scores == pytest.approx({"micro_f1": 0, "macro_f1": 0, "exact_match": 1 / 3})


def test_numbers_match_errors_and_correlations_by_hand():
    metric = load_metric("regression_quality")
    scores = metric.compute(predictions=[1.0, 2.0, 4.0], references=[2.0, 4.0, 8.0])
    assert scores == pytest.approx({"mse": 7.0, "mae": 7 / 3, "pearson": 1.0, "spearman": 1.0})
    curved = metric.compute(predictions=[1.0, 2.0, 3.0], references=[1.0, 10.0, 100.0])
    assert curved["spearman"] == pytest.approx(1.0) and 0.8 < curved["pearson"] < 0.95
    flat = {"mse": 0.5, "mae": 0.5, "pearson": 0.0, "spearman": 0.0}
    assert metric.compute(predictions=[1.0, 1.0], references=[0.0, 1.0]) == flat
    assert metric.compute(predictions=[1.0], references=[1.0])["pearson"] == 0.0
