"""Writes keras2_old.zip: models of Keras 2.2.4 and TensorFlow 1.15, and what they predict. Not run by the tests.

python3.7 -m venv /tmp/k1
/tmp/k1/bin/pip install tensorflow==1.15.5 keras==2.2.4 "h5py<3" "protobuf<3.21" "numpy<1.19"
/tmp/k1/bin/python tests/data/make_keras2_old.py tests/data/keras2_old.zip
"""

import io
import os
import sys
import tempfile
import zipfile

import keras
import numpy as np
import tensorflow as tf


def sequential(K, L):
    model = K.models.Sequential(
        [
            L.Dense(8, input_shape=(5,), activation="relu"),
            L.BatchNormalization(),
            L.Dropout(0.2),
            L.LeakyReLU(0.1),
            L.Dense(3, activation="softmax"),
        ]
    )
    model.compile(K.optimizers.Adam(lr=0.01, decay=1e-3), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.random.rand(8, 5), np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]], verbose=0)
    return model


def recurrent(K, L):
    a, b = L.Input((6, 3)), L.Input((6, 3))
    lstm = L.LSTM(4, return_sequences=True)
    y = L.Concatenate()([lstm(a), lstm(b)])
    y = L.Bidirectional(L.GRU(3, return_sequences=True))(y)
    y = L.TimeDistributed(L.Dense(4, activation="hard_sigmoid"))(y)
    model = K.models.Model([a, b], L.GlobalMaxPooling1D()(y))
    model.compile(K.optimizers.RMSprop(lr=0.01), "mse", metrics=["mae"])
    return model


def mobile(K, L):
    x = L.Input((12, 12, 3))
    y = L.Conv2D(4, 3, strides=2, use_bias=False)(x)
    y = L.ReLU(6.0)(L.BatchNormalization()(y))
    y = L.SeparableConv2D(4, 3)(L.DepthwiseConv2D(3, padding="same")(y))
    inner = K.models.Sequential([L.Conv2D(3, 1, input_shape=(3, 3, 4)), L.BatchNormalization()])
    return K.models.Model(x, L.Flatten()(inner(y)))


def embedding(K, L):
    layers = [L.Embedding(11, 4, input_length=7, mask_zero=True), L.LSTM(3), L.Dense(1, activation="sigmoid")]
    return K.models.Sequential(layers)


def randomize(model, random):
    """Weights of which no two are alike, so that a swap is seen."""
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            low = 0.5 if "variance" in weight.name else -0.6
            values.append(random.uniform(low, low + 1.0, tuple(int(size) for size in weight.shape)))
        layer.set_weights(values)


def main(path):
    numbers = {}
    folder = tempfile.mkdtemp()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as pack:

        def put(name, data):
            pack.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_LZMA)

        for kind, library in (("keras224", keras), ("tf115", tf.keras)):
            for make in (sequential, recurrent, mobile, embedding):
                name = kind + "_" + make.__name__
                random = np.random.RandomState(0)
                model = make(library, library.layers)
                randomize(model, random)
                shapes = [(4, *(int(size) for size in tensor.shape[1:])) for tensor in model.inputs]
                inputs = [random.normal(size=shape).astype("float32") for shape in shapes]
                if make is embedding:
                    inputs = [random.randint(0, 11, shapes[0]).astype("float32")]
                numbers.update((name + "/x" + str(index), each) for index, each in enumerate(inputs))
                numbers[name + "/y0"] = model.predict(inputs)
                file = os.path.join(folder, name + ".h5")
                model.save(file)
                with open(file, "rb") as stream:
                    put(name + ".h5", stream.read())
        buffer = io.BytesIO()
        np.savez(buffer, **numbers)
        put("numbers.npz", buffer.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
