"""Fuzzing of everything that reads a stranger's bytes: `make fuzz`.

Each file of `targets` owns one reader. Its `check(data)` takes what a peer would send, as it is,
and raises if the reader breaks a promise: an exception that is not of the documented type, another
outcome for another split of the same stream, a value that does not survive the way back, a verdict
that a second, independent reading does not share. So a file of a corpus is a packet, a token, a
request in DER, and nothing else; whatever else a check needs it derives from those bytes.

`corpus/{target}` and `regressions/{target}` are kept. The tests replay both without atheris
(tests/fuzz); `make fuzz` searches on from the corpus and merges what it found into it.
"""
