"""A model made ready for a file: what the file must hold, and the model it must agree with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.attach import chains_of, finalize, wrapped
from kompakt.errors import InputError
from kompakt.graph import Call, as_functional, call_counts, calls, symbolic_inputs
from kompakt.keras_modes import is_keras_mode, quantized_by_keras
from kompakt.placement import activation_grids, follows, is_marker, last_logits, output_grids
from kompakt.precision import GRIDDED, INTEGER, MIXED, mode_of
from kompakt.progress import Report
from kompakt.quantization import TRAINABLE_MODES, quantize
from kompakt.records import Encoding
from kompakt.repairs import needs_data
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.full_precision import full_precision
from kompakt.rewrite.inline import inline
from kompakt.rewrite.unshare import unshare
from kompakt.simulation import dynamic_simulation, simulation
from kompakt.sites import BOTH, OUTPUT, finite_fault, is_graph, sites, units
from kompakt.summands import coarse_enough

RANDOM_SAMPLES = 64


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model made ready.

    Attributes:
        plain: plain layers, weights as they are deployed. encodings: what the file must honour at its sites.
        reference: the model that the file must agree with; ``name`` says what that is.
        given: the model that was asked for.
        trained: the fake-quantized model, where the reference computes otherwise (in integers), else None.
        logits: the site before a final softmax or sigmoid, or None.
        owners: activation site -> the layers whose result is rounded there (a convolution and its ReLU).
        mode: of the file. floats: layers that stay float in a mixed one.
    """

    plain: keras.Model
    encodings: Mapping[str, Encoding]
    reference: keras.Model
    name: str
    given: keras.Model
    trained: keras.Model | None = None
    logits: str | None = None
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mode: str = "float"
    floats: tuple[str, ...] = ()


def quantized_mode(model: keras.Model) -> str | None:
    """The mode of ``quantize`` that an attached model is in, or None."""
    grids = [
        (name.rsplit("/", 1)[-1] in (OUTPUT, BOTH), transform)
        for name, chain, _ in chains_of(model)
        for transform in chain
        if getattr(transform, "bits", None) and not transform.passing
    ]
    asked = {getattr(transform, "mode", None) for _, transform in grids} - {None}
    if len(asked) == 1:
        return str(asked.pop())
    bits = {side: [transform.bits for on_activation, transform in grids if on_activation is side] for side in (0, 1)}
    return mode_of(bits[False], bits[True]) if grids else None


def make_job(
    model: keras.Model,
    mode: str,
    calibration: Any,
    rules: Mapping[str, Any] | None = None,
    method: str | None = None,
    repairs: Sequence[str] = (),
    progress: bool | Report = False,
    *,
    twice: bool = False,
) -> Job:
    """``model`` made ready for a file of ``mode``; a float model is quantized on ``calibration`` where needed.

    Args:
        rules: of :func:`kompakt.quantize`; with them ``mode`` is what the layers that they do not name have.
        method: of :func:`kompakt.calibrate`. progress: of :func:`kompakt.quantize`.
        twice: of :func:`kompakt.simulation.simulation`: how the file's runtime rounds.

    Raises:
        InputError: int8 without ranges and without calibration data, or ``repairs`` of what is not quantized here.
    """
    if repairs and (mode not in TRAINABLE_MODES or quantized_mode(model) is not None):
        raise InputError(
            f"repairs={list(repairs)}: export repairs a float model that it quantizes itself to one of "
            f"{', '.join(TRAINABLE_MODES)}; for a model from quantize, ask quantize for them"
        )
    if is_keras_mode(mode):
        held = model if quantized_by_keras(model) else quantize(model, mode)
        return Job(plain=held, encodings={}, reference=held, name="model quantized by Keras", given=model)
    given, model = model, full_precision(model)
    if mode in TRAINABLE_MODES and quantized_mode(model) is None:
        if mode in INTEGER and calibration is None:
            raise InputError(
                f"quantization={mode!r} of a float model needs calibration=: some hundred samples of real input"
            )
        _check_finite(model)
        options: dict[str, Any] = {"ranges": "minmax", "repairs": repairs, "progress": progress}
        if mode in INTEGER:
            options["method"] = method
        if mode in INTEGER or needs_data(repairs):
            options["calibration"] = calibration
        model = quantize(model, mode, rules=rules, **options)
        mode = quantized_mode(model) or mode
    if not wrapped(model):
        return Job(plain=model, encodings={}, reference=model, name="float model", given=given)
    if mode not in (*TRAINABLE_MODES, MIXED):
        reference, asked = finalize(model)
        plain, held = _folded(reference, asked)
        return Job(plain=plain, encodings=held, reference=reference, name="simulation", given=given)
    _check_finite(model)
    _check_ranges(model)
    single = _one_layer_a_call(as_functional(model)) if is_graph(model) else model
    plain, encodings = finalize(single)
    if mode not in GRIDDED:
        reference = dynamic_simulation(plain) if is_graph(plain) and mode == "dynamic_int8" else plain
        return Job(plain=plain, encodings=encodings, reference=reference, name="simulation", given=given, mode=mode)
    owners = _owners(single)
    encodings = coarse_enough(plain, encodings, {layer: site for site, names in owners.items() for layer in names})
    return Job(
        mode=mode,
        floats=_floats(plain, encodings) if mode == MIXED else (),
        plain=plain,
        encodings=encodings,
        reference=simulation(single, plain, encodings, twice=twice),
        name="simulation",
        given=given,
        trained=single,
        logits=last_logits(single),
        owners=owners,
    )


