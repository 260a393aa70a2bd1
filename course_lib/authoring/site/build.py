"""Sphinx over the pages, and the result into a folder of its own."""

import shutil
import tempfile
from pathlib import Path

from sphinx.application import Sphinx

from course_lib.authoring.site import pages

STATIC = Path(__file__).with_name("static")
CONFIG = {
    "project": "From DDPM to Stable Diffusion",
    "html_title": "From DDPM to Stable Diffusion",
    "language": "en",
    "extensions": [
        *("myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"),
        "course_lib.authoring.site.extension",
    ],
    "nb_execution_mode": "off",
    "myst_enable_extensions": ["dollarmath"],
    "myst_dmath_double_inline": True,
    "myst_heading_anchors": 3,
    "add_module_names": False,
    "autodoc_member_order": "bysource",
    "autodoc_preserve_defaults": True,
    "viewcode_follow_imported_members": False,
    "python_use_unqualified_type_names": True,
    "html_theme": "furo",
    "html_theme_options": {"top_of_page_buttons": []},
    "html_math_renderer": "mathml",
    "html_static_path": [str(STATIC)],
    "html_css_files": ["site.css"],
    "html_js_files": ["site.js"],
    "html_copy_source": False,
    "html_domain_indices": False,
}


def build(out: Path, play: Path | None = None) -> None:
    """Write the site into `out`, and the folder `play` into `out/play`.

    ValueError where `out` holds something else; RuntimeError where Sphinx warns.
    """
    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").exists():
        raise ValueError(f"{out} holds something other than the site: name another folder")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pages.write(work / "pages", bool(play))
        if play:
            shutil.copytree(play, work / "pages" / "extra" / "play")
        config = CONFIG | {"html_extra_path": ["extra"], "exclude_patterns": ["extra"]}
        sphinx = Sphinx(
            srcdir=work / "pages",
            confdir=None,
            outdir=work / "site",
            doctreedir=work / "read",
            buildername="html",
            confoverrides=config,
            status=None,
            warningiserror=True,
        )
        sphinx.build()
        if sphinx.statuscode:
            raise RuntimeError("Sphinx warned; its warnings stand above")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / "site", out)
