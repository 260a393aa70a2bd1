"""ONNX files that compute what PyTorch does, and the folder of the page with its manifest."""

import base64
import hashlib
import http.client
import itertools
import json
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from course_lib.authoring.playground import build, captions, packages, serve
from course_lib.authoring.playground import export as onnx_files
from course_lib.datasets.emoji import captions as emoji_captions
from course_lib.datasets.emoji import concepts
from course_lib.datasets.scenes import Scenes
from course_lib.datasets.scenes.grammar import COLOURS
from course_lib.datasets.scenes.review import WORDS, review
from course_lib.diffusion import Diffusion
from course_lib.diffusion.few_steps import flow_map
from course_lib.models import UNet, attention_maps, heat_map

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


# --- the files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(toy_pipeline):
    """name -> the ONNX file, and its stated difference."""
    return {name: (file, differs) for name, file, differs in onnx_files.export(toy_pipeline)}


def run(file: bytes, **inputs) -> list[torch.Tensor]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: x.numpy() for name, x in inputs.items()})
    return [torch.from_numpy(x) for x in outputs]


def assert_close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() <= onnx_files.LIMIT * wanted.abs().max()


def test_every_part_computes_what_pytorch_does(exported, toy_pipeline):
    """On other inputs than those it was exported with, and for a batch of another size."""
    model, draw = toy_pipeline, torch.Generator().manual_seed(7)
    assert list(exported) == ["text_encoder", "unet", "vae_decoder", "vae_encoder"]
    assert all(differs <= onnx_files.LIMIT for _, differs in exported.values())
    files = {name: file for name, (file, _) in exported.items()}
    ids = model.clip.ids(["a red circle", "", "two large green rings on a white background"])
    context = model.clip.text_encoder(ids)
    assert_close(run(files["text_encoder"], ids=ids)[0], context)
    x, timestep = torch.randn(3, *model.latent, generator=draw), torch.tensor([1000.0, 31.5, 0.0])
    with attention_maps(model.unet) as maps:
        wanted = model.unet(x, timestep, context)
    got, attention = run(files["unet"], x=x, timestep=timestep, context=context)
    assert_close(got, wanted)
    assert_close(attention, heat_map(maps, size=8))
    assert_close(run(files["vae_decoder"], z=x)[0], model.vae.decode(x))
    images = torch.rand(3, 3, 32, 32, generator=draw) * 2 - 1
    assert_close(run(files["vae_encoder"], images=images)[0], model.vae.encode(images))


def test_a_network_of_average_velocities_is_exported_with_the_end_of_the_step(toy_pipeline):
    unet = UNet(**toy_pipeline.unet.kwargs | dict(interval=True))
    part = onnx_files.parts(replace(toy_pipeline, unet=unet))[1]
    start, end = part.inputs["timestep"].unbind(1)
    assert part.inputs["timestep"].shape == (2, 2) and (end < start).all()
    part.network(**part.inputs)


def test_no_file_tells_where_it_was_made(exported):
    assert not any(str(build.ROOT).encode() in file for file, _ in exported.values())


def test_weights_that_float16_holds_are_stored_in_it_and_no_others():
    exact, other = np.ones((4, 4), np.float32) / 8, np.full((4, 4), 0.1, np.float32)
    huge, vector = np.full((2, 2), 1e30, np.float32), np.ones(4, np.float32)
    tensors = dict(exact=exact, other=other, huge=huge, vector=vector)
    total = onnx.helper.make_node("Add", ["x", "exact"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [4, 4]) for n in "xy")
    weights = [onnx.numpy_helper.from_array(w, name) for name, w in tensors.items()]
    graph = onnx.helper.make_graph([total], "toy", [x], [y], weights)
    onnx_files.store_in_half(graph)
    kinds = {w.name: w.data_type for w in graph.initializer}
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert kinds == dict(exact_half=half, other=single, huge=single, vector=single)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    (y,) = run(model.SerializeToString(), x=torch.ones(4, 4))
    assert torch.equal(y, torch.full((4, 4), 1.125))


