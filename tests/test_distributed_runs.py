"""Whole runs in two processes: the curve of one process, one voice, and checkpoints for any number of processes."""

import faulthandler
import gc
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, T5Config

RECIPE = {
    "source_template": ["Translate: {en}"],
    "target_template": ["{ja}"],
    "max_source_length": 48,
    "max_target_length": 48,
    "max_steps": 12,
    "save_steps": 4,
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 6,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "save_total_limit": 1,
    "sample_rows": 0,
    "disable_tqdm": True,
}
# What `accelerate launch` sets for an accelerate configuration with FSDP2.
FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
SHARDED = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
# Name of a run: processes, examples in a batch of one, environment, whose checkpoint it goes on from, extra keys.
RUNS = {
    "one": (1, 4, {}, None, {}),
    "two": (2, 2, {}, None, {}),
    "two-killed": (2, 2, {}, None, {}),
    "two-resumed": (2, 2, {}, "two-killed", {}),
    "two-to-one": (1, 4, {}, "two-killed", {}),
    "one-killed": (1, 4, {}, None, {}),
    "one-to-two": (2, 2, {}, "one-killed", {}),
    "two-stopped": (2, 2, {}, None, {}),
    "fsdp": (2, 2, FSDP2, None, {}),
    "one-muon": (1, 4, {}, None, {"use_muon": True}),
    # By the recipe alone, which gathers whole weights for checkpoints.
    "fsdp-muon": (2, 2, {"SHARD": "here"}, None, {"use_muon": True, "fsdp": True, "fsdp_config": SHARDED}),
    "one-stream": (1, 4, {}, None, {"streaming": True}),
    "two-stream": (2, 2, {}, None, {"streaming": True}),
    "one-t5": (1, 4, {}, None, {"model": "t5", "tokenizer": "model"}),
    "two-t5": (2, 2, {}, None, {"model": "t5", "tokenizer": "model"}),
    "fsdp-killed": (2, 2, FSDP2, None, {}),
    "fsdp-resumed": (2, 2, FSDP2, "fsdp-killed", {}),
    "two-refused": (2, 2, {}, None, {"train_files": ["none.jsonl"]}),
    "two-exploding": (2, 2, {}, None, {"learning_rate": 1e30}),
}


