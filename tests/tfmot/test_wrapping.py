"""Layers that are wrapped before they are built behave as those of a model that is attached to."""

import keras
import numpy as np
import pytest

import kompakt as kp
import kompakt.tfmot as tfmot
from kompakt.attach import Transformed, chains_of
from kompakt.errors import InputError
from kompakt.sites import OwnWeights
from kompakt.tfmot.wrapping import TransformedLater, wrap
from kompakt.transforms import Cluster, Prune


def half(_):
    return [Prune(0.5)]


def sparsity(array):
    return float((np.asarray(array) == 0).mean())


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 8)).astype("float32"), rng.integers(0, 3, 32)


def sequential(**first):
    return keras.Sequential(
        [wrap(keras.layers.Dense(16, activation="relu", name="a", **first), half), keras.layers.Dense(3, name="b")]
    )


def check_trains(model):
    x, y = data()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, epochs=1, verbose=0)
    assert [name for name, _, _ in chains_of(model)] == ["a/kernel"]
    plain, encodings = kp.finalize(model)
    assert sparsity(plain.get_layer("a").get_weights()[0]) == 0.5
    assert encodings["a/kernel"].zeros == 64
    assert type(plain.get_layer("a")).__name__ == "Dense"
    np.testing.assert_allclose(plain.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_input_shape_of_the_layer():
    check_trains(sequential(input_shape=(8,)))


def test_model_with_an_input():
    check_trains(keras.Sequential([keras.Input((8,)), *sequential().layers]))


def test_model_called_first():
    model = sequential()
    model(data()[0][:2])
    check_trains(model)


def test_model_built():
    model = sequential()
    model.build((None, 8))
    check_trains(model)


def test_functional():
    x = keras.Input((8,))
    check_trains(keras.Model(x, keras.layers.Dense(3)(wrap(keras.layers.Dense(16, name="a"), half)(x))))


def test_fit_that_builds_is_refused_with_what_to_do():
    model = sequential()
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(InputError, match="give the model an Input"):
        model.fit(*data(), verbose=0)


def test_several_inputs_and_keywords():
    q, k = keras.Input((5, 4)), keras.Input((6, 4))
    attention = wrap(keras.layers.MultiHeadAttention(2, 4, name="mha"), half)
    model = keras.Model([q, k], attention(q, k, return_attention_scores=True))
    assert len(list(chains_of(model))) == 4
    values = [np.ones((1, 5, 4), "float32"), np.ones((1, 6, 4), "float32")]
    expected = kp.finalize(model)[0](values)
    for found, wanted in zip(model(values), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_clone_function_copies_built_layers_with_their_weights():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(3, name="b")])
    before = [np.array(w) for w in model.get_weights()]
    clone = keras.models.clone_model(model, clone_function=lambda each: wrap(each, half) if each.name == "a" else each)
    x, _ = data()
    w = before[0] * np.asarray(clone.get_layer("a").chains["kernel"].transforms[0].mask)
    np.testing.assert_allclose(clone(x), (x @ w + before[1]) @ before[2] + before[3], atol=1e-5)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_round_trip(tmp_path, suffix):
    model = sequential(input_shape=(8,))
    x, _ = data()
    model.save(tmp_path / f"m{suffix}")
    loaded = keras.models.load_model(tmp_path / f"m{suffix}")
    assert isinstance(loaded.get_layer("a"), Transformed)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_config_of_one_that_is_not_built():
    layer = wrap(keras.layers.Dense(16, name="a"), half)
    again = TransformedLater.from_config(layer.get_config())
    again(keras.Input((8,)))
    assert list(again.chains) == ["kernel"]


def test_tensors_that_a_layer_names_itself():
    class Biased(keras.layers.Dense, OwnWeights):
        def own_weights(self):
            return [self.kernel, self.bias]

    class Late(TransformedLater):
        @staticmethod
        def slots_of(layer):
            return ["kernel", "bias"]

    with keras.saving.custom_object_scope({"Biased": Biased}):
        layer = Biased(16, name="a", bias_initializer="random_normal")
        model = keras.Sequential([keras.Input((8,)), wrap(layer, half, Late)])
        plain, encodings = kp.finalize(model)
    assert [sparsity(w) for w in plain.get_weights()] == [0.5, 0.5]
    assert set(encodings) == {"a/kernel"}


