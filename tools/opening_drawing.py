"""Draw the opening page's picture: a repeated sequence, and where the hand-built induction head looks in it.

The arcs are the attention of `course_lib.handbuilt.induction_circuit` on the tokens below it, not a sketch.
The build writes it to `_build/assets/opening.svg`; the Induction Lab takes its place where scripts run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.handbuilt import induction_circuit
from course_lib.model import patterns

WORDS = ("the", "cat", "sat", "down")
STEP, BOX, HEIGHT, BASE = 46, 42, 32, 66  # from token to token, a token's width and height, where the row stands
FAINTEST = 0.05  # attention below this is not drawn


def write(target: Path) -> None:
    """Write `opening.svg` into the folder `target`."""
    target.mkdir(parents=True, exist_ok=True)
    tokens, pattern, predicted = measured()
    (target / "opening.svg").write_text(drawing(tokens, pattern, predicted), encoding="utf-8")


@torch.no_grad()
def measured() -> tuple[list[str], Float[Tensor, "q k"], str]:
    """Tokens, attention of the induction head on them, and the word it predicts next."""
    ids = torch.tensor([[*range(len(WORDS) + 1), *range(1, len(WORDS))]])  # [1, pos]: start, the words, most again
    model = induction_circuit(len(WORDS) + 1, ids.shape[1])
    predicted = WORDS[int(model(ids)[0, -1].argmax()) - 1]
    shown = [WORDS[token - 1] for token in ids[0, 1:].tolist()]  # the start token, which no arc meets, is left out
    return shown, patterns(model, ids)[1][0, 0, 1:, 1:], predicted


def drawing(tokens: Sequence[str], pattern: Float[Tensor, "q k"], predicted: str) -> str:
    """The drawing as SVG: tokens in a row, an arc from each repeated token to what the head attends to."""
    first_copy = {token: place for place, token in reversed(list(enumerate(tokens)))}
    repeated = [place for place, token in enumerate(tokens) if first_copy[token] < place]
    arcs = [
        _arc(query, key, float(pattern[query, key]), last=query == len(tokens) - 1)
        for query in repeated
        for key in range(query)
        if pattern[query, key] > FAINTEST
    ]
    boxes = [_token(place, token, place in repeated) for place, token in enumerate(tokens)]
    boxes.append(_token(len(tokens), predicted, False, dashed=True))
    width = STEP * (len(tokens) + 1)
    text = f"{' '.join(tokens)}: each repeated word attends to the word after its first copy. Next: {predicted}."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {BASE + HEIGHT + 26}" role="img" '
            f'aria-label="{text}" font-family="inherit" font-size="14">',
            *arcs,
            *boxes,
            f'<text x="{width - 2}" y="{BASE + HEIGHT + 18}" fill="currentColor" text-anchor="end" '
            'font-size="12">predicted next</text>',
            "</svg>\n",
        ]
    )


def _middle(place: int) -> float:
    return STEP * place + STEP / 2


def _arc(query: int, key: int, attention: float, last: bool) -> str:
    start, end = _middle(query), _middle(key)
    top = BASE - 8 - (start - end) * 0.42
    kind = "layer-1" if last else "layer-0"
    colour = "#b84a00" if last else "#0069a5"
    return (
        f'<path class="{kind}" stroke="{colour}" fill="none" stroke-width="{1 + 2 * attention:.1f}" '
        f'opacity="{attention:.2f}" d="M{start:g} {BASE - 3} C{start:g} {top:g} {end:g} {top:g} {end:g} {BASE - 3}"/>'
    )


def _token(place: int, token: str, repeated: bool, dashed: bool = False) -> str:
    left = STEP * place + (STEP - BOX) / 2
    outline = ' stroke-dasharray="5 4"' if dashed else ' stroke-opacity="0.45"' if not repeated else ""
    return (
        f'<rect x="{left:g}" y="{BASE}" width="{BOX}" height="{HEIGHT}" rx="5" fill="none" stroke="currentColor"'
        f"{outline}/>"
        f'<text x="{_middle(place):g}" y="{BASE + 22}" fill="currentColor" text-anchor="middle">{token}</text>'
    )
