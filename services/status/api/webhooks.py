"""Webhooks: `POST /api/webhooks` and what stands below it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from services.status.api.bulk import Label
from services.status.api.dependencies import (
    Commandable,
    OutboundOf,
    Readable,
    StoreOf,
    WebhooksOf,
    commander,
    own_origin,
    reader,
)
from services.status.projection.projection import FileState
from services.status.webhooks.deliveries import Deliveries, Delivery
from services.status.webhooks.registry import Webhook
from shared.events.events import Timestamp, utc_now
from shared.http.head_first import HeadFirstRoute
from shared.http.problems import ERROR_RESPONSES

reading = APIRouter(
    prefix="/api/webhooks",
    tags=["webhooks"],
    responses=ERROR_RESPONSES,
    dependencies=[Depends(reader)],
)
commanding = APIRouter(
    prefix="/api/webhooks",
    tags=["webhooks"],
    route_class=HeadFirstRoute,
    responses=ERROR_RESPONSES,
    dependencies=[Depends(own_origin), Depends(commander)],
)

MAX_URL = 2000
MAX_DELIVERIES = 500

TERMINAL = [state for state in FileState if state.is_terminal]

WebhookId = Annotated[str, Path(max_length=64, description="As it was answered.")]


class NewWebhook(BaseModel):
    """Where to tell of what."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=MAX_URL, description="https://…", examples=["https://a.example/"])
    states: list[FileState] = Field(
        default=TERMINAL, min_length=1, description="Those that end a file, of these only."
    )
    label: Label | None = Field(default=None, description="`key:value`: of such files only.")


class WebhookTold(BaseModel):
    """A server that is told of files that end."""

    id: str
    url: str
    states: list[FileState]
    label: str | None
    created_at: Timestamp
    disabled: bool = Field(description="The server has answered 410: it is not asked any more.")


class WebhookWithSecret(WebhookTold):
    """With the secret that signs, which is told this once."""

    secret: str


class WebhookList(BaseModel):
    """The webhooks that may be seen, oldest first."""

    items: list[WebhookTold]


class DeliveryList(BaseModel):
    """The latest deliveries of a webhook, the latest first."""

    items: list[Delivery]


@commanding.post("", status_code=201)
async def create_webhook(
    asked: NewWebhook, webhooks: WebhooksOf, outbound: OutboundOf, commandable: Commandable
) -> WebhookWithSecret:
    """Have a server told of each file of yours that ends from now on.

    It gets a JSON message by POST, signed after Standard Webhooks, and again, in growing intervals
    for some five hours, until it answers 2xx. See docs/webhooks.md.
    """
    outbound.check(asked.url)
    made = Webhook.new(
        asked.url,
        states=frozenset(asked.states),
        label=asked.label,
        visible_to=commandable,
    )
    await webhooks.add(made)
    return _with_secret(made)


@reading.get("")
async def list_webhooks(webhooks: WebhooksOf, readable: Readable) -> WebhookList:
    """Your webhooks, without their secrets."""
    known = (await webhooks.all()).values()
    mine = [each for each in known if each.is_visible_to(readable)]
    return WebhookList(items=[_told(each) for each in sorted(mine, key=lambda it: it.created_at)])


@reading.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: WebhookId,
    webhooks: WebhooksOf,
    store: StoreOf,
    readable: Readable,
    limit: Annotated[int, Query(ge=1, le=MAX_DELIVERIES)] = 50,
) -> DeliveryList:
    """What was sent, and what the server answered, for a month."""
    webhook = await webhooks.get(webhook_id, readable)
    return DeliveryList(items=await Deliveries(store).latest(webhook.id, limit))


@commanding.post("/{webhook_id}/rotate")
async def rotate_secret(
    webhook_id: WebhookId, webhooks: WebhooksOf, commandable: Commandable
) -> WebhookWithSecret:
    """A new secret; the last one signs beside it for a day."""
    webhook = await webhooks.get(webhook_id, commandable)
    changed = webhook.with_new_secret(utc_now())
    await webhooks.change(changed)
    return _with_secret(changed)


@commanding.delete("/{webhook_id}", status_code=204)
async def delete_webhook(
    webhook_id: WebhookId, webhooks: WebhooksOf, commandable: Commandable
) -> Response:
    """Tell it nothing any more."""
    await webhooks.remove(await webhooks.get(webhook_id, commandable))
    return Response(status_code=204)


def _told(webhook: Webhook) -> WebhookTold:
    return WebhookTold(**_members(webhook))


def _with_secret(webhook: Webhook) -> WebhookWithSecret:
    return WebhookWithSecret(**_members(webhook), secret=webhook.secrets[0].value)


def _members(webhook: Webhook) -> dict[str, object]:
    states = [state for state in FileState if state in webhook.states]
    told = {"id", "url", "label", "created_at", "disabled"}
    return {**webhook.model_dump(include=told), "states": states}
