"""The three ways kompakt fails, each with a text that says what to do."""


class KompaktError(Exception):
    """Base of every error kompakt raises on purpose."""


class InputError(KompaktError, ValueError):
    """What the user gave cannot be used: the text has what was received, what was expected, what to do.

    The command line prints it on one line and exits with code 2.
    """


class VerificationError(KompaktError):
    """A file was made, run and found not to be what was asked for; the text names the layer.

    The command line prints it on one line and exits with code 1. ``breaches`` holds one line a breach.
    """

    def __init__(self, message: str, breaches: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.breaches = breaches
