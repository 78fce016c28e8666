"""The page shows what is true, live, in a real browser, on the real stack."""

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import FilePayload, Page, expect

from shared.settings import DEMO_TYPE
from tests.support.journey import Traveller
from tests.support.stack import RunningStack

HOSTILE = '<img src=x onerror="document.title=1">.txt'


@pytest.fixture
async def traveller(stack: RunningStack) -> AsyncIterator[Traveller]:
    traveller = Traveller(stack)
    yield traveller
    await traveller.close()


def demo(name: str, **spec: object) -> FilePayload:
    return FilePayload(name=name, mimeType=DEMO_TYPE, buffer=json.dumps(spec).encode())


async def open_page(page: Page, stack: RunningStack, path: str = "/") -> None:
    await page.goto(stack.status_url + path)
    await expect(page.locator("#connection")).to_have_text("live")


async def test_a_file_given_to_the_page_is_watched_to_its_end_without_a_reload(
    page: Page, stack: RunningStack
) -> None:
    await open_page(page, stack)
    await page.set_input_files("#picker", demo("journey.json", seconds=3, steps=6))
    row = page.locator("#files li", has_text="journey.json").first
    await expect(row.locator(".status")).to_have_text("processing")
    await expect(row.locator("progress")).to_be_visible()
    await expect(row.locator(".status")).to_have_text("completed", timeout=30_000)
    await expect(page.locator("#announcer")).to_have_text("journey.json is completed")


