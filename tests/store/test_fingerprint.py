"""Equal values have equal fingerprints, different values different ones, in this release and in the next."""

import hashlib
import json
import math
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salsa.store.fingerprint import canonical, file_digest, fingerprint

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines of CI may be slow

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None), max_size=8)
)
# Values that many loose comparisons (==, JSON of other languages, str()) mix up, so that equal draws are common.
CONFUSABLE = st.sampled_from([0, 0.0, -0.0, False, None, "", "0", 1, 1.0, True, "1", "true", "null", 10**16, 1e16])


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.text(max_size=4) | st.sampled_from(["a", "b", "a.b"])
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
    )


def same(left: Any, right: Any) -> bool:
    """The definition of equality that the module promises, written out independently of any text."""
    if isinstance(left, list | tuple):
        return isinstance(right, list | tuple) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return type(left) is type(right) and left == right


def reordered(value: Any) -> Any:
    """The same value with every mapping's keys in the opposite order and every list as a tuple."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return tuple(reordered(item) for item in value)
    return value


@unhurried
@given(nested(SCALARS))
def test_order_of_keys_and_kind_of_sequence_do_not_matter(value: Any) -> None:
    assert canonical(reordered(value)) == canonical(value)
    assert fingerprint("sft", 1, {"key": reordered(value)}, {}) == fingerprint("sft", 1, {"key": value}, {})


@unhurried
@given(nested(SCALARS))
def test_the_text_is_ascii_json_that_reads_back_as_the_same_value(value: Any) -> None:
    text = canonical(value)
    assert text.isascii()
    assert same(json.loads(text), value)
    assert canonical(json.loads(text)) == text


@unhurried
@given(nested(CONFUSABLE), nested(CONFUSABLE))
def test_two_values_share_a_text_exactly_if_they_are_the_same(left: Any, right: Any) -> None:
    assert (canonical(left) == canonical(right)) == same(left, right)


@unhurried
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_neighbouring_floats_differ(number: float) -> None:
    neighbour = math.nextafter(number, 0.0 if number else 1.0)
    assert canonical(neighbour) != canonical(number)


def test_integers_floats_booleans_and_texts_are_different_values() -> None:
    assert len({canonical(value) for value in (1, 1.0, True, "1", [1], None)}) == 6
    assert canonical(-0.0) == canonical(0.0) != canonical(0)


def test_the_text_is_what_it_says() -> None:
    value = {"b": [1, 2.5, 1e-05, None], "a": {"ü": "naïve\n", "t": (True, False)}, "": 1e16}
    expected = '{"":1e+16,"a":{"t":[true,false],"\\u00fc":"na\\u00efve\\n"},"b":[1,2.5,1e-05,null]}'
    assert canonical(value) == expected


class Family(StrEnum):
    GEMMA = "gemma"


@pytest.mark.parametrize(
    "culprit",
    [Path("x"), b"x", {1}, object(), 1j, np.float64(0.5), np.int64(1), Family.GEMMA, range(2)],
    ids=lambda culprit: type(culprit).__name__,
)
def test_other_types_are_refused_with_the_place_of_the_value(culprit: Any) -> None:
    with pytest.raises(TypeError, match=rf"config\.policy\.steps\[1\] is of type .*{type(culprit).__name__}"):
        canonical({"policy": {"steps": [0, culprit]}}, "config")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_without_json_are_refused_with_their_place(number: float) -> None:
    with pytest.raises(ValueError, match=rf"^value\.a\[0\]\.b is {number},"):
        canonical({"a": [{"b": number}]})


def test_keys_must_be_strings() -> None:
    with pytest.raises(TypeError, match=r"config\.a has the key 1 of type int"):
        canonical({"a": {1: "x"}}, "config")


def test_a_container_that_holds_itself_is_refused_but_one_used_twice_is_not() -> None:
    shared: list[Any] = [1]
    assert canonical([shared, shared]) == "[[1],[1]]"
    shared.append(shared)
    with pytest.raises(ValueError, match=r"value\[1\] contains itself"):
        canonical(shared)


CONFIG = {"steps": 100, "rate": 1e-4, "soup": {"alpha": 0.5, "recipe": "uniform"}, "words": ["a", "b"]}
INPUTS = {"base": "0" * 64, "data": "1" * 64}


def test_fingerprints_stay_what_they_were() -> None:
    """Golden values: if this fails, every store in the world forgets its work. Raise SCHEMA only on purpose."""
    assert fingerprint("base", 1, {}, {}) == "c67315330e05e37ce4fd259a45698ec2ed9a815562ed2df88abbfac4e109f283"
    assert fingerprint("sft", 3, CONFIG, INPUTS) == "d88b6157ac9f3f5caaf5efddceeb2deb6d095357ba8fe6562728b3f0dff0dd33"


def test_a_fingerprint_is_the_sha256_of_its_documented_text() -> None:
    text = '{"config":{"a":1.0},"inputs":{"base":"f"},"kind":"sft","schema":1,"version":2}'
    assert fingerprint("sft", 2, {"a": 1.0}, {"base": "f"}) == hashlib.sha256(text.encode()).hexdigest()


def test_a_fingerprint_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = f"from salsa.store.fingerprint import fingerprint; print(fingerprint('sft', 3, {CONFIG!r}, {INPUTS!r}))"
    root = Path(__file__).parents[2]
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, cwd=root, capture_output=True, text=True
        )
        assert result.stdout.strip() == fingerprint("sft", 3, CONFIG, INPUTS), result.stderr


def test_everything_that_decides_the_result_changes_the_fingerprint() -> None:
    changed = [
        fingerprint("sft", 3, CONFIG, INPUTS),
        fingerprint("reward", 3, CONFIG, INPUTS),
        fingerprint("sft", 4, CONFIG, INPUTS),
        fingerprint("sft", 3, {**CONFIG, "steps": 101}, INPUTS),
        fingerprint("sft", 3, {**CONFIG, "new": None}, INPUTS),
        fingerprint("sft", 3, CONFIG, {**INPUTS, "base": "2" * 64}),
        fingerprint("sft", 3, CONFIG, {"base": INPUTS["data"], "data": INPUTS["base"]}),
        fingerprint("sft", 3, {}, {}),
    ]
    assert len(set(changed)) == len(changed)
    assert all(len(identity) == 64 and set(identity) <= set("0123456789abcdef") for identity in changed)


@unhurried
@given(st.dictionaries(st.sampled_from("abc"), nested(SCALARS)), nested(SCALARS), nested(SCALARS))
def test_a_new_key_counts_only_once_it_leaves_its_first_value(config: Any, first: Any, other: Any) -> None:
    before = fingerprint("sft", 1, config, {})
    first_values = {"new": first}
    assert fingerprint("sft", 1, config, {}, first_values) == before
    assert fingerprint("sft", 1, {**config, "new": first}, {}, first_values) == before
    changed = fingerprint("sft", 1, {**config, "new": other}, {}, first_values)
    assert (changed == before) == same(first, other)


def test_first_values_tell_types_apart() -> None:
    assert fingerprint("sft", 1, {"a": 1}, {}, {"a": 1.0}) != fingerprint("sft", 1, {}, {})
    assert fingerprint("sft", 1, {"a": False}, {}, {"a": 0}) != fingerprint("sft", 1, {}, {})


def test_first_values_reach_into_groups_by_dotted_keys() -> None:
    before = fingerprint("sft", 1, {"soup": {"alpha": 0.5}}, {})
    first_values = {"soup.recipe": "uniform", "adapter.rank": 0, "adapter.shape.bias": False}
    config = {"soup": {"alpha": 0.5, "recipe": "uniform"}, "adapter": {"rank": 0, "shape": {"bias": False}}}
    assert fingerprint("sft", 1, config, {}, first_values) == before
    config["adapter"] = {"rank": 8, "shape": {"bias": False}}
    assert fingerprint("sft", 1, config, {}, first_values) == fingerprint(
        "sft", 1, {"soup": {"alpha": 0.5}, "adapter": {"rank": 8}}, {}
    )


def test_first_values_of_flat_dotted_keys_and_of_groups_that_grew() -> None:
    before = fingerprint("sft", 1, {"soup.alpha": 0.5}, {})
    assert fingerprint("sft", 1, {"soup.alpha": 0.5, "soup.recipe": "x"}, {}, {"soup.recipe": "x"}) == before
    grown = {"soup.alpha": 0.5, "adapter": {"rank": 0, "dropout": 0.0}}
    assert fingerprint("sft", 1, grown, {}, {"adapter": {"rank": 0}, "adapter.dropout": 0.0}) == before


def test_a_dotted_first_value_ignores_groups_that_are_no_mappings_and_changes_no_argument() -> None:
    config = {"soup": 3, "list": [{"a": 1}]}
    assert fingerprint("sft", 1, config, {}, {"soup.alpha": 3, "list.a": 1}) == fingerprint("sft", 1, config, {})
    nested_config = {"soup": {"alpha": 0.5}}
    fingerprint("sft", 1, nested_config, {}, {"soup.alpha": 0.5})
    assert nested_config == {"soup": {"alpha": 0.5}}


def test_errors_of_fingerprints_name_the_key() -> None:
    missing: Any = {"base": None}
    with pytest.raises(ValueError, match=r"sft\.config\.policy\.rate is nan"):
        fingerprint("sft", 1, {"policy": {"rate": math.nan}}, {})
    with pytest.raises(TypeError, match=r"inputs\.base of stage sft is None"):
        fingerprint("sft", 1, {}, missing)
    with pytest.raises(TypeError, match="version of stage sft is True"):
        fingerprint("sft", True, {}, {})
    with pytest.raises(TypeError, match="kind is ''"):
        fingerprint("", 1, {}, {})


def test_file_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    content = bytes(range(256)) * 4097  # longer than one piece, and no multiple of it
    path.write_bytes(content)
    assert file_digest(path) == hashlib.sha256(content).hexdigest()
    path.write_bytes(b"")
    assert file_digest(str(path)) == hashlib.sha256(b"").hexdigest()


def test_importing_the_store_stays_light() -> None:
    """Plans and `--help` import the store; it must bring neither arrays nor models nor even the lock library."""
    program = "import sys, salsa.store.artifact; print(*sys.modules)"
    root = Path(__file__).parents[2]
    loaded = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "filelock", "hydra", "asyncio", "multiprocessing"} & set(loaded.stdout.split())
