"""The page for own cells in a browser: it answers as Python does, refuses in words, and connects nowhere."""

import base64
import copy
import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from builders import firefox
from builders.browser import MISSING, launched
from PIL import Image

from hemafl_book.build import apps, clinic_page
from hemafl_lib import clinic, data, explain
from hemafl_lib.clinic import Card, Scope, Sets
from hemafl_lib.clinic.card import LONGEST_SIDE, MOST_CLASSES, WIDEST, plain_name, plain_text
from hemafl_lib.clinic.page import MOST_PRODUCTS, products
from hemafl_lib.clinic.rounding import to_tensors
from hemafl_lib.data import smear
from hemafl_lib.data.images import photograph, resize
from hemafl_lib.explain import cam, centred_gaussian, share_inside
from hemafl_lib.models import AttentionCNN

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

LOGITS = 1e-4
"""Python computes in single precision and the page in double."""

NETWORKS = (
    {"width": 16, "norm": "group", "attention": "se", "size": 64},
    {"width": 8, "norm": "batch", "attention": "eca", "size": 49},
    {"width": 3, "norm": "none", "attention": "cbam", "size": 33},
    {"width": 4, "norm": "frozen", "attention": "none", "size": 16},
)
"""Every kind of norm and attention, an odd width, and sizes that eight does not divide."""

ARMS = ("one hospital", "federated", "centralised", "a fourth")


def random_network(number: int, width: int, norm: str, attention: str) -> AttentionCNN:
    """A network whose weights, running statistics and biases are all drawn."""
    network = AttentionCNN(5, width=width, norm=norm, attention=attention, seed=number)
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                drawn = 0.3 * torch.randn(value.shape, generator=generator)
                value.copy_(1 + drawn.abs() if name.endswith(("norm.weight", "running_var")) else drawn)
        network.head.weight.mul_(4)
    return network


def colour_scope(cells: torch.Tensor) -> Scope:
    """A scope that the drawn cells fit and little else does."""
    values = clinic.colour_statistics(cells)
    scope = clinic.fit_scope("colours", values, values, values, {"nothing": values[:1] + 1}, flagged=0.0)
    return scope.model_copy(update={"threshold": 100 * scope.threshold})


def card(number: int, scope: tuple[Scope, ...] = ()) -> Card:
    arm = ARMS[number]
    score = {"cells": 100, "classes": 5, "low": 0.5, "high": 0.7, "chance": 0.2, "flagged": 0.03}
    return Card(
        name=f"drawn/{arm}",
        family="drawn cells",
        arm=arm,
        title=f"Drawn cells, {arm}",
        about="Random weights.",
        simulated=False,
        classes=("neutrophil", "lymphocyte", "monocyte", "eosinophil", "<b>basophil</b>"),
        sites=("north",),
        scores=(
            clinic.Score(where="north", kind="own", balanced_accuracy=0.6, **score),
            clinic.Score(where="far", kind="unseen", balanced_accuracy=0.3, **score),
        ),
        temperature=1.5,
        sets=Sets(level=0.9, threshold=0.7),
        scope=scope,
        code="c",
        data="d",
        made="2026-01-01",
        version="0",
    )


@pytest.fixture(scope="module")
def cells():
    return smear.simulate(24, size=96, sites=("north", "south"), masks=False, seed=3)


@pytest.fixture(scope="module")
def models(cells):
    """Three models of one family, and a fourth that is not built in."""
    scope = (colour_scope(cells.images),)
    made = []
    for number, settings in enumerate(NETWORKS):
        settings = dict(settings)
        size = settings.pop("size")
        network = random_network(number, **settings)
        made.append(clinic.as_saved(network, size, card(number, scope if number < 3 else ())))
    return made


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """The page with these models, as a file."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clinic_page, "load_models", lambda root: models[:3])
        patch.setattr(clinic_page, "SAMPLES", {"drawn cells": (smear.FOUR, 96)})
        patch.setattr(clinic_page, "DRAWN", 2)
        (path,) = apps.write_apps(folder, ["clinic"])
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with launched() as browser:
        yield browser


@pytest.fixture
def start(chromium, address):
    """Opens the page; everything that it asked for or complained about is kept with it."""
    contexts = []

    def opened(where=address, **settings):
        context = chromium.new_context(**{"viewport": {"width": 1366, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
        page.goto(where)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    for context in contexts:
        context.close()


def encoded(picture: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **settings)
    return buffer.getvalue()


def upright(kind: str, turn: int):
    def write(picture: Image.Image) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = turn
        return encoded(picture, kind, exif=exif.tobytes(), quality=90)

    return write


def with_hole(picture: Image.Image) -> bytes:
    """A PNG with a corner that is wholly transparent."""
    opacity = Image.new("L", picture.size, 255)
    opacity.paste(0, (0, 0, picture.width // 3, picture.height // 3))
    picture.putalpha(opacity)
    return encoded(picture, "PNG")


WRITERS = {
    "png": lambda picture: encoded(picture, "PNG"),
    "grey.png": lambda picture: encoded(picture.convert("L"), "PNG"),
    "few-colours.png": lambda picture: encoded(picture.quantize(64), "PNG"),
    "hole.png": with_hole,
    "webp": lambda picture: encoded(picture, "WEBP", lossless=True),
    "bmp": lambda picture: encoded(picture, "BMP"),
    "jpg": lambda picture: encoded(picture, "JPEG", quality=92),
    "full.jpg": lambda picture: encoded(picture, "JPEG", quality=85, subsampling=0),
    "progressive.jpg": lambda picture: encoded(picture, "JPEG", quality=80, progressive=True),
    **{f"turn{turn}.jpg": upright("JPEG", turn) for turn in range(1, 9)},
}
EXACT = ("png", "webp", "bmp")
"""Kinds without loss, of which both decoders make the same pixels."""


@pytest.fixture(scope="module")
def pictures(cells, tmp_path_factory) -> list[Path]:
    """Two hundred pictures of odd sizes and every kind."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(200):
        pixels = cells.images[i % len(cells)].permute(1, 2, 0).numpy()
        sides = tuple(int(side) for side in rng.integers(20, 260, 2))
        picture = Image.fromarray(pixels).resize(sides, Image.Resampling.BICUBIC)
        name = list(WRITERS)[i % len(WRITERS)]
        path = folder / f"{i:03d}.{name}"
        path.write_bytes(WRITERS[name](picture))
        paths.append(path)
    return paths


