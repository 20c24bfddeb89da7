"""The morphology of blood cells: what a haematologist looks at, in numbers.

Sizes are those of cells on a dried film. Sizes and features are guided by B. J. Bain, *Blood Cells: A
Practical Guide*; the amounts of dye were set by eye, and against the mean colour of nucleus and cytoplasm in
public collections of stained cells.
"""

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Morphology:
    """What a haematologist would say of a kind of cell. Every pair is a range to draw from.

    Parameters
    ----------
    diameter
        Of the cell, in micrometres.
    lobes
        Fewest and most lobes of the nucleus (0: no nucleus).
    lobe
        Radius of a lobe, as a share of the cell's radius.
    arc
        Angle over which the lobes lie, in degrees.
    ring
        Radius of that arc, as a share of the cell's radius.
    bridge
        Half the width of the bridge between two lobes, as a share of a lobe's radius.
    eccentric
        Distance of the nucleus from the cell's centre, as a share of the room it has.
    ruffle
        Typical unevenness of the cell's edge, in micrometres.
    fold
        Typical unevenness of the nucleus' edge, in micrometres.
    chromatin
        Purple dye of the nucleus.
    clumps
        Contrast of the chromatin, 0 (smooth) to 1 (clumped).
    clump_size
        Size of the clumps, in micrometres.
    nucleoli
        Fewest and most nucleoli.
    purple, blue, pink
        Dye of the cytoplasm: fine azurophil dust, RNA, protein.
    granules
        Share of the cytoplasm covered by granules.
    granule_size
        Radius of a granule, in micrometres.
    granule_dye
        Purple, blue and pink dye of a granule.
    granules_over_nucleus
        Whether granules also hide the nucleus.
    vacuoles
        Fewest and most vacuoles.
    """

    diameter: Range
    lobes: tuple[int, int] = (1, 1)
    lobe: Range = (0.7, 0.8)
    arc: Range = (0, 0)
    ring: Range = (0, 0)
    bridge: Range = (1, 1)
    eccentric: Range = (0, 0.8)
    ruffle: float = 0.15
    fold: float = 0.15
    chromatin: Range = (1.0, 1.2)
    clumps: float = 0.3
    clump_size: float = 0.45
    nucleoli: tuple[int, int] = (0, 0)
    purple: Range = (0.05, 0.15)
    blue: Range = (0.1, 0.2)
    pink: Range = (0.0, 0.05)
    granules: Range = (0, 0)
    granule_size: float = 0.25
    granule_dye: tuple[float, float, float] = (0.5, 0, 0)
    granules_over_nucleus: bool = False
    vacuoles: tuple[int, int] = (0, 0)


