"""Programs in processes of their own, which need no seconds to import PyTorch.

A server imports the programs once and computes nothing, so that a fork of it lacks no thread. Every program is such a
fork: in a group of its own, with the environment, the signals and the exit codes of a program that was started.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch

multiprocessing.get_context("forkserver").set_forkserver_preload(
    [
        "mol_fast.prepare",
        "mol_fast.train",
        "mol_fast.evaluation.score",
        "mol_fast.preparation.whole_set",
        "mol_fast.report.run",
        "mol_fast.report.terminal",
        "mol_fast.training.fold",
        "mol_fast.training.temperatures",
        "captum.attr",
        "rich.progress",
        "torch.distributed.rendezvous",
        "torch.utils.tensorboard",
        "tyro",
    ]
)


class Program(ForkServerProcess):
    """`main(argv)`, whose output goes to the files PRINTED.out and PRINTED.err."""

    def __init__(
        self,
        main: Callable[[list[str]], int],
        argv: list[str],
        printed: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._main, self._argv = main, argv
        self._printed = [printed.with_name(f"{printed.name}.{end}") for end in ("out", "err")]
        self._environment = {**os.environ, **(environment or {})}
        self._threads = torch.get_num_threads()

    def run(self) -> None:
        os.setsid()
        for number, path in enumerate(self._printed, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.clear()
        os.environ.update(self._environment)
        torch.set_num_threads(self._threads)
        sys.exit(self._main(self._argv))

    def end(self) -> int:
        """Wait until it ends, and return its exit code."""
        self.join()
        assert self.exitcode is not None
        return self.exitcode

    @property
    def out(self) -> str:
        return self._printed[0].read_text()

    @property
    def error(self) -> str:
        return self._printed[1].read_text()


def start(
    main: Callable[[list[str]], int], argv: list[str], printed: Path, environment: Mapping[str, str] | None = None
) -> Program:
    """Begin `main(argv)`."""
    program = Program(main, argv, printed, environment)
    program.start()
    return program
