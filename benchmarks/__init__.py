"""How fast the engines are beside bare loops, Ray and ``pfl``, maps beside Captum, and nodes over TLS.

Run by ``python -m benchmarks NAME``.

Variants are timed in turn (A B C A B C) and compared by their medians, so that whatever else the machine does
meets all of them; every report says how busy the machine was.

Budget: 1,300 lines.
"""
