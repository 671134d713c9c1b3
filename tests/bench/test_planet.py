"""The picture of a run of ``mesh bench planet``, and the distances that it takes."""

from xml.etree import ElementTree

import pytest

from meshos.bench import planet_material, planet_page, retrieval
from meshos.errors import BadInput
from meshos.simulations.directory.mesh import node_name
from meshos.simulations.directory.questions import Asked


def asked(phase: str, begun_s: float, took_s: float, recall: float) -> Asked:
    return Asked(phase, begun_s, took_s, recall, recall == 1, 0, 5, 0, 0)


def test_the_picture_has_a_point_for_each_panel_and_slice_and_names_the_phases() -> None:
    some = [asked("quiet", 1.0, 0.2, 1.0), asked("quiet", 12.0, 0.3, 1.0), asked("cut & <lost>", 31.0, 2.0, 0.5)]
    picture = ElementTree.fromstring(planet_page.page(some, 10.0))
    name = "{http://www.w3.org/2000/svg}"
    points = picture.findall(f"{name}circle")
    assert len(points) == 9 and {text.text for text in picture.findall(f"{name}text")} >= {"quiet", "cut & <lost>"}
    heights = [float(point.get("cy", "nan")) for point in points[:3]]
    assert heights[0] == heights[1] < heights[2], "less is lower"


def test_ways_are_alike_there_and_back_and_chosen_by_the_seed() -> None:
    if retrieval.data_folder() is None:
        pytest.skip("the round-trip times are not here; set MESHOS_DATA")
    one, again, other = (planet_material.ways(50, seed) for seed in (1, 1, 2))
    assert one.site_of == again.site_of != other.site_of
    ids = [node_name(number) for number in range(50)]
    assert all(one.way_s(a, b) == one.way_s(b, a) for a in ids for b in ids) and 0.01 < one.way_s(ids[0], ids[1]) + 0.01 < 2


def test_without_the_round_trip_times_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "data_folder", lambda: None)
    with pytest.raises(BadInput, match="round-trip times"):
        planet_material.ways(5, 1)
