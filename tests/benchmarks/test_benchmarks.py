"""What a user may rely on in the benches: every variant does the same job, and the report says so."""

import os

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import commands, engines, jobs, loops, maps, scale, timing
from benchmarks.__main__ import BENCHES, main
from hemafl_book import cli
from hemafl_lib import data, federation
from hemafl_lib.data import own
from hemafl_lib.federation import by_hand, parameter_hash
from hemafl_lib.files import read_json

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def threads():
    """The bare loops set torch's threads; leave them as they were."""
    yield
    torch.set_num_threads(THREADS)


def test_the_bare_loops_take_the_steps_of_the_local_engine():
    work = jobs.image_work(clients=2, images=20, size=16, rounds=2)
    bare = parameter_hash(loops.bare_loop(work, threads=1))
    assert parameter_hash(loops.bare_pool(work, workers=2)) == bare
    for workers in (1, 2):
        assert parameter_hash(work.run(workers=workers)) == bare


def test_the_bare_loops_evaluate_where_the_library_does(monkeypatch):
    seen = []
    monkeypatch.setattr(
        loops, "bare_evaluation", lambda model, site: seen.append((model.training, site.name))
    )
    work = jobs.trivial_work(clients=2, rounds=3)
    for loop in (loops.bare_loop, loops.bare_pool):
        seen.clear()
        loop(work, 1)
        assert sorted(seen) == sorted([(False, "client 0"), (False, "client 1")] * 3)


def test_the_readable_loop_is_the_one_that_is_timed(monkeypatch):
    calls = []
    monkeypatch.setattr(
        by_hand, "federated_averaging", lambda sites, model, *a, **k: calls.append(len(sites)) or model
    )
    loops.bare_loop(jobs.trivial_work(clients=2, rounds=1), 1)
    assert calls == [2]


def test_jobs_are_as_asked():
    work = jobs.image_work(clients=3, images=5, size=16, rounds=1)
    assert [len(site) for site in work.sites] == [5, 5, 5]
    assert not torch.equal(work.sites[0].train.images, work.sites[1].train.images)
    trivial = jobs.trivial_work(clients=4, rounds=1)
    assert len(trivial.sites) == 4
    assert trivial.evaluate


def test_few_drawn_images_serve_many_clients(monkeypatch):
    monkeypatch.setattr(jobs, "DRAWN", 6)
    work = jobs.image_work(clients=4, images=3, size=16, rounds=1)
    assert [len(site) for site in work.sites] == [3, 3, 3, 3]
    assert torch.equal(work.sites[0].train.images, work.sites[2].train.images)


def test_the_start_of_an_engine_is_told_from_its_rounds():
    work = jobs.trivial_work(clients=2, rounds=3)
    work.run("local")
    work.run("local")
    assert [len(run) for run in work.rounds_took["local"]] == [3, 3]
    work.rounds_took["slow start"] = [[9.0, 1.0, 2.0], [8.0, 3.0, 1.0]]
    assert engines.seconds_a_round(work, "slow start") == 1.5


def test_variants_take_turns_and_missing_packages_are_said():
    calls = []

    def variant(name):
        return lambda: calls.append(name) or {"w": np.zeros(1)}

    def missing():
        calls.append("missing")
        raise ImportError("no such package")

    timings, skipped = timing.in_turn({"a": variant("a"), "c": missing, "b": variant("b")}, 2)
    assert calls == ["a", "missing", "b", "a", "b"]
    assert list(timings) == ["a", "b"]
    assert [len(each.seconds) for each in timings.values()] == [2, 2]
    assert [len(each.loads) for each in timings.values()] == [2, 2]
    assert "no such package" in skipped["c"]
    assert torch.get_num_threads() == THREADS


def seconds(*values):
    return timing.Timing(list(values), [1.0] * len(values), {"w": np.zeros(2), "steps": np.array(3)})


