"""Profiles on a terminal of 80 columns: what is shown, from records alone."""

import io

import pytest
from rich.console import Console

from kompakt.records_profile import (
    Bench,
    ColdStart,
    LatencyRatio,
    LayerProfile,
    Memory,
    Operators,
    OperatorTime,
    Profile,
    Roofline,
    Timing,
)
from kompakt.report.profile import bench_tables

ROOF = Roofline(
    threads=1, macs={"int8": 4_000_000}, peak={"int8": 4e9}, traffic=1_200_000, bandwidth=1e10, compute=1.0,
    memory=0.12, measured=2.0,
)  # fmt: skip
LAYERS = (
    LayerProfile(layer="conv[b]1", kind="Conv2D", parameters=1_000_000, macs=4_000_000, stored=1_000_000,
                 bytes=1_000_000, zeros=250_000, distinct=255, entropy=6.5, bound=812_500),
    LayerProfile(layer="norm", kind="BatchNormalization", parameters=64, macs=0),
    LayerProfile(layer="own", kind="Own", parameters=64),
)  # fmt: skip
OPERATORS = Operators(
    rows=(
        OperatorTime(index=0, name="CONV_2D", output="conv/output", macs=4_000_000, traffic=9, milliseconds=1.5,
                     spread=0.25, bound=1.0),
        OperatorTime(index=1, name="WHILE", output="a_very_long_name_of_a_tensor/that_no_table_can_hold/output",
                     missing="it has no kernel"),
    ),
    sum=1.5, call=0.01, whole=1.75,
)  # fmt: skip


def profile(path="out/model.tflite", **more):
    known = {
        "target": "tflite", "machine": "Linux x86_64, CPU, 2 cores", "batch": 1, "bytes": 1_050_000,
        "gzip_bytes": 900_000, "weight_bytes": 1_000_000, "other_bytes": 50_000, "entropy_bytes": 812_500,
        "table_bytes": 255, "macs": 4_000_000, "parameters": 1_000_128, "layers": LAYERS, "rooflines": (ROOF,),
        "latency": (Timing(threads=1, runs=150, minimum=2.0, median=2.25, p95=3.5, spread=0.125),),
        "cold_start": ColdStart(total=150.0, runtime=20.0, first=5.25, repeats=3),
        "memory": Memory(growth=3_500_000, process=46_000_000, arena=7040),
    }  # fmt: skip
    return Profile(path=path, **{**known, **more})


def printed(*profiles, ratios=(), width=80):
    console = Console(file=io.StringIO(), width=width)
    for part in bench_tables(Bench(profiles=profiles, ratios=tuple(ratios))):
        console.print(part)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(lines, start):
    return next(line.split() for line in lines if line.startswith(start))


def test_a_file_in_full():
    lines = printed(profile(operators=OPERATORS, notes=("random",), missing=("arena: none",)))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    assert lines[0] == "out/model.tflite: tflite"
    assert "1  150   2.00   2.25 0.12 3.50     1.00 arithmetic     50%" in text
    assert row(lines, "size")[1:4] == ["1,050,000", "bytes", "(900,000"]
    assert row(lines, "bound")[1:6] == ["weights", "at", "their", "entropy", "812,500"]
    assert " ".join(row(lines, "machine")) == "machine 1 thread: 4 G int8 MACs/s, 10 GB/s for 1.2 MB"
    assert row(lines, "memory")[1:3] == ["3.5", "MB"] and row(lines, "arena")[1] == "7,040"
    assert row(lines, "start")[1:3] == ["150", "ms"]
    assert row(lines, "conv[b]1") == ["conv[b]1", "1M", "4M", "1,000,000", "8.0", "25", "255", "6.50", "812,500"]
    assert row(lines, "norm") == ["norm", "64", "0", *["–"] * 6]
    assert row(lines, "own") == ["own", "64", *["–"] * 7]
    assert row(lines, "all") == ["all", "1M", "4M", "1,000,000", "8.0", "812,500"]
    assert row(lines, "CONV_2D") == ["CONV_2D", "conv/output", "4M", "1500", "250", "1000", "100%"]
    assert row(lines, "less calls") == ["less", "calls", "1490"] and row(lines, "whole") == ["whole", "file", "1750"]
    assert (
        "Not alone: WHILE (a_very_long" in " ".join(text.split())
        and "note: random" in lines
        and "not measured: arena: none" in lines
    )


def test_what_is_not_there_is_not_shown():
    lines = printed(profile(cold_start=None, memory=Memory(), rooflines=(), macs=None, layers=()))
    assert not [line for line in lines if line.startswith(("start", "memory", "arena", "machine", "layer"))]
    assert row(lines, "costs")[1] == "unknown"
    assert "1  150   2.00   2.25 0.12 3.50        – –        –" in "\n".join(lines)


def ratio(path, threads=1):
    return LatencyRatio(path=path, other="a.tflite", threads=threads, rounds=30, ratio=0.5, spread=0.01, low=0.49,
                        high=0.52, milliseconds=1.0, other_milliseconds=2.0)  # fmt: skip


def test_several_files():
    a, b, c = profile("a.tflite"), profile("b.tflite", missing=("arena: none",)), profile("out/c_tfjs/", macs=None)
    lines = printed(a, b, c, ratios=[ratio("b.tflite"), ratio("b.tflite", 2)])
    assert max(map(len, lines)) <= 80
    assert row(lines, "a.tflite")[:3] == ["a.tflite", "2.25", "1"]
    told = "b.tflite 2.25 0.500 ±0.010 1.05 MB 900,000 812,500 4M 3.5 MB 150 ms"
    assert " ".join(row(lines, "b.tflite")) == told
    assert row(lines, "c_tfjs")[:3] == ["c_tfjs", "2.25", "–"]
    assert any("0.490..0.520" in line for line in lines)
    assert "b.tflite on 2 threads: 0.500 ±0.010 of a.tflite, 0.490..0.520" in lines
    assert "b.tflite: not measured: arena: none" in lines


def test_a_file_against_itself():
    lines = printed(profile("a.tflite"), profile("a.tflite"), ratios=[ratio("a.tflite")])
    assert [line.split()[2] for line in lines if line.startswith("a.tflite ")] == ["1", "0.500"]


@pytest.mark.parametrize("name", ["\x1b[31mred", "<script>", "[bold]x[/bold]"])
def test_names_are_text(name):
    lines = printed(profile(layers=(LayerProfile(layer=name, kind="Dense", parameters=1, macs=1),)))
    assert name.replace("\x1b", r"\x1b") in "\n".join(lines)


def test_a_narrow_terminal_has_no_number_cut_off():
    lines = printed(profile(operators=OPERATORS), width=60)
    text = " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= 60 and "…" not in text
    assert row(lines, "threads")[:3] == ["threads", "min", "ms"] and "bound ms of reached" in text
    assert "Left out in this narrow terminal: runs" in text
    several = printed(profile("a.tflite"), profile("b.tflite"), width=60)
    assert row(several, "a.tflite")[:2] == ["a.tflite", "2.25"] and max(map(len, several)) <= 60
