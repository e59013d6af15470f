"""Prune, cluster, then quantization-aware training that keeps both (PCQAT), with kompakt: each works on the last."""

from common import compiled, digits, folder, show, trained

import kompakt as kp


def main(out):
    x, _, y, _ = digits()
    model = trained()

    schedule = kp.schedules.Constant(0.5, begin=0, frequency=10)
    pruned = compiled(kp.prune(model, schedule=schedule, sites=["*/kernel"]))
    pruned.fit(x, y, epochs=4, verbose=0, callbacks=[kp.callbacks.Update()])

    clustered = compiled(kp.cluster(pruned, 16), 1e-4)  # keeps the zeros
    clustered.fit(x, y, epochs=2, verbose=0)

    pcqat = compiled(kp.quantize(clustered, "int8", calibration=x[:256]), 1e-4)  # keeps zeros and values
    pcqat.fit(x, y, epochs=2, verbose=0)

    kp.export(model, out / "float.tflite")
    made = kp.export(pcqat, out / "pcqat.tflite")  # and is checked for both
    assert made.zeros >= 0.49, made.zeros
    assert made.distinct <= 16, made.distinct
    return [show("float", out / "float.tflite"), show("PCQAT int8", out / "pcqat.tflite")]


if __name__ == "__main__":
    main(folder())
