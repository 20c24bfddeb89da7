"""The playground: its rounds are the library's, its challenges check themselves, and it connects nowhere."""

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.browser import MISSING, launched
from PIL import Image
from torch import nn

from hemafl_book.build import apps, playground_page
from hemafl_lib import federation
from hemafl_lib.aggregation import FedAdam, FedAvg, FedMedian, FedTrimmedMean, Krum, aggregate, begin
from hemafl_lib.augmentation import UNCHANGED, draw
from hemafl_lib.data.cohort import ImageCohort, Provenance
from hemafl_lib.federation.by_hand import batches
from hemafl_lib.federation.mods import ScaleUpdate, UpdateMod
from hemafl_lib.partition import Site
from hemafl_lib.partition.stain import Stain, restain_images
from hemafl_lib.privacy.accounting import Steps, epsilon
from hemafl_lib.privacy.client_level import ClientPrivacy
from hemafl_lib.seeds import initialised, numpy_generator, torch_generator
from hemafl_lib.training import Recipe

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

ROUNDS = 5
SIZES = (23, 17, 31, 12, 20)
STAIN = 0.75

DRIVER = """
const unpack = (text) => new Float32Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
const pack = (numbers) => {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
};
onmessage = async ({ data: { data, stain, asked, jobs } }) => {
  const bytes = inAllStains(await decodeSheet(data), data, data.stains.length, stain), area = 3 * SIDE * SIDE;
  const play = ({ norm, initial, hospitals, setting, bad, rounds }) => {
    const federation = startFederation(makeNetwork(4, norm), bytes, hospitals, unpack(initial), setting, bad);
    for (const { asked, lost, there, orders, normal } of rounds) {
      const drawn = (kind) => kind in normal ? unpack(normal[kind]) : null;
      playRound(federation, { asked, lost, there, orders: (h) => orders[h], normal: drawn });
    }
    return pack(federation.current);
  };
  const combine = ({ current, rounds, weights, name, setting }) => {
    const state = {}, layout = layoutOf(4, false);
    return pack(rounds.reduce((now, replies) => (
      aggregate(name, layout, now, replies.map(unpack), weights, state, setting)), unpack(current)));
  };
  const pictures = asked.map((cell) => pack(bytes.slice(cell * area, (cell + 1) * area)));
  postMessage({ pictures, played: jobs.map((job) => job.hospitals ? play(job) : combine(job)) });
};
"""

