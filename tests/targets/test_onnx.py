"""ONNX files in onnxruntime: floats at any batch, integers on the grids of the simulation, and what is refused."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from keras import layers

import kompakt as kp
from kompakt.errors import InputError
from kompakt.targets.onnx import NEEDED, ONNX
from kompakt.targets.profiler import find_profiler

ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"no {', '.join(ABSENT)}: pip install 'kompakt[onnx]'")


def convolutions() -> tuple[keras.Model, np.ndarray]:
    """Every size is 8, so that no shape tells how axes are moved."""
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 8), name="image")
    h = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(i)
    h = layers.ReLU(name="cut")(layers.BatchNormalization(name="norm")(h))
    h = layers.Add(name="sum")([h, layers.DepthwiseConv2D(3, padding="same", name="deep")(h)])
    h = layers.AveragePooling2D(2, name="average")(layers.Concatenate(name="both")([h, i]))
    h = layers.GlobalAveragePooling2D(name="mean")(layers.Conv2D(8, 1, activation="relu", name="point")(h))
    m = keras.Model(i, layers.Dense(5, activation="softmax", name="kind")(h), name="pictures")
    m.get_layer("norm").set_weights([np.random.default_rng(k).uniform(0.5, 2.0, 8) for k in range(4)])
    return m, np.random.default_rng(2).normal(size=(64, 8, 8, 8)).astype("float32")


def two() -> tuple[keras.Model, dict[str, np.ndarray]]:
    keras.utils.set_random_seed(1)
    i = {"right": keras.Input((3,), name="right"), "left": keras.Input((5,), name="left")}
    h = layers.Concatenate(name="join")([i["left"], i["right"]])
    outputs = {"kind": layers.Dense(4, name="a")(h), "value": layers.Dense(1, name="b")(h)}
    x = {
        "right": np.random.default_rng(2).random((40, 3), dtype="float32"),
        "left": np.random.default_rng(2).random((40, 5), dtype="float32"),
    }
    return keras.Model(i, outputs, name="two"), x


def memory() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(1)
    i = keras.Input((9, 3), name="motion")
    h = layers.LSTM(6, name="memory")(layers.Conv1D(4, 3, padding="causal", activation="relu", name="conv")(i))
    return keras.Model(i, layers.Dense(4, name="kind")(h), name="moves"), np.random.default_rng(2).normal(
        size=(40, 9, 3)
    ).astype("float32")


def attention() -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(1)
    i = keras.Input((6,), dtype="int32", name="words")
    h = layers.Embedding(20, 8, name="table")(i)
    h = layers.Add(name="sum")([h, layers.MultiHeadAttention(2, 4, name="attention")(h, h)])
    h = layers.GlobalAveragePooling1D(name="mean")(layers.LayerNormalization(name="norm")(h))
    return keras.Model(i, layers.Dense(2, name="kind")(h), name="text"), np.random.default_rng(2).integers(
        0, 20, (40, 6)
    ).astype("int32")


def bidirectional() -> tuple[keras.Model, np.ndarray]:
    i = keras.Input((5, 3), name="motion")
    h = layers.Bidirectional(layers.GRU(4, name="gate"), name="ways")(i)
    return keras.Model(i, layers.Dense(2, name="kind")(h), name="both"), np.random.default_rng(2).normal(
        size=(40, 5, 3)
    ).astype("float32")


MODELS = {"two": two, "convolutions": convolutions, "memory": memory, "attention": attention, "gates": bidirectional}


def export(model, tmp_path, x, **options):
    return kp.export(model, tmp_path / "m.onnx", target="onnx", verify=x, **options)


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", MODELS)
def test_floats_at_any_batch_by_the_models_own_names(name, tmp_path):
    model, x = MODELS[name]()
    made = export(model, tmp_path, x)
    assert made.breaches == () and made.agreement.max_abs < 1e-5
    run = session(made.path)
    names = sorted(x) if isinstance(x, dict) else [model.inputs[0].name]
    outputs = ["kind", "value"] if isinstance(x, dict) else ["kind"]
    assert [end.name for end in run.get_inputs()] == names
    assert [end.name for end in run.get_outputs()] == outputs
    assert {end.shape[0] for end in (*run.get_inputs(), *run.get_outputs())} == {"batch"}
    for size in (1, 5):
        few = keras.tree.map_structure(lambda a, size=size: a[:size], x)
        found = run.run(None, dict(zip(names, keras.tree.flatten(few), strict=True)))
        for a, b in zip(keras.tree.flatten(model(few, training=False)), found, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["convolutions", "memory", "attention"])
def test_weights_are_read_back_in_the_layout_of_keras(name, tmp_path):
    model, x = MODELS[name]()
    data = ONNX().read(export(model, tmp_path, x).path)
    held = ONNX().weights(data)
    sites = {s.name: s.variable.numpy() for s in kp.sites(model) if s.variable is not None and s.name != "conv/kernel"}
    assert set(held) >= set(sites) and all(np.array_equal(held[site], values) for site, values in sites.items())


def test_an_lstm_is_one_operator(tmp_path):
    model, x = memory()
    assert export(model, tmp_path, x).census.ops["LSTM"] == 1


def test_the_same_model_is_the_same_bytes(tmp_path):
    model, x = attention()  # names of tensors in einsums have addresses of memory in them
    assert export(model, tmp_path, x).sha256 == export(model, tmp_path, x).sha256


def test_int8_is_equal_to_the_simulation(tmp_path):
    model, x = convolutions()
    made = export(model, tmp_path, x, quantization="int8", calibration=x)
    assert made.agreement.exact == 1.0 and made.agreement.max_lsb == 0.0 and made.breaches == ()
    assert made.census.tensors["UINT8"] > 0 and {site.dtype for site in made.sites} == {"UINT8"}
    assert session(made.path).get_inputs()[0].shape[0] == "batch"
    assert kp.verify_file(made.path, model, x).breaches == ()


def test_each_grid_of_int8_is_where_the_simulation_has_it(tmp_path):
    model, x = convolutions()
    small = kp.quantize(model, "int8", calibration=x)
    encodings = kp.finalize(small)[1]
    data = ONNX().read(export(small, tmp_path, x).path)
    for site in ("cut/output", "both/io", "deep/kernel", "kind/kernel"):
        held = ONNX().grid(data, site)
        np.testing.assert_allclose(sorted(held.scale), sorted(encodings[site].scale), rtol=1e-6)
    values = ONNX().run(data, x[:2], at=["cut/output", "both/io"]).values
    assert [v.shape for v in values] == [(2, 8, 8, 8), (2, 8, 8, 16)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "memory", "attention"])
def test_int8_of_other_kinds_agrees(name, tmp_path):
    model, x = MODELS[name]()
    made = export(model, tmp_path, x, quantization="int8", calibration=x)
    assert made.breaches == () and made.agreement.argmax >= 0.99 and made.agreement.max_lsb <= 2.01


def test_pruned_and_clustered_weights_keep_their_zeros_and_values(tmp_path):
    model, x = convolutions()
    both = kp.cluster(kp.prune(model, 0.75, sites="point/kernel"), 4, sites="kind/kernel")
    made = export(both, tmp_path, x)
    fact = {site.site: site for site in made.sites}
    assert fact["point/kernel"].zeros >= fact["point/kernel"].asked_zeros == 96
    assert fact["kind/kernel"].distinct <= fact["kind/kernel"].asked_palette == 4


def test_a_quantized_model_is_exported_in_its_mode_and_others_as_floats(tmp_path):
    model, x = two()
    assert export(kp.quantize(model, "int8", calibration=x), tmp_path, x).quantization == "int8"
    assert export(kp.quantize(model, "w4a8", calibration=x), tmp_path, x).quantization == "float"


def test_what_was_changed_is_named(tmp_path):
    import onnx
    from onnx import numpy_helper

    model, x = two()
    path = export(model, tmp_path, x).path
    file = onnx.load(path)
    kernel = next(t for t in file.graph.initializer if t.name == "a/kernel")
    kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel) * 1.01, "a/kernel"))
    onnx.save(file, path)
    breaches = kp.verify_file(path, model, x).breaches
    assert breaches[0] == "a/kernel: changed since it was written"
    file.graph.node[0].op_type = "Identity"
    onnx.save(file, path)
    assert "graph: changed since it was written" in [str(fault) for fault in ONNX().altered(ONNX().read(path))]


def test_the_note_has_the_origin_and_is_whole(tmp_path):
    model, x = two()
    data = ONNX().read(export(model, tmp_path, x, provenance={"recipe": "by hand"}).path)
    note = json.loads(ONNX().note(data))
    assert note["recipe"] == "by hand" and note["quantization"] == "float" and note["inputs"] == ["left", "right"]
    assert ONNX().altered(data) == []


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x07\x12\xff"])
def test_a_broken_file_is_one_clear_error(content, tmp_path):
    model, x = two()
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"m.onnx: broken ONNX file: it is cut off or no ONNX"):
        kp.verify_file(tmp_path / "m.onnx", model, x)


def test_weights_in_other_files_are_not_read(tmp_path):
    import onnx

    model, x = two()
    path = export(model, tmp_path, x).path
    file = onnx.load(path)
    tensor = next(t for t in file.graph.initializer if t.name == "a/kernel")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    onnx.save(file, path)
    with pytest.raises(InputError, match="'a/kernel' in another file, which is not read"):
        kp.verify_file(path, model, x)


def test_what_has_no_operator_is_refused_by_name(tmp_path):
    i = keras.Input((8,), name="signal")
    model = keras.Model(i, layers.Dense(2, name="d")(layers.Lambda(betainc, name="odd")(i)), name="odd")
    with pytest.raises(InputError, match="Betainc"):
        export(model, tmp_path, np.random.default_rng(2).random((20, 8), dtype="float32"))
    assert list(tmp_path.iterdir()) == []


def betainc(x):
    import tensorflow as tf

    return tf.math.betainc(tf.ones_like(x), tf.ones_like(x), tf.sigmoid(x))


def test_a_model_of_other_inputs_is_told(tmp_path):
    model, x = two()
    path = export(model, tmp_path, x).path
    other, y = memory()
    with pytest.raises(InputError, match="takes 2 inputs, received 1"):
        kp.verify_file(path, other, y)


def test_it_is_timed(tmp_path):
    model, x = two()
    path = export(model, tmp_path, x).path
    assert 0.0 < find_profiler("onnx").laps(ONNX().read(path), x, threads=1)(20).sum() < 5.0
