"""``export`` and ``verify_file`` as a user meets them: what they write, refuse and say."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers as L

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.precision import INTEGER

X = np.random.default_rng(0).normal(size=(200, 6)).astype("float32")


def dense(name="m"):
    keras.utils.set_random_seed(1)
    parts = [keras.Input((6,)), L.Dense(8, activation="relu", name="hidden"), L.Dense(4, name="logits")]
    return keras.Sequential(parts, name=name)


@pytest.fixture
def model():
    return dense()


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# What cannot be used, and the words for it


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"quantization": "int9"},
            "quantization='int9': expected one of float, float16, dynamic_int8, weight_only_int8, int8, w4a8, int16x8, "
            "mixed; nearest: 'int8'",
        ),
        (
            {"quantization": "int8"},
            "quantization='int8' of a float model needs calibration=: some hundred samples of real input",
        ),
        ({"io": "int8"}, "io='int8': inputs and outputs of float files are float32"),
        (
            {"quantization": "int8", "io": "int16", "calibration": X},
            "io='int16': inputs and outputs of int8 files are int8 or uint8 or float32",
        ),
        ({"target": "coreml"}, "target 'coreml': expected one of tflite, tflm, tfjs, savedmodel, onnx"),
        ({"on_breach": "ignore"}, "on_breach='ignore': expected one of raise, warn"),
        (
            {"quantization": "int8", "batch": None, "calibration": X},
            "batch=None: an int8 file has a fixed batch size; give a number, 1 is usual",
        ),
        ({"batch": 0}, "batch=0: expected a whole number from 1, or None for one that can be resized"),
        (
            {"quantization": "int8", "calibration": X[:0]},
            "calibration= is empty: expected at least one sample",
        ),
        (
            {"quantization": "int8", "calibration": np.where(X > 2, np.nan, X)},
            f"calibration=: {int((X > 2).sum())} values are NaN or infinite; clean the data",
        ),
        (
            {"quantization": "int8", "calibration": X[:, :5]},
            "calibration=: received an array of shape (200, 5), the model takes (None, 6)",
        ),
        ({"verify": X[:0]}, "verify= is empty: expected at least one sample"),
        ({"verify": (X, X, X)}, "verify=: received 3 things, expected inputs, or a pair (inputs, labels)"),
        (
            {"quantization": "int8", "calibration": iter([])},
            "calibration data is empty: expected at least one sample, some hundreds are usual",
        ),
    ],
)
def test_what_cannot_be_used(model, given, text, tmp_path):
    with pytest.raises(kp.InputError) as caught:
        kp.export(model, tmp_path / "m.tflite", **given)
    assert str(caught.value) == text
    assert list(tmp_path.iterdir()) == []


def test_a_quantized_model_is_exported_as_what_it_is(model, tmp_path):
    quantized = kp.quantize(model, "int8", calibration=X)
    with pytest.raises(kp.InputError) as caught:
        kp.export(quantized, tmp_path / "m.tflite", quantization="float16")
    assert str(caught.value) == (
        "quantization='float16', but the model was quantized as 'int8': export it as that, or export the model "
        "it was made from"
    )
    assert kp.export(quantized, tmp_path / "m.tflite", verify=X).quantization == "int8"
    assert kp.export(kp.quantize(model, "dynamic_int8"), tmp_path / "d.tflite").quantization == "dynamic_int8"


def test_a_model_with_nothing_to_quantize(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.ReLU()], name="bare")
    with pytest.raises(kp.InputError) as caught:
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)
    assert str(caught.value) == (
        "the model 'bare' has no layer to quantize: expected at least one Dense, convolution, embedding or "
        "recurrent layer"
    )


def test_a_model_without_weights_yet(tmp_path):
    with pytest.raises(kp.InputError) as caught:
        kp.export(keras.Sequential([L.Dense(2)], name="raw"), tmp_path / "m.tflite")
    assert str(caught.value) == ("the model 'raw' has no weights yet: call it once on data, or give it an Input")


def test_what_is_not_a_model(tmp_path):
    with pytest.raises(
        kp.InputError, match=r"^received the path 'm\.keras', expected a keras\.Model: kompakt\.load_model"
    ):
        kp.export("m.keras", tmp_path / "m.tflite")


def test_a_folder_that_cannot_be_made(model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(kp.InputError) as caught:
        kp.export(model, tmp_path / "file" / "m.tflite")
    assert str(caught.value) == (
        f"cannot write to the folder {tmp_path / 'file'}: File exists; choose a folder you may write to"
    )


def test_a_path_that_is_a_folder(model, tmp_path):
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(kp.InputError, match=r"m\.tflite is a folder; name a \.tflite file$"):
        kp.export(model, tmp_path / "m.tflite")
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_a_layer_that_the_converter_refuses_is_said_with_its_reason(tmp_path):
    i = keras.Input((6,))
    model = keras.Model(i, keras.ops.erfinv(L.Dense(4)(i)), name="strange")
    with pytest.raises(kp.InputError, match=r"^TensorFlow's converter refuses the model 'strange': ") as caught:
        kp.export(model, tmp_path / "m.tflite")
    assert "Erfinv" in str(caught.value) and "TFLite operator" in str(caught.value)


def test_a_table_that_the_converter_refuses_is_named(tmp_path):
    i = keras.Input((3,), dtype="int64")
    ids = L.IntegerLookup(vocabulary=[3, 5, 7])(i)
    model = keras.Model(i, L.Dense(2)(L.Flatten()(L.Embedding(8, 3)(ids))))
    with pytest.raises(kp.InputError, match="HashTableV2"):
        kp.export(model, tmp_path / "m.tflite")


@pytest.mark.slow
def test_on_jax_it_says_what_to_do(model, tmp_path):
    model.save(tmp_path / "m.keras")
    ran = run_python(
        f"""
        import keras, kompakt as kp
        try:
            kp.export(keras.saving.load_model({str(tmp_path / "m.keras")!r}), {str(tmp_path / "m.tflite")!r})
        except kp.InputError as error:
            print(error)
        """,
        KERAS_BACKEND="jax",
    )
    assert ran.stdout.strip() == (
        "converting to TFLite needs Keras on TensorFlow, this is jax: save the model, then export it with "
        "KERAS_BACKEND=tensorflow"
    ), ran.stderr
    assert not (tmp_path / "m.tflite").exists()


# What is written


def test_the_model_is_left_alone_and_the_file_is_the_one_that_was_examined(model, tmp_path):
    before = [w.copy() for w in model.get_weights()]
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)

    data = (tmp_path / "m.tflite").read_bytes()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert artifact.bytes == len(data) and artifact.sha256 == hashlib.sha256(data).hexdigest()
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_the_report_says_what_was_asked_held_and_measured(model, tmp_path):
    artifact = kp.export(
        kp.prune(model, 0.5, sites="*kernel"), tmp_path / "m.tflite", quantization="int8", calibration=X
    )

    agree = artifact.agreement
    report = re.sub(r"[\d,]+ bytes, [\d,]+ gzipped", "N bytes, N gzipped", artifact.report)
    agreement = [
        line for line in report.splitlines() if line.startswith("  agreement  argmax 1.0000 with the simulation")
    ]
    assert len(agreement) == 1
    assert report.splitlines() == [
        f"{tmp_path / 'm.tflite'}: tflite, int8, int8 I/O",
        "  size       N bytes, N gzipped",
        "  operators  2 FULLY_CONNECTED",
        "  tensors    5 INT8",
        f"  weights    50.0% zeros, at most {artifact.distinct} distinct values a channel",
        "  asked      hidden/kernel: >= 24 zeros; held: 24 zeros, 5 values a channel",
        "  asked      logits/kernel: >= 16 zeros; held: 16 zeros, 6 values a channel",
        *agreement,
        "             argmax 1.0000 with the fake-quantized model",
        f"             argmax {agree.given_argmax:.4f} with the model given, largest difference "
        f"{agree.given_abs:.3g}, {agree.given_relative:.3g} of the spread",
    ]
    assert agree.trained_argmax == 1.0 and agree.given_argmax >= 0.95 and 0 < agree.given_relative < 0.2


def test_without_samples_it_is_compared_on_random_numbers_and_says_so(model, tmp_path):
    quantized = kp.quantize(model, "int8", calibration=X)
    artifact = kp.export(quantized, tmp_path / "m.tflite")

    assert artifact.agreement.samples == 64 and artifact.agreement.max_lsb <= 2.0
    assert artifact.notes == ("compared on random inputs: no samples of real input were given",)


def test_a_fixed_and_a_free_batch(model, tmp_path):
    kp.export(model, tmp_path / "four.tflite", batch=4, verify=X[:10])
    kp.export(model, tmp_path / "free.tflite", batch=None, verify=X[:10])
    kp.export(model, tmp_path / "int8.tflite", batch=4, quantization="int8", calibration=X)

    four, free, int8 = (Interpreter(model_path=str(tmp_path / f"{name}.tflite")) for name in ("four", "free", "int8"))
    assert [i.get_input_details()[0]["shape"].tolist() for i in (four, int8)] == [[4, 6], [4, 6]]
    free.resize_tensor_input(free.get_input_details()[0]["index"], [7, 6])
    free.allocate_tensors()
    free.set_tensor(free.get_input_details()[0]["index"], X[:7])
    free.invoke()
    found = free.get_tensor(free.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model.predict(X[:7], verbose=0), rtol=1e-5, atol=1e-6)


def test_a_breach_is_raised_and_leaves_the_old_file_or_warned_of_and_written(tmp_path):
    model = keras.Sequential([keras.Input((6,)), L.Dense(4), L.PReLU(name="odd")])
    path = tmp_path / "m.tflite"
    path.write_bytes(b"old")
    with pytest.raises(kp.VerificationError) as caught:
        kp.export(model, path, quantization="int8", calibration=X)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.tflite"]
    assert caught.value.breaches[0] == "float operator in an int8 file: PRELU (odd/output)"

    with pytest.warns(UserWarning, match="PRELU"):
        artifact = kp.export(model, path, quantization="int8", calibration=X, on_breach="warn")
    assert artifact.breaches == caught.value.breaches and "  BREACH     float operator" in artifact.report
    assert path.read_bytes()[4:8] == b"TFL3"


def test_a_model_that_computes_nan_is_a_breach(model, tmp_path):
    model.get_layer("logits").bias.assign([0.0, np.nan, 0.0, 0.0])
    with pytest.raises(kp.VerificationError, match="output 0: 200 values are NaN or infinite") as caught:
        kp.export(model, tmp_path / "m.tflite", verify=X)
    assert "the first layer whose output is NaN or infinite is logits" in caught.value.breaches
    assert "logits/bias: 1 of 4 values are NaN or infinite" in caught.value.breaches
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["int8", "dynamic_int8"])
@pytest.mark.parametrize("attached", [False, True])
def test_weights_of_nan_have_no_integer_file(model, mode, attached, tmp_path):
    given = kp.quantize(model, mode, calibration=X if mode in INTEGER else None) if attached else model
    layer = given.get_layer("logits")
    getattr(layer, "transformed_layer", layer).bias.assign([0.0, np.nan, 0.0, np.inf])
    with pytest.raises(kp.InputError) as caught:
        kp.export(given, tmp_path / "m.tflite", quantization=mode, calibration=X)
    assert str(caught.value) == (
        "logits/bias: 2 of 4 values are NaN or infinite: an integer file cannot hold that; go back to weights "
        "from before it"
    )


def test_a_range_that_is_infinite_is_named(tmp_path):
    parts = [L.Dense(4, name="d"), L.Activation("exponential", name="large"), L.Dense(2)]
    with pytest.raises(kp.InputError) as caught:
        kp.export(
            keras.Sequential([keras.Input((6,)), *parts]),
            tmp_path / "m.tflite",
            quantization="int8",
            calibration=X * 1000,
        )
    assert str(caught.value) == (
        "large/output: the range measured there is NaN or infinite; look for an overflow, or a division by zero, "
        "in the layers up to it"
    )


def interrupted(process):
    """What the process said at its end. Python loses an interrupt in a ``__del__``: a person presses Ctrl-C again."""
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=4)[1]
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("still running after 30 interrupts")


@pytest.mark.slow
def test_ctrl_c_leaves_the_folder_as_it_was(model, tmp_path):
    """Killed at different moments of the export: the old file is whole, and nothing lies beside it."""
    model.save(tmp_path / "m.keras")
    out = tmp_path / "out"
    out.mkdir()
    (out / "m.tflite").write_bytes(b"old")
    code = f"""
    import keras, numpy as np, kompakt as kp
    model = keras.saving.load_model({str(tmp_path / "m.keras")!r})
    x = np.ones((64, 6), "float32")
    print("ready", flush=True)
    while True:
        kp.export(model, {str(out / "m.tflite")!r}, quantization="int8", calibration=x)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(2.3)
        errors = interrupted(process)
    finally:
        process.kill()

    assert process.returncode != 0 and "KeyboardInterrupt" in errors
    assert [path.name for path in out.iterdir()] == ["m.tflite"]
    data = (out / "m.tflite").read_bytes()
    if data != b"old":
        Interpreter(model_content=data).allocate_tensors()


