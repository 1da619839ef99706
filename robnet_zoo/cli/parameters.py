"""What the commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]


def fail(message: str) -> NoReturn:
    """End with one line on stderr and exit code 2."""
    print(f"robnet-zoo: {message}", file=sys.stderr)
    sys.exit(2)
