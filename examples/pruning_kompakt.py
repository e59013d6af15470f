"""Pruning with kompakt: zeros on a schedule, and channels that are really gone, which is what makes a model fast."""

from common import compiled, digits, folder, show, trained

import kompakt as kp


def main(out):
    x, _, y, _ = digits()
    model = trained()

    steps = 8 * -(-len(x) // 32)
    schedule = kp.schedules.Polynomial(0.5, 0.8, begin=0, end=steps // 2, frequency=10)
    pruned = compiled(kp.prune(model, schedule=schedule, sites=["*/kernel"]))
    pruned.fit(x, y, epochs=8, verbose=0, callbacks=[kp.callbacks.Update()])

    shrunk = compiled(kp.shrink(model, 0.5))
    shrunk.fit(x, y, epochs=8, verbose=0)

    kp.export(model, out / "float.tflite")
    kp.export(pruned, out / "pruned.tflite")  # not stripped: the file is checked for the zeros that were asked
    kp.export(shrunk, out / "shrunk.tflite")
    return [
        show("float", out / "float.tflite"),
        show("80 % zeros", out / "pruned.tflite"),
        show("half the multiplications", out / "shrunk.tflite"),
    ]


if __name__ == "__main__":
    main(folder())
