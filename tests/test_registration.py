"""`import kakehashi` is light, and the Auto classes know the kakehashi classes whatever is imported first."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import kakehashi
from kakehashi import registration
from kakehashi.modeling.configuration_kakehashi import PIPELINES

# Each order meets a different half-finished import: see `kakehashi.registration`.
IMPORT_ORDERS = {
    "auto classes first": "from transformers import AutoConfig, AutoModelForSeq2SeqLM; import kakehashi",
    "the configuration's auto class before the others": (
        "import kakehashi, sys; from transformers import AutoConfig; AutoConfig.for_model('kakehashi')\n"
        "assert 'kakehashi.modeling.modeling_kakehashi' not in sys.modules\n"
        "from transformers import AutoModelForSeq2SeqLM"
    ),
    "a library module that imports the auto classes half-way": (
        "import kakehashi, transformers.modeling_layers; from transformers import AutoConfig, AutoModelForSeq2SeqLM"
    ),
    "the pipelines before anything else": "import kakehashi; from transformers import pipeline, AutoConfig\n"
    "from transformers import AutoModelForSeq2SeqLM",
    "our own pipelines": (
        "import kakehashi.modeling.pipelines_kakehashi; from transformers import AutoConfig, AutoModelForSeq2SeqLM"
    ),
    "our own model file": (
        "from kakehashi import KakehashiModel; from transformers import AutoConfig, AutoModelForSeq2SeqLM"
    ),
}


def run_python(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result


def test_the_version_is_the_one_that_was_installed():
    assert kakehashi.__version__ == importlib.metadata.version("kakehashi")


def test_importing_kakehashi_is_quick_and_imports_neither_torch_nor_transformers():
    # Seconds of this process, not of the clock: other tests share the cores.
    code = (
        "import time; start = time.process_time(); import kakehashi; seconds = time.process_time() - start\n"
        "import sys; heavy = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\nassert seconds < 0.5, seconds"
    )
    run_python(code)


@pytest.mark.parametrize("imports", IMPORT_ORDERS.values(), ids=IMPORT_ORDERS.keys())
def test_the_auto_classes_know_kakehashi_in_whichever_order_the_imports_come(imports):
    check = (
        "import sys\nconfig = AutoConfig.for_model('kakehashi')\n"
        "assert type(config).__module__ == 'kakehashi.modeling.configuration_kakehashi'\n"
        "model_class = AutoModelForSeq2SeqLM._model_mapping[type(config)]\n"
        "assert model_class.__name__ == 'KakehashiForConditionalGeneration', model_class\n"
        "from transformers import pipeline\n"
        "from transformers.pipelines import check_task\n"
        "assert check_task('translation_en_to_ja')[1]['impl'].__name__ == 'KakehashiTranslationPipeline'\n"
        "assert not [finder for finder in sys.meta_path if 'kakehashi' in type(finder).__module__]"
    )
    result = run_python(f"{imports}\n{check}")
    assert "kakehashi could not register" not in result.stderr


@pytest.mark.parametrize("auto_name, model_name", registration.MODEL_CLASSES.items())
def test_each_auto_class_builds_its_kakehashi_class(auto_name, model_name):
    import transformers

    auto_class = getattr(transformers, auto_name)
    assert auto_class._model_mapping[kakehashi.KakehashiConfig] is getattr(kakehashi, model_name)


@pytest.mark.parametrize("task, class_name", PIPELINES.items())
def test_each_task_builds_its_kakehashi_pipeline(task, class_name):
    from transformers.pipelines import check_task, get_supported_tasks

    assert check_task(task)[1]["impl"].__name__ == class_name
    assert get_supported_tasks().count(task) == 1


def test_other_names_of_tasks_stay_what_they_were():
    from transformers.pipelines import check_task

    assert check_task("sentiment-analysis")[0] == "text-classification"
    assert check_task("translation_ja_to_en")[0] == "translation"
    with pytest.raises(KeyError, match="translation_ja_en"):
        check_task("translation_ja_en")


def test_a_plain_trainer_shifts_the_labels_it_smooths_for_a_causal_model():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert "KakehashiForCausalLM" in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def test_reloading_kakehashi_keeps_the_registration_and_adds_no_finder():
    from transformers import AutoConfig, pipeline

    assert callable(pipeline)
    finders = list(sys.meta_path)
    importlib.reload(registration)
    importlib.reload(kakehashi)
    assert sys.meta_path == finders
    assert type(AutoConfig.for_model("kakehashi")) is kakehashi.KakehashiConfig


def test_registering_again_while_waiting_leaves_one_finder():
    code = (
        "import importlib, sys, kakehashi, kakehashi.registration as registration\n"
        "importlib.reload(registration); importlib.reload(kakehashi); kakehashi.register_with_transformers()\n"
        "assert sum('kakehashi' in type(finder).__module__ for finder in sys.meta_path) == 1\n"
        "import json.tool\nassert type(json.tool.__loader__).__module__ != 'kakehashi.registration'\n"
        "import transformers.utils.logging as watched\n"
        "assert type(watched.__spec__.loader).__module__ != 'kakehashi.registration'\n"
    )
    run_python(code)


def test_a_failing_registration_warns_and_does_not_break_the_import_of_transformers():
    code = (
        "import kakehashi, sys, warnings\nsys.modules['kakehashi.modeling.modeling_kakehashi'] = None\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n    from transformers import AutoModel\n"
        "assert any('could not register' in str(warning.message) for warning in caught), caught"
    )
    run_python(code)


@pytest.mark.parametrize("name", [name for name in kakehashi.__all__ if name.startswith("Kakehashi")])
def test_every_public_model_name_is_the_class_of_the_modeling_package(name):
    import kakehashi.modeling

    assert getattr(kakehashi, name) is getattr(kakehashi.modeling, name)
    assert name in dir(kakehashi) and name in dir(kakehashi.modeling)


def test_every_other_public_name_is_found_when_it_is_asked_for():
    from kakehashi.tokenization import train_tokenizer
    from kakehashi.training import inference

    functions = {name for name in kakehashi.__all__ if name.islower() and not name.startswith("_")}
    assert functions == {name for name in functions if callable(getattr(kakehashi, name))}
    assert kakehashi.train_tokenizer is train_tokenizer
    assert kakehashi.generate_texts is inference.generate_texts


@pytest.mark.parametrize("module", [kakehashi, importlib.import_module("kakehashi.modeling")])
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="no attribute 'Kakehasi'"):
        _ = module.Kakehasi
