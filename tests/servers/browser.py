"""Uses the upload server's page as a person with a keyboard does, in a real browser.

    browser.py URL CHROMIUM FILE METRICS SCREENSHOTS

Uploads FILE, which is more than the pool's memory, over a throttled connection; sees the progress and the plots move; deletes the
file again. METRICS is an answer of /metrics, which Prometheus' own parser has to take. Screenshots, light and dark, go to a folder.
"""

import hashlib
import pathlib
import sys

from playwright.sync_api import TimeoutError as TimedOut
from playwright.sync_api import expect, sync_playwright
from prometheus_client.parser import text_string_to_metric_families

url, chromium, file, metrics, screenshots = sys.argv[1:]
content = pathlib.Path(file).read_bytes()
name = pathlib.Path(file).name
steps_min = 5

# The limits of this file are for what hangs: a loaded machine takes its time.
hang_ms = 60_000
expect.set_options(timeout=hang_ms)

families = {family.name: family for family in text_string_to_metric_families(pathlib.Path(metrics).read_text())}
assert len(families) >= 15, families.keys()
for family in families.values():
    assert family.documentation and family.type in ("gauge", "counter") and family.samples, family


def focus(page, selector):
    """Moves the focus to an element by the key Tab alone."""
    for _ in range(60):
        if page.evaluate("selector => document.activeElement?.matches(selector) ?? false", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


def choose(page, selector, file):
    """Chooses a file by the key Space.

    A browser opens a chooser within five seconds of the key only, and otherwise warns of it in the console: a machine that stalls as
    long, as one that has just built everything may, opens none. A person would press again, and so does this.
    """
    for _ in range(5):
        focus(page, selector)
        try:
            with page.expect_file_chooser(timeout=15_000) as chooser:
                page.keyboard.press("Space")
            return chooser.value.set_files(file)
        except TimedOut:
            print(f"no chooser after Space on {selector}", file=sys.stderr)
    raise AssertionError(f"Space on {selector} opens no chooser")


def check(browser, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1000, "height": 900})
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else print(message.text, file=sys.stderr))
    page.on("request", lambda request: None if request.url.startswith((url, "data:")) else problems.append(request.url))
    page.goto(url)
    expect(page.locator("#plots figure")).to_have_count(6)
    page.evaluate(
        """() => {
            window.seen = [];
            const progress = document.getElementById('progress');
            new MutationObserver(() => window.seen.push(progress.value)).observe(progress, { attributes: true });
            window.said = [];
            const status = document.getElementById('status');
            new MutationObserver(() => window.said.push(status.textContent))
                .observe(status, { childList: true, characterData: true, subtree: true });
        }"""
    )
    session = context.new_cdp_session(page)
    throttled = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 8 << 20}
    session.send("Network.emulateNetworkConditions", throttled)

    choose(page, "#picked", file)
    focus(page, "button[type=submit]")
    page.keyboard.press("Enter")
    status = page.get_by_role("status")
    expect(status).to_contain_text(f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    # It is there for two seconds and a half, and a look at the page may come later.
    said = page.evaluate("window.said")
    assert any(text.startswith("Uploading") for text in said), said
    seen = page.evaluate("window.seen")
    assert seen == sorted(seen) and len(set(seen)) >= steps_min and seen[-1] == 1, seen

    # The plots have moved: a line that is not flat, in memory, on the disk and of what was written.
    for plot in ("Memory", "Disk", "Store"):
        points = page.locator("#plots figure", has_text=plot).locator("polyline").first
        moved = "line => new Set(line.getAttribute('points').split(' ').map(point => point.split(',')[1])).size > 1"
        page.wait_for_function(moved, arg=points.element_handle(), timeout=hang_ms)
    page.screenshot(path=f"{screenshots}/page-{scheme}.png", full_page=True)

    focus(page, f"button[aria-label='Delete {name}']")
    page.keyboard.press("Enter")
    expect(status).to_have_text(f"Deleted {name}")
    expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    assert not problems, problems
    context.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ("light", "dark"):
        check(browser, scheme)
    browser.close()
print(f"the page: an upload of {len(content)} bytes by keyboard, light and dark; screenshots in {screenshots}")
