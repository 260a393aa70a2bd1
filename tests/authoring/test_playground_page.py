"""The page in a browser: PyTorch's noise, Python's samplers, the same pictures, and its manners.

It needs Chromium, Playwright and onnxruntime-web, which `make play` or `make wheelhouse` fetches.
"""

import json
import shutil
import subprocess
import tarfile
import threading

import pytest
import torch

from course_lib.authoring.playground import build, packages, serve
from course_lib.common import devices
from course_lib.common.registry import near
from course_lib.datasets.scenes.review import WORDS
from course_lib.diffusion import (
    Diffusion,
    generators,
    initial_noise,
    straight,
    trajectory,
)
from course_lib.diffusion.samplers import SAMPLERS
from course_lib.pipelines import image_to_image, text_to_image
from course_lib.recipes import load_pipeline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]
FLAGS += ["--disable-component-update", "--disable-gpu"]
CAPTION = "a large red circle on a blue background"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The page's folder with the shipped model."""
    pytest.importorskip("onnxruntime")
    if packages.find(packages.RUNTIME) is None:
        pytest.skip(f"{packages.RUNTIME} is not here: see playground/packages.py")
    out = tmp_path_factory.mktemp("play")
    if build.OUT.is_dir():  # spares the export, if it is of the same weights
        shutil.copytree(build.OUT, out, dirs_exist_ok=True)
    return build.build(out)


@pytest.fixture(scope="module")
def address(site):
    with serve.server(site) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, chromium_sandbox=False
        )
        yield browser
        browser.close()


