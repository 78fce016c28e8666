"""Webhooks: `POST /api/webhooks` and the endpoints under it."""

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

WebhookId = Annotated[str, Path(max_length=64, description="The id that the creation returned.")]


class NewWebhook(BaseModel):
    """The address and the filters of a new webhook."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=MAX_URL, description="https://…", examples=["https://a.example/"])
    states: list[FileState] = Field(
        default=TERMINAL, min_length=1, description="Terminal statuses to deliver."
    )
    label: Label | None = Field(default=None, description="Only files with this `key:value`.")


class WebhookTold(BaseModel):
    """A server that receives a message for each file that finishes."""

    id: str
    url: str
    states: list[FileState]
    label: str | None
    created_at: Timestamp
    disabled: bool = Field(
        description="True if the server answered 410: nothing is sent to it any more."
    )


class WebhookWithSecret(WebhookTold):
    """A webhook with its signing secret, which is returned only this once."""

    secret: str


class WebhookList(BaseModel):
    """The webhooks that the user may see, oldest first."""

    items: list[WebhookTold]


class DeliveryList(BaseModel):
    """The latest deliveries of a webhook, newest first."""

    items: list[Delivery]


@commanding.post("", status_code=201)
async def create_webhook(
    body: NewWebhook, webhooks: WebhooksOf, outbound: OutboundOf, commandable: Commandable
) -> WebhookWithSecret:
    """Create a webhook that receives a message for each of your files that finishes from now on.

    The message is JSON, sent by POST and signed according to Standard Webhooks. It is retried at
    growing intervals for about three hours until the server answers 2xx. See docs/webhooks.md.
    """
    outbound.check(body.url)
    webhook = Webhook.new(
        body.url,
        states=frozenset(body.states),
        label=body.label,
        visible_to=commandable,
    )
    await webhooks.add(webhook)
    return _with_secret(webhook)


@reading.get("")
async def list_webhooks(webhooks: WebhooksOf, readable: Readable) -> WebhookList:
    """List your webhooks, without their secrets."""
    known = (await webhooks.all()).values()
    mine = [each for each in known if each.is_visible_to(readable)]
    return WebhookList(
        items=[_without_secret(each) for each in sorted(mine, key=lambda it: it.created_at)]
    )


@reading.get("/{webhook_id}/deliveries")
async def list_deliveries(
    webhook_id: WebhookId,
    webhooks: WebhooksOf,
    store: StoreOf,
    readable: Readable,
    limit: Annotated[int, Query(ge=1, le=MAX_DELIVERIES)] = 50,
) -> DeliveryList:
    """List what was sent in the last month, and the responses of the server."""
    webhook = await webhooks.get(webhook_id, readable)
    return DeliveryList(items=await Deliveries(store).latest(webhook.id, limit))


@commanding.post("/{webhook_id}/rotate")
async def rotate_secret(
    webhook_id: WebhookId, webhooks: WebhooksOf, commandable: Commandable
) -> WebhookWithSecret:
    """Create a new secret. The previous one also signs messages for one more day."""
    webhook = await webhooks.get(webhook_id, commandable)
    changed = webhook.with_new_secret(utc_now())
    await webhooks.change(changed)
    return _with_secret(changed)


@commanding.delete("/{webhook_id}", status_code=204)
async def delete_webhook(
    webhook_id: WebhookId, webhooks: WebhooksOf, commandable: Commandable
) -> Response:
    """Delete the webhook. Nothing is sent to it any more."""
    await webhooks.remove(await webhooks.get(webhook_id, commandable))
    return Response(status_code=204)


def _without_secret(webhook: Webhook) -> WebhookTold:
    return WebhookTold(**_members(webhook))


def _with_secret(webhook: Webhook) -> WebhookWithSecret:
    return WebhookWithSecret(**_members(webhook), secret=webhook.secrets[0].value)


def _members(webhook: Webhook) -> dict[str, object]:
    states = [state for state in FileState if state in webhook.states]
    members = {"id", "url", "label", "created_at", "disabled"}
    return {**webhook.model_dump(include=members), "states": states}
