"""Weights on Hugging Face's hub: without a network there is one try, not minutes of them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from timm.models import get_pretrained_cfg
from timm.models import is_model as is_timm_model

from robnet_zoo.errors import RobnetZooError, WeightsError

SOURCES = ("hf-hub:", "hf_hub:")  # before the name of a repository, in timm
SECONDS = 10.0  # to wait for the hub


@contextmanager
def one_try(name: str) -> Iterator[None]:
    """Let timm load a model whose weights may be on the hub, and ask there only if it can be reached.

    The hub's own client tries each file six times. Without a network, files that were fetched before are used.

    Args:
        name: timm's name of the model.

    Raises: WeightsError if the hub cannot be reached and the files are not in its cache.
    """
    from huggingface_hub import constants

    reason, before = obstacle() if _is_on_hub(name) else None, constants.HF_HUB_OFFLINE
    if reason is None:
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except RobnetZooError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        origin = f"{constants.ENDPOINT}, which cannot be reached ({reason})"
        expected = f"expected its weights in the hub's cache, from a safetensors file, or from {origin}"
        raise WeightsError(f"{name}: {expected}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def obstacle() -> str | None:
    """Return why the hub cannot be reached, or None if it can."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=SECONDS).close()
    except urllib.error.HTTPError:  # it answers
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return None


def _is_on_hub(name: str) -> bool:
    if name.startswith(SOURCES):
        return True
    cfg = get_pretrained_cfg(name) if is_timm_model(name) else None
    return cfg is not None and bool(cfg.hf_hub_id) and not cfg.file