def new_page(browser, **options):
    """A page of a visitor who was never here; it waits long, for machines that are busy."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(120_000)
    return page


@pytest.fixture(scope="module")
def modules(browser, address):
    """modules(code, argument): runs in the page, where the modules and a model are at hand."""
    page = new_page(browser)
    page.goto(address)
    page.evaluate("""async () => {
        for (const name of ["noise", "diffusion", "captions", "model", "pictures"]) {
            globalThis[name] = await import(`./${name}.js`);
        }
        const manifest = await (await fetch("manifest.json")).json();
        const ort = await import(`./${manifest.runtime}ort.wasm.min.mjs`);
        const drawers = Object.fromEntries(manifest.models.map((facts) => [facts.name,
            new model.TextToImage(facts, ort,
                async (part) => (await fetch(facts.files[part].path)).arrayBuffer())]));
        globalThis.facts = manifest.models[0];
        globalThis.draw = async (request, name = "scenes-latent") => {
            const drawer = drawers[name];
            if (request.image) request.image = Float32Array.from(request.image);
            for await (const state of drawer.draw(request)) globalThis.last = state;
            return Array.from(pictures.toBytes(await drawer.decode(last.z)));
        };
    }""")
    return page.evaluate


@pytest.fixture
def shipped(monkeypatch):
    """The pipeline in float32, also on a CPU where it would compute in bf16."""
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    return load_pipeline("scenes-latent")


@pytest.fixture
def shipped_emoji(monkeypatch):
    monkeypatch.setattr(devices, "has_bf16", lambda device: False)
    return load_pipeline("emoji-latent")


# --- the modules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [16, 768, 100], ids=["a block", "a latent", "a last block"])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_noise_is_pytorch_s(modules, count, seed):
    got = modules(
        """([count, seed]) => {
            const generator = new noise.Generator(seed);
            return [1, 2].map(() => Array.from(noise.randn(count, generator)));
        }""",
        [count, seed],
    )
    generator = torch.Generator().manual_seed(seed)
    for numbers in got:
        torch.testing.assert_close(torch.tensor(numbers), torch.randn(count, generator=generator))


def test_fewer_numbers_than_a_block_are_refused(modules):
    told = modules("() => { try { noise.randn(15) } catch (error) { return error.message } }")
    assert told == "at least 16 numbers are drawn at a time, got 15"


@pytest.mark.parametrize("start", [1.0, 0.55])
@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_takes_the_steps_of_python_s(modules, name, start):
    """With a network of one line, whose predictions depend on x and on the timestep."""
    got = modules(
        """async ([name, start]) => {
            const generator = new noise.Generator(3);
            const draw = () => noise.randn(32, generator);
            const network = (x, timestep) => x.map((v) => Math.sin(3 * v) - v * timestep / 1000);
            const predict = async (x, t) => diffusion.solve("flow", network(x, t.timestep), x, t);
            const points = diffusion.timeGrid(7, start).map(diffusion.straight(2));
            const sampler = diffusion.SAMPLERS[name];
            const path = [];
            for await (const x of diffusion.trajectory(sampler, predict, draw(), points, draw))
                path.push(Array.from(x));
            return path;
        }""",
        [name, start],
    )
    process, draws = Diffusion(straight(2.0), "flow"), generators([3])
    path = trajectory(
        *(process, lambda x, timestep, _: (3 * x).sin() - x * timestep / 1000),
        initial_noise(draws, (32,)),
        **dict(steps=7, sampler=name, start=start, generators=draws),
    )
    wanted = torch.cat(list(path))
    torch.testing.assert_close(torch.tensor(got), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "flow"])
def test_every_prediction_is_solved_as_in_python(modules, kind):
    process, x, prediction = Diffusion(straight(2.0), kind), torch.randn(16), torch.randn(16)
    got = modules(
        """([kind, prediction, x]) => diffusion.solve(kind, prediction, x,
            diffusion.straight(2)(0.3)).map((part) => Array.from(part))""",
        [kind, prediction.tolist(), x.tolist()],
    )
    wanted = process.x0_and_eps(prediction[None], x[None], torch.tensor([0.3]).double())
    torch.testing.assert_close(torch.tensor(got), torch.cat(wanted), rtol=1e-4, atol=1e-5)


CAPTIONS = [
    *(CAPTION, "", "  A Large  RED circle. ", "a red circle, on black!", "a red\tcircle …", ","),
    "two small hoops against a white background, near the top",
]


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_become_the_same_ids(modules, shipped, caption):
    got = modules("(caption) => captions.tokenize(caption, facts).ids", caption)
    assert got == shipped.clip.ids(caption)[0].tolist()


def test_unknown_words_are_named_with_what_may_be_meant(modules):
    got = modules(
        "(c) => captions.unknownWords(c, facts)", "a purpel Crcle, 3 cats teh constructor"
    )
    words = ["purpel", "crcle", "3", "cats", "teh", "constructor"]
    assert got == [{"word": word, "near": near(word, WORDS)} for word in words]
    assert got[0]["near"] == ["purple"] and got[3]["near"] == []


def test_a_caption_that_is_too_long_is_refused(modules):
    told = modules(
        "(c) => { try { captions.tokenize(c, facts) } catch (error) { return error.message } }",
        "red " * 40,
    )
    assert "42 tokens; the model reads at most 24" in told


def test_menus_make_a_sentence(modules):
    pieces = ["a ", "", " ", "orange", " ", "ring", " on an ", "blue", " background"]
    wanted = "an orange ring on a blue background"
    assert modules("(pieces) => captions.sentence(pieces)", pieces) == wanted


# --- the pictures --------------------------------------------------------------------------------


def as_bytes(image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) in [-1, 1] as the canvas holds it: RGBA for each pixel."""
    rgb = ((image + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0)
    return torch.cat([rgb, torch.full_like(rgb[..., :1], 255)], 2).flatten()


@pytest.mark.parametrize(
    "request_",
    [
        *(dict(sampler=name, steps=6) for name in SAMPLERS),
        dict(sampler="ancestral", steps=20, seed=11),
        dict(sampler="ddim", steps=6, scale=1.0, seed=4),
        dict(sampler="ddim", steps=6, scale=4.0, negative="a small green ring"),
    ],
    ids=lambda request: " ".join(f"{name} {value}" for name, value in request.items()),
)
def test_the_same_seed_gives_the_same_picture(modules, shipped, request_):
    got = modules("(request) => draw(request)", {"caption": CAPTION, **request_})
    options = dict(request_)
    wanted = text_to_image(shipped, [CAPTION], [options.pop("seed", 0)], **options)[0]
    assert (torch.tensor(got) - as_bytes(wanted)).abs().max() <= 2


@pytest.mark.parametrize("caption", ["a penguin, Fluent style", "Noto style: red apple, fruit"])
def test_emoji_come_out_the_same_too(modules, shipped_emoji, caption):
    request = {"caption": caption, "steps": 8, "seed": 2}
    got = modules("(request) => draw(request, 'emoji-latent')", request)
    wanted = text_to_image(shipped_emoji, [caption], [2], steps=8)[0]
    assert (torch.tensor(got) - as_bytes(wanted)).abs().max() <= 2


def test_a_drawing_becomes_the_same_picture(modules, shipped):
    image = torch.full((3, 64, 64), -0.5)
    image[0, 16:40, 20:44] = 0.8
    how = dict(strength=0.7, steps=10, sampler="dpm++2m")
    request = {"caption": CAPTION, "seed": 5, "image": image.flatten().tolist(), **how}
    got = modules("(request) => draw(request)", request)
    wanted = image_to_image(shipped, image[None], [CAPTION], [5], **how)[0]
    assert (torch.tensor(got) - as_bytes(wanted)).abs().max() <= 2
    assert modules("() => [last.step, last.steps]") == [7, 7]  # that share of the steps


# --- the page ------------------------------------------------------------------------------------


@pytest.fixture
def page(browser, address):
    """The page, ready to draw; it may ask nobody else for anything."""
    page = new_page(browser)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.goto(address)
    page.wait_for_selector("#draw:enabled")
    yield page
    assert not errors
    assert all(url.startswith((address, "blob:", "data:")) for url in asked)
    page.context.close()


def drawn(page) -> None:
    page.locator("#status", has_text="Drawn in").wait_for()


def pixels(page, canvas: str) -> torch.Tensor:
    code = """(canvas) => {
        const { width, height } = canvas;
        return Array.from(canvas.getContext("2d").getImageData(0, 0, width, height).data);
    }"""
    return torch.tensor(page.locator(canvas).evaluate(code))


def test_a_caption_becomes_a_picture_step_by_step(page, shipped):
    page.fill("[name=caption]", CAPTION)
    page.fill("[name=seed]", "3")
    page.click("#draw")
    drawn(page)
    wanted = as_bytes(text_to_image(shipped, [CAPTION], [3])[0])
    assert (pixels(page, "#picture") - wanted).abs().max() <= 2
    assert page.inner_text("#command code") == (
        f'course sample "{CAPTION}" --model scenes-latent --seed 3 --scale 2.5 --steps 20 '
        "--sampler ancestral"
    )
    page.fill("#moment", "0")  # back to the noise
    assert (pixels(page, "#picture") - wanted).abs().float().mean() > 20
    assert page.get_attribute("#moment", "max") == "20"


def test_a_word_s_attention_is_laid_over_the_picture(page):
    page.click("#draw")
    drawn(page)
    assert page.locator("#words button").all_inner_texts() == CAPTION.split()
    assert page.locator("#heat").is_hidden()
    page.click("#words button:nth-child(3)")  # red
    assert page.locator("#heat").is_visible() and "“red”" in page.inner_text("#looking")
    assert len(pixels(page, "#heat").view(-1, 4).unique(dim=0)) > 20
    page.click("#words button:nth-child(3)")
    assert page.locator("#heat").is_hidden()


def test_menus_write_the_caption_and_unknown_words_are_refused(page):
    page.select_option("#pattern", "several of a kind")
    page.select_option("#sentence select[aria-label=count]", "three")
    page.select_option("#sentence select[aria-label=shapes]", "rings")
    caption = page.input_value("[name=caption]")
    assert caption.startswith("three ") and " rings on a " in caption
    page.fill("[name=caption]", "a purpel cat")
    page.click("#draw")
    told = page.inner_text("#complaint")
    assert "“purpel” (did you mean “purple”?), “cat”" in told and "diamond" in told
    assert page.inner_text("#status") == "Ready."


def test_a_drawing_starts_a_picture(page):
    page.click("#drawing summary")
    page.click("#palette label:has-text('green')")
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 80, box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 170, box["y"] + 150, steps=4)
    page.mouse.up()
    assert page.is_checked("[name=start]")
    page.fill("[name=strength]", "0.5")
    page.click("#draw")
    drawn(page)
    assert page.get_attribute("#moment", "max") == "10" and page.locator("#command").is_hidden()


