"""RDKit's verdicts, and what is made of a whole set of them."""

import pytest

from course_lib.evaluation.molecules import Verdict, distance, drawing, judge, quality


@pytest.mark.parametrize(
    ("smiles", "problem"),
    [
        ("c1ccccc1O", ""),
        ("", "empty"),
        ("CC(C", "syntax"),
        ("C1CC", "syntax"),
        ("C)C", "syntax"),
        ("C(C)(C)(C)(C)C", "valence"),
        ("CN(C)(C)C", "valence"),
        ("c1cccc1", "aromaticity"),
        ("cC", "aromaticity"),
    ],
)
def test_each_kind_of_problem_has_its_name(smiles, problem, capfd):
    assert judge(smiles).problem == problem
    assert capfd.readouterr().err == ""  # RDKit's own messages stay out of chapters


def test_two_ways_to_write_a_molecule_are_one_molecule():
    first, second = judge("OCC"), judge("C(O)C")
    assert first.smiles == second.smiles == "CCO"
    assert first[2:] == pytest.approx(second[2:])  # sums in another order


def test_the_properties_of_aspirin():
    verdict = judge("CC(=O)Oc1ccccc1C(=O)O")
    assert verdict.weight == pytest.approx(180.16, abs=0.01)  # g/mol, from the atomic weights
    assert 0 < verdict.qed < 1 and 0 < verdict.logp < 3


def test_shares_are_taken_of_what_they_are_shares_of():
    verdicts = [judge(s) for s in ("CO", "OC", "CCO", "CN", "C(", "")]
    assert quality(verdicts, {"CO"}) == {"valid": 4 / 6, "unique": 3 / 4, "novel": 2 / 3}
    assert quality([judge("C(")], set()) == {"valid": 0.0, "unique": 0.0, "novel": 0.0}
    with pytest.raises(ValueError, match="verdicts: expected at least one, got none"):
        quality([], set())


def test_the_distance_of_a_shifted_set_is_the_shift():
    some = [Verdict("C", "", logp=x) for x in (0.0, 1.0, 5.0)]
    moved = [v._replace(logp=v.logp + 0.75) for v in some]
    invalid = Verdict("C(", "syntax", logp=100.0)
    assert distance(some, [*moved, invalid], "logp") == pytest.approx(0.75)
    assert distance(some, some, "logp") == 0
    with pytest.raises(ValueError, match="a valid molecule in each set"):
        distance(some, [invalid], "logp")


def test_a_drawing_has_the_atoms_and_bonds_of_the_molecule():
    parts = drawing("NCC#N")
    assert [atom[0] for atom in parts["atoms"]] == ["NH2", "", "", "N"]
    assert sorted(bond[2] for bond in parts["bonds"]) == [1.0, 1.0, 3.0]
    assert {bond[2] for bond in drawing("c1ccccc1")["bonds"]} == {1.5}
