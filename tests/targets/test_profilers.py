"""What a profile wants, of every target: the same model, the same answers."""

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.cost import layer_costs
from kompakt.targets import TARGETS, find_target
from kompakt.targets.profiler import PROFILERS, find_profiler

RNG = np.random.default_rng(0)
X = RNG.random((16, 8, 8, 3), "float32")


def small():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, activation="relu", use_bias=False, name="conv")(x)
    x = L.Flatten(name="flat")(x)
    return keras.Model(inputs, L.Dense(5, name="head")(x), name="small")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(target)``: (the profiler, an artifact of the float model, read)."""
    folder, model, known = tmp_path_factory.mktemp("made"), small(), {}

    def of(target):
        place = find_target(target)
        try:
            place.ready()
        except kp.InputError as error:
            pytest.skip(str(error))
        if target not in known:
            path = folder / f"{target}{place.suffix}"
            kp.export(model, path, target=target, quantization="float", verify=X)
            known[target] = place.read(path)
        return find_profiler(target), known[target]

    return of


def test_every_target_has_a_profiler():
    assert set(PROFILERS) == set(TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_its_inputs(made, target):
    profiler, data = made(target)
    (end,) = profiler.ends(data)
    assert tuple(end.shape[1:]) == (8, 8, 3) and not end.integers and end.batch == 1


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_its_weights(made, target):
    profiler, data = made(target)
    found = {each.name: each for each in profiler.stored(data) if each.values.ndim > 1}
    kernels = {site.name: np.asarray(site.variable) for site in kp.sites(small()) if site.variable is not None}
    assert {each.layer for each in found.values()} == {"conv", "head"}
    assert set(found) == set(kernels)
    for name, each in found.items():
        assert each.values.size == kernels[name].size and each.bytes == 4 * each.values.size
        assert np.sort(each.values, None) == pytest.approx(np.sort(kernels[name], None))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_what_it_computes(made, target):
    profiler, data = made(target)
    work = profiler.work(data)
    if work is None:
        assert target in ("savedmodel", "tfjs")
        return
    wanted = {row.layer: row.macs for row in layer_costs(small())}
    assert {row.layer: row.macs for row in work if row.macs} == wanted
    assert {row.arithmetic for row in work} == {"float32"}
    assert all(row.traffic > 0 for row in work)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_its_runs_one_by_one(made, target):
    profiler, data = made(target)
    laps = profiler.laps(data, X, process="test")
    assert laps(3).shape == (3,) and (laps(3) > 0.0).all()
    profiler.end(threads=1, process="test")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_first_run(made, target):
    profiler, data = made(target)
    found = profiler.first_run(data, X)
    assert found.first > 0.0 and found.runtime > 0.0 and found.first + found.runtime <= found.total
    assert found.growth is None or 0 < found.growth < found.process


@pytest.mark.slow
def test_integers_in_onnx(tmp_path):
    find_target("onnx").ready()
    kp.export(small(), tmp_path / "m.onnx", target="onnx", quantization="int8", calibration=X)
    profiler, data = find_profiler("onnx"), find_target("onnx").read(tmp_path / "m.onnx")
    kinds = {each.name: (each.kind, each.bytes, each.layer) for each in profiler.stored(data) if each.values.ndim > 1}
    assert kinds == {"conv/kernel": ("UINT8", 216, "conv"), "head/kernel": ("UINT8", 1440, "head")}
    work = {row.layer: (row.macs, row.arithmetic) for row in profiler.work(data) if row.macs}
    assert work == {"conv": (36 * 8 * 27, "int8"), "head": (36 * 8 * 5, "int8")}


@pytest.mark.slow
def test_tables_of_tflite_micro_are_counted_as_they_ship(tmp_path):
    find_target("tflm").ready()
    model = kp.cluster(small(), 4)
    made = {}
    for compress in (False, True):
        path = tmp_path / str(compress)
        kp.export(model, path, target="tflm", quantization="int8", calibration=X, compress=compress)
        profiler, data = find_profiler("tflm"), find_target("tflm").read(path)
        made[compress] = {each.name: each for each in profiler.stored(data)}
        assert profiler.arena(data) > 0
    plain, tables = (made[each]["head/kernel"] for each in (False, True))
    assert np.array_equal(plain.values, tables.values)
    assert plain.values.size / 4 < tables.bytes < plain.bytes  # two bits a value, and the tables


@pytest.mark.slow
def test_no_other_files_are_cut(made):
    profiler, data = made("onnx")
    with pytest.raises(kp.InputError, match=r"^operators one by one: only TFLite files can be cut into them$"):
        profiler.operators(data, X, threads=1, rounds=2)
