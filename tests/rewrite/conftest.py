"""What every rewrite has to keep: the predictions, the names of inputs and outputs, and the model it was given."""

import keras
import numpy as np
import pytest

from kompakt.rewrite.inline import inline


def draw(tensor, random):
    shape = (5, *(n or 7 for n in tensor.shape[1:]))
    if keras.backend.is_float_dtype(tensor.dtype):
        return random.normal(size=shape).astype("float32")
    return random.integers(0, 5, shape)


def structure(model):
    return model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct


def shake(model):
    """Give every variable a value that is not its first: BatchNorm statistics, biases."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[-1]
        low, high = (0.3, 2.0) if name in ("moving_variance", "gamma") else (-0.5, 0.5)
        weight.assign(random.uniform(low, high, weight.shape))


def flat(values):
    return [keras.ops.convert_to_numpy(v) for v in keras.tree.flatten(values)]


@pytest.fixture
def rewritten():
    """``rewritten(model, rewrite)``: the new model, after it was compared with ``model`` on random inputs.

    ``rewrite`` gets a flat functional copy. What it gives back may have the model first in a tuple.
    """

    def check(model, rewrite, *, tolerance=1e-5, flatten=True):
        shake(model)
        given = inline(model)[0] if flatten else model
        random = np.random.default_rng(0)
        x = keras.tree.map_structure(lambda t: draw(t, random), structure(given))
        before, weights, config = given(x, training=False), flat(given.get_weights()), given.to_json()

        made = rewrite(given)
        new = made[0] if isinstance(made, tuple) else made

        after = new(x, training=False)
        assert keras.tree.is_nested(after) == keras.tree.is_nested(before)
        for a, b in zip(flat(before), flat(after), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)
        assert [t.shape for t in new.inputs] == [t.shape for t in given.inputs]
        # The model that was given is as it was, and shares no layer with the new one.
        assert given.to_json() == config
        for a, b in zip(weights, flat(given.get_weights()), strict=True):
            assert np.array_equal(a, b)
        assert not {id(v) for v in new.variables} & {id(v) for v in given.variables}
        return made

    return check