async def test_a_file_dropped_on_the_page_is_uploaded(page: Page, stack: RunningStack) -> None:
    await open_page(page, stack)
    data = await page.evaluate_handle(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["dropped words"], "dropped.txt", {type: "text/plain"}));
            return data;
        }"""
    )
    await page.dispatch_event("body", "dragenter", {"dataTransfer": data})
    await expect(page.locator("#drop")).to_be_visible()
    await page.dispatch_event("body", "drop", {"dataTransfer": data})
    await expect(page.locator("#drop")).to_be_hidden()
    row = page.locator("#files li", has_text="dropped.txt").first
    await expect(row.locator(".status")).to_have_text("completed", timeout=30_000)


async def test_a_failed_file_shows_its_reason_and_its_history(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    file_id = await traveller.upload_demo(then="fail")
    await traveller.wait(file_id)
    await open_page(page, stack)
    await page.locator(f'#files li[data-id="{file_id}"] a').click()
    await expect(page.locator(".failure")).to_contain_text("demo_failed")
    await expect(page.locator(".timeline li b")).to_have_text(["uploaded", "processing", "failed"])
    await page.go_back()
    await expect(page.locator("#list-view")).to_be_visible()


async def test_what_a_file_is_stands_there_in_words_of_people(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    words = b"<p>The parcel office keeps an honest ledger of all that came through its door.</p>"
    answer = await traveller.upload("ledger.html", words, "text/html")
    file_id = answer.json()["file_id"]
    await traveller.wait(file_id)
    await open_page(page, stack, f"/#/files/{file_id}")
    await expect(page.locator(".facts dd", has_text="HTML")).to_be_visible()
    await expect(page.locator(".facts dd", has_text="English")).to_be_visible()


async def test_the_page_of_one_file_is_live(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    file_id = await traveller.upload_demo(seconds=3, steps=6)
    await open_page(page, stack, f"/#/files/{file_id}")
    await expect(page.locator(".title .status")).to_have_text("processing")
    await expect(page.locator(".title .status")).to_have_text("completed", timeout=30_000)
    artifact = page.get_by_role("link", name="demo.json")
    async with page.expect_download() as downloading:
        await artifact.click()
    assert (await downloading.value).suggested_filename == "demo.json"


async def test_a_file_that_succeeds_at_its_second_attempt_shows_both_and_why(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    # How long it waits is chance, so the wait itself is watched at the stand-in.
    file_id = await traveller.upload_demo(then="retry", until=2)
    await open_page(page, stack, f"/#/files/{file_id}")
    await expect(page.locator(".title .status")).to_have_text("completed", timeout=60_000)
    await expect(page.locator(".failure")).to_have_count(0)
    lines = page.locator(".timeline li")
    await expect(lines.locator("b")).to_have_text(
        ["uploaded", "processing", "retrying", "processing", "completed"]
    )
    await expect(lines.nth(2)).to_contain_text(
        "This demo file fails until attempt 2, as it requested."
    )


async def test_a_file_is_cancelled_and_retried_by_keyboard(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    file_id = await traveller.upload_demo(seconds=60, steps=60)
    await open_page(page, stack, f"/#/files/{file_id}")
    status = page.locator(".title .status")
    await expect(status).to_have_text("processing")
    for again in (False, True):
        await page.get_by_role("button", name="Cancel").focus()
        await page.keyboard.press("Enter")
        await expect(status).to_have_text("cancelled", timeout=20_000)
        if not again:
            await page.get_by_role("button", name="Retry").focus()
            await page.keyboard.press("Space")
            await expect(status).to_have_text("processing", timeout=20_000)
    await expect(page.locator(".timeline li b")).to_have_text(
        ["uploaded", "processing", "cancelled", "requeued", "processing", "cancelled"]
    )


async def test_many_files_given_at_once_all_arrive(page: Page, stack: RunningStack) -> None:
    await open_page(page, stack)
    names = [f"many-{number}.txt" for number in range(12)]
    await page.set_input_files(
        "#picker",
        [FilePayload(name=name, mimeType="text/plain", buffer=name.encode()) for name in names],
    )
    for name in names:
        row = page.locator("#files li", has_text=name)
        await expect(row.locator(".status")).to_have_text("completed", timeout=60_000)
    await expect(page.locator("#uploads")).to_be_hidden()


async def test_a_refused_upload_shows_the_words_of_the_refusal(
    page: Page, stack: RunningStack
) -> None:
    await open_page(page, stack)
    empty = FilePayload(name="empty.txt", mimeType="text/plain", buffer=b"")
    await page.set_input_files("#picker", empty)
    await expect(page.locator(".upload .reason")).to_contain_text("empty")
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.locator("#uploads")).to_be_hidden()


async def test_an_unknown_file_is_told_in_the_words_of_the_service(
    page: Page, stack: RunningStack
) -> None:
    await open_page(page, stack, "/#/files/nope")
    await expect(page.locator(".failure")).to_contain_text("No file has the id 'nope'")


async def test_a_hostile_name_is_text_and_nothing_else(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    answer = await traveller.upload(HOSTILE, b"harmless", "text/plain")
    await traveller.wait(answer.json()["file_id"])
    await open_page(page, stack)
    row = page.locator(f'#files li[data-id="{answer.json()["file_id"]}"]')
    await expect(row.locator(".name")).to_contain_text("<img")
    assert await page.title() == "Waybill"
    assert await page.locator("#files img").count() == 0


async def test_the_list_is_filtered_by_status_and_by_name(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    failed = await traveller.upload_demo(then="fail")
    done = await traveller.upload_demo()
    await traveller.wait(failed)
    await traveller.wait(done)
    await open_page(page, stack)
    await page.get_by_role("button", name="failed").click()
    await expect(page.locator(f'#files li[data-id="{failed}"]')).to_be_visible()
    await expect(page.locator(f'#files li[data-id="{done}"]')).to_have_count(0)
    await page.get_by_label("Find by name").fill("no such name")
    await expect(page.locator("#empty")).to_contain_text("Nothing matches")


async def test_the_page_fits_a_phone_and_is_reached_by_keyboard(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    long_name = "a-very-long-name-" * 10 + ".txt"
    answer = await traveller.upload(long_name, b"words", "text/plain")
    await traveller.wait(answer.json()["file_id"])
    await page.set_viewport_size({"width": 375, "height": 700})
    await open_page(page, stack)
    await expect(page.locator("#files li").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375
    await page.locator("#files li a").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".title h1")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 375


async def test_a_lost_connection_is_told_and_what_was_missed_is_shown(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    await open_page(page, stack)
    os.kill(stack.pids["status"], signal.SIGKILL)
    await expect(page.locator("#connection")).to_contain_text("connection lost")
    file_id = await traveller.upload_demo()
    await expect(page.locator("#connection")).to_have_text("live", timeout=60_000)
    row = page.locator(f'#files li[data-id="{file_id}"]')
    await expect(row.locator(".status")).to_have_text("completed", timeout=30_000)


def test_the_page_has_no_part_from_elsewhere() -> None:
    static = Path(__file__).parents[2] / "services" / "status" / "dashboard" / "static"
    for part in static.iterdir():
        text = part.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, part.name
        assert "https://" not in text, part.name