READ = """
async ([files, number]) => {
  const model = state.models[number];
  const results = [];
  for (const [name, content] of files) {
    const { pixels, width, height } = await decode(new File([bytesOf(content)], name));
    const small = resized(pixels, width, height, model.network.size);
    const found = answer(model, small);
    results.push({
      pixels: btoa(String.fromCharCode(...small)),
      logits: found.logits,
      set: found.set,
      alarm: found.alarms.length > 0,
      maps: model.card.classes.map((_, c) => [...contributions(model, found, c)]),
    });
  }
  return results;
}
"""


def read_in(page, paths, number):
    """What the page makes of files with one of its models: dicts of pixels [3, S, S], logits, set, maps."""
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in paths]
    results = page.evaluate(READ, [files, number])
    for result in results:
        flat = np.frombuffer(base64.b64decode(result["pixels"]), np.uint8)
        side = round((len(flat) / 3) ** 0.5)
        result["pixels"] = flat.reshape(3, side, side)
    return results


def opened(path):
    """A picture as the library reads it; it reads no WebP, and the page does."""
    return Image.open(path).convert("RGB") if path.suffix == ".webp" else photograph(path)


def is_exact(path):
    """Whether page and library make the very same pixels of a picture.

    Decoders of JPEG may differ by a grey level, and Pillow 13 resizes some tall pictures down before across,
    which rounds otherwise; Pillow 12, as the page, always resizes across first.
    """
    picture = opened(path)
    return path.suffix[1:] in EXACT and picture.height <= picture.width


def read_here(paths, size):
    """The same pictures as the library reads them, uint8[N, 3, S, S]."""
    arrays = [np.array(resize(opened(path), size)).transpose(2, 0, 1) for path in paths]
    return torch.from_numpy(np.stack(arrays))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_pixels_and_logits_are_those_of_python(start, models, pictures, number):
    page = start()
    paths = pictures[number::3]
    found = read_in(page, paths, number)
    here = read_here(paths, models[number].size)
    for path, result, pixels in zip(paths, found, here.numpy(), strict=True):
        apart = np.abs(result["pixels"].astype(int) - pixels).max()
        assert apart <= (0 if is_exact(path) else 1), path.name
    # Where pixels differ by a grey level, the same ones still give the same logits.
    same = torch.from_numpy(np.stack([result["pixels"] for result in found]))
    said = clinic.answer(models[number], same)
    logits = np.array([result["logits"] for result in found])
    assert np.abs(logits - said.logits.numpy()).max() <= LOGITS
    assert [result["set"] for result in found] == [np.flatnonzero(row).tolist() for row in said.sets]
    assert [result["alarm"] for result in found] == said.out_of_scope.tolist()
    own = clinic.answer(models[number], here)
    assert logits.argmax(axis=1).tolist() == own.predicted.tolist()


@pytest.fixture(scope="module")
def in_firefox():
    if firefox.MISSING:
        pytest.skip(firefox.MISSING)
    with firefox.launched() as browser:
        yield browser


def test_firefox_makes_of_two_hundred_pictures_what_python_makes(
    in_firefox, address, models, pictures, tmp_path
):
    """The page with a script more, which its policy would not let run, and therefore without the policy."""
    number, model = 1, models[1]
    files = [[path.name, base64.b64encode(path.read_bytes()).decode()] for path in pictures]
    asked = f"""<script>(async () => {{
      while (!document.body.dataset.ready) await new Promise((done) => setTimeout(done, 50));
      try {{
        document.body.dataset.found = JSON.stringify(await ({READ})({json.dumps([files, number])}));
      }} catch (error) {{
        document.body.dataset.found = JSON.stringify(String(error));
      }}
    }})();</script></body>"""
    page = Path(unquote(urlsplit(address).path)).read_text()
    page, policies = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    assert policies == 1
    (tmp_path / "page.html").write_text(page.replace("</body>", asked))
    in_firefox.open((tmp_path / "page.html").as_uri())
    found = json.loads(in_firefox.wait_for("return document.body.dataset.found"))
    assert isinstance(found, list), found
    flat = [np.frombuffer(base64.b64decode(result["pixels"]), np.uint8) for result in found]
    same = torch.from_numpy(np.stack(flat)).reshape(-1, 3, model.size, model.size)
    apart = (same.int() - read_here(pictures, model.size).int()).abs().amax(dim=(1, 2, 3)).tolist()
    for path, most in zip(pictures, apart, strict=True):
        assert most <= (0 if is_exact(path) else 1), path.name
    said = clinic.answer(model, same)
    assert np.abs(np.array([result["logits"] for result in found]) - said.logits.numpy()).max() <= LOGITS
    assert [result["set"] for result in found] == [np.flatnonzero(row).tolist() for row in said.sets]
    assert [result["alarm"] for result in found] == said.out_of_scope.tolist()


def test_firefox_answers_a_chosen_picture_refuses_a_broken_one_and_connects_nowhere(
    in_firefox, address, models, pictures, tmp_path
):
    in_firefox.open(address)
    in_firefox.wait_for("return document.body.dataset.ready")
    (tmp_path / "notes.png").write_bytes(b"no picture")
    in_firefox.choose("#files", tmp_path / "notes.png", pictures[0])
    in_firefox.wait_for(
        f"return document.querySelector('#which').textContent === {json.dumps(pictures[0].name)}"
    )
    answers = in_firefox.evaluate(
        "return [...document.querySelectorAll('.answer strong')].map((one) => one.textContent)"
    )
    said = [clinic.answer(model, read_here(pictures[:1], model.size)) for model in models[:3]]
    assert answers == [
        model.card.classes[each.predicted[0]] for model, each in zip(models, said, strict=False)
    ]
    assert "notes.png is no picture" in in_firefox.evaluate(
        "return document.querySelector('#messages').textContent"
    )
    in_firefox.wait_for("return /in random order/.test(document.querySelector('.deletion').textContent)")
    in_firefox.evaluate("""
        document.addEventListener("securitypolicyviolation", (event) => {
          document.body.dataset.refused = event.effectiveDirective;
        });
        const picture = document.createElement("img");
        picture.src = "https://hospital.example/pixel.png";
        document.body.append(picture);
    """)
    assert in_firefox.wait_for("return document.body.dataset.refused") == "img-src"


