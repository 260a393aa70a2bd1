"""RDKit as the judge of SMILES (the extra `science`), and figures of a whole set of them.

    verdicts = [judge(smiles) for smiles in generated]
    quality(verdicts, training)["valid"]

`quality` and `distance` need no RDKit: they also work on recorded verdicts.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from scipy.stats import wasserstein_distance

from course_lib.common.checks import require


class Verdict(NamedTuple):
    """What RDKit says of a SMILES.

    smiles: in RDKit's own form if it is a molecule, else as it came. problem: "" for a molecule,
    else "empty", "syntax" (a bracket or a ring left open), "valence" (too many bonds at an atom)
    or "aromaticity" (no way to place the double bonds of small letters).
    logp, qed, weight: Crippen's logP, drug-likeness in [0, 1] (Bickerton et al. 2012), and g/mol.
    """

    smiles: str
    problem: str
    logp: float = 0.0
    qed: float = 0.0
    weight: float = 0.0


def judge(smiles: str) -> Verdict:
    """RDKit's verdict on one SMILES. ImportError without RDKit: `pip install -e ".[science]"`.

    >>> judge("OCC").smiles, judge("CC(").problem, judge("F(C)C").problem, judge("c1cccc1").problem
    ('CCO', 'syntax', 'valence', 'aromaticity')
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import QED, Crippen, Descriptors

    with rdBase.BlockLogs():
        parsed, mol = Chem.MolFromSmiles(smiles, sanitize=False), Chem.MolFromSmiles(smiles)
        if not smiles or parsed is None:
            return Verdict(smiles, "syntax" if smiles else "empty")
        if mol is None:
            kinds = [problem.GetType() for problem in Chem.DetectChemistryProblems(parsed)]
            valence = "AtomValenceException" in kinds[:1]
            return Verdict(smiles, "valence" if valence else "aromaticity")
        canonical = Chem.MolToSmiles(mol)
        return Verdict(canonical, "", Crippen.MolLogP(mol), QED.qed(mol), Descriptors.MolWt(mol))


def drawing(smiles: str) -> dict[str, list]:
    """Where a molecule's atoms lie in the plane, and its bonds: what a figure needs, as lists.

    atoms: [symbol, x, y], with hydrogens on N, O and S written out; bonds: [i, j, order], where
    1.5 is aromatic.

    >>> drawing("CO")["bonds"]
    [[0, 1, 1.0]]
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = Chem.MolFromSmiles(smiles)
    rdDepictor.Compute2DCoords(mol)
    places = mol.GetConformer().GetPositions()
    names = [written(atom.GetSymbol(), atom.GetTotalNumHs()) for atom in mol.GetAtoms()]
    atoms = [
        [name, round(float(x), 2), round(float(y), 2)]
        for name, (x, y, _) in zip(names, places, strict=True)
    ]
    bonds = [
        [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble()]
        for bond in mol.GetBonds()
    ]
    return {"atoms": atoms, "bonds": bonds}


def written(symbol: str, hydrogens: int) -> str:
    """An atom's label: carbon has none.

    >>> written("C", 3), written("N", 2), written("O", 1)
    ('', 'NH2', 'OH')
    """
    if symbol == "C":
        return ""
    return symbol + ("H" if hydrogens else "") + (str(hydrogens) if hydrogens > 1 else "")


def quality(verdicts: Sequence[Verdict], training: Collection[str]) -> dict[str, float]:
    """Shares: valid of all; unique of the valid; novel (not in the training set) of the unique.

    >>> quality([judge("CO"), judge("OC"), judge("C(")], {"CO"})
    {'valid': 0.6666666666666666, 'unique': 0.5, 'novel': 0.0}
    """
    require(len(verdicts) > 0, "verdicts", "at least one", "none")
    valid = [verdict.smiles for verdict in verdicts if not verdict.problem]
    different = set(valid)
    return {
        "valid": len(valid) / len(verdicts),
        "unique": len(different) / max(len(valid), 1),
        "novel": len(different - set(training)) / max(len(different), 1),
    }


def distance(verdicts: Sequence[Verdict], others: Sequence[Verdict], name: str) -> float:
    """How far a property of one set must be moved to become the other's, on average, in its unit.

    The Wasserstein distance between the valid ones' "logp", "qed" or "weight".

    >>> distance([judge("CO")], [judge("CCO")], "weight")  # a CH2 more
    14.027
    """
    sets = [[getattr(v, name) for v in each if not v.problem] for each in (verdicts, others)]
    require(all(sets), "verdicts", "a valid molecule in each set", [len(each) for each in sets])
    return round(float(wasserstein_distance(*sets)), 6)
