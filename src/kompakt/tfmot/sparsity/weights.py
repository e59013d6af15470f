"""``prune_low_magnitude`` on a model, a layer or a list of layers, and what undoes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.schedules import Constant, Schedule
from kompakt.sites import attachable_slots, is_depthwise, weight_slots
from kompakt.tfmot.sparsity.masks import ScheduledPrune, pattern_of
from kompakt.tfmot.sparsity.policies import PruningPolicy
from kompakt.tfmot.sparsity.prunable_layer import PrunableLayer
from kompakt.tfmot.sparsity.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule, schedule_of
from kompakt.tfmot.wrapping import TransformedLater, strip, wrap
from kompakt.transform import Transform
from kompakt.transforms.patterns import Pattern

Layer = Any

DEFAULT = ConstantSparsity(0.5, 0)


@keras.saving.register_keras_serializable(package="kompakt")
class PruneLowMagnitude(TransformedLater):
    """A layer that is pruned as soon as it is built.

    Example:
        >>> type(prune_low_magnitude(keras.layers.Dense(8))).__name__
        'PruneLowMagnitude'
    """

    @staticmethod
    def slots_of(layer: Layer) -> Sequence[str]:
        """Of a PrunableLayer what it names; of others the weights of their kind but depthwise kernels, as in tfmot."""
        _refuse_unnamed(layer)
        named = [each for each in layer._flatten_layers() if isinstance(each, PrunableLayer)]
        inside = {id(variable) for each in named for variable in _variables(each)}
        chosen = {id(variable) for each in named for variable in each.get_prunable_weights()}
        table = weight_slots(layer)

        def taken(slot: str, owner: Layer, variable: Any) -> bool:
            if id(variable) in inside:
                return id(variable) in chosen
            return slot in table and not is_depthwise(owner, slot)

        return [slot for slot, (owner, variable, _) in attachable_slots(layer).items() if taken(slot, owner, variable)]


def _variables(layer: Any) -> Sequence[Any]:
    return list(layer.variables)


def _refuse_unnamed(layer: Layer) -> None:
    """A layer that names its weights, and is no PrunableLayer, must not be pruned by another rule in silence."""
    for each in layer._flatten_layers():
        if hasattr(each, "get_prunable_weights") and not isinstance(each, PrunableLayer):
            kind = type(each).__name__
            raise InputError(
                f"{each.name!r} ({kind}) has get_prunable_weights and is no PrunableLayer: write class {kind}(..., "
                "tfmot.sparsity.keras.PrunableLayer)"
            )


def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: PruningSchedule | Schedule = DEFAULT,
    block_size: Sequence[int] = (1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """A copy that trains with more and more zeros in its weights, by :class:`UpdatePruningStep`.

    As :func:`kompakt.prune`, with the weights that tfmot prunes: those of the first and last layer too, and no
    depthwise kernels. What differs from tfmot 0.8.1: the model given is not changed; subclassed models, and layers of
    any kind, work (one without weights is left as it is); exactly the share asked is masked, ties included, and stays
    so after every batch; the default schedule acts from the first step on; mixed precision works. Names of layers stay.
    The copy's variables hold masked weights too, which may come back: the zeros are in what it computes, and in
    :func:`strip_pruning`.

    Args:
        to_prune: a model, a layer (built or not) or a list of layers; those that are pruned already are left.
        pruning_schedule: a PruningSchedule, or one of ``kompakt.schedules``.
        block_size: rows by columns (inputs by outputs) of the blocks in which zeros come; those of a convolution lie in
            each place of its kernel, where tfmot refuses it.
        block_pooling_type: what a block weighs: the "AVG" or "MAX" of its magnitudes.
        pruning_policy: which layers are pruned.
        sparsity_m_by_n: m zeros in each n weights along the inputs, such as (2, 4). Where the inputs are no multiple
            of n the weights are left as they are, and that is logged. The schedule says when.
        kwargs: of the layer that is made (``input_shape``), where ``to_prune`` is one.

    Raises:
        InputError: something else to prune, options out of range or that exclude each other, nothing to prune in a
            model, or what the policy refuses.

    Example:
        >>> import numpy as np
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> p = prune_low_magnitude(m, PolynomialDecay(0.0, 0.75, begin_step=0, end_step=4, frequency=1))
        >>> p.compile("sgd", "mse")
        >>> from kompakt.tfmot.sparsity.keras import UpdatePruningStep
        >>> x, y = np.ones((48, 4)), np.ones((48, 8))
        >>> _ = p.fit(x, y, batch_size=8, verbose=0, callbacks=[UpdatePruningStep()])
        >>> float((strip_pruning(p).get_weights()[0] == 0).mean())
        0.75
    """
    pattern = pattern_of(block_size, block_pooling_type, sparsity_m_by_n)
    schedule = _fitting_schedule(pruning_schedule, pattern)
    allowed = _allowed(pruning_policy)
    if pruning_policy is not None and isinstance(to_prune, keras.Model):
        pruning_policy.ensure_model_supports_pruning(to_prune)

    def make(layer: Layer) -> list[Transform]:
        return [ScheduledPrune(schedule=schedule, pattern=pattern)] if allowed(layer) else []

    return wrap(to_prune, make, PruneLowMagnitude, **kwargs)


def _allowed(policy: PruningPolicy | None) -> Callable[[Layer], bool]:
    if policy is None:
        return lambda _: True
    if not isinstance(policy, PruningPolicy):
        raise InputError(f"pruning_policy {policy!r}: expected a PruningPolicy, such as PruneForLatencyOnXNNPack()")
    return lambda layer: bool(policy.allow_pruning(layer))


def _fitting_schedule(given: Any, pattern: Pattern) -> Schedule:
    """The schedule; of a pattern that has a share of its own that share, where no schedule was asked for."""
    natural = pattern.natural()
    return Constant(natural) if natural is not None and given is DEFAULT else schedule_of(given)


def strip_pruning(model: keras.Model) -> keras.Model:
    """A copy of plain Keras layers that holds the zeros. ``model`` is not changed.

    Raises:
        InputError: it is no Keras model, or has no weights yet.

    Example:
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")])
        >>> plain = strip_pruning(prune_low_magnitude(m))
        >>> type(plain.get_layer("d")).__name__, float((plain.get_layer("d").get_weights()[0] == 0).mean())
        ('Dense', 0.5)
    """
    return strip(model)


def prune_scope() -> Any:
    """What ``with`` loads a pruned model in. Kompakt's classes are known to Keras without it, too.

    Schedules and layers of your own need ``keras.saving.custom_object_scope`` beside it.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/m.keras"
        >>> m = prune_low_magnitude(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")]))
        >>> m.save(path)
        >>> with prune_scope():
        ...     list(keras.saving.load_model(path).get_layer("d").chains)
        ['kernel']
    """
    classes = (PruneLowMagnitude, ConstantSparsity, PolynomialDecay)
    return keras.saving.custom_object_scope({kind.__name__: kind for kind in classes})
