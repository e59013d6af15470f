"""Calibration: its methods, the data it takes, and the ranges it leaves."""

import functools
import json
import logging

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers

import kompakt as kp
from kompakt.attach import transforms_of
from kompakt.errors import InputError
from kompakt.transforms import FakeQuant
from kompakt.transforms.ranges import METHODS, SEARCHES, Grid, Histogram, squared_error

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 6)).astype("float32")
FLOATS = arrays.arrays(
    "float32",
    st.integers(1, 60),
    elements=st.floats(-1e6, 1e6, width=32).map(lambda v: 0.0 if abs(v) < 1e-20 else v),
)
GRIDS = st.builds(lambda bits: Grid(bits=bits, centered=bits == 16), st.sampled_from([2, 4, 8, 16]))


def small(softmax=False):
    keras.utils.set_random_seed(0)
    last = [layers.Softmax(name="s")] if softmax else []
    return keras.Sequential(
        [keras.Input((6,), name="x"), layers.Dense(8, "relu", name="a"), layers.Dense(3, name="b"), *last]
    )


def seen(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@given(st.lists(FLOATS, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_histogram_that_grows_loses_no_value_and_puts_each_within_a_bin(parts):
    found, together = seen(*parts), np.concatenate(parts)
    assert found.counts.sum() + found.zeros == together.size
    assert (found.least, found.most) == (together.min(), together.max())
    centres, counts = found.present
    there = np.sort(together[together != 0].astype("float64"))
    assert np.allclose(np.repeat(centres, counts.astype(int)), there, rtol=1e-6, atol=found.width)


@given(st.lists(FLOATS, min_size=1, max_size=3), GRIDS, st.sampled_from(sorted(SEARCHES)))
@settings(max_examples=60, deadline=None)
def test_a_search_stays_inside_what_was_seen_and_least_squares_is_no_worse_than_the_whole(parts, grid, method):
    found = seen(*parts)
    low, high = SEARCHES[method](found, grid)
    assert low <= high
    reach = max(-found.least, found.most)
    limits = (-reach, reach) if grid.centered else (found.least, found.most)
    assert limits[0] <= low and high <= limits[1]
    if grid.centered:
        assert low == -high
    if method == "mse":
        least = squared_error(found, grid, low, high)
        assert least <= squared_error(found, grid, found.least, found.most)


@pytest.mark.parametrize("method", sorted(SEARCHES))
def test_a_search_clips_one_outlier_that_costs_a_coarse_grid(method):
    found = seen(RANDOM.normal(size=100_000), [20.0])
    low, high = SEARCHES[method](found, Grid(bits=4))
    assert high < 10.0 and low < -1.5


def test_squared_error_is_that_of_the_grid_that_the_layer_uses():
    values = RANDOM.normal(size=4096).astype("float32")
    quant = FakeQuant(4, symmetric=False)
    quant.build(())
    quant.set_range(-1.0, 2.0)
    exact = ((keras.ops.convert_to_numpy(quant(values)) - values) ** 2).sum()
    assert squared_error(seen(values), Grid(bits=4), -1.0, 2.0) == pytest.approx(exact, rel=1e-2)


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_each_method_gives_a_file_that_agrees_and_leaves_softmax_alone(method, mode, tmp_path):
    quantized = kp.quantize(small(softmax=True), mode, calibration=X, method=method, ranges="minmax")
    ranges = kp.get_ranges(quantized)
    assert ranges["s/output"] == pytest.approx((0.0, 1.0) if mode == "int8" else (-1.0, 1.0), abs=0.01)
    assert ranges["x_grid/output"][0] < -1.0 and ranges["x_grid/output"][1] > 1.0
    assert kp.export(quantized, tmp_path / "m.tflite", verify=X).breaches == ()


def input_scale(path):
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=str(path)).get_input_details()[0]["quantization"][0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*argmax agreement")
def test_export_calibrates_by_the_method_that_it_is_given(tmp_path):
    data, scale = X.copy(), {}
    data[0, 0] = 60.0
    for method in METHODS:
        path = tmp_path / f"{method}.tflite"
        kp.export(small(), path, calibration=data, quantization="int8", method=method, verify=X, on_breach="warn")
        scale[method] = input_scale(path)
    assert scale["minmax"] == pytest.approx((60.0 - X.min()) / 255, rel=1e-4)
    assert scale["moving_average"] < 0.5 * scale["minmax"] and scale["mse"] <= scale["minmax"]


def test_a_range_of_much_more_error_is_not_used_and_the_log_names_the_site(caplog, monkeypatch):
    monkeypatch.setitem(SEARCHES, "percentile", lambda seen, grid: (seen.least / 9, seen.most / 9))
    with caplog.at_level(logging.WARNING, "kompakt"):
        quantized = kp.quantize(small(), calibration=X, method="percentile")
    assert kp.get_ranges(quantized)["x_grid/output"] == pytest.approx((X.min(), X.max()))
    assert "x_grid/output: percentile clips" in caplog.text and "not used" in caplog.text


def test_an_unknown_method_is_one_line_with_the_nearest():
    text = r"method 'entropie': expected one of minmax, .*; nearest: 'entropy'"
    with pytest.raises(InputError, match=text):
        kp.quantize(small(), calibration=X, method="entropie")
    with pytest.raises(InputError, match=text):
        kp.export(small(), "m.tflite", quantization="int8", calibration=X, method="entropie")


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        rows = X[32 * i : 32 * i + 32]
        return rows, np.zeros(32), np.ones(32)


def tf_batches():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, np.zeros(96))).batch(32)


KINDS = {
    "array": lambda: X,
    "list of batches": lambda: [X[:32], X[32:64], X[64:]],
    "generator": lambda: (X[i : i + 32] for i in (0, 32, 64)),
    "generator of pairs": lambda: ((X[i : i + 32], 0) for i in (0, 32, 64)),
    "inputs and labels": lambda: (X, RANDOM.normal(size=X.shape)),
    "inputs alone": lambda: (X,),
    "list of pairs": lambda: [(X[i : i + 32], np.zeros(32)) for i in (0, 32, 64)],
    "dict of the input": lambda: [{"x": X[:64]}, {"x": X[64:]}],
    "PyDataset": Batches,
    "tf.data": tf_batches,
}


@pytest.mark.long(quick=6)
@pytest.mark.parametrize("method", ["minmax", "mse"])
@pytest.mark.parametrize("kind", KINDS)
def test_calibration_data_of_each_kind_gives_the_same_ranges(kind, method):
    wanted = kp.get_ranges(kp.quantize(small(), calibration=X, method=method))
    found = kp.get_ranges(kp.quantize(small(), calibration=KINDS[kind](), method=method))
    assert found.keys() == wanted.keys()
    for site, ends in wanted.items():
        assert found[site] == pytest.approx(ends, rel=0.02), site


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("kind", KINDS)
def test_export_compares_on_the_calibration_samples_whatever_they_come_as(kind, tmp_path):
    """Those of a generator were thrown away, and the file compared on random numbers."""
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="int8", calibration=KINDS[kind](), method="mse")
    assert artifact.breaches == () and artifact.notes == () and artifact.agreement.samples == 96
    wanted = kp.get_ranges(kp.quantize(small(), calibration=X, method="mse"))["x_grid/output"]
    assert input_scale(tmp_path / "m.tflite") == pytest.approx((wanted[1] - wanted[0]) / 255, rel=0.02)


