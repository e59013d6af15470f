"""Sparse storage of one tensor: decode undoes encode, sizes are as counted, and LiteRT's DENSIFY agrees with numpy."""

import itertools
import math

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from kompakt.targets.litert import KERNELS
from kompakt.targets.sparse_format import Form, Level, Sparse, decode, encode, from_schema, smallest, to_schema

KINDS = {"float32": schema.TensorType.FLOAT32, "float16": schema.TensorType.FLOAT16, "int8": schema.TensorType.INT8}


@st.composite
def tensors(draw):
    """A tensor of 1 to 4 dimensions, with any share of zeros, some in blocks."""
    shape = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(-127, 128, shape) * (random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    for axis in range(len(shape)):
        if draw(st.booleans()):
            gone = random.random(shape[axis]) < 0.5
            values[(slice(None),) * axis + (gone,)] = 0
    return values.astype(draw(st.sampled_from(sorted(KINDS))))


@st.composite
def forms(draw, shape):
    rank = len(shape)
    return Form(
        order=tuple(draw(st.permutations(range(rank)))),
        sparse=tuple(draw(st.lists(st.booleans(), min_size=rank, max_size=rank))),
        blocks=tuple(draw(st.sampled_from([size for size in range(1, n + 1) if n % size == 0])) for n in shape),
    )


def stored_bytes(stored):
    """What is in the file: vectors padded to four bytes, with their table and length, a table a level, the values."""
    vectors = [v for level in stored.levels for v in (level.segments, level.indices) if v is not None]
    return stored.values.nbytes + sum(12 + math.ceil(v.nbytes / 4) * 4 for v in vectors) + 24 * len(stored.shape)


@given(st.data())
def test_decode_undoes_encode_in_every_form(data):
    values = data.draw(tensors())
    stored = encode(values, data.draw(forms(values.shape)))
    found = decode(stored)
    assert found.dtype == values.dtype and np.array_equal(found, values)
    assert len(stored.values) > 0  # a file has no constant without a value


@given(st.data())
def test_the_schema_keeps_it(data):
    values = data.draw(tensors())
    stored = encode(values, data.draw(forms(values.shape)))
    again = from_schema(to_schema(stored), values.shape, stored.values)
    assert (again.shape, again.order, again.block_map) == (stored.shape, stored.order, stored.block_map)
    assert np.array_equal(decode(again), values)


@settings(deadline=None)
@given(tensors())
def test_the_smallest_form_is_as_small_as_it_says_and_none_tried_by_hand_is_smaller(values):
    rank = values.ndim
    found = smallest(values)
    least = values.nbytes if found is None else found[1]
    assert least <= values.nbytes
    if found is not None:
        assert stored_bytes(encode(values, found[0])) == found[1]
    for order in itertools.permutations(range(rank)):
        last = Form(order=order, sparse=(False,) * (rank - 1) + (True,), blocks=(1,) * rank)
        assert stored_bytes(encode(values, last)) >= least


def blocks(shape, size, share=0.2):
    """A tensor whose nonzeros come in whole blocks of ``size``."""
    random = np.random.default_rng(0)
    kept = random.random([n // k for n, k in zip(shape, size, strict=True)]) < share
    return (np.kron(kept, np.ones(size)) * random.integers(1, 100, shape)).astype("int8")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (blocks((64, 250), (1, 1)), Form(order=(0, 1), sparse=(False, True), blocks=(1, 1))),
        (blocks((250, 8), (1, 1)), Form(order=(1, 0), sparse=(False, True), blocks=(1, 1))),
        (blocks((64, 100), (1, 100)), Form(order=(0, 1), sparse=(True, False), blocks=(1, 1))),
        (blocks((64, 192), (1, 16)), Form(order=(1, 0), sparse=(False, True), blocks=(1, 16))),
        (blocks((64, 192), (4, 8)), Form(order=(0, 1), sparse=(False, True), blocks=(4, 8))),
        (
            blocks((16, 3, 3, 16), (1, 3, 3, 1)),
            Form(order=(0, 3, 1, 2), sparse=(False, True, False, False), blocks=(1,) * 4),
        ),
    ],
    ids=["scattered", "long first dimension", "rows", "1x16", "4x8", "whole 3x3 slices"],
)
def test_zeros_that_come_in_a_pattern_are_stored_by_it(values, form):
    found = smallest(values)
    assert found is not None and found[0] == form


def test_indices_are_as_narrow_as_they_fit():
    values = np.zeros((2, 70_000), "int8")
    values[0, :300] = 1
    stored = encode(values, Form(order=(0, 1), sparse=(False, True), blocks=(1, 1)))
    assert (stored.levels[1].segments.dtype, stored.levels[1].indices.dtype) == ("uint16", "int32")
    stored = encode(values[:, :200].copy(), Form(order=(0, 1), sparse=(False, True), blocks=(1, 1)))
    assert (stored.levels[1].segments.dtype, stored.levels[1].indices.dtype) == ("uint8", "uint8")


def test_minus_zero_is_a_zero():
    stored = encode(np.array([[-0.0, 2.0]], "float32"), Form(order=(0, 1), sparse=(False, True), blocks=(1, 1)))
    assert stored.values.tolist() == [2.0] and not np.signbit(decode(stored)).any()


@pytest.mark.parametrize(
    ("segments", "indices", "text"),
    [
        ([0, 1], [0], "1 sparse indices do not fill the segments of 2 parents"),
        ([0, 2, 1], [0], "1 sparse indices do not fill the segments of 2 parents"),
        ([0, 1, 1], [3], "sparse index 3 in a dimension of 3"),
    ],
)
def test_levels_that_contradict_each_other(segments, indices, text):
    levels = (Level(size=2), Level(segments=np.array(segments, "uint8"), indices=np.array(indices, "uint8")))
    with pytest.raises(ValueError, match=text):
        decode(Sparse(shape=(2, 3), order=(0, 1), block_map=(), levels=levels, values=np.ones(1)))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_litert_unpacks_what_numpy_packs(data):
    values = data.draw(tensors())
    stored = encode(values, data.draw(forms(values.shape)))
    for kernels in ("plain", "reference"):
        found = densified(stored, kernels)
        assert found.dtype == values.dtype and np.array_equal(found, values)


def densified(stored, kernels):
    """What LiteRT makes of a file that holds one DENSIFY operator."""
    interpreter = Interpreter(model_content=file_of(stored), experimental_op_resolver_type=KERNELS[kernels])
    interpreter.allocate_tensors()
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def file_of(stored):
    model, graph, code, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DENSIFY
    code.version = 1
    constant, result, empty, buffer = schema.TensorT(), schema.TensorT(), schema.BufferT(), schema.BufferT()
    for tensor, name in ((constant, b"sparse"), (result, b"dense")):
        tensor.name, tensor.shape = name, np.asarray(stored.shape, "int32")
        tensor.type = KINDS[stored.values.dtype.name]
    constant.sparsity, constant.buffer, result.buffer = to_schema(stored), 1, 0
    buffer.data = np.frombuffer(stored.values.tobytes(), "uint8")
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [constant, result], [op], [], [1]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [empty, buffer]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
