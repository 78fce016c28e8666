"""Where the services ask for tokens, the page does so once, and keeps them from scripts."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.access.people import SECRET, bearer, token
from tests.support.stack import RunningStack, eventually
from waybill.addresses import Addresses
from waybill.client import Client
from waybill.errors import RefusedError

COOKIE = "__Host-waybill"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A whole Waybill that asks for tokens."""
    running = RunningStack.start(
        tmp_path_factory.mktemp("asking"),
        "--samples",
        WAYBILL_AUTH="jwt",
        WAYBILL_AUTH_SECRET=SECRET,
    )
    yield running
    running.stop()


def client_of(stack: RunningStack, credential: str | None) -> Client:
    addresses = Addresses(status=stack.status_url, upload=stack.upload_url)
    return Client(addresses, token=credential)


async def sign_in(page: Page, stack: RunningStack, credential: str) -> None:
    await page.goto(stack.status_url)
    await page.fill("#login input", credential)
    await page.click("#login button")


async def test_a_page_shows_what_is_its_readers_and_takes_what_they_upload(
    page: Page, asking: RunningStack
) -> None:
    with client_of(asking, token("bob")) as bob:
        bob.upload_bytes("bobs.txt", [b"bob"], size=3)
    with client_of(asking, token("ada")) as ada:
        ada.upload_bytes("adas.txt", [b"ada"], size=3)

    await sign_in(page, asking, token("ada"))

    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("#who")).to_contain_text("ada")
    await page.set_input_files(
        "#picker", FilePayload(name="mine.txt", mimeType="text/plain", buffer=b"mine")
    )
    row = page.locator("#files li", has_text="mine.txt")
    await expect(row.locator(".status")).to_have_text("completed", timeout=30_000)
    await expect(page.locator("#files li", has_text="adas.txt")).to_be_visible()
    await expect(page.locator("#files li", has_text="bobs.txt")).to_have_count(0)


async def test_a_page_shows_what_is_shared_and_no_longer_when_it_is_withdrawn(
    page: Page, asking: RunningStack
) -> None:
    with client_of(asking, token("ada")) as ada:
        file_id = ada.upload_bytes("lent.txt", b"lent", size=4)["file_id"]
        await sign_in(page, asking, token("carl"))
        await expect(page.locator("#connection")).to_have_text("live")
        row = page.locator("#files li", has_text="lent.txt")
        await expect(row).to_have_count(0)
        await asyncio.to_thread(ada.share, file_id, "carl")
        await expect(row).to_be_visible()
        await asyncio.to_thread(ada.unshare, file_id, "carl")
        await expect(row).to_have_count(0)


async def test_an_event_source_of_any_page_follows_by_a_ticket(
    page: Page, asking: RunningStack
) -> None:
    with client_of(asking, token("ada")) as ada:
        file_id = ada.upload_bytes("mine.txt", b"mine", size=4)["file_id"]
    headers = bearer(token("ada"))
    async with httpx.AsyncClient(base_url=asking.status_url, headers=headers) as client:
        ticket = (await client.post("/api/tickets")).json()["ticket"]
    await page.goto(f"{asking.upload_url}/health/live")  # Another origin.
    told = await page.evaluate(
        """([address]) => new Promise((resolve, reject) => {
            const source = new EventSource(address);
            source.onmessage = ({ data }) => (source.close(), resolve(JSON.parse(data).file_id));
            source.onerror = () => reject(new Error("refused"));
        })""",
        [f"{asking.status_url}/api/stream?ids={file_id}&ticket={ticket}"],
    )
    assert told == file_id


async def test_scripts_cannot_read_the_token_and_signing_out_forgets_it(
    page: Page, asking: RunningStack
) -> None:
    await sign_in(page, asking, token("ada"))
    await expect(page.locator("#connection")).to_have_text("live")
    kept = {each["name"]: each for each in await page.context.cookies()}[COOKIE]
    assert kept["httpOnly"]
    assert kept["secure"]
    assert kept["sameSite"] == "Strict"
    assert await page.evaluate("document.cookie") == ""
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0

    await page.reload()
    await expect(page.locator("#who")).to_contain_text("ada")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#login")).to_be_visible()
    assert COOKIE not in {each["name"] for each in await page.context.cookies()}


async def test_what_is_no_token_is_refused_in_words(page: Page, asking: RunningStack) -> None:
    await sign_in(page, asking, "hello")
    await expect(page.locator("#login .reason")).to_contain_text("token is invalid")


async def test_a_page_of_another_port_cannot_use_the_session(
    browser: Browser, asking: RunningStack
) -> None:
    with client_of(asking, token("ada")) as ada:
        uploaded = ada.upload_bytes("adas.txt", [b"ada"], size=3)
        file_id = ada.wait(uploaded["file_id"], seconds=30)["file_id"]
    context = await browser.new_context()
    page = await context.new_page()
    await sign_in(page, asking, token("ada"))
    await expect(page.locator("#connection")).to_have_text("live")
    # Cookies do not know ports: to the browser, any page of this machine is of the same site.
    stranger = await context.new_page()
    await stranger.goto(f"{asking.upload_url}/openapi.json")
    outcomes = await stranger.evaluate(
        """async ([url, command]) => {
            await fetch(command, {method: "POST", credentials: "include", mode: "no-cors"});
            const read = fetch(url + "/api/files", {credentials: "include"});
            const socket = new WebSocket(url.replace("http", "ws") + "/api/ws");
            const opening = new Promise((resolve) => {
                socket.onopen = () => resolve("opened");
                socket.onerror = () => resolve("refused");
            });
            return [await read.then(() => "read", () => "refused"), await opening];
        }""",
        [asking.status_url, f"{asking.status_url}/api/files/{file_id}/retry?force=true"],
    )
    await context.close()
    assert outcomes == ["refused", "refused"]
    with client_of(asking, token("ada")) as ada:
        assert ada.status(file_id)["run"] == 1


def test_the_clients_and_the_command_line_take_a_token(asking: RunningStack) -> None:
    eventually(lambda: "sample documents not uploaded" in asking.output)
    with client_of(asking, None) as nobody, pytest.raises(RefusedError) as refused:
        nobody.files()
    assert refused.value.code == "unauthenticated"

    def waybill(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "waybill", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    made = waybill("token", "carol", "--tenant", "acme", WAYBILL_AUTH_SECRET=SECRET)
    listed = waybill("list", "--dir", str(asking.folder), WAYBILL_TOKEN=made.stdout.strip())
    assert listed.returncode == 0, listed.stderr
    refused_list = waybill("list", "--dir", str(asking.folder), WAYBILL_TOKEN="-")  # noqa: S106 - none
    assert refused_list.returncode == 2
    assert waybill("token", "carol", WAYBILL_AUTH_SECRET="").returncode == 1


def test_an_upload_by_a_page_of_nobody_we_know_has_no_session(asking: RunningStack) -> None:
    answer = httpx.post(
        f"{asking.upload_url}/api/files/upload",
        content=b"text",
        headers={"Origin": "https://another.test", "Cookie": f"{COOKIE}={token()}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in answer.headers
    allowed = httpx.post(
        f"{asking.upload_url}/api/files/upload",
        content=b"text",
        headers={**bearer(token()), "Origin": asking.status_url},
    )
    assert allowed.headers["access-control-allow-origin"] == asking.status_url
    assert allowed.headers["access-control-allow-credentials"] == "true"
