"""The benchmark: what Fleetroot does for a second of server CPU, beside what the cryptography alone
would cost, or another program, measured in the same run. `make bench` prints the table;
`python -m bench room connect` runs those groups of rows alone.

How to read it, and why it is measured so:

- Absolute figures drift with the machine; the ratios are what to read. A ratio is the median over
  rounds, with the lowest and the highest beside it. Within a round the sides take turns, in an
  order that turns over from round to round; the first round warms up and is dropped.
- A cost is the CPU time of the process that serves, all of its threads, user and system, in
  nanoseconds from the kernel. Only what is called wall clock is wall clock, and there the load
  generator shares the machine. Nothing is pinned to a core.
- The load generator is a process of its own. What devices prepare (keys, CSRs, tokens, operational
  certificates) is prepared before the clock runs.
- Where arrivals have a rate, latency counts from when a device should have arrived, so that a
  server that falls behind cannot hide it.
"""
