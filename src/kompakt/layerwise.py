"""A file against its float model, layer by layer: its weights, its biases, and what each layer makes of its own input.

Every layer of the model is given what the file computed before it, and the weights that the file holds, so that a
fault shows at its own layer and nowhere after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from kompakt.copies import copy_layer
from kompakt.deploy import Job, make_job
from kompakt.errors import InputError
from kompakt.graph import Call, as_functional, calls, map_layers, walk
from kompakt.placement import is_marker
from kompakt.precision import GRIDDED
from kompakt.quantization import TRAINABLE_MODES
from kompakt.records import Encoding
from kompakt.rewrite.fold_batchnorm import fold_batchnorm
from kompakt.rewrite.full_precision import full_precision
from kompakt.rewrite.inline import inline
from kompakt.sites import BOTH, OUTPUT, is_graph, sites
from kompakt.targets.target import Fault, Target

LOOKED_AT = 32
"""Samples that layers are compared on."""

STEPS = 1.5
"""Root mean square error, in steps of its grid, up to which a layer's output is right: rounding is 0.3."""

PART = 0.1
"""Of the spread: the same for layers that the runtime computes from tables or in several operators."""

SIMPLE = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dense,
    keras.layers.Add,
    keras.layers.ReLU,
    keras.layers.AveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.Concatenate,
)
"""Layers that are one operator each."""

HALF = 0.51
"""Steps that a weight put on its grid may be from what it was."""

ALIKE = 0.3
"""Least correlation of a kernel with the model's that it can have been made from by pruning, clustering, training."""

SCALE_APART = 3.0
"""Most that a grid's reach may be times (or part of) what the inputs given need."""

MOST_OWN = 0.5
"""Share of the file's kernels that are the model's to half a step, from which on each of the others is a fault."""


def apart(
    place: Target,
    data: bytes,
    model: keras.Model,
    inputs: Any,
    mode: str,
    *,
    loose: Sequence[str],
    far: bool = False,
    sealed: bool = False,
) -> list[Fault]:
    """What of a file is not what ``model`` says, in the order of the model; [] where it cannot be followed.

    Args:
        loose: sites of weights that were pruned or clustered, and may differ from the model's.
        sealed: the file is as it was written, so that weights and biases that are a little off were learned so
            (AdaRound, bias correction).
        far: the outputs are not the model's, so that grids that are too wide are to blame: else they do no harm.
    """
    few = tree.map_structure(lambda a: np.asarray(a)[:LOOKED_AT], inputs)
    try:
        job = _job(full_precision(model), mode, inputs, folded=not _keeps_batchnorm(place, data, model))
    except InputError:
        return []
    faults = _weights(place, data, job, loose, sealed=sealed)
    if mode not in GRIDDED or not is_graph(job.plain):
        return faults
    faults += _reaches(place, data, job, far=far)
    named = {fault.place.split("/")[0] for fault in faults}
    found = _outputs(place, data, job, few)
    return [*faults, *(fault for fault in found if fault.place.split("/")[0] not in named)]


def _job(model: keras.Model, mode: str, inputs: Any, *, folded: bool) -> Job:
    """The model made ready, with the BatchNormalizations folded that most converters fold in every mode."""
    if mode in TRAINABLE_MODES:
        return make_job(model, mode, inputs)
    job = make_job(model, "float", None)
    if not folded:
        return job
    return dataclasses.replace(job, plain=fold_batchnorm(inline(job.plain)[0])[0])


def _keeps_batchnorm(place: Target, data: bytes, model: keras.Model) -> bool:
    """Whether the file holds a BatchNormalization of ``model`` as such."""
    norms = [each for each in model._flatten_layers() if isinstance(each, keras.layers.BatchNormalization)]
    known = [(variable.path.removeprefix(f"{model.name}/"), variable) for each in norms for variable in each.variables]
    return any(place.weight(data, path, np.asarray(variable)) is not None for path, variable in known)


def _weights(place: Target, data: bytes, job: Job, loose: Sequence[str], *, sealed: bool) -> list[Fault]:
    pairs: list[tuple[str, np.ndarray, np.ndarray, np.ndarray]] = []
    for site in sites(job.plain):
        if site.variable is None:
            continue
        wanted = np.asarray(keras.ops.convert_to_numpy(site.variable), "float64")
        held = place.weight(data, site.name, wanted)
        if held is not None:
            encoding = job.encodings.get(site.name)
            pairs.append((site.name, wanted, held, _steps(encoding, wanted)))
    own = {name: _is_own(wanted, held, steps) for name, wanted, held, steps in pairs}
    strict = not sealed and len(own) > 0 and sum(own.values()) >= MOST_OWN * len(own)
    faults = []
    for name, wanted, held, steps in pairs:
        if own[name]:
            continue
        fault = _kernel(wanted, held, steps, strict=strict and name not in loose)
        faults += [Fault(place=name, text=fault)] if fault else []
    if strict and not any(name in loose for name in own):
        faults += _biases(place, data, job, {name for name in own if own[name]})
    return faults


