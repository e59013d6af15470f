"""TensorFlow Lite Micro: what its interpreter computes, its arena, its C source, weights as tables."""

import importlib.util
import json
import shutil
import subprocess

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.folders import packed, unpacked
from kompakt.isolated import call
from kompakt.targets import find_target, target_at
from kompakt.targets.litert import off_grid
from kompakt.targets.profiler import find_profiler
from kompakt.targets.tflite_file import TFLiteFile
from kompakt.targets.tflite_runtime import run
from kompakt.targets.tflm import MODEL, WHOLE, _detail
from kompakt.targets.tflm_arena import RUNTIME, fits
from kompakt.targets.tflm_operators import OPERATORS, method, methods
from kompakt.targets.tflm_source import identifier, sources
from kompakt.targets.tflm_tables import saves

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="TensorFlow Lite Micro is not installed: pip install 'kompakt[tflm]'",
)
L = keras.layers


def cnn():
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, activation="relu", name="conv")(i)
    x = L.DepthwiseConv2D(3, activation="relu", name="depth")(x)
    x = L.Add(name="sum")([x, L.Conv2D(8, 1, name="point")(x)])
    return keras.Model(i, L.Dense(5, name="logits")(L.GlobalAveragePooling2D(name="mean")(x)), name="cnn")


def two():
    """Two inputs, two outputs."""
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    x = L.Concatenate(name="both")([L.Dense(4, activation="relu", name="d1")(a), b])
    return keras.Model([a, b], [L.Dense(3, name="one")(x), L.Dense(1, name="other")(x)], name="two")


def recurrent():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 4)),
            L.Conv1D(8, 3, activation="relu", name="c"),
            L.LSTM(5, name="lstm"),
            L.Dense(3, name="d"),
        ],
        name="recurrent",
    )


def attention():
    keras.utils.set_random_seed(0)
    i = keras.Input((6, 8))
    x = L.Add(name="sum")([i, L.MultiHeadAttention(2, 4, name="mha")(i, i)])
    x = L.Dense(8, activation="relu", name="up")(L.LayerNormalization(name="norm")(x))
    return keras.Model(i, L.Dense(3, name="logits")(L.GlobalAveragePooling1D(name="mean")(x)), name="attention")


def samples(model, count=100):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(count, *t.shape[1:])).astype("float32") for t in model.inputs]
    return made if len(made) > 1 else made[0]


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("make", [cnn, two, recurrent, attention])
def test_int8_is_equal_to_the_reference_kernels_on_every_sample(make, tmp_path):
    model, place = make(), find_target("tflm")
    x = samples(model)
    made = kp.export(model, tmp_path / "m", target="tflm", quantization="int8", calibration=x)
    assert made.breaches == () and made.agreement.max_lsb <= 2.01
    data = place.read(made.path)
    found = place.run(data, x)
    expected = run(place.flatbuffer(data), x, kernels="reference").values
    assert found.breaches == ()
    for one, other in zip(found.values, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_value_that_is_not_the_reference_kernels_is_a_breach(tmp_path, monkeypatch):
    model, place = cnn(), find_target("tflm")
    x = samples(model, 20)
    data = place.read(kp.export(model, tmp_path / "m", target="tflm", quantization="int8", calibration=x).path)
    other = cnn()
    other.get_layer("logits").kernel.assign(other.get_layer("logits").kernel[:, ::-1])
    wrong = kp.export(other, tmp_path / "o", target="tflm", quantization="int8", calibration=x).path
    files = {**unpacked(data), MODEL: unpacked(place.read(wrong))[MODEL], WHOLE: unpacked(data)[MODEL]}
    (line,) = place.run(packed(files), x).breaches
    assert line.startswith("output 0: not equal to LiteRT's reference kernels on ") and line.endswith(" of 20 samples")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["float", "int16x8"])