def test_a_map_is_the_class_activation_map_in_calibrated_log_odds(start, models, pictures):
    page = start()
    paths = pictures[:16]
    found = read_in(page, paths, 0)
    images = torch.from_numpy(np.stack([result["pixels"] for result in found]))
    for target in range(5):
        expected = cam(models[0].network, images, target).flatten(1) / 64 / models[0].card.temperature
        drawn = np.array([result["maps"][target] for result in found])
        np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_the_measures_of_a_map_are_those_of_the_library(start, cells):
    page = start()
    rng = np.random.default_rng(1)
    relevance, mask = rng.normal(size=64), rng.random((64, 64)) < 0.3
    flat = [int(value) for value in mask.flatten()]
    share, blind = page.evaluate(
        "([map, mask]) => [shareInside(map, 8, mask), shareInside(centred(64), 64, mask)]",
        [relevance.tolist(), flat],
    )
    inside = torch.from_numpy(mask)[None]
    maps = torch.from_numpy(relevance.reshape(1, 8, 8)).float()
    assert share == pytest.approx(share_inside(maps, inside).item(), abs=1e-6)
    assert blind == pytest.approx(share_inside(centred_gaussian(1, 64), inside).item(), abs=1e-6)


def test_covering_is_what_it_says(start, models):
    """The page's map, against the network in Python on the same covered pictures."""
    page = start()
    model = models[1]
    image = torch.rand(3, 49, 49, generator=torch.Generator().manual_seed(0))
    found = page.evaluate(
        """(image) => {
          const found = occlusion(state.models[1], Float32Array.from(image), 2, () => {});
          return [[...found.map], found.side];
        }""",
        image.flatten().tolist(),
    )
    edges = [round(i * 49 / 16 + 1e-9) for i in range(17)]
    falls, counts = np.zeros((16, 16)), np.zeros((16, 16))
    colour = image.mean(dim=(1, 2))[:, None, None]

    def score(picture):
        with torch.no_grad():
            return model.network(picture[None])[0, 2].item() / model.card.temperature

    for row in range(15):
        for column in range(15):
            covered = image.clone()
            covered[:, edges[row] : edges[row + 2], edges[column] : edges[column + 2]] = colour
            falls[row : row + 2, column : column + 2] += score(image) - score(covered)
            counts[row : row + 2, column : column + 2] += 1
    assert found[1] == 16
    np.testing.assert_allclose(np.reshape(found[0], (16, 16)), falls / counts, atol=LOGITS)


def test_forgetting_shuffles_weights_part_by_part_and_holds_the_maps_together(start, models):
    """The page's likenesses, against the library's for networks with the weights that the page shuffled."""
    page = start()
    model, parts = models[1], explain.layer_groups(models[1].network)
    image = torch.rand(1, 3, 49, 49, generator=torch.Generator().manual_seed(0))
    maps = torch.cat([cam(model.network, image, target) for target in range(5)])
    target = int((maps > 0).sum(dim=(1, 2)).argmax())
    there = maps[[target]].clamp_min(0)
    found, shuffled = page.evaluate(
        """([image, target]) => {
          const model = state.models[1];
          const picture = Float32Array.from(image);
          const plain = (network) => Object.fromEntries(
            Object.entries(network.tensors).map(([name, values]) => [name, [...values]]));
          const forgot = (last, draw) => PARTS.slice(0, last + 1).reduce(
            (network, part) => forgetful(network, part, draw), model.network);
          const map = contributions(model, run(model.network, picture), target);
          const draws = Array.from({ length: FORGETTINGS }, (_, draw) => draw);
          return [
            forgettingTest(model, picture, target, map),
            PARTS.map((_, last) => draws.map((draw) => plain(forgot(last, draw)))),
          ];
        }""",
        [image.flatten().tolist(), target],
    )
    assert page.evaluate("PARTS") == parts
    before = {name: value for name, value in model.network.state_dict().items() if value.is_floating_point()}
    for last, networks in enumerate(shuffled):
        likenesses = []
        for tensors in networks:
            mixed = {name: torch.tensor(tensors[name]).reshape(value.shape) for name, value in before.items()}
            for name, value in before.items():
                torch.testing.assert_close(mixed[name].flatten().sort().values, value.flatten().sort().values)
                if value.unique().numel() > 5:  # of a few values the order may be the same by chance
                    kept = "running" in name or not name.startswith(tuple(parts[: last + 1]))
                    assert torch.allclose(mixed[name], value, atol=1e-6) == kept, name
            network = copy.deepcopy(model.network)
            network.load_state_dict(mixed, strict=False)
            likeness = float(explain.rank_correlation(cam(network, image, target).clamp_min(0), there))
            likenesses += [likeness] if likeness == likeness else []
        assert found[last] == (pytest.approx(np.mean(likenesses), abs=1e-3) if likenesses else None)
    assert sum(value is not None for value in found) > 1


def choose(page, *paths):
    page.locator("#files").set_input_files([str(path) for path in paths])


def heading(page):
    return page.locator("#which").inner_text()


