"""Model files: what is read, what is refused and with which words."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError
from kompakt.loading import load_model


@keras.saving.register_keras_serializable(package="kompakt_tests")
class Wide(keras.Model):
    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.head = L.Dense(units)

    def call(self, x):
        return self.head(x)

    def get_config(self):
        return {"name": self.name, "units": self.units}


class Unknown(L.Layer):
    def call(self, x):
        return x + 1.0


def dense():
    return keras.Sequential([keras.Input((4,)), L.Dense(3, activation="relu"), L.Dense(2)], name="small")


@pytest.fixture
def saved(tmp_path):
    model = dense()
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        load_model(path, **options)
    return str(caught.value)


def test_the_model_comes_back(saved):
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    model = load_model(str(saved))
    again = keras.saving.load_model(saved)
    assert model.name == "small"
    assert np.array_equal(model.predict(x, verbose=0), again.predict(x, verbose=0))


def test_a_subclassed_and_a_quantized_model_come_back(tmp_path):
    import kompakt as kp

    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    wide = Wide()
    wide(x)
    for name, model in {"wide": wide, "quantized": kp.quantize(dense(), "int8", calibration=x)}.items():
        model.save(tmp_path / f"{name}.keras")
        again = load_model(tmp_path / f"{name}.keras")
        assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_missing_file(tmp_path):
    assert refused(tmp_path / "no.keras") == (
        f"model file {tmp_path / 'no.keras'} does not exist; give the path of a .keras file"
    )
    assert refused(tmp_path) == f"model file {tmp_path} is a folder; give the path of a .keras file"


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.txt"])
@pytest.mark.parametrize("content", [b"", b"no model", b"\x89HDF\r\n\x1a\n"])
def test_what_is_not_a_keras_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert refused(path) == (
        f"{path}: not a .keras file (a zip with config.json and weights); save the model with model.save('name.keras')"
    )


def test_a_zip_that_is_something_else(tmp_path):
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello.txt", "hello")
    assert refused(path).startswith(f"{path}: cannot be loaded (")


def test_a_file_cut_short(saved):
    """The directory of a zip is at its end: what was cut is no longer a zip."""
    saved.write_bytes(saved.read_bytes()[:-30])
    assert refused(saved).startswith(f"{saved}: not a .keras file (a zip with config.json and weights)")


@pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
def test_a_damaged_part(saved, part):
    with zipfile.ZipFile(saved) as file:
        start = file.getinfo(part).header_offset + 30 + len(part)
        size = file.getinfo(part).compress_size
    data = bytearray(saved.read_bytes())
    data[start : start + size] = bytes(255 - b for b in data[start : start + size])
    saved.write_bytes(data)
    text = refused(saved)
    assert text.startswith(f"{saved}: cannot be loaded (") and text.endswith("); save it again with Keras 3")
    assert "\n" not in text and len(text) < len(str(saved)) + 300


@pytest.mark.parametrize("part", ["config.json", "model.weights.h5"])
def test_a_part_that_is_missing(saved, part, tmp_path):
    path = tmp_path / "less.keras"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            if name != part:
                new.writestr(name, old.read(name))
    assert refused(path).startswith(f"{path}: cannot be loaded (")


def shout(x):
    return x


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (lambda: Unknown(), "class 'Unknown'"),
        (lambda: L.Dense(3, activation=shout), "function 'shout'"),
    ],
)
def test_a_class_or_function_that_is_not_known(tmp_path, layer, words):
    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((4,)), layer()]).save(path)
    assert refused(path) == (
        f"{path}: made with the {words}, which is not known here; register it with "
        "keras.saving.register_keras_serializable and import its module before loading (on the command line: --import "
        "MODULE)"
    )


def test_a_layer_instead_of_a_model(tmp_path):
    path = tmp_path / "m.keras"
    layer = L.Dense(3)
    layer.build((None, 4))
    keras.saving.save_model(layer, path)
    assert refused(path) == f"{path}: holds an object of the class Dense, expected a keras.Model"


def test_code_in_the_file_runs_only_for_who_trusts_it(tmp_path):
    path = tmp_path / "m.keras"
    keras.Sequential([keras.Input((4,)), L.Lambda(lambda x: x * 2.0)]).save(path)
    assert refused(path) == (
        f"{path}: holds a Lambda layer, whose code would run here; where you trust the file, give --trust "
        "(in Python safe=False)"
    )
    x = np.ones((1, 4), "float32")
    assert np.array_equal(load_model(path, safe=False).predict(x, verbose=0), 2 * x)


def test_a_folder(tmp_path):
    with pytest.raises(InputError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == f"model file {tmp_path} is a folder; give the path of a .keras file"


@pytest.mark.slow
@pytest.mark.parametrize(
    "load",
    [
        "import keras, kompakt; model = keras.saving.load_model('m.keras')",
        "import kompakt; model = kompakt.load_model('m.keras', compiled=True)",
    ],
    ids=["keras", "kompakt"],
)
def test_an_attached_model_is_loaded_in_another_process(load, tmp_path):
    """Nothing has touched a technique there."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(8), keras.layers.Dense(2)])
    model = kp.quantize(kp.cluster(kp.prune(model, 0.5), 4))
    model.compile("adam", "mse")
    x = np.ones((8, 4), "float32")
    model.fit(x, np.ones((8, 2)), verbose=0)
    model.save(tmp_path / "m.keras")
    show = "print(int(model.optimizer.iterations), model.predict(numpy.ones((8, 4)), verbose=0).tolist())"
    code = f"{load}; import numpy; {show}"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    steps, values = ran.stdout.split(maxsplit=1)
    assert int(steps) == 1
    assert np.allclose(json.loads(values), model.predict(x, verbose=0), atol=1e-6)
