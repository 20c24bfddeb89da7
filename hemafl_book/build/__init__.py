"""What builds the book: extensions of Sphinx, the standalone pages, the normal form of notebooks, and what
opens them.

Budget: 2,400 lines.
"""