def test_the_second_visit_needs_no_network(site, browser):
    page = new_page(browser)
    with serve.server(site) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}/"
        page.goto(address)
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        running.shutdown()
    page.goto(address)
    page.wait_for_selector("#draw:enabled")
    page.click("#draw")
    drawn(page)
    page.context.close()


def test_a_browser_without_simd_is_told_so(browser, address):
    page = new_page(browser)
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(address)
    page.locator("#status", has_text="it lacks WebAssembly SIMD").wait_for()
    assert page.is_disabled("#draw")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_it(page, scheme):
    """No serious finding of axe-core, with everything unfolded and a word chosen."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    page.click("#drawing summary")
    page.fill("[name=steps]", "2")
    page.click("#draw")
    drawn(page)
    page.click("#words button:nth-child(3)")
    faults = axe.run(page).response["violations"]
    assert not [f["id"] for f in faults if f["impact"] in ("serious", "critical")]


def test_it_fits_a_phone_and_is_small(browser, address, site):
    page = new_page(browser, viewport={"width": 360, "height": 740})
    page.goto(address)
    page.wait_for_selector("#draw:enabled")
    page.click("#drawing summary")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.context.close()
    manifest = json.loads((site / "manifest.json").read_text())
    page_itself = [f for f in manifest["files"] if "/" not in f]
    for name, most in (("scenes-latent", 18e6), ("emoji-latent", 30e6)):
        files = page_itself + [f for f in manifest["files"] if f.startswith(name)]
        assert sum((site / file).stat().st_size for file in files) <= most


def test_its_types_are_right(tmp_path):
    node, compiler = shutil.which("node"), packages.find(packages.TYPESCRIPT)
    if node is None or compiler is None:
        pytest.skip("needs node and TypeScript: see playground/packages.py")
    with tarfile.open(compiler) as package:
        package.extractall(tmp_path, filter="data")
    tsc = [node, tmp_path / "package" / "bin" / "tsc", "--project", build.PAGE / "jsconfig.json"]
    checked = subprocess.run(tsc, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
