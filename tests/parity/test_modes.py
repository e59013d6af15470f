"""Law 7 for the integer modes beside int8, and for layers of several precisions in one file."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

import kompakt as kp
from kompakt.deploy import make_job
from kompakt.simulation import simulate
from kompakt.targets.tflite_file import TFLiteFile

from .test_kinds import IMAGE, build, litert, relative_error, samples

KINDS = (
    "digits_cnn", "autoencoder", "two_inputs_and_outputs_in_dicts", "shared_layer", "conv1d", "separable",
    "softmax_inside", "leaky_relu", "concatenate", "average_pool", "max_pool",
)  # fmt: skip
STORED = {"w4a8": "INT4", "int16x8": "INT8"}


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(("mode", "error"), [("w4a8", 0.6), ("int16x8", 0.1)])
@pytest.mark.parametrize("kind", KINDS)
def test_integer_modes(kind, mode, error, tmp_path):
    model, x = build(kind)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization=mode, calibration=x)

    assert artifact.breaches == () and artifact.quantization == mode
    assert artifact.agreement.argmax >= 0.99 and artifact.agreement.max_lsb <= (
        8.01 if mode == "int16x8" and kind == "softmax_inside" else 2.01
    )
    assert artifact.census.float_ops == () and artifact.census.float_tensors == ()
    assert STORED[mode] in {fact.dtype for fact in artifact.sites}
    found = litert(tmp_path / "m.tflite", x)
    for wanted, got in zip(simulate(make_job(model, mode, x).reference, x), found, strict=True):
        assert (wanted.argmax(-1) == got.argmax(-1)).mean() >= 0.99
    assert relative_error(model, x, found) < error


@pytest.mark.slow
def test_16_bits_are_nearer_to_the_float_model_than_8(tmp_path):
    model, x = build("digits_cnn")
    errors = {}
    for mode in ("w4a8", "int8", "int16x8"):
        kp.export(model, tmp_path / f"{mode}.tflite", quantization=mode, calibration=x)
        errors[mode] = relative_error(model, x, litert(tmp_path / f"{mode}.tflite", x))
    assert errors["int16x8"] < errors["int8"] < errors["w4a8"]


@pytest.mark.slow
def test_4_bit_weights_take_half_the_bytes(tmp_path):
    model = keras.Sequential([keras.Input((64,)), L.Dense(256, name="a"), L.Dense(5, name="b")])
    x = samples(model)
    sizes = {
        q: kp.export(model, tmp_path / f"{q}.tflite", quantization=q, calibration=x).bytes for q in ("int8", "w4a8")
    }
    weights = 64 * 256 + 256 * 5
    assert 0.98 * weights / 2 < sizes["int8"] - sizes["w4a8"] < 1.02 * weights / 2


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_w4a8_io(io, tmp_path):
    """The output was int8 whatever was asked for."""
    model, x = build("digits_cnn")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="w4a8", calibration=x, io=io)
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert detail["dtype"] is np.dtype(io).type
    assert artifact.breaches == () and artifact.io == io


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(("io", "kind"), [("int16", "int16"), ("float32", "float32")])
def test_int16x8_io(io, kind, tmp_path):
    model, x = build("digits_cnn")
    kp.export(model, tmp_path / "m.tflite", quantization="int16x8", calibration=x, io=io)
    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    for detail in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert detail["dtype"] is np.dtype(kind).type


def block():
    i = keras.Input(IMAGE, name="img")
    x = L.ReLU(name="r1")(L.BatchNormalization(name="b1")(L.Conv2D(8, 3, padding="same", name="c1")(i)))
    y = L.DepthwiseConv2D(3, padding="same", name="dw", activation="relu")(x)
    x = L.MaxPooling2D(name="mp")(L.Add(name="add")([x, y]))
    x = L.Concatenate(name="cat")(
        [L.Conv2D(4, 1, name="c2")(x), L.Conv2D(4, 3, padding="same", name="c3", activation="relu")(x)]
    )
    x = L.Dense(16, activation="relu", name="d1")(L.GlobalAveragePooling2D(name="gap")(x))
    return keras.Model(i, L.Dense(5, activation="softmax", name="d2")(x))


RULES = (
    {"c1": "float"},
    {"d2": "float"},
    {"d1": "int16x8", "d2": "int16x8"},
    {"c3": 4, "d1/kernel": 3, "dw": 5},
    {"c1": "int16x8", "dw": "float"},
    {"*": "int16x8", "c2": "int8"},
    {"add": "float"},
    {"d2_softmax": "float"},
    {"c*": "w4a8", "gap": "float", "d1": 7},
)


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_mixed(rules, tmp_path):
    """Each layer as its rule says, and the file is what was simulated."""
    keras.utils.set_random_seed(0)
    model = block()
    x = samples(model)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", rules=rules, calibration=x)

    assert artifact.breaches == () and artifact.quantization == "mixed" and artifact.io == "float32"
    assert artifact.agreement.argmax >= 0.99
    floats = {name for name, value in rules.items() if value == "float"}
    named = {op.split("(")[1].split("/")[0].split(":")[0] for op in artifact.census.float_ops}
    allowed = floats | ({"r1"} if "c1" in floats else set()) | ({"mp"} if "add" in floats else set())
    assert floats - {"c1", "d2"} <= named <= allowed | {"d2", "d2_softmax"}
    stored = {fact.site: fact.dtype for fact in artifact.sites}
    file = TFLiteFile((tmp_path / "m.tflite").read_bytes())
    for name, value in rules.items():
        if isinstance(value, int):
            site = name if "/" in name else f"{name}/kernel"
            most = 2 ** (value - 1) - 1
            held = next(t for t in file.tensors if t.name == site)
            assert np.abs(held.values).max() == most
            assert stored[site] == ("INT4" if value <= 4 else "INT8")


@pytest.mark.slow
def test_a_mixed_model_is_trained_saved_and_exported_as_what_it_is(tmp_path):
    keras.utils.set_random_seed(0)
    model = block()
    x = samples(model)
    mixed = kp.quantize(model, "int8", rules={"c1": "int16x8", "d1": 4, "d2": "float"}, calibration=x)
    mixed.compile("adam", "sparse_categorical_crossentropy")
    mixed.fit(x, np.arange(len(x)) % 5, epochs=1, verbose=0)
    mixed.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    first = kp.export(mixed, tmp_path / "a.tflite", verify=x)
    second = kp.export(again, tmp_path / "b.tflite", verify=x)
    assert first.breaches == second.breaches == ()
    assert first.quantization == "mixed" and first.sha256 == second.sha256


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"quantization": "float16", "rules": {"c1": 4}},
         "rules= with quantization='float16': expected one of int8, w4a8, int16x8"),
        ({"quantization": "mixed"},
         "quantization='mixed': say which layers are what, rules={'head': 'float', 'block1_*': 4}"),
        ({"rules": ["c1"]}, "rules=['c1']: expected a mapping such as {'head*': 'float', 'conv1/kernel': 4}"),
        ({"rules": {"c1": "int7"}},
         "a rule says 'int7': expected float, int8, w4a8, int16x8, or 2 to 8 for the bits of its weights; "
         "did you mean 'int8'?"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be(given, text, tmp_path):
    model = block()
    with pytest.raises(kp.InputError) as caught:
        kp.export(model, tmp_path / "m.tflite", calibration=samples(model), **given)
    assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["dynamic_int8", "weight_only_int8"])
def test_a_table_beside_float_activations_stays_float_and_is_named(mode, tmp_path):
    keras.utils.set_random_seed(0)
    layers = [L.Embedding(300, 16, name="table"), L.GlobalAveragePooling1D(), L.Dense(64, name="d")]
    model = keras.Sequential([keras.Input((6,), dtype="int32"), *layers])
    x = np.random.default_rng(0).integers(0, 300, (64, 6)).astype("int32")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization=mode, verify=x)
    assert artifact.breaches == ()
    assert f"table/embeddings: stays float, a {mode} file has no look-up of integers; int8 has" in artifact.notes
    assert {fact.site: fact.dtype for fact in artifact.sites}["d/kernel"] == "INT8"
    assert kp.export(model, tmp_path / "i.tflite", quantization="int8", calibration=x).breaches == ()
