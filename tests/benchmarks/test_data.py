"""The data of the benchmarks: the seed decides what is chosen and changed, never the order in which files are found."""

from benchmarks.image import bounds
from benchmarks.tree import Found, edit, plan


def machine(packages: int = 400, files: int = 10) -> list[Found]:
    small = [Found(f"/usr/lib/p{package}/f{number}", 1_000) for package in range(packages) for number in range(files)]
    return small + [Found(f"/usr/lib/large{number}", 5 << 20) for number in range(10)]


def test_the_first_version_has_the_files_and_bytes_that_were_asked_for():
    planned = plan(machine(), size=20 << 20, files=2_000)

    large = [path for path in planned.first if "large" in path]
    assert 2_000 <= len(planned.first) - len(large) <= 2_010
    assert len(large) == 3


def test_the_plan_depends_on_the_seed_alone():
    found = machine()

    assert plan(found, 20 << 20, 2_000) == plan(found, 20 << 20, 2_000)
    assert plan(found, 20 << 20, 2_000) != plan(found, 20 << 20, 2_000, seed=4)


def test_the_next_version_edits_some_files_and_adds_and_removes_whole_packages():
    planned = plan(machine(), size=2_000_000, files=2_000)

    added, removed = planned.second - planned.first, planned.first - planned.second
    assert planned.edited <= planned.first & planned.second
    assert 0.015 < len(planned.edited) / len(planned.first) < 0.045
    assert len(added) == 140
    assert removed
    assert all(len([path for path in removed if path.startswith(f"{one.rpartition('/')[0]}/")]) == 10 for one in removed)


def test_a_large_directory_comes_and_goes_in_pieces():
    found = [Found(f"/usr/share/all/f{number:05d}", 1_000) for number in range(10_000)]

    planned = plan(found, size=2_000_000, files=2_000)

    assert len(planned.first) == 2_000
    assert len(planned.second - planned.first) == 200


def test_a_machine_with_too_few_files_gives_what_it_has():
    assert len(plan(machine(packages=5), size=1 << 40, files=1_000_000).first) == 60


def test_an_edit_adds_a_line_in_the_middle():
    data = bytes(range(100))
    edited = edit(data)

    assert edited.startswith(data[:50])
    assert edited.endswith(data[50:])
    assert len(data) < len(edited) < len(data) + 80


def test_layers_have_their_shares_and_are_cut_by_name():
    sizes = [(f"{number:03d}", 10) for number in range(100)]

    assert bounds(sizes, (0.5, 0.25, 0.15, 0.1)) == ["050", "075", "090"]
    assert bounds([("a", 90), ("b", 10)], (0.5, 0.5)) == ["b"]
