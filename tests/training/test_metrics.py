import json

import pytest

from salsa.training.metrics import FILE_NAME, JsonLines, read_metrics


def test_a_line_is_on_the_file_as_soon_as_it_is_logged(tmp_path):
    logger = JsonLines(tmp_path / "new")
    logger.log_metrics({"loss": 0.5, "rate": 1}, step=0)
    assert read_metrics(tmp_path / "new" / FILE_NAME) == [{"step": 0, "loss": 0.5, "rate": 1.0}]


def test_values_that_json_does_not_know_become_null(tmp_path):
    logger = JsonLines(tmp_path)
    logger.log_metrics({"a": float("nan"), "b": float("-inf")}, step=0)
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {"step": 0, "a": None, "b": None}


def test_rewinding_drops_later_lines_and_half_a_line(tmp_path):
    logger = JsonLines(tmp_path)
    for step in range(4):
        logger.log_metrics({"loss": step / 10}, step=step)
    logger.finalize("failed")
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"step": 1, "lo')
    again = JsonLines(tmp_path)
    again.rewind(2)
    again.log_metrics({"loss": 7.0}, step=2)
    again.save()
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path / FILE_NAME)] == [(0, 0.0), (1, 0.1), (2, 7)]


def test_rewinding_before_there_is_a_file_does_nothing(tmp_path):
    JsonLines(tmp_path).rewind(0)
    assert not (tmp_path / FILE_NAME).exists()


def test_a_line_needs_its_step(tmp_path):
    with pytest.raises(ValueError, match="needs its step"):
        JsonLines(tmp_path).log_metrics({"loss": 1.0})
