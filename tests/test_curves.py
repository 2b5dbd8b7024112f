"""The picture of a run, at its end and while it goes on."""

import pytest
from PIL import Image
from transformers import TrainerControl, TrainerState, TrainingArguments

from kakehashi.training import curves
from kakehashi.training.curves import CurvePlotter, plot_curves
from kakehashi.training.run_files import listed_files

LOG = [
    {"step": step, "loss": 5 - step / 10, "learning_rate": 1e-3 * step, "tokens_per_second": 900.0 + step}
    for step in range(1, 20)
]


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(curves.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def arguments(tmp_path):
    return TrainingArguments(output_dir=str(tmp_path))


def test_the_picture_shows_both_losses_the_learning_rate_and_the_tokens(tmp_path):
    log = [*LOG, {"step": 10, "eval_loss": 4.2}, {"step": 19, "eval_loss": 3.5}, {"step": 19, "train_loss": 4.0}]
    plot_curves(log, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (960, 840)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=1_000_000)}
    for line in [(31, 119, 180), (255, 127, 14), (44, 160, 44), (148, 103, 189)]:
        assert line in colours


def test_a_run_without_validation_or_logs_still_has_a_picture(tmp_path):
    plot_curves([], tmp_path / "empty.png")
    plot_curves([{"step": 1, "loss": 2.0, "learning_rate": 1e-3}], tmp_path / "one.png")
    assert (tmp_path / "empty.png").stat().st_size > 0
    assert (tmp_path / "one.png").stat().st_size > 0


def test_people_can_look_while_the_run_goes_on_but_pictures_take_little_of_its_time(
    tmp_path, arguments, clock, monkeypatch
):
    drawn = []

    def draw(log, path):
        drawn.append(clock[0])
        path.write_bytes(b"picture")
        clock[0] += 2.0

    monkeypatch.setattr(curves, "plot_curves", draw)
    plotter, control = CurvePlotter(), TrainerControl()
    state = TrainerState(is_world_process_zero=True, log_history=list(LOG))
    plotter.on_train_begin(arguments, state, control)
    for _ in range(30):
        clock[0] += 10.0
        plotter.on_evaluate(arguments, state, control)
        plotter.on_save(arguments, state, control)
    # Each took 2 seconds, so the next one comes after 100.
    assert drawn == [1030.0, 1132.0, 1234.0]
    assert (tmp_path / "loss.png").read_bytes() == b"picture"
    assert "loss.png" in listed_files(tmp_path)


def test_only_the_first_process_draws_and_a_full_disk_ends_no_run(tmp_path, arguments, clock, monkeypatch):
    def run_full(log, path):
        raise OSError("no space")

    monkeypatch.setattr(curves, "plot_curves", run_full)
    plotter = CurvePlotter()
    plotter.on_train_begin(arguments, TrainerState(), TrainerControl())
    clock[0] += 100
    plotter.on_save(arguments, TrainerState(is_world_process_zero=False), TrainerControl())
    assert list(tmp_path.iterdir()) == []
    plotter.on_save(arguments, TrainerState(is_world_process_zero=True), TrainerControl())
    assert not (tmp_path / "loss.png").exists()
