"""Weight clustering as tfmot's users write it, with one import changed."""

from common import compiled, digits, distinct, folder, show, trained

import kompakt as kp
import kompakt.tfmot as tfmot  # was: import tensorflow_model_optimization as tfmot

CentroidInitialization = tfmot.clustering.keras.CentroidInitialization


def main(out):
    x, _, y, _ = digits()
    model = trained()

    clustered = tfmot.clustering.keras.cluster_weights(
        model, number_of_clusters=16, cluster_centroids_init=CentroidInitialization.KMEANS_PLUS_PLUS
    )
    compiled(clustered, 1e-4).fit(x, y, epochs=2, verbose=0)
    final = tfmot.clustering.keras.strip_clustering(clustered)
    assert distinct(final, "dense") <= 16

    kp.export(model, out / "float.tflite")
    kp.export(final, out / "clustered_tfmot.tflite")
    return [show("float", out / "float.tflite"), show("16 values a layer", out / "clustered_tfmot.tflite")]


if __name__ == "__main__":
    main(folder())
