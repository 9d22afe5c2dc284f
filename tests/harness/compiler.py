"""torch.compile to native code in tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def quick_compiler() -> Iterator[None]:
    """The C++ compiler spends no time on optimising what runs once, nor PyTorch on starting processes that compile; all
    tests share its header."""
    torch._dynamo.reset()
    with torch._inductor.config.patch({"aot_inductor.debug_compile": True, "compile_threads": 1}):
        yield
    torch._dynamo.reset()
