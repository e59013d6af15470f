"""Quantization-aware training as tfmot's users write it, with one import changed."""

from common import compiled, digits, folder, show, trained

import kompakt as kp
import kompakt.tfmot as tfmot  # was: import tensorflow_model_optimization as tfmot


def main(out):
    x, _, y, _ = digits()
    model = trained()

    q_aware = compiled(tfmot.quantization.keras.quantize_model(model), 1e-4)
    q_aware.fit(x, y, batch_size=32, epochs=2, verbose=0)

    # Was TFLiteConverter.from_keras_model(q_aware): this one runs the file and compares it before it is written.
    kp.export(model, out / "float.tflite")
    kp.export(q_aware, out / "qat_tfmot.tflite")
    return [show("float", out / "float.tflite"), show("QAT int8", out / "qat_tfmot.tflite")]


if __name__ == "__main__":
    main(folder())