def test_layer_without_weights_is_left(caplog):
    relu = keras.layers.ReLU()
    model = keras.Sequential([keras.Input((8,)), wrap(relu, half), wrap(keras.layers.Dense(2, name="d"), half)])
    assert list(kp.finalize(model)[1]) == ["d/kernel"]


def test_clusters_start_from_the_values():
    model = keras.Sequential([keras.Input((8,)), wrap(keras.layers.Dense(16, name="a"), lambda _: [Cluster(4)])])
    plain, _ = kp.finalize(model)
    assert len(np.unique(plain.get_weights()[0])) == 4


def test_no_layer():
    with pytest.raises(InputError, match="expected a Keras model, a layer"):
        wrap("dense", half)


def test_what_was_not_reached_is_logged(caplog):
    """A schedule of 300 steps in a training of 2: the guides' lines on a small data set."""
    sparsity_of = tfmot.sparsity.keras
    schedule = sparsity_of.PolynomialDecay(initial_sparsity=0.5, final_sparsity=0.8, begin_step=0, end_step=300)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, name="a")])
    pruned = sparsity_of.prune_low_magnitude(model, pruning_schedule=schedule)
    pruned.compile("sgd", "mse")
    pruned.fit(np.zeros((64, 8)), np.zeros((64, 16)), verbose=0, callbacks=[sparsity_of.UpdatePruningStep()])
    plain = sparsity_of.strip_pruning(pruned)
    assert sparsity(plain.get_weights()[0]) == 0.5
    assert "a/kernel: pruned to 0.5 of the 0.8 asked" in caplog.text


@pytest.mark.parametrize("frequency", [1, 10, 100])
def test_an_end_that_is_the_number_of_steps_is_reached(frequency):
    """Each guide's formula; tfmot counts steps from 1."""
    names = tfmot.sparsity.keras
    schedule = names.PolynomialDecay(0.5, 0.75, begin_step=0, end_step=4, frequency=frequency)
    pruned = names.prune_low_magnitude(keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)]), schedule)
    pruned.compile("sgd", "mse")
    pruned.fit(np.zeros((64, 8)), np.zeros((64, 16)), batch_size=16, verbose=0, callbacks=[names.UpdatePruningStep()])
    assert sparsity(names.strip_pruning(pruned).get_weights()[0]) == 0.75


def test_a_second_fit_goes_on_with_a_mask_made_at_the_first_step(tmp_path):
    """Step 0 was taken for "never": the default schedule was refused the second time."""
    names = tfmot.sparsity.keras
    pruned = names.prune_low_magnitude(keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)]))
    pruned.compile("sgd", keras.losses.MeanSquaredError())
    options = {"verbose": 0, "callbacks": [names.UpdatePruningStep()]}
    for _ in range(2):
        pruned.fit(np.zeros((64, 8)), np.zeros((64, 16)), **options)
    pruned.save(tmp_path / "m.keras")
    with names.prune_scope():
        loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.fit(np.zeros((64, 8)), np.zeros((64, 16)), verbose=0, callbacks=[names.UpdatePruningStep()])
    assert sparsity(names.strip_pruning(loaded).get_weights()[0]) == 0.5


@pytest.mark.parametrize("many", [False, True])
def test_options_that_nobody_takes_are_refused(many):
    layer = keras.layers.Dense(16)
    given = [layer] if many else keras.Sequential([keras.Input((8,)), layer])
    with pytest.raises(InputError, match="pruning_shedule=: an option that is not known"):
        tfmot.sparsity.keras.prune_low_magnitude(given, pruning_shedule=None)
    with pytest.raises(InputError, match="bogus=: an option that is not known"):
        tfmot.clustering.keras.cluster_weights(given, 3, bogus=1)


def test_the_import_of_the_guides():
    from kompakt.tfmot.clustering.keras.experimental import cluster

    assert cluster.cluster_weights is tfmot.clustering.keras.cluster_weights
