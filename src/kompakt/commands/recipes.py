"""``kompakt recipes``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kompakt.commands.shared import OK, say_json, show

ABOUT = "list the recipes, or show one"


def options(command: ArgumentParser) -> None:
    """What the command takes."""
    command.add_argument("name", nargs="?", metavar="NAME", help="recipe to show as JSON")


def check(options: Namespace) -> None:
    """What can be told at once."""
    from kompakt.recipe_files import read_recipe

    if options.name:
        read_recipe(options.name)


def run(options: Namespace) -> int:
    """``kompakt recipes``."""
    from kompakt.recipe import load_recipe, recipe_names, to_dict

    if options.name:
        say_json(to_dict(load_recipe(options.name)))
        return OK
    recipes = [load_recipe(name) for name in recipe_names()]
    if options.json:
        say_json([to_dict(recipe) for recipe in recipes])
        return OK
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("recipe")
    table.add_column("what it does")
    for recipe in recipes:
        table.add_row(recipe.name, recipe.about)
    show(table)
    return OK
