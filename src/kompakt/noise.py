"""How much error the grids of each layer make at a model's output, one layer at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kompakt.assignment import NO_INT4
from kompakt.attach import chains_of
from kompakt.calibrate import batches
from kompakt.choose import Candidate
from kompakt.inference import outputs_of
from kompakt.placement import last_logits, output_grids
from kompakt.sites import BOTH, OUTPUT
from kompakt.transforms.quantize import FakeQuant

LOOKED_AT = 256
"""Samples that noise is measured on."""

CEILING = 120.0
"""Of a ratio in dB: what float32 itself loses is about as much."""


def layer_grids(model: keras.Model) -> dict[str, list[FakeQuant]]:
    """Layer -> the grids of its weights and of the tensor that it makes (after a ReLU fused into it).

    Args:
        model: from ``quantize``.
    """
    owners = output_grids(model)
    found: dict[str, list[FakeQuant]] = {}
    by_site: dict[str, list[FakeQuant]] = {}
    for site, chain, _ in chains_of(model):
        grids = [each for each in chain if isinstance(each, FakeQuant)]
        by_site[site] = grids
        if site.rsplit("/", 1)[-1] not in (OUTPUT, BOTH):
            found.setdefault(site.split("/")[0], []).extend(grids)
    taken: set[str | None] = set()
    for layer in [*found, *(name for name in owners if name not in found)]:
        made = owners.get(layer)
        if made is not None and made not in taken:
            found.setdefault(layer, []).extend(by_site.get(made, []))
            taken.add(made)
    for site, grids in by_site.items():
        if site not in taken and site.rsplit("/", 1)[-1] in (OUTPUT, BOTH):
            found.setdefault(site.rsplit("/", 1)[0], []).extend(grids)
    return found


@contextlib.contextmanager
def only(grids: Sequence[FakeQuant], of: Mapping[str, Sequence[FakeQuant]], weight_bits: int | None) -> Iterator[None]:
    """All grids of a model off but ``grids``, those of weights with ``weight_bits`` (None: as they are)."""
    every = [each for held in of.values() for each in held]
    before = [(each, each.active, each.bits) for each in every]
    try:
        for each in every:
            each.active = any(each is chosen for chosen in grids)
            if each.active and each.on_weights and weight_bits is not None:
                each.bits = weight_bits
        yield
    finally:
        for each, active, bits in before:
            each.active, each.bits = active, bits


def logits_model(model: keras.Model) -> keras.Model:
    """``model`` with what is before a final softmax as its output, where there is one."""
    site = last_logits(model)
    if site is None:
        return model
    return keras.Model(model.inputs, model.get_layer(site.rsplit("/", 1)[0]).output)


def sqnr(expected: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    r"""Signal to quantization noise in dB, the worst output's: :math:`10 \log_{10}(\sum y^2 / \sum (y - \hat y)^2)`.

    Example:
        >>> sqnr([np.array([10.0, 0.0])], [np.array([10.0, 1.0])])
        20.0
    """
    ratios = []
    for e, f in zip(expected, found, strict=True):
        signal, noise = float(np.sum(np.square(e, dtype="float64"))), float(np.sum(np.square(e - f, dtype="float64")))
        ratios.append(CEILING if noise == 0.0 else 10.0 * np.log10(max(signal, 1e-300) / noise))
    return float(min(*ratios, CEILING))


def candidates(model: keras.Model, samples: Any) -> list[Candidate]:
    """The layers with weights of an attached ``model``, each with the noise that it makes alone.

    Args:
        samples: arrays of inputs, or a list of batches; the first batch is looked at.
    """
    shapes = [tuple(t.shape) for t in model.inputs]
    inputs = next(iter(batches(samples, LOOKED_AT, shapes=shapes)))
    grids, probe = layer_grids(model), logits_model(model)
    with only([], grids, None):
        expected = outputs_of(probe, inputs)
    found = []
    for layer, held in grids.items():
        weights = [each for each in held if each.on_weights]
        inner = model.get_layer(layer)
        inner = getattr(inner, "transformed_layer", inner)
        if not weights:
            continue
        noise = {}
        for bits in (8, 4):
            with only(held, grids, bits):
                noise[bits] = sqnr(expected, outputs_of(probe, inputs))
        found.append(
            Candidate(
                layer=layer,
                weights=sum(int(np.prod(w.shape)) for w in inner.weights),
                sqnr_8=noise[8],
                sqnr_4=noise[4],
                narrow=not isinstance(inner, NO_INT4),
            )
        )
    return found
