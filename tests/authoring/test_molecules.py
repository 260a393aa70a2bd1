"""How the shipped molecules were put together, and that the script makes them again."""

import random
from itertools import islice

import pytest
from rdkit import Chem

from course_lib.authoring.molecules import (
    GROUPS,
    LINKS,
    RINGS,
    acceptable,
    assemble,
    distinct,
    join,
    learn_tokens,
    site,
)
from course_lib.datasets.molecules import TOKENS, molecules
from course_lib.evaluation.molecules import judge


def mol(smiles):
    return Chem.MolFromSmiles(smiles)


def test_the_script_makes_the_shipped_molecules_again():
    smiles, properties = molecules()
    for verdict, shipped, numbers in zip(
        islice(distinct(), 200), smiles[:200], properties[:200].tolist(), strict=True
    ):
        assert verdict.smiles == shipped
        # the properties are stored with 2, 3 and 1 digits
        assert [verdict.logp, verdict.qed, verdict.weight] == [
            pytest.approx(numbers[0], abs=0.0051),
            pytest.approx(numbers[1], abs=0.00051),
            pytest.approx(numbers[2], abs=0.051),
        ]


def test_the_script_learns_the_shipped_tokens_again():
    assert learn_tokens(molecules("train")[0], len(TOKENS) - 1) == TOKENS[1:]


def test_joining_takes_a_hydrogen_from_each_side():
    assert Chem.MolToSmiles(join(mol("c1cc[nH]c1"), 3, mol("C"), 0)) == "Cn1cccc1"
    both = join(mol("C"), 0, mol("O"), 0)
    assert Chem.MolToSmiles(both) == "CO" and both.GetNumAtoms() == 2
    with pytest.raises(Chem.AtomValenceException):
        join(mol("C(F)(F)(F)F"), 0, mol("C"), 0)


@pytest.mark.parametrize("parts", [RINGS, [s for s, _ in LINKS if s], GROUPS])
def test_every_part_is_a_molecule_of_its_own(parts):
    assert all(judge(part).problem == "" for part in parts)


def test_a_site_is_a_ring_atom_with_a_hydrogen():
    chance, toluene = random.Random(0), mol("Cc1ccc[nH]1")
    atoms = {site(toluene, chance) for _ in range(100)}
    assert atoms == {2, 3, 4, 5}  # neither the methyl group nor the carbon that bears it


@pytest.mark.parametrize(
    ("smiles", "fine"),
    [
        ("Cc1ccc(C(N)=O)cc1Cl", True),
        ("CO", False),  # too light
        ("C1CCN(NC2CCCCC2)CC1", False),  # nitrogen on nitrogen
        ("NC(C)(O)c1ccccc1C", False),  # falls apart into a ketone
        ("c1ccc(S(=O)(=O)NC2CCCCC2)cc1", True),
        ("C[Si](C)(C)c1ccc(C)cc1C", False),  # no token for silicon
    ],
)
def test_what_is_left_out(smiles, fine):
    assert acceptable(mol(smiles)) == fine


def test_random_assemblies_are_whole_molecules():
    chance, made = random.Random(1), 0
    for _ in range(50):
        try:
            molecule = assemble(chance)
        except (IndexError, Chem.AtomValenceException):
            continue
        made += 1
        assert "." not in Chem.MolToSmiles(molecule)
    assert made > 40
