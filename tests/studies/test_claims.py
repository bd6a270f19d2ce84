"""The paper's claims beside what is found."""

from dataclasses import replace

import numpy as np
import pytest

from salsa.evaluation.study.verdict import Verdict
from salsa.studies.claims import Claim, compared
from salsa.studies.comparison import comparison
from salsa.studies.frontier import frontier
from tests.studies.test_comparison import SETTINGS, evidence
from tests.studies.test_frontier import SETTINGS as FRONT
from tests.studies.test_frontier import models

MAIN = Verdict("A beats B", "first")
ANSWERED = {("A", "B"): MAIN, ("A", "C"): Verdict("nobody knows of A and C", None)}


@pytest.mark.parametrize(
    ("claim", "here", "holds"),
    [
        (Claim("", main=True), "A beats B", True),
        (Claim("", [("A", "B")]), "A beats B", True),
        (Claim("", [("B", "A")]), "A beats B", False),
        (Claim("", [("A", "C")]), "nobody knows of A and C", None),
        (Claim("", [("C", "A")]), "nobody knows of A and C", None),
        (Claim("", [("A", "B"), ("A", "C")]), "A beats B; nobody knows of A and C", None),
        (Claim("", [("B", "A"), ("A", "C")]), "A beats B; nobody knows of A and C", False),
        (Claim("said of what is not asked here"), None, None),
    ],
)
def test_a_claim_holds_where_the_data_say_so(claim: Claim, here: str | None, holds: bool | None) -> None:
    assert compared([claim], MAIN, ANSWERED) == [{"claim": claim.claim, "here": here, "holds": holds}]


def test_pairs_that_only_the_paper_names_are_asked_and_corrected_together() -> None:
    claims = [Claim("one", [("SFT1", "PPO")]), Claim("two", [("PPO", "SALSA")]), Claim("three", [("SFT1", "SALSA")])]
    settings = replace(SETTINGS, claims=claims)
    found = comparison(evidence({"SALSA": 1.0, "SFT1": -1.0}), settings)
    sentences = [each["sentence"] for each in found["verdicts"]]
    only = [each for each in sentences if "SFT1" in each]
    assert [each.split(" on ")[0] for each in only] == ["PPO beats SFT1", "SALSA beats SFT1"]
    assert all("Holm's correction for 2" in each for each in only)
    assert [claim["holds"] for claim in found["claims"]] == [False, False, False]
    assert found["claims"][0]["here"] in sentences


def test_a_claim_about_the_main_question_has_the_cells_beside_it() -> None:
    settings = replace(SETTINGS, claims=[Claim("all nine", main=True)])
    (claim,) = comparison(evidence({"SALSA": 1.0}, families=("llama2", "gemma")), settings)["claims"]
    assert claim["holds"] is True
    assert claim["here"].endswith("; 4 of 4 cells (families x suites) are above 50 %, 4 with the whole interval")


@pytest.mark.parametrize(("tokens", "holds"), [(1.0, True), (6.0, False)])
def test_that_replies_die_out_is_more_than_that_they_get_shorter(tokens: float, holds: bool) -> None:
    rng = np.random.default_rng(0)

    def length(coefficient: float | None) -> float:
        return 9.0 if coefficient == 0.1 else tokens + 0.1 * rng.random()

    made = [
        replace(each, points=[replace(point, length=length(each.coefficient)) for point in each.points])
        for each in models(lambda arm, d, r: d)
    ]
    settings = replace(FRONT, about="length", claims=[Claim("to zero", main=True)])
    found = frontier(made, settings)
    assert found["verdicts"][0]["sentence"].startswith("The replies of SALSA get shorter")
    assert found["claims"][0]["holds"] is holds
    assert found["claims"][0]["here"].startswith("At a coefficient of 0.4 the replies of SALSA have")
