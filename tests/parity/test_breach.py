"""What a file must not be: each way of being wrong is made in a good file, and has to be found and named."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.culprit import first_apart
from kompakt.deploy import make_job
from kompakt.errors import VerificationError
from kompakt.examine import examine
from kompakt.targets import find_target
from kompakt.targets.target import Request
from kompakt.targets.tflite_file import TFLiteFile


def model():
    keras.utils.set_random_seed(1)
    made = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(6, 3, name="first", activation="relu"),
            L.Conv2D(6, 3, name="second", activation="relu"),
            L.Flatten(),
            L.Dense(5, name="logits"),
        ]
    )
    for name in ("first", "second", "logits"):
        bias = made.get_layer(name).bias
        bias.assign(np.linspace(0.2, 0.6, bias.shape[0]))
    return made


@pytest.fixture(scope="module")
def made():
    """(job, good file, inputs) of the model, pruned to half and clustered to 16 values."""
    x = np.random.default_rng(0).normal(size=(200, 8, 8, 3)).astype("float32")
    small = kp.cluster(kp.prune(model(), 0.5, sites="*kernel"), 16)
    job = make_job(small, "int8", x)
    place = find_target("tflite")
    request = Request(model=job.plain, encodings=job.encodings, quantization="int8", io="int8", samples=x[:8])
    return job, place.convert(request), x


def examined(made, spoil=None):
    job, good, x = made
    data = good.data
    if spoil is not None:
        file = TFLiteFile(data)
        spoil(file)
        data = file.pack()
    return examine(
        find_target("tflite"),
        dataclasses.replace(good, data=data),
        job,
        x,
        mode="int8",
        io="int8",
        path="m.tflite",
    )


def store(file, name, change):
    """Put ``change(values)`` in place of a constant."""
    tensor = file.named(name)
    values = np.ascontiguousarray(change(tensor.values.copy()), tensor.values.dtype)
    buffer = file.graph.tensors[tensor.index].buffer
    file.model.buffers[buffer].data = np.frombuffer(values.tobytes(), "uint8")


def scale(file, name, factor):
    grid = file.graph.tensors[file.named(name).index].quantization
    grid.scale = [float(s) * factor for s in grid.scale]


@pytest.mark.slow
def test_the_good_file_has_no_breach(made):
    found = examined(made)
    assert found.breaches == ()
    assert found.agreement.trained_argmax >= 0.99
    assert {fact.site: (fact.zeros >= fact.asked_zeros, fact.distinct <= 16) for fact in found.sites} == {
        f"{name}/kernel": (True, True) for name in ("first", "second", "logits")
    }


@pytest.mark.parametrize("layer", ["first", "second", "logits"])
@pytest.mark.parametrize("change", [np.zeros_like, lambda b: b // 4], ids=["dropped", "scaled"])
def test_a_spoiled_bias_is_found_and_its_layer_named(made, layer, change):
    found = examined(made, lambda file: store(file, f"{layer}/bias", change))

    assert f"the first tensor that is off is {layer}/output (layers: {layer}), by" in "; ".join(found.breaches)
    assert any("outputs differ from the simulation by up to" in line for line in found.breaches)


def test_a_spoiled_kernel_is_found_and_its_layer_named(made):
    found = examined(made, lambda file: store(file, "second/kernel", lambda k: k[..., ::-1]))

    assert "first tensor that is off is second/output (layers: second)" in "; ".join(found.breaches)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ("second/kernel", "second/kernel: the file's scale differs from the asked one by 10.00%"),
        ("first/output", "first/output: the file's scale differs from the asked one by 10.00%"),
        ("input", "input_grid/output: the file's scale differs from the asked one by 10.00%"),
    ],
)
def test_another_scale_is_found(made, tensor, text):
    assert text in examined(made, lambda file: scale(file, tensor, 1.1)).breaches


def test_another_zero_point_is_found(made):
    def spoil(file):
        file.graph.tensors[file.named("first/output").index].quantization.zeroPoint = [0]

    assert "first/output: asked for zero point (-128,), the file holds (0,)" in examined(made, spoil).breaches


def test_lost_zeros_and_clusters_are_found(made):
    def spoil(values):
        flat = values.reshape(-1)
        flat[flat == 0] = np.arange((flat == 0).sum()) % 100 + 1
        return values

    breaches = "; ".join(examined(made, lambda file: store(file, "second/kernel", spoil)).breaches)
    assert "second/kernel: 162 zeros had to be kept, the file holds 0" in breaches
    assert "second/kernel: at most 16 values a channel were asked for, the file holds" in breaches


def test_a_file_that_says_the_same_of_everything_agrees_with_nothing(made):
    """Saturated, every class is the largest: no reason to call each of them a tie."""
    found = examined(made, lambda file: store(file, "logits/bias", lambda b: np.full_like(b, 10**6)))

    assert found.agreement.trained_argmax < 0.5
    assert any(line.startswith("argmax agreement with the fake-quantized model 0.") for line in found.breaches)


def test_a_bias_in_the_wrong_place_is_the_business_of_the_argmax_too(made):
    found = examined(made, lambda file: store(file, "logits/bias", lambda b: np.roll(b, 1) * 8))

    assert any(line.startswith("argmax agreement with the simulation 0.") for line in found.breaches)
    assert any(line.startswith("argmax agreement with the fake-quantized model 0.") for line in found.breaches)


def test_a_layer_without_an_integer_form_is_refused_by_name(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
    keras.utils.set_random_seed(1)
    odd = L.Activation("log_softmax", name="odd")
    built = keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(6, 3), odd, L.Flatten(), L.Dense(5)])
    with pytest.raises(kp.VerificationError) as caught:
        kp.export(built, tmp_path / "m.tflite", quantization="int8", calibration=x)

    assert "float operator in an int8 file: LOG_SOFTMAX (odd/output)" in str(caught.value)
    assert "odd/output: asked for 8 bits, the file holds FLOAT32" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["int8", "dynamic_int8"])
def test_a_recurrent_layer_of_many_steps_is_refused_by_name(mode, tmp_path):
    built = keras.Sequential([keras.Input((65, 4)), L.LSTM(8, name="memory"), L.Dense(5)])
    with pytest.raises(kp.InputError, match=r"^memory: it has no integer form: its steps .* at most 64; or"):
        kp.export(built, tmp_path / "m.tflite", quantization=mode, calibration=np.zeros((8, 65, 4), "float32"))


def test_the_float_forms_of_a_recurrent_layer_work(tmp_path):
    built = keras.Sequential([keras.Input((6, 4)), L.LSTM(8, name="memory"), L.Dense(5)])
    x = np.random.default_rng(0).normal(size=(32, 6, 4)).astype("float32")
    assert kp.export(built, tmp_path / "m.tflite", quantization="float16", verify=x).breaches == ()


def branches():
    """Two branches, so that the layers after a spoiled one are not all off."""
    keras.utils.set_random_seed(1)
    i = keras.Input((8, 8, 3))
    a = L.Conv2D(4, 3, padding="same", activation="relu", name="a")(i)
    b, c = L.Conv2D(4, 3, padding="same", name="b")(a), L.Conv2D(4, 1, name="c")(a)
    return keras.Model(i, L.Dense(5, name="logits")(L.Flatten()(L.ReLU()(L.Add()([b, c])))))


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("mode", ["float", "float16", "dynamic_int8"])
@pytest.mark.parametrize("layer", ["a", "b", "c", "logits"])
def test_a_spoiled_kernel_is_found_in_the_other_modes_too(mode, layer):
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")
    job, place = make_job(branches(), mode, x), find_target("tflite")
    good = place.convert(Request(model=job.plain, encodings=job.encodings, quantization=mode))
    file = TFLiteFile(good.data)
    assert examine(place, good, job, x, mode=mode, io="float32", path="m").breaches == ()
    store(file, f"{layer}/kernel", lambda k: k * np.asarray(3, k.dtype) + np.asarray(1, k.dtype))
    spoiled = dataclasses.replace(good, data=file.pack())
    breaches = examine(place, spoiled, job, x, mode=mode, io="float32", path="m").breaches

    assert any(line.startswith(f"outputs differ from the {job.name} by ") for line in breaches)
    assert f"the first layer that is off is {layer}" in breaches


def test_what_is_made_of_constants_alone_is_no_activation():
    """XNNPACK takes float16 kernels as they are and never writes what DEQUANTIZE would make of them."""
    x = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32")
    job, place = make_job(branches(), "float16", x), find_target("tflite")
    made = place.convert(Request(model=job.plain, encodings=job.encodings, quantization="float16"))
    file = TFLiteFile(made.data)
    unpacked = {file.tensors[op.outputs[0]].name for op in file.ops if op.name == "DEQUANTIZE"}
    computed = place.activations(made.data)
    assert unpacked and unpacked.isdisjoint(computed)
    assert len(computed) == sum(op.name != "DEQUANTIZE" for op in file.ops)


def test_a_mask_is_named(tmp_path):
    i = keras.Input((8,), dtype="int32")
    words = L.Embedding(20, 6, mask_zero=True)(i)
    model = keras.Model(i, L.Dense(5)(L.GlobalAveragePooling1D(name="mean")(words)))
    ids = np.random.default_rng(0).integers(0, 20, (64, 8)).astype("int32")
    with pytest.raises(VerificationError, match=r"mean \(GlobalAveragePooling1D\) takes the mask of an Embedding"):
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=ids)


def test_an_operation_without_a_grid_is_named_where_every_tensor_is_near():
    keras.utils.set_random_seed(0)
    i = keras.Input((4, 6))
    total = keras.ops.sum(L.Dense(6, name="before")(i), axis=1)
    model = keras.Model(i, L.Dense(5, name="logits")(total))
    x = np.random.default_rng(0).normal(size=(64, 4, 6)).astype("float32")
    job, place = make_job(model, "int8", x), find_target("tflite")
    good = place.convert(Request(model=job.plain, encodings=job.encodings, quantization="int8", io="int8", samples=x))
    lines = first_apart(place, good.data, job, x, most=50.0)
    assert lines[0].startswith("every tensor of the ") and lines[0].endswith("is within 50 LSB")
    assert (
        lines[-1]
        == f"{total._keras_history.operation.name} (Sum): no layer stands for it, its range was measured at export"
    )


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_the_approximate_gelu_has_a_grid(mode, tmp_path):
    keras.utils.set_random_seed(0)
    i = keras.Input((8,))
    model = keras.Model(i, L.Dense(5)(keras.ops.gelu(L.Dense(12)(i))))
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    artifact = kp.export(model, tmp_path / "m.tflite", quantization=mode, calibration=x)
    assert artifact.breaches == () and artifact.census.float_ops == ()
    assert mode != "int8" or artifact.agreement.max_lsb == 0.0  # a table


def test_a_lambda_that_is_folded_into_its_neighbour_is_named(tmp_path):
    i = keras.Input((12,))
    model = keras.Model(i, L.Dense(3, name="d")(L.Lambda(lambda t: t * 2 + 1, name="twice")(i)))
    x = np.random.default_rng(0).random((64, 12)).astype("float32")
    with pytest.raises(kp.VerificationError, match=r"twice \(Lambda\): what it computes may be folded into the layers"):
        kp.export(model, tmp_path / "m.tflite", quantization="int8", calibration=x)
    by_ops = keras.Model(i, L.Dense(3, name="d")(i * 2 + 1))
    assert kp.export(by_ops, tmp_path / "m.tflite", quantization="int8", calibration=x).breaches == ()
