"""A notebook in JupyterLab, with a kernel: the Induction Lab and an explorer as widgets; no foreign host is asked."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest
from book_reader import HTML, ROOT, WAIT, Reader, chromium, written_pages
from lab_pages import losses, ready, scores

from course_lib.alternatives import for_jupyterlab

pytestmark = pytest.mark.book

CELLS = (
    "from course_lib.lab import induction_lab\ninduction_lab()",
    "from course_lib.model import ModelConfig, Transformer\nfrom course_lib.widgets import explore_attention\n"
    "explore_attention(Transformer(ModelConfig(n_layers=1, d_vocab=64, n_ctx=32)))",
)
QUIET = (  # JupyterLab asks for news and for newer versions of itself
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)
CHART = "document.querySelector('.jp-Notebook svg.marks')"
TITLE = "document.querySelector('.jp-Notebook svg.marks .role-title-text text')"
SPECIFICATION = re.compile(r'\}\)\((?=\{")')  # stands between the function that draws a chart and the chart
IN_A_CELL = 10  # JupyterLab hides most outputs of a cell that has very many
START = 60  # seconds for the server to answer


@pytest.fixture(scope="module")
def charts() -> list[dict]:
    """The specification of every chart of the book."""
    found = []
    for page in written_pages():
        text = (HTML / page).read_text(encoding="utf-8")
        found += [json.JSONDecoder().raw_decode(text, at.end())[0] for at in SPECIFICATION.finditer(text)]
    return found


def shown(specs: list[dict]) -> nbformat.NotebookNode:
    """A cell that has shown these charts as JupyterLab takes them."""
    outputs = [nbformat.v4.new_output("display_data", data=for_jupyterlab(spec)) for spec in specs]
    return nbformat.v4.new_code_cell("charts", outputs=outputs)


def write(path: Path, cells: list[nbformat.NotebookNode]) -> None:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory, charts):
    """The address of a JupyterLab in a folder with the notebooks, and its token."""
    folder, token = tmp_path_factory.mktemp("live"), secrets.token_hex(8)
    write(folder / "live.ipynb", [nbformat.v4.new_code_cell(code) for code in CELLS])
    write(folder / "charts.ipynb", [shown(charts[i : i + IN_A_CELL]) for i in range(0, len(charts), IN_A_CELL)])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    options = [f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}", *QUIET, *root]
    unset = {name: value for name, value in os.environ.items() if name != "COURSE_STATIC"}
    environment = unset | {"PYTHONPATH": str(ROOT), "JUPYTER_CONFIG_DIR": str(folder / "settings")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *options]
    server = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/api")
        yield f"http://127.0.0.1:{port}", token
    finally:
        server.terminate()
        server.wait(20)


def wait_for(address: str) -> None:
    for _ in range(10 * START):
        try:
            urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"JupyterLab does not answer at {address}")


def run_all(page) -> None:
    """Choose it from the menu, again where it was chosen before the notebook was ready for it."""
    for _ in range(12):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(WAIT / 12)
        if page.locator(".jp-InputPrompt").first.inner_text().strip("[]: "):
            return
    pytest.fail("JupyterLab does not run the cells")


@pytest.fixture(scope="module")
def browser():
    with chromium() as one:
        yield one


@pytest.fixture(scope="module")
def open_notebook(jupyterlab, browser):
    """Opens a notebook: `open_notebook("live.ipynb")`; at the end no window may have met a problem."""
    address, token = jupyterlab
    opened = []

    def open_it(name: str):
        opened.append(Reader(browser, address, height=1400))
        opened[-1].page.goto(f"{address}/lab/workspaces/{len(opened)}/tree/{name}?token={token}")
        return opened[-1].page

    yield open_it
    problems = [problem for eyes in opened for problem in eyes.problems]
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="module")
def page(open_notebook):
    """The notebook with the widgets, both of its cells run."""
    page = open_notebook("live.ipynb")
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    run_all(page)
    page.locator(".widget-dropdown select").wait_for(timeout=4 * WAIT)  # the kernel imports torch
    return page


def test_the_lab_runs_as_a_widget(page):
    ready(page)
    page.get_by_role("button", name="Random tokens, twice").click()
    found = scores(page)
    best = max(found, key=found.get)
    assert found[best] > 0.5
    page.get_by_role("button", name=f"Show head {best}").click()
    assert f"head {best} looks" in page.locator(".lab-say").inner_text()
    before = losses(page)
    page.get_by_role("switch", name=f"Head {best} on").focus()
    page.keyboard.press("Space")
    assert losses(page)[0] > before[0] + 1, "the loss of repeats did not rise"


def test_an_explorer_is_redrawn_by_its_kernel_without_a_network(page):
    """JupyterLab itself draws the chart, whose text is read out and whose table stands before it."""
    chart, menu = page.locator(".jp-Notebook svg.marks"), page.locator(".widget-dropdown select")
    for head in ("0.0", "0.1"):
        menu.select_option(label=head)
        page.wait_for_function(f"{TITLE}?.textContent === 'Head {head}'")
        assert page.locator("[role=graphics-document]").get_attribute("aria-label").startswith(f"Head {head}.")
    before = chart.inner_html()
    page.get_by_role("button", name="new sequence").click()
    page.wait_for_function(f"before => ![before, undefined].includes({CHART}?.innerHTML)", arg=before)
    page.locator("details.course-table summary").click()
    assert page.locator("details.course-table td").count() > 20


def test_jupyterlab_draws_every_chart_of_the_book(open_notebook, charts):
    """Its Vega-Lite is older than that of the pages."""
    assert len(charts) > 50
    drawn = "document.querySelectorAll('.jp-OutputArea-output svg.marks .role-mark > *:first-child')"
    outputs = f"new Set([...{drawn}].map(mark => mark.closest('.jp-OutputArea-output'))).size"
    open_notebook("charts.ipynb").wait_for_function(f"{outputs} === {len(charts)}", timeout=4 * WAIT)
