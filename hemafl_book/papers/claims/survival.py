"""The claims of the paper on survival and sickle cell disease (Carota et al. 2026)."""

from collections.abc import Sequence

from hemafl_book.papers.claims.claim import Claim
from hemafl_book.papers.claims.evidence import Less, Mean, Scores
from hemafl_book.papers.claims.rules import above, cannot_be_told, one_above, within

RESULT = "mds-survival"
OVERLAP = 0.3 / 0.7
"""Every seed splits the same patients anew: 30 % are tested, 70 % trained on."""

MARGIN = 0.01
"""What counts as close, in C: a seventh of what separates IPSS-M from IPSS-R (0.81 and 0.74)."""

SITES = ("site-1", "site-2", "site-3")
"""The hospitals of the registry, from the largest to the smallest."""

OTHERS = ("FedAvg, equal weights", "FedMedian", "FedProx")


def c_index(arm: str) -> Scores:
    """Return an arm's C on the test patients of all hospitals of the registry."""
    return Scores(
        label=arm,
        result=RESULT,
        table="registry: scores",
        column="C",
        rows={"arm": arm, "where": "joint"},
        overlap=OVERLAP,
    )


def gain(site: str) -> Less:
    """Return what FedAvg gains over a hospital's own model, on the patients of all."""
    return Less(
        label=f"FedAvg less {site} alone", first=c_index("FedAvg"), second=c_index(f"isolated: {site}")
    )


AGE_AND_SEX = c_index("age and sex")
REGISTRY = "2,811 patients of a public registry in thirds of unequal size, five seeds"

CLAIMS: Sequence[Claim] = (
    Claim(
        name="survival-deepsurv",
        where="abstract",
        says="DeepSurv predicts the survival of patients with MDS.",
        number="a C-index that is not given",
        rule=cannot_be_told,
        given={"reason": "not given"},
        beside=[c_index("FedAvg"), AGE_AND_SEX],
        ours=REGISTRY,
        anchor="survival-frozen",
    ),
    Claim(
        name="survival-federated-isolated",
        where="abstract",
        says="In MDS, federated training is in general better than isolated.",
        number="better",
        rule=above,
        evidence=[
            Less(
                label="FedAvg less the mean of the hospitals alone",
                first=c_index("FedAvg"),
                second=Mean(label="alone", of=[c_index(f"isolated: {site}") for site in SITES]),
            )
        ],
        beside=[AGE_AND_SEX, *(gain(site) for site in SITES)],
        ours=f"the mean over hospitals; {REGISTRY}",
        anchor="survival-gain",
    ),
    Claim(
        name="survival-small-gain",
        where="abstract",
        says="In MDS, the clients with fewest patients gain most.",
        number="none",
        rule=above,
        evidence=[
            Less(
                label=f"gain of site-3 less gain of {site}",
                first=c_index(f"isolated: {site}"),
                second=c_index("isolated: site-3"),
            )
            for site in SITES[:2]
        ],
        beside=[AGE_AND_SEX, *(gain(site) for site in SITES)],
        ours=f"part of the gain is shrinkage; {REGISTRY}",
        anchor="survival-gain",
    ),
    Claim(
        name="survival-close",
        where="abstract",
        says="In MDS, federated training comes close to centralised.",
        number="close",
        rule=within,
        given={"low": -MARGIN, "high": MARGIN},
        evidence=[
            Less(label="FedAvg less centralised", first=c_index("FedAvg"), second=c_index("centralised"))
        ],
        beside=[AGE_AND_SEX],
        ours=f"within {MARGIN} of C; {REGISTRY}",
        anchor="survival-equivalence",
    ),
    Claim(
        name="survival-aggregations",
        where="abstract",
        says="Other ways to aggregate can improve the result.",
        number="could",
        rule=one_above,
        evidence=[
            Less(label=f"{arm} less FedAvg", first=c_index(arm), second=c_index("FedAvg")) for arm in OTHERS
        ],
        beside=[AGE_AND_SEX],
        ours=REGISTRY,
        anchor="survival-frozen",
    ),
    Claim(
        name="survival-infarct",
        where="abstract",
        says="A logistic regression predicts silent infarcts in 65 patients.",
        number="an F1 that is not given",
        rule=cannot_be_told,
        given={"reason": "simulated"},
        ours="twenty cohorts of 65 simulated children, where no model beats saying yes to all",
        anchor="survival-sickle",
    ),
    Claim(
        name="survival-infarct-federated",
        where="abstract",
        says="In sickle cell disease, federated training is better than isolated.",
        number="better",
        rule=cannot_be_told,
        given={"reason": "simulated"},
        ours="simulated children, all F1 below that of saying yes to all",
        anchor="survival-small",
    ),
    Claim(
        name="survival-infarct-close",
        where="abstract",
        says="In sickle cell disease, federated training comes close to centralised.",
        number="close",
        rule=cannot_be_told,
        given={"reason": "simulated"},
        ours="simulated children",
        anchor="survival-small",
    ),
    Claim(
        name="survival-emergence",
        where="abstract",
        says="What is predicted is that an infarct emerges.",
        number="none",
        rule=cannot_be_told,
        given={"reason": "not described"},
        ours="presence and emergence are different outcomes; which was predicted is not said",
        anchor="survival-emergence",
    ),
    Claim(
        name="survival-platform",
        where="abstract",
        says="A simulation and a real platform give comparable numbers.",
        number="comparable",
        rule=cannot_be_told,
        given={"reason": "not measured"},
        ours="equal to the bit in a live cell, for other patients and programs on one machine",
        anchor="survival-engines",
    ),
)