def test_a_chosen_picture_gets_the_answers_of_python_and_nothing_is_asked_of_anybody(start, models, pictures):
    page = start()
    asked = len(page.asked)
    path = pictures[0]
    choose(page, path)
    page.wait_for_function("(name) => document.querySelector('#which').textContent === name", arg=path.name)
    for number, model in enumerate(models[:3]):
        said = clinic.answer(model, read_here([path], model.size))
        article = page.locator("article", has=page.get_by_role("heading", name=ARMS[number]))
        best = said.predicted[0]
        share = said.probabilities[0, best]
        assert (
            article.locator(".answer").inner_text()
            == f"{model.card.classes[best]} {round(100 * share)}\N{NO-BREAK SPACE}%"
        )
        numbers = article.locator(".bars td").all_inner_texts()
        assert len(numbers) == 5
        assert sum(int(re.sub(r"\D", "", text)) for text in numbers) == pytest.approx(100, abs=4)
        within = {model.card.classes[i] for i in np.flatnonzero(said.sets[0])}
        marked = article.locator("tr.within th").all_text_contents()
        assert {text.removeprefix("● in the set: ") for text in marked} == within
    for number in range(3):
        page.locator(".deletion", has_text="in random order").nth(number).wait_for()
        page.locator(".forgetting", has_text="the likeness to this map:").nth(number).wait_for()
    assert [url for url in page.asked[asked:] if not url.startswith(("blob:", "data:"))] == []
    assert page.complaints == []


@pytest.mark.survives(
    "The page for own cells tries to send a patient's picture to another host",
    "Chromium refuses every way out, also from the page's worker",
)
def test_a_deliberate_connection_is_refused(start):
    page = start()
    refused = page.evaluate("""async () => {
        const seen = new Set();
        document.addEventListener("securitypolicyviolation", (event) => seen.add(event.effectiveDirective));
        const reached = await fetch("https://hospital.example/").then(() => true, () => false);
        navigator.sendBeacon("https://hospital.example/", "cell");
        const picture = new Image();
        picture.src = "https://hospital.example/pixel.png";
        const form = document.createElement("form");
        form.action = "https://hospital.example/";
        document.body.append(form);
        form.submit();
        const script = document.createElement("script");
        script.textContent = "window.owned = true";
        document.body.append(script);
        const code = "fetch('https://hospital.example/').then(() => postMessage(1), () => postMessage(0))";
        const worker = new Worker(URL.createObjectURL(new Blob([code])));
        const byWorker = await new Promise((done) => { worker.onmessage = (event) => done(event.data); });
        await new Promise((done) => setTimeout(done, 300));
        return [reached, byWorker, window.owned === undefined, [...seen].sort()];
    }""")
    assert refused == [False, 0, True, ["connect-src", "form-action", "img-src", "script-src-elem"]]


def animated(kind):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, lossless=True)


def declared(width, height):
    """The head of a PNG that says so; the rest is missing."""
    png = bytearray(encoded(Image.new("RGB", (8, 8)), "PNG"))
    png[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(png)


BAD = {
    "notes.png": (lambda: b"no picture", r"notes\.png is no picture that this page reads; give PNG, JPEG"),
    "drawing.svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", r"is a drawing or a page of text"),
    "half.jpg": (lambda: encoded(Image.new("RGB", (64, 64)), "JPEG")[:200], r"is damaged or of a kind"),
    "empty.png": (lambda: b"", r"is empty or a folder"),
    "slide.tif": (lambda: encoded(Image.new("RGB", (16, 16)), "TIFF"), r"is a TIFF picture"),
    "film.gif": (lambda: animated("GIF"), r"holds several pictures"),
    "film.webp": (lambda: animated("WEBP"), r"holds several pictures"),
    "film.png": (lambda: animated("PNG"), r"holds several pictures"),
    "vast.png": (lambda: declared(9000, 9000), r"has 81 million pixels and at most 40 are read"),
    "nothing.png": (lambda: declared(0, 8), r"does not say how large it is; save it anew"),
    "dot.png": (lambda: encoded(Image.new("RGB", (3, 3)), "PNG"), r"has 3 x 3 pixels, too few"),
    "letter.pdf": (lambda: b"%PDF-1.7", r"is a PDF document"),
}


@pytest.mark.survives(
    "Broken, animated, enormous or foreign files are dropped on the page among good ones",
    "Each gets one sentence that names it and the remedy, and the rest is read",
)
def test_what_is_no_picture_gets_a_sentence_and_the_rest_goes_on(start, pictures, tmp_path):
    page = start()
    for name, (content, _) in BAD.items():
        (tmp_path / name).write_bytes(content())
    choose(page, *(tmp_path / name for name in BAD), pictures[0])
    page.wait_for_function(
        "(name) => document.querySelector('#which').textContent === name", arg=pictures[0].name
    )
    said = page.locator("#messages .refused span").all_inner_texts()
    assert len(said) == len(BAD)
    for sentence, (name, (_, match)) in zip(said, BAD.items(), strict=True):
        assert sentence.startswith(name)
        assert re.search(match, sentence), sentence
        assert sentence.count(". ") == 0, sentence
    assert page.complaints == []


def test_a_picture_larger_than_its_head_says_is_refused(start):
    page = start()
    said = page.evaluate(
        """(content) => {
          window.createImageBitmap = async () => ({ width: 9000, height: 9000, close() {} });
          return decode(new File([bytesOf(content)], "small.png")).catch((error) => error.message);
        }""",
        base64.b64encode(encoded(Image.new("RGB", (8, 8)), "PNG")).decode(),
    )
    assert said.startswith("small.png has 81 million pixels")


def test_an_oblong_picture_is_answered_with_a_remark(start, tmp_path):
    page = start()
    for name, sides in {"long.png": (96, 64), "nearly.png": (96, 84)}.items():
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", sides), "PNG"))
    choose(page, tmp_path / "long.png", tmp_path / "nearly.png")
    page.wait_for_selector("text=The pictures are read")
    said = page.locator("#messages .told span").all_inner_texts()
    assert said[0] == "long.png is not square, and the models see it squashed: cut out a square."
    assert len(said) == 2
    assert "It is not square" in page.locator("article.original").inner_text()