def test_other_modes(mode, tmp_path):
    model = cnn()
    made = kp.export(model, tmp_path / "m", target="tflm", quantization=mode, calibration=samples(model))
    assert made.breaches == () and made.agreement.argmax == 1.0
    assert target_at(made.path).name == "tflm"
    assert kp.verify_file(made.path, model, samples(model)).breaches == ()


def test_what_its_interpreter_refuses_is_named_with_its_layer(tmp_path):
    i = keras.Input((6,), dtype="int32")
    x = L.GlobalAveragePooling1D(name="mean")(L.Embedding(9, 4, name="table")(i))
    model = keras.Model(i, L.Dense(3, name="logits")(x))
    words = np.random.default_rng(0).integers(0, 9, (40, 6)).astype("int32")
    with pytest.raises(
        kp.InputError, match=r"^TensorFlow Lite Micro refuses the file: GATHER, of table.*'INT16' is not"
    ):
        kp.export(model, tmp_path / "m", target="tflm", quantization="int16x8", calibration=words)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_it_has_not_is_named_before_it_runs(tmp_path):
    i = keras.Input((4,))
    model = keras.Model(i, L.Dense(2, name="d")(keras.ops.erf(L.Dense(3, name="in")(i))), name="odd")
    with pytest.raises(kp.InputError, match=r"^(TensorFlow Lite Micro has no operator|TensorFlow's converter refuses)"):
        kp.export(model, tmp_path / "m", target="tflm")
    tiled = keras.Model(i, L.RepeatVector(3, name="repeat")(L.Dense(3, name="in")(i)), name="tiled")
    with pytest.raises(kp.InputError, match=r"^TensorFlow Lite Micro has no operator TILE \(repeat") as caught:
        kp.export(tiled, tmp_path / "m", target="tflm")
    assert str(caught.value).endswith("replace these layers, or export the model for another target")


@pytest.mark.parametrize("mode", ["dynamic_int8", "float16", "weight_only_int8"])
def test_modes_that_load_and_are_wrong_are_refused(mode, tmp_path):
    with pytest.raises(kp.InputError, match=rf"^quantization='{mode}': expected one of float, int8, w4a8, int16x8"):
        kp.export(cnn(), tmp_path / "m", target="tflm", quantization=mode)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = cnn()
    x = samples(model)
    path = tmp_path_factory.mktemp("tflm") / "net"
    return kp.export(model, path, target="tflm", quantization="int8", calibration=x), model, x


def test_the_arena_is_the_smallest(exported):
    made, _, _ = exported
    (arena,) = [m.value for m in made.measurements if m.name == "arena"]
    data = find_target("tflm").flatbuffer(find_target("tflm").read(made.path))
    assert fits(data, int(arena)) and not fits(data, int(arena) - 16)


def test_the_folder(exported):
    made, model, x = exported
    place = find_target("tflm")
    files = unpacked(place.read(made.path))
    assert sorted(files) == ["cnn_model.c", "cnn_model.h", "kompakt.json", "kompakt.seal", MODEL]
    assert made.bytes == len(files[MODEL])
    note = json.loads(files["kompakt.json"])
    assert note["quantization"] == "int8" and note["inputs"][0]["name"] == "image" and "versions" in note
    assert kp.verify_file(made.path, model, x).breaches == ()
    assert b"kompakt" not in files[MODEL]  # what it says of itself takes no flash
    changed = TFLiteFile(files[MODEL])
    changed.put(changed.named("conv/kernel").index, -changed.named("conv/kernel").values)
    faults = [str(fault) for fault in place.altered(packed({**files, MODEL: changed.pack()}))]
    assert faults == [
        f"{MODEL}: changed since it was written",
        "conv/kernel: values changed: the numbers are not those written",
    ]
    files["cnn_model.c"] += b"\n"
    assert [str(fault) for fault in place.altered(packed(files))] == ["cnn_model.c: changed since it was written"]


