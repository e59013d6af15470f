"""The operators of TensorFlow Lite Micro, by the names that its MicroMutableOpResolver adds them with."""

from __future__ import annotations

from collections.abc import Sequence

from kompakt.errors import InputError
from kompakt.targets.tflite_file import TFLiteFile

OPERATORS = frozenset(
    """
    ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS
    BROADCAST_TO CALL_ONCE CAST CEIL CONCATENATION CONV_2D COS CUMSUM DEPTH_TO_SPACE DEPTHWISE_CONV_2D DEQUANTIZE
    DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD
    FULLY_CONNECTED GATHER GATHER_ND GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU LESS
    LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX MAXIMUM MAX_POOL_2D MEAN MINIMUM
    MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU
    RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX
    SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM SVDF
    TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK VAR_HANDLE WHILE ZEROS_LIKE
    """.split()  # noqa: SIM905  a list of so many would be a page
)
"""Builtin operators it has (tensorflow/lite/micro/micro_mutable_op_resolver.h)."""

IRREGULAR = {
    "CUMSUM": "AddCumSum",
    "PADV2": "AddPadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "AddUnidirectionalSequenceLSTM",
    "BATCH_MATMUL": "AddBatchMatMul",
}
"""Those whose method is not spelt as the operator is."""

DECODE = "AddDecode"
"""The method for weights that are stored as tables."""


def method(op: str) -> str:
    """The method of MicroMutableOpResolver that adds an operator.

    Example:
        >>> method("CONV_2D"), method("SPLIT_V"), method("L2_POOL_2D"), method("FULLY_CONNECTED")
        ('AddConv2D', 'AddSplitV', 'AddL2Pool2D', 'AddFullyConnected')
    """
    usual = "Add" + "".join(part if part[0].isdigit() else part.capitalize() for part in op.split("_"))
    return IRREGULAR.get(op, usual)


def methods(file: TFLiteFile, *, tables: bool = False) -> list[str]:
    """The methods that add each operator of a file once, in alphabetic order."""
    found = {method(op.name) for part in file.parts() for op in part.ops}
    return sorted(found | ({DECODE} if tables else set()))


def missing(file: TFLiteFile) -> list[str]:
    """Each operator of a file that TensorFlow Lite Micro has not, with what it computes: its layer."""
    return [
        f"{op.name} ({place(file, op.outputs)})" for part in file.parts() for op in part.ops if op.name not in OPERATORS
    ]


def place(file: TFLiteFile, outputs: Sequence[int]) -> str:
    """The name of what an operator computes: ``conv1/output``."""
    return next((file.tensors[i].name for i in outputs if 0 <= i < len(file.tensors)), "nothing")


def check_operators(file: TFLiteFile) -> None:
    """Raise where a file has an operator that TensorFlow Lite Micro has not.

    Raises:
        InputError: it has; the text names the operator and the layer.
    """
    found = missing(file)
    if found:
        raise InputError(
            f"TensorFlow Lite Micro has no operator {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}: replace "
            "these layers, or export the model for another target"
        )
