"""TF.js models, exported, run in Node on both backends, and verified; what is changed in them, or cannot be."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L

import kompakt as kp
from kompakt.errors import InputError, VerificationError
from kompakt.folders import packed, read_folder, unpacked
from kompakt.isolated import Limits
from kompakt.targets import find_target, target_at
from kompakt.targets.profiler import find_profiler
from kompakt.targets.target import Outputs, Request
from kompakt.targets.tfjs import TFJS
from kompakt.targets.tfjs_runtime import apart
from kompakt.targets.web_packages import WEB, cache_folder, packages
from kompakt.targets.web_process import node_process


@pytest.fixture(scope="module", autouse=True)
def _node():
    """These run in Node."""
    try:
        find_target("tfjs").ready()
    except InputError as error:
        pytest.skip(str(error))


RNG = np.random.default_rng(0)
IMAGES = RNG.random((40, 10, 10, 1), "float32")


def weighted(model):
    """``model`` with weights that are not those of a beginning."""
    for weight in model.trainable_weights:
        weight.assign(RNG.normal(size=weight.shape) * 0.4)
    return model


def image_model():
    keras.utils.set_random_seed(0)
    i = keras.Input((10, 10, 1), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(i)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    return weighted(keras.Model(i, L.Dense(10, activation="softmax", name="head")(L.Flatten()(x)), name="images"))


@pytest.mark.long(quick=2)
@pytest.mark.parametrize(("mode", "most"), [("float", 1e-6), ("uint8", 0.2), ("float16", 1e-2), ("uint16", 1e-3)])
def test_each_mode_is_as_near_to_the_model_as_its_weights(mode, most, tmp_path):
    model = image_model()
    made = kp.export(model, tmp_path / "m", target="tfjs", quantization=mode, verify=IMAGES)
    assert made.agreement.samples == 40 and made.agreement.argmax >= 0.99 and not made.breaches
    reference, given = made.agreement.max_abs, made.agreement.given_abs
    assert reference < 1e-5
    assert (reference if given is None else given) < most
    assert "BatchNorm" not in str(made.census.ops) and "Rsqrt" not in made.census.ops
    again = kp.verify_file(tmp_path / "m", model, IMAGES)
    assert again.breaches == () and again.quantization == mode and again.target == "tfjs"


def test_compressed_weights_are_what_tfjs_computes_with(tmp_path):
    """A look-up shows the numbers themselves: they are the ones that are read back, to the last bit."""
    i = keras.Input((1,), dtype="int32")
    model = weighted(keras.Model(i, L.Embedding(500, 16, name="table")(i)))
    rows = np.arange(500, dtype="int32")[:, None]
    for mode in TFJS.modes:
        made = TFJS().convert(Request(model=model, quantization=mode, batch=None, samples=rows))
        (values,) = TFJS().run(made.data, rows).values
        assert np.array_equal(values[:, 0], TFJS().weights(made.data)["table/embeddings"])


def test_names_and_structure_of_several_inputs_and_outputs(tmp_path):
    inputs = {name: keras.Input((n,), name=name) for name, n in (("second", 3), ("first", 2), ("x10", 4))}
    x = L.Concatenate()([L.Dense(5, name=f"of_{name}")(t) for name, t in inputs.items()])
    outputs = {name: L.Dense(n, name=f"to_{name}")(x) for name, n in (("kind", 4), ("age", 1))}
    model = weighted(keras.Model(inputs, outputs))
    given = {name: RNG.random((20, t.shape[1]), "float32") for name, t in inputs.items()}
    kp.export(model, tmp_path / "m", target="tfjs", verify=given)
    signature = json.loads((tmp_path / "m" / "model.json").read_text())["signature"]
    assert set(signature["inputs"]) == set(inputs) and set(signature["outputs"]) == set(outputs)
    assert signature["inputs"]["x10"]["tensorShape"]["dim"] == [{"size": "-1"}, {"size": "4"}]
    place = find_target("tfjs")
    backwards = dict(reversed(given.items()))
    for found, wanted in zip(
        place.run(place.read(tmp_path / "m"), backwards).values, keras.tree.flatten(model(given)), strict=True
    ):
        np.testing.assert_allclose(found, np.asarray(wanted), atol=1e-5)


def test_integer_and_bool_constants_and_integer_inputs(tmp_path):
    i, steps = keras.Input((4,), name="x"), keras.Input((4,), dtype="int64", name="steps")
    x = keras.ops.where(np.array([True, False, True, True]), i, -i)
    x = keras.ops.take(x, np.array([3, 1, 0, 2]), axis=1) + keras.ops.cast(steps + np.arange(4), "float32")
    model = keras.Model([i, steps], [L.Dense(3, name="d")(x), keras.ops.greater(x, 2.0)])
    given = [RNG.random((20, 4), "float32"), RNG.integers(0, 5, (20, 4))]
    made = kp.export(model, tmp_path / "m", target="tfjs", verify=given)
    assert made.census.tensors["BOOL"] >= 1 and made.census.tensors["INT32"] >= 1
    data = find_target("tfjs").read(tmp_path / "m")
    with pytest.raises(InputError, match="'steps' takes integers of 32 bits, received up to 1099511627776"):
        find_target("tfjs").run(data, [given[0], np.full((20, 4), 2**40)])
    with pytest.raises(InputError, match="'x' takes 4 a sample, received"):
        find_target("tfjs").run(data, [np.zeros((20, 5), "float32"), given[1]])


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("mode", ["uint8", "float"])
def test_a_loop_runs(mode, tmp_path):
    i = keras.Input((9, 3))
    x = L.Conv1D(6, 3, activation="relu", name="conv")(i)
    model = weighted(keras.Model(i, L.Dense(4, name="head")(L.LSTM(8, name="lstm")(x))))
    made = kp.export(model, tmp_path / "m", target="tfjs", quantization=mode, verify=RNG.random((30, 9, 3), "float32"))
    assert made.census.ops["LoopCond"] == 1 and made.agreement.max_abs < 1e-5
    assert {site.site for site in made.sites} >= {"lstm/cell/kernel", "lstm/cell/recurrent_kernel"}
    timed = find_profiler("tfjs").laps(find_target("tfjs").read(tmp_path / "m"), RNG.random((2, 9, 3), "float32"))
    assert 0 < timed(2).sum() < 60


def test_attention_runs_on_both_backends(tmp_path):
    i = keras.Input((6,), dtype="int32")
    x = L.Embedding(20, 8, name="table")(i)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 4, name="attention")(x, x))
    x = L.Dense(8, activation="gelu", name="up")(x)
    model = weighted(keras.Model(i, L.Dense(3, name="head")(L.GlobalAveragePooling1D()(x))))
    made = kp.export(model, tmp_path / "m", target="tfjs", verify=RNG.integers(0, 20, (30, 6)).astype("int32"))
    assert not {"Einsum", "Erfc"} & set(made.census.ops) and made.notes == ()
    assert json.loads((tmp_path / "m" / "kompakt.json").read_text())["backends"] == ["cpu", "wasm"]


def test_a_backend_without_a_kernel_is_told(tmp_path):
    i = keras.Input((3, 4))
    model = keras.Model(i, keras.ops.einsum("abc,abd->abcd", i, i))
    made = kp.export(model, tmp_path / "m", target="tfjs", verify=RNG.random((4, 3, 4), "float32"))
    assert any("not on wasm: Kernel 'Einsum' not registered for backend 'wasm'" in note for note in made.notes)
    assert kp.verify_file(tmp_path / "m", model, RNG.random((4, 3, 4), "float32")).breaches == ()


def test_a_fixed_batch(tmp_path):
    model = image_model()
    made = kp.export(model, tmp_path / "m", target="tfjs", batch=3, verify=IMAGES)  # 40 are no multiple of 3
    assert made.agreement.max_abs < 1e-5


def test_an_operator_that_tfjs_has_not_is_refused_and_nothing_written(tmp_path):
    i = keras.Input((4,))
    model = keras.Model(i, L.Activation(keras.ops.erfinv, name="inverse")(L.Dense(3, name="d")(i)))
    with pytest.raises(InputError, match=r"^TF\.js has no operator Erfinv of the layer 'inverse': replace the layer"):
        kp.export(model, tmp_path / "m", target="tfjs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_uint8_shards_are_a_quarter_and_several_where_they_are_large(tmp_path):
    i = keras.Input((1100,))
    model = weighted(keras.Model(i, L.Dense(3, name="b")(L.Dense(1000, activation="relu", name="a")(i))))
    x = RNG.random((8, 1100), "float32")
    sizes = {}
    for mode in ("float", "uint8"):
        kp.export(model, tmp_path / mode, target="tfjs", quantization=mode, verify=x)
        sizes[mode] = [path.stat().st_size for path in sorted((tmp_path / mode).glob("*.bin"))]
    assert sizes["float"] == [4 * 2**20, 1100 * 4000 + 3 * 4000 + 1003 * 4 - 4 * 2**20]
    assert sum(sizes["uint8"]) / sum(sizes["float"]) < 0.251


@pytest.mark.slow
def test_zeros_and_shared_values_of_a_pruned_and_clustered_model_stay(tmp_path):
    model = kp.cluster(kp.prune(image_model(), 0.6), 8)
    for mode in ("float", "uint8"):
        made = kp.export(model, tmp_path / mode, target="tfjs", quantization=mode, verify=IMAGES)
        facts = {fact.site: fact for fact in made.sites}
        assert facts["head/kernel"].asked_zeros > 0 and facts["head/kernel"].asked_palette == 8
        for fact in facts.values():
            assert fact.asked_zeros is None or fact.zeros >= fact.asked_zeros
            assert fact.asked_palette is None or fact.distinct <= fact.asked_palette
        assert made.breaches == ()
    assert facts["head/kernel"].dtype == "UINT8" and 0.55 < made.zeros < 0.75


@pytest.mark.slow
def test_a_quantized_model_keeps_its_grids(tmp_path):
    model = kp.quantize(image_model(), "int8", calibration=IMAGES)
    made = kp.export(model, tmp_path / "m", target="tfjs", verify=IMAGES)
    assert made.quantization == "uint8" and any("quantized as int8" in note for note in made.notes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfjs") / "m"
    model = image_model()
    kp.export(model, folder, target="tfjs", quantization="uint8", verify=IMAGES)
    return folder, model


def altered(folder, tmp_path, name, content):
    """A copy of a folder with one file changed."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path, data in {**read_folder(folder), name: content}.items():
        (copy / path).write_bytes(data)
    return copy