@pytest.mark.parametrize(("compiler", "standard"), [("gcc", "c11"), ("g++", "c++17")])
def test_the_source_compiles_without_a_warning(exported, tmp_path, compiler, standard):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not on PATH")
    folder = exported[0].path
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", f"-std={standard}"]
    language = ["-x", "c++"] if compiler == "g++" else []
    subprocess.run(
        [compiler, *strict, *language, "-c", f"{folder}/cnn_model.c", "-o", tmp_path / "model.o"], check=True
    )


RESOLVER = """
#include "cnn_model.h"
#include <cstdio>
struct Resolver {
METHODS
  int count = 0;
};
int main() { Resolver r; int failed = cnn_model_add_operators(r); std::printf("%d %d\\n", failed, r.count); }
"""


def test_the_resolver_calls_compile_and_are_all_made(exported, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not on PATH")
    made = exported[0]
    every = "\n".join(f"  int {method(op)}() {{ ++count; return 0; }}" for op in sorted(OPERATORS))
    (tmp_path / "main.cc").write_text(RESOLVER.replace("METHODS", every))
    command = ["g++", "-Wall", "-Werror", "-std=c++17", f"-I{made.path}", "main.cc", "-o", "main"]
    subprocess.run(command, check=True, cwd=tmp_path)
    said = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    file = TFLiteFile(find_target("tflm").flatbuffer(find_target("tflm").read(made.path)))
    assert said == f"0 {len(methods(file))}\n" and len(methods(file)) == 5


PRINTER = """
#include "cnn_model.h"
#include <stdio.h>
int main(void) {
  for (unsigned i = 0; i < CNN_MODEL_LENGTH; ++i) printf("%d\\n", cnn_model_data[i]);
  for (unsigned i = 0; i < CNN_MODEL_INPUT_0_SIZE; ++i) printf("%d\\n", cnn_model_test_input_0[i]);
  for (unsigned i = 0; i < CNN_MODEL_OUTPUT_0_SIZE; ++i) printf("%d\\n", cnn_model_test_output_0[i]);
  printf("%u\\n", (unsigned)CNN_MODEL_ARENA_SIZE);
  return 0;
}
"""


def test_the_compiled_test_vector_is_what_the_compiled_model_computes(exported, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH")
    made = exported[0]
    (tmp_path / "main.c").write_text(PRINTER)
    command = ["gcc", "-Wall", "-Werror", f"-I{made.path}", "main.c", f"{made.path}/cnn_model.c", "-o", "main"]
    subprocess.run(command, check=True, cwd=tmp_path)
    said = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout
    numbers = np.array(said.split(), "int64")
    data, given, expected = np.split(numbers[:-1], [made.bytes, made.bytes + 8 * 8 * 3])
    arrays = [data.astype("uint8"), given.astype("int8").reshape(1, 8, 8, 3)]
    (found,), _ = call(f"{RUNTIME}:run", arrays, of="TFLM", outputs=1)
    np.testing.assert_array_equal(found.ravel(), expected)
    assert fits(data.astype("uint8").tobytes(), int(numbers[-1]))
    assert np.ptp(expected) > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [("int", "int_model"), ("a*/b", "a__b_model"), ("", "m_model"), ("9", "m_9_model"), ("é", "__model")],
)
def test_names_are_identifiers(name, expected):
    assert identifier(name) == expected


def test_a_name_cannot_end_a_comment(exported, tmp_path):
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH")
    data = find_target("tflm").flatbuffer(find_target("tflm").read(exported[0].path))
    file = TFLiteFile(data)
    file.rename(lambda index: f"t{index} */ #error ??/ \\" if index in (*file.inputs, *file.outputs) else None)
    one = [[np.zeros((1, *file.tensors[i].shape[1:]), "int8") for i in side] for side in (file.inputs, file.outputs)]
    known = {"quantization": "int8", "arena": 16, "methods": ["AddAdd"], "inputs": one[0], "outputs": one[1]}
    pages = sources(data, file, name="x */ #error \\\n#error *\\ int injected; ", **known)
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    (source,) = tmp_path.glob("*.c")
    strict = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-trigraphs", "-Wno-trigraphs"]
    subprocess.run(["gcc", *strict, "-std=c11", "-c", source, "-o", tmp_path / "o"], check=True)


def test_each_timed_run_gets_its_inputs_anew(tmp_path):
    """Others lie in their place after a run: indices into a table would be whatever those are."""
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(50, 16, name="table"),
            L.Dense(32, activation="relu", name="wide"),
            L.GlobalAveragePooling1D(name="mean"),
            L.Dense(3, name="d"),
        ],
        name="words",
    )
    x = np.random.default_rng(0).integers(0, 50, (8, 12)).astype("int32")
    path = tmp_path / "words"
    kp.export(built, path, target="tflm", verify=x)
    place = find_target("tflm")
    assert find_profiler("tflm").laps(place.read(path), x)(5).sum() > 0
    file = TFLiteFile(place.flatbuffer(place.read(path)))
    assert "GATHER" in [op.name for op in file.ops]


