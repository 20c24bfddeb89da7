"""The book's frozen results as a whole: which there are, which of them are fresh, and how all are computed.

`SUBJECTS` are read from the registries of papers and explorers; `status` holds each against its protocol, its
data and its code; `confirm` computes a part again where the code has changed; `make` computes what is stale.

Budget: 720 lines.
"""
