"""The benchmarks of training run on a few pairs and say what they compare; so does the bar for classifiers."""

import json

import pytest
import torch
import typer


@pytest.fixture
def files(tmp_path, tiny_tokenizer, tiny_sentences):
    """A table of pairs and the folder of a tokenizer."""
    table = tmp_path / "pairs.tsv"
    rows = list(zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)) * 8
    table.write_text("en\tja\n" + "".join(f"{en}\t{ja}\n" for en, ja in rows), encoding="utf-8")
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    return table, tmp_path / "tokenizer"


def test_throughput_is_compared_with_every_peer(load_benchmark, files, capsys):
    benchmark = load_benchmark("train_throughput")
    # What is said to be compiled runs as it is: compiling ten models would take minutes.
    with torch.compiler.set_stance("force_eager"):
        benchmark.main(
            *files,
            preset="nano",
            batch_size=4,
            batches=1,
            rounds=1,
            threads=torch.get_num_threads(),
            compilation=benchmark.Compilation.layers,
        )
    printed = capsys.readouterr().out
    for name in ("kakehashi", "T5 v1.1", "BART", "Marian", "T5Gemma"):
        assert f"| {name} |" in printed
    assert "| packed | bfloat16 | eager |" in printed
    assert "| packed | bfloat16 | compiled |" in printed
    assert "kakehashi / best peer, eager, random or grouped batches" in printed
    assert "kakehashi / best peer, eager or compiled, random or grouped batches" in printed


def test_collators_are_compared_on_the_same_documents(load_benchmark, files, tiny_sentences, tmp_path, capsys):
    documents = tmp_path / "documents.txt"
    documents.write_text("\n".join(tiny_sentences * 4) + "\n", encoding="utf-8")
    load_benchmark("collators").main(
        [str(documents)], str(files[1]), ["text"], every=1, batch_size=2, row_length=300, rounds=1
    )
    printed = capsys.readouterr().out
    assert f"{4 * len(tiny_sentences)} documents of " in printed
    for objective in ("masked-lm", "causal-lm", "classification"):
        assert f"| {objective} | kakehashi | " in printed and f"| {objective} | transformers | " in printed
    assert "| encoder-decoder | kakehashi | " in printed


def test_no_batch_comes_twice_and_too_few_pairs_are_refused(load_benchmark, files):
    benchmark = load_benchmark("train_throughput")
    table, _ = files
    table.write_text("en\tja\n" + "".join(f"{row}\t{100 + row}\n" for row in range(40)), encoding="utf-8")
    batches, _ = benchmark.make_batches(*files, batch_size=8, count=4)
    assert {kind: len(each) for kind, each in batches.items()} == {"random": 4, "grouped": 4, "packed": 4}
    for kind in ("random", "grouped"):
        sources = [
            tuple(ids[mask.bool()].tolist())
            for batch in batches[kind]
            for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
        ]
        assert len(sources) == len(set(sources)) == 32
    with pytest.raises(typer.BadParameter, match=r"20 batches of 8 need 176 examples, but .* has 80: ask for fewer"):
        benchmark.make_batches(*files, batch_size=8, count=20)


def test_an_ablation_repeats_no_run_and_shows_mean_and_spread(load_benchmark, files, tmp_path, monkeypatch, capsys):
    benchmark = load_benchmark("ablations")
    names = (
        "baseline",
        "AdamW 2e-3",
        "cautious weight decay",
        "rows growing 1 to 6",
        "average of weights, 0.99",
        "not packed",
    )
    monkeypatch.setattr(benchmark, "VARIANTS", {name: benchmark.VARIANTS[name] for name in names})
    monkeypatch.setattr(benchmark, "TIMED_STEPS", 3)
    table, tokenizer = files
    output = tmp_path / "runs.jsonl"
    options = {"preset": "nano", "seconds": 0.02, "seeds": 2, "validation_rows": 4, "only": None, "times": None}
    for _ in range(2):
        benchmark.main(table, table, tokenizer, output, **options)
    runs = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [(run["variant"], run["seed"]) for run in runs] == [(name, seed) for seed in (0, 1) for name in names]
    assert "| baseline |" in capsys.readouterr().out


def test_the_bar_for_classifiers_is_reached_from_every_kind_of_features(load_benchmark, files, tmp_path, capsys):
    benchmark = load_benchmark("linear_svm")
    rows = [("cat dog cat", "animal"), ("red blue red", "colour"), ("one two one", "number")] * 3
    table = tmp_path / "rows.tsv"
    table.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows), encoding="utf-8")
    benchmark.main([table, table], tokenizer=files[1])
    printed = capsys.readouterr().out
    assert "9 training rows, 9 test rows" in printed
    for name in ("words", "characters", "within words", "tokens", "token pairs"):
        line = next(line for line in printed.splitlines() if line.startswith(f"| {name} |"))
        assert line.endswith("| 1.000 | 1.000 |")
    with pytest.raises(typer.BadParameter, match="at least one training file and a test file, got 1 file"):
        benchmark.main([table])


def test_the_throughput_benchmark_refuses_a_model_it_does_not_know(load_benchmark, files):
    with pytest.raises(typer.BadParameter, match=r"must be one of kakehashi, T5 v1.1.*got 'GPT'"):
        load_benchmark("train_throughput").main(*files, model_names=["GPT"])
