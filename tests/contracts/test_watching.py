"""What is shown of training equals what the model is, and showing it changes nothing. Runs on each backend."""

import csv
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import kompakt as kp
from kompakt import testing as laws
from kompakt.attach import chains_of, finalize
from kompakt.errors import InputError
from kompakt.schedules import Polynomial
from kompakt.transforms import FakeQuant

tensorboard = pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing import plugin_event_accumulator  # noqa: E402
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from tensorboard.util import tensor_util  # noqa: E402

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STEPS, BATCH, EPOCHS = 6, 4, 3
X, Y = laws.toy_data(STEPS * BATCH)
KERNELS = ("conv/kernel", "dense/kernel")


def pruned():
    # Acts in the middle of epochs and ends in the third.
    return kp.prune(
        laws.toy_model(), schedule=Polynomial(0.0, 0.75, begin=1, end=16, frequency=4), sites=["conv/*", "dense/kernel"]
    )


def pcqat(**options):
    return kp.quantize(kp.cluster(kp.prune(laws.toy_model(), 0.5), 5), calibration=X, **options)


MODELS = {
    "pruned": pruned,
    "clustered": lambda: kp.cluster(laws.toy_model(), 4, sites="*kernel"),
    "clustered, channels": lambda: kp.cluster(laws.toy_model(), 3, per_channel=True, sites="*kernel"),
    "QAT, not calibrated": lambda: kp.quantize(laws.toy_model()),
    "steps learned": lambda: kp.quantize(laws.toy_model(), calibration=X, ranges="lsq"),
    "PCQAT": pcqat,
}


def fit(model, *callbacks, epochs=EPOCHS, optimizer=None, **options):
    if optimizer is not None or not model.compiled:
        model.compile(optimizer or keras.optimizers.Adam(0.02), LOSS)
    options = {"verbose": 0, "shuffle": False, "batch_size": BATCH, **options}
    return model.fit(X, Y, epochs=epochs, callbacks=[kp.callbacks.Update(), *callbacks], **options)


def board(folder, *args, **options):
    return kp.callbacks.TensorBoard(folder, *args, **options)


def read(folder, reader=EventAccumulator, **options):
    """Tag -> {step: number}, and tag -> {step: buckets}, by TensorBoard's own reader."""
    found = reader(str(folder), **(options or {"size_guidance": {"tensors": 0}})).Reload()
    scalars, histograms = {}, {}
    for tag in found.Tags()["tensors"]:
        kind = found.SummaryMetadata(tag).plugin_data.plugin_name
        values = {e.step: tensor_util.make_ndarray(e.tensor_proto) for e in found.Tensors(tag)}
        if kind == "scalars":
            scalars[tag] = {step: float(value) for step, value in values.items()}
        if kind == "histograms":
            histograms[tag] = values
    return scalars, histograms


def values(variable):
    return np.array(ops.convert_to_numpy(variable))


def kernel(model, name="conv"):
    return values(finalize(model)[0].get_layer(name).kernel)


