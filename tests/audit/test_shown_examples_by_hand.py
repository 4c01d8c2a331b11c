"""Which examples a page shows, in what order and under what caption: samples, their neighbors, missing clusters."""

# every block is of the kind that its page shows
# pyright: reportAttributeAccessIssue=false

import numpy as np
import pytest
import torch
from results_of_samples import balance

from diffuscope.audit import Session, Settings, Subject
from diffuscope.audit.copy_search import Copies
from diffuscope.audit.modes import Modes
from diffuscope.audit.no_model import NoModel
from diffuscope.audit.originals import Originals
from diffuscope.audit.questions.diversity import _missing, _shares
from diffuscope.audit.repeats import Repeats, repeats_table
from diffuscope.audit.suspects import CURVES, PAIRS, shown, suspects
from diffuscope.data import fit_table
from diffuscope.findings import Chart, Groups
from diffuscope.report import Gallery, Picture, Table, image_png

N = 20


def ramp(*event, scale=1.0):
    """Example i is i times the scale everywhere."""
    return scale * torch.arange(float(N)).reshape(N, *(1 for _ in event)).expand(N, *event).contiguous()


def session_of(samples, train, heldout, *, examples=True, **changes):
    subject = Subject(NoModel(), train, heldout, **changes)
    return Session(subject, Settings(examples=examples), given=samples)


def found(**changes):
    """Of N samples number i is nearest to training example N - 1 - i and to held-out example i / 2."""
    places = np.arange(N)
    made = {
        "p_values": np.full(N, 0.5), "listed": np.zeros(N, dtype=bool), "nearest_training": N - 1 - places,
        "nearest_heldout": places // 2, "distance": np.ones(N), "next_distance": np.ones(N), "transformation": [""] * N,
        "null_distance": np.ones(N), "null_next_distance": np.ones(N), "heldout": places, "leaked": {},
        "repeats": Repeats(first=places), "radius": 0.1, "rate": 0.05, "detectable": {"exact": 0.01},
    }  # fmt: skip
    return Copies(**made | changes)


def picture(image, name, low, high):
    return Picture(image_png(image.numpy(), low, high), name)


