"""What a bar shows of a path is the path."""

import io

from rich.console import Console

from kompakt import progress


def test_a_path_is_no_markup(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100))
    with progress.shown(True) as report:
        report("measuring m[/b].tflite", 0.5)
        report("measuring [red]x.tflite", 0.9)
    assert "[red]x.tflite" in screen.getvalue()
