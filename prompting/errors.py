"""The error of a wrong argument, and the words of messages."""

from typing import Any


class ArgumentError(ValueError):
    """A wrong argument: its name, and what is wrong with it.

    Callers that have another name for the argument, such as a configuration key, catch this and
    put theirs in front of `message`.

    Args:
        argument: its name, the subject of the sentence.
        message: the rest of the sentence, such as "is 5: it must be between 1 and 4."
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{argument} {message}")
        self.argument = argument
        self.message = message


def check_list(argument: str, texts: Any) -> None:
    """Refuse one text where a list of texts is expected: its letters would be taken for texts.

    Raises:
        ArgumentError: it is a text.
    """
    if isinstance(texts, (str, bytes)):
        raise ArgumentError(argument, f"is the text {texts!r}: give a list of texts.")


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
