"""A result says with which software and on which device it was measured."""

import platform
from importlib.metadata import PackageNotFoundError

import pytest
import timm
import torch

import robnet_zoo
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.wording import counted


def test_the_software_is_that_of_this_process():
    versions = software()
    assert versions["robnet_zoo"] == robnet_zoo.__version__
    assert versions["python"] == platform.python_version()
    assert versions["timm"] == timm.__version__
    assert versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_packages_that_are_not_installed_are_left_out(monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("robnet_zoo.core.environment.version", missing)
    assert software().keys() == {"robnet_zoo", "python"}


def test_a_processor_is_named_with_the_threads_that_torch_uses():
    assert f", {counted(torch.get_num_threads(), 'thread')}" in device()
    assert not device().startswith(",")


@pytest.mark.parametrize("present", [True, False])
def test_a_device_says_where_bfloat16_meant_float32(monkeypatch, present):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: present)
    assert device().endswith(", without bfloat16") == (not present)