# Quantization-aware training, and combinations


def test_ranges_come_from_training_where_there_was_no_calibration(model, tmp_path):
    quantized = kp.quantize(model, "int8")
    with pytest.raises(kp.InputError) as caught:
        kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert str(caught.value) == (
        "an activation's range was never measured: pass calibration= to quantize, call kompakt.calibrate, or fit "
        "the model"
    )

    quantized.compile("adam", "mse")
    quantized.fit(X, np.zeros((200, 4)), epochs=1, verbose=0)
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert artifact.agreement.max_lsb <= 2.0 and artifact.agreement.trained_argmax >= 0.99


@pytest.mark.parametrize(
    ("prepare", "zeros", "values"),
    [
        (lambda m: kp.prune(m, 0.5, sites="*kernel"), True, False),
        (lambda m: kp.cluster(m, 16), False, True),
        (lambda m: kp.cluster(kp.prune(m, 0.5, sites="*kernel"), 16), True, True),
    ],
    ids=["pqat", "cqat", "pcqat"],
)
def test_zeros_and_clusters_are_in_the_file_after_training(prepare, zeros, values, tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), L.Dense(40, activation="relu"), L.Dense(30), L.ReLU(), L.Dense(4)])
    quantized = kp.quantize(prepare(model), "int8", calibration=X)
    quantized.compile(keras.optimizers.Adam(0.01), "mse")
    quantized.fit(X, X[:, :4], epochs=2, verbose=0, callbacks=[kp.callbacks.Update()])
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=X)

    interpreter = Interpreter(model_path=str(tmp_path / "m.tflite"))
    interpreter.allocate_tensors()
    stored = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    assert len(artifact.sites) == 3
    for fact in artifact.sites:
        kernel = interpreter.get_tensor(stored[fact.site])
        assert kernel.dtype == np.int8 and fact.dtype == "INT8"
        assert fact.zeros == (kernel == 0).sum() and fact.distinct == max(len(np.unique(row)) for row in kernel)
        if zeros:
            assert (kernel == 0).sum() >= kernel.size / 2 and fact.asked_zeros >= kernel.size / 2
        if values:
            assert fact.distinct <= 16 and fact.asked_palette <= 16


