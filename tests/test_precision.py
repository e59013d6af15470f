"""What a rule may say, and which mode a set of bits is."""

import keras
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.assignment import assign, meet
from kompakt.precision import FLOAT, PRECISIONS, mode_of, of_rule

INT8 = PRECISIONS["int8"]


def chain():
    i = keras.Input((8, 8, 3))
    x = L.ReLU(name="r1")(L.Conv2D(4, 3, name="c1")(i))
    x = L.MaxPooling2D(name="mp")(x)
    x = L.Conv2D(4, 1, name="c2", activation="relu")(x)
    return keras.Model(i, L.Dense(2, name="head")(L.Flatten(name="f")(x)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("int9", "a rule says 'int9': expected float, int8, w4a8, int16x8, or 2 to 8 for the bits of its weights; "
         "did you mean 'int8'?"),
        (1, "a rule says 1: expected float, int8, w4a8, int16x8, or 2 to 8 for the bits of its weights"),
        (True, "a rule says True: expected float, int8, w4a8, int16x8, or 2 to 8 for the bits of its weights"),
    ],
)  # fmt: skip
def test_a_rule_that_says_nothing_known(value, text):
    with pytest.raises(kp.InputError) as caught:
        of_rule(value)
    assert str(caught.value) == text


def test_a_rule_that_matches_nothing_is_named():
    with pytest.raises(kp.InputError, match="'haed' matches no layer and no weight; nearest: 'head'"):
        assign(chain(), INT8, {"haed": "float"})


def test_what_only_moves_and_what_is_fused_goes_with_the_layer_before():
    given = assign(chain(), INT8, {"c1": "int16x8"}).layers
    assert {name for name, each in given.items() if each.activations == 16} == {"c1", "r1", "mp"}


def test_the_last_rule_counts_and_a_number_changes_weights_alone():
    given = assign(chain(), INT8, {"c*": "float", "c2": "int8", "c2/kernel": 3})
    assert given.layers["c1"] == FLOAT and given.layers["c2"] == INT8
    assert dict(given.bits) == {"c2/kernel": 3}


@pytest.mark.parametrize("pattern", ["*", "c1", "c1/kernel"])
def test_a_number_after_float_asks_for_integers_again(pattern):
    """The weights had 4 bits and the activations none: the file computed in int8, on a range nobody simulated."""
    given = assign(chain(), INT8, {"c1": "float", pattern: 4})
    assert given.layers["c1"].activations == 8 and given.bits["c1/kernel"] == 4


def test_a_layer_made_from_the_users_own_goes_with_it():
    i = keras.Input((4,))
    model = keras.Model(i, L.Activation("softmax", name="d_softmax")(L.Dense(2, name="d")(i)))
    assert assign(model, INT8, {"d": "float"}, known=["d"]).layers["d_softmax"] == FLOAT
    assert assign(model, INT8, {"d": "float"}, known=["d", "d_softmax"]).layers["d_softmax"] == INT8


def test_depthwise_kernels_keep_8_bits_in_w4a8():
    i = keras.Input((8, 8, 3))
    model = keras.Model(i, L.Conv2D(2, 1, name="p")(L.DepthwiseConv2D(3, name="dw")(i)))
    given = assign(model, PRECISIONS["w4a8"], None)
    assert given.layers["dw"].weights == 8 and given.layers["p"].weights == 4


def test_two_widths_meet_in_a_grid_of_their_own():
    model = chain()
    met, given = meet(model, assign(model, INT8, {"c1": "int16x8"}))
    assert [layer.name for layer in met.layers[1:]] == ["c1", "r1", "mp", "mp_int8_grid", "c2", "f", "head"]
    assert given.layers["mp_int8_grid"].activations == 8
    assert meet(model, assign(model, INT8, None))[0] is model


@pytest.mark.parametrize(
    ("weights", "activations", "mode"),
    [([4, 4], [8], "w4a8"), ([8], [16], "int16x8"), ([8], [8, 16], "mixed"), ([8, None], [8], "mixed")],
)
def test_mode_of(weights, activations, mode):
    assert mode_of(weights, activations) == mode