IN_WORKER = """async ([driver, message]) => {
  const code = document.getElementById("worker").textContent + driver;
  const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const data = JSON.parse(document.getElementById("data").textContent);
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data: answer }) => { worker.terminate(); resolve(answer); };
    worker.onerror = (event) => reject(new Error(event.message));
    worker.postMessage({ ...message, data });
  });
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    (path,) = apps.write_apps(folder, ["playground"])
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with launched() as started:
        yield started


@pytest.fixture
def page(browser):
    opened = browser.new_page(viewport={"width": 1366, "height": 900}, reduced_motion="reduce")
    opened.complaints = []
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("console", lambda told: told.type == "error" and opened.complaints.append(told.text))
    opened.on("request", lambda request: opened.complaints.append(request.url) if away(request.url) else None)
    yield opened
    opened.close()


def away(url):
    return not url.startswith(("file:", "blob:", "data:"))


def until(page, condition, seconds=240):
    """Wait until a condition of the page holds; its policy forbids what playwright would do."""
    for _ in range(10 * seconds):
        if page.evaluate(f"() => Boolean({condition})"):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the page never came to: {condition}")


# --- the same rounds as the library's ----------------------------------------------------------------


class Twin(nn.Module):
    """The playground's network in PyTorch."""

    def __init__(self, norm: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(16) if norm else nn.Identity()
        self.head = nn.Linear(16 * 8 * 8, 4)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        x = torch.relu(self.norm1(self.pool(self.conv1((x - 0.75) * 4))))
        return self.head(torch.relu(self.norm2(self.pool(self.conv2(x)))).flatten(1))


@dataclass(frozen=True)
class SendNoise(UpdateMod):
    """Sends noise instead of what was learned, as the playground's bad hospital does."""

    seed: int = 0

    def change(self, update, site, round_number):
        draw = numpy_generator(self.seed, "sent", round_number)
        return {name: 0.1 * draw.standard_normal(value.shape) for name, value in update.items()}


@dataclass(frozen=True)
class Case:
    """A setting, once for the page and once for `federation.run`.

    The rate is low where there are many steps: what two orders of adding differ by grows from step to step.
    """

    aggregator: object = field(default_factory=FedAvg)
    name: str = "FedAvg"
    hospitals: int = 5
    norm: bool = False
    keep_norm: bool = False
    epochs: int = 1
    proximal: float = 0.0
    rate: float = 0.02
    bad: str | None = None
    privacy: dict | None = None

    @property
    def mods(self):
        opposite = {"opposite": [ScaleUpdate(-4.0, sites=(1,))], "noise": [SendNoise(sites=(1,))]}
        return opposite.get(self.bad, [])


PRIVATE = {"clip": 0.5, "noise": 0.25, "sampling": 0.5}
CASES = {
    "the weighted mean": Case(),
    "the mean of hospitals that count alike, two epochs": Case(
        FedAvg(equal_weights=True), "EqualWeights", epochs=2, rate=0.01
    ),
    "the median of four": Case(FedMedian(), "FedMedian", hospitals=4),
    "the trimmed mean": Case(FedTrimmedMean(), "FedTrimmedMean"),
    "Krum": Case(Krum(), "Krum"),
    "FedAdam": Case(FedAdam(learning_rate=0.02), "FedAdam"),
    "FedProx": Case(proximal=0.1, epochs=2, rate=0.01),
    "shared batch norm": Case(norm=True, rate=0.005),
    "FedBN": Case(norm=True, keep_norm=True, rate=0.005),
    "a hospital that mislabels": Case(bad="mislabels"),
    "a hospital that sends the opposite, and the median": Case(FedMedian(), "FedMedian", bad="opposite"),
    "a hospital that sends noise": Case(bad="noise"),
    "clipping and noise, half of the hospitals asked": Case(
        ClientPrivacy(**PRIVATE, seed=0), privacy=PRIVATE
    ),
}


def cells_of(h):
    """The pictures of hospital h, in its stain, and their kinds, a quarter each."""
    data = playground_page.page_data()
    count, draw = len(data["label"]), np.random.default_rng(h)
    cells = draw.choice(count, SIZES[h], replace=False)
    return [int(h % 4 * count + cell) for cell in cells], [data["label"][cell] for cell in cells]


def travelling(model):
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


def flat(arrays):
    return np.concatenate([np.asarray(value, dtype=np.float32).ravel() for value in arrays.values()])


def packed(numbers):
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def unpacked(text, kind="<f4"):
    return np.frombuffer(base64.b64decode(text), kind).copy()


def start_model(case):
    with initialised(3, "playground"):
        return Twin(case.norm)


def job_of(case):
    """What the page is asked to play for a case: the library's orders and normal numbers, given to it."""
    hospitals = [dict(zip(("cells", "labels"), cells_of(h), strict=True)) for h in range(case.hospitals)]
    return {
        "norm": case.norm,
        "initial": packed(flat(travelling(start_model(case)))),
        "hospitals": hospitals,
        "bad": case.bad and {"hospital": 1, "kind": case.bad},
        "setting": {
            "aggregator": case.name, "epochs": case.epochs, "rate": case.rate, "proximal": case.proximal,
            "keepNorm": case.keep_norm, "privacy": case.privacy, "serverRate": 0.02,
        },
        "rounds": [round_of(case, number) for number in range(1, ROUNDS + 1)],
    }  # fmt: skip


def round_of(case, number):
    everybody = list(range(case.hospitals))
    orders = []
    for h in everybody:
        generator = torch_generator(0, "fit", f"hospital {h}", number)
        orders.append([one_epoch(SIZES[h], generator) for _ in range(case.epochs)])
    shapes = {name: value.shape for name, value in travelling(start_model(case)).items()}
    sent = numpy_generator(0, "sent", number)
    normal = {"sent": packed(flat({name: sent.standard_normal(shapes[name]) for name in shapes}))}
    asked = everybody
    if case.privacy:
        server = numpy_generator(0, "client privacy", number)
        drawn = server.random(case.hospitals) < case.privacy["sampling"]
        asked = np.flatnonzero(drawn).tolist()
        noise = {name: server.normal(0, 1, shapes[name]) for name in sorted(shapes)}
        normal["server"] = packed(flat({name: noise[name] for name in shapes}))
    return {"asked": asked, "lost": [], "there": everybody, "orders": orders, "normal": normal}


def one_epoch(rows, generator):
    """The order of one of the library's epochs; it draws for the augmentation too, though none is on."""
    order = []
    for batch in batches(rows, 10, generator):
        draw(len(batch), UNCHANGED, generator)
        order += batch.tolist()
    return order


def sites_of(case, pictures):
    sites = []
    for h in range(case.hospitals):
        cells, labels = cells_of(h)
        if case.bad == "mislabels" and h == 1:
            labels = [(label + 1) % 4 for label in labels]
        names = np.array([f"hospital {h}"] * len(cells))
        cohort = ImageCohort(
            images=torch.stack([pictures[cell] for cell in cells]),
            labels=torch.tensor(labels),
            classes=playground_page.KINDS,
            site=names,
            patient=names,
            provenance=Provenance(
                name="cells of the playground", source="", licence="", simulated=True, checksum=""
            ),
        )
        sites.append(Site(f"hospital {h}", cohort, cohort.take([0]), cohort.take([0])))
    return sites


def by_the_library(case, pictures):
    recipe = Recipe(
        optimiser="sgd", learning_rate=case.rate, momentum=0.9, weight_decay=0, batch_size=10,
        local_epochs=case.epochs, proximal=case.proximal, augmentation=UNCHANGED,
    )  # fmt: skip
    run = federation.run(
        sites_of(case, pictures), model=start_model(case), aggregator=case.aggregator, recipe=recipe,
        mods=case.mods, rounds=ROUNDS, evaluate=False, workers=1, progress=False,
        keep_local="norm" if case.keep_norm else None,
    )  # fmt: skip
    return flat(travelling(run.model))


REPLIES = 6
RULES = {
    "FedAvg": FedAvg(), "EqualWeights": FedAvg(equal_weights=True), "FedMedian": FedMedian(),
    "FedTrimmedMean": FedTrimmedMean(), "Krum": Krum(), "FedAdam": FedAdam(learning_rate=0.02),
}  # fmt: skip
WEIGHTS = [3, 1, 4, 1, 5, 9]


def aggregation_job(name):
    draw = np.random.default_rng(7)
    shape = flat(travelling(start_model(Case()))).shape
    current = draw.standard_normal(shape).astype(np.float32)
    rounds = [draw.standard_normal((REPLIES, *shape)).astype(np.float32) for _ in range(3)]
    return {
        "name": name, "setting": {"trim": 0.2, "serverRate": 0.02}, "weights": WEIGHTS,
        "current": current, "rounds": rounds,
    }  # fmt: skip


def aggregated(job):
    rule, now = RULES[job["name"]], {"all": job["current"]}
    state = begin(rule, now)
    for replies in job["rounds"]:
        now, state = aggregate(rule, now, [{"all": reply} for reply in replies], WEIGHTS, state)
    return now["all"]


@pytest.fixture(scope="module")
def played(browser, address):
    """What the page plays of all cases, in one go, and the pictures that it sees."""
    page = browser.new_page()
    page.goto(address)
    asked = sorted({cell for h in range(len(SIZES)) for cell in cells_of(h)[0]})
    rules = [aggregation_job(name) for name in RULES]
    plain = [
        {**job, "current": packed(job["current"]), "rounds": [[*map(packed, each)] for each in job["rounds"]]}
        for job in rules
    ]
    jobs = [*map(job_of, CASES.values()), *plain]
    answer = page.evaluate(IN_WORKER, [DRIVER, {"stain": STAIN, "asked": asked, "jobs": jobs}])
    page.close()
    pictures = {
        cell: torch.tensor(unpacked(values, np.uint8)).reshape(3, 32, 32)
        for cell, values in zip(asked, answer["pictures"], strict=True)
    }
    count = len(CASES)
    rounds = dict(zip(CASES, answer["played"][:count], strict=True))
    rules = dict(zip(RULES, answer["played"][count:], strict=True))
    return pictures, rounds, rules


@pytest.mark.parametrize("name", CASES)
def test_the_page_plays_the_rounds_of_the_library(played, name):
    pictures, rounds, _ = played
    here = unpacked(rounds[name])
    there = by_the_library(CASES[name], pictures)
    start = flat(travelling(start_model(CASES[name])))
    assert np.abs(there - start).max() > 5e-3, "nothing was learned"
    np.testing.assert_allclose(here, there, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", RULES)
def test_the_page_aggregates_as_the_library_does(played, name):
    there = aggregated(aggregation_job(name))
    np.testing.assert_allclose(unpacked(played[2][name]), there, atol=1e-6, rtol=0)


def test_the_page_sees_the_cells_that_were_drawn_in_the_stains_of_the_library(played):
    data = playground_page.page_data()
    with Image.open(io.BytesIO(base64.b64decode(data["sheet"]))) as file:
        sheet = torch.from_numpy(np.array(file.convert("RGB")))
    for picture, seen in played[0].items():
        stain, cell = divmod(picture, len(data["label"]))
        row, column = divmod(cell, data["columns"])
        drawn = sheet[32 * row : 32 * row + 32, 32 * column : 32 * column + 32].permute(2, 0, 1)
        full = [*playground_page.LABORATORIES.values()][stain]
        part = Stain(full.blue**STAIN, full.eosin**STAIN, tuple(gain**STAIN for gain in full.gain))
        expected = restain_images(drawn[None], part)[0] if stain else drawn
        assert (seen.int() - expected.int()).abs().max() <= 1


# --- the page ----------------------------------------------------------------------------------------

SMALL = "hospitals=2&patients=4&rounds=5"

DEAL_DRIVER = """
const numbersOf = (patients) => patients.map(({ number }) => number);
const told = ({ cells, patients, mix }) => ({ cells, patients: numbersOf(patients), mix: [...mix] });
onmessage = ({ data: { data, settings } }) => {
  postMessage(settings.map((setting) => deal(data, setting).map(told)));
};
"""


def opened(page, address, fragment=""):
    page.goto(f"{address}#{fragment}")
    until(page, "run !== null && run.hospitals.length > 0")
    return page


def test_the_page_is_small_and_holds_enough_cells(address):
    data = playground_page.page_data()
    assert Path(address.removeprefix("file://")).stat().st_size <= 700_000
    assert len(data["label"]) >= 600
    assert len(set(data["label"])) == len(data["classes"]) == 4
    assert len(data["stains"]) == 4


def test_its_page_in_the_book_gives_the_numbers_of_its_data(repository):
    data = playground_page.page_data()
    text = (repository / "book" / "start" / "playground.md").read_text()
    assert (
        f"{len(data['label'])} cells of four kinds and {len(set(data['patient']))} invented patients" in text
    )
    assert f"rests on {sum(data['test'])} cells" in text
    assert f"For {['twelve', 'thirteen', 'fourteen'][len(CASES) - 12]} settings" in text


def test_a_patient_is_of_one_kind_and_on_one_side():
    data = playground_page.page_data()
    for of in ("label", "test"):
        pairs = set(zip(data["patient"], data[of], strict=True))
        assert len(pairs) == len(set(data["patient"])), of


def test_the_deal_gives_each_patient_to_one_hospital_and_none_that_is_for_testing(page, address):
    page.goto(address)
    usual = {"hospitals": 5, "alpha": 100, "quantity": 0, "patients": 25, "seed": 0}
    settings = [usual, {**usual, "alpha": 0.02}, {**usual, "hospitals": 20, "patients": 2, "quantity": 1}]
    data = playground_page.page_data()
    for dealt in page.evaluate(IN_WORKER, [DEAL_DRIVER, {"settings": settings}]):
        patients = [number for hospital in dealt for number in hospital["patients"]]
        assert len(patients) == len(set(patients))
        for hospital in dealt:
            assert hospital["cells"]
            assert {data["patient"][cell] for cell in hospital["cells"]} == set(hospital["patients"])
            assert not any(data["test"][cell] for cell in hospital["cells"])
            assert sum(hospital["mix"]) == pytest.approx(1)


def test_the_table_of_epsilons_is_the_librarys():
    for key in ("1/0.25/10", "2/1/30", "0.5/0.5/5"):
        noise, sampling, count = key.split("/")
        exact = epsilon([Steps(float(noise), float(sampling), int(count))], 1e-5, "rdp")
        written = playground_page.page_data()["privacy"]["epsilons"][key]
        assert exact <= written <= 1.002 * exact


def test_every_choice_of_noise_has_its_epsilon(page, address):
    opened(page, address, SMALL)
    missing = page.evaluate("""() => {
        const { noise, participation, rounds } = SETTINGS;
        const asked = noise.steps.filter((value) => value > 0).flatMap((value) => (
          participation.steps.flatMap((share) => rounds.steps.map((count) => `${value}/${share}/${count}`))));
        return asked.filter((key) => !(key in DATA.privacy.epsilons));
    }""")
    assert missing == []


@pytest.mark.survives(
    "A script in the playground tries to send what it knows to another host",
    "Chromium refuses: the page's policy lets it connect nowhere",
)
def test_the_playground_trains_and_connects_nowhere(page, address):
    opened(page, address, SMALL)
    page.keyboard.press("Tab")
    page.focus("#step")
    page.keyboard.press("Enter")
    until(page, "run.rounds.length === 1 && run.rivals.length === 1")
    assert page.evaluate("() => document.activeElement.id") == "step", (
        "who plays by keyboard is left where she was"
    )
    until(page, "run.rivals[0].central !== null && run.rivals[0].alone !== null")
    assert "Round 1: the shared model reads" in page.inner_text("#told")
    assert page.evaluate("() => run.rounds[0].bytesSent") == 4 * 5492 * 2 * 2
    assert page.complaints == []
    refused = page.evaluate("""() => new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
        fetch("https://hospital.example/cells").catch(() => {});
    })""")
    assert refused == "connect-src"


def test_the_same_address_plays_the_same_rounds(page, address):
    scores = []
    for _ in range(2):
        opened(page, address, f"{SMALL}&alpha=0.3&lost=0.2&seed=4")
        page.click("#step")
        until(page, "run.rounds.length === 1")
        scores.append(page.evaluate("() => JSON.stringify([run.rounds[0].joint, run.rounds[0].distance])"))
        page.goto("about:blank")
    assert scores[0] == scores[1]


def test_a_control_changes_the_address_and_the_address_the_controls(page, address):
    opened(page, address, SMALL)
    page.select_option("#set-aggregator", "FedMedian")
    assert "aggregator=FedMedian" in page.url
    assert page.inner_text("#caveat") == "The median of two is their mean."
    page.evaluate("() => { location.hash = 'hospitals=3&alpha=0.1'; }")
    until(page, "run.hospitals.length === 3")
    assert page.input_value("#set-aggregator") == "FedAvg"
    assert page.inner_text("#set-alpha-value") == "alpha 0.1"
    page.go_back()
    until(page, "run.hospitals.length === 2")
    assert page.input_value("#set-aggregator") == "FedMedian"


def test_an_address_that_asks_for_what_does_not_exist_is_told_so(page, address):
    opened(page, address, "hospitals=7&colour=red&challenge=fly")
    told = page.inner_text("#problem")
    assert "sets hospitals to “7”; choose one of 1, 2, 3" in told
    assert "sets “colour”, which is none of the settings" in told
    assert "There is no challenge “fly”" in told
    assert page.evaluate("() => run.setting.hospitals") == 5


def test_inside_another_page_it_shows_the_round_and_a_challenge_alone(page, address):
    opened(page, address, "challenge=together&view=round")
    assert page.evaluate("() => JSON.stringify(run.setting) === JSON.stringify(startOf('together'))")
    assert page.get_by_role("heading", level=1).count() == 1
    shown = page.evaluate("""() => [
        ...document.querySelectorAll(".panel, header p, footer, #controls, #whole")]
        .filter((each) => each.checkVisibility())
        .map((each) => each.getAttribute("aria-labelledby") ?? each.id)""")
    assert shown == ["whole", "h-ring", "h-challenge"]
    assert page.get_attribute("#whole", "href") == "#challenge=together"
    page.goto(f"{address}#view=upside")
    until(page, "document.getElementById('problem').textContent !== ''")
    assert "There is no view “upside”; choose one of whole, round." in page.inner_text("#problem")


def test_a_setting_that_protects_nobody_is_not_played(page, address):
    page.goto(f"{address}#noise=1")
    until(page, "run !== null")
    assert "Noise without clipping protects nobody" in page.inner_text("#caveat")
    assert page.is_disabled("#play")


def test_a_hospital_that_is_alone_and_bad_is_judged_all_the_same(page, address):
    opened(page, address, "hospitals=1&patients=2&bad=mislabels")
    page.click("#step")
    until(page, "run.rounds.length === 1 && run.rivals[0]?.alone")
    assert "one alone" in page.inner_text("#scores")
    assert "NaN" not in page.inner_text("body")


def test_a_challenge_is_played_and_checks_itself(page, address):
    opened(page, address, "challenge=find&bad=opposite&hidden=yes&seed=3&aggregator=FedMedian&patients=8")
    assert page.inner_text("#verdict") == "Play a round first."
    assert not page.evaluate("() => run.hospitals.some(({ marked }) => marked)")
    page.click("#step")
    until(page, "run.rounds.length === 1")
    bad = page.evaluate("() => run.bad.hospital")
    page.select_option("#challenges select", str(bad))
    assert page.inner_text("#verdict") == "Done. That is the one."
    most = page.evaluate("""() => run.rounds[0].distance.map((row) => row.reduce((a, b) => a + b, 0))
        .reduce((best, value, i, all) => value > all[best] ? i : best, 0)""")
    assert most == bad, "the distances do not give it away"


def test_who_is_bad_is_not_found_by_trying_all(page, address):
    opened(page, address, SMALL)
    verdicts = page.evaluate("""() => {
        const run = (seed, ...guesses) => (
          { setting: { ...startOf("find"), seed }, rounds: [{}], bad: { hospital: 2 }, guesses });
        const { check } = CHALLENGES.find, verdict = (...runs) => check(runs[0], runs.slice(1)).done;
        return [verdict(run(1, 2)), verdict(run(1, 0)), verdict(run(1, 0, 2)), verdict(run(1, 2), run(1, 0)),
          verdict(run(3, 2), run(1, 0))];
    }""")
    assert verdicts == [True, False, False, False, True]


# What brings a run to the number that a challenge asks for, though it has nothing to do with it.
BESIDE_THE_POINT = {
    "forget": {"clip": 0.25},
    "rescue": {"seed": 1},
    "shield": {"participation": 0.25},
    "find": {"hospitals": 1},
    "price": {"alpha": 100},
    "thrift": {"stain": 0},
    "loser": {"lost": 0.4},
    "colour": {"rate": 0.002},
}


def test_a_challenge_holds_what_is_beside_its_point(page, address):
    opened(page, address, SMALL)
    found = page.evaluate(
        """(all) => Object.entries(all).map(([name, change]) => (
          [changed(name, startOf(name)), changed(name, { ...startOf(name), ...change })]))""",
        BESIDE_THE_POINT,
    )
    assert found == [[[], list(change)] for change in BESIDE_THE_POINT.values()]


def test_every_challenge_opens_on_a_setting_that_can_be_played_and_is_not_yet_done(page, address):
    opened(page, address, SMALL)
    names = page.evaluate("() => Object.keys(CHALLENGES)")
    assert len(names) >= 8
    for name in names:
        problems, able, done = page.evaluate(
            """(name) => {
              const read = readAddress(writeAddress(startOf(name), name), CHALLENGES);
              const fresh = { setting: read.setting, rounds: [], rivals: [], guesses: [] };
              return [read.problems, playable(read.setting), CHALLENGES[name].check(fresh, []).done];
            }""",
            name,
        )
        assert (problems, able, done) == ([], True, False), name


def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    opened(page, address, SMALL)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    unnamed = page.evaluate("""() => [...document.querySelectorAll("input, select, button")]
        .filter((each) => !(each.labels?.length || each.textContent.trim() || each.ariaLabel)).length""")
    assert unnamed == 0
    page.close()


def test_a_federation_is_compared_only_with_the_same_round_of_those_who_train_alone(page, address):
    opened(page, address, SMALL)
    early, late, shown = page.evaluate(
        """() => {
          const scores = (joint) => ({ joint, own: [joint] });
          const rounds = Array.from({ length: 10 }, (_, i) => ({ round: i + 1, ...scores(0.5 + 0.04 * i) }));
          const alone = (round, joint) => ({ round, central: 0.9, alone: scores(joint) });
          const played = { setting: defaults(), rounds, rivals: [alone(2, 0.3)] };
          const whole = { ...played, rivals: [alone(2, 0.3), alone(10, 0.6)] };
          const { check } = CHALLENGES.together;
          const young = { ...played, rounds: rounds.slice(0, 1) };
          return [check(played, []).done, check(whole, []), aloneOf(young)];
        }"""
    )
    assert not early, "two rounds alone are no rival of ten together"
    assert late == {"done": True, "words": "The federation reads 86 %, one hospital alone 60 %."}
    assert shown is None, "alone they are ahead, and there is nothing to compare yet"


def test_chapters_link_to_every_challenge_and_it_opens_as_it_begins(page, address, repository):
    pages = [path for path in (repository / "book").rglob("*") if path.suffix in (".md", ".ipynb")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    linked = set(re.findall(r"playground\.html#challenge=(\w+)", text))
    opened(page, address, SMALL)
    assert linked == set(page.evaluate("() => Object.keys(CHALLENGES)"))
    for name in linked:
        opens_so, known = page.evaluate(
            """(name) => [
              JSON.stringify(readAddress(`#challenge=${name}`, CHALLENGES).setting), name in CHALLENGES
                ? JSON.stringify(startOf(name)) : null,
            ]""",
            name,
        )
        assert opens_so == known, name