@pytest.mark.parametrize("limits", [(-0.82945025, 2.0159442), (-0.606211, 2.9743779), (-1.8098534, 0.8179845)])
def test_inputs_that_are_concatenated_have_its_scale_to_the_last_bit(limits, tmp_path):
    """Ranges on which the quantizer's own rounding ends one bit away, with which LiteRT refuses a concatenation."""
    b, a = keras.Input((2,), name="b"), keras.Input((4,), name="a")
    model = keras.Model([b, a], L.Dense(3)(L.Concatenate(name="both")([a, b])))
    quantized = kp.quantize(model, "int8", calibration=[X[:, 4:], X[:, :4]])
    dict(transforms_of(quantized))["both/io"].set_range(*map(np.float32, limits))
    for io in ("int8", "float32"):
        artifact = kp.export(quantized, tmp_path / "m.tflite", io=io, verify=[X[:, 4:], X[:, :4]])
        assert artifact.breaches == () and artifact.agreement.max_lsb <= 1.0


# verify_file


def test_a_good_file_is_verified(model, tmp_path):
    made = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)
    found = kp.verify_file(tmp_path / "m.tflite", model, X)

    assert found.breaches == () and found.quantization == "int8" and found.io == "int8"
    assert found.sha256 == made.sha256 and found.agreement.reference == "float model"
    assert found.agreement.argmax >= 0.95


