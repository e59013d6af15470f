"""What a teacher predicted before, held on disk."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.distillation import Hints, Relational
from kompakt.distillation.digests import data_digests, model_digest

RNG = np.random.default_rng(5)
X = RNG.normal(size=(50, 6)).astype("float32")
Y = RNG.integers(0, 3, 50)


@keras.saving.register_keras_serializable(package="test_cache")
class Watch(keras.layers.Layer):
    """Keeps how many rows it is given, each time that it really runs."""

    rows: list[int] = []  # noqa: RUF012

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False

    def call(self, inputs):
        if keras.backend.backend() == "jax":
            import jax

            jax.debug.callback(lambda x: Watch.rows.append(len(x)), inputs, ordered=True)
            return inputs
        import tensorflow as tf

        def see(x):
            Watch.rows.append(len(x))
            return x

        made = tf.numpy_function(see, [inputs], inputs.dtype)
        return tf.ensure_shape(made, inputs.shape)


@pytest.fixture(autouse=True)
def unwatched():
    Watch.rows.clear()


def net(width=8, seed=0, end=None, name="net", watch=False):
    keras.utils.set_random_seed(seed)
    body = keras.layers.Dense(width, activation="relu", name=f"{name}_hidden")
    head = keras.layers.Dense(3, activation=end, name=f"{name}_head")
    first = [Watch(name="watch")] if watch else []
    return keras.Sequential([keras.Input((6,), name=f"{name}_in"), *first, body, head], name=name)


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def weights(model):
    return [np.array(w) for w in model.get_weights()]


def test_a_cache_is_what_the_teacher_predicts(tmp_path):
    teacher = net(16, end="softmax")
    cached = kp.cache_teacher(teacher, X, tmp_path / "c", batch_size=16, layers=["net_hidden"])
    np.testing.assert_allclose(cached.outputs[0], teacher.predict(X, verbose=0), atol=1e-6)
    hidden = keras.Model(teacher.inputs, teacher.get_layer("net_hidden").output)
    np.testing.assert_allclose(cached.features["net_hidden"], hidden.predict(X, verbose=0), atol=1e-6)
    assert isinstance(cached.outputs[0], np.memmap) and not cached.outputs[0].flags.writeable
    assert sorted(files(tmp_path / "c")) == ["layer_0.npy", "output_0.npy", "teacher.json"]
    assert np.array_equal(np.load(tmp_path / "c/output_0.npy", allow_pickle=False), cached.outputs[0])


def test_a_finished_cache_is_read_without_the_teacher(tmp_path):
    teacher = net(16, watch=True)
    kp.cache_teacher(teacher, X, tmp_path, batch_size=20)
    assert Watch.rows == [20, 20, 10]
    before = files(tmp_path)
    assert len(kp.cache_teacher(teacher, X, tmp_path, batch_size=7)) == 50
    assert Watch.rows == [20, 20, 10] and files(tmp_path) == before


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    "losses", ["soft_targets", ["soft_targets", Hints("s_hidden", "net_hidden"), Relational("s_hidden", "net_hidden")]]
)
def test_training_from_the_cache_is_training_with_the_teacher_which_never_runs(tmp_path, losses):
    teacher, student = net(16, watch=True, end="softmax"), net(4, seed=1, name="s")
    layers = [] if losses == "soft_targets" else ["net_hidden"]
    cached, trained = kp.cache_teacher(teacher, X, tmp_path, layers=layers), []
    for given in (teacher, cached):
        keras.utils.set_random_seed(9)  # of the projection, and of the order of rows
        d = kp.distill(student, given, losses=losses)
        Watch.rows.clear()
        history = d.fit(X, Y, epochs=3, batch_size=8, verbose=0, validation_data=(X[:9], Y[:9])).history
        trained.append((weights(d.student), history))
        assert sum(Watch.rows) == (150 if given is teacher else 0)
        assert d.evaluate(X[:5], Y[:5], verbose=0, return_dict=True).keys() >= {"accuracy", "loss"}
        assert d.predict(X[:5], verbose=0).shape == (5, 3)
    for live, held in zip(trained[0][0], trained[1][0], strict=True):
        np.testing.assert_allclose(live, held, atol=1e-5)
    assert trained[0][1].keys() == trained[1][1].keys()
    for name, values in trained[0][1].items():
        np.testing.assert_allclose(values, trained[1][1][name], atol=1e-5, err_msg=name)


def test_rows_stay_together_with_weights_and_a_split_for_validation(tmp_path):
    """A teacher that is sure of one class a row, which is the label: shuffled apart, nothing could be learned."""
    x = np.eye(6, dtype="float32")[np.arange(240) % 6]
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, use_bias=False)])
    teacher.layers[0].set_weights([20 * np.eye(6)])
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    d = kp.distill(student, kp.cache_teacher(teacher, x, tmp_path), alpha=1.0, temperature=1.0)
    d.optimizer.learning_rate = 0.1
    history = d.fit(
        x, np.arange(240) % 6, epochs=8, batch_size=16, verbose=0, validation_split=0.2, sample_weight=np.ones(240)
    ).history  # fmt: skip
    assert history["soft_targets"][-1] < 0.05 and history["val_accuracy"][-1] == 1.0


def two_inputs(form):
    keras.utils.set_random_seed(2)
    a, b = keras.Input((6,), name="a"), keras.Input((2,), name="b")
    z = keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b} if form is dict else [a, b], [z, keras.layers.Dense(1)(z)])


@pytest.mark.parametrize("form", [dict, list])
def test_several_inputs_and_outputs(tmp_path, form):
    x = {"a": X, "b": X[:, :2].astype("float64")}
    x = x if form is dict else list(x.values())
    teacher = two_inputs(form)
    cached = kp.cache_teacher(teacher, x, tmp_path, batch_size=16)
    for held, now in zip(cached.outputs, teacher.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(held, now, atol=1e-6)
    d = kp.distill(two_inputs(form), cached)
    assert np.isfinite(d.fit(x, [Y, X[:, :1]], batch_size=16, verbose=0).history["loss"]).all()
    name = "x['b']" if form is dict else "x[1]"
    other = {**x, "b": x["b"] + 1} if form is dict else [x[0], x[1] + 1]
    with pytest.raises(kp.InputError) as raised:
        d.fit(other, [Y, X[:, :1]], verbose=0)
    assert f"{name} has other values" in str(raised.value) and "x['a']" not in str(raised.value)


def test_several_teachers_are_cached_as_one(tmp_path):
    teachers = [net(16, seed=1, end="softmax"), net(16, seed=2)]
    cached = kp.cache_teacher(teachers, X, tmp_path)
    np.testing.assert_allclose(
        np.exp(cached.outputs[0]), (teachers[0](X) + keras.ops.softmax(teachers[1](X))) / 2, atol=1e-6
    )
    again = kp.cache_teacher(teachers, X, tmp_path)
    d = kp.distill(net(4), again)
    assert np.isfinite(d.fit(X, Y, verbose=0).history["loss"]).all() and len(d.teacher.teachers) == 2


@pytest.mark.slow
def test_saved_with_a_cache_the_teacher_itself_is_kept(tmp_path):
    teacher = net(16)
    d = kp.distill(net(4, name="s"), kp.cache_teacher(teacher, X, tmp_path / "c"))
    d.fit(X, Y, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = kp.load_model(tmp_path / "d.keras", compiled=True)
    assert loaded.cached is None and np.array_equal(loaded.teacher(X), teacher(X))
    loaded.use_cache(kp.cache_teacher(loaded.teacher, X, tmp_path / "c"))
    for each in (d, loaded):
        each.fit(X, Y, verbose=0, shuffle=False)
    for a, b in zip(weights(d.student), weights(loaded.student), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


# --- interrupted


class Stop(Exception):
    pass


@pytest.mark.parametrize("seed", range(3))
def test_an_interrupted_cache_goes_on_with_the_rows_that_lack(tmp_path, seed):
    teacher, size = net(16, watch=True), 8
    batches = int(np.random.default_rng(seed).integers(0, 6))
    kp.cache_teacher(teacher, X, tmp_path / "whole", batch_size=size, layers=["net_hidden"])

    def report(what, share):
        if round(share * 50) >= batches * size:
            raise Stop

    Watch.rows.clear()
    with pytest.raises(Stop):
        kp.cache_teacher(teacher, X, tmp_path / "c", batch_size=size, layers=["net_hidden"], progress=report)
    assert sum(Watch.rows) == 2 + batches * size  # shapes are tried on two rows where layers are named
    assert not list((tmp_path / "c").glob("*.npy"))
    for part in (tmp_path / "c").glob("*.part"):
        with pytest.raises(ValueError, match="mmap length is greater"):
            np.lib.format.open_memmap(part, mode="r")
    Watch.rows.clear()
    kp.cache_teacher(teacher, X, tmp_path / "c", batch_size=size, layers=["net_hidden"])
    assert sum(Watch.rows) == 2 + 50 - batches * size
    assert files(tmp_path / "c") == files(tmp_path / "whole")


def test_who_asks_for_a_cache_that_is_being_made_waits_and_reads_it(tmp_path, caplog):
    teacher, asked = net(16, watch=True), []
    whole = kp.cache_teacher(net(16), X, tmp_path / "whole").outputs[0]
    other = threading.Thread(target=lambda: asked.append(kp.cache_teacher(teacher, X, tmp_path / "c", batch_size=8)))

    def report(what, share):
        if 0.3 < share < 0.4:
            other.start()
            other.join(1.0)
            assert other.is_alive() and not asked

    Watch.rows.clear()
    cached = kp.cache_teacher(teacher, X, tmp_path / "c", batch_size=8, progress=report)
    other.join(60.0)
    assert sum(Watch.rows) == 50, "the teacher runs once"
    for each in (cached, *asked):
        np.testing.assert_allclose(each.outputs[0], whole, atol=1e-6)
    assert len(asked) == 1 and "another process works there; waiting" in caplog.text


CHILD = """
import sys
sys.path.insert(0, {tests!r})
import test_cache as t, kompakt as kp
print("ready", flush=True)
kp.cache_teacher(t.net(16), t.X.repeat(40, 0), {folder!r}, batch_size=8)
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_killed_cache_goes_on(tmp_path):
    x, teacher = X.repeat(40, 0), net(16)
    whole = kp.cache_teacher(teacher, x, tmp_path / "whole", batch_size=8)
    script = CHILD.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "c"))
    sheet, kills = tmp_path / "c/teacher.json", 0
    rng = np.random.default_rng(int(time.time()))
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    while not sheet.exists() and child.poll() is None:
        time.sleep(0.002)
    time.sleep(float(rng.uniform(0, 0.15)))
    if child.poll() is None:
        os.kill(child.pid, signal.SIGKILL)
        kills += 1
    child.wait()
    done = json.loads(sheet.read_text())["done"]
    assert kills == 1 and done < 2000, "it was to be killed before its end"
    assert not list((tmp_path / "c").glob("*.npy"))
    cached = kp.cache_teacher(teacher, x, tmp_path / "c", batch_size=8)
    assert np.array_equal(cached.outputs[0], whole.outputs[0])
    left = {name for name in files(tmp_path / "c") if not name.startswith(".")}  # a temporary file may stay
    assert left == {"output_0.npy", "teacher.json"}


