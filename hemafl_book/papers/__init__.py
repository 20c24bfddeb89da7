"""One module a paper: its protocol as data, and `run(protocol)` that returns its tables."""