def test_ratios_are_of_medians():
    other = {"w": np.array([0.0, -0.5]), "steps": np.array(9)}
    timings = {
        "slow": seconds(9.0, 4.0, 5.0),
        "fast": timing.Timing([1.0, 90.0, 2.0], [0.5, 1.5, 1.0], other),
    }
    rows = timing.timing_table(timings, "slow")
    assert rows["fast"]["median"] == 2.0
    assert rows["fast"]["load"] == 1.0
    assert rows["fast"]["ratio to slow"] == pytest.approx(0.4)
    assert rows["fast"]["largest difference from slow"] == 0.5
    assert rows["slow"]["hash"] != rows["fast"]["hash"]


def test_the_library_is_compared_with_the_fastest_bare_loop():
    one, two, pool = engines.BARE
    timings = {one: seconds(4.0), two: seconds(20.0), pool: seconds(2.0), "local, two workers": seconds(3.0)}
    work = jobs.trivial_work(clients=1, rounds=2)
    targets = engines.image_targets(work, timings)
    alone = targets[f"image job: local / fastest bare loop, one site at a time ({one})"]
    assert alone == {"value": 0.75, "at most": 0.8, "met": True}
    assert targets[f"image job: local / fastest bare loop ({pool})"] == {
        "value": 1.5,
        "at most": 1.1,
        "met": False,
    }
    assert len(targets) == 2


def test_targets_compare_a_value_with_its_limit():
    assert timing.at_most(1.0, 1.0)["met"]
    assert not timing.at_most(1.1, 1.0)["met"]
    assert timing.at_least(20.5, 20)["met"]
    assert not timing.at_least(19.9, 20)["met"]


def run(name, out, *settings):
    main([name, "--out", str(out), *map(str, settings)])
    return read_json(out)


def test_the_engines_report(tmp_path, capsys):
    asked = "--clients 2 --images 8 --size 16 --rounds 2 --trivial-rounds 2 --repetitions 1 --no-ray"
    report = run("engines", tmp_path / "engines.json", *asked.split())
    rows = report["image variants"]
    assert {*engines.BARE, "local, one worker", "local, two workers"} <= set(rows)
    assert (
        len(
            {row["hash"] for name, row in rows.items() if not name.startswith("pfl")}
            - {rows[engines.BARE[1]]["hash"]}
        )
        == 1
    )
    for row in rows.values():
        assert len(row["seconds"]) == len(row["loads"]) == 1
        assert row["median"] > 0
    assert report["skipped"]["Ray"] == "not asked for"
    assert len({row["hash"] for row in report["trivial variants"].values()}) == 1
    assert ("pfl, one thread" in report["skipped"]) != ("pfl, one thread" in rows)
    assert report["machine"]["cores"] >= 1
    said = capsys.readouterr().out
    assert "local, two workers" in said
    assert "load average" in said
    assert str(tmp_path / "engines.json") in said


def test_a_fresh_process_is_another_one():
    assert scale.in_fresh_process(os.getpid) != os.getpid()


def test_the_scale_report(tmp_path, monkeypatch):
    pytest.importorskip("resource", reason="peak memory is read with 'resource', which is Unix only")
    monkeypatch.setattr(scale, "in_fresh_process", lambda function, *arguments: function(*arguments))
    report = run("scale", tmp_path / "scale.json", "--few", 1, "--many", 2, "--images", 2, "--rounds", 1)
    assert [row["clients"] for row in report["runs"]] == [1, 2]
    assert all(0.05 < row["peak GB"] < 8 for row in report["runs"])
    assert set(report["targets"]) == {"peak GB of many", "seconds a client, many / few"}


def test_the_prefix_report(tmp_path):
    report = run("prefix", tmp_path / "prefix.json", "--images", 8, "--epochs", 1, "--repetitions", 1)
    assert report["variants"]["once"]["largest difference from always"] < 1e-4
    assert set(report["targets"]) == {"always / once"}


