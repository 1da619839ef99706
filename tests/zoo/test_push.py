"""A model on Hugging Face's hub, and back, with a hub that is a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants

from robnet_zoo.errors import OutputExistsError, WeightsError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo import hub as zoo_hub
from robnet_zoo.zoo import push as module
from robnet_zoo.zoo.push import push
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import state_sha256


@pytest.fixture
def run_of(tiny: Genotype, tmp_path: Path) -> Path:
    """Return a folder as a training run leaves it."""
    folder = tmp_path / "run"
    tiny.save_into(folder)
    torch.manual_seed(0)
    safetensors.torch.save_file(compile(tiny).state_dict(), folder / "model.safetensors")
    (folder / "README.md").write_text("# A card of its own\n")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of a hub; its client writes there, and timm reads there."""
    root = tmp_path / "hub"

    class Api:
        def __init__(self, **_: object) -> None:
            pass

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            if name.startswith("other/"):
                raise OSError(f"no rights in {name}\nand more lines")
            assert exist_ok
            assert private

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
            shutil.copytree(folder_path, root / repo_id)
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

    def download(repo_id: str, filename: str, **_: object) -> str:
        path = root / repo_id / filename
        if not path.is_file():
            raise huggingface_hub.errors.EntryNotFoundError(filename)
        return str(path)

    monkeypatch.setattr(module, "HfApi", Api)
    monkeypatch.setattr(timm.models._hub, "hf_hub_download", download)
    for each in (module, zoo_hub):  # so that nothing asks a real one
        monkeypatch.setattr(each, "obstacle", lambda: None)
    return root


def test_a_model_that_was_pushed_is_loaded_from_the_hub_with_spec_and_card(run_of: Path, hub: Path) -> None:
    report = push(str(run_of), "me/tiny", private=True)
    assert report.url == "https://hub/me/tiny"
    folder = hub / "me" / "tiny"
    assert report.files == {file.name: file.stat().st_size for file in folder.iterdir()}
    assert Genotype.load(folder / "spec.json").hash == Genotype.load(run_of / "spec.json").hash
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    assert card.endswith("# A card of its own\n")
    expected = state_sha256(load_model(str(run_of)).state_dict())
    for loaded in (timm.create_model("hf-hub:me/tiny", pretrained=True), load_model("hf-hub:me/tiny")):
        assert state_sha256(loaded.state_dict()) == expected == report.state_sha256


def test_a_dry_run_sends_nothing(run_of: Path, hub: Path, tmp_path: Path) -> None:
    report = push(str(run_of), "me/tiny", folder=tmp_path / "kept", dry_run=True)
    assert report.url is None
    assert not hub.exists()
    loaded = timm.create_model(f"local-dir:{tmp_path / 'kept'}", pretrained=True)
    assert state_sha256(loaded.state_dict()) == report.state_sha256


def test_bundled_weights_bring_their_card_and_others_claim_nothing(tiny: Genotype, run_of: Path) -> None:
    network = compile(tiny)
    assert "# robnet_free.cifar10\n" in module.card_of("robnet_free", network, "me/tiny")
    (run_of / "README.md").unlink()
    card = module.card_of(str(run_of), network, "me/tiny")
    assert tiny.hash in card
    assert "No accuracy and no robustness is claimed" in card
    assert 'create_model("hf-hub:me/tiny", pretrained=True)' in card


@pytest.mark.usefixtures("hub")
def test_what_the_hub_refuses_is_one_line(run_of: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"^hf-hub:other/tiny: expected a repository .*, got: no rights in other/tiny$"
    ):
        push(str(run_of), "other/tiny", private=True)


@pytest.mark.parametrize("name", ["tiny", "", "me/", "a/b/c", "me/ti ny", "me/-tiny", "me/tiny.git"])
def test_a_name_that_no_repository_can_have_is_refused_before_a_model_is_loaded(name: str) -> None:
    with pytest.raises(WeightsError, match=rf"^{name}: expected USER/NAME"):
        push("nowhere", name, dry_run=True)


def test_without_a_network_nothing_is_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"^hf-hub:me/tiny: expected a hub at .*, got none: HF_HUB_OFFLINE is set$"):
        push("nowhere", "me/tiny", folder=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_folder_with_something_in_it_is_left_alone(run_of: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").touch()
    with pytest.raises(OutputExistsError, match="expected no folder or an empty one"):
        push(str(run_of), "me/tiny", folder=tmp_path / "kept", dry_run=True)
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["mine.txt"]