def _steps(encoding: Encoding | None, like: np.ndarray) -> np.ndarray:
    """The step of each output channel, to be broadcast; a thousandth of the largest where there is no grid."""
    if encoding is None or not encoding.scale:
        return np.full([1] * like.ndim, float(np.abs(like).max()) * 2e-3)
    shape = [1] * like.ndim
    if len(encoding.scale) > 1:
        for axis in encoding.axis:
            shape[axis] = like.shape[axis]
    return np.asarray(encoding.scale, "float64").reshape(shape)


def _is_own(wanted: np.ndarray, held: np.ndarray, steps: np.ndarray) -> bool:
    return bool(np.isfinite(held).all() and (np.abs(held - wanted) <= 2 * HALF * steps).all())


def _kernel(wanted: np.ndarray, held: np.ndarray, steps: np.ndarray, *, strict: bool) -> str:
    """What is wrong with a kernel, "" where nothing is to be seen."""
    if not np.isfinite(held).all():
        return f"{int((~np.isfinite(held)).sum())} weights are NaN or infinite"
    alike = _correlation(wanted, held)
    if not strict:
        return "" if alike >= ALIKE else f"weights are not the model's: correlation {alike:.2f}"
    ratio = float(np.vdot(held, wanted) / max(np.vdot(wanted, wanted), 1e-30))
    if alike > 0.999 and abs(ratio - 1.0) > 0.005:
        return f"weights are {ratio:.3f} times the model's: the scale is wrong"
    if alike < -0.9:
        return "weights have the sign turned"
    a, b = (np.moveaxis(v, -1, 0).reshape(v.shape[-1], -1) for v in (wanted, held))
    off = np.flatnonzero((np.abs(held - wanted) > 2 * HALF * steps).reshape(-1, wanted.shape[-1]).any(0))
    dead = [i for i in off if not b[i].any() and a[i].any()]
    if dead:
        return f"weights of channel {', '.join(map(str, dead[:4]))} are zero, the model's are not"
    if len(off) > 1 and np.allclose(
        np.sort(b[off].sum(1)), np.sort(a[off].sum(1)), atol=float(steps.max()) * a.shape[1] / 4
    ):
        return f"weights of channels {', '.join(map(str, off[:4]))} are those of others, or permuted"
    worst = float((np.abs(held - wanted) / steps).max())
    channels = f"weights of {len(off)} of {len(a)} channels"
    return f"{channels} are up to {worst:.0f} steps from the model's, correlation {alike:.2f}"


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / size if size else float(not np.any(a) and not np.any(b))


def _biases(place: Target, data: bytes, job: Job, own: set[str]) -> Iterator[Fault]:
    """Biases that are not the model's, of layers whose kernels are."""
    for name in sorted(own):
        unit, slot = name.rsplit("/", 1)
        if slot != "kernel" or "/" in unit:
            continue
        bias = getattr(job.plain.get_layer(unit), "bias", None)
        site = f"{unit}/bias"
        wanted = None if bias is None else np.asarray(keras.ops.convert_to_numpy(bias), "float64")
        held = None if wanted is None else place.weight(data, site, wanted)
        if wanted is None or held is None:
            continue
        grid = place.grid(data, site)
        near = np.asarray(grid.scale) if grid is not None else np.abs(wanted).max() * 2e-3
        if np.allclose(held, wanted, atol=0.0, rtol=2e-3) or (np.abs(held - wanted) <= np.maximum(near, 1e-6)).all():
            continue
        if not held.any():
            yield Fault(place=site, text=f"bias dropped: all zero, the model's is up to {np.abs(wanted).max():.3g}")
        else:
            yield Fault(place=site, text=f"bias is up to {np.abs(held - wanted).max():.3g} from the model's")


def _reaches(place: Target, data: bytes, job: Job, *, far: bool) -> Iterator[Fault]:
    """Activation grids that are far from what the inputs given call for."""
    for site, wanted in job.encodings.items():
        if site.rsplit("/", 1)[-1] not in (OUTPUT, BOTH) or not wanted.scale:
            continue
        held = place.grid(data, site)
        if held is None or len(held.scale) != 1 or held.bits != wanted.bits:
            continue
        factor = held.scale[0] / wanted.scale[0]
        lowest = -(2 ** ((wanted.bits or 8) - 1))
        if factor < 1 / SCALE_APART or (far and factor > SCALE_APART):
            yield Fault(place=site, text=f"scale is {factor:.3g} times the one that these inputs call for")
        elif wanted.zero_point[0] == lowest and held.zero_point[0] != lowest and abs(held.zero_point[0] - lowest) < 128:
            yield Fault(
                place=site, text=f"zero point is {held.zero_point[0]}, that of a tensor without negatives is {lowest}"
            )