def test_the_wrong_model_shows(model, tmp_path):
    kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)
    other = keras.models.clone_model(model)
    other.set_weights([np.roll(w, 1, axis=-1) for w in model.get_weights()])
    breaches = kp.verify_file(tmp_path / "m.tflite", other, X).breaches
    asked = re.compile(r"argmax agreement with the float model 0\.\d{4}, expected at least 0.95")
    assert any(asked.fullmatch(breach) for breach in breaches)
    assert any(breach.startswith("logits/kernel: weights") for breach in breaches)


def test_a_model_with_other_inputs(model, tmp_path):
    kp.export(model, tmp_path / "m.tflite")
    other = keras.Sequential([keras.Input((7,)), L.Dense(4)])
    with pytest.raises(kp.InputError, match=r"^.*m\.tflite: the file's input 'input' takes 6 a sample, received 7$"):
        kp.verify_file(tmp_path / "m.tflite", other, np.zeros((4, 7), "float32"))
    with pytest.raises(
        kp.InputError, match=r"^inputs: received an array of shape \(4, 7\), the model takes \(None, 6\)$"
    ):
        kp.verify_file(tmp_path / "m.tflite", model, np.zeros((4, 7), "float32"))


def test_a_file_that_computes_nan(model, tmp_path):
    model.get_layer("logits").bias.assign([0.0, np.nan, 0.0, 0.0])
    with pytest.warns(UserWarning, match="NaN"):
        kp.export(model, tmp_path / "m.tflite", verify=X, on_breach="warn")
    model.get_layer("logits").bias.assign(np.zeros(4))
    breaches = kp.verify_file(tmp_path / "m.tflite", model, X).breaches
    assert breaches[0] == "logits/bias: 1 values are NaN or infinite"
    assert "output 0: 200 values are NaN or infinite" in breaches


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda data: b"", r"^.*m\.tflite: not a TFLite file \(0 bytes\): expected the identifier TFL3 at byte 4$"),
        (
            lambda data: b"garbage" * 99,
            r"^.*m\.tflite: not a TFLite file \(693 bytes\): expected the identifier TFL3 at byte 4$",
        ),
        (lambda data: data[: len(data) // 2], r"^.*m\.tflite: broken TFLite file \(\d+ bytes\): .*; make it again$"),
        (lambda data: data[:40], r"^.*m\.tflite: broken TFLite file \(40 bytes\): .*; make it again$"),
    ],
    ids=["empty", "garbage", "half", "head"],
)
def test_a_broken_file(model, spoil, text, tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(model, path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(kp.InputError, match=text):
        kp.verify_file(path, model, X)


@pytest.mark.parametrize("mode", ["float", "float16", "dynamic_int8", "int8"])
def test_the_wrong_model_of_one_output_shows(mode, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(1)])
    kp.export(model, tmp_path / "m.tflite", quantization=mode, calibration=X)

    assert kp.verify_file(tmp_path / "m.tflite", model, X).breaches == ()
    breaches = kp.verify_file(tmp_path / "m.tflite", keras.models.clone_model(model), X).breaches
    asked = re.compile(r"outputs differ from the float model by \d+\.\d+ of their spread, expected at most [\d.]+")
    assert any(asked.fullmatch(breach) for breach in breaches)
    assert any("/kernel: weights" in breach for breach in breaches)


@pytest.mark.slow
def test_what_verify_refuses_export_refuses(model, tmp_path):
    """One outlier stretches the grids: the file is the fake-quantized model to the bit, and not the one given."""
    outlier = X.copy()
    outlier[0, 0] = 5000.0
    with pytest.raises(kp.VerificationError) as caught:
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=outlier, verify=X)
    (breach,) = caught.value.breaches
    wanted = r"argmax agreement with the %s 0\.\d{4} \(0\.\d{4} with ties\), expected at least 0\.95"
    assert re.fullmatch(wanted % "model given", breach)

    with pytest.warns(UserWarning, match="with the model given"):
        made = kp.export(
            model, tmp_path / "m.tflite", quantization="int8", calibration=outlier, verify=X, on_breach="warn"
        )
    agree = made.agreement
    assert agree.argmax == agree.trained_argmax == 1.0 and agree.given_argmax < 0.95 and agree.given_relative > 0.2
    found = kp.verify_file(tmp_path / "m.tflite", model, X)
    assert any(re.fullmatch(wanted % "float model", breach) for breach in found.breaches)
    assert any("input_grid" in breach for breach in found.breaches)  # the grid that the outlier stretched
    assert found.agreement.argmax == agree.given_argmax and found.agreement.max_abs == agree.given_abs


