import pytest
import torch

from course_lib.charts_text import attention_on_tokens

PATTERN = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.004, 0.496, 0.5]])
TOKENS = ["a b", "\n", "c"]


def tiles_of(chart):
    return chart.to_dict()["data"]["values"]  # to_dict validates against the schema


def params_of(chart):
    """What a reader can choose."""
    return [param for param in chart.to_dict()["params"] if "select" in param or "bind" in param]


def test_each_tile_knows_what_every_later_query_pays_it_and_small_shares_are_left_out():
    tiles = tiles_of(attention_on_tokens(TOKENS, PATTERN, "t", columns=2))
    assert [(t["token"], t["position"], t["row"], t["column"]) for t in tiles] == [
        ("a·b", 0, 0, 0),
        ("↵", 1, 0, 1),
        ("c", 2, 1, 0),
    ]
    assert [t["by"] for t in tiles] == [{"0": 100.0, "1": 25.0}, {"1": 75.0, "2": 49.6}, {"2": 50.0}]


@pytest.mark.parametrize("query, first", [(None, 2), (0, 0), (1, 1)])
def test_hovering_or_tapping_chooses_the_query_and_leaving_keeps_it(query, first):
    (param,) = params_of(attention_on_tokens(TOKENS, PATTERN, "t", query=query))
    assert param["value"] == [{"position": first}]
    assert param["bind"]["position"] == {"input": "range", "min": 0, "max": 2, "step": 1, "name": "query "}
    assert param["select"] == {
        "type": "point",
        "fields": ["position"],
        "on": "pointerover, click",
        "clear": False,
        "toggle": False,
    }


def test_shade_frame_and_ink_follow_the_chosen_query():
    chart = attention_on_tokens(TOKENS, PATTERN, "what to see").to_dict()
    assert chart["title"] == "what to see" and chart["width"] <= 560
    name = next(param["name"] for param in chart["params"] if "select" in param)
    tiles, frame, texts = chart["layer"]
    assert {t["field"] for t in tiles["encoding"]["tooltip"]} == {"token", "position", "attention"}
    for expression in (
        tiles["transform"][0]["calculate"],
        frame["transform"][-1]["filter"],
        texts["mark"]["color"]["expr"],
    ):
        assert f"{name}.position" in expression


def test_two_charts_on_a_page_do_not_share_their_query():
    names = {params_of(attention_on_tokens(TOKENS, PATTERN, "t"))[0]["name"] for _ in range(2)}
    assert len(names) == 2


def test_a_text_of_160_tokens_stays_small():
    pattern = torch.softmax(torch.randn(160, 160).mul(3).masked_fill(torch.ones(160, 160).triu(1) > 0, -1e9), dim=-1)
    assert len(attention_on_tokens(["word"] * 160, pattern, "t").to_json(indent=None)) < 80_000


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: attention_on_tokens(TOKENS, PATTERN[:2], "t"),
            r"pattern must be \[3, 3\] for these tokens, got \[2, 3\]",
        ),
        (
            lambda: attention_on_tokens(TOKENS[:2], PATTERN, "t"),
            r"pattern must be \[2, 2\] for these tokens, got \[3, 3\]",
        ),
        (lambda: attention_on_tokens(TOKENS, PATTERN, "t", query=3), r"a position 0\.\.2, got 3"),
        (lambda: attention_on_tokens(TOKENS, PATTERN, "t", query=-1), r"a position 0\.\.2, got -1"),
        (lambda: attention_on_tokens([], torch.zeros(0, 0), "t"), "at least 1 token, got"),
        (lambda: attention_on_tokens(TOKENS, PATTERN, "t", columns=0), "columns must be at least 1, got 0"),
        (lambda: attention_on_tokens(TOKENS, PATTERN, "t", query=1.0), "query must be a whole number, got 1.0"),
        (lambda: attention_on_tokens(TOKENS, PATTERN * torch.nan, "t"), "pattern must be finite, got NaN"),
    ],
)
def test_bad_input(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
