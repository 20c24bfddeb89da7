"""What a user may rely on in the benches: every variant does the same job, and the report says so."""

import os

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import bench
from hemafl_book.cli import app
from hemafl_lib.files import read_json


def run(*arguments: str):
    return CliRunner().invoke(app, ["bench", *arguments])


def test_the_bare_loop_takes_the_steps_of_the_local_engine():
    work = bench.image_work(clients=2, images=20, size=16, rounds=2)
    by_hand = bench.bare_loop(work, threads=1)
    for workers in (1, 2):
        assert bench.parameter_hash(work.run(workers=workers)) == bench.parameter_hash(by_hand)


def test_jobs_are_as_asked():
    work = bench.image_work(clients=3, images=5, size=16, rounds=1)
    assert [len(site) for site in work.sites] == [5, 5, 5]
    assert not torch.equal(work.sites[0].train.images, work.sites[1].train.images)
    trivial = bench.trivial_work(clients=4, rounds=1)
    assert len(trivial.sites) == 4
    assert trivial.evaluate


def test_few_drawn_images_serve_many_clients(monkeypatch):
    monkeypatch.setattr(bench, "DRAWN", 6)
    work = bench.image_work(clients=4, images=3, size=16, rounds=1)
    assert [len(site) for site in work.sites] == [3, 3, 3, 3]
    assert torch.equal(work.sites[0].train.images, work.sites[2].train.images)


def test_variants_take_turns_and_missing_packages_are_said():
    calls = []

    def variant(name):
        return lambda: calls.append(name) or {"w": np.zeros(1)}

    def missing():
        calls.append("missing")
        raise ImportError("no such package")

    threads = torch.get_num_threads()
    timings, skipped = bench.in_turn({"a": variant("a"), "c": missing, "b": variant("b")}, 2)
    assert calls == ["a", "missing", "b", "a", "b"]
    assert list(timings) == ["a", "b"]
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]
    assert "no such package" in skipped["c"]
    assert torch.get_num_threads() == threads


def test_ratios_are_of_medians():
    weights = {"w": np.zeros(2), "steps": np.array(3)}
    timings = {
        "slow": bench.Timing([9.0, 4.0, 5.0], weights),
        "fast": bench.Timing([1.0, 90.0, 2.0], {"w": np.array([0.0, -0.5]), "steps": np.array(9)}),
    }
    rows = bench.timing_table(timings, "slow")
    assert rows["fast"]["median"] == 2.0
    assert rows["fast"]["ratio to slow"] == pytest.approx(0.4)
    assert rows["fast"]["largest difference from slow"] == 0.5
    assert rows["slow"]["hash"] != rows["fast"]["hash"]


def test_targets_compare_a_value_with_its_limit():
    assert bench.at_most(1.0, 1.0)["met"]
    assert not bench.at_most(1.1, 1.0)["met"]
    assert bench.at_least(20.5, 20)["met"]
    assert not bench.at_least(19.9, 20)["met"]


def test_the_engines_report(tmp_path):
    out = tmp_path / "engines.json"
    asked = [
        "--clients",
        "2",
        "--images",
        "8",
        "--size",
        "16",
        "--rounds",
        "1",
        "--repetitions",
        "1",
        "--no-ray",
    ]
    result = run("engines", "--out", str(out), *asked)
    assert result.exit_code == 0, result.output
    report = read_json(out)
    assert {"bare loop", "local, serial", "local, parallel"} <= set(report["image variants"])
    for row in report["image variants"].values():
        assert len(row["seconds"]) == 1
        assert row["median"] > 0
    for name in ("local, serial", "local, parallel"):
        assert (
            report["image variants"][name]["hash"]
            == report["image variants"]["bare loop, one thread"]["hash"]
        )
    assert report["skipped"]["Ray"] == "not asked for"
    assert report["trivial variants"]["local"]["largest difference from bare loop"] < 1e-6
    assert ("pfl" in report["skipped"]) != ("pfl" in report["image variants"])
    assert report["machine"]["cores"] >= 1
    assert "load average after" in report
    assert {"image job: local, parallel / bare loop", "trivial job: ms of overhead a round"} <= set(
        report["targets"]
    )
    assert "local, parallel" in result.output
    assert str(out) in result.output


def test_a_fresh_process_is_another_one():
    assert bench.in_fresh_process(os.getpid) != os.getpid()


def test_the_scale_report(tmp_path, monkeypatch):
    pytest.importorskip("resource", reason="peak memory is read with 'resource', which is Unix only")
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *arguments: function(*arguments))
    out = tmp_path / "scale.json"
    result = run("scale", "--out", str(out), "--few", "1", "--many", "2", "--images", "2", "--rounds", "1")
    assert result.exit_code == 0, result.output
    report = read_json(out)
    assert [row["clients"] for row in report["runs"]] == [1, 2]
    assert all(0.05 < row["peak GB"] < 8 for row in report["runs"])
    assert set(report["targets"]) == {"peak GB of many", "seconds a client, many / few"}


def test_the_prefix_report(tmp_path):
    out = tmp_path / "prefix.json"
    result = run("prefix", "--out", str(out), "--images", "8", "--epochs", "1", "--repetitions", "1")
    assert result.exit_code == 0, result.output
    report = read_json(out)
    assert report["variants"]["once"]["largest difference from always"] < 1e-4
    assert set(report["targets"]) == {"always / once"}


def test_a_bench_of_nothing_is_refused(tmp_path):
    result = run("engines", "--out", str(tmp_path / "none.json"), "--clients", "0")
    assert result.exit_code != 0
    assert not (tmp_path / "none.json").exists()
