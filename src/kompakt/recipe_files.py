"""Where recipes are: those that come with kompakt, and the user's own. What is in them is for :mod:`kompakt.recipe`."""

from __future__ import annotations

import difflib
import importlib.resources
import json
from pathlib import Path
from typing import Any

from kompakt.errors import InputError


def recipe_names() -> list[str]:
    """Names of the recipes that come with kompakt.

    Example:
        >>> "qat_int8" in recipe_names()
        True
    """
    folder = importlib.resources.files("kompakt") / "recipes"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def read_recipe(name: str | Path) -> Any:
    """The JSON of the recipe of that name, or in that file.

    Raises:
        InputError: there is none, or it is no JSON.

    Example:
        >>> read_recipe("ptq_int8")["quantization"]
        'int8'
    """
    text = str(name)
    if text in recipe_names():
        return _json((importlib.resources.files("kompakt") / "recipes" / f"{text}.json").read_text(), text)
    path = Path(text)
    if not path.is_file():
        raise InputError(f"recipe {text!r}: no recipe and no file of that name{_near(text)}")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {text}: cannot be read ({error}); expected a JSON file") from None
    return _json(content, text)


def _near(name: str) -> str:
    names = recipe_names()
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; nearest: {close[0]!r}" if close else f"; the recipes: {', '.join(names)}"


def _json(text: str, where: str) -> Any:
    def refuse(word: str) -> None:
        raise InputError(f"recipe {where}: holds {word}, expected finite numbers")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"recipe {where}: not JSON ({error})") from None
