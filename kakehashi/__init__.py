"""Kakehashi: the modern encoder-decoder you can train yourself.

The folders `modeling/`, `tokenization/`, `training/` and `model_cards/` stand at the top of the repository, so that
each can be read by itself and `modeling/` goes to the Hub as it is. Installed, they are `kakehashi.modeling`,
`kakehashi.tokenization` and so on, so that one name holds the whole package. Always import `kakehashi.…`:
`import modeling` from the root of the repository makes a second copy of every class.

`import kakehashi` is all it takes for the Auto classes of Transformers to know the kakehashi models:

    import kakehashi
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained("runs/quickstart/instruct")

It imports neither torch nor Transformers: the names below are looked up when they are first used, and
`kakehashi.registration` explains how the registration waits for Transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kakehashi.registration import register_with_transformers

if TYPE_CHECKING:
    from kakehashi.modeling import (
        KakehashiConfig,
        KakehashiEncoderModel,
        KakehashiForCausalLM,
        KakehashiForConditionalGeneration,
        KakehashiForMaskedLM,
        KakehashiForSequenceClassification,
        KakehashiForTokenClassification,
        KakehashiModel,
    )
    from kakehashi.tokenization import train_tokenizer
    from kakehashi.training.embedding import embed_texts
    from kakehashi.training.export.engines import export_model
    from kakehashi.training.inference import (
        generate_texts,
        load_for_classification,
        load_for_embedding,
        load_for_generation,
    )
    from kakehashi.training.labelling import classify_texts

__version__ = "0.1.0"

__all__ = [
    "KakehashiConfig",
    "KakehashiEncoderModel",
    "KakehashiForCausalLM",
    "KakehashiForConditionalGeneration",
    "KakehashiForMaskedLM",
    "KakehashiForSequenceClassification",
    "KakehashiForTokenClassification",
    "KakehashiModel",
    "__version__",
    "classify_texts",
    "embed_texts",
    "export_model",
    "generate_texts",
    "load_for_classification",
    "load_for_embedding",
    "load_for_generation",
    "train_tokenizer",
]

_HOME_OF_NAME = {
    "classify_texts": "kakehashi.training.labelling",
    "embed_texts": "kakehashi.training.embedding",
    "export_model": "kakehashi.training.export.engines",
    "generate_texts": "kakehashi.training.inference",
    "load_for_classification": "kakehashi.training.inference",
    "load_for_embedding": "kakehashi.training.inference",
    "load_for_generation": "kakehashi.training.inference",
    "train_tokenizer": "kakehashi.tokenization",
}


def __getattr__(name: str) -> Any:
    """Imports a public name's module when the name is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF_NAME.get(name, "kakehashi.modeling")), name)


def __dir__() -> list[str]:
    """Lists the names not imported yet beside those that are."""
    return sorted({*globals(), *__all__})


register_with_transformers()
