"""A notebook in JupyterLab, with a kernel: the Induction Lab and an explorer as widgets; no foreign host is asked."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import nbformat
import pytest
from book_reader import ROOT, Reader, chromium
from lab_pages import losses, ready, scores

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
START = 60  # seconds for the server to answer


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory):
    """The address of a JupyterLab in a folder with the notebook, and its token."""
    folder, token = tmp_path_factory.mktemp("live"), secrets.token_hex(8)
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "live.ipynb")
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


@pytest.fixture(scope="module")
def page(jupyterlab):
    """The notebook, both of its cells run."""
    address, token = jupyterlab
    with chromium() as browser:
        eyes = Reader(browser, address, height=1400)
        page = eyes.page
        page.goto(f"{address}/lab/tree/live.ipynb?token={token}&reset")
        page.locator(".jp-Notebook .jp-CodeCell").nth(1).wait_for()
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator(".widget-dropdown select").wait_for()
        yield page
        assert not eyes.problems, "\n".join(eyes.problems)
        eyes.context.close()


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
