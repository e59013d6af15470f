"""Parameters and multiply-accumulates, counted by hand."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cost import RULES, LayerCost, layer_costs
from kompakt.sites import TABLE

CASES = {
    # 7 outputs, each a sum over 5 inputs
    L.Dense: (lambda: L.Dense(7), (5,), 7 * 5, 7 * 5 + 7),
    # 6 positions x 2 heads x 3 outputs, each a sum over 4
    L.EinsumDense: (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3)), (6, 4), 6 * 2 * 3 * 4, 4 * 2 * 3),
    # 8 - 3 + 1 = 6 positions x 5 filters, each a sum over 3 x 4
    L.Conv1D: (lambda: L.Conv1D(5, 3), (8, 4), 6 * 5 * 3 * 4, 3 * 4 * 5 + 5),
    # same padding, stride 2: 4 x 4 x 6 outputs, each a sum over 3 x 3 x (4 / 2 groups)
    L.Conv2D: (
        lambda: L.Conv2D(6, 3, strides=2, padding="same", groups=2, use_bias=False),
        (8, 8, 4),
        4 * 4 * 6 * 3 * 3 * 2,
        3 * 3 * 2 * 6,
    ),
    # dilation 2 reaches 3 wide: 2 x 2 x 2 x 5 outputs, each a sum over 2 x 2 x 2 x 3
    L.Conv3D: (
        lambda: L.Conv3D(5, 2, dilation_rate=2, use_bias=False),
        (4, 4, 4, 3),
        2 * 2 * 2 * 5 * 2 * 2 * 2 * 3,
        8 * 3 * 5,
    ),
    # each of 4 x 3 inputs is spread over 2 x 5
    L.Conv1DTranspose: (lambda: L.Conv1DTranspose(5, 2, strides=2), (4, 3), 4 * 3 * 2 * 5, 2 * 5 * 3 + 5),
    L.Conv2DTranspose: (
        lambda: L.Conv2DTranspose(5, 3, strides=2, padding="same", use_bias=False),
        (4, 4, 3),
        4 * 4 * 3 * 9 * 5,
        9 * 5 * 3,
    ),
    L.Conv3DTranspose: (
        lambda: L.Conv3DTranspose(2, 2, use_bias=False),
        (3, 3, 3, 4),
        27 * 4 * 8 * 2,
        8 * 2 * 4,
    ),
    # 6 positions x 4 channels x 2 outputs of each, each a sum over 3
    L.DepthwiseConv1D: (lambda: L.DepthwiseConv1D(3, depth_multiplier=2), (8, 4), 6 * 8 * 3, 3 * 4 * 2 + 8),
    L.DepthwiseConv2D: (
        lambda: L.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False),
        (8, 8, 4),
        4 * 4 * 4 * 9,
        9 * 4,
    ),
    # depthwise 6 x (4 x 2) x 3, then 6 x 5 sums over 8
    L.SeparableConv1D: (
        lambda: L.SeparableConv1D(5, 3, depth_multiplier=2),
        (8, 4),
        6 * 8 * 3 + 6 * 5 * 8,
        3 * 8 + 8 * 5 + 5,
    ),
    L.SeparableConv2D: (
        lambda: L.SeparableConv2D(5, 3, strides=2, padding="same", use_bias=False),
        (8, 8, 4),
        16 * 4 * 9 + 16 * 5 * 4,
        9 * 4 + 4 * 5,
    ),
    # 6 steps, each 4 inputs and 3 states into 3 units, 1, 4 and 3 gates; a GRU has two biases a gate
    L.SimpleRNN: (lambda: L.SimpleRNN(3), (6, 4), 6 * (4 + 3) * 3, (4 + 3 + 1) * 3),
    L.LSTM: (lambda: L.LSTM(3), (6, 4), 6 * 4 * (4 + 3) * 3, 4 * (4 + 3 + 1) * 3),
    L.GRU: (lambda: L.GRU(3), (6, 4), 6 * 3 * (4 + 3) * 3, 3 * (4 + 3 + 2) * 3),
    # the same cells in a loop of their own
    L.SimpleRNNCell: (lambda: L.RNN(L.SimpleRNNCell(3)), (6, 4), 6 * (4 + 3) * 3, (4 + 3 + 1) * 3),
    L.LSTMCell: (lambda: L.RNN(L.LSTMCell(3)), (6, 4), 6 * 4 * (4 + 3) * 3, 4 * (4 + 3 + 1) * 3),
    L.GRUCell: (lambda: L.RNN(L.GRUCell(3)), (6, 4), 6 * 3 * (4 + 3) * 3, 3 * (4 + 3 + 2) * 3),
    # two cells one after the other: 4 inputs into 3 units, these into 2
    L.RNN: (
        lambda: L.RNN([L.SimpleRNNCell(3), L.SimpleRNNCell(2)]),
        (6, 4),
        6 * ((4 + 3) * 3 + (3 + 2) * 2),
        (4 + 3 + 1) * 3 + (3 + 2 + 1) * 2,
    ),
    # once forwards, once backwards
    L.Bidirectional: (
        lambda: L.Bidirectional(L.LSTM(3)),
        (6, 4),
        2 * 6 * 4 * (4 + 3) * 3,
        2 * 4 * (4 + 3 + 1) * 3,
    ),
    # 6 rows of the table are read, none is multiplied
    L.Embedding: (lambda: L.Embedding(9, 4), (6,), 0, 9 * 4),
}


def functional(*made, shape):
    x = inputs = keras.Input(shape)
    for layer in made:
        x = layer(x)
    return keras.Model(inputs, x)


def test_every_rule_has_a_case():
    assert set(RULES) | set(TABLE) == {*CASES, L.MultiHeadAttention, L.Attention, keras.src.ops.numpy.Matmul}


def test_attention_by_hand():
    queries, memory = keras.Input((6, 4)), keras.Input((5, 8))
    attention = L.MultiHeadAttention(2, 3, value_dim=7, output_shape=9, use_bias=False, name="it")
    (row,) = layer_costs(keras.Model([queries, memory], attention(queries, memory)))
    projections = 6 * 4 * (2 * 3) + 5 * 8 * (2 * 3) + 5 * 8 * (2 * 7) + 6 * (2 * 7) * 9
    assert row.macs == projections + 2 * 6 * 5 * 3 + 2 * 6 * 5 * 7


def test_attention_over_one_axis_by_hand():
    places = keras.Input((5, 7, 8))
    attention = L.MultiHeadAttention(2, 4, attention_axes=(2,), use_bias=False, name="it")
    (row,) = layer_costs(keras.Model(places, attention(places, places)))
    assert row.macs == 5 * 7 * 8 * (2 * 4) * 4 + 5 * (7 * 7) * 2 * (4 + 4)


def test_what_multiplies_without_weights_has_a_row():
    queries, memory = keras.Input((6, 4)), keras.Input((5, 4))
    rows = layer_costs(keras.Model([queries, memory], L.Attention(name="it")([queries, memory])))
    assert [(row.layer, row.parameters, row.macs) for row in rows] == [("it", 0, 6 * 5 * (4 + 4))]
    product = keras.ops.matmul(queries, keras.ops.transpose(memory, (0, 2, 1)))
    (row,) = layer_costs(keras.Model([queries, memory], product))
    assert (row.kind, row.macs) == ("Matmul", 6 * 5 * 4)
    (row,) = layer_costs(keras.Model([queries, memory], keras.ops.einsum("bik,bjk->bij", queries, memory)))
    assert (row.kind, row.macs) == ("Einsum", None)  # it is named where a total is made


@pytest.mark.parametrize("kind", {**TABLE, **CASES}, ids=lambda kind: kind.__name__)
def test_by_hand(kind):
    """A layer kind that is new in ``sites.TABLE`` fails here until it is counted by hand."""
    make, shape, macs, parameters = CASES[kind]
    layer = make()
    layer.name = "it"
    assert layer_costs(functional(layer, shape=shape)) == (
        LayerCost(layer="it", kind=type(layer).__name__, parameters=parameters, macs=macs),
    )


@pytest.mark.parametrize(
    ("equation", "shape", "output_shape", "macs"),
    [
        ("ab,bc->ac", (4,), (3,), 4 * 3),
        ("abcd,cde->abe", (6, 2, 4), (None, 3), 6 * 3 * 2 * 4),
        ("abc,dec->abde", (6, 4), (None, 2, 3), 6 * 2 * 3 * 4),
    ],
)
def test_einsums_that_sum_over_several_axes(equation, shape, output_shape, macs):
    (row,) = layer_costs(functional(L.EinsumDense(equation, output_shape), shape=shape))
    assert row.macs == macs


def test_a_cell_of_ones_own_is_not_counted():
    class Own(L.Layer):
        state_size = output_size = 3

        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 3))

        def call(self, inputs, states):
            made = keras.ops.matmul(inputs, self.kernel)
            return made, [made]

    (row,) = layer_costs(functional(L.RNN([L.SimpleRNNCell(4), Own()], name="it"), shape=(6, 4)))
    assert row.macs is None


def test_dense_on_every_position():
    (row,) = layer_costs(functional(L.Dense(7), shape=(6, 5)))
    assert row.macs == 6 * 5 * 7


def test_what_costs_nothing_and_what_is_not_known():
    model = functional(
        L.Embedding(9, 4, name="embedding"),
        L.BatchNormalization(name="norm"),
        L.ReLU(name="relu"),
        L.Dropout(0.5, name="drop"),
        L.Reshape((6, 2, 2)),
        L.ConvLSTM1D(3, 1, name="memory"),
        shape=(6,),
    )
    rows = {row.layer: row for row in layer_costs(model)}
    assert list(rows) == ["embedding", "norm", "memory"]  # the state of a random generator is no parameter
    assert (rows["embedding"].parameters, rows["embedding"].macs) == (36, 0)
    assert (rows["norm"].parameters, rows["norm"].macs) == (16, 0)
    assert (rows["memory"].parameters, rows["memory"].macs) == (4 * (2 + 3 + 1) * 3, None)


def test_a_size_that_is_not_known_has_no_count():
    (row,) = layer_costs(functional(L.Conv2D(5, 3, use_bias=False), shape=(None, None, 4)))
    assert row.macs is None and row.parameters == 9 * 4 * 5


def test_a_shared_layer_costs_at_each_call():
    i, d = keras.Input((4,)), L.Dense(4, name="d")
    assert [(row.layer, row.macs) for row in layer_costs(keras.Model(i, d(d(i))))] == [("d", 16), ("d", 16)]


def test_nested_models_are_entered():
    inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="d")], name="inner")
    outer = functional(keras.Sequential([keras.Input((4,)), inner], name="middle"), L.Dense(2, name="d"), shape=(4,))
    assert [(row.layer, row.macs) for row in layer_costs(outer)] == [("middle/inner/d", 12), ("d", 6)]


def test_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = L.Dense(3, name="hidden"), L.Dense(2, name="head")

        def call(self, x):
            return self.head(self.hidden(x))

    model = Own()
    model(np.zeros((1, 4), "float32"))
    assert [(row.layer, row.macs) for row in layer_costs(model)] == [("hidden", 12), ("head", 6)]


def test_a_wrapped_layer_costs_what_the_one_inside_costs():
    model = functional(L.Conv1D(5, 3, name="c"), L.ReLU(), L.Dense(2, name="d"), shape=(8, 4))
    assert layer_costs(kp.prune(model, 0.5)) == layer_costs(model)
    quantized = kp.quantize(model, "int8", calibration=np.zeros((2, 8, 4), "float32"))
    assert layer_costs(quantized) == layer_costs(model)


PUBLISHED = {
    # Howard et al. 2017, "MobileNets", arXiv 1704.04861, table 4: 569 million mult-adds, 4.2 million parameters.
    "MobileNet": (569e6, 4.2e6, 0),
    # Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381, table 4: 300 M multiply-adds, 3.4 M parameters. The table of
    # the authors' checkpoints has a digit more, 300 and 3.47 (github.com/tensorflow/models, research/slim/nets/
    # mobilenet/README.md): 3.4 is cut off, not rounded. It leaves the parameters of batch normalization out.
    "MobileNetV2": (300e6, 3.47e6, 0),
    # Hu et al. 2018, "Squeeze-and-Excitation Networks", arXiv 1709.01507, table 2: ResNet-50 3.86 GFLOPs, which are
    # multiply-adds. He et al. 2015, arXiv 1512.03385, table 1, cut that off: 3.8. Both have the stride in the first
    # 1x1 convolution of a block, as Keras has; with it in the 3x3 ("v1.5") it is 4.1. Parameters: Xie et al. 2017,
    # "Aggregated Residual Transformations", arXiv 1611.05431, table 1: 25.5 million.
    "ResNet50": (3.86e9, 25.5e6, 0),
    # Tan and Le 2019, "EfficientNet", arXiv 1905.11946, table 2: 0.39 B, 5.3 M parameters. Their program halves all
    # floating point operations of the graph, products of single values in it (efficientnet/utils.py,
    # num_params_flops), and counts every variable that is trained. The multiply-accumulates alone are 0.386 G in
    # torchvision's table of its weights (torchvision/models/efficientnet.py, _ops of EfficientNet_B0_Weights).
    "EfficientNetB0": (0.386e9, 5.3e6, 2),
}
"""Application of Keras -> (multiply-accumulates at 224 x 224, parameters) as published, and how many of the four values
that a batch normalization has for a channel are among them.
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    macs, parameters, of_four = PUBLISHED[name]
    rows = layer_costs(getattr(keras.applications, name)(weights=None))
    assert sum(row.macs for row in rows) == pytest.approx(macs, rel=0.01)
    counted = sum(row.parameters for row in rows if "Normalization" not in row.kind)
    counted += sum(row.parameters for row in rows if row.kind == "BatchNormalization") * of_four // 4
    assert counted == pytest.approx(parameters, rel=0.01)


@pytest.mark.slow
def test_published_counts_of_two_digits():
    """What the papers themselves have, rounded or cut off as they did."""
    total = {name: sum(row.macs for row in layer_costs(getattr(keras.applications, name)(weights=None)))
             for name in ("ResNet50", "EfficientNetB0")}  # fmt: skip
    assert int(total["ResNet50"] / 1e8) / 10 == 3.8
    assert round(total["EfficientNetB0"] / 1e9, 2) == 0.39
