"""Step times of tensorflow-model-optimization, as JSON. ``overhead.py --tfmot-python`` runs it in that interpreter."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from overhead_models import BATCH, MODELS
from stepping import step_ratio

prunes, clusters, quantizes = tfmot.sparsity.keras, tfmot.clustering.keras, tfmot.quantization.keras
kept = tfmot.experimental.combine


def pruned(model: Any, frequency: int = 10**6, **pattern: Any) -> Any:
    """With 75 % zeros, the mask made anew every ``frequency`` steps."""
    schedule = prunes.ConstantSparsity(0.75, begin_step=0, frequency=frequency)
    return prunes.prune_low_magnitude(model, pruning_schedule=schedule, **pattern)


def clustered(model: Any) -> Any:
    """With 16 values a layer."""
    start = clusters.CentroidInitialization.KMEANS_PLUS_PLUS
    return clusters.cluster_weights(model, number_of_clusters=16, cluster_centroids_init=start)


def with_zeros(model: Any) -> Any:
    """A plain model of 75 % zeros."""
    model = keras.models.clone_model(model)
    for layer in model.layers:
        weights = layer.get_weights()
        if weights and weights[0].ndim > 1:
            limit = np.quantile(np.abs(weights[0]), 0.75)
            layer.set_weights([weights[0] * (np.abs(weights[0]) > limit), *weights[1:]])
    return model


def preserving(model: Any, scheme: Any) -> Any:
    """Quantization-aware, keeping what ``scheme`` keeps."""
    return quantizes.quantize_apply(quantizes.quantize_annotate_model(model), scheme)


VARIANTS: dict[str, Callable[[Any], Any]] = {
    "pruned 75 %": pruned,
    "pruned 75 %, every 10 steps": lambda m: pruned(m, 10),
    "pruned 75 %, every step": lambda m: pruned(m, 1),
    "pruned 2:4": lambda m: pruned(m, sparsity_m_by_n=(2, 4)),
    "pruned 75 %, 1x16 blocks": lambda m: pruned(m, block_size=(1, 16)),
    "pruned 75 %, 4x4 blocks": lambda m: pruned(m, block_size=(4, 4)),
    "clustered 16": clustered,
    "QAT": quantizes.quantize_model,
    "PQAT": lambda m: preserving(with_zeros(m), kept.Default8BitPrunePreserveQuantizeScheme()),
    "CQAT": lambda m: preserving(
        clusters.strip_clustering(clustered(m)), kept.Default8BitClusterPreserveQuantizeScheme()
    ),
    "PCQAT": lambda m: preserving(
        clusters.strip_clustering(clustered(with_zeros(m))),
        kept.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True),
    ),
}
"""Name of a variant of ``overhead.py`` -> what tensorflow-model-optimization has for it."""


def main() -> int:
    """Time what the request names, a line of JSON for each variant done."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("request", help="JSON: models, variants, rounds, steps")
    request = json.loads(options.parse_args().request)
    found: dict[str, dict[str, Any]] = {}
    for name in request["models"]:
        found[name] = {}
        for variant in request["variants"]:
            if variant in VARIANTS:
                found[name][variant] = timed(name, variant, request["rounds"], request["steps"])
                print(json.dumps(found), flush=True)
    return 0


def timed(name: str, variant: str, rounds: int, steps: int) -> dict[str, Any]:
    """The ratio of one variant on one model, or the error it ends in."""
    keras.utils.set_random_seed(0)
    plain = MODELS[name](keras)
    try:
        model = VARIANTS[variant](MODELS[name](keras))
        for each in (model, plain):
            each.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
        random = np.random.default_rng(0)
        x = random.normal(size=(steps * BATCH, *plain.input_shape[1:])).astype("float32")
        data = x, random.integers(0, 10, len(x))
        driven = [prunes.UpdatePruningStep()] if variant.startswith("pruned") else []
        ratio = step_ratio(
            model, plain, data, base=keras.callbacks.Callback, callbacks=driven, turns=rounds, batch=BATCH
        )
    except Exception as error:  # noqa: BLE001  what it cannot do is a line of the table
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"}
    return ratio.to_dict()


if __name__ == "__main__":
    sys.exit(main())
