"""`course export onnx` and `course play`: what they say, and that they refuse in one line."""

import webbrowser

import pytest

from course_lib import recipes
from course_lib.authoring.playground import build, export, serve


@pytest.fixture
def exported(monkeypatch, toy_pipeline):
    """The exporter has its say without exporting."""
    monkeypatch.setattr(recipes, "load_pipeline", lambda name: toy_pipeline)
    monkeypatch.setattr(export, "EXTRA", ())
    monkeypatch.setattr(export, "export", lambda model: iter([("unet", bytes(2 * 10**6), 3e-7)]))


def test_each_file_is_named_with_its_size_and_its_difference(course, exported, tmp_path):
    done = course("export", "onnx", "scenes-latent", "files")
    assert (done.status, done.err) == (0, "")
    assert done.out.strip() == "files/unet.onnx: 2.0 MB, within 3.0e-07 of PyTorch"
    assert (tmp_path / "files" / "unet.onnx").stat().st_size == 2 * 10**6


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("onnx", "scenes-latnt", "out"), 2, "did you mean 'scenes-latent'?"),
        (("onnx", "digits-ddpm", "out"), 2, "unknown text-to-image model 'digits-ddpm'"),
    ],
)
def test_other_models_are_refused(course, monkeypatch, arguments, status, told):
    monkeypatch.setattr(export, "EXTRA", ())
    done = course("export", *arguments)
    assert done.status == status and told in done.err and done.err.count("\n") == 1


def test_a_missing_extra_is_one_line(course, monkeypatch):
    monkeypatch.setattr(export, "EXTRA", ("no_such_package",))
    done = course("export", "onnx", "scenes-latent", "out")
    assert done.status == 1 and "need no_such_package, an extra" in done.err
    assert done.err.count("\n") == 1


def test_play_builds_the_page_and_serves_it_until_ctrl_c(course, monkeypatch, tmp_path):
    opened, built = [], []

    def make(out, names, npm, tell):
        built.append((out, names, npm))
        return tmp_path

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "build", make)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(serve.ThreadingHTTPServer, "serve_forever", interrupted)
    done = course("play", "--port", "0", "--npm", "wheels")
    assert done.status == 0 and done.out.endswith("stopped\n")
    assert [address in done.out for address in opened] == [True]
    assert built == [(build.OUT, build.NAMES, build.Path("wheels"))]
    course("play", "--port", "0", "--model", "one", "--model", "two", "--no-browser")
    assert len(opened) == 1 and built[1][1] == ["one", "two"]
    with serve.server(tmp_path) as other:
        done = course("play", "--port", str(other.server_port), "--no-browser")
    assert done.status == 1 and "choose another with --port" in done.err
