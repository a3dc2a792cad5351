"""Live views where there is a kernel; the same view as a chart with client-side controls where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import altair as alt
import ipywidgets
import torch
from IPython.display import display
from jaxtyping import Float
from torch import Tensor

from course_lib.data import repeated_tokens
from course_lib.model import Transformer, patterns
from course_lib.plots import attention_by_head, attention_chart
from course_lib.runtime import static


def explore_attention(
    model: Transformer, segment_length: int = 12, repeats: int = 2, seed: int = 0
) -> ipywidgets.VBox | alt.Chart:
    """Look at the attention of any head on repeated random tokens.

    Args:
        model: its vocabulary must hold `segment_length` different tokens besides the start token.
        segment_length, repeats: shape of the sequence, as in `data.repeated_tokens`.
        seed: draws the first sequence; the button draws the next ones.

    Returns:
        A widget with a menu of heads and a button for a new sequence. In the static book, a chart with the menu only.
    """
    heads = [(layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads)]
    draw = partial(_drawn, model, segment_length, repeats, torch.Generator().manual_seed(seed))
    pattern, labels = draw()
    if static():
        return attention_by_head({f"{layer}.{head}": pattern[layer, head] for layer, head in heads}, labels)

    menu = ipywidgets.Dropdown(
        options=[(f"{layer}.{head}", (layer, head)) for layer, head in heads], value=heads[-1], description="head"
    )
    button = ipywidgets.Button(description="new sequence")
    output = ipywidgets.Output()

    def redraw(_=None) -> None:
        layer, head = menu.value
        output.clear_output(wait=True)
        with output:
            display(attention_chart(pattern[layer, head], labels, title=f"Head {layer}.{head}"))

    def renew(_) -> None:
        nonlocal pattern, labels
        pattern, labels = draw()
        redraw()

    menu.observe(redraw, names="value")
    button.on_click(renew)
    redraw()
    return ipywidgets.VBox([ipywidgets.HBox([menu, button]), output])


def _drawn(
    model: Transformer, segment_length: int, repeats: int, generator: torch.Generator
) -> tuple[Float[Tensor, "layer h q k"], list[str]]:
    """The model's patterns on a new sequence of repeated random tokens, and a label for each token."""
    tokens = repeated_tokens(1, segment_length, repeats, model.config.d_vocab, generator)
    return patterns(model, tokens.to(model.W_E.device))[:, 0], [str(token) for token in tokens[0].tolist()]


def live_chart(draw: Callable[[list[dict]], alt.TopLevelMixin]) -> Callable[[list[dict]], None]:
    """Shows a chart of training while training goes on: a `watch` for `train.train`.

    The chart takes the place of the one before, from the second record on. In the static book nothing is shown.

    Args:
        draw: records -> chart.
    """
    handle = None

    def show(records: list[dict]) -> None:
        nonlocal handle
        if static() or len(records) < 2:  # one record is no line
            return
        if handle is None:
            handle = display(draw(records), display_id=True)
        else:
            handle.update(draw(records))

    return show


def explore(chart: alt.TopLevelMixin) -> ipywidgets.VBox | alt.TopLevelMixin:
    """The chart of an explorer, with the controls of a live notebook in place of its own.

    What can be pointed at in the chart stays so; a control draws the chart again, as it stands in the notebook.

    Args:
        chart: from `course_lib.explorers`, or any chart whose parameters have sliders or menus.

    Returns:
        A widget with the controls and the chart below them. In the static book, the chart, whose controls need no
        kernel.

    Raises:
        ValueError: a chart without a control.
    """
    spec = chart.to_dict()
    if not any(isinstance(param.get("bind"), dict) for param in spec.get("params", ())):
        raise ValueError("chart must have a parameter with a slider or a menu, got none")
    if static():  # before the first control is made: a page would carry its state
        return chart
    controls = dict(_controls(spec))
    output = ipywidgets.Output()

    def redraw(_=None) -> None:
        for (param, field), control in controls.items():
            if field is None:
                spec["params"][param]["value"] = control.value
            else:
                spec["params"][param]["value"][0][field] = control.value
        output.clear_output(wait=True)
        with output:
            display(type(chart).from_dict(spec, validate=False))

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return ipywidgets.VBox([*controls.values(), output])


def _controls(spec: dict) -> Iterator[tuple[tuple[int, str | None], ipywidgets.Widget]]:
    """A control for each that the specification has, which loses it: (number of the parameter, field) -> control."""
    for number, param in enumerate(spec.get("params", ())):
        bind = param.pop("bind", None) or {}
        if "input" in bind:
            yield (number, None), _control(bind, param["value"])
        else:
            for field, binding in bind.items():
                yield (number, field), _control(binding, param["value"][0][field])


def _control(bind: dict, value: int | float | str) -> ipywidgets.Widget:
    name = {"description": bind.get("name", "").strip(), "style": {"description_width": "initial"}}
    if bind["input"] == "range":
        limits = {"min": bind["min"], "max": bind["max"], "step": bind["step"]}
        return ipywidgets.IntSlider(value=value, continuous_update=False, **limits, **name)
    labels = bind.get("labels") or [str(option) for option in bind["options"]]
    return ipywidgets.Dropdown(options=list(zip(labels, bind["options"], strict=True)), value=value, **name)
