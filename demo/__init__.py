"""The main job, from nothing: `make demo`.

A server starts on SQLite in a fresh folder, and everything after that goes over its public wires: a
device of ours, then the unmodified Azure device SDK. Each step says what it saw and how long it
took; the exit code is 0 only if all of it held.
"""
