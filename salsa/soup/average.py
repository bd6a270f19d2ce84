"""Weighted averages of models ("soups", Wortsman et al., arXiv:2203.05482), written piece by piece."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from salsa.models.source import resolve
from salsa.soup import formats
from salsa.soup.checkpoint import INDEX, SINGLE, Checkpoint, Entry, SoupError, opened
from salsa.soup.compatibility import CHAT_TEMPLATE, TOKENIZER_FILES, check_forms, check_settings, check_weights
from salsa.soup.crew import share, usual_threads
from salsa.soup.mixture import Mixer, Piece, Term, longest
from salsa.soup.writer import UNFINISHED, Layout, Writer, copied, planned

__all__ = ["SHARD_BYTES", "Coefficients", "Progress", "SoupError", "average", "combine", "copy_settings"]

SHARD_BYTES = 4 * 2**30
"""Most bytes of tensors in one file of a soup."""

SETTINGS_FILES = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    CHAT_TEMPLATE,
    *TOKENIZER_FILES,
    # Last: a folder without it is no model yet.
    "config.json",
)

Coefficients = Callable[[str], Sequence[float]]
"""What each model is multiplied by in the tensor of a name."""
Progress = Callable[[int, int], None]
"""Told how many bytes of the result are written, and how many there will be."""

_Terms = Callable[[Entry], Sequence[Term]]


def average(
    folders: Sequence[Path],
    weights: Sequence[float],
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    any_sum: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
) -> None:
    """Write the model sum_i weights[i] * theta_i to the folder `out`, with the settings files of the first model.

    Sums are taken in float64 and rounded once, to the number format of the ingredients. That costs little, because
    files take longer than sums, and is never worse than float32: for float32 models at .5 and .5 it gives the same, to
    the last bit (float64 has more than twice the digits, and then rounding twice is rounding once), and at other
    weights it leaves out the roundings of weights and products. From three ingredients on the sum is
    compensated, so that the order of the ingredients does not matter; a soup of copies is the model itself, bit for
    bit. Tied tensors, which are stored once, stay tied; integer and bool tensors must agree and are copied. If one
    weight is 1 and the others are 0 the files are copied as they are. Memory does not grow with the size or the number
    of the models. A folder may hold a pointer instead of files. Weights may be negative (extrapolation).

    `threads` is by default the number of processors that this process may use, at most 4; `progress` is called from
    the calling thread. After an error nothing is left in `out`; a process that is killed leaves files without a
    `config.json`, which are no model.

    Raises:
        SoupError: if the weights do not sum to 1 (unless `any_sum`), or the models differ in architecture, tokenizer,
            chat template, names, shapes or formats of tensors (the first difference is named), or a tensor is not
            finite, or `out` holds a model.
        UnavailableModelError: if a folder holds no model.
    """
    check_weights(folders, weights, any_sum)
    with _models(folders, 0, templates=True) as (models, settings):
        for model in models[1:]:
            check_forms(models[0], model)
        used: list[Term] = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight != 0]
        first, share_of_first = used[0]
        if len(used) == 1 and share_of_first == 1:
            layout = copied(first)
        else:
            layout = _layout(first, [model for model, _ in used], shard_bytes)
        _write(first, layout, lambda _: used, settings, out, progress, threads)


def combine(
    folders: Sequence[Path],
    coefficients: Coefficients,
    out: Path,
    *,
    like: int = 0,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
    threads: int | None = None,
) -> None:
    """Write the model whose tensors are sum_i coefficients(name)[i] * theta_i, for what is no one set of weights.

    Names, number formats and settings files are those of folders[like]. Others may have other floating formats and no
    chat template: a base of published weights is in half precision, and has learnt no chat. `coefficients` is asked
    once for each floating tensor, one tensor at a time, but not always in the calling thread; a model with
    coefficient 0 adds nothing. Everything else is as in `average`.

    Raises:
        SoupError: as `average` does, and if coefficients are not finite or not one for each model.
        UnavailableModelError: if a folder holds no model.
    """
    if not folders:
        raise SoupError("a soup needs at least one model, got none")
    with _models(folders, like, templates=False) as (models, settings):
        pattern = models[like]
        for model in models:
            check_forms(pattern, model, formats=False)

        def terms(entry: Entry) -> list[Term]:
            if not entry.floating:
                return [(model, 1.0) for model in models]
            given = [float(number) for number in coefficients(entry.name)]
            if len(given) != len(models) or not all(math.isfinite(number) for number in given):
                raise SoupError(f"the coefficients of {entry.name} must be {len(models)} finite numbers, got {given}")
            return [(model, number) for model, number in zip(models, given, strict=True) if number != 0]

        _write(pattern, _layout(pattern, models, shard_bytes), terms, settings, out, progress, threads)


def copy_settings(source: Path, out: Path) -> None:
    """Copy configuration, tokenizer, chat template and generation settings of a model."""
    for name in SETTINGS_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


@contextmanager
def _models(folders: Sequence[Path], like: int, templates: bool) -> Iterator[tuple[list[Checkpoint], Path]]:
    """Open models whose settings fit; give the folder with the settings, too."""
    sources = [resolve(Path(folder)) for folder in folders]
    for source in sources:
        check_settings(sources[like], source, templates)
    with ExitStack() as stack:
        yield [stack.enter_context(opened(source)) for source in sources], sources[like]


def _layout(pattern: Checkpoint, models: Sequence[Checkpoint], shard_bytes: int) -> Layout:
    """Return the files of a model like `pattern`; refuse tensors that have no sum."""
    for model in models:
        for entry in model.entries.values():
            if not (entry.floating or entry.dtype in formats.WHOLE):
                raise SoupError(
                    f"the tensor {entry.name} of {model.folder} has the number format {entry.dtype}; only "
                    f"{', '.join(formats.FLOATING)} have averages: save the model in one of them"
                )
    return planned([(entry.name, entry.dtype, entry.shape) for entry in pattern.entries.values()], shard_bytes)


def _write(
    pattern: Checkpoint,
    layout: Layout,
    terms: _Terms,
    settings: Path,
    out: Path,
    progress: Progress | None,
    threads: int | None,
) -> None:
    """Write a model; leave nothing behind if that fails."""
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount
        if progress is not None:
            progress(done, pattern.bytes)

    with _unless_it_fails(out):
        writer = Writer(out, layout)
        try:
            share(_pieces(pattern, layout, terms), lambda: Mixer(writer), threads or usual_threads(), count)
            writer.close()
            copy_settings(settings, out)
        except BaseException:
            writer.discard()
            raise


def _pieces(pattern: Checkpoint, layout: Layout, terms: _Terms) -> Iterator[Piece]:
    """Yield all pieces in the order in which they lie in the files."""
    for shard in layout.shards:
        for name in shard.begins:
            entry = pattern.entries[name]
            parts = terms(entry)
            step = longest(parts)
            for start in range(0, entry.count, step):
                yield Piece(entry, parts, start, min(start + step, entry.count))


@contextmanager
def _unless_it_fails(out: Path) -> Iterator[None]:
    """Make the folder of the result; if the block fails remove settings, and the folder if it was made here.

    Raises:
        SoupError: if there is a model in the folder.
    """
    made = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    present = [name for name in (SINGLE, INDEX, *SETTINGS_FILES) if (out / name).exists()]
    present += sorted(path.name for path in out.glob("model-*.safetensors"))
    if present:
        raise SoupError(f"{out} holds a model ({present[0]}); give another folder for the soup")
    for path in out.glob(UNFINISHED):
        path.unlink()  # of a process that was killed
    try:
        yield
    except BaseException:
        for name in SETTINGS_FILES:
            (out / name).unlink(missing_ok=True)
        if made and not any(out.iterdir()):
            out.rmdir()
        raise
