"""``tfmot.quantization.keras.graph_transformations``: gone."""

from kompakt.tfmot.quantization.keras.graph_transformations import model_transformer, transforms

__all__ = ["model_transformer", "transforms"]