def test_a_part_that_differs_is_not_written(exported, toy_pipeline, tmp_path, monkeypatch):
    part, (file, _) = onnx_files.parts(toy_pipeline)[2], exported["vae_decoder"]
    toy = replace(part, network=onnx_files.Method(toy_pipeline.vae, "reconstruct"))  # not scaled
    assert onnx_files.difference(part, file) <= onnx_files.LIMIT < onnx_files.difference(toy, file)
    monkeypatch.setattr(onnx_files, "parts", lambda model: [toy])
    monkeypatch.setattr(onnx_files, "to_onnx", lambda part: file)
    with pytest.raises(RuntimeError, match=r"vae_decoder: ONNX and PyTorch differ by 3.*e-01"):
        list(onnx_files.write(toy_pipeline, tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named_where_it_is_missing(toy_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "EXTRA", ("onnx", "no_such_package"))
    with pytest.raises(RuntimeError, match=r"need no_such_package, an extra: pip install .*onnx"):
        next(onnx_files.write(toy_pipeline, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


# --- what the page offers ------------------------------------------------------------------------


def test_the_menus_make_captions_of_the_grammar():
    offer = captions.offer("scenes-latent")
    assert all(review(caption) is None for caption in offer.examples)
    rng = np.random.default_rng(0)
    for pattern, _ in itertools.product(offer.patterns.values(), range(200)):
        colours = iter(rng.permutation(list(COLOURS)))
        words = {kind: list(ways) for kind, ways in offer.vocabulary.items()}
        caption = pattern
        while "{" in caption:
            kind = caption.split("{")[1].split("}")[0]
            ground = kind in ("colour", "background")
            word = next(colours) if ground else rng.choice(words[kind])
            caption = caption.replace("{" + kind + "}", word, 1)
        assert review(" ".join(caption.split()).replace("a orange", "an orange")) is None, caption


def test_the_menus_of_emoji_name_what_there_is():
    offer = captions.offer("emoji-latent")
    said = [*offer.examples]
    for pattern in offer.patterns.values():
        kind = pattern.split("{")[1].split("}")[0]
        said += [pattern.format_map({kind: w, "studio": "Noto"}) for w in offer.vocabulary[kind]]
    assert all(emoji_captions.review(caption) is None for caption in said)
    families = {concept.family for concept in concepts()}
    assert 0.9 * len(families) < len(said) < len(concepts())


def test_a_model_of_ones_own_has_a_line_to_type_in():
    offer = captions.offer("my-own")
    assert offer.title == "my-own" and not offer.patterns and not offer.examples


# --- the folder ----------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path, toy_pipeline, exported):
    """build(...) with the toy model, exported already, and a runtime of three bytes."""
    monkeypatch.setattr(build, "load_pipeline", lambda name: toy_pipeline)
    monkeypatch.setattr(
        packages, "runtime", lambda npm: dict.fromkeys(packages.RUNTIME_FILES, b"rt")
    )
    calls = []

    def export(model):
        calls.append(model)
        yield from ((name, *rest) for name, rest in exported.items())

    monkeypatch.setattr(build, "export", export)
    return lambda **kwargs: (build.build(tmp_path / "play", **kwargs), calls)


def test_the_manifest_says_all_and_lists_every_file(folder, toy_pipeline):
    lines = []
    out, _ = folder(names=["toy"], tell=lines.append)
    assert len(lines) == 4 and lines[0].startswith("toy/text_encoder.")
    manifest = json.loads((out / "manifest.json").read_text())
    there = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    (model,) = manifest["models"]
    for file in model["files"].values():
        data = (out / file["path"]).read_bytes()
        assert len(data) == file["bytes"] and build.digest(data) in file["path"]
    assert (model["size"], model["latent"], model["prediction"]) == (32, [4, 8, 8], "flow")
    assert (model["scale"], model["sampler"], model["shift"]) == (3.0, "ddim", 1.0)
    for caption in ("a red circle", "two large green rings on a white background"):
        ids = [i for word in caption.split() for i in model["tokens"][word]]
        ids = [model["start"], *ids, model["end"]]
        ids += [model["end"]] * (model["length"] - len(ids))
        assert ids == toy_pipeline.clip.ids(caption)[0].tolist()


def test_the_shipped_tokenizer_spells_word_by_word():
    """The page joins the ids of the words, which is all of byte-pair encoding that it needs."""
    from course_lib.common.checkpoints import load_checkpoint
    from course_lib.models import CLIP

    tokenizer = load_checkpoint(CLIP, "scenes-clip").tokenizer
    assert tokenizer.words == WORDS
    for caption in (Scenes(64, "train").caption(i) for i in range(300)):
        words = caption.replace(",", " ,").split()
        joined = [i for word in words for i in tokenizer.encode(word)[1:-1]]
        assert tokenizer.encode(caption)[1:-1] == joined


def test_a_second_build_exports_nothing_and_removes_what_is_old(folder):
    out, calls = folder(names=["toy"])
    version = json.loads((out / "manifest.json").read_text())["version"]
    (out / "mine.txt").write_text("not of any build")
    folder(names=["toy"])
    assert len(calls) == 1
    assert json.loads((out / "manifest.json").read_text())["version"] == version
    next(out.glob("toy/unet*")).unlink()
    folder(names=["toy"])
    assert len(calls) == 2
    folder(names=["other"])  # the same weights: their files are kept
    folder(names=[])
    assert not list(out.rglob("*.onnx")) and (out / "mine.txt").exists()


def test_another_folder_s_manifest_is_left_alone(folder, tmp_path):
    (tmp_path / "play").mkdir()
    (tmp_path / "play" / "keep.txt").touch()
    (tmp_path / "play" / "manifest.json").write_text('{"files": ["keep.txt"]}')
    folder(names=[])
    assert (tmp_path / "play" / "keep.txt").exists()


def test_a_model_that_the_page_cannot_draw_with_is_refused(folder, monkeypatch, toy_pipeline):
    table = replace(toy_pipeline, process=Diffusion("linear", "eps"))
    for refused in (table, replace(toy_pipeline, sampler=flow_map)):
        monkeypatch.setattr(build, "load_pipeline", lambda name, refused=refused: refused)
        with pytest.raises(ValueError, match=r"straight schedule.*; toy is not one"):
            folder(names=["toy"])


# --- the packages from npm -----------------------------------------------------------------------


@pytest.fixture
def npm(monkeypatch, tmp_path):
    """npm(content): a package "tool-1.0" for which npm sends that content."""
    stated = base64.b64encode(hashlib.sha512(b"good").digest()).decode()
    monkeypatch.setattr(packages, "INTEGRITY", {"tool-1.0": f"sha512-{stated}"})
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(packages, "WHEELS", tmp_path / "wheels")

    def send(content: bytes | None, error: str = ""):
        def run(command, cwd, **_):
            assert command[1:3] == ["pack", "tool@1.0"]
            if content is not None:
                (cwd / "tool-1.0.tgz").write_bytes(content)
            return packages.subprocess.CompletedProcess(command, content is None, "", error)

        monkeypatch.setattr(packages.shutil, "which", lambda name: "npm")
        monkeypatch.setattr(packages.subprocess, "run", run)

    return send


def test_a_package_is_fetched_once_and_found_in_the_wheelhouse(npm, tmp_path, monkeypatch):
    assert packages.find("tool-1.0") is None
    npm(b"good")
    assert packages.fetch("tool-1.0", tmp_path / "wheels") == tmp_path / "wheels" / "tool-1.0.tgz"
    npm(None)  # no network any more
    assert packages.fetch("tool-1.0").read_bytes() == b"good"
    (tmp_path / "wheels" / "tool-1.0.tgz").write_bytes(b"damaged")
    assert packages.find("tool-1.0") is None


def test_what_is_not_the_package_is_refused(npm, tmp_path, monkeypatch):
    npm(b"bad")
    with pytest.raises(RuntimeError, match="whose checksum is not the expected one"):
        packages.fetch("tool-1.0")
    assert not list((tmp_path / "cache").iterdir())
    npm(None, "first line\nno such host")
    with pytest.raises(RuntimeError, match=r"could not fetch tool-1\.0: no such host"):
        packages.fetch("tool-1.0")
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="there is no npm here"):
        packages.fetch("tool-1.0")


# --- the server ----------------------------------------------------------------------------------


def test_the_server_is_for_this_machine_and_sends_the_right_types(tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "secret.txt").write_text("above the folder")
    for name in ("index.html", "a.js", "b.mjs", "c.wasm", "d.onnx"):
        (tmp_path / "page" / name).write_text("x")
    with serve.server(tmp_path / "page") as running:
        assert running.server_address[0] == "127.0.0.1"
        threading.Thread(target=running.serve_forever, daemon=True).start()

        def get(path):
            connection = http.client.HTTPConnection(*running.server_address)
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type")

        assert get("/") == (200, "text/html")
        assert get("/a.js") == get("/b.mjs") == (200, "text/javascript")
        assert get("/c.wasm") == (200, "application/wasm")
        assert get("/d.onnx") == (200, "application/octet-stream")
        assert get("/../secret.txt")[0] == get("/%2e%2e/secret.txt")[0] == 404
        running.shutdown()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets two servers share a port")
def test_a_port_that_is_taken_is_an_error(tmp_path):
    with (
        serve.server(tmp_path) as first,
        pytest.raises(OSError, match="choose another with --port"),
    ):
        serve.server(tmp_path, first.server_port)
