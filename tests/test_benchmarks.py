"""The benchmarks compare models of equal size, and run."""

import json

import pytest
import torch

from kakehashi.modeling import KakehashiConfig, KakehashiForConditionalGeneration


@pytest.mark.parametrize("preset", ["nano", "mini", "small"])
def test_the_peers_have_as_many_parameters_as_kakehashi(load_benchmark, preset):
    equal_size = load_benchmark("equal_size")
    ours = KakehashiConfig.preset(preset, vocab_size=16_000)
    target = equal_size.count_parameters(KakehashiForConditionalGeneration, ours)
    for name, (model_class, like) in equal_size.PEERS.items():
        if name == "T5Gemma" and preset != "small":
            # Its two embeddings leave too little for the layers.
            continue
        config = equal_size.match_parameters(model_class, lambda width, like=like: like(ours, width), target)
        assert equal_size.count_parameters(model_class, config) == pytest.approx(target, rel=0.005)


def test_the_speed_benchmark_prints_a_row_for_each_model_and_the_ratio(load_benchmark, capsys):
    threads = torch.get_num_threads()
    speed = load_benchmark("speed")
    speed.main(preset="nano", vocab_size=64, batch_size=2, length=4, rounds=1, threads=threads)
    printed = capsys.readouterr().out
    for name in ("kakehashi 4+2", "T5 v1.1 3+3", "BART 3+3", "kakehashi / fastest peer"):
        assert name in printed


def test_the_architecture_benchmark_undoes_each_choice_at_equal_size(load_benchmark, capsys):
    threads = torch.get_num_threads()
    architecture = load_benchmark("architecture")
    plain = architecture.build("nano", 512).num_parameters()
    for overrides in ({"num_key_value_heads": 4}, {"num_encoder_layers": 3, "num_decoder_layers": 3}):
        assert architecture.build("nano", 512, **overrides).num_parameters() == pytest.approx(plain, rel=0.01)
    architecture.main(preset="nano", vocab_size=64, examples=4, length=8, rounds=1, threads=threads)
    printed = capsys.readouterr().out
    for name in (
        "| shallow decoder (4+2 layers, not 3+3)",
        "| packed rows, not padded ones: train |",
        "not learned: train",
    ):
        assert name in printed


def test_packed_and_padded_examples_of_the_architecture_benchmark_have_one_loss(load_benchmark):
    architecture = load_benchmark("architecture")
    examples = architecture.draw_examples(6, 8, 64)
    model = architecture.build("nano", 64).train()
    padded, packed = architecture.pad_examples(examples), architecture.pack_examples(examples, 2)
    assert packed["input_ids"].shape[0] == 2
    torch.testing.assert_close(model(**packed).loss, model(**padded).loss)


def test_the_t5_configuration_takes_the_ids_of_the_tokenizer(load_benchmark, tiny_tokenizer, tmp_path, capsys):
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    load_benchmark("t5_config").main("nano", tmp_path / "tokenizer", tmp_path / "t5")
    written = json.loads((tmp_path / "t5" / "config.json").read_text("utf-8"))
    assert written["architectures"] == ["T5ForConditionalGeneration"]
    assert written["decoder_start_token_id"] == tiny_tokenizer.bos_token_id
    assert "T5 v1.1, 3 + 3 layers" in capsys.readouterr().out
