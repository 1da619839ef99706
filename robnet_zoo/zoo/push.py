"""A model to Hugging Face's hub: the folder that timm saves and loads, with spec and card."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # re-exported without a mark
from timm.models import save_for_hf

from robnet_zoo.core.documents import Document
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import OutputExistsError, WeightsError
from robnet_zoo.nn.network import Network
from robnet_zoo.version import __version__
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.hub import obstacle
from robnet_zoo.zoo.registry import class_names, full_name, load_model, run_folder, timm_name

CARD = "README.md"
FRONT = """---
library_name: timm
tags:
- image-classification
- adversarial-robustness
---
"""


class PushReport(Document):
    """What was put on the hub, or would be: the files with their bytes, and the hash of the state dict.

    url: of the commit; None if nothing was sent.
    """

    repository: str
    state_sha256: str
    files: dict[str, int]
    url: str | None = None

    def __str__(self) -> str:
        size = sum(self.files.values()) / 1e6
        sent = f"sent to {self.url}" if self.url else "nothing was sent"
        return f"{', '.join(self.files)}, {size:.1f} MB; timm loads them with the same weights; {sent}"


def push(
    model: str,
    repository: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    folder: str | os.PathLike[str] | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> PushReport:
    """Put a model on Hugging Face's hub, with its spec and card; timm loads it as `hf-hub:REPOSITORY`.

    timm writes the folder and loads it again, and its weights are compared, before anything is sent. The token is the
    one that `hf auth login` has stored, or HF_TOKEN.

    Args:
        model: a timm name or the folder of a training run or a conversion; with `weights` also a spec's name or path.
        repository: USER/NAME on the hub; it is made if it is not there.
        weights: a safetensors file for the model, instead of its own.
        folder: where the files are kept; by default they are written into a temporary folder. It must not hold any.
        private: make a private repository.
        dry_run: do all but the sending, without a network.

    Raises:
        WeightsError: for a model that cannot be loaded, a name that no repository can have, and where the hub refuses
            or cannot be reached.
        OutputExistsError: the folder holds something.
    """
    _check_repository(repository)
    if not dry_run and (reason := obstacle()):
        raise WeightsError(f"hf-hub:{repository}: expected a hub at {constants.ENDPOINT}, got none: {reason}")
    network = load_model(model, weights=weights)
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary if folder is None else folder)
        if target.is_dir() and any(target.iterdir()):
            raise OutputExistsError(f"{target}: expected no folder or an empty one")
        try:
            report = _written(network, target, card_of(model, network, repository), repository)
        except BaseException:
            if folder is not None:
                shutil.rmtree(target, ignore_errors=True)
            raise
        return report if dry_run else _sent(report, target, private=private)


def card_of(model: str, network: Network, repository: str) -> str:
    """Return the card of a model: that of its folder or of bundled weights, or else what is known without measuring.

    Args:
        model: its name or folder.
        network: the loaded network.
        repository: where the hub will have it.
    """
    folder = Path(model.removeprefix("local-dir:"))
    files = [weights.FOLDER / f"{full_name(model)}.md"]
    if run_folder(model) or timm_name(model) != model or model.startswith("local-dir:"):
        files.insert(0, folder / CARD)
    text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), None)
    if text is None:
        spec = network.spec
        text = (
            f"# {spec.name}\n\nA network of the architecture `{spec.name}`, hash `{spec.hash}`. Inputs are images in "
            f"[0, 1], without further normalisation. No accuracy and no robustness is claimed here.\n\n"
            "```python\nimport robnet_zoo  # registers the architecture with timm\nimport timm\n\n"
            f'model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()\n```\n'
        )
    return text if text.startswith("---\n") else FRONT + text


def _check_repository(repository: str) -> None:
    """Raise WeightsError unless the hub can have a repository of this name."""
    expected = f"{repository}: expected USER/NAME"
    if repository.count("/") != 1:
        raise WeightsError(expected)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{expected}, got: {reason}") from error


def _written(network: Network, folder: Path, card: str, repository: str) -> PushReport:
    """Write the folder, have timm load it, and return what it holds. Raises WeightsError if the weights differ."""
    spec = network.spec
    arguments: dict[str, Any] = {"spec": spec.model_dump(mode="json", exclude_none=True)}
    generic = timm.create_model("robnet", spec=spec)  # whose configuration names no bundled model
    generic.load_state_dict(network.state_dict())
    config = {"label_names": names} if (names := class_names(network)) else None
    save_for_hf(generic, str(folder), model_config=config, model_args=arguments, safe_serialization=True)
    spec.save_into(folder)
    (folder / CARD).write_text(card, encoding="utf-8")
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    expected, got = (weights.state_sha256(each.state_dict()) for each in (network, loaded))
    if got != expected:
        raise WeightsError(f"{folder}: expected timm to load weights with hash {expected[:12]}, got {got[:12]}")
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    return PushReport(repository=repository, state_sha256=got, files=files)


def _sent(report: PushReport, folder: Path, *, private: bool) -> PushReport:
    """Send a folder to the hub as timm's `push_to_hf_hub` does, which knows neither specs nor cards of one's own."""
    name = f"hf-hub:{report.repository}"
    api = HfApi(library_name="timm", library_version=timm.__version__)
    try:
        api.create_repo(report.repository, private=private, exist_ok=True)
        digest = file_sha256(folder / "model.safetensors")
        message = f"Add model.safetensors {digest[:12]} by robnet_zoo {__version__}"
        commit = api.upload_folder(repo_id=report.repository, folder_path=folder, commit_message=message)
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{name}: expected a repository of the hub that takes files, got: {reason}") from error
    return report.model_copy(update={"url": commit.commit_url})
