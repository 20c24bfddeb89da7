"""What a protocol is asked for: a preset, a source of data, for some a network."""

from collections.abc import Collection

from hemafl_lib.errors import HemaflError


def check_choices(**choices: tuple[str, Collection[str]]) -> None:
    """Raise `HemaflError` if a value is not among the known ones; each argument is (value, known)."""
    for name, (value, known) in choices.items():
        if value not in known:
            raise HemaflError(f"{name}='{value}' is unknown; choose one of {', '.join(known)}.")