def test_a_model_of_drawn_images_gives_no_answer_to_a_picture_of_ones_own(start, pictures):
    page = start()
    page.evaluate("() => { state.models[0].card.simulated = true; }")
    choose(page, pictures[0])
    page.wait_for_selector(f"text={pictures[0].name} is read")
    card = page.locator("article:not(.original)").first
    page.emulate_media(media="print")
    assert card.locator(".answer").inner_text() == "No answer"
    assert card.locator(".alarm").inner_text() == (
        "Trained on drawn images only: its answer to a real picture means nothing."
    )
    assert "Trained on drawn images only" in page.locator("#warning").inner_text()
    page.emulate_media(media="screen")
    page.get_by_role("button", name="monocyte").first.click()
    assert card.locator(".bars").count() == 1


def test_words_claim_no_more_than_was_measured(start):
    page = start()
    said = page.evaluate("""() => {
      const test = (map, middle) => deletionInWords("monocyte", { map, middle, random: 0.5, luckiest: 0.4 });
      const border = Float64Array.from({ length: 64 }, (_, i) => (i < 8 ? 1 : 0));
      return {
        one: setInWords(state.models[0], { set: [2] }),
        sets: [[[], []], [["colours"], []], [["colours"], ["colours"]]].map((alarms) => setsInWords(
          state.models.slice(0, 2), alarms.map((each) => ({ alarms: each })))),
        tests: [test(0.1, 0.4), test(0.3, 0.3), test(0.45, 0.6)],
        forgotten: [[0.5, null, 0.1], [0.2, 0.4], [0.2, -0.4], [0.2, null]].map(forgettingInWords),
        border: mapInWords("monocyte", border, 8),
        nucleus: nucleusInWords(0.5, 0.3),
        nuclei: [["white cells", "monocyte"], ["white cells", "platelet"], ["leukaemia fields", "pro"]].map(
          ([family, name]) => hasNucleus({ family }, name)),
        scope: scopeInWords({
          scope: ["colours", "features"].map((of) => ({ of, detected: { noise: 0.5 } })),
        }),
      };
    }""")
    assert said["one"] == "Of its 5 classes only monocyte is left."
    both, other, none = (each.replace("\N{NO-BREAK SPACE}", " ") for each in said["sets"])
    assert both == other
    assert both.count("are meant to hold the right class of 90 % of home's cells") == 1
    assert "of none that is of no class of the list" in both
    assert none == ""
    verdicts = [each.split("? ")[1].split(". With")[0] for each in said["forgotten"]]
    assert verdicts == ["Yes", *["No, it shows the picture more than the model"] * 2, "Yes, none is left"]
    assert ": 0.50, no map, 0.10 (rank correlation" in said["forgotten"][0]
    verdicts = [each.split("? ")[1].split(":")[0] for each in said["tests"]]
    assert verdicts == [
        "Yes",
        "More than on random squares, but no more than on the middle",
        "Not more than on others",
    ]
    assert said["tests"][0].startswith("Does monocyte hang on these squares?")
    assert said["border"].endswith("mostly at the border of the picture.")
    assert said["nucleus"].startswith("On what is stained like a nucleus? Yes")
    assert said["nuclei"] == [True, False, False]
    assert "by its colours: noise 50" in said["scope"]
    assert "by what the network measures in it: noise 50" in said["scope"]


def test_a_picture_that_is_no_cell_gets_no_answer_unless_one_insists(start):
    page = start()
    page.get_by_role("button", name="no cell").click()
    assert "none gives an answer" in page.locator("#verdict").inner_text()
    warning = page.locator("#warning")
    assert warning.is_visible()
    cards = page.locator("article:not(.original)")
    assert cards.count() == 3
    for each in cards.all():
        assert each.locator(".answer").inner_text() == "No answer"
        assert each.locator(".bars").count() == 0
        assert each.locator("canvas").count() == 0
        assert (
            "It also warns about good cells: north 3\N{NO-BREAK SPACE}%, far"
            in each.locator(".alarm").inner_text()
        )
    warning.get_by_role("button").click()
    assert "with a confidence that means nothing here" in cards.first.inner_text()
    assert cards.first.locator("canvas").count() == 1
    page.get_by_role("button", name="monocyte").first.click()
    assert warning.is_hidden()