def test_a_tampered_shard_is_named(exported, tmp_path):
    folder, model = exported
    shard = (folder / "group1-shard1of1.bin").read_bytes()
    copy = altered(folder, tmp_path, "group1-shard1of1.bin", shard[:50] + bytes([shard[50] ^ 255]) + shard[51:])
    assert "group1-shard1of1.bin: changed since it was written" in kp.verify_file(copy, model, IMAGES).breaches


def test_another_models_file_does_not_agree(exported):
    folder, model = exported
    other = keras.models.clone_model(model)
    assert any("differ" in line or "argmax" in line for line in kp.verify_file(folder, other, IMAGES).breaches)


def test_a_broken_model_json_is_one_clear_error_at_verify(exported, tmp_path):
    folder, model = exported
    copy = altered(folder, tmp_path, "model.json", b'{"format": "graph-model"')
    with pytest.raises(InputError, match=r"copy: broken model\.json: it is no JSON"):
        kp.verify_file(copy, model, IMAGES)


def test_a_graph_that_tfjs_cannot_run_is_one_clear_error(exported):
    folder, _ = exported
    files = read_folder(folder)
    files["model.json"] = files["model.json"].replace(b'"DepthwiseConv2dNative"', b'"FusedNonsense"')
    with pytest.raises(InputError, match=r"^TF\.js \(cpu\) does not run the model: .*FusedNonsense"):
        TFJS().run(packed(files), IMAGES)


