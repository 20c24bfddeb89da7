"""One job by hand, on each engine, and in another framework."""

import statistics

from benchmarks.jobs import Work, image_work, trivial_work
from benchmarks.loops import bare_loop, bare_pool, pfl_loop
from benchmarks.timing import Report, Timing, at_least, at_most, fastest, in_turn, machine, timing_table

ONE_SITE_AT_A_TIME = ("bare loop, one thread", "bare loop, two threads")
BARE = (*ONE_SITE_AT_A_TIME, "bare loop, two sites at a time")


def measure(
    *,
    clients: int = 4,
    images: int = 256,
    size: int = 64,
    rounds: int = 5,
    trivial_clients: int = 10,
    trivial_rounds: int = 50,
    repetitions: int = 3,
    ray: bool = True,
) -> Report:
    """Time the attention CNN and a trivial model on two cores: bare loops, each engine, and ``pfl``.

    Where other programs keep the cores busy, a bare loop with two torch threads takes many times longer than
    with one, because the threads wait for each other in every layer. So every bare loop is timed, and the
    library is compared with whichever was fastest.

    Parameters
    ----------
    clients, images, size, rounds
        The image job: ``clients`` with ``images`` of ``size`` pixels each.
    trivial_clients, trivial_rounds
        The trivial job, which trains and evaluates a linear model; on Ray it has ``rounds`` rounds.
    repetitions
        How often each variant runs, in turn with the others.
    ray
        Whether to run Flower's Ray engine, which takes most of the time.
    """
    before = machine()
    work, trivial = image_work(clients, images, size, rounds), trivial_work(trivial_clients, trivial_rounds)
    # Untimed: what a process does once, such as choosing how to multiply, would be the first variant's.
    bare_pool(image_work(2, 32, size, 1), 2)
    # The trivial job comes first, with no Ray that shuts down meanwhile.
    small, _ = in_turn(
        {
            BARE[0]: lambda: bare_loop(trivial, 1),
            BARE[2]: lambda: bare_pool(trivial, 2),
            "local, one worker": lambda: trivial.run(workers=1),
            "local, two workers": lambda: trivial.run(workers=2),
        },
        repetitions,
    )
    jobs = {
        BARE[0]: lambda: bare_loop(work, 1),
        BARE[1]: lambda: bare_loop(work, 2),
        BARE[2]: lambda: bare_pool(work, 2),
        "local, one worker": lambda: work.run(workers=1),
        "local, two workers": lambda: work.run(workers=2),
        "pfl, one thread": lambda: pfl_loop(work, 1),
        "pfl, two threads": lambda: pfl_loop(work, 2),
    }
    few = trivial_work(trivial_clients, rounds)
    if ray:
        jobs["Ray"] = lambda: work.run("Ray", engine="simulation", workers=2)
        in_turn({"Ray": lambda: few.run("Ray", engine="simulation", workers=2)}, 1)
    timings, skipped = in_turn(jobs, repetitions)
    return {
        "machine": before,
        "load average after": machine()["load average"],
        "image job": {"clients": clients, "images": images, "size": size, "rounds": rounds},
        "image variants": timing_table(timings, fastest(timings, BARE)),
        "trivial job": {"clients": trivial_clients, "rounds": trivial_rounds},
        "trivial variants": timing_table(small, fastest(small, {*BARE} & {*small})),
        "skipped": skipped if ray else skipped | {"Ray": "not asked for"},
        "targets": image_targets(work, timings) | trivial_targets(trivial, few, small),
    }


def image_targets(work: Work, timings: dict[str, Timing]) -> Report:
    """Return the local engine's time as a share of the others', for those that ran."""
    local = timings["local, two workers"].median
    rivals = {
        "fastest bare loop, one site at a time": (fastest(timings, ONE_SITE_AT_A_TIME), 0.8),
        "fastest bare loop": (fastest(timings, BARE), 1.1),
    }
    if pfl := [name for name in timings if name.startswith("pfl")]:
        rivals["fastest pfl"] = (fastest(timings, pfl), 1.0)
    targets = {
        f"image job: local / {what} ({name})": at_most(local / timings[name].median, limit)
        for what, (name, limit) in rivals.items()
    }
    if "Ray" in timings:
        targets["image job: Ray / local"] = at_least(timings["Ray"].median / local, 3)
        without_start = seconds_a_round(work, "Ray") * work.rounds
        targets["image job: Ray without its start / local"] = at_least(without_start / local, 1)
    return targets


def trivial_targets(work: Work, on_ray: Work, timings: dict[str, Timing]) -> Report:
    """Return what a round costs where hardly anything is computed, in milliseconds, start included."""
    best = fastest(timings, [name for name in timings if name.startswith("local")])
    bare = timings[fastest(timings, {*BARE} & {*timings})].median
    milliseconds = 1000 * timings[best].median / work.rounds
    targets = {
        f"trivial job: ms a round ({best})": at_most(milliseconds, 6),
        "trivial job: ms a round beyond the fastest bare loop": at_most(
            milliseconds - 1000 * bare / work.rounds, 4
        ),
    }
    if on_ray.rounds_took:
        ray = 1000 * seconds_a_round(on_ray, "Ray")
        targets["trivial job: Ray without its start / local"] = at_least(ray / milliseconds, 20)
    return targets


def seconds_a_round(work: Work, name: str) -> float:
    """Return the median seconds of all rounds but the first, in which the engine still starts."""
    return statistics.median([seconds for run in work.rounds_took[name] for seconds in run[1:]])
