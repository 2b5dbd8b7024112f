"""What all tests share: no network, no cache outside a temporary folder, fixed seeds, and tiny models."""

import importlib.util
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

# Read once, when torch, datasets and huggingface_hub are first imported: so before any test file is.
# One thread, because the test processes already share the cores and torch's threads spin while they wait.
_CACHE = Path(tempfile.mkdtemp(prefix="kakehashi-tests-"))
os.environ.update(
    HF_HOME=str(_CACHE / "huggingface"),
    HF_DATASETS_CACHE=str(_CACHE / "datasets"),
    HF_MODULES_CACHE=str(_CACHE / "modules"),
    HF_DATASETS_OFFLINE="1",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="Agg",
    MPLCONFIGDIR=str(_CACHE / "matplotlib"),
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
)

TINY_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}

TINY_SENTENCES = [
    "I love cats.",
    "She reads a book in the park.",
    "Do you want to eat an apple?",
    "The small dog did not run.",
    "Translate to Japanese: I love dogs.",
    "私は猫が大好きです。",
    "彼女は公園で本を読みます。",
    "りんごを食べたいですか。",
    "小さい犬は走りませんでした。",
    "次の文を英語に訳してください。",
]


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(autouse=True)
def seed():
    """Seeds every random number generator that is loaded; torch's own first seed is fixed already."""
    if "torch" in sys.modules:
        from transformers import set_seed

        set_seed(0)
    else:
        random.seed(0)


@pytest.fixture
def verbosity():
    """Lets the libraries speak again after a command that silenced them."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    yield
    logging.set_verbosity(before)
    logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuses connections that leave this machine: a test must pass without a network."""
    connect = socket.socket.connect

    def connect_here(self, address):
        if self.family != socket.AF_UNIX and str(address[0]) not in {"127.0.0.1", "::1", "localhost"}:
            raise OSError(f"a test tried to reach {address}, but tests run without a network")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture(scope="session")
def tiny_sentences():
    """Ten short sentences, five in each language."""
    return list(TINY_SENTENCES)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_sentences):
    """A tokenizer of 384 entries with 10 sentinels, trained on the tiny sentences."""
    from kakehashi.tokenization import train_tokenizer

    return train_tokenizer(tiny_sentences * 4, vocab_size=384, num_sentinels=10, show_progress=False)


@pytest.fixture
def tiny_config(tiny_tokenizer):
    """A configuration of 2 encoder and 1 decoder layers, hidden size 32, that fits the tiny tokenizer."""
    from kakehashi.modeling import KakehashiConfig

    return KakehashiConfig(vocab_size=len(tiny_tokenizer), **TINY_SIZES)


@pytest.fixture
def build_tiny_model(tiny_tokenizer):
    """A function that builds any model class of the tiny sizes, in evaluation mode: `build(cls, num_labels=3)`."""
    import torch

    from kakehashi.modeling import KakehashiConfig

    def build(model_class, **overrides):
        torch.manual_seed(0)
        settings = {"vocab_size": len(tiny_tokenizer), **TINY_SIZES, **overrides}
        return model_class(KakehashiConfig(**settings)).eval()

    return build


@pytest.fixture
def tiny_model(build_tiny_model):
    """A `KakehashiForConditionalGeneration` of the tiny configuration, in evaluation mode."""
    from kakehashi.modeling import KakehashiForConditionalGeneration

    return build_tiny_model(KakehashiForConditionalGeneration)


@pytest.fixture
def plain_steps(tmp_path):
    """A function that returns Trainer's arguments for plain descent on 8 rows a step, cut into batches of a size."""
    from transformers import TrainingArguments

    def make(size, **settings):
        return TrainingArguments(
            str(tmp_path),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            learning_rate=0.1,
            optim="sgd",
            max_grad_norm=0.0,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            **settings,
        )

    return make


@pytest.fixture
def tiny_model_dir(tiny_model, tiny_tokenizer, tmp_path):
    """The folder that a tiny encoder-decoder and its tokenizer were saved in."""
    folder = tmp_path / "tiny-model"
    tiny_model.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def build_sharp_model(tiny_tokenizer):
    """A function that builds a tiny model whose likeliest token is far ahead, so that rounding cannot change it."""
    import torch

    from kakehashi.modeling import KakehashiConfig

    def build(model_class, **overrides):
        torch.manual_seed(0)
        settings = {"vocab_size": len(tiny_tokenizer), **TINY_SIZES, "num_encoder_layers": 1, **overrides}
        model = model_class(KakehashiConfig(**settings)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(4.0)
        return model

    return build


@pytest.fixture(scope="session")
def two_hundred_sentences(tiny_sentences):
    """Sentences of 2 to 12 words, all different."""
    words = [word for sentence in tiny_sentences for word in sentence.split()]
    draw = random.Random(0)
    sentences = dict.fromkeys(" ".join(draw.choices(words, k=draw.randint(2, 12))) for _ in range(250))
    return list(sentences)[:200]


RUN_RECIPE = {
    "preset": "nano",
    "train_files": ["/home/someone/private/pairs.tsv", "user/pairs"],
    "validation_files": ["/home/someone/private/valid.tsv"],
    "license": "apache-2.0",
    "language": ["en", "ja"],
    "learning_rate": 0.003,
    "max_steps": 7,
    "output_dir": "/home/someone/runs/first",
}
RUN_METRICS = {
    "eval_loss": 1e-05,
    "eval_exact_match": 0.91234,
    "train_examples": 50000,
    "train_runtime": 3725.2,
    "rate": 11592.7,
    "note": "text is no metric",
}
RUN_VERSIONS = {"torch": "2.13.0", "device": "cpu", "cpu_cores": 2, "accelerator": None, "command": "/home/someone/x"}


@pytest.fixture
def finish_run(build_tiny_model, tiny_tokenizer, tmp_path):
    """A function that writes the folder of a finished run of any model class, stage and recipe."""
    import yaml

    from kakehashi.modeling import KakehashiForConditionalGeneration
    from kakehashi.training.curves import plot_curves

    def finish(model_class=KakehashiForConditionalGeneration, stage="instruct", recipe=None, **overrides):
        folder = tmp_path / "first-model"
        build_tiny_model(model_class, **overrides).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        header = f"# To repeat it:\n#   kakehashi {stage} recipe.yaml --output_dir OTHER\n"
        (folder / "recipe.yaml").write_text(header + yaml.safe_dump({**RUN_RECIPE, **(recipe or {})}), "utf-8")
        (folder / "metrics.json").write_text(json.dumps(RUN_METRICS), "utf-8")
        (folder / "versions.json").write_text(json.dumps(RUN_VERSIONS), "utf-8")
        plot_curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], folder / "loss.png")
        return folder

    return finish


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on loopback that this process talks to as the user `user`, with a token."""
    from stand_in_hub import StandInHub

    with StandInHub() as server:
        server.use(monkeypatch, tmp_path / "hub-cache", server.add_user("user"))
        yield server


@pytest.fixture
def compiler():
    """The compiler with nothing compiled yet; it is left so."""
    import torch

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield torch._dynamo.utils.counters
    torch._dynamo.reset()


@pytest.fixture
def load_benchmark(monkeypatch):
    """A function that imports a script of `benchmarks/` as Python does when it runs the script."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))

    def load(name):
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load