@pytest.mark.slow
def test_a_loop_without_an_end_is_stopped(monkeypatch):
    i = keras.Input((5, 2))
    model = keras.Model(i, L.LSTM(2, name="l")(i))
    x = RNG.random((2, 5, 2), "float32")
    files = unpacked(TFJS().convert(Request(model=model, batch=None, samples=x)).data)
    graph = json.loads(files["model.json"])
    for node in graph["modelTopology"]["node"]:  # 0 times 1 in place of 0 and 1: the next step is the first again
        if node["op"] == "AddV2" and node["attr"]["T"]["type"] == "DT_INT32":
            node["op"] = "Mul"
    monkeypatch.setenv("KOMPAKT_TIME_LIMIT", "4")
    with pytest.raises(
        InputError, match=r"TF\.js \(cpu\) does not run the model: Node was stopped: it gave no answer within 4 s"
    ):
        TFJS().run(packed({**files, "model.json": json.dumps(graph).encode()}), x)


def test_a_hang_a_crash_and_a_want_of_memory_are_one_clear_error_each(tmp_path):
    script = tmp_path / "script.mjs"
    for code, text in {
        "for (;;) {}": r"Node was stopped: it gave no answer within 1 s \(KOMPAKT_TIME_LIMIT sets it\)",
        "process.abort()": "Node died",
        "throw new Error('no such thing')": "Node died .*Error: no such thing",
        "const a = []; for (;;) a.push(new Uint8Array(1e7).fill(1))": "MB of memory, more than 512|Node died",
    }.items():
        script.write_text(code)
        seconds = 1.0 if "{}" in code else 60.0
        with (
            node_process(script, limits=Limits(seconds=seconds, gigabytes=0.5)) as process,
            pytest.raises(InputError, match=text) as caught,
        ):
            process.ask(do="run")
        assert "\n" not in str(caught.value)


