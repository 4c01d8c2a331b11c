"""How Sphinx builds these pages: MyST text, the API from docstrings, a gallery of examples that run at each build."""

import os
import pkgutil
import re
from html import escape
from importlib import import_module

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the examples are small: threads would only wait for each other

import torch
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from pygments.lexers.special import TextLexer
from sphinx.highlighting import lexers
from sphinx.util import logging

import diffuscope

torch.set_num_threads(1)
lexers["csv"] = TextLexer()  # tables are shown as they are

project = "diffuscope"
author = "the diffuscope authors"
copyright = "the diffuscope authors, Apache-2.0"
release = version = diffuscope.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "examples"]
templates_path = ["_templates"]
html_theme = "furo"
html_title = "diffuscope"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name` for code


def files_of(name):
    """All files of a subpackage and whether each is a package, for its one page in `api`."""
    path = getattr(import_module(name), "__path__", [])
    return [(found.name, found.ispkg) for found in pkgutil.walk_packages(path, f"{name}.")]


# One page per subpackage: one per file would be six hundred, and each page of the theme has all pages in its menu.
autosummary_context = {
    "files": {
        f"diffuscope.{found.name}": files_of(f"diffuscope.{found.name}")
        for found in pkgutil.iter_modules(diffuscope.__path__)
        if found.name not in ("__main__", "cli")
    }
}
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 100

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "ignore_pattern": r"readme_images",  # draws the pictures of the README
    "download_all_examples": False,
    "matplotlib_animations": True,  # as a slider inside the page
    "show_memory": False,
    "show_signature": False,
    "parallel": 2,  # by joblib, which scikit-learn needs anyway
    "run_stale_examples": True,  # the library may have changed though the example has not
    "abort_on_example_error": True,
}


def plain_docstring(*event):
    """Docstrings are plain text with `code` and mathematics; a bare * or | is a shape or a modulus, not markup."""
    lines = event[-1]
    markup = re.compile(r"(^\.\. [\s\S]*?(?=^\S|\Z)|`[^`]*`)|([*|])", re.MULTILINE)
    lines[:] = markup.sub(lambda found: found[1] or "\\" + found[2], "\n".join(lines)).split("\n")


def mathml(node, as_block):
    """Mathematics as MathML, which browsers render by themselves: no script, no network."""
    # sizes the browser chooses by itself, and the converter knows one kind of dots
    tex = re.sub(r"\\([bB]igg?[lrm]?|textstyle|displaystyle)(?![A-Za-z])", "", node.astext()).replace(
        r"\dots", r"\ldots"
    )
    if as_block and ("&" in tex or r"\\" in tex):
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    try:
        return tex2mathml(tex, as_block=as_block)
    except MathError as error:
        logging.getLogger(__name__).warning(str(error), location=node)
        return f"<code>{escape(tex)}</code>"


def visit_inline(writer, node):
    writer.body.append(mathml(node, as_block=False))
    raise nodes.SkipNode


def visit_block(writer, node):
    writer.body.append(
        f'<div class="math" style="overflow-y: hidden; padding: 0.4em 0">{mathml(node, as_block=True)}</div>'
    )
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", inline_renderers=(visit_inline, None), block_renderers=(visit_block, None))
    app.connect("autodoc-process-docstring", plain_docstring)
