"""The query language by which fleets find devices.

- `syntax`: the tree of a query.
- `grammar`: the parser of its text, and the bounds of what a text may be.
"""
