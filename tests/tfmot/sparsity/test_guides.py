"""What the guides to pruning with tfmot promise, on Keras 3."""

import gzip
import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

import kompakt as kp
from kompakt.tfmot import sparsity as pruning

SPEC = importlib.util.spec_from_file_location("nets", Path(__file__).parents[1] / "nets.py")
nets = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(nets)
tfmot = pruning.keras


def zipped(model, path):
    model.save(path)
    return len(gzip.compress(path.read_bytes()))


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    return nets.fitted(nets.net(), 15)


@pytest.fixture(scope="module")
def pruned(trained):
    schedule = tfmot.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=57 * 8)
    model = tfmot.prune_low_magnitude(trained, pruning_schedule=schedule)
    return nets.fitted(model, 16, 3e-3, callbacks=[tfmot.UpdatePruningStep()])


@pytest.mark.slow
def test_sparsity_reached_everywhere_at_little_loss(trained, pruned):
    before = [np.array(w) for w in trained.get_weights()]
    plain = tfmot.strip_pruning(pruned)
    assert nets.kernels(plain) == pytest.approx({"conv": 0.8, "hidden": 0.8, "dense": 0.8}, abs=0.005)
    assert [type(layer) for layer in plain.layers] == [type(layer) for layer in trained.layers]
    assert nets.accuracy(plain) > nets.accuracy(trained) - 0.02
    x = nets.digits()[0]
    np.testing.assert_allclose(plain.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-4)
    for a, b in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_much_smaller_when_zipped(trained, pruned, tmp_path):
    plain = tfmot.strip_pruning(pruned)
    assert zipped(nets.net(), tmp_path / "a.h5") > 2 * zipped(plain, tmp_path / "b.h5")
    dense, sparse = (
        kp.export(model, tmp_path / f"{name}.tflite") for model, name in ((trained, "dense"), (plain, "sparse"))
    )
    sizes = [len(gzip.compress(Path(a.path).read_bytes())) for a in (dense, sparse)]
    assert sizes[0] > 2.2 * sizes[1]


@pytest.mark.slow
def test_tflite_file_is_as_good(pruned, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    plain = tfmot.strip_pruning(pruned)
    artifact = kp.export(plain, tmp_path / "m.tflite")
    runtime = Interpreter(str(artifact.path))
    runtime.allocate_tensors()
    x, y = nets.digits()
    hits = []
    for image, label in zip(x[:300], y[:300], strict=True):
        runtime.set_tensor(runtime.get_input_details()[0]["index"], image[None])
        runtime.invoke()
        hits.append(runtime.get_tensor(runtime.get_output_details()[0]["index"]).argmax() == label)
    expected = (plain.predict(x[:300], verbose=0).argmax(-1) == y[:300]).mean()
    assert np.mean(hits) == pytest.approx(expected, abs=0.005)


@pytest.mark.slow
def test_two_of_four(trained):
    model = tfmot.prune_low_magnitude(trained, sparsity_m_by_n=(2, 4))
    nets.fitted(model, 2, callbacks=[tfmot.UpdatePruningStep()])
    plain = tfmot.strip_pruning(model)
    for name in ("hidden", "dense"):
        kernel = plain.get_layer(name).get_weights()[0]
        assert ((kernel.T.reshape(len(kernel.T), -1, 4) == 0).sum(-1) == 2).all()
    assert nets.kernels(plain)["conv"] == 0.0  # one input channel
    assert nets.accuracy(plain) > 0.95


def test_some_layers_by_clone_function():
    def dense_only(layer):
        return tfmot.prune_low_magnitude(layer) if isinstance(layer, keras.layers.Dense) else layer

    model = keras.models.clone_model(nets.net(), clone_function=dense_only)
    nets.fitted(model, 1, callbacks=[tfmot.UpdatePruningStep()])
    assert nets.kernels(tfmot.strip_pruning(model)) == {"conv": 0.0, "hidden": 0.5, "dense": 0.5}


def small(**schedule):
    layer = keras.layers.Dense(16, activation="relu", name="a")
    return keras.Sequential(
        [
            keras.Input((8,)),
            tfmot.prune_low_magnitude(layer, tfmot.ConstantSparsity(0.5, **{"begin_step": 0, **schedule})),
            keras.layers.Dense(3, name="b"),
        ]
    )


def random_data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 8)).astype("float32"), rng.integers(0, 3, 32)


