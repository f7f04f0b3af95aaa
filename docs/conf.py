"""The site of documents: `make docs` builds it in build/site. A warning is an error there."""

import ringbuf

project = "ringbuf"
copyright = "ringbuf contributors"
release = ringbuf.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
html_theme = "furo"
html_title = f"ringbuf {release}"
exclude_patterns = ["conf.py"]

myst_heading_anchors = 4  # links to headings, as GitHub makes them
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more than the types
numpydoc_show_class_members = False  # the pages of the API say which
numpydoc_xref_param_type = False