def test_the_report_on_wires(tmp_path):
    asked = "--few 3 --some 4 --many 5 --images 2 --size 16 --rounds 1 --repetitions 1"
    report = run("wires", tmp_path / "wires.json", *asked.split())
    assert [row["hospitals"] for row in report["runs"]] == [3] * 4 + [4] * 4 + [5] * 4
    by_wire = {row["wire"]: row for row in report["runs"][:4]}
    assert by_wire["plain"]["bytes ratio"] == by_wire["plain"]["CPU ratio"] == 1
    assert 1 < by_wire["secure aggregation"]["bytes ratio"] < 3
    assert by_wire["top 5 %"]["bytes ratio"] < by_wire["8 bits"]["bytes ratio"] < 1
    assert set(report["targets"]) == {"4 hospitals: secure / plain, CPU"}


def test_the_report_on_nodes(tmp_path, monkeypatch):
    """On threads: what starts SuperNodes is tested where they are."""
    for name in ("run", "run_over"):
        way = getattr(federation, name)
        monkeypatch.setattr(
            federation, name, lambda *sites, way=way, **given: way(*sites, **given | {"engine": "local"})
        )
    asked = "--nodes 3 --images 2 --size 16 --rounds 3 --repetitions 2"
    report = run("nodes", tmp_path / "nodes.json", *asked.split())
    assert [row["way"] for row in report["runs"]] == ["plain", "secure aggregation"]
    assert all(row["s a round"] >= 0 and row["CPU s a round"] >= 0 for row in report["runs"])
    assert set(report["targets"]) == {
        "3 nodes: s until the first round",
        "3 nodes: a round, secure / plain",
        "3 nodes: CPU of a round, secure / plain",
    }


@pytest.mark.parametrize("name", ["flchain", "sickle-cell"])
def test_the_hospitals_of_the_commands_write_the_patients_that_they_were_dealt(tmp_path, name):
    """Through columns, codes and a mapping of their own no bit is lost."""
    hospitals = commands.deal(data.load_table(name), 60)
    assert [len(rows) for rows in hospitals.values()] == [30, 20, 10]
    for words, (hospital, rows) in zip(commands.WORDS, hospitals.items(), strict=True):
        folder = tmp_path / hospital
        commands.write_hospital(folder, hospital, rows, words)
        read = own.load_own_table(folder, own.read_mapping(folder / "mapping.toml"), hospital)
        assert torch.equal(read.features.nan_to_num(-1.0), rows.features.nan_to_num(-1.0))
        assert torch.equal(read.targets, rows.targets)
        assert read.patient.tolist() == rows.patient.tolist()
    headers = [(tmp_path / name / "table.csv").read_text().splitlines()[0] for name in hospitals]
    assert len(set(headers)) == 3


def test_the_bench_of_maps_holds_each_method_against_the_same_of_another_package(tmp_path):
    report = run("maps", tmp_path / "maps.json", *["--images", "2", "--repetitions", "1"])
    rows = {(row["method"], row["package"]) for row in report["runs"]}
    assert {package for _, package in set(maps.OTHERS) - rows} <= {maps.GRAD_CAM}  # which may be missing
    assert len(rows) + len(report["skipped"]) == len(maps.OTHERS)
    assert all(row["ratio"] > 0 for row in report["runs"])
    assert len(report["targets"]) == len(rows)


def test_a_bench_of_nothing_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["engines", "--out", str(tmp_path / "none.json"), "--clients", "0"])
    assert "argument --clients" in capsys.readouterr().err
    assert not (tmp_path / "none.json").exists()


def test_the_command_passes_a_bench_on(monkeypatch):
    asked = []
    monkeypatch.setattr("benchmarks.__main__.main", asked.extend)
    result = CliRunner().invoke(cli.app, ["bench", "scale", "--out", "x.json", "--few", "2"])
    assert result.exit_code == 0, result.output
    assert asked == ["scale", "--out", "x.json", "--few", "2"]


def test_the_command_says_where_the_benches_are_not(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "hemafl_book" / "cli.py"))
    result = CliRunner().invoke(cli.app, ["bench", "scale"])
    assert result.exit_code == 1
    assert "run them from a checkout" in result.output


def test_every_bench_explains_itself(capsys):
    for name in BENCHES:
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert "--repetitions" in capsys.readouterr().out or name in ("commands", "scale")  # run once
