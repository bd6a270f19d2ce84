"""What is told of failures."""

from pipelines.failure import told


def test_a_reason_that_several_stages_have_is_told_once() -> None:
    failures = [
        {"stage": "a", "error": "Unfinished: the limit of 5 calls is reached; 3 of 9 are there\nmore"},
        {"stage": "b", "error": "ValueError: no"},
        {"stage": "c", "error": "Unfinished: the limit of 5 calls is reached; 0 of 4 verdicts are there"},
        {"stage": "d", "error": "Unfinished: the limit of 5 calls is reached; 0 of 4 verdicts are there"},
    ]
    assert told(failures) == (
        "a (and, alike, c, d): Unfinished: the limit of 5 calls is reached; 3 of 9 are there; b: ValueError: no"
    )


def test_reasons_that_differ_are_all_told() -> None:
    failures = [{"stage": "a", "error": "ValueError: x"}, {"stage": "b", "error": "ValueError: y"}]
    assert told(failures) == "a: ValueError: x; b: ValueError: y"
