"""Memory of gathered layers on a CPU: it goes back to the system when they are freed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
from pathlib import Path
import torch
from cpt.training.distributed.sharding import _return_freed_tensors

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

if {returns}:
    _return_freed_tensors()
first = torch.ones(2**22)  # 16 MB: once it is freed, glibc takes smaller ones from its heap
del first
before, kept, layers = resident(), [], []
for _ in range(64):
    layers.append(torch.ones(2**19))  # 2 MB
    kept.append(torch.ones(2**14))
layers.clear()
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_layers_leave_no_holes() -> None:
    after = {}
    for returns in (True, False):
        program = _PROGRAM.format(returns=returns)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        after[returns] = int(done.stdout)
    assert after[True] < 16  # MB, of 128
    assert after[False] > 64