def test_killed_between_the_last_batch_and_the_names(tmp_path):
    teacher = net(16, watch=True)
    kp.cache_teacher(teacher, X, tmp_path, layers=["net_hidden"])
    before = files(tmp_path)
    (tmp_path / "layer_0.npy").rename(tmp_path / "layer_0.npy.part")
    Watch.rows.clear()
    kp.cache_teacher(teacher, X, tmp_path, layers=["net_hidden"])
    assert Watch.rows == [] and files(tmp_path) == before


def test_a_file_that_is_gone_is_made_again(tmp_path):
    teacher = net(16)
    kp.cache_teacher(teacher, X, tmp_path, layers=["net_hidden"])
    before = files(tmp_path)
    (tmp_path / "layer_0.npy").unlink()
    kp.cache_teacher(teacher, X, tmp_path, layers=["net_hidden"])
    assert files(tmp_path) == before


# --- stale, damaged, not usable


def changed_weights(teacher):
    made = net(16)
    made.layers[0].bias.assign_add(np.full(16, 1e-6))
    return {"teacher": made}


OTHER = {
    "the teacher's weights differ": changed_weights,
    "the teacher's layers or settings differ": lambda t: {"teacher": net(16, end="softmax")},
    "x has other values, or the same in another order": lambda t: {"x": X[::-1].copy()},
    "x was float32 of (50, 6), now it is float32 of (49, 6)": lambda t: {"x": X[:-1]},
    "x was float32 of (50, 6), now it is float64 of (50, 6)": lambda t: {"x": X.astype("float64")},
    "it is of the inputs x, given are x[0]": lambda t: {"x": [X]},
    "it holds the layers [], asked are ['net_hidden']": lambda t: {"layers": ["net_hidden"]},
}