@pytest.mark.slow
def test_of_a_long_generator_the_first_samples_are_compared_on_and_all_are_calibrated_on(tmp_path):
    read = []
    given = (read.append(i) or X[i : i + 32] * (10.0 if last else 1.0) for last in (0, 0, 0, 0, 1) for i in (0, 32, 64))
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="int8", calibration=given, method="minmax")
    assert artifact.agreement.samples == 256 and len(read) == 15
    assert input_scale(tmp_path / "m.tflite") == pytest.approx(10.0 * (X.max() - X.min()) / 255, rel=1e-4)


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("inputs alone", "generator of pairs")])
def test_verify_takes_batches_as_calibration_does(kind, tmp_path):
    artifact = kp.export(small(), tmp_path / "m.tflite", quantization="float16", verify=KINDS[kind]())
    assert artifact.breaches == () and artifact.agreement.samples == 96
    labelled = kind in ("inputs and labels", "list of pairs", "PyDataset", "tf.data")
    assert labelled or artifact.notes == ()


def test_the_labels_of_verify_batches_are_scored(tmp_path):
    labels = small().predict(X, verbose=0).argmax(-1)
    given = [(X[:64], labels[:64]), (X[64:], labels[64:])]
    artifact = kp.export(small(), tmp_path / "m.tflite", verify=given)
    assert artifact.notes == ("accuracy 1.0000 on the 96 labels given; 1.0000 of the model given",)


