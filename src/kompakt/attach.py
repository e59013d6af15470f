"""Put chains of transforms on the sites of a model, and bake them in. Knows no concrete technique."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kompakt.copies import UNBUILT, build_by_call, copy_layer, how_called
from kompakt.errors import InputError
from kompakt.former_names import FormerNames
from kompakt.graph import map_layers
from kompakt.records import Encoding
from kompakt.sites import BOTH, OUTPUT, attachable_slots, is_graph, sites, units, weight_slots
from kompakt.spelling import nearest
from kompakt.transform import Chain, Transform

Layer = Any
Tensor = Any
Plan = Mapping[str, Sequence[Transform]]
"""Site name -> the transforms to put there."""


class Overlay(keras.StatelessScope):  # type: ignore[misc]
    """A scope that answers some variables itself and hands all else on.

    A plain nested StatelessScope would hide the JAX trainer's own scope; swapping attributes would miss what
    a subclassed layer reads by another name. Reads, updates and losses go to the scope outside, or, where
    there is none, to the variable (``losses`` are then collected for the owner to add again).
    """

    def __init__(self, values: Sequence[tuple[Any, Tensor]]) -> None:
        self._outer = keras.src.backend.common.stateless_scope.get_stateless_scope()
        super().__init__(collect_losses=True if self._outer is None else self._outer.collect_losses)
        self._answers = {id(variable): value for variable, value in values}
        if self._outer is not None:
            self.losses = self._outer.losses

    def get_current_value(self, variable: Any) -> Tensor | None:
        if id(variable) in self._answers:
            return self._answers[id(variable)]
        return None if self._outer is None else self._outer.get_current_value(variable)

    def add_update(self, update: tuple[Any, Tensor]) -> None:
        if self._outer is None:
            variable, value = update
            variable._direct_assign(value)
        else:
            self._outer.add_update(update)

    def add_loss(self, loss: Tensor) -> None:
        if self._outer is None:
            self.losses.append(loss)
        else:
            self._outer.add_loss(loss)

    @property
    def collected(self) -> list[Tensor]:
        """Losses nobody outside has taken."""
        return list(self.losses) if self._outer is None else []


class _Chained(FormerNames):
    """What a wrapped layer and a wrapped model share: an untouched inner layer called on transformed weights."""

    transformed_layer: Layer
    _slots: list[str]
    _chains: list[Chain]

    def _set(self, layer: Layer, chains: Mapping[str, Chain]) -> None:
        known = attachable_slots(layer)
        for slot, chain in chains.items():
            if slot in (OUTPUT, BOTH):
                chain.build_for(())
            elif slot in known:
                chain.build_for(known[slot][1].shape)
                if not known[slot][1].trainable:
                    chain.trainable = False  # centroids would train a weight that is not to be trained
            else:
                raise InputError(f"{layer.name!r} has no tensor {slot!r}{nearest(slot, known)}")
        self.transformed_layer = layer
        self._slots = sorted(chains)
        self._chains = [chains[slot] for slot in self._slots]
        self._variables = [known[slot][1] if slot in known else None for slot in self._slots]
        self.built = True

    @property
    def chains(self) -> dict[str, Chain]:
        """Slot -> chain."""
        return dict(zip(self._slots, self._chains, strict=True))

    def variable(self, slot: str) -> Any:
        """The variable behind a weight slot."""
        return self._variables[self._slots.index(slot)]

    def __repr__(self) -> str:
        inner = f"{type(self.transformed_layer).__name__} name={self.transformed_layer.name}"
        held = (f"{slot}: {' + '.join(type(each).__name__ for each in chain)}" for slot, chain in self.chains.items())
        return f"<{type(self).__name__} of {inner}, {', '.join(held) or 'not built'}>"

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        training = bool(kwargs.get("training") or self._training())
        chains = self.chains
        values = [
            # Chains compute in full precision; the layer expects its own.
            (variable, ops.cast(chain(ops.convert_to_tensor(variable), training=training), variable.dtype))
            for variable, chain in zip(self._variables, self._chains, strict=True)
            if variable is not None
        ]
        if BOTH in chains:
            args = self._each(chains[BOTH], args, training)
        with Overlay(values) as overlay:
            outputs = self.transformed_layer(*args, **kwargs)
        for loss in overlay.collected:
            self.add_loss(loss)  # type: ignore[attr-defined]
        if BOTH in chains:
            outputs = self._each(chains[BOTH], outputs, training=False)
        if OUTPUT in chains:
            outputs = self._each(chains[OUTPUT], outputs, training)
        return outputs

    @staticmethod
    def _training() -> bool:
        context = keras.src.backend.common.global_state.get_global_attribute("current_call_ctx")
        return bool(context is not None and context.get_value("training", False))

    @staticmethod
    def _each(chain: Chain, tensors: Any, training: bool) -> Any:
        def one(x: Any) -> Any:
            if x is None or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(x.dtype)):
                return x
            return ops.cast(chain(x, training=training), x.dtype)

        return tree.map_structure(one, tensors)

    def _config(self) -> dict[str, Any]:
        written = keras.saving.serialize_keras_object
        called = how_called(self.transformed_layer)
        return {
            "layer": written(self.transformed_layer),
            "chains": {s: written(c) for s, c in self.chains.items()},
            **({} if called is None else {"called": written([list(called[0]), dict(called[1])])}),
        }

    @staticmethod
    def _read(config: dict[str, Any]) -> dict[str, Any]:
        read = keras.saving.deserialize_keras_object
        chains = {slot: read(chain) for slot, chain in config["chains"].items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", UNBUILT)  # it is called below
            layer = read(config["layer"])
        if "called" in config:
            build_by_call(layer, read(config["called"]))
        return {**{key: config[key] for key in config if key != "called"}, "layer": layer, "chains": chains}


@keras.saving.register_keras_serializable(package="kompakt")
class Transformed(_Chained, keras.layers.Layer):  # type: ignore[misc]
    """A layer called with ``chain(w)`` in place of ``w``; slots "output" and "io" transform activations.

    Args:
        layer: built; it is used as it is, never changed.
        chains: slot (``kernel``, ``query_dense/kernel``, ``output``, ``io``) -> Chain.
    """

    def __init__(self, layer: Layer, chains: Mapping[str, Chain], **kwargs: Any) -> None:
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("dtype", layer.variable_dtype)  # chains compute in full precision
        kwargs.setdefault("trainable", layer.trainable)
        super().__init__(**kwargs)
        self._set(layer, chains)
        self._look_like(layer)

    def _look_like(self, layer: Layer) -> None:
        """Take the arguments and masks that ``layer`` takes."""
        self.supports_masking = layer.supports_masking
        # Keras reads the signature of call to pass training and masks: show it the inner layer's.
        for name in ("_call_signature", "_call_has_training_arg", "_call_has_mask_arg"):
            setattr(self, name, getattr(layer, name))
        self._call_has_context_arg = dict(layer._call_has_context_arg)

    def build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the inner layer is built."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(args, kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        return self.transformed_layer.compute_output_spec(*args, **kwargs)

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        return self.transformed_layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return self.transformed_layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Transformed:
        return cls(**cls._read(config))


@keras.saving.register_keras_serializable(package="kompakt")
class TransformedModel(_Chained, keras.Model):  # type: ignore[misc]
    """A subclassed model called with ``chain(w)`` in place of each weight, whatever layer or line reads it."""

    def __init__(self, layer: keras.Model, chains: Mapping[str, Chain], **kwargs: Any) -> None:
        kwargs.setdefault("name", layer.name)
        super().__init__(**kwargs)
        self._set(layer, chains)
        self._build_shapes_dict = layer._build_shapes_dict

    def build(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the inner model is built."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self._run((inputs,), {"training": training})

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "trainable": self.trainable, **self._config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TransformedModel:
        return cls(**cls._read(config))


def wrapped(model: keras.Model) -> dict[str, Any]:
    """Unit -> its Transformed or TransformedModel, for the units that have one."""
    if isinstance(model, TransformedModel):
        return {"": model}
    return {name: unit for name, unit in units(model).items() if isinstance(unit, Transformed)}


def chains_of(model: keras.Model) -> Iterator[tuple[str, Chain, Any]]:
    """(site name, chain, variable or None) of every chain in ``model``."""
    for unit, layer in wrapped(model).items():
        for slot, chain in layer.chains.items():
            yield f"{unit}/{slot}" if unit else slot, chain, layer.variable(slot)


def transforms_of(model: keras.Model) -> Iterator[tuple[str, Transform]]:
    """(site name, transform) of every transform in ``model``."""
    for name, chain, _ in chains_of(model):
        for transform in chain:
            yield name, transform


def drive(model: keras.Model, step: int) -> None:
    """Bring the state of every transform that acts at training step ``step`` up to date."""
    acting = [(chain, variable) for _, chain, variable in chains_of(model) if chain.acts(step)]
    _update_pools(acting, step, lambda transform: not transform.frozen and transform.acts(step))
    for chain, variable in acting:
        rewound = chain.update(step, ops.convert_to_tensor(variable))
        if rewound is not None:
            variable.assign(rewound)


def _update_pools(chains: Sequence[tuple[Chain, Any]], step: int, wanted: Callable[[Transform], bool]) -> None:
    """Update the pools of the transforms that are ``wanted``, each pool at once."""
    pools: dict[Any, list[tuple[Transform, Tensor]]] = {}
    for chain, variable in chains:
        if not any(wanted(transform) and transform.pool() is not None for transform in chain):
            continue
        for transform, value in chain.inputs(ops.convert_to_tensor(variable)):
            if wanted(transform) and transform.pool() is not None:
                pools.setdefault((type(transform), transform.pool()), []).append((transform, value))
    for (kind, _), members in pools.items():
        kind.update_pool(step, members)


def attach(model: keras.Model, plan: Plan) -> keras.Model:
    """A trainable copy of ``model`` with transforms on the sites of ``plan``; ``model`` is not changed.

    A site that has a chain already gets the new transforms at its end.

    Args:
        model: built; functional, sequential (nested or not), subclassed, or already attached.
        plan: site name -> transforms; copies of them are put there, each with a state of its own.

    Raises:
        InputError: a site does not exist (the text has the nearest name).

    Example:
        >>> from kompakt.transforms.prune import Prune
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> attach(m, {"d/kernel": [Prune(0.5)]}).layers[0].name
        'd'
    """
    inner = model.transformed_layer if isinstance(model, TransformedModel) else model
    by_name = {site.name: site for site in sites(inner)}
    by_name.update({_name(unit, BOTH): None for unit in units(inner)})  # type: ignore[misc]
    for unit, layer in units(inner).items():
        own = attachable_slots(getattr(layer, "transformed_layer", layer))
        by_name.update({_name(unit, slot): None for slot in own if _name(unit, slot) not in by_name})  # type: ignore[misc]
    for name in plan:
        if name not in by_name:
            raise InputError(f"no site {name!r}{nearest(name, by_name)}")
    wanted: dict[str, dict[str, list[Transform]]] = {}
    for name, transforms in plan.items():
        unit, slot = _split(name, units(inner))
        # Copies: a transform given for two sites must not share its state between them.
        wanted.setdefault(unit, {})[slot] = [copy_layer(transform) for transform in transforms]
    new = {id(t) for slots in wanted.values() for transforms in slots.values() for t in transforms}
    attached = _attached(model, inner, wanted)
    pairs = [(chain, variable) for _, chain, variable in chains_of(attached)]
    _update_pools(pairs, 0, lambda transform: id(transform) in new)
    return attached


def _attached(model: keras.Model, inner: Any, wanted: Mapping[str, dict[str, list[Transform]]]) -> keras.Model:
    if not is_graph(inner):
        return wrap_layer(model, wanted.get("", {}), TransformedModel)
    names = {id(layer): name for name, layer in units(model).items()}

    def make(layer: Layer) -> Layer:
        extra = wanted.get(names.get(id(layer), ""), {})
        return wrap_layer(layer, extra, Transformed) if extra else copy_layer(layer)

    return map_layers(model, make)


def finalize(model: keras.Model) -> tuple[keras.Model, dict[str, Encoding]]:
    """Bake every chain in: a copy of plain Keras layers, and what a deployed file must honour at each site.

    ``model`` is not changed. Weight chains leave the predictions as they were (to float rounding); chains on
    activations are only in the encodings, since plain layers have no place for them.

    Returns:
        (plain model, {site name: Encoding}); both are copies.

    Raises:
        InputError: the model has no transforms.

    Example:
        >>> from kompakt.transforms.prune import Prune
        >>> m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="d")])
        >>> plain, encodings = finalize(attach(m, {"d/kernel": [Prune(0.5)]}))
        >>> type(plain.layers[0]).__name__, encodings["d/kernel"].zeros
        ('Dense', 4)
    """
    if not wrapped(model):
        raise InputError(
            f"the model {model.name!r} has no transforms to finalize: attach some with "
            "kompakt.prune, kompakt.cluster or kompakt.quantize"
        )
    encodings: dict[str, Encoding] = {}
    names = {id(layer): name for name, layer in wrapped(model).items()}

    def make(layer: Layer) -> Layer:
        if id(layer) not in names:
            return copy_layer(layer)
        plain = copy_layer(layer.transformed_layer)
        known = weight_slots(plain)
        for slot, (_, variable, _) in attachable_slots(plain).items():
            if slot in layer.chains:
                chain = copy_layer(layer.chains[slot])  # baking settles its state, and the model keeps its own
                value, encoding = chain.bake(ops.convert_to_tensor(layer.variable(slot)))
                variable.assign(np.array(ops.convert_to_numpy(value)))
                if slot in known:
                    encodings[_name(names[id(layer)], slot)] = encoding
        for slot in (OUTPUT, BOTH):
            if slot in layer.chains:
                _, encoding = copy_layer(layer.chains[slot]).bake(ops.zeros(()))
                encodings[_name(names[id(layer)], slot)] = encoding
        return plain

    plain = make(model) if isinstance(model, TransformedModel) else map_layers(model, make)
    return plain, encodings


def wrap_layer(layer: Layer, extra: Mapping[str, Sequence[Transform]], kind: type = Transformed) -> Layer:
    """A copy of ``layer`` (built, wrapped or not) in ``kind``, with the ``extra`` transforms prepared on its values.

    Example:
        >>> from kompakt.transforms.prune import Prune
        >>> d = keras.layers.Dense(2)
        >>> d.build((None, 4))
        >>> list(wrap_layer(d, {"kernel": [Prune(0.5)]}).chains)
        ['kernel']
    """
    old = getattr(layer, "chains", {})
    inner = copy_layer(getattr(layer, "transformed_layer", layer))
    known = attachable_slots(inner)
    chains = {slot: copy_layer(chain) for slot, chain in old.items()}
    for slot, transforms in extra.items():
        chain = Chain([*chains.get(slot, ()), *transforms])
        if slot in known:
            chain.prepare(ops.convert_to_tensor(known[slot][1]), known[slot][2])
        else:
            chain.build_for(())
        chains[slot] = chain
    return kind(inner, chains)


def _name(unit: str, slot: str) -> str:
    return f"{unit}/{slot}" if unit else slot


def _split(name: str, known: Mapping[str, Layer]) -> tuple[str, str]:
    """The unit and slot of a site name; the longest unit wins."""
    unit = max((u for u in known if not u or name.startswith(u + "/")), key=len)
    return unit, name[len(unit) + 1 :] if unit else name