@pytest.mark.parametrize("text", OTHER)
@pytest.mark.parametrize("finished", [True, False])
def test_a_stale_cache_is_refused_and_stays(tmp_path, text, finished):
    teacher = net(16)
    given = {"teacher": teacher, "x": X, "layers": ()}

    def report(what, share):
        if share > 0.5 and not finished:
            raise Stop

    try:
        kp.cache_teacher(**given, folder=tmp_path, batch_size=20, progress=report)
    except Stop:
        assert not finished
    before = files(tmp_path)
    with pytest.raises(kp.InputError) as raised:
        kp.cache_teacher(**{**given, **OTHER[text](teacher)}, folder=tmp_path)
    assert text in str(raised.value) and "delete the folder" in str(raised.value) and "\n" not in str(raised.value)
    assert files(tmp_path) == before


def test_a_cache_of_another_version_is_refused(tmp_path):
    kp.cache_teacher(net(16), X, tmp_path)
    sheet = json.loads((tmp_path / "teacher.json").read_text())
    sheet["versions"]["keras"] = "3.0.0"
    (tmp_path / "teacher.json").write_text(json.dumps(sheet))
    with pytest.raises(kp.InputError, match=rf"made with keras 3.0.0, here is {keras.__version__}"):
        kp.cache_teacher(net(16), X, tmp_path)