def shard_on_the_cpu():
    """Lets accelerate shard on the CPU as it does on accelerators, for which alone it reads FSDP's settings."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    build = AcceleratorState.__init__

    def build_sharding(self, *args, **kwargs):
        if PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        build(self, *args, **kwargs)

    AcceleratorState.__init__ = build_sharding


def start_process(arguments, rank, processes, port, environment, log):
    """Runs `kakehashi …` in a copy of this process, with what a launcher tells it; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        # Whatever hangs says where.
        faulthandler.enable(2)
        if processes > 1:
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            os.environ.update({name: str(value) for name, value in names.items()}, MASTER_PORT=port)
            os.environ.update(MASTER_ADDR="127.0.0.1", **environment)
        if environment:
            shard_on_the_cpu()
        from kakehashi.cli import main

        code = main(["--traceback", *arguments] if "--traceback" in sys.argv else arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def act(name, run_folder, children):
    """Kills or stops a run once its first checkpoint is there."""
    if name.endswith(("-killed", "-stopped")):
        end = time.monotonic() + 180
        while not any(run_folder.glob("checkpoint-*")):
            time.sleep(0.005)
            if time.monotonic() > end:
                return
        if name.endswith("-stopped"):
            # One of the two hears it.
            os.kill(children[1], signal.SIGTERM)
        else:
            for child in children:
                os.kill(child, signal.SIGKILL)


def perform(name, folder):
    """Does one of the runs; returns the exit codes of its processes."""
    processes, batch, environment, origin, keys = RUNS[name]
    run_folder = folder / name
    command = ["instruct", str(folder / "recipe.json"), "--output_dir", str(run_folder)]
    command += ["--per_device_train_batch_size", str(batch)]
    for key, value in keys.items():
        command += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    if origin:
        shutil.copytree(folder / origin, run_folder)
        command += ["--resume"]
    port = free_port()
    children = [
        start_process(command, rank, processes, port, environment, folder / f"{name}.{rank}.log")
        for rank in range(processes)
    ]
    act(name, run_folder, children)
    return wait(children)


def wait(children):
    """Waits for the processes of a run, for a minute at most, and ends the others once one has failed."""
    codes, end = {}, time.monotonic() + 180
    while len(codes) < len(children):
        for child in children:
            found, status = os.waitpid(child, os.WNOHANG) if child not in codes else (0, 0)
            if found:
                codes[child] = os.waitstatus_to_exitcode(status)
                # As a launcher does.
                end = min(end, time.monotonic() + 5) if codes[child] else end
            elif child not in codes and time.monotonic() > end:
                os.kill(child, signal.SIGABRT)
        time.sleep(0.01)
    return [codes[child] for child in children]


def serve(folder, names):
    """Imports everything once, then forks the processes of each run; prints their exit codes."""
    import matplotlib.backends.backend_agg  # noqa: F401

    from kakehashi.training import instruct  # noqa: F401

    torch.set_num_threads(1)
    os.chdir(folder)
    gc.freeze()
    for name in names:
        start = time.monotonic()
        codes = perform(name, folder)
        print(json.dumps([name, codes, round(time.monotonic() - start, 1)]), flush=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_tokenizer, tiny_sentences):
    """The folder of all runs, and the exit codes of each run's processes."""
    from conftest import TINY_SIZES

    from kakehashi.modeling import KakehashiConfig, KakehashiForConditionalGeneration

    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    model = KakehashiForConditionalGeneration(KakehashiConfig(vocab_size=len(tiny_tokenizer), **TINY_SIZES))
    model.save_pretrained(folder / "model")
    tiny_tokenizer.save_pretrained(folder / "model")
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    T5Config(vocab_size=len(tiny_tokenizer), **sizes).save_pretrained(folder / "t5")
    draw = random.Random(0)
    # 28 pairs of unequal lengths: two processes get different numbers of tokens, and every batch is full.
    rows = [
        {"en": " ".join(draw.choices(tiny_sentences[:5], k=draw.randint(1, 2))), "ja": draw.choice(tiny_sentences[5:])}
        for _ in range(28)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = {"train_files": [str(folder / "pairs.jsonl")], "validation_files": [str(folder / "pairs.jsonl")]}
    (folder / "recipe.json").write_text(json.dumps({**RECIPE, **files, "model": str(folder / "model")}))
    served = subprocess.run([sys.executable, __file__, folder], capture_output=True, text=True, timeout=600)
    assert served.returncode == 0, served.stderr
    print(served.stdout)
    return folder, {name: codes for name, codes, _ in map(json.loads, served.stdout.strip().split("\n"))}


def log_of(folder, name):
    return json.loads((folder / name / "log_history.json").read_text())


def losses(folder, name, key="loss"):
    return [entry[key] for entry in log_of(folder, name) if key in entry]


def text_of(folder, name, rank):
    return (folder / f"{name}.{rank}.log").read_text()


@pytest.mark.parametrize(
    "name", ["two", "two-resumed", "two-to-one", "one-to-two", "fsdp", "fsdp-resumed", "one", "fsdp-muon"]
)
def test_every_run_ends_well_and_leaves_a_whole_folder(runs, name):
    folder, codes = runs
    assert set(codes[name]) == {0}, text_of(folder, name, 0) + text_of(folder, name, len(codes[name]) - 1)
    assert {path.name for path in (folder / name).iterdir()} == {path.name for path in (folder / "one").iterdir()}
    model, loading = AutoModelForSeq2SeqLM.from_pretrained(folder / name, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert model.config.architectures == ["KakehashiForConditionalGeneration"]
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    "name",
    ["two", "two-resumed", "two-to-one", "one-to-two", "fsdp", "fsdp-resumed", "fsdp-muon", "two-stream", "two-t5"],
)
def test_the_curve_and_the_weights_are_those_of_one_process(runs, name):
    folder, _ = runs
    kind = name.rpartition("-")[2]
    reference = f"one-{kind}" if kind in ("muon", "stream", "t5") else "one"
    # The 28 validation examples do not fill the last step of two processes, and copies that do must not count.
    for key in ("loss", "eval_loss"):
        torch.testing.assert_close(losses(folder, name, key), losses(folder, reference, key), rtol=1e-4, atol=1e-5)
    expected, found = (load_file(folder / each / "model.safetensors") for each in (reference, name))
    assert expected.keys() == found.keys()
    for key, weight in expected.items():
        torch.testing.assert_close(found[key], weight, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["two", "two-resumed", "two-to-one", "one-to-two", "fsdp", "fsdp-resumed"])
def test_tokens_are_counted_exactly_however_processes_share_them(runs, name):
    folder, _ = runs
    counts = [
        [entry["num_tokens_seen"] for entry in log_of(folder, each) if "num_tokens_seen" in entry]
        for each in ("one", name)
    ]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", ["two", "fsdp"])
def test_killed_and_resumed_several_processes_end_with_the_very_same_weights(runs, kind):
    folder, _ = runs
    whole, resumed = (folder / name / "model.safetensors" for name in (kind, f"{kind}-resumed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_a_signal_to_one_process_stops_all_after_the_same_step(runs):
    folder, codes = runs
    assert codes["two-stopped"] == [130, 130]
    (checkpoint,) = (folder / "two-stopped").glob("checkpoint-*")
    assert json.loads((checkpoint / "trainer_state.json").read_text())["global_step"] < RECIPE["max_steps"]
    assert "interrupted at step" in text_of(folder, "two-stopped", 0)


def test_only_the_first_process_speaks(runs):
    folder, codes = runs
    for name, (processes, *_) in RUNS.items():
        if processes > 1:
            assert text_of(folder, name, 1) == "", name
    assert codes["two-refused"] == codes["two-exploding"] == [2, 2]
    assert '`["none.jsonl"]` does not exist' in text_of(folder, "two-refused", 0)
    assert "is not finite at step" in text_of(folder, "two-exploding", 0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), [each for each in sys.argv[2:] if not each.startswith("--")] or list(RUNS))
