"""Repairs of post-training quantization, in the order that :func:`kompakt.quantize` takes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import attach
from kompakt.calibrate import batches, by_name
from kompakt.errors import InputError
from kompakt.progress import Report
from kompakt.repairs.batchnorm import has_batchnorm, reestimate_batchnorm
from kompakt.repairs.bias import correct_bias
from kompakt.repairs.rounding import adaround
from kompakt.repairs.walk import without_grids
from kompakt.rewrite.equalize import apply_equalize, plan_equalize
from kompakt.sites import is_graph
from kompakt.transform import Transform
from kompakt.transforms.prune import Prune
from kompakt.transforms.quantize import FakeQuant

__all__ = ["REPAIRS", "adaround", "before_folding", "before_grids", "correct_bias", "on_grids", "reestimate_batchnorm"]

log = logging.getLogger("kompakt")

BATCHNORM, EQUALIZE, ADAROUND, BIAS = REPAIRS = ("batchnorm", "equalize", "adaround", "bias")
"""Words of ``repairs=``, in the order they are carried out: each works on what those before it leave."""

NEED_DATA = (BATCHNORM, ADAROUND, BIAS)


def check_repairs(repairs: Sequence[str], calibration: Any) -> tuple[str, ...]:
    """The words of ``repairs`` in the order of :data:`REPAIRS`.

    Raises:
        InputError: an unknown word, or one that needs calibration data where there are none.

    Example:
        >>> check_repairs(["bias", "equalize"], calibration=[])
        ('equalize', 'bias')
    """
    if isinstance(repairs, str) or not isinstance(repairs, Sequence):
        raise InputError(f"repairs={repairs!r}: expected a list of words: {', '.join(REPAIRS)}")
    for word in repairs:
        if word not in REPAIRS:
            raise InputError(f"repairs has {word!r}: expected any of {', '.join(REPAIRS)}")
    needs = [word for word in NEED_DATA if word in repairs]
    if needs and calibration is None:
        raise InputError(f"repairs={needs} need calibration=: some hundred samples of real input")
    return tuple(word for word in REPAIRS if word in repairs)


def needs_data(repairs: Sequence[str]) -> bool:
    """Whether one of ``repairs`` works on samples."""
    return any(word in NEED_DATA for word in repairs)


def prepared(model: keras.Model, repairs: Sequence[str], calibration: Any) -> tuple[tuple[str, ...], Any]:
    """:func:`check_repairs`, and the calibration data in a form that can be gone over more than once."""
    words = check_repairs(repairs, calibration)
    return words, held(model, calibration) if words and calibration is not None else calibration


def held(model: keras.Model, data: Any) -> Any:
    """All of ``data`` as arrays in the structure that ``model`` takes: repairs go over it more than once."""
    shapes = [tuple(tensor.shape) for tensor in model.inputs] if is_graph(model) else None
    given = [tree.map_structure(np.asarray, by_name(model, inputs)) for inputs in batches(data, shapes=shapes)]
    whole = tree.map_structure(lambda *parts: np.concatenate(parts), *given)
    return [*whole] if isinstance(whole, tuple) else whole  # of a tuple the first would be taken for the inputs


def before_folding(model: keras.Model, bits: Mapping[str, int | None], data: Any) -> keras.Model:
    """A flat float ``model`` whose BatchNormalizations take back what weights of ``bits`` (site -> bits) change.

    A scale a channel goes through folding, so these grids are those that the folded weights get.
    """
    if not has_batchnorm(model):
        log.warning("%s: repair 'batchnorm' has nothing to do (no BatchNormalization)", model.name)
        return model
    grids = {site: [FakeQuant(width)] for site, width in bits.items() if width}
    return without_grids(reestimate_batchnorm(attach(model, grids), data, reference=model))


def before_grids(
    model: keras.Model, repairs: Sequence[str], keeps: Mapping[str, Sequence[Transform]], *others: keras.Model
) -> tuple[keras.Model, ...]:
    """Flat float models with the repairs done that move weights; zeros and shared values are kept.

    Args:
        model: the one whose weights say by how much.
        keeps: site -> transforms that keep what earlier techniques did there.
        others: models of the same layers, to which the same is done.
    """
    if EQUALIZE not in repairs:
        return model, *others
    shared = {
        site.rsplit("/", 1)[0] for site, chain in keeps.items() if any(not isinstance(t, Prune) for t in chain)
    }  # scaling channels apart makes more values of the shared ones
    plan = plan_equalize(model, leave=shared)
    for line in plan.lines:
        log.info("equalize: %s", line)
    return tuple(apply_equalize(each, plan) for each in (model, *others))


def on_grids(
    model: keras.Model,
    repairs: Sequence[str],
    data: Any,
    reference: keras.Model,
    progress: bool | Report = False,
) -> keras.Model:
    """An attached ``model`` with its weights rounded and its biases set to agree with the float ``reference``."""
    if ADAROUND in repairs:
        model = adaround(model, data, reference=reference, progress=progress)
    if BIAS in repairs:
        model = correct_bias(model, data, reference=reference)
    return model
