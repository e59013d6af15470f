"""The law of removed channels: the smaller model equals the masked one, for every kind of layer and connection."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.rewrite.channel_groups import channel_groups, read_channels
from kompakt.rewrite.channel_scope import CARRIES, MAKES, variable_of
from kompakt.rewrite.remove_channels import is_weight

from .topologies import SHRINK, conv, image, inputs_of, outputs_of, random_network, scramble


def random_masks(groups, seed, keep=0.6):
    """For each group at least one channel that goes and one that stays."""
    random = np.random.default_rng(seed)
    masks = {}
    for group in groups:
        mask = random.random(group.size) < keep
        stays, goes = random.permutation(group.size)[:2]
        mask[stays], mask[goes] = True, False
        masks[group.name] = mask
    return masks


def snapshot(model):
    values = [np.array(ops.convert_to_numpy(v)) for v in model.variables]
    return values, [layer.get_config() for layer in model.layers]


def assert_close(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1.0, float(np.abs(b).max())))


def assert_law(model, masks, **options):
    """Shrunk equals masked, is smaller, is another function than the model, and the model is untouched."""
    x, before = inputs_of(model), snapshot(model)
    small = kp.remove_channels(model, masks, **options)
    masked = kp.mask_channels(model, masks, **options)
    wanted = outputs_of(masked, x)
    assert_close(outputs_of(small, x), wanted)
    assert max(float(np.abs(a - b).max()) for a, b in zip(outputs_of(model, x), wanted, strict=True)) > 1e-3
    assert small.count_params() < model.count_params() == masked.count_params()
    after = snapshot(model)
    assert str(after[1]) == str(before[1])
    for a, b in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(a, b)
    return small


def made(kind, seed=0):
    keras.utils.set_random_seed(seed)
    return scramble(SHRINK[kind](), seed)


@pytest.mark.parametrize("kind", SHRINK)
def test_the_smaller_model_equals_the_masked_one(kind):
    model = made(kind)
    small = assert_law(model, random_masks(channel_groups(model).groups, 0))
    names = [[w.path.split("/")[-1] for w in each.weights] for each in (small, model)]
    assert names[0] == names[1]


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed):
    keras.utils.set_random_seed(seed)
    model = random_network(seed)
    assert_law(model, random_masks(channel_groups(model).groups, seed))


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_masks(data):
    """Down to one channel of a group, or all of them."""
    model = made("concatenation_and_residual")
    masks = {}
    for group in channel_groups(model).groups:
        some = st.lists(st.booleans(), min_size=group.size, max_size=group.size).filter(any)
        masks[group.name] = data.draw(some, label=group.name)
    small, masked = kp.remove_channels(model, masks), kp.mask_channels(model, masks)
    x = inputs_of(model)
    assert_close(outputs_of(small, x), outputs_of(masked, x))
    assert {name: small.get_layer(name).filters for name in "abc"} == {
        "a": sum(masks["a"]),
        "b": sum(masks["b"]),
        "c": sum(masks["a"]) + sum(masks["b"]),
    }


ZERO_AT_ZERO = ("chain", "residual", "concatenation", "depthwise", "squeeze_and_excite", "attention", "recurrent")


@pytest.mark.parametrize(
    "kind", [*ZERO_AT_ZERO, "group_norms", "grouped_wide", "grouped_narrow", "flattened", "nested"]
)
def test_zeros_in_what_makes_the_channels_are_enough_where_functions_are_zero_at_zero(kind):
    """Written without mask_channels: kernels, biases, gamma and beta are zero, and what reads them is as it was."""
    model = made(kind)
    masks = random_masks(channel_groups(model).groups, 3)
    small = kp.remove_channels(model, masks)
    reading = read_channels(model)
    for group in reading.found.groups:
        for member in group.members:
            if member.role in (MAKES, CARRIES) and is_weight(member) and "moving" not in member.tensor:
                variable = variable_of(reading.layers[member.layer], member.tensor)
                value = np.moveaxis(np.array(ops.convert_to_numpy(variable)), member.axis, 0)
                gone = ~masks[group.name][list(member.channels)]
                value[np.array(member.positions)[gone]] = 0.0
                variable.assign(np.moveaxis(value, 0, member.axis))
    x = inputs_of(model)
    assert_close(outputs_of(small, x), outputs_of(model, x))


@pytest.mark.parametrize(
    "norm", [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}, {"axis": 3}], ids=str
)
def test_layer_norms_that_channels_are_removed_through(norm, tmp_path):
    def body(x):
        x = L.LayerNormalization(name="norm", **norm)(conv(6, name="a")(x))
        return L.LayerNormalization()(conv(5, activation="gelu")(x))

    keras.utils.set_random_seed(0)
    model = scramble(image(body))
    masks = random_masks(channel_groups(model, layer_norms=True).groups, 1)
    assert_law(model, masks, layer_norms=True)
    masked = kp.mask_channels(model, masks, layer_norms=True)
    masked.save(tmp_path / "m.keras")
    x = inputs_of(model)
    assert_close(outputs_of(keras.saving.load_model(tmp_path / "m.keras"), x), outputs_of(masked, x))
    kind = type(kp.remove_channels(model, masks, layer_norms=True).get_layer("norm"))
    assert kind is L.LayerNormalization


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow has no such convolution on a CPU")
def test_channels_first():
    i = keras.Input((3, 6, 6))
    x = L.Conv2D(6, 3, data_format="channels_first")(i)
    x = L.DepthwiseConv2D(2, data_format="channels_first")(L.BatchNormalization(axis=1)(x))
    model = scramble(keras.Model(i, L.Dense(2)(L.GlobalAveragePooling2D(data_format="channels_first")(x))))
    assert_law(model, random_masks(channel_groups(model).groups, 0))


# What the result is


def test_sequential_models_stay_sequential_and_nested_ones_nested():
    model = made("sequential")
    small = kp.remove_channels(model, {"a": [True, False] * 3})
    assert type(small) is keras.Sequential and small.name == "plain"
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]

    model = made("nested")
    small = kp.remove_channels(model, {"stem/inside": [True, False] * 3})
    assert type(small.get_layer("stem")) is keras.Sequential
    assert small.get_layer("block").input_shape == (None, None, None, 3)
    assert [layer.name for layer in small.layers[1:]] == [layer.name for layer in model.layers[1:]]


def test_a_shared_layer_stays_shared():
    small = kp.remove_channels(made("shared"), {"first": [True, False] * 3})
    assert len(small.get_layer("twice")._inbound_nodes) == 2 and small.get_layer("twice").filters == 3


def test_names_inputs_types_and_options_stay():
    i = keras.Input((4,), name="samples")
    x = L.Dense(6, name="a", trainable=False, kernel_regularizer="l2", dtype="mixed_bfloat16")(i)
    model = keras.Model(i, L.Dense(2, name="b")(L.Dropout(0.3, seed=3, name="d")(x)), name="mine")
    small = kp.remove_channels(model, {"a": [True, False] * 3})
    assert small.name == "mine" and small.layers[0].name == "samples"
    kept, old = small.get_layer("a").get_config(), model.get_layer("a").get_config()
    assert {k for k in kept if kept[k] != old[k]} == {"units"}
    assert small.get_layer("d").get_config() == model.get_layer("d").get_config()


def test_structured_inputs_and_outputs_stay():
    model = made("two_ends")
    small = kp.remove_channels(model, random_masks(channel_groups(model).groups, 0))
    assert set(small(inputs_of(model))) == {"p", "q"}
    assert {k: v.shape for k, v in small._inputs_struct.items()} == {"zz": (None, 4), "aa": (None, 3)}


def test_a_subclassed_model_becomes_functional():
    model = made("subclassed")
    small = kp.remove_channels(model, {"first": [True] * 4 + [False] * 2})
    assert type(small) is keras.Model or small.__class__.__name__ == "Functional"
    assert small.get_layer("second").filters == 4


def test_the_result_trains_and_comes_back_from_a_file(tmp_path):
    model = made("squeeze_and_excite")
    small = kp.remove_channels(model, random_masks(channel_groups(model).groups, 0))
    small.compile("adam", "mse")
    x = inputs_of(model, 8)
    small.fit(x, np.zeros((8, 3)), verbose=0)
    small.save(tmp_path / "m.keras")
    assert_close(outputs_of(keras.saving.load_model(tmp_path / "m.keras"), x), outputs_of(small, x))


def test_masks_that_keep_everything_give_a_copy():
    model = made("residual")
    copy = kp.remove_channels(model, {})
    x = inputs_of(model)
    for a, b in zip(outputs_of(copy, x), outputs_of(model, x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert copy is not model and copy.layers[1] is not model.layers[1]


def test_moving_statistics_go_along():
    model = made("chain")
    norm = next(layer for layer in model.layers if isinstance(layer, L.BatchNormalization))
    first = model.layers[1].name
    small = kp.remove_channels(model, {first: [False, True] * 3})
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        kept = ops.convert_to_numpy(getattr(small.get_layer(norm.name), name))
        np.testing.assert_array_equal(kept, ops.convert_to_numpy(getattr(norm, name))[1::2])


# Masks


def test_a_mask_of_any_layer_that_the_channels_go_through_will_do():
    model = made("residual")
    keep = [True, False, True, True, False, True]
    wanted = kp.remove_channels(model, {"a": keep}).get_weights()
    sums = [layer.name for layer in model.layers if isinstance(layer, L.Add)]
    for name in ("b", "c", *sums):
        for a, b in zip(kp.remove_channels(model, {name: keep}).get_weights(), wanted, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_mask_of_a_layer_with_channels_in_two_groups():
    model = made("concatenation_and_residual")
    keep = [True, False, True, True, *[True, True, False, True, False, True]]
    small = kp.remove_channels(model, {"c": keep})
    assert [small.get_layer(name).filters for name in "abc"] == [3, 4, 7]
    np.testing.assert_array_equal(
        ops.convert_to_numpy(small.get_layer("c").bias), ops.convert_to_numpy(model.get_layer("c").bias)[keep]
    )


def masked(kind, masks):
    with pytest.raises(kp.InputError) as caught:
        kp.remove_channels(made(kind), masks)
    return str(caught.value)


def test_masks_that_cannot_be_used():
    ones = [True] * 6
    assert masked("residual", {"aa": ones}) == ("the mask of 'aa': no layer of that name has channels; nearest: 'a'")
    assert masked("residual", {"a": ones[:5]}) == "the mask of 'a' has 5 values, expected 6, one for each channel"
    assert masked("residual", {"a": [0.5] * 6}) == (
        "the mask of 'a': expected one True or False for each channel, True to keep it"
    )
    assert masked("residual", {"a": [False] * 6}) == "the mask of 'a' keeps no channel; keep at least one"
    assert masked("residual", {"a": ones, "b": [False, *ones[1:]]}) == (
        "the mask of 'b' and another disagree about channels that go together; give one of them"
    )
    assert masked("residual", {"head": [True, True, False]}) == (
        "the mask of 'head' takes channels that stay (output of the model); keep them"
    )
    assert masked("grouped_wide", {"grouped": [False, *[True] * 11]}) == (
        "the mask of 'grouped' takes some of the channels that go together; take all or none"
    )


def test_the_same_channels_in_two_masks():
    model = made("residual")
    keep = [True, False] * 3
    small = kp.remove_channels(model, {"a": keep, "b": np.array(keep)})
    assert small.get_layer("c").filters == 3
