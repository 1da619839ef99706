"""`--log-file`: what a command does, as lines with the time, in a file."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from robnet_zoo.cli.parameters import is_first
from robnet_zoo.core.environment import software

LOGGER = logging.getLogger("robnet_zoo")
FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def logged(file: Path | None, words: Sequence[str]) -> Iterator[None]:
    """Append what a command does to a file while it runs: its words, versions, progress, notes, mistakes and its end.

    The terminal shows the same as without a file. Under torchrun the first process alone writes.

    Args:
        file: the file; without one nothing is written.
        words: the command's.

    Raises: OSError if the file cannot be written.
    """
    if file is None or not is_first():
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter(FORMAT))
    level, start = LOGGER.level, time.monotonic()
    with ExitStack() as stack:
        stack.callback(handler.close)
        for each in (handler, logging.lastResort):  # which shows notes on stderr only where there is no other
            if each is not None:
                LOGGER.addHandler(each)
                stack.callback(LOGGER.removeHandler, each)
        LOGGER.setLevel(logging.INFO)
        stack.callback(LOGGER.setLevel, level)
        LOGGER.info("robnet-zoo %s", shlex.join(words))
        LOGGER.info("%s", ", ".join(f"{name} {version}" for name, version in software().items()))
        end = "done"
        try:
            yield
        except SystemExit as error:
            end = f"ended with exit code {error.code or 0}"
            raise
        except KeyboardInterrupt:
            end = "interrupted"
            raise
        except BaseException as error:
            end = f"ended by a {type(error).__name__}"
            LOGGER.info("a mistake of the package", exc_info=True)
            raise
        finally:
            LOGGER.info("%s after %.1f s", end, time.monotonic() - start)
