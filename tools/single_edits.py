"""Every single edit of a Python source that a hasty hand could make, by kind.

An edit replaces one span of the text, found through the syntax tree; all else stays as it is, so that an edit is one
line of a diff. Annotations, docstrings, messages of errors and f-strings are left alone: no test of behavior can, or
should, notice them.
"""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

ARITHMETIC: dict[type, tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
}
BOUNDARY: dict[type, tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}
LIMITING = {"clamp", "clamp_min", "clamp_max", "clip", "abs", "fabs", "min", "max", "minimum", "maximum"}
SYMMETRIC = LIMITING | {"isinstance", "issubclass", "hasattr", "getattr", "allclose", "isclose", "equal", "zip",
                         "largest_difference"}  # fmt: skip
VALIDATION = re.compile(r"_?(check|require|refuse|validate|assert)")


@dataclass(frozen=True)
class Edit:
    """Bytes `start` to `end` of the source become `new`."""

    kind: str
    start: int
    end: int
    new: str

    def applied(self, source: str) -> str:
        """The source with this edit."""
        text = source.encode()
        return (text[: self.start] + self.new.encode() + text[self.end :]).decode()


def classes(source: str) -> dict[str, ast.ClassDef]:
    """The classes that a source defines, by name."""
    return {node.name: node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}