class Snapshots(keras.callbacks.Callback):
    """What a function makes of the model at the beginning and at each epoch's end."""

    def __init__(self, make):
        super().__init__()
        self.make, self.found = make, []

    def on_train_begin(self, logs=None):
        self.found.append(self.make(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.found.append(self.make(self.model))


def transforms(model, site, kind):
    chain = next(chain for name, chain, _ in chains_of(model) if name == site)
    return next(each for each in chain if type(each).__name__ == kind)


def test_sparsity_asked_and_reached_and_how_the_mask_changes(tmp_path):
    model = pruned()
    masks = Snapshots(lambda m: values(transforms(m, "conv/kernel", "Prune").mask))
    fit(model, masks, board(tmp_path))
    found, _ = read(tmp_path)
    steps = [0, 6, 12, 18]
    assert list(found["sparsity/conv/kernel"]) == list(found["sparsity"]) == steps
    assert list(found["mask_change/conv/kernel"]) == steps[1:]
    zeros = [float((mask == 0).mean()) for mask in masks.found]
    flipped = [float((a != b).mean()) for a, b in zip(masks.found[1:], masks.found, strict=False)]
    assert np.allclose(list(found["sparsity/conv/kernel"].values()), zeros)
    assert np.allclose(list(found["mask_change/conv/kernel"].values()), flipped)
    assert zeros[0] == 0 and zeros[-1] == 0.75 and flipped[0] > 0
    schedule = transforms(model, "conv/kernel", "Prune").schedule
    # It acts at 1, 5, 9, 13 and 16; an epoch's end comes after its last step.
    asked = [0.0, schedule(5), schedule(9), 0.75]
    assert np.allclose(list(found["sparsity_asked/dense/kernel"].values()), asked)
    encodings = finalize(model)[1]
    assert found["sparsity"][18] == pytest.approx(
        sum(encodings[k].zeros for k in KERNELS) / sum(values(v).size for _, _, v in chains_of(model))
    )


@pytest.mark.long(quick=1)
@pytest.mark.parametrize("case", ["clustered", "clustered, channels"])
def test_how_many_clusters_there_are_and_what_share_changes_theirs(case, tmp_path):
    model = MODELS[case]()
    made = Snapshots(kernel)
    fit(model, made, board(tmp_path))
    found, _ = read(tmp_path)
    apart = case.endswith("channels")
    assert found["distinct/conv/kernel"][18] == (
        max(len(np.unique(made.found[-1][..., c])) for c in range(4)) if apart else len(np.unique(made.found[-1]))
    )
    assert found["distinct"][18] == max(found[f"distinct/{k}"][18] for k in KERNELS)
    changed = list(found["cluster_change/conv/kernel"].values())
    assert len(changed) == EPOCHS and 0 < max(changed) < 1

    def assigned(made):
        if not apart:
            return np.unique(made, return_inverse=True)[1].ravel()
        return np.stack([np.unique(made[..., c], return_inverse=True)[1].ravel() for c in range(4)], axis=-1).ravel()

    pairs = zip(map(assigned, made.found[1:]), map(assigned, made.found), strict=False)
    assert np.allclose(changed, [(a != b).mean() for a, b in pairs])


@pytest.mark.slow
def test_ranges_scales_what_is_clipped_and_integers(tmp_path):
    model = MODELS["steps learned"]()
    fit(model, board(tmp_path, data=X))
    found, histograms = read(tmp_path)
    plain, encodings = finalize(model)
    scale = np.array(encodings["conv/kernel"].scale)
    assert found["scale/conv/kernel"][18] == pytest.approx(scale.mean())
    assert (
        list(found["scale_change/conv/kernel"]) == [6, 12, 18] and min(found["scale_change/conv/kernel"].values()) > 0
    )
    # Integers of the weight.
    buckets = histograms["grid/conv/kernel"][18]
    integers = np.round(values(plain.get_layer("conv").kernel) / scale).astype(int)
    centers = buckets[:, :2].mean(axis=1).astype(int)
    assert np.array_equal(buckets[:, 2], [(integers == c).sum() for c in centers]) and buckets[:, 2].sum() == 72
    raw = values(transforms_variable(model, "conv/kernel"))
    over = np.abs(raw / scale) > 127.5
    assert found["clipping/conv/kernel"][18] == pytest.approx(over.mean())
    # An activation.
    site = next(name for name, _, variable in chains_of(model) if variable is None and name.startswith("relu"))
    low, high = transforms(model, site, "FakeQuant").range_now()
    assert found[f"range_low/{site}"][18] == pytest.approx(low) and found[f"range_high/{site}"][18] == pytest.approx(
        high
    )
    assert histograms[f"grid/{site}"][18][:, 2].sum() == X.shape[0] * 6 * 6 * 4


def transforms_variable(model, site):
    return next(variable for name, _, variable in chains_of(model) if name == site)


def test_what_an_activation_clips():
    model = kp.attach(laws.toy_model(), {"relu/output": [FakeQuant(8, symmetric=False)]})
    quant = transforms(model, "relu/output", "FakeQuant")
    quant.set_range(0.0, 0.5)
    seen = kp.callbacks.Metrics(["clipping", "clipping/relu/output", "range_high/relu/output"], data=X)
    quant.frozen = True
    history = fit(model, seen, epochs=1, optimizer=keras.optimizers.SGD(0.0)).history
    made = X
    for layer in finalize(model)[0].layers[:3]:
        made = layer(made, training=False)
    clipped = (values(made) > 0.5 + 0.5 * 0.5 / 255).mean()
    assert history["clipping/relu/output"] == [pytest.approx(clipped)] == history["clipping"] and 0.1 < clipped < 0.9
    assert history["range_high/relu/output"] == [pytest.approx(0.5)]


@pytest.mark.slow
def test_a_range_that_nobody_has_measured_yet_comes_later(tmp_path):
    model = MODELS["QAT, not calibrated"]()
    fit(model, board(tmp_path), kp.callbacks.Metrics("range_high/relu/output"), epochs=1)
    found, _ = read(tmp_path)
    assert list(found["range_high/relu/output"]) == [6]
    assert not [tag for tag in found if tag.startswith("clipping/") and "kernel" not in tag]


@pytest.mark.slow
def test_logs_and_terms_of_a_distillation(tmp_path):
    distilled = kp.distill(pcqat(), laws.toy_model(1), losses=["soft_targets", "relational"], alpha=0.25)
    history = fit(distilled, board(tmp_path), validation_data=(X, Y)).history
    found, _ = read(tmp_path)
    for tag, name in {
        "fit/loss": "loss",
        "fit/val_loss": "val_loss",
        "distillation/soft_targets": "soft_targets",
        "distillation/relational": "relational",
        "distillation/distillation_loss": "distillation_loss",
        "distillation/student_loss": "student_loss",
    }.items():
        assert list(found[tag]) == [6, 12, 18]
        assert np.allclose(list(found[tag].values()), history[name]), tag
    assert found["distillation/alpha"] == dict.fromkeys([0, 6, 12, 18], 0.25)
    assert found["distillation/weight_relational"][18] == 1.0
    assert found["fit/learning_rate"][18] == pytest.approx(1e-3)
    assert found["sparsity/conv/kernel"][18] > 0 and "fit/soft_targets" not in found


@pytest.mark.long(quick=1)
@pytest.mark.parametrize(
    ("case", "often", "names"),
    [
        ("pruned", 2, ["sparsity"]),  # where the schedule acts on steps that are looked at, too
        ("PCQAT", 2, ["clipping", "distinct"]),
        ("PCQAT", "epoch", ["sparsity"]),
        ("clustered", "epoch", ["cluster_change"]),
        ("clustered, channels", "epoch", ["distinct"]),
        ("QAT, not calibrated", 2, ["range_high/relu/output"]),
        ("steps learned", "epoch", ["scale_change/conv/kernel"]),
    ],
)
def test_training_is_not_changed_in_one_bit(case, often, names, tmp_path):
    trained = []
    for watched in (False, True):
        keras.utils.set_random_seed(3)
        model = MODELS[case]()
        calls = [board(tmp_path, often, X[:5]), kp.callbacks.Metrics(names, often, X[:5])] if watched else []
        fit(model, *calls, shuffle=True)
        trained.append(model)
    for a, b in zip(*(m.weights + m.optimizer.variables for m in trained), strict=True):
        assert np.array_equal(values(a), values(b)), a.path


@keras.saving.register_keras_serializable(package="kompakt_tests")
class Restless(layers.Layer):
    """Changes and penalizes in inference too."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")
        self.seeds = keras.random.SeedGenerator(1)
        self.built = True

    def call(self, x):
        self.count.assign(self.count + 1.0)
        self.add_loss(ops.sum(x) * 0.0)
        return x + 0.01 * keras.random.normal(ops.shape(x), seed=self.seeds)


def test_what_layers_do_in_inference_is_undone():
    inputs = keras.Input((8, 8, 2))
    model = kp.quantize(
        keras.Model(inputs, layers.Dense(3)(layers.Flatten()(Restless(name="r")(inputs)))), calibration=X
    )
    before = [values(w) for w in model.weights]
    watch = kp.callbacks.Watch(data=X)
    watch.set_model(model)
    watch.look()
    assert all(np.array_equal(a, values(b)) for a, b in zip(before, model.weights, strict=True))
    assert not any(chain.look for _, chain, _ in chains_of(model))


def test_every_so_many_steps(tmp_path):
    fit(pruned(), board(tmp_path, 4))
    found, _ = read(tmp_path)
    assert list(found["sparsity/conv/kernel"]) == [0, 4, 6, 8, 12, 16, 18]
    # The running loss of an epoch is in the logs of a step too.
    assert set(found["fit/loss"]) == {4, 6, 8, 12, 16, 18}


def test_several_steps_at_once(tmp_path):
    if keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on torch")
    model = pruned()
    model.compile("sgd", LOSS, steps_per_execution=4)
    fit(model, board(tmp_path, 3), epochs=2)
    found, _ = read(tmp_path)
    assert list(found["sparsity/conv/kernel"]) == [0, 4, 6, 10, 12]


def test_steps_of_an_optimizer_that_gathers_gradients(tmp_path):
    fit(MODELS["clustered"](), board(tmp_path), optimizer=keras.optimizers.SGD(0.01, gradient_accumulation_steps=2))
    assert list(read(tmp_path)[0]["distinct"]) == [0, 3, 6, 9]


def test_training_that_is_taken_up_goes_on_in_the_same_curves(tmp_path):
    model = pruned()
    fit(model, board(tmp_path), epochs=1)
    model.save(tmp_path / "half.keras")
    again = keras.saving.load_model(tmp_path / "half.keras")
    fit(again, board(tmp_path), epochs=3, initial_epoch=1)
    found, _ = read(tmp_path)
    assert list(found["sparsity/conv/kernel"]) == [0, 6, 12, 18]
    assert found["sparsity/conv/kernel"][18] == 0.75


class Stops(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupt_leaves_files_that_are_read_and_what_was_lost_is_not_shown(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(pruned(), board(tmp_path / "logs", 2), Stops(11))
    found, _ = read(tmp_path / "logs")
    assert list(found["sparsity/conv/kernel"]) == [0, 2, 4, 6, 8, 10]
    # Half a record, as a machine that loses power leaves it.
    (path,) = (tmp_path / "logs").iterdir()
    path.write_bytes(path.read_bytes() + path.read_bytes()[-40:-20])
    assert list(read(tmp_path / "logs")[0]["sparsity/conv/kernel"]) == [0, 2, 4, 6, 8, 10]
    # From the beginning again.
    fit(pruned(), board(tmp_path / "logs", 5), epochs=2)
    # The reader of the server; the other one forgets tensors when it forgets what a restart has made void.
    found, _ = read(tmp_path / "logs", plugin_event_accumulator.EventAccumulator, tensor_size_guidance={"scalars": 0})
    assert list(found["sparsity/conv/kernel"]) == [0, 5, 6, 10, 12]


WITHOUT = """
import sys
sys.modules["tensorflow"] = None  # as where it is not installed; Keras itself imports it where it is
import numpy as np, keras, kompakt as kp
model = kp.prune(keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="d")]), 0.5)
model.compile("sgd", "mse")
model.fit(np.zeros((8, 4)), np.zeros((8, 8)), verbose=0, callbacks=[kp.callbacks.TensorBoard(sys.argv[1])])
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras runs on it")
def test_tensorflow_is_not_needed(tmp_path):
    subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], check=True)
    assert read(tmp_path)[0]["sparsity/d/kernel"] == {0: 0.5, 1: 0.5}


