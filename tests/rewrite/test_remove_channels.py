"""The law of removed channels: the smaller model equals the masked one, for every kind of layer and connection."""

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import kompakt as kp
from kompakt.rewrite.channel_groups import channel_groups, read_channels
from kompakt.rewrite.channel_scope import CARRIES, MAKES, variable_of
from kompakt.rewrite.remove_channels import is_weight, masks_by_group

from .topologies import SHRINK, conv, image, inputs_of, outputs_of, random_network, scramble


def random_masks(groups, seed, keep=0.6):
    random = np.random.default_rng(seed)
    masks = {}
    for group in groups:
        mask = random.random(group.size) < keep
        mask[random.integers(group.size)] = True
        mask[np.flatnonzero(mask)[0] - 1] = False  # always one that goes
        masks[group.name] = mask if mask.any() else np.arange(group.size) > 0
    return masks


def snapshot(model):
    return [np.array(ops.convert_to_numpy(v)) for v in model.variables], model.to_json() if hasattr(
        model, "_nodes_by_depth"
    ) else ""


def assert_close(found, wanted, scale):
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * scale)


def assert_law(model, masks, **options):
    """Shrunk equals masked, is smaller, is another function than the model, and the model is untouched."""
    x, before = inputs_of(model), snapshot(model)
    whole = outputs_of(model, x)
    small = kp.remove_channels(model, masks, **options)
    masked = kp.mask_channels(model, masks, **options)
    wanted = outputs_of(masked, x)
    scale = max(1.0, *(float(np.abs(t).max()) for t in wanted))
    assert_close(outputs_of(small, x), wanted, scale)
    assert max(float(np.abs(a - b).max()) for a, b in zip(whole, wanted, strict=True)) > 1e-3
    assert small.count_params() < model.count_params() == masked.count_params()
    after = snapshot(model)
    assert after[1] == before[1]
    for a, b in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(a, b)
    return small


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", SHRINK)
def test_the_smaller_model_equals_the_masked_one(kind, seed):
    keras.utils.set_random_seed(seed)
    model = scramble(SHRINK[kind](), seed)
    found = channel_groups(model)
    small = assert_law(model, random_masks(found.groups, seed))
    assert [w.path.split("/")[-1] for w in small.weights] == [w.path.split("/")[-1] for w in model.weights]


@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed):
    keras.utils.set_random_seed(seed)
    model = random_network(seed)
    assert_law(model, random_masks(channel_groups(model).groups, seed))
