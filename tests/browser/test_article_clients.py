"""The two JavaScript clients of the README work as they stand there."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.support.journey import Traveller
from tests.support.stack import RunningStack

README = Path(__file__).parents[2] / "README.md"
POLLING, LIVE = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
async def traveller(stack: RunningStack) -> AsyncIterator[Traveller]:
    traveller = Traveller(stack)
    yield traveller
    await traveller.close()


async def run_in(page: Page, file_id: str, code: str) -> list[str]:
    """Run a client on the status service's origin; returns the statuses that it showed."""
    statuses: list[str] = await page.evaluate(
        """([fileId, code]) => new Promise((resolve) => {
            const seen = [];
            const show = (status) => {
                if (seen.at(-1) !== status) seen.push(status);
                if (status === "completed" || status === "failed") {
                    // A stream that the client had not closed would come again within 3 s.
                    setTimeout(() => resolve(seen), 3000);
                }
            };
            new Function("fileId", "show", code)(fileId, show);
        })""",
        [file_id, code],
    )
    return statuses


@pytest.mark.parametrize(("then", "end"), [("complete", "completed"), ("fail", "failed")])
@pytest.mark.parametrize(
    "client", [POLLING + "\npoll(fileId);", LIVE], ids=["polling", "EventSource"]
)
async def test_a_client_of_the_readme_follows_a_file_to_its_end_in_a_browser(
    page: Page, traveller: Traveller, client: str, then: str, end: str
) -> None:
    # A page without the policy of ours, which rightly forbids code made of text.
    await page.goto(f"{traveller.stack.status_url}/health/live")
    file_id = await traveller.upload_demo(seconds=2.5, steps=5, then=then)
    seen = await run_in(page, file_id, client)
    assert seen[-1] == end
    assert seen.count(end) == 1
    assert "processing" in seen


async def test_the_polling_client_of_the_readme_works_in_node(traveller: Traveller) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed (Debian: apt-get install nodejs)")
    file_id = await traveller.upload_demo(seconds=1.5, steps=3)
    script = f"""
        const base = "{traveller.stack.status_url}";
        const plain = globalThis.fetch;
        globalThis.fetch = (path) => plain(base + path);
        const show = (status) => console.log(status);
        {POLLING}
        poll("{file_id}");
    """
    process = await asyncio.create_subprocess_exec(
        node, "-e", script, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert output.decode().split()[-1] == "completed"
