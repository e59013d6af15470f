"""Layers with names that TensorFlow does not take: exported to every target under the names they have."""

import keras
import numpy as np
import pytest

import kompakt as kp
from kompakt.errors import InputError
from kompakt.scopes import taken
from kompakt.targets import TARGETS, find_target

L = keras.layers
MODES = [(target, mode) for target in TARGETS for mode in ("float", "int8") if mode in find_target(target).modes]
NAMES = ("my layer", "<script>\"q\" é 'x'", "_first", "層")
X = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")


def odd():
    keras.utils.set_random_seed(0)
    hidden = [L.Dense(8, activation="relu", name=name) for name in NAMES[:-1]]
    return keras.Sequential([keras.Input((8,)), *hidden, L.Dense(3, name=NAMES[-1])], name="a model")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "mode"), MODES)
def test_every_target_takes_names_that_tensorflow_does_not(target, mode, tmp_path):
    place = find_target(target)
    try:
        place.ready()
    except InputError as error:
        pytest.skip(str(error))
    model, path = odd(), tmp_path / f"m{place.suffix}"
    made = kp.export(model, path, target=target, quantization=mode, calibration=X)
    assert made.breaches == ()
    assert {site.site for site in made.sites} == {f"{name}/kernel" for name in NAMES}
    assert [layer.name for layer in model.layers] == list(NAMES) and model.name == "a model"
    assert kp.verify_file(path, model, X).breaches == ()


@keras.saving.register_keras_serializable("test_scopes")
class Broken(L.Layer):
    """Works until TensorFlow traces it for a file."""

    broken = False

    def call(self, inputs):
        if self.broken:
            raise ValueError("it is broken now")
        return 2.0 * inputs


def test_a_trace_that_fails_leaves_no_name_changed_and_no_scope_open(tmp_path):
    model = keras.Sequential([keras.Input((8,)), L.Dense(3, name="my layer"), Broken(name="a b")], name="c d")
    model.layers[-1].broken = True
    with pytest.raises(InputError, match="it is broken now"):
        kp.export(model, tmp_path / "m", target="savedmodel")
    assert [layer.name for layer in model.layers] == ["my layer", "a b"] and model.name == "c d"
    assert L.Dense(2).build((None, 2)) is None
    assert [taken(name)[0] for name in ("é", "-a", "a")] == ["s", "s", "a"]
