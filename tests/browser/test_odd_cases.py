"""The page stays true when connections break, answers come late, and files come in crowds."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import FilePayload, Page, expect

from services.upload.http.large_body_protocol import LargeBodies
from tests.browser.standin import Standin, moment
from tests.support.serving import served

PROCESSING: dict[str, Any] = {
    "status": "processing",
    "phase": "reading",
    "attempt": 1,
    "max_attempts": 3,
    "started_at": moment(0),
}
COMPLETED: dict[str, Any] = PROCESSING | {
    "status": "completed",
    "phase": "completed",
    "finished_at": moment(4.2),
}


@pytest.fixture
async def standin() -> AsyncIterator[Standin]:
    standin = Standin()
    async with served(standin.app(), http=LargeBodies) as client:
        standin.url = str(client.base_url).rstrip("/")
        yield standin
        standin.close()


async def open_page(page: Page, standin: Standin, path: str = "/") -> None:
    await page.goto(standin.url + path)
    await expect(page.locator("#connection")).to_have_text("live")


def put_many(standin: Standin, count: int, **facts: Any) -> list[str]:
    """Put so many files in; returns their ids, oldest first."""
    ids = [f"file-{number:05}" for number in range(count)]
    for file_id in ids:
        standin.put(file_id, **facts)
    return ids


async def test_a_row_never_steps_back(page: Page, standin: Standin) -> None:
    standin.put("one")
    await open_page(page, standin)
    past = standin.put("one", **PROCESSING)
    standin.tell(standin.put("one", **COMPLETED), past)
    status = page.locator("#files .status")
    await expect(status).to_have_text("completed")
    standin.tell(past)
    standin.tell(standin.put("two"))
    await expect(page.locator("#files li")).to_have_count(2)
    await expect(status.last).to_have_text("completed")


async def test_a_new_run_takes_an_ended_file_up_again(page: Page, standin: Standin) -> None:
    standin.put("one", **COMPLETED)
    await open_page(page, standin)
    standin.tell(standin.put("one", run=2, status="pending", phase="queued"))
    await expect(page.locator("#files .status")).to_have_text("pending")


async def test_a_list_that_comes_late_does_not_undo_what_the_stream_told(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    standin.held_back = "limit"
    await open_page(page, standin)
    await standin.asked_for("/api/files?")
    standin.tell(standin.put("one", **COMPLETED))
    standin.held_back = None
    await expect(page.locator("#files .status")).to_have_text("completed")


async def test_what_the_stream_told_stays_though_the_list_is_far_behind_it(
    page: Page, standin: Standin
) -> None:
    await open_page(page, standin)
    await standin.asked_for("/api/files?")
    standin.tell(standin.put("told", **COMPLETED))
    await expect(page.locator("#files [data-id=told]")).to_be_visible()
    del standin.files["told"]
    standin.put("listed")
    # It comes with the second reading of the list.
    await expect(page.locator("#files [data-id=listed]")).to_be_visible()
    await expect(page.locator("#files [data-id=told] .status")).to_have_text("completed")


async def test_a_late_answer_to_an_earlier_search_is_not_shown(
    page: Page, standin: Standin
) -> None:
    put_many(standin, 60, name="apple.txt")
    standin.put("pear", name="pear.txt")
    await open_page(page, standin)
    await expect(page.locator("#files li")).to_have_count(50)
    standin.held_back = "name=apple"
    await page.get_by_label("Find by name").fill("apple")
    await standin.asked_for("name=apple")
    await page.get_by_label("Find by name").fill("pear")
    await expect(page.locator("#files li")).to_have_count(1)
    await expect(page.locator("#more")).to_be_hidden()
    async with page.expect_response("**/api/files?*name=apple*"):
        standin.held_back = None
    await asyncio.sleep(0.3)  # Whatever the page does with the answer, it has done by now.
    await expect(page.locator("#more")).to_be_hidden()


async def test_what_was_missed_is_shown_down_to_the_last_row_that_was_loaded(
    page: Page, standin: Standin
) -> None:
    ids = put_many(standin, 120, **PROCESSING)
    await open_page(page, standin)
    rows = page.locator("#files li")
    await expect(rows).to_have_count(50)
    await page.locator("#more").click()
    await expect(rows).to_have_count(100)
    standin.down = True
    standin.cut()
    await expect(page.locator("#connection")).to_have_text("connection lost, reconnecting …")
    standin.put(ids[25], **COMPLETED)
    for number in range(50):
        standin.put(f"new-{number:05}")
    standin.down = False
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator(f'#files [data-id="{ids[25]}"] .status')).to_have_text("completed")
    await expect(rows).to_have_count(150)
    await page.locator("#more").click()
    await expect(rows).to_have_count(170)
    await expect(page.locator("#more")).to_be_hidden()


async def test_a_file_that_left_the_filter_unseen_leaves_the_list(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    standin.put("two", **PROCESSING)
    await open_page(page, standin)
    await page.get_by_role("button", name="processing").click()
    await expect(page.locator("#files li")).to_have_count(2)
    standin.down = True
    standin.cut()
    await expect(page.locator("#connection")).to_contain_text("connection lost")
    standin.put("one", **COMPLETED)
    standin.down = False
    await expect(page.locator("#files li")).to_have_count(1)
    await expect(page.locator("#files li")).to_have_attribute("data-id", "two")


async def test_no_file_is_asked_for_again_while_the_stream_is_open(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    await open_page(page, standin)
    await expect(page.locator("#files li")).to_have_count(1)
    async with asyncio.timeout(10):  # The list is read twice, as it may be behind the stream.
        while sum(path.startswith("/api/files") for path in standin.asked) < 2:
            await asyncio.sleep(0.05)
    standin.asked.clear()
    for done in range(20):
        progress = {"done": done, "total": 20, "percent": done * 5}
        standin.tell(standin.put("one", progress=progress))
        await asyncio.sleep(0.1)
    await expect(page.locator("#files .phase")).to_have_text("reading · 95 %")
    assert [path for path in standin.asked if path.startswith("/api/files")] == []


async def test_the_page_of_one_file_is_read_once_for_each_line_of_its_history(
    page: Page, standin: Standin
) -> None:
    uploaded = {"id": "a", "type": "file.uploaded", "time": moment(-60), "run": 1}
    started = uploaded | {"id": "b", "type": "file.processing", "time": moment(0), "attempt": 1}
    ended = started | {"id": "c", "type": "file.completed", "time": moment(4.2)}
    standin.put("one", **PROCESSING, history=[uploaded, started])
    await open_page(page, standin, "/#/files/one")
    lines = page.locator(".timeline li")
    await expect(lines).to_have_count(2)
    # What the reader has marked must not vanish with the next step of progress.
    await page.locator(".facts dd").first.evaluate("node => getSelection().selectAllChildren(node)")
    standin.asked.clear()
    for done in range(10):
        progress = {"done": done, "total": 10, "percent": done * 10}
        standin.tell(standin.put("one", progress=progress))
        await asyncio.sleep(0.05)
    await expect(page.locator("#detail-view .phase")).to_contain_text("reading · 90 %")
    assert await page.evaluate("String(getSelection())") == "text"
    assert [path for path in standin.asked if path.startswith("/api/files")] == []
    standin.tell(standin.put("one", **COMPLETED, history=[uploaded, started, ended]))
    await expect(lines).to_have_count(3)
    await expect(lines.last).to_contain_text("4.2 s later")
    assert standin.asked == ["/api/files/one"]


async def test_a_command_is_given_once_however_often_its_button_is_pressed(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    await open_page(page, standin, "/#/files/one")
    cancel = page.get_by_role("button", name="Cancel")
    await cancel.focus()
    for _ in range(3):
        await page.keyboard.press("Enter")
    await expect(cancel).to_be_disabled()
    await expect(cancel).to_have_text("Cancelling …")
    await expect(cancel).to_be_focused()
    assert standin.asked.count("/api/files/one/cancel") == 1
    standin.tell(standin.put("one", status="cancelled", phase="cancelled"))
    await expect(cancel).to_be_hidden()
    retry = page.get_by_role("button", name="Retry")
    await expect(retry).to_be_enabled()
    await retry.click()
    await expect(page.locator(".title .status")).to_have_text("pending")
    await expect(cancel).to_be_enabled()
    assert standin.asked.count("/api/files/one/retry") == 1


async def test_a_file_that_somebody_else_is_cancelling_is_not_cancelled_again(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    await open_page(page, standin, "/#/files/one")
    cancel = page.get_by_role("button", name="Cancel")
    await expect(cancel).to_be_enabled()
    standin.tell(standin.put("one", phase="cancelling"))
    await expect(cancel).to_be_disabled()
    await expect(page.locator("#detail-view .phase")).to_contain_text("cancelling")


async def test_a_command_that_is_refused_says_why_and_can_be_given_again(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **COMPLETED | {"status": "failed", "phase": "failed"})
    await open_page(page, standin, "/#/files/one")
    standin.refused = "The file is pending: it is under way already."
    retry = page.get_by_role("button", name="Retry")
    await retry.click()
    reason = page.locator("#detail-view .reason")
    await expect(reason).to_have_text(standin.refused)
    await expect(retry).to_be_enabled()
    standin.refused = None
    await retry.click()
    await expect(page.locator(".title .status")).to_have_text("pending")
    await expect(reason).to_be_empty()


async def test_a_completed_file_can_only_be_deleted_and_that_is_asked_once_more(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **COMPLETED)
    await open_page(page, standin, "/#/files/one")
    await expect(page.locator(".title .status")).to_have_text("completed")
    delete = page.locator(".commands button:visible")
    await expect(delete).to_have_text("Delete")
    await delete.click()
    await expect(delete).to_have_text("Delete permanently?")
    assert standin.files
    standin.refused = "The file has the label 'legal_hold' and must not be deleted."
    await delete.click()
    await expect(page.locator("#detail-view .reason")).to_have_text(standin.refused)
    standin.refused = None
    await expect(delete).to_have_text("Delete")
    await delete.press("Enter")
    await delete.press("Enter")
    await expect(page.locator("#detail-view")).to_contain_text("No file has the id 'one'")
    assert not standin.files


async def test_a_file_that_waits_for_its_next_attempt_counts_down(
    page: Page, standin: Standin
) -> None:
    error = {"code": "busy", "message": "The converter was busy.", "retryable": True}
    standin.put(
        "one", attempt=1, max_attempts=3, error=error, next_attempt_at=standin.in_seconds(30)
    )
    await open_page(page, standin)
    await expect(page.locator("#files .phase")).to_contain_text("next attempt in 2")
    await page.locator("#files a").click()
    await expect(page.locator(".failure")).to_contain_text("Attempt 1 failed")
    timer = page.get_by_role("timer")
    before = await timer.inner_text()
    await expect(timer).not_to_have_text(before)
    await expect(timer).to_contain_text("in 2")


async def test_a_thousand_files_are_patched_row_by_row(page: Page, standin: Standin) -> None:
    ids = put_many(standin, 1000)
    await open_page(page, standin)
    standin.tell(*standin.files.values())
    rows = page.locator("#files li")
    await expect(rows).to_have_count(50)
    await standin.asked_for("/api/files?", times=2)  # And it is not read again later.
    for _ in range(3):
        count = await rows.count()
        await page.locator("#more").click()
        await expect(rows).to_have_count(count + 50)
    await rows.last.evaluate("row => { row.marked = true; }")
    standin.tell(*[standin.put(file_id, **COMPLETED) for file_id in ids])
    standin.tell(*[standin.put(f"new-{number:05}") for number in range(1000)])
    await expect(rows).to_have_count(1200)
    assert await rows.last.evaluate("row => row.marked")
    await expect(rows.last.locator(".status")).to_have_text("completed")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 1280


async def test_a_page_that_is_open_for_days_does_not_grow_for_days(
    page: Page, standin: Standin
) -> None:
    await open_page(page, standin)
    await expect(page.locator("#empty")).to_be_visible()
    ids = put_many(standin, 2500)
    standin.tell(*standin.files.values())
    rows = page.locator("#files li")
    await expect(rows).to_have_count(500)
    await expect(rows.first).to_have_attribute("data-id", ids[-1])
    await expect(page.locator('[data-status=""] b')).to_have_text("500+")
    standin.tell(standin.put("newer"))
    await expect(rows).to_have_count(501)


async def test_a_service_that_is_away_when_the_page_opens_is_asked_again(
    page: Page, standin: Standin
) -> None:
    standin.put("one")
    standin.down = True
    await page.goto(standin.url)
    await expect(page.locator("#connection")).to_contain_text("connection lost")
    standin.down = False
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("#files li")).to_have_count(1)


async def test_a_list_that_cannot_be_read_says_why_and_mends_itself(
    page: Page, standin: Standin
) -> None:
    standin.put("one")
    await open_page(page, standin)
    await expect(page.locator("#files li")).to_have_count(1)
    standin.down = True
    await page.get_by_role("button", name="pending").click()
    await expect(page.locator("#problem")).to_contain_text("The stand-in is down.")
    await expect(page.locator("#empty")).to_be_hidden()
    standin.down = False
    await expect(page.locator("#problem")).to_be_hidden()


async def test_an_upload_shows_how_far_it_is_and_can_be_cancelled(
    page: Page, standin: Standin
) -> None:
    await open_page(page, standin)
    standin.storing.clear()
    await page.evaluate(
        """() => {
            const dataTransfer = new DataTransfer();
            for (let number = 0; number < 5; number += 1) {
                dataTransfer.items.add(new File([new Uint8Array(8e6)], `${number}.bin`));
            }
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
        }"""
    )
    uploads = page.locator(".upload")
    await expect(uploads).to_have_count(3)
    await expect(page.locator("#uploads")).to_contain_text("2 more files queued")
    await expect(uploads.first).to_contain_text(" of 8.0 MB")
    for name in ("0.bin", "1.bin"):
        await uploads.filter(has_text=name).get_by_role("button", name="Cancel").click()
    await expect(page.locator("#uploads")).not_to_contain_text("queued")
    standin.storing.set()
    await expect(page.locator("#uploads")).to_be_hidden()
    await expect(page.locator("#files li")).to_have_count(3)


async def test_an_upload_of_what_is_there_already_leads_to_it(page: Page, standin: Standin) -> None:
    standin.put("one", **COMPLETED)
    standin.known = "one"
    await open_page(page, standin)
    note = FilePayload(name="note.txt", mimeType="text/plain", buffer=b"words")
    await page.set_input_files("#picker", note)
    told = page.locator(".upload [role=status]")
    await expect(told).to_contain_text("This file already exists.")
    await expect(page.locator("#files li")).to_have_count(1)
    await told.get_by_role("link").click()
    await expect(page.locator(".title .status")).to_have_text("completed")
    await page.go_back()
    await page.get_by_role("button", name="Dismiss").click()
    await expect(page.locator("#uploads")).to_be_hidden()


async def test_an_upload_that_broke_off_can_be_tried_again(page: Page, standin: Standin) -> None:
    await open_page(page, standin)
    standin.down = True
    note = FilePayload(name="note.txt", mimeType="text/plain", buffer=b"words")
    await page.set_input_files("#picker", note)
    await expect(page.locator(".upload .reason")).to_have_text("The stand-in is down.")
    standin.down = False
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator("#files .status")).to_have_text("pending")
    await expect(page.locator("#uploads")).to_be_hidden()


async def test_an_address_that_is_no_address_is_told_and_not_stumbled_over(
    page: Page, standin: Standin
) -> None:
    await open_page(page, standin, "/#/files/%E0%A4%A")
    await expect(page.locator(".failure")).to_contain_text("No file has the id '%E0%A4%A'")
    await page.get_by_role("link", name="All files").click()
    await expect(page.locator("#empty")).to_be_visible()


async def test_what_files_say_of_themselves_is_never_markup(page: Page, standin: Standin) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    error = {"code": hostile, "message": hostile, "retryable": False}
    artifact = {"name": "sub/a b?#%.txt", "content_type": "text/plain", "size": 3}
    standin.put(
        "one",
        **{**COMPLETED, "status": "failed", "phase": hostile},
        name="\u05d0\u05d1\u05d2" + hostile,
        content_type=hostile,
        error=error,
        labels={hostile: hostile},
        result={"prefix": "", "artifacts": [artifact], "statistics": {hostile: hostile}},
    )
    await open_page(page, standin)
    await expect(page.locator("#files .phase")).to_have_text(hostile)
    await page.locator("#files a").click()
    await expect(page.locator(".failure")).to_contain_text(hostile)
    await expect(page.locator("#detail-view")).to_contain_text(f"{hostile}: {hostile}")
    assert await page.locator("main img").count() == 0
    assert await page.title() != "owned"
    link = page.get_by_role("link", name="sub/a b")
    assert await link.get_attribute("href") == "/api/files/one/artifacts/sub/a%20b%3F%23%25.txt"


async def test_the_way_by_keyboard_leads_to_a_file_and_back_to_its_row(
    page: Page, standin: Standin
) -> None:
    put_many(standin, 3)
    await open_page(page, standin)
    await expect(page.locator("#files li")).to_have_count(3)
    await page.get_by_label("Find by name").focus()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1", has_text="file-00001.txt")).to_be_focused()
    await page.go_back()
    await expect(page.locator('#files [data-id="file-00001"] a')).to_be_focused()


async def test_many_ends_are_announced_as_one(page: Page, standin: Standin) -> None:
    ids = put_many(standin, 5, **PROCESSING)
    await open_page(page, standin)
    await expect(page.locator("#files li")).to_have_count(5)
    standin.tell(*[standin.put(file_id, **COMPLETED) for file_id in ids[1:]])
    standin.tell(standin.put(ids[0], status="failed"))
    await expect(page.locator("#announcer")).to_have_text("Files: 4 completed, 1 failed")


async def test_nothing_moves_where_motion_is_unwanted(page: Page, standin: Standin) -> None:
    standin.put("one", **PROCESSING)
    await page.emulate_media(reduced_motion="reduce")
    await open_page(page, standin)
    await expect(page.locator("#files .status")).to_have_text("processing")
    assert await page.evaluate("document.getAnimations().length") == 0


async def test_a_page_in_the_background_gives_its_connection_back(
    page: Page, standin: Standin
) -> None:
    standin.put("one", **PROCESSING)
    await page.clock.install()
    await open_page(page, standin)
    await _hide(page, hidden=True)
    await page.clock.run_for(6_000)
    async with asyncio.timeout(20):
        while standin.streams:
            await asyncio.sleep(0.05)
    standin.put("one", **COMPLETED)
    await _hide(page, hidden=False)
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("#files .status")).to_have_text("completed")


async def _hide(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_the_queue_and_files_that_do_not_go_on_are_told_above_the_list(
    page: Page, standin: Standin
) -> None:
    await open_page(page, standin)
    await expect(page.locator("#traffic")).to_be_hidden()
    standin.waiting = 48
    stuck = standin.put("f1", name="<b>silent</b>.pdf", **PROCESSING)
    standin.stuck = [
        {**stuck, "silent_since": standin.in_seconds(-3630), "reason": "Its pod is gone."}
    ]
    await page.reload()
    await expect(page.locator("#traffic")).to_have_text(
        "48 waiting, the last starts in 12 s · 4.0 files/s finished"
    )
    await page.locator("#stuck summary", has_text="1 stuck file").click()
    await expect(page.locator("#stuck li")).to_contain_text(
        "silent for 1 h 0 min. Its pod is gone."
    )
    await page.locator("#stuck a", has_text="<b>silent</b>.pdf").click()
    await expect(page.locator("#detail-view")).to_be_visible()
