"""The table of one model at several targets."""

import io

from rich.console import Console

from kompakt.records import Agreement, Artifact, Census, Deployment, Measurement
from kompakt.report.deployments import deployment_lines, deployments_table

MADE = Deployment(
    target="tflm",
    milliseconds=0.034,
    spread=0.0004,
    artifact=Artifact(
        path="out/model_tflm", target="tflm", quantization="int8", io="int8", bytes=49_664, gzip_bytes=42_691,
        sha256="", source_sha256="", census=Census(ops={}, tensors={}),
        agreement=Agreement(samples=9, argmax=1.0, max_abs=0.1, exact=1.0, lsb=0.1, max_lsb=1.0),
        measurements=(Measurement(name="arena", value=7040.0, unit="bytes"),),
        notes=("layer [b]a[/b] stays float",), breaches=("NaN",),
    ),
)  # fmt: skip


def printed(*made, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(deployments_table(made, width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_row_fits_into_a_terminal():
    above, head, row, none = printed(MADE, Deployment(target="tfjs", refused="no Node"))
    assert above.split() == ["largest"]
    assert head.split() == ["target", "mode", "bytes", "gzip", "argmax", "diff.", "ms", "arena"]
    assert row.split() == ["tflm", "int8", "49,664", "42,691", "1.0000", "1.00", "LSB", "0.0340", "±0.0004", "7,040"]
    assert none.split() == ["tfjs", *["-"] * 7]
    assert len(head) == len(row) < 80


def test_a_narrow_terminal_goes_without_columns():
    lines = printed(MADE, width=50)
    assert max(map(len, lines)) <= 50 and "±0.0004" in "".join(lines)
    assert "Left out in this narrow terminal: arena, gzip, largest diff.; --json has them." in " ".join(
        " ".join(lines).split()
    )


def test_what_is_said_below():
    assert deployment_lines(
        [MADE, Deployment(target="tfjs", refused="no Node"), Deployment(target="x", failed=True)]
    ) == [
        "tflm: out/model_tflm",
        "  layer [b]a[/b] stays float",
        "  BREACH NaN",
        "tfjs: refused: no Node",
        "x: not verified: ",
    ]
