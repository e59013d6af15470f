"""``fix_input_output_range`` and ``strip_clustering_cqat``: models from ``quantize_apply``, with something settled."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

import keras
from keras import ops

from kompakt.attach import chains_of, transforms_of
from kompakt.errors import InputError
from kompakt.graph import as_functional, calls, copy_model
from kompakt.placement import is_marker, output_grids
from kompakt.sites import OUTPUT, check_built, is_graph
from kompakt.tfmot.gone import refuse
from kompakt.tfmot.quantization.chains import with_chains
from kompakt.tfmot.quantization.gone_names import GONE, K
from kompakt.tfmot.quantization.grids import activation_grid
from kompakt.tfmot.quantization.own_quantizer import OwnQuantizer
from kompakt.tfmot.quantization.quantizers import FixedQuantizer
from kompakt.transform import Transform
from kompakt.transforms.cluster import Cluster
from kompakt.transforms.quantize import FakeQuant

log = logging.getLogger("kompakt")

SET_BY_RUNTIME = "%s: the runtime fixes this range at %g to %g, whatever is asked"


def fix_input_output_range(
    model: keras.Model,
    num_bits: int = 8,
    input_min: float = 0.0,
    input_max: float = 1.0,
    output_min: float = 0.0,
    output_max: float = 1.0,
    narrow_range: bool = False,
) -> keras.Model:
    """A copy of a quantized model whose inputs and outputs have these ranges, which training does not move.

    The range of a softmax or sigmoid is fixed by the runtime; where it is the output that is logged, and it stays.

    Args:
        model: from ``quantize_model`` or ``quantize_apply``. num_bits: those that its activations have.
        narrow_range: not what a file has, and left out.

    Raises:
        InputError: the model is not quantized at its ends, an empty range, or another width.

    Example:
        >>> import kompakt as kp
        >>> from kompakt.tfmot.quantization.apply import quantize_model
        >>> m = keras.Sequential([keras.Input((4,), name="input"), keras.layers.Dense(2, name="d")])
        >>> kp.get_ranges(fix_input_output_range(quantize_model(m), output_max=7.0))
        {'input_grid/output': (0.0, 1.0), 'quant_d/output': (0.0, 7.0)}
    """
    check_built(model)
    before, after = _ends(as_functional(model)) if is_graph(model) else (set(), set())
    held = {name for name, each in transforms_of(model) if isinstance(each, FakeQuant)}
    if not before & held or not after & held:
        raise InputError(
            f"the model {model.name!r} has no grid at its {'inputs' if not before & held else 'outputs'}: expected one "
            "from quantize_model, or from quantize_apply with its first and last layer annotated"
        )
    options = {"num_bits": num_bits, "narrow_range": narrow_range}
    given = FixedQuantizer(init_min=input_min, init_max=input_max, **options)  # type: ignore[arg-type]
    made = FixedQuantizer(init_min=output_min, init_max=output_max, **options)  # type: ignore[arg-type]

    def edit(site: str, chain: Sequence[Transform]) -> Sequence[Transform] | None:
        quantizer = given if site in before else made if site in after else None
        if quantizer is None:
            return None
        found: list[Transform] = []
        for each in chain:
            if isinstance(each, FakeQuant) and each.fixed:
                log.warning(SET_BY_RUNTIME, site, each.low, each.high)
            found += activation_grid(site, quantizer, each) if isinstance(each, FakeQuant) else [each]
        return found

    return with_chains(model, edit)


def _ends(model: keras.Model) -> tuple[set[str], set[str]]:
    """(sites of the grids of the inputs, of the outputs)."""
    grids, outputs = output_grids(model), {id(t) for t in model.outputs}
    inner = [(call, getattr(call.layer, "transformed_layer", call.layer)) for call in calls(model)]
    inputs = {id(t) for t in model.inputs}
    before = {
        f"{call.layer.name}/{OUTPUT}"
        for call, layer in inner
        if is_marker(layer) and any(id(t) in inputs for t in call.inputs)
    }
    after = {
        grids[call.layer.name]
        for call, _ in inner
        if call.layer.name in grids and any(id(t) in outputs for t in call.outputs)
    }
    return before, after


def remove_input_range(model: Any = None) -> NoReturn:  # noqa: ARG001 - the name stays
    """Gone: an integer file has a grid for its input.

    Raises:
        InputError: always.
    """
    refuse(f"{K}.remove_input_range", GONE[f"{K}.remove_input_range"])


def strip_clustering_cqat(to_strip: Any) -> Any:
    """A copy of a model from cluster-preserving training whose kernels hold the centroids, which train no more.

    ``kompakt.export`` takes such a model before and after: the centroids stay beside the kernels, so that the values
    are checked in the file.

    Raises:
        InputError: it is no model.

    Example:
        >>> import numpy as np, kompakt as kp
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> q = kp.quantize(kp.cluster(m, 4))
        >>> len(q.trainable_weights), len(strip_clustering_cqat(q).trainable_weights)
        (3, 2)
        >>> len(np.unique(strip_clustering_cqat(q).get_layer("d").weights[0]))
        4
    """
    check_built(to_strip)
    copy = copy_model(to_strip)
    for _, chain, variable in chains_of(copy):
        if not any(isinstance(each, Cluster) for each in chain):
            continue
        value = ops.convert_to_tensor(variable)
        for each in itertools.takewhile(lambda each: not isinstance(each, (FakeQuant, OwnQuantizer)), chain):
            if isinstance(each, Cluster):
                each.freeze()
            value = each(value)
        variable.assign(ops.cast(value, variable.dtype))
    return copy
