"""SIGKILL at any moment, saving included: the run goes on and ends with the weights of one that nobody touched."""

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SEED = 0
# Moments for each kind of run; every second one is aimed at the writing of a checkpoint.
KILLS = {"plain": 20, "muon": 3, "accumulated": 3, "packed": 3}
SETTINGS = {
    "plain": {},
    "muon": {"use_muon": True, "learning_rate": 1e-2},
    "accumulated": {"gradient_accumulation_steps": 3, "max_steps": 14},
    "packed": {"packing": True, "per_device_train_batch_size": 1},
}
RECIPE = {
    "source_template": ["Translate: {en}", "{ja} in English"],
    "target_template": ["{ja}", "{en}"],
    "max_source_length": 48,
    "max_target_length": 48,
    "per_device_train_batch_size": 3,
    "max_steps": 24,
    "save_steps": 4,
    "save_total_limit": 1,
    "logging_steps": 5,
    "learning_rate": 3e-3,
    "disable_tqdm": True,
}


def run_command(arguments, log):
    """Runs `kakehashi …` in a copy of this process; returns its id."""
    process = os.fork()
    if process:
        return process
    # From here on a child, which must never return.
    try:
        from kakehashi.cli import main

        with open(log, "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code if "code" in locals() else 1)


def wait(process, seconds):
    """Waits until a process ends; returns its exit status, None if it still runs after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    return None


def wait_for_writing(process, run_folder, draw):
    """Waits until a checkpoint is being written, and for a part of the writing; returns as `wait` does."""
    end = time.monotonic() + 60
    # Not the first one each time.
    skipped = draw.randrange(2)
    was_writing = True
    while time.monotonic() < end:
        is_writing = any(run_folder.glob(".writing-*")) or any(run_folder.glob(".removing-*"))
        if is_writing and not was_writing:
            skipped -= 1
            if skipped < 0:
                return wait(process, draw.choice([0.0, 0.002, 0.005, 0.01, 0.02, 0.04, 0.08]))
        was_writing = is_writing
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return status
    return None


def weights(run_folder):
    return (run_folder / "model.safetensors").read_bytes()


def kill_and_resume(kind, folder, recipe, draw):
    """Kills runs of one kind until enough moments were tried; returns what was counted."""
    log = folder / f"{kind}.log"
    whole = folder / f"{kind}-whole"
    start = time.monotonic()
    assert wait(run_command(["instruct", recipe, "--output_dir", str(whole)], log), 60) == 0, log.read_text()
    duration = time.monotonic() - start
    counts = {"kills": 0, "while_writing": 0, "runs": 0, "seconds": round(duration, 2), "with_checkpoint": 0}
    while counts["kills"] < KILLS[kind]:
        counts["runs"] += 1
        run_folder = folder / f"{kind}-{counts['runs']}"
        command = ["instruct", recipe, "--output_dir", str(run_folder)]
        status = None
        while status is None:
            process = run_command([*command, "--resume"] if run_folder.exists() else command, log)
            if counts["kills"] == KILLS[kind]:
                status = wait(process, 60)
            elif counts["kills"] % 2:
                status = wait_for_writing(process, run_folder, draw)
            else:
                status = wait(process, draw.uniform(0, 0.9 * duration))
            if status is None:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
                counts["kills"] += 1
                counts["while_writing"] += any(run_folder.glob(".writing-*"))
                counts["with_checkpoint"] += any(run_folder.glob("checkpoint-*"))
        assert status == 0, log.read_text()
        assert weights(run_folder) == weights(whole), f"{kind}: run {counts['runs']} ended with other weights"
        left = {path.name for path in run_folder.iterdir()}
        assert left == {path.name for path in whole.iterdir()}, left
        tokens = [json.loads((each / "metrics.json").read_text())["num_tokens_seen"] for each in (run_folder, whole)]
        assert tokens[0] == tokens[1], tokens
    return counts


def serve(folder):
    """Imports everything once, then forks the runs and kills them; prints the counts."""
    import torch

    from kakehashi.training import instruct  # noqa: F401

    torch.set_num_threads(1)
    # Or each copy would search all of this for garbage again.
    gc.freeze()
    draw = random.Random(SEED)
    counts = {kind: kill_and_resume(kind, folder, str(folder / f"{kind}.json"), draw) for kind in KILLS}
    print(json.dumps(counts))


@pytest.fixture
def recipes(tiny_model_dir, tiny_sentences, tmp_path):
    """The folder with the recipe of each kind of run."""
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"en": en, "ja": ja} for en in tiny_sentences[:5] for ja in tiny_sentences[5:]]
    pairs.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    for kind, settings in SETTINGS.items():
        recipe = {**RECIPE, "model": str(tiny_model_dir), "train_files": [str(pairs)], **settings}
        # JSON is YAML.
        (tmp_path / f"{kind}.json").write_text(json.dumps(recipe), encoding="utf-8")
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot copy a process")
def test_killed_at_any_moment_a_run_resumes_to_the_very_same_weights(recipes):
    served = subprocess.run([sys.executable, __file__, recipes], capture_output=True, text=True, timeout=600)
    assert served.returncode == 0, served.stderr
    counts = json.loads(served.stdout.strip().split("\n")[-1])
    print(counts)
    for kind, kills in KILLS.items():
        assert counts[kind]["kills"] == kills
    assert counts["plain"]["while_writing"] >= 3
    assert counts["plain"]["with_checkpoint"] >= 3


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
