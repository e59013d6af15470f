"""Distillation beside tfmot, which has none: Keras' own Distiller makes the student, tfmot's names quantize it."""

import keras
from common import LOSS, compiled, digits, folder, network, show, trained

import kompakt as kp
import kompakt.tfmot as tfmot  # was: import tensorflow_model_optimization as tfmot


def main(out):
    x, _, y, _ = digits()
    teacher = trained(width=32)

    student = network(width=6, name="student")
    distiller = keras.distillation.Distiller(
        teacher, student, distillation_losses=keras.distillation.LogitsDistillation(temperature=4.0)
    )
    distiller.compile(keras.optimizers.Adam(2e-3), LOSS)
    distiller.fit(x, y, epochs=20, verbose=0)

    q_aware = compiled(tfmot.quantization.keras.quantize_model(student), 1e-4)
    q_aware.fit(x, y, epochs=2, verbose=0)

    kp.export(teacher, out / "teacher.tflite")
    kp.export(q_aware, out / "student_tfmot.tflite")
    return [show("teacher, float", out / "teacher.tflite"), show("student, int8", out / "student_tfmot.tflite")]


if __name__ == "__main__":
    main(folder())
