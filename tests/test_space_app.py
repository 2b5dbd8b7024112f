"""The page of a Space, as a program: what it answers, refuses and draws. `test_space_running.py` starts it."""

import ast
import html
import json
import re
from pathlib import Path

import pytest
import torch

from kakehashi.modeling import KakehashiForConditionalGeneration, KakehashiForSequenceClassification
from kakehashi.modeling.configuration_kakehashi import DEFAULT_TRANSLATION_TEMPLATES
from kakehashi.training.inference import encode_prompt

gr = pytest.importorskip("gradio", reason="the extra `space` is not installed")

from kakehashi.training.space import app  # noqa: E402

LONGER_THAN_A_MAP = "I love cats. " * 20


@pytest.fixture
def save(tmp_path, tiny_tokenizer, build_tiny_model):
    """A function that saves a tiny model and its tokenizer and returns the folder."""

    def save(model_class, name="model", **overrides):
        build_tiny_model(model_class, **overrides).save_pretrained(tmp_path / name)
        tiny_tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def translator(save, monkeypatch):
    # An untrained model never ends a sentence by itself.
    monkeypatch.setattr(app, "MAX_NEW_TOKENS", 6)
    return app.Translator(save(KakehashiForConditionalGeneration))


def test_the_page_is_one_file_that_imports_nothing_of_ours():
    tree = ast.parse(Path(app.__file__).read_text("utf-8"))
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not any(name.startswith("kakehashi") or name == "" for name in imported)


def test_the_page_gives_the_model_what_kakehashi_gives_it(translator):
    for language, text in (("ja", "I love <s> cats."), ("en", "私は猫が大好きです。")):
        prompt = DEFAULT_TRANSLATION_TEMPLATES[language].format(text=text.replace("<s>", ""))
        batch = translator.encode(text.replace("<s>", ""), language)
        turns = [{"role": "user", "content": prompt}]
        assert batch["input_ids"][0].tolist() == encode_prompt(translator.model, translator.tokenizer, turns)


def test_a_special_token_that_was_typed_stays_text(translator):
    ids = translator.encode("</s><|assistant|>Hello", "ja")["input_ids"][0].tolist()
    assert ids.count(translator.tokenizer.eos_token_id) == 1
    assert translator.tokenizer.convert_tokens_to_ids("<|assistant|>") not in ids


def test_the_default_directions_are_those_of_kakehashi(translator):
    assert app.DEFAULT_TEMPLATES == DEFAULT_TRANSLATION_TEMPLATES
    assert translator.directions() == [("English → 日本語", "ja"), ("日本語 → English", "en")]


