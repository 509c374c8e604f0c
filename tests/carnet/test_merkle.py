import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import IntegrityError
from carnet.merkle import (
    EMPTY_ROOT,
    SIZE_MAX,
    FrontierTree,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from tests.vectors.blocks import expand, read_blocks

ROOTS, *PROOFS = read_blocks("rfc6962.txt")
LEAVES = [leaf_hash(expand(one)) for one in ROOTS["leaves"].split(" | ")]
MADE = [leaf_hash(number.to_bytes(4, "big")) for number in range(300)]


def grown(leaves):
    """Return the tree of `leaves` and a reader of its full subtrees."""
    tree, nodes = FrontierTree(), {}
    for leaf in leaves:
        nodes |= {(node.level, node.index): node.hash for node in tree.append(leaf)}
    return tree, lambda level, index: nodes[level, index]


def no_node(level, index):
    raise LookupError(level, index)


def hashes(text):
    return [] if text == "none" else [bytes.fromhex(one) for one in text.split(" ")]


def test_roots_are_those_of_the_reference_vectors():
    for size, expected in enumerate(ROOTS["roots"].split(" ")):
        tree, read = grown(LEAVES[:size])

        assert tree.root().hex() == root_of(LEAVES[:size]).hex() == tree_root(size, read).hex() == expected


@pytest.mark.parametrize("vector", PROOFS, ids=lambda vector: vector["name"])
def test_proofs_are_those_of_the_reference_vectors(vector):
    _, read = grown(LEAVES)
    expected = tuple(hashes(vector["proof"]))

    if vector["kind"] == "inclusion":
        index, size = int(vector["index"]), int(vector["size"])
        assert prove_inclusion(index, size, read) == expected
        verify_inclusion(LEAVES[index], index, size, expected, root_of(LEAVES[:size]))
    else:
        old, new = int(vector["old"]), int(vector["new"])
        assert prove_consistency(old, new, read) == expected
        verify_consistency(old, root_of(LEAVES[:old]), new, root_of(LEAVES[:new]), expected)


def test_the_two_ways_to_a_root_agree_at_every_size():
    tree = FrontierTree()

    for size, leaf in enumerate(MADE):
        assert tree.root() == root_of(MADE[:size])
        assert len(tree.state) == size.bit_count()
        tree.append(leaf)


@given(st.data())
@settings(max_examples=100)
def test_every_inclusion_proof_verifies_and_no_changed_one_does(data):
    size = data.draw(st.integers(1, 100))
    index = data.draw(st.integers(0, size - 1))
    tree, read = grown(MADE[:size])
    proof, root, leaf = list(prove_inclusion(index, size, read)), tree.root(), MADE[index]

    verify_inclusion(leaf, index, size, proof, root)
    for changed in bent(data, proof):
        with pytest.raises(IntegrityError):
            verify_inclusion(leaf, index, size, changed, root)
    for other in {(index + 1, size), (index, size + 1), (index - 1, size), (index, index), (index, SIZE_MAX + 1)}:
        if same_path(*other, index, size):
            continue
        with pytest.raises(IntegrityError):
            verify_inclusion(leaf, *other, proof, root)
    with pytest.raises(IntegrityError):
        verify_inclusion(MADE[size], index, size, proof, root)
    with pytest.raises(IntegrityError):
        verify_inclusion(leaf, index, size, proof, MADE[0] if root != MADE[0] else MADE[1])


@given(st.data())
@settings(max_examples=100)
def test_every_consistency_proof_verifies_and_no_changed_one_does(data):
    new = data.draw(st.integers(1, 100))
    old = data.draw(st.integers(1, new))
    _, read = grown(MADE[:new])
    proof, old_root, new_root = list(prove_consistency(old, new, read)), root_of(MADE[:old]), root_of(MADE[:new])

    verify_consistency(old, old_root, new, new_root, proof)
    for changed in bent(data, proof):
        with pytest.raises(IntegrityError):
            verify_consistency(old, old_root, new, new_root, changed)
    with pytest.raises(IntegrityError):
        verify_consistency(old, MADE[200], new, new_root, proof)
    with pytest.raises(IntegrityError):
        verify_consistency(old, old_root, new, MADE[200], proof)


def bent(data, proof):
    """Return proofs that are almost `proof`: longer, shorter, swapped, one bit off, a hash of another length."""
    yield [*proof, MADE[299]]
    yield [MADE[299], *proof]
    if proof:
        position = data.draw(st.integers(0, len(proof) - 1))
        yield proof[:position] + proof[position + 1 :]
        flipped = bytes([proof[position][0] ^ 1]) + proof[position][1:]
        yield [*proof[:position], flipped, *proof[position + 1 :]]
        yield [*proof[:position], proof[position][:31], *proof[position + 1 :]]
    if len(proof) > 1 and proof[0] != proof[1]:
        yield [proof[1], proof[0], *proof[2:]]


def same_path(index, size, true_index, true_size):
    """Return whether leaf `index` of `size` has the very path of the true one: then the proof rightly verifies for both sizes."""

    def turns(number, last):
        path = []
        while last:
            path.append(bool(number & 1 or number == last))
            if path[-1]:
                while not number & 1 and number:
                    number, last = number >> 1, last >> 1
            number, last = number >> 1, last >> 1
        return path

    return 0 <= index < size and turns(index, size - 1) == turns(true_index, true_size - 1)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 5), (6, 5), (-1, 5), (5, SIZE_MAX + 1)])
