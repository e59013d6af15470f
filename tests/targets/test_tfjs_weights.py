"""Weights as TF.js stores them: grids, shards, and manifests that whoever wrote."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from kompakt.errors import InputError
from kompakt.targets.tfjs_model import MODEL, End, GraphModel, packed_model, shard_names, unpacked_model
from kompakt.targets.tfjs_weights import COMPRESSED, SHARD, Weight, affine_grid, compressed, joined, sharded

VALUES = arrays("float32", array_shapes(max_dims=2, max_side=20), elements=st.floats(-1e3, 1e3, width=32))


@given(VALUES, st.sampled_from(("uint8", "uint16")))
def test_a_weight_moves_by_half_a_step_at_most_and_zeros_stay(values, how):
    held = compressed("k", values, how)
    most = np.iinfo(COMPRESSED[how]).max
    step = (float(values.max()) - float(values.min())) / most
    assert np.abs(held.values.astype("float64") - values).max() <= 0.5 * step * (1 + 1e-6) + 1e-6 * np.abs(values).max()
    assert (held.values[values == 0] == 0).all()
    assert len(np.unique(held.values)) <= len(np.unique(values))


@given(VALUES)
def test_float16_is_the_nearest_half(values):
    held = compressed("k", values, "float16")
    assert np.array_equal(held.values, values.astype("float16").astype("float32"))


def test_the_order_of_values_is_kept():
    values = np.sort(np.random.default_rng(0).normal(size=999).astype("float32"))
    assert (np.diff(compressed("k", values, "uint8").values) >= 0).all()


def test_a_grid_off_zero_begins_at_its_least_value():
    assert affine_grid(np.array([2.0, 4.0]), 255) == (2.0 / 255, 2.0)
    assert affine_grid(np.array([-4.0, -2.0]), 255) == (2.0 / 255, -4.0)


def test_one_value_is_kept_exactly():
    assert (compressed("k", np.full(5, 0.3, "float32"), "uint8").values == np.float32(0.3)).all()


@pytest.mark.parametrize(
    ("value", "how", "text"),
    [
        (np.nan, "uint8", "k: NaN or infinite values cannot be compressed"),
        (np.inf, "float16", "k: NaN or infinite values cannot be compressed"),
        (7e4, "float16", "k: values up to 70000 do not fit into float16; take 'uint16'"),
    ],
)
def test_what_cannot_be_compressed_is_refused(value, how, text):
    with pytest.raises(InputError, match=text):
        compressed("k", np.array([0.0, value], "float32"), how)


def some(how=None):
    rng = np.random.default_rng(0)
    return [
        compressed("a/kernel", rng.normal(size=(7, 3)).astype("float32"), how),
        Weight(name="order", dtype="int32", stored=np.array([2, -1, 0], "<i4")),
        Weight(name="mask", dtype="bool", stored=np.array([1, 0], "u1")),
        compressed("nothing", np.zeros((0, 4), "float32"), None),
        compressed("one", np.array(0.5, "float32"), None),
    ]


@pytest.mark.parametrize("how", [None, *COMPRESSED])
@pytest.mark.parametrize("most", [1, 10, 64, SHARD])
def test_weights_come_back_from_shards_of_any_size(how, most):
    manifest, files = sharded(some(how), most=most)
    assert max(map(len, files.values())) <= most
    assert list(files)[-1] == f"group1-shard{len(files)}of{len(files)}.bin"
    found = joined(json.loads(json.dumps(manifest)), files)
    for was, now in zip(some(how), found, strict=True):
        assert (was.name, was.dtype, was.compression) == (now.name, now.dtype, now.compression)
        assert was.values.dtype == now.values.dtype and np.array_equal(was.values, now.values)


def test_shards_have_four_megabytes_at_most():
    weight = compressed("k", np.zeros((1300, 1000), "float32"), None)
    _, files = sharded([weight])
    assert [len(each) for each in files.values()] == [SHARD, 5_200_000 - SHARD]


def folder():
    ends = [End(name="x", tensor="x:0", dtype="float32", shape=(None, 7))]
    graph = {"node": [{"name": "x", "op": "Placeholder"}, {"name": "a/kernel", "op": "Const"}]}
    model = GraphModel(topology=graph, weights=some("uint8"), inputs=ends, outputs=ends)
    return packed_model(model, made_by="tests", most=16)


def test_a_model_is_read_as_it_was_written():
    model = unpacked_model(folder())
    assert model.inputs[0] == End(name="x", tensor="x:0", dtype="float32", shape=(None, 7))
    assert [node["op"] for node in model.nodes] == ["Placeholder", "Const"]
    assert json.loads(folder()[MODEL])["format"] == "graph-model"


def changed(**parts):
    """The folder's model.json with some of its parts replaced."""
    return {**folder(), MODEL: json.dumps({**json.loads(folder()[MODEL]), **parts}).encode()}


