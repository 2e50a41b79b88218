"""Uses the upload server's page as a person with a keyboard does, in a real browser.

    browser.py URL CHROMIUM FILE METRICS SCREENSHOTS

Uploads FILE, which is more than the pool's memory, over a throttled connection; sees the progress and the plots move; deletes the
file again; chooses several files of which one is refused; loses the server for a moment; goes through a list of 2,300 files. METRICS is
an answer of /metrics, which Prometheus' own parser has to take. Screenshots, light and dark, go to a folder.
"""

import hashlib
import http.client
import pathlib
import re
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


def press(page, selector):
    """Presses a button of the list of files, and waits until the list is made anew."""
    focus(page, selector)
    page.evaluate("document.activeElement.dataset.old = 'yes'")
    page.keyboard.press("Enter")
    expect(page.locator("[data-old]")).to_have_count(0)


def choose(page, selector, file):
    """Chooses a file, or several, by the key Space.

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


def several_files(page, status):
    """One of three files has a name that is refused: the others are uploaded, and it is said which was not."""
    files = [{"name": name, "mimeType": "text/plain", "buffer": b"bytes"} for name in ("first", ".refused", "~last")]
    choose(page, "#picked", files)
    focus(page, "button[type=submit]")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("Uploaded 2 of 3. Not uploaded: .refused: 400")
    expect(page.locator("button[type=submit]")).to_be_focused()
    expect(page.get_by_role("link", name="first", exact=True)).to_have_count(1)
    press(page, "button[aria-label='Delete ~last']")  # no file comes after it
    expect(page.locator("#files-title")).to_be_focused()
    press(page, "button[aria-label='Delete first']")


def list_fails(page, status):
    """That the files cannot be listed is said for as long as it is so. It stayed, as if it were so for ever."""
    page.route("**/files?after=*", lambda route: route.abort())
    page.evaluate("list()")
    expect(status).to_contain_text("Cannot list the files: ")
    page.unroute_all()
    page.evaluate("list()")
    expect(status).to_have_text("")


def long_list(page):
    """A file past the first thousand is deleted: the list stays as long as it was, and the focus goes to the next. Both went to the top."""
    server = http.client.HTTPConnection(url.removeprefix("http://"))

    def request_each(method):
        for number in range(2300):
            server.request(method, f"/files/~{number:04}")
            server.getresponse().read()

    request_each("PUT")
    page.goto(url)
    items, more = page.locator("#files > li"), page.locator("#more")
    expect(items).to_have_count(1000)
    more.press("Enter")
    expect(items).to_have_count(2000)
    expect(items.nth(1000).locator("a")).to_be_focused()
    deleted = items.nth(1500).get_attribute("data-name")
    page.locator(f"button[aria-label='Delete {deleted}']").press("Enter")
    expect(page.get_by_role("link", name=deleted, exact=True)).to_have_count(0)
    expect(items).to_have_count(2000)
    expect(items.nth(1500).locator("a")).to_be_focused()
    more.press("Enter")
    expect(more).to_be_hidden()
    assert 2299 <= items.count() < 3000, items.count()
    expect(items.nth(2000).locator("a")).to_be_focused()
    request_each("DELETE")


def lose_server(page):
    """It is said once that the server does not answer, where it hides nothing else, and no longer than it is so."""
    page.evaluate(
        """() => {
            window.alerts = [];
            const reach = document.getElementById('reach');
            new MutationObserver(() => window.alerts.push(reach.textContent)).observe(reach, { childList: true });
        }"""
    )
    tries = []
    page.route("**/metrics", lambda route: (tries.append(route), route.abort()))
    expect(page.locator("#reach")).to_have_text("The server does not answer.")
    while len(tries) < 4:
        page.wait_for_timeout(100)
    page.route(re.compile(".*/files[/?].*"), lambda route: route.abort())
    button = page.locator("button[aria-label^='Persist ']").first
    button.click()
    expect(page.get_by_role("status")).to_contain_text(f"Cannot persist {button.get_attribute('aria-label')[8:]}: ")
    page.unroute_all()
    expect(page.locator("#reach")).to_have_text("")
    assert page.evaluate("window.alerts") == ["The server does not answer.", ""], page.evaluate("window.alerts")


def check(browser, scheme):
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1000, "height": 900})
    page = context.new_page()
    problems, complaints = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else print(message.text, file=sys.stderr))
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

    press(page, f"button[aria-label='Persist {name}']")
    expect(status).to_have_text(f"Persisted {name}")
    expect(page.get_by_role("button", name=f"Persist {name}", exact=True)).to_be_focused()
    names = [item.get_attribute("data-name") for item in page.locator("#files > li").all()]
    press(page, f"button[aria-label='Delete {name}']")
    expect(status).to_have_text(f"Deleted {name}")
    expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("link", name=names[names.index(name) + 1], exact=True)).to_be_focused()
    assert not complaints, complaints
    several_files(page, status)
    list_fails(page, status)
    lose_server(page)
    if scheme == "light":
        long_list(page)
    assert not problems, problems
    context.close()


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    for scheme in ("light", "dark"):
        check(browser, scheme)
    browser.close()
print(f"the page: an upload of {len(content)} bytes by keyboard, light and dark; screenshots in {screenshots}")