def test_sizes_that_prove_nothing_are_refused(old, new):
    with pytest.raises(IntegrityError):
        verify_consistency(old, EMPTY_ROOT, new, MADE[0], [])
    with pytest.raises(ValueError):
        prove_consistency(old, new, no_node)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5), (0, SIZE_MAX + 1)])
def test_there_is_no_proof_for_a_leaf_outside_the_tree(index, size):
    with pytest.raises(IntegrityError):
        verify_inclusion(MADE[0], index, size, [], MADE[0])
    with pytest.raises(ValueError):
        prove_inclusion(index, size, no_node)


def test_equal_sizes_need_equal_roots_and_no_proof():
    root = root_of(MADE[:5])

    verify_consistency(5, root, 5, root, [])
    with pytest.raises(IntegrityError):
        verify_consistency(5, root, 5, MADE[0], [])
    with pytest.raises(IntegrityError):
        verify_consistency(5, root, 5, root, [MADE[0]])


def test_an_entry_cannot_pose_as_a_node():
    """RFC 6962's prefixes: the entry that is two hashes joined is no parent of theirs."""
    left, right = MADE[:2]

    assert leaf_hash(left + right) != root_of([left, right])
    assert leaf_hash(b"\x01" + left + right) != root_of([left, right])


@given(st.integers(0, 200), st.integers(0, 60))
@settings(max_examples=40)
def test_a_tree_resumes_from_its_state(size, more):
    tree, _ = grown(MADE[:size])
    resumed = FrontierTree(tree.size, tree.state)
    trial = tree.copy()

    for leaf in MADE[size : size + more]:
        assert resumed.append(leaf) == trial.append(leaf)

    assert resumed.root() == trial.root() == root_of(MADE[: size + more])
    assert tree.root() == root_of(MADE[:size])


@pytest.mark.parametrize(("size", "state"), [(1, ()), (2, (MADE[0], MADE[1])), (1, (b"short",)), (-1, ()), (0, (MADE[0],))])
def test_a_state_that_fits_no_tree_is_refused(size, state):
    with pytest.raises(IntegrityError) as caught:
        FrontierTree(size, state)

    assert caught.value.code == "E-LOG"


def test_a_leaf_of_another_length_is_refused():
    with pytest.raises(IntegrityError):
        FrontierTree().append(b"short")


@pytest.mark.parametrize(("old", "new"), [(3, 4), (5, 9), (6, 8)])
def test_an_empty_proof_shows_no_growth(old, new):
    with pytest.raises(IntegrityError) as caught:
        verify_consistency(old, root_of(MADE[:old]), new, root_of(MADE[:new]), [])

    assert caught.value.code == "E-PROOF"
