"""Distillation with kompakt: a student of the teacher's family, taught as the integer model that it is shipped as."""

from common import compiled, digits, folder, show, trained

import kompakt as kp


def main(out):
    x, _, y, _ = digits()
    teacher = trained(width=32)

    student = compiled(kp.student(teacher, width=0.19), 2e-3)
    first = kp.distill(student, teacher)
    first.fit(x, y, epochs=20, verbose=0)

    # The integer model has the teacher too: distillation and quantization-aware training in one.
    q_aware = compiled(kp.quantize(first.student, "int8", calibration=x[:256]), 1e-4)
    second = kp.distill(q_aware, teacher)
    second.fit(x, y, epochs=2, verbose=0)

    kp.export(teacher, out / "teacher.tflite")
    kp.export(second.student, out / "student.tflite")
    return [show("teacher, float", out / "teacher.tflite"), show("student, int8", out / "student.tflite")]


if __name__ == "__main__":
    main(folder())
