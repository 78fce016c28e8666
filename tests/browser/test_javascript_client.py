"""The JavaScript client, in a browser, on the real stack."""

import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page
from pydantic import TypeAdapter

from services.status.dashboard import STATIC
from services.status.projection.history import HistoryEntry
from services.status.projection.projection import Status
from tests.support.journey import Traveller
from tests.support.stack import RunningStack

DECLARED = (STATIC / "waybill.d.ts").read_text()


@pytest.fixture
async def traveller(stack: RunningStack) -> AsyncIterator[Traveller]:
    traveller = Traveller(stack)
    yield traveller
    await traveller.close()


async def run(page: Page, stack: RunningStack, body: str, *given: object) -> Any:
    """What the body of a function gives that gets a client, and `given`."""
    # A page without the policy of ours, which rightly forbids code made of text.
    await page.goto(f"{stack.status_url}/health/live")
    return await page.evaluate(
        """async ([uploadUrl, body, given]) => {
            const { Client, Refusal } = await import("/static/waybill.js");
            const made = Object.getPrototypeOf(async () => {}).constructor;
            const client = new Client({ uploadUrl });
            return new made("client", "Refusal", "given", body)(client, Refusal, given);
        }""",
        [stack.upload_url, body, list(given)],
    )


async def test_a_file_is_uploaded_and_followed_to_its_end(page: Page, stack: RunningStack) -> None:
    told = await run(
        page,
        stack,
        """
        const words = new Blob(["some words"], { type: "text/plain" });
        const { file_id } = await client.upload(words, { name: "a b.txt", labels: { team: "a" } });
        const seen = [];
        for await (const state of client.watch({ ids: [file_id] })) {
            if (seen.at(-1) !== state.status) seen.push(state.status);
            if (state.status === "completed") break;
        }
        const done = await client.wait(file_id);
        const { items } = await client.events(file_id);
        let listed = [];  // The lists are a moment behind.
        for (let tries = 0; tries < 500 && !listed.includes(file_id); tries += 1) {
            const found = await client.files({ label: "team:a", status: ["completed", "failed"] });
            listed = found.items.map((each) => each.file_id);
        }
        return { seen, name: done.name, types: items.map((each) => each.type), listed, file_id };
        """,
    )
    assert told["seen"][-1] == "completed"
    assert told["name"] == "a b.txt"
    assert told["types"] == ["file.uploaded", "file.processing", "file.completed"]
    assert told["file_id"] in told["listed"]


async def test_a_watch_that_was_closed_goes_on_with_what_was_missed(
    page: Page, stack: RunningStack, traveller: Traveller
) -> None:
    file_id = await traveller.upload_demo(seconds=60, steps=2)
    told = await run(
        page,
        stack,
        """
        const [id] = given;
        const connections = [];
        const note = (state, about) => state === "live" && connections.push(about.fresh);
        const watch = client.watch({ ids: [id] }, { onConnection: note });
        for await (const state of watch) if (state.status === "processing") break;
        while (watch.cursor === null) {
            // The first cursor comes a moment after the present states.
            const timer = setTimeout(() => watch.close(), 1000);
            for await (const _ of watch);
            clearTimeout(timer);
        }
        watch.close();
        await client.cancel(id);
        await client.wait(id);
        await client.retry(id);
        const missed = [];
        for await (const state of watch) {
            missed.push([state.run, state.status]);
            if (state.run === 2 && state.status === "processing") break;
        }
        watch.close();
        await client.delete(id);
        return { connections, missed: missed.map(String) };
        """,
        file_id,
    )
    assert told["connections"][0] is True
    assert told["connections"][-1] is False
    wanted = ["1,cancelled", "2,pending", "2,processing"]
    assert [state for state in dict.fromkeys(told["missed"]) if state in wanted] == wanted


async def test_a_refusal_says_why_and_whether_it_may_mend(page: Page, stack: RunningStack) -> None:
    told = await run(
        page,
        stack,
        """
        const about = (error) =>
            [error instanceof Refusal, error.status, error.code, error.mayMend];
        const unknown = await client.status("nope").catch(about);
        const empty = await client.upload(new Blob([""])).catch(about);
        const label = client.watch({ label: "no colon" });
        const wrong = await label[Symbol.asyncIterator]().next().catch(about);
        return [unknown, empty, wrong];
        """,
    )
    assert told == [
        [True, 404, "unknown_file", False],
        [True, 422, "no_file", False],
        [True, 422, "bad_parameter", False],
    ]


def declared(interface: str) -> set[str]:
    """The members of an interface of the declarations."""
    found = re.search(rf"^export interface {interface} {{\n(.*?)^}}", DECLARED, re.M | re.S)
    assert found is not None
    return set(re.findall(r"^  (\w+)\??:", found[1], re.M))


@pytest.mark.parametrize(
    ("interface", "model"), [("Status", Status), ("HistoryLine", HistoryEntry)]
)
def test_the_types_have_the_members_that_the_service_tells(interface: str, model: Any) -> None:
    told = TypeAdapter(model).json_schema(mode="serialization")["properties"]
    assert declared(interface) == set(told)


@pytest.mark.skipif(shutil.which("tsc") is None, reason="there is no TypeScript compiler (tsc)")
def test_the_types_are_right(tmp_path: Path) -> None:
    sample = tmp_path / "sample.ts"
    sample.write_text(
        'import { Client, Status } from "./waybill.js";\n'
        "const client = new Client({ token: async () => null });\n"
        "export async function last(id: string): Promise<Status | undefined> {\n"
        "  for await (const state of client.watch({ ids: [id] })) return state;\n"
        "}\n"
    )
    for each in STATIC.glob("waybill.*"):
        shutil.copy(each, tmp_path)
    checked = subprocess.run(
        ["tsc", "--strict", "--noEmit", "--target", "es2022", "--module", "es2022", str(sample)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout) == (0, "")