@pytest.mark.slow
def test_clustered_weights_as_tables(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16,)), L.Dense(128, activation="relu", name="a"), L.Dense(128, activation="relu", name="b"),
         L.Dense(4, name="c")], name="dense",
    )  # fmt: skip
    x = samples(model)
    small = kp.cluster(kp.prune(model, 0.5, sites="[ab]/*"), 8, sites="[ab]/*")
    made = kp.export(small, tmp_path / "m", target="tflm", quantization="int8", calibration=x, compress=True)
    known = {m.name: m.value for m in made.measurements}
    assert made.breaches == () and made.bytes < 0.8 * known["uncompressed"]
    assert known["arena"] > known["arena_uncompressed"]
    arenas = f"{known['arena']:,.0f} bytes rather than {known['arena_uncompressed']:,.0f}"
    assert any(note.startswith("compress: ") and note.endswith(arenas) for note in made.notes)
    place = find_target("tflm")
    files = unpacked(place.read(made.path))
    file = TFLiteFile(files[WHOLE])
    given = [np.asarray(x)]
    _, whole = place._numbers(file, files[WHOLE], given)
    _, tables = place._numbers(file, files[MODEL], given)
    np.testing.assert_array_equal(whole[0], tables[0])
    assert b"AddDecode" in files["dense_model.h"]
    end = _detail(file.tensors[file.outputs[0]])
    np.testing.assert_array_equal(off_grid(tables[0], end), place.run(packed(files), x).values[0])
    assert {s.site: s.zeros for s in made.sites}["b/kernel"] >= 128 * 128 // 2


def test_tables_that_win_nothing_are_said(tmp_path):
    model = cnn()
    given = {"target": "tflm", "quantization": "int8", "calibration": samples(model)}
    made = kp.export(model, tmp_path / "m", compress=True, **given)
    assert any(note.startswith("compress: no kernel has channels of so few values") for note in made.notes)
    with pytest.raises(kp.InputError, match=r"^compress=True: the target 'tflite' has no tables of values; "):
        kp.export(model, tmp_path / "m.tflite", compress=True)


def test_bytes_that_tables_save():
    values = np.tile(np.arange(4, dtype="int8"), (8, 200))
    assert saves(values, 0) == 2
    assert saves(values[:, :8], 0) is None  # what they cost is more
    assert saves(np.zeros((4, 800), "int8"), 0) == 1


def test_a_damaged_model_is_one_error(exported, tmp_path):
    made, model, x = exported
    place = find_target("tflm")
    files = dict(unpacked(place.read(made.path)))
    files[MODEL] = files[MODEL][:200] + bytes(len(files[MODEL]) - 200)
    place.write(tmp_path / "m", packed(files))
    with pytest.raises(kp.InputError, match=r"broken TFLite file|TensorFlow Lite Micro (refuses|crashed)"):
        kp.verify_file(tmp_path / "m", model, x)