def test_a_regression_that_int8_loses_is_a_breach(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(1)])
    outlier = X.copy()
    outlier[0, 0] = 5000.0
    with pytest.raises(kp.VerificationError, match=r"differ from the model given by .* of their spread, expected at"):
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=outlier, verify=X)


def test_the_digest_is_of_the_model_that_was_given(model, tmp_path):
    weights = b"".join(np.ascontiguousarray(w).tobytes() for w in model.get_weights())
    made = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=X)

    assert made.source_sha256 == hashlib.sha256(weights).hexdigest()
    assert kp.verify_file(tmp_path / "m.tflite", model, X).source_sha256 == made.source_sha256


def test_a_missing_file(model, tmp_path):
    with pytest.raises(kp.InputError) as caught:
        kp.verify_file(tmp_path / "no.tflite", model, X)
    assert str(caught.value) == (
        f"cannot read {tmp_path / 'no.tflite'}: No such file or directory; give the path of an exported file or folder"
    )


def test_a_file_of_another_program_is_told_by_its_tensors(model, tmp_path):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in X)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    (tmp_path / "m.tflite").write_bytes(converter.convert())

    found = kp.verify_file(tmp_path / "m.tflite", model, X)
    assert found.quantization == "int8" and found.breaches == () and found.io == "as stored"