def _outputs(place: Target, data: bytes, job: Job, inputs: Any) -> list[Fault]:
    """Layers that do not make of the file's own tensors what the model does with the file's own weights."""
    plain = as_functional(_with_weights_of(place, data, job.plain))
    held = _file_values(place, data, plain, inputs)
    since: dict[int, tuple[Any, ...]] = {id(t): () for t in plain.inputs}
    faults: list[Fault] = []

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = [np.asarray(keras.ops.convert_to_numpy(t)) for t in tree.flatten(call.layer(*args, **kwargs))]
        passed = (*(layer for t in call.inputs for layer in since[id(t)]), call.layer)
        site = _site(call, held)
        since.update({id(t): passed if site is None else () for t in call.outputs})
        grid = place.grid(data, site or f"{call.layer.name}/{OUTPUT}")
        if is_marker(call.layer) and site is None and grid is not None:
            return [_on_grid(value, grid) for value in made]
        if site is None or len(made) > 1 or held[site].size != made[0].size:
            return made
        found = held[site].reshape(made[0].shape)
        fault = _difference(made[0], found, grid, passed)
        faults.extend([Fault(place=site, text=fault)] if fault else [])
        return [found]

    walk(plain, {id(t): np.asarray(v) for t, v in zip(plain.inputs, tree.flatten(inputs), strict=True)}, visit)
    return faults


def _site(call: Call, held: Mapping[str, np.ndarray]) -> str | None:
    names = (f"{call.layer.name}/{slot}" for slot in (OUTPUT, BOTH))
    return next((name for name in names if name in held), None)


def _on_grid(values: np.ndarray, grid: Encoding) -> np.ndarray:
    low, high = _limits(grid)
    return np.clip(np.round(values / grid.scale[0]) * grid.scale[0], low, high).astype("float32")


def _limits(grid: Encoding) -> tuple[float, float]:
    half = 2 ** ((grid.bits or 8) - 1)
    return (-half - grid.zero_point[0]) * grid.scale[0], (half - 1 - grid.zero_point[0]) * grid.scale[0]


def _with_weights_of(place: Target, data: bytes, plain: keras.Model) -> keras.Model:
    """A copy of ``plain`` with the kernels and biases of the file."""
    copy = map_layers(as_functional(plain), copy_layer)
    for site in sites(copy):
        variables = [(site.name, site.variable)]
        if site.slot == "kernel" and "/" not in site.unit:
            variables.append((f"{site.unit}/bias", getattr(site.layer, "bias", None)))
        for name, variable in variables:
            like = None if variable is None else np.asarray(keras.ops.convert_to_numpy(variable))
            held = None if like is None else place.weight(data, name, like)
            if held is not None and np.isfinite(held).all():
                variable.assign(held)
    return copy


def _file_values(place: Target, data: bytes, plain: keras.Model, inputs: Any) -> dict[str, np.ndarray]:
    """Site -> what the file computes there, for layers that have a tensor of their own."""
    held = set(place.activations(data))
    wanted = [f"{call.layer.name}/{slot}" for call in calls(plain) for slot in (OUTPUT, BOTH)]
    wanted = [site for site in dict.fromkeys(wanted) if site in held]
    found = place.run(data, inputs, at=wanted).values if wanted else ()
    return dict(zip(wanted, found, strict=True))


def _difference(wanted: np.ndarray, found: np.ndarray, grid: Encoding | None, layers: Sequence[Any]) -> str:
    """How a layer's output differs from what its input should have given, "" where that is rounding."""
    if grid is None or not grid.bits:
        return ""
    step = grid.scale[0]
    low, high = _limits(grid)
    error = found - np.clip(wanted, low, high)
    size = float(np.sqrt(np.mean(error**2)))
    spread = float(np.clip(wanted, low, high).std())
    most = (
        STEPS * step
        if all(isinstance(layer, SIMPLE) and _piecewise(layer) for layer in layers)
        else max(STEPS * step, PART * spread)
    )
    if grid.bits > 8:
        most = max(most, PART * spread)
    if size <= most:
        return ""
    return f"is {size / step:.1f} steps from what {layers[-1].name} makes of its input{_kind(wanted, found, step)}"


def _piecewise(layer: Any) -> bool:
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return name in ("linear", "relu", "relu6")


def _kind(wanted: np.ndarray, found: np.ndarray, step: float) -> str:
    """What a difference looks like."""
    if wanted.min() >= 0.0 > found.min() + step / 2:
        return ": negative values, the ReLU is lost"
    if (
        found.min() >= -step / 2
        and wanted.min() < -2 * step
        and np.allclose(found, np.maximum(wanted, 0), atol=4 * step)
    ):
        return ": no negative values, a ReLU too many"
    if np.std(found - wanted) <= step:
        return ": all by the same, a zero point or bias is off"
    if not found.std():
        return ": one value everywhere"
    alike = float(np.corrcoef(wanted.ravel(), found.ravel())[0, 1]) if wanted.std() else 0.0
    if alike > 0.99:
        return f": {float(np.vdot(found, wanted) / np.vdot(wanted, wanted)):.3g} times it, a scale is off"
    return f": correlation {alike:.2f}, other weights, inputs or options"
