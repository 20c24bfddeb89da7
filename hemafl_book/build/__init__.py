"""What builds the book: extensions of Sphinx, and the normal form of notebooks.

Budget: 530 lines.
"""