def folded(job: Job) -> Job:
    """``job`` with each BatchNormalization of its plain model folded, where that can be followed."""
    plain, encodings = _folded(job.plain, job.encodings)
    return dataclasses.replace(job, plain=plain, encodings=encodings)


def unquantized(job: Job) -> tuple[keras.Model, str]:
    """The model from before its quantization, and what it is called.

    Of one that came quantized its plain layers: compared with itself, a range that was set wrong would be right.
    """
    if quantized_mode(job.given) is None:
        return job.given, "model given"
    return job.plain, "same weights and float activations"


def end_bits(job: Job) -> dict[str, int | None]:
    """Layer that an input or output of a flat integer model comes from -> bits of its activations, None for floats."""
    bits = {site: encoding.bits for site, encoding in job.encodings.items()}
    sites_of = {layer: site for site, layers in job.owners.items() for layer in layers}
    inputs, outputs = ({id(t) for t in ends} for ends in (job.plain.inputs, job.plain.outputs))
    ends = [
        call.layer.name
        for call in calls(job.plain)
        if (is_marker(call.layer) and inputs & {id(t) for t in call.inputs}) or outputs & {id(t) for t in call.outputs}
    ]
    return {name: bits.get(sites_of.get(name, f"{name}/{OUTPUT}")) for name in ends}


def _one_layer_a_call(flat: keras.Model) -> keras.Model:
    """``flat``, or where layers are shared a copy in which none is."""
    return unshare(flat) if max(call_counts(flat).values(), default=1) > 1 else flat


def not_finite_weights(model: keras.Model) -> list[str]:
    """A line for each weight with a NaN or infinity, with the name of its layer.

    Example:
        >>> m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="d")])
        >>> _ = m.get_layer("d").bias.assign([1.0, float("nan")])
        >>> not_finite_weights(m)
        ['d/bias: 1 of 2 values are NaN or infinite']
    """
    lines = []
    state = {id(weight) for _, chain, _ in chains_of(model) for weight in chain.weights}
    for weight in (weight for weight in model.weights if id(weight) not in state):
        fault = finite_fault(weight)
        if fault:
            lines.append(f"{weight.path.rpartition(f'{model.name}/')[2]}: {fault}")
    return lines


def tables_left(model: keras.Model, mode: str) -> tuple[str, ...]:
    """A line for each look-up table that stays float though ``mode`` asks for 8 bits.

    Example:
        >>> m = keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(4, 3, name="e")])
        >>> tables_left(m, "dynamic_int8")
        ('e/embeddings: stays float, a dynamic_int8 file has no look-up of integers; int8 has',)
    """
    if mode in GRIDDED or mode not in TRAINABLE_MODES:
        return ()
    tables = (s for s in sites(model) if s.variable is not None and isinstance(s.layer, keras.layers.Embedding))
    return tuple(f"{s.name}: stays float, a {mode} file has no look-up of integers; int8 has" for s in tables)


