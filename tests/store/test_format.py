"""Code never works on a store of a format it does not know."""

import json

import pytest

from salsa.store.artifact import Store
from salsa.store.format import FORMAT, StoreFormatError, check


def test_the_format_is_written_once(store: Store) -> None:
    assert check(store.root) is False
    assert not store.root.exists()
    store.check_format()
    path = store.root / "format.json"
    assert json.loads(path.read_text()) == {"format": FORMAT}
    assert [file.name for file in store.root.iterdir()] == ["format.json"]
    before = path.stat()
    store.check_format()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert check(store.root) is True


def test_further_keys_do_not_matter(store: Store) -> None:
    store.root.mkdir()
    (store.root / "format.json").write_text(f'{{"format": {FORMAT}, "since": "x"}}')
    store.check_format()


def test_a_newer_format_is_refused_and_left_alone(store: Store) -> None:
    store.root.mkdir()
    text = f'{{"format": {FORMAT + 1}}}'
    (store.root / "format.json").write_text(text)
    with pytest.raises(StoreFormatError, match=r"written by a newer version of salsa .*update salsa or choose another"):
        store.check_format()
    assert (store.root / "format.json").read_text() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "{}", '{"format": "1"}', '{"format": true}', '{"format": 0}'])
def test_a_format_that_cannot_be_read_is_refused_by_its_path(store: Store, text: str) -> None:
    store.root.mkdir()
    (store.root / "format.json").write_text(text)
    with pytest.raises(StoreFormatError, match=r"format\.json should hold \{\"format\": 1\}.*restore it or choose"):
        store.check_format()
    assert issubclass(StoreFormatError, OSError)
