"""Layers of the model, operators of the file and constants brought together."""

import numpy as np

from kompakt.cost import LayerCost
from kompakt.profiling.rows import BY_FILE, layer_rows
from kompakt.targets.profiler import Stored, Work


def constant(name, values, layer=None, **more):
    array = np.asarray(values, "int8")
    layer = name.rpartition("/")[0] if layer is None else layer
    return Stored(name=name, layer=layer, kind="INT8", values=array, bytes=array.nbytes, **more)


def cost(layer, macs, parameters=10, kind="Dense"):
    return LayerCost(layer=layer, kind=kind, parameters=parameters, macs=macs)


def by_name(rows):
    return {row.layer: row for row in rows.layers}


def test_constants_go_to_their_layer():
    rows = by_name(layer_rows([cost("a", 8), cost("ab", 9)], None, [constant("ab/kernel", [0, 1, 1, 5])]))
    assert (rows["a"].stored, rows["a"].bits) == (0, None)
    assert (rows["ab"].stored, rows["ab"].bytes, rows["ab"].zeros, rows["ab"].distinct) == (4, 4, 1, 3)
    assert rows["ab"].entropy == 1.5 and rows["ab"].bound == 1 and rows["ab"].bits == 8.0


def test_weights_inside_a_layer_and_the_longest_name():
    costs = [cost("block", 1), cost("block/mha", 2)]
    rows = by_name(layer_rows(costs, None, [constant("block/mha/query_dense/kernel", [1, 2])]))
    assert rows["block"].stored == 0 and rows["block/mha"].stored == 2


def test_a_bias_goes_where_its_reader_belongs():
    rows = by_name(layer_rows([cost("a", 8)], None, [constant("a/kernel", [1, 2]), constant("t7", [3], layer="a")]))
    assert rows["a"].stored == 3 and rows["a"].distinct == 2  # of the kernel, which is larger


def test_what_fits_nowhere_has_a_row_of_its_own():
    rows = by_name(layer_rows([cost("a", 8)], None, [constant("other/kernel", [1, 2])]))
    assert rows["other"].kind == BY_FILE and rows["other"].stored == 2 and rows["other"].parameters == 0


def test_a_layer_that_is_called_twice():
    rows = by_name(layer_rows([cost("a", 8), cost("a", 4), cost("b", None), cost("b", 1)], None, []))
    assert (rows["a"].macs, rows["a"].parameters) == (12, 10)
    assert rows["b"].macs is None


def test_without_a_model_operators_are_the_rows():
    work = [
        Work(name="RESHAPE", layer="a", output="a:1", macs=0),
        Work(name="CONV_2D", layer="a", output="a:2", macs=50),
        Work(name="ADD", layer="sum", output="sum", macs=0),
        Work(name="WHILE", layer="loop", output="loop", macs=None),
    ]
    rows = by_name(layer_rows(None, work, [constant("a/kernel", [1, 2, 3])]))
    assert list(rows) == ["a", "loop"]  # an addition has nothing to show
    assert (rows["a"].kind, rows["a"].macs, rows["a"].parameters) == ("CONV_2D", 50, 3)
    assert rows["loop"].macs is None


def test_the_table_of_symbols():
    made = [constant("a/kernel", [1, 1, 2]), Stored(name="a/b", layer="a", kind="F", values=np.ones(4, "f4"), bytes=16)]
    assert layer_rows(None, None, made).table_bytes == 2 * 1 + 1 * 4


def test_zero_is_the_symbol_that_stands_for_it():
    rows = by_name(layer_rows(None, None, [constant("a/kernel", [3, 3, 0], zero=3.0)]))
    assert rows["a"].zeros == 2
