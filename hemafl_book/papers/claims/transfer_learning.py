"""The claims of the paper on leukaemia by transfer learning (World J. Adv. Research and Reviews 2024)."""

from collections.abc import Sequence
from dataclasses import replace

from hemafl_book.papers.claims.claim import Claim
from hemafl_book.papers.claims.evidence import Arithmetic, Less, Scores
from hemafl_book.papers.claims.rules import above, cannot_be_told, checked
from hemafl_book.papers.published import ALONE, COPIES, FEDERATED, f1_from_row, grim

RESULT = "all-transfer"
OVERLAP = 0.2 / 0.7
"""Every seed splits the same images anew: 20 % are tested, 70 % trained on."""

NETWORKS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""The networks of the result "all-networks"."""

MAIN, SKEWED = "three equal clients", "three clients of different classes"
COUNTS = (512, 979, 955, 796)
"""The images of each class as others count them, which add up to the paper's 3,242."""

PARTS = (9078, 2594, 1296)
"""The paper's training, test and validation images, after mirroring."""

BAR = 90.0
"""Networks above 90 % alone go on to the federation."""


def accuracy(arm: str, study: str = MAIN, result: str = RESULT) -> Scores:
    """Return an arm's accuracy on the test images."""
    return Scores(
        label=arm,
        result=result,
        table="scores",
        column="accuracy",
        rows={"study": study, "arm": arm, "where": "test"},
        overlap=OVERLAP,
    )


def of_networks(way: str, names: Sequence[str] = NETWORKS) -> list[Scores]:
    """Return the accuracies of several networks, trained in one place ("centralised") or by "FedAvg"."""
    return [accuracy(f"{way}: {name}", "networks", "all-networks") for name in names]


def gain(first: Scores, second: Scores) -> Less:
    """Return the first accuracy less the second."""
    return Less(label=f"{first.label} less {second.label}", first=first, second=second)


def of_copies(arm: str) -> Scores:
    """Return the accuracy of a network that was trained on some copies of the images."""
    return accuracy(arm, "copies", "all-networks")


def attainable(percentages: Sequence[float]) -> int:
    """Return how many of the printed accuracies some number of 2,594 images gives."""
    return int(grim([f"{value:g}" for value in percentages])["attainable"].sum())


def per_cent(images: Sequence[int]) -> float:
    """Return the first number in per cent of the sum of the others, to one decimal."""
    part, *parts = images
    return round(100 * part / sum(parts), 1)


FOREST = accuracy("colour alone, random forest")
ALL_ROWS = (*ALONE, *FEDERATED)

