from pathlib import Path

import pytest
import torch

from robnet_zoo.core.precision import has_bfloat16, resolve_dtype

CPUINFO = Path("/proc/cpuinfo")


def test_float32_is_float32_everywhere():
    assert resolve_dtype("float32") == torch.float32


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="dtype: expected bfloat16 or float32, got float16"):
        resolve_dtype("float16")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="asks Linux")
def test_bfloat16_is_what_linux_says_the_processor_has():
    flags = set(CPUINFO.read_text().split())
    assert has_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"})


@pytest.mark.parametrize(("present", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_document_means_float32_where_bfloat16_is_emulated(monkeypatch, present, dtype):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: present)
    assert resolve_dtype("bfloat16") == dtype
