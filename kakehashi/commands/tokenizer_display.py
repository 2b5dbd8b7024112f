"""How tokens look on a terminal, and the same without colour in a pipe."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_TOKEN_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")


def printable(piece: bytes) -> str:
    """Returns the token as it reads; a piece of a character, or what cannot be seen, as escapes."""
    text = piece.decode("utf-8", errors="backslashreplace")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def style_of(index: int) -> str:
    """Returns the colours of token number `index`: neighbours differ."""
    return _TOKEN_STYLES[index % len(_TOKEN_STYLES)]


def row_of_pieces(pieces: Iterable[bytes], separator: str = "|") -> "Text":
    """Returns tokens side by side, told apart by colour and, where there is none, by the separator."""
    from rich.text import Text

    row = Text()
    for index, piece in enumerate(pieces):
        if index:
            row.append(separator, style="dim")
        row.append(printable(piece), style=style_of(index))
    return row