def scalars(folder):
    found = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    tags = [tag for tag in found.Tags()["tensors"] if found.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"]
    return {tag: {e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in found.Tensors(tag)} for tag in tags}


def test_summaries_in_fit(tmp_path):
    model = small(begin_step=3, frequency=1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callbacks = [tfmot.UpdatePruningStep(), tfmot.PruningSummaries(log_dir=str(tmp_path))]
    model.fit(*random_data(), batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    found = scalars(tmp_path)
    assert found["a/kernel/sparsity"] == {0: 0.0, 4: 0.5, 8: 0.5} == found["sparsity"]
    kernel = tfmot.strip_pruning(model).get_layer("a").get_weights()[0]
    assert found["a/kernel/threshold"][8] == pytest.approx(np.abs(kernel[kernel != 0]).min())
    assert {"fit/loss", "sparsity_asked/a/kernel"} <= set(found)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a loop with TensorFlow's tape")
def test_loop_of_ones_own(tmp_path):
    tf = pytest.importorskip("tensorflow")
    model, optimizer = small(begin_step=2, frequency=1), keras.optimizers.Adam(0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = random_data()
    model.optimizer = optimizer
    step, log = tfmot.UpdatePruningStep(), tfmot.PruningSummaries(log_dir=tmp_path)
    step.set_model(model)
    log.set_model(model)
    step.on_train_begin()
    seen = []
    for _ in range(2):
        log.on_epoch_begin(epoch=-1)
        for _ in range(2):
            step.on_train_batch_begin(batch=-1)
            with tf.GradientTape() as tape:
                value = loss(y, model(x, training=True))
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
            seen.append(nets.kernels(tfmot.strip_pruning(model))["a"])
        step.on_epoch_end(batch=-1)
    assert seen == [0.0, 0.0, 0.5, 0.5]
    assert scalars(tmp_path)["a/kernel/sparsity"] == {0: 0.0, 2: 0.0}


def test_epochs_of_a_loop_that_are_told(tmp_path):
    model, step = small(begin_step=3, frequency=1), tfmot.UpdatePruningStep()
    step.set_model(model)
    step.on_train_begin()
    seen = []
    for _ in range(2):
        step.on_epoch_begin(epoch=-1)
        for _ in range(2):
            step.on_train_batch_begin(batch=-1)
            seen.append(nets.kernels(tfmot.strip_pruning(model))["a"])
    assert seen == [0.0, 0.0, 0.0, 0.5]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_checkpoint_goes_on(tmp_path, suffix):
    x, y = random_data()
    schedule = tfmot.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=8, power=1, frequency=2)
    model = tfmot.prune_low_magnitude(tfmot.strip_pruning(small()), schedule)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    halfway = nets.kernels(tfmot.strip_pruning(model))
    model.save(tmp_path / f"m{suffix}")
    with tfmot.prune_scope():
        again = keras.models.load_model(tmp_path / f"m{suffix}", compile=suffix == ".keras")
    assert nets.kernels(tfmot.strip_pruning(again)) == halfway
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    if suffix == ".keras":
        assert int(again.optimizer.iterations) == 4
    else:  # Keras 3 trains no model on that it loads compiled from .h5
        again.compile(keras.optimizers.Adam(0.01), loss)
    # The 4 steps that are missing: at the last, step 7, the schedule ends.
    again.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    assert nets.kernels(tfmot.strip_pruning(again)) == {"a": 0.75, "b": 0.75}


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_jobs_that_are_shorter_than_the_frequency(tmp_path, suffix):
    def made():
        schedule = tfmot.PolynomialDecay(0.5, 0.8, begin_step=0, end_step=20)  # every 100 steps
        return tfmot.prune_low_magnitude(tfmot.strip_pruning(small()), schedule)

    (x, y), path = random_data(), tmp_path / f"m{suffix}"
    model = made()
    for _ in range(5):  # of 4 steps each
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
        model.save(path) if suffix == ".h5" else model.save_weights(path)
        model = keras.models.load_model(path, compile=False) if suffix == ".h5" else made()
        if suffix != ".h5":
            model.load_weights(path)
    assert nets.kernels(tfmot.strip_pruning(model)) == pytest.approx({"a": 0.8, "b": 0.8}, abs=0.01)


def test_a_new_optimizer_counts_no_step_twice(caplog):
    model = tfmot.prune_low_magnitude(
        tfmot.strip_pruning(small()), tfmot.PolynomialDecay(0.1, 0.8, begin_step=0, end_step=8, frequency=1)
    )
    for _ in range(2):
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        update = tfmot.UpdatePruningStep()
        model.fit(*random_data(), batch_size=8, verbose=0, callbacks=[update])
    assert update.step == 8
    tfmot.strip_pruning(model)
    assert not caplog.messages


def test_a_loop_of_ones_own_that_is_taken_up(tmp_path):
    model = small(begin_step=3, frequency=1)
    for expected in (0.0, 0.5):
        step = tfmot.UpdatePruningStep()
        step.set_model(model)
        step.on_train_begin()
        for _ in range(2):  # and the loop never says that it has ended
            step.on_train_batch_begin(batch=-1)
        assert nets.kernels(tfmot.strip_pruning(model))["a"] == expected
        model.save(tmp_path / "m.keras")
        model = keras.models.load_model(tmp_path / "m.keras")


def mobile():
    inputs = keras.Input((33, 33, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = keras.layers.Conv2D(16, 1, activation="relu", name="point")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(x))


def test_on_device_inference_policy():
    model = tfmot.prune_low_magnitude(mobile(), pruning_policy=tfmot.PruneForLatencyOnXNNPack())
    assert nets.kernels(tfmot.strip_pruning(model)) == {"stem": 0.0, "depthwise": 0.0, "point": 0.5, "head": 0.0}
    with pytest.raises(ValueError, match="policy 'xnnpack' cannot help this model"):
        tfmot.prune_low_magnitude(nets.net(), pruning_policy=tfmot.PruneForLatencyOnXNNPack())