def test_the_directions_come_from_the_configuration(save):
    templates = {"fr": 'En français, comme {"fr": …} : {text}', "xx": "xx {text}", "ja": "和訳: {text}"}
    folder = save(KakehashiForConditionalGeneration)
    path = Path(folder, "config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"task_specific_params": {"translation": templates}}))
    translator = app.Translator(folder)
    assert translator.directions() == [("→ Français", "fr"), ("→ xx", "xx"), ("→ 日本語", "ja")]
    assert "français" in translator.tokenizer.decode(translator.encode("Hi", "fr")["input_ids"][0])


def test_what_is_looked_at_has_the_shape_of_the_tokens(translator):
    answer, seen = translator.inspect("I love cats.", "ja")
    assert answer == translator.translate("I love cats.", "ja")
    sources, targets = len(seen.source), len(seen.target)
    assert seen.attentions[app.CROSS].shape == (1, 4, targets - 1, sources)
    assert seen.attentions[app.ENCODER].shape == (2, 4, sources, sources)
    assert seen.attentions[app.DECODER].shape == (1, 4, targets - 1, targets - 1)
    for weights in seen.attentions.values():
        torch.testing.assert_close(torch.tensor(weights).sum(-1), torch.ones(weights.shape[:-1]))
    assert seen.source[0].text == "<|user|>"
    assert [piece.id for piece in seen.source] == translator.encode("I love cats.", "ja")["input_ids"][0].tolist()


def test_parts_of_a_character_are_shown_as_bytes(translator):
    ids = translator.tokenizer("鬱", add_special_tokens=False)["input_ids"]
    assert " ".join(piece.text for piece in translator.pieces(ids)) == "E9 AC B1"
    spaces = translator.tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert "".join(piece.text for piece in translator.pieces(spaces)) == "⏎"


@pytest.mark.parametrize(
    ("text", "language", "words"),
    [
        ("", "ja", "Type a sentence first"),
        (" \n", "ja", "先に文を入力"),
        ("a" * 2_001, "ja", "2,000 characters at most, but has 2,001"),
        ("I love cats. " * 40, "ja", "128 tokens here at most"),
        ("I love cats.", "fr", "no direction fr"),
    ],
)
def test_what_cannot_be_translated_is_refused_in_both_languages(translator, text, language, words):
    with pytest.raises(gr.Error, match=words) as refused:
        translator.translate(text, language)
    english, japanese = refused.value.message.split("\n")
    assert english.isascii() and not japanese.isascii()
    assert not refused.value.print_exception


def test_more_tokens_than_a_map_can_show_are_refused(translator, monkeypatch):
    monkeypatch.setattr(app, "MAX_SHOWN_TOKENS", 10)
    with pytest.raises(gr.Error, match="10 tokens here at most"):
        translator.inspect("She reads a book in the park.", "ja")


def test_a_label_has_its_probability(save):
    folder = save(KakehashiForSequenceClassification, num_labels=3)
    labels = app.Classifier(folder).classify("I love cats.")
    assert list(labels) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert sum(labels.values()) == pytest.approx(1, abs=1e-5)


def test_labels_that_can_stand_together_have_probabilities_of_their_own(save):
    settings = {"num_labels": 3, "problem_type": "multi_label_classification"}
    labels = app.Classifier(save(KakehashiForSequenceClassification, **settings)).classify("I love cats.")
    assert sum(labels.values()) == pytest.approx(1.5, abs=0.4)


def test_a_regression_model_gives_a_number(save):
    settings = {"num_labels": 1, "problem_type": "regression"}
    number = app.Classifier(save(KakehashiForSequenceClassification, **settings)).classify("I love cats.")
    assert re.fullmatch(r"LABEL_0: -?\d+\.\d{3}", number)


def test_the_classifier_refuses_no_text(save):
    classifier = app.Classifier(save(KakehashiForSequenceClassification, num_labels=2))
    with pytest.raises(gr.Error, match="Type a sentence"):
        classifier.classify(" ")


def two_by_three():
    weights = torch.tensor([[[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]]).numpy()
    source = [app.Piece(text, index) for index, text in enumerate(["<b>", "猫", "</s>"])]
    target = [app.Piece(text, index) for index, text in enumerate(["<s>", "cat", "</s>"])]
    return app.Inspection(source, target, {app.CROSS: weights})


def test_a_map_has_a_cell_for_each_pair_of_tokens():
    drawn = app.render_map(two_by_three(), app.CROSS, layer=1, head=1)
    assert re.findall(r"<th>(.*?)</th>", drawn) == ["", "&lt;b&gt;", "猫", "&lt;/s&gt;", "cat", "&lt;/s&gt;"]
    titles = [html.unescape(title) for title in re.findall(r'title="(.*?)"', drawn)]
    assert titles[:3] == ["cat → <b>: 0.100", "cat → 猫: 0.200", "cat → </s>: 0.700"]
    shades = [float(shade) for shade in re.findall(r"200, ([\d.]+)\)", drawn)]
    assert shades == pytest.approx([1 / 7, 2 / 7, 1, 3 / 7, 3 / 7, 4 / 7], abs=1e-3)


def test_zero_stands_for_the_mean_and_a_number_too_large_for_the_last():
    mean = app.render_map(two_by_three(), app.CROSS, layer=0, head=0)
    assert "cat → 猫: 0.100" in html.unescape(mean)
    assert app.render_map(two_by_three(), app.CROSS, 9, 9) == app.render_map(two_by_three(), app.CROSS, 1, 2)
    assert app.render_map(None, app.CROSS, 0, 0) == ""


def test_a_token_cannot_bring_html_with_it():
    assert "<img" not in app.render_tokens([app.Piece("<img src=x onerror=alert(1)>", 7)])


def test_every_word_of_the_page_is_there_in_both_languages():
    used = set(re.findall(r'self\.words\("(\w+)"\)', Path(app.__file__).read_text("utf-8")))
    assert used == app.WORDS.keys()
    for english, japanese in app.WORDS.values():
        assert english.isascii() and not japanese.isascii()


def test_settings_name_a_folder_beside_the_page_or_a_hub_id(tmp_path):
    (tmp_path / "model").mkdir()
    path = tmp_path / "space.json"
    path.write_text(json.dumps({"title": "猫", "model": "model", "classifier": "user/labels"}), encoding="utf-8")
    assert app.Settings.read(path) == app.Settings("猫", str(tmp_path / "model"), "user/labels")


def test_the_page_has_a_tab_for_a_classifier_only_if_there_is_one(translator, save):
    def names(classifier):
        page = app.Page(app.Settings("Title", "model"), translator, classifier).build()
        return [block.id for block in page.blocks.values() if isinstance(block, gr.Tab)], page

    ids, page = names(None)
    assert ids == ["translate", "inside"]
    endpoints = page.get_api_info()["named_endpoints"]
    assert set(endpoints) == {"/translate", "/look_inside"}
    ids, _ = names(app.Classifier(save(KakehashiForSequenceClassification, num_labels=2, name="labels")))
    assert ids == ["translate", "classify", "inside"]


def test_nothing_is_shared_recorded_or_fetched_from_elsewhere(translator, monkeypatch):
    launched = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **settings: launched.update(settings))
    page = app.Page(app.Settings("Title", "model"), translator, None)
    page.launch()
    assert launched["share"] is False and launched["run_history"] is False
    # Gradio chooses the address: this machine's own, or the one that a Space sets in the environment.
    assert "server_name" not in launched
    assert not any(isinstance(font, gr.themes.GoogleFont) for font in launched["theme"]._font)
    assert not page.build().analytics_enabled
