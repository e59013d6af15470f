"""Prune, cluster, then quantization-aware training that keeps both (PCQAT), as tfmot's users write it."""

from common import compiled, digits, folder, show, trained

import kompakt as kp
import kompakt.tfmot as tfmot  # was: import tensorflow_model_optimization as tfmot


def main(out):
    x, _, y, _ = digits()
    model = trained()

    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=10)
    pruned = compiled(tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule))
    pruned.fit(x, y, epochs=4, verbose=0, callbacks=[tfmot.sparsity.keras.UpdatePruningStep()])
    pruned = tfmot.sparsity.keras.strip_pruning(pruned)

    clustered = tfmot.clustering.keras.experimental.cluster_weights(
        pruned, number_of_clusters=16, preserve_sparsity=True
    )
    compiled(clustered, 1e-4).fit(x, y, epochs=2, verbose=0)
    clustered = tfmot.clustering.keras.strip_clustering(clustered)

    annotated = tfmot.quantization.keras.quantize_annotate_model(clustered)
    scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
    pcqat = compiled(tfmot.quantization.keras.quantize_apply(annotated, scheme), 1e-4)
    pcqat.fit(x, y, epochs=2, verbose=0)

    kp.export(model, out / "float.tflite")
    made = kp.export(pcqat, out / "pcqat_tfmot.tflite")
    assert made.zeros >= 0.49, made.zeros
    assert made.distinct <= 16, made.distinct
    return [show("float", out / "float.tflite"), show("PCQAT int8", out / "pcqat_tfmot.tflite")]


if __name__ == "__main__":
    main(folder())
