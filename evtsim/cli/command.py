"""What all commands do alike with what a user typed: numbers, and errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from evtsim.errors import ArgumentError

PATHS = re.compile(r"\b(FILE|FOLDER|TRACE|RUN|LOG)\b")
"""Names of arguments and options that are files or folders."""


class Command(TyperCommand):
    """A command whose errors name the option that was typed, and not Python's parameter."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; a number below zero is no unknown option."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            unknown = getattr(error, "option_name", "")
            word = next((word for word in given if word.startswith(unknown)), unknown)
            if not re.fullmatch(r"-[\d.][\w.,]*", word):
                raise
            raise typer.BadParameter(f"{word!r} (expected a number from 0 on)", ctx=ctx) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command, unless a word that it was given is empty: a script's unset variable."""
        for option in self.params:
            given = ctx.params.get(option.name)
            empty = given == "" or (isinstance(given, (list, tuple)) and "" in given)
            # By name: recent typers bring a click, and an enum, of their own.
            if empty and ctx.get_parameter_source(option.name).name == "COMMANDLINE":
                label = option.metavar or option.name.upper()
                typed = option.opts[0] if option.opts[0].startswith("-") else label
                if PATHS.search(label):
                    raise ArgumentError(typed, "", "a file or a folder")
                if typed != label:  # the commands know better what else an argument can be
                    raise ArgumentError(typed, "", "a value")
        try:
            return super().invoke(ctx)
        except ArgumentError as error:
            options = {option.name: option.opts[0] for option in self.params}
            raise error.renamed(options.get(error.name, error.name)) from None


def whole(low: int = 0, high: int | None = None) -> Callable[[str | int], int]:
    """Return what reads a whole number within bounds, both included; for typer's ``parser=``."""
    bounds = f"{low:,} or more" if high is None else f"{low:,} to {high:,}"

    def number(text: str | int) -> int:
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} (expected a whole number, {bounds})") from None
        if value < low or (high is not None and value > high):
            raise typer.BadParameter(f"{value} (expected {bounds})")
        return value

    return number
