"""A run that stops when validation gets no better, and recipes that cannot."""

import pytest
from transformers import TrainerControl, TrainerState

from kakehashi.training.arguments import ClassifyArguments, InstructArguments, PretrainArguments
from kakehashi.training.early_stopping import EarlyStopping, MetricGuard, make_early_stopping, settle_stopping
from kakehashi.training.instruct import run_instruct
from kakehashi.training.recipe import parse_recipe

RECIPE = {
    "output_dir": "run",
    "validation_split": 0.5,
    "eval_strategy": "steps",
    "early_stopping_patience": 2,
    "early_stopping_threshold": 0.1,
}


def parse(stage=InstructArguments, **keys):
    recipe = {key: value for key, value in {**RECIPE, **keys}.items() if value is not None}
    return parse_recipe(stage, recipe)


def test_the_loss_is_what_is_watched_unless_the_recipe_says_otherwise():
    arguments, training_arguments = parse()
    settle_stopping(arguments, training_arguments)
    assert training_arguments.metric_for_best_model == "loss"
    assert training_arguments.greater_is_better is False
    arguments, training_arguments = parse(ClassifyArguments, metric_for_best_model="accuracy")
    settle_stopping(arguments, training_arguments)
    assert (training_arguments.metric_for_best_model, training_arguments.greater_is_better) == ("accuracy", True)
    stopping = make_early_stopping(arguments)
    assert (stopping.early_stopping_patience, stopping.early_stopping_threshold) == (2, 0.1)


@pytest.mark.parametrize("metric", ["mse", "eval_mae"])
def test_an_error_is_the_better_the_smaller_it_is(metric):
    arguments, training_arguments = parse(ClassifyArguments, metric_for_best_model=metric)
    settle_stopping(arguments, training_arguments)
    assert training_arguments.greater_is_better is False


def test_a_recipe_that_stops_nothing_early_is_left_alone():
    arguments, training_arguments = parse(early_stopping_patience=None, eval_strategy="no")
    settle_stopping(arguments, training_arguments)
    assert training_arguments.metric_for_best_model is None
    assert make_early_stopping(arguments) is None


@pytest.mark.parametrize(
    ("stage", "keys", "message"),
    [
        (InstructArguments, {"validation_split": None}, "`early_stopping_patience` needs rows to validate on"),
        (InstructArguments, {"eval_strategy": None}, "`early_stopping_patience` needs `eval_strategy` steps or epoch"),
        (PretrainArguments, {"metric_for_best_model": "accuracy"}, "`metric_for_best_model` must be loss in this"),
    ],
)
def test_what_cannot_work_is_said_before_training(stage, keys, message):
    with pytest.raises(ValueError, match=message):
        settle_stopping(*parse(stage, **keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"early_stopping_patience": 0}, "`early_stopping_patience` must be at least 1, got 0"),
        ({"early_stopping_threshold": -0.5}, "`early_stopping_threshold` must not be negative, got -0.5"),
    ],
)
def test_values_out_of_bounds_are_refused_where_they_enter(keys, message):
    with pytest.raises(ValueError, match=message):
        parse(**keys)


def validate(stopping, arguments, state, loss):
    control = TrainerControl()
    stopping.on_evaluate(arguments, state, control, metrics={"eval_loss": loss})
    # Trainer notes the best value after its callbacks.
    state.best_metric = loss if state.best_metric is None else min(state.best_metric, loss)
    return control.should_training_stop


def test_a_run_stops_after_so_many_validations_without_improvement_and_says_so(capsys):
    arguments, training_arguments = parse()
    settle_stopping(arguments, training_arguments)
    state = TrainerState(global_step=50, stateful_callbacks=[TrainerControl()])
    stopping = make_early_stopping(arguments)
    stopping.on_train_begin(training_arguments, state, TrainerControl())
    # The threshold makes 2.95 no improvement on 3.0.
    assert [validate(stopping, training_arguments, state, loss) for loss in (3.0, 2.95, 2.94)] == [False, False, True]
    assert capsys.readouterr().err == "stopped early at step 50: loss has not improved in 2 validations\n"


def test_the_count_goes_on_from_the_checkpoint():
    arguments, training_arguments = parse()
    settle_stopping(arguments, training_arguments)
    before = EarlyStopping(2, 0.1)
    before.early_stopping_patience_counter = 1
    state = TrainerState(best_metric=3.0, stateful_callbacks=[TrainerControl(), before])
    stopping = make_early_stopping(arguments)
    stopping.on_train_begin(training_arguments, state, TrainerControl())
    assert validate(stopping, training_arguments, state, 3.0)


def test_a_run_that_was_killed_after_it_stopped_stops_at_once():
    arguments, training_arguments = parse()
    settle_stopping(arguments, training_arguments)
    before = EarlyStopping(2, 0.1)
    before.early_stopping_patience_counter = 2
    for patience, stops in ((2, True), (3, False)):
        state = TrainerState(best_metric=3.0, stateful_callbacks=[TrainerControl(), before])
        control = TrainerControl()
        EarlyStopping(patience, 0.1).on_train_begin(training_arguments, state, control)
        assert control.should_training_stop == stops


def test_validations_after_training_do_not_count(capsys):
    arguments, training_arguments = parse()
    settle_stopping(arguments, training_arguments)
    state = TrainerState(stateful_callbacks=[TrainerControl()])
    stopping = make_early_stopping(arguments)
    stopping.on_train_begin(training_arguments, state, TrainerControl())
    assert [validate(stopping, training_arguments, state, loss) for loss in (3.0, 3.0)] == [False, False]
    stopping.on_train_end(training_arguments, state, TrainerControl())
    assert not validate(stopping, training_arguments, state, 3.0)
    assert "stopped early" not in capsys.readouterr().err


def test_a_metric_that_no_validation_has_is_answered_with_those_it_has():
    _, training_arguments = parse(ClassifyArguments, metric_for_best_model="accurcy")
    metrics = {"eval_loss": 1.0, "eval_accuracy": 0.5, "eval_runtime": 2.0, "eval_steps_per_second": 3.0, "epoch": 1.0}
    guard = MetricGuard()
    with pytest.raises(ValueError, match="`metric_for_best_model` must be one of accuracy, loss, got 'accurcy'"):
        guard.on_evaluate(training_arguments, TrainerState(), TrainerControl(), metrics=metrics)
    # The test rows are measured under another name.
    guard.on_evaluate(training_arguments, TrainerState(), TrainerControl(), metrics={"test_loss": 1.0})
    training_arguments.metric_for_best_model = "eval_accuracy"
    guard.on_evaluate(training_arguments, TrainerState(), TrainerControl(), metrics=metrics)


def test_a_run_that_learns_nothing_ends_early_and_is_complete(tmp_path, tiny_model_dir, tiny_sentences):
    table = tmp_path / "pairs.tsv"
    rows = zip(tiny_sentences[:5], tiny_sentences[5:], strict=True)
    table.write_text("en\tja\n" + "".join(f"{en}\t{ja}\n" for en, ja in rows), encoding="utf-8")
    recipe = {
        "model": str(tiny_model_dir),
        "train_files": [str(table)],
        "validation_files": [str(table)],
        "source_template": ["{en}"],
        "target_template": ["{ja}"],
        "learning_rate": 0.0,
        "max_steps": 20,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "no",
        "sample_rows": 0,
        "early_stopping_patience": 2,
        "disable_tqdm": True,
        "output_dir": str(tmp_path / "run"),
    }
    metrics = run_instruct(*parse_recipe(InstructArguments, recipe))
    assert metrics["steps"] == 3
    assert (tmp_path / "run" / "metrics.json").exists()
