"""Leave one photograph out: `python tests/shows/photographs.py [--steps N] [--out FOLDER]`.

For each of the two photographs, trains without it and scores the subjects of the embedded set that are made from it:
once with `--recipe general`, on heads whose skin is that of the other photograph, and once with the default recipe, on
the other subjects of the embedded set alone: 24 and 6 held-out subjects. The shape of the training subjects has up to a
third of the held-out one. Runs that are finished are not repeated. Each of the two
general trainings takes an hour on one thread of a CPU with bfloat16 instructions.
"""

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from mol_fast.data.embedded.generate import embedded_set
from mol_fast.data.embedded.photographs import PHOTOGRAPHS
from mol_fast.data.heads import HEADS
from mol_fast.data.heads.generate import VERSION, generate_heads
from mol_fast.data.kept import kept_set
from mol_fast.train import main as train


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="steps of the general recipe; default: its own")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    given = parser.parse_args()
    steps = [] if given.steps is None else ["--steps", str(given.steps)]
    print("| held out | recipe | UF1 | end-point error, moving, of zero flow | landmark error |\n|---|---|---|---|---|")
    for place, photograph in enumerate(PHOTOGRAPHS):
        others = [name for name in PHOTOGRAPHS if name != photograph]
        make = partial(generate_heads, photographs=others, workers=os.cpu_count() or 1)
        heads = kept_set(given.out / f"heads-without-{photograph}", HEADS, VERSION, make).path
        recipes = {
            "general": (embedded_set(subjects=48), ["--recipe", "general", *steps, "--data", str(heads)]),
            "default": (embedded_set(), ["--data"]),
        }
        for recipe, (morphs, options) in recipes.items():
            name = f"{recipe}-without-{photograph}"
            held_out = [f"embedded/{subject}" for subject in morphs.subjects[place::2]]  # see `make_subject`
            if code := train(
                [*options, str(morphs.path), "--test-subjects", *held_out, "--out", str(given.out), "--name", name]
            ):
                sys.exit(code)
            (scores,) = json.loads((given.out / name / "scores.json").read_text())["seeds"].values()
            share = scores["flow"]["moving_error"] / scores["flow"]["moving_zero_error"]
            cells = f"{scores['recognition']['uf1']:.3f} | {share:.0%} | {scores['landmarks']['error']:.1f} %"
            print(f"| {photograph} | {recipe} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
