"""Magnitude pruning on a schedule as tfmot's users write it, with one import changed."""

from common import compiled, digits, folder, show, trained

import kompakt as kp
import kompakt.tfmot as tfmot  # was: import tensorflow_model_optimization as tfmot


def main(out):
    x, _, y, _ = digits()
    model = trained()

    # Steps are batches: 43 an epoch here. The share of zeros is raised every `frequency` of them, up to `end_step`; the
    # usual 100 would act four times in all. Half of the training is left to the weights that stay.
    steps = 8 * -(-len(x) // 32)
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.5, final_sparsity=0.8, begin_step=0, end_step=steps // 2, frequency=10
    )
    pruned = compiled(tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule))
    pruned.fit(x, y, epochs=8, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    final = tfmot.sparsity.keras.strip_pruning(pruned)

    kp.export(model, out / "float.tflite")
    kp.export(final, out / "pruned_tfmot.tflite")
    return [show("float", out / "float.tflite"), show("80 % zeros", out / "pruned_tfmot.tflite")]


if __name__ == "__main__":
    main(folder())
