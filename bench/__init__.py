"""The benchmark: what Fleetroot does for a second of server CPU, beside what the cryptography alone
would cost, measured in the same run. `make bench` prints the table.

Absolute figures drift with the machine; the ratios are what to read. Every ratio is the median over
rounds that alternate between the two sides, with the lowest and the highest beside it.
"""
