"""What fuzzing holds the readers to, without the fuzzer: on every input that is kept, and on seeds
that were damaged at random. `make fuzz` searches further.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import targets
from fuzz.targets import Target

TARGETS = [targets.load(name) for name in targets.NAMES]
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
REGRESSIONS = [
    (target, path) for target in TARGETS for path in targets.inputs([target.regressions])
]


@st.composite
def damaged(draw: st.DrawFn, target: Target) -> bytes:
    """One of the target's seeds with something changed, cut out or put in."""
    data = draw(st.sampled_from(sorted(target.seeds.values())))
    if target.mutate is not None:
        for seed in draw(st.lists(st.integers(0, 1 << 32), max_size=3)):
            data = target.mutate(data, target.max_bytes, seed)
        return data
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 4)))
    put_in = draw(st.binary(max_size=4) | st.sampled_from(target.tokens))
    return data[:start] + put_in + data[end:]


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@every_target
def test_every_input_of_the_corpus_keeps_the_promises(target: Target) -> None:
    kept = targets.inputs([target.corpus])
    assert len(kept) >= len(target.seeds)
    for path in kept:
        try:
            target.check(path.read_bytes())
        except Exception as error:
            error.add_note(str(path))
            raise


@pytest.mark.parametrize(
    ("target", "path"),
    REGRESSIONS,
    ids=[f"{target.name}/{path.name}" for target, path in REGRESSIONS],
)
def test_what_once_broke_a_promise_keeps_it(target: Target, path) -> None:
    target.check(path.read_bytes())


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@every_target
@given(data=st.data())
def test_a_damaged_seed_keeps_the_promises(target: Target, data: st.DataObject) -> None:
    target.check(data.draw(damaged(target)))


@every_target
def test_an_input_is_small_enough_to_be_tried(target: Target) -> None:
    assert max(map(len, target.seeds.values())) <= target.max_bytes


def test_the_kept_inputs_stay_small() -> None:
    paths = targets.inputs([path for t in TARGETS for path in (t.corpus, t.regressions)])
    assert sum(path.stat().st_size for path in paths) < 1 << 20


def test_every_folder_of_inputs_has_its_target() -> None:
    for folder in (targets.CORPUS, targets.REGRESSIONS):
        assert {path.name for path in folder.iterdir()} <= set(targets.NAMES)
