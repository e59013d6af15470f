"""Files of real Keras 2 predict on every backend what they predicted there."""

import pytest

from kompakt.loading import load_model

NEW = (
    "sequential",
    "deferred",
    "shared",
    "nested",
    "nested_sequential",
    "mobile",
    "recurrent",
    "conv_lstm",
    "stateful",
    "text",
    "attention",
    "operators",
    "assorted",
    "more",
    "dictionary",
    "slashes",
)
MORE = (
    "constants",
    "preprocessed",
    "standardized",
    "whole_numbers",
    "functions",
    "cast_layers",
    "causal_first",
    "crops",
    "training_false",
    "masked",
)
LATER = ("constants", "cast_layers", "crops", "training_false")
"""Written by the Keras 2 that stands beside TensorFlow 2.16 and 2.21."""

OLD = tuple(
    f"{kind}_{name}" for kind in ("keras224", "tf115") for name in ("sequential", "recurrent", "mobile", "embedding")
)
FILES = [
    *[("keras2_more", name) for name in MORE],
    *[(folder, name) for folder in ("tf_keras216", "tf_keras221") for name in LATER],
    *[("keras2", name) for name in NEW],
    *[("keras2_old", name) for name in OLD],
]


@pytest.mark.long(quick=6)
@pytest.mark.parametrize(("folder", "name"), FILES)
def test_predictions_are_those_of_keras_2(written, same, folder, name):
    path = written / folder / f"{name}.h5"
    before = path.read_bytes()
    model = load_model(path)
    assert not model.compiled
    same(model, written / folder, name)
    assert path.read_bytes() == before
