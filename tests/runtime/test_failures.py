"""What errors mean, told by real ones."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from engine.runtime import child
from engine.runtime.failures import device_fault, is_disk_full, is_out_of_memory


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no /dev/full here")
def test_an_optimizer_file_that_does_not_fit_is_a_full_disk():
    import torch

    with pytest.raises(RuntimeError) as failed:
        torch.save({"moments": torch.zeros(1_000_000)}, "/dev/full")
    assert is_disk_full(failed.value) and not is_out_of_memory(failed.value)


def test_what_the_cpu_has_no_memory_for_is_out_of_memory():
    import torch

    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)
    assert is_out_of_memory(failed.value) and not is_disk_full(failed.value)


def test_an_optimizer_file_that_cannot_be_read_is_no_full_disk(tmp_path):
    import torch

    (tmp_path / "optimizer.pt").write_bytes(b"PK\x03\x04" + b"x" * 500)
    with pytest.raises(RuntimeError) as failed:
        torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert not is_disk_full(failed.value)


def test_the_cause_counts_and_other_errors_do_not():
    wrapped = ValueError("while saving")
    wrapped.__cause__ = OSError(errno.EDQUOT, "quota")
    assert is_disk_full(wrapped)
    other = RuntimeError("shapes differ")
    assert not is_disk_full(other) and not is_out_of_memory(other)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: uncorrectable ECC error encountered\nCompile with `TORCH_USE_CUDA_DSA` ...",
        "CUDA error: uncorrectable NVLink error detected during the execution",
        "CUDA error: unspecified launch failure",
        "CUDA error: hardware stack error",
        "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost. Reboot the system",
        "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus.",
    ],
)
def test_a_gpu_that_fails_by_itself_is_told_by_its_words(said):
    wrapped = ValueError("in the backward pass")
    wrapped.__cause__ = RuntimeError(said)
    assert device_fault(wrapped) == said.splitlines()[0]


def test_a_fault_of_the_code_is_no_fault_of_the_gpu():
    for said in ("CUDA error: device-side assert triggered", "CUDA error: out of memory", "shapes differ"):
        assert device_fault(RuntimeError(said)) is None


def test_a_run_on_a_gpu_that_failed_ends_with_a_word_for_it():
    def main(_context):
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    code, said = child._end_of(main, None)
    assert (code, said["reason"], said["values"]) == (
        70,
        "device_fault",
        {"error": "CUDA error: uncorrectable ECC error encountered"},
    )