def test_a_file_with_another_output_than_the_model(tmp_path):
    path = tmp_path / "m.tflite"
    kp.export(keras.Sequential([keras.Input((6,)), L.Dense(3)]), path, verify=X)
    with pytest.raises(kp.InputError) as caught:
        kp.verify_file(path, keras.Sequential([keras.Input((6,)), L.Dense(5)]), X)
    assert str(caught.value) == (
        f"{path}: the file's output has the shape (3,) a sample, the model's (5,): give the model that the file was "
        "made from"
    )


def test_a_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"nothing")
    with pytest.raises(kp.InputError, match=f"^{path}: not a TFLite file"):
        kp.verify_file(path, keras.Sequential([keras.Input((6,)), L.Dense(3)]), X)


def test_labels_give_the_accuracy_of_the_file(model, tmp_path):
    labels = model.predict(X, verbose=0).argmax(-1)
    labels[:50] = (labels[:50] + 1) % model.output_shape[-1]
    for given in (labels, labels[:, None], np.eye(model.output_shape[-1])[labels]):
        artifact = kp.export(model, tmp_path / "m.tflite", verify=(X, given))
        assert artifact.notes == ("accuracy 0.7500 on the 200 labels given; 0.7500 of the model given",)


@pytest.mark.parametrize("labels", [np.zeros(199), np.array(["a"] * 200), 3], ids=["too few", "words", "a number"])
def test_what_is_no_labels(labels, model, tmp_path):
    with pytest.raises(kp.InputError, match=r"^verify=: the second of the pair has shape"):
        kp.export(model, tmp_path / "m.tflite", verify=(X, labels))


# Kinds of numbers


def half_precision(policy):
    keras.utils.set_random_seed(0)
    hidden = L.Dense(8, activation="relu", name="hidden", dtype=policy)
    return keras.Sequential([keras.Input((6,)), hidden, L.Dense(4, name="logits", dtype=policy)])


@pytest.mark.long(quick=3)
@pytest.mark.parametrize("mode", ["float", "float16", "dynamic_int8", "int8"])
@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_a_model_of_half_precision(policy, mode, tmp_path):
    artifact = kp.export(half_precision(policy), tmp_path / "m.tflite", quantization=mode, calibration=X)

    assert artifact.breaches == () and artifact.agreement.argmax >= 0.99
    assert 0 < artifact.agreement.given_relative < (0.2 if mode == "int8" else 0.02)
    assert kp.verify_file(tmp_path / "m.tflite", half_precision(policy), X).breaches == ()


def test_a_model_of_mixed_precision_after_training(tmp_path):
    quantized = kp.quantize(half_precision("mixed_float16"), "int8", calibration=X)
    quantized.compile("adam", "mse")
    quantized.fit(X, X[:, :4], epochs=1, verbose=0)
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert artifact.breaches == () and artifact.agreement.given_argmax >= 0.95