def test_the_least_p_values_are_shown_with_their_neighbors_in_the_range_of_training_images():
    sets = ramp(1, 4, 4), ramp(1, 4, 4, scale=0.5), ramp(1, 4, 4, scale=-2.0)
    p_values = np.full(N, 0.5)
    p_values[[7, 3]] = 0.02, 0.004
    listed = np.arange(N) == 3
    transformation = ["mirrored" if i == 7 else "" for i in range(N)]
    (block,) = suspects(
        session_of(*sets), found(p_values=p_values, listed=listed, transformation=transformation), "pca"
    )
    assert isinstance(block, Gallery)
    assert block.title == "The most suspicious samples and their nearest neighbors (pca)"
    captions = [item.caption for item in block.items]
    assert captions[:3] == [
        "sample 3: p = 0.004, listed",
        "sample 7: p = 0.02, matches when mirrored",
        "sample 0: p = 0.5",
    ]
    assert len(captions) == PAIRS == 12
    assert captions[-1] == "sample 11: p = 0.5"  # 3, 7, and 0 to 11 without these
    for item, i in ((block.items[0], 3), (block.items[1], 7)):
        assert list(item.pictures) == [
            picture(sets[0][i], "sample", 0.0, 9.5),
            picture(sets[1][N - 1 - i], "training", 0.0, 9.5),
            picture(sets[2][i // 2], "held-out", 0.0, 9.5),
        ]


def test_series_are_curves_of_their_first_channel():
    sets = ramp(2, 5), ramp(2, 5, scale=0.5), ramp(2, 5, scale=-2.0)
    sets[0][:, 1] = 77.0
    (block,) = suspects(session_of(*sets), found(), "pixels")
    assert isinstance(block, Chart)
    assert len(block.panels) == CURVES == 4
    lines = block.panels[3].marks
    assert [mark.label for mark in lines] == ["sample", "training", "held-out"]
    assert [mark.y for mark in lines] == [(3.0,) * 5, (8.0,) * 5, (-2.0,) * 5]
    assert lines[0].x == (0.0, 1.0, 2.0, 3.0, 4.0)


def test_rows_of_a_table_are_shown_with_the_caption_of_the_sample_alone():
    table = fit_table({"size": [0.5 * i for i in range(N)], "color": ["red", "blue"] * (N // 2)})
    rows = table.encode({"size": [0.5 * i for i in range(N)], "color": ["red", "blue"] * (N // 2)})
    (block,) = suspects(session_of(rows, rows, rows, table=table), found(), "columns")
    assert isinstance(block, Table)
    assert list(block.header) == ["", "", "size", "color"]
    assert len(block.rows) == 3 * PAIRS
    assert [list(row) for row in block.rows[3:6]] == [
        ["sample 1: p = 0.5", "sample", "0.5", "blue"], ["", "training", "9", "red"], ["", "held-out", "0", "red"],
    ]  # fmt: skip


def test_points_and_latents_that_nothing_decodes_have_no_picture_and_examples_may_be_left_out():
    points, images = ramp(3), ramp(1, 4, 4)
    assert suspects(session_of(points, points, points), found(), "pixels") == []
    assert suspects(session_of(images, images, images, examples=False), found(), "pixels") == []
    originals = Originals(train=images, heldout=images)
    assert suspects(session_of(points, points, points, originals=originals), found(), "pixels") == []


def test_a_cell_is_a_number_of_six_digits_a_text_or_nothing():
    assert [shown(x) for x in (1234567.0, 0.5, float("nan"), "red", "")] == ["1.23457e+06", "0.5", None, "red", None]


# clusters that lack samples


def lacking(**changes):
    """Six clusters: in the first five of them samples are short by 2, 1, 5, 4 and 3 percent."""
    of_heldout = [0.12, 0.11, 0.15, 0.14, 0.13, 0.35]
    made = balance([0.1, 0.1, 0.1, 0.1, 0.1, 0.5], of_heldout, **changes)
    return Modes(balance=made, of_heldout=np.repeat([2, 3, 4, 0, 1, 5], [7, 6, 4, 1, 1, 1]))


def test_the_bars_of_clusters_are_shares_in_percent_with_room_above_the_largest():
    (panel,) = _shares(lacking()).panels
    assert panel.y_range == pytest.approx((0.0, 62.5))
    (bars,) = panel.marks
    assert isinstance(bars, Groups)
    assert bars.names == ("3", "4", "5", "6", "7", "8")
    assert bars.labels == ("held-out data", "samples")
    assert bars.heights == tuple(pytest.approx(x) for x in ((12, 11, 15, 14, 13, 35), (10, 10, 10, 10, 10, 50)))


def test_examples_of_the_four_clusters_that_lack_most_are_shown_six_at_most():
    images = ramp(1, 4, 4)
    session = session_of(images, images, images.flip(0).clone())
    counted = torch.arange(N).flip(0)  # the i-th counted example is number N - 1 - i, which is i everywhere
    (block,) = _missing(session, lacking(), counted, 0.01)
    assert isinstance(block, Gallery)
    captions = [item.caption for item in block.items]
    assert captions == [
        f"cluster {k}: 10.0% of the samples, {share}.0% of held-out data"
        for k, share in ((2, 15), (3, 14), (4, 13), (0, 12))
    ]
    assert [len(item.pictures) for item in block.items] == [6, 6, 4, 1]
    assert list(block.items[1].pictures) == [picture(images[i], "held-out", 0.0, 19.0) for i in range(7, 13)]


def test_rows_of_missing_clusters_are_named_once():
    columns = {"size": [0.5 * i for i in range(N)], "color": ["red", "blue"] * (N // 2)}
    table = fit_table(columns)
    rows = table.encode(columns)
    (block,) = _missing(session_of(rows, rows, rows, table=table), lacking(), torch.arange(N), 0.01)
    assert isinstance(block, Table)
    assert list(block.header) == ["", "size", "color"]
    assert [row[1] for row in block.rows] == [f"{0.5 * i:.6g}" for i in (*range(6), *range(7, 13), *range(13, 18))]
    named = "cluster 3: 10.0% of the samples, 14.0% of held-out data"
    assert [row[0] for row in block.rows[5:9]] == ["", named, "", ""]
    assert block.rows[7][2] == "red"


@pytest.mark.parametrize(("p_value", "some"), [(0.01, False), (0.0099, True)])
def test_nothing_is_missing_at_the_level_itself_or_without_leave_to_show_examples(p_value, some):
    images = ramp(1, 4, 4)
    made = lacking(p_value=p_value)
    assert bool(_missing(session_of(images, images, images), made, torch.arange(N), 0.01)) == some
    assert _missing(session_of(images, images, images, examples=False), made, torch.arange(N), 0.01) == []
    points = ramp(3)
    assert _missing(session_of(points, points, points), made, torch.arange(N), 0.01) == []


# repeated examples


def test_groups_of_repeats_name_eight_members_and_twenty_groups():
    assert repeats_table(Repeats(first=np.arange(5)), "pixels") == []
    first = np.concatenate([np.zeros(9, int), np.full(8, 9), 17 + 2 * np.repeat(np.arange(19), 2)])
    (table,) = repeats_table(Repeats(first=first), "pixels")
    rows = [list(row) for row in table.rows]
    assert rows[:3] == [[9, "0, 1, 2, 3, 4, 5, 6, 7, ..."], [8, "9, 10, 11, 12, 13, 14, 15, 16"], [2, "17, 18"]]
    assert len(rows) == 20
    assert table.note.startswith("34 of 55 training examples repeat an earlier one")  # 8 + 7 + 19
    assert "Near repeats" not in table.note
    (partial,) = repeats_table(Repeats(first=first, complete=False), "pixels")
    assert partial.note.endswith("Near repeats are too many to list; only exact ones are counted.")