def test_in_a_loop_of_ones_own(tmp_path):
    model = MODELS["clustered"]()
    watch = board(tmp_path, 2)
    watch.set_model(model)
    watch.on_train_begin()
    watch.on_epoch_begin(0)
    for step in range(4):
        watch.on_train_batch_end(step, {"loss": 1.0 - step / 10})
    watch.on_epoch_end(0, {"loss": 0.5})
    found, _ = read(tmp_path)
    assert list(found["distinct"]) == [0, 2, 4] and found["fit/loss"] == {2: pytest.approx(0.9), 4: 0.5}


def test_metrics_reach_all_that_reads_the_logs_of_keras(tmp_path, capsys):
    seen = kp.callbacks.Metrics(["sparsity", "sparsity/conv/kernel", "mask_change"])
    stop = keras.callbacks.EarlyStopping(monitor="sparsity", mode="max", baseline=0.4, patience=1)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model = pruned()
    history = fit(model, seen, stop, log, verbose=2).history
    assert len(history["sparsity"]) == EPOCHS and history["sparsity/conv/kernel"][-1] == 0.75
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["sparsity"]) for row in rows] == history["sparsity"]
    assert [float(row["mask_change"]) for row in rows] == history["mask_change"]
    printed = capsys.readouterr().out
    assert f"sparsity: {history['sparsity'][-1]:.4f}" in printed and "mask_change: " in printed
    assert stop.best == history["sparsity"][-1]