def test_backends_that_do_not_agree_are_a_breach(exported, monkeypatch):
    one = np.array([[0.1, 0.9], [0.2, 0.8]], "float32")
    assert apart({"cpu": (one,), "wasm": (one + 1e-7,)}) == []
    (line,) = apart({"cpu": (one,), "wasm": (one * [1, 1.01],)})
    assert line.startswith("output 0 on wasm differs from pure JavaScript by 0.0")
    assert len(apart({"cpu": (one,), "wasm": (one * np.nan,)})) == 1
    folder, model = exported
    real = TFJS.run

    def run(self, data, inputs, *, at=None):
        found = real(self, data, inputs, at=at)
        return Outputs(values=found.values, lsb=found.lsb, breaches=(line,))

    monkeypatch.setattr(TFJS, "run", run)
    assert line in kp.verify_file(folder, model, IMAGES).breaches
    with pytest.raises(VerificationError, match="on wasm differs from pure JavaScript"):
        kp.export(model, folder.parent / "other", target="tfjs", verify=IMAGES)


def test_what_is_shipped_is_the_model_alone(exported):
    folder, _ = exported
    place = target_at(folder)
    data = place.read(folder)
    assert place.name == "tfjs" and set(place.shipped(data)) == {"model.json", "group1-shard1of1.bin"}
    assert set(place.files(data)) - set(place.shipped(data)) == {
        "index.html", "page.mjs", "test_vector.json", "kompakt.json",
    }  # fmt: skip


def test_without_node_it_is_said_how_to_get_it(exported, monkeypatch, tmp_path):
    folder, model = exported
    monkeypatch.setenv("PATH", str(tmp_path))
    text = r"^Node\.js 18 or newer was not found on PATH; TF\.js models are run in it\. Install it from https://nodejs"
    with pytest.raises(InputError, match=text):
        kp.export(model, tmp_path / "m", target="tfjs", verify=IMAGES)
    with pytest.raises(InputError, match=text):
        kp.verify_file(folder, model, IMAGES)
    assert list(tmp_path.iterdir()) == []


def test_an_old_node_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho v14.21.3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(InputError, match=r"node is Node\.js 14: 18 or newer is needed"):
        find_target("tfjs").ready()


def test_an_installation_that_fails_is_said_and_leaves_nothing(monkeypatch, tmp_path):
    program = tmp_path / "npm"
    program.write_text(
        "#!/bin/sh\necho 'npm error code ENOTFOUND' >&2\necho 'npm error network request failed' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("KOMPAKT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        InputError, match=r"npm ci could not install .*: (code ENOTFOUND|network request failed); with a"
    ):
        packages("node")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_packages_are_those_of_the_lock_file():
    assert packages("node").parent == cache_folder()
    for which in ("node", "browser"):
        lock = json.loads((WEB / which / "package-lock.json").read_text())["packages"]
        asked = json.loads((WEB / which / "package.json").read_text())["dependencies"]
        assert all(not version[0].isalpha() and version[0] not in "^~*" for version in asked.values())
        assert all(lock[f"node_modules/{name}"]["version"] == version for name, version in asked.items())
        assert all("integrity" in entry for path, entry in lock.items() if path)
    held = json.loads(Path(packages("node"), "node_modules/@tensorflow/tfjs/package.json").read_text())
    assert held["version"] == asked.get("@tensorflow/tfjs", "4.22.0")