def edits(source: str, library: dict[str, ast.ClassDef] | None = None) -> list[Edit]:
    """All single edits of a source, in the order of its text.

    One field of a class can be taken for another where the class is defined here, or is in `library` and named here.
    """
    tree = ast.parse(source)
    words = set(re.findall(r"\w+", source))
    known = [definition for name, definition in (library or classes(source)).items() if name in words]
    found = _Finder(source, known)
    found.visit(tree)
    return sorted(set(found.edits), key=lambda edit: (edit.start, edit.end, edit.kind, edit.new))


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str, known: list[ast.ClassDef]) -> None:
        self.text = source.encode()
        self.line_starts = [0, *(hit.end() for hit in re.finditer(rb"\n", self.text))]
        self.edits: list[Edit] = []
        self.members = _members_alike(known)
        self.names: dict[str, set[str]] = {}  # of the function at hand: a name, and those of its kind

    # -- positions and pieces of the text

    def span(self, node: ast.AST) -> tuple[int, int]:
        a, b, c, d = (getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset"))
        return self.line_starts[a - 1] + b, self.line_starts[c - 1] + d

    def piece(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.text[start:end].decode()

    def operand(self, node: ast.AST) -> str:
        atom = isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
        return self.piece(node) if atom else f"({self.piece(node)})"

    def replace(self, kind: str, node: ast.AST, new: str) -> None:
        self.edits.append(Edit(kind, *self.span(node), new))

    def operator(self, kind: str, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        start, end = self.span(left)[1], self.span(right)[0]
        between = re.sub(rb"#[^\n]*", lambda comment: b" " * len(comment[0]), self.text[start:end])
        at = start + between.index(old.encode())
        self.edits.append(Edit(kind, at, at + len(old), new))

    # -- what is left alone

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None: ...
    def visit_Raise(self, node: ast.Raise) -> None: ...
    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...

    # -- the kinds

    def visit_BinOp(self, node: ast.BinOp) -> None:
        of_text = any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
        if type(node.op) in ARITHMETIC and not of_text:
            self.operator("arithmetic", node.left, node.right, *ARITHMETIC[type(node.op)])
            unit = isinstance(node.op, ast.Add | ast.Sub) and _is_number(node.right, 1)
            self.replace("off by one" if unit else "dropped term", node, self.operand(node.left))
            if isinstance(node.op, ast.Add | ast.Mult):
                self.replace("dropped term", node, self.operand(node.right))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for dropped in node.values:
            word = " and " if isinstance(node.op, ast.And) else " or "
            left = word.join(self.operand(value) for value in node.values if value is not dropped)
            self.replace("dropped term", node, f"({left})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self.replace("negation", node, str(not node.value))
        elif isinstance(node.value, int):
            self.replace("off by one", node, str(node.value + 1))
        elif isinstance(node.value, float):
            self.replace("constant", node, f"{1.1 * node.value:.6g}" if node.value else "0.1")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.USub) and not _is_number(node.operand):
            self.replace("sign", node, self.operand(node.operand))
        elif isinstance(node.op, ast.Not):
            self.replace("negation", node, self.operand(node.operand))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if isinstance(node.value, ast.BinOp) and type(node.value.op) in ARITHMETIC:
            self.replace("sign", node.value, f"-({self.piece(node.value)})")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            if type(operator) in BOUNDARY:
                self.operator("boundary", left, right, *BOUNDARY[type(operator)])
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.body[-1], ast.Raise) and not node.orelse:
            self.replace("validation removed", node.test, "False")
        elif not isinstance(node.test, ast.UnaryOp):
            self.replace("negation", node.test, f"not ({self.piece(node.test)})")
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.replace("negation", node.test, f"not ({self.piece(node.test)})")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call) and VALIDATION.match(_called(node.value)):
            self.replace("validation removed", node, "None")
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if isinstance(item.context_expr, ast.Call) and _called(item.context_expr) in ("no_grad", "inference_mode"):
                self.replace("gradient kept", item.context_expr, "__import__('contextlib').nullcontext()")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name, arguments = _called(node), node.args
        of_value = isinstance(node.func, ast.Attribute) and not _is_module(node.func.value)
        if isinstance(node.func, ast.Attribute) and of_value and name == "detach":
            self.replace("gradient kept", node, self.operand(node.func.value))
        elif isinstance(node.func, ast.Attribute) and of_value and name in LIMITING - {"min", "max"}:
            self.replace("limit removed", node, self.operand(node.func.value))
        elif not of_value and name in LIMITING:
            one = name in ("abs", "fabs")
            kept = arguments if one or name.startswith(("min", "max")) else arguments[:1]
            for value in kept if (one or len(arguments) > 1) and not _starred(kept) else ():
                self.replace("limit removed", node, self.operand(value))
        if name not in SYMMETRIC:
            for first, second in pairwise(arguments):
                if _interchangeable(first, second):
                    start, end = self.span(first)[0], self.span(second)[1]
                    between = self.text[self.span(first)[1] : self.span(second)[0]].decode()
                    new = self.piece(second) + between + self.piece(first)
                    self.edits.append(Edit("swapped arguments", start, end, new))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            for other in self.names.get(node.id, set()) - {node.id}:
                self.replace("wrong variable", node, other)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        end = self.span(node)[1]
        for other in self.members.get(node.attr, set()) - {node.attr} if isinstance(node.ctx, ast.Load) else ():
            self.edits.append(Edit("wrong variable", end - len(node.attr), end, other))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and _called(decorator) in ("no_grad", "inference_mode"):
                start, end = self.span(decorator)
                self.edits.append(Edit("gradient kept", start - 1, end, ""))
        self.visit(node.args)
        outside, self.names = self.names, dict(self.names)
        alike: dict[str, set[str]] = defaultdict(set)
        for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
            if argument.annotation is not None:
                alike[ast.dump(argument.annotation)].add(argument.arg)
        for same in alike.values():
            self.names |= dict.fromkeys(same, same)
        first = next((argument for argument in node.args.args if argument.arg not in ("self", "cls")), None)
        for statement in node.body:
            self.visit(statement)
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
                unpacked = {part.id for part in statement.targets[0].elts if isinstance(part, ast.Name)}
                self.names |= dict.fromkeys(unpacked, unpacked)
            value = statement.value if isinstance(statement, ast.Return) else None
            if first and value and not isinstance(value, ast.Name) and _same_type(first.annotation, node.returns):
                self.replace("input returned", value, first.arg)
        self.names = outside


def _members_alike(known: list[ast.ClassDef]) -> dict[str, set[str]]:
    """For each field or method of a class, those of the same class and signature."""
    alike: dict[str, set[str]] = defaultdict(set)
    for owner in known:
        groups: dict[str, set[str]] = defaultdict(set)
        for member in owner.body:
            if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                groups[ast.dump(member.annotation)].add(member.target.id)
            elif isinstance(member, ast.FunctionDef) and member.returns and not member.name.startswith("__"):
                groups[ast.dump(member.args) + ast.dump(member.returns)].add(member.name)
        for group in groups.values():
            for name in group:
                alike[name] |= group
    return alike


def _called(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("torch", "np", "math")


def _starred(arguments: list[ast.expr]) -> bool:
    return any(isinstance(argument, ast.Starred) for argument in arguments)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_number(node: ast.AST, value: float | None = None) -> bool:
    number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return number and value in (None, getattr(node, "value", None))


def _same_type(a: ast.expr | None, b: ast.expr | None) -> bool:
    return a is not None and b is not None and ast.dump(a) == ast.dump(b)


def _interchangeable(first: ast.expr, second: ast.expr) -> bool:
    plain = not (_starred([first, second]) or _is_text(first) or _is_text(second))
    return plain and _is_number(first) == _is_number(second) and ast.dump(first) != ast.dump(second)
