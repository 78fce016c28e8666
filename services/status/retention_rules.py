"""Retention rules: how long files are kept. A setting, applied by `commands/retention.py`."""

from pydantic import BaseModel, ConfigDict, Field

from services.status.projection.projection import Status


class Rule(BaseModel):
    """How long files are kept, all or some of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: float = Field(ge=0, description="since the upload")
    tenant: str | None = Field(default=None, description="of this one only; else of all")
    owner: str | None = None
    label: str | None = Field(default=None, pattern=r"^[^:]+:", description="`key:value`")

    def is_for(self, status: Status) -> bool:
        """Whether the rule is for a file."""
        return (
            self.tenant in (None, status.tenant)
            and self.owner in (None, status.owner)
            and (self.label is None or status.has_label(self.label))
        )
