"""Reading recorded results: grouped and in order; what is missing or damaged is refused."""

import tomllib

import pytest

from course_lib.common import paths
from course_lib.teaching.results import by_variant, load_results, read


def test_results_come_by_variant_and_seed():
    runs = load_results("pixel_vs_latent")
    assert [(run.variant, run.seed) for run in runs] == [
        *(("latent", 0), ("latent", 1), ("latent", 2)),
        *(("pixel", 0), ("pixel", 1), ("pixel", 2)),
    ]
    assert list(by_variant(runs)) == ["latent", "pixel"]
    assert load_results("pixel_vs_latent", "pixel") == runs[3:]


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown study 'pixel_vs_latnt'; did you mean 'pixel_vs"):
        load_results("pixel_vs_latnt")
    with pytest.raises(ValueError, match="unknown variant 'latents'; did you mean 'latent'"):
        load_results("pixel_vs_latent", "latents")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"study": "s"}', '"text"'])
def test_a_damaged_result_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "a-0.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a-0\.json is not a recorded result: ") as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_a_study_without_samples_says_so():
    with pytest.raises(ValueError, match="records no samples"):
        load_results("pixel_vs_latent")[0].samples()


def test_results_are_part_of_the_package():
    data = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = data["package-data"]["course_lib.teaching"]
    folder = paths.ROOT / "course_lib" / "teaching"
    packed = {path for pattern in patterns for path in folder.glob(pattern)}
    assert {path for path in paths.RECORDED.rglob("*") if path.is_file()} <= packed
