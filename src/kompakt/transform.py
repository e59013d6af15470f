"""The abstract Transform, and Chain, a list of them on one tensor.

The laws every transform keeps (checked by ``kompakt.testing`` over each one in the registry):

1. *Layer law*: a transformed layer equals the plain layer on the transformed weight, exactly.
2. *Gradient law*: straight-through where the technique says so, exact elsewhere; finite always.
3. *Undo*: ``finalize`` returns plain layers that predict the same; the model given is never changed.
4. *Round trip*: save, load and ``get_config`` change nothing.
5. *Frozen is idempotent*: a frozen transform applied twice is applied once.
6. *Exactly k*: a mask keeps exactly the count asked for, ties included; a pinned zero stays zero.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import keras

from kompakt.errors import InputError
from kompakt.records import Encoding
from kompakt.summaries import Fact

Tensor = Any
Members = Sequence[tuple[Any, Tensor]]
"""The transforms of a pool, each with its input."""


class Transform(keras.layers.Layer):  # type: ignore[misc]
    """A shape-keeping map on one tensor, with its own saved state.

    Being a Keras layer gives it variables, config and saving; it is never shared between sites.

    Args:
        axis: the channel axes of the tensor, set by :meth:`prepare` from the site where it is None.
        frozen: the state no longer changes.
    """

    trains_alone = True
    """Whether training needs nothing but ``fit``; False where ``callbacks.Update`` must drive the state."""

    driver = "kompakt.callbacks.Update()"
    """The callback that drives the state, as an error names it."""

    on_weights = True
    """Whether it belongs on weights (True) or on activations too (False)."""

    along_inputs = False
    """Whether it groups weights along the input channels, of which a depthwise kernel has one a channel."""

    spares_ends = False
    """Whether the pattern "*" leaves out the first and last layer of a model, where it costs most accuracy."""

    def __init__(self, *, axis: Sequence[int] | None = None, frozen: bool = False, **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.supports_masking = True  # it keeps shapes, and with them what a mask says of them
        self.axis = None if axis is None else tuple(int(a) for a in axis)
        self.frozen = bool(frozen)
        self.driven = False

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        """Resolve what depends on the site (channel axes, sizes), make the state and start it from ``value``.

        Args:
            value: the tensor at the site, float32; axis: its channel axes.
        """
        if self.axis is None:
            self.axis = tuple(axis)
        if not self.built:
            self.build(tuple(value.shape))

    @abstractmethod
    def call(self, x: Tensor, training: bool = False) -> Tensor:
        """The transformed tensor, of the shape and dtype of ``x``."""

    def acts(self, step: int) -> bool:
        """Whether :meth:`update` would do anything at training step ``step``."""
        return False

    def update(self, step: int, value: Tensor) -> Tensor | None:
        """Recompute the state at training step ``step`` (0-based); ``value`` is the transform's input.

        Returns:
            A new value for the weight itself, where the technique rewinds it; else None.
        """

    def pool(self) -> Hashable | None:
        """Key of the transforms whose state is decided together, or None where it is decided alone."""
        return None

    @classmethod
    def update_pool(cls, step: int, members: Members) -> None:
        """Recompute the state of a whole pool at ``step``; before training, at step 0."""

    def check_plan(self, first: int, last: int) -> None:
        """Refuse a schedule that would do nothing in the training steps ``first`` to ``last``.

        Raises:
            InputError: it would not act once.
        """

    def check_optimizer(self, optimizer: Any) -> None:
        """Refuse a keras optimizer that would spoil what the transform gathers in training.

        Raises:
            InputError: it would.
        """

    def unfit(self, shape: Sequence[int], axis: Sequence[int]) -> str | None:
        """Why a tensor of ``shape`` with the channel axes ``axis`` cannot have this transform, or None."""
        return None

    def steps_done(self) -> int:
        """Training steps that it has been through, saved with the model; 0 where it counts none."""
        return 0

    def follow(self, told: Callable[[], int | None] | None) -> None:
        """Learn from ``told`` how many training steps are done (None: nothing new), until it is told otherwise.

        A transform that counts steps is a :class:`kompakt.counted.Counted`.
        """

    passing = False
    """Whether the next technique takes its place: what it did is in the weights then, and asks nothing of a file."""

    def keep(self) -> Transform | None:
        """A new transform that preserves what this one has done to a tensor, or None where nothing can be."""
        return None

    def own_classes(self) -> tuple[type, ...]:
        """Classes of the user's that its config names: a copy in memory is made without registering them."""
        return ()

    def freeze(self) -> None:
        """Keep the state as it is from now on."""
        self.frozen = True

    def finish(self, value: Tensor) -> None:
        """Bring the state up to date with ``value``, the transform's input, before it is baked in."""

    def describe(self, value: Tensor, so_far: Encoding) -> Encoding:
        """``so_far`` with what this transform asks of a deployed file added; ``value`` is its output."""
        return so_far

    def summaries(self, value: Tensor | None) -> Mapping[str, Fact]:
        """Name -> what is worth watching now; ``value`` is the transform's input, None where nobody has seen one.

        Names are shared by all techniques (``sparsity``, ``distinct``, ``clipping``, ...): what is told of different
        sites under one name is shown together.
        """
        return {}

    def check_driven(self, training: bool) -> None:
        """Refuse to train where nobody drives the state, rather than do nothing in silence.

        Raises:
            InputError: no ``callbacks.Update`` drives this transform.
        """
        # Keras traces a model once before any callback knows of it; nothing is trained there.
        tracing = keras.src.backend.common.symbolic_scope.in_symbolic_scope()
        if training and not (tracing or self.trains_alone or self.frozen or self.driven):
            raise InputError(
                f"training a model with {type(self).__name__} needs its callback: "
                f"pass callbacks=[{self.driver}] to fit (or call its hooks in your own loop)"
            )

    def compute_output_shape(self, shape: Sequence[int]) -> Sequence[int]:
        return shape

    def get_config(self) -> dict[str, Any]:
        axis = None if self.axis is None else list(self.axis)
        return {**super().get_config(), "axis": axis, "frozen": self.frozen}