def test_a_model_is_used_when_it_is_dropped(start, models, pictures, tmp_path):
    page = start()
    choose(page, pictures[0])
    page.wait_for_function(
        "(name) => document.querySelector('#which').textContent === name", arg=pictures[0].name
    )
    page.evaluate("() => state.entries.forEach((entry) => entry.tests.set('old', {}))")
    content = json.dumps(clinic.page_model(models[3]))
    drop = """(content) => {
      const moved = new DataTransfer();
      moved.items.add(new File([content], "mine.json"));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, content)
    page.wait_for_selector("#messages >> text=The model drawn/a fourth is in use")
    article = page.locator("article", has=page.get_by_role("heading", name="A fourth"))
    said = clinic.answer(models[3], read_here([pictures[0]], models[3].size))
    assert article.locator(".answer strong").inner_text() == models[3].card.classes[said.predicted[0]]
    assert page.locator("details[open] summary").inner_text().startswith("Drawn cells, a fourth")
    assert page.get_by_role("checkbox", name="a fourth (your file)").is_checked()
    assert "from your file; nobody checked its scores" in article.locator("h3").inner_text()
    assert article.locator(".alarm").inner_text().startswith("Nobody checks whether this picture is")
    assert page.evaluate('() => tableOfAnswers().includes(\'"not checked","Not a medical\')')
    assert page.evaluate("() => tableOfAnswers().includes('\"drawn/a fourth (your file)\"')")
    assert not page.evaluate("() => tableOfAnswers().includes('\"drawn/federated (your file)\"')")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    printed = page.locator("#printed-when").text_content()
    assert "drawn/a fourth (your file) (hemafl 0" in printed
    assert "drawn/federated (hemafl 0" in printed
    assert page.evaluate("() => state.entries.every((entry) => !entry.tests.has('old'))")
    page.evaluate(drop, content.replace("drawn/a fourth", "drawn/federated"))
    page.wait_for_selector("#messages >> text=drawn/federated is the name of a model of the book; save yours")
    page.evaluate("() => state.entries.forEach((entry) => entry.tests.set('old', {}))")
    page.evaluate(drop, content.replace("Random weights.", "Others."))
    page.wait_for_selector("#about >> text=Others.", state="attached")
    assert page.evaluate("() => state.entries.every((entry) => !entry.tests.has('old'))")
    assert page.locator("article:not(.original)").count() == 4
    assert page.complaints == []


def broken(change):
    def content(models):
        model = clinic.page_model(models[3])
        change(model)
        return json.dumps(model)

    return content


BAD_MODELS = {
    "half": (lambda models: json.dumps(clinic.page_model(models[3]))[:-99], "it is no whole JSON file"),
    "list": (lambda models: "[1, 2]", "it is no model of this page"),
    "later": (broken(lambda model: model.update(version=2)), "it is of version 2"),
    "wide": (broken(lambda model: model["network"].update(width=999)), "its width is no whole number"),
    "other": (broken(lambda model: model["network"].update(width=5)), "is missing or of another shape"),
    "short": (
        broken(lambda model: model["tensors"]["head.bias"].update(data="AAAA")),
        "its tensor head.bias",
    ),
    "cold": (
        broken(lambda model: model["card"].update(temperature=0)),
        "its temperature is no number from 0.000001",
    ),
    "twins": (
        broken(lambda model: model["card"].update(classes=5 * ["a"])),
        "two classes of its card have the same name",
    ),
    "vast": (
        broken(lambda model: model["network"].update(width=128, size=1024)),
        "it is too large for a browser",
    ),
    "chatty": (
        broken(lambda model: model["card"].update(about="a" * 2001)),
        "'about' of its card is no text of at most 2000 letters",
    ),
    "scored": (
        broken(lambda model: model["card"].update(scores=201 * model["card"]["scores"][:1])),
        "its card has no list of at most 200 scores",
    ),
    "strange": (
        broken(lambda model: model["card"]["scores"][0].update(kind="best")),
        "each of a kind of: own, joint, related, unseen",
    ),
    "watched": (
        broken(lambda model: model["card"].update(scope=[None])),
        "a scope detector of its card is incomplete",
    ),
    "wandering": (
        broken(lambda model: model["card"].update(sites=1001 * ["north"])),
        "the sites of its card are no list of at most 1000 names",
    ),
    "turned": (
        broken(lambda model: model["card"].update(arm="\u202elartnec")),
        "its card lacks a name, family or arm of at most 200 plain letters",
    ),
    "hyphened": (
        broken(lambda model: model["card"].update(name="drawn/fede\u00adrated")),
        "its card lacks a name, family or arm of at most 200 plain letters",
    ),
    "doubled": (
        broken(lambda model: model["card"].update(classes=["a", "a\u3164", "b", "c", "d"])),
        "its card does not name 5 classes",
    ),
    "backwards": (
        broken(lambda model: model["card"].update(title="Cells\u202e of a test")),
        "'title' of its card is no text of at most 2000 letters that can be printed",
    ),
    "nameless": (
        broken(lambda model: model["card"].update(classes=["a"])),
        "its card does not name 5 classes",
    ),
}


def test_a_broken_model_gets_a_sentence_and_changes_nothing(start, models, tmp_path):
    page = start()
    before = page.locator("#families").inner_text()
    for name, (content, _) in BAD_MODELS.items():
        (tmp_path / f"{name}.json").write_text(content(models))
    choose(page, *(tmp_path / f"{name}.json" for name in BAD_MODELS))
    page.wait_for_function(
        "(count) => document.querySelectorAll('#messages .refused').length === count", arg=len(BAD_MODELS)
    )
    said = page.locator("#messages .refused span").all_inner_texts()
    for sentence, (name, (_, why)) in zip(said, BAD_MODELS.items(), strict=True):
        assert sentence.startswith(f"{name}.json cannot be used as a model: ")
        assert why in sentence
    assert page.locator("#families").inner_text() == before
    assert page.complaints == []


def test_the_page_and_the_library_take_the_same_names_and_texts(start):
    """Of every letter that both know; a browser may know more of them than Python."""
    page = start()
    points = [point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)) not in UNKNOWN]
    take = "(points) => points.filter((point) => %s(`a${String.fromCodePoint(point)}b`))"
    for said, rule in (("isName", plain_name), ("isRemark", plain_text)):
        here = [point for point in points if takes(rule, f"a{chr(point)}b")]
        assert len(here) > 100_000
        assert page.evaluate(take % said, points) == here
    names = [" a", "a ", "a  b", "a b", "\u00a0a", "a\n"]
    assert page.evaluate("(names) => names.filter(isName)", names) == ["a b"]
    assert [name for name in names if takes(plain_name, name)] == ["a b"]


UNKNOWN = ("Cn", "Cs")
"""Of no letter, and of half a letter."""


def takes(rule, text):
    try:
        return rule(text) == text
    except ValueError:
        return False


def test_a_model_that_computes_no_numbers_gives_no_answer(start):
    """As by weights that are finite, and whose products are not."""
    page = start()
    said = page.evaluate(
        """() => {
          const model = { ...state.models[0], card: { ...state.models[0].card, temperature: NaN } };
          const found = answer(model, state.entries[0].inputs.get(model.network.size));
          return [answerParts(model, found, false)[0].textContent, alarmInWords(model, found)];
        }"""
    )
    assert said == ["No answer", "Its weights are so large that it computes no numbers: it answers nothing."]


def test_the_page_takes_networks_of_the_sizes_that_the_library_writes(start):
    page = start()
    largest = {"width": WIDEST, "classes": MOST_CLASSES, "size": LONGEST_SIDE}
    assert page.evaluate("LARGEST") == largest
    assert page.evaluate("MOST.products") == MOST_PRODUCTS
    for attention in ("se", "eca", "cbam", "none"):
        network = AttentionCNN(5, width=8, attention=attention, norm="group")
        settings = {"width": 8, "classes": 5, "attention": attention, "norm": "group", "size": 60}
        assert page.evaluate("productsOf", settings) == products(to_tensors(network), 60), attention


def test_text_of_a_model_is_never_markup(start):
    page = start()
    assert page.locator("main b").count() == 0
    assert page.locator(".bars th", has_text="<b>basophil</b>").count() == 3


def test_all_can_be_done_by_keyboard(start, models):
    page = start()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    order = []
    for _ in range(40):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        if order[-1] == "print":
            break
    places = [
        order.index(name)
        for name in ("files", "target", "against", "sign", "opacity", "scores", "remark", "print")
    ]
    assert places == sorted(places)
    cell = page.locator(".cell").first
    cell.focus()
    first = heading(page)
    page.keyboard.press("ArrowRight")
    assert heading(page) != first
    assert page.evaluate("document.activeElement.getAttribute('aria-current')") == "true"
    page.keyboard.press("ArrowLeft")
    assert heading(page) == first
    page.get_by_role("button", name="Cover each place").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Stop"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Cover each place and look again"
    page.keyboard.press("Enter")
    covered = page.locator("article:not(.original) .cover canvas").first
    covered.wait_for(timeout=90_000)
    assert "Places that matter when covered" in covered.get_attribute("aria-label")


def drawn(page, number=0):
    return (
        page.locator("article:not(.original) .map canvas")
        .nth(number)
        .evaluate("(canvas) => canvas.toDataURL()")
    )


def test_each_control_changes_the_map_and_what_is_said_of_it(start):
    page = start()
    sentence = page.locator(".says").first
    page.select_option("#sign", "signed")
    page.select_option("#target", "monocyte")
    assert "speaks for monocyte" in sentence.inner_text()
    seen = [drawn(page)]
    for change in (
        lambda: page.select_option("#against", "eosinophil"),
        lambda: page.check("#smooth"),
        lambda: page.check("#nucleus"),
        lambda: page.locator("#opacity").fill("20"),
    ):
        change()
        seen.append(drawn(page))
    assert [i for i in range(1, len(seen)) if seen[i] == seen[i - 1]] == []
    assert "monocyte rather than eosinophil" in sentence.inner_text()
    for test in (".deletion", ".forgetting"):
        page.wait_for_function(f"() => document.querySelector('{test}').textContent === ''")
    page.uncheck("#shared")
    assert "Each map by its own largest value" in page.locator(".legend").inner_text()
    page.get_by_role("checkbox", name="centralised").uncheck()
    assert page.locator("article:not(.original)").count() == 2


def test_controls_have_names_and_pictures_have_words(start):
    page = start()
    nameless = page.evaluate("""() => [...document.querySelectorAll("button, input, select, textarea")]
      .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
      .map((each) => each.outerHTML)""")
    assert nameless == []
    for canvas in page.locator("main canvas").all():
        assert canvas.get_attribute("role") == "img"
        assert len(canvas.get_attribute("aria-label")) > 20
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("[aria-live], [role=status], [role=alert]").count() >= 3


FAINT = """
() => {
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const brightness = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const groundOf = (one) => getComputedStyle(one).backgroundColor;
    let ground = element;
    while (/, 0\\)$|^transparent$/.test(groundOf(ground))) ground = ground.parentElement;
    const both = [getComputedStyle(element).color, groundOf(ground)].map(brightness);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
  const says = (child) => child.nodeType === Node.TEXT_NODE && child.textContent.trim();
  const words = [...document.querySelectorAll("body *:not(script, option)")].filter((each) => (
    each.getClientRects().length > 0 && [...each.childNodes].some(says)
  ));
  return words.filter((each) => contrast(each) < 4.5).map((each) => each.outerHTML.slice(0, 80));
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_by_day_and_by_night(start, scheme):
    page = start(color_scheme=scheme)
    assert page.evaluate(FAINT) == []
    page.get_by_role("button", name="no cell").click()
    assert page.evaluate(FAINT) == []


