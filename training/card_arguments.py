"""The recipe keys that a model card is filled from and that training itself does not read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Codes as the Hub spells them: `ja`, `zh-Hant`; `apache-2.0`, `cc-by-sa-4.0`.
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
_LICENSE_ID = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_DATA_KEYS = ("data_revision", "data_license")


@dataclass
class CardArguments:
    """Recipe keys for the card of the model: whose data it learned from, and on what terms it may be used."""

    license: str | None = field(
        default=None, metadata={"help": "Licence of the weights as the Hub spells it, such as apache-2.0."}
    )
    language: list[str] | None = field(
        default=None, metadata={"help": "Codes of the languages the model knows, such as en and ja."}
    )
    datasets: list[str] | None = field(
        default=None, metadata={"help": "Names or Hub ids of the data sets behind train_files."}
    )
    data_revision: list[str] | None = field(
        default=None,
        metadata={"help": "Revision, version or date of the data: one for all data sets, or one each."},
    )
    data_license: list[str] | None = field(
        default=None, metadata={"help": "Licence of the data: one for all data sets, or one each."}
    )

    def __post_init__(self) -> None:
        """Checks what would otherwise be noticed only when the model is published."""
        if self.license is not None:
            check_license(self.license)
        for code in self.language or []:
            if not _LANGUAGE_CODE.fullmatch(code):
                raise ValueError(f"`language` must hold codes such as en, ja or zh-Hant, got {code!r}")
        self.require_one_each("datasets", self.datasets)

    def require_one_each(self, key: str, sources: list[str] | None) -> None:
        """Checks that revisions and licences are one for all sources of the data, or one for each.

        Args:
            key: Key that names the sources.
            sources: Its value; None checks nothing.

        Raises:
            ValueError: If they are of another number.
        """
        for name in _DATA_KEYS:
            given = getattr(self, name)
            if given and sources and len(given) not in (1, len(sources)):
                raise ValueError(
                    f"`{name}` must hold one value, or one for each of the {len(sources)} `{key}`, got {len(given)}"
                )


def check_license(license: str) -> None:
    """Checks that a licence is spelled as the Hub spells licences.

    Raises:
        ValueError: If it is not.
    """
    if not _LICENSE_ID.fullmatch(license):
        raise ValueError(f"`license` must be spelled as the Hub spells it, such as apache-2.0, got {license!r}")


def describe_data_sets(recipe: Mapping[str, Any], sources: list[str]) -> list[dict[str, str | None]]:
    """Returns name, revision and licence of each data set a model learned from.

    Args:
        recipe: Keys and values of a recipe.
        sources: Names of the training files, which stand in where the recipe names no data sets.

    Returns:
        One mapping with `name`, `revision` and `license` for each; None where the recipe does not say.
    """
    names = as_list(recipe.get("datasets")) or sources
    columns = []
    for key in _DATA_KEYS:
        given = as_list(recipe.get(key))
        columns.append(given if len(given) == len(names) else [given[0] if given else None] * len(names))
    return [
        {"name": name, "revision": revision, "license": license}
        for name, revision, license in zip(names, *columns, strict=True)
    ]


def as_list(value: Any) -> list[Any]:
    """Returns a key that may hold one value or several as a list."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]
