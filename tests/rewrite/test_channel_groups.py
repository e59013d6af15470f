"""What goes together, what stays and for what reason."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.rewrite.channel_groups import Fixed, channel_groups
from kompakt.rewrite.channel_labels import Channels, Traced, reshape
from kompakt.rewrite.channel_rules import TABLE

from . import topologies
from .topologies import SHRINK, conv, image


def sizes(model, **options):
    """{group: (channels, width, layers that make them)}."""
    found = channel_groups(model, **options)
    return {g.name: (g.size, g.width, tuple(dict.fromkeys(m.layer for m in g.makers))) for g in found.groups}


def held(model, group, role):
    """The tensors of a group with this role."""
    (found,) = [g for g in channel_groups(model).groups if g.name == group]
    return [f"{m.layer}/{m.tensor}" for m in found.members if m.role == role]


def reasons(model, **options):
    return {f.layer: f.reason for f in channel_groups(model, **options).fixed if f.reason != "output of the model"}


# What goes together


def test_residual_adds_join_the_layers_that_they_add():
    found = sizes(topologies.residual())
    assert found["a"] == (6, 1, ("a", "b", "c"))
    assert len(found) == 2


def test_a_layer_added_to_a_concatenation_has_channels_in_two_groups():
    assert sizes(topologies.concatenation_and_residual()) == {"a": (4, 1, ("a", "c")), "b": (6, 1, ("b", "c"))}
    (a, b) = channel_groups(topologies.concatenation_and_residual()).groups
    positions = {
        g.name: next(m.positions for m in g.members if m.layer == "c" and m.tensor == "kernel") for g in (a, b)
    }
    assert positions == {"a": (0, 1, 2, 3), "b": (4, 5, 6, 7, 8, 9)}


def test_channels_that_meet_themselves_in_another_place_go_together():
    ((size, _, makers),) = sizes(topologies.residual_of_itself_reversed()).values()
    assert (size, set(makers)) == (3, {"a", "b"})


def test_groups_of_a_convolution():
    wide, narrow = sizes(topologies.grouped_wide()), sizes(topologies.grouped_narrow())
    assert wide["grouped"] == (6, 2, ("grouped",))  # the same place in each of 2 groups
    assert [v[:2] for v in narrow.values() if "grouped" in v[2]] == [(4, 2)]  # 4 whole groups
    assert [v[:2] for v in sizes(topologies.depthwise_as_grouped()).values() if "grouped" in v[2]] == [(8, 1)]


def test_squeeze_and_excite_goes_with_what_it_gates():
    found = sizes(topologies.squeeze_and_excite())
    assert found == {"wide": (8, 1, ("wide", "gate")), "squeeze": (4, 1, ("squeeze",)), "next": (5, 1, ("next",))}


def test_flattened_channels_lie_on_every_pixel():
    i = keras.Input((2, 2, 1))
    model = keras.Model(i, L.Dense(2, name="d")(L.Flatten()(L.Conv2D(3, 1, name="c")(i))))
    (group,) = channel_groups(model).groups
    member = next(m for m in group.members if m.layer == "d")
    assert (member.tensor, member.axis, member.role) == ("kernel", 0, "reads")
    assert member.positions == tuple(range(12)) and member.channels == (0, 1, 2) * 4


def test_heads_go_whole():
    found = sizes(topologies.attention())
    assert found["own"] == (4, 3, ("own",)) and found["cross"] == (3, 2, ("cross",))
    own = next(group for group in channel_groups(topologies.attention()).groups if group.name == "own")
    assert {(m.tensor, m.axis) for m in own.members} == {
        *((f"{part}_dense/kernel", 1) for part in ("query", "key", "value")),
        *((f"{part}_dense/bias", 0) for part in ("query", "key", "value")),
        ("output_dense/kernel", 0),
    }


def test_units_of_recurrent_layers_are_counted_as_units():
    found = sizes(topologies.recurrent())
    assert found["lstm"][:2] == (5, 1) and found["bidirectional"][:2] == (4, 1)


def test_halves_that_gate_each_other():
    assert sizes(topologies.gated_split())["both"] == (6, 2, ("both",))


def test_a_shared_layer_is_constrained_by_each_of_its_calls():
    found = sizes(topologies.shared())
    assert found["first"] == (6, 1, ("first", "twice"))
    assert {tuple(sorted(v[2])) for v in found.values()} >= {("c", "d")}  # the Reshape has one size


def test_a_shared_layer_without_weights_ties_nothing_together():
    relu = L.ReLU()
    model = image(lambda x: L.Concatenate()([relu(conv(4, name="a")(x)), relu(conv(5, name="b")(x))]))
    assert sizes(model) == {"a": (4, 1, ("a",)), "b": (5, 1, ("b",))}


def test_layers_of_nested_models_have_the_path_as_their_name():
    model = topologies.nested()
    assert sizes(model)["stem/inside"] == (6, 1, ("stem/inside", "block/inside"))
    carried = {name.split("/")[0] for name in held(model, "stem/inside", "carries")}
    assert carried == {"stem", "block"}


def test_a_nested_model_has_one_size_of_input():
    ((size, _, makers),) = sizes(topologies.nested_without_weights()).values()
    assert (size, set(makers)) == (6, {"a", "b"})


@pytest.mark.parametrize("kind", [kind for kind in SHRINK if kind != "permuted"])
def test_nothing_of_what_can_be_followed_stays(kind):
    assert reasons(SHRINK[kind]()) == {}


# What stays


def after(layer, filters=6):
    """A convolution, the layer under test, and a convolution that reads it."""
    return image(lambda x: conv(4, name="next")(layer(conv(filters, name="made")(x))))


class Own(L.Layer):
    def call(self, x):
        return ops.flip(x, axis=-1)


class Renamed(L.Dense):
    """What a subclass changes is not known."""


STAYS = {
    "lambda": (lambda: L.Lambda(lambda x: x, name="l"), "Lambda 'l': what it does with channels is not known"),
    "own layer": (lambda: Own(name="o"), "Own 'o': what it does with channels is not known"),
    "softmax": (lambda: L.Softmax(name="s"), "Softmax 's' mixes them"),
    "softmax inside": (
        lambda: L.Activation("softmax", name="s"),
        "Activation 's' has the activation softmax, which mixes them",
    ),
    "unknown activation": (
        lambda: L.Activation(ops.flip, name="f"),
        "Activation 'f' has the activation flip, which is not known to leave them apart",
    ),
    "layer normalization": (lambda: L.LayerNormalization(name="n"), "LayerNormalization 'n' averages over them"),
    "rms normalization": (lambda: L.RMSNormalization(name="n"), "RMSNormalization 'n' averages over them"),
    "rescaling by channel": (
        lambda: L.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], name="r"),
        "Rescaling 'r' has a number for each of them",
    ),
    "noise with sizes": (
        lambda: L.Dropout(0.5, noise_shape=(None, 6, 6, 6), name="d"),
        "Dropout 'd': its noise_shape holds sizes",
    ),
}


@pytest.mark.parametrize("kind", STAYS)
def test_what_is_not_understood_stays_with_its_reason(kind):
    make, reason = STAYS[kind]
    model = after(make())
    assert reasons(model) == {"made": reason}
    assert list(sizes(model)) == ["next"]


OPERATIONS = {
    "a number for each": (lambda x: x * np.arange(6.0, dtype="float32"), "joins them with what stays"),
    "over the channels": (lambda x: x - ops.mean(x, axis=-1, keepdims=True), "is taken over them"),
    "some of them": (lambda x: x[..., :3], "takes some of them"),
    "divided by them": (lambda x: 1.0 / x, "divides by them"),
    "split at places": (lambda x: ops.split(x, [2], axis=-1)[0], "it splits at given places"),
    "sorted": (lambda x: ops.sort(x), "what it does with channels is not known"),
    "added to the image": (lambda x: x + ops.ones((6, 6, 1)) * x[..., :1], "takes some of them"),
}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_operations_that_channels_cannot_be_removed_through(kind):
    body, reason = OPERATIONS[kind]
    model = after(body)
    assert list(reasons(model)) == ["made"] and reasons(model)["made"].endswith(reason)
    assert list(sizes(model)) == ["next"]


def test_an_activation_that_is_not_known_keeps_what_it_is_of_and_nothing_else():
    i = keras.Input((4,))
    x = L.Dense(8, activation="glu", name="halves")(L.Dense(6, name="before")(i))
    model = keras.Model(i, L.Dense(2)(x))
    reason = "Dense 'halves' has the activation glu, which is not known to leave them apart"
    assert reasons(model) == {"halves": reason} and list(sizes(model)) == ["before"]


def test_the_reason_goes_with_what_is_joined():
    def body(x):
        a = conv(3, name="a")(x)
        b = conv(3, name="b")(L.Add()([a, x]))
        return conv(4)(L.Add()([a, b]))

    assert reasons(image(body)) == dict.fromkeys(("a", "b"), "input of the model")


def test_outputs_of_the_model_stay():
    i = keras.Input((4,))
    x = L.Dense(6, name="x")(i)
    found = channel_groups(keras.Model(i, [x, L.Dense(3, activation="softmax", name="y")(x)]))
    assert found.groups == ()
    assert found.fixed == tuple(
        Fixed(layer=n, channels=c, reason="output of the model") for n, c in (("x", 6), ("y", 3))
    )


def test_a_shuffle_that_joins_all_channels_of_its_makers_leaves_nothing_to_remove():
    """Behind a shuffle of 3 x 3 channels, adding what was shuffled to what was not ties them all together."""

    def body(x):
        x = conv(6, name="made")(x)
        y = L.Reshape((6, 6, 6))(L.Permute((1, 2, 4, 3))(L.Reshape((6, 6, 2, 3))(x)))
        return conv(4, name="next")(L.Add()([x, y]))

    model = image(body)
    assert reasons(model) == {"made": "all that its makers have can only go together"}
    assert list(sizes(model)) == ["next"]


def test_one_channel_cannot_go():
    model = image(lambda x: conv(4, name="next")(conv(1, name="one")(x)))
    assert reasons(model) == {"one": "all that its makers have can only go together"}


def test_layer_norms_can_be_gone_through_where_that_is_wanted():
    model = after(L.LayerNormalization(name="n"))
    assert sizes(model, layer_norms=True)["made"] == (6, 1, ("made",))
    assert reasons(model, layer_norms=True) == {}
    wide = after(L.LayerNormalization(axis=(1, 2, 3), name="n"))
    assert reasons(wide, layer_norms=True) == {"made": "LayerNormalization 'n' averages over them"}


def test_tokens_that_are_mixed_stay_tokens():
    """A pooling over an axis that a Dense made is not a pooling of channels."""
    i = keras.Input((5, 4))
    x = L.Permute((2, 1))(L.Dense(7, name="tokens")(L.Permute((2, 1))(i)))
    model = keras.Model(i, L.Dense(3)(L.GlobalAveragePooling1D(name="pool")(x)))
    assert reasons(model)["tokens"] == "GlobalAveragePooling1D 'pool' works across them"


def test_a_stateful_layer_and_several_inputs_of_a_recurrent_one():
    i, state = keras.Input((5, 4)), keras.Input((6,))
    model = keras.Model([i, state], L.Dense(2)(L.GRU(6, name="g")(i, initial_state=L.Dense(6, name="s")(state))))
    assert reasons(model) == dict.fromkeys(("s", "g"), "GRU 'g': it takes 2 tensors")


def test_scores_of_attention_keep_the_heads():
    i = keras.Input((5, 4))
    x, scores = L.MultiHeadAttention(4, 3, name="a")(i, i, return_attention_scores=True)
    model = keras.Model(i, [L.Dense(2)(x), L.Flatten()(scores)])
    assert reasons(model) == {"a": "MultiHeadAttention 'a' gives its scores of each of them"}
    assert sizes(model) == {"a": (4, 1, ("a",))}  # the output, which the Dense reads


def test_a_subclass_of_a_known_layer_is_not_known():
    i = keras.Input((4,))
    model = keras.Model(i, L.Dense(2)(Renamed(6, name="r")(L.Dense(5, name="d")(i))))
    assert reasons(model) == dict.fromkeys(("d", "r"), "Renamed 'r': what it does with channels is not known")


def test_a_model_that_cannot_be_followed():
    class Loops(keras.Model):
        def call(self, x):
            return x if float(ops.sum(x)) else -x

    model = Loops()
    model.built = True
    with pytest.raises(kp.InputError, match="the input shape of Loops is not known"):
        channel_groups(model)


def test_every_public_layer_with_weights_has_a_row_or_is_known_to_have_none():
    """A new Keras may bring new layers: they stay whole until they have a row, and this says which they are."""
    left = {
        *("AdditiveAttention", "Attention", "GroupedQueryAttention", "ReversibleEmbedding", "SpectralNormalization"),
        *("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "RNN", "StackedRNNCells", "GRUCell", "LSTMCell", "SimpleRNNCell"),
    }
    assert not {kind.__name__ for kind in TABLE} & left
    assert {"Dense", "Conv2D", "MultiHeadAttention", "BatchNormalization"} <= {kind.__name__ for kind in TABLE}


# Labels


@pytest.mark.parametrize(
    ("shape", "axis", "new", "kept_shape"),
    [
        ((None, 2, 3, 4), 3, (None, 24), (None, 12)),
        ((None, 2, 3, 4), 3, (None, 6, 4), (None, 6, 2)),
        ((None, 2, 3, 4), 1, (None, 6, 4), (None, 3, 4)),
        ((None, 12), 1, (None, 3, 4), (None, 3, 2)),
        ((None, 1, 1, 8), 3, (None, 8), (None, 4)),
        ((None, 8), 1, (None, 1, 1, 8), (None, 1, 1, 4)),
        ((None, 4, 6), 2, (None, 8, 3), None),
        ((None, 6, 4), 2, (None, 3, 8), None),
    ],
)
def test_what_is_left_of_a_reshape_is_a_reshape_of_what_is_left(shape, axis, new, kept_shape):
    """Half of the labels go, and both ways round give the same numbers."""
    channels = Channels()
    labels = channels.new(shape[axis])
    axes = reshape(
        channels, Traced(shape=shape, axes=tuple(labels if i == axis else None for i in range(len(shape)))), new, "r"
    )
    roots = np.array(channels.roots(labels))
    gone = np.unique(roots)[::2]
    values = np.arange(np.prod(shape[1:])).reshape(1, *shape[1:])
    before = np.delete(values, np.flatnonzero(np.isin(roots, gone)), axis)
    after = values.reshape(1, *new[1:])
    for place, each in enumerate(axes):
        if each is not None:
            after = np.delete(after, np.flatnonzero(np.isin(channels.roots(each), gone)), place)
    np.testing.assert_array_equal(before.ravel(), after.ravel())
    if kept_shape is not None:
        assert after.shape[1:] == kept_shape[1:]


def test_a_reshape_over_axes_of_unknown_size_keeps_the_channels():
    i = keras.Input((None, 6))
    x = L.Reshape((-1, 3), name="r")(L.Dense(6, name="d")(i))
    found = channel_groups(keras.Model(i, L.Dense(2)(x)))
    assert found.groups == () and found.fixed[0] == Fixed(
        layer="d", channels=6, reason="Reshape 'r' mixes them with other axes"
    )


def test_channels_first_is_followed():
    i = keras.Input((3, 6, 6))
    x = L.Conv2D(6, 3, data_format="channels_first", name="a")(i)
    x = L.BatchNormalization(axis=1)(x)
    x = L.GlobalAveragePooling2D(data_format="channels_first")(x)
    assert sizes(keras.Model(i, L.Dense(2)(x))) == {"a": (6, 1, ("a",))}


def test_groups_are_records():
    one, other = channel_groups(topologies.residual()), channel_groups(topologies.chain())
    assert one != other and hash(one)
    with pytest.raises(AttributeError):
        one.groups = ()