def test_the_page_fits_a_telephone_and_moves_on_to_the_answer(start, pictures):
    page = start(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("#camera").get_attribute("capture") == "environment"
    assert page.get_by_text("Take a photograph").is_visible()
    choose(page, pictures[0])
    page.wait_for_function(
        "(name) => document.querySelector('#which').textContent === name", arg=pictures[0].name
    )
    assert page.locator("#which").bounding_box()["y"] < 400


def test_the_printed_report_names_models_remark_and_disclaimer(start):
    page = start()
    remark = page.get_by_label("Your remark")
    remark.fill("Seen by two of us.")
    page.locator(".cell[aria-current]").focus()
    page.keyboard.press("ArrowRight")
    assert remark.input_value() == ""
    page.keyboard.press("ArrowLeft")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    for hidden in ("#give", "#gallery", "#view", "#print"):
        assert page.locator(hidden).is_hidden()
    text = page.locator("body").inner_text()
    for said in ("Not a medical device", "Remark: Seen by two of us.", "drawn/federated (hemafl 0, code c)"):
        assert said in text
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 1


def test_the_reading_of_many_files_can_be_stopped(start, pictures):
    page = start()
    choose(page, *pictures[:150])
    page.get_by_role("button", name="Stop").click()
    page.wait_for_selector("text=The reading was stopped after")
    read = page.locator("[aria-label=Yours] .cell").count()
    assert read < 150
    assert f"after {read} of 150 files" in page.locator("#messages").inner_text()
    choose(page, *pictures[:150])
    page.wait_for_function("(count) => state.entries.filter((each) => each.own).length > count", arg=read)
    page.get_by_role("button", name="Remove my pictures").click()
    page.wait_for_selector("text=The reading was stopped after")
    assert page.locator("[aria-label=Yours] .cell").count() == 0
    assert page.complaints == []


def test_a_text_that_is_pasted_or_dropped_is_told_what_to_do(start):
    page = start()
    page.evaluate("""() => {
      const text = new DataTransfer();
      text.setData("text/plain", "a neutrophil");
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: text, bubbles: true }));
      document.dispatchEvent(new DragEvent("drop", { dataTransfer: text, bubbles: true, cancelable: true }));
      const paste = new ClipboardEvent("paste", { clipboardData: text, bubbles: true });
      document.querySelector("#remark").dispatchEvent(paste);
    }""")
    said = page.locator("#messages .refused span").all_inner_texts()
    assert [re.split("; ", each)[0] for each in said] == [
        "What was pasted holds no picture",
        "What was dropped holds no file",
    ]


def test_own_pictures_can_be_saved_as_a_table_and_removed(start, models, pictures, tmp_path):
    page = start()
    formula = tmp_path / "=1+2.png"
    formula.write_bytes(pictures[1].read_bytes())
    choose(page, pictures[0], formula)
    page.wait_for_selector("text=The pictures are read")
    page.get_by_label("Your remark").fill("Of a patient.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the answers").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()
    assert (
        lines[0]
        == '"picture","model","answer","probability","cannot be ruled out","outside its scope","note"'
    )
    assert all("Not a medical device" in line for line in lines[1:])
    assert len(lines) == 1 + 2 * 3
    assert sum(line.startswith('"\'=1+2.png",') for line in lines) == 3
    page.get_by_role("button", name="Remove my pictures").click()
    assert page.locator(".cell", has_text=pictures[0].name).count() == 0
    assert heading(page).startswith("Drawn sample")
    assert page.get_by_label("Your remark").input_value() == ""


# The page that is shipped


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    (path,) = apps.write_apps(tmp_path_factory.mktemp("shipped"), ["clinic"])
    return path


def test_the_shipped_page_is_small_and_answers_its_samples_as_python_does(start, shipped, repository):
    assert shipped.stat().st_size <= 400_000
    page = start(shipped.as_uri())
    models = clinic_page.load_models(repository)
    assert len(models) == 6
    for number, model in enumerate(models):
        found = page.evaluate(
            """(number) => state.entries.map((entry) => {
              const found = answerOf(entry, state.models[number]);
              const pixels = entry.inputs.get(state.models[number].network.size);
              return [found.logits, [...pixels], found.alarms.length > 0];
            })""",
            number,
        )
        images = torch.tensor([pixels for _, pixels, _ in found], dtype=torch.uint8)
        said = clinic.answer(model, images.reshape(-1, 3, model.size, model.size))
        logits = np.array([logits for logits, *_ in found])
        assert np.abs(logits - said.logits.numpy()).max() <= LOGITS
        assert [alarm for *_, alarm in found] == said.out_of_scope.tolist()
        assert said.out_of_scope[-1], "the cloth is no cell"
    for family in clinic_page.SAMPLES:
        page.get_by_role("radio", name=family).check()
        assert page.locator("article:not(.original) .bars").count() >= 2, (
            "it opens on a cell that models answer"
        )
        lacking = page.locator("#lacking")
        assert lacking.is_visible()
        assert ("no class for a normal film" in lacking.inner_text()) == (family == "leukaemia fields")
        page.emulate_media(media="print")
        assert ("no class for blasts" in lacking.inner_text()) == (family == "white cells")
        assert ("a field of several" in lacking.inner_text()) == (family == "white cells")
        page.emulate_media(media="screen")


def test_the_report_of_the_shipped_models_is_one_sheet_of_paper(start, shipped):
    page = start(shipped.as_uri())
    page.get_by_label("Your remark").fill("Seen by two of us.")
    page.wait_for_function("""() => [...document.querySelectorAll(".deletion, .forgetting")]
      .every((each) => /[^.][.]$/.test(each.textContent))""")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) == 1


