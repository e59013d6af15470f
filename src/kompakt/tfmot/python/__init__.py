"""What old code imports from ``tensorflow_model_optimization.python.core``, by the same paths.

Example:
    >>> from kompakt.tfmot.python.core.quantization.keras.default_8bit import default_8bit_quantize_configs
    >>> default_8bit_quantize_configs.NoOpQuantizeConfig().get_config()
    {}
"""

from kompakt.tfmot.deep_paths import install

install()