class NoLength(keras.utils.PyDataset):
    def __getitem__(self, i):
        raise IndexError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (lambda: NoLength(), "the PyDataset has no length; define __len__"),
        (lambda: {"foo": X}, "has the inputs 'foo', the model takes 'x': rename them, or give arrays"),
        (lambda: [{"foo": X}], "has the inputs 'foo', the model takes 'x': rename them, or give arrays"),
        (lambda: (X, np.zeros(4)), "a tuple of 2 things with 96, 4 rows, expected"),
        (lambda: (X, X, X, X), "a tuple of 4 things"),
    ],
)
@pytest.mark.parametrize("call", ["calibrate", "quantize", "export", "verify"])
def test_data_that_cannot_be_is_one_line(data, text, call, tmp_path):
    calls = {
        "calibrate": lambda: kp.calibrate(kp.quantize(small()), data()),
        "quantize": lambda: kp.quantize(small(), calibration=data()),
        "export": lambda: kp.export(small(), tmp_path / "m.tflite", quantization="int8", calibration=data()),
        "verify": lambda: kp.export(small(), tmp_path / "m.tflite", verify=data()),
    }
    if call == "verify" and isinstance(data(), tuple):
        text = "verify=: "
    with pytest.raises(InputError, match=text):
        calls[call]()


def test_data_that_never_ends_is_an_error():
    with pytest.raises(InputError, match=r"repeats without end; give dataset\.take"):
        kp.quantize(small(), calibration=tf_batches().repeat())


@pytest.mark.parametrize("kind", KINDS)
def test_progress_is_the_share_of_the_batches_where_it_is_known(kind):
    """It once ended at 0.25 for batches of 8, was 1.0 after the first of a list, and never came for a generator."""
    quantized, told = kp.quantize(small()), []
    kp.calibrate(quantized, KINDS[kind](), report=lambda what, share: told.append((what, share)))
    count = 2 if kind == "dict of the input" else 3
    shares = [None] * count if "generator" in kind else [pytest.approx((i + 1) / count) for i in range(count)]
    assert told == [("calibrating", share) for share in shares]


def test_progress_counts_small_batches_as_they_are():
    tf = pytest.importorskip("tensorflow")
    told = []
    data = tf.data.Dataset.from_tensor_slices(X).batch(8)
    kp.calibrate(kp.quantize(small()), data, report=lambda what, share: told.append(share))
    assert told == pytest.approx([(i + 1) / 12 for i in range(12)])


@pytest.mark.long(quick=2)
@pytest.mark.parametrize("ranges", ["minmax", "lsq"])
@pytest.mark.parametrize("method", METHODS)
def test_calibrate_measures_anew(method, ranges):
    """The wide range of other data once stayed ("minmax") or weighed as before ("moving_average")."""
    wanted = kp.get_ranges(kp.quantize(small(), calibration=X, method=method, ranges=ranges))
    again = kp.quantize(small(), calibration=10 * X, method=method, ranges=ranges)
    kp.set_ranges(again, {"b/output": (-70.0, 90.0)})
    for _, grid in transforms_of(again):
        if grid.learns and not grid.on_weights:
            grid.log_step.assign(1.0)
    kp.calibrate(again, X, method=method)
    for site, ends in kp.get_ranges(again).items():
        assert ends == pytest.approx(wanted[site], rel=1e-5), site


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_ranges_are_as_they_were_where_calibration_fails(method):
    quantized = kp.quantize(small(), calibration=X, ranges="minmax")
    before = [np.array(keras.ops.convert_to_numpy(w)) for w in quantized.weights]
    with pytest.raises(InputError, match="NaN or infinite"):
        kp.calibrate(quantized, [10 * X, X * np.nan], method=method)
    after = [np.array(keras.ops.convert_to_numpy(w)) for w in quantized.weights]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_layer_that_overflows_is_named():
    model = small()
    model.get_layer("a").bias.assign(np.full(8, 3e38, "float32"))
    model.get_layer("b").kernel.assign(np.full((8, 3), 1e30, "float32"))
    with pytest.raises(InputError, match=r"b/output: \d+ values there are NaN or infinite in calibration"):
        kp.quantize(model, calibration=X, method="mse")