CLAIMS: Sequence[Claim] = (
    Claim(
        name="transfer-images",
        where="section 3.2",
        says="3,242 images in four mirrored copies are 12,968.",
        number="12,968",
        rule=checked,
        given={"values": (12_968,), "said": (12_968,)},
        evidence=[
            Arithmetic(
                label="the counts of the classes, four times",
                printed=COUNTS,
                compute=lambda n: COPIES * sum(n),
            )
        ],
        ours="the counts of the classes as others give them, which add up to 3,242; the public set has 3,256",
        anchor="transfer-data",
    ),
    Claim(
        name="transfer-split",
        where="section 3.3",
        says="They are split 70 : 20 : 10.",
        number="9,078, 2,594, 1,296",
        rule=checked,
        given={"values": (70, 20, 10, 12_968), "said": (70, 20, 10, 12_968)},
        evidence=[
            *(
                Arithmetic(
                    label=f"{part:,} images are, in per cent,", printed=(part, *PARTS), compute=per_cent
                )
                for part in PARTS
            ),
            Arithmetic(label="the three parts together", printed=PARTS, compute=sum),
        ],
        ours="the counts; the paper's sentence gives 70 % to the test and 10 % to training; mirrored before "
        "the split, so that copies lie on both sides",
        anchor="transfer-leakage",
    ),
    Claim(
        name="transfer-balanced",
        where="abstract",
        says="Mirroring deals with the imbalance of the classes.",
        number="none",
        rule=checked,
        given={"values": (1.91,), "said": (1.0,)},
        evidence=[
            Arithmetic(
                label="largest class to smallest after mirroring",
                printed=COUNTS,
                compute=lambda n: round(max(n) / min(n), 2),
            )
        ],
        ours="every class is multiplied by four, so that the ratio stays what it was; section 3.2 says "
        "'alleviated', for which less than 1.91 would do",
        anchor="transfer-imbalance",
    ),
    Claim(
        name="transfer-copies",
        where="section 3.2",
        says="A model trained on mirrored copies is more robust, read as more often right.",
        number="none",
        rule=above,
        evidence=[gain(of_copies("four flips"), of_copies("no copies, as many steps"))],
        beside=[of_copies("four flips"), FOREST],
        ours="flips against none, as many optimiser steps, judged on unchanged images, so that robustness "
        "itself was not tried; the last layer of EfficientNet-Lite0 at 96 pixels",
        anchor="transfer-copies",
    ),
    Claim(
        name="transfer-ten-networks",
        where="table 1",
        says="Ten networks alone reach 85 to 92 %.",
        number="85.42 to 92.42 %",
        rule=cannot_be_told,
        given={"reason": "weights"},
        beside=[*of_networks("centralised"), FOREST],
        ours="the last layers of three networks whose weights we have, chosen by validation images",
        anchor="transfer-networks",
    ),
    Claim(
        name="transfer-inception-best",
        where="table 1",
        says="InceptionV3 is the best of the ten.",
        number="92.42 %",
        rule=cannot_be_told,
        given={"reason": "weights"},
        beside=of_networks("centralised", ("chosen by validation",)),
        ours="chosen among ten by the test set; here one of three is chosen by validation images",
        anchor="transfer-networks",
    ),
    Claim(
        name="transfer-bar",
        where="section 4.1",
        says="Three networks are above 90 % and go on to the federation.",
        number="3",
        rule=checked,
        given={"values": (3,), "said": (3,)},
        evidence=[
            Arithmetic(
                label="accuracies of table 1 above 90 %",
                printed=tuple(float(row.accuracy) for row in ALONE),
                compute=lambda values: sum(value > BAR for value in values),
            )
        ],
        ours="counted in the paper's table",
        anchor="transfer-budget",
    ),
    Claim(
        name="transfer-federated",
        where="table 2",
        says="Federated, three networks reach 93 to 95 %.",
        number="93.21 to 95.49 %",
        rule=cannot_be_told,
        given={"reason": "weights"},
        beside=[*of_networks("FedAvg", (*NETWORKS, "ensemble")), FOREST],
        ours="the last layers of three other networks, split before mirroring and without privacy",
        anchor="transfer-networks",
    ),
    Claim(
        name="transfer-federated-better",
        where="conclusion",
        says="Federated training is significantly better than centralised.",
        number="95.49 % against 92.42 %",
        rule=above,
        evidence=[
            Less(label="FedAvg less centralised", first=accuracy("FedAvg"), second=accuracy("centralised"))
        ],
        beside=[
            *(
                gain(federated, alone)
                for federated, alone in zip(of_networks("FedAvg"), of_networks("centralised"), strict=True)
            ),
            FOREST,
        ],
        ours="the last layer of EfficientNet-Lite0, equal passes over the same images, five seeds of split; "
        "a gain of more than 0.15 points is excluded for this network, which is none of the paper's, and "
        "which in one place is so often right that it could not gain the paper's three points",
        anchor="transfer-budget",
    ),
    Claim(
        name="transfer-auc",
        where="section 4.2",
        says="The ROC curve of two classes has an area of 0.97.",
        number="0.97",
        rule=cannot_be_told,
        given={"reason": "not described"},
        ours="there are four classes, and which average is meant is not said",
        anchor="transfer-auc",
    ),
    Claim(
        name="transfer-confusion",
        where="figure 5",
        says="389 benign and 758 early images are named rightly, and 19 pre are taken for pro.",
        number="389, 758, 19",
        rule=cannot_be_told,
        given={"reason": "weights"},
        ours="the confusion matrix of another network",
        anchor="transfer-frozen",
    ),
    Claim(
        name="transfer-folds",
        where="figure 7",
        says="Five folds vary little.",
        number="95.13 to 98.15 %",
        rule=cannot_be_told,
        given={"reason": "weights"},
        ours="five folds of another network, without copies in two folds",
        anchor="transfer-folds",
    ),
    Claim(
        name="transfer-attainable",
        where="tables 1 and 2",
        says="Thirteen accuracies were measured on 2,594 test images.",
        number="13 accuracies",
        rule=checked,
        given={"values": (4,), "said": (13,)},
        evidence=[
            Arithmetic(
                label="of the 13, a number of 2,594 images gives",
                printed=tuple(float(row.accuracy) for row in ALL_ROWS),
                compute=attainable,
            )
        ],
        ours="a whole number over 2,594, to two decimals; 5, if 91.8 was meant to one; a mean over runs need "
        "be none",
        anchor="transfer-grim",
    ),
    Claim(
        name="transfer-f1",
        where="tables 1 and 2",
        says="The tables give the F1 of each network.",
        number="13 values",
        rule=checked,
        given={"values": (13,), "said": (13,)},
        evidence=[
            Arithmetic(
                label="rows whose F1 is the harmonic mean of precision and recall, as printed",
                printed=ALL_ROWS,
                compute=lambda rows: f1_from_row(rows)["is the harmonic mean"].sum(),
            )
        ],
        beside=[
            Arithmetic(
                label="rows whose F1 is their plain mean",
                printed=ALL_ROWS,
                compute=lambda rows: f1_from_row(rows)["is the mean"].sum(),
            )
        ],
        ours="the harmonic mean defines F1, and the plain one fits as well: three rows have one decimal, "
        "and for two of them, with a second, 0, only the plain one would; a mean of classes' F1 need be "
        "neither",
        anchor="transfer-grim",
    ),
    Claim(
        name="transfer-privacy",
        where="abstract and conclusion",
        says="Differential privacy protects the patients.",
        number="no epsilon",
        rule=cannot_be_told,
        given={"reason": "undefined"},
        ours="neither epsilon nor delta, clip, noise or unit is named; measured are the prices of one clip "
        "and of seven noises, for images and for clients, at one delta",
        anchor="transfer-price",
    ),
    Claim(
        name="transfer-mixing",
        where="section 3.5",
        says="The server averages what clients send with its current weights.",
        number="none",
        rule=cannot_be_told,
        given={"reason": "not described"},
        beside=[
            replace(
                gain(accuracy("server keeps 0.5", study), accuracy("FedAvg", study)),
                label=f"{study}: server keeps 0.5 less FedAvg",
            )
            for study in (MAIN, SKEWED)
        ],
        ours="by how much is not said, nor what it is good for; a server that keeps a share is tried",
        anchor="transfer-mixing",
    ),
    Claim(
        name="transfer-related-work",
        where="related work",
        says="The accuracy is higher than that of Ullah et al., and competitive with others'.",
        number="91.1 to 99.73 %",
        rule=cannot_be_told,
        given={"reason": "other tasks"},
        ours="of the six papers whose figures it prints, four have higher ones than its own",
        anchor="transfer-public",
    ),
    Claim(
        name="transfer-generalises",
        where="abstract",
        says="It generalises over different data sets.",
        number="none",
        rule=cannot_be_told,
        given={"reason": "not described"},
        ours="the paper uses one set of images, as this chapter does",
        anchor="transfer-data",
    ),
)