def _check_finite(model: keras.Model) -> None:
    """Raise where there is no grid to put the numbers of ``model`` on."""
    lines = not_finite_weights(model)
    if lines:
        raise InputError(f"{'; '.join(lines[:4])}: an integer file cannot hold that; go back to weights from before it")


def _check_ranges(model: keras.Model) -> None:
    """Raise where what a layer computes has no range."""
    for name, chain, _ in chains_of(model):
        for weight in chain.weights:
            if not np.isfinite(np.asarray(keras.ops.convert_to_numpy(weight), "float32")).all():
                raise InputError(
                    f"{name}: the range measured there is NaN or infinite; look for an overflow, or a division "
                    "by zero, in the layers up to it"
                )


def _folded(model: keras.Model, encodings: Mapping[str, Encoding]) -> tuple[keras.Model, Mapping[str, Encoding]]:
    """Both, with each BatchNormalization folded: the converter does that too, and the kernel would not be found."""
    if not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()):
        return model, encodings
    try:
        flat, names = inline(model)
    except InputError:
        return model, encodings
    owners, renamed = units(model), {}
    for site in sites(model):
        unit, layer = names.get(id(owners[site.unit])), names.get(id(site.layer))
        slot = site.slot if unit is not None else site.slot.rsplit("/", 1)[-1]
        renamed[site.name] = f"{unit or layer}/{slot}" if unit or layer else site.name
    return fold_batchnorm(flat)[0], {renamed.get(name, name): encoding for name, encoding in encodings.items()}


def _floats(plain: keras.Model, encodings: Mapping[str, Encoding]) -> tuple[str, ...]:
    """Layers that a rule leaves float: no grid where they would have one, or none at all."""
    held = {site for site, encoding in encodings.items() if encoding.bits is not None}
    weights = {site.unit.split("/")[0] for site in sites(plain) if site.variable is not None}
    integer = {site.split("/")[0] for site in held if site.rsplit("/", 1)[-1] not in (OUTPUT, BOTH)}
    gridless = {grid.site.rsplit("/", 1)[0] for grid in activation_grids(plain) if grid.site not in held}
    named = (weights | gridless) - integer
    found: list[str] = []
    made: set[int] = set()
    for call in calls(plain):
        floats = follows(call.layer) and any(id(t) in made for t in call.inputs[:1])
        if call.layer.name in named or floats:
            made.update(id(t) for t in call.outputs)
            found += _told(plain, call)
    return tuple(found)


def _told(plain: keras.Model, call: Call) -> list[str]:
    """The layer of ``call``, as a file may have its name: a float input has that of its InputLayer."""
    if not isinstance(call.layer, keras.layers.Layer):
        return []  # an operator without a layer is named after what it moves
    if not is_marker(call.layer):
        return [call.layer.name]
    inputs = {id(layer.output): layer.name for layer in plain.layers if isinstance(layer, keras.layers.InputLayer)}
    return [inputs[id(t)] for t in call.inputs if id(t) in inputs]


def _owners(model: keras.Model) -> dict[str, tuple[str, ...]]:
    owners: dict[str, tuple[str, ...]] = {}
    for layer, site in output_grids(model).items():
        owners[site] = (*owners.get(site, ()), layer)
    return owners


def random_inputs(model: keras.Model, encodings: Mapping[str, Encoding]) -> Any:
    """Numbers spread over the input's own grid (or -1..1), in the structure that ``model`` takes."""
    random = np.random.default_rng(0)
    grid = next((e for site, e in encodings.items() if site.endswith("_grid/output") and e.scale), None)
    low, high = (-1.0, 1.0)
    if grid is not None:
        low, high = ((q - grid.zero_point[0]) * grid.scale[0] for q in (-128, 127))

    def draw(tensor: Any) -> np.ndarray:
        shape = (RANDOM_SAMPLES, *(n or 1 for n in tensor.shape[1:]))
        if not keras.backend.is_float_dtype(tensor.dtype):
            return random.integers(0, 2, shape).astype(tensor.dtype)
        return random.uniform(low, high, shape).astype(tensor.dtype)

    return tree.map_structure(draw, symbolic_inputs(model, 1))
