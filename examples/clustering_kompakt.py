"""Weight clustering with kompakt: a few values a layer, checked in the file."""

from common import compiled, digits, folder, show, trained

import kompakt as kp


def main(out):
    x, _, y, _ = digits()
    model = trained()

    clustered = compiled(kp.cluster(model, 16), 1e-4)
    clustered.fit(x, y, epochs=2, verbose=0)

    kp.export(model, out / "float.tflite")
    made = kp.export(clustered, out / "clustered.tflite")  # not stripped: the file is checked for the 16 values
    assert made.distinct <= 16
    return [show("float", out / "float.tflite"), show("16 values a layer", out / "clustered.tflite")]


if __name__ == "__main__":
    main(folder())
