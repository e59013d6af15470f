"""Quantization with kompakt: after training from a few samples, and quantization-aware training."""

from common import compiled, digits, folder, show, trained

import kompakt as kp


def main(out):
    x, _, y, _ = digits()
    model = trained()

    q_aware = compiled(kp.quantize(model, "int8", calibration=x[:256]), 1e-4)
    q_aware.fit(x, y, batch_size=32, epochs=2, verbose=0)

    kp.export(model, out / "float.tflite")
    kp.export(model, out / "ptq.tflite", quantization="int8", calibration=x[:256])
    kp.export(q_aware, out / "qat.tflite")
    return [
        show("float", out / "float.tflite"),
        show("int8 after training", out / "ptq.tflite"),
        show("QAT int8", out / "qat.tflite"),
    ]


if __name__ == "__main__":
    main(folder())