MORPHOLOGIES: dict[str, Morphology] = {
    "segmented_neutrophil": Morphology(
        diameter=(11, 15),
        lobes=(3, 5),
        lobe=(0.28, 0.35),
        arc=(170, 280),
        ring=(0.42, 0.54),
        bridge=(0.12, 0.4),
        fold=0.3,
        chromatin=(1.05, 1.3),
        clumps=0.38,
        purple=(0.0, 0.10),
        blue=(0.02, 0.10),
        pink=(0.10, 0.25),
        granules=(0.15, 0.4),
        granule_size=0.2,
        granule_dye=(0.15, 0, 0.08),
    ),
    "band_neutrophil": Morphology(
        diameter=(11, 15),
        lobes=(6, 7),
        lobe=(0.23, 0.29),
        arc=(170, 260),
        ring=(0.44, 0.54),
        bridge=(0.75, 1.0),
        fold=0.25,
        chromatin=(1.05, 1.3),
        clumps=0.38,
        purple=(0.0, 0.10),
        blue=(0.04, 0.12),
        pink=(0.10, 0.25),
        granules=(0.15, 0.4),
        granule_size=0.2,
        granule_dye=(0.15, 0, 0.08),
    ),
    "eosinophil": Morphology(
        diameter=(11.5, 16),
        lobes=(2, 3),
        lobe=(0.36, 0.44),
        arc=(105, 170),
        ring=(0.45, 0.55),
        bridge=(0.15, 0.5),
        eccentric=(0.3, 1),
        ruffle=0.25,
        fold=0.25,
        chromatin=(0.95, 1.2),
        clumps=0.32,
        purple=(0.0, 0.15),
        blue=(0.0, 0.15),
        pink=(0.12, 0.32),
        granules=(0.35, 0.7),
        granule_size=0.27,
        granule_dye=(0.05, 0, 0.5),
    ),
    "basophil": Morphology(
        diameter=(10.5, 13),
        lobes=(2, 3),
        lobe=(0.45, 0.55),
        arc=(90, 160),
        ring=(0.30, 0.42),
        bridge=(0.5, 0.9),
        ruffle=0.25,
        fold=0.3,
        chromatin=(0.7, 0.95),
        clumps=0.15,
        blue=(0.05, 0.2),
        pink=(0.05, 0.15),
        granules=(0.25, 0.6),
        granule_size=0.3,
        granule_dye=(0.9, 0.1, 0),
        granules_over_nucleus=True,
    ),
    "lymphocyte": Morphology(
        diameter=(7.5, 13.5),
        lobe=(0.74, 0.97),
        eccentric=(0, 1),
        ruffle=0.25,
        fold=0.2,
        chromatin=(0.95, 1.25),
        clumps=0.33,
        clump_size=0.5,
        purple=(0.03, 0.15),
        blue=(0.12, 0.4),
    ),
    "monocyte": Morphology(
        diameter=(13, 18.5),
        lobes=(3, 4),
        lobe=(0.42, 0.54),
        arc=(110, 230),
        ring=(0.26, 0.44),
        bridge=(0.75, 1.0),
        ruffle=0.5,
        fold=0.4,
        chromatin=(0.75, 1.05),
        clumps=0.36,
        clump_size=0.35,
        purple=(0.03, 0.12),
        blue=(0.12, 0.30),
        pink=(0.02, 0.1),
        granules=(0.1, 0.3),
        granule_size=0.2,
        granule_dye=(0.12, 0, 0.05),
        vacuoles=(0, 7),
    ),
    "metamyelocyte": Morphology(
        diameter=(12, 16),
        lobes=(3, 3),
        lobe=(0.40, 0.46),
        arc=(80, 130),
        ring=(0.38, 0.48),
        bridge=(0.85, 1.0),
        eccentric=(0.3, 1),
        fold=0.2,
        chromatin=(1.0, 1.2),
        clumps=0.38,
        blue=(0.06, 0.2),
        pink=(0.10, 0.25),
        granules=(0.2, 0.4),
        granule_size=0.22,
        granule_dye=(0.2, 0, 0.08),
    ),
    "myelocyte": Morphology(
        diameter=(12, 16.5),
        lobes=(2, 2),
        lobe=(0.54, 0.62),
        arc=(40, 80),
        ring=(0.15, 0.25),
        eccentric=(0.4, 1),
        chromatin=(0.95, 1.2),
        clumps=0.28,
        blue=(0.12, 0.3),
        pink=(0.06, 0.18),
        granules=(0.25, 0.45),
        granule_size=0.24,
        granule_dye=(0.3, 0, 0.08),
    ),
    "promyelocyte": Morphology(
        diameter=(14, 19),
        lobe=(0.68, 0.80),
        eccentric=(0.3, 1),
        ruffle=0.4,
        fold=0.3,
        chromatin=(0.85, 1.1),
        clumps=0.22,
        clump_size=0.35,
        nucleoli=(1, 3),
        purple=(0.08, 0.2),
        blue=(0.25, 0.5),
        pink=(0.0, 0.08),
        granules=(0.2, 0.45),
        granule_size=0.25,
        granule_dye=(0.45, 0, 0.05),
    ),
    "erythroblast": Morphology(
        diameter=(8, 12),
        lobe=(0.52, 0.72),
        fold=0.08,
        chromatin=(1.15, 1.5),
        clumps=0.35,
        clump_size=0.6,
        blue=(0.2, 0.5),
        pink=(0.10, 0.3),
    ),
    "platelet": Morphology(
        diameter=(2.5, 4.5),
        lobes=(0, 0),
        ruffle=0.25,
        blue=(0.1, 0.3),
        pink=(0.02, 0.08),
        purple=(0.1, 0.3),
        granules=(0.3, 0.6),
        granule_size=0.25,
        granule_dye=(0.4, 0, 0.05),
    ),
    "haematogone": Morphology(
        diameter=(8, 10.5),
        lobe=(0.88, 0.99),
        chromatin=(1.15, 1.4),
        clumps=0.12,
        clump_size=0.6,
        blue=(0.15, 0.35),
    ),
    "early_blast": Morphology(
        diameter=(11, 13),
        lobe=(0.86, 0.96),
        ruffle=0.3,
        fold=0.25,
        chromatin=(0.9, 1.1),
        clumps=0.18,
        clump_size=0.4,
        nucleoli=(0, 1),
        blue=(0.15, 0.35),
    ),
    "pre_blast": Morphology(
        diameter=(11, 16),
        lobe=(0.84, 0.95),
        ruffle=0.3,
        fold=0.3,
        chromatin=(0.75, 1.0),
        clumps=0.22,
        clump_size=0.4,
        nucleoli=(1, 3),
        purple=(0.1, 0.2),
        blue=(0.2, 0.4),
        vacuoles=(0, 2),
    ),
    "pro_blast": Morphology(
        diameter=(12, 15),
        lobes=(1, 2),
        lobe=(0.78, 0.90),
        arc=(60, 120),
        ring=(0.12, 0.2),
        ruffle=0.5,
        fold=0.4,
        chromatin=(0.55, 0.75),
        clumps=0.12,
        clump_size=0.35,
        nucleoli=(0, 2),
        purple=(0.2, 0.3),
        blue=(0.05, 0.12),
        pink=(0.1, 0.2),
    ),
}
"""Kinds of cell that can be drawn; the last four make up the leukaemia smears."""
