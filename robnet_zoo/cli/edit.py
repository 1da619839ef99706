"""`robnet-zoo edit`: a page on this machine, on which a cell is drawn and changed."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from robnet_zoo.cli.parameters import OptionalOutput
from robnet_zoo.errors import EditorError


def edit(
    spec: str | None = None,
    *,
    output: OptionalOutput = None,
    target: Annotated[list[str] | None, Parameter(negative=())] = None,
    port: int | None = None,
    open_browser: Annotated[bool, Parameter(name="--open", negative=())] = False,
) -> None:
    """Draw and change a cell on a page in a browser, beside its figures and all that is wrong with it.

    The page is served on this machine alone, until Ctrl-C. Nothing but the spec's file is ever written.

    Args:
        spec: The path of a spec, which is written when you save and need not exist yet; a bundled name, or a published
            genotype such as darts_v2, to begin with; or the folder of a training run. By default an empty cell.
        output: The file to write, instead of the spec's own.
        target: Models to attack on the page, named as for `benchmark`, such as model.onnx or the folder of a training
            run, besides those with bundled weights.
        port: The port of the page on the loopback interface; by default 8421, or a free one if that is taken.
        open_browser: Open the page in a browser.
    """
    from robnet_zoo.editor.desk import open_desk

    desk = open_desk(spec, output=output, models=tuple(target or ()))
    try:
        from robnet_zoo.editor.serving import serve
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in ("starlette", "uvicorn"):
            raise
        raise EditorError(f"the editor needs {library}: pip install 'robnet-zoo[edit]'") from error

    def ready(address: str) -> None:
        print(f"{address}  (Ctrl-C ends it)", flush=True)
        if open_browser:
            webbrowser.open(address)

    with suppress(KeyboardInterrupt):
        serve(desk, port=port, ready=ready)
