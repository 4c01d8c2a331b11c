"""No bar is tuned to the result: the numbers in the bound of a claim are round, or stated where its reader sees them.

A round number is 0, 1 or, with a decimal point, 1, 2 or 5 times a power of ten. Any other stands in the title or the
reason of the claim, in figures or in words.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

BOUND = {"at_most": slice(3, 4), "at_least": slice(3, 4), "equals": slice(3, 5)}  # arguments, from the left
WORDS = {
    "two": 2, "twice": 2, "second": 2, "three": 3, "four": 4, "six": 6, "ten": 10, "half": 0.5, "tenth": 0.1,
    "fifth": 0.2, "half as much again": 1.5, "nine of ten": 0.9,
}  # fmt: skip
FIGURES = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?%?")


@cache
def unstated_in(file: Path) -> list[tuple[int, float]]:
    """Line and number of the bounds of a file's claims that are neither round nor stated."""
    return list(unstated(file.read_text(encoding="utf-8")))


def stated(text: str) -> set[float]:
    """The numbers of a text, in figures, per cent and words."""
    return {*figures(text), *(value for word, value in WORDS.items() if re.search(rf"\b{word}\b", text.lower()))}


def figures(text: str) -> list[float]:
    """The numbers of a text in figures and per cent, in their order."""
    found = FIGURES.findall(text)
    return [float(each.rstrip("%,").replace(",", "")) / (100 if each.endswith("%") else 1) for each in found]


def is_round(number: float) -> bool:
    if number in (0, 1):
        return True
    return isinstance(number, float) and f"{number:.8e}".partition("e")[0].rstrip("0").rstrip(".") in ("1", "2", "5")


def unstated(source: str) -> Iterator[tuple[int, float]]:
    """Line and number of the bounds that are neither round nor stated."""
    tree = ast.parse(source)
    constants = {name: value for name, value in assigned(tree) if isinstance(value, ast.Constant) and is_float(value)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in BOUND:
                bound = BOUND[call.func.attr]
                said = " ".join(words(tree, function, [call.args[1], *call.args[bound.stop :]], call.lineno))
                for node in (node for argument in call.args[bound] for node in ast.walk(argument)):
                    value = constants.get(node.id) if isinstance(node, ast.Name) else node
                    number = value.value if isinstance(value, ast.Constant) else None
                    if isinstance(number, float | int) and not is_round(number) and number not in stated(said):
                        yield call.lineno, number


def is_float(constant: ast.Constant) -> bool:
    """A whole number with a name is a setting: how many."""
    return isinstance(constant.value, float)


def assigned(block: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are given, one by one where both sides are tuples."""
    for node in ast.walk(block):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) and len(value.elts) == len(names) else None
            for name, given in zip(names, values or [value] * len(names), strict=True):
                yield from ((each.id, given) for each in ast.walk(name) if isinstance(each, ast.Name))
        elif isinstance(node, ast.AugAssign | ast.For):
            value = node.value if isinstance(node, ast.AugAssign) else node.iter
            yield from ((each.id, value) for each in ast.walk(node.target) if isinstance(each, ast.Name))


def words(tree: ast.Module, function: ast.FunctionDef, shown: list[ast.expr], line: int) -> Iterator[str]:
    """The literal text of expressions, and of what their names were given before the line."""
    for node in (node for each in shown for node in ast.walk(each)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name):
            for block in (function, *tree.body):
                if block is function or isinstance(block, ast.Assign):
                    given = [value for name, value in assigned(block) if name == node.id and value.lineno < line]
                    yield from (
                        text.value
                        for value in given
                        for text in ast.walk(value)
                        if isinstance(text, ast.Constant) and isinstance(text.value, str)
                    )
