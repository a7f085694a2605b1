"""Writes the seeds of every target into its corpus: `python -m fuzz.seeds`.

A seed that is there already stays as it is, because signatures and RSA keys differ each time.
"""

from __future__ import annotations

from fuzz import targets


def main() -> None:
    """Adds what is missing."""
    for name in targets.NAMES:
        target = targets.load(name)
        target.corpus.mkdir(parents=True, exist_ok=True)
        for seed, content in target.seeds.items():
            path = target.corpus / seed
            if not path.exists():
                path.write_bytes(content)


if __name__ == "__main__":
    main()
