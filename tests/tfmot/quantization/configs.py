"""QuantizeConfigs and Quantizers as people write them for tfmot, and a small model that reads digits."""

import functools

import keras
import numpy as np
from keras import layers, ops
from sklearn.datasets import load_digits

from kompakt.tfmot.quantization.keras import QuantizeConfig, quantizers

WEIGHTS = {"num_bits": 8, "symmetric": True, "narrow_range": False, "per_axis": False}
ACTIVATIONS = {"num_bits": 8, "symmetric": False, "narrow_range": False, "per_axis": False}


class DenseConfig(QuantizeConfig):
    """The kernel and the activation of a Dense."""

    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, quantizers.LastValueQuantizer(**WEIGHTS))]

    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, quantizers.MovingAverageQuantizer(**ACTIVATIONS))]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.kernel = quantize_weights[0]

    def set_quantize_activations(self, layer, quantize_activations):
        layer.activation = quantize_activations[0]

    def get_output_quantizers(self, layer):
        return []

    def get_config(self):
        return {}


class FourBits(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, quantizers.LastValueQuantizer(**{**WEIGHTS, "num_bits": 4}))]


class NoActivation(DenseConfig):
    def get_activations_and_quantizers(self, layer):
        return []

    def set_quantize_activations(self, layer, quantize_activations):
        pass


class Nothing(NoActivation):
    def get_weights_and_quantizers(self, layer):
        return []

    def set_quantize_weights(self, layer, quantize_weights):
        pass


class OutputAlone(Nothing):
    def get_output_quantizers(self, layer):
        return [quantizers.AllValuesQuantizer(**{**ACTIVATIONS, "symmetric": True})]


class FixedRangeQuantizer(quantizers.Quantizer):
    """Keeps a tensor in -0.25..0.25; its end is a variable, made as tfmot's guides make one."""

    def build(self, tensor_shape, name, layer):
        end = layer.add_weight(name + "_end", initializer=keras.initializers.Constant(0.25), trainable=False)
        return {"end": end}

    def __call__(self, inputs, training, weights, **kwargs):
        end = ops.convert_to_tensor(weights["end"])
        return ops.clip(inputs, -end, end)

    def get_config(self):
        return {}


class OwnWeights(DenseConfig):
    def get_weights_and_quantizers(self, layer):
        return [(layer.kernel, FixedRangeQuantizer())]


class OwnActivations(DenseConfig):
    def get_activations_and_quantizers(self, layer):
        return [(layer.activation, FixedRangeQuantizer())]


class Affine(layers.Layer):
    """A layer of one's own, with weights that no table knows."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, shape):
        self.slopes = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform", name="slopes")
        self.offsets = self.add_weight(shape=(self.units,), initializer="zeros", name="offsets")

    def call(self, x):
        return ops.matmul(x, self.slopes) + self.offsets

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class AffineConfig(NoActivation):
    def get_weights_and_quantizers(self, layer):
        return [(layer.slopes, quantizers.LastValueQuantizer(8, True, True, True))]

    def set_quantize_weights(self, layer, quantize_weights):
        layer.slopes = quantize_weights[0]

    def get_output_quantizers(self, layer):
        return [quantizers.MovingAverageQuantizer(**ACTIVATIONS)]


@functools.cache
def digits():
    """((x, y) to train on, (x, y) to judge by)."""
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order]
    return (x[:1300], y[:1300]), (x[1300:], y[1300:])


def fitted(model, epochs, rate=2e-3, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*digits()[0], epochs=epochs, verbose=0, **options)
    return model


def accuracy(model):
    x, y = digits()[1]
    return float((model.predict(x, verbose=0).argmax(-1) == y).mean())


def net(last=None, mark=lambda layer: layer):
    """Convolution, pooling and a last layer; ``mark`` annotates."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            mark(layers.Conv2D(12, 3, activation="relu", name="conv")),
            mark(layers.MaxPooling2D(name="pool")),
            mark(layers.Flatten(name="flat")),
            last or mark(layers.Dense(10, name="dense")),
        ]
    )
