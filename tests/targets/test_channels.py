"""Distinct values a channel: of every kind of layer, whichever axes its channels are on, in every format of floats."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError
from kompakt.records import Run, Trial
from kompakt.report.facts import files
from kompakt.sites import sites
from kompakt.targets import find_target
from kompakt.targets.graph_view import Node
from kompakt.targets.tensorflow_channels import channels

X = np.random.default_rng(0).random((20, 10, 10, 3), "float32")
PLAIN = ("conv/kernel", "depthwise/kernel", "up/kernel", "row/kernel", "head/kernel")
"""Weights whose operator reads them as they are; those of attention are reshaped first."""


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    i = keras.Input((10, 10, 3))
    x = L.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(L.Conv2D(8, 3, name="conv")(i))
    x = L.Reshape((-1, 4))(L.Conv2DTranspose(4, 3, name="up")(x))
    x = L.Conv1D(6, 3, name="row")(x)
    x = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    return keras.Model(i, L.Dense(5, name="head")(L.GlobalAveragePooling1D()(x)))


def counted(built: keras.Model) -> dict[str, int]:
    """Site -> the most distinct values in a channel, counted one by one: a channel is one place along the axes."""
    found = {}
    for site in sites(built):
        if site.variable is not None:
            values = np.asarray(site.variable)
            kept, held = [axis % values.ndim for axis in site.axis], {}
            for index, value in np.ndenumerate(values):
                held.setdefault(tuple(index[axis] for axis in kept), set()).add(float(value))
            found[site.name] = max(map(len, held.values()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("target", ["savedmodel", "tfjs", "onnx", "tflite"])
def test_record_report_and_inspection_count_in_one_channel(target, tmp_path):
    try:
        find_target(target).ready()
    except InputError as error:
        pytest.skip(str(error))
    built = model()
    expected = counted(built)
    assert expected["depthwise/kernel"] == 9 and expected["up/kernel"] == 144  # of 144 and 576 values
    made = kp.export(
        built, tmp_path / f"m{'.' + target if target in ('onnx', 'tflite') else ''}", target=target, verify=X
    )
    found = {fact.site: fact.distinct for fact in made.sites if fact.site in expected}
    assert found == expected
    (shown,) = files(Run(title="t", trials=(Trial(recipe="float", artifact=made),)))
    assert {row.site: row.distinct for row in shown.rows if row.site in expected} == expected
    held = {t.name: t.values for _, t in kp.inspect(made.path).constants() if t.name in PLAIN}
    assert {name: values.channel_distinct for name, values in held.items()} == {name: expected[name] for name in PLAIN}


def test_what_is_turned_over_or_named_by_letters_has_its_channels_elsewhere():
    def axes(op: str, **attr: object) -> tuple[int, ...]:
        node = {"name": "n", "op": op, "attr": attr}
        return channels([node], [Node(name=op, inputs=(0, 1), outputs=(2,))]).get(1, ())

    assert axes("MatMul") == (-1,) and axes("MatMul", transpose_b={"b": True}) == (-2,)
    assert axes("BatchMatMulV2", adj_y={"b": True}) == (-2,) and axes("Conv2DBackpropInput") == (-2,)
    assert axes("Einsum", equation={"s": "YWJjLGNkZS0+YWJkZQ=="}) == (-2, -1)  # abc,cde->abde
    assert axes("Add") == () and axes("Einsum") == () and axes("Einsum", equation={"s": "bm9uZQ=="}) == ()


def test_a_damaged_graph_that_goes_in_circles_ends():
    nodes = [Node(name="Identity", inputs=(1,), outputs=(1,)), Node(name="MatMul", inputs=(0, 1), outputs=(2,))]
    assert channels([{}, {}], nodes) == {1: (-1,)}
