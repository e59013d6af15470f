"""The commands of the command line: a file and a row each. Their imports come late, so that ``--help`` is quick.

A command's module has ``ABOUT``, one line; ``options(parser)``, which adds what it takes; ``check(options)``, which
comes before Keras is imported and raises for what can be told without it (a file that is not there, an unknown word);
and ``run(options)``, which does it and returns the exit code.
"""

COMMANDS = (
    "demo",
    "optimize",
    "export",
    "verify",
    "evaluate",
    "compare",
    "bench",
    "inspect",
    "view",
    "report",
    "join",
    "sensitivity",
    "recipes",
)
"""Names of the modules here, in the order in which ``kompakt --help`` has them."""

WITHOUT_KERAS = ("report",)
"""Those that need no Keras at all."""
