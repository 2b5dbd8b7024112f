"""The folder of a Space: the page, what it needs, its metadata, and the models that go along."""

import re
import shutil
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import requires
from pathlib import Path
from typing import Any

from huggingface_hub import SpaceCard, SpaceCardData
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase

from kakehashi.tokenization import save_tokenizer
from kakehashi.training.aside import fill_new_folder
from kakehashi.training.export.folder import engine_of
from kakehashi.training.inference import is_classifier, load_for_classification, load_for_generation
from kakehashi.training.run_files import write_json

# The release of Gradio that the page was written for and is tested with: a Space installs exactly this one.
GRADIO_VERSION = "6.31.0"
# Beside Gradio, the packages that the page and the code of a model import; their ranges are those of kakehashi.
PAGE_PACKAGES = ("huggingface_hub", "jinja2", "numpy", "safetensors", "tokenizers", "torch", "transformers")
# Python of the Space: one that every package above has wheels for.
PYTHON_VERSION = "3.12"

_PURPOSE = "A page to try {names} on: type a sentence and read its translation{labels}, its tokens and its attention."


@dataclass(frozen=True)
class SpaceModel:
    """A model of a Space.

    Args:
        role: `model` or `classifier`; also the name of its folder in the Space, if it goes along.
        name: Hub id, or folder on this machine.
    """

    role: str
    name: str

    @property
    def is_folder(self) -> bool:
        """Whether it lies on this machine."""
        return Path(self.name).is_dir()

    @property
    def reference(self) -> str:
        """What the page loads: the Hub id, or the folder beside the page."""
        return self.role if self.is_folder else self.name

    @property
    def short_name(self) -> str:
        """The last part of the name, for a heading."""
        return Path(self.name).resolve().name if self.is_folder else self.name.split("/")[-1]


def write_space(
    model: str,
    output_dir: Path,
    *,
    classifier: str | None = None,
    include_model: bool = False,
    title: str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Writes a Space for a model that translates: all of its files, or none.

    The page in it needs no kakehashi: it loads the models with the code that goes with them.

    Args:
        model: Hub id or folder of an encoder-decoder.
        output_dir: The folder to make; it must not exist or be empty.
        classifier: Hub id or folder of a model that labels texts; `None` leaves its tab out.
        include_model: Whether models that are folders of this machine are copied into the Space.
        title: Heading of the page; `None` makes one from the name of the model.
        trust_remote_code: Whether to run the code of a model that Transformers and kakehashi do not know, to check it.

    Raises:
        ValueError: If a model is of the wrong kind or cannot be read, is a folder and must not be copied, or
            `output_dir` holds something.
        OSError: If the Hub cannot be reached.
    """
    named = [SpaceModel("model", model), *([] if classifier is None else [SpaceModel("classifier", classifier)])]
    _check(named, include_model, trust_remote_code)
    title = title or f"kakehashi · {named[0].short_name}"
    with fill_new_folder(output_dir) as folder:
        for each in named:
            if each.is_folder:
                _include(each, folder / each.role, trust_remote_code)
        shutil.copyfile(str(resources.files(__package__).joinpath("app.py")), folder / "app.py")
        (folder / "requirements.txt").write_text("\n".join(page_requirements()) + "\n", encoding="utf-8")
        settings = {"title": title, **{each.role: each.reference for each in named}}
        write_json(folder / "space.json", settings)
        _space_card(named, title).save(folder / "README.md")


def page_requirements() -> list[str]:
    """Returns the lines of `requirements.txt`: Gradio as tested, the rest in the ranges that kakehashi declares."""
    # A line with a condition belongs to an extra.
    declared = [line for line in requires("kakehashi") or [] if ";" not in line]
    wanted = [line for line in declared if re.split(r"[^\w.-]", line)[0] in PAGE_PACKAGES]
    return [f"gradio=={GRADIO_VERSION}", *sorted(wanted)]


def _check(models: list[SpaceModel], include_model: bool, trust_remote_code: bool) -> None:
    for each in models:
        labels = is_classifier(each.name, trust_remote_code=trust_remote_code)
        if each.is_folder and engine_of(each.name) is not None:
            raise ValueError(f"`{each.role}` must be a model folder or a Hub id, but {each.name} is exported already")
        if each.role == "classifier" and not labels:
            raise ValueError(
                f"`classifier` must be a model that labels texts, but {each.name} does not: see `classify`"
            )
        if each.role == "model":
            config = AutoConfig.from_pretrained(each.name, trust_remote_code=trust_remote_code)
            if labels or not config.is_encoder_decoder:
                shape = (config.architectures or [config.model_type])[0]
                raise ValueError(f"`model` must be an encoder-decoder that translates, but {each.name} is a {shape}")
        if each.is_folder and not include_model:
            raise ValueError(
                f"`{each.role}` must be where a Space can reach it, but {each.name} is a folder of this machine: "
                "publish it first (`kakehashi publish`) and give its Hub id, or add --include-model to copy it in"
            )
    if include_model and not any(each.is_folder for each in models):
        raise ValueError(f"`--include-model` copies folders of this machine, but {models[0].name} is a Hub id")


def _include(source: SpaceModel, target: Path, trust_remote_code: bool) -> None:
    """Saves a model anew, which leaves behind whatever else lies in its folder, and says if it cannot be read."""
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase]
    if source.role == "classifier":
        loaded = load_for_classification(source.name, device="cpu", trust_remote_code=trust_remote_code)
    else:
        loaded = load_for_generation(source.name, device="cpu", trust_remote_code=trust_remote_code)
    network, tokenizer = loaded
    network.save_pretrained(target)
    save_tokenizer(tokenizer, target)
    card = Path(source.name) / "README.md"
    if card.is_file():
        shutil.copyfile(card, target / "README.md")


def _space_card(models: list[SpaceModel], title: str) -> SpaceCard:
    ids = [each.name for each in models if not each.is_folder]
    # What the Hub reads of a Space and `SpaceCardData` has no argument of its own for.
    further: dict[str, Any] = {
        "emoji": "🌉",
        "colorFrom": "blue",
        "colorTo": "indigo",
        "pinned": False,
        "short_description": "Translate, and look inside the model",
    }
    if ids:
        further["preload_from_hub"] = ids
    labels = ", its label" if len(models) > 1 else ""
    names = " and ".join(f"[{each.name}](/{each.name})" if not each.is_folder else each.short_name for each in models)
    return SpaceCard.from_template(
        SpaceCardData(
            title=title,
            sdk="gradio",
            sdk_version=GRADIO_VERSION,
            python_version=PYTHON_VERSION,
            app_file="app.py",
            license="apache-2.0",
            models=ids or None,
            **further,
        ),
        template_str=resources.files(__package__).joinpath("template.md").read_text(encoding="utf-8"),
        title=title,
        purpose=_PURPOSE.format(names=names, labels=labels),
        folders=[each.role for each in models if each.is_folder],
        space_id=f"user/{space_name(models[0].short_name)}",
    )


def space_name(name: str) -> str:
    """Returns `name` as the Hub allows a repository to be called."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "kakehashi"