@pytest.mark.parametrize("arm", clinic_page.ARMS)
def test_a_drawn_field_of_many_cells_is_often_answered_as_the_page_warns(arm, repository):
    model = clinic.load(repository / "book" / "clinic" / "models" / "white-cells" / arm)
    fields = smear.simulate(12, size=224, classes=smear.LEUKAEMIA, seed=3, masks=False)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in fields.images]
    pixels = np.stack([resize(picture, model.size) for picture in pictures]).transpose(0, 3, 1, 2)
    said = clinic.answer(model, torch.from_numpy(np.ascontiguousarray(pixels)))
    named = np.array(model.card.classes)[said.predicted[~said.out_of_scope]]
    assert 3 <= len(named) <= 9
    assert (named == "platelet").sum() > len(named) / 2
    assert said.probabilities[~said.out_of_scope].max() > 0.9


@pytest.mark.real
def test_real_cells_get_the_classes_of_python_from_a_stick(start, shipped, repository, real_data):
    page = start(shipped.as_uri())
    paths = sorted((real_data / "PBC_dataset_normal_DIB").rglob("*.jpg"))[::160][:20]
    assert len(paths) == 20
    for number, model in enumerate(clinic_page.load_models(repository)):
        found = read_in(page, paths, number)
        here = read_here(paths, model.size)
        pixels = np.stack([each["pixels"] for each in found])
        assert np.abs(pixels.astype(int) - here.numpy()).max() <= 1
        said = clinic.answer(model, torch.from_numpy(pixels))
        logits = np.array([each["logits"] for each in found])
        assert np.abs(logits - said.logits.numpy()).max() <= LOGITS
        assert logits.argmax(axis=1).tolist() == clinic.answer(model, here).predicted.tolist()


@pytest.mark.real
def test_the_likely_nucleus_is_most_of_the_drawn_one(start, real_data):
    """The page for own cells in the book states the mean Dice coefficient of 0.93 over both collections."""
    page = start()
    scores = []
    for name in ("tecom", "cellavision"):
        cells = data.load_images(name, size=64)
        for images, masks in zip(cells.images.split(50), cells.masks.split(50), strict=True):
            guesses = page.evaluate(
                "(pictures) => pictures.map((picture) => [...likelyNucleus(bytesOf(picture))].join(''))",
                [base64.b64encode(image.numpy().tobytes()).decode() for image in images],
            )
            for guess, mask in zip(guesses, masks.numpy() == 2, strict=True):
                guessed = np.array(list(guess)).reshape(64, 64) == "1"
                scores.append(2 * (guessed & mask).sum() / (guessed.sum() + mask.sum()))
    assert len(scores) == 400
    assert round(float(np.mean(scores)), 2) == 0.93
