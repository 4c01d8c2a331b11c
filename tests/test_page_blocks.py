"""What is wrong on a page is found, with the page and the line: faults of each kind are planted."""

from textwrap import dedent

import pytest

import page_run
from page_blocks import blocks_of, commands_of
from page_commands import PROGRAMS
from page_run import PageError, PageRun, in_folder

NESTED = """
# Title

- an item

  ```python
  first = 1
  ```

:::{note}
````{tip}
```console
diffuscope data list
```
````
:::

> ```text
> quoted
> ```

```{code-block} python
:caption: named

second = 2
```
"""
CONSOLE = """\
$ diffuscope audit --data 'a#b' \\
>   --out out  # exits with 1
Copies.
# a line of output
$ X_Y=1 cat > a.txt <<'END'
one; two
END
$ make lint && make test
"""


def run(tmp_path, monkeypatch, text, whole=False):
    monkeypatch.setattr(page_run, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(dedent(text))
    (tmp_path / "folder").mkdir(exist_ok=True)
    page = PageRun("page.md", whole)
    with in_folder(tmp_path / "folder"):
        page.run()
    return page


def test_blocks_are_found_in_lists_admonitions_and_quotations_with_their_lines(tmp_path):
    (tmp_path / "page.md").write_text(NESTED)
    found = [(block.line, block.language, block.text) for block in blocks_of(tmp_path / "page.md")]
    assert found == [
        (7, "python", "first = 1\n"), (13, "console", "diffuscope data list\n"), (19, "text", "quoted\n"),
        (25, "python", "second = 2\n"),
    ]  # fmt: skip
    assert {block.section for block in blocks_of(tmp_path / "page.md")} == {"Title"}


def test_a_fence_that_is_not_closed_is_a_mistake(tmp_path):
    (tmp_path / "page.md").write_text("```python\nx = 1\n")
    with pytest.raises(ValueError, match="line 1: the fence ``` is not closed"):
        blocks_of(tmp_path / "page.md")


def test_commands_have_their_words_comments_outputs_and_documents(tmp_path):
    (tmp_path / "page.md").write_text(f"```console\n{CONSOLE}```\n")
    (block,) = blocks_of(tmp_path / "page.md")
    audit, cat, lint, test = commands_of(block, PROGRAMS)
    assert audit.words == ("diffuscope", "audit", "--data", "a#b", "--out", "out")
    assert (audit.line, audit.comment) == (2, "exits with 1")
    assert audit.expected == "Copies.\n# a line of output\n"
    assert (cat.words, cat.target, cat.stdin, cat.variables) == (("cat",), "a.txt", "one; two\n", {"X_Y": "1"})
    assert (lint.words, test.words) == (("make", "lint"), ("make", "test"))


FAULTS = {
    "a name that is not defined": ("```python\nx = 1\ny = z\n```", r"page\.md:4: line 5: NameError: name 'z'"),
    "another output": ("```python\nprint(1)\n```\n\n```text\n2\n```", r"page\.md:8: expected to be printed\n2\ngot\n1"),
    "an example": ("```python\n>>> 1 + 1\n3\n```", "Expected:\n    3\nGot:\n    2"),
    "an option": ("```console\ndiffuscope audit --no-such-option\n```", "--no-such-option: no such option of audit"),
    "a value": ("```console\ndiffuscope sample --model m --n many\n```", "expected a whole number, got 'many'"),
    "a file": ("```console\ndiffuscope audit --data absent.npy\n```", "absent.npy"),
    "an exit status": (
        "```console\ndiffuscope data list  # exits with 1\n```", "exit status 0, expected 1"),
    "an output among commands": ("```console\n$ diffuscope --version\ndiffuscope 99\n```", "expected to be printed"),
    "a chore": ("```console\nmake nothing\n```", "the Makefile has no {'nothing'}"),
    "an extra": ("```console\npip install 'diffuscope[nothing]'\n```", "no extra {'nothing'}"),
    "a requirement": ("```console\npip install 'a b'\n```", "InvalidRequirement"),
    "a program": ("```console\nfrobnicate\n```", "no test knows the program frobnicate"),
    "a torchrun": ("```console\ntorchrun --nproc-per-mode 2 -m diffuscope train\n```", "SystemExit|not expected"),
    "a script": ("```console\npython absent.py\n```", r"no file absent\.py"),
    "a workflow": ("```yaml\njobs:\n  a:\n    steps:\n      - run: make nothing\n```", "the Makefile has no"),
    "JSON": ('```json\n{"a": }\n```', "JSONDecodeError"),
    "CSV": ("```csv\na,b\n1\n```", "different numbers of columns"),
    "a language": ("```\nx\n```", "expected a language of"),
    "a command as text": ("```text\ndiffuscope data list\n```", "a command; expected it in a console block"),
    "a file that is not imported": ("```python\n# mine.py\nimport absent_module\n```", "absent_module"),
    "a warning": ("```python\nimport warnings\nwarnings.warn('old', stacklevel=1)\n```", "UserWarning: old"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, tmp_path, monkeypatch):
    text, said = FAULTS[name]
    with pytest.raises(PageError, match=said):
        run(tmp_path, monkeypatch, f"# Page\n\n{text}\n")


def test_a_good_page_runs_in_one_namespace_and_its_files_are_written(tmp_path, monkeypatch):
    page = run(
        tmp_path,
        monkeypatch,
        """
        ```python
        # mine.py
        answer = 42
        ```

        ```python
        from mine import answer
        print(answer, "and", 4e-16)
        ```

        ```text
        42 and ...
        ```

        ```console
        $ diffuscope --version > version.txt
        $ cat version.txt
        diffuscope ...
        $ diffuscope data fetch mnist
        $ diffuscope certify my_module:my_sampler --budget 5
        ```

        ```python
        >>> answer
        42
        ```
        """,
    )
    assert page.names["answer"] == 42
    assert [*page.printed] == ["diffuscope --version > version.txt", "cat version.txt"]  # the others only start
    assert not page.lacks


def test_a_block_that_lacks_a_library_is_named_and_what_follows_from_it(tmp_path, monkeypatch):
    text = """
        ## One

        ```python
        from azula import no_such_name_in_any_version
        made = 1
        ```

        ```console
        diffuscope audit --data made.npy
        ```

        ## Two

        ```python
        print(made)
        ```

        ## Three

        ```python
        print(other)
        ```
        """
    monkeypatch.setitem(__import__("sys").modules, "azula", None)
    with pytest.raises(PageError, match="name 'other' is not defined"):
        run(tmp_path, monkeypatch, text)
    page = run(tmp_path, monkeypatch, text.split("## Three")[0])
    assert page.lacks == {5: "azula", 10: "the above", 16: "the above"}


def test_an_entry_that_nothing_on_the_page_uses_is_a_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr(page_run, "FILES", tmp_path)
    (tmp_path / "common").mkdir()
    (tmp_path / "page.py").write_text('SHORTER = {"steps = 1000": "steps = 1"}\nEFFORT = {"diffuscope audit": ""}\n')
    with pytest.raises(PageError, match=r"nothing on the page uses \['diffuscope audit'\]"):
        run(tmp_path, monkeypatch, "```python\nsteps = 1000\n```\n")
