"""Sphinx, as rosdoc2 finds it: guides in Markdown, the API from the docstrings. ``make docs`` builds both."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

project = "salus_ros"
author = "SALUS maintainers"
copyright = f"{author}. Apache-2.0"
release = re.search(r"<version>(.+?)</version>", (ROOT / "package.xml").read_text()).group(1)
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["verification/*.log"]
myst_heading_anchors = 3
# Pages name files of the repository, which are no pages.
suppress_warnings = ["myst.xref_missing", "myst.header"]
# The API names what ROS and the models bring; the docstrings need none of it.
autodoc_mock_imports = ["rclpy", "salus_msgs", "torch"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
html_theme = "furo"
html_title = "SALUS"
html_extra_path = ["mode-machine.html"]
html_static_path = []
