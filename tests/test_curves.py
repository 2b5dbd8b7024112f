"""The loss picture of a run."""

from PIL import Image

from kakehashi.training.curves import plot_curves


def test_the_picture_shows_both_losses_and_the_learning_rate(tmp_path):
    log = [{"step": step, "loss": 5 - step / 10, "learning_rate": 1e-3 * step} for step in range(1, 20)]
    log += [{"step": 10, "eval_loss": 4.2}, {"step": 19, "eval_loss": 3.5}, {"step": 19, "train_loss": 4.0}]
    plot_curves(log, tmp_path / "loss.png")
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (960, 720)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=1_000_000)}
    for line in [(31, 119, 180), (255, 127, 14), (44, 160, 44)]:
        assert line in colours


def test_a_run_without_validation_or_logs_still_has_a_picture(tmp_path):
    plot_curves([], tmp_path / "empty.png")
    plot_curves([{"step": 1, "loss": 2.0, "learning_rate": 1e-3}], tmp_path / "one.png")
    assert (tmp_path / "empty.png").stat().st_size > 0
    assert (tmp_path / "one.png").stat().st_size > 0