@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_pixels_of_whole_numbers(io, tmp_path):
    i = keras.Input((8, 8, 3), dtype="uint8")
    x = L.Conv2D(4, 3, activation="relu")(L.Rescaling(1 / 255)(i))
    model = keras.Model(i, L.Dense(4)(L.Flatten()(x)))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype("uint8")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=pixels, io=io)

    assert artifact.breaches == () and artifact.census.float_ops == ()
    assert artifact.agreement.given_argmax >= 0.95 and artifact.agreement.given_relative < 0.1
    (given,) = Interpreter(model_path=str(tmp_path / "m.tflite")).get_input_details()
    assert given["dtype"] is np.dtype(io).type and abs(given["quantization"][0] - 1.0) < 0.01
    dynamic = kp.export(model, tmp_path / "d.tflite", quantization="dynamic_int8", calibration=pixels)
    assert dynamic.breaches == () and dynamic.agreement.given_relative < 0.05


class Words(keras.Model):
    """A subclassed model over the numbers of words."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table, self.mean, self.last = L.Embedding(20, 8), L.GlobalAveragePooling1D(), L.Dense(4)

    def call(self, x):
        return self.last(self.mean(self.table(x)))


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_a_subclassed_model_over_words(io, tmp_path):
    ids = np.random.default_rng(0).integers(0, 20, (64, 6)).astype("int32")
    model = Words()
    model(ids)
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=ids, io=io)

    assert artifact.breaches == () and artifact.census.float_ops == () and artifact.agreement.given_relative < 0.1
    (given,) = Interpreter(model_path=str(tmp_path / "m.tflite")).get_input_details()
    assert given["dtype"] is np.int32


# Sizes left open


def test_a_length_left_open_is_that_of_the_samples(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 4), name="words"), L.GRU(5, name="memory"), L.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, 7, 4)).astype("float32")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    assert artifact.notes == (
        "words: (None, 4) left open: the file takes (7, 4), as the samples are",
        "memory: its 7 steps are unrolled, some ten operators each",
    )
    assert model.input_shape == (None, None, 4) and artifact.agreement.max_lsb == 0.0
    assert kp.verify_file(tmp_path / "m.tflite", model, x).breaches == ()


def test_a_quantized_model_of_open_sizes(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3), L.GlobalAveragePooling2D(), L.Dense(3)])
    x = np.random.default_rng(0).normal(size=(64, 9, 8, 3)).astype("float32")
    quantized = kp.quantize(model, "int8", calibration=x)
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=x)
    assert artifact.agreement.max_lsb == 0.0 and quantized.input_shape == (None, None, None, 3)


def test_open_sizes_without_samples(tmp_path):
    model = keras.Sequential([keras.Input((None, 4), name="words"), L.GRU(5), L.Dense(3)])
    with pytest.raises(kp.InputError, match=r"^words: \(None, 4\): a file has fixed sizes; give verify= or calib"):
        kp.export(model, tmp_path / "m.tflite")


def test_samples_of_a_size_that_the_model_cannot_do(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 5), L.GlobalAveragePooling2D(), L.Dense(3)])
    with pytest.raises(kp.InputError, match=r"cannot be called on samples of shape \(3, 3, 3\): "):
        kp.export(model, tmp_path / "m.tflite", verify=np.zeros((8, 3, 3, 3), "float32"))


# What a quantized copy hides


def test_ranges_set_wrong_are_told_by_the_weights_with_float_activations(model, tmp_path):
    """The file was compared with its own simulation alone: "argmax 0.998 with the model given", accuracy 0.19."""
    labels = model.predict(X, verbose=0).argmax(-1)
    quantized = kp.quantize(model, "int8", calibration=X)
    kp.set_ranges(quantized, {"hidden/output": (0.0, 0.01)})
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=(X, labels))
    agree = artifact.agreement
    assert agree.trained_argmax > 0.95 and agree.given_argmax < 0.9
    assert agree.given == "same weights and float activations" and f"with the {agree.given}" in artifact.report
    accuracy, few = artifact.notes
    assert re.fullmatch(r"accuracy 0\.\d{4} on the 200 labels given; 1\.0000 of the same weights and .*", accuracy)
    assert few.startswith(f"argmax {agree.given_argmax:.4f} with the same weights and float activations, ")