@keras.saving.register_keras_serializable(package="kompakt")
class Chain(keras.layers.Layer):  # type: ignore[misc]
    """Transforms applied one after the other: ``chain(w) = t_n(... t_1(w))``."""

    def __init__(self, transforms: Sequence[Transform], **kwargs: Any) -> None:
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.transforms = list(transforms)
        self.supports_masking = True
        self.look: Callable[[Tensor], None] | None = None
        """What is shown each input in an uncompiled call; not saved."""
        self.built = True

    def __iter__(self) -> Iterator[Transform]:
        return iter(self.transforms)

    def build_for(self, shape: Sequence[int]) -> None:
        """Make the state of each transform for a tensor of ``shape``; those that have it keep it."""
        for transform in self.transforms:
            if not transform.built:
                transform.build(tuple(shape))

    def call(self, x: Tensor, training: bool = False) -> Tensor:
        if self.look is not None:
            self.look(x)
        for transform in self.transforms:
            x = transform(x, training=training)
        return x

    def prepare(self, value: Tensor, axis: Sequence[int]) -> None:
        """Prepare each transform on the output of those before it."""
        for transform in self.transforms:
            if not transform.built:
                transform.prepare(value, axis)
            value = transform(value)

    def acts(self, step: int) -> bool:
        """Whether any transform has something to do at ``step``."""
        return any(t.acts(step) for t in self.transforms if not t.frozen)

    def update(self, step: int, value: Tensor) -> Tensor | None:
        """Drive the state of each transform that is not frozen.

        Returns:
            A new value for the weight, where the first transform rewinds it; else None.
        """
        rewound = None
        for i, (transform, given) in enumerate(self.inputs(value)):
            new = None if transform.frozen else transform.update(step, given)
            rewound = new if i == 0 else rewound
        return rewound

    def inputs(self, value: Tensor) -> Iterator[tuple[Transform, Tensor]]:
        """Each transform with what it is given where the chain is given ``value``."""
        for before, transform in zip([None, *self.transforms], self.transforms, strict=False):
            value = value if before is None else before(value)  # the last one's output is nobody's input
            yield transform, value

    def bake(self, value: Tensor) -> tuple[Tensor, Encoding]:
        """The transformed tensor as it is deployed, and what a file must honour there."""
        encoding = Encoding()
        for transform in self.transforms:
            transform.finish(value)
            value = transform(value)
            encoding = transform.describe(value, encoding)
        return value, encoding

    def compute_output_shape(self, shape: Sequence[int]) -> Sequence[int]:
        return shape

    def get_config(self) -> dict[str, Any]:
        transforms = [keras.saving.serialize_keras_object(t) for t in self.transforms]
        return {**super().get_config(), "transforms": transforms}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Chain:
        transforms = [keras.saving.deserialize_keras_object(t) for t in config["transforms"]]
        return cls(**{**config, "transforms": transforms})