def test_the_progress_line_within_an_epoch(capsys):
    fit(pruned(), kp.callbacks.Metrics("sparsity", 2), verbose=1)
    lines = capsys.readouterr().out.replace("\r", "\n").split("\n")
    within = [line for line in lines if f"/{STEPS}" in line and "loss" in line]
    assert within and all("sparsity: " in line for line in within[1:])


def test_metrics_of_a_whole_combination():
    history = fit(pcqat(), kp.callbacks.Metrics(["sparsity", "distinct", "clipping", "cluster_change"], data=X)).history
    assert history["distinct"] == [5.0] * EPOCHS and min(history["sparsity"]) > 0.3
    assert all(0 <= share < 0.2 for share in history["clipping"]) and len(history["cluster_change"]) == EPOCHS


def test_a_metric_that_the_model_has_not():
    with pytest.raises(InputError) as caught:
        fit(pruned(), kp.callbacks.Metrics(["sparsty"]))
    assert str(caught.value) == (
        "metric 'sparsty': expected one of mask_change, sparsity, sparsity_asked, mask_change/conv/kernel, "
        "mask_change/dense/kernel, sparsity/conv/kernel, sparsity/dense/kernel, sparsity_asked/conv/kernel, "
        "sparsity_asked/dense/kernel; nearest: 'sparsity'; what activations clip needs data="
    )


@pytest.mark.parametrize("bad", [0, -3, 2.5, "batch", True])
def test_an_update_frequency_that_is_none(bad, tmp_path):
    with pytest.raises(InputError) as caught:
        board(tmp_path, bad)
    assert str(caught.value) == f"update_freq {bad!r}: expected 'epoch' or a number of steps, 1 or more"


def test_samples_of_another_shape(tmp_path):
    with pytest.raises(InputError, match=r"samples to watch: received an array of shape \(4, 3\)"):
        fit(pcqat(), board(tmp_path, data=np.zeros((4, 3))))
