"""The kakehashi configuration and models: flat files that are also uploaded to the Hub as remote code.

Names are looked up when first used, so that reading a configuration does not import the model file and torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configuration_kakehashi import KakehashiConfig
    from .modeling_kakehashi import (
        KakehashiEncoderModel,
        KakehashiForCausalLM,
        KakehashiForConditionalGeneration,
        KakehashiForMaskedLM,
        KakehashiForSequenceClassification,
        KakehashiForTokenClassification,
        KakehashiModel,
        KakehashiPreTrainedModel,
    )

__all__ = [
    "KakehashiConfig",
    "KakehashiEncoderModel",
    "KakehashiForCausalLM",
    "KakehashiForConditionalGeneration",
    "KakehashiForMaskedLM",
    "KakehashiForSequenceClassification",
    "KakehashiForTokenClassification",
    "KakehashiModel",
    "KakehashiPreTrainedModel",
]


def __getattr__(name: str) -> Any:
    """Imports the file that defines a public name when the name is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = ".configuration_kakehashi" if name == "KakehashiConfig" else ".modeling_kakehashi"
    return getattr(import_module(home, __name__), name)


def __dir__() -> list[str]:
    """Lists the names not imported yet beside those that are."""
    return sorted({*globals(), *__all__})
