"""Reports: ``facts`` computes rows from a Run, ``table``, ``plot`` and ``html`` only render them.

Importing this package loads no renderer; rich, matplotlib and jinja2 are loaded when they are used.
"""
