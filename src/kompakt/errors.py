"""The three ways kompakt fails, each with a text that says what to do."""

import re


class KompaktError(Exception):
    """Base of every error kompakt raises on purpose.

    Example:
        >>> import kompakt as kp
        >>> try:
        ...     kp.load_recipe("qat_int9")
        ... except KompaktError as error:
        ...     print(error)
        recipe 'qat_int9': no recipe and no file of that name; nearest: 'qat_int8'
    """


class InputError(KompaktError, ValueError):
    """What the user gave cannot be used: the text has what was received, what was expected, what to do.

    The command line prints it on one line and exits with code 2.

    Example:
        >>> import keras, kompakt as kp
        >>> try:
        ...     kp.prune(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), 1.5)
        ... except InputError as error:
        ...     print(error)
        sparsity 1.5: expected a share from 0 to below 1, such as 0.75
    """

    _keras_call_info_injected = True  # else Keras puts a page of a layer's arguments around it


class VerificationError(KompaktError):
    """A file was made, run and found not to be what was asked for; the text names the layer.

    The command line prints it on one line and exits with code 1. ``breaches`` holds one line a breach.

    Example:
        >>> VerificationError("m.tflite: 3 breaches", ("a float operator",)).breaches
        ('a float operator',)
    """

    def __init__(self, message: str, breaches: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.breaches = breaches


IN_FRONT = re.compile(r"Exception encountered when calling .*|in user code:|\x1b\[[\d;]*m|File .*, line \d+, in .*")
"""What Keras and TensorFlow put before the reason of an error, and colours."""


def first_line(error: BaseException) -> str:
    """What another program's error says, on one line; its type where it says nothing.

    Example:
        >>> first_line(ValueError("\\nnot so\\nbecause")), first_line(KeyError())
        ('not so', 'KeyError')
        >>> first_line(ValueError("Exception encountered when calling Dense.call().\\n\\nnot so"))
        'not so'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in (IN_FRONT.sub("", line).strip() for line in lines) if line]
    return next(iter([*reasons, *lines]), type(error).__name__)[:300]
