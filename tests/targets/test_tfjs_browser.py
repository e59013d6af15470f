"""TF.js models and TFLite files in a headless Chromium, without a network; the page that comes with a model."""

import base64
import hashlib
import json
import re
import struct

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError
from kompakt.folders import packed, unpacked
from kompakt.targets import find_target, tflite_runtime
from kompakt.targets.target import Request
from kompakt.targets.tfjs import TFJS
from kompakt.targets.web_browser import IN_BROWSER, chromium, run_in_browser, run_litert_js, take_screenshot
from kompakt.targets.web_packages import WEB, packages

RNG = np.random.default_rng(0)
X = RNG.random((20, 8, 8, 1), "float32")
TITLE = "<img src=x onerror='window.kompakt={same:true}'>"


def model():
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 1))
    x = L.Flatten()(L.Conv2D(6, 3, activation="relu", name="conv")(i))
    made = keras.Model(i, [L.Dense(10, activation="softmax", name="kind")(x), L.Dense(1, name="age")(x)])
    for weight in made.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape) * 0.4)
    return made


@pytest.fixture(scope="module")
def data():
    """An artifact; skips where there is no Node or no browser."""
    try:
        find_target("tfjs").ready()
    except InputError as error:
        pytest.skip(str(error))
    made = model()
    data = TFJS().convert(Request(model=made, quantization="uint8", batch=None, samples=X)).data
    try:
        run_in_browser(data, X[:1], count=1)
    except InputError as error:
        pytest.skip(f"no Chromium: {error}; put one on PATH or name it in KOMPAKT_CHROMIUM")
    return data


def test_what_the_page_loads_is_what_is_installed_by_its_digest():
    try:
        root = packages("node") / "node_modules"
    except InputError as error:
        pytest.skip(str(error))
    text = (WEB / "page" / "page.mjs").read_text()
    bases = dict(re.findall(r"^const (NPM|WASM) = (?:NPM \+ )?'(.*)';", text, flags=re.MULTILINE))
    found = re.findall(r"\[(NPM|WASM) \+ '([^']+)'\]:\s+'(sha384-[^']+)'", text)
    assert len(found) == 4 and bases["NPM"] == "https://cdn.jsdelivr.net/npm/"
    for base, name, digest in found:
        path = name if base == "NPM" else bases["WASM"] + name
        package, version, file = re.fullmatch(r"(@[\w-]+/[\w-]+)@([\d.]+)/(.+)", path).groups()
        assert json.loads((root / package / "package.json").read_text())["version"] == version
        content = (root / package / file).read_bytes()
        assert "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode() == digest


def test_a_chromium_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setenv("KOMPAKT_CHROMIUM", "/no/such/chromium")
    with pytest.raises(InputError, match="KOMPAKT_CHROMIUM=/no/such/chromium: no program is there"):
        chromium()
    with pytest.raises(InputError, match="backend 'gpu': expected one of wasm, webgl, cpu"):
        run_in_browser(b"", X, "gpu")


@pytest.mark.slow
@pytest.mark.parametrize("backend", IN_BROWSER)
def test_a_browser_computes_what_node_does(data, backend):
    here = run_in_browser(data, X, backend, count=3)
    there = TFJS().run(data, X)
    assert len(here.times) == 3 and here.version == "4.22.0" and "Chrome" in here.browser
    for found, wanted in zip(here.values, there.values, strict=True):
        assert found.shape == wanted.shape
        if backend == "cpu":  # Node's pure JavaScript is the same
            assert np.array_equal(found, wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_browser_leaves_no_profile_behind(data, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run_in_browser(data, X, "cpu", count=1)
    assert [path.name for path in tmp_path.iterdir() if "puppeteer" in path.name] == []


@pytest.mark.slow
def test_the_page_says_whether_the_outputs_are_as_expected(data, tmp_path):
    found = take_screenshot(data, tmp_path / "page.png")
    assert found["same"] is True and found["backend"] == "wasm" and found["milliseconds"] > 0
    head = (tmp_path / "page.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", head[16:20])[0] == 1800
    files = unpacked(data)
    shard = bytearray(files["group1-shard1of1.bin"])
    shard[100:200] = bytes(100)
    assert take_screenshot(packed({**files, "group1-shard1of1.bin": bytes(shard)}), tmp_path / "p.png")["same"] is False


@pytest.mark.slow
def test_names_in_a_model_are_text_on_its_page(data, tmp_path):
    files = unpacked(data)
    vector = json.loads(files["test_vector.json"])
    vector["title"] = vector["outputs"][0]["name"] = TITLE
    vector["tolerance"] = -1.0
    found = take_screenshot(packed({**files, "test_vector.json": json.dumps(vector).encode()}), tmp_path / "page.png")
    assert found["same"] is False and "error" not in found  # had the title been markup, it had said True


@pytest.mark.slow
def test_a_model_that_does_not_run_is_one_clear_error(data):
    files = unpacked(data)
    broken = files["model.json"].replace(b'"_FusedMatMul"', b'"FusedNonsense"')
    with pytest.raises(InputError, match=r"the browser does not run the model: .*FusedNonsense"):
        run_in_browser(packed({**files, "model.json": broken}), X)


@pytest.mark.slow
def test_litert_js_is_litert_to_the_last_bit(data, tmp_path):
    """An int8 file with float inputs and outputs, as a page takes it."""
    path = tmp_path / "m.tflite"
    kp.export(model(), path, quantization="int8", io="float32", calibration=X)
    here = run_litert_js(path.read_bytes(), X)
    there = tflite_runtime.run(path.read_bytes(), X)
    assert all(np.array_equal(a, b) for a, b in zip(here.values, there.values, strict=True))
    kp.export(model(), path, quantization="int8", calibration=X)
    with pytest.raises(InputError, match="the browser does not run the model"):
        run_litert_js(path.read_bytes(), X)
