"""`python -m tests.chaos`: kills processes at work, over and over, and compares with an undisturbed run."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos import account
from tests.chaos.harness import SWEEP, Chaos, rounds


def main(arguments: list[str]) -> int:
    """Run the chaos test; return 0 if there were enough kills and nothing was found."""
    options = _parser().parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="salsa_chaos_"))
    chaos = Chaos(
        folder.resolve(),
        SWEEP,
        options.processes,
        options.kills,
        options.seed,
        options.checkpoint_seconds,
        options.time_out,
    )
    print(f"outputs: {folder}", flush=True)
    done = rounds(chaos, options.rounds, options.keep)
    result = account.account(done, options.kills, options.processes, account.command_line(arguments))
    if options.report is not None:
        account.write(result, options.report)
    if options.document is not None:
        account.insert(result, options.document)
    print(account.markdown(result))
    if result["missed_points"]:
        print(f"not reached: {', '.join(result['missed_points'])}")
    return 0 if result["passed"] and not result["missed_points"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills that hit work (default 100)")
    parser.add_argument("--processes", type=int, default=4, help="shells side by side (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the chances; timing still differs (default 0)")
    parser.add_argument("--checkpoint-seconds", type=float, default=0.2, help="compute.checkpoint_seconds (default .2)")
    parser.add_argument("--rounds", type=int, default=6, help="most rounds, should one not be enough (default 6)")
    parser.add_argument("--time-out", type=float, default=1800, help="most seconds of a round under kills")
    parser.add_argument("--folder", type=Path, help="where to work (default: a new temporary folder)")
    parser.add_argument("--keep", action="store_true", help="keep the outputs of rounds without findings")
    parser.add_argument("--report", type=Path, help="JSON file to write; the same as .md beside it")
    parser.add_argument(
        "--document", type=Path, help=f"Markdown file to write the result into, between {account.MARKS}"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