def manifest(**first):
    """A manifest whose first weight says something else."""
    group = json.loads(folder()[MODEL])["weightsManifest"][0]
    return [{**group, "weights": [{**group["weights"][0], **first}, *group["weights"][1:]]}]


def paths(*names):
    group = json.loads(folder()[MODEL])["weightsManifest"][0]
    return [{**group, "paths": list(names)}]


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        ({}, "does not name the files of weights"),
        ({"weightsManifest": 3}, "does not name the files of weights"),
        ({"weightsManifest": [{"paths": None}]}, "does not name the files of weights"),
        ({"weightsManifest": [{"paths": ["gone.bin"]}]}, "it names 'gone.bin', which is not there"),
    ],
)
def test_weights_that_are_not_named(manifest, text):
    """A KeyError came of the model of another program, where it was evaluated."""
    with pytest.raises(InputError, match=text):
        shard_names({MODEL: json.dumps(manifest).encode()})


BROKEN = {
    "no model": ({}, "no model.json in the folder"),
    "no json": ({MODEL: b"{"}, "it is no JSON"),
    "deep": ({MODEL: b'{"a":' * 100_000}, "it is no JSON"),
    "a list": ({MODEL: b"[]"}, "it is list, expected a mapping"),
    "layers": (changed(format="layers-model"), "has the format 'layers-model', expected 'graph-model'"),
    "no topology": (changed(modelTopology=None), "modelTopology has no list 'node'"),
    "a node": (changed(modelTopology={"node": [7]}), "a node of modelTopology is 7, expected a name and an op"),
    "an input": (changed(modelTopology={"node": [{"name": "a", "op": "b", "input": [1]}]}), "a node of modelTopology"),
    "functions": (changed(modelTopology={"node": [], "library": {"function": 3}}), "functions of modelTopology"),
    "no manifest": (changed(weightsManifest=None), "weightsManifest is NoneType, expected a list"),
    "a group": (changed(weightsManifest=[{}]), "a group of weightsManifest has no lists"),
    "out of the folder": (changed(weightsManifest=paths("../../etc/passwd")), "its weights are in '../../etc/passwd'"),
    "a path": (changed(weightsManifest=paths("/etc/passwd")), "which is no file of the folder"),
    "a number": (changed(weightsManifest=paths(3)), "its weights are in 3"),
    "twice": (changed(weightsManifest=paths(*["group1-shard1of3.bin"] * 2)), "names a file twice"),
    "too few bytes": (changed(weightsManifest=paths("group1-shard1of3.bin")), "has 16"),
    "too large": (changed(weightsManifest=manifest(shape=[10**6, 10**6])), "has the shape"),
    "negative": (changed(weightsManifest=manifest(shape=[-1, 3])), "has the shape"),
    "too few values": (changed(weightsManifest=manifest(shape=[3])), "its weights take"),
    "a type": (changed(weightsManifest=manifest(dtype="string")), "is 'string', expected one of float32"),
    "a grid": (changed(weightsManifest=manifest(quantization={"dtype": "uint8"})), "has scale and min"),
    "a width": (changed(weightsManifest=manifest(quantization={"dtype": "int4"})), "is compressed as"),
    "no signature": (changed(signature=None), "its signature has no inputs"),
    "an end": (changed(signature={"inputs": {"x": {"name": "x"}}}), "the signature says"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_one_clear_error(case):
    files, text = BROKEN[case]
    with pytest.raises(InputError) as caught:
        unpacked_model(files)
    assert text in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
