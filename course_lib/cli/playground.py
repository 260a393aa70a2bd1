"""Commands that take the model out of Python: export onnx, play."""

from pathlib import Path
from typing import Annotated

import typer

export = typer.Typer(
    help="Write a model in another format.", no_args_is_help=True, add_completion=False
)


@export.callback()
def formats() -> None:
    """Write a model in another format."""


@export.command()
def onnx(
    name: Annotated[str, typer.Argument(help="a text-to-image model, such as scenes-latent")],
    out: Annotated[Path, typer.Argument(help="a folder")],
) -> None:
    """Write each part of a model as an ONNX file; an extra: ".[onnx]".

    Your own model comes before the shipped one of that name. Each part is compared with PyTorch
    before it is written.
    """
    from course_lib.authoring.playground import export as onnx_files
    from course_lib.recipes import load_pipeline

    onnx_files.check_extra()
    for path, differs in onnx_files.write(load_pipeline(name), out):
        size = path.stat().st_size / 1e6
        typer.echo(f"{path}: {size:.1f} MB, within {differs:.1e} of PyTorch")


def play(
    model: Annotated[
        list[str] | None, typer.Option(help="repeat it for more; by default both that ship")
    ] = None,
    port: Annotated[int, typer.Option(help="0 takes any free one")] = 8600,
    out: Annotated[Path | None, typer.Option(help="the page's folder; play/ by default")] = None,
    npm: Annotated[
        Path | None, typer.Option(help="a folder with the packed onnxruntime-web, such as wheels/")
    ] = None,
    browser: Annotated[bool, typer.Option(help="open the page")] = True,
) -> None:
    """Draw with a model in the browser, on this machine; an extra: ".[onnx]".

    The first time, the model is exported and npm fetches onnxruntime-web. After that, and with the
    files of `make wheelhouse`, no network is needed.
    """
    import webbrowser

    from course_lib.authoring.playground import build
    from course_lib.authoring.playground.serve import server

    folder = build.build(out or build.OUT, model or build.NAMES, npm, typer.echo)
    with server(folder, port) as running:
        address = f"http://localhost:{running.server_port}/"
        typer.echo(f"Open {address} (stop with Ctrl-C)")
        if browser:
            webbrowser.open(address)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            typer.echo("stopped")
