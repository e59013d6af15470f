"""What ``optimize`` refuses before anything is trained or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras

from kompakt.errors import InputError
from kompakt.export_options import io_for
from kompakt.recipe import Recipe
from kompakt.sites import sites
from kompakt.targets import find_target


def check_numbers(epochs: int | None, batch_size: int, seed: int) -> None:
    """Raise InputError where one of them is out of its range."""
    if epochs is not None and epochs < 0:
        raise InputError(f"epochs={epochs}: expected 0 or more")
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: expected 1 or more")
    if not 0 <= seed < 2**31:
        raise InputError(f"seed={seed}: expected a whole number from 0 to {2**31 - 1}")


def check_layers(model: keras.Model, recipes: Sequence[Recipe]) -> None:
    """Raise, before anything is written, where a recipe needs weights and ``model`` has none."""
    stages = [stage for recipe in recipes for stage in recipe.stages if stage.rules or stage.quantize]
    if stages and all(site.variable is None for site in sites(model)):
        what = "weights to work on" if stages[0].rules else "layer to quantize"
        raise InputError(
            f"the model {model.name!r} has no {what}: expected at least one Dense, convolution, embedding or "
            "recurrent layer"
        )


def check_teacher(teacher: keras.Model | None, recipes: Sequence[Recipe]) -> None:
    """Raise where a recipe needs a teacher and there is none, or there is one that none asks."""
    asking = [recipe.name for recipe in recipes if any(stage.distill is not None for stage in recipe.stages)]
    if asking and teacher is None:
        raise InputError(f"recipe {asking[0]!r}: it distils, and needs a teacher: teacher= or --teacher TEACHER.keras")
    if teacher is not None and not asking:
        raise InputError(
            f"teacher: none of the recipes {', '.join(r.name for r in recipes)} distils; choose one that does, such as "
            "'distill_qat_int8'"
        )


def for_target(recipe: Recipe, target: str) -> Recipe:
    """``recipe`` with another target, and the mode there that comes nearest to its own.

    Raises:
        InputError: there is no such target.

    Example:
        >>> from kompakt.recipe import load_recipe
        >>> made = for_target(load_recipe("qat_int8"), "tfjs")
        >>> made.name, made.quantization, made.io
        ('qat_int8_tfjs', 'uint8', None)
    """
    place = find_target(target)
    mode = recipe.quantization
    mode = mode if mode in place.modes else place.nearest.get(mode, "float")
    io = recipe.io if recipe.io in place.io.get(mode, ()) else None
    name = recipe.name if target == recipe.target else f"{recipe.name}_{target}"
    return dataclasses.replace(recipe, name=name, target=target, quantization=mode, io=io)


def check_targets(recipes: Sequence[Recipe]) -> None:
    """Raise, before anything is trained, where a recipe ends in what its target has not, or that cannot be run."""
    for recipe in recipes:
        place = find_target(recipe.target)
        where = f"recipe {recipe.name!r}: quantization={recipe.quantization!r}, target={recipe.target!r}"
        if recipe.quantization not in place.modes:
            raise InputError(f"{where}: expected one of {', '.join(place.modes)}")
        if recipe.sparse and not place.stores_sparse:
            raise InputError(f"{where}: it has no sparse storage; leave 'sparse' out")
        io_for(recipe.io, recipe.quantization, place)
        place.ready()
