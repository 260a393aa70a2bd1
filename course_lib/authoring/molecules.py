"""`python -m course_lib.authoring.molecules`: put together the molecules of chapter 15a.

Rings, links and groups that stand in any organic chemistry textbook are joined at random by
RDKit. No list of molecules is read, so nobody else has rights in the result. Whether such a
molecule could be made, or is of any use, nobody has checked: "drug-like" means size and kind.
"""

import gzip
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from rdkit import Chem
from rdkit.Chem import Descriptors

from course_lib.common.files import make_folder, write_files
from course_lib.datasets.molecules import FILE, TOKENS_FILE, molecules
from course_lib.evaluation.molecules import Verdict, judge

COUNT, LONGEST = 40_000, 31  # molecules, and the atoms, bonds, brackets and digits of each
ATOM = re.compile(r"\[[^\]]*\]|Cl|Br|.")
ALPHABET = [*"CcNnOoSsF", "Cl", "Br", "[nH]", *"()=#-1234"]
TOKENS = 128
WEIGHTS = 140, 360  # g/mol
RINGS = [  # benzene more often than the others, as in drugs
    *["c1ccccc1"] * 5,
    *("c1ccncc1", "c1cncnc1", "c1cnccn1", "c1ccoc1", "c1ccsc1", "c1cscn1", "c1cocn1"),
    *("c1cc[nH]c1", "c1cn[nH]c1", "c1c[nH]cn1", "c1cnoc1", "c1ccc2ccccc2c1", "c1ccc2[nH]ccc2c1"),
    *("c1ccc2ncccc2c1", "c1ccc2scnc2c1", "c1ccc2[nH]cnc2c1", "c1ccc2c(c1)OCO2"),
    *("C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "C1CCNCC1", "C1CNCCN1", "C1COCCN1", "C1CCNC1"),
    *("C1CCOCC1", "C1CCOC1", "C1CNC1", "O=C1CCCN1", "C1CSCCN1"),
]
LINKS = [  # joined by its first atom, and by the one with that index
    *(("", 0), ("C", 0), ("CC", 1), ("O", 0), ("N", 0), ("OC", 1), ("CO", 1), ("NC", 1)),
    *(("CN", 1), ("C(=O)", 0), ("C(=O)N", 2), ("NC(=O)", 1), ("NC(=O)N", 3), ("CNC(=O)", 2)),
    *(("S(=O)(=O)", 0), ("S(=O)(=O)N", 3), ("C(=O)NC", 3), ("OCC", 2), ("SC", 1), ("C=C", 1)),
]
GROUPS = [  # joined by the first atom
    *("C", "C", "C", "CC", "C(C)C", "F", "F", "Cl", "Cl", "Br", "O", "OC", "OC", "N", "NC"),
    *("N(C)C", "C#N", "C(F)(F)F", "C(=O)O", "C(=O)N", "C(=O)C", "C(=O)OC", "CO", "OC(C)C"),
    *("NC(=O)C", "S(=O)(=O)C", "S(=O)(=O)N", "CN(C)C", "C#C", "SC"),
]
UNSTABLE = [  # what falls apart in water, or is never made on purpose
    *(
        "[N,n,O,o,S,s;!$(S(=O)=O)]-[N,n,O,o,S,s;!$(S(=O)=O)]",
        "[!R;N,O,S;!$(S(=O)=O)]-[CX4]-[N,O,S]",
    ),
    *("[F,Cl,Br]-[!c;!$(C(F)(F)F)]", "[#7]-C(=O)O[H]", "[NX3H,OX2H]-C=C"),
]
PATTERNS = [Chem.MolFromSmarts(pattern) for pattern in UNSTABLE]


def join(a: Chem.Mol, i: int, b: Chem.Mol, j: int) -> Chem.Mol:
    """One molecule, with a single bond from atom i of a to atom j of b, which lose a hydrogen each.

    >>> benzene, methane = Chem.MolFromSmiles("c1ccccc1"), Chem.MolFromSmiles("C")
    >>> Chem.MolToSmiles(join(benzene, 0, methane, 0))
    'Cc1ccccc1'
    """
    both = Chem.RWMol(Chem.CombineMols(a, b))
    ends = i, a.GetNumAtoms() + j
    both.AddBond(*ends, Chem.BondType.SINGLE)
    for end in ends:
        both.GetAtomWithIdx(end).SetNumExplicitHs(0)  # the one of [nH]
    Chem.SanitizeMol(both)
    return both.GetMol()


def site(mol: Chem.Mol, chance: random.Random) -> int:
    """A random atom of a ring that has a hydrogen to give."""
    atoms = [atom for atom in mol.GetAtoms() if atom.IsInRing() and atom.GetTotalNumHs()]
    return chance.choice(atoms).GetIdx()


def ring(chance: random.Random) -> Chem.Mol:
    return Chem.MolFromSmiles(chance.choice(RINGS))


def assemble(chance: random.Random) -> Chem.Mol:
    """One to three rings with links between them, and up to three groups."""
    mol = ring(chance)
    for _ in range(chance.choice([0, 1, 1, 1, 2])):
        link, end = chance.choice(LINKS)
        last = site(mol, chance)
        if link:
            start = mol.GetNumAtoms()
            mol, last = join(mol, last, Chem.MolFromSmiles(link), 0), start + end
        more = ring(chance)
        mol = join(mol, last, more, site(more, chance))
    for _ in range(chance.choice([0, 1, 1, 2, 2, 3])):
        mol = join(mol, site(mol, chance), Chem.MolFromSmiles(chance.choice(GROUPS)), 0)
    return mol


def acceptable(mol: Chem.Mol) -> bool:
    """Of the right weight, length and alphabet, and without an unstable pattern."""
    letters = ATOM.findall(Chem.MolToSmiles(mol))
    return (
        WEIGHTS[0] <= Descriptors.MolWt(mol) <= WEIGHTS[1]
        and len(letters) <= LONGEST
        and set(letters) <= set(ALPHABET)
        and not any(mol.HasSubstructMatch(pattern) for pattern in PATTERNS)
    )


def distinct(seed: int = 0) -> Iterator[Verdict]:
    """Acceptable molecules without end, each of them once."""
    chance, seen = random.Random(seed), set()
    while True:
        try:
            mol = assemble(chance)
        except (IndexError, Chem.AtomValenceException):  # no hydrogen was left to give
            continue
        verdict = judge(Chem.MolToSmiles(mol)) if acceptable(mol) else None
        if verdict and not verdict.problem and verdict.smiles not in seen:
            seen.add(verdict.smiles)
            yield verdict


def learn_tokens(smiles: Sequence[str], count: int) -> list[str]:
    """The alphabet, and the pairs of tokens that are neighbours most often (Sennrich et al. 2016).

    >>> learn_tokens(["CCO", "CCN", "CCOC"], 5)
    ['C', 'N', 'O', 'CC', 'CCO']
    """
    rows = [ATOM.findall(each) for each in smiles]
    tokens = sorted({token for row in rows for token in row})
    while len(tokens) < count:
        pairs = Counter(pair for row in rows for pair in pairwise(row))
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        tokens.append("".join(best))
        rows = [joined(row, best) for row in rows]
    return tokens


def joined(row: list[str], pair: tuple[str, str]) -> list[str]:
    """The row with that pair made one token, wherever it stands.

    >>> joined(["C", "C", "C", "O"], ("C", "C"))
    ['CC', 'C', 'O']
    """
    new: list[str] = []
    for token in row:
        if new and (new[-1], token) == pair:
            new[-1] += token
        else:
            new.append(token)
    return new


def main(count: int = COUNT) -> None:
    found = zip(range(count), distinct(), strict=False)
    rows = [f"{v.smiles}\t{v.logp:.2f}\t{v.qed:.3f}\t{v.weight:.1f}\n" for _, v in found]
    make_folder(FILE.parent)
    write_files({FILE: gzip.compress("".join(rows).encode(), mtime=0)})
    print(f"{len(rows)} molecules, {FILE.stat().st_size:,} bytes")
    tokens = learn_tokens(molecules("train")[0], TOKENS)
    write_files({TOKENS_FILE: "\n".join([*tokens, ""]).encode()})


if __name__ == "__main__":
    main()
