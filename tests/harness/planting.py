"""Plant a fault in a kernel of the project: run a changed copy of its source in Triton's interpreter."""

import ast
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from harness.hooks import replaced
from triton.runtime.interpreter import FunctionRewriter, InterpretedFunction

Change = Callable[[str], str]
BARRIER = "tl.debug_barrier()"


def plant(monkeypatch: pytest.MonkeyPatch, kernel: Any, change: Change) -> None:
    """Let the interpreter run `kernel`, or a function that kernels call, as `change` makes its source."""
    prepare = FunctionRewriter._prepare_source

    def changed(rewriter: FunctionRewriter, lines: list[str]) -> str:
        source = prepare(rewriter, lines)
        assert change(source) != source, f"nothing to change in {kernel.__name__}"
        return change(source)

    with replaced(FunctionRewriter, _prepare_source=changed):
        planted = kernel.rewriter.rewrite_ast()
    monkeypatch.setitem(InterpretedFunction.rewritten_fn, kernel.fn, planted)


def barriers(kernel: Any) -> int:
    """The number of barriers in the source of `kernel`."""
    return inspect.getsource(kernel.fn).count(BARRIER)


def without_barrier(number: int) -> Change:
    """Take out the barrier of this number, from 0."""

    def change(source: str) -> str:
        parts = source.split(BARRIER)
        return BARRIER.join(parts[: number + 1]) + "pass" + BARRIER.join(parts[number + 1 :])

    return change


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """The calls of `tl.name`, in the order of the source."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == f"tl.{name}"]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def is_masked(call: ast.Call) -> bool:
    """Whether a load or a store says which of its lanes exist."""
    return len(call.args) > 2 or any(keyword.arg == "mask" for keyword in call.keywords)


def stores(function: Any, masked: bool) -> bool:
    """Whether `function` has a store, or a masked one."""
    found = calls(ast.parse(inspect.getsource(function.fn)), "store")
    return any(is_masked(call) for call in found) if masked else bool(found)


def without_mask(source: str) -> str:
    """Let the last masked store write all lanes."""
    tree = ast.parse(source)
    call = [call for call in calls(tree, "store") if is_masked(call)][-1]
    call.args, call.keywords = call.args[:2], []
    return ast.unparse(tree)


def one_further(source: str) -> str:
    """Let the last store write one element further on."""
    tree = ast.parse(source)
    call = calls(tree, "store")[-1]
    call.args[0] = ast.BinOp(call.args[0], ast.Add(), ast.Constant(1))
    return ast.unparse(tree)
