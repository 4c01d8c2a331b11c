"""A page states its settings: the numbers at the head of a module stand, in figures or in words, where its reader is.

That is the docstring of the module or of its package, or the literal text at their heads: titles and settings of the
experiment, sources of numbers. A number that is formatted into a text is no statement: it changes with the setting.
A list of three numbers or more stands there in its order. What is named CHUNK is no setting: how many are computed at a
time, which changes no result.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stated_bounds import figures, stated

Found = tuple[int, float | tuple[float, ...]]


def unstated_in(file: Path) -> list[Found]:
    """Line and value of the settings at the head of a file that its page does not state."""
    package = file.with_name("__init__.py")
    said = said_by(package) if package.parent.name != "experiments" else ""
    return list(unstated(file.read_text(encoding="utf-8"), said))


@cache
def said_by(file: Path) -> str:
    """The text at the head of a file."""
    return " ".join(texts(ast.parse(file.read_text(encoding="utf-8"))))


def unstated(source: str, said: str = "") -> Iterator[Found]:
    """Line and value of the settings at the head of a source that neither it nor another text states."""
    tree = ast.parse(source)
    said = " ".join([*texts(tree), said])
    known, in_order = stated(said), figures(said)
    for block in (block for block in tree.body if not is_chunk(block)):
        for number in numbers(block):
            assert isinstance(number.value, int | float)
            if number.value not in known:
                yield number.lineno, number.value
        for line, values in lists(block):
            if not any(in_order[k : k + len(values)] == values for k in range(len(in_order))):
                yield line, tuple(values)


def is_chunk(block: ast.stmt) -> bool:
    """Whether a statement sets the size of chunks."""
    return isinstance(block, ast.Assign) and ast.unparse(block.targets[0]) == "CHUNK"


def texts(tree: ast.Module) -> Iterator[str]:
    """The docstring and the literal text at the head."""
    for block in tree.body:
        for node in ast.walk(block) if not isinstance(block, ast.FunctionDef | ast.ClassDef) else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def numbers(node: ast.AST) -> Iterator[ast.Constant]:
    """The numbers of a statement, but for indices, those within a text, and the duration of an experiment."""
    if is_number(node):
        yield node  # type: ignore[misc]
    for child in parts(node):
        yield from numbers(child)


def lists(node: ast.AST) -> Iterator[tuple[int, list[float]]]:
    """Line and sizes of three numbers or more that have one name."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        return
    if isinstance(node, ast.Tuple) and len(node.elts) > 2:
        sizes = [each.operand if isinstance(each, ast.UnaryOp) else each for each in node.elts]
        if all(map(is_number, sizes)):
            yield node.lineno, [ast.literal_eval(each) for each in sizes]
    for child in parts(node):
        yield from lists(child)


def is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def parts(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node, but for definitions, indices, what is formatted, and the duration of an experiment."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.JoinedStr):
        return
    for child in ast.iter_child_nodes(node):
        duration = isinstance(child, ast.keyword) and child.arg == "seconds"
        if not duration and not (isinstance(node, ast.Subscript) and child is node.slice):
            yield child