def test_an_edited_range_is_what_the_file_has(tmp_path):
    quantized = kp.quantize(small(), calibration=X, ranges="minmax")
    kp.set_ranges(quantized, {"a/*": (0.0, 12.75), "b/output": (-6.0, 6.75)})
    artifact = kp.export(quantized, tmp_path / "m.tflite", verify=X)
    assert artifact.breaches == ()
    from ai_edge_litert.interpreter import Interpreter

    file = Interpreter(model_path=artifact.path)
    file.allocate_tensors()
    grids = [tuple(d["quantization"]) for d in file.get_tensor_details()]
    assert any(scale == pytest.approx(0.05) and zero == -128 for scale, zero in grids)
    assert file.get_output_details()[0]["quantization"] == (pytest.approx(0.05), -8)


def test_ranges_go_to_a_file_and_come_back(tmp_path):
    quantized = kp.quantize(small(softmax=True), calibration=X)
    path = kp.save_ranges(quantized, tmp_path / "r.json")
    assert "s/output" not in json.loads(path.read_text())["ranges"]
    other = kp.load_ranges(kp.quantize(small(softmax=True)), path)
    assert kp.get_ranges(other) == kp.get_ranges(quantized)
    assert all(float(t.seen) > 0 for _, t in transforms_of(other) if not t.on_weights)


@pytest.mark.parametrize(
    ("ranges", "text"),
    [
        ({"a/outputs": (0, 1)}, r"no site matches 'a/outputs'; nearest: 'a/output'"),
        ({"a/kernel": (0, 1)}, r"no site matches 'a/kernel'"),
        ({"a/output": (2, 1)}, r"range of 'a/output' is 2 to 1: expected the lower end first"),
        ({"a/output": (0, float("inf"))}, r"range of 'a/output' is 0 to inf: expected finite numbers"),
        ({"a/output": (0, float("nan"))}, r"expected finite numbers"),
        ({"a/output": 3}, r"range of 'a/output' is 3: expected two numbers, \(low, high\)"),
        ({"a/output": ("0", "1")}, r"expected two numbers"),
        ({"s/output": (0, 2)}, r"s/output: its range is 0 to 0.996094 in every file"),
    ],
)
def test_ranges_that_cannot_be_set_are_one_line_and_change_nothing(ranges, text):
    quantized = kp.quantize(small(softmax=True), calibration=X)
    before = kp.get_ranges(quantized)
    with pytest.raises(InputError, match=text) as error:
        kp.set_ranges(quantized, {"b/output": (-1.0, 1.0), **ranges})
    assert "\n" not in str(error.value)
    assert kp.get_ranges(quantized) == before


@pytest.mark.parametrize(
    ("content", "text"),
    [("{", "not JSON"), ("[]", "expected a JSON object"), ('{"format": "kompakt ranges 1"}', "expected a JSON object")],
)
def test_a_file_of_ranges_that_is_none_is_one_line(content, text, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(InputError, match=text):
        kp.load_ranges(kp.quantize(small()), tmp_path / "r.json")


def test_a_model_without_activation_ranges_is_one_line():
    for model in (small(), kp.quantize(small(), "dynamic_int8")):
        with pytest.raises(InputError, match="has no activation ranges"):
            kp.get_ranges(model)


@pytest.mark.slow
def test_quantize_and_export_tell_how_far_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("kompakt.repairs.adaround", functools.partial(kp.adaround, iterations=5))
    told = []

    def report(what, share):
        told.append((what, share))

    kp.quantize(small(), calibration=X, repairs=["adaround"], progress=report)
    assert list(dict.fromkeys(what for what, _ in told)) == ["adaround: a", "adaround: b", "calibrating"]
    assert told[-1] == ("calibrating", 1.0) and ("adaround: b", 0.8) in told
    assert [share for _, share in told] == sorted(share for _, share in told)
    told.clear()
    kp.export(small(), tmp_path / "m.tflite", quantization="int8", calibration=X, progress=report)
    assert told[-3:] == [
        ("calibrating", 0.5),
        ("converting to tflite", 0.5),
        ("running the file and comparing", 0.7),
    ]


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch, capsys):
    quantized = {}
    for terminal in ("1", "0"):
        monkeypatch.setenv("TTY_COMPATIBLE", terminal)
        monkeypatch.setenv("TTY_INTERACTIVE", terminal)
        kp.quantize(small(), calibration=(x for x in [X]), progress=True)
        quantized[terminal] = capsys.readouterr()
    assert "calibrating" in quantized["1"].err and quantized["0"].err == ""
    assert quantized["1"].out == quantized["0"].out == ""
