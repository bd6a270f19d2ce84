from salsa.report.divergences import along_training
from tests.report import factory


def test_the_start_and_the_end_of_each_policy_are_stated_per_reply_and_per_token() -> None:
    experiment = factory.experiment()
    grid = along_training(experiment)
    assert grid is not None
    assert len(grid.rows) == 2 * len(factory.TRAINED)
    first, last = grid.rows[:2]
    points = experiment["curves"][first[0].text]
    assert [first[1].text, last[1].text] == ["0", str(points[-1]["step"])]
    for cells, point in ((first, points[0]), (last, points[-1])):
        for place, anchor in enumerate(experiment["anchors"]):
            reply, token = cells[2 + 2 * place], cells[3 + 2 * place]
            assert reply.value == point["kl"][anchor]["k1"]
            assert token.value == point["kl"][anchor]["k1_token"]
            assert f"({point['kl'][anchor]['k3_token']:.3f})" in token.interval


def test_what_was_not_measured_is_missing_and_without_curves_there_is_no_table() -> None:
    experiment = factory.experiment()
    for points in experiment["curves"].values():
        points[0]["kl"] = {}
    grid = along_training(experiment)
    assert grid is not None
    assert {cell.text for cell in grid.rows[0][2:]} == {"missing"}
    experiment["curves"] = {}
    assert along_training(experiment) is None
