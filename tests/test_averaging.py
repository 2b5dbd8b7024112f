"""The mean of several models: of their weights, written as a model folder, refused where it would mean nothing."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from kakehashi.modeling import KakehashiForSequenceClassification
from kakehashi.training.averaging import average_models, cosine_of_weights
from kakehashi.training.finished_run import is_finished_run
from kakehashi.training.publish import folder as publishing


@pytest.fixture
def changed(tiny_model_dir, tmp_path):
    """Returns a function that writes the tiny model with something done to it, and returns the folder."""

    def change(name, do=lambda model: None, dtype=torch.float32, **config):
        model = AutoModelForSeq2SeqLM.from_pretrained(tiny_model_dir)
        with torch.no_grad():
            do(model)
        for key, value in config.items():
            setattr(model.config, key, value)
        shutil.copytree(tiny_model_dir, tmp_path / name)
        model.to(dtype).save_pretrained(tmp_path / name)
        return tmp_path / name

    return change


def shift(amount):
    def do(model):
        for parameter in model.parameters():
            parameter += amount

    return do


def test_weights_are_the_mean_and_tied_ones_stay_tied(changed, tiny_model_dir, tmp_path):
    folders = [tiny_model_dir, changed("more", shift(0.03)), changed("less", shift(-0.12))]
    average_models(folders, tmp_path / "mean")
    mean, *models = (AutoModelForSeq2SeqLM.from_pretrained(folder) for folder in (tmp_path / "mean", *folders))
    for name, weight in mean.named_parameters():
        expected = torch.stack([dict(model.named_parameters())[name] for model in models]).mean(0)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)
    assert mean.lm_head.weight is mean.get_input_embeddings().weight


def test_the_mean_of_a_model_and_itself_is_that_model(tiny_model_dir, tmp_path):
    cosines = average_models([tiny_model_dir, tiny_model_dir], tmp_path / "mean")
    assert cosines == {str(tiny_model_dir): pytest.approx(1.0)}
    mean, model = (AutoModelForSeq2SeqLM.from_pretrained(each) for each in (tmp_path / "mean", tiny_model_dir))
    assert all(torch.equal(one, other) for one, other in zip(mean.parameters(), model.parameters(), strict=True))


def test_the_folder_holds_tokenizer_and_code(changed, tiny_model_dir, tmp_path):
    average_models([tiny_model_dir, changed("more", shift(0.01))], tmp_path / "mean")
    one, other = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "mean", tiny_model_dir))
    assert one.backend_tokenizer.to_str() == other.backend_tokenizer.to_str()
    assert (tmp_path / "mean" / "modeling_kakehashi.py").is_file()


def test_means_are_taken_in_float32_and_stored_as_the_first_model_is(changed, tmp_path):
    # In bfloat16 a step of 1/512 beside 1 is lost with every model; the sum of four of them is not.
    def set_norms(value):
        def do(model):
            model.get_encoder().norm.weight.fill_(value)

        return do

    values = (1.0, 1.0, 1.0078125, 1.0078125)
    folders = [changed(f"m{i}", set_norms(value), torch.bfloat16) for i, value in enumerate(values)]
    average_models(folders, tmp_path / "mean")
    mean = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "mean")
    assert mean.dtype == torch.bfloat16
    expected = torch.tensor(sum(values) / 4).bfloat16()
    assert torch.equal(mean.get_encoder().norm.weight, expected.expand(32))


def test_models_of_other_weights_are_pointed_out(changed, tiny_model_dir, tmp_path, capsys):
    def draw_anew(model):
        for parameter in model.parameters():
            parameter.normal_()

    cosines = average_models([tiny_model_dir, changed("other", draw_anew)], tmp_path / "mean")
    assert abs(cosines[str(tmp_path / "other")]) < 0.5
    assert "did not begin from the same model" in capsys.readouterr().err
    average_models([tiny_model_dir, changed("near", shift(1e-4))], tmp_path / "near-mean")
    assert "same model" not in capsys.readouterr().err


def test_the_cosine_is_that_of_all_weights_as_one_vector(changed, tiny_model_dir):
    one, other = (AutoModelForSeq2SeqLM.from_pretrained(each) for each in (tiny_model_dir, changed("m", shift(0.1))))
    vectors = [torch.cat([weight.detach().flatten() for weight in model.parameters()]) for model in (one, other)]
    expected = torch.nn.functional.cosine_similarity(*vectors, dim=0)
    assert cosine_of_weights(one, other) == pytest.approx(float(expected), abs=1e-5)


def test_dropout_may_differ(changed, tiny_model_dir, tmp_path):
    average_models([tiny_model_dir, changed("wet", dropout=0.3)], tmp_path / "mean")
    assert json.loads((tmp_path / "mean" / "config.json").read_text()).get("dropout", 0.0) == 0.0


def test_the_mean_of_runs_can_be_published_and_tells_of_them_all(finish_run, tmp_path, monkeypatch):
    first = finish_run(KakehashiForSequenceClassification, "classify", num_labels=3)
    second = shutil.copytree(first, tmp_path / "second-model")
    average_models([first, second], tmp_path / "mean")
    metrics = json.loads((tmp_path / "mean" / "metrics.json").read_text())
    assert metrics == {"averaged_runs": ["first-model", "second-model"], "train_runtime": 2 * 3725.2}
    header, *recipe = (tmp_path / "mean" / "recipe.yaml").read_text("utf-8").splitlines()
    assert "mean of those of the runs first-model, second-model; this recipe made the first of them" in header
    assert recipe == (first / "recipe.yaml").read_text("utf-8").splitlines()
    monkeypatch.setattr(publishing, "compare_as_stranger", lambda model, folder: {})
    publishing.assemble_folder(tmp_path / "mean", "user/mean", tmp_path / "hub", license="apache-2.0")
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert (
        "It took 2 h 4 min 10 s. The weights are the mean of those of the runs `first-model`, `second-model`" in card
    )


def test_the_mean_of_parts_says_which_rows_the_first_one_had(finish_run, tmp_path):
    first = finish_run()
    part = {"name": "seed-1", "train_rows": 4, "of_rows": 40, "keys": {"shots": 2, "seeds": 2, "seed": 42}}
    (first / "metrics.json").write_text(json.dumps({"part": part}), "utf-8")
    average_models([first, shutil.copytree(first, tmp_path / "second-model")], tmp_path / "mean")
    assert json.loads((tmp_path / "mean" / "metrics.json").read_text())["part"] == part


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("data_license: cc-by-4.0", '"cc-by-4.0" and null'),
        ("test_files: [b.tsv]", '["b.tsv"] and null'),
        ("validation_split: 0.5", "0.5 and null"),
        ("validation_files: [b.tsv]", '["/home/someone/private/valid.tsv"] and ["b.tsv"]'),
    ],
)
def test_the_mean_of_runs_on_other_data_is_a_model_but_no_run(finish_run, tmp_path, capsys, line, values):
    first = finish_run()
    second = shutil.copytree(first, tmp_path / "second-model")
    recipe = (second / "recipe.yaml").read_text()
    (second / "recipe.yaml").write_text(f"{recipe}{line}\n")
    average_models([first, second], tmp_path / "mean")
    told = " ".join(capsys.readouterr().err.split())
    assert f"the mean cannot be published: its runs differ in `{line.partition(':')[0]}`, {values}" in told
    assert not is_finished_run(tmp_path / "mean") and (tmp_path / "mean" / "model.safetensors").is_file()


def test_one_model_is_refused(tiny_model_dir, tmp_path):
    with pytest.raises(ValueError, match="`models` must be at least two, got 1"):
        average_models([tiny_model_dir], tmp_path / "mean")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rms_norm_eps": 1e-3}, r"`rms_norm_eps` of .*other is 0\.001 and that of .* 1e-06"),
        ({"id2label": {0: "a", 1: "b"}}, r"`id2label` of .*other is \{0: 'a', 1: 'b'\}"),
    ],
)
def test_another_configuration_is_named_and_nothing_written(config, message, changed, tiny_model_dir, tmp_path):
    with pytest.raises(ValueError, match=message):
        average_models([tiny_model_dir, changed("other", **config)], tmp_path / "mean")
    assert not any("mean" in path.name for path in tmp_path.iterdir())


def test_another_kind_of_model_is_named(tiny_model_dir, build_tiny_model, tiny_tokenizer, tmp_path):
    for part in (build_tiny_model(KakehashiForSequenceClassification), tiny_tokenizer):
        part.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match=r"`models` must be of one kind, but .* is a KakehashiForSequenceCl"):
        average_models([tiny_model_dir, tmp_path / "classifier"], tmp_path / "mean")


def test_another_vocabulary_is_named(changed, tiny_model_dir, tmp_path):
    other = changed("other")
    path = other / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"`models` must have one vocabulary, but that of .*other is not that of"):
        average_models([tiny_model_dir, other], tmp_path / "mean")


def test_a_folder_that_holds_something_is_kept(tiny_model_dir, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="`output_dir` must be empty"):
        average_models([tiny_model_dir, tiny_model_dir], tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