def test_freezing_or_compiling_the_teacher_makes_no_cache_stale(tmp_path):
    teacher = net(16)
    kp.cache_teacher(teacher, X, tmp_path)
    teacher.trainable = False
    teacher.compile("sgd", "mse")
    kp.cache_teacher(teacher, X, tmp_path)
    teacher.save(tmp_path / "t.keras")
    kp.cache_teacher(kp.load_model(tmp_path / "t.keras"), X, tmp_path)


def test_a_teacher_that_was_trained_since_is_refused(tmp_path):
    teacher = net(16)
    cached = kp.cache_teacher(teacher, X, tmp_path)
    teacher.layers[0].bias.assign_add(np.ones(16))
    with pytest.raises(kp.InputError, match=r"the teacher is not as it was.*weights differ"):
        kp.distill(net(4), cached)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: X[:40], "x was float32 of .50, 6., now it is float32 of .40, 6."),
        (lambda: X + 1, "fit got other inputs.*x has other values"),
        (lambda: None, "x is of the type NoneType: .*pass an array"),
        (lambda: list(map(list, X)), r"x\[0\]\[0\] is of the type float32: .*pass an array"),
        (lambda: _dataset(), "x is of the type .*Dataset.*: .*pass an array"),
        (lambda: _Sequence(), "x is of the type _Sequence: .*pass an array"),
    ],
)
def test_fit_with_other_inputs_is_refused(tmp_path, make, text):
    d = kp.distill(net(4, seed=1), kp.cache_teacher(net(16), X, tmp_path))
    before, x = weights(d.student), make()
    with pytest.raises(kp.InputError, match=text):
        d.fit(x, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, weights(d.student), strict=True))


def _dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


class _Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 1

    def __getitem__(self, i):
        return X, Y


def test_a_layer_that_is_not_held_is_refused(tmp_path):
    cached = kp.cache_teacher(net(16), X, tmp_path)
    with pytest.raises(kp.InputError, match=r"lacks the layer 'net_hidden'.*cache_teacher.*layers=\('net_hidden',\)"):
        kp.distill(net(4, name="s"), cached, losses=Hints("s_hidden", "net_hidden"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"teacher": 3}, "teacher=3: expected a Keras model, or a list"),
        ({"teacher": keras.Sequential([keras.layers.Dense(2)])}, "has no weights yet"),
        ({"x": {}}, "expected as many in each, and one at least"),
        ({"x": [X, X[:3]]}, "expected as many in each"),
        ({"x": X[:0]}, "and one at least"),
        ({"x": np.array([None, 1])}, "x is of the type ndarray"),
        ({"batch_size": 0}, "batch_size=0: expected a whole number"),
        ({"layers": ["nope"]}, "teacher_layer='nope': the teacher has none"),
    ],
)
def test_what_cannot_be_cached_is_an_error_and_leaves_no_sheet(tmp_path, given, text):
    with pytest.raises(kp.InputError, match=text):
        kp.cache_teacher(**{"teacher": net(16), "x": X, "folder": tmp_path, **given})
    assert files(tmp_path) == {}


def test_damage_is_an_error(tmp_path):
    teacher = net(16)
    kp.cache_teacher(teacher, X, tmp_path)
    whole = (tmp_path / "output_0.npy").read_bytes()
    (tmp_path / "output_0.npy").write_bytes(whole[:-5])
    with pytest.raises(kp.InputError, match=r"output_0.npy: damaged, or gone"):
        kp.cache_teacher(teacher, X, tmp_path)
    np.save(tmp_path / "output_0.npy", np.zeros((50, 4), "float32"))
    with pytest.raises(kp.InputError, match=r"float32 of \(50, 4\), the sheet beside it says <f4 of \(50, 3\)"):
        kp.cache_teacher(teacher, X, tmp_path)
    for text in ("", "{}", "[1]", '{"form": 9}', json.dumps({"form": 1, "data": [], "columns": [], "layers": []})):
        (tmp_path / "teacher.json").write_text(text)
        with pytest.raises(kp.InputError, match="not the sheet of a teacher's cache"):
            kp.cache_teacher(teacher, X, tmp_path)
    (tmp_path / "teacher.json").unlink()
    with pytest.raises(kp.InputError, match=r"output_0.npy is there, without a teacher.json"):
        kp.cache_teacher(teacher, X, tmp_path)


def test_a_sheet_reaches_no_file_outside_its_folder(tmp_path):
    kp.cache_teacher(net(16), X, tmp_path / "c")
    sheet = json.loads((tmp_path / "c/teacher.json").read_text())
    sheet["columns"][0]["file"] = "../output_0.npy"
    (tmp_path / "c/teacher.json").write_text(json.dumps(sheet))
    with pytest.raises(kp.InputError, match="files of another folder"):
        kp.cache_teacher(net(16), X, tmp_path / "c")


def test_digests_read_large_arrays_in_pieces_and_see_each_byte(monkeypatch, tmp_path):
    from kompakt.distillation import digests

    whole = data_digests(X)[0].sha256
    monkeypatch.setattr(digests, "CHUNK", 100)
    assert data_digests(X)[0].sha256 == whole
    np.save(tmp_path / "x.npy", X)
    assert data_digests(np.load(tmp_path / "x.npy", mmap_mode="r"))[0].sha256 == whole
    assert data_digests(np.asfortranarray(X))[0].sha256 == whole
    seen = {whole}
    for place in [(0, 0), (25, 3), (49, 5)]:
        other = X.copy()
        other[place] += 1
        seen.add(data_digests(other)[0].sha256)
    assert len(seen) == 4


def test_each_weight_counts_in_the_digest_of_a_model():
    model = net(16)
    seen = {model_digest(model)["weights"]}
    for weight in model.weights:
        weight.assign(weight.value + 1)
        seen.add(model_digest(model)["weights"])
    assert len(seen) == 1 + len(model.weights)
